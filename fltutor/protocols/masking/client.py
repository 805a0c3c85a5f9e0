"""One client of secure aggregation: it holds its secrets and answers each round once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from threading import Lock
from typing import Any, NamedTuple, NoReturn

import numpy as np
from cryptography.exceptions import InvalidTag

from fltutor.border import as_array, as_flag, as_whole
from fltutor.crypto import aead, shamir
from fltutor.crypto.keys import (
    Directory,
    Identity,
    KeyPair,
    Secret,
    agree,
    derive,
    require_public_key,
)
from fltutor.crypto.shamir import SHARE_BYTES, Share
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    ProtocolAbort,
    WireFormatError,
)
from fltutor.fixed_point import Encoded
from fltutor.protocols.masking.messages import (
    DealtShares,
    Delivery,
    KeyAdvert,
    KeyList,
    Reveal,
    SealedPair,
    Survivors,
    SurvivorSignature,
    UnmaskRequest,
    Upload,
    find_flaw,
)
from fltutor.protocols.masking.session import Session
from fltutor.transcript import Phase, client_name

KEYS_PURPOSE = "secure aggregation keys"
SURVIVORS_PURPOSE = "secure aggregation survivors"

_SHARES_AAD = b"fltutor secure aggregation shares 1"  # the key is bound to everything else
_DONE = 6  # after the last phase


class _Agreed(NamedTuple):
    """What two clients share: one secret of their transport keys, one of their mask keys."""

    transport: Secret
    mask: Secret


def _in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let one thread after the other in, and only where the client was made."""

    @wraps(method)
    def turn(self, *arguments, **named):
        if (os.getpid(), id(self)) != self._origin:  # first: a fork may have copied a held lock
            raise CopyRefusedError(
                f"client {self.number} answers once, where it was made: this one is a fork or a "
                "copy, and would answer again"
            )
        with self._lock:
            return method(self, *arguments, **named)

    return turn


class SecAggClient:
    """A client: one method for each round, each of which it answers once.

    It checks what the server says before it answers. A refused message leaves the
    client as it was, and reveals nothing; the error says why. Where a peer's keys or shares
    are refused, the error's ``peer`` is its number: whoever runs the server can leave it out,
    see :meth:`SecAggServer.exclude`. Threads take turns, so each round is answered once; a fork
    or a copy of a client, which would answer once more, refuses.

    Args:
        number: Its number, from 0.
        session: What all agreed on, from a source that is trusted with it; see
            :mod:`fltutor.protocols.masking.session`.
        identity: Its signing key, named ``"client 3"`` for number 3; needed, like the
            directory of all identities, where the server may be active. A client that has
            one signs its keys, whatever the session says.
        directory: See :class:`~fltutor.crypto.keys.Directory`. A client that has one believes
            signed keys only, whatever the session says.
        allow_clipping: Clip values beyond the session's grid, and count them in
            ``num_clipped``, instead of refusing the row. Values too small for the grid
            are counted in ``num_vanished`` in any case.

    Example:
        >>> client = SecAggClient(0, Session(num_clients=3, threshold=2))
        >>> client
        SecAggClient(number 0, secrets hidden, next phase KEYS)
        >>> advert = client.advertise_keys()
        >>> len(advert.transport_key), len(advert.mask_key)
        (32, 32)
    """

    __slots__ = (
        "_adverts",
        "_directory",
        "_held",
        "_identity",
        "_key_digest",
        "_lock",
        "_mask_keys",
        "_mask_private",
        "_next",
        "_opening_keys",
        "_origin",
        "_pair_seeds",
        "_seed",
        "_signed",
        "_transport_keys",
        "allow_clipping",
        "num_clipped",
        "num_vanished",
        "number",
        "session",
    )

    def __init__(
        self,
        number: int,
        session: Session,
        identity: Identity | None = None,
        directory: Directory | None = None,
        *,
        allow_clipping: bool = False,
    ):
        for name, value, kind in (
            ("session", session, Session),
            ("identity", identity, Identity | None),
            ("directory", directory, Directory | None),
        ):
            if not isinstance(value, kind):
                needed = getattr(kind, "__name__", kind)
                raise InvalidParameterError(f"{name} must be {needed}, got {type(value).__name__}")
        number = as_whole("number", number, least=0, most=session.num_clients - 1)
        if session.active_server and (identity is None or directory is None):
            raise InvalidParameterError(
                f"client {number} needs an identity and a directory against an active server"
            )
        if identity is not None and identity.name != client_name(number):
            raise InvalidParameterError(
                f"client {number} needs an identity of its name, got {identity.name!r}"
            )
        self.number, self.session = number, session
        self.allow_clipping = as_flag("allow_clipping", allow_clipping)
        self.num_clipped = self.num_vanished = 0
        self._identity, self._directory = identity, directory
        self._next: int = Phase.KEYS
        self._adverts: dict[int, KeyAdvert] = {}
        self._held: dict[int, tuple[Share, Share]] = {}  # by dealer: of its mask key, of its seed
        self._lock, self._origin = Lock(), (os.getpid(), id(self))

    # --- 1. keys ---------------------------------------------------------------------------------

    @_in_turn
    def advertise_keys(self) -> KeyAdvert:
        """Draw two fresh key pairs and publish their public halves."""
        self._turn(Phase.KEYS)
        # The private half of the mask key is dealt in shares, so its bytes are kept here.
        self._mask_private = os.urandom(32)
        self._mask_keys = KeyPair.from_bytes(self._mask_private)
        self._transport_keys = KeyPair.generate()
        public_keys = self._transport_keys.public_key, self._mask_keys.public_key
        advert = KeyAdvert(self.number, *public_keys, self.session.digest)
        if self._identity is not None:
            signed = self.session.signed_keys(advert)
            signature = self._identity.sign(signed, purpose=KEYS_PURPOSE)
            advert = replace(advert, signature=signature)
        self._adverts = {self.number: advert}
        self._next = Phase.SHARES
        return advert

    # --- 2. shares -------------------------------------------------------------------------------

    @_in_turn
    def deal_shares(self, keys: KeyList) -> DealtShares:
        """Deal shares of the mask key and of a new self-mask's seed, sealed for each holder.

        Raises:
            ProtocolAbort: If the list is too short, holds a stranger or a name twice, a key
                twice or one of small order, or not my own keys.
            AuthenticationError: If a signature is missing or wrong (active server).
        """
        self._turn(Phase.SHARES)
        adverts = self._checked_adverts(keys)
        session, me = self.session, adverts[self.number]
        peers = session.peers(self.number, adverts)
        agreed = {peer: self._agree(adverts[peer]) for peer in peers}
        holders = session.holders(self.number)
        seed = os.urandom(32)
        key_shares = shamir.split(self._mask_private, session.threshold, len(holders))
        seed_shares = shamir.split(seed, session.threshold, len(holders))
        pairs, held = {}, {}
        for holder, shares in zip(holders, zip(key_shares, seed_shares, strict=True), strict=True):
            sealed = b""
            if holder == self.number:
                held[holder] = shares
            elif holder in agreed:
                label = session.transport_label(me, adverts[holder])
                sealed = _seal(shares, derive(agreed[holder].transport, label))
            else:
                continue  # it left before it had a key
            pairs[holder] = SealedPair(sealed, *(share.commitment for share in shares))
        self._pair_seeds = {
            peer: derive(agreed[peer].mask, session.mask_label(me, adverts[peer])) for peer in peers
        }
        self._opening_keys = {
            peer: derive(agreed[peer].transport, session.transport_label(adverts[peer], me))
            for peer in peers
        }
        self._seed, self._adverts, self._held = seed, adverts, held
        self._key_digest = keys.digest
        self._next = Phase.UPLOAD
        return DealtShares(self.number, pairs)

    def _checked_adverts(self, keys: KeyList) -> dict[int, KeyAdvert]:
        what = "key list"
        self._require_well_formed(keys, KeyList, what)
        adverts = {advert.client: advert for advert in keys.adverts}
        self._require_clients([advert.client for advert in keys.adverts], what)
        if adverts.get(self.number) != self._adverts[self.number]:
            self._refuse(what, "it does not hold my own keys as I sent them")
        public_keys = []
        for advert in keys.adverts:
            try:
                public_keys.append(require_public_key(advert.transport_key, "the transport key"))
                public_keys.append(require_public_key(advert.mask_key, "the mask key"))
            except InvalidParameterError as error:
                why = f"a key of client {advert.client} cannot be: {error}"
                self._refuse(what, why, advert.client)
        if len(set(public_keys)) < len(public_keys):
            self._refuse(what, "one key comes twice")
        for advert in keys.adverts:
            if self._directory is not None:
                self._require_signed(advert)
            if advert.session != self.session.digest:
                why = f"client {advert.client} is in another session"
                self._refuse(what, why, advert.client, AuthenticationError)
        self._require_enough(1 + len(self.session.peers(self.number, adverts)), what)
        return adverts

    def _require_signed(self, advert: KeyAdvert) -> None:
        what, client = "key list", advert.client
        if advert.signature is None:
            why = f"the keys of client {client} are not signed"
            self._refuse(what, why, client, AuthenticationError)
        try:
            identity = self._directory.find(client_name(client))
            signed = self.session.signed_keys(advert)
            identity.verify(advert.signature, signed, purpose=KEYS_PURPOSE)
        except AuthenticationError as error:
            self._refuse(what, str(error), client, AuthenticationError)

    def _agree(self, peer: KeyAdvert) -> _Agreed:
        try:
            return _Agreed(
                agree(self._transport_keys, peer.transport_key),
                agree(self._mask_keys, peer.mask_key),
            )
        except InvalidParameterError as error:
            why = f"a key of client {peer.client} cannot be: {error}"
            self._refuse("key list", why, peer.client)

    # --- 3. upload -------------------------------------------------------------------------------

    @_in_turn
    def upload(self, delivery: Delivery, row: np.ndarray) -> Upload:
        """Open the shares that others dealt to me, and send my row under all masks.

        Raises:
            InvalidUpdateError: If the row holds NaN or Inf, or values beyond the grid, or has
                another length than the session says.
            ProtocolAbort: If too few shares are delivered, or some of a stranger.
            AuthenticationError: If shares were altered, are meant for somebody else, come
                from another session, or are not the ones their dealer committed to.
        """
        self._turn(Phase.UPLOAD)
        held = self._held | self._opened(delivery)
        values, num_clipped, num_vanished = self._encoded(row)
        add_mask = self.session.add_mask
        add_mask(values, self._seed)
        for peer in self.session.peers(self.number, held):
            add_mask(values, self._pair_seeds[peer], subtract=peer < self.number)
        self._held, self.num_clipped, self.num_vanished = held, num_clipped, num_vanished
        # A second upload of another row under the same masks would show the difference.
        self._next = Phase.CONSISTENCY if self.session.active_server else Phase.UNMASKING
        return Upload(self.number, values)

    def _encoded(self, row: np.ndarray) -> Encoded:
        row = as_array(f"the update of client {self.number}", row, InvalidUpdateError)
        if row.ndim != 1:
            raise InvalidUpdateError(
                f"the update of client {self.number} must be a vector, got shape {row.shape}"
            )
        grid, needed = self.session.grid, self.session.num_coordinates
        if needed not in (None, len(row)):
            raise InvalidUpdateError(
                f"the update of client {self.number} has {len(row)} coordinates, needed {needed}"
            )
        try:
            return grid.encode(row) if self.allow_clipping else grid.encode_unclipped(row)
        except InvalidUpdateError as error:
            raise InvalidUpdateError(f"the update of client {self.number}: {error}") from None

    def _opened(self, delivery: Delivery) -> dict[int, tuple[Share, Share]]:
        what = "delivery of shares"
        self._require_well_formed(delivery, Delivery, what)
        if delivery.client != self.number:
            self._refuse(what, f"it is for client {delivery.client}")
        self._require_clients(delivery.pairs, what)
        strangers = set(delivery.pairs) - set(self._opening_keys)
        if strangers:
            self._refuse(what, f"I agreed on no key with client {min(strangers)}")
        self._require_enough(1 + len(delivery.pairs), what)
        return {dealer: self._open(dealer, pair) for dealer, pair in delivery.pairs.items()}

    def _open(self, dealer: int, pair: SealedPair) -> tuple[Share, Share]:
        what = f"shares that client {dealer} dealt"
        if flaw := find_flaw(pair, SealedPair):
            self._refuse(what, flaw, dealer)
        number = 1 + self.session.holders(dealer).index(self.number)
        needed = (number, self.session.threshold)
        try:
            shares = _unseal(pair.sealed, self._opening_keys[dealer])
            for share, commitment in zip(
                shares, (pair.key_commitment, pair.seed_commitment), strict=True
            ):
                got = (share.number, share.threshold)
                if got != needed:
                    self._refuse(what, f"number and threshold are {got}, needed {needed}", dealer)
                shamir.require_committed(share, commitment, "one")
        except WireFormatError as error:  # it sealed what is no share
            self._refuse(what, str(error), dealer)
        except AuthenticationError as error:
            self._refuse(what, str(error), dealer, AuthenticationError)
        return shares

    # --- 4. consistency --------------------------------------------------------------------------

    @_in_turn
    def sign_survivors(self, survivors: Survivors) -> SurvivorSignature:
        """Sign the list of those whose upload arrived, so that all can compare it.

        Raises:
            ProtocolAbort: If the list is too short, holds a stranger or a name twice, or
                not me.
        """
        self._turn(Phase.CONSISTENCY)
        what = "list of survivors"
        self._require_well_formed(survivors, Survivors, what)
        self._require_survivors(survivors.clients, what)
        signed = self.session.signed_survivors(self._key_digest, survivors.clients)
        signature = self._identity.sign(signed, purpose=SURVIVORS_PURPOSE)
        self._signed = survivors.clients
        self._next = Phase.UNMASKING
        return SurvivorSignature(self.number, signature)

    # --- 5. unmasking ----------------------------------------------------------------------------

    @_in_turn
    def unmask(self, request: UnmaskRequest) -> Reveal:
        """Reveal my share of each survivor's seed, and of each dropped client's mask key.

        Never both of one client: the two together unmask its row. So this answers once,
        and forgets every secret.

        Raises:
            ProtocolAbort: If a client is on both lists, on one twice, on neither, or a
                stranger; if I am said to have left; if too few survived; if the list is
                not the one that I signed.
            AuthenticationError: If fewer than the threshold signed the same list (active server).
        """
        self._turn(Phase.UNMASKING)
        what = "unmask request"
        self._require_well_formed(request, UnmaskRequest, what)
        both = set(request.survived) & set(request.dropped)
        if both:
            why = "both shares together unmask its row"
            self._refuse(what, f"client {min(both)} is listed as survived and dropped; {why}")
        if self.number in request.dropped:
            self._refuse(what, "I am listed as dropped, but my upload was sent")
        self._require_clients(request.dropped, what)
        strangers = set(request.survived + request.dropped) - set(self._held)
        if strangers:
            self._refuse(what, f"I hold no shares of client {min(strangers)}")
        self._require_survivors(request.survived, what)
        missing = set(self._held) - set(request.survived + request.dropped)
        if missing:
            self._refuse(what, f"it says nothing of client {min(missing)}, whose shares I hold")
        if self.session.active_server:
            self._require_signatures(request)
        reveal = Reveal(
            self.number,
            seed_shares={dealer: self._held[dealer][1] for dealer in request.survived},
            key_shares={dealer: self._held[dealer][0] for dealer in request.dropped},
        )
        self._next = _DONE
        self._mask_private = self._mask_keys = self._transport_keys = self._seed = None
        self._held, self._pair_seeds, self._opening_keys = {}, {}, {}
        return reveal

    def _require_signatures(self, request: UnmaskRequest) -> None:
        """At least the threshold of different survivors signed the list that I signed.

        Enough good ones are enough: what else comes along is not counted, and stops nobody.
        """
        what, threshold = "unmask request", self.session.threshold
        if request.survived != self._signed:
            self._refuse(what, "its survivors are not those of the list that I signed")
        signed = self.session.signed_survivors(self._key_digest, request.survived)
        signers, junk = set(), []
        for signature in request.signatures:
            if len(signers) == threshold:
                break
            flaw = self._flaw_of(signature, signed, request.survived)
            if flaw:
                junk.append(flaw)
            else:
                signers.add(signature.client)
        if len(signers) < threshold:
            others = f"; not counted: {'; '.join(junk[:3])}" if junk else ""
            why = f"{len(signers)} clients signed its list of survivors, needed {threshold}{others}"
            self._refuse(what, why, error=AuthenticationError)

    def _flaw_of(self, signature: Any, signed: dict, survivors: tuple[int, ...]) -> str | None:
        if flaw := find_flaw(signature, SurvivorSignature):
            return flaw
        if signature.client not in survivors:
            return f"one of client {signature.client}, who did not survive"
        try:
            identity = self._directory.find(client_name(signature.client))
            identity.verify(signature.signature, signed, purpose=SURVIVORS_PURPOSE)
        except AuthenticationError as error:
            return str(error)
        return None

    # --- checks that several rounds share --------------------------------------------------------

    def _turn(self, phase: Phase) -> None:
        if self._next != phase:
            done = "has answered" if self._next > phase else "cannot yet answer"
            raise ProtocolAbort(
                f"client {self.number} {done} phase {phase.name}: each is answered once, in order"
            )

    def _require_well_formed(self, message: Any, kind: type, what: str) -> None:
        if flaw := find_flaw(message, kind):
            self._refuse(what, flaw)

    def _require_clients(self, clients: Iterable[int], what: str) -> None:
        """Clients of this session, each once."""
        seen = set()
        for client in clients:
            if client not in range(self.session.num_clients):
                self._refuse(what, f"there is no client {client!r} in this session")
            if client in seen:
                self._refuse(what, f"client {client} is listed more than once")
            seen.add(client)

    def _require_survivors(self, survivors: tuple[int, ...], what: str) -> None:
        self._require_clients(survivors, what)
        if self.number not in survivors:
            self._refuse(what, "I am not listed as a survivor, but my upload was sent")
        strangers = set(survivors) - set(self._held)
        if strangers:
            self._refuse(what, f"I hold no shares of client {min(strangers)}")
        self._require_enough(len(survivors), what)

    def _require_enough(self, count: int, what: str) -> None:
        threshold = self.session.threshold
        if count < threshold:
            self._refuse(what, f"it leaves {count} of the {threshold} clients it takes")

    def _refuse(
        self,
        what: str,
        why: str,
        peer: int | None = None,
        error: type[ProtocolAbort | AuthenticationError] = ProtocolAbort,
    ) -> NoReturn:
        refusal = error(f"client {self.number} refuses the {what}: {why}")
        refusal.peer = peer
        raise refusal from None

    def __repr__(self) -> str:
        phase = "finished" if self._next == _DONE else f"next phase {Phase(self._next).name}"
        return f"SecAggClient(number {self.number}, secrets hidden, {phase})"

    def __reduce_ex__(self, protocol: int) -> Any:
        raise CopyRefusedError("a SecAggClient holds secrets and answers once: it is not copied")


def _seal(shares: tuple[Share, Share], key: bytes) -> bytes:
    """Nonce, ciphertext and tag; the key serves for this one message."""
    plain = b"".join(share.to_bytes() for share in shares)
    nonce, sealed = os.urandom(aead.NONCE_BYTES), bytearray(len(plain) + aead.TAG_BYTES)
    aead.seal_with(plain, nonce, _SHARES_AAD, aead.Key.from_bytes(key), sealed)
    return nonce + bytes(sealed)


def _unseal(message: bytes, key: bytes) -> tuple[Share, Share]:
    nonce, sealed = message[: aead.NONCE_BYTES], message[aead.NONCE_BYTES :]
    plain = bytearray(2 * SHARE_BYTES)
    if len(sealed) != len(plain) + aead.TAG_BYTES:
        raise AuthenticationError(f"{len(message)} bytes cannot be two sealed shares")
    try:
        aead.open_with(sealed, nonce, _SHARES_AAD, aead.Key.from_bytes(key), plain)
    except InvalidTag:
        raise AuthenticationError(
            "altered, of another session, or sealed for somebody else"
        ) from None
    first, second = bytes(plain[:SHARE_BYTES]), bytes(plain[SHARE_BYTES:])
    return Share.from_bytes(first), Share.from_bytes(second)
