"""Alone, together, pooled: each model is what its name says, and is tested on everyone."""

from dataclasses import replace

import numpy as np
import pytest

from fltutor.aggregation import mean
from fltutor.data import Dataset, Federation, fresh_split, load_heart_disease
from fltutor.errors import BudgetExceededError, InvalidParameterError, InvalidUpdateError
from fltutor.joining import train_alone_and_together
from fltutor.models import get_params, mlp, set_params
from fltutor.server_optimizers import sgd
from fltutor.simulation import run_federated

SETTINGS = {"rounds": 3, "learning_rate": 0.3, "local_epochs": 2, "batch_size": 5, "seed": 4}


def small_federation(sizes=(30, 20), test_sizes=(70, 130)):
    """Clients whose labels follow from the first feature, each with a threshold of its own."""
    rng = np.random.default_rng(0)

    def draw(sizes):
        x = rng.random((sum(sizes), 3), dtype=np.float32)
        owner = np.repeat(range(len(sizes)), sizes)
        y = (x[:, 0] > 0.3 + 0.4 * owner).astype(np.int32)
        return x, y, tuple(np.flatnonzero(owner == client) for client in range(len(sizes)))

    x, y, parts = draw(sizes)
    x_test, y_test, test_parts = draw(test_sizes)
    names = ("Basel", "Bern", "Biel")[: len(sizes)]
    return Federation(
        Dataset(x, y, x_test, y_test, "small"), names, parts, test_parts, ("a", "b", "c")
    )


def accuracy_by_keras(model, params, x, y):
    set_params(model, params)
    return (model.predict(x, verbose=0).argmax(axis=1) == y).mean()


def test_every_model_is_trained_on_what_its_name_says_and_tested_on_everyone():
    federation = small_federation()
    model, other = mlp(3, 2, hidden=()), mlp(3, 2, hidden=())
    start = get_params(mlp(3, 2, hidden=(), seed=9))
    scores = train_alone_and_together(model, federation, start=start, **SETTINGS)
    data, (basel, bern) = federation.data, federation.parts
    teachers = {
        "Basel alone": [basel],
        "Bern alone": [bern],
        "federated": [basel, bern],
        "pooled": [np.concatenate([basel, bern])],
    }
    assert list(scores) == list(teachers)
    for name, own in teachers.items():
        params = run_federated(model, data, own, start=start, **SETTINGS).params
        for found, rows in zip(scores[name], [*federation.test_parts, slice(None)], strict=True):
            assert found == accuracy_by_keras(other, params, data.x_test[rows], data.y_test[rows])
    assert len({tuple(row) for row in scores.values()}) == 4  # the tests can tell them apart


def test_the_last_column_is_everyone_and_the_hospitals_learn():
    heart = fresh_split(load_heart_disease(), np.random.default_rng(0))
    model = mlp(heart.data.x.shape[1], 2, hidden=())
    scores = train_alone_and_together(
        model,
        heart,
        rounds=20,
        learning_rate=0.1,
        local_epochs=5,
        start=np.zeros(len(get_params(model)), np.float32),
    )
    assert list(scores) == [*(f"{name} alone" for name in heart.names), "federated", "pooled"]
    sizes = [len(test) for test in heart.test_parts]
    for row in scores.values():
        assert row[-1] == pytest.approx(np.average(row[:-1], weights=sizes))
    assert scores["federated"][-1] > 0.7


def test_settings_of_the_federated_training_change_no_other():
    federation, model = small_federation(), mlp(3, 2, hidden=())
    usual = train_alone_and_together(model, federation, **SETTINGS)
    held = train_alone_and_together(model, federation, **SETTINGS, server_optimizer=sgd(1e-9))
    untrained = train_alone_and_together(model, federation, **SETTINGS | {"rounds": 0})
    for name in ("Basel alone", "Bern alone", "pooled"):
        np.testing.assert_array_equal(held[name], usual[name])
    np.testing.assert_array_equal(held["federated"], untrained["federated"])
    assert not np.array_equal(held["federated"], usual["federated"])
    assert len({tuple(row) for row in untrained.values()}) == 1


def test_an_interruption_ends_the_comparison():
    def interrupted(updates, weights):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_alone_and_together(
            mlp(3, 2, hidden=()), small_federation(), **SETTINGS, aggregate=interrupted
        )


@pytest.mark.parametrize(
    ("federation", "words"),
    [
        (small_federation((30, 0)), "Bern has no examples to train on"),
        (small_federation((5, 5), (0, 5)), "Basel has no examples to test on"),
        (replace(small_federation(), names=("Bern", "Bern")), "names of their own"),
        (replace(small_federation(), names=("Bern",)), "train on for each of 1 names, got 2"),
        (
            replace(small_federation(), test_parts=(np.arange(200),)),
            "test on for each of 2 names, got 1",
        ),
    ],
    ids=["no training", "no test", "one name twice", "too few names", "too few parts"],
)
def test_a_client_that_cannot_be_compared_is_refused_by_name(federation, words):
    with pytest.raises(InvalidParameterError, match=words):
        train_alone_and_together(mlp(3, 2, hidden=()), federation, **SETTINGS)


def test_a_federation_that_its_budget_ends_early_is_no_comparison():
    rounds = iter([True, True])

    def with_budget(updates, weights):
        if not next(rounds, False):
            raise BudgetExceededError("the next round would spend too much")
        return mean(updates, weights)

    with pytest.raises(BudgetExceededError, match="the budget allowed 2 of 3 rounds"):
        train_alone_and_together(
            mlp(3, 2, hidden=()), small_federation(), aggregate=with_budget, **SETTINGS
        )


def test_a_federation_that_a_late_fault_ends_is_no_comparison():
    rounds = iter([True, True])

    def with_fault(updates, weights):
        if not next(rounds, False):
            raise InvalidUpdateError("the update of client 1 holds NaN or Inf")
        return mean(updates, weights)

    with pytest.raises(InvalidUpdateError, match="the update of client 1"):
        train_alone_and_together(
            mlp(3, 2, hidden=()), small_federation(), aggregate=with_fault, **SETTINGS
        )
