"""Notebook 05: what it claims, computes, draws and checks."""

import numpy as np
import pytest

from fltutor.aggregation import drift
from fltutor.data import load_digits, partition_shards
from fltutor.lessons.when_clients_differ.checks import (
    check_momentum,
    check_scaffold_bytes,
    check_server_step,
    scaffold_bytes,
)
from fltutor.lessons.when_clients_differ.explorer import differing_explorer
from fltutor.lessons.when_clients_differ.plots import (
    draw_differing_race,
    draw_differing_run,
    draw_drifts,
    draw_hospitals,
    draw_tug,
)
from fltutor.lessons.when_clients_differ.runs import (
    CLIENTS,
    METHODS,
    differing_run,
    even_run,
)
from fltutor.models import mlp
from fltutor.plotting import new_figure
from fltutor.simulation import History, Round, run_federated
from fltutor.tensorflow_quietly import num_compiled


def last(*setting, **more):
    return [*differing_run(*setting, **more)][-1]


# --- runs ---------------------------------------------------------------------------------------


def test_a_run_yields_as_it_goes_and_its_parts_fit_together():
    steps = [*differing_run(0.1, 0.5, "FedAvgM", 1.0, rounds=3)]
    assert [len(step.history.rounds) for step in steps] == [1, 2, 3, 4]
    assert steps[0].drift is None
    run = steps[-1]
    assert len(run.cohort) == len(run.drift.arrows) == 5
    assert run.counts.shape == (CLIENTS, 10)
    assert run.counts.sum() == len(load_digits().y)
    assert run.problem == ""


def test_methods_of_the_explorer_differ_and_all_start_from_one_model():
    runs = {name: last(0.1, 1.0, name, 0.5, rounds=2) for name in METHODS}
    starts = {run.history.accuracy[0] for run in runs.values()}
    assert len(starts) == 1
    params = [run.history.params for run in runs.values()]
    for row, own in enumerate(params):
        for other in params[:row]:
            assert np.abs(own - other).max() > 1e-4


def test_the_more_the_clients_differ_the_less_their_updates_agree():
    agreement = [last(alpha, rounds=1).drift.agreement for alpha in (0.1, 1.0, 100.0)]
    assert agreement == sorted(agreement)
    assert agreement[-1] > agreement[0] + 0.3


def test_scaffold_saves_rounds_on_shards_and_doubles_the_bytes():
    digits, model = load_digits(), mlp(seed=0)
    gaps = []
    for seed in range(3):
        parts = partition_shards(digits.y[:1440], 10, 2, np.random.default_rng(seed))
        usual = {"rounds": 12, "seed": seed, "learning_rate": 0.1, "local_epochs": 5}
        plain = run_federated(model, digits, parts, **usual)
        corrected = run_federated(
            model, digits, parts, scaffold=True, weigh_by_examples=False, **usual
        )
        gaps.append(corrected.accuracy[1:].mean() - plain.accuracy[1:].mean())
        [up, down] = scaffold_bytes(10, 2410)
        assert (corrected.rounds[1].bytes_up, corrected.rounds[1].bytes_down) == (up, down)
    assert np.mean(gaps) > 3 * np.std(gaps, ddof=1) / np.sqrt(3)


# --- explorer -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_explorer_runs_at_the_ends_of_every_slider_with_every_method():
    view = differing_explorer(rounds=3)
    assert view.message.startswith("alpha 0.1, 10 of 10 clients, FedAvg, server rate 1: ")
    for name, *ends in (
        ("alpha", 100.0, 0.03),
        ("fraction", 0.1),
        ("method", *[name for name in METHODS if name != "FedAvg"]),
        ("server_learning_rate", 10**0.5, 0.01),
    ):
        for end in ends:
            before = view.message
            view.controls[name].value = end
            assert view.message != before
            assert "Error" not in view.message


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [0.01, 10**0.5])
def test_the_worst_settings_give_numbers_and_a_picture(method, rate):
    for fraction in (0.1, 1.0):
        run = last(0.03, fraction, method, rate, rounds=4)
        assert np.isfinite(run.history.accuracy).all()
        assert draw_differing_run(new_figure(), run).startswith("alpha 0.03")


@pytest.mark.filterwarnings("error")
def test_a_run_that_blows_up_ends_with_a_sentence():  # far beyond the slider, which ends at 3
    run = last(0.1, 1.0, "FedAvg", 1e30, rounds=4)
    assert len(run.history.rounds) < 5
    said = draw_differing_run(new_figure(), run)
    assert said.endswith("training blew up; lower the server rate.")


def test_sliders_compile_nothing_once_the_explorer_is_there():
    differing_explorer(rounds=1)
    compiled = num_compiled()
    for method in METHODS:
        last(0.03, 0.3, method, 0.1, rounds=1)
    assert num_compiled() == compiled


# --- drawings -----------------------------------------------------------------------------------


def history(*accuracy):
    return History([Round(n, np.zeros(1), value, 1.0) for n, value in enumerate(accuracy)])


def test_drawings_say_the_numbers_they_are_given():
    figure = new_figure()
    said = draw_tug(figure, {"near": np.array([0.0, 2.9])}, minima=np.array([0.0, 4.0]), best=3.0)
    assert said == "After the last round: near 2.900."

    figure.clear()
    said = draw_drifts(figure, {"apart": drift(np.array([[3.0, 4.0], [3.0, -4.0]]))})
    assert said == (
        "apart: two clients agree to a cosine of -0.28, and 60% of their length is left in the "
        "mean."
    )
    assert figure.axes[0].get_title(loc="left") == "apart: 60% is left"

    figure.clear()
    scores = {"a": [np.array([0.5, 0.7]), np.array([0.7, 0.9])], "b": [np.array([1.0, 0.25])]}
    assert draw_hospitals(figure, scores, ["one", "all"]) == (
        "On the test patients of all: a 80.0%, b 25.0%."
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["60%", "80%", "100%", "25%"]


def test_a_race_shows_every_run_its_middle_and_who_never_arrived():
    figure = new_figure()
    runs = {
        "quick": [history(0.1, 0.95), history(0.1, 0.5, 0.92), history(0.1, 0.5, 0.6, 0.9)],
        "slow": [history(0.1, 0.2, 0.3, 0.4)] * 2,
    }
    runs["quick"] = [history(*[*h.accuracy, *[0.95] * (4 - len(h.rounds))]) for h in runs["quick"]]
    said = draw_differing_race(figure, runs, title="Race")
    assert said == "Rounds to 90%, the middle of the runs: quick 2, slow not reached."
    left, right = figure.axes
    assert len({line.get_linestyle() for line in left.lines if line.get_lw() == 2}) == 2
    assert [bar.get_width() for bar in right.patches] == [2]
    assert left.get_xlim() == (0, 3)


def test_drawing_of_a_run_marks_the_cohort_and_the_round_that_reached_the_target():
    figure, run = new_figure(), last(100.0, 0.5, rounds=5)
    said = draw_differing_run(figure, run)
    reached = run.history.rounds_to(0.9)
    assert f": 90% after {reached} rounds, " in said
    holdings, arrows, curves = figure.axes
    marks = [line.get_ydata()[0] for line in holdings.lines if line.get_marker() == ">"]
    assert marks == list(run.cohort)
    assert len(arrows.texts) == len(run.cohort) + 1
    np.testing.assert_array_equal(curves.lines[0].get_ydata(), even_run(5).accuracy)
    np.testing.assert_array_equal(curves.lines[1].get_ydata(), run.history.accuracy)


# --- checks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [check_server_step, check_momentum, check_scaffold_bytes])
def test_checks_wait_for_an_attempt_and_never_raise(capsys, check):
    def said(mine):
        check(mine)
        return capsys.readouterr().out.strip().splitlines()[-1]

    assert said(lambda *case: ...) == said(lambda *case: None) == "· not attempted yet"
    for wrong in (lambda *case: 1 / 0, lambda *case: "much", lambda *case: case[9]):
        assert said(wrong).startswith("✗")
    assert said(lambda *case: -1.0).startswith("✗")
