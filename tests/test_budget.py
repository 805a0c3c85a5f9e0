"""A budget is checked before a release, and a refused release costs nothing."""

import enum
import json
import math
import warnings

import numpy as np
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


# --- numbers of low precision -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_numbers_of_low_precision_are_counted_as_python_floats(dtype):
    epsilon, delta, rate, noise = (dtype(value) for value in (5.0, 1e-3, 0.1, 1.1))
    options = {"sampling": "poisson", "sampling_rate": rate}
    budget = PrivacyBudget(epsilon, delta=delta, **options)
    exact = PrivacyBudget(
        float(epsilon), delta=float(delta), sampling="poisson", sampling_rate=float(rate)
    )
    for _ in range(10):
        assert budget.charge(noise) == exact.charge(float(noise))
    assert budget.rounds_left(noise) == exact.rounds_left(float(noise))
    assert type(budget.epsilon) is type(budget.spent.epsilon) is type(budget.spent.delta) is float
    assert type(budget.spent.sampling_rate) is float


def test_the_state_of_a_budget_is_plain():
    budget = PrivacyBudget(np.float32(5.0), delta=np.float16(1e-3))
    budget.match("poisson", 0.25, seeded=True)
    budget.charge(np.float32(1.5), demonstration=np.bool_(True))
    for value in vars(budget).values():
        plain = vars(value) if hasattr(value, "__dict__") and not isinstance(value, dict) else value
        json.dumps(plain)


# --- the sampling of a run ----------------------------------------------------------------------


def test_what_was_not_named_is_filled_in_until_a_round_is_charged():
    budget = PrivacyBudget(100.0, delta=1e-3)
    for rate in (0.1, 0.5, 0.2):  # runs that never began
        budget.match("poisson", rate)
    assert budget.charge(1.0) == epsilon_after(
        1, noise_multiplier=1.0, delta=1e-3, sampling="poisson", sampling_rate=0.2
    )
    with pytest.raises(InvalidParameterError, match=r"rate 0\.2, and the run has .* rate 0\.5"):
        budget.match("poisson", 0.5)
    budget.match("poisson", 0.1)
    assert budget.spent.sampling_rate == 0.2
    alone = PrivacyBudget(100.0, delta=1e-3)
    assert alone.charge(1.0).sampling == "none"  # without a run nothing is counted on


def test_a_named_kind_takes_its_rate_from_the_run():
    budget = PrivacyBudget(100.0, delta=1e-3, sampling="poisson")
    assert budget.spent.sampling_rate == 1.0
    budget.match("poisson", 0.3)
    assert budget.spent.sampling_rate == 0.3


rates = st.floats(0.01, 1)


@settings(max_examples=60, deadline=None)
@given(rates, rates, st.sampled_from([1, 7, 40]), st.floats(0.5, 8))
def test_what_is_let_through_never_costs_more_than_is_charged(charged, done, rounds, noise):
    budget = PrivacyBudget(
        math.inf, delta=1e-3, sampling="poisson", sampling_rate=charged, accountant="rdp"
    )
    truth = {"noise_multiplier": noise, "delta": 1e-3}
    if done < 1:
        truth |= {"sampling": "poisson", "sampling_rate": done}
    try:
        budget.match("poisson" if done < 1 else "none", done)
    except InvalidParameterError:
        assert charged < done
        return
    for _ in range(rounds):
        budget.charge(noise)
    assert budget.spent.epsilon >= epsilon_after(rounds, **truth).epsilon * (1 - 1e-9)


def test_a_cohort_of_fixed_size_needs_neighbours_that_replace_one():
    for options in ({}, {"sampling": "none"}, {"sampling": "poisson", "sampling_rate": 0.9}):
        budget = PrivacyBudget(100.0, delta=1e-3, **options)
        with pytest.raises(InvalidParameterError, match="leaves its place to another"):
            budget.match("fixed-size", 0.5)
    # Dora holds (1), the others (-1): whoever takes her place moves the sum by two norms. So the
    # loss of one round with half of the clients passes what no sampling charges.
    noise, delta, rate = 1.0, 1e-3, 0.5
    x = np.linspace(-12, 14, 400_001)
    without = np.exp(-(x**2) / (2 * noise**2))
    with_dora = (1 - rate) * without + rate * np.exp(-((x - 2) ** 2) / (2 * noise**2))
    step = (x[1] - x[0]) / math.sqrt(2 * math.pi) / noise
    charged = PrivacyBudget(100.0, delta=delta).charge(noise).epsilon
    really = np.maximum(with_dora - math.exp(charged) * without, 0).sum() * step
    assert really > 10 * delta


def test_a_demonstration_is_marked_once_and_for_all():
    budget = PrivacyBudget(100.0, delta=1e-3)
    budget.match("none", 1.0, seeded=True)
    budget.charge(1.0)
    assert not budget.demonstration  # nothing rests on the seed
    budget.charge(1.0, demonstration=True)
    budget.charge(1.0)
    assert budget.demonstration
    assert repr(budget).endswith("; a demonstration, seeded>")
    sampled = PrivacyBudget(100.0, delta=1e-3)
    sampled.match("poisson", 0.5, seeded=True)
    assert not sampled.demonstration  # not before a round was charged
    sampled.charge(1.0)
    assert sampled.demonstration


# --- what a budget keeps ------------------------------------------------------------------------


def test_a_match_holds_within_its_block_and_longer_only_if_a_round_was_charged():
    budget = PrivacyBudget(100.0, delta=1e-3)
    before = repr(budget)
    with budget.matched("poisson", 0.1, seeded=True):
        assert budget.spent.sampling_rate == 0.1
    with pytest.raises(ZeroDivisionError), budget.matched("poisson", 0.1):
        raise ZeroDivisionError
    with pytest.raises(BudgetExceededError), budget.matched("poisson", 0.1, seeded=True):
        budget.charge(0.0)
    assert repr(budget) == before
    assert budget.charge(1.0) == epsilon_after(1, noise_multiplier=1.0, delta=1e-3)
    assert not budget.demonstration
    charged = PrivacyBudget(100.0, delta=1e-3)
    with charged.matched("poisson", 0.1, seeded=True):
        charged.charge(1.0)
    assert charged.spent.sampling_rate == 0.1
    assert charged.demonstration
    refused = pytest.raises(InvalidParameterError, match="the budget counts on Poisson")
    with refused, charged.matched("none", 1.0):
        raise AssertionError("entered")


class Adjacency(str, enum.Enum):  # noqa: UP042  # whose str is not the text
    REPLACE = "replace-one"


def test_words_of_a_budget_are_plain_text():
    budget = PrivacyBudget(100.0, delta=1e-3, adjacency=Adjacency.REPLACE, unit=np.str_("client"))
    assert type(budget.spent.adjacency) is type(budget.spent.unit) is str
    budget.match("fixed-size", 0.5)
    plain = PrivacyBudget(100.0, delta=1e-3, adjacency="replace-one")
    plain.match("fixed-size", 0.5)
    assert budget.charge(2.0) == plain.charge(2.0)


class ShownAlike(enum.Enum):
    REPLACE = "replace-one"

    def __str__(self):
        return self.value


def test_a_budget_whose_adjacency_only_looks_like_one_is_refused():
    with pytest.raises(InvalidParameterError, match="not supported"):
        PrivacyBudget(100.0, delta=1e-3, adjacency=ShownAlike.REPLACE)
