"""Fewer bytes for an update: coarse numbers, few numbers, and remembering what was left out.

A compressed update is what really travels: ``to_bytes`` packs it to the bit, and
``dense`` is the vector that the receiver works with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fltutor.border import as_array, as_generator, as_numbers, as_real, as_whole, shown
from fltutor.crypto.wire import as_view
from fltutor.errors import InvalidParameterError, InvalidUpdateError, WireFormatError

_QUANTIZED = struct.Struct("<BIf")  # bits, size, scale
_SPARSE = struct.Struct("<II")  # size, number of entries kept
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
MAX_SIZE = 2**24  # coordinates that a message may claim where the receiver does not say how many


@dataclass(frozen=True, eq=False)
class Quantized:
    """A vector as one scale and small integers, one per coordinate.

    Attributes:
        levels: Integers from ``-(2**(bits - 1) - 1)`` to ``2**(bits - 1) - 1``, shape (d,).
        scale: What the largest level stands for, rounded to float32, in which it travels.
        bits: Bits of one level on the wire, from 2 to 16.

    Raises:
        InvalidParameterError: If one of them is none of this.
    """

    levels: np.ndarray
    scale: float
    bits: int

    def __post_init__(self):
        bits = as_whole("bits", self.bits, least=2, most=16)
        levels, limit = as_array("levels", self.levels), 2 ** (bits - 1) - 1
        if levels.ndim != 1 or levels.dtype.kind not in "iu":
            raise InvalidParameterError(
                f"levels must be whole numbers, shape (d,), got {levels.dtype} of {levels.shape}"
            )
        if (largest := max(levels.max(initial=0), -int(levels.min(initial=0)))) > limit:
            raise InvalidParameterError(f"a level is {largest}, the largest is {limit}")
        scale = as_real("scale", self.scale, least=0, most=_LARGEST_FLOAT32)
        object.__setattr__(self, "levels", levels.astype(np.int64))
        object.__setattr__(self, "scale", float(np.float32(scale)))
        object.__setattr__(self, "bits", bits)

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
    def from_bytes(cls, data: bytes, *, size: int | None = None) -> Quantized:
        """Read what :meth:`to_bytes` wrote.

        Args:
            data: The message.
            size: How many coordinates the receiver needs. None takes what the message
                says, up to 2^24.

        Raises:
            WireFormatError: If the bytes are truncated, too many, hold a level out of range,
                or claim another size.
        """
        data = as_view(data, "data")
        if len(data) < _QUANTIZED.size:
            raise WireFormatError(f"needed {_QUANTIZED.size} bytes of header, got {len(data)}")
        bits, claimed, scale = _QUANTIZED.unpack_from(data)
        if not 2 <= bits <= 16 or not 0 <= scale < np.inf:
            raise WireFormatError(f"no header: {bits} bits, {claimed} coordinates, scale {scale}")
        _check_size(claimed, size)
        needed = _QUANTIZED.size + -(-claimed * bits // 8)
        if len(data) != needed:
            raise WireFormatError(f"needed {needed} bytes, got {len(data)}")
        packed = np.frombuffer(data, np.uint8, offset=_QUANTIZED.size)
        columns = np.unpackbits(packed, count=claimed * bits).reshape(claimed, bits)
        levels = columns.astype(np.int64) @ (1 << np.arange(bits)) - (2 ** (bits - 1) - 1)
        return _as_received(cls, levels, scale, bits)


@dataclass(frozen=True, eq=False)
class Sparse:
    """A vector of which only some coordinates are kept.

    Attributes:
        indices: Which ones, ascending, shape (k,).
        values: Their values, shape (k,), rounded to float32, in which they travel.
        size: Number of coordinates d of the whole vector; the others are 0.

    Raises:
        InvalidParameterError: If an index is named twice, out of order or out of range, or
            a value is missing or not finite.
    """

    indices: np.ndarray
    values: np.ndarray
    size: int

    def __post_init__(self):
        size = as_whole("size", self.size, least=0, most=2**32 - 1)
        indices, values = as_array("indices", self.indices), as_array("values", self.values)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise InvalidParameterError(
                f"indices must be whole numbers, shape (k,), got {indices.dtype} of {indices.shape}"
            )
        if values.shape != indices.shape or values.dtype.kind not in "fiu":
            raise InvalidParameterError(
                f"values must be one real number for each of {len(indices)} indices, "
                f"got {values.dtype} of {values.shape}"
            )
        rising = (indices[1:] > indices[:-1]).all()
        if len(indices) and not (rising and indices[0] >= 0 and indices[-1] < size):
            raise InvalidParameterError(f"indices must rise and stay below {size}")
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise InvalidParameterError("a value is NaN or Inf, or leaves the range of float32")
        object.__setattr__(self, "indices", indices.astype(np.int64))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "size", size)

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
    def from_bytes(cls, data: bytes, *, size: int | None = None) -> Sparse:
        """Read what :meth:`to_bytes` wrote.

        Eight bytes can claim a vector of 2^32 zeros, which :attr:`dense` would then write
        out. Whoever receives from strangers says how many coordinates are right.

        Args:
            data: The message.
            size: How many coordinates the receiver needs. None takes what the message
                says, up to 2^24.

        Raises:
            WireFormatError: If the bytes are truncated, too many, name a coordinate twice,
                out of order or out of range, or claim another size.
        """
        data = as_view(data, "data")
        if len(data) < _SPARSE.size:
            raise WireFormatError(f"needed {_SPARSE.size} bytes of header, got {len(data)}")
        claimed, kept = _SPARSE.unpack_from(data)
        _check_size(claimed, size)
        if len(data) != _SPARSE.size + 8 * kept:
            raise WireFormatError(f"needed {_SPARSE.size + 8 * kept} bytes, got {len(data)}")
        indices = np.frombuffer(data, "<u4", kept, _SPARSE.size).astype(np.int64)
        values = np.frombuffer(data, "<f4", kept, _SPARSE.size + 4 * kept)
        return _as_received(cls, indices, values, claimed)


def _check_size(claimed: int, size: int | None) -> None:
    """Refuse a claim before any memory is taken for it."""
    if size is not None and claimed != as_whole("size", size, least=0):
        raise WireFormatError(f"the message claims {claimed} coordinates, needed {shown(size)}")
    if size is None and claimed > MAX_SIZE:
        raise WireFormatError(
            f"the message claims {claimed} coordinates; for more than {MAX_SIZE} say size=, "
            "how many are right"
        )


def _as_received(kind: type, *fields):
    """What a message holds, checked like what is made here."""
    try:
        return kind(*fields)
    except InvalidParameterError as error:
        raise WireFormatError(str(error)) from None


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
        InvalidParameterError: If ``bits`` is not a whole number from 2 to 16, or ``rng`` no
            generator.
        InvalidUpdateError: If ``vector`` is no float vector, or holds NaN or Inf.

    Example:
        >>> coarse = quantize(np.array([1.0, -1.0, 0.0]), bits=2, rng=np.random.default_rng(0))
        >>> coarse.levels, coarse.scale, len(coarse.to_bytes())
        (array([ 1, -1,  0]), 1.0, 10)

    Reference:
        Alistarh et al., NeurIPS 2017, section 3.1, with the largest magnitude in place
        of the L2 norm, as in their section 4. https://arxiv.org/abs/1610.02132
    """
    bits, rng = as_whole("bits", bits, least=2, most=16), as_generator("rng", rng)
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
    k = as_whole("k", k, least=1, most=len(vector))
    indices = np.sort(np.argpartition(-np.abs(vector), k - 1)[:k])
    with np.errstate(over="ignore"):
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
        compress: Such as ``partial(top_k, k=24)``. Its message must be of all d coordinates.
        update: What the client wants to send, shape (d,).
        memory: What this client left out so far, shape (d,); zeros at first. It stays
            with the client.

    Returns:
        The message, and the next memory.

    Raises:
        InvalidParameterError: If ``memory`` has another shape than ``update``, or ``compress``
            is no function, gives anything but a message, or one of another size.
        InvalidUpdateError: If ``update`` or ``memory`` is no float vector, or holds NaN or Inf.

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
    if not callable(compress):
        raise InvalidParameterError(f"compress must be a function, got {type(compress).__name__}")
    message = compress(wanted)
    if not isinstance(message, Quantized | Sparse):
        raise InvalidParameterError(
            f"compress must give Quantized or Sparse, got {type(message).__name__}"
        )
    sent = message.dense
    if sent.shape != wanted.shape:
        raise InvalidParameterError(
            f"compress must give a message of {len(wanted)} coordinates, got one of {len(sent)}"
        )
    return message, wanted - sent


def _as_vector(vector: np.ndarray) -> np.ndarray:
    vector = as_numbers("the update", vector, InvalidUpdateError)
    if vector.ndim != 1 or vector.dtype.kind != "f":
        raise InvalidUpdateError(
            f"needed a float vector (d,), got {vector.dtype} of shape {vector.shape}"
        )
    return vector
