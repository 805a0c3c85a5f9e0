"""Notebook 13: what it computes, draws and checks."""

from functools import partial
from itertools import islice

import numpy as np
import pytest

from fltutor import simulation
from fltutor.aggregation import bulyan_choice, geometric_median, krum, krum_choice, median
from fltutor.errors import InvalidParameterError
from fltutor.lessons.robust_aggregation.checks import (
    _krum_cases,
    check_geometric_median,
    check_krum,
    check_twins,
)
from fltutor.lessons.robust_aggregation.explorer import liars_explorer
from fltutor.lessons.robust_aggregation.plots import (
    draw_accuracy,
    draw_liars,
    draw_points,
    draw_spread,
    draw_table,
    draw_triggers,
)
from fltutor.lessons.robust_aggregation.runs import (
    ATTACKS,
    CLIENTS,
    FAR,
    ROUNDS,
    RULES,
    _honest_accuracy,
    federation,
    final_accuracy,
    liars_run,
    view_rows,
)
from fltutor.plotting import new_figure
from fltutor.tensorflow_quietly import num_compiled


def last(**settings):
    *_, run = liars_run(**settings)
    return run


def standard_error(values):
    return np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns_from_alike_and_honest_clients(rule):
    run = last(attackers=0, rule=rule, num_byzantine=3)
    assert len(run.accuracy) == ROUNDS + 1
    assert run.accuracy[-1] > 0.75
    assert not run.diverged


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_runs_against_the_median_and_the_backdoor_is_counted(attack):
    run = last(attackers=3, attack=attack, rule="median")
    assert run.accuracy[-1] > 0.8
    assert (run.success is not None) == ("backdoor" in attack)
    assert f"3 of 15 clients lie ({attack})" in run.settings


def test_one_liar_of_ten_ruins_the_mean_and_not_the_median():
    runs = [
        [
            final_accuracy([9], "sign flip x 10", rule, 1, 100.0, clients=10, seed=seed)[0]
            for rule in ("mean", "median")
        ]
        for seed in range(3)
    ]
    assert np.max(runs, axis=0)[0] < 0.4 < 0.8 < np.min(runs, axis=0)[1]


def test_unlike_and_honest_clients_pay_for_caution():
    rules = ("Krum", "median", "mean")
    ends = np.array(
        [
            [final_accuracy([], "none", rule, 1, 0.1, clients=10, seed=s)[0] for rule in rules]
            for s in range(6)
        ]
    )
    for gap in np.diff(ends, axis=1).T:  # Krum < median < mean, on the same splits
        assert gap.mean() > 3 * standard_error(gap)


def test_krum_takes_the_row_that_liars_agree_on():
    seen, liars = {}, range(9, 15)
    running = federation(liars, "ALIE, largest z", "Krum", 6, 1.0, seen=seen)
    for latest in islice(running, 6):
        if latest.number:
            assert krum_choice(seen["rows"], 6)[0] in liars
            np.testing.assert_array_equal(seen["update"], krum(seen["rows"], 6))


def test_the_run_without_liars_is_the_mean_with_none():
    run = last(attackers=0, rule="mean")
    np.testing.assert_array_equal(run.accuracy, run.honest_accuracy)


def test_unsound_settings_say_so():
    with pytest.raises(InvalidParameterError, match=r"krum needs n >= .* is 17, got 15"):
        last(rule="Krum", num_byzantine=7)
    with pytest.raises(InvalidParameterError, match=r"bulyan needs n >= .* is 19, got 15"):
        last(rule="Bulyan", num_byzantine=4)
    with pytest.raises(InvalidParameterError, match="at least 2 attackers"):
        last(attackers=1, attack="ALIE, largest z", rule="mean")


def test_sliders_compile_nothing_once_the_first_run_is_done():
    last(rounds=1)
    compiled = num_compiled()
    last(attackers=7, alpha=0.1, rounds=2)
    last(attackers=2, attack="backdoor x 5", rule="geometric median", alpha=1.0, rounds=2)
    assert num_compiled() == compiled


@pytest.mark.parametrize("rule", RULES)
def test_a_slider_sees_a_result_after_each_round_and_waits_for_nothing_else(rule, monkeypatch):
    next(liars_run(rule=rule))
    compiled, honest = num_compiled(), _honest_accuracy.cache_info().misses
    work = []

    def note(name, call, *args, **options):
        work.append(name)
        return call(*args, **options)

    for name in ("train_cohort", "_evaluate"):
        monkeypatch.setattr(simulation, name, partial(note, name, getattr(simulation, name)))
    running = liars_run(rule=rule, attackers=4)
    next(running)
    assert work == ["_evaluate", "train_cohort", "_evaluate"]
    next(running)  # benchmarks/explorer.py holds both to 200 ms
    assert work[3:] == ["train_cohort", "_evaluate"]
    assert num_compiled() == compiled
    assert _honest_accuracy.cache_info().misses == honest


def test_the_view_keeps_distances_in_its_plane_and_draws_far_rows_nearer():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(30, 2)))[0].T
    half = rng.uniform(1, 1.5, size=(4, 2)) * [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    rows = np.vstack([half, -half, np.zeros((1, 2))]) @ plane + 5  # the median row is 5
    view = view_rows(rows, [8], [2, 3], rows[2])
    assert not view.far.any()
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    drawn = np.linalg.norm(view.places[:, None] - view.places[None], axis=2)
    np.testing.assert_allclose(drawn, apart, atol=1e-9)
    np.testing.assert_allclose(view.aggregate, view.places[2])
    np.testing.assert_array_equal(np.flatnonzero(view.liars), [8])
    np.testing.assert_array_equal(np.flatnonzero(view.chosen), [2, 3])

    rows[8] = 1e9
    view = view_rows(rows, [8], [], rows.mean(axis=0))
    assert view.far[8]
    assert view.aggregate_far
    lengths = np.linalg.norm(rows - median(rows), axis=1)
    assert np.linalg.norm(view.places[8]) == pytest.approx(FAR * np.median(lengths), rel=0.05)
    assert not view_rows(np.ones((4, 3)), [], [], np.ones(3)).far.any()


def test_explorer_runs_at_the_ends_of_every_control():
    view = liars_explorer()
    assert view.message.startswith("3 of 15 clients lie (sign flip x 10), mean told to expect 3")
    for name, *ends in (
        ("attackers", 0, 7),
        ("rule", *RULES),
        ("attack", *ATTACKS),
        ("alpha", 0.1, 100.0),
        ("num_byzantine", 0),
    ):
        for end in ends:
            if view.controls[name].value == end:
                continue
            before = view.message
            view.controls[name].value = end
            assert view.message != before
            assert "after 12 rounds" in view.message
    view.controls["rule"].value = "Krum"
    view.controls["num_byzantine"].value = 7
    assert view.message == (
        "krum needs n >= 2 * num_byzantine + 3 clients: with num_byzantine = 7 that is 17, got 15"
    )


def test_drawing_of_a_run_shows_rows_choice_and_curves():
    seen = {}
    running = federation(range(12, 15), "label flip", "Bulyan", 3, 100.0, seen=seen)
    list(islice(running, ROUNDS + 1))
    run = last(attackers=3, attack="label flip", rule="Bulyan", num_byzantine=3)
    chosen = bulyan_choice(seen["rows"], 3)
    np.testing.assert_array_equal(np.flatnonzero(run.view.chosen), sorted(chosen))

    figure = new_figure()
    sentence = draw_liars(figure, run)
    assert f"accuracy {run.accuracy[-1]:.2f} after 12 rounds" in sentence
    plane, curves = figure.axes
    lies = sum(client >= 12 for client in chosen)
    assert plane.get_title(loc="left") == f"The rule chose 9 rows, {lies} of them lies"
    drawn = sum(len(line.get_xdata()) for line in plane.lines)
    assert drawn == CLIENTS + len(chosen) + 1
    np.testing.assert_array_equal(curves.lines[0].get_ydata(), run.honest_accuracy)
    np.testing.assert_array_equal(curves.lines[1].get_ydata(), run.accuracy)

    figure.clear()
    first = next(liars_run(attack="backdoor"))
    assert f"The trigger works on {first.success[-1]:.2f}." in draw_liars(figure, first)
    figure.clear()
    draw_liars(figure, last(attackers=0, rule="median", rounds=1))
    assert figure.axes[0].get_title(loc="left") == "Nobody lies"


def test_drawings_say_the_numbers_they_are_given():
    figure = new_figure()
    places = {"mean": np.array([1.0, 2.0]), "median": np.array([-0.5, 0.25])}
    assert draw_points(figure, np.eye(2), places) == "mean (1.00, 2.00); median (-0.50, 0.25)."

    figure.clear()
    curves = {"a": np.array([[0.1, 0.4], [0.1, 0.6]]), "b": np.array([[0.2, 0.2], [0.2, 0.2]])}
    assert draw_accuracy(figure, curves, title="t") == (
        "Accuracy at the end: a 0.50 (standard error 0.07), b 0.20 (standard error 0.00)."
    )

    figure.clear()
    table = np.array([[0.9, 0.1], [0.8, 0.7]])
    assert draw_table(figure, ["mean", "median"], ["none", "a\nlie"], table) == (
        "Lowest accuracy of each rule: mean 0.10 (a lie), median 0.70 (a lie). "
        "Highest of these: median."
    )
    assert [patch.get_xy() for patch in figure.axes[0].patches] == [(0.5, -0.5), (0.5, 0.5)]

    figure.clear()
    sentence = draw_spread(figure, np.array([-1.0, 0.0, 2.0]), -0.5, {"median": 0.25})
    assert sentence == "The lie -0.5000; honest from -1.0000 to +2.0000; median +0.2500."
    title = figure.axes[0].get_title(loc="left")
    assert title == "1 honest clients are further out than the liars"

    figure.clear()
    triggered = np.zeros((2, 9))
    triggered[:, 8] = 1
    assert draw_triggers(figure, np.zeros((2, 9)), triggered) == (
        "2 digits, and the same with a trigger that changes 1 pixels."
    )


def said(capsys, check, mine) -> str:
    check(mine)
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_checks_accept_the_package_and_wait_for_an_attempt(capsys):
    for check in (check_krum, check_geometric_median, check_twins):
        assert said(capsys, check, lambda *case: ...) == "· not attempted yet"
        assert said(capsys, check, lambda *case: case[9]).startswith("✗")
    assert said(capsys, check_krum, krum).startswith("✓")
    assert said(capsys, check_geometric_median, geometric_median).startswith("✓")
    assert said(capsys, check_twins, lambda: (np.eye(3) * 3, np.ones((3, 3)))).startswith("✓")
    assert said(capsys, check_twins, lambda: (np.eye(3),)).startswith("✗ give two cohorts")


def test_the_first_case_tells_every_mistake_of_krum_apart(capsys):
    rows, _ = _krum_cases()[0]
    answers = set()
    for client in range(len(rows)):

        def constant(updates, num_byzantine, client=client):
            return updates[client]

        answers.add(said(capsys, check_krum, constant).partition(":")[2][:40])
    assert len(answers) >= 6


def test_a_floor_on_distances_is_good_enough_and_none_is_not(capsys):
    def weiszfeld(floor, steps=300):
        def mine(updates):
            point = updates.mean(axis=0)
            for _ in range(steps):
                distances = np.linalg.norm(updates - point, axis=1)
                with np.errstate(all="ignore"):
                    weights = 1 / np.maximum(distances, floor)
                    point = (weights[:, None] * updates).sum(axis=0) / weights.sum()
            return point

        return mine

    assert said(capsys, check_geometric_median, weiszfeld(1e-9)).startswith("✓")
    message = said(capsys, check_geometric_median, weiszfeld(0.0))
    assert message.endswith("a point that has reached a row divides by distance 0")
