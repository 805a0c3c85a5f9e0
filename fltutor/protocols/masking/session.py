"""What all parties agreed on before the first message. Nothing here is secret."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fltutor.crypto import prg
from fltutor.crypto.keys import Label, Party
from fltutor.errors import InvalidParameterError
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.protocols.masking.graph import NeighbourGraph
from fltutor.protocols.masking.messages import KeyAdvert
from fltutor.transcript import client_name


@dataclass(frozen=True)
class Session:
    """The public parameters of one secure sum, checked once for everybody.

    Attributes:
        num_clients: How many clients are invited, numbered from 0.
        threshold: How many must stay to the end, and how many shares recover a secret:
            above ``num_clients / 2``, or ``2 * num_clients / 3`` against an active server.
            With a ``graph`` it is the graph's.
        graph: Masks with these neighbours only, instead of with everybody; see
            :func:`~fltutor.protocols.masking.graph.neighbour_graph`. Semi-honest server only.
        grid: How real numbers become ring elements.
        active_server: The server may lie: keys and survivor lists are signed.
        run: Names this try. Keys and signatures of another do not fit.
        round_number: The round of federated training.
        add_mask: How a seed becomes a mask. Another than the default is for lessons
            about what goes wrong.

    Raises:
        InvalidParameterError: If the threshold protects nobody, or the sum could wrap around.

    Example:
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
        n = self.num_clients
        _require_integer("num_clients", n)
        if n < 2:
            raise InvalidParameterError(
                f"num_clients must be at least 2: the sum of one row is that row; got {n}"
            )
        if self.graph is None:
            self._require_threshold()
        else:
            self._require_graph()
            object.__setattr__(self, "threshold", self.graph.threshold)
        self.grid.require_room(n)

    def _require_threshold(self) -> None:
        n, t = self.num_clients, self.threshold
        _require_integer("threshold", t)
        least = 2 * n // 3 + 1 if self.active_server else n // 2 + 1
        if not least <= t <= n:
            part = "two thirds" if self.active_server else "half"
            raise InvalidParameterError(
                f"threshold must be above {part} of {n} clients, {least} to {n}, got {t}: otherwise"
                " the server could ask one group for one share of a secret, another for the other"
            )

    def _require_graph(self) -> None:
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
            Party(client_name(sender.client), sender.transport_key),
            Party(client_name(receiver.client), receiver.transport_key),
            self.run,
            self.round_number,
        )

    def mask_label(self, one: KeyAdvert, other: KeyAdvert) -> Label:
        """What the seed is for whose mask one of a pair adds and the other subtracts."""
        return Label.between(
            "secure aggregation mask",
            Party(client_name(one.client), one.mask_key),
            Party(client_name(other.client), other.mask_key),
            run=self.run,
            round_number=self.round_number,
        )

    def signed_keys(self, advert: KeyAdvert) -> dict[str, Any]:
        """What a client signs when it publishes its keys."""
        return {
            "run": self.run,
            "round": self.round_number,
            "client": advert.client,
            "transport key": advert.transport_key,
            "mask key": advert.mask_key,
        }

    def signed_survivors(self, keys: bytes, survivors: Iterable[int]) -> dict[str, Any]:
        """What a client signs when it is told who survived; ``keys`` is the key list's hash."""
        listed = ",".join(map(str, survivors))
        return {"run": self.run, "round": self.round_number, "keys": keys, "survivors": listed}


def _require_integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidParameterError(f"{name} must be an integer, got {value!r}")
