"""Noise from every client: the bound holds against brute force, and the noise is never too little.

Draws are seeded where a test could fail by chance; what is drawn from the operating system
is either compared exactly or fails less than once in 1e8 runs.
"""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fltutor.aggregation import distributed_dp_mean, noisy_row
from fltutor.aggregation.distributed import _within
from fltutor.errors import (
    BudgetExceededError,
    InvalidParameterError,
    InvalidUpdateError,
    TooFewClients,
)
from fltutor.fixed_point import FixedPoint
from fltutor.knowledge import who_knows_what
from fltutor.privacy.accounting import ORDERS, epsilon_after
from fltutor.privacy.budget import PrivacyBudget
from fltutor.privacy.distributed import (
    LEAST_SHARE,
    NoiseShares,
    distributed_epsilon_after,
    divergence_of_sums,
    guaranteed_shares,
    rdp_of_noise_shares,
)
from fltutor.protocols.masking import Session
from fltutor.transcript import Phase

COARSE = FixedPoint(fraction_bits=8, bits=26, ring_bits=32)
UPDATES = np.random.default_rng(7).normal(size=(6, 40)).astype(np.float32)

mean = partial(
    distributed_dp_mean, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=6, threshold=4
)
silent = partial(mean, noise_multiplier=0, allow_no_noise=True)


# --- the bound on sums, by brute force ------------------------------------------------------------


def log_pmf_of_sum(sigma, num_shares):
    """Log-probabilities of a sum of discrete Gaussians, by convolution in 80-bit floats."""
    reach = int(60 * sigma) + 30
    x = np.arange(-reach, reach + 1, dtype=np.longdouble)
    one = np.exp(-(x**2) / (2 * np.longdouble(sigma) ** 2))
    one /= one.sum()
    total = one
    for _ in range(num_shares - 1):
        total = np.convolve(total, one)
    middle, width = len(total) // 2, int(14 * sigma * math.sqrt(num_shares)) + 12
    width = min(width, middle)
    return np.log(total[middle - width : middle + width + 1])


SUMS = [(0.5, 2), (0.5, 5), (0.6, 3), (0.6, 10), (0.8, 2), (0.8, 10), (1.0, 2), (1.0, 5)]
#: All fractional orders, and integers as long as the sum stays within the convolution
TRIED = np.flatnonzero(ORDERS <= 6)


@pytest.mark.parametrize(("sigma", "num_shares"), SUMS)
def test_the_factor_of_a_sum_varies_by_less_than_half_of_tau(sigma, num_shares):
    log_p = log_pmf_of_sum(sigma, num_shares)
    x = np.arange(len(log_p)) - len(log_p) // 2
    factor = log_p + x**2 / (2 * num_shares * sigma**2)
    factor = factor[np.abs(x) <= 10 * sigma * math.sqrt(num_shares)]
    assert np.ptp(factor) <= divergence_of_sums(sigma, num_shares) / 2


@pytest.mark.parametrize(("sigma", "num_shares"), SUMS)
@pytest.mark.parametrize("shift", [(1,), (2,), (3,), (1, 1), (2, 1, 0)], ids=str)
def test_the_renyi_divergence_of_a_sum_is_within_the_bound(sigma, num_shares, shift):
    log_p = log_pmf_of_sum(sigma, num_shares)
    divergence = np.zeros(len(TRIED))
    for step in shift:  # coordinates are independent, and their divergences add up
        p, q = log_p[step:], log_p[: len(log_p) - step]
        for place, order in enumerate(ORDERS[TRIED]):
            moment = np.logaddexp.reduce(order * p + (1 - order) * q)
            divergence[place] += float(moment / (order - 1))
    sensitivity = math.hypot(*shift)
    bound = rdp_of_noise_shares(sensitivity, sigma, num_shares, len(shift))[TRIED]
    assert (divergence <= bound * (1 + 1e-9)).all()


def test_without_tau_the_bound_would_be_wrong():
    # one Gaussian in place of the sum promises 6 % too little divergence here
    log_p = log_pmf_of_sum(0.5, 5)
    order = 2.0
    p, q = log_p[1:], log_p[:-1]
    divergence = float(np.logaddexp.reduce(order * p + (1 - order) * q) / (order - 1))
    assert divergence > 1.06 * order / 2 / (5 * 0.5**2)


@pytest.mark.parametrize("sigma", [0.5, 0.55, 0.7, 1.0, 1.5])
def test_tau_covers_the_derivation_in_its_docstring(sigma):
    for num_shares in (2, 3, 10, 100):
        total = 0.0
        for k in range(1, num_shares):
            q = math.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1))
            e = 2 * sum(q ** (m * m) for m in range(1, 8))
            total += 2 * math.atanh(e)
        assert 2 * total <= divergence_of_sums(sigma, num_shares)


def test_tau_by_hand_and_for_one_share():
    q = math.exp(-(math.pi**2) * 0.64), math.exp(-(math.pi**2) * 0.64 * 4 / 3)
    assert divergence_of_sums(0.8, 3) == pytest.approx(10 * sum(q), rel=1e-12)
    assert divergence_of_sums(0.8, 1) == 0


def test_one_share_costs_what_one_discrete_gaussian_costs():
    np.testing.assert_allclose(rdp_of_noise_shares(3.0, 0.2, 1, 100), ORDERS / 2 * 15.0**2)


def test_the_better_of_two_bounds_counts():
    sigma, n, d = 0.8, 10, 50
    tau = divergence_of_sums(sigma, n)
    rdp = rdp_of_noise_shares(4.0, sigma, n, d)
    loss = 4.0 / (math.sqrt(n) * sigma)
    added, inflated = ORDERS / 2 * loss**2 + tau * d, ORDERS / 2 * (loss + tau * math.sqrt(d)) ** 2
    assert (added < inflated).any()
    assert (inflated < added).any()
    np.testing.assert_allclose(rdp, np.minimum(added, inflated))


# --- the sensitivity on the grid ------------------------------------------------------------------


def steps_of(row, grid):
    """The row in whole steps of the grid, which it must consist of."""
    steps = row / grid.resolution
    assert np.array_equal(steps, np.rint(steps))
    return [int(step) for step in steps]


def plan(num_coordinates, **options):
    options = {"clip_norm": 1.0, "noise_multiplier": 0.0, "num_shares": 1, "grid": COARSE} | options
    return NoiseShares(num_coordinates=num_coordinates, allow_no_noise=True, **options)


@given(
    st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.integers(1, 30),
            elements=st.floats(-100, 100, width=8 * np.dtype(dtype).itemsize),
        )
    ),
    st.sampled_from([0.004, 0.1, 1.0, 7.3]),
)
def test_a_rounded_row_is_never_longer_than_the_sensitivity(update, clip_norm):
    shares = plan(len(update), clip_norm=clip_norm)
    steps = steps_of(noisy_row(update, shares), COARSE)
    assert sum(step**2 for step in steps) <= shares.sensitivity**2


def test_rounding_can_lengthen_a_row_by_almost_what_is_allowed_for():
    # every coordinate just above half a step: the row grows from sqrt(d) / 2 to sqrt(d) steps
    half = (0.5 + 1e-9) * COARSE.resolution
    shares = plan(400, clip_norm=20 * half)
    steps = steps_of(noisy_row(np.full(400, half), shares), COARSE)
    assert steps == [1] * 400
    assert 20 == math.sqrt(400) <= shares.sensitivity < 20.0001


def test_whatever_clipping_did_the_norm_is_held_in_integers():
    for sensitivity in (5.0, 7.07, 100.3):
        for steps in ([3, 4], [5, 5], [1] * 26, [60, 80, 3], [-1000, 5], [10**6, -(10**6)]):
            held = _within(np.array(steps, float), sensitivity)
            assert sum(int(step) ** 2 for step in held) <= sensitivity**2
            assert (np.abs(held) <= np.abs(steps)).all()
            if math.hypot(*steps) <= sensitivity:
                assert held.tolist() == steps


def test_a_client_whose_clipping_fails_still_keeps_to_the_sensitivity(monkeypatch):
    monkeypatch.setattr("fltutor.aggregation.distributed.clip_by_norm", lambda rows, norm: rows)
    steps = steps_of(noisy_row(np.array([3.0, 4.0]), plan(2)), COARSE)
    assert sum(step**2 for step in steps) <= plan(2).sensitivity ** 2
    assert steps[1] > steps[0] > 100


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_with_nan_counts_as_zero_and_still_brings_its_noise(bad):
    update = np.array([1.0, bad, 0.0])
    assert not noisy_row(update, plan(3)).any()
    shares = plan(3, noise_multiplier=50.0)
    with_noise = noisy_row(update, shares, np.random.default_rng(1))
    only_noise = noisy_row(np.zeros(3), shares, np.random.default_rng(1))
    assert np.array_equal(with_noise, only_noise)
    assert with_noise.any()


def test_rows_are_whole_steps_within_the_ends_of_the_grid():
    shares = plan(500, noise_multiplier=30.0, num_shares=3)
    row = noisy_row(np.full(500, 9.0), shares)
    assert np.abs(steps_of(row, COARSE)).max() <= 1 / COARSE.resolution + 1 + shares.largest_noise
    assert np.abs(row).max() <= COARSE.largest


# --- the average ----------------------------------------------------------------------------------


def test_without_noise_it_is_the_clipped_mean_on_the_grid():
    norms = np.linalg.norm(UPDATES.astype(float), axis=1, keepdims=True)
    expected = (UPDATES / np.maximum(norms, 1)).sum(axis=0) / 6
    result = silent(UPDATES, grid=COARSE)
    # each of six rows is off by half a step, and the sum is divided by six
    np.testing.assert_allclose(result.update, expected, rtol=0, atol=COARSE.resolution / 2 + 1e-7)
    assert (result.included, result.clip_norm) == (tuple(range(6)), 1.0)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("active_server", [False, True], ids=["honest", "active"])
def test_those_whose_upload_arrived_are_averaged_in_every_phase(phase, active_server):
    threshold = 5 if active_server else 4
    result = silent(UPDATES, threshold=threshold, active_server=active_server, dropped={2: phase})
    stays = phase > Phase.UPLOAD
    assert result.included == ((0, 1, 2, 3, 4, 5) if stays else (0, 1, 3, 4, 5))
    shares = plan(40, grid=FixedPoint())
    rows = np.array([noisy_row(UPDATES[client], shares) for client in result.included])
    np.testing.assert_array_equal(result.update, rows.sum(axis=0) / 6)


@pytest.mark.parametrize("phase", Phase)
def test_with_fewer_than_the_threshold_nothing_is_released(phase):
    with pytest.raises(TooFewClients) as caught:
        mean(UPDATES, dropped={0: phase, 3: phase, 5: phase})
    assert caught.value.threshold == 4


@pytest.mark.parametrize(
    ("survivors", "num_colluding", "factor"),
    [(12, 0, 12 / 8), (8, 0, 1.0), (12, 2, 12 / 6), (8, 2, 8 / 6)],
    ids=["all stay", "as few as allowed", "all stay, two collude", "few stay, two collude"],
)
def test_the_noise_has_the_planned_variance_with_the_fewest_and_more_with_more(
    survivors, num_colluding, factor
):
    # seeded; 20,000 coordinates estimate a variance to sqrt(2 / 20,000) = 1 %
    rows, z, clip_norm = np.zeros((12, 20_000)), 1.5, 0.7
    result = distributed_dp_mean(
        rows,
        clip_norm=clip_norm,
        noise_multiplier=z,
        expected_cohort=10,
        threshold=8,
        num_colluding=num_colluding,
        dropped={client: Phase.UPLOAD for client in range(survivors, 12)},
        rng=np.random.default_rng(3),
    )
    planned = (z * clip_norm / 10) ** 2
    assert np.mean(result.update**2) / planned == pytest.approx(factor, abs=4 * 0.01 * factor)
    assert abs(result.update.mean()) <= 4 * math.sqrt(planned * factor / 20_000)
    # without those who collude, and tell their noise, the planned one is still there
    assert (survivors - num_colluding) / (8 - num_colluding) >= 1


def test_noise_divided_among_all_who_came_would_be_too_little():
    # the classic fault, planted: sigma for 12 shares, and 8 arrive
    shares = plan(20_000, noise_multiplier=1.5, num_shares=12, grid=FixedPoint())
    rng = np.random.default_rng(4)
    noise = sum(noisy_row(np.zeros(20_000), shares, rng) for _ in range(8))
    assert np.mean(noise**2) / 1.5**2 < 0.7


def test_every_client_draws_noise_of_its_own():
    shares = plan(2000, noise_multiplier=10.0, num_shares=4)
    rows = np.array([noisy_row(np.zeros(2000), shares) for _ in range(4)])
    correlations = np.corrcoef(rows)[np.triu_indices(4, 1)] * math.sqrt(2000)
    assert np.abs(correlations).max() < stats.norm.isf(1e-9)  # six of them: once in 8e7


def test_noise_of_the_operating_system_differs_and_is_no_demonstration():
    first, second = mean(UPDATES), mean(UPDATES)
    assert not np.array_equal(first.update, second.update)
    assert not first.demonstration
    seeded = [mean(UPDATES, rng=np.random.default_rng(1)) for _ in range(2)]
    assert np.array_equal(seeded[0].update, seeded[1].update)
    assert seeded[0].demonstration


def test_the_server_learns_the_noisy_sum_and_no_row():
    result = mean(UPDATES, dropped={1: Phase.UPLOAD})
    knowledge = who_knows_what(result.transcript, ["server"])
    assert knowledge.facts[-1] == "sum"
    assert knowledge.matrix.tolist() == [[False] * 6 + [True]]


def test_updates_are_left_as_they_were():
    before = UPDATES.copy()
    mean(UPDATES)
    np.testing.assert_array_equal(UPDATES, before)


# --- epsilon --------------------------------------------------------------------------------------

RUN = {"clip_norm": 1.0, "noise_multiplier": 3.0, "num_coordinates": 650, "threshold": 8}


def test_on_a_fine_grid_it_costs_what_central_noise_costs():
    # rounding adds sqrt(650) / 2 steps of 2^-24 to the norm: a part in a million
    spent = distributed_epsilon_after(30, delta=1e-3, **RUN)
    central = epsilon_after(30, noise_multiplier=3.0, delta=1e-3)
    assert central.epsilon < spent.epsilon < central.epsilon * (1 + 2e-6)
    assert dataclasses.replace(central, adjacency="zero-out", epsilon=spent.epsilon) == spent


def test_a_coarse_grid_costs_more():
    grids = [FixedPoint(fraction_bits=f, bits=26, ring_bits=32) for f in (16, 8, 6, 4, 2)]
    costs = [distributed_epsilon_after(30, delta=1e-3, grid=g, **RUN).epsilon for g in grids]
    assert costs == sorted(costs)
    assert costs[-1] > 5 * costs[0]


def test_epsilon_from_first_principles():
    grid, rounds, delta = FixedPoint(fraction_bits=1, bits=20), 7, 1e-4
    run = RUN | {"num_coordinates": 16, "grid": grid, "num_colluding": 3}
    sigma, sensitivity, d = 3.0 * 2 / math.sqrt(5), 1.0 * 2 + 2.0, 16
    tau = 10 * sum(math.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1)) for k in range(1, 5))
    loss = sensitivity / (3.0 * 2)

    def expected(apart):
        best = math.inf
        for a in ORDERS:
            rdp = min(a / 2 * (apart * loss) ** 2 + tau * d, a / 2 * (apart * loss + tau * 4) ** 2)
            best = min(
                best,
                rounds * rdp + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1),
            )
        return best

    got = distributed_epsilon_after(rounds, delta=delta, **run)
    assert got.epsilon == pytest.approx(expected(1), rel=1e-9)
    replaced = distributed_epsilon_after(rounds, delta=delta, adjacency="replace-one", **run)
    assert replaced.epsilon == pytest.approx(expected(2), rel=1e-9)
    assert replaced.adjacency == "replace-one"


def test_colluding_clients_are_paid_for_with_noise_not_with_epsilon():
    costs = [
        distributed_epsilon_after(30, delta=1e-3, num_colluding=c, **RUN).epsilon for c in (0, 4, 7)
    ]
    assert costs == pytest.approx([costs[0]] * 3, rel=1e-12)
    scales = [plan(650, noise_multiplier=3.0, num_shares=8 - c).scale for c in (0, 4, 7)]
    assert scales == sorted(scales)


def test_the_sampler_is_counted_into_delta():
    # at epsilon 100 the factor exp(epsilon) brings 2^-240 a draw into sight
    run = RUN | {"noise_multiplier": 0.02}
    spent = distributed_epsilon_after(1, delta=1e-60, **run)
    assert spent.epsilon > 100
    assert spent.delta > 2e-60
    assert distributed_epsilon_after(30, delta=1e-3, **RUN).delta == 1e-3  # adds 1e-60 and less


def test_the_effective_noise_multiplier_costs_no_less():
    for grid, d, num_shares in [(FixedPoint(), 650, 8), (COARSE, 650, 8), (COARSE, 9, 1)]:
        shares = plan(d, noise_multiplier=3.0, num_shares=num_shares, grid=grid)
        noise = shares.effective_noise_multiplier
        assert 2.0 < noise < 3.0
        rdp = rdp_of_noise_shares(shares.sensitivity, shares.scale, num_shares, d)
        assert (rdp <= ORDERS / 2 / noise**2 * (1 + 1e-12)).all()
    assert plan(9).effective_noise_multiplier == 0


def test_a_budget_is_charged_before_the_round_and_for_no_less_than_it_costs():
    budget = PrivacyBudget(4.0, delta=1e-3)
    result = mean(UPDATES, budget=budget)
    run = {"clip_norm": 1.0, "noise_multiplier": 1.0, "num_coordinates": 40, "threshold": 4}
    cost = distributed_epsilon_after(1, delta=1e-3, **run)
    assert cost.epsilon <= result.spent.epsilon <= cost.epsilon * (1 + 1e-5)
    assert dataclasses.replace(result.spent, epsilon=cost.epsilon) == cost
    with pytest.raises(BudgetExceededError):
        mean(UPDATES, budget=budget)
    assert budget.rounds == 1


def test_a_budget_pays_for_a_round_that_fails_but_not_for_one_that_is_refused():
    budget = PrivacyBudget(100.0, delta=1e-3)
    with pytest.raises(TooFewClients):
        mean(UPDATES, budget=budget, dropped=dict.fromkeys(range(3), Phase.UNMASKING))
    assert budget.rounds == 1
    for bad in ({"threshold": 3}, {"dropped": {9: Phase.UPLOAD}}, {"rng": 1}, {"clip_norm": 0}):
        with pytest.raises(InvalidParameterError):
            mean(UPDATES, budget=budget, **bad)
    assert budget.rounds == 1


def test_budgets_that_count_what_is_not_known_are_refused():
    sampled = {"sampling": "poisson", "sampling_rate": 0.1}
    for options in ({"accountant": "pld"}, sampled):
        budget = PrivacyBudget(100.0, delta=1e-3, **options)
        with pytest.raises(InvalidParameterError, match="budget must count with accountant 'rdp'"):
            mean(UPDATES, budget=budget)
        assert budget.rounds == 0


def test_no_rounds_cost_nothing_and_no_noise_costs_infinity():
    assert distributed_epsilon_after(0, delta=1e-3, **RUN).epsilon == 0
    free = distributed_epsilon_after(1, delta=1e-3, **(RUN | {"noise_multiplier": 0}))
    assert (free.epsilon, free.delta) == (math.inf, 1e-3)


def test_a_delta_that_gives_one_client_away_is_warned_about():
    with pytest.warns(UserWarning, match="not below 1/100"):
        distributed_epsilon_after(1, delta=0.02, num_clients=100, **RUN)


# --- refusals -------------------------------------------------------------------------------------


def test_weights_are_refused():
    with pytest.raises(InvalidParameterError, match="takes no weights"):
        mean(UPDATES, [1] * 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"clip_norm": math.nan}, "clip_norm must be positive"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be at least 0"),
        ({"noise_multiplier": 0}, "allow_no_noise=True"),
        ({"expected_cohort": 0}, "expected_cohort must be positive"),
        ({"expected_cohort": math.inf}, "expected_cohort must be positive"),
        ({"threshold": 3}, "threshold must be above half of 6 clients"),
        ({"threshold": 7}, "threshold must be above half of 6 clients, 4 to 6"),
        ({"threshold": 4, "active_server": True}, "above two thirds"),
        ({"threshold": 4.5}, "threshold must be a whole number"),
        ({"threshold": None}, "threshold must be a whole number"),
        ({"num_colluding": 4}, "num_colluding must be below the threshold of 4"),
        ({"num_colluding": -1}, "num_colluding must be a whole number of at least 0"),
        ({"num_colluding": True}, "num_colluding must be a whole number"),
        ({"rng": 1}, r"rng must be a NumPy Generator, got 1: write rng=np.random.default_rng\(1\)"),
        ({"dropped": {9: Phase.UPLOAD}}, "dropped names client 9"),
        (
            {"grid": FixedPoint(fraction_bits=0, bits=20), "noise_multiplier": 0.9},
            "0.45 steps of the grid.* finer grid",
        ),
        ({"grid": FixedPoint(fraction_bits=24, bits=26)}, "do not fit the grid, which ends at 2"),
        ({"grid": FixedPoint(fraction_bits=40, bits=48), "noise_multiplier": 50}, "coarser grid"),
        ({"grid": FixedPoint(fraction_bits=8, bits=30, ring_bits=32)}, "could wrap around"),
    ],
    ids=str,
)
def test_senseless_arguments_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        mean(UPDATES, **options)


NO_FLOAT_MATRICES = {
    "integers": np.ones((6, 3), int),
    "booleans": np.ones((6, 3), bool),
    "a vector": np.ones(6),
    "no rows": np.ones((0, 3)),
    "masked": np.ma.masked_array(np.ones((6, 3)), mask=True),
    "objects": np.ones((6, 3), object),
}


@pytest.mark.parametrize("bad", NO_FLOAT_MATRICES.values(), ids=NO_FLOAT_MATRICES)
def test_what_is_no_float_matrix_is_refused(bad):
    with pytest.raises(InvalidUpdateError, match="updates "):
        mean(bad)


@pytest.mark.parametrize(
    ("num_clients", "threshold"), [(6, 5), (6, 6), (7, 5), (12, 9), (31, 21), (31, 31)], ids=str
)
def test_more_colluding_clients_than_hold_against_the_kind_of_server_are_refused(
    num_clients, threshold
):
    """Against a lying server 2 t - n of them unmask a row, which notebook 08 carries out."""
    rows, budget = np.ones((num_clients, 3)), PrivacyBudget(1000.0, delta=1e-3)
    for active, first_refused in ((False, threshold), (True, 2 * threshold - num_clients)):
        run = partial(mean, rows, threshold=threshold, active_server=active, budget=budget)
        session = Session(num_clients, threshold, active_server=active)
        assert session.most_colluding == first_refused - 1
        for colluding in range(first_refused, num_clients + 1):
            with pytest.raises(InvalidParameterError, match="num_colluding must be below"):
                run(num_colluding=colluding)
        assert budget.rounds == (1 if active else 0)  # a refusal is not charged
        run(num_colluding=first_refused - 1)


def test_the_epsilon_of_a_run_with_too_many_colluding_clients_is_refused_too():
    run = {"rounds": 3, "delta": 1e-4, "active_server": True, "num_clients": 11} | RUN
    distributed_epsilon_after(num_colluding=4, **run)
    with pytest.raises(InvalidParameterError, match=r"below 2 \* 8 - 11 = 5 against a server"):
        distributed_epsilon_after(num_colluding=5, **run)
    with pytest.raises(InvalidParameterError, match="num_clients must be a whole number"):
        distributed_epsilon_after(**(run | {"num_clients": None}))
    curious = run | {"active_server": False}
    distributed_epsilon_after(num_colluding=7, **curious)


def test_shares_are_counted_as_sessions_count_colluding_clients():
    for num_clients in range(2, 14):
        for active in (False, True):
            least = 2 * num_clients // 3 + 1 if active else num_clients // 2 + 1
            for threshold in range(least, num_clients + 1):
                session = Session(num_clients, threshold, active_server=active)
                most = session.most_colluding
                count = partial(guaranteed_shares, threshold, active_server=active)
                assert count(most, num_clients) == threshold - most >= 1
                with pytest.raises(InvalidParameterError):
                    count(most + 1, num_clients)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, float])
def test_numbers_of_low_precision_become_python_floats_at_the_border(kind):
    run = RUN | {"clip_norm": kind(1.5), "noise_multiplier": kind(3.25), "threshold": np.int8(8)}
    exact = RUN | {"clip_norm": 1.5, "noise_multiplier": 3.25}
    spent = distributed_epsilon_after(100, delta=1e-3, **exact)
    assert distributed_epsilon_after(100, delta=1e-3, **run) == spent
    assert type(distributed_epsilon_after(np.int16(100), delta=1e-3, **run).epsilon) is float
    shares = NoiseShares(kind(1.5), kind(3.25), np.int16(650), np.int8(8))
    assert shares == NoiseShares(1.5, 3.25, 650, 8)
    assert type(shares.scale) is type(shares.sensitivity) is float
    assert divergence_of_sums(kind(0.75), np.int8(100)) == divergence_of_sums(0.75, 100)
    few = rdp_of_noise_shares(kind(4.5), kind(0.75), np.int8(100), np.int8(100))
    np.testing.assert_array_equal(few, rdp_of_noise_shares(4.5, 0.75, 100, 100))


def test_rows_without_coordinates_and_single_rows_are_refused():
    with pytest.raises(InvalidParameterError, match="num_coordinates must be"):
        mean(np.ones((6, 0)))
    with pytest.raises(InvalidParameterError, match="num_clients must be at least 2"):
        mean(np.ones((1, 3)), threshold=1)


def test_a_row_of_another_length_is_refused():
    with pytest.raises(InvalidUpdateError, match=r"shape \(3,\), got \(2,\)"):
        noisy_row(np.ones(2), plan(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": -1}, "rounds must be"),
        ({"rounds": 1.5}, "rounds must be"),
        ({"delta": 0}, "delta must be"),
        ({"delta": 1}, "delta must be"),
        ({"delta": math.nan}, "delta must be"),
        ({"adjacency": "add-or-remove-one"}, "do not hide who took part"),
        ({"unit": "hospital"}, "unit must be"),
        ({"num_coordinates": 0}, "num_coordinates must be"),
        ({"threshold": 0}, "threshold must be"),
        ({"num_colluding": 8}, "num_colluding must be below"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be"),
        ({"clip_norm": -1.0}, "clip_norm must be"),
    ],
    ids=str,
)
def test_epsilons_of_senseless_runs_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        distributed_epsilon_after(**({"rounds": 1, "delta": 1e-3} | RUN | options))


@pytest.mark.parametrize("bad", [0.49, 0, -1.0, math.nan, math.inf])
def test_shares_for_which_the_bound_does_not_hold_are_refused(bad):
    with pytest.raises(InvalidParameterError, match=f"sigma must be at least {LEAST_SHARE}"):
        divergence_of_sums(bad, 3)
    with pytest.raises(InvalidParameterError, match="num_shares must be"):
        divergence_of_sums(1.0, 0)


def test_nobody_left_is_refused():
    assert guaranteed_shares(4) == 4
    with pytest.raises(InvalidParameterError, match="could unmask every row"):
        guaranteed_shares(4, 5)


# --- what is no number, and what is too much of one ----------------------------------------------

HUGE = 10**5000
"""Python refuses to write an integer of more than 4300 digits."""

NO_NUMBERS = {
    "complex": np.array([1 + 1j, 2]),
    "text of numbers": ["0.5", "0.25"],
    "text": ["a", "b"],
    "dates": np.array(["2020", "2021"], "datetime64[Y]"),
    "booleans": [True, False],
    "objects": np.array([None, 1.0]),
    "nothing": None,
}


@pytest.mark.parametrize("row", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_row_that_holds_no_numbers_is_refused(row):
    with pytest.raises(InvalidUpdateError, match="update "):
        noisy_row(row, plan(2))


def test_a_row_needs_a_plan():
    for shares in (None, "plan", 3):
        with pytest.raises(InvalidParameterError, match="shares must be"):
            noisy_row(np.ones(2), shares)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clients": "10"}, "num_clients must be"),
        ({"num_clients": 0}, "num_clients must be"),
        ({"num_clients": -5}, "num_clients must be"),
        ({"num_clients": 3}, "num_clients must be a whole number from 8"),
        ({"num_clients": HUGE}, "num_clients must be"),
        ({"num_clients": 12, "active_server": True}, "threshold must be above two thirds of 12"),
        ({"num_clients": 10, "active_server": "False"}, "active_server must be"),
        ({"adjacency": np.array(["a", "b"])}, "adjacency must be"),
        ({"adjacency": HUGE}, "adjacency must be"),
        ({"unit": np.array(["a", "b"])}, "unit must be"),
        ({"unit": ["client"]}, "unit must be"),
        ({"grid": None}, "grid must be"),
        ({"grid": "fine"}, "grid must be"),
        ({"threshold": HUGE}, "threshold must be"),
        ({"num_colluding": HUGE}, "num_colluding must be"),
        ({"num_coordinates": HUGE}, "num_coordinates must be"),
        ({"num_coordinates": 10**400}, "num_coordinates must be"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_epsilons_of_runs_that_cannot_be_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        distributed_epsilon_after(**({"rounds": 1, "delta": 1e-3} | RUN | options))


@pytest.mark.parametrize(
    "call",
    [
        lambda: guaranteed_shares(7, 2, "ten"),
        lambda: guaranteed_shares(7, 2, 6),
        lambda: guaranteed_shares(7, 2, 8, active_server="False"),
        lambda: guaranteed_shares(5, 1, 8, active_server=True),
        lambda: guaranteed_shares(HUGE, HUGE),
        lambda: divergence_of_sums(1.0, 10**15),
        lambda: divergence_of_sums(1.0, HUGE),
        lambda: rdp_of_noise_shares(1e200, 1.0, 4, 10),
        lambda: rdp_of_noise_shares(1.0, 5e-324, 1, 10),
        lambda: rdp_of_noise_shares(1.0, 1.0, 4, 10**400),
        lambda: plan(10**400),
        lambda: plan(2, num_shares=10**400),
        lambda: plan(2, grid="x"),
        lambda: NoiseShares(1.0, 0, 2, 1, COARSE, allow_no_noise="no"),
        lambda: mean(np.ones((6, 3)), budget="x"),
        lambda: silent(np.ones((6, 3)), allow_no_noise="no"),
    ],
)
def test_noise_that_cannot_be_is_refused(call):
    with pytest.raises(InvalidParameterError):
        call()


def test_very_much_noise_leaves_no_divergence():
    assert divergence_of_sums(1e200, 5) == divergence_of_sums(100.0, 5) == 0.0
    assert (rdp_of_noise_shares(1.0, 1e200, 4, 10) == 0).all()
