"""Notebook 05: how clients that differ pull a model apart, and what holds it together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice

import numpy as np

from fltutor.aggregation import AggregateResult, Drift, drift, mean
from fltutor.data import (
    Dataset,
    label_counts,
    load_digits,
    load_heart_disease,
    partition_dirichlet,
    partition_iid,
)
from fltutor.errors import InvalidUpdateError
from fltutor.models import get_params, mlp
from fltutor.server_optimizers import adagrad, adam, momentum, sgd, yogi
from fltutor.simulation import History, Round, federated_rounds, run_federated
from fltutor.tensorflow_quietly import keras

CLIENTS = 10
LOCAL_EPOCHS = 5
LEARNING_RATE = 0.1
PROXIMAL_MU = 0.1
ROUNDS = 30
TARGET = 0.9
SEED = 5

METHODS = {
    "FedAvg": lambda rate: {"server_optimizer": sgd(rate)},
    "FedAvgM": lambda rate: {"server_optimizer": momentum(rate)},
    "FedAdagrad": lambda rate: {"server_optimizer": adagrad(rate)},
    "FedAdam": lambda rate: {"server_optimizer": adam(rate)},
    "FedYogi": lambda rate: {"server_optimizer": yogi(rate)},
    "FedProx": lambda rate: {"server_optimizer": sgd(rate), "proximal_mu": PROXIMAL_MU},
    "SCAFFOLD": lambda rate: {"server_optimizer": sgd(rate), "scaffold": True},
}
"""What each method of the explorer passes to :func:`federated_rounds`, for a server's rate."""


@dataclass(frozen=True)
class DifferingRun:
    """A run among clients that differ, as far as it has come.

    Attributes:
        counts: Examples of each digit that each client holds, shape (num_clients, 10).
        cohort: The clients of the last round.
        drift: How far they agreed in it; None before the first round.
        history: The rounds done so far.
        even: FedAvg with the same digits dealt evenly, all clients in every round.
        settings: The settings in words.
        problem: Why the run ended early, or an empty string.
    """

    counts: np.ndarray = field(repr=False)
    cohort: tuple[int, ...]
    drift: Drift | None
    history: History
    even: History
    settings: str
    problem: str = ""


def differing_run(
    alpha: float = 0.1,
    fraction: float = 1.0,
    method: str = "FedAvg",
    server_learning_rate: float = 1.0,
    *,
    rounds: int = ROUNDS,
) -> Iterator[DifferingRun]:
    """Train ten clients on the digits by one of the METHODS, yielding after every round.

    A run that blows up ends with a sentence; it does not raise.

    Args:
        alpha: How alike the clients are, see :func:`fltutor.data.partition_dirichlet`.
        fraction: Share of the clients in a round, above 0 to 1.
        method: One of METHODS. SCAFFOLD counts clients alike, the others by their examples.
        server_learning_rate: How much of its direction the server follows. For FedAdagrad,
            FedAdam and FedYogi it is in the units of the weights.
        rounds: How many rounds.

    Example:
        >>> *_, run = differing_run(alpha=0.1, rounds=2)
        >>> len(run.history.rounds), run.drift.arrows.shape
        (3, (10, 2))
    """
    digits, model = load_digits(), _model()
    parts = partition_dirichlet(digits.y, CLIENTS, alpha, np.random.default_rng(SEED))
    options = METHODS[method](server_learning_rate)
    alike = options.get("scaffold", False)
    cohort_size = max(1, round(fraction * CLIENTS))
    settings = (
        f"alpha {alpha:g}, {cohort_size} of {CLIENTS} clients, {method}, "
        f"server rate {server_learning_rate:.2g}"
    )
    num_params = len(get_params(model))
    seen: list[Drift] = []

    def watch(rows: np.ndarray, weights: Sequence[float] | None) -> AggregateResult:
        result = mean(rows, weights)  # first, since it refuses what is not finite
        updates = rows[:, :num_params]  # SCAFFOLD sends more
        if updates.any(axis=1).all():
            seen[:] = [drift(updates, weights)]
        return result

    running = federated_rounds(
        model,
        digits,
        parts,
        learning_rate=LEARNING_RATE,
        local_epochs=LOCAL_EPOCHS,
        seed=SEED,
        client_fraction=fraction,
        weigh_by_examples=not alike,
        aggregate=watch,
        **options,
    )
    done: list[Round] = []

    def result(problem: str = "") -> DifferingRun:
        return DifferingRun(
            counts=label_counts(digits.y, parts),
            cohort=done[-1].cohort,
            drift=seen[0] if seen else None,
            history=History(list(done)),
            even=even_run(rounds),
            settings=settings,
            problem=problem,
        )

    try:
        for latest in islice(running, rounds + 1):
            done.append(latest)
            yield result()
    except InvalidUpdateError:
        yield result("training blew up; lower the server rate")


@cache
def even_run(rounds: int = ROUNDS) -> History:
    """FedAvg on evenly dealt digits, all clients in every round: what the others aim at."""
    digits = load_digits()
    return run_federated(
        _model(),
        digits,
        partition_iid(digits.y, CLIENTS, np.random.default_rng(SEED)),
        rounds=rounds,
        learning_rate=LEARNING_RATE,
        local_epochs=LOCAL_EPOCHS,
        seed=SEED,
    )


@cache
def _model() -> keras.Model:
    return mlp(seed=SEED)  # one model for every run, so that it compiles once


def hospital_scores(seed: int) -> Mapping[str, np.ndarray]:
    """Train on the four hospitals alone, together, and pooled; score each model everywhere.

    The model is logistic regression, started at zero: a local step is of size 0.1, a round
    five epochs in batches of ten, and there are 20 rounds.

    Args:
        seed: Seed of a fresh split into training and test patients, and of all shuffles.

    Returns:
        For each model by name its accuracy on the test patients of each hospital and on
        all of them, shape (5,).
    """
    data, parts, tests = _split_hospitals(seed)
    model = _heart_model()
    everyone = np.arange(len(data.y))
    teachers = {
        **{
            f"{name} alone": [part]
            for name, part in zip(load_heart_disease().names, parts, strict=True)
        },
        "federated": parts,
        "pooled": [everyone],
    }
    scores = {}
    for name, own in teachers.items():
        history = run_federated(
            model,
            data,
            own,
            rounds=20,
            seed=seed,
            start=np.zeros(len(get_params(model)), np.float32),
            learning_rate=LEARNING_RATE,
            local_epochs=LOCAL_EPOCHS,
        )
        kernel, bias = np.split(history.params, [-2])
        logits = data.x_test @ kernel.reshape(-1, 2) + bias
        right = logits.argmax(axis=1) == data.y_test
        scores[name] = np.array([*(right[test].mean() for test in tests), right.mean()])
    return scores


@cache
def _heart_model() -> keras.Model:
    return mlp(load_heart_disease().data.x.shape[1], 2, hidden=())


def _split_hospitals(seed: int) -> tuple[Dataset, list[np.ndarray], list[np.ndarray]]:
    """Set other patients aside for testing: a fifth of each hospital and label."""
    heart = load_heart_disease()
    data = heart.data
    x, y = np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])
    hospital = np.empty(len(y), int)
    for number, (part, test) in enumerate(zip(heart.parts, heart.test_parts, strict=True)):
        hospital[part] = hospital[len(data.y) + test] = number
    strata, rng = 2 * hospital + y, np.random.default_rng(seed)
    test = np.concatenate(
        [
            rng.permutation(np.flatnonzero(strata == stratum))[: (strata == stratum).sum() // 5]
            for stratum in range(strata.max() + 1)
        ]
    )
    train = np.setdiff1d(np.arange(len(y)), test)
    numbers = range(len(heart.names))
    return (
        Dataset(x[train], y[train], x[test], y[test], data.name),
        [np.flatnonzero(hospital[train] == number) for number in numbers],
        [np.flatnonzero(hospital[test] == number) for number in numbers],
    )
