"""Servers that claim privacy, each with a bug planted in it: something for an audit to find.

All of them claim the same: each row clipped, Gaussian noise added once per round, one fixed
divisor. Whether an audit tells them apart says what the audit is worth. Never train with one
in earnest; :func:`fltutor.aggregation.dp_mean` is the mechanism without a bug.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fltutor.aggregation import dp_mean
from fltutor.border import as_generator, as_real
from fltutor.errors import InvalidParameterError
from fltutor.privacy.auditing import Mechanism
from fltutor.privacy.mechanisms import gaussian_mechanism
from fltutor.vectors import as_updates, clip_by_norm

BUGS = ("no bug", "forgets to clip", "halves the noise", "reuses the noise")
"""What :func:`plant_bug` plants: nothing, or one of three bugs."""


def plant_bug(
    bug: str,
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected_cohort: float,
    rng: np.random.Generator | None = None,
) -> Callable[[], Mechanism]:
    """Give the private mean, or one with a planted bug, as an audit wants it: ready to start.

    Args:
        bug: One of :data:`BUGS`.
        clip_norm: The L2 norm to which the mechanism claims to clip each row.
        noise_multiplier: The noise it claims to add to the sum of a round, as a standard
            deviation in units of ``clip_norm``.
        expected_cohort: The fixed divisor.
        rng: Source of the noise. None draws from the operating system; a seeded generator is
            for demonstrations.

    Returns:
        A function that starts a fresh mechanism, which goes from the updates of a round,
        (n, d), to what is released, (d,). The one that reuses its noise draws it in the first
        round after a start. As in ``dp_mean``, a row with NaN or Inf counts as zero.

    Raises:
        InvalidParameterError: If ``bug`` is none of them, or a number is not positive and finite.
        InvalidUpdateError: In a round, if the updates are no float matrix.

    Example:
        >>> claim = {"clip_norm": 1.0, "noise_multiplier": 1e-6, "expected_cohort": 1}
        >>> for bug in ("no bug", "forgets to clip"):
        ...     start = plant_bug(bug, rng=np.random.default_rng(0), **claim)
        ...     print(start()(np.array([[3.0, 4.0]])).round(3))
        [0.6 0.8]
        [3. 4.]
    """
    if bug not in BUGS:
        raise InvalidParameterError(f"bug must be one of {', '.join(BUGS)}, got {bug!r}")
    clip_norm = as_real("clip_norm", clip_norm, above=0)
    noise_multiplier = as_real("noise_multiplier", noise_multiplier, above=0)
    expected_cohort = as_real("expected_cohort", expected_cohort, above=0)
    if rng is not None:
        as_generator("rng", rng)

    def noisy(total: np.ndarray) -> np.ndarray:
        return gaussian_mechanism(total, clip_norm, noise_multiplier, rng).value

    def private_mean(noise: float) -> Mechanism:
        return lambda updates: (
            dp_mean(
                updates,
                clip_norm=clip_norm,
                noise_multiplier=noise,
                expected_cohort=expected_cohort,
                rng=rng,
            ).update
        )

    def forgetful() -> Mechanism:
        return lambda updates: (
            noisy(_usable(updates).sum(axis=0, dtype=np.float64)) / expected_cohort
        )

    def thrifty() -> Mechanism:
        drawn: list[np.ndarray] = []

        def mechanism(updates: np.ndarray) -> np.ndarray:
            updates = _usable(updates)
            if not drawn:
                drawn.append(noisy(np.zeros(updates.shape[1])))
            clipped = clip_by_norm(updates, clip_norm) if len(updates) else updates
            return (clipped.sum(axis=0, dtype=np.float64) + drawn[0]) / expected_cohort

        return mechanism

    return {
        "no bug": lambda: private_mean(noise_multiplier),
        "forgets to clip": forgetful,
        "halves the noise": lambda: private_mean(noise_multiplier / 2),
        "reuses the noise": thrifty,
    }[bug]


def _usable(updates: np.ndarray) -> np.ndarray:
    """The rows, with zeros for one that holds NaN or Inf."""
    updates = as_updates(updates, allow_empty=True)
    return np.where(np.isfinite(updates).all(axis=1, keepdims=True), updates, 0)
