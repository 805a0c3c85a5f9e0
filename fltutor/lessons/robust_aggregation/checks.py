"""Checks of notebook 13: Krum, the geometric median, and two cohorts with one sum."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from fltutor.aggregation import geometric_median, krum, median
from fltutor.checks import agree, named, no_answer, verdict

TOLERANCE = 1e-3
"""Mean pull that an answer to the geometric median may leave."""


def check_krum(mine: Callable[[np.ndarray, int], np.ndarray]) -> None:
    """Compare ``mine(updates, num_byzantine)`` with the package on rows that tell mistakes apart.

    Example:
        >>> check_krum(lambda updates, num_byzantine: ...)
        · not attempted yet
        >>> check_krum(lambda updates, num_byzantine: updates[9])
        ✗ my_krum differs in case 1 of 4: got -2.5862402 at 0, needed -0.56147828
    """

    def chosen(updates, f, *, first=1, more=0, square=True, best=np.argmin):
        squared = ((updates[:, None] - updates[None]) ** 2).sum(axis=2)
        ordered = np.sort(squared if square else np.sqrt(squared), axis=1)
        neighbours = len(updates) - f - 2 + more
        return updates[best(ordered[:, first : first + neighbours].sum(axis=1))]

    agree(
        named("my_krum", mine),
        krum,
        *_krum_cases(),
        mistakes={
            "Krum with itself as a neighbour: a row is at distance 0 from itself": (
                lambda u, f: chosen(u, f, first=0)
            ),
            "Krum with n - f neighbours: of those, some may be liars": (
                lambda u, f: chosen(u, f, more=2)
            ),
            "Krum with n - f - 1 neighbours: the paper takes n - f - 2": (
                lambda u, f: chosen(u, f, more=1)
            ),
            "Krum with all others as neighbours: a liar far away spoils every score": (
                lambda u, f: chosen(u, f, more=f + 1)
            ),
            "Krum with distances: the scores add their squares": (
                lambda u, f: chosen(u, f, square=False)
            ),
            "the row with the highest score: that is the loneliest": (
                lambda u, f: chosen(u, f, best=np.argmax)
            ),
            "the number of the row: give the row": (
                lambda u, f: np.flatnonzero((u == krum(u, f)).all(axis=1))[0]
            ),
        },
    )


@cache
def _krum_cases() -> tuple[tuple[np.ndarray, int], ...]:
    """Cohorts; in the first, Krum and each of its classic mistakes choose different rows."""
    cases = []
    for seed in (820, 0, 12, 18):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(11, 3)) * rng.uniform(0.3, 2, (11, 1))
        rows[9:] = 40 * rng.normal(size=(2, 3))
        cases.append((rows, 2))
    return tuple(cases)


def check_geometric_median(mine: Callable[[np.ndarray], np.ndarray]) -> None:
    """Judge ``mine(updates)`` by how hard the rows still pull at its answer.

    Example:
        >>> check_geometric_median(lambda updates: ...)
        · not attempted yet
        >>> check_geometric_median(lambda updates: updates.mean(axis=0))
        ✗ my_geometric_median: this is the mean: distances must not be squared
    """
    mistakes = {
        "the mean: distances must not be squared": lambda u: u.mean(axis=0),
        "the median of each coordinate: it depends on the axes": median,
        "one step only: the weights change when the point moves": _one_step,
        "the row with the smallest sum of distances: the point may lie between rows": (
            lambda u: u[np.linalg.norm(u[:, None] - u[None], axis=2).sum(axis=1).argmin()]
        ),
        "a mean with the distances as weights: far rows must count less": lambda u: np.average(
            u, axis=0, weights=np.linalg.norm(u - u.mean(axis=0), axis=1)
        ),
    }

    def attempt():
        for number, updates in enumerate(_median_cases(), start=1):
            answer = mine(updates.copy())
            if answer is None or answer is ...:
                return no_answer(mine, answer)
            answer = np.asarray(answer, dtype=np.float64)
            if answer.shape != updates.shape[1:]:
                return f"my_geometric_median gives shape {answer.shape}, needed {updates.shape[1:]}"
            if not np.isfinite(answer).all():
                return (
                    f"my_geometric_median gives {answer[0]} in cohort {number}: a point that has "
                    "reached a row divides by distance 0"
                )
            if _excess(updates, answer) > TOLERANCE:
                for name, mistake in mistakes.items():
                    if np.allclose(answer, mistake(updates), atol=1e-6):
                        return f"my_geometric_median: this is {name}"
                return (
                    f"the sum of distances in cohort {number} can still become smaller: more steps?"
                )
        return None

    verdict(attempt, f"my_geometric_median ends at the median of {len(_median_cases())} cohorts")


def _one_step(updates: np.ndarray) -> np.ndarray:
    weights = 1 / np.linalg.norm(updates - updates.mean(axis=0), axis=1)
    return np.average(updates, axis=0, weights=weights)


def _excess(updates: np.ndarray, point: np.ndarray) -> float:
    """How much longer the sum of distances is than at the median, per row and mean distance."""

    def total(centre):
        return np.linalg.norm(updates - centre, axis=1).sum()

    best = total(geometric_median(updates))
    return (total(point) - best) / (best / len(updates))


@cache
def _median_cases() -> tuple[np.ndarray, ...]:
    """Honest rows, then with liars, then with a row that is both the mean and the median."""
    rng = np.random.default_rng(13)
    honest = rng.normal(size=(9, 4)) + np.arange(4)
    lied_to = honest.copy()
    lied_to[7:] = 1e4
    star = np.array([[0.0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]])
    return honest, lied_to, star


def check_twins(mine: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
    """Check that two cohorts have the same sum and different medians.

    Example:
        >>> check_twins(lambda: ...)
        · not attempted yet
        >>> check_twins(lambda: (np.eye(3), np.eye(3)[::-1]))
        ✗ these are the same rows in another order: every rule gives the same
    """

    def attempt():
        answer = mine()
        if answer is None or answer is ...:
            return no_answer(mine, answer)
        if len(answer) != 2:
            return f"give two cohorts, not {len(answer)}"
        one, other = (np.asarray(cohort, dtype=np.float64) for cohort in answer)
        if one.ndim != 2 or one.shape != other.shape:
            return f"the cohorts have shapes {one.shape} and {other.shape}, needed the same (n, d)"
        if not np.allclose(one.sum(axis=0), other.sum(axis=0), rtol=0, atol=1e-9):
            return "the sums differ: the server could tell these cohorts apart"
        if np.array_equal(_in_order(one), _in_order(other)):
            return "these are the same rows in another order: every rule gives the same"
        if np.allclose(median(one), median(other)):
            return "the medians are equal: move a client in the middle, and another one against it"
        print(f"sum {one.sum(axis=0)}, medians {median(one)} and {median(other)}")
        return None

    verdict(attempt, "one sum, two medians: no protocol that shows only the sum can give a median")


def _in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]
