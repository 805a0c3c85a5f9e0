"""Every client seals its row for the server, which opens each one and adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fltutor.border import as_kind, as_whole
from fltutor.crypto.channel import Channel, Initiator, Responder
from fltutor.crypto.keys import Directory, Identity
from fltutor.protocols.arrivals import arriving_rows
from fltutor.transcript import SERVER, Phase, Sealed, SumResult, Transcript, client_name


class Sessions:
    """The channels between a server and its clients, each connected when it is first needed.

    A simulation of all ends in one process: a handshake costs far more than sealing
    a small row, so clients that stay for several rounds keep their session.

    Args:
        run: The training run, bound into every key.

    Example:
        >>> sessions, rows = Sessions("demo"), np.ones((3, 2))
        >>> first = encrypted_sum(rows, round_number=1, sessions=sessions).transcript
        >>> second = encrypted_sum(rows, round_number=2, sessions=sessions).transcript
        >>> len(first), len(second)
        (15, 3)
    """

    def __init__(self, run: str = ""):
        self._run = as_kind("run", run, str)
        self._server = Identity.generate(SERVER)
        self._directory = Directory([self._server.public])
        self._ends: dict[int, tuple[Channel, Channel]] = {}

    def ends(
        self, client: int, transcript: Transcript, *, round_number: int, keep_payloads: bool
    ) -> tuple[Channel, Channel]:
        """The client's end and the server's, after a handshake if they have none yet."""
        if client in self._ends:
            return self._ends[client]
        identity = Identity.generate(client_name(client))
        self._directory.register(identity.public)
        occasion = {"run": self._run, "round_number": round_number}
        initiator = Initiator(identity, SERVER, self._directory, **occasion)
        responder = Responder(self._server, self._directory, **occasion)

        def deliver(kind: str, message: bytes) -> bytes:
            ends = (
                (identity.name, SERVER) if kind in ("hello", "proof") else (SERVER, identity.name)
            )
            transcript.send(*ends, kind, len(message), message if keep_payloads else None)
            return message

        answer = deliver("answer", responder.answer(deliver("hello", initiator.hello())))
        finished, server_end = responder.finish(deliver("proof", initiator.proof(answer)))
        client_end = initiator.finish(deliver("finished", finished))
        self._ends[client] = client_end, server_end
        return self._ends[client]


def encrypted_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None = None,
    *,
    round_number: int = 0,
    sessions: Sessions | None = None,
    keep_payloads: bool = False,
) -> SumResult:
    """Add client vectors that travel through authenticated channels (X25519, AES-256-GCM).

    Who learns what: the server opens, and so sees, every row. Someone on the wire
    sees lengths and who sends when, and can neither read nor change a row
    unnoticed. A client connects when it is about to upload, so one that leaves
    before says nothing.

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks.
        dropped: The phase in which a client leaves, by client number.
        round_number: Bound into every message, so that none fits another round.
        sessions: Channels to use, kept from round to round. By default each call
            makes new ones, with identities of their own.
        keep_payloads: Keep each message in the transcript, as the wire sees it.

    Returns:
        The sum of the rows that arrived, float64, shape (d,). The transcript holds the
        handshakes too.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        ProtocolAbort: If no upload arrives.

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> result = encrypted_sum(rows, dropped={1: Phase.UPLOAD})
        >>> result.total, result.included
        (array([6., 8.]), (0, 2))
    """
    sessions = Sessions() if sessions is None else as_kind("sessions", sessions, Sessions)
    round_number = as_whole("round_number", round_number)
    transcript, context = Transcript(), {"round": round_number}
    included, total = [], 0.0
    for client, row in arriving_rows(vectors, dropped, transcript):
        client_end, server_end = sessions.ends(
            client, transcript, round_number=round_number, keep_payloads=keep_payloads
        )
        message = client_end.seal(row, context)
        payload = message if keep_payloads else None
        row_name, key = f"row {client}", f"channel of client {client}"
        transcript.hold(client_end.me, row_name, key)
        transcript.hold(SERVER, key)
        sealed = (Sealed(key, (row_name,)),)
        transcript.send(
            client_end.me, client_end.peer, "sealed update", len(message), payload, sealed
        )
        included.append(client)
        total = total + server_end.open(message, context).astype(np.float64)
    return SumResult(total, tuple(included), transcript)
