"""CKKS encryption: whole vectors of real numbers, added while nobody can read them.

One ciphertext holds thousands of numbers in its *slots*, and one addition adds all of
them. The price is precision: a number is scaled up and rounded, and a little noise, which
is what hides it, stays in the result. A small scale drowns the numbers in it.

Encryption and arithmetic are Microsoft SEAL's, through TenSEAL. Around them this module
puts what CKKS lacks, since it decrypts *anything* to some numbers: each vector names its
key, counts how far its values may have grown, and travels in an authenticated envelope
(:meth:`EncryptedVector.seal`, or a :class:`~fltutor.crypto.channel.Channel`).

Whoever makes a context is trusted: with its key everything opens, and TenSEAL takes its bytes
for granted. So nobody reads a context without its fingerprint, or a channel from its maker. A
vector may come from a client who lies. It is checked before anything is computed with it.

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

import hashlib
import hmac
import math
import operator
import os
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from fltutor.border import as_flag, as_kind, as_numbers, as_whole, is_whole, shown
from fltutor.crypto import aead, wire
from fltutor.crypto.channel import Channel
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    UnsupportedEnvironmentError,
    WireFormatError,
)
from fltutor.packages import load

MAX_MODULUS_BITS = {4096: 109, 8192: 218, 16384: 438}
"""Bits of all primes together that leave 128 bits of security, by polynomial degree."""

_NOISE = math.sqrt(21 / 2)  # deviation of each coefficient: 21 coins less 21 coins, in SEAL
_CONTEXT_MAGIC, _SECRET_MAGIC, _VECTOR_MAGIC = b"FLCC\x02", b"FLCS\x02", b"FLCV\x01"
_CONTEXT_HEAD = struct.Struct("<32sIBIB")  # SHA-256 of the key, degree, scale, additions, primes
_VECTOR_HEAD = struct.Struct("<5s16sQdBI")  # magic, key, length, weight, depth, blocks
_LENGTH, _SCALE = struct.Struct("<I"), struct.Struct("<cd")
_SEAL_MAGIC = b"\x5e\xa1\x10"  # with which SEAL begins a ciphertext


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
        sizes = self.modulus_bits
        if isinstance(sizes, np.ndarray):
            sizes = sizes.tolist()
        if not isinstance(sizes, Sequence) or len(sizes) < 2:
            raise InvalidParameterError(
                f"modulus_bits must be a sequence of two or more sizes, got {shown(sizes)}"
            )
        sizes = tuple(as_whole("each of modulus_bits", bits, least=20, most=60) for bits in sizes)
        object.__setattr__(self, "modulus_bits", sizes)
        for name, least, most in (
            ("poly_degree", min(MAX_MODULUS_BITS), max(MAX_MODULUS_BITS)),
            ("scale_bits", 1, 60),
            ("max_additions", 1, 2**32 - 1),
        ):
            whole = as_whole(name, getattr(self, name), least=least, most=most)
            object.__setattr__(self, name, whole)
        if self.poly_degree not in MAX_MODULUS_BITS:
            raise InvalidParameterError(
                f"poly_degree must be one of {', '.join(map(str, MAX_MODULUS_BITS))}, "
                f"got {self.poly_degree}"
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

    @property
    def product_error(self) -> float:
        """What one multiplication adds to the error in a slot, at most.

        The factor is rounded to the scale, and the largest value carries that on. Then the
        product is divided by a prime, and every coefficient of both parts of the ciphertext is
        rounded: in a slot, an error of deviation ``sqrt(degree / 24)`` for each part, of which
        eight are counted. The second part is multiplied by the secret key, which is at most
        ``sqrt(20 * degree)`` in size there, but for one slot in 10^13.
        """
        carried = self.largest * (0.51 / 2.0**self.scale_bits + 2.0**-51)
        rounded = 8 * math.sqrt(self.poly_degree / 24) * (1 + math.sqrt(20 * self.poly_degree))
        return carried + rounded / 2.0**self.scale_bits


class Context:
    """Parameters and a key. The secret one encrypts and decrypts; the public one only adds.

    Attributes:
        parameters: What all parties agree on.
        fingerprint: The SHA-256 of what :meth:`to_bytes` gives without the key, in which the
            key is named by a SHA-256 of its own. So it is the same with the key and without,
            and stands for all of both; nobody finds the key from it.
        key_id: The first 16 bytes of the fingerprint, by which a vector names its context.

    Example:
        >>> context = Context.generate()
        >>> context, context.public()
        (Context(degree 4096, secret key hidden), Context(degree 4096, no secret key))
    """

    def __init__(self, parameters: Parameters, key_digest: bytes, seal_context: Any):
        self.parameters, self._key_digest, self._seal = parameters, key_digest, seal_context
        sizes = bytes(parameters.modulus_bits)
        degree, scale_bits = parameters.poly_degree, parameters.scale_bits
        head = key_digest, degree, scale_bits, parameters.max_additions, len(sizes)
        self._about = _CONTEXT_HEAD.pack(*head) + sizes
        self.fingerprint = _fingerprint(self._about)
        self.key_id = self.fingerprint[:16]

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
            UnsupportedEnvironmentError: If ``tenseal`` was imported in a way that would end
                this process.
        """
        parameters = Parameters(poly_degree, modulus_bits, scale_bits, max_additions)
        seal_context = _generate(parameters)
        digest = hashlib.sha256(_serialize(seal_context, with_secret_key=True)).digest()
        return cls(parameters, digest, seal_context)

    @property
    def has_secret_key(self) -> bool:
        """Whether this party can encrypt and decrypt."""
        return self._seal.has_secret_key()

    def public(self) -> Context:
        """The context as it leaves a client: enough to add, with no key at all."""
        return Context(self.parameters, self._key_digest, _without_key(self._seal))

    def to_bytes(self, *, with_secret_key: bool = False) -> bytes:
        """Write the context; without the secret key unless it is asked for by name.

        With the key it must travel in a channel, which nobody else reads.

        Raises:
            InvalidParameterError: If this context has no secret key to write, or
                ``with_secret_key`` is neither True nor False.
        """
        if not as_flag("with_secret_key", with_secret_key):
            return _CONTEXT_MAGIC + self._about
        self._require_secret_key("send")
        return _SECRET_MAGIC + self._about + _serialize(self._seal, with_secret_key=True)

    @classmethod
    def from_bytes(cls, data: bytes, fingerprint: bytes) -> Context:
        """Read a context that anybody may have carried, if it is the one that its maker named.

        Args:
            data: What :meth:`to_bytes` gave, with the secret key or without.
            fingerprint: The maker's :attr:`fingerprint`, 32 bytes that came another way: in a
                signed message, or read aloud.

        Raises:
            AuthenticationError: If it is any other context, or was altered.
            WireFormatError: If the bytes are no context, or hold unsafe parameters.

        Example:
            >>> context = Context.generate()
            >>> server = Context.from_bytes(context.to_bytes(), context.fingerprint)
            >>> server.has_secret_key
            False
        """
        data = bytes(wire.as_view(data, "data"))
        if not isinstance(fingerprint, bytes) or len(fingerprint) != 32:
            raise InvalidParameterError(
                "fingerprint must be the 32 bytes of the maker's Context.fingerprint, "
                f"got {type(fingerprint).__name__}"
            )
        about, secret_key = _split(data)
        if not hmac.compare_digest(_fingerprint(about), fingerprint):
            raise AuthenticationError(
                "this is not the context with this fingerprint: it was altered, or is another one"
            )
        return cls._from_authentic(about, secret_key)

    @classmethod
    def receive(
        cls, message: bytes, channel: Channel, about: wire.Context | None = None
    ) -> Context:
        """Read a context that its maker sealed in a channel.

        Args:
            message: The sealed message.
            channel: This end of an open channel from the maker, who is trusted.
            about: What the message belongs to, as the maker said when it was sealed.

        Raises:
            AuthenticationError: If the channel refuses the message.
            WireFormatError: If the message is no context.

        Example:
            >>> from fltutor.crypto.channel import Initiator, Responder
            >>> from fltutor.crypto.keys import Directory, Identity
            >>> alice, bob = Identity.generate("alice"), Identity.generate("bob")
            >>> directory = Directory([alice.public, bob.public])
            >>> initiator, responder = Initiator(alice, "bob", directory), Responder(bob, directory)
            >>> proof = initiator.proof(responder.answer(initiator.hello()))
            >>> finished, bobs_end = responder.finish(proof)
            >>> alices_end, context = initiator.finish(finished), Context.generate()
            >>> data = context.to_bytes(with_secret_key=True)
            >>> message = alices_end.seal(np.frombuffer(data, np.uint8))
            >>> Context.receive(message, bobs_end)
            Context(degree 4096, secret key hidden)
        """
        as_kind("channel", channel, Channel)
        delivered = channel.open(message, about)
        if not isinstance(delivered, np.ndarray) or delivered.dtype != np.uint8:
            raise WireFormatError("not a CKKS context: the channel delivered other tensors")
        return cls._from_authentic(*_split(delivered.tobytes()))

    @classmethod
    def _from_authentic(cls, about: bytes, secret_key: bytes) -> Context:
        digest, poly_degree, scale_bits, max_additions, _ = _CONTEXT_HEAD.unpack_from(about)
        if secret_key and hashlib.sha256(secret_key).digest() != digest:
            raise AuthenticationError("the secret key in this context was altered")
        try:
            sizes = tuple(about[_CONTEXT_HEAD.size :])
            parameters = Parameters(poly_degree, sizes, scale_bits, max_additions)
            seal_context = keyless = _without_key(_generate(parameters))
            if secret_key:
                seal_context = _tenseal().context_from(secret_key)
        except (ValueError, RuntimeError) as error:
            raise WireFormatError(f"not a CKKS context: {error}") from None
        if seal_context.has_secret_key() != bool(secret_key) or (
            _serialize(seal_context) != _serialize(keyless)
        ):
            raise WireFormatError("the secret key in this context is for other parameters")
        return cls(parameters, digest, seal_context)

    def encrypt(self, values: np.ndarray) -> EncryptedVector:
        """Encrypt a vector of real numbers.

        Args:
            values: Shape (d,), any length; each ``num_slots`` of them are one ciphertext.

        Raises:
            InvalidUpdateError: If they are no vector, masked, empty, NaN, Inf, or beyond
                ``largest``.
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
        as_kind("encrypted", encrypted, EncryptedVector)
        _require_same_key(self, encrypted.context)
        secret_key = self._seal.secret_key()
        return np.concatenate([block.decrypt(secret_key) for block in encrypted.blocks])

    def read(self, data: bytes) -> EncryptedVector:
        """Read :meth:`EncryptedVector.to_bytes`, which only an authenticated envelope protects.

        Raises:
            WireFormatError: Truncated, trailing bytes, empty, of another key, or not in the
                one form that vectors of these parameters have.
        """
        return _read(bytes(wire.as_view(data, "data")), self)

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
    """An encrypted vector. ``+`` and ``-`` take another; ``*`` a number, if there is depth left.

    ``sum`` adds up a list of vectors.

    Attributes:
        context: Parameters and the name of the key.
        blocks: Ciphertexts of TenSEAL, ``num_slots`` values in each.
        length: How many values.
        weight: A value may have grown to this many times the largest fresh one.
        depth: Multiplications so far.
    """

    __array_ufunc__ = None  # or an array on the left would make an array of vectors

    context: Context = field(repr=False)
    blocks: tuple[Any, ...] = field(repr=False)
    length: int
    weight: float = 1.0
    depth: int = 0

    def __add__(self, other: EncryptedVector) -> EncryptedVector:
        return self._joined(other, operator.add)

    def __radd__(self, start: int) -> EncryptedVector:
        """``sum`` starts from 0."""
        return self if type(start) is int and start == 0 else NotImplemented

    def __sub__(self, other: EncryptedVector) -> EncryptedVector:
        return self._joined(other, operator.sub)

    def __neg__(self) -> EncryptedVector:
        blocks = _compute(operator.neg, self.blocks)
        return EncryptedVector(self.context, blocks, self.length, self.weight, self.depth)

    def _joined(self, other: EncryptedVector, operation: Callable) -> EncryptedVector:
        if not isinstance(other, EncryptedVector):
            return NotImplemented
        _require_same_key(self.context, other.context)
        for name in ("length", "depth"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise InvalidParameterError(f"vectors differ in {name}: {mine} and {theirs}")
        weight = self._room_for(self.weight + other.weight)
        blocks = _compute(operation, self.blocks, other.blocks)
        return EncryptedVector(self.context, blocks, self.length, weight, self.depth)

    def __mul__(self, factor: float) -> EncryptedVector:
        if not is_whole(factor) and not isinstance(factor, float | np.floating):
            return NotImplemented
        try:
            factor = float(factor)
        except OverflowError:  # an integer beyond any float
            factor = math.inf
        if not math.isfinite(factor) or factor == 0:
            raise InvalidParameterError(f"factor must be finite and not zero, got {factor}")
        parameters = self.context.parameters
        if self.depth == parameters.depth:
            raise InvalidParameterError(
                f"too deep: these parameters allow {self.depth} multiplications after each "
                "other. Scale before encrypting, or take more primes"
            )
        weight = self._room_for(self.weight * max(1.0, abs(factor)))
        prime = _rescaling_prime(parameters, self.depth)
        if round(factor * prime) == 0:
            raise InvalidParameterError(
                f"factor {factor:g} vanishes: it is below half a step of the scale "
                f"2**{parameters.scale_bits}"
            )
        # TenSEAL divides the product by this prime, and takes it for the scale.
        exact = factor * (prime / 2.0**parameters.scale_bits)
        blocks = _compute(lambda block: block * exact, self.blocks)
        return EncryptedVector(self.context, blocks, self.length, weight, self.depth + 1)

    __rmul__ = __mul__

    @property
    def error_bound(self) -> float:
        """Largest error of a value after decryption, in the units of the values.

        Sums add up their errors and products multiply them, each as far as ``weight`` says.
        """
        parameters = self.context.parameters
        return self.weight * (parameters.resolution + self.depth * parameters.product_error)

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
    Linux, the first message that TenSEAL writes ends the process. That happens where
    ``import tenseal`` stands alone after TensorFlow's.
    """
    if not hasattr(os, "RTLD_DEEPBIND"):
        return _load()
    modules = list(sys.modules)  # in the order in which their import began
    if {"tensorflow", "tenseal"} <= sys.modules.keys() and (
        modules.index("tensorflow") < modules.index("tenseal")
    ):
        raise UnsupportedEnvironmentError(
            "tenseal was imported after tensorflow, and would end this process without a word. "
            "Restart the kernel or the program; then leave `import tenseal` out, since fltutor "
            "imports it safely, or write it before everything that imports tensorflow"
        )
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    try:
        return _load()
    finally:
        sys.setdlopenflags(flags)


def _load() -> ModuleType:
    load("tenseal.sealapi", "tenseal")  # which knows the primes of SEAL
    return load("tenseal", "tenseal")


@cache
def _rescaling_prime(parameters: Parameters, depth: int) -> int:
    """The prime by which a product of this depth is divided; it is not quite the scale."""
    create = _tenseal().sealapi.CoeffModulus.Create
    primes = create(parameters.poly_degree, list(parameters.modulus_bits))
    return primes[-2 - depth].value()


def _generate(parameters: Parameters) -> Any:
    """A context of TenSEAL with a fresh secret key."""
    tenseal = _tenseal()
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
    return seal_context


def _serialize(seal_context: Any, *, with_secret_key: bool = False) -> bytes:
    return seal_context.serialize(
        save_public_key=False,
        save_secret_key=with_secret_key,
        save_galois_keys=False,
        save_relin_keys=False,
    )


def _without_key(seal_context: Any) -> Any:
    return _tenseal().context_from(_serialize(seal_context))


def _fingerprint(about: bytes) -> bytes:
    return hashlib.sha256(_CONTEXT_MAGIC + about).digest()


def _split(data: bytes) -> tuple[bytes, bytes]:
    """What a context says of itself, and its secret key, or none; no byte is interpreted yet."""
    has_key = data.startswith(_SECRET_MAGIC)
    start = len(_CONTEXT_MAGIC) + _CONTEXT_HEAD.size
    if len(data) < start or not (has_key or data.startswith(_CONTEXT_MAGIC)):
        raise WireFormatError("not a CKKS context, version 2, or truncated")
    end = start + data[start - 1]  # the number of primes, of one byte each
    about, secret_key = data[len(_CONTEXT_MAGIC) : end], data[end:]
    if len(data) < end or bool(secret_key) != has_key:
        raise WireFormatError("the context is truncated or has trailing bytes")
    return about, secret_key


def _compute(operation: Callable, *operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Compute block by block; SEAL's refusals, of many types, become one."""
    try:
        return tuple(operation(*blocks) for blocks in zip(*operands, strict=True))
    except (ValueError, RuntimeError, IndexError) as error:
        if "transparent" in str(error):
            raise InvalidParameterError(
                "the result would be transparent, a zero that hides nothing: a vector was "
                "subtracted from itself"
            ) from None
        raise InvalidParameterError(f"SEAL cannot compute this: {error}") from None


def _checked(values: Any) -> np.ndarray:
    values = as_numbers("values", values, InvalidUpdateError)
    if values.ndim != 1 or not len(values):
        raise InvalidUpdateError(f"values must be a vector, not empty, got shape {values.shape}")
    with np.errstate(over="ignore"):  # a long double may become Inf here, and is too large
        return values.astype(np.float64)


def _require_same_key(one: Context, other: Context) -> None:
    if one.fingerprint != other.fingerprint:
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
    slots = parameters.num_slots
    sizes = (min(slots, length - first) for first in range(0, length, slots))
    blocks = tuple(
        _read_block(part, size, depth, context)
        for part, size in zip(_parts(data, count), sizes, strict=True)
    )
    return EncryptedVector(context, blocks, length, weight, depth)


def _read_block(part: bytes, size: int, depth: int, context: Context) -> Any:
    parameters = context.parameters
    if not _is_one_ciphertext(part, size, 2.0**parameters.scale_bits):
        raise WireFormatError(
            f"a block must be one ciphertext of {size} values with scale "
            f"2**{parameters.scale_bits}, and nothing else"
        )
    try:
        block = _tenseal().ckks_vector_from(context._seal, part)
        (ciphertext,) = block.ciphertext()
    except (ValueError, RuntimeError) as error:
        raise WireFormatError(f"not a CKKS vector: {error}") from None
    primes = len(parameters.modulus_bits) - 1 - depth
    for what, needed, got in (
        ("size", 2, ciphertext.size()),
        ("scale", 2.0**parameters.scale_bits, ciphertext.scale),
        ("number of primes", primes, ciphertext.coeff_modulus_size()),
        ("NTT form", True, ciphertext.is_ntt_form()),
        ("transparency", False, ciphertext.is_transparent()),
    ):
        if got != needed:
            raise WireFormatError(f"the {what} of a ciphertext must be {needed}, got {got}")
    return block


def _is_one_ciphertext(part: bytes, size: int, scale: float) -> bool:
    """Whether this is TenSEAL's message of one ciphertext (tensors.proto), and nothing more.

    1 is the field of the sizes, 2 of the ciphertexts, 3 of the scale.
    """
    start, end = part.find(_SEAL_MAGIC), len(part) - _SCALE.size
    if not 0 <= start < end:
        return False
    sizes = _varint(size)
    head = b"\x0a" + _varint(len(sizes)) + sizes + b"\x12" + _varint(end - start)
    return part[:start] == head and part[end:] == _SCALE.pack(b"\x19", scale)


def _varint(number: int) -> bytes:
    """An integer as protobuf writes it: seven bits in each byte, the lowest first."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


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
