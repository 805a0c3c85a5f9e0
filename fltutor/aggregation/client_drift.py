"""How far the clients of a round pull in different directions: client drift, as two numbers.

An average keeps what the clients agree on. What they disagree about cancels in it, and the
work that went into it is lost. A sum hides this: whoever measures it must see the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fltutor.aggregation.averaging import finite_weights
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.vectors import as_updates, require_finite_rows, row_norms

LONGEST = 1e150
"""Squares of longer updates could leave the range of float64."""


@dataclass(frozen=True)
class Drift:
    """How far the updates of one round agree.

    Attributes:
        arrows: Each update seen from above, shape (n, 2): along the mean update, and
            along the direction at right angles to it in which clients differ most.
        average: The mean update in the same picture, shape (2,); its second entry is 0.
        agreement: Mean cosine between the updates of two clients, -1 to 1.
        kept: Length of the mean update over the mean length of updates, 0 to 1: what is
            left when the clients' wishes are averaged.
    """

    arrows: np.ndarray = field(repr=False)
    average: np.ndarray = field(repr=False)
    agreement: float
    kept: float


def drift(updates: np.ndarray, weights: Sequence[float] | None = None) -> Drift:
    """Measure how much clients pull in different directions.

    A small agreement alone does not show that clients hold different data: once what is
    common has been learned, clients who hold alike data disagree, too.

    Args:
        updates: One row per client, shape (n, d), none of them all zero.
        weights: One number per client for the means, zero or more, such as its number of
            examples; None counts all alike. ``agreement`` counts all pairs alike.

    Returns:
        Lengths are L2 norms, in the units of the model weights. One client alone agrees
        with itself: 1.

    Raises:
        InvalidUpdateError: If an update is all zero (a zero has no direction), not finite, or
            1e150 long, or ``updates`` is no float matrix.
        InvalidParameterError: If the weights do not fit, or are all zero.

    Example:
        >>> found = drift(np.array([[3.0, 4.0], [3.0, -4.0]]))
        >>> round(found.agreement, 2), round(found.kept, 2)
        (-0.28, 0.6)
        >>> np.abs(found.arrows)
        array([[3., 4.],
               [3., 4.]])

    Reference:
        Karimireddy et al., ICML 2020, section 3, on client drift in FedAvg; the two numbers
        and the picture are this course's. https://arxiv.org/abs/1910.06378
    """
    require_finite_rows(updates)
    updates = as_updates(updates).astype(np.float64)
    lengths = row_norms(updates)
    for client in np.flatnonzero(~((lengths > 0) & (lengths < LONGEST))):
        raise InvalidUpdateError(
            f"the update of client {client} has no direction that float64 can tell: its length "
            f"is {lengths[client]:g}"
        )
    if weights is not None:
        weights = finite_weights(weights, len(updates))
        with np.errstate(over="ignore"):
            total = weights.sum()
        if not 0 < total < np.inf:
            raise InvalidParameterError(f"weights must have a positive, finite total, got {total}")
        weights /= total
    average = np.average(updates, axis=0, weights=weights)
    size = np.linalg.norm(average)
    along = average / size if size > 0 else np.zeros_like(average)
    rest = updates - np.outer(updates @ along, along)
    across = np.linalg.svd(rest, full_matrices=False)[2][0]
    across *= -1 if rest[0] @ across < 0 else 1  # either sign would do; this one stays
    arrows = np.stack([updates @ along, rest @ across], axis=1)
    directions = updates / lengths[:, None]
    pairs = np.triu_indices(len(updates), 1)
    cosines = (directions @ directions.T)[pairs]
    return Drift(
        arrows=arrows,
        average=np.array([size, 0.0]),
        agreement=float(cosines.mean()) if cosines.size else 1.0,
        kept=float(size / np.average(lengths, weights=weights)),
    )
