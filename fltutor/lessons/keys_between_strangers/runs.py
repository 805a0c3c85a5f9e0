"""Notebook 02: clients agree on keys through a server that carries, or swaps, what they send."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np

from fltutor.crypto.aead import EncryptedTensor, Key, decrypt_tensor, encrypt_tensor
from fltutor.crypto.keys import Directory, Identity, KeyPair, Label, Party, agree, derive
from fltutor.errors import AuthenticationError

ROUND = 3
PURPOSE = "announce key"


@dataclass(frozen=True)
class Announcement:
    """A public key on its way: whose it claims to be, and a signature, empty if unsigned."""

    name: str
    key: bytes
    round_number: int = ROUND
    signature: bytes = b""

    @property
    def message(self) -> dict[str, int | bytes]:
        """What the signature covers, beside the signer's name."""
        return {"round": self.round_number, "key": self.key}


class Client:
    """A client: it holds a fresh key pair, and after :meth:`meet` one key for each peer.

    Args:
        identity: Who it is.
        directory: Whose signatures to believe; None believes every announcement.
    """

    def __init__(self, identity: Identity, directory: Directory | None):
        self.name = identity.name
        self._identity, self._directory = identity, directory
        self._pair, self._keys, self._met = KeyPair.generate(), {}, {}

    def announce(self) -> Announcement:
        """Say what my public key is."""
        announcement = Announcement(self.name, self._pair.public_key)
        if self._directory is None:
            return announcement
        signature = self._identity.sign(announcement.message, purpose=PURPOSE)
        return replace(announcement, signature=signature)

    def meet(self, announcement: Announcement) -> None:
        """Verify who announces this key, then agree on a key for both of us.

        Raises:
            AuthenticationError: If signatures count and this one does not fit, or the key
                came under another name before.
        """
        if self._directory is not None:
            peer = self._directory.find(announcement.name)
            peer.verify(announcement.signature, announcement.message, purpose=PURPOSE)
        if self._met.setdefault(announcement.key, announcement.name) != announcement.name:
            raise AuthenticationError(f"{announcement.name!r} announces the key of another client")
        self._keys[announcement.name] = pair_key(
            self._pair, self.name, announcement.name, announcement.key
        )

    def knows(self, peer: str) -> bool:
        """Whether we agreed on a key."""
        return peer in self._keys

    def fingerprint(self, peer: str) -> int:
        """A hash of the key for this peer, which two people may compare aloud."""
        return fingerprint(self._keys[peer])

    def seal(self, update: np.ndarray, peer: str) -> bytes:
        """Encrypt something for a peer."""
        key = Key.from_bytes(self._keys[peer])
        return encrypt_tensor(update, key, {"from": self.name, "to": peer}).to_bytes()

    def open(self, message: bytes, peer: str) -> np.ndarray:
        """Decrypt what a peer sealed for me."""
        key = Key.from_bytes(self._keys[peer])
        return decrypt_tensor(
            EncryptedTensor.from_bytes(message), key, {"from": peer, "to": self.name}
        )


class Server:
    """It carries announcements and messages, as it should."""

    def announce(self, announcement: Announcement, receiver: str) -> Announcement:
        """Pass a public key on."""
        return announcement

    def carry(self, message: bytes, sender: str, receiver: str) -> bytes:
        """Pass a message on; it has no key to read it."""
        return message

    def overheard(self, sender: str, receiver: str) -> np.ndarray | None:
        """What it read of this message."""
        return None


class SwappingServer(Server):
    """It sits in the middle of every pair that has a victim: to client A it is B, to B it is A.

    It takes a fresh key pair for each end, since a client that sees one key under two
    names would notice.
    """

    def __init__(self, victims: Iterable[str]):
        self._victims = frozenset(victims)
        self._announced: dict[str, bytes] = {}
        self._fakes: dict[tuple[str, str], KeyPair] = {}
        self._read: dict[tuple[str, str], np.ndarray] = {}

    def announce(self, announcement: Announcement, receiver: str) -> Announcement:
        """Pass on a key of my own under the client's name; only a signature I cannot make."""
        if self._victims.isdisjoint((announcement.name, receiver)):
            return announcement
        self._announced[announcement.name] = announcement.key
        fake = self._fakes[announcement.name, receiver] = KeyPair.generate()
        return replace(announcement, key=fake.public_key)

    def carry(self, message: bytes, sender: str, receiver: str) -> bytes:
        """Open a message as its receiver, keep it, and seal it again as its sender."""
        if self._victims.isdisjoint((sender, receiver)):
            return message
        opened_with = self._key(pretend=receiver, to=sender)
        sealed_with = self._key(pretend=sender, to=receiver)
        context = {"from": sender, "to": receiver}
        update = decrypt_tensor(
            EncryptedTensor.from_bytes(message), Key.from_bytes(opened_with), context
        )
        self._read[sender, receiver] = update
        return encrypt_tensor(update, Key.from_bytes(sealed_with), context).to_bytes()

    def overheard(self, sender: str, receiver: str) -> np.ndarray | None:
        """What it read of this message."""
        return self._read.get((sender, receiver))

    def _key(self, *, pretend: str, to: str) -> bytes:
        return pair_key(self._fakes[pretend, to], pretend, to, self._announced[to])


def pair_key(mine: KeyPair, my_name: str, peer: str, peer_key: bytes) -> bytes:
    """The 32-byte key that two names agree on, equal at both ends."""
    label = Label.between(
        "pair key", Party(my_name, mine.public_key), Party(peer, peer_key), round_number=ROUND
    )
    return derive(agree(mine, peer_key), label)


def fingerprint(key: bytes) -> int:
    """A hash of a key in 60 bits: it shows whether two keys are equal, and not the key."""
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 4


@dataclass(frozen=True)
class Exchange:
    """What became of the keys and messages of all pairs of clients.

    Attributes:
        num_clients: How many clients, n.
        num_victims: To and from how many of them, the first ones, the server swapped keys.
        signed: Whether clients signed their keys and verified those of others.
        fingerprints: Of the key that the row's client holds for the column's, shape
            (n, n); -1 where it holds none.
        delivered: True where the column's client read the row's message, shape (n, n).
        overheard: What the server read, by (sender, receiver).
        refusals: What clients said when they refused a key.
    """

    num_clients: int
    num_victims: int
    signed: bool
    fingerprints: np.ndarray
    delivered: np.ndarray
    overheard: dict[tuple[int, int], np.ndarray] = field(repr=False)
    refusals: tuple[str, ...] = field(repr=False)

    @property
    def num_messages(self) -> int:
        """How many messages the clients would like to send: one for each ordered pair."""
        return self.num_clients * (self.num_clients - 1)


def exchange_keys(
    num_clients: int = 10,
    num_victims: int = 0,
    signed: bool = False,
    *,
    updates: Sequence[np.ndarray] | None = None,
) -> Exchange:
    """Let every pair of clients agree on a key through a server, then send each other a message.

    Args:
        num_clients: How many clients.
        num_victims: To and from how many of them, the first ones, the server swaps the
            public keys that it carries; more than there are means all.
        signed: Whether clients sign their keys. Their identities are in a directory
            that the server did not touch.
        updates: What each client sends to all others; by default ten numbers of its own.

    Example:
        >>> attack = exchange_keys(4, num_victims=4)
        >>> len(attack.overheard), int(attack.delivered.sum()), len(attack.refusals)
        (12, 12, 0)
        >>> stopped = exchange_keys(4, num_victims=4, signed=True)
        >>> len(stopped.overheard), int(stopped.delivered.sum()), len(stopped.refusals)
        (0, 0, 12)
    """
    if updates is None:
        updates = np.random.default_rng(2).normal(size=(num_clients, 10))
    identities = [Identity.generate(f"client {number}") for number in range(num_clients)]
    directory = Directory(identity.public for identity in identities) if signed else None
    clients = [Client(identity, directory) for identity in identities]
    victims = [client.name for client in clients[:num_victims]]
    server = SwappingServer(victims) if victims else Server()
    pairs = list(permutations(range(num_clients), 2))

    announcements = [client.announce() for client in clients]
    refusals = []
    for sender, receiver in pairs:
        announcement = server.announce(announcements[sender], clients[receiver].name)
        try:
            clients[receiver].meet(announcement)
        except AuthenticationError as error:
            refusals.append(str(error))

    fingerprints = np.full((num_clients, num_clients), -1)
    delivered = np.zeros((num_clients, num_clients), bool)
    overheard = {}
    for sender, receiver in pairs:
        one, other = clients[sender], clients[receiver]
        if not one.knows(other.name):
            continue
        fingerprints[sender, receiver] = one.fingerprint(other.name)
        message = server.carry(one.seal(updates[sender], other.name), one.name, other.name)
        opened = other.open(message, one.name)
        delivered[sender, receiver] = np.array_equal(opened, updates[sender])
        if (read := server.overheard(one.name, other.name)) is not None:
            overheard[sender, receiver] = read
    return Exchange(
        num_clients, len(victims), signed, fingerprints, delivered, overheard, tuple(refusals)
    )
