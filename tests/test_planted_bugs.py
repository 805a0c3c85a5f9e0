"""Servers with a planted bug: each has the bug it is named for and no other."""

import numpy as np
import pytest

from fltutor.aggregation import dp_mean
from fltutor.attacks import BUGS, plant_bug
from fltutor.errors import InvalidParameterError, InvalidUpdateError

CLAIM = {"clip_norm": 1.0, "noise_multiplier": 3.0, "expected_cohort": 1}


def test_each_mechanism_has_the_bug_it_is_named_for_and_no_other():
    """Noise and clipping, measured on a run of two rounds with and without one loud client."""
    measured = {}
    for bug in BUGS:
        start = plant_bug(bug, **CLAIM, rng=np.random.default_rng(0))
        quiet = np.array([[m(np.zeros((1, 4000))) for _ in range(2)] for m in (start(), start())])
        loud = start()(np.full((1, 4000), 2.0))  # of norm 126, each coordinate far below its noise
        spread = quiet.std()
        rounds_agree, runs_agree = np.array_equal(*quiet[0]), np.array_equal(*quiet[:, 0])
        measured[bug] = (round(spread, 1), loud.mean() > 1, rounds_agree, runs_agree)
    assert measured == {
        "no bug": (3.0, False, False, False),
        "forgets to clip": (3.0, True, False, False),
        "halves the noise": (1.5, False, False, False),
        "reuses the noise": (3.0, False, True, False),
    }


def test_the_one_without_a_bug_is_dp_mean():
    updates = np.random.default_rng(1).normal(size=(4, 6))
    claim = {"clip_norm": 0.5, "noise_multiplier": 2.0, "expected_cohort": 7}
    start = plant_bug("no bug", **claim, rng=np.random.default_rng(2))
    expected = dp_mean(updates, **claim, rng=np.random.default_rng(2)).update
    np.testing.assert_array_equal(start()(updates), expected)


@pytest.mark.parametrize("bug", BUGS)
def test_every_one_scales_with_its_clipping_norm_and_its_divisor(bug):
    """The noise is a multiple of the norm, and what is released is divided by the cohort."""
    for clip_norm, cohort in ((1.0, 1), (4.0, 1), (1.0, 20)):
        claim = {"clip_norm": clip_norm, "noise_multiplier": 3.0, "expected_cohort": cohort}
        start = plant_bug(bug, **claim, rng=np.random.default_rng(0))
        spread = start()(np.zeros((1, 4000))).std() * cohort / clip_norm
        expected = 1.5 if bug == "halves the noise" else 3.0
        assert abs(spread / expected - 1) < 5 / np.sqrt(2 * 4000)


@pytest.mark.parametrize("bug", BUGS)
def test_an_empty_cohort_is_released_as_noise_and_a_broken_row_counts_as_zero(bug):
    def released(updates):
        return plant_bug(bug, **CLAIM, rng=np.random.default_rng(0))()(updates)

    nobody = released(np.empty((0, 5)))
    assert nobody.shape == (5,)
    assert np.isfinite(nobody).all()
    for bad in (np.nan, np.inf):
        np.testing.assert_array_equal(released(np.array([[bad, 0, 0, 0, 0]])), nobody)


@pytest.mark.parametrize("bug", BUGS)
def test_without_a_generator_no_two_starts_share_their_noise(bug):
    start = plant_bug(bug, **CLAIM)
    first, second = (start()(np.zeros((1, 3))) for _ in range(2))
    assert not np.isin(first, second).any()


def test_unknown_bugs_have_no_mechanism():
    assert len(set(BUGS)) == 4
    with pytest.raises(InvalidParameterError, match=r"bug must be one of no bug, .* got 'sleeps'"):
        plant_bug("sleeps", **CLAIM)


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("name", CLAIM)
@pytest.mark.parametrize("number", [0, -1.0, np.nan, np.inf])
def test_claims_out_of_range_are_refused_by_name(bug, name, number):
    with pytest.raises(InvalidParameterError, match=f"{name} must be positive and finite"):
        plant_bug(bug, **CLAIM | {name: number})


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("updates", [np.zeros(3), np.zeros((2, 3), int)], ids=["vector", "whole"])
def test_what_is_no_float_matrix_is_refused(bug, updates):
    with pytest.raises(InvalidUpdateError, match="updates must"):
        plant_bug(bug, **CLAIM)()(updates)
