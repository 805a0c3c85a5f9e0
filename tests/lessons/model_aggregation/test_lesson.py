"""FedAvg: what notebook 04 claims, computes, draws and checks."""

import numpy as np
import pytest

from fltutor.aggregation import aggregate_models
from fltutor.data import load_digits, partition_iid
from fltutor.errors import InvalidParameterError
from fltutor.lessons.model_aggregation.checks import (
    check_megabytes,
    check_reordering,
    check_weighted_mean,
    megabytes,
)
from fltutor.lessons.model_aggregation.explorer import local_work_explorer
from fltutor.lessons.model_aggregation.plots import draw_between, draw_local_work, draw_race
from fltutor.lessons.model_aggregation.runs import (
    BATCH_SIZES,
    FEDSGD_LEARNING_RATE,
    MAX_ROUNDS,
    fedsgd_run,
    local_work,
)
from fltutor.models import get_params, mlp, set_params
from fltutor.plotting import new_figure
from fltutor.simulation import History, Round, run_federated
from fltutor.tensorflow_quietly import num_compiled

DIGITS = load_digits()
MODEL = mlp(seed=0)
START = get_params(MODEL)
PARTS = partition_iid(DIGITS.y, 10, np.random.default_rng(0))
LARGEST = max(map(len, PARTS))
USUAL = {"local_epochs": 1, "batch_size": 10, "learning_rate": 0.1, "fraction": 1.0}


@pytest.fixture(scope="module")
def fedsgd() -> History:
    set_params(MODEL, START)
    return fedsgd_run(MODEL, DIGITS, PARTS)


@pytest.fixture
def work(fedsgd):
    """Runs to their last yield, for the settings that are not the usual ones."""

    def run(**settings):
        *_, last = local_work(MODEL, DIGITS, PARTS, fedsgd, **(USUAL | settings))
        return last

    return run


# --- what is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize("learning_rate", [0.25, 1.0, 2.0])
def test_no_other_learning_rate_makes_fedsgd_much_faster(learning_rate):
    def rounds(learning_rate):
        reached = []
        for seed in range(3):
            set_params(MODEL, get_params(mlp(seed=seed)))
            parts = partition_iid(DIGITS.y, 10, np.random.default_rng(seed))
            run = fedsgd_run(MODEL, DIGITS, parts, learning_rate=learning_rate, rounds=60)
            reached.append(run.rounds_to(0.9) or 61)
        return np.mean(reached)

    assert rounds(FEDSGD_LEARNING_RATE) <= 1.25 * rounds(learning_rate)


def test_fedsgd_reaches_the_target_within_the_explorer(fedsgd):
    assert 20 < fedsgd.rounds_to(0.9) < MAX_ROUNDS
    assert len(fedsgd.rounds) == MAX_ROUNDS + 1


def test_one_epoch_of_full_batches_is_fedsgd(work, fedsgd):
    same = work(batch_size=LARGEST, learning_rate=FEDSGD_LEARNING_RATE)
    np.testing.assert_array_equal(same.history.accuracy, fedsgd.accuracy)
    assert "full batches" in same.settings


def test_local_work_is_the_simulation_of_the_package_round_by_round(fedsgd):
    results = list(local_work(MODEL, DIGITS, PARTS, fedsgd, **USUAL, rounds=3))
    assert [len(result.history.rounds) for result in results] == [1, 2, 3, 4]
    set_params(MODEL, START)
    direct = run_federated(MODEL, DIGITS, PARTS, rounds=3, learning_rate=0.1)
    np.testing.assert_array_equal(results[-1].history.accuracy, direct.accuracy)
    np.testing.assert_array_equal(results[-1].history.megabytes, direct.megabytes)


def test_more_local_epochs_need_fewer_rounds_and_fewer_clients_fewer_megabytes(work):
    def to_target(result):
        rounds = result.history.rounds_to(0.9)
        return rounds, result.history.megabytes[rounds]

    one, twenty = to_target(work()), to_target(work(local_epochs=20, rounds=5))
    few = to_target(work(local_epochs=20, fraction=0.1, rounds=20))
    assert one[0] >= 5 * twenty[0]
    assert few[1] < twenty[1]


def test_every_run_starts_where_fedsgd_did_whatever_the_model_holds(fedsgd):
    set_params(MODEL, START + 1)
    first = next(local_work(MODEL, DIGITS, PARTS, fedsgd, **USUAL))
    np.testing.assert_array_equal(first.history.rounds[0].params, START)


def test_a_huge_learning_rate_ends_the_run_with_advice(work):
    blown_up = work(learning_rate=1e20)
    assert blown_up.diverged
    said = draw_local_work(new_figure(), blown_up)
    assert "blew up in round" in said
    assert "lower the learning rate" in said


@pytest.mark.parametrize(("fraction", "rounds"), [(1.0, 4), (0.3, 4)])
def test_megabytes_are_those_of_a_real_run(fraction, rounds):
    history = run_federated(
        MODEL, DIGITS, PARTS, rounds=rounds, learning_rate=0.1, client_fraction=fraction
    )
    cohort = len(history.rounds[1].cohort)
    assert history.megabytes[-1] == pytest.approx(megabytes(rounds, cohort, len(START)), rel=1e-12)


# --- the explorer ---------------------------------------------------------------------------------


def test_explorer_works_at_the_ends_of_every_slider_and_compiles_nothing_more():
    set_params(MODEL, START)
    view = local_work_explorer(MODEL, DIGITS, PARTS, rounds=5)
    compiled = num_compiled()
    assert "1 local epoch, batches of 10, rate 0.1, 10 of 10 clients" in view.message

    ends = {
        "local_epochs": (
            2,
            1,
        ),  # twenty epochs to the end take seconds; the browser test goes there
        "batch_size": (LARGEST, BATCH_SIZES[0]),
        "learning_rate": (0.01, 10**0.5),
        "fraction": (0.1, 1.0),
    }
    for name, values in ends.items():
        for value in values:
            before = view.message
            view.controls[name].value = value
            assert view.message != before
            assert "After 5 rounds" in view.message
    assert num_compiled() == compiled


# --- drawings -------------------------------------------------------------------------------------


def history(*accuracy, kilobytes=100):
    return History(
        [
            Round(number, np.zeros(1), share, 0.0, bytes_up=1000 * kilobytes * (number > 0))
            for number, share in enumerate(accuracy)
        ]
    )


def test_race_shows_every_run_and_states_the_median():
    figure = new_figure()
    runs = {"slow": [history(0, 0.5, 0.8, 0.95), history(0, 0.5, 0.91, 0.95)]}
    runs["fast"] = [history(0.1, 0.92), history(0.1, 0.93)]
    runs["never"] = [history(0.1, 0.2), history(0.1, 0.95)]
    said = draw_race(figure, runs)
    assert said == ("Rounds to 90%, the middle of the runs: slow 2.5, fast 1, never not reached.")
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [0, 0.5, 0.8, 0.95])
    np.testing.assert_allclose(left.lines[2].get_ydata(), [0, 0.5, 0.855, 0.95])
    assert [bar.get_width() for bar in right.patches] == [2.5, 1.0]


def test_local_work_drawing_marks_the_target_per_round_and_per_megabyte(work):
    result = work(rounds=30)
    reached = result.history.rounds_to(0.9)
    figure = new_figure()
    said = draw_local_work(figure, result)
    sent = result.history.megabytes[reached]
    assert f"90% after {reached} rounds, {sent:.2f} MB, {reached} passes" in said
    assert f"After 30 rounds: {result.history.accuracy[-1]:.1%}." in said
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[1].get_ydata(), result.history.accuracy[1:])
    np.testing.assert_array_equal(right.lines[1].get_xdata(), result.history.megabytes[1:])
    assert left.lines[2].get_xdata() == [reached]
    assert right.lines[2].get_xdata() == [sent]


def test_local_work_drawing_says_when_the_target_is_not_reached(work):
    said = draw_local_work(new_figure(), work(learning_rate=0.01, rounds=5))
    assert "90% not reached. After 5 rounds" in said


def test_between_states_both_ends_and_the_middle():
    figure = new_figure()
    shares = np.linspace(0, 1, 3)
    lines = {"same start": np.array([0.9, 0.95, 0.9]), "own starts": np.array([0.9, 0.5, 0.8])}
    assert draw_between(figure, shares, lines) == (
        "same start: 90.0% and 90.0%, halfway 95.0%; own starts: 90.0% and 80.0%, halfway 50.0%."
    )
    for line, accuracy in zip(figure.axes[0].lines, lines.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), accuracy)


# --- the checks of the exercises ------------------------------------------------------------------


def said(capsys, check, mine, *args):
    check(mine, *args)
    return capsys.readouterr().out.strip()


def careful_mean(updates, sizes):
    if not np.isfinite(sizes).all() or (sizes < 0).any() or not sizes.sum() > 0:
        raise InvalidParameterError(f"sizes must be finite and not all zero, got {sizes}")
    return sizes @ updates / sizes.sum()


def asserting_mean(updates, sizes):
    assert np.isfinite(sizes).all()
    assert sizes.sum() > 0
    return sizes @ updates / sizes.sum()


def comparing_mean(updates, sizes):
    if (sizes < 0).any() or sizes.sum() == 0:
        raise ValueError(sizes)
    return sizes @ updates / sizes.sum()


def finite_mean(updates, sizes):
    if not np.isfinite(sizes).all() or sizes.sum() <= 0:
        raise ValueError(sizes)
    return sizes @ updates / sizes.sum()


@pytest.mark.parametrize(
    ("mine", "answer"),
    [
        (careful_mean, "✓ the weighted mean is right, and bad sizes are refused"),
        (lambda updates, sizes: ..., "· not attempted yet"),
        (lambda updates, sizes: None, "· not attempted yet"),
        (lambda updates, sizes: updates.mean(axis=0), "✗ this is the unweighted mean"),
        (lambda updates, sizes: sizes @ updates, "✗ this is the weighted sum"),
        (lambda updates, sizes: sizes @ updates / len(sizes), "✗ divide by the sum of the sizes"),
        (lambda updates, sizes: sizes @ updates / sizes.sum(), "✗ sizes [0, 0, 0] slip through"),
        (comparing_mean, "✗ sizes [1, nan, 4] slip through and give [nan nan]"),
        (finite_mean, "✗ sizes [3, -1, 4] slip through"),
        (asserting_mean, "✗ sizes [0, 0, 0] meet an assert"),
        (lambda updates, sizes: updates[0], "✗ sizes [1, 3, 4]: got 1 at 0, needed 3.5"),
        (lambda updates, sizes: updates @ sizes, "✗"),
        (lambda updates, sizes: undefined, "✗ the check stops: NameError"),  # noqa: F821
    ],
)
def test_check_of_the_weighted_mean_names_the_mistake(capsys, mine, answer):
    assert said(capsys, check_weighted_mean, mine).startswith(answer)


def reordered(first=None, bias=None, second=None, last=None):
    """A solution that moves the hidden units only in the tensors given a function."""

    def mine(weights, order):
        moves = (first, bias, second, last)
        return [move(w, order) if move else w for w, move in zip(weights, moves, strict=True)]

    return mine


NETWORK = [np.eye(4), np.zeros(4), np.eye(4), np.zeros(4)]


def rows(tensor, order):
    return tensor[order]


def columns(tensor, order):
    return tensor[:, order]


@pytest.mark.parametrize(
    ("mine", "answer"),
    [
        (reordered(columns, rows, rows), "✓ another order, other weights"),
        (lambda weights, order: ..., "· not attempted yet"),
        (reordered(), "✗ these are the weights as they came"),
        (reordered(columns, None, rows), "✗ the biases of the hidden units stayed behind"),
        (reordered(columns, rows, None), "✗ the second layer still expects the old order"),
        (reordered(None, rows, rows), "✗ the first layer still gives the old order"),
        (reordered(rows, rows, rows), "✗ this reorders the pixels"),
        (reordered(columns, rows, lambda w, order: w[np.argsort(order)]), "✗ the outputs changed"),
        (reordered(columns, rows, rows, lambda w, order: w[::-1]), "✗ the last bias belongs"),
        (reordered(columns, rows, lambda w, order: w.T), "✗ the shapes became"),
        (reordered(columns, rows, columns), "✗ the check stops: IndexError"),
    ],
)
def test_check_of_the_reordering_names_the_mistake(capsys, mine, answer):
    assert said(capsys, check_reordering, mine, NETWORK, lambda weights: 0.5).startswith(answer)


def test_a_reordered_network_answers_the_same_and_cannot_be_averaged_with_itself():
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=shape) for shape in ((64, 32), (32,), (32, 10), (10,))]
    twin = reordered(columns, rows, rows)(weights, rng.permutation(32))

    def answers(weights):
        MODEL.set_weights(weights)
        return MODEL(DIGITS.x_test).numpy().argmax(axis=1)

    assert (answers(twin) == answers(weights)).mean() > 0.99  # but for ties broken by rounding
    averaged = answers(aggregate_models([weights, twin], [1, 1]))
    assert (averaged == answers(weights)).mean() < 0.7


@pytest.mark.parametrize(
    ("mine", "answer"),
    [
        (megabytes, "✓ every number is counted: down, up, and the weight\n100 rounds"),
        (lambda r, c, d: ..., "· not attempted yet"),
        (lambda r, c, d: r * c * 4 * (d + 1) / 1e6, "✗ this is the upload alone"),
        (lambda r, c, d: r * c * 4 * d / 1e6, "✗ this is the download alone"),
        (lambda r, c, d: r * c * 8 * d / 1e6, "✗ this is without the one number"),
        (lambda r, c, d: r * 4 * (2 * d + 1) / 1e6, "✗ this is one client's traffic"),
        (lambda r, c, d: c * 4 * (2 * d + 1) / 1e6, "✗ this is one round's traffic"),
        (lambda r, c, d: r * c * 32 * (2 * d + 1) / 1e6, "✗ this is a number of bits"),
        (lambda r, c, d: r * c * 4 * (2 * d + 1), "✗ this is a number of bytes"),
        (lambda r, c, d: r * c * 8 * (2 * d + 1) / 1e6, "✗ this is for float64"),
        (lambda r, c, d: r * c * 4 * (2 * d + 1) / 2**20, "✗ this is in mebibytes"),
        (lambda r, c, d: 1.0, "✗ 40 rounds, 7 clients, 2,410 weights: got 1, needed 5.39952"),
        (lambda r, c, d: r / 0, "✗ the check stops: ZeroDivisionError"),
    ],
)
def test_check_of_the_megabytes_names_the_mistake(capsys, mine, answer):
    assert said(capsys, check_megabytes, mine).startswith(answer)


def test_federated_rounds_start_from_the_model_or_from_given_weights():
    set_params(MODEL, START)
    [first] = run_federated(MODEL, DIGITS, PARTS, rounds=0, learning_rate=0.1).rounds
    np.testing.assert_array_equal(first.params, START)
    [other] = run_federated(
        MODEL, DIGITS, PARTS, rounds=0, learning_rate=0.1, start=2 * START
    ).rounds
    np.testing.assert_array_equal(other.params, 2 * START)
    np.testing.assert_array_equal(get_params(MODEL), START)
