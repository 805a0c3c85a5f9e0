"""Checks of notebook 10: the divergence of a Gaussian, noise for a target, seeded noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fltutor.checks import agree, difference, named, no_answer, verdict
from fltutor.errors import InvalidParameterError
from fltutor.privacy.accounting import epsilon_after, noise_multiplier_for

TARGETS = ((2.0, 30, 1e-3, 0.2), (8.0, 100, 1e-5, 0.05), (1.0, 10, 1e-5, 0.5))
"""Target epsilon, rounds, delta and Poisson sampling rate."""
NUM_SEEDS = 10_000
NOISE = 5.0
"""Standard deviation of the noise on the published counts."""


def check_gaussian_rdp(mine: Callable[[float, float, int], float]) -> None:
    """Compare ``mine(order, z, rounds)`` with the divergence of rounds without sampling.

    Example:
        >>> check_gaussian_rdp(lambda order, z, rounds: order / (2 * z**2))
        ✗ my_gaussian_rdp: this is one round's: divergences add up over rounds
    """

    def fltutor_rdp(order, z, rounds):
        return rounds * order / (2 * z**2)

    agree(
        named("my_gaussian_rdp", mine),
        fltutor_rdp,
        (8.0, 3.0, 30),
        (1.5, 0.5, 100),
        (2.0, 1.0, 1),
        mistakes={
            "one round's: divergences add up over rounds": lambda a, z, t: a / (2 * z**2),
            "twice the divergence: the 2 of the normal density is lost": lambda a, z, t: (
                t * a / z**2
            ),
            "divided by z, not by its square": lambda a, z, t: t * a / (2 * z),
            "what standard deviations do: divergences add up, without a root": lambda a, z, t: (
                math.sqrt(t) * a / (2 * z**2)
            ),
            "for the order below: the exponents of the densities are a and 1 - a": lambda a, z, t: (
                t * (a - 1) / (2 * z**2)
            ),
            "the logarithm of the moment: divide by order - 1": lambda a, z, t: (
                t * a * (a - 1) / (2 * z**2)
            ),
        },
    )


def check_noise(mine: Callable[[float, int, float, float], float]) -> None:
    """Judge ``mine(epsilon, rounds, delta, sampling_rate)`` by what its noise costs by RDP.

    Example:
        >>> check_noise(lambda *target: 0.5)
        ✗ noise 0.5 costs epsilon 27.7, not 2, with 30 rounds, delta 0.001 and q = 0.2
    """

    def noise(epsilon, rounds, delta, rate=1.0):
        sampling = "none" if rate == 1 else "poisson"
        return noise_multiplier_for(
            epsilon, rounds, delta=delta, sampling_rate=rate, sampling=sampling
        )

    mistakes = {
        "the textbook formula: it knows one round, and no epsilon above 1": lambda e, t, d, q: (
            math.sqrt(2 * math.log(1.25 / d)) / e
        ),
        "the noise for a single round": lambda e, t, d, q: noise(e, 1, d, q),
        "one budget per round, added up: count the run as a whole": lambda e, t, d, q: noise(
            e / t, 1, d, q
        ),
        "the noise without sampling: the coins are worth something": lambda e, t, d, q: noise(
            e, t, d
        ),
    }

    def attempt():
        for target in TARGETS:
            epsilon, rounds, delta, rate = target
            z = mine(*target)
            if z is None or z is ...:
                return no_answer(mine, z)
            z, best = float(z), noise(*target)
            if best * (1 - 1e-4) <= z <= 1.005 * best:  # the last digits of a search are free
                continue
            for name, mistake in mistakes.items():
                try:
                    if abs(z / mistake(*target) - 1) < 0.005:
                        return f"my_noise: this is {name}"
                except InvalidParameterError:  # that mistake has no answer here
                    continue
            spent = epsilon_after(
                rounds, noise_multiplier=z, delta=delta, sampling_rate=rate, sampling="poisson"
            ).epsilon
            terms = f"with {rounds} rounds, delta {delta:g} and q = {rate:g}"
            if z < best:
                return f"noise {z:.3g} costs epsilon {spent:.3g}, not {epsilon:g}, {terms}"
            return (
                f"noise {z:.3g} is more than needed for {epsilon:g}: it costs {spent:.3g}, {terms}"
            )
        return None

    verdict(attempt, "the noise is just enough for three runs")


def seeded_counts(pin: int) -> tuple[np.ndarray, np.ndarray]:
    """Count patients in twenty wards and publish with noise from a seed below ten thousand.

    Args:
        pin: Which counts, and which seed; the seed is another number.

    Returns:
        The true counts, whole numbers, and what is published, both of shape (20,).

    Example:
        >>> counts, published = seeded_counts(pin=1)
        >>> counts.dtype, published[:2].round(2)
        (dtype('int64'), array([58.76, 10.44]))
    """
    rng = np.random.default_rng([10, pin])
    counts = rng.integers(0, 60, size=20)
    seed = int(rng.integers(NUM_SEEDS))
    return counts, counts + NOISE * np.random.default_rng(seed).standard_normal(counts.size)


def check_subtract(mine: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let ``mine(published)`` take seeded noise off published counts, and compare with the truth.

    Example:
        >>> check_subtract(lambda published: np.rint(published))
        ✗ my_subtract: this is rounding: the noise is still there
    """

    def noise(seed, size):
        return NOISE * np.random.default_rng(seed).standard_normal(size)

    mistakes = {
        "rounding: the noise is still there": np.rint,
        "the noise of seed 0: which seed leaves whole numbers?": lambda p: np.rint(
            p - noise(0, p.size)
        ),
        "a guess without the published numbers": lambda p: np.zeros(p.size),
        "smoothing: what is asked for is every single count": lambda p: np.full(p.size, p.mean()),
    }

    def attempt():
        for pin in (1, 2, 3):
            counts, published = seeded_counts(pin)
            got = mine(published.copy())
            if got is None or got is ...:
                return no_answer(mine, got)
            problem = difference(np.asarray(got, dtype=float), counts.astype(float), 1e-3)
            if problem is None:
                continue
            for name, mistake in mistakes.items():
                if difference(got, mistake(published)) is None:
                    return f"my_subtract: this is {name}"
            if np.ndim(got) == 0:
                return "my_subtract gives one number: give the twenty counts, not the seed"
            return f"my_subtract: {problem}"
        return None

    verdict(attempt, "sixty counts, and the noise is gone from all of them")
