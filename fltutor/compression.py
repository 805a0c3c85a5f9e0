"""Fewer bytes for an update: coarse numbers, few numbers, and remembering what was left out.

A compressed update is what really travels: ``to_bytes`` packs it to the bit, and
``dense`` is the vector that the receiver works with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fltutor.errors import InvalidParameterError, InvalidUpdateError, WireFormatError

_QUANTIZED = struct.Struct("<BIf")  # bits, size, scale
_SPARSE = struct.Struct("<II")  # size, number of entries kept
_LARGEST_SIZE = 2**31


@dataclass(frozen=True)
class Quantized:
    """A vector as one scale and small integers, one per coordinate.

    Attributes:
        levels: Integers from ``-(2**(bits - 1) - 1)`` to ``2**(bits - 1) - 1``, shape (d,).
        scale: What the largest level stands for.
        bits: Bits of one level on the wire, from 2 to 16.
    """

    levels: np.ndarray
    scale: float
    bits: int

    @property
    def dense(self) -> np.ndarray:
        """The vector that the receiver works with, float64, shape (d,)."""
        return self.levels * (self.scale / (2 ** (self.bits - 1) - 1))

    def to_bytes(self) -> bytes:
        """Pack to ``bits`` bits per coordinate, after a header of 9 bytes."""
        shifted = (self.levels + (2 ** (self.bits - 1) - 1)).astype(np.uint16)
        columns = (shifted[:, None] >> np.arange(self.bits, dtype=np.uint16)) & 1
        packed = np.packbits(columns.astype(np.uint8).ravel()).tobytes()
        return _QUANTIZED.pack(self.bits, len(self.levels), self.scale) + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Quantized:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            WireFormatError: If the bytes are truncated, too many, or hold a level out of range.
        """
        if len(data) < _QUANTIZED.size:
            raise WireFormatError(f"needed {_QUANTIZED.size} bytes of header, got {len(data)}")
        bits, size, scale = _QUANTIZED.unpack_from(data)
        if not 2 <= bits <= 16 or size > _LARGEST_SIZE or not 0 <= scale < np.inf:
            raise WireFormatError(f"no header: {bits} bits, {size} coordinates, scale {scale}")
        needed = _QUANTIZED.size + -(-size * bits // 8)
        if len(data) != needed:
            raise WireFormatError(f"needed {needed} bytes, got {len(data)}")
        packed = np.frombuffer(data, np.uint8, offset=_QUANTIZED.size)
        columns = np.unpackbits(packed, count=size * bits).reshape(size, bits).astype(np.int64)
        limit = 2 ** (bits - 1) - 1
        levels = columns @ (1 << np.arange(bits)) - limit
        if size and levels.max() > limit:
            raise WireFormatError(f"a level is {levels.max()}, the largest is {limit}")
        return cls(levels, scale, bits)


@dataclass(frozen=True)
class Sparse:
    """A vector of which only some coordinates are kept.

    Attributes:
        indices: Which ones, ascending, shape (k,).
        values: Their values, float32, shape (k,).
        size: Number of coordinates d of the whole vector; the others are 0.
    """

    indices: np.ndarray
    values: np.ndarray
    size: int

    @property
    def dense(self) -> np.ndarray:
        """The vector that the receiver works with, float64, shape (d,)."""
        vector = np.zeros(self.size)
        vector[self.indices] = self.values
        return vector

    def to_bytes(self) -> bytes:
        """Pack to 8 bytes per kept coordinate (4 say which, 4 how much), after 8 of header."""
        header = _SPARSE.pack(self.size, len(self.indices))
        return header + self.indices.astype("<u4").tobytes() + self.values.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Sparse:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            WireFormatError: If the bytes are truncated, too many, or name a coordinate twice,
                out of order or out of range.
        """
        if len(data) < _SPARSE.size:
            raise WireFormatError(f"needed {_SPARSE.size} bytes of header, got {len(data)}")
        size, kept = _SPARSE.unpack_from(data)
        if size > _LARGEST_SIZE or len(data) != _SPARSE.size + 8 * kept:
            raise WireFormatError(f"needed {_SPARSE.size + 8 * kept} bytes, got {len(data)}")
        indices = np.frombuffer(data, "<u4", kept, _SPARSE.size).astype(np.int64)
        values = np.frombuffer(data, "<f4", kept, _SPARSE.size + 4 * kept).astype(np.float32)
        if kept and (indices[-1] >= size or (np.diff(indices) <= 0).any()):
            raise WireFormatError(f"indices must rise and stay below {size}")
        if not np.isfinite(values).all():
            raise WireFormatError("a value is NaN or Inf")
        return cls(indices, values, size)


def quantize(vector: np.ndarray, bits: int, rng: np.random.Generator) -> Quantized:
    """Round each coordinate at random to one of ``2**bits - 1`` levels, right on average.

    Between two levels, the nearer one is the more likely, so that the expected
    value is the coordinate itself. Plain rounding would lose small coordinates
    in every round; here they survive on average.

    Args:
        vector: Shape (d,).
        bits: Bits per coordinate, from 2 to 16.
        rng: Source of the roundings. They protect nothing, so it may be seeded.

    Returns:
        Levels between minus and plus the largest magnitude in ``vector``.

    Raises:
        InvalidParameterError: If ``bits`` is not a whole number from 2 to 16.
        InvalidUpdateError: If ``vector`` is no float vector, or holds NaN or Inf.

    Example:
        >>> coarse = quantize(np.array([1.0, -1.0, 0.0]), bits=2, rng=np.random.default_rng(0))
        >>> coarse.levels, coarse.scale, len(coarse.to_bytes())
        (array([ 1, -1,  0]), 1.0, 10)

    Reference:
        Alistarh et al., NeurIPS 2017, section 3.1, with the largest magnitude in place
        of the L2 norm, as in their section 4. https://arxiv.org/abs/1610.02132
    """
    if bits not in range(2, 17):
        raise InvalidParameterError(f"bits must be a whole number from 2 to 16, got {bits}")
    vector = _as_vector(vector)
    largest = np.abs(vector).max(initial=0.0)
    with np.errstate(over="ignore"):
        scale = np.float32(largest)
        scale = float(np.nextafter(scale, np.float32(np.inf)) if scale < largest else scale)
    if not np.isfinite(scale):
        raise InvalidUpdateError("the vector leaves the range of float32, in which it travels")
    if scale == 0.0:
        return Quantized(np.zeros(len(vector), dtype=np.int64), 0.0, bits)
    position = vector.astype(np.float64) * ((2 ** (bits - 1) - 1) / scale)
    below = np.floor(position)
    levels = below + (rng.random(len(vector)) < position - below)
    return Quantized(levels.astype(np.int64), scale, bits)


def top_k(vector: np.ndarray, k: int) -> Sparse:
    """Keep the ``k`` coordinates of largest magnitude.

    Unlike :func:`quantize`, this is wrong on average: what is always small is never
    sent. :func:`with_error_feedback` mends that.

    Args:
        vector: Shape (d,).
        k: How many to keep, from 1 to d.

    Raises:
        InvalidParameterError: If ``k`` is out of range.
        InvalidUpdateError: If ``vector`` is no float vector, or holds NaN or Inf.

    Example:
        >>> top_k(np.array([0.1, -3.0, 2.0]), k=1).dense
        array([ 0., -3.,  0.])

    Reference:
        Stich et al., NeurIPS 2018, Definition 2.1. https://arxiv.org/abs/1809.07599
    """
    vector = _as_vector(vector)
    if not 1 <= k <= len(vector):
        raise InvalidParameterError(f"k must be from 1 to {len(vector)}, got {k}")
    indices = np.sort(np.argpartition(-np.abs(vector), k - 1)[:k])
    values = vector[indices].astype(np.float32)
    if not np.isfinite(values).all():
        raise InvalidUpdateError("the vector leaves the range of float32, in which it travels")
    return Sparse(indices, values, len(vector))


def with_error_feedback(
    compress: Callable[[np.ndarray], Quantized | Sparse], update: np.ndarray, memory: np.ndarray
) -> tuple[Quantized | Sparse, np.ndarray]:
    """Compress ``update`` plus all that was left out before, and remember what is left out now.

    Nothing is lost: what was sent and what is remembered add up to the updates.

    Args:
        compress: Such as ``partial(top_k, k=24)``.
        update: What the client wants to send, shape (d,).
        memory: What this client left out so far, shape (d,); zeros at first. It stays
            with the client.

    Returns:
        The message, and the next memory.

    Example:
        >>> from functools import partial
        >>> message, memory = with_error_feedback(
        ...     partial(top_k, k=1), np.array([2.0, 3.0]), memory=np.zeros(2)
        ... )
        >>> message.dense, memory
        (array([0., 3.]), array([2., 0.]))

    Reference:
        Karimireddy et al., ICML 2019, Algorithm 2 (EF-SGD). https://arxiv.org/abs/1901.09847
    """
    update, memory = _as_vector(update), _as_vector(memory)
    if update.shape != memory.shape:
        raise InvalidParameterError(
            f"memory must have the shape of the update, {update.shape}, got {memory.shape}"
        )
    wanted = update.astype(np.float64) + memory
    message = compress(wanted)
    return message, wanted - message.dense


def _as_vector(vector: np.ndarray) -> np.ndarray:
    vector = np.asarray(vector)
    if vector.ndim != 1 or vector.dtype.kind != "f":
        raise InvalidUpdateError(
            f"needed a float vector (d,), got {vector.dtype} of shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        place = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InvalidUpdateError(f"the update holds NaN or Inf at coordinate {place}")
    return vector
