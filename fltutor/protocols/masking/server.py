"""The server of secure aggregation: it works on what clients send, and holds no secret."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

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
)
from fltutor.protocols.masking.session import Session
from fltutor.transcript import Phase


class Rejected(NamedTuple):
    """A share that was not used: who revealed it, whose secret it is of, and what is wrong."""

    revealed_by: int
    dealt_by: int
    reason: str


class SecAggServer:
    """Collects the messages of each round, then says what all are told next.

    ``receive_...`` takes one client's message, in any order within a round. The method
    that answers ends the round: whoever is not there by then has left.

    Args:
        session: What all agreed on.

    Attributes:
        rejected: Revealed shares that were not the ones dealt; the sum went on without.
    """

    def __init__(self, session: Session):
        self.session = session
        self.rejected: list[Rejected] = []
        self._phase = Phase.KEYS
        self._adverts: dict[int, KeyAdvert] = {}
        self._dealt: dict[int, DealtShares] = {}
        self._uploaded: dict[int, None] = {}
        self._total: np.ndarray | None = None
        self._signatures: dict[int, SurvivorSignature] = {}
        self._revealed: dict[int, Reveal] = {}
        self._good: dict[tuple[str, int], list[Share]] = {}

    # --- 1. keys ---------------------------------------------------------------------------------

    def receive_keys(self, advert: KeyAdvert) -> None:
        """Take the public keys of one client."""
        self._take(Phase.KEYS, advert.client, range(self.session.num_clients), self._adverts)
        self._adverts[advert.client] = advert

    def key_lists(self) -> dict[int, KeyList]:
        """End the round of keys: for each client the public keys of its peers and its own.

        Raises:
            TooFewClients: If fewer than the threshold are there; so do the other rounds.
        """
        self._end(Phase.KEYS, self._adverts)
        present = sorted(self._adverts)
        if self.session.graph is None:
            return dict.fromkeys(present, KeyList(tuple(map(self._adverts.get, present))))
        return {
            client: KeyList(tuple(map(self._adverts.get, self._with_peers(client, present))))
            for client in present
        }

    # --- 2. shares -------------------------------------------------------------------------------

    def receive_shares(self, dealt: DealtShares) -> None:
        """Take the sealed shares that one client deals.

        Raises:
            ProtocolAbort: If they are not for exactly those who should hold them.
        """
        self._take(Phase.SHARES, dealt.client, self._adverts, self._dealt)
        holders = self._with_peers(dealt.client, self._adverts)
        if sorted(dealt.pairs) != holders:
            raise ProtocolAbort(
                f"client {dealt.client} dealt shares to {sorted(dealt.pairs)}, needed {holders}"
            )
        self._dealt[dealt.client] = dealt

    def deliveries(self) -> dict[int, Delivery]:
        """End the round of shares: for each client what the others dealt to it."""
        self._end(Phase.SHARES, self._dealt)
        return {
            client: Delivery(
                client,
                {
                    dealer: self._dealt[dealer].pairs[client]
                    for dealer in self.session.peers(client, self._dealt)
                },
            )
            for client in sorted(self._dealt)
        }

    # --- 3. upload -------------------------------------------------------------------------------

    def receive_upload(self, upload: Upload) -> None:
        """Add one masked row; it need not be kept.

        Raises:
            InvalidUpdateError: If its length or dtype is not that of the others.
        """
        self._take(Phase.UPLOAD, upload.client, self._dealt, self._uploaded)
        values = upload.values
        if values.dtype != self.session.grid.dtype or values.ndim != 1:
            raise InvalidUpdateError(
                f"the upload of client {upload.client} must be a vector of "
                f"{self.session.grid.dtype}, got {values.dtype} of shape {values.shape}"
            )
        if self._total is None:
            self._total = np.zeros_like(values)
        if values.shape != self._total.shape:
            raise InvalidUpdateError(
                f"the upload of client {upload.client} has {len(values)} coordinates, "
                f"needed {len(self._total)}"
            )
        self._total += values
        self._uploaded[upload.client] = None

    def survivors(self) -> Survivors:
        """End the round of uploads: those whose rows will be in the sum."""
        self._end(Phase.UPLOAD, self._uploaded)
        if not self.session.active_server:
            self._phase = Phase.UNMASKING
        return Survivors(tuple(sorted(self._uploaded)))

    # --- 4. consistency --------------------------------------------------------------------------

    def receive_signature(self, signature: SurvivorSignature) -> None:
        """Take one client's signature of the list of survivors."""
        self._take(Phase.CONSISTENCY, signature.client, self._uploaded, self._signatures)
        self._signatures[signature.client] = signature

    # --- 5. unmasking ----------------------------------------------------------------------------

    def unmask_requests(self) -> dict[int, UnmaskRequest]:
        """End the round of signatures, if there is one: for each client, what to reveal."""
        if self.session.active_server:
            self._end(Phase.CONSISTENCY, self._signatures)
        asked = self._signatures if self.session.active_server else self._uploaded
        signatures = tuple(self._signatures[client] for client in sorted(self._signatures))
        requests = {}
        for client in sorted(asked):
            known = self._with_peers(client, self._dealt)
            survived = tuple(other for other in known if other in self._uploaded)
            dropped = tuple(other for other in known if other not in self._uploaded)
            requests[client] = UnmaskRequest(survived, dropped, signatures)
        return requests

    def receive_reveal(self, reveal: Reveal) -> None:
        """Take the shares that one client reveals, and keep those that were dealt to it.

        A share that its dealer did not commit to is noted in ``rejected`` with both names;
        with enough good ones from others the sum goes on.
        """
        asked = self._signatures if self.session.active_server else self._uploaded
        self._take(Phase.UNMASKING, reveal.client, asked, self._revealed)
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

    def total(self) -> np.ndarray:
        """Take all masks off the sum of the uploads.

        Returns:
            The sum of the rows that arrived, as ring elements, shape (d,).

        Raises:
            TooFewClients: If fewer than the threshold revealed good shares of some secret.
            ProtocolAbort: If the shares that a client dealt do not fit together.
        """
        self._end(Phase.UNMASKING, self._revealed)
        total, add_mask = self._total.copy(), self.session.add_mask
        for client in sorted(self._dealt):
            if client in self._uploaded:
                add_mask(total, self._recover("seed", client), subtract=True)
            else:
                mask_keys = self._recovered_keys(client)
                for peer in self.session.peers(client, self._uploaded):
                    label = self.session.mask_label(self._adverts[client], self._adverts[peer])
                    seed = derive(agree(mask_keys, self._adverts[peer].mask_key), label)
                    # The peer subtracted the masks of those before it, and added the others.
                    add_mask(total, seed, subtract=client > peer)
        return total

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

    def _take(self, phase: Phase, client: int, expected: Iterable[int], seen: dict) -> None:
        """A message must be of this round, of a client that is still there, and its first."""
        if self._phase != phase:
            raise ProtocolAbort(
                f"a message of client {client} for phase {phase.name} came in {self._phase.name}"
            )
        if client not in expected:
            raise ProtocolAbort(f"client {client} has no part in phase {phase.name}")
        if client in seen:
            raise ProtocolAbort(f"client {client} sent a second message in phase {phase.name}")

    def _end(self, phase: Phase, present: Iterable[int]) -> None:
        if self._phase != phase:
            raise ProtocolAbort(f"phase {phase.name} cannot end in {self._phase.name}")
        present = sorted(present)
        if len(present) < self.session.least_survivors:
            raise TooFewClients(phase, present, self.session.least_survivors)
        self._phase = Phase(min(phase + 1, Phase.UNMASKING))
