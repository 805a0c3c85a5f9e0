"""Checks of notebook 06: rounding at random, room in the ring, the price of an index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fltutor.checks import agree, no_answer, verdict
from fltutor.compression import top_k


def check_stochastic_rounding(mine: Callable) -> None:
    """Check ``mine(x, rng)``: each number to a whole neighbour, right on average.

    Example:
        >>> check_stochastic_rounding(lambda x, rng: np.rint(x))
        ✗ this is plain rounding: 0.2 becomes 0 every time, and is lost
        >>> check_stochastic_rounding(lambda x, rng: np.floor(x + rng.random(x.shape)))
        ✓ whole numbers, and right on average
    """
    verdict(lambda: _rounding_problem(mine), "whole numbers, and right on average")


def _rounding_problem(mine: Callable) -> str | None:
    x = np.array([0.2, 0.5, -1.3, 2.0])
    rng = np.random.default_rng(0)
    first = mine(x.copy(), rng)
    if first is None or first is ...:
        return no_answer(mine, first)
    draws = np.stack([np.asarray(mine(x.copy(), rng), dtype=float) for _ in range(4000)])
    if draws.shape[1:] != x.shape:
        return f"shape {draws.shape[1:]}, needed {x.shape}"
    if np.any(draws != np.rint(draws)):
        return "every result must be a whole number"
    if np.all(draws == np.rint(x)):
        return "this is plain rounding: 0.2 becomes 0 every time, and is lost"
    if np.all(draws == np.floor(x)):
        return "this always rounds down: every number loses a half on average"
    average = draws.mean(axis=0)
    if np.abs(average[:2] - 0.5).max() < 0.05:
        return "a fair coin ignores how near the neighbours are: 0.2 becomes 0.5 on average"
    if np.any(np.abs(draws - x) >= 1):
        return "a result is further away than the neighbours"
    # A draw is off by less than 1, so six standard errors are below 6 / 2 / sqrt(4000).
    worst = int(np.abs(average - x).argmax())
    if abs(average[worst] - x[worst]) > 3 / np.sqrt(4000):
        return f"{x[worst]} becomes {average[worst]:.2f} on average"
    return None


def ring_bits(num_clients: int, bits: int) -> int:
    """Bits of the smallest ring in which levels of ``num_clients`` clients add up.

    A level lies between minus and plus ``2**(bits - 1) - 1``.

    Example:
        >>> ring_bits(num_clients=10, bits=2)
        5
    """
    values = 2 * num_clients * (2 ** (bits - 1) - 1) + 1  # from minus all to plus all
    return (values - 1).bit_length()


def check_ring_bits(mine: Callable) -> None:
    """Check ``mine(num_clients, bits)`` against :func:`ring_bits`.

    Example:
        >>> check_ring_bits(lambda num_clients, bits: bits)
        ✗ your function: this is the room for one client; ten can add up to ten times as much
    """
    agree(
        mine,
        ring_bits,
        (10, 2),
        (10, 8),
        (1000, 4),
        (1, 8),
        mistakes={
            "the room for one client; ten can add up to ten times as much": lambda n, bits: bits,
            "one more bit per client, where a doubling of clients takes one": lambda n, b: b + n,
            "the room for positive levels only; the ring must hold the negative ones too": (
                lambda n, bits: (n * (2 ** (bits - 1) - 1)).bit_length()
            ),
        },
    )


def top_k_bytes(k: int) -> int:
    """Bytes of a packed top-k message: what :meth:`fltutor.compression.Sparse.to_bytes` gives.

    Example:
        >>> top_k_bytes(24)
        200
    """
    return len(top_k(np.ones(k), k).to_bytes())


def check_top_k_bytes(mine: Callable) -> None:
    """Check ``mine(k)`` against :func:`top_k_bytes`.

    Example:
        >>> check_top_k_bytes(lambda k: 4 * k)
        ✗ your function: this is the values alone; the server would not know where they belong
    """
    agree(
        mine,
        top_k_bytes,
        (24,),
        (1,),
        (2410,),
        mistakes={
            "the values alone; the server would not know where they belong": lambda k: 4 * k,
            "the values and their header; each one needs its index too": lambda k: 8 + 4 * k,
            "right but for the header of 8 bytes": lambda k: 8 * k,
        },
    )
