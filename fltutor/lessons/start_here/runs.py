"""Notebook 00, where the course leads: clients, noise and rounds of a real private training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fltutor.lessons.private_training import DELTA, kept_private_run
from fltutor.privacy.accounting import budget_curve, epsilon_after

CLIENTS = (5, 10, 20, 50, 100, 200, 400)
MAX_ROUNDS = 30
CLIP_NORM = 1.0


@dataclass(frozen=True)
class PrivateTraining:
    """Accuracy and epsilon of one run after 0, 1, 2, ... rounds.

    Attributes:
        clients: How many clients share the 1,442 training digits.
        rounds: How many rounds were asked for; ``accuracy`` may still be on its way.
        accuracy: Test accuracy, one number per round done so far and one before.
        epsilon: Epsilon after 0 to ``rounds`` rounds, at client level.
        spent: The last epsilon in words, with delta and all that belongs beside it.
    """

    clients: int
    noise: float
    rounds: int
    accuracy: np.ndarray
    epsilon: np.ndarray
    spent: str


def private_training(
    clients: int, noise: float, rounds: int, *, seed: int = 0
) -> Iterator[PrivateTraining]:
    """Train on the digits with clipped and noisy averages, yielding as rounds are done.

    The run of each setting is kept, so fewer rounds are a prefix of it and more
    rounds go on where it stopped. Noise is seeded: a demonstration, no protection.

    Args:
        clients: How many clients share the training digits evenly, all in every round.
        noise: Noise multiplier; 0 trains without noise (epsilon is infinite).
        rounds: How many rounds to show.
        seed: Seed of the split, the shuffles and the noise.

    Example:
        >>> *_, run = private_training(clients=50, noise=1.0, rounds=3)
        >>> len(run.accuracy), run.spent
        (4, 'epsilon = 7 at delta = 1e-3 (client, add-or-remove-one, no sampling, RDP)')
    """
    epsilon = budget_curve(noise, rounds, delta=DELTA)
    spent = str(epsilon_after(rounds, noise_multiplier=noise, delta=DELTA))
    for done in kept_private_run(clients, noise, CLIP_NORM, seed=seed).reach(rounds):
        accuracy = np.array([one.accuracy for one in done])
        yield PrivateTraining(clients, noise, rounds, accuracy, epsilon, spent)
