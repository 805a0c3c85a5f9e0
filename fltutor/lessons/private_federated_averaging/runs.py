"""Notebook 11: private training with fixed and adaptive clipping, and attacks on a release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fltutor.aggregation import dp_mean
from fltutor.lessons.private_training import DELTA, kept_private_run
from fltutor.lessons.single_digits import Cohort, one_digit_each
from fltutor.privacy.accounting import budget_curve, epsilon_after
from fltutor.vectors import clip_by_norm

CLIENTS = (10, 20, 50, 100, 200, 400)
SAMPLING_RATES = (0.1, 0.2, 0.5, 1.0)
CLIPS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
FIXED = "fixed"
QUANTILES = (FIXED, 0.1, 0.3, 0.5, 0.7, 0.9)
MAX_ROUNDS = 40


@dataclass(frozen=True)
class PrivateRun:
    """One private training, as far as it has come.

    Attributes:
        clients: How many clients share the 1,442 training digits.
        sampling_rate: The probability with which each takes part in a round.
        noise: The noise multiplier.
        quantile: The target of adaptive clipping; None if the clipping norm was fixed.
        rounds: How many rounds were asked for; ``accuracy`` may still be on its way.
        accuracy: Test accuracy, one number per round done so far and one before.
        clips: The clipping norm of each round done.
        norms: The median length of the clients' updates in each round done, NaN if nobody
            came. A real server cannot know it.
        epsilon: Epsilon after 0 to ``rounds`` rounds, at client level.
        spent: The last epsilon in words, with delta and all that belongs beside it.
    """

    clients: int
    sampling_rate: float
    noise: float
    quantile: float | None
    rounds: int
    accuracy: np.ndarray = field(repr=False)
    clips: np.ndarray = field(repr=False)
    norms: np.ndarray = field(repr=False)
    epsilon: np.ndarray = field(repr=False)
    spent: str


def private_run(
    clients: int,
    sampling_rate: float,
    noise: float,
    clip: float,
    quantile: float | str = FIXED,
    rounds: int = 20,
    *,
    seed: int = 0,
) -> Iterator[PrivateRun]:
    """Train on the digits with private averages, yielding as rounds are done.

    The run of each setting is kept, so fewer rounds are a prefix of it and more
    rounds go on where it stopped. Noise is seeded: a demonstration, no protection.

    Args:
        clients: How many clients share the training digits evenly.
        sampling_rate: The probability with which each client takes part in a round.
        noise: Noise multiplier; 0 trains without noise (epsilon is infinite).
        clip: The clipping norm, or where it starts.
        quantile: The target of adaptive clipping, or ``"fixed"``.
        rounds: How many rounds to show.
        seed: Seed of the split, the samples, the shuffles and the noise.

    Example:
        >>> *_, run = private_run(100, 0.5, noise=2.0, clip=0.1, quantile=0.5, rounds=2)
        >>> len(run.accuracy), len(run.clips), bool(run.clips[1] > run.clips[0])
        (3, 2, True)
    """
    target = None if quantile == FIXED else float(quantile)
    kept = kept_private_run(
        clients,
        noise,
        clip,
        seed=seed,
        quantile=target,
        sampling_rate=sampling_rate,
        poisson_sampling=True,
        with_norms=True,
    )
    sampled = {"sampling_rate": sampling_rate, "sampling": "poisson"} if sampling_rate < 1 else {}
    epsilon = budget_curve(noise, rounds, delta=DELTA, **sampled)
    spent = str(epsilon_after(rounds, noise_multiplier=noise, delta=DELTA, **sampled))
    for done in kept.reach(rounds):
        private = done[1:]  # the start has neither norm
        yield PrivateRun(
            clients,
            sampling_rate,
            noise,
            target,
            rounds,
            np.array([one.accuracy for one in done]),
            np.array([one.clip_norm for one in private]),
            np.array([one.median_norm for one in private]),
            epsilon,
            spent,
        )


def last_of(seeds: int, *setting: float | str, rounds: int) -> list[PrivateRun]:
    """Run one setting to the end with several seeds.

    Args:
        seeds: How many, from 0 on.
        setting: As in :func:`private_run`: clients, sampling rate, noise, clip, quantile.
        rounds: How many rounds.
    """
    return [[*private_run(*setting, rounds=rounds, seed=seed)][-1] for seed in range(seeds)]


# --- attacks on what is published -----------------------------------------------------------------

SHORT = 0.1
"""A clipping norm below the length of every update of one digit: all of them are clipped."""


def released_alone(cohort: Cohort, noise_multiplier: float, seed: int = 0) -> np.ndarray:
    """What a private server would publish about each client alone: the attacker's best case.

    Returns:
        Shape (n, d). The noise is seeded: a demonstration.
    """
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            dp_mean(
                update[None],
                clip_norm=SHORT,
                noise_multiplier=noise_multiplier,
                expected_cohort=1,
                rng=rng,
            ).update
            for update in cohort.updates
        ]
    )


def in_or_out(noise_multiplier: float, trials: int = 200, *, seed: int = 0) -> np.ndarray:
    """Guess from a private mean of ten clients whether one of them was there.

    The attacker is the one that differential privacy is about: it knows everybody's update,
    and not whether this client came. It says "in" if the release, less what the others
    give, points more than half the way to the client's clipped update.

    Args:
        noise_multiplier: Of the release.
        trials: Half of them with the client, half without.
        seed: Of the noise: a demonstration.

    Returns:
        Whether each guess was right, shape (trials,).

    Example:
        >>> in_or_out(0.05, trials=4)
        array([ True,  True,  True,  True])
    """
    cohort, rng = one_digit_each(10), np.random.default_rng(seed)
    clipped = clip_by_norm(cohort.updates, SHORT).astype(np.float64)
    right = []
    for trial in range(trials):
        suspect, came = trial % len(clipped), trial < trials / 2
        others = np.delete(clipped, suspect, axis=0)
        release = dp_mean(
            clipped if came else others,
            clip_norm=SHORT,
            noise_multiplier=noise_multiplier,
            expected_cohort=10,
            rng=rng,
        ).update
        trace = 10 * release - others.sum(axis=0)
        right.append((trace @ clipped[suspect] > SHORT**2 / 2) == came)
    return np.array(right)
