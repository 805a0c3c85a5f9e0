"""What was said in a protocol run, as data.

Leakage, bandwidth and attacks are read off a transcript, never asserted in
prose. Parties are named ``"server"`` and ``"client 3"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np

from fltutor.border import is_whole, shown
from fltutor.errors import InvalidParameterError

SERVER = "server"
_NUMBER = re.compile(r"\d+")


def client_name(client: int) -> str:
    """Name client number ``client`` as it appears in transcripts: ``"client 3"``."""
    return f"client {client}"


class Phase(IntEnum):
    """The step of a round in which a client leaves; it does nothing from that step on.

    ``Phase.UPLOAD`` means "leaves before its upload", so its row is not in the
    sum. ``Phase.UNMASKING`` means "leaves after its upload": its row counts.
    """

    KEYS = 1
    SHARES = 2
    UPLOAD = 3
    CONSISTENCY = 4
    UNMASKING = 5


@dataclass(frozen=True)
class Sealed:
    """Facts that only those who know ``key`` can read."""

    key: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Piece:
    """One share of a secret; ``threshold`` of different numbers give the secret."""

    secret: str
    number: int
    threshold: int


@dataclass(frozen=True)
class Combination:
    """A sum of vectors: each with its coefficient, such as ``(("row 3", 1), ("mask 3", 1))``."""

    terms: tuple[tuple[str, int], ...]


Fact = str | Sealed | Piece | Combination
"""What a message contains; a plain name such as ``"row 3"`` is the thing itself."""


@dataclass(frozen=True)
class Message:
    """One message on the wire; ``payload`` is kept only where a lesson asks for it.

    ``contents`` names what a reader learns from it, for
    :func:`fltutor.knowledge.who_knows_what`.
    """

    sender: str
    receiver: str
    kind: str
    num_bytes: int
    payload: Any = field(default=None, repr=False, compare=False)
    contents: tuple[Fact, ...] = field(default=(), repr=False)


@dataclass
class Transcript:
    """All messages of a run, in the order they were sent.

    Example:
        >>> transcript = Transcript()
        >>> transcript.send("client 0", "server", "update", 800)
        >>> transcript.send("client 1", "server", "update", 800)
        >>> transcript.bytes_sent(receiver="server")
        1600
    """

    messages: list[Message] = field(default_factory=list)
    held: dict[str, list[Fact]] = field(default_factory=dict, repr=False)
    """What a party knows without being told, by party. Every client has an entry here, also one
    that left before it said anything."""
    implied: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """What everyone can compute from a secret, by secret."""

    def hold(self, party: str, *facts: Fact) -> None:
        """Note what a party knows without being told: its row, its keys."""
        self.held.setdefault(party, []).extend(facts)

    def send(
        self,
        sender: str,
        receiver: str,
        kind: str,
        num_bytes: int,
        payload: Any = None,
        contents: tuple[Fact, ...] = (),
    ) -> None:
        """Append one message."""
        self.messages.append(Message(sender, receiver, kind, num_bytes, payload, contents))

    def bytes_sent(self, *, sender: str | None = None, receiver: str | None = None) -> int:
        """Total bytes, of one sender or to one receiver if given."""
        return sum(
            message.num_bytes
            for message in self.messages
            if sender in (None, message.sender) and receiver in (None, message.receiver)
        )

    def renumbered(self, clients: Sequence[int]) -> Transcript:
        """Name the clients of a federation in place of the rows of a cohort.

        Parties, facts and shares get the new numbers. Payloads stay as they were sent.

        Args:
            clients: The client of the federation behind each row.

        Example:
            >>> transcript = Transcript()
            >>> transcript.send("client 1", "server", "update", 800, contents=("row 1",))
            >>> [message] = transcript.renumbered([4, 17])
            >>> message.sender, message.contents
            ('client 17', ('row 17',))
        """

        def name(text: str) -> str:  # whatever is numbered is a client, or something of a client
            return _NUMBER.sub(lambda found: str(number(int(found.group()))), text)

        def number(row: int) -> int:
            return clients[row] if row < len(clients) else row

        def fact(old: Fact) -> Fact:
            if isinstance(old, Sealed):
                return Sealed(name(old.key), tuple(map(fact, old.facts)))
            if isinstance(old, Piece):
                return Piece(name(old.secret), number(old.number), old.threshold)
            if isinstance(old, Combination):
                return Combination(tuple((name(term), times) for term, times in old.terms))
            return name(old)

        return Transcript(
            [
                replace(
                    message,
                    sender=name(message.sender),
                    receiver=name(message.receiver),
                    contents=tuple(map(fact, message.contents)),
                )
                for message in self.messages
            ],
            {name(party): list(map(fact, facts)) for party, facts in self.held.items()},
            {name(secret): tuple(map(name, told)) for secret, told in self.implied.items()},
        )

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


@dataclass(frozen=True)
class SumResult:
    """What a ``sum_protocol`` hands to the server.

    Attributes:
        total: Sum of the included rows, shape (d,).
        included: Indices of the clients whose rows are in ``total``, ascending.
        transcript: Every message of the run.
    """

    total: np.ndarray
    included: tuple[int, ...]
    transcript: Transcript


def uploaders(num_clients: int, dropped: Mapping[int, Phase] | None) -> tuple[int, ...]:
    """Clients whose upload arrives: all but those that leave before or in ``Phase.UPLOAD``.

    Raises:
        InvalidParameterError: If ``dropped`` names a client that does not exist, or
            something that is no :class:`Phase`.

    Example:
        >>> uploaders(4, {1: Phase.UPLOAD, 2: Phase.UNMASKING})
        (0, 2, 3)
    """
    dropped = as_dropped(dropped)
    for client in dropped:
        if not is_whole(client) or client not in range(num_clients):
            raise InvalidParameterError(
                f"dropped names client {shown(client)}, but there are {num_clients} clients, "
                "from 0 on"
            )
    return tuple(client for client in range(num_clients) if uploads(client, dropped))


def as_dropped(dropped: Mapping[int, Phase] | None) -> dict[int, Phase]:
    """The phase in which each client leaves that does; nobody does by default.

    Raises:
        InvalidParameterError: If it is no mapping to phases.

    Example:
        >>> as_dropped({1})
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: dropped must map clients to the Phase in which they
        leave, got a set: write {1: Phase.UPLOAD}
    """
    if dropped is None:
        return {}
    if not isinstance(dropped, Mapping):
        raise InvalidParameterError(
            "dropped must map clients to the Phase in which they leave, got a "
            f"{type(dropped).__name__}: write {{1: Phase.UPLOAD}}"
        )
    for client, phase in dropped.items():
        if not isinstance(phase, Phase):
            raise InvalidParameterError(
                f"dropped must say in which Phase client {shown(client)} leaves, got {shown(phase)}"
            )
    return dict(dropped)


def uploads(client: int, dropped: Mapping[int, Phase]) -> bool:
    """Whether this client stays until its upload has arrived."""
    return dropped.get(client, Phase.UNMASKING) > Phase.UPLOAD
