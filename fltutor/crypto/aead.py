"""Encrypted tensors: AES-256-GCM over the bytes of a tensor, its shape and your context bound in.

A tensor becomes a small header (dtype, shape) and its raw bytes. The bytes are
encrypted; the header and a ``context`` such as ``{"round": 3, "client": 7}``
are authenticated. Whoever changes a bit, or delivers an old message in a new
round, causes an :class:`~fltutor.errors.AuthenticationError`, never a tensor.
The bytes of a message are described in :mod:`fltutor.crypto.wire`.

Needs NumPy and ``cryptography`` only; TensorFlow is never imported.

References:
    NIST SP 800-38D, Dworkin 2007: GCM, and the limit of 2**32 random nonces (8.3).
    RFC 5116, McGrew 2008: the interface of authenticated encryption.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fltutor.border import as_array, as_kind, as_whole
from fltutor.crypto import wire
from fltutor.crypto.wire import NONCE_BYTES, TAG_BYTES, Context, TensorSpec
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    KeyExhaustedError,
)

KEY_BYTES = 32
MAX_RANDOM_NONCES = 2**32  # NIST SP 800-38D, section 8.3
_READ = "EncryptedTensor.from_bytes"
_REFUSALS = BufferError, OverflowError, TypeError, ValueError  # of the cipher: lengths and types


class Key:
    """A secret AES-256 key that hides itself and counts its uses.

    Two messages under one key must never share a nonce. Nonces are drawn at
    random from 2**96, which is safe for 2**32 messages; then the key refuses.
    A key cannot be copied or pickled: the copy would start counting again. For the same
    reason it seals in the process that made it only, and not in a fork of it.

    Example:
        >>> generate_key()
        Key(AES-256, secret hidden, used 0 times)
    """

    __slots__ = ("_cipher", "_home", "_lock", "_uses")

    def __init__(self, cipher: AESGCM):
        self._cipher, self._lock, self._uses = cipher, threading.Lock(), 0
        self._home = os.getpid()

    @classmethod
    def from_bytes(cls, secret: bytes) -> Key:
        """Wrap 32 secret bytes, for example from a key agreement. The count starts at 0.

        Raises:
            InvalidParameterError: If ``secret`` is not 32 bytes.
        """
        if not isinstance(secret, bytes | bytearray | memoryview):
            raise InvalidParameterError(f"secret must be bytes, got {type(secret).__name__}")
        if len(bytes(secret)) != KEY_BYTES:
            raise InvalidParameterError(f"secret must be {KEY_BYTES} bytes, got {len(secret)}")
        return cls(AESGCM(bytes(secret)))

    @property
    def uses(self) -> int:
        """How many nonces were drawn for this key."""
        return self._uses

    def _fresh_nonces(self, count: int) -> list[bytes]:
        require_home(self, self._home)
        with self._lock:
            if self._uses + count > MAX_RANDOM_NONCES:
                raise KeyExhaustedError(
                    f"key used {self._uses} times, {count} more would pass the limit of "
                    f"{MAX_RANDOM_NONCES} random nonces; generate a new key"
                )
            self._uses += count
        return [os.urandom(NONCE_BYTES) for _ in range(count)]

    def __repr__(self) -> str:
        return f"Key(AES-256, secret hidden, used {self._uses} times)"

    def __reduce_ex__(self, protocol: int) -> Any:
        raise CopyRefusedError("a Key is not copied or pickled: the copy would count anew")


class NonceCounter:
    """Nonces that cannot repeat: 4 bytes name the sender, 8 bytes count its messages.

    For parties that remember how many messages they sent; :func:`encrypt_tensor`
    draws at random instead and remembers nothing.

    Example:
        >>> counter = NonceCounter(sender=7)
        >>> counter.next().hex(), counter.next().hex()
        ('000000070000000000000000', '000000070000000000000001')

    Reference:
        NIST SP 800-38D, section 8.2.1, the deterministic construction.
    """

    __slots__ = ("_count", "_home", "_lock", "_sender")

    def __init__(self, sender: int, start: int = 0):
        self._sender = as_whole("sender", sender, least=0, most=2**32 - 1)
        self._count = as_whole("start", start, least=0, most=2**64 - 1)
        self._lock, self._home = threading.Lock(), os.getpid()

    def next(self) -> bytes:
        """Return the next nonce, 12 bytes.

        Raises:
            KeyExhaustedError: After 2**64 messages; the counter never wraps.
            CopyRefusedError: In a fork of the process that made the counter: both would count on.
        """
        require_home(self, self._home)
        with self._lock:
            if self._count >= 2**64:
                raise KeyExhaustedError("all 2**64 nonces of this sender are used; use a new key")
            nonce = struct.pack(">IQ", self._sender, self._count)
            self._count += 1
        return nonce

    def __reduce_ex__(self, protocol: int) -> Any:
        raise CopyRefusedError("a NonceCounter is not copied: the copy would repeat nonces")


def require_home(counter: Any, home: int) -> None:
    """Refuse what counts messages in another process than it was made in, number ``home``.

    A fork copies the memory of a process. Parent and child would then count on from the
    same number, neither knowing of the other. This comes before any lock: a fork may
    have copied a locked one, which nobody would ever unlock.

    Raises:
        CopyRefusedError: If this is another process.
    """
    if os.getpid() != home:
        kind = type(counter).__name__
        raise CopyRefusedError(
            f"this {kind} is the copy that a fork made: it counts in the process that made it "
            "only. Make a new one, with a new key, in this process"
        )


@dataclass(frozen=True, eq=False, repr=False)
class EncryptedTensor:
    """One sealed tensor, or all tensors of a sealed model. Anyone may read its sizes.

    What it says of itself it reads in the header of its message, and nowhere else, so
    that decryption authenticates it.

    Attributes:
        message: The bytes as they are sent, read-only, not copied.

    Example:
        >>> encrypt_tensor(np.zeros((64, 32), np.float32), generate_key())
        EncryptedTensor(float32 (64, 32), 8248 bytes, 56 of them overhead)
    """

    message: memoryview
    _chunk_bytes: int = field(default=wire.CHUNK_BYTES, kw_only=True)
    _limit: int = field(default=wire.MAX_BYTES, kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "message", wire.as_view(self.message, "message"))

    @cached_property
    def _read(self) -> tuple[int, tuple[TensorSpec, ...], bytes]:
        return wire.read_header(self.message, self._limit, self._chunk_bytes)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """dtype and shape of each tensor: claims, until decryption confirms them."""
        return self._read[1]

    @property
    def is_model(self) -> bool:
        """True for a message of :func:`encrypt_model`: a claim, too."""
        return self._read[0] == wire.MODEL

    @property
    def _header(self) -> bytes:
        return self._read[2]

    @property
    def num_bytes(self) -> int:
        """Length of the message."""
        return len(self.message)

    @property
    def overhead(self) -> int:
        """Bytes beyond the values themselves: header, nonces and tags."""
        return len(self.message) - sum(spec.num_bytes for spec in self.specs)

    def to_bytes(self) -> bytes:
        """Copy the message into bytes to store or send; ``message`` is the same without a copy."""
        return bytes(self.message)

    @classmethod
    def from_bytes(
        cls, data: bytes | bytearray | memoryview, *, limit: int = wire.MAX_BYTES
    ) -> EncryptedTensor:
        """Read a message, checking every length before any memory is allocated.

        Nothing is authentic yet: that is what decryption checks.

        Args:
            data: The whole message, not copied.
            limit: Largest message accepted, in bytes.

        Raises:
            InvalidParameterError: If ``data`` is no bytes and no other contiguous buffer.
            WireFormatError: Truncated, trailing bytes, unknown magic, version, kind or
                dtype, too many dimensions, or sizes that do not fit the message.
        """
        return _read_with(data, as_whole("limit", limit, least=0), wire.CHUNK_BYTES)

    def parts(self) -> list[tuple[str, memoryview]]:
        """Name every piece of the message in order: header, then nonce, ciphertext, tag.

        Example:
            >>> sealed = encrypt_tensor(np.float32([1, 2, 3]), generate_key())
            >>> [(name, len(piece)) for name, piece in sealed.parts()]
            [('header', 20), ('nonce', 12), ('ciphertext', 12), ('tag', 16)]
        """
        pieces = [("header", self.message[: len(self._header)])]
        for chunk in self._chunks():
            sealed = self.message[chunk.place]
            pieces.append(("nonce", sealed[:NONCE_BYTES]))
            pieces.append(("ciphertext", sealed[NONCE_BYTES:-TAG_BYTES]))
            pieces.append(("tag", sealed[-TAG_BYTES:]))
        return pieces

    def _chunks(self) -> list[wire.Chunk]:
        return list(wire.chunks(self.specs, len(self._header), self._chunk_bytes))

    def __repr__(self) -> str:
        dtype, shape = self.specs[0]
        what = f"model of {len(self.specs)} tensors" if self.is_model else f"{dtype} {shape}"
        return f"EncryptedTensor({what}, {self.num_bytes} bytes, {self.overhead} of them overhead)"


def generate_key() -> Key:
    """Draw a new secret key from the operating system's generator."""
    return Key.from_bytes(os.urandom(KEY_BYTES))


def encrypt_tensor(
    tensor: Any, key: Key, context: Context | None = None, *, out: Any = None
) -> EncryptedTensor:
    """Encrypt a tensor so that only holders of ``key`` read it and nobody alters it.

    The context is not sent. Both sides know it (which round is this, whose
    update), and a message from another context does not open.

    Args:
        tensor: NumPy array, ``tf.Tensor``, ``tf.Variable``, Keras variable or number:
            bool, integers, float16/32/64 or bfloat16, any shape. Non-contiguous
            arrays are copied first.
        key: Shared with the receiver.
        context: What the message belongs to, such as ``{"round": 3, "client": 7}``.
        out: A writable buffer to build the message in, such as a ``bytearray``. New
            memory costs as much as encrypting it; reuse pays from some megabytes on.
            The result lives in it, so finish with one message before the next.

    Raises:
        InvalidParameterError: If the dtype or an argument is not supported.
        KeyExhaustedError: If the key was used as often as is safe.

    Example:
        >>> key = generate_key()
        >>> sealed = encrypt_tensor(np.array([1.5, -2.0]), key, {"round": 3, "client": 7})
        >>> decrypt_tensor(sealed, key, {"round": 3, "client": 7})
        array([ 1.5, -2. ])
        >>> decrypt_tensor(sealed, key, {"round": 4, "client": 7})
        Traceback (most recent call last):
        fltutor.errors.AuthenticationError: message refused: altered, sealed with another key, or
        sealed in another context than {'round': 4, 'client': 7}
    """
    draw_nonces = as_kind("key", key, Key, "generate_key")._fresh_nonces
    array = wire.as_array(tensor, "tensor")
    return _encrypt_with(draw_nonces, [array], wire.TENSOR, key, context, out)


def decrypt_tensor(
    encrypted: EncryptedTensor, key: Key, context: Context | None = None
) -> np.ndarray:
    """Decrypt a message of :func:`encrypt_tensor` after checking that it is authentic.

    Returns:
        A new array of the dtype, shape and exact bytes that were encrypted.

    Raises:
        AuthenticationError: If anything differs: a bit, the key, the context.
        InvalidParameterError: If ``encrypted`` holds a model.
    """
    if as_kind("encrypted", encrypted, EncryptedTensor, _READ).is_model:
        raise InvalidParameterError("encrypted holds a model, open it with decrypt_model")
    return _decrypt(encrypted, key, context)[0]


def encrypt_model(
    tensors: Iterable[Any], key: Key, context: Context | None = None, *, out: Any = None
) -> EncryptedTensor:
    """Encrypt all tensors of a model into one message, without copying them together first.

    Each tensor is sealed from its own memory straight into its place. The
    order, dtypes and shapes of all of them are authenticated.

    Args:
        tensors: For example ``model.get_weights()`` or ``model.weights``; dtypes may differ.
        key: As for :func:`encrypt_tensor`.
        context: As for :func:`encrypt_tensor`.
        out: As for :func:`encrypt_tensor`.

    Raises:
        InvalidParameterError: If there is no tensor, or one is not supported.
        KeyExhaustedError: If the key was used as often as is safe; each tensor is one use.

    Example:
        >>> key = generate_key()
        >>> sealed = encrypt_model([np.ones((2, 2)), np.array(3)], key)
        >>> decrypt_model(sealed, key)
        [array([[1., 1.],
               [1., 1.]]), array(3)]
    """
    draw_nonces = as_kind("key", key, Key, "generate_key")._fresh_nonces
    if isinstance(tensors, np.ndarray) or hasattr(tensors, "numpy"):
        raise InvalidParameterError("tensors must be a list; encrypt_tensor takes one tensor")
    if isinstance(tensors, str | bytes) or not isinstance(tensors, Iterable):
        raise InvalidParameterError(
            f"tensors must be a list of tensors, got {type(tensors).__name__}"
        )
    arrays = [wire.as_array(tensor, f"tensor {i}") for i, tensor in enumerate(tensors)]
    if not arrays:
        raise InvalidParameterError("tensors must hold at least one tensor, got none")
    return _encrypt_with(draw_nonces, arrays, wire.MODEL, key, context, out)


def decrypt_model(
    encrypted: EncryptedTensor, key: Key, context: Context | None = None
) -> list[np.ndarray]:
    """Decrypt a message of :func:`encrypt_model`; raises like :func:`decrypt_tensor`."""
    if not as_kind("encrypted", encrypted, EncryptedTensor, _READ).is_model:
        raise InvalidParameterError("encrypted holds one tensor, open it with decrypt_tensor")
    return _decrypt(encrypted, key, context)


def seal_with(data: Any, nonce: bytes, associated_data: bytes, key: Key, out: Any) -> None:
    """AES-256-GCM with the nonce as an argument: the deterministic core that tests aim at.

    Writes ciphertext and tag to ``out``, 16 bytes longer than ``data``. A nonce
    must never come twice: :func:`encrypt_tensor` draws a fresh one.

    Raises:
        InvalidParameterError: If the cipher cannot use what it is given.
    """
    cipher = as_kind("key", key, Key, "generate_key")._cipher
    try:
        cipher.encrypt_into(nonce, data, associated_data, out)
    except _REFUSALS as error:
        raise InvalidParameterError(f"AES-GCM cannot use this: {error}") from None


def open_with(sealed: Any, nonce: bytes, associated_data: bytes, key: Key, out: Any) -> None:
    """Undo :func:`seal_with`, or raise ``cryptography.exceptions.InvalidTag``.

    The cipher writes the plaintext before it has seen the tag. Where the tag does not fit,
    ``out`` is filled with zeros, so that nobody reads what nobody vouches for.

    Raises:
        InvalidParameterError: If the cipher cannot use what it is given.
    """
    cipher = as_kind("key", key, Key, "generate_key")._cipher
    try:
        cipher.decrypt_into(nonce, sealed, associated_data, out)
    except InvalidTag:
        _wipe(out)
        raise
    except _REFUSALS as error:
        raise InvalidParameterError(f"AES-GCM cannot use this: {error}") from None


def _encrypt_with(
    draw_nonces: Callable[[int], list[bytes]],
    arrays: list[np.ndarray],
    kind: int,
    key: Key,
    context: Context | None,
    out: Any,
    chunk_bytes: int = wire.CHUNK_BYTES,
) -> EncryptedTensor:
    """Refuse everything that can be refused, then draw the nonces and seal chunk by chunk."""
    encoded = wire.encode_context(context)
    specs = tuple(TensorSpec(wire.dtype_name(array.dtype), array.shape) for array in arrays)
    header = wire.pack_header(kind, specs)
    chunks = list(wire.chunks(specs, len(header), chunk_bytes))
    message = _writable(out, chunks[-1].place.stop, arrays)
    nonces = draw_nonces(len(chunks))
    message[: len(header)] = header
    for index, (chunk, nonce) in enumerate(zip(chunks, nonces, strict=True)):
        place = message[chunk.place]
        place[:NONCE_BYTES] = nonce
        data = wire.byte_view(arrays[chunk.tensor])[chunk.values]
        bound = wire.associated_data(header, nonces[0], index, len(chunks), encoded)
        seal_with(data, nonce, bound, key, place[NONCE_BYTES:])
    return EncryptedTensor(message, _chunk_bytes=chunk_bytes)


def _read_with(data: Any, limit: int, chunk_bytes: int) -> EncryptedTensor:
    view = wire.as_view(data, "data")
    encrypted = EncryptedTensor(view, _chunk_bytes=chunk_bytes, _limit=limit)
    encrypted._read  # noqa: B018 - refuses what is malformed
    return encrypted


def _decrypt(encrypted: EncryptedTensor, key: Key, context: Context | None) -> list[np.ndarray]:
    as_kind("key", key, Key, "generate_key")
    encoded = wire.encode_context(context)
    header, chunks = encrypted._header, encrypted._chunks()
    if encrypted.message[: len(header)] != header:
        raise AuthenticationError("message refused: its header changed after it was read")
    nonces = [bytes(encrypted.message[chunk.place][:NONCE_BYTES]) for chunk in chunks]
    opened = [np.empty(spec.num_bytes, np.uint8) for spec in encrypted.specs]
    try:
        for index, (chunk, nonce) in enumerate(zip(chunks, nonces, strict=True)):
            sealed = encrypted.message[chunk.place][NONCE_BYTES:]
            out = opened[chunk.tensor][chunk.values]
            bound = wire.associated_data(header, nonces[0], index, len(chunks), encoded)
            open_with(sealed, nonce, bound, key, out)
    except BaseException as error:
        for values in opened:
            _wipe(values)  # whoever holds the error holds this frame, and the message is not whole
        if not isinstance(error, InvalidTag):
            raise
        raise AuthenticationError(
            "message refused: altered, sealed with another key, or sealed in another "
            f"context than {dict(context or {})}"
        ) from None
    return [
        values.view(wire.numpy_dtype(spec.dtype)).reshape(spec.shape)
        for values, spec in zip(opened, encrypted.specs, strict=True)
    ]


def _wipe(buffer: Any) -> None:
    """Fill a buffer with zeros."""
    view = memoryview(buffer)
    if view.nbytes:
        np.frombuffer(view, np.uint8)[:] = 0


def _writable(out: Any, num_bytes: int, arrays: list[np.ndarray]) -> memoryview:
    """New memory for the message, or the first bytes of ``out``."""
    if out is None:
        return memoryview(np.empty(num_bytes, np.uint8))
    if isinstance(out, np.ndarray):
        out = as_array("out", out)
    try:
        buffer = memoryview(out).cast("B")
    except (TypeError, ValueError, BufferError):
        buffer = None
    if buffer is None or buffer.readonly:
        raise InvalidParameterError(
            f"out must be a writable contiguous buffer, got {type(out).__name__}"
        )
    if len(buffer) < num_bytes:
        raise InvalidParameterError(f"out must hold {num_bytes} bytes, got {len(buffer)}")
    if any(np.may_share_memory(np.frombuffer(buffer, np.uint8), array) for array in arrays):
        raise InvalidParameterError("out must not overlap the tensor that is encrypted into it")
    return buffer[:num_bytes]
