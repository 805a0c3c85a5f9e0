"""The Gaussian mechanism adds the noise it says, from the source it says.

The noise of the operating system cannot be seeded, so each statistical check
fails by chance once in about 1e8 runs, and all of them together below 3e-7.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fltutor.errors import InvalidParameterError
from fltutor.privacy.mechanisms import _normal_with, gaussian_mechanism, system_normal

NUM_SAMPLES = 1_000_000
FALSE_ALARM = 1e-8  # of one check on one sample


def complaints(sample: np.ndarray) -> list[str]:
    """Name the checks that reject N(0, 1), each by chance about once in 1e8.

    A million samples make the moments normal enough: the worst, the fourth, has
    skewness 10.1 / sqrt(n), which raises its false-alarm rate to 1.3e-8.
    """
    n = sample.size
    bound = stats.norm.isf(FALSE_ALARM / 2)  # 5.7 standard errors
    pairs = sample[: n // 2 * 2].reshape(2, -1)
    z_scores = {
        "mean": sample.mean() * math.sqrt(n),
        "variance": (np.mean(sample**2) - 1) * math.sqrt(n / 2),
        "third moment": np.mean(sample**3) * math.sqrt(n / 15),
        "fourth moment": (np.mean(sample**4) - 3) * math.sqrt(n / 96),
        "neighbours": np.mean(sample[1:] * sample[:-1]) * math.sqrt(n - 1),
        "halves": np.mean(pairs[0] * pairs[1]) * math.sqrt(n // 2),
    }
    found = [name for name, z in z_scores.items() if abs(z) > bound]
    if stats.kstest(sample, "norm", method="asymp").pvalue < FALSE_ALARM:
        found.append("Kolmogorov-Smirnov")
    return found


@pytest.mark.parametrize("seeded", [False, True], ids=["system", "seeded"])
def test_noise_is_normal_with_the_stated_scale(seeded):
    rng = np.random.default_rng(3) if seeded else None
    noisy = gaussian_mechanism(np.full(NUM_SAMPLES, 7.0), 0.5, 3.0, rng)
    assert noisy.standard_deviation == 1.5
    assert complaints((noisy.value - 7.0) / 1.5) == []


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_a_planted_wrong_scale_is_caught(scale):
    # 2% of scale is 28 standard errors of the variance and a KS distance of 4.8 / sqrt(n)
    found = complaints(system_normal(NUM_SAMPLES) * scale)
    assert {"variance", "fourth moment", "Kolmogorov-Smirnov"} <= set(found)


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (lambda x: x + 0.02, "mean"),
        (lambda x: x + 0.01 * x**2 - 0.01, "third moment"),
        (lambda x: np.repeat(x[::2], 2), "neighbours"),
        (lambda x: np.tile(x[: x.size // 2], 2), "halves"),
        (lambda x: x.astype(np.float16).round(1), "Kolmogorov-Smirnov"),
    ],
    ids=["shifted", "skewed", "each sample twice", "a block repeated", "rounded"],
)
def test_other_planted_faults_are_caught(plant, named):
    assert named in complaints(plant(system_normal(NUM_SAMPLES)).astype(np.float64))


def test_the_tails_are_as_heavy_as_they_should_be():
    # n * P(|x| > 4) = 253; the probability of a Poisson count outside is below 2e-9
    sample = system_normal(4 * NUM_SAMPLES)
    expected = sample.size * 2 * stats.norm.sf(4)
    low, high = stats.poisson(expected).interval(1 - FALSE_ALARM)
    assert low <= np.count_nonzero(np.abs(sample) > 4) <= high


def test_words_become_the_point_that_box_and_muller_describe():
    words = np.random.default_rng(5).integers(0, 2**64, (2, 1000), dtype=np.uint64)
    got = np.empty((2, 1000))
    _normal_with(words.copy(), out=got)
    for (x, y), (first, second) in zip(got.T, words.T.tolist(), strict=True):
        radius = math.sqrt(-2 * math.log((first + 0.5) / 2**64))
        angle = 2 * math.pi * (second / 2**64)
        # x and y cross zero, so the error is measured against the radius
        assert abs(x - radius * math.cos(angle)) <= 1e-14 * radius
        assert abs(y - radius * math.sin(angle)) <= 1e-14 * radius


def test_extreme_words_give_finite_numbers():
    ends = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    words = np.array(np.meshgrid(ends, ends)).reshape(2, -1)
    got = np.empty(words.shape)
    _normal_with(words, out=got)
    assert np.isfinite(got).all()
    assert 9.4 < np.abs(got).max() < 9.5


@pytest.mark.parametrize("size", [0, 1, 2, 3, 16383, 16384, 16385, 40001])
def test_any_number_of_samples_is_filled(size):
    sample = system_normal(size)
    assert sample.shape == (size,)
    assert np.isfinite(sample).all()
    assert np.unique(sample).size == size  # a repeat among 40,001: below 1e-7


def test_two_calls_differ_and_a_seed_repeats():
    zeros = np.zeros(8)
    assert not np.array_equal(
        gaussian_mechanism(zeros, 1, 1).value, gaussian_mechanism(zeros, 1, 1).value
    )
    first, second = (
        gaussian_mechanism(zeros, 1, 1, rng=np.random.default_rng(1)) for _ in range(2)
    )
    assert np.array_equal(first.value, second.value)


def test_only_a_generator_marks_a_demonstration():
    assert gaussian_mechanism(0.0, 1, 1).demonstration is False
    assert gaussian_mechanism(0.0, 1, 1, rng=np.random.default_rng()).demonstration is True


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
        elements=st.floats(-8, 8, width=16),
    )
)
def test_dtype_shape_and_the_argument_are_kept(value):
    before = value.copy()
    noisy = gaussian_mechanism(value, 1.0, 1.0).value
    assert noisy.dtype == value.dtype
    assert noisy.shape == value.shape
    np.testing.assert_array_equal(value, before)


def test_integers_become_float64():
    assert gaussian_mechanism([1, 2], 1, 1).value.dtype == np.float64
    assert gaussian_mechanism(100, 1, 1).value.shape == ()


def test_no_noise_must_be_asked_for_by_name():
    with pytest.raises(InvalidParameterError, match="allow_no_noise=True"):
        gaussian_mechanism(np.ones(3), 1.0, 0)
    silent = gaussian_mechanism(np.ones(3), 1.0, 0, allow_no_noise=True)
    assert silent.standard_deviation == 0
    np.testing.assert_array_equal(silent.value, np.ones(3))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, -math.inf])
def test_noise_multipliers_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match=f"noise_multiplier .* got {bad}"):
        gaussian_mechanism(np.ones(3), 1.0, bad, allow_no_noise=True)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_sensitivities_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match=f"sensitivity .* got {bad}"):
        gaussian_mechanism(np.ones(3), bad, 1.0)


@pytest.mark.parametrize("factors", [(1e200, 1e200), (1e-200, 1e-200)])
def test_a_deviation_that_is_no_float_is_refused(factors):
    with pytest.raises(InvalidParameterError, match="noise_multiplier \\* sensitivity"):
        gaussian_mechanism(np.zeros(3), *factors)


@pytest.mark.parametrize("bad", [[1.0, math.nan], [math.inf], [1j], ["1"], [None]], ids=str)
def test_values_that_are_no_finite_numbers_are_refused(bad):
    with pytest.raises(InvalidParameterError, match="value must"):
        gaussian_mechanism(bad, 1.0, 1.0)


def test_noise_that_rounding_would_swallow_is_refused():
    with pytest.raises(InvalidParameterError, match=r"lost in float32 .* 1024 apart"):
        gaussian_mechanism(np.full(3, 1e10, np.float32), 1.0, 1.0)
    assert gaussian_mechanism(np.full(3, 1e10), 1.0, 1.0).value.dtype == np.float64


def test_noise_beyond_the_type_is_refused():
    with pytest.raises(InvalidParameterError, match="leaves the range of float16"):
        gaussian_mechanism(np.zeros(100, np.float16), 1e6, 1.0)


@pytest.mark.parametrize("bad", [1, "seed", np.random.RandomState(1)], ids=["int", "str", "old"])
def test_a_seed_is_not_a_generator(bad):
    with pytest.raises(InvalidParameterError, match="rng must be"):
        gaussian_mechanism(np.zeros(3), 1.0, 1.0, rng=bad)
