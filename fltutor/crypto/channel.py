"""A channel: two parties who know each other's names talk over a wire that somebody else owns.

A handshake of four messages, then sealed tensors in order::

    initiator                          responder
        hello     run, round, names, fresh key  ─►
               ◄─  fresh key, signature           answer
        proof     signature, confirmation       ─►
               ◄─  confirmation                   finished

Both sign everything said so far, so both fresh keys are bound to both names.
Nobody derives a key before the other's signature holds, and nobody sends data
before the other has confirmed the derived key. Each direction has a key of its
own and numbers its messages.

What this protects: content, origin and order of every message, also against
someone who learns a signing key later (the fresh keys are forgotten). What it does
not: lengths, timing, names and run are visible; whoever owns the wire may delay or
cut it, so the *last* messages may be missing unnoticed; and a compromised endpoint,
which holds the keys, reads and writes everything. After a restart or a fork, connect again:
a channel cannot be stored, copied or used in another process.

The handshake is the signed Diffie-Hellman of STS and SIGMA, written for teaching: it
does not hide the names, negotiate algorithms or renew keys. Between real machines use TLS 1.3.

References:
    Diffie, van Oorschot and Wiener 1992: authentication and authenticated key exchanges.
    Krawczyk, CRYPTO 2003: SIGMA. RFC 8446, sections 4.4 and 5.3: TLS 1.3.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np

from fltutor.border import as_kind, as_whole
from fltutor.crypto import aead
from fltutor.crypto.aead import Key, require_home
from fltutor.crypto.keys import (
    MAX_NAME_BYTES,
    Directory,
    Identity,
    KeyPair,
    Label,
    Party,
    PublicIdentity,
    agree,
    derive,
)
from fltutor.crypto.wire import Context, as_view, encode_context
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    WireFormatError,
)

HANDSHAKE_LIMIT = 2048  # bytes; nothing longer is read from a stranger
MESSAGE_LIMIT = 2**31

_MAGIC = b"FLCH\x01"  # and version 1
_HELLO, _ANSWER, _PROOF, _FINISHED = range(1, 5)
_KINDS = {_HELLO: "hello", _ANSWER: "answer", _PROOF: "proof", _FINISHED: "finished"}
_LENGTH, _NUMBER = struct.Struct("<H"), struct.Struct("<Q")


@runtime_checkable
class Line(Protocol):
    """What carries messages: anything that sends and receives whole byte strings."""

    def send(self, data: bytes) -> None:
        """Send one message."""

    def receive(self, limit: int = MESSAGE_LIMIT) -> bytes:
        """Wait for the next message; refuse one longer than ``limit``."""


def connect(
    me: Identity,
    peer: str,
    directory: Directory,
    line: Line,
    *,
    run: str = "",
    round_number: int = 0,
) -> Channel:
    """Start a session with ``peer``, who must :func:`accept` on the other end of the line.

    Args:
        me: My identity.
        peer: The name to talk to, as registered.
        directory: Who is who; see :class:`~fltutor.crypto.keys.Directory`.
        line: Carries the messages, such as a :class:`SocketLine`.
        run: The training run; both must name the same.
        round_number: The round in which the session begins; both must name the same.

    Raises:
        AuthenticationError: If whoever answers is not ``peer``, or a message was altered.
        WireFormatError: If an answer is no handshake message, or the line closes or stays silent.
    """
    as_kind("line", line, Line)
    initiator = Initiator(me, peer, directory, run=run, round_number=round_number)
    line.send(initiator.hello())
    line.send(initiator.proof(line.receive(HANDSHAKE_LIMIT)))
    return initiator.finish(line.receive(HANDSHAKE_LIMIT))


def accept(
    me: Identity, directory: Directory, line: Line, *, run: str = "", round_number: int = 0
) -> Channel:
    """Answer the next registered party that connects; ``channel.peer`` says who it is.

    Raises like :func:`connect`. A refusal concerns this line only: go on with the next.
    """
    as_kind("line", line, Line)
    responder = Responder(me, directory, run=run, round_number=round_number)
    line.send(responder.answer(line.receive(HANDSHAKE_LIMIT)))
    finished, channel = responder.finish(line.receive(HANDSHAKE_LIMIT))
    line.send(finished)
    return channel


# --- the handshake, one method a message ---------------------------------------------------------


def _step(number: int, name: str) -> Callable[[Callable], Callable]:
    """Let a method run as this step only: once, in its order, and in one thread at a time."""

    def decorate(method: Callable) -> Callable:
        @wraps(method)
        def step(self: _Handshake, *arguments, **named) -> Any:
            require_home(self, self._home)
            with self._lock:
                if self._step != number:
                    raise InvalidParameterError(
                        f"no {name} is due: a handshake runs once and in order"
                    )
                return method(self, *arguments, **named)

        return step

    return decorate


class _Handshake:
    """What both sides hold. A refused message changes nothing: the right one may still come.

    It is neither copied nor finished in a fork: two channels would have the same keys, and
    each would start its numbers from 0.
    """

    def __init__(self, me: Identity, directory: Directory, run: str, round_number: int):
        self._me = as_kind("me", me, Identity)
        self._directory = as_kind("directory", directory, Directory)
        self._run = as_kind("run", run, str)
        self._round_number = as_whole("round_number", round_number)
        self._occasion = encode_context({"run": run, "round": round_number})
        if len(self._occasion) > MAX_NAME_BYTES:
            raise InvalidParameterError(f"run must be a short name, got {len(run)} letters")
        self._pair, self._step, self._home = KeyPair.generate(), 0, os.getpid()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._me.name!r}, secrets hidden, step {self._step})"

    def __reduce_ex__(self, protocol: int) -> NoReturn:
        raise CopyRefusedError(
            f"an unfinished handshake ({type(self).__name__}) is not copied or stored"
        )

    def _find(self, name: str) -> PublicIdentity:
        if isinstance(name, str) and name == self._me.name:
            raise AuthenticationError(f"handshake refused: {name!r} is my own name")
        return self._directory.find(name)

    def _party(self, name: str, key: bytes) -> Party:
        """The other side, if its key is one."""
        try:
            return Party(name, key)
        except InvalidParameterError as error:
            raise AuthenticationError(f"handshake with {name!r} refused: {error}") from None

    def _derive(self, theirs: Party, said: Context) -> _SessionKeys:
        """All keys of the session, bound to everything that was said. Call after verifying."""
        try:
            secret = agree(self._pair, theirs.public_key)
        except InvalidParameterError as error:
            raise AuthenticationError(f"handshake with {theirs.name!r} refused: {error}") from None
        mine = Party(self._me.name, self._pair.public_key)
        transcript = hashlib.sha256(encode_context(said)).digest()

        def key(purpose: str, *ends: Party) -> bytes:
            return derive(secret, Label(purpose, *ends, self._run, self._round_number, transcript))

        return _SessionKeys(
            session=transcript[:8].hex(),
            my_proof=key("confirm", mine, theirs),
            their_proof=key("confirm", theirs, mine),
            to_seal=Key.from_bytes(key("transport", mine, theirs)),
            to_open=Key.from_bytes(key("transport", theirs, mine)),
        )


class Initiator(_Handshake):
    """The side that starts: :meth:`hello`, then :meth:`proof`, then :meth:`finish`.

    Example:
        >>> alice, bob = Identity.generate("alice"), Identity.generate("bob")
        >>> directory = Directory([alice.public, bob.public])
        >>> initiator, responder = Initiator(alice, "bob", directory), Responder(bob, directory)
        >>> answer = responder.answer(initiator.hello())
        >>> finished, bobs_end = responder.finish(initiator.proof(answer))
        >>> alices_end = initiator.finish(finished)
        >>> bobs_end.open(alices_end.seal(np.array([1.0, 2.0])))
        array([1., 2.])
    """

    def __init__(
        self, me: Identity, peer: str, directory: Directory, *, run: str = "", round_number: int = 0
    ):
        super().__init__(me, directory, run, round_number)
        self._peer = self._find(peer)

    @_step(0, "hello")
    def hello(self) -> bytes:
        """Say who wants to talk to whom, with a fresh key."""
        names = self._me.name.encode(), self._peer.name.encode()
        self._hello = _pack(_HELLO, self._occasion, *names, self._pair.public_key)
        self._step = 1
        return self._hello

    @_step(1, "answer")
    def proof(self, answer: bytes) -> bytes:
        """Verify the answer, derive the keys, sign everything, and confirm.

        Raises:
            AuthenticationError: If the peer did not give this answer to my hello.
            WireFormatError: If it is no answer at all.
        """
        answer = bytes(as_view(answer, "answer"))
        their_key, signature = _unpack(_ANSWER, answer, 2)
        said = {"hello": self._hello, "key": their_key}
        self._peer.verify(signature, said, purpose="channel answer")
        theirs = self._party(self._peer.name, their_key)
        mine = self._me.sign({"hello": self._hello, "answer": answer}, purpose="channel proof")
        said = {"hello": self._hello, "answer": answer, "proof": mine}
        self._keys = self._derive(theirs, said)
        self._pair, self._step = None, 2  # forget the private key: no later theft opens this
        return _pack(_PROOF, mine, self._keys.my_proof)

    @_step(2, "finished")
    def finish(self, finished: bytes) -> Channel:
        """Check that the responder derived the same keys; raises like :meth:`proof`."""
        (their_proof,) = _unpack(_FINISHED, finished, 1)
        self._keys.confirm(their_proof, self._peer.name)
        self._step = 3
        return Channel(self._me.name, self._peer.name, self._keys)


class Responder(_Handshake):
    """The side that answers: :meth:`answer`, then :meth:`finish`. One for each hello."""

    def __init__(self, me: Identity, directory: Directory, *, run: str = "", round_number: int = 0):
        super().__init__(me, directory, run, round_number)

    @_step(0, "hello")
    def answer(self, hello: bytes) -> bytes:
        """Answer a registered party with a fresh key and a signature over both keys.

        Raises:
            AuthenticationError: If the hello is for another party, run or round, from a
                stranger, or with a key that cannot be.
            WireFormatError: If it is no hello at all.
        """
        hello = bytes(as_view(hello, "hello"))
        occasion, initiator, responder, their_key = _unpack(_HELLO, hello, 4)
        if responder != self._me.name.encode():
            raise AuthenticationError(f"hello refused: it is not for {self._me.name!r}")
        if occasion != self._occasion:
            raise AuthenticationError(
                f"hello refused: it is not for run {self._run!r}, round {self._round_number}"
            )
        peer = self._find(_decode_name(initiator))
        self._theirs = self._party(peer.name, their_key)
        self._peer, self._hello = peer, hello
        signature = self._me.sign(
            {"hello": hello, "key": self._pair.public_key}, purpose="channel answer"
        )
        self._answer, self._step = _pack(_ANSWER, self._pair.public_key, signature), 1
        return self._answer

    @_step(1, "proof")
    def finish(self, proof: bytes) -> tuple[bytes, Channel]:
        """Verify the initiator, derive the keys, check that both have the same, and confirm.

        Raises:
            AuthenticationError: If the named party did not sign this handshake, or did
                not derive the same keys.
            WireFormatError: If it is no proof at all.
        """
        signature, their_proof = _unpack(_PROOF, proof, 2)
        said = {"hello": self._hello, "answer": self._answer}
        self._peer.verify(signature, said, purpose="channel proof")
        keys = self._derive(self._theirs, said | {"proof": signature})
        keys.confirm(their_proof, self._peer.name)
        self._pair, self._step = None, 2
        return _pack(_FINISHED, keys.my_proof), Channel(self._me.name, self._peer.name, keys)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class _SessionKeys:
    session: str
    my_proof: bytes
    their_proof: bytes
    to_seal: Key
    to_open: Key

    def confirm(self, proof: bytes, peer: str) -> None:
        if not hmac.compare_digest(proof, self.their_proof):
            raise AuthenticationError(f"handshake refused: {peer!r} did not derive the same keys")


# --- the session ---------------------------------------------------------------------------------


class Channel:
    """One end of a session. Made by :func:`connect` or :func:`accept`, never stored or copied.

    Attributes:
        me: My name.
        peer: The name at the other end, proved by a signature.
        session: Public name of the session, equal at both ends.
    """

    __slots__ = (
        "_home",
        "_keys",
        "_num_opened",
        "_num_sealed",
        "_opening",
        "_sealing",
        "me",
        "peer",
    )

    def __init__(self, me: str, peer: str, keys: _SessionKeys):
        self.me, self.peer, self._keys = me, peer, keys
        self._num_sealed = self._num_opened = 0
        self._sealing, self._opening = threading.Lock(), threading.Lock()
        self._home = os.getpid()

    @property
    def session(self) -> str:
        """Public name of the session, equal at both ends."""
        return self._keys.session

    def seal(self, tensors: Any, context: Context | None = None) -> bytes:
        """Encrypt the next message to the peer.

        Args:
            tensors: One tensor, or a list of them (a model), as
                :func:`~fltutor.crypto.aead.encrypt_tensor` takes them.
            context: What the message belongs to, such as ``{"round": 3}``; the peer
                must open it with the same.

        Returns:
            8 bytes of number, then the encrypted tensor.

        Raises:
            InvalidParameterError: If a tensor is not supported; no number is used up.
            KeyExhaustedError: If the key was used as often as is safe: connect again.
            CopyRefusedError: In a fork of the process that connected.
        """
        require_home(self, self._home)
        encrypt = aead.encrypt_model if isinstance(tensors, list | tuple) else aead.encrypt_tensor
        with self._sealing:
            number = self._num_sealed
            sealed = encrypt(tensors, self._keys.to_seal, _bind(number, context))
            self._num_sealed += 1
        return b"".join((_NUMBER.pack(number), sealed.message))

    def open(
        self, message: bytes | bytearray | memoryview, context: Context | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Decrypt the peer's next message, if that is what this is.

        Returns:
            The tensor, or the list of tensors, that was sealed.

        Raises:
            AuthenticationError: If the message was altered, came already (a replay), comes
                before its turn, is one of mine sent back (a reflection), or belongs to
                another party, session or context.
            WireFormatError: If it is no message of a channel at all.
            InvalidParameterError: If it is no bytes, or ``context`` is not supported.
            CopyRefusedError: In a fork of the process that connected.

        A refused message changes nothing: the right one still opens.
        """
        require_home(self, self._home)
        number, encrypted = _read_message(message)
        decrypt = aead.decrypt_model if encrypted.is_model else aead.decrypt_tensor
        with self._opening:
            if number != self._num_opened:
                what = "came already" if number < self._num_opened else "is not next"
                raise AuthenticationError(
                    f"message {number} from {self.peer!r} refused: it {what}, "
                    f"needed message {self._num_opened}"
                )
            try:
                tensors = decrypt(encrypted, self._keys.to_open, _bind(number, context))
            except AuthenticationError:
                raise AuthenticationError(
                    f"message {number} refused: {self.peer!r} did not seal this, "
                    f"or not in context {dict(context or {})}"
                ) from None
            self._num_opened += 1
        return tensors

    def __repr__(self) -> str:
        return (
            f"Channel({self.me!r} to {self.peer!r}, session {self.session}, "
            f"{self._num_sealed} sealed, {self._num_opened} opened)"
        )

    def __reduce_ex__(self, protocol: int) -> NoReturn:
        raise CopyRefusedError("a Channel is not copied or stored: connect again for a new one")


def _bind(number: int, context: Context | None) -> Context:
    return {"number": number, "context": encode_context(context)}


def _read_message(message: Any) -> tuple[int, aead.EncryptedTensor]:
    view = as_view(message, "message")
    if len(view) < _NUMBER.size:
        raise WireFormatError(f"message truncated: {len(view)} bytes hold no number")
    return *_NUMBER.unpack_from(view), aead.EncryptedTensor.from_bytes(view[_NUMBER.size :])


# --- a line over a socket ------------------------------------------------------------------------


class SocketLine:
    """Whole messages over a connected stream socket: 8 bytes of length, then the message.

    It protects nothing. Set a timeout on the socket, or a silent peer holds you for ever. After
    an error a message may be half sent or half read: close the line.

    Example:
        >>> here, there = map(SocketLine, socket.socketpair())
        >>> here.send(b"hello")
        >>> there.receive()
        b'hello'
    """

    def __init__(self, connected: socket.socket):
        self._socket = as_kind("connected", connected, socket.socket)

    def send(self, data: bytes) -> None:
        """Send one message.

        Raises:
            InvalidParameterError: If it is no bytes and no other contiguous buffer.
            WireFormatError: If the line is closed, or nobody reads until the timeout.
        """
        data = as_view(data, "data")
        try:
            self._socket.sendall(_NUMBER.pack(len(data)) + data)
        except OSError as error:
            raise WireFormatError(f"line closed or silent: {error}") from None

    def receive(self, limit: int = MESSAGE_LIMIT) -> bytes:
        """Wait for the next message. Memory grows with what arrives, not with what is claimed.

        Raises:
            WireFormatError: If it is longer than ``limit``, or the line closes, or is silent
                until the timeout, before its end.
        """
        as_whole("limit", limit, least=0)
        (length,) = _NUMBER.unpack(self._receive_exactly(_NUMBER.size))
        if length > limit:
            raise WireFormatError(f"message of {length} bytes is longer than the limit {limit}")
        return self._receive_exactly(length)

    def _receive_exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                piece = self._socket.recv(min(length - len(data), 2**20))
            except OSError as error:
                raise WireFormatError(
                    f"line closed or silent after {len(data)} of {length} bytes: {error}"
                ) from None
            if not piece:
                raise WireFormatError(f"line closed after {len(data)} of {length} bytes")
            data += piece
        return bytes(data)


# --- the bytes of a handshake --------------------------------------------------------------------


def _pack(kind: int, *fields: bytes) -> bytes:
    """Magic, version, kind; then each field after its length of 2 bytes."""
    sized = (_LENGTH.pack(len(field)) + field for field in fields)
    return b"".join((_MAGIC, bytes([kind]), *sized))


def _unpack(kind: int, data: Any, count: int) -> list[bytes]:
    name = _KINDS[kind]
    data, position, fields = as_view(data, name), len(_MAGIC) + 1, []
    if data[:position] != _MAGIC + bytes([kind]):
        raise WireFormatError(f"not the {name!r} message of a version 1 handshake")
    for _ in range(count):
        start = position + _LENGTH.size
        length = int.from_bytes(data[position:start], "little")
        position = start + length
        fields.append(bytes(data[start:position]))
    if len(data) != position:
        problem = "truncated" if len(data) < position else "followed by trailing bytes"
        raise WireFormatError(f"the {name!r} message of a handshake is {problem}")
    return fields


def _decode_name(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise WireFormatError("a name in a handshake is not UTF-8") from None
