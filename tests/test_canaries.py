"""Canaries in a real training: who joins, what is seen, and what one run proves."""

import numpy as np
import pytest

from fltutor.aggregation import dp_mean
from fltutor.attacks import AuditedTraining, audit_training, plant_bug, with_canaries
from fltutor.data import load_digits, partition_iid
from fltutor.errors import BudgetExceededError, InvalidParameterError, InvalidUpdateError
from fltutor.models import mlp
from fltutor.privacy.accounting import epsilon_after
from fltutor.privacy.auditing import Canaries, one_run_audit, plant_canaries
from fltutor.simulation import run_federated

DIGITS, MODEL = load_digits(), mlp(hidden=())
SIZE = MODEL.count_params()
PARTS = partition_iid(DIGITS.y, 10, np.random.default_rng(0))
TRAINING = {"rounds": 3, "learning_rate": 0.1, "seed": 2}
JUDGE = {"guesses": 40, "delta": 1e-3}


def total(updates):
    return updates.sum(axis=0)


def sixty_canaries(norm=10.0, seed=1):
    return plant_canaries(60, SIZE, norm=norm, rng=np.random.default_rng(seed))


# Joining a training


def test_canaries_whose_coin_says_so_join_every_round_with_alternating_signs():
    canaries = Canaries(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([False, True]))
    sent, released = [], []

    def mechanism(updates):
        sent.append(updates)
        return total(updates)

    aggregate = with_canaries(mechanism, canaries, released)
    results = [aggregate(np.ones((3, 2))) for _ in range(3)]
    for rows, result, seen, sign in zip(sent, results, released, (1, -1, 1), strict=True):
        np.testing.assert_array_equal(rows, [*np.ones((3, 2)), [0, 4 * sign]])
        np.testing.assert_array_equal(result.update, [3, 3 + 4 * sign])
        np.testing.assert_array_equal(result.update, seen)
        assert result.included == (0, 1, 2)  # the honest rows; no canary is a client
        assert result.demonstration


def test_a_mechanism_takes_no_weights_and_keeps_the_length_of_a_row():
    canaries = Canaries(np.ones((1, 2)), np.array([True]))
    with pytest.raises(InvalidParameterError, match="needed weigh_by_examples=False"):
        with_canaries(total, canaries, [])(np.ones((3, 2)), [1, 2, 3])
    released = []
    with pytest.raises(InvalidUpdateError, match=r"must release shape \(2,\), got \(\)"):
        with_canaries(np.sum, canaries, released)(np.ones((3, 2)))
    assert released == []


# Auditing a training


def test_an_audited_training_is_the_training_its_parts_would_give_by_hand():
    def server():
        return plant_bug(
            "forgets to clip",
            clip_norm=1.0,
            noise_multiplier=0.5,
            expected_cohort=40,
            rng=np.random.default_rng(3),
        )()

    canaries, released = sixty_canaries(), []
    found = audit_training(MODEL, DIGITS, PARTS, server(), canaries, **JUDGE, **TRAINING)
    history = run_federated(
        MODEL,
        DIGITS,
        PARTS,
        weigh_by_examples=False,
        aggregate=with_canaries(server(), canaries, released),
        **TRAINING,
    )
    assert isinstance(found, AuditedTraining)
    np.testing.assert_allclose(found.released, released, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.history.accuracy, history.accuracy, atol=0.01)
    np.testing.assert_array_equal(found.scores, canaries.scores(found.released))
    assert found.audit == one_run_audit(found.scores, canaries.included, **JUDGE)
    assert found.canaries is canaries
    assert len(found.history.rounds) == len(found.released) + 1 == 4


def test_one_run_refutes_a_server_that_forgot_to_clip_and_not_the_one_without_a_bug():
    """With the same claim and the same canaries, three seeds each."""
    claim = epsilon_after(3, noise_multiplier=3.0, delta=1e-3, accountant="pld")
    for seed in range(3):
        refuted = {}
        for bug in ("no bug", "forgets to clip"):
            start = plant_bug(
                bug,
                clip_norm=1.0,
                noise_multiplier=3.0,
                expected_cohort=40,
                rng=np.random.default_rng(seed),
            )
            canaries = sixty_canaries(norm=40.0, seed=seed)
            found = audit_training(MODEL, DIGITS, PARTS, start(), canaries, **JUDGE, **TRAINING)
            refuted[bug] = found.audit.refutes(claim)
        assert refuted == {"no bug": False, "forgets to clip": True}


def test_an_interruption_ends_the_audit():
    calls = []

    def mechanism(updates):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return total(updates) / 100

    with pytest.raises(KeyboardInterrupt):
        audit_training(MODEL, DIGITS, PARTS, mechanism, sixty_canaries(), **JUDGE, **TRAINING)
    assert len(calls) == 2


def test_a_mechanism_of_the_readers_own_is_audited_like_any_other():
    def mine(updates):
        return dp_mean(updates, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=40).update

    found = audit_training(
        MODEL, DIGITS, PARTS, mine, sixty_canaries(), **JUDGE, **TRAINING, confidence=0.9
    )
    assert found.audit.confidence == 0.9
    assert found.audit.experiment == "one run, 60 canaries"


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"guesses": 61}, InvalidParameterError, "guesses .* from 0 to 60, got 61"),
        ({"delta": 1.0}, InvalidParameterError, "delta must be"),
        ({"confidence": 1.0}, InvalidParameterError, "confidence must be"),
        ({"rounds": 0}, InvalidParameterError, "rounds must be a whole number of at least 1"),
        ({"rounds": -1}, InvalidParameterError, "rounds must be"),
        ({"client_fraction": 0.5}, InvalidParameterError, "needed client_fraction=1, got 0.5"),
    ],
    ids=str,
)
def test_what_cannot_be_judged_is_refused_before_anything_is_trained(changed, error, words):
    def never(updates):
        pytest.fail("a round was played")

    with pytest.raises(error, match=words):
        audit_training(MODEL, DIGITS, PARTS, never, sixty_canaries(), **JUDGE | TRAINING | changed)


@pytest.mark.parametrize(
    ("mechanism", "canaries", "words"),
    [
        (total, Canaries(np.ones((1, 7)), np.array([True])), f"shape .n, 7. .* {SIZE}"),
        (lambda updates: total(updates)[:5], sixty_canaries(), "must release shape"),
        (lambda updates: total(updates) * np.nan, sixty_canaries(), "finite|NaN"),
    ],
    ids=["short canaries", "short release", "NaN"],
)
def test_what_does_not_fit_is_refused_in_the_round(mechanism, canaries, words):
    judge = JUDGE | {"guesses": 1}
    with pytest.raises(InvalidUpdateError, match=words):
        audit_training(MODEL, DIGITS, PARTS, mechanism, canaries, **judge, **TRAINING)


def test_a_training_that_its_budget_ends_early_is_no_audit():
    rounds = iter([True])

    def server(updates):
        if not next(rounds, False):
            raise BudgetExceededError("the next round would spend too much")
        return total(updates) / 100

    with pytest.raises(BudgetExceededError, match="the budget allowed 1 of 3 rounds"):
        audit_training(MODEL, DIGITS, PARTS, server, sixty_canaries(), **TRAINING, **JUDGE)
