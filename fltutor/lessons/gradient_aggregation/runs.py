"""Notebook 03: FedSGD on the digits, beside the same steps on all the data in one place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np

from fltutor.aggregation import aggregate_gradients
from fltutor.clients import cohort_gradients
from fltutor.data import label_counts, load_digits, partition_dirichlet
from fltutor.models import get_params
from fltutor.simulation import evaluate
from fltutor.tensorflow_quietly import keras

ROUNDS = 40
SEED = 3


@dataclass(frozen=True)
class FedSGDRun:
    """A federation and a pooled training with the same start, as far as they have come.

    Attributes:
        counts: Examples of each digit that each client holds, shape (num_clients, 10).
        accuracy: Test accuracy of the federation after 0, 1, 2, ... rounds, 0 to 1.
        pooled_accuracy: The same after as many steps downhill on all data in one place.
        gap: Largest difference of any weight between the two, after each round.
        loss: Test loss of the federation after the last round, in nats.
        num_rounds: Rounds it set out to do.
    """

    counts: np.ndarray = field(repr=False)
    accuracy: np.ndarray = field(repr=False)
    pooled_accuracy: np.ndarray = field(repr=False)
    gap: np.ndarray = field(repr=False)
    loss: float
    num_rounds: int


def fedsgd(
    clients: int = 10,
    alpha: float = 0.1,
    weighted: bool = True,
    sign: int = -1,
    learning_rate: float = 0.5,
    *,
    rounds: int = ROUNDS,
) -> Iterator[FedSGDRun]:
    """Train by gradient aggregation, every client in every round; yield after each round.

    Args:
        clients: How many clients share the digits, at least 1.
        alpha: How alike the clients are, see :func:`fltutor.data.partition_dirichlet`.
        weighted: Weigh a gradient by its number of examples, or all alike.
        sign: -1 steps against the gradient, as it should be; +1 along it.
        learning_rate: Length of a step, in units of the mean gradient.
        rounds: How many rounds.

    Example:
        >>> *_, run = fedsgd(clients=5, alpha=0.1, rounds=3)
        >>> len(run.accuracy), bool(run.gap.max() < 1e-6)
        (4, True)

    Reference:
        McMahan et al., AISTATS 2017, section 2. https://arxiv.org/abs/1602.05629
    """
    digits, model = load_digits(), _model()
    parts = partition_dirichlet(digits.y, clients, alpha, np.random.default_rng(SEED))
    weights = [len(part) if weighted else 1 for part in parts]
    counts = label_counts(digits.y, parts)
    params = get_params(model)
    rows = []
    for number in range(rounds + 1):
        pooled_params, pooled_accuracy = _pooled(learning_rate, number)
        accuracy, loss = _evaluate(params)
        rows.append((accuracy, pooled_accuracy, np.abs(params - pooled_params).max()))
        yield FedSGDRun(counts, *np.array(rows).T, loss, rounds)
        gradients = cohort_gradients(model, params, digits.x, digits.y, parts)
        [gradient] = aggregate_gradients([[row] for row in gradients], weights)
        params = params + sign * learning_rate * gradient


@cache
def _model() -> keras.Model:
    """One model for every run: what is compiled for it stays compiled.

    Its hidden layer is smooth. A ReLU has a kink, and an example on the kink would
    turn a rounding into a step of another size.
    """
    layers = [keras.Input((64,), dtype="float32")]
    for place, (width, activation) in enumerate(((32, "tanh"), (10, None))):
        weights = keras.initializers.GlorotUniform(SEED + place)
        layers.append(
            keras.layers.Dense(
                width, activation=activation, kernel_initializer=weights, dtype="float32"
            )
        )
    return keras.Sequential(layers)


@lru_cache(maxsize=20 * ROUNDS)
def _pooled(learning_rate: float, steps: int) -> tuple[np.ndarray, float]:
    """Weights and test accuracy after so many steps downhill on all data in one place."""
    digits, model = load_digits(), _model()
    params = get_params(model)
    if steps:
        before, _ = _pooled(learning_rate, steps - 1)
        everything = [np.arange(len(digits.y))]
        [gradient] = cohort_gradients(model, before, digits.x, digits.y, everything)
        params = before - learning_rate * gradient
    return params, _evaluate(params)[0]


def _evaluate(params: np.ndarray) -> tuple[float, float]:
    digits = load_digits()
    return evaluate(_model(), params, digits.x_test, digits.y_test)
