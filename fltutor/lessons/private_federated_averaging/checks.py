"""Checks of notebook 11: bounded weights, rounds lost to a bad start, local and central noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from math import ceil, log, log10, sqrt

import numpy as np

from fltutor.aggregation import AdaptiveClip, dp_mean
from fltutor.checks import difference, no_answer, verdict
from fltutor.privacy.mechanisms import gaussian_mechanism
from fltutor.protocols import plain_sum
from fltutor.vectors import clip_by_norm, row_norms

CLIP_NORM, MAX_WEIGHT = 1.0, 50.0


def _share(weights: np.ndarray, max_weight: float) -> np.ndarray:
    return np.minimum(np.asarray(weights) / max_weight, 1)[:, None]


def check_bounded_rows(mine: Callable[..., np.ndarray]) -> None:
    """Run the reader's rows on a cohort with one giant, and say how far one client moves the sum.

    Example:
        >>> check_bounded_rows(lambda updates, weights, max_weight, clip_norm: ...)
        · not attempted yet
        >>> check_bounded_rows(lambda updates, weights, max_weight, clip_norm: (
        ...     clip_by_norm(updates, clip_norm) * np.array(weights)[:, None]))
        one client moves the sum by up to 1000; the noise covers 1
        ✗ my_bounded_rows: the bare weight multiplies what was clipped
    """
    updates = np.random.default_rng(11).normal(size=(5, 4)) * [[0.1], [0.3], [1], [1], [1]]
    weights = np.array([10.0, 40.0, 25.0, 50.0, 1000.0])
    right = _share(weights, MAX_WEIGHT) * clip_by_norm(updates, CLIP_NORM)
    clipped = clip_by_norm(updates, CLIP_NORM)
    mistakes = {
        "the bare weight multiplies what was clipped": clipped * weights[:, None],
        "a share above 1: whoever has more than max_weight counts as max_weight": (
            clipped * weights[:, None] / MAX_WEIGHT
        ),
        "shares of the total: it tells about everybody's weight, and one who leaves changes all": (
            clipped * weights[:, None] / weights.sum()
        ),
        "nothing is clipped: a short weight does not make a long update short": (
            _share(weights, MAX_WEIGHT) * updates
        ),
        "weighed first, then clipped: private, but a heavy update is cut where a light one is "
        "not, so it is no weighted mean": clip_by_norm(updates * weights[:, None], CLIP_NORM),
        "the share first, then clipped: private, but long updates lose no weight": clip_by_norm(
            _share(weights, MAX_WEIGHT) * updates, CLIP_NORM
        ),
        "clipped coordinate by coordinate: four of them at the limit are twice as long": (
            _share(weights, MAX_WEIGHT) * np.clip(updates, -CLIP_NORM, CLIP_NORM)
        ),
        "no weights at all": clipped,
    }

    def attempt():
        rows = mine(updates.copy(), weights.copy(), MAX_WEIGHT, CLIP_NORM)
        if rows is None or rows is ...:
            return no_answer(mine, rows)
        if np.shape(rows) != updates.shape:
            return f"my_bounded_rows gives shape {np.shape(rows)}, needed {updates.shape}"
        rows = np.asarray(rows, np.float64)
        longest = row_norms(rows).max()
        print(f"one client moves the sum by up to {longest:.4g}; the noise covers {CLIP_NORM:g}")
        problem = difference(rows, right)
        if problem is None:
            return None
        for name, mistake in mistakes.items():
            if difference(rows, mistake) is None:
                return f"my_bounded_rows: {name}"
        if longest > CLIP_NORM:
            return "my_bounded_rows: one client moves the sum by more than the noise covers"
        return f"my_bounded_rows: private, but not the weighted sum: {problem}"

    verdict(attempt, "a weighted sum that no client moves by more than clip_norm")


STARTS = ((0.01, 0.5, 0.5), (100, 0.5, 0.5), (0.01, 0.9, 0.2), (100, 0.9, 0.2), (7, 0.3, 1.0))
"""Where a norm starts, as a multiple of the length it should find; quantile; learning rate."""


def check_lost_rounds(mine: Callable[[float, float, float], int]) -> None:
    """Compare ``mine(factor, quantile, learning_rate)`` with real adaptive clips, without noise.

    Example:
        >>> check_lost_rounds(lambda factor, quantile, learning_rate: ...)
        · not attempted yet
        >>> check_lost_rounds(lambda f, q, eta: ceil(abs(log(f)) / eta))
        ✗ my_lost_rounds: this is a full learning rate per round; the gap between shares is less
    """

    def walk(factor, step):
        return ceil(abs(log(factor)) / step)

    mistakes = {
        "a full learning rate per round; the gap between shares is less": (
            lambda f, q, eta: walk(f, eta)
        ),
        "the speed upwards in both directions": lambda f, q, eta: walk(f, eta * q),
        "the speed downwards in both directions": lambda f, q, eta: walk(f, eta * (1 - q)),
        "up and down exchanged: below the truth nobody is unclipped, so the gap is quantile": (
            lambda f, q, eta: walk(f, eta * (q if f > 1 else 1 - q))
        ),
        "the logarithm to base 10; exp needs the natural one": lambda f, q, eta: ceil(
            abs(log10(f)) / (eta * (q if f < 1 else 1 - q))
        ),
        "steps of equal length; each round multiplies": lambda f, q, eta: ceil(
            abs(f - 1) / (eta * (q if f < 1 else 1 - q))
        ),
    }

    def attempt():
        first = mine(*STARTS[0])
        if first is None or first is ...:
            return no_answer(mine, first)
        own = [mine(*start) for start in STARTS]
        real = [_rounds_of(*start) for start in STARTS]
        wrong = [place for place, rounds in enumerate(real) if own[place] != rounds]
        if not wrong:
            return None
        for name, mistake in mistakes.items():
            if own == [mistake(*start) for start in STARTS]:
                return f"my_lost_rounds: this is {name}"
        factor, quantile, learning_rate = STARTS[wrong[0]]
        return (
            f"my_lost_rounds: factor {factor:g}, quantile {quantile:g}, learning rate "
            f"{learning_rate:g}: got {own[wrong[0]]}, a real clip needs {real[wrong[0]]}"
        )

    verdict(attempt, f"my_lost_rounds counts the rounds of {len(STARTS)} real adaptive clips")


@cache
def _rounds_of(factor: float, quantile: float, learning_rate: float) -> int:
    """Let a real adaptive clip walk from ``factor`` past 1, the length of the only update."""
    clip = AdaptiveClip(factor, quantile=quantile, learning_rate=learning_rate)
    update, no_noise = np.ones((1, 1)), {"noise_multiplier": 0, "allow_no_noise": True}
    while (clip.clip_norm < 1) == (factor < 1):
        dp_mean(update, clip_norm=clip, expected_cohort=1, **no_noise)
    return len(clip.path) - 1


NOISE_CASES = tuple(
    (where, num_clients, 2.0, 0.5)
    for where in ("central", "distributed", "local")
    for num_clients in (10, 100)
)
CLOSE = 0.03
"""Relative error that counts as equal: six standard errors of the measurement."""


def check_noise(mine: Callable[[str, int, float, float], float]) -> None:
    """Compare ``mine(where, num_clients, noise_multiplier, clip_norm)`` with measured noise.

    Example:
        >>> check_noise(lambda where, num_clients, noise_multiplier, clip_norm: ...)
        · not attempted yet
    """
    central, local = {"central", "distributed"}, {"local"}
    mistakes = {
        "the noise of the sum: the average divides it": lambda w, n, z, c: (
            z * c * (sqrt(n) if w in local else 1)
        ),
        "n independent noises added like numbers: variances add, not deviations": (
            lambda w, n, z, c: z * c if w in local else z * c / n
        ),
        "local noise as small as central noise: every client adds all of it": lambda w, n, z, c: (
            z * c / n
        ),
        "central noise as large as local noise: it is added once": lambda w, n, z, c: (
            z * c / sqrt(n)
        ),
        "distributed noise as large as local noise: each share is smaller by sqrt(n)": (
            lambda w, n, z, c: z * c / (n if w == "central" else sqrt(n))
        ),
        "noise without clip_norm: z counts in units of it": lambda w, n, z, c: (
            z / (n if w in central else sqrt(n))
        ),
    }

    def off(answer):
        ratios = [answer(*case) / _measured(*case) for case in NOISE_CASES]
        return next(
            (place for place, ratio in enumerate(ratios) if not abs(ratio - 1) < CLOSE), None
        )

    def attempt():
        answer = mine(*NOISE_CASES[0])
        if answer is None or answer is ...:
            return no_answer(mine, answer)
        wrong = off(mine)
        if wrong is None:
            return None
        own = [mine(*case) for case in NOISE_CASES]
        for name, mistake in mistakes.items():
            if np.allclose(own, [mistake(*case) for case in NOISE_CASES]):
                return f"my_noise: this is {name}"
        where, num_clients, *_ = NOISE_CASES[wrong]
        return (
            f"my_noise: {where}, {num_clients} clients: got {own[wrong]:.4g}, "
            f"measured {_measured(*NOISE_CASES[wrong]):.4g}"
        )

    verdict(attempt, f"my_noise is within {CLOSE:.0%} of the noise of {len(NOISE_CASES)} real runs")


@cache
def _measured(where: str, num_clients: int, noise_multiplier: float, clip_norm: float) -> float:
    """Standard deviation per coordinate in the average of zero updates, from a real run."""
    zeros, draw = np.zeros((num_clients, 20_000)), np.random.default_rng(11)
    if where == "central":
        return dp_mean(
            zeros,
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            expected_cohort=num_clients,
            rng=draw,
        ).update.std()
    share = noise_multiplier / (sqrt(num_clients) if where == "distributed" else 1)
    add_share = partial(gaussian_mechanism, sensitivity=clip_norm, noise_multiplier=share, rng=draw)
    return (plain_sum(np.stack([add_share(row).value for row in zeros])).total / num_clients).std()
