"""Keys between strangers: agree on a secret in public, derive keys from it, sign who you are.

Three tools of three jobs, none of which replaces another:

* X25519 (:class:`KeyPair`, :func:`agree`) gives two parties a secret that no listener has.
* HKDF (:func:`derive`) cuts that secret into keys, one for each purpose and direction.
* Ed25519 (:class:`Identity`, :class:`Directory`) says *whose* public key this is. Without it
  whoever carries the public keys can replace them and read everything.

The claim rests on one assumption: the :class:`Directory` reached you unaltered. Objects
that hold a secret hide it and refuse to be copied; Python cannot wipe memory, so who
reads the memory of a running process reads its keys.

References:
    RFC 7748, Langley et al. 2016: X25519. RFC 5869, Krawczyk 2010: HKDF.
    RFC 8032, Josefsson and Liusvaara 2017: Ed25519.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fltutor.border import as_flag, as_kind, as_whole
from fltutor.crypto.wire import Context, encode_context
from fltutor.errors import AuthenticationError, CopyRefusedError, InvalidParameterError

KEY_BYTES = 32  # public and private keys, secrets and derived keys alike
SIGNATURE_BYTES = 64
MAX_NAME_BYTES = 255

_P = 2**255 - 19  # Curve25519 and its twin edwards25519 count modulo this prime
_D = -121665 * pow(121666, -1, _P)  # the curve of Ed25519: y^2 - x^2 = 1 + d x^2 y^2


class _Hidden:
    """Holds a secret: shows none of it, and is never copied or pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(secret hidden)"

    def __reduce_ex__(self, protocol: int) -> Any:
        raise CopyRefusedError(f"a {type(self).__name__} holds a secret: it is not copied")


# --- agree ---------------------------------------------------------------------------------------


class KeyPair(_Hidden):
    """An X25519 key pair: the public half is for everyone, the private half stays here.

    Make a fresh one for each session or round, so that a secret stolen later
    opens nothing recorded earlier.

    Args:
        private: The private key as ``cryptography`` holds it. Prefer :meth:`generate`.

    Example:
        >>> alice, bob = KeyPair.generate(), KeyPair.generate()
        >>> label = Label("demo", Party("alice", alice.public_key), Party("bob", bob.public_key))
        >>> hers, his = agree(alice, bob.public_key), agree(bob, alice.public_key)
        >>> derive(hers, label) == derive(his, label)
        True
    """

    __slots__ = ("_private", "public_key")

    def __init__(self, private: X25519PrivateKey):
        self._private = as_kind("private", private, X25519PrivateKey)
        self.public_key: bytes = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> KeyPair:
        """Draw a new key pair from the operating system's generator."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, private_key: bytes) -> KeyPair:
        """Make the key pair of 32 secret bytes, such as ``os.urandom(32)``.

        For parties that must share their private key among others: a key pair
        never gives it back.

        Raises:
            InvalidParameterError: If ``private_key`` is not 32 bytes.
        """
        private_key = require_bytes(private_key, KEY_BYTES, "private_key")
        return cls(X25519PrivateKey.from_private_bytes(private_key))


class Secret(_Hidden):
    """What two parties share after :func:`agree`. It only serves to :func:`derive` keys."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes):
        self._value = require_bytes(value, KEY_BYTES, "value")


def agree(mine: KeyPair, their_public_key: bytes) -> Secret:
    """Compute the secret that only the owners of two key pairs share.

    It is not a key yet: :func:`derive` makes keys of it. And it says nothing of
    *who* owns the other key: verify that first.

    Raises:
        InvalidParameterError: If the other key is not 32 bytes, is not below 2^255 - 19, is
            my own (a message sent back to me), or forces the all-zero secret that everyone knows.

    Reference:
        RFC 7748, section 6.1, the check for the all-zero value included.
    """
    as_kind("mine", mine, KeyPair)
    their_public_key = require_public_key(their_public_key, "their_public_key")
    if their_public_key == mine.public_key:
        raise InvalidParameterError("their_public_key is my own: a message was sent back to me")
    return Secret(_exchange(mine._private, their_public_key))


def x25519(private_key: bytes, public_key: bytes) -> bytes:
    """X25519 on plain bytes: the core that published vectors check. Prefer :func:`agree`.

    As RFC 7748 demands, it ignores the top bit of a public key and counts what is left
    modulo 2^255 - 19. So it cannot tell one's own key from the same key with that bit
    flipped; :func:`agree` can.

    Example:
        >>> nine = bytes([9]) + bytes(31)  # the point that everyone starts from
        >>> alice, bob = bytes([1] * 32), bytes([2] * 32)
        >>> x25519(alice, x25519(bob, nine)) == x25519(bob, x25519(alice, nine))
        True

    Raises:
        InvalidParameterError: If a key is not 32 bytes, or the result is the all-zero secret.

    Reference:
        RFC 7748, section 5: "implementations of X25519 MUST mask the most significant bit".
    """
    private_key = require_bytes(private_key, KEY_BYTES, "private_key")
    public_key = require_bytes(public_key, KEY_BYTES, "public_key")
    return _exchange(X25519PrivateKey.from_private_bytes(private_key), public_key)


def _exchange(private: X25519PrivateKey, public_key: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:  # the library's one refusal, for points of small order
        raise InvalidParameterError(
            "public_key forces the all-zero secret, which everyone knows: refused"
        ) from None


def require_public_key(value: Any, name: str) -> bytes:
    """An X25519 public key in its one canonical form, or an error.

    RFC 7748 lets 2^255 + 19 more byte strings stand for the same points: the top bit is
    ignored, and numbers from 2^255 - 19 on count from 0 again. Whoever compares keys, to
    refuse their own or one under two names, must first refuse those.

    Raises:
        InvalidParameterError: If it is not 32 bytes, or is not below 2^255 - 19.

    Example:
        >>> require_public_key(bytes([9]) + bytes(31), "the base point").hex()[:4]
        '0900'
        >>> require_public_key(bytes([9]) + bytes(30) + bytes([128]), "the base point")
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: the base point is not below 2^255 - 19: a second
        way to write one public key is refused
    """
    value = require_bytes(value, KEY_BYTES, name)
    if int.from_bytes(value, "little") >= _P:
        raise InvalidParameterError(
            f"{name} is not below 2^255 - 19: a second way to write one public key is refused"
        )
    return value


# --- derive --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Party:
    """Whose agreement key: a name and an X25519 public key, below 2^255 - 19."""

    name: str
    public_key: bytes

    def __post_init__(self):
        require_name(self.name)
        key = require_public_key(self.public_key, f"the public key of {self.name!r}")
        object.__setattr__(self, "public_key", key)


@dataclass(frozen=True)
class Label:
    """Everything that a derived key is for. Another label, another key.

    Attributes:
        purpose: What the key does, such as ``"transport"`` or ``"mask"``.
        sender: Who sends with it; the key of the other direction is another one.
        receiver: Who receives with it.
        run: Which training run.
        round_number: Which round of it.
        transcript: What was said until now, for keys that must depend on it.
        both_ways: One key for both directions; made by :meth:`between`.
    """

    purpose: str
    sender: Party
    receiver: Party
    run: str = ""
    round_number: int = 0
    transcript: bytes = b""
    both_ways: bool = False

    def __post_init__(self):
        _require_purpose(self.purpose)
        as_kind("run", self.run, str)
        as_whole("round_number", self.round_number)
        as_kind("transcript", self.transcript, bytes)
        as_flag("both_ways", self.both_ways)
        for party in ("sender", "receiver"):
            as_kind(party, getattr(self, party), Party)
        for field in ("name", "public_key"):
            if getattr(self.sender, field) == getattr(self.receiver, field):
                raise InvalidParameterError(
                    f"sender and receiver must differ in {field}, got "
                    f"{self.sender.name!r} and {self.receiver.name!r}"
                )

    @classmethod
    def between(
        cls, purpose: str, one: Party, other: Party, *, run: str = "", round_number: int = 0
    ) -> Label:
        """Label one key that both use alike, such as a mask; the order of the two is irrelevant."""
        first, second = as_kind("one", one, Party), as_kind("other", other, Party)
        if second.name < first.name:
            first, second = second, first
        return cls(purpose, first, second, run, round_number, both_ways=True)

    def to_bytes(self) -> bytes:
        """Encode it so that no other label has the same bytes."""
        return b"fltutor key 1" + encode_context(
            {
                "purpose": self.purpose,
                "run": self.run,
                "round": self.round_number,
                "sender": self.sender.name,
                "sender key": self.sender.public_key,
                "receiver": self.receiver.name,
                "receiver key": self.receiver.public_key,
                "transcript": self.transcript,
                "both ways": int(self.both_ways),
            }
        )


def derive(secret: Secret, label: Label) -> bytes:
    """Derive the 32-byte key of one label; keys of different labels are unrelated.

    Example:
        >>> alice, bob = KeyPair.generate(), KeyPair.generate()
        >>> a, b = Party("alice", alice.public_key), Party("bob", bob.public_key)
        >>> secret = agree(alice, bob.public_key)
        >>> labels = Label("transport", a, b), Label("transport", b, a), Label.between("mask", a, b)
        >>> len({derive(secret, label) for label in labels})
        3

    Reference:
        RFC 5869 with SHA-256, no salt, and the label as ``info``.
    """
    as_kind("secret", secret, Secret)
    return hkdf(secret._value, as_kind("label", label, Label).to_bytes())


def hkdf(secret: bytes, info: bytes, *, salt: bytes = b"", length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 on plain bytes: the core that published vectors check.

    Raises:
        InvalidParameterError: If an input is not bytes, or ``length`` is not 1 to 8160.

    Example:
        >>> hkdf(bytes(32), b"mask") == hkdf(bytes(32), b"transport")
        False
    """
    for name, value in (("secret", secret), ("info", info), ("salt", salt)):
        as_kind(name, value, bytes)
    length = as_whole("length", length, least=1, most=255 * 32)
    return HKDF(hashes.SHA256(), length, salt or None, info).derive(secret)


# --- sign ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicIdentity:
    """Who someone is: a name and the Ed25519 key that checks that party's signatures."""

    name: str
    public_key: bytes

    def __post_init__(self):
        require_name(self.name)
        key = require_bytes(self.public_key, KEY_BYTES, f"the public key of {self.name!r}")
        _require_strong(key, self.name)
        object.__setattr__(self, "public_key", key)

    def verify(self, signature: bytes, message: Context, *, purpose: str) -> None:
        """Check that this party signed exactly this message for this purpose.

        Raises:
            AuthenticationError: If not. There is no return value to forget to look at.
        """
        if not _fits(self.public_key, signature, _signed_bytes(self, message, purpose)):
            raise AuthenticationError(
                f"signature refused: {self.name!r} did not sign this message as {purpose!r}"
            )


class Identity(_Hidden):
    """A name and the secret Ed25519 key that proves it.

    Example:
        >>> alice = Identity.generate("alice")
        >>> alice
        Identity('alice', secret hidden)
        >>> signature = alice.sign({"round": 3}, purpose="join")
        >>> alice.public.verify(signature, {"round": 3}, purpose="join")
        >>> alice.public.verify(signature, {"round": 3}, purpose="leave")
        Traceback (most recent call last):
        fltutor.errors.AuthenticationError: signature refused: 'alice' did not sign this message
        as 'leave'
    """

    __slots__ = ("_private", "public")

    def __init__(self, name: str, private: Ed25519PrivateKey):
        self._private = as_kind("private", private, Ed25519PrivateKey)
        self.public = PublicIdentity(name, private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Identity:
        """Draw a new identity from the operating system's generator."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, name: str, private_key: bytes) -> Identity:
        """Make the identity of 32 secret bytes that its owner keeps, such as ``os.urandom(32)``.

        Raises:
            InvalidParameterError: If ``private_key`` is not 32 bytes.
        """
        private_key = require_bytes(private_key, KEY_BYTES, "private_key")
        return cls(name, Ed25519PrivateKey.from_private_bytes(private_key))

    @property
    def name(self) -> str:
        """The name, as everyone may know it."""
        return self.public.name

    def sign(self, message: Context, *, purpose: str) -> bytes:
        """Sign a whole message: all its fields, the purpose, my name and my key.

        Args:
            message: A mapping such as ``{"round": 3, "key": public_key}``, encoded so
                that no two mappings have the same bytes.
            purpose: What the signature is for, so that it serves for nothing else.

        Returns:
            64 bytes.
        """
        return self._private.sign(_signed_bytes(self.public, message, purpose))

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, secret hidden)"


class Directory:
    """Who is who: one public identity for each name, one name for each key.

    Get it over a way that the attacker does not control: this is the assumption
    that every claim of authenticity rests on.

    Example:
        >>> alice, bob = Identity.generate("alice"), Identity.generate("bob")
        >>> directory = Directory([alice.public, bob.public])
        >>> directory.find("alice") == alice.public
        True
        >>> directory.find("mallory")
        Traceback (most recent call last):
        fltutor.errors.AuthenticationError: nobody is registered as 'mallory'
    """

    def __init__(self, identities: Iterable[PublicIdentity] = ()):
        self._by_name: dict[str, PublicIdentity] = {}
        self._by_key: dict[bytes, PublicIdentity] = {}
        for identity in require_many(identities, "identities"):
            self.register(identity)

    def register(self, identity: PublicIdentity) -> None:
        """Add a party.

        Raises:
            InvalidParameterError: If the name is taken, also by the same key, or if the
                key is registered under another name.
        """
        as_kind("identity", identity, PublicIdentity)
        if identity.name in self._by_name:
            raise InvalidParameterError(f"{identity.name!r} is registered already")
        if identity.public_key in self._by_key:
            other = self._by_key[identity.public_key].name
            raise InvalidParameterError(
                f"the key of {identity.name!r} is registered already, as {other!r}"
            )
        self._by_key[identity.public_key] = identity
        self._by_name[identity.name] = identity

    def find(self, name: str) -> PublicIdentity:
        """Look up a party.

        Raises:
            AuthenticationError: If nobody has this name.
        """
        if not isinstance(name, str):
            raise AuthenticationError(
                f"nobody is registered as {type(name).__name__}, which is no name"
            )
        if name not in self._by_name:
            raise AuthenticationError(f"nobody is registered as {name!r}")
        return self._by_name[name]

    def __copy__(self) -> Directory:
        """A directory of its own: whoever registers in the copy does not in this one."""
        return type(self)(self)

    def __iter__(self) -> Iterator[PublicIdentity]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)


def _signed_bytes(signer: PublicIdentity, message: Context, purpose: str) -> bytes:
    """Two self-delimiting parts: who signs what for, and the message."""
    _require_purpose(purpose)
    about = {"purpose": purpose, "signer": signer.name, "signer key": signer.public_key}
    return b"fltutor signature 1" + encode_context(about) + encode_context(message)


def _fits(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Ed25519 on plain bytes: the core that published vectors check."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, TypeError, ValueError, BufferError):
        return False
    return True


def _require_strong(public_key: bytes, name: str) -> None:
    """Refuse the Ed25519 keys of small order: under them anyone's signature can be valid.

    Eight points have an order that divides 8: y is 0, 1 or -1, or doubling leads
    to y = 0, which on this curve means d y^4 + 2 y^2 = 1. A y from 2^255 - 19 on would be
    a second way to write a key: RFC 8032, section 5.1.3, refuses it too.
    """
    y = int.from_bytes(public_key, "little") % 2**255  # the top bit is the sign of x
    if y * (y * y - 1) * (_D * y**4 + 2 * y * y - 1) % _P == 0:
        raise InvalidParameterError(
            f"the public key of {name!r} has small order: anyone's signature could fit it"
        )
    if y >= _P:
        raise InvalidParameterError(
            f"the y of the public key of {name!r} is not below 2^255 - 19: a second way to "
            "write one public key is refused"
        )


def _require_purpose(purpose: Any) -> None:
    if not isinstance(purpose, str) or not purpose:
        got = repr(purpose) if isinstance(purpose, str) else type(purpose).__name__
        raise InvalidParameterError(f"purpose must be a word, got {got}")


def require_many(values: Any, name: str) -> list:
    """The values as a list, or an error if there is nothing to go through."""
    try:
        return list(values)
    except TypeError:
        raise InvalidParameterError(f"{name} must be a list, got {type(values).__name__}") from None


def require_bytes(value: Any, length: int, name: str) -> bytes:
    """The value as bytes of this length, or an error that does not show it."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidParameterError(f"{name} must be bytes, got {type(value).__name__}")
    value = bytes(value)
    if len(value) != length:
        raise InvalidParameterError(f"{name} must be {length} bytes, got {len(value)}")
    return value


def require_name(name: Any) -> str:
    """A name that can be encoded: text of 1 to 255 bytes in UTF-8."""
    try:
        if isinstance(name, str) and 1 <= len(name.encode()) <= MAX_NAME_BYTES:
            return name
    except UnicodeEncodeError:
        pass
    got = ascii(name) if isinstance(name, str) else type(name).__name__
    raise InvalidParameterError(f"a name must be 1 to {MAX_NAME_BYTES} bytes of text, got {got}")
