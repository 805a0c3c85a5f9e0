"""A budget is checked before a release, and a refused release costs nothing."""

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.errors import BudgetExceededError, InvalidParameterError
from fltutor.privacy.accounting import budget_curve, epsilon_after, epsilon_of_rounds
from fltutor.privacy.budget import MOST_ROUNDS, PrivacyBudget

SAMPLINGS = [
    {},
    {"sampling_rate": 0.2, "sampling": "poisson"},
    {"sampling_rate": 0.2, "sampling": "fixed-size", "adjacency": "replace-one"},
    {"adjacency": "replace-one", "unit": "example", "accountant": "moments"},
    {"sampling_rate": 0.2, "sampling": "poisson", "accountant": "pld"},
]


@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
def test_charging_round_by_round_costs_what_the_run_costs(options):
    budget = PrivacyBudget(1000, delta=1e-3, **options)
    for noise in (2.0, 3.0, 2.0):
        spent = budget.charge(noise)
    assert spent == budget.spent == epsilon_of_rounds({3.0: 1, 2.0: 2}, delta=1e-3, **options)
    assert budget.rounds == 3
    assert repr(budget) == f"<PrivacyBudget of 1000 after 3 rounds: {spent}>"


def test_the_round_that_would_pass_the_budget_is_refused_and_costs_nothing():
    curve = budget_curve(2.0, 10, delta=1e-3)
    budget = PrivacyBudget(curve[4], delta=1e-3)
    for _ in range(4):  # exactly the budget is within it
        budget.charge(2.0)
    before = budget.spent
    assert before.epsilon == pytest.approx(curve[4])
    text = r"round 5 with noise multiplier 2 would bring the run to epsilon = .* at delta = 1e-3 "
    for _ in range(2):
        with pytest.raises(BudgetExceededError, match=text + r".*over the budget of"):
            budget.charge(2.0)
        assert (budget.spent, budget.rounds) == (before, 4)
    budget.epsilon += 1e-3
    budget.charge(1000.0)  # what adds next to nothing still fits
    assert budget.rounds == 5


def test_no_noise_costs_infinity_and_only_an_infinite_budget_allows_it():
    budget = PrivacyBudget(1e9, delta=1e-5)
    with pytest.raises(BudgetExceededError, match="epsilon = infinity"):
        budget.charge(0)
    assert budget.rounds_left(0) == budget.rounds == 0
    counting = PrivacyBudget(math.inf, delta=1e-5)
    assert counting.charge(0).epsilon == math.inf
    assert counting.rounds_left(1.0) == MOST_ROUNDS


@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
def test_as_many_rounds_are_left_as_can_be_charged(options):
    budget = PrivacyBudget(3.0, delta=1e-3, **options)
    budget.charge(5.0)
    left = budget.rounds_left(4.0)
    assert left > 0
    for _ in range(left):
        budget.charge(4.0)
    assert budget.rounds_left(4.0) == 0
    with pytest.raises(BudgetExceededError):
        budget.charge(4.0)


@settings(max_examples=30)
@given(st.floats(0.5, 20), st.floats(0.5, 20), st.integers(0, 20))
def test_rounds_left_is_where_the_curve_meets_the_budget(epsilon, noise, charged):
    budget = PrivacyBudget(epsilon, delta=1e-5)
    charged = min(charged, budget.rounds_left(noise))
    for _ in range(charged):
        budget.charge(noise)
    left = budget.rounds_left(noise)
    within, beyond = (
        epsilon_after(charged + left + more, noise_multiplier=noise, delta=1e-5).epsilon
        for more in (0, 1)
    )
    assert within <= epsilon < beyond


def test_looking_ahead_ends():
    assert PrivacyBudget(1.0, delta=1e-5).rounds_left(1e6) == MOST_ROUNDS
    nobody = PrivacyBudget(1.0, delta=1e-5, sampling_rate=0.0, sampling="poisson")
    assert nobody.rounds_left(0.5) == MOST_ROUNDS


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "2", None, True])
def test_bad_noise_is_refused_and_charges_nothing(bad):
    budget = PrivacyBudget(1.0, delta=1e-5)
    for act in (budget.charge, budget.rounds_left):
        with pytest.raises(InvalidParameterError, match="noise_multiplier must be"):
            act(bad)
    assert budget.rounds == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epsilon": bad}, "epsilon must be positive") for bad in (0, -1, math.nan, "3", None, True)]
    + [
        ({"delta": 0}, "delta must be"),
        ({"sampling": "fixed-size"}, "not supported; what is"),
        ({"sampling_rate": 0.5}, "needs sampling='poisson'"),
        ({"unit": "user"}, "unit must be"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        PrivacyBudget(**{"epsilon": 1.0, "delta": 1e-5, **options})


def test_a_delta_above_one_in_n_is_warned_about_once():
    with pytest.warns(UserWarning, match=r"not below 1/50"):
        budget = PrivacyBudget(100.0, delta=0.1, num_clients=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        budget.charge(1.0)
