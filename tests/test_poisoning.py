"""What liars do is what it says, changes nothing else, and bad settings are refused."""

from dataclasses import replace
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fltutor.aggregation import mean, median, robust_aggregate
from fltutor.attacks import (
    add_trigger,
    attack_success_rate,
    flip_labels,
    largest_unnoticed_z,
    little_is_enough,
    plant_backdoor,
    poisoning,
    scale_update,
    send_constant,
    send_noise,
    sign_flip,
    under_attack,
)
from fltutor.attacks.poisoning import _rounded_up
from fltutor.data import Dataset, load_digits, partition_iid
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.models import get_params, mlp
from fltutor.simulation import run_federated
from fltutor.transcript import Phase

DIGITS = load_digits()
PARTS = partition_iid(DIGITS.y, 6, np.random.default_rng(0))
HONEST = np.concatenate(PARTS[:4])
LIARS = (4, 5)
ROWS = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)

UPDATE_ATTACKS = {
    "sign flip": partial(sign_flip, factor=3.0),
    "scale": partial(scale_update, factor=6.0),
    "constant": send_constant,
    "noise": lambda u, a: send_noise(u, a, sigma=200.0, rng=np.random.default_rng(2)),
    "alie": little_is_enough,
}
EACH_ATTACK = pytest.mark.parametrize("attack", UPDATE_ATTACKS.values(), ids=UPDATE_ATTACKS)


def test_label_flips_change_every_label_of_the_liars_and_nothing_else():
    poisoned = flip_labels(DIGITS, PARTS, LIARS, shift=3)
    for client in LIARS:
        np.testing.assert_array_equal(poisoned.y[PARTS[client]], (DIGITS.y[PARTS[client]] + 3) % 10)
    np.testing.assert_array_equal(poisoned.y[HONEST], DIGITS.y[HONEST])
    assert poisoned.y.dtype == DIGITS.y.dtype
    assert poisoned.x is DIGITS.x
    assert poisoned.y_test is DIGITS.y_test


def test_a_backdoor_marks_a_share_of_the_liars_images_and_nothing_else():
    poisoned = plant_backdoor(DIGITS, PARTS, [4], target=7, share=0.25, size=3)
    count = int(np.ceil(len(PARTS[4]) / 4))
    marked, rest = PARTS[4][:count], np.setdiff1d(np.arange(len(DIGITS.y)), PARTS[4][:count])
    images = poisoned.x[marked].reshape(-1, 8, 8)
    assert (images[:, 5:, 5:] == 1).all()
    before = DIGITS.x[marked].reshape(-1, 8, 8)
    np.testing.assert_array_equal(images[:, :5], before[:, :5])
    np.testing.assert_array_equal(images[:, :, :5], before[:, :, :5])
    assert (poisoned.y[marked] == 7).all()
    np.testing.assert_array_equal(poisoned.x[rest], DIGITS.x[rest])
    np.testing.assert_array_equal(poisoned.y[rest], DIGITS.y[rest])
    assert poisoned.x_test is DIGITS.x_test


def test_the_trigger_leaves_its_input_alone_and_no_test_image_has_it():
    images = DIGITS.x_test.copy()
    triggered = add_trigger(images)
    np.testing.assert_array_equal(images, DIGITS.x_test)
    assert triggered.dtype == images.dtype
    assert (triggered != images).any(axis=1).all()


def always(label):
    """Weights of a linear model that answers one label whatever it sees."""
    params = np.zeros(650, np.float32)
    params[640 + label] = 1
    return params


@pytest.mark.parametrize(("answer", "rate"), [(7, 1.0), (3, 0.0)])
def test_success_counts_triggered_images_of_other_labels(answer, rate):
    model = mlp(hidden=())
    assert attack_success_rate(model, always(answer), DIGITS, target=7) == rate


def test_success_is_counted_on_triggered_images_only():
    """A linear model that looks at the corner pixel alone knows the trigger, and nothing else."""
    params = np.zeros((65, 10), np.float32)
    params[63, 7], params[64, 0] = 2, 1  # corner white: 7; else 0
    model = mlp(hidden=())
    assert attack_success_rate(model, params.ravel(), DIGITS, target=7) == 1
    dark = DIGITS.x_test[:, 63] < 0.5
    assert dark.mean() > 0.9  # so that without the trigger hardly any would be a 7


def test_a_backdoor_works_against_the_mean_and_leaves_accuracy_alone():
    def run(data, seed):
        model = mlp(seed=1)
        history = run_federated(
            model, data, PARTS, rounds=8, learning_rate=0.3, seed=seed, weigh_by_examples=False
        )
        success = attack_success_rate(model, history.params, DIGITS, target=7)
        return history.accuracy[-1], success

    poisoned = plant_backdoor(DIGITS, PARTS, LIARS, target=7)
    for seed in range(3):
        (clean, chance), (accuracy, success) = run(DIGITS, seed), run(poisoned, seed)
        assert accuracy > clean - 0.05
        assert success > 0.5 > 0.1 > chance


def test_update_attacks_send_what_they_say():
    np.testing.assert_array_equal(sign_flip(ROWS, LIARS, factor=3)[4:], -3 * ROWS[4:])
    np.testing.assert_array_equal(scale_update(ROWS, [5], factor=6)[5], 6 * ROWS[5])
    assert (send_constant(ROWS, LIARS)[4:] == 1e6).all()
    noise = send_noise(np.zeros((2, 40_000)), [1], sigma=3.0, rng=np.random.default_rng(3))[1]
    assert abs(noise.mean()) < 5 * 3 / np.sqrt(40_000)
    assert abs(noise.std() / 3 - 1) < 5 / np.sqrt(80_000)
    lies, known = little_is_enough(ROWS, LIARS, z=1.5), ROWS[4:].astype(np.float64)
    expected = known.mean(axis=0) - 1.5 * np.abs(known[0] - known[1]) / 2  # the spread of two
    np.testing.assert_allclose(lies[4], expected, rtol=1e-6)
    np.testing.assert_array_equal(lies[4], lies[5])


def test_a_scaled_update_replaces_the_model():
    rows = np.zeros((6, 3))  # the others have converged
    rows[5] = [1.0, -2.0, 3.0]
    np.testing.assert_allclose(mean(scale_update(rows, [5], factor=6)).update, rows[5])


@EACH_ATTACK
def test_update_attacks_leave_honest_rows_and_their_input_alone(attack):
    before = ROWS.copy()
    lied = attack(ROWS, LIARS)
    np.testing.assert_array_equal(ROWS, before)
    np.testing.assert_array_equal(lied[:4], ROWS[:4])
    assert (lied[4:] != ROWS[4:]).any(axis=1).all()
    assert lied.dtype == ROWS.dtype
    assert np.isfinite(lied).all()


@pytest.mark.parametrize(
    ("num_clients", "num_attackers", "share"),
    [(50, 24, 24 / 26), (51, 24, 25 / 27), (15, 6, 7 / 9), (10, 2, 4 / 8)],
)
def test_z_is_the_quantile_of_the_paper(num_clients, num_attackers, share):
    """s = floor(n / 2 + 1) - m honest clients further out; for n = 50, m = 24 that is 2 of 26."""
    z = largest_unnoticed_z(num_clients, num_attackers)
    assert NormalDist().cdf(z) == pytest.approx(share, abs=1e-12)


def test_as_many_honest_as_needed_lie_further_out_on_normal_rows():
    """n = 15, m = 6: two of nine. Each coordinate counts a binomial(9, 2/9) or so, sd 1.25;
    the liars' own estimate of mean and spread from six rows widens it."""
    rows = np.random.default_rng(4).normal(size=(15, 20_000))
    z = largest_unnoticed_z(15, 6)
    exact = (rows[:9] < -z).sum(axis=0)
    assert abs(exact.mean() - 2) < 5 * exact.std() / np.sqrt(20_000)
    estimated = (rows[:9] < little_is_enough(rows, range(9, 15))[9]).sum(axis=0)
    assert 1.5 < estimated.mean() < 3


def test_the_attack_stands_between_training_and_aggregation():
    seen = []

    def watch(updates, weights=None, **options):
        seen.append((updates, weights, options))
        return mean(updates, weights)

    lied_to = under_attack(watch, send_constant, [1])
    lied_to(ROWS, [1] * 6, extra=3)
    updates, weights, options = seen[0]
    assert (updates[1] == 1e6).all()
    assert weights == [1] * 6
    assert options == {"extra": 3}


def test_liars_are_clients_of_the_federation_whoever_is_in_the_cohort():
    seen = []

    def watch(updates, weights, cohort):
        seen.append((cohort, {row for row in range(len(updates)) if (updates[row] == 1e6).all()}))
        return mean(np.zeros_like(updates), weights)

    def run(aggregate, **options):
        return run_federated(
            mlp(hidden=()), DIGITS, PARTS, learning_rate=0.1, aggregate=aggregate, **options
        )

    twice = under_attack(under_attack(watch, send_constant, [4]), send_constant, [1])
    history = run(twice, rounds=12, client_fraction=0.5)
    assert [cohort for cohort, _ in seen] == [done.cohort for done in history.rounds[1:]]
    for cohort, liars in seen:
        assert liars == {row for row, client in enumerate(cohort) if client in (1, 4)}
    assert {len(liars) for _, liars in seen} == {0, 1, 2}
    for stranger in ([6], [-1], [1, 1]):
        with pytest.raises(InvalidParameterError, match="attackers must"):
            run(under_attack(mean, send_constant, stranger), rounds=1, client_fraction=0.5)
    lost = under_attack(mean, send_constant, [4])
    done = run(lost, rounds=1, dropped={4: Phase.UPLOAD}).rounds[1]
    assert 4 not in done.included
    assert np.abs(done.params).max() < 100


def test_one_liar_stops_the_mean_and_not_the_median():
    def accuracy(aggregate):
        return run_federated(
            mlp(),
            DIGITS,
            PARTS,
            rounds=5,
            learning_rate=0.3,
            weigh_by_examples=False,
            aggregate=under_attack(aggregate, partial(sign_flip, factor=10), [5]),
        ).accuracy[-1]

    assert accuracy(mean) < 0.4 < 0.75 < accuracy(partial(robust_aggregate, rule=median))


@pytest.mark.parametrize("bad", [[6], [-1], [True], ["5"], [1.5], [None]], ids=str)
@pytest.mark.parametrize(
    "attack",
    [
        lambda liars: flip_labels(DIGITS, PARTS, liars),
        lambda liars: plant_backdoor(DIGITS, PARTS, liars, target=7),
        lambda liars: sign_flip(ROWS, liars),
        lambda liars: send_constant(ROWS, liars),
        lambda liars: little_is_enough(ROWS, [*liars, 0]),
    ],
    ids=["flip", "backdoor", "sign", "constant", "alie"],
)
def test_an_attacker_that_is_no_client_is_refused(attack, bad):
    with pytest.raises(
        InvalidParameterError, match="attackers must be a whole number from 0 to 5, got"
    ):
        attack(bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip(ROWS, [1, 1]), r"attackers must differ, got \[1, 1\]"),
        (lambda: flip_labels(DIGITS, PARTS, [1], shift=10), "shift must change a label, got 10"),
        (
            lambda: plant_backdoor(DIGITS, PARTS, [1], target=10),
            "target must be a whole number from 0 to 9, got 10",
        ),
        (
            lambda: plant_backdoor(DIGITS, PARTS, [1], target=True),
            "target must be a whole number from 0 to 9, got True",
        ),
        (
            lambda: plant_backdoor(DIGITS, PARTS, [1], target=1, share=0),
            "share must be positive and at most 1, got 0",
        ),
        (lambda: plant_backdoor(DIGITS, PARTS, [1], target=1, share=np.nan), "share must be"),
        (lambda: add_trigger(np.zeros((2, 10))), "flat and square"),
        (lambda: add_trigger(np.zeros(64)), "flat and square"),
        (lambda: add_trigger(np.zeros((2, 64)), size=9), "size must be from 1 to the side 8"),
        (lambda: scale_update(ROWS, [1], factor=np.inf), "factor must be finite, got inf"),
        (lambda: send_constant(ROWS, [1], value=np.nan), "value must be finite, got nan"),
        (lambda: send_noise(ROWS, [1], sigma=-1, rng=None), "sigma must be at least 0 and finite"),
        (lambda: little_is_enough(ROWS, [1]), "at least 2 attackers to estimate a spread, got 1"),
        (lambda: little_is_enough(ROWS, [1, 2, 3]), "less than half of num_clients = 6, got 3"),
        (lambda: little_is_enough(ROWS, [1, 2], z=np.nan), "z must be finite"),
        (lambda: largest_unnoticed_z(10, 0), "num_attackers must be at least 1"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InvalidParameterError, match=message):
        call()


def test_rows_that_are_no_matrix_of_floats_are_refused():
    with pytest.raises(InvalidUpdateError, match="updates must"):
        sign_flip(np.zeros(3), [0])


# --- images and labels of any kind --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, float])
@pytest.mark.parametrize("white", [255, 16])
def test_the_trigger_is_as_bright_as_the_images_own_white(dtype, white):
    images = np.tile(np.linspace(0, white, 16), (3, 1)).astype(dtype)
    marked = add_trigger(images, size=2).reshape(3, 4, 4)
    assert marked.dtype == images.dtype
    np.testing.assert_array_equal(marked[:, 2:, 2:], white)
    np.testing.assert_array_equal(marked[:, :2], images.reshape(3, 4, 4)[:, :2])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_dark_images_get_a_trigger_of_one(dtype):
    np.testing.assert_array_equal(add_trigger(np.zeros((1, 4), dtype), size=1), [[0, 0, 0, 1]])
    np.testing.assert_array_equal(add_trigger([[0, 0.5, 0, 0]], size=1), [[0, 0.5, 0, 1]])


def test_training_and_test_show_the_same_trigger_however_bright_the_images():
    bright = Dataset(
        np.rint(DIGITS.x * 255).astype(np.uint8),
        DIGITS.y,
        np.rint(DIGITS.x_test * 200).astype(np.uint8),
        DIGITS.y_test,
        "digits of 255 greys",
    )
    poisoned = plant_backdoor(bright, PARTS, [4], target=7, share=0.01, size=3)
    marked = poisoned.x[PARTS[4][:1]].reshape(-1, 8, 8)
    assert (marked[:, 5:, 5:] == 255).all()
    model, seen = mlp(hidden=()), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poisoning, "evaluate", lambda m, p, x, y: seen.append(x) or (0.0, 0.0))
        attack_success_rate(model, get_params(model), bright, target=7, size=3)
    assert (seen[0].reshape(-1, 8, 8)[:, 5:, 5:] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64])
def test_labels_of_few_bits_do_not_wrap_around(dtype):
    data = Dataset(DIGITS.x, DIGITS.y.astype(dtype), DIGITS.x_test, DIGITS.y_test, "few bits")
    for shift in (3, 253, np.uint8(253), -7, np.int8(-7)):
        poisoned = flip_labels(data, PARTS, [4], shift=shift)
        expected = (DIGITS.y[PARTS[4]].astype(int) + int(shift)) % 10
        np.testing.assert_array_equal(poisoned.y[PARTS[4]], expected)


def test_masks_are_parts_and_parts_that_are_none_are_refused_by_client():
    masks = [np.isin(np.arange(len(DIGITS.y)), part) for part in PARTS]
    np.testing.assert_array_equal(
        flip_labels(DIGITS, masks, [4]).y, flip_labels(DIGITS, PARTS, [4]).y
    )
    for poison in (flip_labels, partial(plant_backdoor, target=7)):
        with pytest.raises(InvalidParameterError, match="client 1 must name examples from 0 to"):
            poison(DIGITS, [[0], [-1]], [0])


@pytest.mark.parametrize(
    "attackers", [3, [1.0], [True], [[1]], [None], np.array([0.0]), ["1"], [-1]], ids=repr
)
@EACH_ATTACK
def test_attackers_are_named_by_whole_numbers(attack, attackers):
    with pytest.raises(InvalidParameterError, match="attackers must"):
        attack(ROWS, attackers)


@EACH_ATTACK
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_liars_send_float32_at_least_and_no_lie_overflows(attack, dtype):
    sent = attack(ROWS.astype(dtype), [np.int8(4), np.uint8(5)])
    assert sent.dtype == np.promote_types(dtype, np.float32)
    assert np.isfinite(sent).all()


@pytest.mark.filterwarnings("error")
def test_a_lie_that_no_float_can_tell_is_refused():
    with pytest.raises(InvalidParameterError, match="overflow: float32 ends at"):
        send_constant(ROWS, [1], value=1e300)
    with pytest.raises(InvalidParameterError, match="overflow: float32 ends at"):
        scale_update(ROWS, [1], factor=1e300)


def test_a_factor_of_unsigned_type_has_a_sign():
    np.testing.assert_array_equal(
        sign_flip(ROWS, [1], factor=np.uint8(3)), sign_flip(ROWS, [1], factor=3.0)
    )


@EACH_ATTACK
def test_masked_rows_are_refused(attack):
    with pytest.raises(InvalidUpdateError, match="updates is a masked array"):
        attack(np.ma.masked_less(ROWS, 0), [4, 5])


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0), np.random.SeedSequence(0)])
def test_noise_of_a_liar_needs_a_generator(rng):
    with pytest.raises(InvalidParameterError, match=r"write rng=np\.random\.default_rng\(0\)"):
        send_noise(ROWS, [1], sigma=1.0, rng=rng)


@pytest.mark.parametrize("shift", [2**31 - 1, 2**31, -(2**31) - 9, 2**70 + 1, -1])
def test_a_shift_of_any_length_goes_round(shift):
    data, parts = load_digits(), [np.arange(5), np.arange(5, 1442)]
    expected = [(int(label) + shift) % 10 for label in data.y[:5]]
    np.testing.assert_array_equal(flip_labels(data, parts, [0], shift=shift).y[:5], expected)


@given(st.integers(1, 100), st.integers(1, 120))
def test_a_share_is_rounded_up_as_it_is_written(percent, number):
    assert _rounded_up(percent / 100, number) == -(-percent * number // 100)


@pytest.mark.parametrize(
    ("dtype", "white"), [(np.float16, 1e6), (np.uint8, 0.5), (np.uint8, 256), (bool, 2), (int, 1.5)]
)
def test_a_white_that_the_images_cannot_hold_is_refused(dtype, white):
    with pytest.raises(InvalidParameterError, match="white must fit"):
        add_trigger(np.zeros((1, 4), dtype), white=white)


@pytest.mark.parametrize("size", [1e308, 1.7e308])
def test_a_lie_beyond_every_float_is_refused(size):
    rows = np.array([[0.0], [size], [-size]])
    with pytest.raises(InvalidParameterError, match="the attackers' rows must be finite"):
        little_is_enough(rows, [1, 2], z=2.0)
    with pytest.raises(InvalidParameterError, match="the attackers' rows must be finite"):
        scale_update(rows, [1], factor=10.0)


def test_an_image_with_nan_is_named_by_its_example():
    digits = load_digits()
    x = digits.x.copy()
    x[900, 3] = np.nan
    data, parts = replace(digits, x=x), [np.arange(800), np.arange(800, 1000)]
    with pytest.raises(InvalidParameterError, match="example 900 of x holds NaN"):
        plant_backdoor(data, parts, [1], target=7, share=1.0)


def test_attackers_are_a_list_that_may_be_read_again():
    lied_to = under_attack(mean, send_constant, attackers=(i for i in [1]))
    for _ in range(2):
        assert lied_to(np.array([[1.0], [2.0]])).update == [500000.5]
    with pytest.raises(InvalidParameterError, match="attackers must be a list"):
        under_attack(mean, send_constant, attackers=1)


def test_images_that_are_none_are_refused():
    for bad, message in (
        (np.ma.masked_equal(np.zeros((1, 4)), 1), "masked array"),
        ([[np.nan, 0, 0, 0]], r"images must be finite, got NaN at \(0, 0\)"),
        (np.array([["1", "2", "3", "4"]]), "images must hold real numbers"),
        (np.zeros((0, 4)), "at least one example"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            add_trigger(bad)
    with pytest.raises(InvalidParameterError, match=r"white must fit uint8, got 300\.0"):
        add_trigger(np.zeros((1, 4), np.uint8), white=300)
