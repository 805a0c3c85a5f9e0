"""A private average without a trusted server: each client's noise goes in before the masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from fltutor.aggregation.averaging import AggregateResult
from fltutor.border import as_flag, as_generator, as_kind, as_numbers, as_real
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.privacy.accounting import ADD_OR_REMOVE_ONE, PrivacySpent
from fltutor.privacy.budget import PrivacyBudget
from fltutor.privacy.discrete import discrete_gaussian
from fltutor.privacy.distributed import ZERO_OUT, NoiseShares, guaranteed_shares
from fltutor.protocols.masking import Session, secagg_sum
from fltutor.transcript import Phase, uploaders
from fltutor.vectors import as_updates, clip_by_norm


def distributed_dp_mean(
    updates: np.ndarray,
    weights: None = None,
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected_cohort: float,
    threshold: int,
    num_colluding: int = 0,
    grid: FixedPoint = DEFAULT_GRID,
    budget: PrivacyBudget | None = None,
    active_server: bool = False,
    round_number: int = 0,
    dropped: Mapping[int, Phase] | None = None,
    rng: np.random.Generator | None = None,
    allow_no_noise: bool = False,
    keep_payloads: bool = False,
) -> AggregateResult:
    """Average client updates so that not even the server sees the sum without noise.

    Each client clips its update, rounds it to the grid and adds discrete Gaussian noise of its
    own, a share of what the sum needs; then secure aggregation adds the rows. Shares are so
    large that those of ``threshold - num_colluding`` clients suffice. Since no sum of fewer than
    ``threshold`` rows is ever unmasked, the noise is never less than planned when clients drop;
    it is more when they stay: with n rows, by a factor of ``n / (threshold - num_colluding)``
    in variance.

    Who learns what: a server that follows the protocol (with ``active_server`` also one that
    lies about keys and survivors) and up to ``num_colluding`` clients together learn the
    noisy sum and who took part. How many may collude follows from the threshold: fewer than that
    with a curious server, fewer than ``2 * threshold - n`` with one that lies, since more could
    unmask rows; more are refused. :func:`~fltutor.privacy.distributed.distributed_epsilon_after`
    bounds what that says about an honest client's row. Honest clients are trusted to add their
    noise: each that does not, or that the server invented, counts as colluding. Nothing stops
    a client from sending a senseless row.

    Args:
        updates: One row per client, shape (n, d). A row with NaN or Inf counts as zero:
            telling anyone would single it out.
        weights: Must be None. A weight such as the number of examples would let one
            client change the sum by more than the noise covers.
        clip_norm: Largest L2 norm a row keeps, in the units of the model weights.
        noise_multiplier: Standard deviation of the noise that is counted on, in units of
            ``clip_norm``.
        expected_cohort: Expected number of clients, fixed beforehand, positive.
        threshold: How many clients must stay to the end, as in
            :func:`~fltutor.protocols.masking.secagg_sum`.
        num_colluding: How many clients may collude with the server: below ``threshold``, and with
            ``active_server`` below ``2 * threshold - n``.
        grid: The grid that rows are rounded to. A coarse one costs privacy: rounding adds
            up to sqrt(d) / 2 steps to a row's norm.
        budget: Charged for the round, as for Gaussian noise that costs no less, before anything
            is sent. A round that fails after that stays charged. It must count by Rényi
            divergences and without sampling. What the sampler adds to delta, below 1e-36 up
            to an epsilon of 60 and a billion draws, is left out.
        active_server, round_number, keep_payloads: As in ``secagg_sum``.
        dropped: The phase in which a client leaves, by client number.
        rng: None draws each client's noise from the operating system. A seeded generator marks
            the result as a demonstration.
        allow_no_noise: Must be True to accept ``noise_multiplier=0`` (epsilon is infinite).

    Returns:
        The noisy average, and what the budget then says. Its epsilon belongs to the whole run.

    Raises:
        InvalidParameterError: If weights are given, a parameter is out of range, a row with
            its noise could leave the grid, or the sum the ring. Nothing is charged then.
        InvalidUpdateError: If ``updates`` is no float matrix of at least one row.
        BudgetExceededError: If the budget does not allow the round; nothing is sent then.
        TooFewClients: If fewer than ``threshold`` are left in some phase. Nothing is
            released then, and a new try draws new noise.

    Example:
        >>> updates = np.array([[3.0, 4.0], [0.0, -1.0], [0.5, 0.5]])
        >>> private = distributed_dp_mean(
        ...     updates, clip_norm=1.0, noise_multiplier=0, allow_no_noise=True,
        ...     expected_cohort=3, threshold=2, dropped={2: Phase.UPLOAD})
        >>> private.update.round(3), private.included
        (array([ 0.2  , -0.067]), (0, 1))

    Reference:
        Kairouz, Liu and Steinke, ICML 2021, Algorithm 1, here with rounding to the
        nearest step, without rotation, and with a ring in which nothing wraps around.
        https://arxiv.org/abs/2102.06387
    """
    if weights is not None:
        raise InvalidParameterError(
            "distributed_dp_mean takes no weights: the noise covers clip_norm per client, and a "
            "weight would let one client move the sum by more"
        )
    expected_cohort = as_real("expected_cohort", expected_cohort, above=0)
    rng = None if rng is None else as_generator("rng", rng)
    budget = None if budget is None else as_kind("budget", budget, PrivacyBudget)
    allow_no_noise = as_flag("allow_no_noise", allow_no_noise)
    updates = as_updates(updates)
    Session(len(updates), threshold, grid=grid, active_server=active_server)  # refuses
    shares = NoiseShares(
        clip_norm,
        noise_multiplier,
        updates.shape[1],
        guaranteed_shares(threshold, num_colluding, len(updates), active_server=active_server),
        grid,
        allow_no_noise,
    )
    uploaders(len(updates), dropped)  # refuses
    spent = None if budget is None else _charge(budget, shares, rng is not None)
    result = secagg_sum(
        (noisy_row(update, shares, rng)[np.newaxis] for update in updates),
        dropped,
        threshold=threshold,
        grid=grid,
        active_server=active_server,
        num_clients=len(updates),
        round_number=round_number,
        keep_payloads=keep_payloads,
    )
    return AggregateResult(
        result.total / expected_cohort,
        result.included,
        result.transcript,
        demonstration=rng is not None or (budget is not None and budget.demonstration),
        clip_norm=float(clip_norm),
        spent=spent,
    )


def noisy_row(
    update: np.ndarray, shares: NoiseShares, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Do what one client does before it masks: clip, round to the grid, add its noise.

    One client's share alone is too little noise to show the row to anyone.

    Args:
        update: Shape (d,). Counts as zero if it holds NaN or Inf.
        shares: What all clients agreed on.
        rng: None draws from the operating system.

    Returns:
        Shape (d,), float64: whole multiples of the grid's resolution within its ends.

    Raises:
        InvalidUpdateError: If ``update`` has another length than agreed, or holds no numbers.

    Example:
        >>> shares = NoiseShares(1.0, 0, num_coordinates=2, num_shares=1, allow_no_noise=True,
        ...                      grid=FixedPoint(fraction_bits=3, bits=20))
        >>> noisy_row(np.array([3.0, 4.0]), shares)
        array([0.625, 0.75 ])
    """
    shares = as_kind("shares", shares, NoiseShares)
    update = as_numbers("update", update, InvalidUpdateError, finite=False).astype(np.float64)
    if update.shape != (shares.num_coordinates,):
        raise InvalidUpdateError(
            f"update must have shape ({shares.num_coordinates},), got {update.shape}"
        )
    if not np.isfinite(update).all():
        update = np.zeros_like(update)
    clipped = clip_by_norm(update[np.newaxis], shares.clip_norm)[0]
    steps = _within(np.rint(clipped / shares.grid.resolution), shares.sensitivity)
    if shares.noise_multiplier:
        steps = steps + discrete_gaussian(shares.scale, len(steps), rng)
    return steps * shares.grid.resolution


def _charge(budget: PrivacyBudget, shares: NoiseShares, seeded: bool) -> PrivacySpent:
    """Charge one round; what adding or removing a client costs, zeroing its row costs too."""
    before = budget.spent
    if before.accountant != "rdp" or before.sampling != "none":
        raise InvalidParameterError(
            "budget must count with accountant 'rdp' and sampling 'none': nothing else is known of "
            f"a sum of discrete Gaussians; got {before.accountant!r} and {before.sampling!r}"
        )
    spent = budget.charge(shares.effective_noise_multiplier, demonstration=seeded)
    if spent.adjacency == ADD_OR_REMOVE_ONE:
        spent = dataclasses.replace(spent, adjacency=ZERO_OUT)
    return spent


def _within(steps: np.ndarray, sensitivity: float) -> np.ndarray:
    """Hold whole numbers to a norm exactly, whatever rounding did to the clipping before."""
    while (squared := steps @ steps) > sensitivity**2 * (1 - 1e-6):  # near: count in integers
        if sum(int(step) ** 2 for step in steps) <= Fraction(sensitivity) ** 2:
            break
        steps = np.trunc(steps * min(1 - 2.0**-20, sensitivity / np.sqrt(squared)))
    return steps
