"""Clients agree on keys through a server that carries, or swaps, what they send.

Clients reach each other only through a server. It carries their public keys, from which every
pair derives a key of its own, and then what they seal with these keys::

    client A             server that carries           client B
    A's public key  ─►   A's public key           ─►   derives a key with A

    client A             server that swaps             client B
    A's public key  ─►   its own, in A's name     ─►   derives a key with the server

A server that swaps both ways shares one key with each end. It opens what A sends, reads it
and seals it again for B: no cipher is broken, and nobody notices. Signatures stop it: in
announcements that are signed, and verified against a :class:`~fltutor.crypto.keys.Directory`
that the server did not touch, it cannot put a key of its own.

A demonstration in one process, for teaching. It protects content, sender and receiver of a
message; not its number, so that the server may deliver it twice or not at all. For a
conversation use :mod:`fltutor.crypto.channel`.

References:
    Diffie, van Oorschot and Wiener 1992, section 5: sign the exchange, and nobody sits in the
    middle. Bonawitz et al., CCS 2017: the same for the keys of secure aggregation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np

from fltutor.border import as_array, as_flag, as_kind, as_whole
from fltutor.crypto import wire
from fltutor.crypto.aead import EncryptedTensor, Key, decrypt_tensor, encrypt_tensor
from fltutor.crypto.keys import (
    Directory,
    Identity,
    KeyPair,
    Label,
    Party,
    agree,
    derive,
    require_many,
    require_name,
    require_public_key,
)
from fltutor.errors import AuthenticationError, InvalidParameterError

PURPOSE = "announce key"
"""What the signature of an announcement is for."""

MAX_ROUND = 2**63 - 1


@dataclass(frozen=True)
class Announcement:
    """A public key on its way: whose it claims to be, and a signature, empty if unsigned.

    Attributes:
        name: Whose key this is, as whoever sends it says.
        key: An X25519 public key, 32 bytes.
        round_number: The round that the key is for.
        signature: Of :attr:`message`, for the purpose :data:`PURPOSE`; 64 bytes or none.

    Raises:
        InvalidParameterError: If it could be nobody's: no name, no
            canonical key of 32 bytes, no whole number from 0 to 2^63 - 1.
    """

    name: str
    key: bytes
    round_number: int = 0
    signature: bytes = b""

    def __post_init__(self):
        require_name(self.name)
        key = require_public_key(self.key, f"the public key of {self.name!r}")
        object.__setattr__(self, "key", key)
        as_whole("round_number", self.round_number, least=0, most=MAX_ROUND)
        if not isinstance(self.signature, bytes):
            raise InvalidParameterError(
                f"the signature of {self.name!r} must be bytes, got {type(self.signature).__name__}"
            )

    @property
    def message(self) -> dict[str, int | bytes]:
        """What the signature covers, beside the signer's name."""
        return {"round": self.round_number, "key": self.key}


class Client:
    """A client: it holds a fresh key pair, and after :meth:`meet` one key for each peer.

    Args:
        identity: Who it is.
        directory: Whose signatures to believe; None believes every announcement and
            signs none.
        round_number: The round that its keys are for.

    Example:
        >>> one, two = Identity.generate("one"), Identity.generate("two")
        >>> directory = Directory([one.public, two.public])
        >>> one, two = Client(one, directory), Client(two, directory)
        >>> one.meet(two.announce())
        >>> two.meet(one.announce())
        >>> two.open(one.seal(np.array([1.0, 2.0]), "two"), "one")
        array([1., 2.])
        >>> two.meet(replace(one.announce(), key=KeyPair.generate().public_key))
        Traceback (most recent call last):
        fltutor.errors.AuthenticationError: signature refused: 'one' did not sign this message as
        'announce key'
    """

    def __init__(self, identity: Identity, directory: Directory | None, *, round_number: int = 0):
        as_kind("identity", identity, Identity)
        if directory is not None:
            as_kind("directory", directory, Directory)
        self.name = identity.name
        self._identity, self._directory, self._pair = identity, directory, KeyPair.generate()
        self._announcement = Announcement(self.name, self._pair.public_key, round_number)
        self._keys: dict[str, Key] = {}
        self._fingerprints: dict[str, int] = {}
        self._met: dict[bytes, str] = {}

    def announce(self) -> Announcement:
        """Say what my public key is; sign it if signatures count."""
        if self._directory is None:
            return self._announcement
        signature = self._identity.sign(self._announcement.message, purpose=PURPOSE)
        return replace(self._announcement, signature=signature)

    def meet(self, announcement: Announcement) -> None:
        """Verify who announces this key, then agree on a key for both of us.

        Raises:
            AuthenticationError: If signatures count and this one does not fit, the key is
                for another round, came under another name before, or is worthless. A refused
                announcement changes nothing: the right one may still come.
            InvalidParameterError: If it is no announcement at all.
        """
        as_kind("announcement", announcement, Announcement)
        name, key = announcement.name, announcement.key
        if self._directory is not None:
            peer = self._directory.find(name)
            peer.verify(announcement.signature, announcement.message, purpose=PURPOSE)
        if announcement.round_number != self._announcement.round_number:
            raise AuthenticationError(
                f"{name!r} announces a key of round {announcement.round_number}, "
                f"needed round {self._announcement.round_number}"
            )
        if self._met.get(key, name) != name:
            raise AuthenticationError(f"{name!r} announces the key of another client")
        try:
            shared = pair_key(self._pair, self.name, announcement)
        except InvalidParameterError as error:
            raise AuthenticationError(f"the key of {name!r} is refused: {error}") from None
        self._met[key] = name
        self._keys[name], self._fingerprints[name] = Key.from_bytes(shared), fingerprint(shared)

    def knows(self, peer: str) -> bool:
        """Whether we agreed on a key."""
        return isinstance(peer, str) and peer in self._keys

    def fingerprint(self, peer: str) -> int:
        """The :func:`fingerprint` of the key for this peer, which two people may compare aloud."""
        self._key(peer)
        return self._fingerprints[peer]

    def seal(self, update: np.ndarray, peer: str) -> bytes:
        """Encrypt a tensor for a peer.

        Raises:
            InvalidParameterError: If we agreed on no key, or the tensor is not supported.
        """
        context = {"from": self.name, "to": peer}
        return encrypt_tensor(update, self._key(peer), context).to_bytes()

    def open(self, message: bytes, peer: str) -> np.ndarray:
        """Decrypt what a peer sealed for me.

        Raises:
            AuthenticationError: If the message was altered, or is not from this peer to me.
            InvalidParameterError: If we agreed on no key.
            WireFormatError: If it is no encrypted tensor at all.
        """
        context = {"from": peer, "to": self.name}
        return decrypt_tensor(EncryptedTensor.from_bytes(message), self._key(peer), context)

    def _key(self, peer: str) -> Key:
        if require_name(peer) not in self._keys:
            raise InvalidParameterError(f"{self.name!r} has agreed on no key with {peer!r}")
        return self._keys[peer]


class Server:
    """It carries announcements and messages, as it should."""

    def announce(self, announcement: Announcement, receiver: str) -> Announcement:
        """Pass a public key on."""
        return announcement

    def carry(self, message: bytes, sender: str, receiver: str) -> bytes:
        """Pass a message on; it has no key to read it."""
        return message

    def overheard(self, sender: str, receiver: str) -> np.ndarray | None:
        """What it read of the last message from one to the other; None if nothing."""
        return None


class SwappingServer(Server):
    """It sits in the middle of every pair that has a victim: to client A it is B, to B it is A.

    It takes a fresh key pair for each end, since a client that sees one key under two
    names would notice.

    Args:
        victims: Their names.

    Example:
        >>> one, two = (Client(Identity.generate(name), None) for name in ("one", "two"))
        >>> server = SwappingServer(["one"])
        >>> one.meet(server.announce(two.announce(), "one"))
        >>> two.meet(server.announce(one.announce(), "two"))
        >>> message = server.carry(one.seal(np.array([1.0, 2.0]), "two"), "one", "two")
        >>> two.open(message, "one"), server.overheard("one", "two")
        (array([1., 2.]), array([1., 2.]))
    """

    def __init__(self, victims: Iterable[str]):
        if isinstance(victims, str):
            raise InvalidParameterError(f"victims must be a list of names, got one: {victims!r}")
        self._victims = frozenset(map(require_name, require_many(victims, "victims")))
        self._announced: dict[str, Announcement] = {}
        self._fakes: dict[tuple[str, str], KeyPair] = {}
        self._read: dict[tuple[str, str], np.ndarray] = {}

    def announce(self, announcement: Announcement, receiver: str) -> Announcement:
        """Pass on a key of my own under the client's name; only a signature I cannot make."""
        as_kind("announcement", announcement, Announcement)
        require_name(receiver)
        if self._victims.isdisjoint((announcement.name, receiver)):
            return announcement
        self._announced[announcement.name] = announcement
        fake = self._fakes[announcement.name, receiver] = KeyPair.generate()
        return replace(announcement, key=fake.public_key)

    def carry(self, message: bytes, sender: str, receiver: str) -> bytes:
        """Open a message as its receiver, keep it, and seal it again as its sender.

        A message between clients whose keys I did not swap, both of them, is passed on.

        Raises:
            AuthenticationError: If the sender did not seal it with the key that I gave it.
            WireFormatError: If it is no encrypted tensor at all.
        """
        require_name(sender), require_name(receiver)
        if not {(sender, receiver), (receiver, sender)} <= self._fakes.keys():
            return message
        context = {"from": sender, "to": receiver}
        opened_with = self._key(pretend=receiver, to=sender)
        sealed_with = self._key(pretend=sender, to=receiver)
        update = decrypt_tensor(EncryptedTensor.from_bytes(message), opened_with, context)
        self._read[sender, receiver] = update
        return encrypt_tensor(update, sealed_with, context).to_bytes()

    def overheard(self, sender: str, receiver: str) -> np.ndarray | None:
        """What it read of the last message from one to the other; None if nothing."""
        return self._read.get((sender, receiver))

    def _key(self, *, pretend: str, to: str) -> Key:
        return Key.from_bytes(pair_key(self._fakes[pretend, to], pretend, self._announced[to]))


def pair_key(mine: KeyPair, my_name: str, peer: Announcement) -> bytes:
    """Derive the 32-byte key of two names in one round, equal at both ends.

    It believes the announcement: verify it first.

    Raises:
        InvalidParameterError: If the peer's name or key is my own, or the key is worthless.

    Example:
        >>> one, two = KeyPair.generate(), KeyPair.generate()
        >>> at_one = pair_key(one, "one", Announcement("two", two.public_key))
        >>> at_one == pair_key(two, "two", Announcement("one", one.public_key))
        True
    """
    secret = agree(mine, as_kind("peer", peer, Announcement).key)
    me, other = Party(my_name, mine.public_key), Party(peer.name, peer.key)
    return derive(secret, Label.between("pair key", me, other, round_number=peer.round_number))


def fingerprint(key: bytes) -> int:
    """Hash a key to 60 bits: they show whether two keys are equal, and not the key.

    Example:
        >>> f"{fingerprint(bytes(32)):015x}"  # sha256sum of 32 zero bytes: 66687aadf862bd77...
        '66687aadf862bd7'
    """
    return int.from_bytes(hashlib.sha256(wire.as_view(key, "key")).digest()[:8], "big") >> 4


@dataclass(frozen=True, eq=False)
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
    updates: Sequence[np.ndarray],
    num_victims: int = 0,
    signed: bool = False,
    *,
    round_number: int = 0,
) -> Exchange:
    """Let every pair of clients agree on a key through a server, then send each other a message.

    Args:
        updates: What each client sends to all others: n tensors, or the rows of a matrix (n, d).
        num_victims: To and from how many of them, the first ones, the server swaps the
            public keys that it carries; more than there are means all.
        signed: Whether clients sign their keys. Their identities are in a directory
            that the server did not touch.
        round_number: The round that all keys are for.

    Raises:
        InvalidParameterError: If there are fewer than two clients, ``num_victims`` is no
            whole number from 0, ``signed`` is neither True nor False, or a tensor is not
            supported; the text names the client.

    Example:
        >>> updates = np.arange(20.0).reshape(4, 5)
        >>> attack = exchange_keys(updates, num_victims=4)
        >>> len(attack.overheard), int(attack.delivered.sum()), len(attack.refusals)
        (12, 12, 0)
        >>> attack.overheard[2, 3]  # what client 2 sent to client 3
        array([10., 11., 12., 13., 14.])
        >>> stopped = exchange_keys(updates, num_victims=4, signed=True)
        >>> len(stopped.overheard), int(stopped.delivered.sum()), len(stopped.refusals)
        (0, 0, 12)
    """
    if not isinstance(updates, Sequence):
        updates = np.atleast_1d(as_array("updates", updates))
    num_clients = len(updates)
    if num_clients < 2:
        raise InvalidParameterError(f"updates must be of 2 clients or more, got {num_clients}")
    updates = [wire.as_array(row, f"the update of client {i}") for i, row in enumerate(updates)]
    num_victims = as_whole("num_victims", num_victims, least=0)
    signed = as_flag("signed", signed)
    identities = [Identity.generate(f"client {number}") for number in range(num_clients)]
    directory = Directory(identity.public for identity in identities) if signed else None
    clients = [Client(identity, directory, round_number=round_number) for identity in identities]
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
        delivered[sender, receiver] = np.array_equal(opened, updates[sender], equal_nan=True)
        if (read := server.overheard(one.name, other.name)) is not None:
            overheard[sender, receiver] = read
    return Exchange(
        num_clients, len(victims), signed, fingerprints, delivered, overheard, tuple(refusals)
    )
