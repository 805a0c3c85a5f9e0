"""The messages of secure aggregation, one class each, and their size on the wire.

A client's number takes 4 bytes; keys and hashes 32; a signature 64.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fltutor.crypto.shamir import SHARE_BYTES, Share

_NUMBER, _KEY, _HASH, _SIGNATURE = 4, 32, 32, 64


@dataclass(frozen=True)
class KeyAdvert:
    """Round 1, client to server: two fresh public keys, signed where the server may lie."""

    client: int
    transport_key: bytes
    mask_key: bytes
    signature: bytes | None = None

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + 2 * _KEY + (_SIGNATURE if self.signature else 0)


@dataclass(frozen=True)
class KeyList:
    """Round 1, server to all: the keys of everybody who is there."""

    adverts: tuple[KeyAdvert, ...]

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return sum(advert.num_bytes for advert in self.adverts)

    @property
    def digest(self) -> bytes:
        """A hash that two lists share only if they are the same."""
        digest = hashlib.sha256(b"fltutor key list 1")
        for advert in self.adverts:
            digest.update(struct.pack("<I", advert.client) + advert.transport_key + advert.mask_key)
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

    @property
    def num_bytes(self) -> int:
        """Size on the wire, with the number of the other client."""
        return _NUMBER + len(self.sealed) + 2 * _HASH


@dataclass(frozen=True)
class DealtShares:
    """Round 2, client to server: shares for every holder; ``sealed`` is empty in its own."""

    client: int
    pairs: Mapping[int, SealedPair]

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + sum(pair.num_bytes for pair in self.pairs.values())


@dataclass(frozen=True)
class Delivery:
    """Round 2, server to client: the pairs that others dealt to it, by dealer."""

    client: int
    pairs: Mapping[int, SealedPair]

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return sum(pair.num_bytes for pair in self.pairs.values())


@dataclass(frozen=True)
class Upload:
    """Round 3, client to server: a masked row."""

    client: int
    values: np.ndarray = field(repr=False)

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + self.values.nbytes


@dataclass(frozen=True)
class Survivors:
    """Round 4, server to all: whose upload arrived."""

    clients: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER * len(self.clients)


@dataclass(frozen=True)
class SurvivorSignature:
    """Round 4, client to server: this is the list that I was told."""

    client: int
    signature: bytes

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

    @property
    def num_bytes(self) -> int:
        """Size on the wire."""
        return _NUMBER + (_NUMBER + SHARE_BYTES) * (len(self.seed_shares) + len(self.key_shares))
