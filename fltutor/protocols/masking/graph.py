"""Neighbours instead of everybody: masks and shares with k others, so that cost grows slowly.

**Semi-honest only.** The server arranges the clients at random on a ring, and each is
the neighbour of the k / 2 before and after it. A server that lied about the arrangement
could surround a client with its own, so this holds against a server that follows the
protocol. The degree k and the threshold t follow from what may go wrong:

* *security*: except with probability 2^-security_bits, no honest client has t corrupt
  neighbours, who could reveal either secret of it, and the honest clients that stay are
  connected by masks, so that only the sum of all of them is without a mask;
* *correctness*: except with probability 2^-correctness_bits, everybody keeps t neighbours.

Reference:
    Bell et al., CCS 2020, section 3. https://eprint.iacr.org/2020/704 The bound on
    connectivity is our own: a ring falls apart only where two separate gaps of
    k / 2 clients in a row are missing.
"""

from __future__ import annotations

import itertools
import math
import secrets
from dataclasses import dataclass
from functools import cached_property

from fltutor.errors import InvalidParameterError


@dataclass(frozen=True)
class NeighbourGraph:
    """Who shares masks with whom; made by :func:`neighbour_graph`.

    Attributes:
        degree: Neighbours of each client, k.
        threshold: Shares that recover a secret, t.
        least_survivors: Clients that must stay; with fewer, the derivation says nothing.
        ring: The clients in their order on the ring.
    """

    degree: int
    threshold: int
    least_survivors: int
    ring: tuple[int, ...]

    @cached_property
    def neighbours(self) -> dict[int, frozenset[int]]:
        """The neighbours of each client."""
        n, reach = len(self.ring), self.degree // 2
        return {
            client: frozenset(
                self.ring[(place + step) % n] for step in range(-reach, reach + 1) if step
            )
            for place, client in enumerate(self.ring)
        }


def neighbour_graph(
    num_clients: int,
    *,
    corrupt: float,
    dropouts: float,
    security_bits: int = 40,
    correctness_bits: int = 20,
) -> NeighbourGraph:
    """Derive degree and threshold, and arrange the clients at random.

    Args:
        num_clients: Number of clients n.
        corrupt: Largest fraction of clients that collude with the server.
        dropouts: Largest fraction of clients that leave.
        security_bits: The chance that a row is exposed is at most 2 to minus this.
        correctness_bits: The chance that the sum cannot be unmasked is at most 2 to minus this.

    Raises:
        InvalidParameterError: If a fraction is outside [0, 1), or no degree below n - 1
            suffices; then take the complete graph.

    Example:
        >>> graph = neighbour_graph(1000, corrupt=0.05, dropouts=0.05)
        >>> graph.degree, graph.threshold, graph.least_survivors
        (30, 17, 950)
    """
    for name, fraction in (("corrupt", corrupt), ("dropouts", dropouts)):
        if not 0 <= fraction < 1:
            raise InvalidParameterError(f"{name} must be a fraction in [0, 1), got {fraction}")
    if corrupt + dropouts >= 1:
        raise InvalidParameterError("corrupt + dropouts must be below 1, or nobody honest stays")
    for name, bits in (("security_bits", security_bits), ("correctness_bits", correctness_bits)):
        if not 1 <= bits <= 1000:
            raise InvalidParameterError(f"{name} must be in 1 to 1000, got {bits}")
    degree, threshold = _derive(num_clients, corrupt, dropouts, security_bits, correctness_bits)
    ring = list(range(num_clients))
    secrets.SystemRandom().shuffle(ring)
    least = num_clients - math.floor(dropouts * num_clients)
    return NeighbourGraph(degree, threshold, least, tuple(ring))


def _derive(
    n: int, corrupt: float, dropouts: float, security_bits: int, correctness_bits: int
) -> tuple[int, int]:
    """The smallest even degree for which some threshold is both safe and workable."""
    num_corrupt, num_dropped = math.floor(corrupt * n), math.floor(dropouts * n)
    for degree in range(2, n - 1, 2):
        unsafe = _disconnected(n, num_corrupt + num_dropped, degree)
        if unsafe > 2.0**-security_bits:
            continue
        at_least_corrupt, _ = _tails(n - 1, num_corrupt, degree)
        _, fewer_staying = _tails(n - 1, n - 1 - num_dropped, degree)
        for threshold in range(2, degree + 1):
            if unsafe + n * at_least_corrupt[threshold] <= 2.0**-security_bits:
                if n * fewer_staying[threshold] <= 2.0**-correctness_bits:
                    return degree, threshold
                break  # a higher threshold is safer still, and works less often
    raise InvalidParameterError(
        f"{n} clients are too few: no degree below {n - 1} holds 2**-{security_bits} with "
        f"{corrupt:.0%} corrupt and {dropouts:.0%} dropouts. Take the complete graph"
    )


def _disconnected(n: int, missing: int, degree: int) -> float:
    """Bound on the chance that the ring falls apart when ``missing`` clients at random are gone.

    It takes two separate gaps of degree / 2 in a row, ``degree`` given places in all.
    """
    gone = math.prod((missing - i) / (n - i) if missing > i else 0.0 for i in range(degree))
    return n * n / 2 * gone


def _tails(population: int, special: int, draws: int) -> tuple[list[float], list[float]]:
    """P[X >= t] and P[X < t] for t = 0 ... draws, of X special ones among the draws.

    The hypergeometric distribution in whole numbers, so that 2^-1000 is not lost.
    """
    ways = [
        math.comb(special, t) * math.comb(population - special, draws - t) for t in range(draws + 1)
    ]
    below = list(itertools.accumulate(ways, initial=0))
    total = below.pop()
    return [(total - fewer) / total for fewer in below], [fewer / total for fewer in below]
