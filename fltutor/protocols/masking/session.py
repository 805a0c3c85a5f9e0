"""What all parties agreed on before the first message. Nothing here is secret.

**Who hands it out.** The parameters say what is protected, so whoever chooses them is trusted
with that: against a server that may lie, they come with the program, or from whoever
vouches for the directory of identities, and never from the server. A server that could hand
*everybody* a session of a low threshold, or one with ``active_server=False``, would face no
more than that session asks for. What it cannot do is to hand some another one: a digest of
all parameters is in every key and every signature, so clients of two sessions refuse each other.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, wraps
from typing import Any

from fltutor.border import as_whole
from fltutor.crypto import prg
from fltutor.crypto.keys import Label
from fltutor.crypto.shamir import least_overlap
from fltutor.crypto.wire import encode_context
from fltutor.errors import InvalidParameterError
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.protocols.masking.graph import NeighbourGraph
from fltutor.protocols.masking.messages import KeyAdvert


@dataclass(frozen=True)
class Session:
    """The public parameters of one secure sum, checked once for everybody.

    Attributes:
        num_clients: How many clients are invited, numbered from 0.
        threshold: How many must stay to the end, and how many shares recover a secret:
            above ``num_clients / 2``, or ``2 * num_clients / 3`` against an active server, so
            that a third may collude with it; see :attr:`most_colluding`. With a ``graph`` it
            is the graph's.
        graph: Masks with these neighbours only, instead of with everybody; see
            :func:`~fltutor.protocols.masking.graph.neighbour_graph`. Semi-honest server only.
        grid: How real numbers become ring elements.
        active_server: The server may lie: keys and survivor lists are signed.
        run: Names this try. Keys and signatures of another do not fit.
        round_number: The round of federated training.
        add_mask: How a seed becomes a mask. Another than the default is for lessons
            about what goes wrong. It is code and no parameter: not in the digest.

    Raises:
        InvalidParameterError: If the threshold protects nobody, or the sum could wrap around.

    Example:
        >>> print(Session(num_clients=5, threshold=4))
        5 clients, threshold 4: holds against a curious server with up to 3 colluding clients
        >>> print(Session(num_clients=5, threshold=4, active_server=True))
        5 clients, threshold 4: holds against a lying server with up to 2 colluding clients
        >>> Session(num_clients=4, threshold=2)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: threshold must be above half of 4 clients, 3 to 4,
        got 2: otherwise the server could ask one group for one share of a secret, another for
        the other
    """

    num_clients: int
    threshold: int | None = None
    graph: NeighbourGraph | None = None
    grid: FixedPoint = DEFAULT_GRID
    active_server: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    round_number: int = 0
    add_mask: Callable[..., None] = field(default=prg.add_mask, repr=False)

    def __post_init__(self):
        n = as_whole("num_clients", self.num_clients)
        if n < 2:
            raise InvalidParameterError(
                f"num_clients must be at least 2: the sum of one row is that row; got {n}"
            )
        object.__setattr__(self, "num_clients", n)
        object.__setattr__(self, "round_number", as_whole("round_number", self.round_number))
        for name, kind in (("grid", FixedPoint), ("active_server", bool), ("run", str)):
            if not isinstance(getattr(self, name), kind):
                raise InvalidParameterError(
                    f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}"
                )
        if not callable(self.add_mask):
            raise InvalidParameterError(f"add_mask must be a function, got {self.add_mask!r}")
        if self.graph is None:
            self._require_threshold()
        else:
            self._require_graph()
            object.__setattr__(self, "threshold", self.graph.threshold)
        self.grid.require_room(n)

    def _require_threshold(self) -> None:
        n, t = self.num_clients, as_whole("threshold", self.threshold)
        object.__setattr__(self, "threshold", t)
        least = 2 * n // 3 + 1 if self.active_server else n // 2 + 1
        if not least <= t <= n:
            part = "two thirds" if self.active_server else "half"
            raise InvalidParameterError(
                f"threshold must be above {part} of {n} clients, {least} to {n}, got {t}: otherwise"
                " the server could ask one group for one share of a secret, another for the other"
            )

    def _require_graph(self) -> None:
        if not isinstance(self.graph, NeighbourGraph):
            raise InvalidParameterError(f"graph must be a NeighbourGraph, got {self.graph!r}")
        if self.active_server:
            raise InvalidParameterError(
                "a graph of neighbours protects against a semi-honest server only: take the "
                "complete graph (graph=None, threshold above 2n/3) against an active one"
            )
        if self.threshold is not None:
            raise InvalidParameterError(
                f"threshold follows from the graph ({self.graph.threshold}): leave it out"
            )
        if len(self.graph.ring) != self.num_clients:
            raise InvalidParameterError(
                f"graph connects {len(self.graph.ring)} clients, but there are {self.num_clients}"
            )
        if set(self.graph.ring) != set(range(self.num_clients)):
            raise InvalidParameterError("graph must have every client on its ring once")

    @property
    def most_colluding(self) -> int:
        """How many clients may tell the server all they have, and no row is unmasked.

        A curious server needs ``threshold`` shares of a secret that nobody reveals: fewer
        colluding clients than that have too few. A lying one can tell one group that a client
        stayed, and another that it left, to get shares of both its secrets. Each group takes
        ``threshold`` clients, so at least ``2 * threshold - num_clients`` are in both. An
        honest client answers once: with fewer colluding ones than that, it cannot be done.
        With a ``graph`` it is what the graph was derived for, but for a small chance.
        """
        if self.graph is not None:
            return self.graph.most_colluding
        if self.active_server:
            return least_overlap(self.threshold, self.num_clients) - 1
        return self.threshold - 1

    def __str__(self) -> str:
        kind = "lying" if self.active_server else "curious"
        return (
            f"{self.num_clients} clients, threshold {self.threshold}: holds against a {kind} "
            f"server with up to {self.most_colluding} colluding clients"
        )

    @cached_property
    def digest(self) -> bytes:
        """A hash of every parameter: the run, the round, and what they say about protection.

        It is part of every label and of everything that is signed.
        """
        parameters = {
            "clients": self.num_clients,
            "threshold": self.threshold,
            "active server": int(self.active_server),
            "run": self.run,
            "round": self.round_number,
        }
        for name, part in (("grid", self.grid), ("graph", self.graph)):
            for each in fields(part) if part is not None else ():
                parameters[f"{name} {each.name}"] = str(getattr(part, each.name))
        return hashlib.sha256(
            b"fltutor secure aggregation session 1" + encode_context(parameters)
        ).digest()

    @property
    def least_survivors(self) -> int:
        """How many clients must finish each round."""
        return self.threshold if self.graph is None else self.graph.least_survivors

    def peers(self, client: int, present: Iterable[int]) -> list[int]:
        """Those of ``present`` with whom a client shares masks, ascending."""
        if self.graph is not None:
            return sorted(self.graph.neighbours[client].intersection(present))
        return [peer for peer in sorted(present) if peer != client]

    def holders(self, client: int) -> Sequence[int]:
        """Whom a client deals shares to, itself included and whether or not they are there.

        The place in this list plus one is the number of the holder's share.
        """
        if self.graph is not None:
            return sorted([client, *self.graph.neighbours[client]])
        return range(self.num_clients)

    def transport_label(self, sender: KeyAdvert, receiver: KeyAdvert) -> Label:
        """What the key is for that seals shares on their way from one client to another."""
        return Label(
            "secure aggregation shares",
            sender.transport_party,
            receiver.transport_party,
            transcript=self.digest,  # run and round are in it
        )

    def mask_label(self, one: KeyAdvert, other: KeyAdvert) -> Label:
        """What the seed is for whose mask one of a pair adds and the other subtracts."""
        first, second = sorted((one, other), key=lambda advert: advert.client)
        return Label(
            "secure aggregation mask",
            first.mask_party,
            second.mask_party,
            transcript=self.digest,
            both_ways=True,
        )

    def signed_keys(self, advert: KeyAdvert) -> dict[str, Any]:
        """What a client signs when it publishes its keys."""
        return {
            "session": self.digest,
            "client": advert.client,
            "transport key": advert.transport_key,
            "mask key": advert.mask_key,
        }

    def signed_survivors(self, keys: bytes, survivors: Iterable[int]) -> dict[str, Any]:
        """What a client signs when it is told who survived; ``keys`` is the key list's hash."""
        listed = ",".join(map(str, survivors))
        return {"session": self.digest, "keys": keys, "survivors": listed}


def one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let one thread after the other into the methods of a party, which holds ``_lock``."""

    @wraps(method)
    def alone(self, *arguments, **named):
        with self._lock:
            return method(self, *arguments, **named)

    return alone
