"""Private means: bounded weights, a clipping norm that adapts, and a budget charged first."""

import math
from fractions import Fraction
from functools import partial

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fltutor.aggregation import AdaptiveClip, distributed_dp_mean, dp_mean, split_noise
from fltutor.aggregation.private import _grid_of
from fltutor.crypto.paillier import PACKED_GRID
from fltutor.data import load_digits, partition_iid
from fltutor.errors import BudgetExceededError, InvalidParameterError, ProtocolAbort
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.models import mlp
from fltutor.privacy.accounting import budget_curve
from fltutor.privacy.budget import PrivacyBudget
from fltutor.protocols import encrypted_sum, paillier_sum, plain_sum, secagg_sum
from fltutor.simulation import run_federated
from fltutor.transcript import Phase
from fltutor.vectors import clip_by_norm, row_norms

UPDATES = np.random.default_rng(11).normal(size=(6, 5))
NO_NOISE = {"noise_multiplier": 0, "allow_no_noise": True}

# The noise of the operating system cannot be seeded: a check fails by chance once in 1e8.
FALSE_ALARM = 1e-8


def has_noise_of_scale(noise, scale):
    """Whether the sum of squares is one that N(0, scale^2) gives but for FALSE_ALARM."""
    low, high = stats.chi2(noise.size).interval(1 - FALSE_ALARM)
    return low <= np.square(noise / scale).sum() <= high


def rows_seen(updates, weights=None, **settings):
    """What a protocol gets to add, shape (n, d) or, with a bit, (n, d + 1)."""
    seen = []

    def watched(rows, dropped):
        seen.append(rows)
        return plain_sum(rows, dropped)

    dp_mean(updates, weights, sum_protocol=watched, **settings)
    return seen[0]


# --- bounded weights ----------------------------------------------------------------------------


def test_a_weight_counts_up_to_its_bound_and_the_divisor_is_fixed():
    weights, shares = [10, 20, 40, 0, 5, 1000], [0.5, 1, 1, 0, 0.25, 1]
    got = dp_mean(
        UPDATES, weights, clip_norm=1.5, max_weight=20, expected_shares=3.0, **NO_NOISE
    ).update
    expected = np.array(shares) @ clip_by_norm(UPDATES, 1.5) / 3.0
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_equal_weights_at_the_bound_are_the_plain_mean():
    plain = dp_mean(UPDATES, clip_norm=1.0, expected_cohort=6, **NO_NOISE)
    bounded = dp_mean(UPDATES, [7] * 6, clip_norm=1.0, max_weight=7, expected_shares=6, **NO_NOISE)
    np.testing.assert_array_equal(plain.update, bounded.update)


@given(
    hnp.arrays(np.float64, 4, elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.floats(0, 1e300),
    st.floats(1e-300, 1e300),
    st.floats(1e-3, 1e3),
)
@pytest.mark.filterwarnings("error")
def test_no_weight_moves_the_sum_by_more_than_the_clip_norm(row, weight, max_weight, clip_norm):
    [sent] = rows_seen(
        row[None],
        [weight],
        clip_norm=clip_norm,
        max_weight=max_weight,
        expected_shares=1,
        **NO_NOISE,
    )
    assert np.linalg.norm(sent) <= clip_norm


def test_the_noise_under_weights_is_that_of_the_fixed_divisor_whoever_comes():
    zeros = np.zeros((3, 100_000))
    settings = {"clip_norm": 0.5, "max_weight": 10, "expected_shares": 4, "noise_multiplier": 2.0}
    everyone = dp_mean(zeros, [1, 10, 100], **settings)
    nobody = dp_mean(zeros[:0], [], **settings)
    assert has_noise_of_scale(everyone.update, 2.0 * 0.5 / 4)
    assert has_noise_of_scale(nobody.update, 2.0 * 0.5 / 4)


def test_all_weights_may_be_zero_since_refusing_would_tell():
    update = dp_mean(
        UPDATES, [0] * 6, clip_norm=1.0, max_weight=1, expected_shares=3, **NO_NOISE
    ).update
    np.testing.assert_array_equal(update, np.zeros(5))


BOUNDED = {"clip_norm": 1.0, "noise_multiplier": 1.0, "max_weight": 2, "expected_shares": 3}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2, 3], r"one number for each of 6 clients, got shape \(3,\)"),
        ([1, 2, -3, 1, 1, 1], "at least 0, got -3 for client 2"),
        ([1, np.nan, 3, 1, 1, 1], "finite and at least 0, got nan for client 1"),
        ([np.inf, 2, 3, 1, 1, 1], "finite and at least 0, got inf for client 0"),
        ([1, 2, 3, 1, 1, True], "must be numbers, got True for client 5"),
        ([1, 2, 3, "4", 1, 1], "must be numbers, got '4' for client 3"),
    ],
)
def test_unusable_weights_are_refused_by_client(weights, message):
    with pytest.raises(InvalidParameterError, match=message):
        dp_mean(UPDATES, weights, **BOUNDED)


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        ([1] * 6, {"max_weight": None}, "takes no weights without max_weight"),
        ([1] * 6, {"max_weight": 0}, "max_weight must be positive and finite, got 0"),
        ([1] * 6, {"max_weight": np.nan}, "max_weight must be positive and finite, got nan"),
        ([1] * 6, {"max_weight": np.inf}, "max_weight must be positive and finite, got inf"),
        ([1] * 6, {"expected_shares": 0}, "expected_shares must be positive and finite, got 0"),
        ([1] * 6, {"expected_shares": None}, "divides by expected_shares, fixed beforehand"),
        ([1] * 6, {"expected_cohort": 6}, "give it, and not expected_cohort"),
        (None, {}, "max_weight bounds weights, and there are none"),
        (None, {"max_weight": None}, "divides by expected_cohort, fixed beforehand"),
        (None, {"max_weight": None, "expected_cohort": 3}, "and not expected_shares"),
    ],
)
def test_weights_need_their_bound_and_their_divisor(weights, change, message):
    with pytest.raises(InvalidParameterError, match=message):
        dp_mean(UPDATES, weights, **BOUNDED | change)


# --- adaptive clipping --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "start", "quantile", "norms", "sums"),
    [
        ([5.0, -2.5], 16, 0.0, [8, 4, 8**0.5, 2, 2], [2.5, 2.5, 1.5, 8**0.5 - 2.5, 0]),
        ([-1.5, 3.0], 0.5, 1.0, [1, 2, 8**0.5, 4, 4], [0, 0, 0.5, 8**0.5 - 1.5, 1.5]),
    ],
    ids=["quantile 0", "quantile 1"],
)
def test_norms_and_sums_are_those_of_tensorflow_privacy(records, start, quantile, norms, sums):
    # Its tests test_adaptation_target_zero_geometric and ..._one_geometric, of
    # tensorflow_privacy/privacy/dp_query/quantile_adaptive_clip_sum_query_test.py.
    clip = AdaptiveClip(start, quantile=quantile, learning_rate=math.log(2))
    records = np.array(records)[:, None]
    for norm, total in zip(norms, sums, strict=True):
        result = dp_mean(records, clip_norm=clip, expected_cohort=2, **NO_NOISE)
        assert result.clip_norm == clip.path[-2]
        np.testing.assert_allclose(clip.clip_norm, norm, rtol=1e-12)
        np.testing.assert_allclose(2 * result.update, [total], atol=1e-12)


@pytest.mark.parametrize("sampling_rate", [1.0, 0.1])
@pytest.mark.parametrize(("noise_multiplier", "bit_noise"), [(1.0, 5.0), (0.6, 0.31), (8.0, 8.0)])
def test_updates_and_bit_together_cost_what_one_noise_costs(
    noise_multiplier, bit_noise, sampling_rate
):
    def rdp(*noises):
        # dp-accounting's own rule for several Gaussians on one sampled row
        event = dp_accounting.ComposedDpEvent([dp_accounting.GaussianDpEvent(z) for z in noises])
        if sampling_rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(sampling_rate, event)
        accountant = dp_accounting.rdp.RdpAccountant([1.5, 2, 4, 16, 64])
        return accountant.compose(event, 10).get_epsilon(1e-5)

    both = rdp(split_noise(noise_multiplier, bit_noise), 2 * bit_noise)
    assert both == pytest.approx(rdp(noise_multiplier), rel=1e-9)


@given(
    hnp.arrays(np.float64, 3, elements=st.floats(-1e6, 1e6)),
    st.floats(0, 50),
    st.floats(0.1, 10),
    st.floats(0.51, 20),
)
def test_no_row_is_longer_than_one_over_z_in_units_of_its_noise(row, weight, z, ratio):
    clip, bit_noise = AdaptiveClip(0.7, bit_noise=ratio * z), ratio * z
    [sent] = rows_seen(
        row[None],
        [weight],
        clip_norm=clip,
        noise_multiplier=z,
        max_weight=20,
        expected_shares=10,
    )
    in_noise = np.append(sent[:-1] / (split_noise(z, bit_noise) * 0.7), sent[-1] / bit_noise)
    assert np.linalg.norm(in_noise) <= (1 + 1e-12) / z


def test_the_bit_travels_in_the_row_and_says_clipped_or_not():
    updates = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [np.nan, 9.0]], np.float32)
    rows = rows_seen(updates, clip_norm=AdaptiveClip(1.0), expected_cohort=4, **NO_NOISE)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[:, :2], [[0.6, 0.8], [0.3, 0.4], [0, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(rows[:, 2], [-0.5, 0.5, 0.5, 0.5])  # NaN counts as zero


@pytest.mark.parametrize("num_clients", [0, 40], ids=["nobody came", "40 came"])
def test_noise_on_updates_and_bit_is_what_was_split_whoever_came(num_clients):
    m, z, eta, rounds = 30, 1.5, 0.3, 500
    clip, shares, noise = AdaptiveClip(2.0, learning_rate=eta), [], []
    z_updates, bit_noise = clip.split(z, m)
    assert bit_noise == max(m / 20, z)
    for _ in range(rounds):
        clip = AdaptiveClip(2.0, learning_rate=eta)
        result = dp_mean(
            np.zeros((num_clients, 200)), clip_norm=clip, noise_multiplier=z, expected_cohort=m
        )
        noise.append(result.update)
        shares.append(0.5 - math.log(clip.clip_norm / 2.0) / eta)
    assert has_noise_of_scale(np.array(noise), z_updates * 2.0 / m)
    truth = num_clients * 0.5 / m + 0.5  # zeros are never clipped
    assert has_noise_of_scale(np.array(shares) - truth, bit_noise / m)


NORMS = np.random.default_rng(5).lognormal(mean=0.0, sigma=0.5, size=500)
SETTLE, WATCH, COHORT = 260, 240, 50


def settled_share(clip, seed, z=1.0):
    """Mean share of unclipped clients once the norm has settled; Poisson samples of NORMS."""
    rng, q = np.random.default_rng(seed), COHORT / len(NORMS)
    for _ in range(SETTLE + WATCH):
        present = NORMS[rng.random(len(NORMS)) < q]
        dp_mean(
            present[:, None], clip_norm=clip, noise_multiplier=z, expected_cohort=COHORT, rng=rng
        )
    return np.mean([(norm >= NORMS).mean() for norm in clip.path[SETTLE:-1]])


# The steps telescope: the mean of (share - quantile) over the rounds watched is the mean of the
# noise, plus (first - last log norm) / (learning_rate * WATCH). A round's noise is that of
# COHORT sampled bits, at most sqrt(COHORT / 4) clients, and bit_noise = COHORT / 20; the log norm
# moves by less than 0.5 (15 of its own deviations). So the standard error is 0.0055; five of
# them and the move are the tolerance.
SHARE_ERROR = np.hypot(np.sqrt(COHORT / 4), COHORT / 20) / COHORT / np.sqrt(WATCH)
TOLERANCE = 5 * SHARE_ERROR + 0.5 / (0.2 * WATCH)


@pytest.mark.parametrize("factor", [0.01, 100])
@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_the_norm_finds_its_quantile_from_a_hundred_times_too_small_or_large(quantile, factor):
    for seed in range(3):
        clip = AdaptiveClip(factor * np.quantile(NORMS, quantile), quantile=quantile)
        assert abs(settled_share(clip, seed) - quantile) < TOLERANCE


class Backwards(AdaptiveClip):
    def step(self, unclipped_share):
        super().step(2 * self.quantile - unclipped_share)


class CountsTheClipped(AdaptiveClip):
    def step(self, unclipped_share):
        super().step(1 - unclipped_share)


class ForgetsTheHalf(AdaptiveClip):
    def step(self, unclipped_share):
        super().step(unclipped_share - 0.5)


@pytest.mark.parametrize("planted", [Backwards, CountsTheClipped, ForgetsTheHalf])
def test_planted_wrong_steps_do_not_find_it(planted):
    clip = planted(np.quantile(NORMS, 0.3), quantile=0.3)
    assert abs(settled_share(clip, seed=0) - 0.3) > TOLERANCE


@pytest.mark.parametrize("sum_protocol", [encrypted_sum, partial(secagg_sum, threshold=4)])
def test_protocols_agree_on_the_average_and_on_the_norm(sum_protocol):
    updates, dropped = UPDATES.astype(np.float32), {2: Phase.UPLOAD}

    def run(protocol):
        clip = AdaptiveClip(2.0)
        result = dp_mean(
            updates,
            clip_norm=clip,
            noise_multiplier=1.0,
            expected_cohort=6,
            sum_protocol=protocol,
            dropped=dropped,
            rng=np.random.default_rng(3),
        )
        return result, clip

    (plain, plain_clip), (other, other_clip) = run(plain_sum), run(sum_protocol)
    assert plain.included == other.included == (0, 1, 3, 4, 5)
    np.testing.assert_allclose(other.update, plain.update, atol=1e-6)  # five roundings to 2^-24
    assert other_clip.clip_norm == pytest.approx(plain_clip.clip_norm, rel=1e-6)
    assert other.demonstration


def test_default_noise_of_the_bit_leaves_room_at_any_noise():
    for z in (0.01, 0.3, 1, 7, 1e4):
        for cohort in (1, 20, 1000):
            z_updates, bit_noise = AdaptiveClip(1.0).split(z, cohort)
            assert z < z_updates <= z / math.sqrt(0.75) * (1 + 1e-12)  # at most 16 % more
            assert bit_noise >= cohort / 20


@pytest.mark.parametrize("bit_noise", [0, 0.3, 0.5, np.inf, -np.inf, -1])
def test_a_bit_that_costs_more_than_the_round_is_refused(bit_noise):
    with pytest.raises(InvalidParameterError, match=r"above half the noise multiplier, 0\.5, got"):
        split_noise(1.0, bit_noise)


def test_bit_noise_that_is_no_number_is_refused():
    with pytest.raises(InvalidParameterError, match="bit_noise must be a number, got nan"):
        split_noise(1.0, np.nan)


@pytest.mark.parametrize("noise_multiplier", [0, -1, np.nan, np.inf])
def test_noise_that_cannot_be_split_is_refused(noise_multiplier):
    with pytest.raises(InvalidParameterError, match="noise_multiplier must be positive"):
        split_noise(noise_multiplier, 5.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 0}, "start must be positive and finite, got 0"),
        ({"start": -1.0}, "start must be positive and finite, got -1"),
        ({"start": np.nan}, "start must be positive and finite, got nan"),
        ({"start": np.inf}, "start must be positive and finite, got inf"),
        ({"quantile": -0.1}, r"quantile must be at least 0 and at most 1, got -0\.1"),
        ({"quantile": 1.1}, r"quantile must be at least 0 and at most 1, got 1\.1"),
        ({"quantile": np.nan}, "quantile must be at least 0 and at most 1, got nan"),
        ({"learning_rate": 0}, "learning_rate must be positive and finite, got 0"),
        ({"learning_rate": np.inf}, "learning_rate must be positive and finite, got inf"),
        ({"learning_rate": np.nan}, "learning_rate must be positive and finite, got nan"),
        ({"bit_noise": -1}, "bit_noise must be at least 0 and finite, got -1"),
        ({"bit_noise": np.nan}, "bit_noise must be at least 0 and finite, got nan"),
        ({"bit_noise": np.inf}, "bit_noise must be at least 0 and finite, got inf"),
    ],
)
def test_adaptive_clips_out_of_range_are_refused(settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        AdaptiveClip(**{"start": 1.0} | settings)


@pytest.mark.parametrize("share", [1e6, -1e6])
def test_extreme_steps_stay_finite_and_positive(share):
    clip = AdaptiveClip(1.0)
    clip.step(share)
    assert 0 < clip.clip_norm < np.inf
    assert repr(clip).startswith("AdaptiveClip(")


# --- what fails changes nothing -----------------------------------------------------------------


def abort(rows, dropped):
    raise ProtocolAbort("too few are left")


def test_a_round_that_fails_leaves_the_norm_and_one_over_budget_sums_nothing():
    clip, budget = AdaptiveClip(1.0), PrivacyBudget(4.0, delta=1e-3)
    settings = {"clip_norm": clip, "noise_multiplier": 1.0, "expected_cohort": 6, "budget": budget}
    with pytest.raises(ProtocolAbort):
        dp_mean(UPDATES, sum_protocol=abort, **settings)
    assert clip.path == (1.0,)
    assert budget.rounds == 1  # somebody may have seen it

    def must_not_run(rows, dropped):
        raise AssertionError("summed without a budget")

    with pytest.raises(BudgetExceededError, match="round 2 with noise multiplier 1 would bring"):
        dp_mean(UPDATES, sum_protocol=must_not_run, **settings)
    assert clip.path == (1.0,)
    assert budget.rounds == 1


@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
def test_the_budget_is_charged_before_the_sum_with_the_noise_of_the_whole_round(adaptive):
    budget, seen = PrivacyBudget(100.0, delta=1e-3), []

    def watched(rows, dropped):
        seen.append(budget.rounds)
        return plain_sum(rows, dropped)

    clip = AdaptiveClip(1.0) if adaptive else 1.0
    for done in (1, 2, 3):
        result = dp_mean(
            UPDATES,
            clip_norm=clip,
            noise_multiplier=1.0,
            expected_cohort=6,
            budget=budget,
            sum_protocol=watched,
        )
        assert result.spent == budget.spent
        assert budget.spent.epsilon == pytest.approx(budget_curve(1.0, 3, delta=1e-3)[done])
    assert seen == [1, 2, 3]
    assert dp_mean(UPDATES, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=6).spent is None


@pytest.mark.parametrize(
    "change",
    [
        {"clip_norm": 0},
        {"clip_norm": np.nan},
        {"noise_multiplier": -1},
        {"noise_multiplier": 0},
        {"noise_multiplier": np.inf},
        {"expected_cohort": 0},
        {"expected_cohort": None},
        {"clip_norm": AdaptiveClip(1.0, bit_noise=0.1)},
        {"max_weight": 3},
        {"dropped": {9: Phase.UPLOAD}},
        {"dropped": {1: "UPLOAD"}},
        {"rng": 7},
    ],
    ids=str,
)
def test_what_is_refused_is_not_charged(change):
    budget = PrivacyBudget(100.0, delta=1e-3)
    settings = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_cohort": 6, "budget": budget}
    with pytest.raises(InvalidParameterError):
        dp_mean(UPDATES, **settings | change)
    assert budget.rounds == 0


def test_nobody_came_costs_the_same():
    budget = PrivacyBudget(100.0, delta=1e-3)
    result = dp_mean(
        UPDATES[:0], clip_norm=1.0, noise_multiplier=1.0, expected_cohort=6, budget=budget
    )
    assert result.included == ()
    assert budget.rounds == 1


# --- in a run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    digits = load_digits()
    parts = partition_iid(digits.y, 20, np.random.default_rng(0))
    return partial(run_federated, mlp(hidden=()), digits, parts, learning_rate=0.3)


def test_a_run_out_of_budget_keeps_the_rounds_it_paid_for(run):
    budget = PrivacyBudget(4.0, delta=1e-3, sampling_rate=0.5, sampling="poisson")
    affordable = budget.rounds_left(1.0)
    clip = AdaptiveClip(0.5)
    history = run(
        rounds=50,
        client_fraction=0.5,
        poisson_sampling=True,
        seed=None,
        weigh_by_examples=False,
        aggregate=partial(
            dp_mean, clip_norm=clip, noise_multiplier=1.0, expected_cohort=10, budget=budget
        ),
    )
    assert history.out_of_budget
    assert not history.interrupted
    assert 0 < len(history.rounds) - 1 == affordable < 50
    spent = [done.spent.epsilon for done in history.rounds[1:]]
    curve = budget_curve(1.0, affordable, delta=1e-3, sampling_rate=0.5, sampling="poisson")
    np.testing.assert_allclose(spent, curve[1:], rtol=1e-9)
    assert spent[-1] <= 4.0
    assert tuple(done.clip_norm for done in history.rounds[1:]) == clip.path[:-1]
    assert not any(done.demonstration for done in history.rounds)


def test_a_run_within_its_budget_ends_as_usual_and_seeded_noise_is_marked(run):
    budget = PrivacyBudget(100.0, delta=1e-3)
    aggregate = partial(
        dp_mean,
        clip_norm=1.0,
        noise_multiplier=1.0,
        max_weight=60,
        expected_shares=20,
        budget=budget,
        rng=np.random.default_rng(1),
    )
    history = run(rounds=3, aggregate=aggregate)
    assert not history.out_of_budget
    assert budget.rounds == 3
    assert [done.demonstration for done in history.rounds] == [False, True, True, True]
    assert run(rounds=1).rounds[1].clip_norm is None


def test_clipping_an_update_keeps_its_direction_and_norm():
    clipped = rows_seen(UPDATES, clip_norm=0.5, expected_cohort=6, **NO_NOISE)
    np.testing.assert_allclose(row_norms(clipped), 0.5)
    directions = UPDATES / row_norms(UPDATES)[:, None]
    np.testing.assert_allclose(clipped / 0.5, directions, rtol=1e-12)


# --- what is sent -------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
@pytest.mark.parametrize(
    "weights", [None, [1.0, 3.0, 1 - 2.0**-53, 1e-30]], ids=["alike", "weights"]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_row_that_is_sent_is_longer_than_what_is_charged_for(dtype, weights, adaptive):
    # float16 rows of 650,000 small numbers arrived 1.92 times as long as the noise covered
    rng = np.random.default_rng(0)
    updates = np.stack(
        [
            rng.uniform(0.9, 1.1, 50_000),
            rng.normal(size=50_000) * 1e-7,  # subnormal in float16
            np.full(50_000, 6e4),
            rng.normal(size=50_000),
        ]
    ).astype(dtype)
    clip_norm = 0.3
    settings = {"clip_norm": AdaptiveClip(clip_norm) if adaptive else clip_norm} | NO_NOISE
    if weights is None:
        settings["expected_cohort"] = 4
    else:
        settings |= {"max_weight": 1.0, "expected_shares": 4}
    rows = rows_seen(updates, weights, **settings)[:, :50_000]
    assert rows.dtype == np.promote_types(dtype, np.float32)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert (norms <= clip_norm).all()
    shares = np.ones(4) if weights is None else np.minimum(weights, 1)
    np.testing.assert_allclose(norms[[0, 2, 3]], (clip_norm * shares)[[0, 2, 3]], rtol=3e-7)


def test_a_huge_row_is_clipped_and_not_lost():
    [sent] = rows_seen(np.full((1, 4), 1.7e308), clip_norm=2.0, expected_cohort=1, **NO_NOISE)
    np.testing.assert_allclose(sent, np.ones(4), rtol=1e-12)


LOW_PRECISION = [np.float16(1.1), np.float32(1.1), np.longdouble(1.1), Fraction(11, 10), np.int8(1)]


@pytest.mark.parametrize("number", LOW_PRECISION, ids=lambda number: type(number).__name__)
@pytest.mark.parametrize("name", ["clip_norm", "noise_multiplier", "expected_cohort"])
def test_numbers_of_any_precision_count_as_python_floats(name, number):
    def released(value):
        budget = PrivacyBudget(100.0, delta=1e-3)
        settings = {"clip_norm": 0.7, "noise_multiplier": 1.3, "expected_cohort": 5, name: value}
        rng = np.random.default_rng(0)
        return dp_mean(UPDATES.astype(np.float32), budget=budget, rng=rng, **settings)

    low, plain = released(number), released(float(number))
    assert low.update.tobytes() == plain.update.tobytes()
    assert low.clip_norm == plain.clip_norm
    assert type(low.clip_norm) is float
    assert low.spent == plain.spent
    assert type(low.spent.epsilon) is float


@pytest.mark.parametrize(
    "settings",
    [
        {"start": np.float16(1.1)},
        {"quantile": np.float16(0.3)},
        {"learning_rate": np.float16(0.2)},
        {"bit_noise": np.float16(3.3)},
    ],
    ids=str,
)
def test_an_adaptive_clip_moves_alike_for_numbers_of_any_precision(settings):
    paths = []
    for change in (settings, {name: float(value) for name, value in settings.items()}):
        clip = AdaptiveClip(**{"start": 1.5} | change)
        clip.step(np.float16(0.9))
        paths.append((clip.path, clip.split(1.7, 11)))
    assert paths[0] == paths[1]
    assert all(type(norm) is float for norm in paths[0][0])


@pytest.mark.parametrize("bad", [np.array(1.0), True, np.True_, "1", None, 1j, [1.0]], ids=repr)
@pytest.mark.parametrize("name", ["clip_norm", "noise_multiplier", "expected_cohort"])
def test_what_is_no_number_is_refused_by_name(name, bad):
    settings = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_cohort": 6, name: bad}
    with pytest.raises(InvalidParameterError, match=name):
        dp_mean(UPDATES, **settings)


@pytest.mark.parametrize(
    "rng", [0, np.random.RandomState(0), np.random.SeedSequence(0), "os", True]
)
def test_noise_needs_a_generator_or_none(rng):
    budget = PrivacyBudget(100.0, delta=1e-3)
    with pytest.raises(InvalidParameterError, match=r"write rng=np\.random\.default_rng\(0\)"):
        dp_mean(
            UPDATES, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=6, rng=rng, budget=budget
        )
    assert budget.rounds == 0


# --- rows over a grid ---------------------------------------------------------------------------

COARSE, TINY = FixedPoint(fraction_bits=16, bits=40), FixedPoint(fraction_bits=8, bits=32)


def by_lambda(grid):
    return lambda vectors, dropped: secagg_sum(vectors, dropped, threshold=1, grid=grid)


def by_default_in_the_body(vectors, dropped=None):
    return secagg_sum(vectors, dropped, threshold=1)


GRIDS = {
    "default": (partial(secagg_sum, threshold=1), DEFAULT_GRID),
    "coarse": (partial(partial(secagg_sum, threshold=1), grid=COARSE), COARSE),
    "tiny": (partial(secagg_sum, threshold=1, grid=TINY), TINY),
    "closure": (by_lambda(COARSE), COARSE),
    "global": (by_default_in_the_body, DEFAULT_GRID),
    "paillier": (paillier_sum, PACKED_GRID),
    "paillier on a fine grid": (partial(paillier_sum, grid=DEFAULT_GRID), DEFAULT_GRID),
}


def received(sum_protocol, grid, updates, weights=None, **settings):
    """The rows as the sum counts them: after the protocol rounded them to its grid."""
    rows = []

    def watched(vectors, dropped=None, *, grid=grid):
        rows.append(np.rint(np.asarray(vectors, np.float64) / grid.resolution))
        return plain_sum(vectors, dropped)

    if sum_protocol is not None:  # the same grid, found in the protocol itself
        assert _grid_of(sum_protocol) == grid
    dp_mean(updates, weights, sum_protocol=watched, **settings, **NO_NOISE)
    return rows[0]


def squared_steps(row):
    return sum(int(step) ** 2 for step in row)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
def test_rows_obey_the_norm_as_a_grid_receives_them(name, adaptive):
    sum_protocol, grid = GRIDS[name]
    rng, step = np.random.default_rng(3), grid.resolution
    for updates, clip_norm in (
        (np.full((1, 400), 0.6 * step), 0.6 * step * 20),  # all rounded up: 1.667 times as long
        (rng.normal(size=(3, 20_000)).astype(np.float32), 1.0),
        (rng.uniform(0.9, 1.1, size=(2, 300)), 1 / 3),
        (np.full((1, 3), 1.0), 0.4 * step),  # less than a step is nothing
    ):
        settings = {"clip_norm": AdaptiveClip(clip_norm) if adaptive else clip_norm}
        rows = received(sum_protocol, grid, updates, expected_cohort=3, **settings)
        bound = (Fraction(clip_norm) / Fraction(step)) ** 2
        for row in rows:
            assert squared_steps(row[: updates.shape[1]]) <= bound
            assert not adaptive or abs(row[-1]) * step <= 0.5


def test_a_shortened_row_stays_near_where_the_grid_is_fine():
    updates = np.random.default_rng(5).normal(size=(2, 2000))
    rows = received(None, DEFAULT_GRID, updates, expected_cohort=2, clip_norm=1.0)
    clipped = clip_by_norm(updates, 1.0)
    np.testing.assert_allclose(rows * DEFAULT_GRID.resolution, clipped, atol=2.1 * 2.0**-24)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.just(2), st.integers(1, 40)), elements=st.floats(-9, 9, width=32)
    ),
    st.floats(1e-3, 9),
    st.integers(0, 30),
    st.floats(0, 1),
)
def test_no_row_on_any_grid_is_longer_than_what_is_charged_for(updates, clip_norm, bits, share):
    grid = FixedPoint(fraction_bits=bits, bits=bits + 10)
    bounded = {"clip_norm": clip_norm, "max_weight": 1.0, "expected_shares": 2}
    for row in received(None, grid, updates, [share, 1.0], **bounded):
        assert squared_steps(row) <= (Fraction(clip_norm) / Fraction(grid.resolution)) ** 2


def test_the_sum_over_a_grid_is_the_one_that_is_sent():
    updates = np.full((4, 400), 0.6 * COARSE.resolution)
    clip_norm = 0.6 * COARSE.resolution * 20
    settings = {"clip_norm": clip_norm, "expected_cohort": 4} | NO_NOISE
    over = dp_mean(updates, sum_protocol=partial(secagg_sum, threshold=3, grid=COARSE), **settings)
    assert np.linalg.norm(over.update) <= clip_norm  # 1.667 times as long before


# --- marks, and what is refused before the charge -----------------------------------------------


def test_what_is_spent_is_a_demonstration_if_an_earlier_round_was():
    budget = PrivacyBudget(100.0, delta=1e-3)
    private = partial(
        dp_mean, UPDATES, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=6, budget=budget
    )
    assert not private().demonstration
    assert private(rng=np.random.default_rng(0)).demonstration
    assert private().demonstration  # its epsilon counts the seeded round, too
    assert not private(budget=PrivacyBudget(100.0, delta=1e-3)).demonstration
    distributed = partial(
        distributed_dp_mean,
        UPDATES,
        clip_norm=1.0,
        noise_multiplier=1.0,
        expected_cohort=6,
        threshold=4,
    )
    assert distributed(budget=budget).demonstration
    assert not distributed(budget=PrivacyBudget(100.0, delta=1e-3)).demonstration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sum_protocol": "secagg"}, "sum_protocol must be a function .* got str"),
        ({"sum_protocol": None}, "sum_protocol must be a function .* got NoneType"),
        ({"budget": 5.0}, "budget must be of class PrivacyBudget"),
        ({"budget": 0}, "budget must be of class PrivacyBudget"),
        ({"expected_cohort": 1e-320}, "averages beyond 1e"),
        ({"clip_norm": 1e308}, "averages beyond 1e"),
        ({"clip_norm": AdaptiveClip(1e305)}, "averages beyond 1e"),
        ({"clip_norm": 1e299, "noise_multiplier": 100.0}, "averages beyond 1e"),
    ],
    ids=str,
)
def test_what_cannot_be_summed_is_refused_before_it_is_charged(change, message):
    budget = PrivacyBudget(100.0, delta=1e-3)
    settings = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_cohort": 6, "budget": budget}
    with pytest.raises(InvalidParameterError, match=message):
        dp_mean(UPDATES, **settings | change)
    assert budget.rounds == 0


@pytest.mark.parametrize(
    "number",
    [np.float16(0.5005), np.float32(0.7), np.int8(100), np.uint8(128), np.longdouble("0.6"), 7],
    ids=repr,
)
def test_split_noise_takes_numbers_of_any_precision(number):
    assert split_noise(1.0, number) == split_noise(1.0, float(number))
    assert type(split_noise(1.0, number)) is float
