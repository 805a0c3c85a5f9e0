"""The baseline: every client sends its row in the clear, and the server adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fltutor.protocols.arrivals import WeightedRows, arriving_rows
from fltutor.transcript import SERVER, Phase, SumResult, Transcript, client_name


def plain_sum(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None = None,
    *,
    keep_payloads: bool = False,
) -> SumResult:
    """Add client vectors that travel unprotected.

    Who learns what: the server and everyone on the wire see every row.

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks.
        dropped: The phase in which a client leaves, by client number.
        keep_payloads: Keep each row in the transcript, for lessons that look at it.

    Returns:
        The sum of the rows that arrived, float64, shape (d,).

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        ProtocolAbort: If no upload arrives.

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> result = plain_sum(rows, dropped={1: Phase.UPLOAD})
        >>> result.total, result.included
        (array([6., 8.]), (0, 2))
    """
    transcript = Transcript()
    if isinstance(vectors, WeightedRows) and not keep_payloads:  # the same sum in one product
        present, total = vectors.add_up(dropped)
        for client in range(len(vectors.weights)):
            transcript.hold(client_name(client))
        for client in present:
            _send(transcript, client, vectors.row_bytes)
        return SumResult(total, present, transcript)
    included, total = [], 0.0
    for client, row in arriving_rows(vectors, dropped, transcript):
        payload = row.copy() if keep_payloads else None
        _send(transcript, client, row.nbytes, payload)
        included.append(client)
        total = total + row.astype(np.float64)
    return SumResult(total, tuple(included), transcript)


def _send(transcript: Transcript, client: int, num_bytes: int, payload: Any = None) -> None:
    row = f"row {client}"
    transcript.hold(client_name(client), row)
    transcript.send(client_name(client), SERVER, "update", num_bytes, payload, (row,))
