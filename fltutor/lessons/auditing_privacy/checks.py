"""Checks of notebook 12: an attack without models of the example, suspects, a hidden leak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from fltutor.attacks import BUGS, lira_scores, tpr_at_fpr
from fltutor.checks import agree, difference, named, no_answer, verdict
from fltutor.lessons.auditing_privacy.runs import (
    CONFIDENCE,
    DELTA,
    FPR,
    SMALL_DIMENSION,
    SMALL_NOISE,
    SMALL_ROUNDS,
    claim,
    small_world,
    suspects,
    train_halves,
)
from fltutor.privacy.auditing import AuditResult, two_world_audit, two_world_scores

LEAK_RUNS = 1000
TOLERANCE = 1e-3  # the package adds a little to every variance


def check_offline(mine: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Compare ``mine(target, shadow, members)`` with offline LiRA on real models, and use it.

    Example:
        >>> check_offline(lambda target, shadow, members: ...)
        · not attempted yet
    """

    def offline_lira(target, shadow, members):
        return lira_scores(target, shadow, members, offline=True)

    def with_sample_deviation(target, shadow, members):
        return _standardised(target, shadow, ~members, ddof=0)

    with_sample_deviation.__name__ = "offline_lira"

    def attempt():
        got = mine(*(part.copy() for part in _halves()[0]))
        if got is None or got is ...:
            return False
        if np.shape(got) == np.shape(_halves()[0][0]) and np.isfinite(got).all():
            found = (
                np.mean(
                    [
                        tpr_at_fpr(np.asarray(attack(*case)), truth, FPR)
                        for case, truth in _targets()
                    ]
                )
                for attack in (mine, lira_scores)
            )
            print(
                "{:.0%} of the others accused: yours finds {:.0%}, online LiRA {:.0%} of the "
                "members".format(FPR, *found)
            )
        return difference(got, with_sample_deviation(*_halves()[0]), TOLERANCE) is None

    try:
        reference = with_sample_deviation if attempt() else offline_lira
    except Exception:  # agree says what stops
        reference = offline_lira
    agree(
        named("my_offline", mine),
        reference,
        *_halves(),
        mistakes={
            "the models WITH the example: an offline attacker has none of them": lambda t, s, m: (
                _standardised(t, s, m)
            ),
            "all models, with and without the example": lambda t, s, m: _standardised(
                t, s, np.ones_like(m)
            ),
            "a plain difference: divide by the standard deviation of the example": (
                lambda t, s, m: t - _mean(s, ~m)
            ),
            "the right number with the wrong sign: a member is SURER than usual": (
                lambda t, s, m: -_standardised(t, s, ~m)
            ),
            "a distance: only surer than usual speaks for a member": lambda t, s, m: np.abs(
                _standardised(t, s, ~m)
            ),
            "divided by the variance: take its root": lambda t, s, m: (
                _standardised(t, s, ~m) / _deviation(s, ~m, 1)
            ),
            "one mean for all examples: compare an example with itself": lambda t, s, m: (
                (t - s[~m].mean()) / s[~m].std(ddof=1)
            ),
        },
        tolerance=TOLERANCE,
    )


def _mean(shadow: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.where(chosen, shadow, 0).sum(axis=0) / chosen.sum(axis=0)


def _deviation(shadow: np.ndarray, chosen: np.ndarray, ddof: int) -> np.ndarray:
    squares = np.where(chosen, (shadow - _mean(shadow, chosen)) ** 2, 0).sum(axis=0)
    return np.sqrt(squares / (chosen.sum(axis=0) - ddof))


def _standardised(
    target: np.ndarray, shadow: np.ndarray, chosen: np.ndarray, ddof: int = 1
) -> np.ndarray:
    return (target - _mean(shadow, chosen)) / _deviation(shadow, chosen, ddof)


@cache
def _targets() -> tuple[tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray], ...]:
    """Four targets: what an attacker knows of each, and the truth."""
    trained = train_halves(examples=200, epochs=20, num_models=36, seed=1)
    rows = np.arange(len(trained.members))
    return tuple(
        (
            (
                trained.confidences[target],
                trained.confidences[rows != target],
                trained.members[rows != target],
            ),
            trained.members[target],
        )
        for target in range(4)
    )


def _halves() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
    return tuple(case for case, _ in _targets())


def check_bugs(answers: Mapping[str, str]) -> None:
    """Judge which bug the reader finds in each of the four suspects.

    Example:
        >>> check_bugs({"A": ..., "B": ..., "C": ..., "D": ...})
        · not attempted yet
    """

    def attempt():
        said = {name: answers.get(name) for name in suspects()}
        if all(answer is ... or answer is None for answer in said.values()):
            return ...
        for name, answer in said.items():
            if answer is ... or answer is None:
                return f"suspect {name} has no verdict yet"
            if answer not in BUGS:
                return f"suspect {name}: {answer!r} is none of {', '.join(BUGS)}"
            problem = _contradiction(answer, *_seen(name))
            if problem:
                return f"suspect {name}: {problem}"
        return None

    verdict(attempt, "all four named")


@cache
def _seen(name: str) -> tuple[float, float]:
    """Of a suspect's scores: the spread without the canary, and the gap between the worlds."""
    without, with_canary = two_world_scores(suspects()[name], *small_world(), runs=300)
    return float(without.std()), float(with_canary.mean() - without.mean())


def _contradiction(answer: str, spread: float, gap: float) -> str | None:
    """Why the scores of a suspect do not look like the answer, or None if they do."""
    claimed_spread = np.sqrt(SMALL_ROUNDS) * SMALL_NOISE / 5
    clipped_gap = SMALL_ROUNDS / 5
    needed = {
        "no bug": (1.0, 1.0),
        "forgets to clip": (1.0, 10.0),
        "halves the noise": (0.5, 1.0),
        "reuses the noise": (0.0, 1.0),
    }[answer]
    if abs(spread / claimed_spread - needed[0]) > 0.2:
        return (
            f"not {answer!r}: without the canary its scores spread by {spread:.2f}, and the "
            f"claimed noise gives {claimed_spread:.2f}"
        )
    if abs(gap / clipped_gap - needed[1]) > 0.5 + 0.2 * needed[1]:
        return (
            f"not {answer!r}: the canary moves its scores by {gap:.2f}, and a clipped one by "
            f"{clipped_gap:.2f}"
        )
    return None


def check_leak(mine: Callable[[np.ndarray], np.ndarray]) -> None:
    """Audit the reader's mechanism twice: the first auditor must pass it, the second must not.

    The first looks along coordinate 0, the second along the last one.

    Example:
        >>> check_leak(lambda updates: ...)
        · not attempted yet
        >>> check_leak(lambda updates: updates.sum(axis=0) / 5)
        auditor of coordinate 0: epsilon >= 5.3, claimed 2.05
        ✗ the first auditor refutes the claim: keep the coordinate it looks at clipped and noisy
    """

    def attempt():
        honest, canary = small_world()
        got = mine(honest[0].copy())
        if got is None or got is ...:
            return no_answer(mine, got)
        if np.shape(got) != canary.shape:
            return f"my_leak gives shape {np.shape(got)}, needed {canary.shape}"
        if not np.isfinite(got).all():
            return "my_leak gives NaN or Inf"
        first = _audit(mine, 0)
        print(f"auditor of coordinate 0: {_short(first)}")
        if first.refutes(_claim()):
            return (
                "the first auditor refutes the claim: keep the coordinate it looks at clipped "
                "and noisy"
            )
        last = SMALL_DIMENSION - 1
        second = _audit(mine, last)
        print(f"auditor of coordinate {last}: {_short(second)}")
        if not second.refutes(_claim()):
            return "nothing shows in the last coordinate: both auditors pass it"
        return None

    verdict(attempt, "the first audit passes a mechanism that the second one refutes")


def _audit(mine: Callable[[np.ndarray], np.ndarray], coordinate: int) -> AuditResult:
    honest, canary = small_world(coordinate)
    scores = two_world_scores(lambda: mine, honest, canary, runs=LEAK_RUNS)
    return two_world_audit(*scores, delta=DELTA, confidence=CONFIDENCE)


def _claim():
    return claim(SMALL_ROUNDS, SMALL_NOISE)


def _short(audit: AuditResult) -> str:
    return f"epsilon >= {audit.epsilon:.1f}, claimed {_claim().epsilon:.2f}"
