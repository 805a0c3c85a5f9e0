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

from fltutor.border import as_flag, as_kind, as_whole, shown
from fltutor.crypto import prg
from fltutor.crypto.keys import Label
from fltutor.crypto.shamir import MAX_SHARES, least_overlap, least_threshold
from fltutor.crypto.wire import encode_context
from fltutor.errors import InvalidParameterError
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.protocols.masking.graph import MOST_CLIENTS, NeighbourGraph
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
        num_coordinates: Length d of a row. Where it is None, the length of most uploads counts.

    Raises:
        InvalidParameterError: If the threshold protects nobody, or the sum could wrap around.

    Example:
        >>> print(Session(num_clients=5, threshold=4))
        5 clients, threshold 4: holds against a curious server with up to 3 colluding clients, c of
        whom learn with it a sum of at least 4 - c other rows
        >>> print(Session(num_clients=5, threshold=4, active_server=True))
        5 clients, threshold 4: holds against a lying server with up to 2 colluding clients, c of
        whom learn with it a sum of at least 4 - c other rows
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
    num_coordinates: int | None = None

    def __post_init__(self):
        n = as_whole("num_clients", self.num_clients, most=MOST_CLIENTS)
        if n < 2:
            raise InvalidParameterError(
                "num_clients must be at least 2: the sum of one row is that row; got "
                f"{shown(self.num_clients)}"
            )
        bound = 2**63 - 1
        checked = {
            "num_clients": n,
            "round_number": as_whole("round_number", self.round_number, least=-bound, most=bound),
            "active_server": as_flag("active_server", self.active_server),
        }
        if self.num_coordinates is not None:
            d = as_whole("num_coordinates", self.num_coordinates, least=0, most=bound)
            checked["num_coordinates"] = d
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        as_kind("grid", self.grid, FixedPoint)
        encode_context({"run": as_kind("run", self.run, str)})  # refuses what is no Unicode
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
        if n > MAX_SHARES:
            raise InvalidParameterError(
                f"num_clients must be at most {MAX_SHARES} where everybody shares masks with "
                f"everybody, got {n}: take a graph of neighbours"
            )
        least = least_threshold(n, active_server=self.active_server)
        if not least <= t <= n:
            part = "two thirds" if self.active_server else "half"
            raise InvalidParameterError(
                f"threshold must be above {part} of {n} clients, {least} to {n}, got {shown(t)}: "
                "otherwise the server could ask one group for one share of a secret, another for "
                "the other"
            )
        object.__setattr__(self, "threshold", t)

    def _require_graph(self) -> None:
        if not isinstance(self.graph, NeighbourGraph):
            raise InvalidParameterError(f"graph must be a NeighbourGraph, got {self.graph!r}")
        if self.active_server:
            raise InvalidParameterError(
                "a graph of neighbours protects against a semi-honest server only: take the "
                "complete graph (graph=None, threshold above 2n/3) against an active one"
            )
        if self.threshold not in (None, self.graph.threshold):
            raise InvalidParameterError(
                f"threshold follows from the graph ({self.graph.threshold}): leave it out"
            )
        if len(self.graph.ring) != self.num_clients:
            raise InvalidParameterError(
                f"graph connects {len(self.graph.ring)} clients, but there are {self.num_clients}"
            )

    @property
    def most_colluding(self) -> int:
        """How many clients may tell the server all they have, and it unmasks nothing but a sum.

        The sum holds ``least_survivors`` rows or more. Those c of the colluding clients are known,
        so the others are at least ``least_survivors - c``: with ``c = threshold - 1`` this may
        be a single row. Whoever wants a sum over more counts on fewer.

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
            f"server with up to {self.most_colluding} colluding clients, c of whom learn with it "
            f"a sum of at least {self.least_survivors} - c other rows"
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
            "coordinates": str(self.num_coordinates),
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
