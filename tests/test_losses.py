"""Played privacy losses against exact deltas, and the limit on right guesses.

Random tests are seeded; their margins are standard errors over five seeds.
"""

import math

import mpmath
import numpy as np
import pytest

from fltutor.errors import InvalidParameterError
from fltutor.privacy.accounting import epsilon_after
from fltutor.privacy.calibration import gaussian_delta
from fltutor.privacy.losses import measured_delta, most_right, privacy_losses

# --- played runs --------------------------------------------------------------------------------


def played(rounds, noise, rate):
    """The losses of five seeds."""
    return [
        privacy_losses(200_000, rounds, noise, rate, np.random.default_rng(seed))
        for seed in range(5)
    ]


def measured(losses, epsilon):
    """Mean of the measured delta over the seeds, and its standard error."""
    deltas = np.array([measured_delta(loss, epsilon) for loss in losses])
    return deltas.mean(), deltas.std(ddof=1) / np.sqrt(len(deltas))


@pytest.mark.parametrize(("rounds", "noise", "rate"), [(30, 1.0, 0.2), (5, 0.8, 0.5), (3, 2.0, 1)])
def test_played_runs_keep_the_epsilon_by_pld_and_nothing_smaller(rounds, noise, rate):
    sampling = "none" if rate == 1 else "poisson"
    terms = {"delta": 1e-2, "sampling_rate": rate, "sampling": sampling}
    epsilon = epsilon_after(rounds, noise_multiplier=noise, accountant="pld", **terms).epsilon
    losses = played(rounds, noise, rate)
    delta, error = measured(losses, epsilon)
    assert abs(delta - 1e-2) < 5 * error + 1e-4  # PLD rounds up on its grid
    delta, error = measured(losses, 0.9 * epsilon)
    assert delta - 5 * error > 1e-2


def test_played_losses_of_a_single_sum_are_those_of_the_exact_delta():
    losses = played(1, 0.7, 1.0)
    for epsilon in (0.0, 0.5, 2.0):
        delta, error = measured(losses, epsilon)
        assert abs(delta - gaussian_delta(epsilon, 0.7)) < 5 * error


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0, 1e4])
@pytest.mark.parametrize("rate", [0, 1e-9, 0.2, 1])
@pytest.mark.filterwarnings("error")
def test_a_loss_is_the_log_of_the_ratio_of_the_two_densities(noise, rate):
    [loss] = privacy_losses(1, 1, noise, rate, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    [drawn], [normal] = rng.random(1) < rate, rng.standard_normal(1)
    with mpmath.workdps(60):
        seen = mpmath.mpf(float(drawn + noise * normal))
        ratio = mpmath.exp((seen - mpmath.mpf("0.5")) / mpmath.mpf(noise) ** 2)
        exact = mpmath.log(1 - mpmath.mpf(rate) + mpmath.mpf(rate) * ratio)
    assert loss == pytest.approx(float(exact), rel=1e-12, abs=1e-15)


def test_no_round_and_no_draw_lose_nothing():
    assert privacy_losses(3, 0, 1.0, 0.5, np.random.default_rng(0)).tolist() == [0, 0, 0]
    assert privacy_losses(3, 9, 1.0, 0, np.random.default_rng(0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 0}, "runs must be a whole number of at least 1, got 0"),
        ({"runs": 1e5}, "runs must be a whole number of at least 1, got 100000.0"),
        ({"rounds": -1}, "rounds must be a whole number of at least 0, got -1"),
        ({"rounds": True}, "rounds must be a whole number of at least 0, got True"),
        ({"noise_multiplier": 0}, "noise_multiplier must be positive and finite, got 0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be positive and finite, got nan"),
        ({"sampling_rate": 1.1}, "sampling_rate must be at least 0 and at most 1, got 1.1"),
        ({"sampling_rate": math.nan}, "sampling_rate must be at least 0 and at most 1, got nan"),
        ({"rng": 1}, "rng must be a NumPy Generator, got 1: write rng=np.random.default_rng"),
    ],
)
def test_a_run_that_cannot_be_played_is_refused(changes, message):
    run = {"runs": 10, "rounds": 3, "noise_multiplier": 1.0, "sampling_rate": 0.5}
    with pytest.raises(InvalidParameterError, match=message):
        privacy_losses(**run | {"rng": np.random.default_rng(0)} | changes)


# --- measured delta -----------------------------------------------------------------------------


def test_measured_delta_is_that_of_two_worlds_whose_losses_are_known():
    # Randomized response: true with probability 3/4. Of four runs three lose log 3, one gains it.
    losses = np.log([3.0, 3.0, 3.0, 1 / 3])
    for epsilon in (0.0, 0.5, math.log(3), 2.0):
        delta = max(0.75 - math.exp(epsilon) * 0.25, 0)
        assert measured_delta(losses, epsilon) == pytest.approx(delta, abs=1e-15)


@pytest.mark.filterwarnings("error")
def test_losses_without_bound_count_in_full_and_hopeless_ones_not_at_all():
    losses = [math.inf, 1e9, -1e9, -math.inf]
    assert measured_delta(losses, 1.0) == 0.5
    assert str(measured_delta(losses[2:], 0.0)) == "0.0"  # and not -0.0


@pytest.mark.parametrize(
    ("losses", "epsilon", "message"),
    [
        ([], 1.0, "losses must be one number or more"),
        ([0.1, math.nan], 1.0, "none of them NaN"),
        ([0.1], -0.1, "epsilon must be at least 0 and finite, got -0.1"),
        ([0.1], math.inf, "epsilon must be at least 0 and finite, got inf"),
        ([0.1], math.nan, "epsilon must be at least 0 and finite, got nan"),
    ],
)
def test_a_delta_of_nothing_is_refused(losses, epsilon, message):
    with pytest.raises(InvalidParameterError, match=message):
        measured_delta(losses, epsilon)


# --- right answers ------------------------------------------------------------------------------


def test_the_limit_on_right_answers_is_reached_by_randomized_response():
    # Answers that are true with probability e / (1 + e) have epsilon 1 and delta 0 exactly.
    assert most_right(1.0, 0.0) == pytest.approx(math.e / (1 + math.e))
    assert most_right(0.0, 0.3) == pytest.approx(0.65)  # and delta alone tells in that share
    assert most_right(1e6, 1e-3) == 1.0
    assert most_right(math.inf, 0.0) == 1.0


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_the_best_guess_between_two_gaussians_is_within_the_limit_of_every_epsilon(noise):
    best = 0.5 * math.erfc(-1 / (2 * noise) / math.sqrt(2))  # two means one sensitivity apart
    limits = [most_right(e, gaussian_delta(e, noise)) for e in np.linspace(0, 5, 51).tolist()]
    assert min(limits) == limits[0] == pytest.approx(best)  # and epsilon 0 says it exactly


@pytest.mark.parametrize(
    ("epsilon", "delta", "message"),
    [
        (-0.1, 0.0, "epsilon must be at least 0, got -0.1"),
        (math.nan, 0.0, "epsilon must be at least 0, got nan"),
        (1.0, -1e-9, "delta must be at least 0 and at most 1, got -1e-09"),
        (1.0, 1.1, "delta must be at least 0 and at most 1, got 1.1"),
        (1.0, math.nan, "delta must be at least 0 and at most 1, got nan"),
    ],
)
def test_a_limit_of_no_promise_is_refused(epsilon, delta, message):
    with pytest.raises(InvalidParameterError, match=message):
        most_right(epsilon, delta)
