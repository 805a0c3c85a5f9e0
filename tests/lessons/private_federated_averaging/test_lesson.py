"""Notebook 11: what it claims, computes, draws and checks."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from fltutor.aggregation import dp_mean
from fltutor.data import load_digits, partition_iid
from fltutor.lessons.private_federated_averaging.checks import (
    STARTS,
    _measured,
    _rounds_of,
    check_bounded_rows,
    check_lost_rounds,
    check_noise,
)
from fltutor.lessons.private_federated_averaging.explorer import private_run_explorer
from fltutor.lessons.private_federated_averaging.plots import (
    draw_attacks,
    draw_clip_starts,
    draw_noise_of_average,
    draw_people,
    draw_private_run,
)
from fltutor.lessons.private_federated_averaging.runs import (
    CLIENTS,
    CLIPS,
    MAX_ROUNDS,
    QUANTILES,
    SAMPLING_RATES,
    SHORT,
    PrivateRun,
    in_or_out,
    last_of,
    private_run,
    released_alone,
)
from fltutor.lessons.private_training import DELTA, _model, kept_private_run
from fltutor.lessons.single_digits import attack_each, one_digit_each
from fltutor.plotting import new_figure
from fltutor.privacy.accounting import epsilon_after
from fltutor.privacy.budget import PrivacyBudget
from fltutor.privacy.losses import most_right
from fltutor.simulation import run_federated
from fltutor.tensorflow_quietly import num_compiled
from fltutor.vectors import row_norms


def last(*setting, **more):
    return [*private_run(*setting, **more)][-1]


# --- runs ---------------------------------------------------------------------------------------


def test_a_run_yields_as_it_goes_and_its_parts_fit_together():
    steps = [*private_run(20, 0.5, 2.0, 0.1, 0.5, rounds=4, seed=3)]
    assert [len(step.accuracy) for step in steps] == [1, 2, 3, 4, 5]
    run = steps[-1]
    assert run.clips.shape == run.norms.shape == (4,)
    assert run.clips[0] == 0.1
    np.testing.assert_allclose(run.clips[1], 0.1, rtol=0.6)  # one step, learning rate 0.5
    assert run.epsilon.shape == (5,)
    spent = epsilon_after(
        4, noise_multiplier=2.0, delta=DELTA, sampling_rate=0.5, sampling="poisson"
    )
    assert run.epsilon[-1] == pytest.approx(spent.epsilon)
    assert run.spent == str(spent)


def kept_run(clients, sampling_rate, noise, clip, *, seed):
    return kept_private_run(
        clients,
        noise,
        clip,
        seed=seed,
        quantile=None,
        sampling_rate=sampling_rate,
        poisson_sampling=True,
        with_norms=True,
    )


def test_fewer_rounds_are_a_prefix_and_more_go_on_where_the_run_stopped():
    five = last(20, 0.5, 2.0, 1, "fixed", 5, seed=4)
    three = last(20, 0.5, 2.0, 1, "fixed", 3, seed=4)
    np.testing.assert_array_equal(three.accuracy, five.accuracy[:4])
    kept = len(kept_run(20, 0.5, 2.0, 1, seed=4).done)
    seven = last(20, 0.5, 2.0, 1, "fixed", 7, seed=4)
    assert kept == 6
    np.testing.assert_array_equal(seven.accuracy[:6], five.accuracy)
    kept_private_run.cache_clear()
    np.testing.assert_array_equal(
        last(20, 0.5, 2.0, 1, "fixed", 7, seed=4).accuracy, seven.accuracy
    )


def test_an_interrupted_run_starts_afresh():
    whole = last(20, 1.0, 1.0, 1, "fixed", 3, seed=5)
    kept_private_run.cache_clear()
    kept = kept_run(20, 1.0, 1.0, 1, seed=5)

    def stopped():
        raise KeyboardInterrupt
        yield

    kept._running = stopped()
    with pytest.raises(KeyboardInterrupt):
        last(20, 1.0, 1.0, 1, "fixed", 3, seed=5)
    np.testing.assert_array_equal(
        last(20, 1.0, 1.0, 1, "fixed", 3, seed=5).accuracy, whole.accuracy
    )


def test_a_round_without_clients_has_no_median_and_goes_on():
    run = last(10, 0.1, 1.0, 1, 0.5, 12)
    assert np.isnan(run.norms).any()
    assert np.isfinite(run.clips).all()
    assert np.isfinite(run.accuracy).all()


def test_whoever_knows_the_seed_finds_two_clients_in_13_of_15_rounds(monkeypatch):
    """What the text beside the run with a budget says about ``seed=0``."""
    monkeypatch.setattr("fltutor.simulation.train_cohort", nobody_learns)
    digits = load_digits()

    def run(seed):
        return run_federated(
            _model(),
            digits,
            partition_iid(digits.y, 200, np.random.default_rng(0)),
            rounds=100,
            learning_rate=0.3,
            local_epochs=5,
            client_fraction=0.5,
            poisson_sampling=True,
            seed=seed,
            weigh_by_examples=False,
            aggregate=partial(dp_mean, clip_norm=1.0, noise_multiplier=2.0, expected_cohort=100),
            budget=PrivacyBudget(4.0, delta=1e-3),
        )

    seeded, again = run(0), run(0)
    cohorts = [done.cohort for done in seeded.rounds[1:]]
    assert cohorts == [done.cohort for done in again.rounds[1:]]  # though the noise differs
    times = np.bincount(np.concatenate(cohorts))
    assert (len(cohorts), times.max(), (times == 13).sum()) == (15, 13, 2)
    alone = epsilon_after(13, noise_multiplier=2.0, delta=1e-3).epsilon
    assert (round(alone, 1), round(seeded.rounds[-1].spent.epsilon, 1)) == (7.4, 3.9)
    assert seeded.demonstration
    claimed = run(None)
    assert not claimed.demonstration
    assert [done.cohort for done in claimed.rounds[1:]] != cohorts


def nobody_learns(model, params, x, y, batches, *args, **options):
    return np.zeros((len(batches), len(params)), np.float32)


def gap_in_errors(fewer, more):
    error = np.sqrt(np.var(fewer, ddof=1) / len(fewer) + np.var(more, ddof=1) / len(more))
    return (np.mean(more) - np.mean(fewer)) / error


def test_privacy_is_bought_with_people():
    final = {
        clients: [
            run.accuracy[-1] for run in last_of(5, clients, 0.2, 4.0, 1.0, "fixed", rounds=20)
        ]
        for clients in (50, 400)
    }
    assert gap_in_errors(final[50], final[400]) > 5
    spent = [last(n, 0.2, 4.0, 1.0, "fixed", 20).epsilon[-1] for n in (50, 400)]
    assert spent[0] == spent[1]


def test_a_loud_average_makes_an_adaptive_norm_run_away():
    few, many = (last_of(3, n, 0.2, 4.0, 1.0, 0.5, rounds=20) for n in (100, 400))
    assert min(run.clips[-1] for run in few) > 5
    assert max(run.clips[-1] for run in many) < 2.5
    for run in few:  # the norm follows the updates, which follow the noise
        assert np.corrcoef(np.log(run.clips), np.log(run.norms))[0, 1] > 0.8


# --- attacks ------------------------------------------------------------------------------------


def test_every_update_of_one_digit_is_longer_than_the_norm_that_should_cut_it():
    assert row_norms(one_digit_each(10).updates).min() > SHORT


def test_noise_kills_the_inversion_and_without_noise_clipping_alone_does_not():
    cohort = one_digit_each(5)
    clipped = np.stack(
        [
            dp_mean(
                row[None],
                clip_norm=SHORT,
                noise_multiplier=0,
                expected_cohort=1,
                allow_no_noise=True,
            ).update
            for row in cohort.updates
        ]
    )
    assert attack_each(cohort, clipped).exact.all()
    assert attack_each(cohort, cohort.updates).exact.all()
    assert not attack_each(cohort, released_alone(cohort, 0.01)).exact.any()


@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 3.0])
def test_the_in_or_out_test_is_right_as_often_as_two_gaussians_allow(noise_multiplier):
    right = np.concatenate([in_or_out(noise_multiplier, 500, seed=seed) for seed in range(2)])
    expected = stats.norm.cdf(1 / (2 * noise_multiplier))  # two means one norm apart
    error = np.sqrt(expected * (1 - expected) / len(right))
    assert abs(right.mean() - expected) < 4 * error
    epsilon = epsilon_after(1, noise_multiplier=noise_multiplier, delta=DELTA).epsilon
    assert expected < most_right(epsilon, DELTA)


# --- explorer -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_explorer_runs_at_the_ends_of_every_slider():
    view = private_run_explorer()
    assert view.message.startswith("100 clients, q = 0.5, noise 2, 20 rounds: accuracy 0.")
    view.controls["rounds"].value = 3
    for name, *ends in (
        ("clients", CLIENTS[-1], CLIENTS[0]),
        ("sampling_rate", SAMPLING_RATES[-1], SAMPLING_RATES[0]),
        ("noise", 8.0, 0.0),
        ("clip", CLIPS[-1], CLIPS[0]),
        ("quantile", QUANTILES[0], QUANTILES[-1]),
        ("rounds", MAX_ROUNDS, 1),
    ):
        for end in ends:
            before = view.message
            view.controls[name].value = end
            assert view.message != before
            assert "epsilon = " in view.message


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "setting",
    [(10, 0.1, 8.0, 100, 0.9), (10, 0.1, 8.0, 100, "fixed"), (20, 0.2, 8.0, 100, 0.9)],
    ids=str,
)
def test_the_worst_settings_give_numbers_and_a_picture(setting):
    run = last(*setting, MAX_ROUNDS)
    assert np.isfinite(run.accuracy).all()
    assert np.isfinite(run.clips).all()
    draw_private_run(new_figure(), run)


def test_sliders_compile_nothing_once_the_first_run_is_done():
    last(50, 0.5, 1.0, 1, "fixed", 1)
    compiled = num_compiled()
    last(400, 1.0, 0.0, 0.1, 0.3, 1)
    last(10, 0.2, 8.0, 100, "fixed", 2)
    assert num_compiled() == compiled


# --- drawings -----------------------------------------------------------------------------------


def made_up_run(quantile=0.5, epsilon=2.0):
    return PrivateRun(
        clients=20,
        sampling_rate=0.5,
        noise=1.5,
        quantile=quantile,
        rounds=3,
        accuracy=np.array([0.1, 0.5, 0.75]),
        clips=np.array([0.1, 1.0]),
        norms=np.array([2.0, np.nan]),
        epsilon=np.array([0, 1, epsilon / 2, epsilon]),
        spent=f"epsilon = {epsilon:g} at delta = 1e-3 (...)",
    )


def test_drawing_of_a_run_says_its_last_numbers():
    figure = new_figure()
    assert draw_private_run(figure, made_up_run()) == (
        "20 clients, q = 0.5, noise 1.5, 3 rounds (2 done): accuracy 0.750, clipping norm 1 "
        "(quantile 0.5), epsilon = 2 at delta = 1e-3 (...)"
    )
    left, middle, gauge = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [0.1, 0.5, 0.75])
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), [0.1, 1.0])
    np.testing.assert_array_equal(middle.lines[0].get_xdata(), [1, 2])
    assert middle.get_title(loc="left") == "Clipping norm 1 (quantile 0.5)"
    [bar] = gauge.patches
    assert bar.get_y() + bar.get_height() == pytest.approx(2.0)
    assert gauge.get_title(loc="left") == "ε = 2"

    figure.clear()
    said = draw_private_run(figure, made_up_run(quantile=None, epsilon=math.inf))
    assert "clipping norm 1 (fixed)" in said
    gauge = figure.axes[2]
    assert gauge.get_title(loc="left") == "ε = ∞"
    assert gauge.patches[0].get_y() + gauge.patches[0].get_height() == 100


def test_drawings_say_the_numbers_they_are_given():
    figure = new_figure()
    said = draw_people(figure, {50: np.array([0.2, 0.4]), 100: np.array([0.6, 0.6])}, 0.66)
    assert said == (
        "Mean accuracy and its standard error.\n50 clients: 0.300 ± 0.100, "
        "100 clients: 0.600 ± 0.000."
    )
    low, high = figure.axes[0].containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 4 == pytest.approx(0.1)

    figure.clear()
    runs = {("fixed", 0.1): [made_up_run(None)], ("adaptive", 0.1): [made_up_run()]}
    assert draw_clip_starts(figure, runs) == (
        "Mean accuracy after 2 rounds, by kind and start.\nfixed, 0.1: 0.75; adaptive, 0.1: 0.75."
    )
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert styles == ["--", "-"]

    figure.clear()
    said = draw_attacks(
        figure,
        noises=(0.01, 0.1, 1.0),
        epsilons=(5000.0, 85.2, 3.5),
        closeness=np.array([[25.0, 21.0], [9.0, 8.0], [7.0, 7.0]]),
        blind=11.0,
        right=np.array([1.0, 1.0, 0.7]),
        limit=(1.0, 1.0, 0.97),
    )
    assert said == (
        "The inversion is worse than the mean digit from z = 0.1, epsilon = 85.\nThe test is right "
        "less than 9 times in 10 from z = 1, epsilon = 3.5."
    )
    tops = [ax for ax in figure.axes if ax.get_xlabel() == "epsilon of one release"]
    for top in tops:
        assert [label.get_text() for label in top.get_xticklabels()] == ["5,000", "85", "3.5"]
        assert top.get_xlim() == figure.axes[tops.index(top)].get_xlim()

    figure.clear()
    said = draw_noise_of_average(
        figure, {"central": {5: 0.4, 20: 0.1}, "local": {5: 0.9, 20: 0.45}}
    )
    assert said == "Noise of the average of [5, 20] clients.\ncentral 0.4, 0.1; local 0.9, 0.45."


# --- checks -------------------------------------------------------------------------------------


def said(capsys, check, mine) -> str:
    check(mine)
    return capsys.readouterr().out.strip().splitlines()[-1]


@pytest.mark.parametrize("check", [check_bounded_rows, check_lost_rounds, check_noise])
def test_checks_wait_for_an_attempt_and_never_raise(capsys, check):
    assert said(capsys, check, lambda *case: ...) == "· not attempted yet"
    assert said(capsys, check, lambda *case: None) == "· not attempted yet"
    for wrong in (lambda *case: 1 / 0, lambda *case: "much", lambda *case: case[9]):
        assert said(capsys, check, wrong).startswith("✗")
    assert said(capsys, check, lambda *case: -1.0).startswith("✗")


def test_real_clips_walk_as_long_as_the_formula_says():
    for factor, quantile, learning_rate in STARTS:
        gap = quantile if factor < 1 else 1 - quantile
        rounds = math.ceil(abs(math.log(factor)) / (learning_rate * gap))
        assert _rounds_of(factor, quantile, learning_rate) == rounds


@pytest.mark.parametrize("num_clients", [10, 100])
def test_measured_noise_is_what_theory_says(num_clients):
    for where, expected in (
        ("central", 1 / num_clients),
        ("distributed", 1 / num_clients),
        ("local", 1 / math.sqrt(num_clients)),
    ):
        measured = _measured(where, num_clients, 2.0, 0.5)  # standard error 0.5 %
        assert measured == pytest.approx(expected, rel=0.025)
