"""Averages that no single client shows in: clip, sum, add noise once, divide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fltutor.aggregation.averaging import AggregateResult, SumProtocol
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.privacy.mechanisms import gaussian_mechanism
from fltutor.protocols.plain import plain_sum
from fltutor.transcript import Phase, SumResult, Transcript, uploaders
from fltutor.vectors import clip_by_norm


def dp_mean(
    updates: np.ndarray,
    weights: None = None,
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected_cohort: float,
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
            A row with NaN or Inf counts as zero: telling anyone would single it out.
        weights: Must be None. A weight such as the number of examples would let one
            client change the sum by more than the noise covers.
        clip_norm: Largest L2 norm a row keeps, in the units of the model weights.
        noise_multiplier: Standard deviation of the noise in units of ``clip_norm``.
        expected_cohort: Expected number of clients, fixed beforehand, positive.
        sum_protocol: How the rows are added, from :mod:`fltutor.protocols`.
        dropped: The phase in which a client leaves, by client number.
        rng: None draws noise from the operating system. A seeded generator marks the
            result as a demonstration.
        allow_no_noise: Must be True to accept ``noise_multiplier=0`` (epsilon is infinite).

    Returns:
        The noisy average. Its epsilon belongs to the whole run: see
        :func:`fltutor.privacy.accounting.epsilon_after`.

    Raises:
        InvalidParameterError: If weights are given, or a parameter is out of range.
        InvalidUpdateError: If ``updates`` is no float matrix.

    Example:
        >>> updates = np.array([[3.0, 4.0], [0.0, -1.0]])
        >>> dp_mean(
        ...     updates, clip_norm=1.0, noise_multiplier=0, expected_cohort=2, allow_no_noise=True
        ... ).update.round(3)
        array([ 0.3, -0.1])

    Reference:
        McMahan et al., ICLR 2018, Algorithm 1 with the fixed-denominator estimator of
        section 3. https://arxiv.org/abs/1710.06963
    """
    if weights is not None:
        raise InvalidParameterError(
            "dp_mean takes no weights: the noise covers clip_norm per client, and a weight "
            "would let one client move the sum by more"
        )
    if not 0 < expected_cohort < np.inf:
        raise InvalidParameterError(
            f"expected_cohort must be positive and finite, got {expected_cohort}"
        )
    updates = np.asarray(updates)
    if updates.ndim != 2 or updates.dtype.kind != "f":
        raise InvalidUpdateError(
            f"updates must be a float matrix (n, d), got {updates.dtype} of shape {updates.shape}"
        )
    if uploaders(len(updates), dropped):
        usable = np.isfinite(updates).all(axis=1, keepdims=True)
        rows = clip_by_norm(np.where(usable, updates, 0), clip_norm)
        result = sum_protocol(rows, dropped)
    else:  # sampling chose nobody, or all of them left; the noise must not tell
        result = SumResult(np.zeros(updates.shape[1]), (), Transcript())
    noisy = gaussian_mechanism(
        result.total, clip_norm, noise_multiplier, rng, allow_no_noise=allow_no_noise
    )
    return AggregateResult(
        noisy.value / expected_cohort, result.included, result.transcript, noisy.demonstration
    )
