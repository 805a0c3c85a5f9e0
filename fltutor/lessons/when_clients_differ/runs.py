"""Notebook 05: how clients that differ pull a model apart, and what holds it together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice

import numpy as np

from fltutor.aggregation import AggregateResult, Drift, drift, mean
from fltutor.data import (
    label_counts,
    load_digits,
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

    def result(problem: str = "", stopped_by: InvalidUpdateError | None = None) -> DifferingRun:
        return DifferingRun(
            counts=label_counts(digits.y, parts),
            cohort=done[-1].cohort,
            drift=seen[0] if seen else None,
            history=History(list(done), stopped_by),
            even=even_run(rounds),
            settings=settings,
            problem=problem,
        )

    try:
        for latest in islice(running, rounds + 1):
            done.append(latest)
            yield result()
    except InvalidUpdateError as error:
        yield result("training blew up; lower the server rate", error)


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
