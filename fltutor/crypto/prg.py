"""A short secret seed becomes as much unpredictable randomness as a mask needs.

Two clients that share 32 bytes can hide two hundred thousand weights: both
expand the seed to the same stream. The stream is AES-256 in counter mode under
the whole seed, so there are 2^256 streams and none can be told from noise.

A seed is good for one stream: expand it twice for two purposes and the masks
cancel. Derive one seed per purpose with :func:`fltutor.crypto.keys.derive`.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fltutor.border import as_array, as_flag, as_whole
from fltutor.errors import InvalidParameterError

SEED_BYTES = 32
_BLOCK_BYTES = 2**16  # stays in the cache between cipher and addition
_ZEROS = bytes(_BLOCK_BYTES)
_DTYPES = (np.dtype("<u4"), np.dtype("<u8"))


def expand(seed: bytes, length: int, dtype: np.typing.DTypeLike = np.uint64) -> np.ndarray:
    """Expand a seed to numbers uniform over all of ``dtype``.

    Args:
        seed: 32 secret bytes, used for this one stream only.
        length: How many numbers.
        dtype: ``np.uint32`` or ``np.uint64``.

    Returns:
        Shape (length,). The same seed gives the same numbers on every machine, and a
        shorter stream is the beginning of a longer one.

    Raises:
        InvalidParameterError: If the seed is not 32 bytes, the length negative or more than
            the memory holds, or the dtype another.

    Example:
        >>> expand(bytes(32), 2)
        array([9910523521560253916, 9736928157321283757], dtype=uint64)

    Reference:
        NIST SP 800-38A, section 6.5: counter mode, from counter 0.
    """
    dtype = _ring_dtype(dtype)
    length = as_whole("length", length, least=0, most=2**63 // dtype.itemsize - 1)
    encryptor = _start(seed)
    try:
        stream = np.empty(length, dtype)
    except MemoryError:
        raise InvalidParameterError(f"length must fit into memory, got {length}") from None
    as_bytes = memoryview(stream.view(np.uint8))
    for first in range(0, len(as_bytes), _BLOCK_BYTES):
        block = as_bytes[first : first + _BLOCK_BYTES]
        encryptor.update_into(_ZEROS[: len(block)], block)
    return stream


def add_mask(accumulator: np.ndarray, seed: bytes, *, subtract: bool = False) -> None:
    """Add the stream of a seed to a vector, in place, wrapping around: ``+= expand(...)``.

    The stream exists only as one small block at a time, which the processor adds
    while it is still in the cache.

    Args:
        accumulator: A contiguous vector of uint32 or uint64, changed in place.
        seed: 32 secret bytes, used for this one stream only.
        subtract: Subtract instead, which cancels the same mask added elsewhere.

    Raises:
        InvalidParameterError: If the seed is not 32 bytes, ``subtract`` is neither True nor
            False, or the accumulator is not a writable, contiguous vector of these dtypes.

    Example:
        >>> update, seed = np.array([3, 8], np.uint32), bytes(range(32))
        >>> add_mask(update, seed)
        >>> update
        array([3053490421, 3500099890], dtype=uint32)
        >>> add_mask(update, seed, subtract=True)
        >>> update
        array([3, 8], dtype=uint32)
    """
    if not isinstance(accumulator, np.ndarray):
        raise InvalidParameterError(
            f"accumulator must be an array of uint32 or uint64, got {type(accumulator).__name__}"
        )
    dtype = _ring_dtype(accumulator.dtype)
    as_array("accumulator", accumulator)
    if (
        accumulator.ndim != 1
        or not accumulator.flags.c_contiguous
        or not accumulator.flags.writeable
    ):
        raise InvalidParameterError(
            "accumulator must be a contiguous, writable vector, got an array of shape "
            f"{accumulator.shape} and strides {accumulator.strides}"
        )
    combine = np.subtract if as_flag("subtract", subtract) else np.add
    encryptor = _start(seed)
    stream = np.empty(_BLOCK_BYTES // dtype.itemsize, dtype)
    as_bytes = memoryview(stream.view(np.uint8))
    for first in range(0, len(accumulator), len(stream)):
        part = accumulator[first : first + len(stream)]
        encryptor.update_into(_ZEROS[: part.nbytes], as_bytes)
        combine(part, stream[: len(part)], out=part)


def _start(seed: bytes):
    if not isinstance(seed, bytes):
        raise InvalidParameterError(f"seed must be bytes, got {type(seed).__name__}")
    if len(seed) != SEED_BYTES:
        raise InvalidParameterError(f"seed must be {SEED_BYTES} bytes, got {len(seed)}")
    return Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()


def _ring_dtype(dtype: np.typing.DTypeLike) -> np.dtype:
    try:
        ring = np.dtype(dtype)
    except Exception:  # NumPy raises many types, and some with the value's own __repr__
        ring = None
    if ring not in _DTYPES:
        got = type(dtype).__name__ if ring is None else ring
        raise InvalidParameterError(f"dtype must be uint32 or uint64, got {got}")
    return ring
