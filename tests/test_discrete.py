"""Discrete Gaussian draws follow the exact law, as near as is said; what is off is caught.

Tables are compared with 40-digit and longer arithmetic, so those tests cannot fail by
chance. Tests on draws of the operating system fail by chance once in 1e8 runs each, and all of
them together below 1e-6.
"""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fltutor.errors import InvalidParameterError
from fltutor.privacy import discrete
from fltutor.privacy.discrete import (
    LARGEST_SIGMA,
    delta_of_sampling,
    discrete_gaussian,
    discrete_gaussian_mechanism,
    exact_discrete_gaussian,
    largest_draw,
    sampling_distance,
)

NUM_SAMPLES = 400_000
FALSE_ALARM = 1e-8  # of one check on one sample
UNIT = 2**256
SIGMAS = [1e-3, 0.3, 1.0, 2.5, 50.0, 880.0]


def exact_units(variance, largest):
    """Probabilities of 0, ..., largest in units of 2^-256, with 120 digits."""
    with mpmath.workdps(120):
        variance = mpmath.mpf(variance.numerator) / variance.denominator
        step = mpmath.exp(-1 / (2 * variance))
        reach = max(largest, int(mpmath.sqrt(variance) * 25) + 2)
        weights = [step ** (x * x) for x in range(reach + 1)]
        total = 2 * mpmath.fsum(weights) - 1
        return [weight / total * UNIT for weight in weights]


def masses(table):
    """What a table gives each integer, in units of 2^-256, summed over its columns."""
    full = 2 ** (256 - table.column_bits)
    found = dict.fromkeys(range(-table.largest, table.largest + 1), 0)
    for column in range(2**table.column_bits):
        rest = int.from_bytes(table.rest[24 * column : 24 * column + 24], "little")
        split = (int(table.split[column]) << 192) | rest
        assert 0 <= split <= full
        if split:
            found[column - table.largest] += split
        if split < full:
            found[int(table.other[column]) - table.largest] += full - split
    return found


# --- the table is the law -----------------------------------------------------------------------


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_table_is_as_near_to_the_exact_law_as_it_says(sigma):
    variance = Fraction(sigma) ** 2
    table = discrete._table(variance)
    found, exact = masses(table), exact_units(variance, table.largest)
    assert sum(found.values()) == UNIT
    assert all(found[x] == found[-x] for x in range(table.largest + 1))
    with mpmath.workdps(120):
        off = [abs(found.get(x, 0) - units) for x, units in enumerate(exact)]
        assert all(error < 2 for error in off[1:])
        distance = (off[0] + 2 * mpmath.fsum(off[1:])) / 2 / UNIT
        assert distance <= table.distance < 2**-230


def test_a_wrong_scale_of_a_millionth_of_a_millionth_would_show():
    # the planted fault moves every probability by far more than the stated distance
    table, wrong = (discrete._table(Fraction(50) ** 2 * (1 + Fraction(k, 10**12))) for k in (0, 1))
    off = sum(
        abs(a - b) for a, b in zip(masses(table).values(), masses(wrong).values(), strict=True)
    )
    assert off / 2 / UNIT > 1e10 * table.distance


def test_fine_plus_coarse_is_as_near_to_one_discrete_gaussian_as_it_says():
    variance = Fraction(900) ** 2
    (one, fine), (stride, coarse) = discrete._parts(variance)
    assert (one, stride) == (1, 128)
    fine_masses = np.array(list(masses(fine).values()), object)
    total = np.zeros(2 * (fine.largest + stride * coarse.largest) + 1, object)
    for place, mass in enumerate(masses(coarse).values()):
        total[stride * place : stride * place + len(fine_masses)] += mass * fine_masses
    assert total.sum() == UNIT**2
    exact, _ = discrete._probabilities(variance)
    assert len(exact) <= len(total) // 2
    wanted = np.zeros_like(total)
    middle = len(total) // 2
    for x, units in enumerate(exact):
        wanted[middle + x] = wanted[middle - x] = units * UNIT
    distance = abs(total - wanted).sum() / 2 / UNIT**2
    single = 4.0 * len(exact) / UNIT + 1e4 / UNIT  # of the direct table that it is compared with
    assert distance <= sampling_distance(900.0) + single < 2**-230


@pytest.mark.parametrize("sigma", [*SIGMAS, 881.0, 1e5, 2.0**24, 1e9, LARGEST_SIGMA])
def test_the_stated_distance_is_far_below_2_to_the_minus_60(sigma):
    assert 0 < sampling_distance(sigma) < 2**-230


@pytest.mark.parametrize("sigma", [880.01, 1000.0, 112_640.0, 112_641.0, 1e8, LARGEST_SIGMA])
def test_parts_have_the_variance_of_the_whole(sigma):
    parts = discrete._parts(Fraction(sigma) ** 2)
    assert [stride for stride, _ in parts] == [128**level for level in range(len(parts))]
    variance = Fraction(sigma) ** 2
    for _ in parts[1:]:
        coarse = (variance - discrete._FINE) / discrete._STRIDE**2
        # the scale s of the docstring, on which the distance rests
        assert discrete._FINE * coarse / variance > Fraction(34, 10) ** 2
        variance = coarse
    assert discrete._table(variance) is parts[-1][1]


def test_a_float_is_the_rational_number_that_it_is():
    for sigma in (0.1, np.float32(0.1), np.float64(0.1), Fraction(1, 10)):
        expected = discrete._table(Fraction(float(sigma)) ** 2)
        if isinstance(sigma, Fraction):
            assert discrete._parts(sigma**2)[0][1] is not expected
        else:
            assert discrete._parts(discrete._exact(sigma, "sigma", 1.0) ** 2) == [(1, expected)]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.5, 10.0])
def test_the_standard_deviation_is_never_above_sigma_and_soon_equal(sigma):
    units, _ = discrete._probabilities(Fraction(sigma) ** 2)
    deviation = math.sqrt(2 * sum(x * x * mass for x, mass in enumerate(units)) / UNIT)
    assert deviation <= sigma * (1 + 1e-15)
    assert sigma < 1 or deviation >= sigma * (1 - 2e-7)


def test_tables_that_are_kept_are_few():
    assert discrete._table.cache_info().maxsize == 16


# --- a word becomes a draw ----------------------------------------------------------------------


def asked(answer):
    """More bits that give ``answer``, and the list of how many were asked for."""
    counts = []

    def more_bits(count):
        counts.append(count)
        return answer

    return more_bits, counts


def some_split_columns(table):
    split = [c for c in range(len(table.split)) if table.other[c] != c and table.split[c] > 0]
    return split[:: max(1, len(split) // 7)]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 50.0, 880.0])
def test_words_beside_a_split_decide_alone_and_a_tie_is_broken_by_further_bits(sigma):
    table = discrete._table(Fraction(sigma) ** 2)
    for column in some_split_columns(table):
        split, other = int(table.split[column]), int(table.other[column])
        rest = int.from_bytes(table.rest[24 * column : 24 * column + 24], "little")
        cases = [(split - 1, 0, column, 0), (split + 1, 0, other, 0), (split, rest, other, 1)]
        if rest:
            cases += [(split, 0, column, 1), (split, rest - 1, column, 1)]
        for first, answer, expected, num_ties in cases:
            word = np.array([(first << table.column_bits) | column], np.uint64)
            more_bits, counts = asked(answer)
            [draw] = discrete._look_up_with(table, word, more_bits)
            assert draw == expected - table.largest
            assert counts == [192] * num_ties


@pytest.mark.parametrize("sigma", [1e-3, 1.0, 50.0])
def test_the_ends_of_every_column_are_draws(sigma):
    table = discrete._table(Fraction(sigma) ** 2)
    columns = np.arange(2**table.column_bits, dtype=np.uint64)
    highest = np.uint64(2 ** (64 - table.column_bits) - 1) << np.uint64(table.column_bits)
    lowest_draws = discrete._look_up_with(table, columns, lambda count: 0)
    highest_draws = discrete._look_up_with(table, columns | highest, lambda count: 2**count - 1)
    assert np.abs(lowest_draws).max() == largest_draw(sigma)
    assert np.abs(highest_draws).max() <= largest_draw(sigma)
    own = np.array([mass > 0 for mass in map(int, table.split)])
    np.testing.assert_array_equal(lowest_draws[own], columns[own].astype(int) - table.largest)


def test_probabilities_of_draws_are_counted_out():
    # all words of a table that has only the first 16 bits: every split to 1 in 2^16
    table = discrete._table(Fraction(1))
    words = np.arange(2**16, dtype=np.uint64)
    columns, fractions = words & np.uint64(63), words >> np.uint64(6)
    spread = (fractions << np.uint64(64 - 10)) | columns
    draws = discrete._look_up_with(table, spread, lambda count: 0)
    exact = exact_units(Fraction(1), table.largest)
    for x in range(-table.largest, table.largest + 1):
        share = np.count_nonzero(draws == x) / 2**16
        assert abs(share - float(exact[abs(x)] / UNIT)) <= 2 * 64 / 2**16


# --- draws ----------------------------------------------------------------------------------------


def law(sigma):
    """The integers within 12 sigma, at most 200,001 evenly spread ones, and their probabilities.

    Beyond sigma = 8000 the spread ones stand for those between them, which is off by less
    than a thousandth of a standard error of anything here.
    """
    reach = math.ceil(12 * sigma) + 1
    spread = math.ceil(reach / 100_000)
    x = np.arange(-(reach // spread), reach // spread + 1) * float(spread)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return x + (spread - 1) / 2, weights / weights.sum()


def cells(sigma, num_cells=40):
    """Bounds of cells of integers with about equal probability, and their probabilities."""
    x, weights = law(sigma)
    cumulative = np.cumsum(weights)
    last = np.unique(np.searchsorted(cumulative, np.arange(1, num_cells) / num_cells))
    last = last[cumulative[last] < 1 - 0.5 / num_cells]
    probabilities = np.diff(np.concatenate([[0], cumulative[last], [1]]))
    return x[last], probabilities


def complaints(sample, sigma):
    """Name the checks that reject N_Z(0, sigma^2), each by chance about once in 1e8.

    The normal and chi-squared approximations hold that far out: every cell expects
    thousands, and a sum of 400,000 bounded-moment terms is normal at 5.7 standard errors
    but for a factor below 1.2 on the probability.
    """
    n, bound = sample.size, stats.norm.isf(FALSE_ALARM / 2)
    x, weights = law(sigma)
    variance, fourth = weights @ x**2, weights @ x**4
    values = sample.astype(np.float64)
    z_scores = {
        "mean": values.mean() * math.sqrt(n / variance),
        "variance": (np.mean(values**2) - variance) * math.sqrt(n / (fourth - variance**2)),
        "neighbours": np.mean(values[1:] * values[:-1]) * math.sqrt(n - 1) / variance,
        "halves": np.mean(values[: n // 2] * values[n // 2 :]) * math.sqrt(n // 2) / variance,
    }
    found = [name for name, z in z_scores.items() if abs(z) > bound]
    last, probabilities = cells(sigma)
    counts = np.bincount(np.searchsorted(last, sample), minlength=len(probabilities))
    assert n * probabilities.min() > 1000
    if stats.chisquare(counts, n * probabilities).pvalue < FALSE_ALARM:
        found.append("chi-squared")
    even = 2 * np.count_nonzero(sample % 2 == 0) - n  # at sigma > 2 both parities are equal
    if sigma > 2 and abs(even) > bound * math.sqrt(n):
        found.append("parity")
    return found


@pytest.mark.parametrize("sigma", [0.6, 3.0, 300.0, 5000.0, 3e6])
def test_draws_follow_the_discrete_gaussian(sigma):
    assert complaints(discrete_gaussian(sigma, NUM_SAMPLES), sigma) == []


@pytest.mark.parametrize("sigma", [3.0, 5000.0])
def test_seeded_draws_follow_it_too(sigma):
    sample = discrete_gaussian(sigma, NUM_SAMPLES, rng=np.random.default_rng(6))
    assert complaints(sample, sigma) == []


@pytest.mark.parametrize("scale", [0.98, 1.02])
@pytest.mark.parametrize("sigma", [3.0, 5000.0])
def test_a_planted_wrong_scale_is_caught(sigma, scale):
    # 2 % of scale is 18 standard errors of the variance
    found = complaints(discrete_gaussian(sigma * scale, NUM_SAMPLES), sigma)
    assert {"variance", "chi-squared"} <= set(found)


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (lambda x: x + 1, "mean"),
        (lambda x: np.abs(x), "chi-squared"),
        (lambda x: x // 2 * 2 + (x > 0), "chi-squared"),
        (lambda x: np.round(x / 2).astype(int) * 2, "parity"),
        (lambda x: np.repeat(x[::2], 2), "neighbours"),
        (lambda x: np.tile(x[: x.size // 2], 2), "halves"),
    ],
    ids=["shifted", "folded", "pushed apart", "even", "each draw twice", "a block repeated"],
)
def test_other_planted_faults_are_caught(plant, named):
    assert named in complaints(plant(discrete_gaussian(20.0, NUM_SAMPLES)), 20.0)


def test_the_tails_are_as_heavy_as_they_should_be():
    # a Poisson count of 253 expected draws beyond 4 sigma; outside with probability below 1e-8
    sample = discrete_gaussian(100.0, 10 * NUM_SAMPLES)
    expected = sample.size * 2 * stats.norm.sf(4.005)  # 401 and more, by the trapezoidal rule
    low, high = stats.poisson(expected).interval(1 - FALSE_ALARM)
    assert low <= np.count_nonzero(np.abs(sample) > 400) <= high


@pytest.mark.parametrize("sigma", [1.0, 2000.0])
@pytest.mark.parametrize("size", [0, 1, 2**14 - 1, 2**14, 2**14 + 1, 40_001])
def test_any_number_of_draws_is_given(size, sigma):
    sample = discrete_gaussian(sigma, size)
    assert sample.shape == (size,)
    assert sample.dtype == np.int64
    assert np.abs(sample).max(initial=0) <= largest_draw(sigma)


def test_two_calls_differ_and_a_seed_repeats():
    # two calls agree with probability below (1 / 125)^20
    assert not np.array_equal(discrete_gaussian(50.0, 20), discrete_gaussian(50.0, 20))
    first, second = (discrete_gaussian(50.0, 20, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)


def test_parts_of_a_draw_are_independent():
    # the last digits in base 128 tell nothing of the rest
    sample = discrete_gaussian(10_000.0, NUM_SAMPLES)
    low, high = sample % 128 - 63.5, sample // 128
    z = np.mean(low * high) / (low.std() * high.std()) * math.sqrt(sample.size)
    assert abs(z) < stats.norm.isf(FALSE_ALARM / 2)


# --- the textbook sampler -------------------------------------------------------------------------


def seeded(seed):
    rng = np.random.default_rng(seed)
    return lambda bound: int(rng.integers(bound))


@pytest.mark.parametrize("variance", [Fraction(1, 3), Fraction(9, 4), 2500], ids=str)
def test_the_exact_sampler_follows_the_law(variance):
    sample = exact_discrete_gaussian(variance, 20_000, seeded(2))
    sigma = math.sqrt(variance)
    last, probabilities = cells(sigma, num_cells=10)
    counts = np.bincount(np.searchsorted(last, sample), minlength=len(probabilities))
    assert stats.chisquare(counts, sample.size * probabilities).pvalue > 1e-3  # seeded
    wrong = exact_discrete_gaussian(Fraction(variance) * Fraction(5, 4), 20_000, seeded(3))
    counts = np.bincount(np.searchsorted(last, wrong), minlength=len(probabilities))
    assert stats.chisquare(counts, sample.size * probabilities).pvalue < 1e-9


def test_both_samplers_agree():
    # Kolmogorov-Smirnov is conservative on integers: a false alarm is rarer than 1e-8
    exact = exact_discrete_gaussian(Fraction(169, 4), 10_000)
    fast = discrete_gaussian(6.5, NUM_SAMPLES)
    assert stats.ks_2samp(exact, fast, method="asymp").pvalue > FALSE_ALARM


@pytest.mark.parametrize("exponent", [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(5, 2)])
def test_coins_of_irrational_bias(exponent):
    randbelow, n = seeded(4), 20_000
    heads = sum(discrete._bernoulli_exp(exponent, randbelow) for _ in range(n))
    bias = math.exp(-exponent)
    assert abs(heads - n * bias) <= 4 * math.sqrt(n * bias * (1 - bias))


def test_the_laplace_proposal_does_not_count_zero_twice():
    randbelow, n, scale = seeded(5), 20_000, 2
    sample = np.array([discrete._laplace(scale, randbelow) for _ in range(n)])
    zero = math.tanh(1 / (2 * scale))
    assert abs(np.mean(sample == 0) - zero) <= 4 * math.sqrt(zero * (1 - zero) / n)
    assert abs(sample.mean()) <= 4 * sample.std() / math.sqrt(n)


# --- what the distance adds to delta --------------------------------------------------------------


def test_the_distance_of_all_draws_is_added_to_delta():
    for epsilon, sigma, num_draws in [(0.0, 1.0, 1), (3.0, 50.0, 10**9), (40.0, 1e6, 2**40)]:
        exact = (1 + mpmath.exp(epsilon)) * num_draws * mpmath.mpf(sampling_distance(sigma))
        assert delta_of_sampling(epsilon, sigma, num_draws) == pytest.approx(float(exact), rel=1e-9)
    assert delta_of_sampling(1.0, 1.0, 0) == 0
    assert delta_of_sampling(1000.0, 1.0, 10) == 1
    assert delta_of_sampling(math.inf, 1.0, 10) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((-1, 1.0, 1), "epsilon"), ((math.nan, 1.0, 1), "epsilon"), ((1, 1.0, -1), "num_draws")],
)
def test_senseless_totals_are_refused(arguments, named):
    with pytest.raises(InvalidParameterError, match=f"{named} must"):
        delta_of_sampling(*arguments)


# --- the mechanism --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_seeded", [False, True], ids=["system", "seeded"])
def test_the_mechanism_adds_noise_of_the_stated_scale(is_seeded):
    rng = np.random.default_rng(3) if is_seeded else None
    noisy = discrete_gaussian_mechanism(np.full(NUM_SAMPLES, 7), 2.0, 1.5, rng)
    assert noisy.standard_deviation == 3.0
    assert noisy.demonstration is is_seeded
    assert complaints(noisy.value - 7, 3.0) == []


@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.int64, np.uint16, np.uint64]),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
        elements=st.integers(0, 100),
    )
)
def test_shape_and_the_argument_are_kept(value):
    before = value.copy()
    noisy = discrete_gaussian_mechanism(value, 1, 1.0).value
    assert noisy.shape == value.shape
    assert noisy.dtype == np.int64
    np.testing.assert_array_equal(value, before)


def test_the_renyi_divergence_is_that_of_the_gaussian():
    # sum over x of p(x)^a p(x - k)^(1 - a), which epsilon_after takes to be the Gaussian's,
    # exp(a (a - 1) k^2 / (2 sigma^2)); sigma is small, where the two differ most
    sigma, x = 0.7, np.arange(-60, 61)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    log_p = -(x**2) / (2 * sigma**2) - math.log(weights.sum())
    for order in (1.1, 2, 8, 32):
        for shift in (1, 2):
            log_q = -((x - shift) ** 2) / (2 * sigma**2) - math.log(weights.sum())
            terms = order * log_p + (1 - order) * log_q
            divergence = np.logaddexp.reduce(terms) / (order - 1)
            assert divergence <= order * shift**2 / (2 * sigma**2) * (1 + 1e-12)


def test_no_noise_must_be_asked_for_by_name():
    with pytest.raises(InvalidParameterError, match="allow_no_noise=True"):
        discrete_gaussian_mechanism([1, 2], 1.0, 0)
    silent = discrete_gaussian_mechanism([1, 2], 1.0, 0, allow_no_noise=True)
    assert silent.standard_deviation == 0
    np.testing.assert_array_equal(silent.value, [1, 2])


@pytest.mark.parametrize(
    "value", [2**63 - 5, -(2**63) + 5, np.uint64(2**64 - 1)], ids=["high", "low", "unsigned"]
)
def test_overflow_is_refused(value):
    with pytest.raises(InvalidParameterError, match="could leave int64"):
        discrete_gaussian_mechanism(np.array([0, value], np.asarray(value).dtype), 1.0, 1.0)


def test_a_value_that_has_just_enough_room_is_taken():
    room = largest_draw(1.0)
    value = np.array([2**63 - 1 - room, -(2**63) + room])
    noisy = discrete_gaussian_mechanism(value, 1.0, 1.0).value
    assert np.abs(noisy - value).max() <= room


@pytest.mark.parametrize("bad", [[1.0], [True], ["1"], [None], [1j]], ids=str)
def test_values_that_are_no_integers_are_refused(bad):
    with pytest.raises(
        InvalidParameterError, match=r"value must (hold integers|be one array of numbers)"
    ):
        discrete_gaussian_mechanism(bad, 1.0, 1.0)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, True, "1", None, 1j], ids=str)
def test_scales_out_of_range_are_refused(bad):
    for call in (discrete_gaussian, exact_discrete_gaussian):
        with pytest.raises(InvalidParameterError, match=r"sigma\w* must be"):
            call(bad, 1)
    for call in (sampling_distance, largest_draw):
        with pytest.raises(InvalidParameterError, match="sigma must be"):
            call(bad)
    with pytest.raises(InvalidParameterError, match="sensitivity must be"):
        discrete_gaussian_mechanism([1], bad, 1.0)
    if bad != 0 or isinstance(bad, bool):
        with pytest.raises(InvalidParameterError, match="noise_multiplier must be"):
            discrete_gaussian_mechanism([1], 1.0, bad)


def test_a_scale_beyond_the_tables_is_told_what_to_do():
    with pytest.raises(InvalidParameterError, match=r"at most 1.09951e\+12, .* coarser grid"):
        discrete_gaussian(2.0**41, 1)
    with pytest.raises(InvalidParameterError, match=r"noise_multiplier \* sensitivity"):
        discrete_gaussian_mechanism([1], 1e200, 1e200)


@pytest.mark.parametrize("sigma", [5e-324, 1e-200, 1e-6])
def test_a_tiny_scale_gives_zeros(sigma):
    assert not discrete_gaussian(sigma, 100).any()
    assert sampling_distance(sigma) < 2**-230


@pytest.mark.parametrize("bad", [-1, 1.5, True, "3", None], ids=str)
def test_sizes_that_are_none_are_refused(bad):
    for call in (discrete_gaussian, exact_discrete_gaussian):
        with pytest.raises(InvalidParameterError, match="size must be a whole number"):
            call(1.0, bad)


@pytest.mark.parametrize("bad", [1, "seed", np.random.RandomState(1)], ids=["int", "str", "old"])
def test_a_seed_is_not_a_generator(bad):
    for call in (
        lambda: discrete_gaussian(1.0, 3, rng=bad),
        lambda: discrete_gaussian_mechanism([1], 1.0, 1.0, rng=bad),
    ):
        with pytest.raises(InvalidParameterError, match="rng must be"):
            call()
