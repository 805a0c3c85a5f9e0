"""CKKS encryption: whole vectors of real numbers, added while nobody can read them.

One ciphertext holds thousands of numbers in its *slots*, and one addition adds all of
them. The price is precision: a number is scaled up and rounded, and a little noise, which
is what hides it, stays in the result. A small scale drowns the numbers in it.

Encryption and arithmetic are Microsoft SEAL's, through TenSEAL. Around them this module
puts what CKKS lacks, since it decrypts *anything* to some numbers: each vector names its
key, counts how far its values may have grown, and travels in an authenticated envelope
(:meth:`EncryptedVector.seal`, or a :class:`~fltutor.crypto.channel.Channel`).

Encryption is symmetric: whoever encrypts can decrypt. TenSEAL has no keys that are split
among parties, so in a federation all clients share one secret key, and the server has none.

**Never hand a decrypted vector to somebody who also saw its ciphertext**, such as the
server. The noise of a CKKS result depends on the secret key: with both, the key can be
computed (Li and Micciancio 2021). The clients keep the result among themselves.

References:
    Cheon et al., ASIACRYPT 2017. https://eprint.iacr.org/2016/421
    Li and Micciancio, EUROCRYPT 2021. https://eprint.iacr.org/2020/1533
    Albrecht et al., Homomorphic Encryption Standard, 2018, tables of parameters.
    https://homomorphicencryption.org/standard
"""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from fltutor.crypto import aead, wire
from fltutor.errors import (
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    WireFormatError,
)
from fltutor.packages import load

MAX_MODULUS_BITS = {4096: 109, 8192: 218, 16384: 438}
"""Bits of all primes together that leave 128 bits of security, by polynomial degree."""

_KEY_ID_BYTES = 16
_NOISE = 3.2  # standard deviation of a fresh ciphertext's noise, in each coefficient
_CONTEXT_MAGIC, _VECTOR_MAGIC = b"FLCC\x01", b"FLCV\x01"
_CONTEXT_HEAD = struct.Struct("<5s16sIBIB")  # magic, key, degree, scale_bits, max_additions, primes
_VECTOR_HEAD = struct.Struct("<5s16sQdBI")  # magic, key, length, weight, depth, blocks
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Parameters:
    """What all parties agree on; public.

    Attributes:
        poly_degree: 4096, 8192 or 16384. A ciphertext has half as many slots.
        modulus_bits: Sizes of the primes, 20 to 60 bits each. The first bounds the values, the
            last is used inside only, and each in between allows one multiplication.
        scale_bits: A number is multiplied by 2 to this power and rounded.
        max_additions: How many fresh vectors may be added up.

    Raises:
        InvalidParameterError: If they leave less than 128 bits of security, or no room for values.

    Example:
        >>> parameters = Parameters()
        >>> parameters.num_slots, parameters.depth, parameters.largest
        (2048, 0, 1024.0)
        >>> Parameters(modulus_bits=(60, 60))
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: modulus_bits of a polynomial of degree 4096 may add
        up to 109, or less than 128 bits of security are left; got 120
    """

    poly_degree: int = 4096
    modulus_bits: tuple[int, ...] = (54, 54)
    scale_bits: int = 36
    max_additions: int = 64

    def __post_init__(self):
        object.__setattr__(self, "modulus_bits", tuple(self.modulus_bits))
        for value in (self.poly_degree, *self.modulus_bits, self.scale_bits, self.max_additions):
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InvalidParameterError(f"parameters must be integers, got {value!r}")
        if self.poly_degree not in MAX_MODULUS_BITS:
            raise InvalidParameterError(
                f"poly_degree must be one of {', '.join(map(str, MAX_MODULUS_BITS))}, "
                f"got {self.poly_degree}"
            )
        if len(self.modulus_bits) < 2 or not all(20 <= bits <= 60 for bits in self.modulus_bits):
            raise InvalidParameterError(
                f"modulus_bits must be two or more sizes from 20 to 60, got {self.modulus_bits}"
            )
        allowed = MAX_MODULUS_BITS[self.poly_degree]
        if sum(self.modulus_bits) > allowed:
            raise InvalidParameterError(
                f"modulus_bits of a polynomial of degree {self.poly_degree} may add up to "
                f"{allowed}, or less than 128 bits of security are left; got "
                f"{sum(self.modulus_bits)}"
            )
        if any(bits != self.scale_bits for bits in self.modulus_bits[1:-1]):
            raise InvalidParameterError(
                f"a product is divided by a prime in the middle, so each must have "
                f"scale_bits={self.scale_bits}, got {self.modulus_bits[1:-1]}"
            )
        if self.scale_bits < 1 or not 1 <= self.max_additions < 2**32:
            raise InvalidParameterError(
                "scale_bits and max_additions must be at least 1, "
                f"got {self.scale_bits} and {self.max_additions}"
            )
        if self.largest < 1:
            raise InvalidParameterError(
                f"values would end at {self.largest:g}: take a smaller scale than "
                f"2**{self.scale_bits}, fewer additions than {self.max_additions}, or a larger "
                f"first prime than {self.modulus_bits[0]} bits"
            )

    @property
    def num_slots(self) -> int:
        """Numbers in one ciphertext."""
        return self.poly_degree // 2

    @property
    def depth(self) -> int:
        """How many multiplications may follow each other."""
        return len(self.modulus_bits) - 2

    @property
    def largest(self) -> float:
        """Largest magnitude of a value, such that ``max_additions`` of them still fit.

        The sum must stay within half of the first prime; another half is left for noise.
        """
        return 2.0 ** (self.modulus_bits[0] - 2 - self.scale_bits) / self.max_additions

    @property
    def noise(self) -> float:
        """Standard deviation of the noise in one slot of a fresh vector.

        A slot adds up the noise of all coefficients, each with a sign or a phase.
        """
        return _NOISE * math.sqrt(self.poly_degree / 2) / 2.0**self.scale_bits

    @property
    def resolution(self) -> float:
        """Error of a fresh vector in one slot, at most: eight deviations of noise, and rounding.

        Every coefficient is rounded to a whole number. At worst all of these errors of
        up to 1/2 have the phase of one slot.
        """
        rounding = self.poly_degree / math.pi / 2.0**self.scale_bits
        return 8 * self.noise + rounding


class Context:
    """Parameters and a key. The secret one encrypts and decrypts; the public one only adds.

    Attributes:
        parameters: What all parties agree on.
        key_id: 16 random bytes that name the secret key, and say nothing of it.

    Example:
        >>> context = Context.generate()
        >>> context, context.public()
        (Context(degree 4096, secret key hidden), Context(degree 4096, no secret key))
    """

    def __init__(self, parameters: Parameters, key_id: bytes, seal_context: Any):
        self.parameters, self.key_id, self._seal = parameters, key_id, seal_context

    @classmethod
    def generate(
        cls,
        poly_degree: int = 4096,
        modulus_bits: Sequence[int] = (54, 54),
        scale_bits: int = 36,
        *,
        max_additions: int = 64,
    ) -> Context:
        """Draw a secret key. The default adds and does not multiply.

        For one multiplication take ``(8192, (60, 40, 60), 40)``, at twice the bytes. There is no
        toy mode: parameters below 128 bits of security are always refused.

        Args:
            poly_degree: See :class:`Parameters`, as for the others.
            modulus_bits: Sizes of the primes.
            scale_bits: Bits after the point, of which noise eats about eight.
            max_additions: How many fresh vectors may be added up.

        Raises:
            InvalidParameterError: If the parameters are unsafe or leave no room.
        """
        tenseal = _tenseal()
        parameters = Parameters(poly_degree, tuple(modulus_bits), scale_bits, max_additions)
        try:
            seal_context = tenseal.context(
                tenseal.SCHEME_TYPE.CKKS,
                parameters.poly_degree,
                coeff_mod_bit_sizes=list(parameters.modulus_bits),
                encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
            )
        except (ValueError, RuntimeError) as error:
            raise InvalidParameterError(f"no primes for {parameters}: {error}") from None
        seal_context.global_scale = 2.0**parameters.scale_bits
        return cls(parameters, os.urandom(_KEY_ID_BYTES), seal_context)

    @property
    def has_secret_key(self) -> bool:
        """Whether this party can encrypt and decrypt."""
        return self._seal.has_secret_key()

    def public(self) -> Context:
        """The context as it leaves a client: enough to add, with no key at all."""
        return Context.from_bytes(self.to_bytes())

    def to_bytes(self, *, with_secret_key: bool = False) -> bytes:
        """Write the context; without the secret key unless it is asked for by name."""
        parameters = self.parameters
        if with_secret_key:
            self._require_secret_key("send")
        return (
            _CONTEXT_HEAD.pack(
                *(_CONTEXT_MAGIC, self.key_id, parameters.poly_degree, parameters.scale_bits),
                *(parameters.max_additions, len(parameters.modulus_bits)),
            )
            + bytes(parameters.modulus_bits)
            + self._seal.serialize(
                save_public_key=False,
                save_secret_key=with_secret_key,
                save_galois_keys=False,
                save_relin_keys=False,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Context:
        """Read a context, which must come through an authenticated channel.

        Raises:
            WireFormatError: If the bytes are no context, or claim unsafe parameters.
        """
        data = bytes(data)
        if len(data) < _CONTEXT_HEAD.size or not data.startswith(_CONTEXT_MAGIC):
            raise WireFormatError("not a CKKS context, version 1, or truncated")
        _, key_id, poly_degree, scale_bits, max_additions, count = _CONTEXT_HEAD.unpack_from(data)
        primes, rest = data[_CONTEXT_HEAD.size :][:count], data[_CONTEXT_HEAD.size + count :]
        try:
            parameters = Parameters(poly_degree, tuple(primes), scale_bits, max_additions)
            seal_context = _tenseal().context_from(rest)
        except (ValueError, RuntimeError) as error:
            raise WireFormatError(f"not a CKKS context: {error}") from None
        return cls(parameters, key_id, seal_context)

    def encrypt(self, values: np.ndarray) -> EncryptedVector:
        """Encrypt a vector of real numbers.

        Args:
            values: Shape (d,), any length; each ``num_slots`` of them are one ciphertext.

        Raises:
            InvalidUpdateError: If they are no vector, empty, NaN, Inf, or beyond ``largest``.
            InvalidParameterError: If this context has no secret key.

        Example:
            >>> context = Context.generate()
            >>> one = context.encrypt(np.array([1.5, -2.0]))
            >>> other = context.encrypt(np.array([1.0, 4.0]))
            >>> context.decrypt(one + other).round(6)
            array([2.5, 2. ])
        """
        self._require_secret_key("encrypt")
        values, parameters = _checked(values), self.parameters
        largest = np.abs(values).max()
        if largest > parameters.largest:
            raise InvalidUpdateError(
                f"values must be at most {parameters.largest:g} in size, so that "
                f"{parameters.max_additions} of them can be added; got {largest:g}"
            )
        blocks = (
            values[first : first + parameters.num_slots]
            for first in range(0, len(values), parameters.num_slots)
        )
        sealed = tuple(_tenseal().ckks_vector(self._seal, block) for block in blocks)
        return EncryptedVector(self, sealed, len(values))

    def decrypt(self, encrypted: EncryptedVector) -> np.ndarray:
        """Decrypt a vector: float64, shape (d,), with some noise in the last digits.

        Keep the result from whoever saw the ciphertext; see the top of this module.

        Raises:
            InvalidParameterError: If it is of another key, or this context has no secret key.
        """
        self._require_secret_key("decrypt")
        _require_same_key(self, encrypted.context)
        secret_key = self._seal.secret_key()
        return np.concatenate([block.decrypt(secret_key) for block in encrypted.blocks])

    def read(self, data: bytes) -> EncryptedVector:
        """Read :meth:`EncryptedVector.to_bytes`, which only an authenticated envelope protects.

        Raises:
            WireFormatError: Truncated, trailing bytes, empty, or of another key.
        """
        return _read(bytes(data), self)

    def open(
        self, message: bytes, key: aead.Key, about: wire.Context | None = None
    ) -> EncryptedVector:
        """Open the envelope of :meth:`EncryptedVector.seal`, which authenticates every bit.

        Raises:
            AuthenticationError: If anything was altered, or is of another key or context.
            WireFormatError: If it was encrypted under another CKKS key.
        """
        sealed = aead.EncryptedTensor.from_bytes(message)
        return self.read(aead.decrypt_tensor(sealed, key, about).tobytes())

    def _require_secret_key(self, act: str) -> None:
        if not self.has_secret_key:
            raise InvalidParameterError(f"this context has no secret key to {act} with")

    def __repr__(self) -> str:
        secret = "secret key hidden" if self.has_secret_key else "no secret key"
        return f"Context(degree {self.parameters.poly_degree}, {secret})"

    def __reduce_ex__(self, protocol: int) -> NoReturn:
        raise CopyRefusedError("a Context is not copied or pickled: see to_bytes")


@dataclass(frozen=True, eq=False)
class EncryptedVector:
    """An encrypted vector. ``+`` adds another one; ``*`` takes a number, if there is depth left.

    Attributes:
        context: Parameters and the name of the key.
        blocks: Ciphertexts of TenSEAL, ``num_slots`` values in each.
        length: How many values.
        weight: A value may have grown to this many times the largest fresh one.
        depth: Multiplications so far.
    """

    context: Context = field(repr=False)
    blocks: tuple[Any, ...] = field(repr=False)
    length: int
    weight: float = 1.0
    depth: int = 0

    def __add__(self, other: EncryptedVector) -> EncryptedVector:
        if not isinstance(other, EncryptedVector):
            return NotImplemented
        _require_same_key(self.context, other.context)
        for name in ("length", "depth"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise InvalidParameterError(f"vectors differ in {name}: {mine} and {theirs}")
        weight = self._room_for(self.weight + other.weight)
        pairs = zip(self.blocks, other.blocks, strict=True)
        blocks = tuple(mine + theirs for mine, theirs in pairs)
        return EncryptedVector(self.context, blocks, self.length, weight, self.depth)

    def __mul__(self, factor: float) -> EncryptedVector:
        if isinstance(factor, bool) or not isinstance(factor, int | float | np.number):
            return NotImplemented
        if not np.isfinite(factor) or factor == 0:
            raise InvalidParameterError(f"factor must be finite and not zero, got {factor}")
        if self.depth == self.context.parameters.depth:
            raise InvalidParameterError(
                f"too deep: these parameters allow {self.depth} multiplications after each "
                "other. Scale before encrypting, or take more primes"
            )
        weight = self._room_for(self.weight * max(1.0, abs(float(factor))))
        blocks = tuple(block * float(factor) for block in self.blocks)
        return EncryptedVector(self.context, blocks, self.length, weight, self.depth + 1)

    __rmul__ = __mul__

    @property
    def num_bytes(self) -> int:
        """Length of :meth:`to_bytes`, which compresses a little."""
        return len(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Write the vector, for an authenticated channel."""
        head = _VECTOR_HEAD.pack(
            *(_VECTOR_MAGIC, self.context.key_id, self.length, self.weight, self.depth),
            len(self.blocks),
        )
        blocks = [block.serialize() for block in self.blocks]
        return head + b"".join(_LENGTH.pack(len(block)) + block for block in blocks)

    def seal(self, key: aead.Key, about: wire.Context | None = None) -> bytes:
        """Put the vector in an envelope that no one can alter, of AES-256-GCM.

        Args:
            key: Shared with whoever opens it, usually the server. It does not decrypt.
            about: What the message belongs to, such as ``{"round": 3, "client": 7}``.

        Example:
            >>> context, key = Context.generate(), aead.generate_key()
            >>> message = context.encrypt(np.array([1.5, -2.0])).seal(key, {"round": 3})
            >>> received = context.public().open(message, key, {"round": 3})
            >>> context.decrypt(received + received).round(6)
            array([ 3., -4.])
        """
        return aead.encrypt_tensor(np.frombuffer(self.to_bytes(), np.uint8), key, about).to_bytes()

    def _room_for(self, weight: float) -> float:
        allowed = self.context.parameters.max_additions
        if weight > allowed:
            raise InvalidParameterError(
                f"values could overflow: they may have grown {weight:g} times, and "
                f"max_additions={allowed}"
            )
        return weight


@cache
def _tenseal() -> ModuleType:
    """Import TenSEAL with its own copy of protobuf.

    TensorFlow loads another copy for the whole process. Where the two would be mixed up, on
    Linux, the first message that TenSEAL writes ends the process.
    """
    if not hasattr(os, "RTLD_DEEPBIND"):
        return load("tenseal", "tenseal")
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    try:
        return load("tenseal", "tenseal")
    finally:
        sys.setdlopenflags(flags)


def _checked(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not len(values):
        raise InvalidUpdateError(f"values must be a vector, not empty, got shape {values.shape}")
    if values.dtype.kind not in "fiu":
        raise InvalidUpdateError(f"values must be real numbers, got dtype {values.dtype}")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidUpdateError(f"values must be finite, got NaN or Inf at coordinate {place}")
    return values.astype(np.float64)


def _require_same_key(one: Context, other: Context) -> None:
    if one.key_id != other.key_id:
        raise InvalidParameterError(
            "these belong to different keys: sums and decryption need one key for all"
        )


def _read(data: bytes, context: Context) -> EncryptedVector:
    if len(data) < _VECTOR_HEAD.size or not data.startswith(_VECTOR_MAGIC):
        raise WireFormatError("not a CKKS vector, version 1, or truncated")
    _, key_id, length, weight, depth, count = _VECTOR_HEAD.unpack_from(data)
    parameters = context.parameters
    if key_id != context.key_id:
        raise WireFormatError("the vector is encrypted under another CKKS key")
    if not length or count != -(-length // parameters.num_slots):
        raise WireFormatError(f"{length} values cannot be in {count} ciphertexts")
    if not 1 <= weight <= parameters.max_additions or depth > parameters.depth:
        raise WireFormatError(f"weight {weight:g} or depth {depth} is beyond the parameters")
    try:
        blocks = tuple(
            _tenseal().ckks_vector_from(context._seal, part) for part in _parts(data, count)
        )
    except (ValueError, RuntimeError) as error:
        raise WireFormatError(f"not a CKKS vector: {error}") from None
    if sum(block.size() for block in blocks) != length:
        raise WireFormatError(f"the ciphertexts do not hold {length} values")
    return EncryptedVector(context, blocks, length, weight, depth)


def _parts(data: bytes, count: int) -> Iterator[bytes]:
    place = _VECTOR_HEAD.size
    for _ in range(count):
        if len(data) < place + _LENGTH.size:
            raise WireFormatError("the vector is truncated")
        (size,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        yield data[place : place + size]
        place += size
    if place != len(data):
        raise WireFormatError("the vector is truncated or has trailing bytes")
