"""A model is a list of arrays; a protocol wants one flat vector. Both ways, and clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fltutor.border import as_array, as_real, not_finite
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
    arrays = [as_array(f"arrays[{position}]", array) for position, array in enumerate(arrays)]
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
    vector = as_array("vector", vector)
    if vector.shape != (spec.size,):
        raise InvalidParameterError(f"vector must have shape ({spec.size},), got {vector.shape}")
    ends = np.cumsum([int(np.prod(shape)) for shape in spec.shapes])[:-1]
    return [
        part.reshape(shape) for part, shape in zip(np.split(vector, ends), spec.shapes, strict=True)
    ]


def as_updates(updates: np.ndarray, *, allow_empty: bool = False) -> np.ndarray:
    """Check that ``updates`` is a float matrix with one row per client, and return it.

    Args:
        updates: Shape (n, d): an array, a tensor, or a list of rows.
        allow_empty: Accept n = 0, where sampling may choose nobody.

    Raises:
        InvalidUpdateError: If it is not of shape (n, d) with n >= 1, or not of float16, float32
            or float64.

    Example:
        >>> as_updates([[1.0, 2.0]])
        array([[1., 2.]])
        >>> as_updates([[1, 2]])
        Traceback (most recent call last):
        fltutor.errors.InvalidUpdateError: updates must hold floats of 16, 32 or 64 bits, got ...
    """
    updates = as_array("updates", updates, InvalidUpdateError)
    if updates.ndim != 2 or not (len(updates) or allow_empty):
        raise InvalidUpdateError(
            f"updates must have shape (n, d) with one row per client, got {updates.shape}"
        )
    if updates.dtype.kind != "f" or updates.dtype.itemsize > 8:
        raise InvalidUpdateError(
            f"updates must hold floats of 16, 32 or 64 bits, got dtype {updates.dtype}: write "
            "updates.astype(np.float64)"
        )
    return updates


def require_finite_rows(updates: np.ndarray, first_client: int = 0) -> None:
    """Refuse NaN and Inf, naming the client.

    Args:
        updates: Shape (n, d).
        first_client: Number of the client in row 0, for blocks of a larger cohort.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the text says which, and where.

    Example:
        >>> require_finite_rows(np.array([[1.0], [np.nan]]))
        Traceback (most recent call last):
        fltutor.errors.InvalidUpdateError: the update of client 1 holds NaN at coordinate 0
    """
    updates = as_updates(updates, allow_empty=True)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(updates.sum()):  # one pass over memory; NaN and Inf survive a sum
            return
    for row, update in enumerate(updates):
        if bad := not_finite(update, "coordinate"):
            raise InvalidUpdateError(f"the update of client {first_client + row} holds {bad}")


def clip_by_norm(updates: np.ndarray, clip_norm: float) -> np.ndarray:
    """Scale each row of ``updates`` down to L2 norm at most ``clip_norm``.

    Clipping bounds what one client can change: the sensitivity that
    differential privacy then hides with noise. So the bound must hold for the numbers that
    are sent, after their last rounding.

    Args:
        updates: One row per client, shape (n, d).
        clip_norm: The bound C, in the units of the model weights.

    Returns:
        Shape (n, d), the dtype of ``updates``, but float32 for float16, whose rounding would
        lengthen rows of many small numbers. Rows whose norm, measured in float64, is within C
        are unchanged. The others end just below C, rounding included: less than 1.2e-7 of it
        below in float32, 1e-14 in float64, unless their numbers are too small for the dtype.

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
    clip_norm = as_real("clip_norm", clip_norm, above=0)
    require_finite_rows(updates)
    updates = as_updates(updates)
    clipped = updates.astype(np.promote_types(updates.dtype, np.float32))
    largest, lengths = _norms(updates)
    with np.errstate(over="ignore"):
        too_long = largest * lengths > clip_norm
    # Rounding to the dtype lengthens a row by half an eps at most. Both norms, before and after,
    # and the scaling are float64: the sum of d squares is off by d roundings, or by 64 if they
    # are added in pairs. Each number below the normal range is off by half the smallest one.
    info, d = np.finfo(clipped.dtype), updates.shape[1]
    rounding = float(info.eps) / 2 + (8 + min(d, 64)) * 2.0**-53
    vanishing = np.sqrt(d) * float(info.smallest_subnormal)
    target = max(clip_norm * (1 - rounding) - vanishing, 0.0)
    for row in np.flatnonzero(too_long):
        clipped[row] = updates[row] / largest[row] * (target / lengths[row])
    return clipped


def row_norms(updates: np.ndarray) -> np.ndarray:
    """L2 norm of each row, shape (n,), accumulated in float64, where no square overflows.

    Example:
        >>> row_norms(np.array([[3.0, 4.0], [3e200, 4e200]]))
        array([5.e+000, 5.e+200])
    """
    largest, lengths = _norms(as_updates(updates, allow_empty=True))
    with np.errstate(over="ignore"):  # infinite is the norm of finite numbers only near 1e308
        return largest * lengths


def _norms(updates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest magnitude in each row, and the norm in units of it: 1 or more, or 0."""
    largest = np.abs(updates).max(axis=1, initial=0.0).astype(np.float64)
    safe = np.where(largest > 0, largest, 1.0)
    squares = [
        np.square(row / unit, dtype=np.float64).sum()
        for row, unit in zip(updates, safe, strict=True)
    ]
    return largest, np.sqrt(np.array(squares, np.float64))
