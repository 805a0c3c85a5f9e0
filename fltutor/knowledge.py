"""Who knows what after a protocol run: derived from its messages, never asserted.

Each message of a :class:`~fltutor.transcript.Transcript` says what it *contains*, as facts:

* ``"row 3"``: an atom, something known or not, such as client 3's row, a key, a mask;
* :class:`Sealed`: facts that only a key opens;
* :class:`Piece`: one share of a secret;
* :class:`Combination`: a sum of vectors, such as a row plus its masks.

An observer starts with what it holds and what it was sent, opens what it has
keys for, puts pieces together, and then does linear algebra: a row is known if
it is a combination of the sums the observer has. Cryptography is taken as
perfect: a sealed fact stays sealed, a mask cannot be guessed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fltutor.border import shown
from fltutor.errors import InvalidParameterError
from fltutor.transcript import SERVER, Combination, Fact, Piece, Sealed, Transcript

WIRE = "the wire"
"""The observer who holds nothing and hears every message."""


@dataclass(frozen=True)
class Knowledge:
    """A table of who knows what.

    Attributes:
        observers: One for each line of the table.
        facts: One for each column: every client's row, and ``"sum"``, which adds up the
            rows that were sent in some form.
        matrix: True where the observer can compute the fact, shape (observers, facts).
        foreign: True where that is the row of somebody else, the same shape.
    """

    observers: tuple[str, ...]
    facts: tuple[str, ...]
    matrix: np.ndarray
    foreign: np.ndarray

    def knows(self, observer: str, fact: str) -> bool:
        """Look up one field of the table.

        Raises:
            InvalidParameterError: If the table has no such observer or fact.
        """
        for name, value, known in (
            ("observer", observer, self.observers),
            ("fact", fact, self.facts),
        ):
            if not isinstance(value, str) or value not in known:
                raise InvalidParameterError(
                    f"{name} must be one of {', '.join(map(repr, known))}, got {shown(value)}"
                )
        return bool(self.matrix[self.observers.index(observer), self.facts.index(fact)])


def who_knows_what(
    transcript: Transcript, observers: Sequence[str | tuple[str, ...]] | None = None
) -> Knowledge:
    """Compute what each observer learns of the rows and of their sum.

    Args:
        transcript: Of any protocol; runs that were aborted included.
        observers: Parties, or tuples of parties that pool all they have. By default
            the server, everyone on the wire, and each client whose row is in the table.

    Raises:
        InvalidParameterError: If an observer was no party of the run, or it is no transcript.

    Example:
        >>> from fltutor.protocols import plain_sum
        >>> from fltutor.protocols.masking import secagg_sum
        >>> rows = np.eye(3)
        >>> print(who_knows_what(plain_sum(rows).transcript, ["server"]).matrix)
        [[ True  True  True  True]]
        >>> knowledge = who_knows_what(secagg_sum(rows, threshold=2).transcript, ["server"])
        >>> knowledge.facts
        ('row 0', 'row 1', 'row 2', 'sum')
        >>> print(knowledge.matrix)
        [[False False False  True]]
    """
    if not isinstance(transcript, Transcript):
        has_one = isinstance(getattr(transcript, "transcript", None), Transcript)
        hint = ": write result.transcript" if has_one else ""
        raise InvalidParameterError(
            f"transcript must be a Transcript, got {type(transcript).__name__}{hint}"
        )
    rows = sorted(
        (fact for facts in transcript.held.values() for fact in facts if _is_row(fact)),
        key=lambda row: int(row.split()[1]),
    )
    if observers is None:
        clients = [party for party, facts in transcript.held.items() if any(map(_is_row, facts))]
        observers = [SERVER, WIRE, *clients]
    coalitions = _coalitions(transcript, observers)
    sent = {atom for message in transcript for atom in _atoms(message.contents) if _is_row(atom)}
    targets = [{row: 1} for row in rows] + [dict.fromkeys(sorted(sent), 1)]
    lines, own = [], []
    for parties in coalitions:
        atoms, combinations = _closure(_heard(transcript, parties), transcript.implied)
        known = _computable(targets, atoms, combinations)
        lines.append([*known[:-1], known[-1] and bool(sent)])
        held = {fact for party in parties for fact in transcript.held.get(party, ())}
        own.append([fact in held for fact in (*rows, "sum")])
    matrix, foreign = np.array(lines), ~np.array(own)
    foreign[:, -1] = False
    names = tuple(_coalition(parties) for parties in coalitions)
    return Knowledge(names, (*rows, "sum"), matrix, matrix & foreign)


def _coalitions(
    transcript: Transcript, observers: Sequence[str | tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Each observer as a tuple of parties that exist: of others nothing is known, not even "no"."""
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        raise InvalidParameterError(
            f"observers must be a list of parties, got {shown(observers)}: write "
            f"[{shown(observers)}]"
        )
    known = {SERVER: None, WIRE: None} | dict.fromkeys(transcript.held)
    for message in transcript:
        known |= {message.sender: None, message.receiver: None}
    coalitions = [tuple(each) if isinstance(each, tuple | list) else (each,) for each in observers]
    if not all(coalitions) or not coalitions:
        raise InvalidParameterError("observers must name at least one party each, got none")
    for party in itertools.chain.from_iterable(coalitions):
        if not isinstance(party, str) or party not in known:
            raise InvalidParameterError(
                f"observers must be parties of this run ({', '.join(known)}), got {shown(party)}"
            )
    return [tuple(dict.fromkeys(parties)) for parties in coalitions]  # each party once


def _coalition(parties: tuple[str, ...]) -> str:
    """Name several parties in short: ``"server + clients 0-3"``."""
    clients = [int(party.split()[1]) for party in parties if party.startswith("client ")]
    if len(clients) < 2:
        return " + ".join(parties)
    others = [party for party in parties if not party.startswith("client ")]
    in_a_row = len(clients) > 2 and clients == list(range(clients[0], clients[-1] + 1))
    listed = f"{clients[0]}-{clients[-1]}" if in_a_row else ", ".join(map(str, clients))
    return " + ".join([*others, f"clients {listed}"])


def _is_row(fact: Fact) -> bool:
    return isinstance(fact, str) and fact.startswith("row ")


def _atoms(facts: Iterable[Fact]) -> Iterable[str]:
    """Every atom that is mentioned, sealed or not."""
    for fact in facts:
        if isinstance(fact, str):
            yield fact
        elif isinstance(fact, Sealed):
            yield from _atoms(fact.facts)
        elif isinstance(fact, Combination):
            yield from (atom for atom, _ in fact.terms)


def _heard(transcript: Transcript, parties: tuple[str, ...]) -> list[Fact]:
    facts = [fact for party in parties for fact in transcript.held.get(party, ())]
    for message in transcript:
        if WIRE in parties or message.sender in parties or message.receiver in parties:
            facts += message.contents
    return facts


def _closure(
    facts: Iterable[Fact], implied: Mapping[str, Sequence[str]]
) -> tuple[set[str], list[Combination]]:
    """Everything that opening, putting together and expanding gives."""
    atoms: set[str] = set()
    combinations: dict[Combination, None] = {}
    locked: dict[str, list[Fact]] = defaultdict(list)
    pieces: dict[str, set[int]] = defaultdict(set)
    waiting = list(facts)
    while waiting:
        fact = waiting.pop()
        if isinstance(fact, Combination):
            combinations[fact] = None
        elif isinstance(fact, Sealed):
            if fact.key in atoms:
                waiting += fact.facts
            else:
                locked[fact.key] += fact.facts
        elif isinstance(fact, Piece):
            pieces[fact.secret].add(fact.number)
            if len(pieces[fact.secret]) >= fact.threshold:
                waiting.append(fact.secret)
        elif fact not in atoms:
            atoms.add(fact)
            waiting += locked.pop(fact, ())
            waiting += implied.get(fact, ())
    return atoms, list(combinations)


def _computable(
    targets: list[dict[str, int]], atoms: set[str], combinations: list[Combination]
) -> list[bool]:
    """Which sums are in the span of the sums that are known, once known atoms are taken off."""
    places: dict[str, int] = {}

    def unknown_part(terms: Iterable[tuple[str, int]]) -> dict[int, int]:
        return {
            places.setdefault(atom, len(places)): coefficient
            for atom, coefficient in terms
            if atom not in atoms
        }

    known = [unknown_part(combination.terms) for combination in combinations]
    wanted = [unknown_part(target.items()) for target in targets]
    vectors = np.zeros((len(known) + len(wanted), len(places)))
    for vector, part in zip(vectors, known + wanted, strict=True):
        for place, coefficient in part.items():
            vector[place] = coefficient
    known, wanted = vectors[: len(known)], vectors[len(known) :]
    if known.size:
        _, sizes, basis = np.linalg.svd(known, full_matrices=False)
        basis = basis[sizes > 1e-9 * sizes.max(initial=1)]
        wanted = wanted - wanted @ basis.T @ basis
    return list(np.abs(wanted).max(axis=1, initial=0) < 1e-9)
