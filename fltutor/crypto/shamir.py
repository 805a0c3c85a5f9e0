"""Share a secret among n people so that any t of them recover it and t - 1 learn nothing.

The secret is the value at 0 of a random polynomial of degree t - 1; share i is
its value at i. Any t points fix the polynomial; with one point fewer, every
secret is equally likely. All numbers are integers modulo the prime
p = 2^521 - 1, far beyond the 2^256 secrets, so that shares of different secrets
give a number that is no secret, and are refused. A share that somebody altered
on purpose can still move the secret a little: against that the dealer publishes
a commitment to each share, and :func:`require_committed` checks it.

For teaching only: Python's integers take a time that depends on their values,
so whoever can time this machine finely may learn something.

Reference:
    Shamir, How to Share a Secret, CACM 22(11), 1979. https://doi.org/10.1145/359168.359176
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from fltutor.border import as_kind, as_whole, is_whole, shown
from fltutor.errors import AuthenticationError, InvalidParameterError, WireFormatError

PRIME = 2**521 - 1
SECRET_BYTES = 32
SALT_BYTES = 32
MAX_SHARES = 2**16 - 1

_VALUE_BYTES = 66
_LARGE = 2**1024
_HEAD = struct.Struct("<HH")  # number, threshold
SHARE_BYTES = _HEAD.size + _VALUE_BYTES + SALT_BYTES


@dataclass(frozen=True, slots=True)
class Share:
    """One point of the polynomial. The value and the salt are secret.

    Attributes:
        number: Where the polynomial is evaluated, 1 to n.
        threshold: How many shares of this secret recover it.
        value: The polynomial there, modulo ``PRIME``.
        salt: Random bytes that make the commitment reveal nothing.

    Raises:
        InvalidParameterError: If a field is out of range.
    """

    number: int
    threshold: int
    value: int = field(repr=False)
    salt: bytes = field(repr=False)

    def __post_init__(self):
        if not type(self.number) is type(self.threshold) is type(self.value) is int:
            raise InvalidParameterError("number, threshold and value must be integers")
        if type(self.salt) is not bytes:
            raise InvalidParameterError(f"salt must be bytes, got {type(self.salt).__name__}")
        if not 1 <= self.number <= MAX_SHARES:
            raise InvalidParameterError(
                f"number must be in 1 to {MAX_SHARES} (the secret itself is at 0), "
                f"got {shown(self.number)}"
            )
        if not 2 <= self.threshold <= MAX_SHARES:
            raise InvalidParameterError(
                f"threshold must be in 2 to {MAX_SHARES}, got {shown(self.threshold)}"
            )
        if not 0 <= self.value < PRIME:
            raise InvalidParameterError("value must be in 0 to PRIME - 1, got one outside")
        if len(self.salt) != SALT_BYTES:
            raise InvalidParameterError(f"salt must be {SALT_BYTES} bytes, got {len(self.salt)}")

    @property
    def commitment(self) -> bytes:
        """A salted hash that the dealer publishes: it fixes the share and shows nothing of it."""
        return hashlib.sha256(b"fltutor Shamir share 1" + self.to_bytes()).digest()

    def to_bytes(self) -> bytes:
        """Write the share, 102 bytes: number, threshold, value (big-endian), salt."""
        head = _HEAD.pack(self.number, self.threshold)
        return head + self.value.to_bytes(_VALUE_BYTES, "big") + self.salt

    @classmethod
    def from_bytes(cls, data: bytes) -> Share:
        """Read a share.

        Raises:
            WireFormatError: If it is truncated, too long, or out of range.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise WireFormatError(f"a share must be bytes, got {type(data).__name__}")
        if len(data) != SHARE_BYTES:
            raise WireFormatError(f"a share must be {SHARE_BYTES} bytes, got {len(data)}")
        number, threshold = _HEAD.unpack_from(data)
        value = int.from_bytes(data[_HEAD.size : -SALT_BYTES], "big")
        try:
            return cls(number, threshold, value, bytes(data[-SALT_BYTES:]))
        except InvalidParameterError as error:
            raise WireFormatError(f"not a share: {error}") from None


def split(secret: bytes, threshold: int, num_shares: int) -> list[Share]:
    """Deal ``num_shares`` shares of a secret, any ``threshold`` of which recover it.

    Args:
        secret: 32 bytes, such as a key or a seed.
        threshold: At least 2, at most ``num_shares``.
        num_shares: At most 65535.

    Raises:
        InvalidParameterError: If the secret is not 32 bytes, or the numbers are out of range.

    Example:
        >>> shares = split(b"a secret of thirty-two bytes now", threshold=3, num_shares=5)
        >>> combine([shares[4], shares[0], shares[2]])
        b'a secret of thirty-two bytes now'
        >>> combine(shares[:2])
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: shares must hold at least the threshold of 3, got 2
    """
    _require_secret(secret)
    threshold, num_shares = as_whole("threshold", threshold), as_whole("num_shares", num_shares)
    if not 2 <= threshold <= num_shares <= MAX_SHARES:
        raise InvalidParameterError(
            f"need 2 <= threshold <= num_shares <= {MAX_SHARES}, got threshold "
            f"{shown(threshold)} and num_shares {shown(num_shares)}"
        )
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    salts = secrets.token_bytes(SALT_BYTES * num_shares)
    return split_with(secret, coefficients, salts)


def split_with(secret: bytes, coefficients: Sequence[int], salts: bytes) -> list[Share]:
    """Deal with the randomness as arguments: the deterministic core that tests aim at.

    Args:
        secret: 32 bytes.
        coefficients: Of x, x^2, ...: uniform modulo ``PRIME`` and secret; threshold - 1 of them.
        salts: 32 bytes for each share.

    Raises:
        InvalidParameterError: If a coefficient is no number modulo ``PRIME``, or the salts are
            not whole ones for 1 to 65535 shares.

    Example:
        >>> [share.value for share in split_with(bytes(31) + b"*", [10, 1], bytes(96))]
        [53, 66, 81]
    """
    _require_secret(secret)
    coefficients = _whole_numbers("coefficients", coefficients, 0, PRIME - 1)
    num_shares, rest = divmod(len(as_kind("salts", salts, bytes)), SALT_BYTES)
    if rest or not 1 <= num_shares <= MAX_SHARES:
        raise InvalidParameterError(
            f"salts must be {SALT_BYTES} bytes for each of 1 to {MAX_SHARES} shares, got "
            f"{len(salts)} bytes"
        )
    polynomial = [*reversed(coefficients), int.from_bytes(secret, "big")]
    shares = []
    for number in range(1, num_shares + 1):
        value = 0
        for coefficient in polynomial:  # Horner's rule
            value = value * number + coefficient
            if value > _LARGE:  # a remainder costs more than a product with a small number
                value %= PRIME
        value %= PRIME
        salt = salts[(number - 1) * SALT_BYTES : number * SALT_BYTES]
        shares.append(Share(number, len(polynomial), value, salt))
    return shares


def combine(shares: Sequence[Share]) -> bytes:
    """Recover the secret from the threshold of shares; more than that are checked against it.

    Raises:
        InvalidParameterError: If there are too few, one number comes twice, or they do
            not belong to one secret. Exactly as many as the threshold can hide that one
            was altered: check each with :func:`require_committed` first.

    Example:
        >>> mine, yours = (split(bytes(32), 2, 2) for _ in range(2))
        >>> combine([mine[0], yours[1]])
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: shares 1, 2 do not belong to one secret: they give
        a number beyond 2**256
    """
    shares = list(shares) if isinstance(shares, Iterable) else [shares]
    if not shares:
        raise InvalidParameterError("shares must hold at least one share, got none")
    for share in shares:
        if not isinstance(share, Share):
            raise InvalidParameterError(f"shares must be Shares, got a {type(share).__name__}")
    threshold, numbers = shares[0].threshold, tuple(share.number for share in shares)
    if any(share.threshold != threshold for share in shares):
        thresholds = sorted({share.threshold for share in shares})
        raise InvalidParameterError(
            f"shares of different dealings: their thresholds are {thresholds}"
        )
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise InvalidParameterError(f"shares must differ, got number {twice} more than once")
    if len(shares) < threshold:
        raise InvalidParameterError(
            f"shares must hold at least the threshold of {threshold}, got {len(shares)}"
        )
    used, more = shares[:threshold], shares[threshold:]
    secret = _value_at(0, used)
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise InvalidParameterError(
            f"shares {', '.join(map(str, numbers))} do not belong to one secret: they give a "
            "number beyond 2**256"
        )
    for share in more:
        if _value_at(share.number, used) != share.value:
            raise InvalidParameterError(
                f"share {share.number} does not belong to the secret of shares "
                f"{', '.join(map(str, numbers[:threshold]))}"
            )
    return secret.to_bytes(SECRET_BYTES, "big")


def interpolation_weights(numbers: Sequence[int], at: int = 0) -> tuple[int, ...]:
    """Weights that turn the values at these numbers into the value at another (Lagrange).

    They depend on who is there, not on what they hold: every secret that the
    same survivors recover has the same weights, so they are kept.

    Raises:
        InvalidParameterError: If a number is not from 0 to 65535, or comes twice.

    Example:
        >>> weights = interpolation_weights((1, 2, 3))
        >>> [weight if weight < PRIME // 2 else weight - PRIME for weight in weights]
        [3, -3, 1]
    """
    numbers = _whole_numbers("numbers", numbers, 0, MAX_SHARES)
    if len(set(numbers)) < len(numbers):
        raise InvalidParameterError("numbers must differ: two points at one place fix no line")
    return _weights(numbers, as_whole("at", at, least=0, most=MAX_SHARES))


@lru_cache(maxsize=256)
def _weights(numbers: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The same, of checked numbers."""
    weights = []
    for mine in numbers:
        numerator = denominator = 1
        for other in numbers:
            if other != mine:
                numerator = numerator * (at - other) % PRIME
                denominator = denominator * (mine - other) % PRIME
        weights.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(weights)


interpolation_weights.cache_info = _weights.cache_info
interpolation_weights.cache_clear = _weights.cache_clear


def least_overlap(threshold: int, num_shares: int) -> int:
    """How many holders any two groups of ``threshold`` have in common, at least: 2 t - n.

    It decides what a liar can do who tells two groups different things. A holder who answers
    once is in one group only, so all that are in both must be on the liar's side.

    Example:
        >>> least_overlap(4, 5), least_overlap(21, 31), least_overlap(2, 5)
        (3, 11, 0)
    """
    return max(0, 2 * threshold - num_shares)


def least_threshold(num_shares: int, *, active_server: bool) -> int:
    """The least threshold with which no two groups of honest holders reveal different things.

    Above half, or above two thirds where the server may lie and a third of the holders with it.

    Example:
        >>> least_threshold(9, active_server=False), least_threshold(9, active_server=True)
        (5, 7)
    """
    return 2 * num_shares // 3 + 1 if active_server else num_shares // 2 + 1


def _value_at(at: int, shares: Sequence[Share]) -> int:
    weights = _weights(tuple(share.number for share in shares), at)
    return sum(weight * share.value for weight, share in zip(weights, shares, strict=True)) % PRIME


def require_committed(share: Share, commitment: bytes, whose: str = "the share") -> None:
    """Refuse a share that is not the one its dealer committed to.

    Raises:
        AuthenticationError: If a bit, the number or the dealing differs; the text names
            ``whose`` it is, and nothing of the share.

    Example:
        >>> share, other = split(bytes(32), 2, 2)
        >>> require_committed(share, share.commitment)
        >>> require_committed(other, share.commitment, whose="client 2's share of client 0's key")
        Traceback (most recent call last):
        fltutor.errors.AuthenticationError: client 2's share of client 0's key is not the one that
        was dealt: its salted hash differs from the commitment
    """
    if not isinstance(share, Share):
        raise AuthenticationError(f"{whose} is no Share, but a {type(share).__name__}")
    if not isinstance(commitment, bytes) or not secrets.compare_digest(
        share.commitment, commitment
    ):
        raise AuthenticationError(
            f"{whose} is not the one that was dealt: its salted hash differs from the commitment"
        )


def _whole_numbers(name: str, values: Iterable[int], least: int, most: int) -> tuple[int, ...]:
    if not isinstance(values, Iterable):
        raise InvalidParameterError(f"{name} must be a list of numbers, got {shown(values)}")
    values = tuple(values)
    for place, value in enumerate(values):
        if not is_whole(value) or not least <= value <= most:  # it may be secret: not shown
            raise InvalidParameterError(f"{name}[{place}] must be a whole number in range")
    return tuple(map(int, values))


def _require_secret(secret: bytes) -> None:
    if not isinstance(secret, bytes):
        raise InvalidParameterError(f"secret must be bytes, got {type(secret).__name__}")
    if len(secret) != SECRET_BYTES:
        raise InvalidParameterError(f"secret must be {SECRET_BYTES} bytes, got {len(secret)}")
