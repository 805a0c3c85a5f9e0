"""Notebook 08: one real round under masks, with somebody who attacks all that is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fltutor.attacks import Recovery
from fltutor.border import as_whole
from fltutor.crypto import prg, shamir
from fltutor.crypto.keys import Directory, Identity, KeyPair, agree, derive
from fltutor.crypto.shamir import Share
from fltutor.errors import ProtocolAbort
from fltutor.fixed_point import DEFAULT_GRID
from fltutor.knowledge import WIRE, Knowledge, who_knows_what
from fltutor.lessons.single_digits import Cohort, attack_uploads, one_digit_each, uploads
from fltutor.protocols import plain_sum, secagg_sum
from fltutor.protocols.masking import SecAggClient, SecAggServer, Session
from fltutor.protocols.masking.client import SURVIVORS_PURPOSE
from fltutor.protocols.masking.messages import Reveal, Survivors, SurvivorSignature, UnmaskRequest
from fltutor.transcript import SERVER, Phase, client_name

MAX_CLIENTS = 10
FULL_RING = DEFAULT_GRID.ring_bits
MASK_BITS = (FULL_RING, 48, 32, 24, 22, 20, 18, 16, 0)


def masks_of(bits: int) -> Callable[..., None]:
    """Make masks of the lowest bits only, to show why they must fill the ring.

    Returns:
        A replacement for :func:`fltutor.crypto.prg.add_mask`.

    Example:
        >>> masked = np.zeros(1000, np.uint64)
        >>> masks_of(16)(masked, bytes(32))
        >>> int(masked.max()) < 2**16
        True
    """

    def add_mask(accumulator: np.ndarray, seed: bytes, *, subtract: bool = False) -> None:
        mask = prg.expand(seed, len(accumulator), accumulator.dtype)
        mask &= accumulator.dtype.type(2**bits - 1)
        (np.subtract if subtract else np.add)(accumulator, mask, out=accumulator)

    return prg.add_mask if bits == FULL_RING else add_mask


@dataclass(frozen=True)
class MaskedRound:
    """One round, and what became of it.

    Attributes:
        cohort: Who holds what.
        uploaded: What the server received, read as real numbers, by client.
        from_uploads: The attack on each upload alone, one line for each of them.
        total: The sum, or None if the round was aborted.
        from_total: The attack on the sum.
        error: How far the sum is from the plain sum of the same rows, at most.
        knowledge: Who can compute what, taking masks as perfect.
        abort: Why the round was aborted.
        settings: The settings in words.
        mask_bits: Bits of the masks.
    """

    cohort: Cohort
    uploaded: dict[int, np.ndarray]
    from_uploads: Recovery
    total: np.ndarray | None
    from_total: Recovery | None
    error: float
    knowledge: Knowledge
    abort: str
    settings: str
    mask_bits: int


def masked_round(
    clients: int = 6,
    threshold: int = 4,
    leaving: int = 0,
    phase: Phase = Phase.UPLOAD,
    mask_bits: int = FULL_RING,
    colluding: int = 0,
) -> MaskedRound:
    """Run secure aggregation on real updates, and attack every upload and the sum.

    Args:
        clients: How many; each holds one digit.
        threshold: How many must stay.
        leaving: How many leave, the last ones.
        phase: When they leave.
        mask_bits: 64 for masks that fill the ring; fewer to see what goes wrong.
        colluding: Clients, the first ones, that give the server all they have.

    Raises:
        InvalidParameterError: If the threshold protects nobody.

    Example:
        >>> masked_round(clients=3, threshold=2).knowledge.knows("server", "row 0")
        False
    """
    cohort = one_digit_each(clients)
    leaving, colluding = min(leaving, clients), min(colluding, clients)
    dropped = dict.fromkeys(range(clients - leaving, clients), phase)
    total, abort = None, ""
    try:
        result = secagg_sum(
            cohort.updates,
            dropped,
            threshold=threshold,
            add_mask=masks_of(mask_bits),
            keep_payloads=True,
        )
        transcript, total = result.transcript, result.total
    except ProtocolAbort as stopped:
        transcript, abort = stopped.transcript, str(stopped)
    uploaded = {i: DEFAULT_GRID.decode(v) for i, v in uploads(transcript).items()}
    from_total, error = None, 0.0
    if total is not None:
        from_total = cohort.attack(total, result.included)
        error = float(np.abs(total - plain_sum(cohort.updates, dropped).total).max())
    observers: list[str | tuple[str, ...]] = [SERVER, WIRE, client_name(0)]
    if colluding:
        observers.append((SERVER, *map(client_name, range(colluding))))
    leave = f"{leaving} leave{'s' * (leaving == 1)} before {phase.name}"
    leave = leave if leaving else "nobody leaves"
    settings = f"{clients} clients, threshold {threshold}, {leave}, masks of {mask_bits} bits"
    return MaskedRound(
        cohort,
        uploaded,
        attack_uploads(cohort, transcript),
        total,
        from_total,
        error,
        who_knows_what(transcript, observers),
        abort,
        settings,
        mask_bits,
    )


class Colluder(SecAggClient):
    """A client on the server's side: it signs any list, and hands over the shares it holds."""

    __slots__ = ()

    def sign(self, survivors: tuple[int, ...]) -> SurvivorSignature:
        """Sign one more list of survivors, which an honest client does once."""
        signed = self.session.signed_survivors(self._key_digest, survivors)
        return SurvivorSignature(
            self.number, self._identity.sign(signed, purpose=SURVIVORS_PURPOSE)
        )

    def shares_of(self, dealer: int) -> tuple[Share, Share]:
        """Both shares that a dealer gave it: of its mask key, and of its self-mask's seed."""
        return self._held[dealer]


def two_lists(rows: np.ndarray, threshold: int, num_colluding: int) -> np.ndarray:
    """Let a lying server tell one group that client 0 stayed, and another that it left.

    Client 0 is the victim, the last ones collude, and the honest ones are the package's own
    clients with ``active_server=True``. Each group takes ``threshold`` signatures; the
    colluding clients sign for both.

    Args:
        rows: Shape (n, d).
        threshold: Above 2 n / 3, below n.
        num_colluding: From 0 to ``threshold - 1``. It takes ``2 * threshold - n``.

    Returns:
        The row of client 0 as the server computes it, shape (d,).

    Raises:
        AuthenticationError: If too few signed one list: the clients reveal nothing.

    Example:
        >>> two_lists(np.eye(5), threshold=4, num_colluding=3)
        array([1., 0., 0., 0., 0.])
    """
    everybody = tuple(range(len(rows)))
    threshold = as_whole("threshold", threshold, most=len(rows) - 1)
    colluding = as_whole("num_colluding", num_colluding, least=0, most=threshold - 1)
    session = Session(len(rows), threshold, active_server=True)
    identities = [Identity.generate(client_name(i)) for i in everybody]
    directory = Directory(identity.public for identity in identities)
    honest = everybody[: len(rows) - colluding]
    clients = [
        (SecAggClient if i in honest else Colluder)(i, session, identities[i], directory)
        for i in everybody
    ]
    traitors = clients[len(honest) :]

    server = SecAggServer(session)  # it follows the protocol until the uploads are there
    for client in clients:
        server.receive_keys(client.advertise_keys())
    key_lists = server.key_lists()
    for client in clients:
        server.receive_shares(client.deal_shares(key_lists[client.number]))
    deliveries = server.deliveries()
    uploads = [client.upload(deliveries[client.number], rows[client.number]) for client in clients]

    def ask(group: tuple[int, ...], survived: tuple[int, ...]) -> list[Reveal]:
        signatures = [clients[i].sign_survivors(Survivors(survived)) for i in group]
        signatures += [traitor.sign(survived) for traitor in traitors]
        dropped = tuple(i for i in everybody if i not in survived)
        return [
            clients[i].unmask(UnmaskRequest(survived, dropped, tuple(signatures))) for i in group
        ]

    needed = threshold - colluding  # honest signatures under each list
    stayed = ask(honest[:needed], everybody)
    left = ask(honest[needed : 2 * needed], everybody[1:])
    seed_shares = [reveal.seed_shares[0] for reveal in stayed]
    seed_shares += [traitor.shares_of(0)[1] for traitor in traitors]
    key_shares = [reveal.key_shares[0] for reveal in left]
    key_shares += [traitor.shares_of(0)[0] for traitor in traitors]

    row, adverts = uploads[0].values.copy(), key_lists[0].adverts
    prg.add_mask(row, shamir.combine(seed_shares), subtract=True)
    mask_keys = KeyPair.from_bytes(shamir.combine(key_shares))
    for peer in everybody[1:]:
        label = session.mask_label(adverts[0], adverts[peer])
        seed = derive(agree(mask_keys, adverts[peer].mask_key), label)
        prg.add_mask(row, seed, subtract=True)  # client 0 added the masks of all later ones
    return session.grid.decode(row)


def exact_from_sums(num_clients: int, seeds: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Attack masked uploads and their sum: what share of the images comes back exactly?

    Returns:
        From the sum, shape (seeds,); and from the uploads one by one, shape (seeds,). For
        one client there is no secure sum: the first is what its bare update gives.
    """
    from_sums, from_uploads = np.zeros(seeds), np.zeros(seeds)
    for seed in range(seeds):
        cohort, everybody = one_digit_each(num_clients, seed), tuple(range(num_clients))
        if num_clients == 1:
            total = cohort.updates[0]
        else:
            threshold = num_clients // 2 + 1
            result = secagg_sum(cohort.updates, threshold=threshold, keep_payloads=True)
            total = result.total
            from_uploads[seed] = attack_uploads(cohort, result.transcript).exact_share
        from_sums[seed] = cohort.attack(total, everybody).exact_share
    return from_sums, from_uploads
