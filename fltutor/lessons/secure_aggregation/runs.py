"""Notebook 08: one real round under masks, with somebody who attacks all that is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fltutor.attacks import Recovery
from fltutor.crypto import prg
from fltutor.errors import ProtocolAbort
from fltutor.fixed_point import DEFAULT_GRID
from fltutor.knowledge import WIRE, Knowledge, who_knows_what
from fltutor.lessons.single_digits import Cohort, attack_uploads, one_digit_each, uploads
from fltutor.protocols import plain_sum, secagg_sum
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
