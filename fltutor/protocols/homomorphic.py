"""The server adds ciphertexts, and the clients open the total: Paillier or CKKS.

**Who holds the key.** All clients share one secret key; the server has none. So the server
learns neither a row nor the sum, as long as no client colludes with it: one client's key
opens every row the server has. Rows travel in channels (X25519, AES-256-GCM), because
any client that could listen would read the others' rows too, and because a bare ciphertext
can be altered by anyone.

The server sends the encrypted total to every client that is still there. Each opens it
and applies it, and nobody sends it back: with the ciphertext *and* the decrypted total,
a server could compute a CKKS key (see :mod:`fltutor.crypto.ckks`). ``SumResult.total`` is
therefore what the clients know. A simulation goes on from it as each of them would.

The server is assumed to add what it was sent. One that sends a client's row in place of
the total shows that row to all clients. Noise that an aggregation adds to the total comes
too late to hide anything from the clients, who have opened it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fltutor.border import as_flag, as_kind, as_whole
from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import PACKED_GRID, PrivateKey, PublicKey, encrypt_vector
from fltutor.errors import InvalidParameterError, InvalidUpdateError, ProtocolAbort
from fltutor.fixed_point import FixedPoint
from fltutor.protocols.arrivals import arriving_rows
from fltutor.protocols.encrypted import Sessions
from fltutor.transcript import (
    SERVER,
    Combination,
    Phase,
    Sealed,
    SumResult,
    Transcript,
    client_name,
)

SHARED_KEY = "secret key of all clients"


class PaillierClient:
    """What every client holds: the private key, and the grid they agreed on."""

    def __init__(self, private_key: PrivateKey, grid: FixedPoint, packed: bool):
        self._private_key = as_kind("private_key", private_key, PrivateKey)
        self._grid, self._packed = as_kind("grid", grid, FixedPoint), as_flag("packed", packed)
        self.public = private_key.public_key

    def encrypt(self, row: np.ndarray) -> bytes:
        """The row as it goes to the server."""
        encrypted = encrypt_vector(row, self._private_key, self._grid, packed=self._packed)
        return encrypted.to_bytes()

    def decrypt(self, total: bytes) -> np.ndarray:
        """Open the total."""
        return self._private_key.decrypt_vector(self.public.read(total))


class CkksClient:
    """What every client holds: the context with the secret key."""

    def __init__(self, context: Context):
        self._context = as_kind("context", context, Context)
        self.public = context.public()

    def encrypt(self, row: np.ndarray) -> bytes:
        """The row as it goes to the server."""
        return self._context.encrypt(row).to_bytes()

    def decrypt(self, total: bytes) -> np.ndarray:
        """Open the total."""
        return self._context.decrypt(self._context.read(total))


class AddingServer:
    """Adds what it cannot read.

    Args:
        public: A Paillier public key or a CKKS context without a key: something that
            reads ciphertexts.
    """

    def __init__(self, public: PublicKey | Context):
        if not isinstance(public, PublicKey | Context):
            raise InvalidParameterError(
                "public must be a Paillier PublicKey or a CKKS Context, got "
                f"{type(public).__name__}"
            )
        self._public, self._total = public, None

    def receive(self, upload: bytes) -> None:
        """Add one client's ciphertexts to the total; a refusal leaves the total as it was.

        Raises:
            WireFormatError: If the upload is no vector of this key, or is malformed.
            InvalidParameterError: If it does not fit the others, or the total could overflow.
        """
        encrypted = self._public.read(upload)
        self._total = encrypted if self._total is None else self._total + encrypted

    def total(self) -> bytes:
        """The encrypted sum, for the clients; Paillier's is re-randomised.

        Raises:
            ProtocolAbort: If nothing has arrived.
        """
        if self._total is None:
            raise ProtocolAbort("no upload has arrived, so there is no total")
        return self._total.to_bytes()


def paillier_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None = None,
    *,
    private_key: PrivateKey | None = None,
    grid: FixedPoint = PACKED_GRID,
    packed: bool = True,
    round_number: int = 0,
    sessions: Sessions | None = None,
    keep_payloads: bool = False,
) -> SumResult:
    """Add client vectors under Paillier encryption.

    Who learns what: the clients, who share the private key, learn the sum. The server and
    everyone on the wire learn lengths, unless a client gives them the key.

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks.
        dropped: The phase in which a client leaves, by client number. One that leaves
            after its upload is in the sum and does not open it.
        private_key: Shared by the clients. By default each call draws a new one, in a second.
        grid: Scale, range and width of a slot; its free bits guard the additions.
        packed: False spends a ciphertext on each number, as a lesson in patience.
        round_number: Bound into every message.
        sessions: Channels to use, kept from round to round.
        keep_payloads: Keep the ciphertexts in the transcript, as the server sees them.

    Returns:
        The exact sum of the rows rounded to the grid, float64, shape (d,): within
        ``n * grid.resolution / 2`` of the sum of the rows.

    Raises:
        InvalidUpdateError: If a row holds NaN, Inf or values beyond the grid; the text
            names the client.
        InvalidParameterError: If a slot could overflow with so many rows.
        ProtocolAbort: If no upload arrives, or nobody is left to open the total.

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> key = PrivateKey.generate(256, toy=True)
        >>> result = paillier_sum(rows, dropped={1: Phase.UPLOAD}, private_key=key)
        >>> result.total, result.included
        (array([6., 8.]), (0, 2))
    """
    private_key = PrivateKey.generate() if private_key is None else private_key
    client = PaillierClient(private_key, grid, packed)
    return _homomorphic_sum(vectors, dropped, client, round_number, sessions, keep_payloads)


def ckks_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None = None,
    *,
    context: Context | None = None,
    round_number: int = 0,
    sessions: Sessions | None = None,
    keep_payloads: bool = False,
) -> SumResult:
    """Add client vectors under CKKS encryption.

    Who learns what: the clients, who share the secret key, learn the sum. The server and
    everyone on the wire learn lengths, unless a client gives them the key *or a total that
    it decrypted* (Li and Micciancio 2021).

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks.
        dropped: The phase in which a client leaves, by client number. One that leaves
            after its upload is in the sum and does not open it.
        context: Shared by the clients. By default each call draws a new one, in milliseconds.
        round_number: Bound into every message.
        sessions: Channels to use, kept from round to round.
        keep_payloads: Keep the ciphertexts in the transcript, as the server sees them.

    Returns:
        The sum of the rows that arrived, float64, shape (d,), within
        ``n * context.parameters.resolution`` of the exact one.

    Raises:
        InvalidUpdateError: If a row holds NaN, Inf or values beyond the range; the text
            names the client.
        InvalidParameterError: If more rows arrive than the context has room to add.
        ProtocolAbort: If no upload arrives, or nobody is left to open the total.

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> result = ckks_sum(rows, dropped={1: Phase.UPLOAD})
        >>> result.total.round(6), result.included
        (array([6., 8.]), (0, 2))
    """
    client = CkksClient(Context.generate() if context is None else context)
    return _homomorphic_sum(vectors, dropped, client, round_number, sessions, keep_payloads)


def _homomorphic_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None,
    holder: PaillierClient | CkksClient,
    round_number: int,
    sessions: Sessions | None,
    keep_payloads: bool,
) -> SumResult:
    """All clients are simulated by one holder of the key that they share."""
    sessions = Sessions() if sessions is None else as_kind("sessions", sessions, Sessions)
    round_number, server = as_whole("round_number", round_number), AddingServer(holder.public)
    transcript, bound = Transcript(), {"round": round_number}
    ends = {}

    def send(sender, receiver, kind: str, data: bytes, content) -> bytes:
        message = sender.seal(np.frombuffer(data, np.uint8), bound)
        channel = f"channel of {client_name(client)}"
        contents = (Sealed(channel, (Sealed(SHARED_KEY, (content,)),)),)
        payload = data if keep_payloads else None
        transcript.send(sender.me, receiver.me, kind, len(message), payload, contents)
        return receiver.open(message, bound).tobytes()

    for client, row in arriving_rows(vectors, dropped, transcript, SHARED_KEY):
        try:
            upload = holder.encrypt(row)
        except InvalidUpdateError as error:
            raise InvalidUpdateError(f"the update of client {client}: {error}") from None
        here, there = ends[client] = sessions.ends(
            client, transcript, round_number=round_number, keep_payloads=keep_payloads
        )
        transcript.hold(here.me, f"row {client}", f"channel of {here.me}")
        transcript.hold(SERVER, f"channel of {here.me}")
        server.receive(send(here, there, "encrypted update", upload, f"row {client}"))

    encrypted_total, total = server.total(), None
    summed = Combination(tuple((f"row {client}", 1) for client in ends))
    for client, (here, there) in ends.items():
        if (dropped or {}).get(client, len(Phase) + 1) > Phase.UNMASKING:
            received = send(there, here, "encrypted total", encrypted_total, summed)
            total = holder.decrypt(received) if total is None else total
    if total is None:
        raise ProtocolAbort(f"nobody is left to open the total: all {len(ends)} clients left")
    return SumResult(total, tuple(ends), transcript)
