"""Every client seals its row for the server, which opens each one and adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fltutor.crypto import aead
from fltutor.protocols.arrivals import arriving_rows
from fltutor.transcript import SERVER, Phase, SumResult, Transcript, client_name


def encrypted_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None = None,
    *,
    round_number: int = 0,
    keep_payloads: bool = False,
) -> SumResult:
    """Add client vectors that travel encrypted and authenticated (AES-256-GCM).

    Who learns what: the server opens, and so sees, every row. Someone on the wire
    sees lengths and who sends when, and can neither read nor change a row
    unnoticed. Each client shares a fresh key with the server, made anew for
    this call; how two strangers come to share a key is another lesson.

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks.
        dropped: The phase in which a client leaves, by client number.
        round_number: Bound into every message, so that none fits another round.
        keep_payloads: Keep each sealed message in the transcript, as the wire sees it.

    Returns:
        The sum of the rows that arrived, float64, shape (d,).

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        ProtocolAbort: If no upload arrives.

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> result = encrypted_sum(rows, dropped={1: Phase.UPLOAD})
        >>> result.total, result.included
        (array([6., 8.]), (0, 2))
    """
    transcript = Transcript()
    included, total = [], 0.0
    for client, row in arriving_rows(vectors, dropped):
        key = aead.generate_key()
        context = {"round": round_number, "client": client}
        message = aead.encrypt_tensor(row, key, context).to_bytes()
        payload = message if keep_payloads else None
        transcript.send(client_name(client), SERVER, "sealed update", len(message), payload)
        opened = aead.decrypt_tensor(aead.EncryptedTensor.from_bytes(message), key, context)
        included.append(client)
        total = total + opened.astype(np.float64)
    return SumResult(total, tuple(included), transcript)
