"""The private training of notebooks 00 and 11: digits, clipped and noisy averages, kept runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache, partial
from typing import NamedTuple

import numpy as np

from fltutor.aggregation import AdaptiveClip, AggregateResult, dp_mean
from fltutor.data import load_digits, partition_iid
from fltutor.lessons.kept_run import KeptRun
from fltutor.models import mlp
from fltutor.simulation import federated_rounds
from fltutor.tensorflow_quietly import keras
from fltutor.vectors import row_norms

DELTA = 1e-3
LOCAL_EPOCHS = 5
LEARNING_RATE = 0.3
CLIP_LEARNING_RATE = 0.5


class PrivateRound(NamedTuple):
    """What is kept of a round.

    Attributes:
        accuracy: Test accuracy after it, 0 to 1.
        clip_norm: What updates were clipped to; None before the first round.
        median_norm: The median length of the clients' updates, NaN if nobody came or it was
            not measured. A real server cannot know it.
    """

    accuracy: float
    clip_norm: float | None
    median_norm: float


@lru_cache(maxsize=256)
def kept_private_run(
    clients: int,
    noise: float,
    clip: float,
    *,
    seed: int,
    quantile: float | None = None,
    sampling_rate: float = 1.0,
    poisson_sampling: bool = False,
    with_norms: bool = False,
) -> KeptRun[PrivateRound]:
    """Get the run of a setting, as far as it has come; noise is seeded: a demonstration.

    Args:
        clients: How many clients share the training digits evenly.
        noise: Noise multiplier; 0 trains without noise.
        clip: The clipping norm, or where it starts.
        seed: Seed of the split, the samples, the shuffles and the noise.
        quantile: The target of adaptive clipping; None keeps the norm fixed.
        sampling_rate: The share of the clients, or under Poisson sampling the probability
            with which each of them takes part in a round.
        poisson_sampling: Whether each client tosses a coin of its own.
        with_norms: Whether to measure the updates' lengths, which takes time.

    Example:
        >>> *_, done = kept_private_run(20, 1.0, clip=1.0, seed=0).reach(2)
        >>> [one.clip_norm for one in done]
        [None, 1.0, 1.0]
    """

    def start() -> Iterator[PrivateRound]:
        digits, rng, norm = load_digits(), np.random.default_rng(seed), np.nan
        private_mean = partial(
            dp_mean,
            clip_norm=clip
            if quantile is None
            else AdaptiveClip(clip, quantile=quantile, learning_rate=CLIP_LEARNING_RATE),
            noise_multiplier=noise,
            expected_cohort=sampling_rate * clients,
            rng=rng,
            allow_no_noise=True,
        )

        def aggregate(updates: np.ndarray, weights: None) -> AggregateResult:
            nonlocal norm
            if with_norms:
                norm = float(np.median(row_norms(updates))) if len(updates) else np.nan
            return private_mean(updates)

        running = federated_rounds(
            _model(),
            digits,
            partition_iid(digits.y, clients, rng),
            learning_rate=LEARNING_RATE,
            local_epochs=LOCAL_EPOCHS,
            seed=seed,
            client_fraction=sampling_rate,
            poisson_sampling=poisson_sampling,
            weigh_by_examples=False,
            aggregate=aggregate,
        )
        for latest in running:
            yield PrivateRound(latest.accuracy, latest.clip_norm, norm)

    return KeptRun(start)


@cache
def _model() -> keras.Model:
    return mlp()  # one model for all runs, so that it compiles once
