"""The whole protocol in one call: :func:`secagg_sum`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fltutor.border import as_whole, shown
from fltutor.crypto import prg
from fltutor.crypto.keys import Directory, Identity
from fltutor.errors import InvalidParameterError, ProtocolAbort
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.protocols.arrivals import WeightedRows, arriving_rows, as_blocks
from fltutor.protocols.masking.client import SecAggClient
from fltutor.protocols.masking.graph import NeighbourGraph
from fltutor.protocols.masking.messages import Delivery, KeyList, Survivors
from fltutor.protocols.masking.server import SecAggServer
from fltutor.protocols.masking.session import Session
from fltutor.transcript import (
    SERVER,
    Combination,
    Fact,
    Phase,
    Piece,
    Sealed,
    SumResult,
    Transcript,
    as_dropped,
    client_name,
    uploaders,
)
from fltutor.vectors import as_updates


@dataclass(frozen=True)
class MaskedSum(SumResult):
    """A :class:`~fltutor.transcript.SumResult` of secure aggregation.

    Attributes:
        num_clipped: Values that clients clipped, over all of them. The server learns
            the sum only; this number is for whoever simulates.
        num_vanished: Values other than 0 that were too small for the grid, likewise.
    """

    num_clipped: int = 0
    num_vanished: int = 0


def secagg_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None = None,
    *,
    threshold: int | None = None,
    graph: NeighbourGraph | None = None,
    grid: FixedPoint = DEFAULT_GRID,
    active_server: bool = False,
    num_clients: int | None = None,
    round_number: int = 0,
    allow_clipping: bool = False,
    keep_payloads: bool = False,
    add_mask: Callable[..., None] = prg.add_mask,
) -> MaskedSum:
    """Add client vectors so that the server learns their sum and no row.

    All clients and the server run in this process, each as an object of its own with
    its own secrets; nothing else is simulated. Keys are fresh for each call.

    Who learns what: the server learns the sum, as long as few clients collude with it: fewer
    than ``threshold`` if it follows the protocol; with ``active_server``, for n clients, fewer than
    ``2 * threshold - n``. With c of them it learns the sum of the others: at least
    ``threshold - c`` rows, and a sum of one row is that row. So does whoever hears every
    message, since the channel to the server is not sealed here. Clients learn nothing of each
    other's rows.
    See :mod:`fltutor.protocols.masking` for what is assumed of the server.

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks, of
            which one is held at a time if ``num_clients`` is known.
        dropped: The phase in which a client leaves, by client number.
        threshold: How many clients must stay to the end: above n / 2, or above 2 n / 3
            with ``active_server``. Leave it out with a ``graph``.
        graph: Masks with some neighbours instead of everybody: much cheaper for many clients,
            and for a semi-honest server only; made by
            :func:`~fltutor.protocols.masking.neighbour_graph`.
        grid: How real numbers become ring elements. A 32-bit ring halves bytes and time.
        active_server: Protect against a server that lies: sign keys and survivor lists.
        num_clients: How many rows ``vectors`` holds, if it is an iterable of blocks.
        round_number: Bound into every key and signature.
        allow_clipping: Clip values beyond the grid instead of refusing the row.
        keep_payloads: Keep every message in the transcript.
        add_mask: See :class:`~fltutor.protocols.masking.Session`.

    Returns:
        The exact sum of the encoded rows that arrived, decoded, float64, shape (d,). It is
        within ``n * grid.resolution / 2`` of the sum of the rows.

    Raises:
        InvalidParameterError: If the threshold protects nobody or the sum could wrap around.
        InvalidUpdateError: If a row holds NaN, Inf or values beyond the grid; the text
            names the client.
        TooFewClients: If fewer than the threshold are left in some phase. Its
            ``transcript`` holds what was said until then.
        ProtocolAbort: If the total is beyond what so many rows can add up to.

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> result = secagg_sum(rows, dropped={1: Phase.UPLOAD}, threshold=2)
        >>> result.total, result.included
        (array([6., 8.]), (0, 2))
        >>> secagg_sum(rows, dropped={0: Phase.KEYS, 1: Phase.UNMASKING}, threshold=2)
        Traceback (most recent call last):
        fltutor.errors.TooFewClients: stopped in phase UNMASKING: 1 of the 2 clients it takes are
        left (2). Start anew, with fresh keys

    Reference:
        Bonawitz et al., CCS 2017, Figure 4. https://eprint.iacr.org/2017/281
    """
    blocks, num_clients = _counted(vectors, num_clients)
    session = Session(
        num_clients=num_clients,
        threshold=threshold,
        graph=graph,
        grid=grid,
        active_server=active_server,
        round_number=round_number,
        add_mask=add_mask,
    )
    run = _Run(session, as_dropped(dropped), keep_payloads, allow_clipping)
    try:
        return run.sum(arriving_rows(blocks, dropped))
    except ProtocolAbort as abort:
        abort.transcript = run.transcript
        raise


def _counted(
    vectors: np.ndarray | Iterable[np.ndarray], num_clients: int | None
) -> tuple[np.ndarray | Iterable[np.ndarray], int]:
    """The number of rows is agreed on before the first key; blocks are counted if need be."""
    num_clients = None if num_clients is None else as_whole("num_clients", num_clients)
    if isinstance(vectors, WeightedRows):
        rows = len(vectors.weights)
    elif num_clients is not None and not hasattr(vectors, "__array__"):
        return vectors, num_clients  # one block at a time
    else:
        vectors = [as_updates(block) for block in as_blocks(vectors)]
        rows = sum(map(len, vectors))
    if not rows:
        raise InvalidParameterError("vectors must hold the row of at least one client, got none")
    if num_clients is not None and num_clients != rows:
        raise InvalidParameterError(
            f"num_clients is {shown(num_clients)}, but vectors hold {rows} rows"
        )
    return vectors, rows


class _Run:
    """All parties of one run, and the transcript of what they say to each other."""

    def __init__(
        self,
        session: Session,
        dropped: dict[int, Phase],
        keep_payloads: bool,
        allow_clipping: bool,
    ):
        self.uploading = uploaders(session.num_clients, dropped)
        numbers = range(session.num_clients)
        self.session, self.dropped, self.keep_payloads = session, dropped, keep_payloads
        identities, directory = [None] * len(numbers), None
        if session.active_server:
            identities = [Identity.generate(client_name(number)) for number in numbers]
            directory = Directory(identity.public for identity in identities)
        self.clients = [
            SecAggClient(
                number, session, identities[number], directory, allow_clipping=allow_clipping
            )
            for number in numbers
        ]
        self.server = SecAggServer(session, keep_uploads=False)  # nobody here lies
        self.transcript = Transcript()
        for number in numbers:
            self.transcript.hold(client_name(number), f"row {number}")

    def sum(self, rows: Iterator[tuple[int, np.ndarray]]) -> MaskedSum:
        keys = self._keys()
        deliveries = self._shares(keys)
        survivors = self._uploads(deliveries, rows)
        if self.session.active_server:
            self._consistency(survivors)
        total = self._unmasking()
        num_clipped = sum(client.num_clipped for client in self.clients)
        num_vanished = sum(client.num_vanished for client in self.clients)
        decoded = self.session.grid.decode(total)
        return MaskedSum(decoded, survivors.clients, self.transcript, num_clipped, num_vanished)

    def _keys(self) -> dict[int, KeyList]:
        for client in self._present(range(self.session.num_clients), Phase.KEYS):
            advert = client.advertise_keys()
            self._to_server(client, "public keys", advert)
            self.server.receive_keys(advert)
        return self.server.key_lists()

    def _shares(self, key_lists: dict[int, KeyList]) -> dict[int, Delivery]:
        for number in key_lists:
            self._note_secrets(number, self.session.peers(number, key_lists))
        for client in self._present(key_lists, Phase.SHARES):
            keys = key_lists[client.number]
            self._to_client(client, "key list", keys)
            dealt = client.deal_shares(keys)
            contents = (self._sealed(client.number, holder) for holder in dealt.pairs)
            self._to_server(client, "sealed shares", dealt, contents)
            self.server.receive_shares(dealt)
        return self.server.deliveries()

    def _uploads(
        self, deliveries: dict[int, Delivery], rows: Iterator[tuple[int, np.ndarray]]
    ) -> Survivors:
        for number, row in rows if self.uploading else ():
            if number >= self.session.num_clients:
                raise InvalidParameterError(
                    f"vectors hold more rows than num_clients={self.session.num_clients}"
                )
            client, delivery = self.clients[number], deliveries[number]
            contents = (self._sealed(dealer, number) for dealer in delivery.pairs)
            self._to_client(client, "sealed shares", delivery, contents)
            upload = client.upload(delivery, row)
            self._to_server(client, "masked row", upload, [self._masked(number, delivery)])
            self.server.receive_upload(upload)
        survivors = self.server.survivors()
        if survivors.clients != self.uploading:
            raise InvalidParameterError(
                f"vectors hold fewer rows than num_clients={self.session.num_clients}"
            )
        return survivors

    def _consistency(self, survivors: Survivors) -> None:
        for client in self._present(survivors.clients, Phase.CONSISTENCY):
            self._to_client(client, "survivors", survivors)
            signature = client.sign_survivors(survivors)
            self._to_server(client, "signed survivors", signature)
            self.server.receive_signature(signature)

    def _unmasking(self) -> np.ndarray:
        requests = self.server.unmask_requests()
        for client in self._present(requests, Phase.UNMASKING):
            request = requests[client.number]
            self._to_client(client, "unmask request", request)
            reveal = client.unmask(request)
            contents = [
                Piece(f"{secret} {dealer}", client.number, share.threshold)
                for secret, shares in (
                    ("self-mask", reveal.seed_shares),
                    ("mask key", reveal.key_shares),
                )
                for dealer, share in shares.items()
            ]
            self._to_server(client, "revealed shares", reveal, contents)
            self.server.receive_reveal(reveal)
        return self.server.total()

    def _present(self, numbers: Iterable[int], phase: Phase) -> Iterator[SecAggClient]:
        for number in numbers:
            if self.dropped.get(number, len(Phase) + 1) > phase:
                yield self.clients[number]

    # --- the transcript --------------------------------------------------------------------------

    def _to_server(
        self, client: SecAggClient, kind: str, message: Any, contents: Iterable[Fact] = ()
    ) -> None:
        payload = message if self.keep_payloads else None
        name = client_name(client.number)
        self.transcript.send(name, SERVER, kind, message.num_bytes, payload, tuple(contents))

    def _to_client(
        self, client: SecAggClient, kind: str, message: Any, contents: Iterable[Fact] = ()
    ) -> None:
        payload = message if self.keep_payloads else None
        name = client_name(client.number)
        self.transcript.send(SERVER, name, kind, message.num_bytes, payload, tuple(contents))

    def _note_secrets(self, number: int, peers: list[int]) -> None:
        """What a client can compute once it knows the public keys of its peers."""
        secrets = [f"mask key {number}", f"self-mask {number}"]
        secrets += [_transport(number, peer) for peer in peers]
        secrets += [_transport(peer, number) for peer in peers]
        self.transcript.hold(client_name(number), *secrets)
        self.transcript.implied[f"mask key {number}"] = tuple(
            _pair_mask(number, peer) for peer in peers
        )

    def _sealed(self, dealer: int, holder: int) -> Fact:
        """The two shares of a dealer for one holder; each holder's number is its own."""
        pieces = tuple(
            Piece(f"{secret} {dealer}", holder, self.session.threshold)
            for secret in ("mask key", "self-mask")
        )
        return Sealed(_transport(dealer, holder), pieces)

    def _masked(self, number: int, delivery: Delivery) -> Fact:
        pairs = [
            (_pair_mask(number, peer), 1 if number < peer else -1)
            for peer in self.session.peers(number, delivery.pairs)
        ]
        return Combination(((f"row {number}", 1), (f"self-mask {number}", 1), *pairs))


def _transport(sender: int, receiver: int) -> str:
    return f"transport key {sender} to {receiver}"


def _pair_mask(one: int, other: int) -> str:
    return f"pair mask {min(one, other)} {max(one, other)}"
