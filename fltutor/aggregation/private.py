"""Averages that no single client shows in: clip, sum, add noise once, divide."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from fltutor.aggregation.arguments import bound_in
from fltutor.aggregation.averaging import AggregateResult, SumProtocol, finite_weights
from fltutor.border import as_kind, as_real
from fltutor.errors import InvalidParameterError
from fltutor.fixed_point import FixedPoint
from fltutor.privacy.budget import PrivacyBudget
from fltutor.privacy.mechanisms import gaussian_mechanism
from fltutor.protocols.plain import plain_sum
from fltutor.transcript import Phase, SumResult, Transcript, uploaders
from fltutor.vectors import as_updates, clip_by_norm, row_norms

_LARGEST = 1e300  # leaves room for a sum of 1e8 clients


class AdaptiveClip:
    """A clipping norm that follows a quantile of the clients' norms, round after round.

    Too small a norm throws updates away, too large a one drowns them in noise, and which
    one is right nobody knows beforehand. So each client adds a bit to its row, "my update
    was not longer than the norm", and the noisy share of such clients moves the norm.

    One object serves one run: :func:`dp_mean` moves it after each round that succeeds.

    Args:
        start: The norm of the first round, in the units of the model weights. A start
            that is off by a factor f costs about ``log(f) / (quantile * learning_rate)``
            rounds if too small, with ``1 - quantile`` in place of ``quantile`` if too large.
        quantile: Share of the clients whose update should stay as it is, 0 to 1.
        learning_rate: The norm changes by a factor of about ``exp(learning_rate)`` at most.
        bit_noise: Standard deviation of the noise on the number of bits, in clients. It must
            be above half the noise multiplier. None takes a twentieth of the expected
            cohort, as the paper does, and at least the noise multiplier.

    Attributes:
        path: The norm of each round so far, and of the next one.

    Example:
        >>> clip = AdaptiveClip(start=8.0, quantile=0.5, learning_rate=np.log(4))
        >>> clip.step(unclipped_share=1.0)
        >>> clip.path
        (8.0, 4.0)

    Reference:
        Andrew et al., NeurIPS 2021, Algorithm 1. https://arxiv.org/abs/1905.03871
    """

    def __init__(
        self,
        start: float,
        *,
        quantile: float = 0.5,
        learning_rate: float = 0.2,
        bit_noise: float | None = None,
    ):
        self.quantile = as_real("quantile", quantile, least=0, most=1)
        self.learning_rate = as_real("learning_rate", learning_rate, above=0)
        self.bit_noise = None if bit_noise is None else as_real("bit_noise", bit_noise, least=0)
        self._path = [as_real("start", start, above=0)]

    def __repr__(self) -> str:
        done = len(self._path) - 1
        return f"AdaptiveClip({self.clip_norm:.4g} after {done} rounds, quantile={self.quantile:g})"

    @property
    def clip_norm(self) -> float:
        """The norm of the next round."""
        return self._path[-1]

    @property
    def path(self) -> tuple[float, ...]:
        """The norm of each round so far, and of the next one."""
        return tuple(self._path)

    def split(self, noise_multiplier: float, expected_cohort: float) -> tuple[float, float]:
        """Divide the noise of a round between the updates and the bit; see :func:`split_noise`.

        Returns:
            The noise multiplier of the updates, and the standard deviation of the noise on
            the number of bits.

        Raises:
            InvalidParameterError: If the bit would cost more than the round may.
        """
        noise_multiplier = as_real("noise_multiplier", noise_multiplier, least=0)
        expected_cohort = as_real("expected_cohort", expected_cohort, above=0)
        if noise_multiplier == 0:
            return 0.0, self.bit_noise or 0.0
        bit_noise = self.bit_noise
        if bit_noise is None:
            bit_noise = max(expected_cohort / 20, noise_multiplier)
        return split_noise(noise_multiplier, bit_noise), bit_noise

    def step(self, unclipped_share: float) -> None:
        """Move the norm down if more clients than ``quantile`` were not clipped, up if fewer.

        Args:
            unclipped_share: The noisy share of unclipped clients; noise may take it
                below 0 or above 1.
        """
        unclipped_share = as_real("unclipped_share", unclipped_share)
        exponent = -self.learning_rate * (unclipped_share - self.quantile)
        with np.errstate(over="ignore", under="ignore"):
            moved = float(self.clip_norm * np.exp(exponent))
        self._path.append(min(max(moved, sys.float_info.min), sys.float_info.max))


def split_noise(noise_multiplier: float, bit_noise: float) -> float:
    """Give the noise multiplier for the updates that leaves room for the noisy bit.

    A client's bit, sent as -1/2 or 1/2, moves the sum of bits by 1/2, so noise of standard
    deviation ``bit_noise`` hides it with noise multiplier 2 bit_noise. Scale both parts
    of the row to noise 1, and the row is one vector: the updates with this noise multiplier
    and the bit together cost exactly what ``noise_multiplier`` costs alone.

    Args:
        noise_multiplier: What the whole round may cost, positive.
        bit_noise: Standard deviation of the noise on the number of bits, in clients.

    Returns:
        ``(noise_multiplier**-2 - (2 * bit_noise)**-2) ** -0.5``.

    Raises:
        InvalidParameterError: If ``bit_noise`` is not above half the noise multiplier: the
            bit alone would cost more than the round may.

    Example:
        >>> round(split_noise(1.0, bit_noise=5.0), 4)
        1.005

    Reference:
        Andrew et al., NeurIPS 2021, Theorem 1. https://arxiv.org/abs/1905.03871
    """
    noise_multiplier = as_real("noise_multiplier", noise_multiplier, above=0)
    checked = as_real("bit_noise", bit_noise, least=-np.inf, most=np.inf)
    if not noise_multiplier / 2 < checked < np.inf:
        raise InvalidParameterError(
            f"bit_noise must be finite and above half the noise multiplier, "
            f"{noise_multiplier / 2:g}, got {bit_noise}: the bit alone would cost more than the "
            "round may"
        )
    ratio = noise_multiplier / (2 * checked)
    return noise_multiplier / math.sqrt((1 - ratio) * (1 + ratio))


def dp_mean(
    updates: np.ndarray,
    weights: Sequence[float] | None = None,
    *,
    clip_norm: float | AdaptiveClip,
    noise_multiplier: float,
    expected_cohort: float | None = None,
    max_weight: float | None = None,
    expected_shares: float | None = None,
    budget: PrivacyBudget | None = None,
    sum_protocol: SumProtocol = plain_sum,
    dropped: Mapping[int, Phase] | None = None,
    rng: np.random.Generator | None = None,
    allow_no_noise: bool = False,
) -> AggregateResult:
    """Average client updates so that no one client shows: clip, sum, add noise once, divide.

    Adding or removing one client moves the clipped sum by at most ``clip_norm``. The noise
    covers that, and the divisor is fixed beforehand, so neither depends on who came.
    The server adds the noise here: it is trusted to, and what it publishes is private.

    Args:
        updates: One row per client, shape (n, d); n may be 0 when sampling chose nobody.
            A row with NaN or Inf counts as zero: telling anyone would single it out. Clipped
            rows travel in the dtype of ``updates``, float16 in float32.
        weights: One number per client, zero or more, such as its number of examples; only
            with ``max_weight``. None weighs all alike.
        clip_norm: Largest L2 norm a row keeps, in the units of the model weights; or an
            :class:`AdaptiveClip`, whose bit travels as one more coordinate of each row.
        noise_multiplier: Standard deviation of the noise in units of ``clip_norm``. With an
            :class:`AdaptiveClip` the updates get a little more of it, so that the round with
            its bit costs the same.
        expected_cohort: Expected number of clients, fixed beforehand, positive; for equal
            weights.
        max_weight: The weight that counts as 1. Client k's whole row is multiplied by its
            share ``min(weights[k] / max_weight, 1)``, so that no weight moves the sum by
            more than the noise covers. Fix it beforehand, too.
        expected_shares: Expected total of these shares, fixed beforehand, positive; needed
            with weights, in place of ``expected_cohort``. A total computed from the weights
            of those who came would tell about them.
        budget: Charged for the round before anything is summed. A round that fails after
            that, such as a protocol that aborts, stays charged.
        sum_protocol: How the rows are added, from :mod:`fltutor.protocols`. Where it rounds to
            a grid, as ``secagg_sum`` and ``paillier_sum`` do, rows are rounded before, and what
            that made too long is shortened. On a grid with steps near ``clip_norm / sqrt(d)``
            this costs much of the update. A grid shows if it is an argument, a default, in a
            closure or a global name of ``sum_protocol``; one made in its body does not. Nor is
            the error of ``ckks_sum`` counted, of up to its resolution in each coordinate.
        dropped: The phase in which a client leaves, by client number.
        rng: None draws noise from the operating system. A seeded generator marks the
            result as a demonstration.
        allow_no_noise: Must be True to accept ``noise_multiplier=0`` (epsilon is infinite).

    Returns:
        The noisy average, with the norm it was clipped to and what the budget then says.
        Its epsilon belongs to the whole run: see
        :func:`fltutor.privacy.accounting.epsilon_after`.

    Raises:
        InvalidParameterError: If weights come without a bound, or a parameter is out of range.
            Nothing is charged then. What ``sum_protocol`` refuses, such as a threshold bound
            inside it, shows only when it runs: that round stays charged.
        InvalidUpdateError: If ``updates`` is no float matrix.
        BudgetExceededError: If the budget does not allow the round; nothing is summed then.

    Example:
        >>> updates = np.array([[3.0, 4.0], [0.0, -1.0]])
        >>> no_noise = {"noise_multiplier": 0, "allow_no_noise": True}
        >>> dp_mean(updates, clip_norm=1.0, expected_cohort=2, **no_noise).update.round(3)
        array([ 0.3, -0.1])
        >>> bounded = {"max_weight": 20, "expected_shares": 2}
        >>> dp_mean(updates, [10, 50], clip_norm=1.0, **bounded, **no_noise).update.round(3)
        array([ 0.15, -0.3 ])

    Reference:
        McMahan et al., ICLR 2018, Algorithm 1 with the fixed-denominator estimator, where
        ``max_weight`` is called the per-user example cap. https://arxiv.org/abs/1710.06963
        Andrew et al., NeurIPS 2021, Algorithm 1. https://arxiv.org/abs/1905.03871
    """
    updates = as_updates(updates, allow_empty=True)
    noise_multiplier = as_real("noise_multiplier", noise_multiplier, least=0)
    shares = _shares(weights, max_weight, len(updates))
    divisor = _divisor(weights, expected_cohort, expected_shares)
    adaptive = clip_norm if isinstance(clip_norm, AdaptiveClip) else None
    clip_norm = adaptive.clip_norm if adaptive else as_real("clip_norm", clip_norm, above=0)

    def add_noise(value, sensitivity, multiplier):
        return gaussian_mechanism(
            value, sensitivity, multiplier, rng, allow_no_noise=allow_no_noise
        )

    add_noise(np.zeros(0), clip_norm, noise_multiplier)  # refuses what is out of range
    _require_range(clip_norm * max(1.0, noise_multiplier), divisor)
    budget = None if budget is None else as_kind("budget", budget, PrivacyBudget)
    if not callable(sum_protocol):
        raise InvalidParameterError(
            "sum_protocol must be a function such as plain_sum or secagg_sum, got "
            f"{type(sum_protocol).__name__}"
        )
    grid = _grid_of(sum_protocol)
    noise_of_updates, bit_noise = noise_multiplier, 0.0
    if adaptive:
        noise_of_updates, bit_noise = adaptive.split(noise_multiplier, divisor)
    present = uploaders(len(updates), dropped)
    spent = None
    if budget is not None:
        spent = budget.charge(noise_multiplier, demonstration=rng is not None)

    if present:
        usable = np.isfinite(updates).all(axis=1, keepdims=True)
        updates = np.where(usable, updates, 0)
        clipped = clip_by_norm(updates, clip_norm)
        sent = clipped.dtype  # shares are at most 1: rounding does not lengthen a row again
        rows = shares[:, None] * clipped
        if grid is not None:
            rows, sent = _on_grid(rows, grid, clip_norm), np.float64
        if adaptive:
            bits = row_norms(updates) <= clip_norm
            rows = np.column_stack([rows, shares * (bits - 0.5)])
        result = sum_protocol(rows.astype(sent), dropped)
    else:  # sampling chose nobody, or all of them left; the noise must not tell
        width = updates.shape[1] + (adaptive is not None)
        result = SumResult(np.zeros(width), (), Transcript())

    total = result.total[: updates.shape[1]]
    noisy = add_noise(total, clip_norm, noise_of_updates)
    if adaptive:
        bits = add_noise(result.total[-1], 0.5, 2 * bit_noise)
        adaptive.step(float(bits.value) / divisor + 0.5)
    return AggregateResult(
        noisy.value / divisor,
        result.included,
        result.transcript,
        noisy.demonstration or (budget is not None and budget.demonstration),
        clip_norm,
        spent,
    )


def _grid_of(sum_protocol: SumProtocol) -> FixedPoint | None:
    """The grid that a protocol rounds rows to, if it has one; the coarsest, if it is in doubt."""
    try:
        grid = inspect.signature(sum_protocol).parameters["grid"].default
    except (KeyError, TypeError, ValueError):
        grid = None
    if isinstance(grid, FixedPoint):
        return grid
    found = [each for _, each in bound_in(sum_protocol) if isinstance(each, FixedPoint)]
    return max(found, key=lambda each: each.resolution, default=None)


def _on_grid(rows: np.ndarray, grid: FixedPoint, clip_norm: float) -> np.ndarray:
    """Round rows to the grid, and then shorten those that this made longer than the norm.

    A shortened row loses up to a step in each coordinate, so that on a grid whose steps are
    longer than ``clip_norm / sqrt(d)`` little may be left of it.
    """
    steps = np.rint(rows.astype(np.float64) / grid.resolution)
    rounding = (rows.shape[1] + 4) * 2.0**-52  # of a norm in float64, and more than that
    longest = clip_norm / grid.resolution * (1 - rounding)
    for row in steps:
        while (length := np.linalg.norm(row)) > longest:
            row[:] = np.trunc(row * (longest / length))
    return steps * grid.resolution


def _require_range(scale: float, divisor: float) -> None:
    """Refuse, before anything is charged, a mean that float64 could not hold."""
    if not max(scale, scale / divisor) <= _LARGEST:
        raise InvalidParameterError(
            f"clip_norm, noise_multiplier and the expected number of clients, {divisor:g}, give "
            f"averages beyond {_LARGEST:g}: needed a smaller norm or noise, or more clients"
        )


def _shares(
    weights: Sequence[float] | None, max_weight: float | None, num_clients: int
) -> np.ndarray:
    """What part of a client's row counts, 0 to 1, shape (n,)."""
    if weights is None:
        if max_weight is not None:
            raise InvalidParameterError("max_weight bounds weights, and there are none")
        return np.ones(num_clients)
    if max_weight is None:
        raise InvalidParameterError(
            "dp_mean takes no weights without max_weight: the noise covers clip_norm per client, "
            "and an unbounded weight would let one client move the sum by more"
        )
    max_weight = as_real("max_weight", max_weight, above=0)
    with np.errstate(over="ignore"):
        return np.minimum(finite_weights(weights, num_clients) / max_weight, 1)


def _divisor(
    weights: Sequence[float] | None,
    expected_cohort: float | None,
    expected_shares: float | None,
) -> float:
    """The fixed number that the sum is divided by."""
    needed, given = ("expected_cohort", expected_cohort), ("expected_shares", expected_shares)
    if weights is not None:
        needed, given = given, needed
    kind = "equal weights" if weights is None else "weights"
    if needed[1] is None or given[1] is not None:
        raise InvalidParameterError(
            f"with {kind} dp_mean divides by {needed[0]}, fixed beforehand: give it, and not "
            f"{given[0]}"
        )
    return as_real(*needed, above=0)
