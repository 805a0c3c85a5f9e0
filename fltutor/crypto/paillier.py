"""Paillier encryption: numbers that can be added while nobody can read them.

The product of two ciphertexts is a ciphertext of the sum::

    encrypt(m)  =  (1 + m n) * r^n  modulo n^2         r random, n = p q public
    encrypt(a) * encrypt(b)  ->  a + b                 encrypt(a) ** k  ->  k a

Whoever knows the primes p and q decrypts. A number that has grown beyond n wraps around, and
nothing in it shows. So each :class:`Ciphertext` carries a bound of what it may hold, and a
result that could leave the range is refused before it is made.

A ciphertext has twice the bits of n and takes milliseconds, so a vector of numbers is
*packed*: with 2048 bits, 63 numbers of 32 bits in one ciphertext, each with guard bits that
its sums can grow into. An :class:`EncryptedVector` counts how far they may have grown.

Alone, a ciphertext can be altered by anyone, in ways of their choosing: that is the point
of it. A vector therefore travels in an authenticated envelope (:meth:`EncryptedVector.seal`,
or a :class:`~fltutor.crypto.channel.Channel`).

For teaching only: the primes come from a vetted generator, the arithmetic is Python's. It
takes a time that depends on the secrets, keys are not wiped from memory, and nothing proves
that a ciphertext holds a number in range.

Reference:
    Paillier, EUROCRYPT 1999, scheme 1 and section 7 (decryption by the Chinese remainder
    theorem). https://doi.org/10.1007/3-540-48910-X_16
"""

from __future__ import annotations

import hashlib
import math
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa

from fltutor.border import as_array, as_flag, as_kind, as_numbers, as_whole, is_whole
from fltutor.crypto import aead
from fltutor.crypto.keys import require_many
from fltutor.crypto.wire import Context, as_view
from fltutor.errors import (
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    WireFormatError,
)
from fltutor.fixed_point import FixedPoint

MIN_BITS, MIN_TOY_BITS, MAX_BITS = 2048, 128, 16384
MAX_SLOTS = 2**16 - 1  # as many as a message can say
USUAL_BOUND = 2**64 - 1
"""The bound of every number that fits into it, so that a bound says nothing of the number."""

PACKED_GRID = FixedPoint(fraction_bits=16, bits=26, ring_bits=32)
"""Slots of 32 bits: steps of 1.5e-5, values up to 512, room for 64 additions."""

_MAGIC = b"FLPV\x01"
# magic; key; fraction_bits, bits, ring_bits, max_weight; num_slots, length, weight
_HEAD = struct.Struct("<5s16s3BQHQQ")


@dataclass(frozen=True)
class PublicKey:
    """The modulus n: enough to encrypt, and to compute with ciphertexts.

    Attributes:
        n: The product of two secret primes, of at least 2048 bits.
        toy: Whether fewer bits are allowed, from 128. Such a key protects nothing.

    Raises:
        InvalidParameterError: If n is too short, or cannot be such a product.

    Example:
        >>> private_key = PrivateKey.generate(256, toy=True)
        >>> public_key = private_key.public_key
        >>> three, eight = public_key.encrypt(3), public_key.encrypt(8)
        >>> private_key.decrypt(three + eight), private_key.decrypt(three * -5)
        (11, -15)
    """

    n: int = field(repr=False)
    toy: bool = field(default=False, kw_only=True, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "toy", as_flag("toy", self.toy))
        if not _is_whole(self.n) or self.n % 2 == 0 or self.n < 0:
            raise InvalidParameterError("n must be an odd integer, the product of two primes")
        if self.bits < MIN_BITS and not self.toy:
            raise InvalidParameterError(
                f"n must have at least {MIN_BITS} bits, got {self.bits}; for a lesson, say toy=True"
            )
        if self.bits < MIN_TOY_BITS:
            raise InvalidParameterError(
                f"n must have {MIN_TOY_BITS} bits even in a toy, got {self.bits}"
            )
        if math.isqrt(self.n) ** 2 == self.n or _may_be_prime(self.n):
            raise InvalidParameterError(
                "n must be the product of two different primes, got a prime or a square"
            )

    @property
    def bits(self) -> int:
        """Length of n; a ciphertext is twice as long."""
        return self.n.bit_length()

    @cached_property
    def n_squared(self) -> int:
        """The modulus of ciphertexts."""
        return self.n**2

    @property
    def ciphertext_bytes(self) -> int:
        """Length of a ciphertext."""
        return (self.n_squared.bit_length() + 7) // 8

    @cached_property
    def fingerprint(self) -> bytes:
        """16 bytes that no other key shares, for messages to name their key."""
        return hashlib.sha256(b"fltutor Paillier 1" + hex(self.n).encode()).digest()[:16]

    @property
    def max_int(self) -> int:
        """Largest magnitude of a number; the gap up to n shows when a sum has overflowed."""
        return self.n // 3

    def encrypt(self, number: int, *, bound: int | None = None) -> Ciphertext:
        """Encrypt an integer, with fresh randomness: the same number never looks the same.

        Args:
            number: From ``-max_int`` to ``max_int``.
            bound: Its largest magnitude, as everybody may know it; sums and products count
                from there. By default the same for all numbers of up to 64 bits. A larger
                number shows that it is larger: its bound is ``max_int / 2**40`` if that
                holds it, which leaves room for 2^40 additions, and ``max_int`` if not.

        Raises:
            InvalidParameterError: If the number is no integer, or beyond ``max_int`` or
                ``bound``.

        Example:
            >>> public_key = PrivateKey.generate(256, toy=True).public_key
            >>> public_key.encrypt(3).bound == public_key.encrypt(-8).bound == 2**64 - 1
            True
            >>> third = public_key.max_int // 3
            >>> total = sum(public_key.encrypt(third, bound=third) for _ in range(3))
            >>> total * 2
            Traceback (most recent call last):
            fltutor.errors.InvalidParameterError: the result could have overflowed: ...
        """
        return self.encrypt_with(number, self._draw(), bound=bound)

    def encrypt_with(self, number: int, r: int, *, bound: int | None = None) -> Ciphertext:
        """Encrypt with this r, which must be secret, random and used once: the core for tests."""
        _require_unit(r, self)
        return _hide(number, pow(r, self.n, self.n_squared), self, bound)

    def read(self, data: bytes) -> EncryptedVector:
        """Read :meth:`EncryptedVector.to_bytes`, which only an authenticated envelope protects.

        Raises:
            WireFormatError: Truncated, trailing bytes, another key's, or out of range.
        """
        return _read(bytes(as_view(data, "data")), self)

    def open(self, message: bytes, key: aead.Key, about: Context | None = None) -> EncryptedVector:
        """Open the envelope of :meth:`EncryptedVector.seal`, which authenticates every bit.

        Raises:
            AuthenticationError: If anything was altered, or is of another key or context.
            WireFormatError: If it was encrypted under another Paillier key.
        """
        sealed = aead.EncryptedTensor.from_bytes(message)
        return self.read(aead.decrypt_tensor(sealed, key, about).tobytes())

    def _draw(self) -> int:
        while math.gcd(r := secrets.randbelow(self.n), self.n) != 1:
            pass
        return r


@dataclass(frozen=True)
class Ciphertext:
    """An encrypted integer. ``+`` and ``-`` take another one, ``*`` takes a plain integer.

    A result that could leave the range is refused before it is made. ``sum`` adds up a list.

    Attributes:
        public_key: Whose it is; numbers under different keys do not add.
        value: The ciphertext itself.
        fresh: False for results: their randomness is made of that of their parts, so they
            are re-randomised before they are sent.
        bound: The number is at most this in size; by default ``max_int``. It is public.

    Raises:
        InvalidParameterError: From ``+``, ``-`` and ``*``, if the keys differ or the result
            could be beyond ``max_int``.

    Example:
        >>> private_key = PrivateKey.generate(256, toy=True)
        >>> three, eight = private_key.encrypt(3), private_key.encrypt(8)
        >>> private_key.decrypt(sum([three, eight])), private_key.decrypt(three - eight)
        (11, -5)
    """

    __array_ufunc__ = None  # or an array on the left would make an array of ciphertexts

    public_key: PublicKey
    value: int = field(repr=False)
    fresh: bool = True
    bound: int | None = field(default=None, repr=False)

    def __post_init__(self):
        as_kind("public_key", self.public_key, PublicKey)
        object.__setattr__(self, "fresh", as_flag("fresh", self.fresh))
        if not _is_whole(self.value):
            raise InvalidParameterError(
                f"value must be an integer, got {type(self.value).__name__}"
            )
        largest = self.public_key.max_int
        if self.bound is None:
            object.__setattr__(self, "bound", largest)
        if not _is_whole(self.bound) or not 0 <= self.bound <= largest:
            raise InvalidParameterError("bound must be a whole number from 0 to max_int")

    def __add__(self, other: Ciphertext) -> Ciphertext:
        if not isinstance(other, Ciphertext):
            return NotImplemented
        _require_same_key(self.public_key, other.public_key)
        bound = _room_for(self.bound + other.bound, self.public_key)
        return self._result(self.value * other.value, bound)

    def __radd__(self, start: int) -> Ciphertext:
        return self if type(start) is int and start == 0 else NotImplemented

    def __neg__(self) -> Ciphertext:
        return self * -1

    def __sub__(self, other: Ciphertext) -> Ciphertext:
        return self + -other if isinstance(other, Ciphertext) else NotImplemented

    def __mul__(self, factor: int) -> Ciphertext:
        if not is_whole(factor):
            return NotImplemented
        factor = int(factor)
        bound = _room_for(self.bound * abs(factor), self.public_key)
        try:
            value = pow(self.value, factor, self.public_key.n_squared)
        except ValueError:  # no inverse for a negative power
            raise InvalidParameterError("this cannot be a ciphertext of this key") from None
        return self._result(value, bound)

    __rmul__ = __mul__

    def rerandomise(self) -> Ciphertext:
        """The same number in a new ciphertext, which nobody can trace to the old one."""
        return self.rerandomise_with(self.public_key._draw())

    def rerandomise_with(self, r: int) -> Ciphertext:
        """Multiply by an encryption of zero made with this r: the core for tests."""
        zero = self.public_key.encrypt_with(0, r)
        value = self.value * zero.value % self.public_key.n_squared
        return Ciphertext(self.public_key, value, bound=self.bound)

    def _result(self, value: int, bound: int) -> Ciphertext:
        return Ciphertext(self.public_key, value % self.public_key.n_squared, False, bound)


class PrivateKey:
    """The primes p and q: enough to decrypt. Made by :meth:`generate`; hides itself.

    A holder also encrypts more than three times faster than with the public key, modulo p^2
    and q^2 instead of n^2.

    Args:
        p, q: Different primes, of the same length and not close to each other.
        toy: Allow a product of fewer than 2048 bits, from 128, and primes of any length.

    Raises:
        InvalidParameterError: If p and q are anything else. (Out of 10^12 composite numbers
            that somebody chose with care, one may pass for a prime.)
    """

    __slots__ = ("_p", "_p_factor", "_q", "_q_factor", "public_key")

    def __init__(self, p: int, q: int, *, toy: bool = False):
        toy = as_flag("toy", toy)
        _require_primes(p, q, toy)
        self._keep(p, q, toy)

    def _keep(self, p: int, q: int, toy: bool) -> None:
        self.public_key = PublicKey(p * q, toy=toy)
        self._p, self._q = p, q
        self._p_factor, self._q_factor = pow(-q, -1, p), pow(-p, -1, q)

    @classmethod
    def generate(cls, bits: int = MIN_BITS, *, toy: bool = False) -> PrivateKey:
        """Draw two primes.

        Args:
            bits: Length of n; 2048 is worth about 112 bits of security.
            toy: Allow fewer bits, from 128, for lessons and tests. Such a key protects
                nothing: 256 bits are factored on a laptop.

        Raises:
            InvalidParameterError: If ``bits`` is odd, below 2048 without ``toy``, below 128, or
                beyond 16384, for which drawing would take hours.

        Example:
            >>> PrivateKey.generate(512)
            Traceback (most recent call last):
            fltutor.errors.InvalidParameterError: bits must be at least 2048, got 512; for a
            lesson, say toy=True
        """
        bits, toy = as_whole("bits", bits, least=1, most=MAX_BITS), as_flag("toy", toy)
        if bits % 2:
            raise InvalidParameterError(f"bits must be even, got {bits}")
        if bits < MIN_BITS and not toy:
            raise InvalidParameterError(
                f"bits must be at least {MIN_BITS}, got {bits}; for a lesson, say toy=True"
            )
        if bits < MIN_TOY_BITS:
            raise InvalidParameterError(f"even a toy needs {MIN_TOY_BITS} bits, got {bits}")
        if bits < 1024:
            return cls(*_toy_primes(bits), toy=toy)
        numbers = rsa.generate_private_key(65537, bits).private_numbers()
        key = cls.__new__(cls)
        key._keep(numbers.p, numbers.q, toy)  # a vetted generator's primes need no second test
        return key

    def encrypt(self, number: int, *, bound: int | None = None) -> Ciphertext:
        """As :meth:`PublicKey.encrypt`, faster: r^q is as random modulo p as r, which stands in."""
        r = self.public_key._draw()
        return _hide(number, self._power(r, r), self.public_key, bound)

    def encrypt_with(self, number: int, r: int, *, bound: int | None = None) -> Ciphertext:
        """As :meth:`PublicKey.encrypt_with`, to the last bit."""
        _require_unit(r, self.public_key)
        return _hide(number, self._power(*self._roots(r)), self.public_key, bound)

    def _roots(self, r: int) -> tuple[int, int]:
        """r^q modulo p and r^p modulo q."""
        p, q = self._p, self._q
        return pow(r % p, q % (p - 1), p), pow(r % q, p % (q - 1), q)

    def _power(self, r_to_q: int, r_to_p: int) -> int:
        """r^n from r^q modulo p and r^p modulo q: (x + k p)^p is x^p modulo p^2, whatever k."""
        p, q = self._p, self._q
        modulo_p, modulo_q = pow(r_to_q % p, p, p**2), pow(r_to_p % q, q, q**2)
        return _join(modulo_p, p**2, modulo_q, q**2)

    def decrypt(self, ciphertext: Ciphertext) -> int:
        """Recover the integer.

        Raises:
            InvalidParameterError: If the ciphertext belongs to another key, cannot be one,
                or holds a number beyond its bound: somebody let a sum overflow.
        """
        as_kind("ciphertext", ciphertext, Ciphertext)
        public_key = self.public_key
        _require_same_key(public_key, ciphertext.public_key)
        if not _can_be(ciphertext.value, public_key):
            raise InvalidParameterError("this cannot be a ciphertext of this key")
        number = self._open(ciphertext.value)
        number -= public_key.n if number > public_key.n // 2 else 0
        if abs(number) > ciphertext.bound:
            raise InvalidParameterError(
                "this ciphertext holds a number beyond its bound: the sums in it have overflowed"
            )
        return number

    def _open(self, value: int) -> int:
        """The number modulo n, from its remainders modulo p and q."""
        p, q = self._p, self._q
        modulo_p = (pow(value % p**2, p - 1, p**2) - 1) // p * self._p_factor % p
        modulo_q = (pow(value % q**2, q - 1, q**2) - 1) // q * self._q_factor % q
        return _join(modulo_p, p, modulo_q, q)

    def decrypt_vector(self, encrypted: EncryptedVector) -> np.ndarray:
        """Recover the numbers, float64, shape (d,): each a whole multiple of the resolution.

        Raises:
            InvalidParameterError: As :meth:`decrypt`, or if a sum has overflowed its slot.
        """
        as_kind("encrypted", encrypted, EncryptedVector)
        numbers = [self.decrypt(ciphertext) for ciphertext in encrypted.ciphertexts]
        slots = unpack(numbers, encrypted.num_slots, encrypted.grid)
        return encrypted.grid.decode(slots[: encrypted.length])

    def __repr__(self) -> str:
        return f"PrivateKey({self.public_key.bits} bits, hidden)"

    def __reduce_ex__(self, protocol: int) -> NoReturn:
        raise CopyRefusedError("a PrivateKey is not copied or stored")


@dataclass(frozen=True, eq=False)
class EncryptedVector:
    """An encrypted vector. ``+`` and ``-`` take another one, ``*`` takes a whole number.

    A result that could overflow its slots is refused. ``sum`` adds up a list of vectors.

    Attributes:
        ciphertexts: ``num_slots`` numbers in each.
        length: How many numbers.
        num_slots: Numbers in one ciphertext.
        grid: How a real number became an integer: one scale for the whole vector, its
            ring is the slot.
        weight: A value may have grown to this many times its first size.
    """

    __array_ufunc__ = None  # or an array on the left would make an array of vectors

    ciphertexts: tuple[Ciphertext, ...] = field(repr=False)
    length: int
    num_slots: int
    grid: FixedPoint
    weight: int = 1

    def __add__(self, other: EncryptedVector) -> EncryptedVector:
        if not isinstance(other, EncryptedVector):
            return NotImplemented
        _require_same_key(self.public_key, other.public_key)
        for name in ("length", "num_slots", "grid"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise InvalidParameterError(f"vectors differ in {name}: {mine} and {theirs}")
        weight = self.weight + other.weight
        self.grid.require_room(weight)
        pairs = zip(self.ciphertexts, other.ciphertexts, strict=True)
        return self._result((mine + theirs for mine, theirs in pairs), weight)

    def __radd__(self, start: int) -> EncryptedVector:
        return self if type(start) is int and start == 0 else NotImplemented

    def __neg__(self) -> EncryptedVector:
        return self * -1

    def __sub__(self, other: EncryptedVector) -> EncryptedVector:
        return self + -other if isinstance(other, EncryptedVector) else NotImplemented

    def __mul__(self, factor: int) -> EncryptedVector:
        if not is_whole(factor):
            return NotImplemented
        weight = self.weight * max(1, abs(int(factor)))
        self.grid.require_room(weight)
        return self._result((ciphertext * factor for ciphertext in self.ciphertexts), weight)

    __rmul__ = __mul__

    @property
    def public_key(self) -> PublicKey:
        """Whose it is."""
        return self.ciphertexts[0].public_key

    @property
    def num_bytes(self) -> int:
        """Length of :meth:`to_bytes`."""
        return _HEAD.size + len(self.ciphertexts) * self.public_key.ciphertext_bytes

    def to_bytes(self) -> bytes:
        """Write the vector for an authenticated channel; results are re-randomised first."""
        key, grid = self.public_key, self.grid
        head = _HEAD.pack(
            *(_MAGIC, key.fingerprint, grid.fraction_bits, grid.bits, grid.ring_bits),
            *(grid.max_weight, self.num_slots, self.length, self.weight),
        )
        sent = (c if c.fresh else c.rerandomise() for c in self.ciphertexts)
        return head + b"".join(c.value.to_bytes(key.ciphertext_bytes, "little") for c in sent)

    def seal(self, key: aead.Key, about: Context | None = None) -> bytes:
        """Put the vector in an envelope that no one can alter, of AES-256-GCM.

        Args:
            key: Shared with whoever opens it, usually the server. It does not decrypt.
            about: What the message belongs to, such as ``{"round": 3, "client": 7}``.

        Example:
            >>> private_key, key = PrivateKey.generate(256, toy=True), aead.generate_key()
            >>> message = encrypt_vector(np.array([1.5, -2.0]), private_key).seal(key, {"round": 3})
            >>> received = private_key.public_key.open(message, key, {"round": 3})
            >>> private_key.decrypt_vector(received * 10)
            array([ 15., -20.])
        """
        return aead.encrypt_tensor(np.frombuffer(self.to_bytes(), np.uint8), key, about).to_bytes()

    def _result(self, ciphertexts: Iterable[Ciphertext], weight: int) -> EncryptedVector:
        return replace(self, ciphertexts=tuple(ciphertexts), weight=weight)


def encrypt_vector(
    values: np.ndarray,
    key: PublicKey | PrivateKey,
    grid: FixedPoint = PACKED_GRID,
    *,
    packed: bool = True,
) -> EncryptedVector:
    """Encrypt real numbers as signed integers on one grid, many in a ciphertext.

    Args:
        values: Real numbers, shape (d,).
        key: The public key, or the private one, which is faster.
        grid: The scale, the range, and in ``ring_bits`` the width of a slot. The bits that
            a value leaves free guard its sums: 26 of 32 leave room for 64 additions.
        packed: False spends a whole ciphertext on each number.

    Raises:
        InvalidUpdateError: If the values are no vector, masked, empty, NaN, Inf or beyond the
            grid.
        InvalidParameterError: If ``key`` is no key, ``grid`` no grid, or ``packed`` neither
            True nor False.

    Example:
        >>> private_key = PrivateKey.generate(256, toy=True)
        >>> encrypted = encrypt_vector(np.array([0.25, -1.0, 3.5]), private_key.public_key)
        >>> private_key.decrypt_vector(encrypted + encrypted)
        array([ 0.5, -2. ,  7. ])
    """
    num_slots = slots_per_ciphertext(key, grid)
    if not as_flag("packed", packed):
        num_slots = 1
    values = as_numbers("values", values, InvalidUpdateError, finite=False)  # encode checks it
    if values.ndim != 1 or not len(values):
        raise InvalidUpdateError(f"values must be a vector, not empty, got shape {values.shape}")
    elements = grid.encode_unclipped(values).values
    bound = _packed_bound(num_slots, grid)
    ciphertexts = tuple(key.encrypt(number, bound=bound) for number in pack(elements, num_slots))
    return EncryptedVector(ciphertexts, len(values), num_slots, grid)


def slots_per_ciphertext(key: PublicKey | PrivateKey, grid: FixedPoint = PACKED_GRID) -> int:
    """How many numbers of this grid fit into one ciphertext.

    Raises:
        InvalidParameterError: If ``key`` is no key or ``grid`` no grid.

    Example:
        >>> slots_per_ciphertext(PublicKey(2**2047 + 1))
        63
    """
    if not isinstance(key, PublicKey | PrivateKey):
        raise InvalidParameterError(f"key must be a Paillier key, got {type(key).__name__}")
    ring_bits = as_kind("grid", grid, FixedPoint).ring_bits
    return (getattr(key, "public_key", key).bits - 2) // ring_bits


def pack(elements: np.ndarray, num_slots: int) -> list[int]:
    """Write ring elements as one number for each ``num_slots``: the sum of s_i * 2^(32 i).

    The s_i are signed: a negative one borrows from its neighbour, and pays back in sums.

    Raises:
        InvalidParameterError: If ``elements`` is no vector of uint32 or uint64, or ``num_slots``
            no whole number from 1 to 65535.

    Example:
        >>> pack(np.array([3, 8, -1, 1]).astype(np.int32).view(np.uint32), num_slots=2)
        [34359738371, 4294967295]
        >>> 8 * 2**32 + 3, 1 * 2**32 - 1
        (34359738371, 4294967295)
    """
    elements = as_array("elements", elements)
    if elements.ndim != 1 or elements.dtype.kind != "u" or elements.dtype.itemsize not in (4, 8):
        raise InvalidParameterError(
            "elements must be a vector of uint32 or uint64, "
            f"got {elements.dtype} of shape {elements.shape}"
        )
    num_slots = as_whole("num_slots", num_slots, least=1, most=MAX_SLOTS)
    width, half = elements.dtype.itemsize, 1 << 8 * elements.dtype.itemsize - 1
    lifted = elements + elements.dtype.type(half)  # from 0 on, as unsigned bytes must be
    lifted = lifted.astype(elements.dtype.newbyteorder("<")).tobytes()
    step = num_slots * width
    blocks = [lifted[first : first + step] for first in range(0, len(lifted), step)]
    return [
        int.from_bytes(block, "little") - _lift(len(block) // width, 8 * width) for block in blocks
    ]


def unpack(numbers: list[int], num_slots: int, grid: FixedPoint) -> np.ndarray:
    """Undo :func:`pack`; the last number may have fewer slots, whose places are then zero.

    Raises:
        InvalidParameterError: If a number is none, or beyond its slots, or an argument is of
            another type.
    """
    numbers = [as_whole("number", number) for number in require_many(numbers, "numbers")]
    num_slots = as_whole("num_slots", num_slots, least=1, most=MAX_SLOTS)
    as_kind("grid", grid, FixedPoint)
    num_bytes, lift = num_slots * grid.ring_bits // 8, _lift(num_slots, grid.ring_bits)
    try:
        lifted = b"".join((number + lift).to_bytes(num_bytes, "little") for number in numbers)
    except OverflowError:
        raise InvalidParameterError("a sum has overflowed its slot") from None
    elements = np.frombuffer(lifted, grid.dtype.newbyteorder("<")).astype(grid.dtype)
    return elements - grid.dtype.type(1 << grid.ring_bits - 1)


def _lift(num_slots: int, slot_bits: int) -> int:
    """Half a slot in each slot."""
    return sum(1 << slot_bits * slot + slot_bits - 1 for slot in range(num_slots))


def _packed_bound(num_slots: int, grid: FixedPoint) -> int:
    """Largest magnitude of a packed number: the largest value in every slot."""
    largest = round(grid.largest / grid.resolution)
    return sum(largest << grid.ring_bits * slot for slot in range(num_slots))


def _hide(number: int, power: int, key: PublicKey, bound: int | None) -> Ciphertext:
    """(1 + n)^number is 1 + number * n modulo n^2; the power of r hides it."""
    number, largest = as_whole("number", number), key.max_int
    if abs(number) > largest:
        raise InvalidParameterError(
            f"number must be within n / 3, which has {largest.bit_length()} bits, "
            f"got {number.bit_length()} bits"
        )
    if bound is None:
        steps = (USUAL_BOUND, largest >> 40, largest)
        bound = next(step for step in steps if abs(number) <= step)
    ciphertext = Ciphertext(key, (1 + number * key.n) * power % key.n_squared, bound=bound)
    if abs(number) > bound:
        raise InvalidParameterError("number must be within its bound, and is not")
    return ciphertext


def _room_for(bound: int, key: PublicKey) -> int:
    if bound > key.max_int:
        raise InvalidParameterError(
            f"the result could have overflowed: its bound has {bound.bit_length()} bits, and n / 3 "
            f"has {key.max_int.bit_length()}. Encrypt with a smaller bound, or take a longer key"
        )
    return bound


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _join(modulo_a: int, a: int, modulo_b: int, b: int) -> int:
    """The number below a * b with these two remainders (Chinese remainder theorem)."""
    return modulo_b + b * ((modulo_a - modulo_b) * pow(b, -1, a) % a)


def _read(data: bytes, key: PublicKey) -> EncryptedVector:
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise WireFormatError("not a Paillier vector, version 1, or truncated")
    _, fingerprint, fraction_bits, bits, ring_bits, max_weight, num_slots, length, weight = (
        _HEAD.unpack_from(data)
    )
    if fingerprint != key.fingerprint:
        raise WireFormatError("the vector is encrypted under another Paillier key")
    try:
        grid = FixedPoint(fraction_bits, bits, max_weight, ring_bits)
        grid.require_room(weight)
    except InvalidParameterError as error:
        raise WireFormatError(f"not a Paillier vector: {error}") from None
    if num_slots not in (1, slots_per_ciphertext(key, grid)) or not num_slots or not length:
        raise WireFormatError(f"{length} numbers in slots of {num_slots} cannot be")
    width, count = key.ciphertext_bytes, -(-length // num_slots)
    if len(data) != _HEAD.size + count * width:
        raise WireFormatError(
            f"the vector is truncated or has trailing bytes: needed {_HEAD.size + count * width} "
            f"bytes, got {len(data)}"
        )
    places = range(_HEAD.size, len(data), width)
    values = [int.from_bytes(data[place : place + width], "little") for place in places]
    for value in values:
        if not _can_be(value, key):
            raise WireFormatError("a ciphertext is out of range")
    bound = weight * _packed_bound(num_slots, grid)
    ciphertexts = tuple(Ciphertext(key, value, bound=bound) for value in values)
    return EncryptedVector(ciphertexts, length, num_slots, grid, weight)


def _can_be(value: int, key: PublicKey) -> bool:
    return 0 < value < key.n_squared and math.gcd(value, key.n) == 1


def _require_same_key(one: PublicKey, other: PublicKey) -> None:
    if one != other:
        raise InvalidParameterError(
            "these belong to different keys: sums and decryption need one key for all"
        )


def _require_unit(r: int, key: PublicKey) -> None:
    if not _is_whole(r) or math.gcd(r, key.n) != 1:
        raise InvalidParameterError("r must be an integer that has no factor in common with n")


def _require_primes(p: int, q: int, toy: bool) -> None:
    """The numbers are secret, so no message holds them."""
    if not _is_whole(p) or not _is_whole(q):
        raise InvalidParameterError(
            f"p and q must be integers, got {type(p).__name__} and {type(q).__name__}"
        )
    if p == q or min(p, q) < 3 or (not toy and p.bit_length() != q.bit_length()):
        raise InvalidParameterError("p and q must be different primes of the same length")
    if not toy and abs(p - q).bit_length() <= p.bit_length() - 100:
        raise InvalidParameterError("p and q are so close that n shows them")
    if not _is_prime(p) or not _is_prime(q) or math.gcd(p * q, (p - 1) * (q - 1)) != 1:
        raise InvalidParameterError("p and q must be primes, and neither may divide the other - 1")


def _toy_primes(bits: int) -> tuple[int, int]:
    """Two primes of half the bits each, whose product has all of them."""
    primes: set[int] = set()
    while len(primes) < 2:
        candidate = secrets.randbits(bits // 2) | 3 << bits // 2 - 2 | 1
        if _is_prime(candidate):
            primes.add(candidate)
    one, other = primes
    return one, other


def _is_prime(candidate: int) -> bool:
    """Wrong for one composite number in 4^20, however it was chosen."""
    return candidate % 2 == 1 and all(_may_be_prime(candidate) for _ in range(20))


def _may_be_prime(candidate: int) -> bool:
    """One round of Miller and Rabin's test with a random base."""
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    power = pow(1 + secrets.randbelow(candidate - 1), odd, candidate)
    if power in (1, candidate - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % candidate
        if power == candidate - 1:
            return True
    return False
