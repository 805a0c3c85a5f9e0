"""The wire format of encrypted tensors: what is sent, byte by byte, and what is only authenticated.

All integers are unsigned and little-endian. Version 1::

    4   magic     b"FLET"
    1   version   1
    1   kind      0 one tensor, 1 a model (a list of tensors)
    4   count     number of tensors, at least 1
        for each tensor:
    1     dtype   1 bool, 2-5 int8-int64, 6-9 uint8-uint64, 10-12 float16-float64, 13 bfloat16
    1     ndim    at most 32
    8     each dimension
        for each chunk (a tensor is one chunk, or several beyond 1 GiB):
    12    nonce
          ciphertext, as long as the plaintext: little-endian values in C order
    16    tag

The associated data of a chunk is the whole header, the first nonce of the
message, the number of the chunk (8 bytes), 1 if it is the last one (1 byte),
and the encoded context. The first nonce ties the chunks of a message together,
so that two messages of one shape cannot be spliced.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fltutor import border
from fltutor.errors import InvalidParameterError, WireFormatError
from fltutor.packages import load

NONCE_BYTES = 12
TAG_BYTES = 16
MAX_DIMENSIONS = 32
MAX_BYTES = 2**36  # default limit of what is read
CHUNK_BYTES = 2**30  # AES-GCM in one call: the library takes at most 2**31 - 1 bytes

MAGIC, VERSION = b"FLET", 1
TENSOR, MODEL = 0, 1
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bfloat16"),
)  # the code on the wire is the position here plus one
NUMPY_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in DTYPES if name != "bfloat16"}

Context = Mapping[str, int | str | bytes]

_START = struct.Struct("<4sBBI")  # magic, version, kind, count
_INTEGERS = (int, np.integer)
_MAX_INTEGER_BITS = 4096  # of an integer in a context; Python refuses to write very long ones
_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}
_ITEM_BYTES = {"bfloat16": 2} | {name: dtype.itemsize for name, dtype in NUMPY_DTYPES.items()}


class TensorSpec(NamedTuple):
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of the values, in Python integers, which do not overflow."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


Specs = tuple[TensorSpec, ...]


class Chunk(NamedTuple):
    """A piece of a tensor that is sealed on its own."""

    tensor: int  # which tensor
    values: slice  # its bytes within the tensor
    place: slice  # nonce, ciphertext and tag within the message


def chunks(specs: Specs, start: int, chunk_bytes: int) -> Iterator[Chunk]:
    """Cut tensors into chunks; an empty tensor is one empty chunk, so that it is sealed too.

    Example:
        >>> [chunk.values for chunk in chunks((TensorSpec("uint8", (5,)),), 20, chunk_bytes=4)]
        [slice(0, 4, None), slice(4, 5, None)]
    """
    for tensor, spec in enumerate(specs):
        num_bytes = spec.num_bytes
        for first in range(0, num_bytes or 1, chunk_bytes):
            stop = min(first + chunk_bytes, num_bytes)
            end = start + NONCE_BYTES + (stop - first) + TAG_BYTES
            yield Chunk(tensor, slice(first, stop), slice(start, end))
            start = end


def message_bytes(header: bytes, specs: Specs, chunk_bytes: int) -> int:
    """Length of the whole message, by arithmetic alone: a header may claim absurd sizes."""
    num_chunks = sum(max(1, -(-spec.num_bytes // chunk_bytes)) for spec in specs)
    values = sum(spec.num_bytes for spec in specs)
    return len(header) + values + num_chunks * (NONCE_BYTES + TAG_BYTES)


def pack_header(kind: int, specs: Specs) -> bytes:
    """Write the header.

    Example:
        >>> pack_header(TENSOR, (TensorSpec("float32", (64, 10)),)).hex(" ", -4)
        '464c4554 01000100 00000b02 40000000 00000000 0a000000 00000000'
    """
    pieces = [_START.pack(MAGIC, VERSION, kind, len(specs))]
    for dtype, shape in specs:
        code = DTYPES.index(dtype) + 1
        pieces.append(struct.pack(f"<BB{len(shape)}Q", code, len(shape), *shape))
    return b"".join(pieces)


def read_header(wire: memoryview, limit: int, chunk_bytes: int) -> tuple[int, Specs, bytes]:
    """Read kind, specs and the header as it is, checking every length in Python integers.

    Raises:
        WireFormatError: Truncated, trailing bytes, unknown magic, version, kind or
            dtype, too many dimensions, or sizes that do not fit the message.
    """
    if len(wire) > limit:
        raise WireFormatError(f"message of {len(wire)} bytes is longer than the limit {limit}")
    kind, count = _read_start(wire)
    position, specs = _START.size, []
    for number in range(count):
        spec = _read_spec(wire, position, f"tensor {number}", limit)
        position += 2 + 8 * len(spec.shape)
        specs.append(spec)
    header = bytes(wire[:position])
    needed = message_bytes(header, specs, chunk_bytes)
    if len(wire) != needed:
        problem = "truncated" if len(wire) < needed else "with trailing bytes"
        raise WireFormatError(f"message {problem}: needed {needed} bytes, got {len(wire)}")
    return kind, tuple(specs), header


def _read_start(wire: memoryview) -> tuple[int, int]:
    if len(wire) < _START.size:
        raise WireFormatError(f"message truncated: {len(wire)} bytes are shorter than any header")
    magic, version, kind, count = _START.unpack_from(wire)
    if magic != MAGIC:
        raise WireFormatError(f"not an encrypted tensor: needed magic {MAGIC}, got {magic}")
    if version != VERSION:
        raise WireFormatError(f"unknown version {version}, this package reads version {VERSION}")
    if kind not in (TENSOR, MODEL):
        raise WireFormatError(f"unknown kind {kind}, needed 0 (one tensor) or 1 (a model)")
    if count == 0 or (kind == TENSOR and count != 1):
        raise WireFormatError(f"a message of kind {kind} cannot hold {count} tensors")
    if len(wire) < _START.size + count * (2 + NONCE_BYTES + TAG_BYTES):
        raise WireFormatError(f"message truncated: {len(wire)} bytes cannot hold {count} tensors")
    return kind, count


def _read_spec(wire: memoryview, position: int, name: str, limit: int) -> TensorSpec:
    if len(wire) < position + 2:
        raise WireFormatError(f"message truncated in the header of {name}")
    code, num_dimensions = wire[position], wire[position + 1]
    if not 1 <= code <= len(DTYPES):
        raise WireFormatError(f"{name}: unknown dtype code {code}, known are 1-{len(DTYPES)}")
    if num_dimensions > MAX_DIMENSIONS:
        raise WireFormatError(
            f"{name}: {num_dimensions} dimensions, at most {MAX_DIMENSIONS} are allowed"
        )
    if len(wire) < position + 2 + 8 * num_dimensions:
        raise WireFormatError(f"message truncated in the shape of {name}")
    shape = struct.unpack_from(f"<{num_dimensions}Q", wire, position + 2)
    spec = TensorSpec(DTYPES[code - 1], shape)
    # A zero hides huge neighbours from the product, yet NumPy could not hold such a shape.
    if math.prod(filter(None, shape)) * _ITEM_BYTES[spec.dtype] > limit:
        raise WireFormatError(f"{name}: shape {shape} is larger than the limit of {limit} bytes")
    return spec


def associated_data(
    header: bytes, first_nonce: bytes, index: int, num_chunks: int, context: bytes
) -> bytes:
    """Join fields of which each has a fixed length or says its own: no two tuples collide."""
    is_last = index == num_chunks - 1
    return header + first_nonce + struct.pack("<QB", index, is_last) + context


def encode_context(context: Context | None) -> bytes:
    """Write a context as bytes that no other context shares.

    Every name and value carries its length, so that ``("1", "23")`` and
    ``("12", "3")`` differ, and every value its type, so that 1 and "1" differ.
    The order of the entries does not matter; no context is an empty one.

    Returns:
        The number of entries (4 bytes), then for each, sorted by name: length
        (4 bytes) and name in UTF-8, ``b"i"``, ``b"s"`` or ``b"b"``, length and value
        (integers in decimal).

    Raises:
        InvalidParameterError: If a name is not a str or a value not an int, str or bytes.

    Example:
        >>> encode_context({"round": 3})
        b'\\x01\\x00\\x00\\x00\\x05\\x00\\x00\\x00roundi\\x01\\x00\\x00\\x003'
        >>> encode_context({"round": 3, "client": 7}) == encode_context({"client": 7, "round": 3})
        True
    """
    context = {} if context is None else context
    if not isinstance(context, Mapping):
        raise InvalidParameterError(f"context must be a mapping, got {type(context).__name__}")
    encoded = [struct.pack("<I", len(context))]
    for name in sorted(context, key=_require_name):
        letter, value = _typed_value(name, context[name])
        name = name.encode()
        encoded += [
            struct.pack("<I", len(name)),
            name,
            letter,
            struct.pack("<I", len(value)),
            value,
        ]
    return b"".join(encoded)


def _require_name(name: Any) -> str:
    if not isinstance(name, str) or not _is_unicode(name):
        got = ascii(name) if isinstance(name, str) else type(name).__name__
        raise InvalidParameterError(f"context names must be Unicode text, got {got}")
    return name


def _typed_value(name: str, value: Any) -> tuple[bytes, bytes]:
    """A type letter and the bytes of one context value."""
    if isinstance(value, _INTEGERS) and not isinstance(value, bool):
        if abs(int(value)) >= 2**_MAX_INTEGER_BITS:
            raise InvalidParameterError(
                f"context[{name!r}] must be an integer of at most {_MAX_INTEGER_BITS} bits"
            )
        return b"i", b"%d" % int(value)
    if isinstance(value, str) and _is_unicode(value):
        return b"s", value.encode()
    if isinstance(value, bytes):
        return b"b", value
    raise InvalidParameterError(
        f"context[{name!r}] must be int, Unicode text or bytes, got {type(value).__name__}"
    )


def _is_unicode(text: str) -> bool:
    """Lone surrogates are str in Python, yet no text, and cannot be encoded."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def as_array(tensor: Any, name: str) -> np.ndarray:
    """The values in C order, copied only where they are not; tensors of TensorFlow by .numpy().

    Raises:
        InvalidParameterError: If it has no values, is masked, has an unknown dtype or too
            many dimensions.
    """
    try:
        values = tensor.numpy() if hasattr(tensor, "numpy") else tensor
    except Exception as error:  # whatever a foreign tensor raises
        raise InvalidParameterError(
            f"{name} must be an array or tensor that has values, "
            f"got {type(tensor).__name__} ({type(error).__name__})"
        ) from None
    array = np.asarray(border.as_array(name, values), order="C")
    if dtype_name(array.dtype) is None:
        raise InvalidParameterError(
            f"{name} must be of a known little-endian dtype ({', '.join(DTYPES)}), "
            f"got {array.dtype!r}"
        )
    if array.ndim > MAX_DIMENSIONS:
        raise InvalidParameterError(
            f"{name} has {array.ndim} dimensions, at most {MAX_DIMENSIONS} are allowed"
        )
    return array


def as_view(message: Any, name: str) -> memoryview:
    """The bytes of a received message, read-only, not copied.

    Raises:
        InvalidParameterError: If it is no bytes and no other contiguous buffer.
    """
    if isinstance(message, np.ndarray):
        message = border.as_array(name, message)
    try:
        return memoryview(message).cast("B").toreadonly()
    except (TypeError, ValueError, BufferError):
        raise InvalidParameterError(
            f"{name} must be bytes or a contiguous buffer, got {type(message).__name__}"
        ) from None


def byte_view(array: np.ndarray) -> np.ndarray:
    """The memory of an array in C order as bytes, not copied."""
    return array.reshape(-1).view(np.uint8)


def dtype_name(dtype: np.dtype) -> str | None:
    """Name of a dtype in ``DTYPES``; None for any other, such as big-endian or object."""
    if dtype.kind == "V" and dtype.name == "bfloat16":
        return "bfloat16"
    return _NAMES.get(dtype)


def numpy_dtype(name: str) -> np.dtype:
    """Find the dtype of a name in ``DTYPES``."""
    if name == "bfloat16":
        # comes with TensorFlow; NumPy itself has no bfloat16
        return np.dtype(load("ml_dtypes", "ml-dtypes").bfloat16)
    return NUMPY_DTYPES[name]
