"""The server of secure aggregation: it works on what clients send, and holds no secret."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from fltutor.border import as_flag, as_kind, is_whole, shown
from fltutor.crypto import shamir
from fltutor.crypto.keys import KeyPair, agree, derive
from fltutor.crypto.shamir import Share
from fltutor.errors import (
    AuthenticationError,
    InvalidParameterError,
    InvalidUpdateError,
    ProtocolAbort,
    TooFewClients,
)
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
    sender,
)
from fltutor.protocols.masking.session import Session, one_at_a_time
from fltutor.transcript import Phase


class Rejected(NamedTuple):
    """A share that was not used: who revealed it, whose secret it is of, and what is wrong."""

    revealed_by: int
    dealt_by: int
    reason: str


class SecAggServer:
    """Collects the messages of each round, then says what all are told next.

    ``receive_...`` takes one client's message, in any order within a round. One that is refused
    leaves everything as it was. The method that answers ends the round: whoever is not there by
    then has left.

    Uploads and revealed shares are not signed. Whoever can alter an upload on its way, or send
    one in another's name, changes the sum: they need channels that authenticate, such as
    :mod:`fltutor.crypto.channel`, not only ones that hide.

    Args:
        session: What all agreed on.
        keep_uploads: Keep each upload until the round of uploads ends, so that its client can
            still be left out; that takes the memory of all rows. False adds each at once: then
            the first upload says how long a row is, and whoever has uploaded stays.

    Attributes:
        rejected: Revealed shares that were not the ones dealt; the sum went on without.
        excluded: Clients that were left out on purpose, and why.
    """

    def __init__(self, session: Session, *, keep_uploads: bool = True):
        self.session = as_kind("session", session, Session)
        self._keep_uploads = as_flag("keep_uploads", keep_uploads)
        self.excluded: dict[int, str] = {}
        self.rejected: list[Rejected] = []
        self._phase = Phase.KEYS
        self._adverts: dict[int, KeyAdvert] = {}
        self._public_keys: set[bytes] = set()
        self._dealt: dict[int, DealtShares] = {}
        self._dealers: dict[int, Collection[int]] = {}  # whose shares each client was sent
        self._uploaded: dict[int, np.ndarray | None] = {}  # None: it is in the total
        self._total: np.ndarray | None = None
        self._signatures: dict[int, SurvivorSignature] = {}
        self._revealed: dict[int, Reveal] = {}
        self._good: dict[tuple[str, int], list[Share]] = {}
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, so that a copy goes on by itself."""
        with self._lock:
            state = {name: value for name, value in vars(self).items() if name != "_lock"}
            return copy.deepcopy(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    # --- 1. keys ---------------------------------------------------------------------------------

    @one_at_a_time
    def receive_keys(self, advert: KeyAdvert) -> None:
        """Take the public keys of one client.

        Raises:
            ProtocolAbort: If the message is malformed or out of turn, as in every round; if the
                client is in another session; if a key of it is another's too.
        """
        self._take(Phase.KEYS, advert, KeyAdvert, range(self.session.num_clients), self._adverts)
        if advert.session != self.session.digest:
            raise ProtocolAbort(
                f"client {advert.client} is in another session: its number of clients, threshold, "
                "graph, grid, kind of server, run or round differs"
            )
        keys = {advert.transport_key, advert.mask_key}
        if len(keys) < 2 or keys & self._public_keys:
            raise ProtocolAbort(f"client {advert.client} sent a key that comes twice")
        self._public_keys |= keys
        self._adverts[advert.client] = advert

    @one_at_a_time
    def key_lists(self) -> dict[int, KeyList]:
        """End the round of keys: for each client the public keys of its peers and its own.

        Raises:
            TooFewClients: If fewer than the threshold are there; so do the other rounds.
        """
        self._end(Phase.KEYS, self._adverts)
        return self._key_lists()

    def _key_lists(self) -> dict[int, KeyList]:
        present = sorted(self._adverts)
        if self.session.graph is None:
            return dict.fromkeys(present, KeyList(tuple(map(self._adverts.get, present))))
        return {
            client: KeyList(tuple(map(self._adverts.get, self._with_peers(client, present))))
            for client in present
        }

    # --- 2. shares -------------------------------------------------------------------------------

    @one_at_a_time
    def receive_shares(self, dealt: DealtShares) -> None:
        """Take the sealed shares that one client deals.

        Raises:
            ProtocolAbort: If they are not for exactly those who should hold them.
        """
        self._take(Phase.SHARES, dealt, DealtShares, self._adverts, self._dealt)
        holders = self._with_peers(dealt.client, self._adverts)
        if sorted(dealt.pairs) != holders:
            raise ProtocolAbort(
                f"client {dealt.client} dealt shares to {sorted(dealt.pairs)}, needed {holders}"
            )
        self._dealt[dealt.client] = dealt

    @one_at_a_time
    def deliveries(self) -> dict[int, Delivery]:
        """End the round of shares: for each client what the others dealt to it."""
        self._end(Phase.SHARES, self._dealt)
        return self._deliveries()

    def _deliveries(self) -> dict[int, Delivery]:
        """What to send to those whose upload is not there yet, without those who are excluded."""
        dealers = [client for client in sorted(self._dealt) if client not in self.excluded]
        waiting = [client for client in dealers if client not in self._uploaded]
        for client in waiting:
            self._dealers[client] = self.session.peers(client, dealers)
        return {
            client: Delivery(
                client,
                {dealer: self._dealt[dealer].pairs[client] for dealer in self._dealers[client]},
            )
            for client in waiting
        }

    @one_at_a_time
    def exclude(self, client: int, why: str) -> dict[int, KeyList] | dict[int, Delivery]:
        """Leave a client out whose keys or shares others refuse, and go on without it.

        It counts as one that left, and is named in ``excluded``. Nobody but the two knows
        whether a dealer lied or the one that refuses its shares; whoever is at odds with
        many is the likelier liar. A client that is not asked again loses nothing but its part.

        Uploads that are there carry a mask with it. Those who sent them hold its shares: the
        threshold of them can take it off. Where they are fewer, their uploads are left out, too,
        and named in ``excluded``.

        Args:
            client: Whom to leave out: before its keys are in anybody's shares, or, once shares
                were dealt, before the round of uploads ends.
            why: What to note.

        Returns:
            What to send anew to those who have not answered: key lists, or deliveries.

        Raises:
            ProtocolAbort: If it is too late, or the client has no part in the round.
            TooFewClients: If too few are left without it: a new round must do without it.
        """
        why = as_kind("why", why, str)
        present = {Phase.SHARES: self._adverts, Phase.UPLOAD: self._dealt}.get(self._phase, {})
        if not is_whole(client) or client not in present or client in self.excluded:
            raise ProtocolAbort(
                f"client {shown(client)} cannot be excluded: it has no part in phase "
                f"{self._phase.name}"
            )
        client = int(client)
        if self._phase == Phase.UPLOAD:
            out = self._with_carriers({**self.excluded, client: why})
            whose = f" without client {client} and the uploads that carry masks with it"
            self._require_enough(self._phase, set(present) - set(out), whose)
            self._leave_out(out)
            return self._deliveries()
        others = [other for other in present if other != client]
        if any(client in self._dealt[other].pairs for other in others if other in self._dealt):
            raise ProtocolAbort(f"client {client} cannot be excluded any more: start a new round")
        self._require_enough(self._phase, others)
        self.excluded[client] = why
        del self._adverts[client]
        self._dealt.pop(client, None)
        lists = self._key_lists()
        return {other: keys for other, keys in lists.items() if other not in self._dealt}

    def _with_carriers(self, out: dict[int, str]) -> dict[int, str]:
        """Those who are out, and those whose uploads carry a mask that too few could take off."""
        while more := self._too_few_carriers(out):
            out = {**out, **more}
        return out

    def _too_few_carriers(self, out: Mapping[int, str]) -> dict[int, str]:
        for dealer in out:
            carriers = [
                client
                for client in self._uploaded
                if client not in out and dealer in self._dealers[client]
            ]
            if 0 < len(carriers) < self.session.threshold:
                why = f"its upload carries a mask with client {dealer} that too few can take off"
                return dict.fromkeys(carriers, why)
        return {}

    def _leave_out(self, out: dict[int, str]) -> None:
        counted = [client for client in out if client in self._uploaded]
        if counted and not self._keep_uploads:
            raise ProtocolAbort(
                f"client {counted[0]} cannot be excluded any more: its upload was added and not "
                "kept. Start a new round"
            )
        self.excluded = out
        for client in counted:
            del self._uploaded[client]

    # --- 3. upload -------------------------------------------------------------------------------

    @one_at_a_time
    def receive_upload(self, upload: Upload) -> None:
        """Take one masked row.

        Raises:
            InvalidUpdateError: If its dtype or its length is not that of the session.
        """
        self._take(Phase.UPLOAD, upload, Upload, self._dealers, self._uploaded)
        values = upload.values
        if values.dtype != self.session.grid.dtype or values.ndim != 1:
            raise InvalidUpdateError(
                f"the upload of client {upload.client} must be a vector of "
                f"{self.session.grid.dtype}, got {values.dtype} of shape {values.shape}"
            )
        needed = self.session.num_coordinates
        if needed is None and self._total is not None:
            needed = len(self._total)
        if needed is not None and len(values) != needed:
            raise InvalidUpdateError(
                f"the upload of client {upload.client} has {len(values)} coordinates, "
                f"needed {needed}"
            )
        if not self._keep_uploads:
            self._add(values)
        self._uploaded[int(upload.client)] = values.copy() if self._keep_uploads else None

    def _add(self, values: np.ndarray) -> None:
        if self._total is None:
            self._total = np.zeros_like(values)
        self._total += values

    @one_at_a_time
    def survivors(self) -> Survivors:
        """End the round of uploads: those whose rows will be in the sum.

        Where the session leaves open how long a row is, the length of most uploads counts; others
        are left out, and named in ``excluded``.
        """
        self._require_phase(Phase.UPLOAD)
        others = self._of_another_length()
        if others:
            one = set(self._uploaded) - set(others)
            self._require_enough(Phase.UPLOAD, one, " whose uploads are of one length")
        out = self._with_carriers({**self.excluded, **others})
        self._end(Phase.UPLOAD, set(self._uploaded) - set(out))
        self._leave_out(out)
        for client, values in self._uploaded.items():
            if values is not None:
                self._add(values)
                self._uploaded[client] = None
        if not self.session.active_server:
            self._phase = Phase.UNMASKING
        return Survivors(tuple(sorted(self._uploaded)))

    def _of_another_length(self) -> dict[int, str]:
        lengths = {client: len(kept) for client, kept in self._uploaded.items() if kept is not None}
        [(most, _)] = Counter(lengths.values()).most_common(1) or [(None, 0)]
        return {
            client: f"its upload has {length} coordinates, most have {most}"
            for client, length in lengths.items()
            if length != most
        }

    # --- 4. consistency --------------------------------------------------------------------------

    @one_at_a_time
    def receive_signature(self, signature: SurvivorSignature) -> None:
        """Take one client's signature of the list of survivors."""
        seen, expected = self._signatures, self._uploaded
        self._take(Phase.CONSISTENCY, signature, SurvivorSignature, expected, seen)
        self._signatures[signature.client] = signature

    # --- 5. unmasking ----------------------------------------------------------------------------

    @one_at_a_time
    def unmask_requests(self) -> dict[int, UnmaskRequest]:
        """End the round of signatures, if there is one: for each client, what to reveal."""
        if self.session.active_server:
            self._end(Phase.CONSISTENCY, self._signatures)
        asked = self._signatures if self.session.active_server else self._uploaded
        signatures = tuple(self._signatures[client] for client in sorted(self._signatures))
        requests = {}
        for client in sorted(asked):
            known = sorted([client, *self._dealers[client]])
            survived = tuple(other for other in known if other in self._uploaded)
            dropped = tuple(other for other in known if other not in self._uploaded)
            requests[client] = UnmaskRequest(survived, dropped, signatures)
        return requests

    @one_at_a_time
    def receive_reveal(self, reveal: Reveal) -> None:
        """Take the shares that one client reveals, and keep those that were dealt to it.

        A share that its dealer did not commit to is noted in ``rejected`` with both names;
        with enough good ones from others the sum goes on.
        """
        asked = self._signatures if self.session.active_server else self._uploaded
        self._take(Phase.UNMASKING, reveal, Reveal, asked, self._revealed)
        self._revealed[reveal.client] = reveal
        for kind, shares in (("seed", reveal.seed_shares), ("key", reveal.key_shares)):
            for dealer, share in shares.items():
                try:
                    self._check(kind, share, reveal.client, dealer)
                except (AuthenticationError, ProtocolAbort) as error:
                    self.rejected.append(Rejected(reveal.client, dealer, str(error)))
                else:
                    self._good.setdefault((kind, dealer), []).append(share)

    def _check(self, kind: str, share: Share, client: int, dealer: int) -> None:
        what = f"client {client}'s share of the {kind} of client {dealer}"
        if dealer not in self._dealt or (kind == "seed") != (dealer in self._uploaded):
            raise ProtocolAbort(f"{what} was not asked for")
        pair: SealedPair | None = self._dealt[dealer].pairs.get(client)
        if pair is None:
            raise ProtocolAbort(f"{what} was never dealt")
        commitment = pair.seed_commitment if kind == "seed" else pair.key_commitment
        shamir.require_committed(share, commitment, what)

    @one_at_a_time
    def total(self) -> np.ndarray:
        """Take all masks off the sum of the uploads.

        Returns:
            The sum of the rows that arrived, as ring elements, shape (d,).

        Raises:
            TooFewClients: If fewer than the threshold revealed good shares of some secret.
            ProtocolAbort: If the shares that a client dealt do not fit together, or the total
                is beyond what so many rows can add up to: then masks did not cancel.
        """
        self._end(Phase.UNMASKING, self._revealed)
        total, add_mask = self._total.copy(), self.session.add_mask
        for client in sorted(self._dealt):
            if client in self._uploaded:
                add_mask(total, self._recover("seed", client), subtract=True)
                continue
            # Those who still carry a mask with a client that left: all, unless it was excluded.
            peers = [peer for peer in self._uploaded if client in self._dealers[peer]]
            mask_keys = self._recovered_keys(client) if peers else None
            for peer in peers:
                label = self.session.mask_label(self._adverts[client], self._adverts[peer])
                seed = derive(agree(mask_keys, self._adverts[peer].mask_key), label)
                # The peer subtracted the masks of those before it, and added the others.
                add_mask(total, seed, subtract=client > peer)
        self._require_in_range(total)
        return total

    def _require_in_range(self, total: np.ndarray) -> None:
        """Masks that are left make a number anywhere in the ring: most lie beyond any sum."""
        grid, num_rows = self.session.grid, len(self._uploaded)
        largest = num_rows * round(grid.largest / grid.resolution)
        signed = total.view(f"int{grid.ring_bits}")
        if signed.max(initial=0) > largest or signed.min(initial=0) < -largest:
            raise ProtocolAbort(
                f"the total is beyond what {num_rows} rows on this grid can add up to, "
                f"±{num_rows * grid.largest:g}: some upload does not carry the masks of this "
                "session. It was altered on its way, or its client lies. Nothing is released"
            )

    def _recover(self, kind: str, client: int) -> bytes:
        shares = self._good.get((kind, client), [])
        threshold = self.session.threshold
        if len(shares) < threshold:
            whose = f" with good shares of the {kind} of client {client}"
            raise TooFewClients(Phase.UNMASKING, self._holders_of(shares, client), threshold, whose)
        try:
            return shamir.combine(shares[:threshold])
        except InvalidParameterError as error:
            raise ProtocolAbort(
                f"the shares that client {client} dealt of its {kind} do not fit together: {error}"
            ) from None

    def _recovered_keys(self, client: int) -> KeyPair:
        mask_keys = KeyPair.from_bytes(self._recover("key", client))
        if mask_keys.public_key != self._adverts[client].mask_key:
            raise ProtocolAbort(f"client {client} dealt shares of another key than it published")
        return mask_keys

    def _holders_of(self, shares: Iterable[Share], dealer: int) -> list[int]:
        holders = self.session.holders(dealer)
        return sorted(holders[share.number - 1] for share in shares)

    def _with_peers(self, client: int, present: Iterable[int]) -> list[int]:
        return sorted([client, *self.session.peers(client, present)])

    # --- every round -----------------------------------------------------------------------------

    def _take(
        self, phase: Phase, message: Any, kind: type, expected: Iterable[int], seen: dict
    ) -> None:
        """Well-formed, of this round, of a client that is still there, and its first."""
        if flaw := find_flaw(message, kind):
            raise ProtocolAbort(f"a message of {sender(message)} is malformed: {flaw}")
        client = message.client
        if self._phase != phase:
            raise ProtocolAbort(
                f"a message of client {client} for phase {phase.name} came in {self._phase.name}"
            )
        if client not in expected or client in self.excluded:
            raise ProtocolAbort(f"client {client} has no part in phase {phase.name}")
        if client in seen:
            raise ProtocolAbort(f"client {client} sent a second message in phase {phase.name}")

    def _end(self, phase: Phase, present: Iterable[int]) -> None:
        self._require_phase(phase)
        self._require_enough(phase, present)
        self._phase = Phase(min(phase + 1, Phase.UNMASKING))

    def _require_phase(self, phase: Phase) -> None:
        if self._phase != phase:
            raise ProtocolAbort(f"phase {phase.name} cannot end in {self._phase.name}")

    def _require_enough(self, phase: Phase, present: Iterable[int], whose: str = "") -> None:
        present = sorted(present)
        if len(present) < self.session.least_survivors:
            raise TooFewClients(phase, present, self.session.least_survivors, whose)
