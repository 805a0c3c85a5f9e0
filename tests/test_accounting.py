"""Epsilons agree with the literature, with dp-accounting and with exact formulas."""

import dataclasses
import enum
import itertools
import math
import re
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Hashable
from decimal import Decimal
from fractions import Fraction

import dp_accounting
import mpmath
import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
    TruncatedSubsampledGaussianDpEvent,
)
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr

from fltutor.errors import InvalidParameterError
from fltutor.privacy import accounting, renyi
from fltutor.privacy.accounting import (
    _SUPPORTED,
    ORDERS,
    PrivacySpent,
    _rdp_of_one_round,
    budget_curve,
    epsilon_after,
    epsilon_of_rounds,
    noise_multiplier_for,
)
from fltutor.privacy.auditing import (
    clopper_pearson,
    epsilon_lower_bound,
    one_run_audit,
    one_run_epsilon,
    one_run_p_value,
    plant_canaries,
    two_world_audit,
)
from fltutor.privacy.budget import PrivacyBudget
from fltutor.privacy.calibration import analytic_noise_multiplier, gaussian_delta
from fltutor.privacy.discrete import (
    delta_of_sampling,
    discrete_gaussian,
    discrete_gaussian_mechanism,
    largest_draw,
    sampling_distance,
)
from fltutor.privacy.losses import measured_delta, most_right, privacy_losses
from fltutor.privacy.mechanisms import gaussian_mechanism

ADD_OR_REMOVE = NeighboringRelation.ADD_OR_REMOVE_ONE
REPLACE = NeighboringRelation.REPLACE_ONE
FIXED_SIZE = {"sampling": "fixed-size", "adjacency": "replace-one"}


def epsilon(rounds, noise_multiplier, sampling_rate=1.0, delta=1e-5, **options):
    options.setdefault("sampling", "none" if sampling_rate == 1 else "poisson")
    return epsilon_after(
        rounds,
        noise_multiplier=noise_multiplier,
        sampling_rate=sampling_rate,
        delta=delta,
        **options,
    ).epsilon


# --- published numbers -------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "noise", "rate", "delta", "accountant", "published", "tolerance"),
    [
        # Abadi et al., "Deep Learning with Differential Privacy", CCS 2016 (arXiv 1607.00133),
        # Section 5.1 and Figure 2: q = 0.01, sigma = 4, delta = 1e-5, "when E = 100, the values
        # are 9.34 and 1.26 respectively, and for E = 400, the values are 24.22 and 2.55", of
        # which the second is the moments accountant; T = E / q.
        pytest.param(10_000, 4.0, 0.01, 1e-5, "moments", 1.26, 0.005, id="Abadi E=100"),
        # Their 2.55 came from numerical integration at integer orders up to 33, where the exact
        # moments give 2.576 (2.574 with our orders): the same within 1 %, not to the last digit.
        pytest.param(40_000, 4.0, 0.01, 1e-5, "moments", 2.55, 0.0255, id="Abadi E=400"),
        # TensorFlow Privacy, tutorials/README.md, "Select Parameters" (the table, and "Expected
        # Output": 2.92). MNIST, batches of 256 of 60,000, delta = 1e-5; mnist_dpsgd_tutorial.py
        # counts 60000 // 256 = 234 steps an epoch and converts as Abadi et al.
        pytest.param(60 * 234, 1.12, 256 / 60_000, 1e-5, "moments", 2.92, 0.005, id="TFP 60"),
        pytest.param(30 * 234, 0.6, 256 / 60_000, 1e-5, "moments", 9.74, 0.015, id="TFP 30"),
        pytest.param(10 * 234, 1.2, 256 / 60_000, 1e-5, "moments", 1.20, 0.005, id="TFP 10"),
        # TensorFlow Privacy, privacy/analysis/compute_dp_sgd_privacy_test.py,
        # test_compute_dp_sgd_privacy, Test0 and Test1: 15 epochs of 60,000 / 150 steps, and 30
        # of 100,000 / 100.
        pytest.param(6_000, 1.3, 0.0025, 1e-5, "rdp", 0.7242234026109595, 1e-9, id="TFP Test0"),
        pytest.param(30_000, 1.0, 0.001, 1e-7, "rdp", 1.4154988495444842, 1e-9, id="TFP Test1"),
        # The same file, test_compute_dp_sgd_example_privacy without microbatching: 1.2 epochs,
        # that is 2 releases without sampling and 120 steps with q = 0.01. Their PLD is on a grid
        # of 1e-4, ours on its own, hence a tolerance of 0.1 %.
        pytest.param(2, 0.7, 1.0, 1e-5, "rdp", 10.8602036, 1e-7, id="TFP unsampled RDP"),
        pytest.param(120, 0.7, 0.01, 1e-5, "rdp", 3.2392676, 1e-7, id="TFP sampled RDP"),
        pytest.param(2, 0.7, 1.0, 1e-5, "pld", 10.1224946, 0.01, id="TFP unsampled PLD"),
        pytest.param(120, 0.7, 0.01, 1e-5, "pld", 2.4612381, 0.0025, id="TFP sampled PLD"),
        # Opacus, opacus/tests/accountants_test.py: test_rdp_accountant (their orders leave out
        # 11, 128, 256, ... and theirs is a different implementation) and test_prv_accountant
        # (Gopi et al. 2021, an upper bound computed with an error of up to 0.01).
        pytest.param(2_250, 1.5, 0.04, 1e-5, "rdp", 7.32911117143, 0.001, id="Opacus RDP"),
        pytest.param(2_250, 1.5, 0.04, 1e-5, "pld", 6.777395712150674, 0.01, id="Opacus PRV"),
        # dp_accounting 0.6, pld/pld_privacy_accountant_test.py, test_gaussian_basic and
        # test_poisson_subsampled_gaussian: "exact_epsilon = 1", to within 1e-3.
        pytest.param(3, 3**0.5, 1.0, 0.126936, "pld", 1, 1e-3, id="dp_accounting unsampled"),
        pytest.param(3, 0.5, 0.2, 0.15594, "pld", 1, 1e-3, id="dp_accounting sampled"),
    ],
)
def test_published_epsilons_are_reproduced(
    rounds, noise, rate, delta, accountant, published, tolerance
):
    got = epsilon(rounds, noise, rate, delta, accountant=accountant)
    assert got == pytest.approx(published, abs=tolerance)


def test_the_tff_tutorial_needs_exactly_120_clients():
    # TensorFlow Federated, "Differential Privacy in TFF", docs/tutorials/
    # federated_learning_with_differential_privacy.ipynb: 3,383 clients, 100 rounds, a noise
    # multiplier of 0.01 per client and round, Poisson sampling, RDP. The search for the smallest
    # cohort that is (2, 1e-5)-DP ends at "120 clients with noise multiplier 1.2".
    def cost(cohort):
        return epsilon(100, 0.01 * cohort, cohort / 3383)

    assert cost(120) <= 2 < cost(119)


@pytest.mark.parametrize(("rounds", "published"), [(2_250, 1.416), (2_000, 1.3562)])
def test_published_noise_multipliers_are_reproduced(rounds, published):
    # Opacus, accountants_test.py, test_get_noise_multiplier_rdp_epochs and ..._steps: epsilon 8
    # at 1e-5 with q = 0.04. Their search stops within 0.01 of epsilon, here 0.001 of noise.
    got = noise_multiplier_for(8, rounds, delta=1e-5, sampling_rate=0.04, sampling="poisson")
    assert got == pytest.approx(published, abs=0.001)


def test_poisson_divergences_are_those_of_dp_accountings_test():
    # dp_accounting 0.6, rdp/rdp_privacy_accountant_test.py, test_compute_rdp_poisson_sampled_
    # gaussian: 50 rounds, noise 2.5, q = 0.01, rtol = 1e-4
    published = {1.5: 6.70579741e-04, 2.5: 1.08548710e-03, 5: 2.18075656e-03, 50: 2.38460375e-02}
    rdp = 50 * renyi.poisson(2.5, 0.01)
    for order, value in published.items():
        assert rdp[np.isclose(ORDERS, order)].item() == pytest.approx(value, rel=1e-4)


# --- dp-accounting called directly -------------------------------------------

SETTINGS = [  # rounds, noise multiplier, sampling rate, delta
    (1, 1.0, 1.0, 1e-5),
    (30, 3.0, 1.0, 1e-3),
    (100, 5.0, 1.0, 1e-5),
    (10, 50.0, 1.0, 1e-6),
    (30, 1.0, 0.2, 1e-3),
    (1000, 0.8, 0.01, 1e-5),
    (100, 20.0, 0.1, 1e-5),
]


def direct(accountant, rounds, noise, rate, delta):
    event = GaussianDpEvent(noise)
    if rate < 1:
        event = PoissonSampledDpEvent(rate, event)
    return accountant.compose(event, rounds).get_epsilon(delta)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_rdp_agrees_with_dp_accounting(setting):
    expected = direct(dp_accounting.rdp.RdpAccountant(), *setting)
    rounds, noise, rate, delta = setting
    assert epsilon(rounds, noise, rate, delta) == pytest.approx(expected, rel=1e-12)
    sampling = "none" if rate == 1 else "poisson"
    curve = budget_curve(noise, rounds, delta=delta, sampling_rate=rate, sampling=sampling)
    assert curve.shape == (rounds + 1,)
    assert curve[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("relation", [ADD_OR_REMOVE, REPLACE], ids=lambda r: r.name)
def test_pld_agrees_with_dp_accounting(setting, relation):
    # dp-accounting's own grid, 1e-4: both are upper bounds, apart by their rounding
    expected = direct(dp_accounting.pld.PLDAccountant(relation), *setting)
    adjacency = relation.name.lower().replace("_", "-")
    got = epsilon(*setting, accountant="pld", adjacency=adjacency)
    assert got == pytest.approx(expected, rel=1e-3)


def test_the_orders_are_those_of_dp_accounting():
    np.testing.assert_array_equal(ORDERS, rdp_privacy_accountant.DEFAULT_RDP_ORDERS)


def test_every_point_of_a_curve_is_the_epsilon_after_as_many_rounds():
    for accountant in ("rdp", "moments"):
        curve = budget_curve(
            0.9, 40, delta=1e-4, sampling_rate=0.1, sampling="poisson", accountant=accountant
        )
        one_by_one = [epsilon(t, 0.9, 0.1, 1e-4, accountant=accountant) for t in range(41)]
        np.testing.assert_allclose(curve, one_by_one, rtol=1e-13)


GRID = list(itertools.product([0.01, 0.3, 0.8, 1.0, 2.0, 4.0, 50.0, 1e6], [1e-3, 0.2, 0.5, 0.999]))


@pytest.mark.parametrize(("noise", "rate"), GRID, ids=str)
def test_poisson_divergences_are_dp_accountings_at_every_order(noise, rate):
    event = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
    expected = dp_accounting.rdp.RdpAccountant(ORDERS).compose(event).rdp
    got = renyi.poisson(noise, rate)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    # a moment near 1 is known to a rounding error of the sum, whatever is left as its logarithm
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("noise", "rate"), GRID, ids=str)
def test_fixed_size_divergences_are_dp_accountings_or_tighter(noise, rate):
    event = SampledWithoutReplacementDpEvent(1000, int(1000 * rate), GaussianDpEvent(noise))
    accountant = dp_accounting.rdp.RdpAccountant(ORDERS, REPLACE).compose(event)
    expected = np.minimum(accountant.rdp, renyi.gaussian(noise))
    got = renyi.fixed_size(noise, int(1000 * rate) / 1000)
    if noise <= 2:  # with more noise, dp-accounting's differences cancel and err upwards
        np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert (got <= expected * (1 + 1e-9) + 1e-14).all()


@pytest.mark.parametrize("noise", [0.8, 2.0, 6.0, 40.0])
def test_central_moments_are_their_alternating_sums_in_many_digits(noise):
    with mpmath.workdps(400):
        for degree in (2, 4, 10, 40, 128):
            exact = mpmath.log(
                sum(
                    (-1) ** (degree - i)
                    * mpmath.binomial(degree, i)
                    * mpmath.exp(mpmath.mpf(i * (i - 1)) / (2 * mpmath.mpf(noise) ** 2))
                    for i in range(degree + 1)
                )
            )
            got = renyi._log_central_moments(noise)[degree // 2]
            assert got == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("rounds", "noise", "rate"), [(30, 2.0, 0.2), (30, 4.0, 0.9), (300, 8.0, 0.01)]
)
def test_fixed_size_by_pld_is_dp_accountings_truncated_sampling(rounds, noise, rate):
    # A coin that always says yes, cut off at a cohort drawn at random: that is a fixed size.
    event = TruncatedSubsampledGaussianDpEvent(1000, 1.0, int(1000 * rate), noise)
    accountant = dp_accounting.pld.PLDAccountant(REPLACE).compose(event, rounds)
    expected = min(
        accountant.get_epsilon(1e-5),
        epsilon(rounds, noise, accountant="pld", adjacency="replace-one"),
    )
    got = epsilon(rounds, noise, rate, accountant="pld", **FIXED_SIZE)
    assert got == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_rounds_with_different_noise_compose_as_in_dp_accounting(rate):
    rounds = {1.0: 3, 2.5: 40}
    events = [SelfComposedDpEvent(GaussianDpEvent(noise), t) for noise, t in rounds.items()]
    if rate < 1:
        events = [
            SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), t)
            for noise, t in rounds.items()
        ]
    options = {
        "delta": 1e-5,
        "sampling_rate": rate,
        "sampling": "none" if rate == 1 else "poisson",
    }
    for name, theirs, tolerance in (
        ("rdp", dp_accounting.rdp.RdpAccountant(), 1e-12),
        ("pld", dp_accounting.pld.PLDAccountant(), 1e-3),
    ):
        expected = theirs.compose(ComposedDpEvent(events)).get_epsilon(1e-5)
        got = epsilon_of_rounds(rounds, accountant=name, **options).epsilon
        assert got == pytest.approx(expected, rel=tolerance)


# --- a small mechanism, taken apart ------------------------------------------


def neighbours(num_clients, cohort):
    """Sums of every cohort, for two data sets that differ in the first client's number."""
    values = (-1.0, 0.0, 0.5, 1.0)  # clipped to 1
    for others in itertools.combinations_with_replacement(values, num_clients - 1):
        for first, other in itertools.permutations(values, 2):
            yield tuple(
                [sum(chosen) for chosen in itertools.combinations((mine, *others), cohort)]
                for mine in (first, other)
            )


def densities(sums, noise, x):
    peaks = (x[:, np.newaxis] - np.array(sums)) / noise
    return np.exp(-(peaks**2) / 2).mean(axis=1) / (noise * math.sqrt(2 * math.pi))


@pytest.mark.parametrize(("num_clients", "cohort"), [(2, 1), (3, 1), (3, 2), (4, 2)])
@pytest.mark.parametrize("noise", [1.0, 2.0, 6.0])
def test_fixed_size_bounds_hold_for_every_small_data_set(num_clients, cohort, noise):
    rate, orders = cohort / num_clients, np.array([1.5, 2, 3, 4.5, 8])
    step = noise / 30
    x = np.arange(-cohort - 18 * noise, cohort + 18 * noise, step)
    divergences, deltas = [], []
    bounds = {
        name: epsilon(1, noise, rate, 1e-3, accountant=name, **FIXED_SIZE)
        for name in ("rdp", "pld")
    }
    for sums, others in neighbours(num_clients, cohort):
        p, q = densities(sums, noise, x), densities(others, noise, x)
        ratio = np.log(p) - np.log(q)
        moments = (q * np.exp(orders[:, np.newaxis] * ratio)).sum(axis=1) * step
        divergences.append(np.log(moments) / (orders - 1))
        deltas.append([np.maximum(p - np.exp(e) * q, 0).sum() * step for e in bounds.values()])
    worst = np.max(divergences, axis=0)
    at = [np.flatnonzero(np.isclose(ORDERS, order)).item() for order in orders]
    assert (worst <= _rdp_of_one_round(noise, rate, "replace-one")[at] * (1 + 1e-9)).all()
    assert np.max(deltas) <= 1e-3
    # the planted mistake: one clipping norm instead of two
    assert (worst > renyi.fixed_size(noise, rate)[at]).any()


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_fixed_size_bounds_hold_for_two_rounds(accountant):
    noise, step = 1.5, 0.1
    got = epsilon(2, noise, 1 / 3, 1e-2, accountant=accountant, **FIXED_SIZE)
    x = np.arange(-15, 15, step)
    for sums, others in neighbours(3, 1):
        p, q = densities(sums, noise, x), densities(others, noise, x)
        both = np.outer(p, p) - math.exp(got) * np.outer(q, q)
        assert np.maximum(both, 0).sum() * step**2 <= 1e-2


# --- exact formulas ----------------------------------------------------------


def exact_delta(mu, epsilon):
    """Delta of a Gaussian of noise 1 / mu at epsilon (Balle and Wang 2018, Theorem 8)."""
    with mpmath.workdps(40):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        return mpmath.ncdf(mu / 2 - epsilon / mu) - mpmath.exp(epsilon) * mpmath.ncdf(
            -mu / 2 - epsilon / mu
        )


@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0, 60.0])
@pytest.mark.parametrize("rounds", [1, 7, 300])
@pytest.mark.parametrize(("adjacency", "step"), [("add-or-remove-one", 1), ("replace-one", 2)])
def test_unsampled_epsilons_are_sound_and_pld_is_exact(rounds, noise, adjacency, step):
    # T rounds with noise z are one round with noise z / sqrt(T)
    mu, delta = step * math.sqrt(rounds) / noise, 1e-5
    for accountant in ("pld", "rdp", "moments"):
        got = epsilon(rounds, noise, accountant=accountant, adjacency=adjacency)
        assert exact_delta(mu, got) <= delta
        if accountant == "pld" and 0 < got < 700:  # beyond, exp(-loss) underflows, harmlessly
            assert exact_delta(mu, got * (1 - 1e-4)) > delta


@pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.2), (2.5, 0.05), (0.7, 0.01)])
@pytest.mark.parametrize("order", [1.5, 2.0, 4.5, 8.0, 32.0])
def test_sampled_rdp_is_the_integral_that_defines_it(noise, rate, order):
    # Mironov, Talwar and Zhang 2019, Section 3: the moment of the likelihood ratio between
    # N(0, z^2) and its mixture with N(1, z^2), here by quadrature. At orders that are not whole
    # dp-accounting gives upper bounds, tight above 3 and infinite where its series diverges.
    def integrand(x):
        ratio = 1 + rate * mpmath.expm1((2 * x - 1) / (2 * noise**2))
        return ratio**order * mpmath.npdf(x, 0, noise)

    points = [-15 * noise, 0, 1, order, order + 5 * noise, order + 15 * noise]
    exact = float(mpmath.log(mpmath.quad(integrand, points)) / (order - 1))
    got = _rdp_of_one_round(noise, rate, "add-or-remove-one")[order == ORDERS].item()
    if order == int(order):
        assert got == pytest.approx(exact, rel=1e-9)
    else:
        assert got >= exact * (1 - 1e-9)
        assert order < 3 or got <= exact * 1.001


# --- algebra -----------------------------------------------------------------

noises = st.floats(0.3, 30)
deltas = st.floats(1e-9, 0.1)
rates = st.sampled_from([1.0, 0.5, 0.2, 0.05, 0.01])


@given(st.integers(1, 500), noises, deltas, st.sampled_from(["rdp", "moments"]))
def test_epsilon_falls_with_noise_and_delta_and_grows_with_rounds(t, z, delta, accountant):
    base = epsilon(t, z, 1.0, delta, accountant=accountant)
    assert epsilon(t, 1.1 * z, 1.0, delta, accountant=accountant) <= base
    assert epsilon(t, z, 1.0, min(2 * delta, 0.9), accountant=accountant) <= base
    assert epsilon(t + 1, z, 1.0, delta, accountant=accountant) >= base
    assert epsilon(t, z, 1.0, delta, accountant=accountant, adjacency="replace-one") >= base


@settings(max_examples=15)
@given(st.integers(1, 200), st.floats(0.5, 5), deltas, rates)
def test_a_more_careful_count_is_never_larger(t, z, delta, rate):
    pld, rdp, moments = (
        epsilon(t, z, rate, delta, accountant=name) for name in ("pld", "rdp", "moments")
    )
    assert pld <= rdp * (1 + 1e-3) <= moments * (1 + 1e-3)


@pytest.mark.parametrize("rounds", [1, 30, 1000])
@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.7])
def test_pld_is_at_most_rdp_on_a_grid(rate, noise, rounds):
    for options in ({}, {"adjacency": "replace-one"}, {"sampling": "poisson"}):
        sampled = rate if "sampling" in options else 1.0
        pld, rdp = (
            epsilon(rounds, noise, sampled, accountant=name, **options) for name in ("pld", "rdp")
        )
        assert pld <= rdp


def test_epsilons_beyond_the_range_of_floats_are_bounded_by_rdp():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (
            {"sampling_rate": 0.7},
            {"sampling_rate": 0.7, "adjacency": "replace-one"},
            {"sampling_rate": 0.5, **FIXED_SIZE},
        ):
            got = epsilon(1000, 0.5, accountant="pld", **options)
            assert 1000 < got <= epsilon(1000, 0.5, adjacency="replace-one") < 1e5


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0, 20.0])
def test_with_a_fixed_size_either_of_pld_and_rdp_may_win(noise):
    for rate, rounds in itertools.product([0.01, 0.1], [100, 1000]):  # few of many, many times
        pld, rdp = (
            epsilon(rounds, noise, rate, accountant=a, **FIXED_SIZE) for a in ("pld", "rdp")
        )
        assert pld <= rdp
    pld, rdp = (epsilon(1, 4.0, 0.5, accountant=a, **FIXED_SIZE) for a in ("pld", "rdp"))
    assert rdp < pld


@settings(max_examples=15)
@given(st.integers(1, 200), st.floats(0.5, 5), deltas, st.floats(0.01, 0.5))
def test_sampling_fewer_costs_less(t, z, delta, rate):
    half, whole, everyone = (epsilon(t, z, q, delta) for q in (rate / 2, rate, 1.0))
    assert half <= whole <= everyone


@settings(max_examples=6)
@given(st.integers(1, 200), st.floats(1, 5), deltas, st.floats(0.01, 0.5))
def test_drawing_a_smaller_cohort_costs_less(t, z, delta, rate):
    for accountant in ("rdp", "moments", "pld"):
        half, whole, everyone = (
            epsilon(t, z, q, delta, accountant=accountant, **FIXED_SIZE)
            for q in (rate / 2, rate, 1.0)
        )
        assert half <= whole * (1 + 1e-3) <= everyone * (1 + 2e-3)


@given(noises, deltas)
def test_a_curve_starts_at_zero_and_never_falls(z, delta):
    curve = budget_curve(z, 50, delta=delta)
    assert curve[0] == 0
    assert (np.diff(curve) >= 0).all()


def test_poisson_sampling_of_everyone_is_no_sampling():
    for accountant in ("rdp", "pld"):
        assert epsilon(9, 2.0, 1.0, sampling="poisson", accountant=accountant) == epsilon(
            9, 2.0, 1.0, sampling="none", accountant=accountant
        )


# --- edges and refusals ------------------------------------------------------


@pytest.mark.parametrize("accountant", ["rdp", "pld", "moments"])
def test_the_ends_of_the_range(accountant):
    assert epsilon(0, 1.0, accountant=accountant) == 0
    assert epsilon(0, 0.0, accountant=accountant) == 0
    assert epsilon(1, 0.0, accountant=accountant) == math.inf
    assert epsilon(5, 1.0, 0.0, sampling="poisson", accountant=accountant) == 0
    # dp_accounting 0.6, rdp/rdp_privacy_accountant_test.py, test_zero_fixed_batch_sample
    assert epsilon(1, 1.0, 0.0, 1e-10, accountant=accountant, **FIXED_SIZE) == 0
    assert 0 <= epsilon(1, 1e6, accountant=accountant) < 0.02
    assert 4e4 < epsilon(10, 0.01, accountant=accountant) < 6e4


def test_no_noise_reads_infinity_on_a_curve():
    assert budget_curve(0.0, 3, delta=1e-5).tolist() == [0, math.inf, math.inf, math.inf]
    assert budget_curve(1.0, 0, delta=1e-5).tolist() == [0]
    nobody = budget_curve(0.0, 2, delta=1e-5, sampling_rate=0.0, sampling="poisson")
    assert nobody.tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [-1, 1.0, 2.5, math.nan, True, "3", None])
def test_rounds_must_be_whole_and_not_negative(bad):
    with pytest.raises(InvalidParameterError, match="rounds must be a whole number"):
        epsilon(bad, 1.0)
    with pytest.raises(InvalidParameterError, match="rounds must be a whole number"):
        budget_curve(1.0, bad, delta=1e-5)


@pytest.mark.parametrize(
    ("name", "bad"),
    [("noise_multiplier", v) for v in (-1.0, math.nan, math.inf, 1e-9, 1e9)]
    + [("delta", v) for v in (0.0, 1.0, -1e-5, 2.0, math.nan)]
    + [("sampling_rate", v) for v in (-0.1, 1.1, math.nan)]
    + [("unit", v) for v in ("user", None)]
    + [(n, v) for n in ("noise_multiplier", "delta", "sampling_rate") for v in ("1", None, True)],
)
def test_arguments_out_of_range_are_named(name, bad):
    arguments = {"noise_multiplier": 1.0, "delta": 1e-5, "sampling": "poisson", name: bad}
    with pytest.raises(InvalidParameterError, match=rf"{name} must .* got '?{bad}"):
        epsilon_after(3, **arguments)


@pytest.mark.parametrize(
    "combination",
    [
        {"accountant": "rdp", "sampling": "poisson", "adjacency": "replace-one"},
        {"accountant": "moments", "sampling": "poisson", "adjacency": "replace-one"},
        {"accountant": "rdp", "sampling": "fixed-size"},
        {"accountant": "pld", "sampling": "fixed-size"},
        {"accountant": "rdp", "sampling": "shuffled"},
        {"accountant": "gdp"},
        {"adjacency": "zero-out"},
    ],
    ids=str,
)
def test_unsupported_combinations_are_refused_with_the_list(combination):
    with pytest.raises(InvalidParameterError, match=r"not supported; what is: rdp, none, add-or"):
        epsilon_after(3, noise_multiplier=1.0, delta=1e-5, **combination)


def test_amplification_only_for_sampling_that_was_done():
    with pytest.raises(InvalidParameterError, match=r"sampling_rate 0.2 needs sampling='poisson'"):
        epsilon_after(3, noise_multiplier=1.0, delta=1e-5, sampling_rate=0.2)


def test_every_supported_combination_answers_and_the_module_lists_it():
    table = sys.modules[epsilon_after.__module__].__doc__
    for (accountant, sampling), adjacencies in _SUPPORTED.items():
        [row] = [
            line
            for line in table.splitlines()
            if re.match(rf"(\w+, )?{accountant}(, \w+)? .*\b{sampling}\b.*-one", line)
        ]
        for adjacency in ("add-or-remove-one", "replace-one"):
            assert (adjacency in row) == (adjacency in adjacencies)
        for adjacency in adjacencies:
            options = {
                "accountant": accountant,
                "sampling": sampling,
                "adjacency": adjacency,
                "sampling_rate": 1.0 if sampling == "none" else 0.1,
            }
            for unit in ("client", "example"):
                spent = epsilon_after(20, noise_multiplier=3.0, delta=1e-5, unit=unit, **options)
                assert 0 < spent.epsilon < 20
                assert f"({unit}, {adjacency}, " in str(spent)
            z = noise_multiplier_for(spent.epsilon, 20, delta=1e-5, **options)
            assert z == pytest.approx(3.0, rel=1e-3)


def test_a_cohort_of_a_fixed_size_is_a_whole_number():
    options = {"noise_multiplier": 2.0, "delta": 1e-3, **FIXED_SIZE}
    epsilon_after(3, sampling_rate=7 / 30, num_clients=30, **options)
    with pytest.raises(InvalidParameterError, match=r"whole cohort .* 0.25 of 30 = 7.5 clients"):
        epsilon_after(3, sampling_rate=0.25, num_clients=30, **options)


def test_a_curve_by_pld_is_refused_with_the_way_out():
    with pytest.raises(InvalidParameterError, match="call epsilon_after"):
        budget_curve(1.0, 3, delta=1e-5, accountant="pld")


def test_a_delta_above_one_in_n_is_warned_about():
    with pytest.warns(UserWarning, match=r"delta = 0.01 is not below 1/100"):
        epsilon_after(3, noise_multiplier=1.0, delta=0.01, num_clients=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        epsilon_after(3, noise_multiplier=1.0, delta=0.001, num_clients=100)


@pytest.mark.parametrize("options", [{}, {"sampling_rate": 0.2, "sampling": "poisson"}], ids=str)
def test_the_noise_found_is_just_enough(options):
    z = noise_multiplier_for(2.0, 30, delta=1e-3, **options)
    assert epsilon(30, z, options.get("sampling_rate", 1.0), 1e-3) <= 2
    assert epsilon(30, z / 1.0002, options.get("sampling_rate", 1.0), 1e-3) > 2


@pytest.mark.parametrize("target", [1e-4, 1e6])
def test_an_unreachable_target_is_answered_with_the_range(target):
    with pytest.raises(InvalidParameterError, match=r"cost from 0.\d+ .* to 655") as error:
        noise_multiplier_for(target, 10, delta=1e-5, accountant="rdp")
    assert f"{epsilon(10, 1000.0):.3g}" in str(error.value)
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(InvalidParameterError, match="target_epsilon must be positive"):
            noise_multiplier_for(bad, 10, delta=1e-5)
    with pytest.raises(InvalidParameterError, match="nothing is released"):
        noise_multiplier_for(1.0, 0, delta=1e-5)


@pytest.mark.parametrize(
    ("spent", "text"),
    [
        (
            PrivacySpent(5.3389, 1e-3, "client", "add-or-remove-one", "poisson", 0.2, "pld"),
            "epsilon = 5.34 at delta = 1e-3 (client, add-or-remove-one, Poisson q = 0.2, PLD)",
        ),
        (
            PrivacySpent(7.25, 1e-5, "client", "replace-one", "fixed-size", 0.2, "rdp"),
            "epsilon = 7.25 at delta = 1e-5 (client, replace-one, fixed size q = 0.2, RDP)",
        ),
        (
            PrivacySpent(math.inf, 2.5e-10, "example", "replace-one", "none", 1.0, "rdp"),
            "epsilon = infinity at delta = 2.5e-10 (example, replace-one, no sampling, RDP)",
        ),
        (
            PrivacySpent(55111.78, 1e-5, "client", "add-or-remove-one", "none", 1.0, "moments"),
            "epsilon = 55112 at delta = 1e-5 "
            "(client, add-or-remove-one, no sampling, moments accountant)",
        ),
    ],
)
def test_an_epsilon_prints_with_all_it_depends_on(spent, text):
    assert str(spent) == text


@pytest.mark.parametrize(
    ("options", "heavy"),
    [
        ("", "('dp_accounting', 'scipy', 'tensorflow')"),
        (", sampling_rate=0.2, sampling='poisson'", "('dp_accounting', 'tensorflow')"),
    ],
)
def test_an_epsilon_by_rdp_does_not_wait_for_heavy_imports(options, heavy):
    code = (
        "import sys; from fltutor.privacy.accounting import budget_curve; "
        f"budget_curve(1.0, 100, delta=1e-5{options}); "
        f"sys.exit(any(name in sys.modules for name in {heavy}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("options", [{"sampling": "poisson"}, FIXED_SIZE], ids=str)
def test_all_curves_of_a_noise_take_the_divergences_of_one_round_once(options, monkeypatch):
    name, computed = options["sampling"].replace("-", "_"), []
    compute = getattr(renyi, name)
    monkeypatch.setattr(renyi, name, lambda *args: computed.append(args) or compute(*args))
    _rdp_of_one_round.cache_clear()
    noises = (0.5123, 1.0123, 3.0123, 8.0123, 50.0123)  # benchmarks/privacy.py times such
    for noise in noises:
        for rounds, delta in ((100, 1e-5), (300, 1e-3)):
            budget_curve(noise, rounds, delta=delta, sampling_rate=0.2, **options)
    assert len(computed) == len(set(computed)) == len(noises)


@pytest.mark.parametrize("noise", [0.5123, 1.0123, 3.0123, 8.0123, 50.0123])
def test_the_series_of_all_orders_are_added_up_together(noise, monkeypatch):
    asked = []
    monkeypatch.setattr("scipy.special.log_ndtr", lambda x: asked.append(x.size) or log_ndtr(x))
    renyi.poisson(noise, 0.2)
    assert 2 <= len(asked) <= 16  # two series, a thousand terms at most, 125 at once


def test_orders_that_do_not_converge_stay_out_of_the_notebook(capfd):
    epsilon(30, 1.0123, 0.2)  # dp-accounting logs a line for each order below 1.8
    assert "converge" not in "".join(capfd.readouterr())


# --- numbers of any type ------------------------------------------------------
# A float16 noise multiplier once gave an epsilon below the truth, and the cache handed it to
# everybody who asked later with a Python float.


def rng():
    return np.random.default_rng(0)


SCORES = np.arange(20.0)
POISSON = {"noise_multiplier": 1.1, "delta": 0.011, "sampling_rate": 0.3, "sampling": "poisson"}
REPLACED = POISSON | FIXED_SIZE
WHOLE_SUM = {"noise_multiplier": 1.1, "sensitivity": 2.3}
JUDGED = {"delta": 0.011, "confidence": 0.93}
CALLS = {
    "epsilon_after": (epsilon_after, {"rounds": 30, "num_clients": 10} | POISSON),
    "epsilon_after, fixed size": (epsilon_after, {"rounds": 30} | REPLACED),
    "epsilon_after, moments": (epsilon_after, {"rounds": 3, "accountant": "moments"} | POISSON),
    "epsilon_after, pld": (epsilon_after, {"rounds": 3, "accountant": "pld"} | POISSON),
    "epsilon_of_rounds": (
        lambda noise_multiplier, rounds, **other: epsilon_of_rounds(
            {noise_multiplier: rounds}, **other
        ),
        {"rounds": 30} | POISSON,
    ),
    "budget_curve": (budget_curve, {"max_rounds": 7} | POISSON),
    "noise_multiplier_for": (
        noise_multiplier_for,
        {"target_epsilon": 2.1, "rounds": 30, "delta": 0.011},
    ),
    "PrivacyBudget": (
        lambda epsilon, noise_multiplier, **other: (
            budget := PrivacyBudget(epsilon, **other),
            budget.charge(noise_multiplier),
            budget.charge(noise_multiplier),
            budget.rounds_left(noise_multiplier),
        )[1:],
        {"epsilon": 9.1} | POISSON,
    ),
    "gaussian_delta": (gaussian_delta, {"epsilon": 0.9, "noise_multiplier": 1.1}),
    "analytic_noise_multiplier": (analytic_noise_multiplier, {"epsilon": 0.9, "delta": 0.011}),
    "privacy_losses": (
        lambda **all: privacy_losses(rng=rng(), **all),
        {"runs": 5, "rounds": 9, "noise_multiplier": 1.1, "sampling_rate": 0.3},
    ),
    "measured_delta": (lambda epsilon: measured_delta(SCORES / 9, epsilon), {"epsilon": 0.9}),
    "most_right": (most_right, {"epsilon": 0.9, "delta": 0.011}),
    "gaussian_mechanism": (
        lambda **all: gaussian_mechanism(SCORES, rng=rng(), **all),
        WHOLE_SUM,
    ),
    "discrete_gaussian_mechanism": (
        lambda **all: discrete_gaussian_mechanism(np.arange(9), rng=rng(), **all),
        WHOLE_SUM,
    ),
    "discrete_gaussian": (
        lambda **all: discrete_gaussian(rng=rng(), **all),
        {"sigma": 3.3, "size": 9},
    ),
    "sampling_distance": (sampling_distance, {"sigma": 3.3}),
    "largest_draw": (largest_draw, {"sigma": 3.3}),
    "delta_of_sampling": (delta_of_sampling, {"epsilon": 0.9, "sigma": 3.3, "num_draws": 9}),
    "renyi.gaussian": (renyi.gaussian, {"noise": 1.1}),
    "renyi.poisson": (renyi.poisson, {"noise": 1.1, "rate": 0.3}),
    "renyi.fixed_size": (renyi.fixed_size, {"noise": 1.1, "rate": 0.3}),
    "clopper_pearson": (clopper_pearson, {"count": 9, "trials": 100, "confidence": 0.93}),
    "epsilon_lower_bound": (
        epsilon_lower_bound,
        {"false_positives": 3, "out_trials": 90, "false_negatives": 9, "in_trials": 100} | JUDGED,
    ),
    "one_run_p_value": (
        one_run_p_value,
        {"correct": 70, "guesses": 90, "canaries": 100, "epsilon": 0.9, "delta": 0.011},
    ),
    "one_run_epsilon": (one_run_epsilon, {"correct": 80, "guesses": 90, "canaries": 100} | JUDGED),
    "two_world_audit": (lambda **all: two_world_audit(SCORES, SCORES + 9, **all), JUDGED),
    "one_run_audit": (
        lambda **all: one_run_audit(SCORES, SCORES > 9, **all),
        {"guesses": 18} | JUDGED,
    ),
    "plant_canaries": (
        lambda **all: plant_canaries(rng=rng(), **all),
        {"num_canaries": 3, "dimension": 9, "norm": 2.3},
    ),
}
COUNTS = {"count", "false_positives", "false_negatives"}  # these may be arrays
ARGUMENTS = [
    (call, name)
    for call, (_, arguments) in CALLS.items()
    for name, value in arguments.items()
    if not isinstance(value, str)
]


def forget():
    for cached in (_rdp_of_one_round, accounting._epsilon_by_pld, accounting._epsilon_of_gaussian):
        cached.cache_clear()


def plain(result):
    """What came out, as something that NumPy can compare, number by number and type by type."""
    if dataclasses.is_dataclass(result):
        result = dataclasses.astuple(result)
    if isinstance(result, tuple):
        return [plain(part) for part in result]
    return result if isinstance(result, np.ndarray) else (type(result), result)


@pytest.mark.filterwarnings("ignore:delta = :UserWarning")
@pytest.mark.parametrize(("call", "name"), ARGUMENTS, ids=str)
def test_a_number_counts_as_the_python_number_that_it_is(call, name):
    function, arguments = CALLS[call]
    value = arguments[name]
    if isinstance(value, int):
        types = [np.int8, np.uint8, np.int16, np.int64]
    else:
        types = [np.float16, np.float32, np.longdouble, Fraction]
    for low in types:
        number = low(value)
        forget()
        got = plain(function(**arguments | {name: number}))
        again = plain(function(**arguments | {name: type(value)(number)}))  # what the cache has
        forget()
        np.testing.assert_equal(got, plain(function(**arguments | {name: type(value)(number)})))
        np.testing.assert_equal(again, got)


@pytest.mark.parametrize(("call", "name"), ARGUMENTS, ids=str)
def test_what_is_no_number_is_refused_by_name(call, name):
    function, arguments = CALLS[call]
    bad = [True, np.True_, "1", None, math.nan, 1j, [1], np.array([1, 2]), Decimal(1), pytest]
    if isinstance(arguments[name], int):
        bad += [2.0, np.float64(2), -1, -(10**30)]
    else:
        bad += [np.array(0.5), np.longdouble("1e4000"), -1.0, 10**400]
    if name in COUNTS:
        bad = [value for value in bad if not isinstance(value, list | np.ndarray)]
    if name == "num_clients" or call == "PrivacyBudget":
        bad.remove(None)
    if name == "epsilon":  # where it may be infinite, this one is
        bad = [value for value in bad if not isinstance(value, np.longdouble)]
    if call == "epsilon_of_rounds":
        bad = [value for value in bad if isinstance(value, Hashable)]
    for value in bad:
        with pytest.raises(InvalidParameterError, match=name):
            function(**arguments | {name: value})


@pytest.mark.parametrize("call", [epsilon_after, epsilon_of_rounds, budget_curve])
@pytest.mark.parametrize("name", ["sampling", "accountant", "adjacency"])
@pytest.mark.parametrize("bad", [None, 3, ["rdp"], np.array(["rdp", "pld"])], ids=repr)
def test_names_of_no_combination_are_refused(call, name, bad):
    first = ({1.0: 3},) if call is epsilon_of_rounds else (3,)
    if call is budget_curve:
        first = (1.0, 3)
    noise = {"noise_multiplier": 1.0} if call is epsilon_after else {}
    with pytest.raises(InvalidParameterError, match="is not supported; what is"):
        call(*first, delta=1e-3, **noise, **{name: bad})


@pytest.mark.parametrize("bad", [None, ["client"], np.array(["client", "example"])], ids=repr)
def test_units_that_there_are_not_are_refused(bad):
    with pytest.raises(InvalidParameterError, match="unit must be one of client, example"):
        epsilon_after(3, noise_multiplier=1.0, delta=1e-3, unit=bad)


@pytest.mark.parametrize("bad", [3, [(1.0, 3)], None])
def test_rounds_of_each_noise_are_a_mapping(bad):
    with pytest.raises(InvalidParameterError, match="rounds must map noise multipliers"):
        epsilon_of_rounds(bad, delta=1e-3)


DRAWS = {
    "privacy_losses": lambda rng: privacy_losses(5, 9, 1.1, 0.3, rng),
    "gaussian_mechanism": lambda rng: gaussian_mechanism(1.0, 1.0, 1.0, rng),
    "discrete_gaussian": lambda rng: discrete_gaussian(3.3, 9, rng),
    "discrete_gaussian_mechanism": lambda rng: discrete_gaussian_mechanism(1, 1.0, 1.0, rng),
    "plant_canaries": lambda rng: plant_canaries(3, 9, norm=1.0, rng=rng),
}
NO_GENERATORS = [0, 7, True, "os", np.random, np.random.RandomState(0), np.random.SeedSequence(0)]


@pytest.mark.parametrize("call", DRAWS)
@pytest.mark.parametrize("bad", [*NO_GENERATORS, np.random.PCG64(0)], ids=lambda bad: str(bad)[:20])
def test_random_numbers_come_from_a_generator(call, bad):
    with pytest.raises(InvalidParameterError, match=r"write rng=np\.random\.default_rng\("):
        DRAWS[call](bad)


ARRAYS = {
    "losses": lambda array: measured_delta(array, 0.5),
    "value": lambda array: gaussian_mechanism(array, 1.0, 1.0),
    "without": lambda array: two_world_audit(array, SCORES, delta=0.0),
    "with_canary": lambda array: two_world_audit(SCORES, array, delta=0.0),
    "scores": lambda array: one_run_audit(array, np.ones(2, bool), guesses=1, delta=0.0),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "bad",
    [
        np.ma.masked_equal([0.5, -1.0], -1.0),
        [np.ma.masked, 1.0],
        np.array([True, False]),
        np.array([1j, 2]),
        np.array(["1", "2"]),
        np.array([None, 1.0]),
        [[1.0], [1.0, 2.0]],
    ],
    ids=lambda bad: f"{type(bad).__name__} {getattr(bad, 'dtype', '')}",
)
def test_what_is_no_array_of_numbers_is_refused_by_name(name, bad):
    with pytest.raises(InvalidParameterError, match=f"{name} (must|is a masked)"):
        ARRAYS[name](bad)


def test_a_long_curve_takes_little_memory():
    # tracemalloc counts every array of NumPy; before, a million rounds took 5 GB
    tracemalloc.start()
    try:
        curve = budget_curve(1.0, 10**6, delta=1e-5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * curve.nbytes + 20e6  # the curve itself has 8 MB
    for rounds in (1, 1023, 1024, 1025, 10**6):
        assert curve[rounds] == epsilon_after(rounds, noise_multiplier=1.0, delta=1e-5).epsilon
    assert (np.diff(curve) >= 0).all()


def test_more_rounds_than_fit_into_memory_are_refused():
    with pytest.raises(InvalidParameterError, match="max_rounds must be a whole number from 0 to"):
        budget_curve(1.0, 10**12, delta=1e-5)


# --- one number, one word -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "second",
    [Fraction(11, 10), np.longdouble("1.1"), np.float64(1.1)],
    ids=lambda z: type(z).__name__,
)
def test_noise_of_two_types_that_is_one_number_is_counted_together(second):
    for rounds in ({1.1: 20, second: 1}, {second: 1, 1.1: 20}, {second: 20, 1.1: 1}):
        total = sum(rounds.values())  # a float64 is the same key already
        together = epsilon_after(total, noise_multiplier=1.1, delta=1e-3)
        assert epsilon_of_rounds(rounds, delta=1e-3) == together


class Word(enum.StrEnum):
    REPLACE = "replace-one"
    POISSON = "poisson"
    PLD = "pld"
    EXAMPLE = "example"


class OnlyShownAlike(enum.Enum):
    REPLACE, POISSON, PLD, EXAMPLE = "replace-one", "poisson", "pld", "example"

    def __str__(self):
        return self.value


class TextOfAnotherName(str, enum.Enum):  # noqa: UP042  # whose str is not the text
    REPLACE, POISSON, PLD, EXAMPLE = "replace-one", "poisson", "pld", "example"


@pytest.mark.parametrize(
    "words", [Word, TextOfAnotherName, np.str_], ids=lambda kind: kind.__name__
)
def test_words_of_any_text_class_mean_what_they_say(words):
    named = {"adjacency": "replace-one", "sampling": "poisson", "accountant": "pld"}
    named |= {"unit": "example", "sampling_rate": 0.2}
    given_as = {
        name: words(value) if isinstance(value, str) else value for name, value in named.items()
    }
    plain = epsilon_after(3, noise_multiplier=2.0, delta=1e-3, **named)
    found = epsilon_after(3, noise_multiplier=2.0, delta=1e-3, **given_as)
    assert found == plain
    assert str(found) == str(plain)
    assert all(type(value) in (str, float) for value in vars(found).values())
    unsampled = {"delta": 1e-3, "adjacency": words("replace-one")}
    assert epsilon_after(9, noise_multiplier=1.0, **unsampled).epsilon == pytest.approx(
        epsilon_after(9, noise_multiplier=0.5, delta=1e-3).epsilon
    )


@pytest.mark.parametrize(
    "option",
    [
        {"adjacency": OnlyShownAlike.REPLACE},
        {"sampling": OnlyShownAlike.POISSON, "sampling_rate": 0.5},
        {"accountant": OnlyShownAlike.PLD},
        {"unit": OnlyShownAlike.EXAMPLE},
    ],
    ids=str,
)
def test_what_only_looks_like_a_word_is_refused(option):
    with pytest.raises(InvalidParameterError, match=r"not supported|unit must be"):
        epsilon_after(9, noise_multiplier=1.0, delta=1e-3, **option)
