"""The explorer that the course leads to: clients, noise and rounds of a real private training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import ipywidgets as ipw
import numpy as np

from fltutor.aggregation import dp_mean
from fltutor.data import load_digits, partition_iid
from fltutor.explorers.kept_run import KeptRun
from fltutor.models import mlp
from fltutor.plots.start_here import draw_private_training
from fltutor.privacy.accounting import budget_curve, epsilon_after
from fltutor.simulation import federated_rounds
from fltutor.widgets import Explorer, explorer

CLIENTS = (5, 10, 20, 50, 100, 200, 400)
MAX_ROUNDS = 30
DELTA = 1e-3
CLIP_NORM = 1.0
LOCAL_EPOCHS = 5
LEARNING_RATE = 0.3


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
    for done in _kept_run(clients, noise, seed).reach(rounds):
        yield PrivateTraining(clients, noise, rounds, np.array(done), epsilon, spent)


@lru_cache(maxsize=128)
def _kept_run(clients: int, noise: float, seed: int) -> KeptRun[float]:
    """The accuracies of one run."""
    return KeptRun(partial(_accuracies, clients, noise, seed))


def _accuracies(clients: int, noise: float, seed: int) -> Iterator[float]:
    digits = load_digits()
    rng = np.random.default_rng(seed)
    running = federated_rounds(
        _model(),
        digits,
        partition_iid(digits.y, clients, rng),
        learning_rate=LEARNING_RATE,
        local_epochs=LOCAL_EPOCHS,
        seed=seed,
        weigh_by_examples=False,
        aggregate=partial(
            dp_mean,
            clip_norm=CLIP_NORM,
            noise_multiplier=noise,
            expected_cohort=clients,
            rng=rng,
            allow_no_noise=True,
        ),
    )
    for latest in running:
        yield latest.accuracy


@cache
def _model():
    return mlp()  # one model for all runs, so that it compiles once


def training_explorer() -> Explorer:
    """Slide clients, noise and rounds; watch accuracy and epsilon of a real training."""
    return explorer(
        compute=private_training,
        draw=draw_private_training,
        controls={
            "clients": ipw.SelectionSlider(options=CLIENTS, value=10, description="clients"),
            "noise": ipw.FloatSlider(1.0, min=0, max=8, step=0.5, description="noise multiplier z"),
            "rounds": ipw.IntSlider(20, min=1, max=MAX_ROUNDS, description="rounds"),
        },
    )
