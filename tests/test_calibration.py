"""One Gaussian release costs what 40-digit arithmetic says, and never a digit less."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

from fltutor.errors import InvalidParameterError
from fltutor.privacy.accounting import epsilon_after
from fltutor.privacy.calibration import analytic_noise_multiplier, gaussian_delta

EPSILONS = [0.0, 1e-3, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0]
DELTAS = [1e-15, 1e-12, 1e-9, 1e-6, 1e-5, 1e-3, 0.01, 0.1, 0.5]


def exact_delta(epsilon, noise_multiplier):
    """Theorem 8 of Balle and Wang, right to 40 digits although its two terms nearly cancel."""
    with mpmath.workdps(120):
        e, z = mpmath.mpf(epsilon), mpmath.mpf(noise_multiplier)

        def normal(x):
            return mpmath.erfc(-x / mpmath.sqrt(2)) / 2

        return normal(1 / (2 * z) - e * z) - mpmath.exp(e) * normal(-1 / (2 * z) - e * z)


def excess(got, exact):
    """Relative error, upwards positive."""
    return float((mpmath.mpf(got) - exact) / exact)


@pytest.mark.parametrize("epsilon", [*EPSILONS, 1e-9, 1e3])
def test_delta_is_right_and_on_the_safe_side(epsilon):
    compared = 0
    for noise in np.geomspace(1e-3, 1e5, 33):
        exact = exact_delta(epsilon, noise)
        if exact > 1e-290:
            assert 0 <= excess(gaussian_delta(epsilon, noise), exact) <= 2e-10 or exact > 1 - 1e-9
            compared += 1
        assert exact <= gaussian_delta(epsilon, noise) <= 1
    assert compared >= 7


@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
def test_delta_is_right_where_losses_beyond_epsilon_count_in_full_almost_at_once(shift):
    # little noise and a large epsilon, so that the upper end of Theorem 8 is at ``shift``
    for noise in np.geomspace(1e-10, 0.05, 30):
        epsilon = (1 / (2 * noise) - shift) / noise
        exact = exact_delta(epsilon, noise)
        assert 0 <= excess(gaussian_delta(epsilon, noise), exact) <= 2e-10


def test_a_formula_that_cancels_is_caught_by_the_same_comparison():
    def normal(x):  # as in the authors' own example, agm-example.py
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    epsilon, noise = 1.0, analytic_noise_multiplier(1.0, 1e-12)
    upper, lower = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
    naive = normal(upper) - math.exp(epsilon) * normal(lower)
    assert abs(excess(naive, exact_delta(epsilon, noise))) > 1e-6


@pytest.mark.parametrize(("epsilon", "delta"), list(itertools.product(EPSILONS, DELTAS)))
def test_the_noise_is_the_least_that_suffices(epsilon, delta):
    noise = analytic_noise_multiplier(epsilon, delta)
    assert exact_delta(epsilon, noise) <= delta
    assert exact_delta(epsilon, noise * (1 - 1e-9)) > delta
    assert gaussian_delta(epsilon, noise) <= delta


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (2.0, 1e-5), (10.0, 1e-3)])
def test_dp_accounting_agrees(epsilon, delta):
    noise = analytic_noise_multiplier(epsilon, delta)
    theirs = GaussianPrivacyLoss(noise).get_delta_for_epsilon(epsilon)
    assert theirs == pytest.approx(delta, rel=1e-8)
    # and so does the accountant that follows the whole distribution, on its grid
    spent = epsilon_after(1, noise_multiplier=noise, delta=delta, accountant="pld")
    assert spent.epsilon == pytest.approx(epsilon, rel=2e-3)


@pytest.mark.parametrize("delta", DELTAS[:-1])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0])
def test_the_classical_formula_never_needs_less_where_it_holds(epsilon, delta):
    assert (
        analytic_noise_multiplier(epsilon, delta) < math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    )


def test_the_classical_formula_promises_too_much_for_a_large_epsilon():
    epsilon, delta = 20.0, 1e-3
    classical = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    assert analytic_noise_multiplier(epsilon, delta) > classical
    assert exact_delta(epsilon, classical) > delta


def test_more_noise_never_costs_more():
    deltas = [gaussian_delta(1.0, noise) for noise in np.geomspace(0.01, 100, 400)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(deltas))


@pytest.mark.parametrize(
    ("epsilon", "noise"),
    [(1e6, 1.0), (700.0, 0.01), (1e300, 1e300), (1.0, 1e-300), (0.0, 1e300), (1e-300, 5e-324)],
)
def test_extremes_neither_overflow_nor_promise_zero(epsilon, noise):
    assert 1e-298 <= gaussian_delta(epsilon, noise) <= 1


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.0, 1e-297), (0.0, 1 - 1e-12), (1e300, 0.5), (1e-300, 0.1), (1e6, 1e-290)],
)
def test_extreme_targets_are_met(epsilon, delta):
    noise = analytic_noise_multiplier(epsilon, delta)
    assert 0 < noise < math.inf
    assert gaussian_delta(epsilon, noise) <= delta


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_epsilons_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match="epsilon must be"):
        gaussian_delta(bad, 1.0)
    with pytest.raises(InvalidParameterError, match="epsilon must be"):
        analytic_noise_multiplier(bad, 1e-5)


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf])
def test_noise_out_of_range_is_refused(bad):
    with pytest.raises(InvalidParameterError, match="noise_multiplier must be"):
        gaussian_delta(1.0, bad)


@pytest.mark.parametrize("bad", [0, 1, 1e-300, -0.1, math.nan])
def test_deltas_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match="delta must be"):
        analytic_noise_multiplier(1.0, bad)
