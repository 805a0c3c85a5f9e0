"""The messages of secure aggregation, one class each, and their size on the wire.

A client's number takes 4 bytes; keys and hashes 32; a signature 64. Whoever receives a
message looks for a flaw in it first, see :func:`find_flaw`: nothing is noted of one that has any.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fltutor.border import is_whole
from fltutor.crypto.aead import NONCE_BYTES, TAG_BYTES
from fltutor.crypto.keys import Party
from fltutor.crypto.shamir import SHARE_BYTES, Share
from fltutor.errors import InvalidParameterError
from fltutor.transcript import client_name

_NUMBER, _KEY, _HASH, _SIGNATURE = 4, 32, 32, 64
_SEALED = NONCE_BYTES + 2 * SHARE_BYTES + TAG_BYTES


def find_flaw(message: Any, kind: type) -> str | None:
    """What is malformed in a message, in words: a type, a length; None if nothing is.

    Example:
        >>> find_flaw(Survivors(("zero", 1)), Survivors)
        'each of clients must be a whole number, got str'
        >>> find_flaw(None, Survivors)
        'it must be a Survivors, got NoneType'
        >>> find_flaw(Survivors((0, 1)), Survivors)
    """
    if type(message) is not kind:
        return f"it must be a {kind.__name__}, got {type(message).__name__}"
    return next((flaw for flaw in message.flaws() if flaw), None)


def sender(message: Any) -> str:
    """How to call whoever sent a message that may be malformed."""
    client = getattr(message, "client", None)
    return "somebody" if _number("client", client) else client_name(client)


def _number(name: str, value: Any) -> str | None:
    if not is_whole(value):
        return f"{name} must be a whole number, got {type(value).__name__}"
    if abs(int(value)) >= 2 ** (8 * _NUMBER):  # too long for the wire, or even to be written
        return f"{name} must be a whole number of {_NUMBER} bytes, got a longer one"
    return None


def _numbers(name: str, value: Any) -> str | None:
    if type(value) is not tuple:
        return f"{name} must be a tuple of numbers, got {type(value).__name__}"
    return next((flaw for each in value if (flaw := _number(f"each of {name}", each))), None)


def _octets(name: str, value: Any, length: int | None = None) -> str | None:
    if type(value) is not bytes:
        return f"{name} must be bytes, got {type(value).__name__}"
    if length is not None and len(value) != length:
        return f"{name} must be {length} bytes, got {len(value)}"
    return None


def _mapping(name: str, value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{name} must be a mapping, got {type(value).__name__}"
    return _numbers(f"the clients in {name}", tuple(value))


@dataclass(frozen=True)
class KeyAdvert:
    """Round 1, client to server: two fresh public keys, signed where the server may lie.

    Attributes:
        client: Whose keys.
        transport_key: For the shares that others send to it.
        mask_key: For the masks that it shares with others.
        session: The digest of the session that the client was handed.
        signature: Of all of this, by the client's identity.
    """

    client: int
    transport_key: bytes
    mask_key: bytes
    session: bytes
    signature: bytes | None = None

    def flaws(self) -> Iterator[str | None]:
        """Types and lengths that are wrong."""
        yield _number("client", self.client)
        yield _octets("transport_key", self.transport_key, _KEY)
        yield _octets("mask_key", self.mask_key, _KEY)
        yield _octets("session", self.session, _HASH)
        if self.signature is not None:
            yield _octets("signature", self.signature)

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + 2 * _KEY + _HASH + (_SIGNATURE if self.signature else 0)

    @cached_property
    def transport_party(self) -> Party:
        """Name and key, as labels of transport keys need them."""
        return Party(client_name(self.client), self.transport_key)

    @cached_property
    def mask_party(self) -> Party:
        """Name and key, as labels of masks need them."""
        return Party(client_name(self.client), self.mask_key)


@dataclass(frozen=True)
class KeyList:
    """Round 1, server to all: the keys of everybody who is there."""

    adverts: tuple[KeyAdvert, ...]

    def flaws(self) -> Iterator[str | None]:
        """Types and lengths that are wrong."""
        if type(self.adverts) is not tuple:
            yield f"adverts must be a tuple, got {type(self.adverts).__name__}"
        for advert in self.adverts:
            if flaw := find_flaw(advert, KeyAdvert):
                yield f"a key of {sender(advert)} cannot be: {flaw}"

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return sum(advert.num_bytes for advert in self.adverts)

    @property
    def digest(self) -> bytes:
        """A hash that two lists share only if they are the same.

        Raises:
            InvalidParameterError: If a number is not one of 4 bytes.
        """
        digest = hashlib.sha256(b"fltutor key list 1")
        for advert in self.adverts:
            try:
                number = struct.pack("<I", advert.client)
            except struct.error:
                flaw = _number("client", advert.client) or "client must be 0 or more"
                raise InvalidParameterError(f"a key list cannot be: {flaw}") from None
            digest.update(number + advert.transport_key + advert.mask_key)
        return digest.digest()


@dataclass(frozen=True)
class SealedPair:
    """For one holder: its shares of a dealer's mask key and seed, sealed, and commitments to both.

    Attributes:
        sealed: Nonce, ciphertext and tag; the server cannot read it.
        key_commitment: Salted hash of the share of the mask key.
        seed_commitment: Salted hash of the share of the self-mask's seed.
    """

    sealed: bytes
    key_commitment: bytes
    seed_commitment: bytes

    def flaws(self) -> Iterator[str | None]:
        """Types and lengths that are wrong."""
        yield _octets("sealed", self.sealed)
        yield _octets("key_commitment", self.key_commitment, _HASH)
        yield _octets("seed_commitment", self.seed_commitment, _HASH)

    @property
    def num_bytes(self) -> int:
        """Size on the wire, with the number of the other client."""
        return _NUMBER + len(self.sealed) + 2 * _HASH


@dataclass(frozen=True)
class DealtShares:
    """Round 2, client to server: shares for every holder; ``sealed`` is empty in its own."""

    client: int
    pairs: Mapping[int, SealedPair]

    def flaws(self) -> Iterator[str | None]:
        """Types and lengths that are wrong."""
        yield _number("client", self.client)
        yield _mapping("pairs", self.pairs)
        for holder, pair in self.pairs.items():
            if flaw := find_flaw(pair, SealedPair):
                yield f"the pair for client {holder} cannot be: {flaw}"
            yield _octets("sealed", pair.sealed, 0 if holder == self.client else _SEALED)

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + sum(pair.num_bytes for pair in self.pairs.values())


@dataclass(frozen=True)
class Delivery:
    """Round 2, server to client: the pairs that others dealt to it, by dealer."""

    client: int
    pairs: Mapping[int, SealedPair]

    def flaws(self) -> Iterator[str | None]:
        """Types that are wrong; what is wrong within a pair is found when it is opened."""
        yield _number("client", self.client)
        yield _mapping("pairs", self.pairs)

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return sum(pair.num_bytes for pair in self.pairs.values())


@dataclass(frozen=True, eq=False)
class Upload:
    """Round 3, client to server: a masked row."""

    client: int
    values: np.ndarray = field(repr=False)

    def flaws(self) -> Iterator[str | None]:
        """Types that are wrong."""
        yield _number("client", self.client)
        if not isinstance(self.values, np.ndarray) or isinstance(self.values, np.ma.MaskedArray):
            yield f"values must be an array, got {type(self.values).__name__}"

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + self.values.nbytes


@dataclass(frozen=True)
class Survivors:
    """Round 4, server to all: whose upload arrived."""

    clients: tuple[int, ...]

    def flaws(self) -> Iterator[str | None]:
        """Types that are wrong."""
        yield _numbers("clients", self.clients)

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER * len(self.clients)


@dataclass(frozen=True)
class SurvivorSignature:
    """Round 4, client to server: this is the list that I was told."""

    client: int
    signature: bytes

    def flaws(self) -> Iterator[str | None]:
        """Types and lengths that are wrong."""
        yield _number("client", self.client)
        yield _octets("signature", self.signature, _SIGNATURE)

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + len(self.signature)


@dataclass(frozen=True)
class UnmaskRequest:
    """Round 5, server to client: of whom to reveal which share.

    Attributes:
        survived: Their upload arrived: reveal the share of the self-mask's seed.
        dropped: They left before it: reveal the share of the mask key.
        signatures: That others were told the same survivors, where the server may lie.
    """

    survived: tuple[int, ...]
    dropped: tuple[int, ...]
    signatures: tuple[SurvivorSignature, ...] = ()

    def flaws(self) -> Iterator[str | None]:
        """Types that are wrong; a signature that is none is not counted, and is no flaw."""
        yield _numbers("survived", self.survived)
        yield _numbers("dropped", self.dropped)
        if type(self.signatures) is not tuple:
            yield f"signatures must be a tuple, got {type(self.signatures).__name__}"

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        lists = _NUMBER * (len(self.survived) + len(self.dropped))
        return lists + sum(signature.num_bytes for signature in self.signatures)


@dataclass(frozen=True)
class Reveal:
    """Round 5, client to server: one share of each client's seed or mask key, by client."""

    client: int
    seed_shares: Mapping[int, Share] = field(repr=False)
    key_shares: Mapping[int, Share] = field(repr=False)

    def flaws(self) -> Iterator[str | None]:
        """Types that are wrong."""
        yield _number("client", self.client)
        for name, shares in (("seed_shares", self.seed_shares), ("key_shares", self.key_shares)):
            yield _mapping(name, shares)
            for dealer, share in shares.items():
                if type(share) is not Share:
                    got = type(share).__name__
                    yield f"the share of client {dealer} must be a Share, got {got}"

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + (_NUMBER + SHARE_BYTES) * (len(self.seed_shares) + len(self.key_shares))
