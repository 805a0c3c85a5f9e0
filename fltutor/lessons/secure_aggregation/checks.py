"""Checks of the exercises of notebook 08."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fltutor.aggregation import mean
from fltutor.border import is_whole
from fltutor.checks import agree, difference, no_answer, verdict
from fltutor.crypto.prg import expand
from fltutor.fixed_point import FixedPoint
from fltutor.protocols import secagg_sum
from fltutor.transcript import Phase, SumResult

SEED_GRID = FixedPoint(fraction_bits=16, bits=24, ring_bits=32)
"""The grid of exercise 8.1."""

_ROW = np.array([0.5, -1.25, 3.0, 0.0, -0.75])
_SEEDS = (12345, 8190)  # under 8190, seed 2505 makes the first number small by chance
_SUCCESS = 0.999


def mask_of_16_bits(number: int, length: int) -> np.ndarray:
    """Expand a seed of which only 16 bits are random: the mask of exercise 8.1.

    Example:
        >>> mask_of_16_bits(7, 3).dtype
        dtype('uint32')
    """
    return expand(number.to_bytes(32, "big"), length, np.uint32)


def check_seed(my_seed: Callable) -> None:
    """Check exercise 8.1: find the seed behind a masked row.

    Example:
        >>> check_seed(lambda upload: ...)
        · not attempted yet
    """
    verdict(lambda: _seed_problem(my_seed), "both seeds found: 16 bits hide nothing")


def _seed_problem(my_seed: Callable) -> Any:
    for number in _SEEDS:
        upload = SEED_GRID.encode(_ROW).values + mask_of_16_bits(number, len(_ROW))
        found = my_seed(upload.copy())
        if found is None or found is ...:
            return no_answer(my_seed, found)
        if not is_whole(found):
            return f"needed the number of the seed, 0 to 65535, got {type(found).__name__}"
        if found != number:
            return _wrong_seed(found, upload)
    return None


def _wrong_seed(found: int, upload: np.ndarray) -> str:
    if not 0 <= found < 2**16:
        return f"the seed has 16 bits: 0 to 65535, got {found}"
    row = SEED_GRID.decode(upload - mask_of_16_bits(int(found), len(upload)))
    if abs(row[0]) < 10:
        return (
            f"seed {found} makes the first number small by chance ({row[0]:.2f}), but the others "
            f"are {row[1]:.0f}, {row[2]:.0f}, ...: look at all of them"
        )
    return f"under seed {found} the row would start with {row[0]:.0f}, {row[1]:.0f}: no update does"


def highest_threshold(num_clients: int, leave: float) -> int:
    """The highest threshold with which at least 99.9 % of rounds have enough clients to the end.

    Args:
        num_clients: How many are invited.
        leave: The chance of each to leave, independently of the others.

    Example:
        >>> highest_threshold(100, 0.1)
        80
    """
    chance = 0.0
    for staying in range(num_clients, 0, -1):
        chance += _stay_exactly(num_clients, staying, leave)
        if chance >= _SUCCESS:
            return staying
    return 0


def _stay_exactly(num_clients: int, staying: int, leave: float) -> float:
    ways = math.comb(num_clients, staying)
    return ways * (1 - leave) ** staying * leave ** (num_clients - staying)


def check_threshold(my_threshold: Callable) -> None:
    """Check exercise 8.2: choose a threshold.

    Example:
        >>> check_threshold(lambda num_clients, leave: ...)
        · not attempted yet
    """

    def one_less(num_clients: int, leave: float) -> int:
        return highest_threshold(num_clients, leave) - 1

    agree(
        my_threshold,
        highest_threshold,
        *((20, 0.1), (100, 0.1), (30, 0.25), (10, 0.01)),
        mistakes={
            "the number that stays on average: about half of the rounds have fewer": (
                lambda num_clients, leave: math.floor(num_clients * (1 - leave) + 1e-9)
            ),
            "just above half: it succeeds, but a higher threshold takes more colluding clients": (
                lambda num_clients, leave: num_clients // 2 + 1
            ),
            "one too low: count also the rounds in which exactly so many stay": one_less,
        },
    )


def check_private_mean(my_private_mean: Callable) -> None:
    """Check exercise 8.3: a weighted mean by one secure sum.

    Example:
        >>> check_private_mean(lambda updates, sizes, sum_protocol: ...)
        · not attempted yet
    """
    verdict(
        lambda: _private_mean_problem(my_private_mean),
        "the weighted mean from one sum, also when a client leaves; no size was shown",
    )


class _Watched:
    """A secure sum that remembers what it was given."""

    def __init__(self, dropped: Mapping[int, Phase]):
        self.dropped = dropped
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, vectors: Any, dropped: None = None) -> SumResult:
        rows = np.asarray(vectors, dtype=np.float64)
        self.shapes.append(rows.shape)
        return secagg_sum(rows, self.dropped, threshold=len(rows) // 2 + 1)


def _private_mean_problem(my_private_mean: Callable) -> Any:
    rng = np.random.default_rng(8)
    updates, sizes = rng.normal(size=(5, 4)), np.array([3.0, 40.0, 5.0, 200.0, 7.0])
    for dropped in ({}, {3: Phase.UPLOAD}):
        watched = _Watched(dropped)
        got = my_private_mean(updates.copy(), sizes.copy(), watched)
        if got is None or got is ...:
            return no_answer(my_private_mean, got)
        problem = _what_differs(got, updates, sizes, dropped)
        if not watched.shapes:
            return "no row went through sum_protocol: whoever computed this saw every update"
        if len(watched.shapes) > 1:
            return (
                f"{len(watched.shapes)} sums: a client that leaves between them is in one and "
                "not in the other; send the size in the same row"
            )
        if problem:
            return problem
        if watched.shapes[0] != (5, 5):
            return (
                f"the mean is right, but rows of shape {watched.shapes[0]} hold no size: "
                "somebody read the sizes, or does not know yet who leaves"
            )
    return None


def _what_differs(
    got: Any, updates: np.ndarray, sizes: np.ndarray, dropped: Mapping[int, Phase]
) -> str | None:
    here = [client for client in range(len(sizes)) if client not in dropped]
    weighted = mean(updates, sizes, dropped=dropped).update
    total = sizes[here] @ updates[here]
    mistakes = {
        "this is the unweighted mean": updates[here].mean(axis=0),
        "divided by the number of clients instead of the sum of sizes": total / len(here),
        "this is the sum: divide it by the sum of sizes": total,
        "client 3 left, but its size is still in the divisor": total / sizes.sum(),
        "the size is still at the end of the mean: leave it out": np.append(weighted, 1.0),
    }
    if not (problem := difference(got, weighted)):
        return None
    for what, wrong in mistakes.items():
        if not difference(got, wrong):
            return what
    return problem
