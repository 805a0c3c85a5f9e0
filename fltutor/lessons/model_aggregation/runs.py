"""Notebook 04: how much to learn at home before talking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fltutor.data import Dataset, load_digits, partition_iid
from fltutor.errors import InvalidUpdateError
from fltutor.models import mlp
from fltutor.simulation import History, Round, federated_rounds, run_federated
from fltutor.tensorflow_quietly import keras

MAX_ROUNDS = 50
FEDSGD_LEARNING_RATE = 0.5
BATCH_SIZES = (5, 10, 30)


@dataclass(frozen=True)
class LocalWork:
    """A run so far, beside FedSGD from the same start.

    Attributes:
        history: The rounds done so far.
        fedsgd: One full-batch step a round, all clients: the run to beat.
        passes_per_round: How often a round goes through all the data of the federation,
            on average: local epochs times the share of clients that take part.
        settings: The settings in words.
    """

    history: History
    fedsgd: History
    passes_per_round: float
    settings: str

    @property
    def diverged(self) -> bool:
        """Whether training ended because weights were no longer numbers."""
        return self.history.stopped_by is not None


def local_work(
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    fedsgd: History,
    *,
    local_epochs: int,
    batch_size: int,
    learning_rate: float,
    fraction: float,
    rounds: int = MAX_ROUNDS,
    seed: int = 0,
) -> Iterator[LocalWork]:
    """Train with federated averaging, yielding after every round.

    A learning rate that is too large ends the run; it does not raise.

    Args:
        model: Gives the architecture; every run starts where ``fedsgd`` did.
        data: The examples of all clients, and the test examples.
        parts: One array of example indices per client.
        fedsgd: The run to compare with, from :func:`fedsgd_run`.
        local_epochs: Passes over its data that a client makes in a round.
        batch_size: Examples in a local batch.
        learning_rate: Step size of the clients' SGD.
        fraction: Share of the clients in a round, above 0 to 1.
        rounds: How many rounds.
        seed: Seed of sampling and shuffling.
    """
    cohort = max(1, round(fraction * len(parts)))
    largest = max(len(part) for part in parts)
    batches = f"batches of {batch_size}" if batch_size < largest else "full batches"
    settings = (
        f"{local_epochs} local epoch{'s' * (local_epochs > 1)}, {batches}, "
        f"rate {learning_rate:.2g}, {cohort} of {len(parts)} clients"
    )
    running = federated_rounds(
        model,
        data,
        parts,
        learning_rate=learning_rate,
        seed=seed,
        start=fedsgd.rounds[0].params,
        client_fraction=fraction,
        batch_size=batch_size,
        local_epochs=local_epochs,
    )
    done: list[Round] = []
    passes = local_epochs * cohort / len(parts)
    try:
        for latest in islice(running, rounds + 1):
            done.append(latest)
            yield LocalWork(History(list(done)), fedsgd, passes, settings)
    except InvalidUpdateError as error:
        yield LocalWork(History(done, stopped_by=error), fedsgd, passes, settings)


def fedsgd_run(
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    *,
    learning_rate: float = FEDSGD_LEARNING_RATE,
    rounds: int = MAX_ROUNDS,
) -> History:
    """Train with FedSGD: each client takes one step on all its data, then talks.

    Reference:
        McMahan et al., AISTATS 2017, section 2: E = 1 and B = infinity.
        https://arxiv.org/abs/1602.05629
    """
    largest = max(len(part) for part in parts)
    return run_federated(
        model, data, parts, rounds=rounds, learning_rate=learning_rate, batch_size=largest
    )


def ten_clients() -> tuple[keras.Model, Dataset, list[np.ndarray]]:
    """The model, the digits, and who holds which, dealt evenly."""
    digits = load_digits()
    return mlp(seed=0), digits, partition_iid(digits.y, 10, np.random.default_rng(0))
