"""A model is a list of arrays; a protocol wants one flat vector. Both ways, and clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fltutor.errors import InvalidParameterError, InvalidUpdateError


@dataclass(frozen=True)
class VectorSpec:
    """The shapes that :func:`flatten` took apart, in order."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Number of coordinates d of the flat vector."""
        return sum(int(np.prod(shape)) for shape in self.shapes)


def flatten(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, VectorSpec]:
    """Lay the arrays of a model end to end.

    Args:
        arrays: The tensors of one model, as ``model.get_weights()`` gives them.

    Returns:
        The vector, shape (d,), and the spec that :func:`unflatten` needs.

    Raises:
        InvalidParameterError: If the list is empty or an entry is not a float tensor.

    Example:
        >>> vector, spec = flatten([np.ones((2, 2)), np.zeros(1)])
        >>> vector
        array([1., 1., 1., 1., 0.])
        >>> spec.shapes
        ((2, 2), (1,))
    """
    arrays = [np.asarray(array) for array in arrays]
    if not arrays:
        raise InvalidParameterError("arrays must hold at least one tensor, got an empty list")
    for position, array in enumerate(arrays):
        if array.dtype.kind != "f":
            raise InvalidParameterError(
                f"arrays[{position}] must hold floats, got dtype {array.dtype}"
            )
    vector = np.concatenate([array.ravel() for array in arrays])
    return vector, VectorSpec(tuple(array.shape for array in arrays))


def unflatten(vector: np.ndarray, spec: VectorSpec) -> list[np.ndarray]:
    """Cut a flat vector back into the arrays it came from.

    Raises:
        InvalidParameterError: If ``vector`` is not of shape (spec.size,).

    Example:
        >>> vector, spec = flatten([np.eye(2), np.zeros(1)])
        >>> unflatten(vector, spec)[0]
        array([[1., 0.],
               [0., 1.]])
    """
    vector = np.asarray(vector)
    if vector.shape != (spec.size,):
        raise InvalidParameterError(f"vector must have shape ({spec.size},), got {vector.shape}")
    ends = np.cumsum([int(np.prod(shape)) for shape in spec.shapes])[:-1]
    return [
        part.reshape(shape) for part, shape in zip(np.split(vector, ends), spec.shapes, strict=True)
    ]


def as_updates(updates: np.ndarray) -> np.ndarray:
    """Check that ``updates`` is a float matrix with one row per client, and return it.

    Raises:
        InvalidUpdateError: If it is not of shape (n, d) with n >= 1, or not floats.
    """
    updates = np.asarray(updates)
    if updates.ndim != 2 or updates.shape[0] == 0:
        raise InvalidUpdateError(
            f"updates must have shape (n, d) with one row per client, got {updates.shape}"
        )
    if updates.dtype.kind != "f":
        raise InvalidUpdateError(f"updates must hold floats, got dtype {updates.dtype}")
    return updates


def require_finite_rows(updates: np.ndarray, first_client: int = 0) -> None:
    """Refuse NaN and Inf, naming the client.

    Args:
        updates: Shape (n, d).
        first_client: Number of the client in row 0, for blocks of a larger cohort.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf.

    Example:
        >>> require_finite_rows(np.array([[1.0], [np.nan]]))
        Traceback (most recent call last):
        fltutor.errors.InvalidUpdateError: the update of client 1 holds NaN or Inf at coordinate 0
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(updates.sum()):  # one pass over memory; NaN and Inf survive a sum
            return
    for row, update in enumerate(updates):
        bad = np.flatnonzero(~np.isfinite(update))
        if bad.size:
            raise InvalidUpdateError(
                f"the update of client {first_client + row} holds NaN or Inf at coordinate {bad[0]}"
            )


def clip_by_norm(updates: np.ndarray, clip_norm: float) -> np.ndarray:
    """Scale each row of ``updates`` down to L2 norm at most ``clip_norm``.

    Clipping bounds what one client can change: the sensitivity that
    differential privacy then hides with noise.

    Args:
        updates: One row per client, shape (n, d).
        clip_norm: The bound C, in the units of the model weights.

    Returns:
        Shape (n, d), the dtype of ``updates``. Rows already within C are
        unchanged; the others have norm C but for rounding to that dtype.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If ``clip_norm`` is not positive and finite.

    Example:
        >>> clip_by_norm(np.array([[3.0, 4.0], [0.3, 0.4]]), clip_norm=1.0)
        array([[0.6, 0.8],
               [0.3, 0.4]])

    Reference:
        Abadi et al., CCS 2016, Algorithm 1. https://arxiv.org/abs/1607.00133
    """
    if not 0 < clip_norm < np.inf:
        raise InvalidParameterError(f"clip_norm must be positive and finite, got {clip_norm}")
    updates = as_updates(updates)
    require_finite_rows(updates)
    scale = np.maximum(1.0, row_norms(updates) / clip_norm)
    return (updates / scale[:, None]).astype(updates.dtype)


def row_norms(updates: np.ndarray) -> np.ndarray:
    """L2 norm of each row, shape (n,), accumulated in float64 without overflow.

    Example:
        >>> row_norms(np.array([[3.0, 4.0], [3e200, 4e200]]))
        array([5.e+000, 5.e+200])
    """
    largest = np.abs(updates).max(axis=1, initial=0.0).astype(np.float64)
    safe = np.where(largest > 0, largest, 1.0)
    return safe * np.sqrt(
        [np.square(row / s, dtype=np.float64).sum() for row, s in zip(updates, safe, strict=True)]
    )
