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

import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial

from fltutor.border import as_real, as_whole
from fltutor.errors import InvalidParameterError

MOST_CLIENTS = 10**7


@dataclass(frozen=True)
class NeighbourGraph:
    """Who shares masks with whom; made by :func:`neighbour_graph`.

    One that is made by hand is checked for what cannot be; that it protects anybody is known only
    of what was derived.

    Attributes:
        degree: Neighbours of each client, k.
        threshold: Shares that recover a secret, t.
        least_survivors: Clients that must stay; with fewer, the derivation says nothing.
        ring: The clients in their order on the ring.
        most_colluding: Clients that may collude with the server; with more, the derivation
            says nothing.

    Raises:
        InvalidParameterError: If there are no such neighbours or shares, a client is not on the
            ring once, or all that stay may collude.
    """

    degree: int
    threshold: int
    least_survivors: int
    ring: tuple[int, ...]
    most_colluding: int = 0

    def __post_init__(self):
        if not isinstance(self.ring, Iterable):
            raise InvalidParameterError(
                f"ring must be a tuple of clients, got {type(self.ring).__name__}"
            )
        ring = tuple(as_whole("each of ring", client, least=0) for client in self.ring)
        n = len(ring)
        if set(ring) != set(range(n)):
            raise InvalidParameterError("graph must have every client on its ring once")
        degree = as_whole("degree", self.degree, least=2, most=n - 1)
        if degree % 2:
            raise InvalidParameterError(f"degree must be even, half on each side, got {degree}")
        least = as_whole("least_survivors", self.least_survivors, least=2, most=n)
        checked = {
            "ring": ring,
            "degree": degree,
            "threshold": as_whole("threshold", self.threshold, least=2, most=degree + 1),
            "least_survivors": least,
            "most_colluding": as_whole(
                "most_colluding", self.most_colluding, least=0, most=least - 1
            ),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

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
    num_clients = as_whole("num_clients", num_clients, least=2, most=MOST_CLIENTS)
    fractions = {"corrupt": corrupt, "dropouts": dropouts}
    corrupt, dropouts = (as_real(name, x, least=0, below=1) for name, x in fractions.items())
    if corrupt + dropouts >= 1:
        raise InvalidParameterError("corrupt + dropouts must be below 1, or nobody honest stays")
    security_bits = as_whole("security_bits", security_bits, least=1, most=1000)
    correctness_bits = as_whole("correctness_bits", correctness_bits, least=1, most=1000)
    degree, threshold = _derive(num_clients, corrupt, dropouts, security_bits, correctness_bits)
    ring = list(range(num_clients))
    secrets.SystemRandom().shuffle(ring)
    least = num_clients - math.floor(dropouts * num_clients)
    most_colluding = math.floor(corrupt * num_clients)
    return NeighbourGraph(degree, threshold, least, tuple(ring), most_colluding)


def _derive(
    n: int, corrupt: float, dropouts: float, security_bits: int, correctness_bits: int
) -> tuple[int, int]:
    """The smallest even degree for which some threshold is both safe and workable."""
    num_corrupt, num_dropped = math.floor(corrupt * n), math.floor(dropouts * n)
    exposed, stuck = 2.0**-security_bits, 2.0**-correctness_bits
    missing, gone, threshold = num_corrupt + num_dropped, 1.0, 2
    for degree in range(2, n - 1, 2):
        # The ring falls apart where two gaps of degree / 2 are missing: so many given places.
        for i in (degree - 2, degree - 1):
            gone *= max(0, missing - i) / (n - i)
        unsafe = n * n / 2 * gone
        if unsafe > exposed:
            continue
        safe = partial(_within, exposed, unsafe, n, num_corrupt, degree)
        # The least threshold that is safe: near that of the degree before.
        while threshold > 2 and safe(threshold - 1):
            threshold -= 1
        while threshold <= degree and not safe(threshold):
            threshold += 1
        too_many_gone = degree - threshold + 1
        if threshold <= degree and _within(stuck, 0.0, n, num_dropped, degree, too_many_gone):
            return degree, threshold
    raise InvalidParameterError(
        f"{n} clients are too few: no degree below {n - 1} holds 2**-{security_bits} with "
        f"{corrupt:.0%} corrupt and {dropouts:.0%} dropouts. Take the complete graph"
    )


def _within(limit: float, besides: float, n: int, special: int, degree: int, least: int) -> bool:
    """Whether ``besides`` and n times the chance of ``least`` special neighbours keep a limit."""
    risk = besides + n * _at_least(n - 1, special, degree, least)
    if abs(risk - limit) < 1e-6 * limit:  # too close to call with a logarithm
        risk = besides + n * _at_least_exactly(n - 1, special, degree, least)
    return risk <= limit


def _at_least(population: int, special: int, draws: int, least: int) -> float:
    """P[X >= least], of X special ones among the draws: the hypergeometric distribution.

    Good to nine digits; at or below the mean, where no limit of at most 1/2 is kept, it is 1.
    """
    others, most = population - special, min(draws, special)
    if least * population <= draws * special:
        return 1.0
    if least > most:
        return 0.0
    ways = _log_comb(special, least) + _log_comb(others, draws - least)
    term = total = math.exp(ways - _log_comb(population, draws))
    for t in range(least, most):
        term *= (special - t) * (draws - t) / ((t + 1) * (others - draws + t + 1))
        total += term
        if term < 1e-17 * total:
            break
    return total


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _at_least_exactly(population: int, special: int, draws: int, least: int) -> float:
    """The same in whole numbers, slowly."""
    ways = sum(
        math.comb(special, t) * math.comb(population - special, draws - t)
        for t in range(least, draws + 1)
    )
    return ways / math.comb(population, draws)
