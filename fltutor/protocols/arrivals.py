"""Which rows arrive: the part that every protocol shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fltutor.border import not_finite
from fltutor.errors import InvalidParameterError, InvalidUpdateError, ProtocolAbort
from fltutor.transcript import Phase, Transcript, as_dropped, client_name, uploaders, uploads
from fltutor.vectors import as_updates


def arriving_rows(
    vectors: np.ndarray | Iterable[np.ndarray],
    dropped: Mapping[int, Phase] | None,
    transcript: Transcript | None = None,
    *holds: str,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each client that uploads, with its row.

    Args:
        vectors: One row per client, shape (n, d), or an iterable of such blocks.
        dropped: The phase in which a client leaves, by client number.
        transcript: Where to note every client, also one that leaves before it uploads.
        *holds: What each of them holds from the start, such as a key of all clients.

    Raises:
        InvalidUpdateError: If blocks differ in width, or a row that arrives holds NaN or
            Inf; the message names the client.
        InvalidParameterError: If there are no rows, or ``dropped`` names a client that
            does not exist or something that is no phase.
        ProtocolAbort: If no upload arrives.

    Example:
        >>> rows = np.array([[1.0], [2.0], [3.0]])
        >>> [client for client, row in arriving_rows(rows, {1: Phase.UPLOAD})]
        [0, 2]
    """
    dropped = as_dropped(dropped)
    client, width, arrived = 0, None, 0
    for block in as_blocks(vectors):
        block = as_updates(block)
        width = block.shape[1] if width is None else width
        if block.shape[1] != width:
            raise InvalidUpdateError(
                f"the update of client {client} has {block.shape[1]} coordinates, needed {width}"
            )
        for row in block:
            if transcript is not None:
                transcript.hold(client_name(client), *holds)
            if uploads(client, dropped):
                if bad := not_finite(row, "coordinate"):
                    raise InvalidUpdateError(
                        f"the update of client {client} holds NaN or Inf: {bad}"
                    )
                arrived += 1
                yield client, row
            client += 1
    if not client:
        raise InvalidParameterError("vectors must hold the row of at least one client, got none")
    uploaders(client, dropped)  # refuses strangers, now that the number of clients is known
    if not arrived:
        raise ProtocolAbort(f"no upload arrived: all {client} clients left before it")


def as_blocks(vectors: np.ndarray | Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """One matrix, of NumPy, a tensor or of pandas, is one block; what is iterable holds several.

    Raises:
        InvalidUpdateError: If it is neither.

    Example:
        >>> [len(block) for block in as_blocks(np.ones((3, 2)))]
        [3]
    """
    if hasattr(vectors, "__array__"):
        return [vectors]
    if not isinstance(vectors, Iterable):
        raise InvalidUpdateError(
            "vectors must be a matrix with one row per client, or an iterable of such blocks, got "
            f"{type(vectors).__name__}"
        )
    return vectors


@dataclass(frozen=True)
class WeightedRows:
    """The rows ``[weight * update | weight]`` of a weighted mean, made as they are asked for.

    Any protocol can stream them. One that sees the rows anyway may take
    :meth:`add_up`, which reads the matrix once at the speed of memory.
    """

    updates: np.ndarray
    weights: np.ndarray

    @property
    def row_bytes(self) -> int:
        """Bytes of one row on the wire."""
        return (self.updates.shape[1] + 1) * self.updates.itemsize

    def __iter__(self) -> Iterator[np.ndarray]:
        for update, weight in zip(self.updates, self.weights, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):  # arriving_rows names the client
                row = np.append(update * weight, weight).astype(self.updates.dtype)
            yield row[None]

    def add_up(self, dropped: Mapping[int, Phase] | None) -> tuple[tuple[int, ...], np.ndarray]:
        """Who arrives, and the sum of their rows, float64, shape (d + 1,)."""
        present = [client for client, _ in arriving_rows(self.updates[:, :0], dropped)]
        updates, weights = self.updates, self.weights
        if len(present) < len(weights):
            updates, weights = updates[present], weights[present]
        dtype = np.promote_types(updates.dtype, np.float32)  # float16 would lose the sum
        with np.errstate(over="ignore", invalid="ignore"):
            total = weights.astype(dtype) @ updates
        if not np.isfinite(total).all():
            for _ in arriving_rows(self.updates, dropped):  # names the client
                pass
            raise InvalidUpdateError(f"the sum of the updates leaves the range of {dtype}")
        row = np.empty(len(total) + 1)
        row[:-1], row[-1] = total, weights.sum()
        return tuple(present), row
