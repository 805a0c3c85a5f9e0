"""Answers to the exercises of notebook 12, right and wrong."""

from tests.lessons import Exercise


def offline(expression: str, chosen: str = "~members[:, j]") -> str:
    """The cell of exercise 12.1 with this score of example j."""
    return f"""
def my_offline(target, shadow, members):
    scores = []
    for j in range(len(target)):
        models = shadow[{chosen}, j]
        scores.append({expression})
    return np.array(scores)


lesson.check_offline(my_offline)
"""


def verdicts(**named: str) -> str:
    """The cell of exercise 12.2 with these verdicts."""
    return f"""
servers = lesson.suspects()
verdicts = {named!r}

lesson.check_bugs(verdicts)
"""


def leak(*lines: str) -> str:
    """The cell of exercise 12.3 with these lines after the honest start."""
    body = "\n    ".join(lines)
    return f"""
def my_leak(updates):
    published = dp_mean(
        updates, clip_norm=1.0, noise_multiplier=2.0, expected_cohort=5, rng=rng
    ).update
    {body}
    return published


lesson.check_leak(my_leak)
"""


RIGHT = {
    "A": "forgets to clip",
    "B": "halves the noise",
    "C": "reuses the noise",
    "D": "no bug",
}
STANDARDISED = "(target[j] - models.mean()) / models.std(ddof=1)"

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=offline(STANDARDISED),
        says="✓ my_offline agrees with offline_lira on 4 cases",
        mistakes=(
            (
                offline(STANDARDISED, "members[:, j]"),
                "✗ my_offline: this is the models WITH the example",
            ),
            (offline(STANDARDISED, ":"), "✗ my_offline: this is all models"),
            (offline("target[j] - models.mean()"), "✗ my_offline: this is a plain difference"),
            (
                offline("(models.mean() - target[j]) / models.std(ddof=1)"),
                "✗ my_offline: this is the right number with the wrong sign",
            ),
            (offline(f"abs({STANDARDISED})"), "✗ my_offline: this is a distance"),
            (
                offline("(target[j] - models.mean()) / models.var(ddof=1)"),
                "✗ my_offline: this is divided by the variance",
            ),
            (
                offline("(target[j] - shadow[~members].mean()) / shadow[~members].std(ddof=1)"),
                "✗ my_offline: this is one mean for all examples",
            ),
            (offline("target[k]"), "✗ my_offline stops in case 1"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=verdicts(**RIGHT),
        says="✓ all four named",
        mistakes=(
            (
                verdicts(**RIGHT | {"A": "no bug"}),
                "✗ suspect A: not 'no bug': the canary moves its scores by",
            ),
            (
                verdicts(**RIGHT | {"B": "no bug"}),
                "✗ suspect B: not 'no bug': without the canary its scores spread by",
            ),
            (
                verdicts(**RIGHT | {"C": "halves the noise"}),
                "✗ suspect C: not 'halves the noise': without the canary its scores spread by 0.00",
            ),
            (
                verdicts(**RIGHT | {"D": "forgets to clip"}),
                "✗ suspect D: not 'forgets to clip': the canary moves its scores by",
            ),
            (verdicts(**RIGHT | {"D": "lazy"}), "✗ suspect D: 'lazy' is none of no bug, forgets"),
            (verdicts(A="forgets to clip"), "✗ suspect B has no verdict yet"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=leak("published[-1] = updates[:, -1].mean()"),
        says="✓ the first audit passes a mechanism that the second one refutes",
        mistakes=(
            (leak(), "✗ nothing shows in the last coordinate: both auditors pass it"),
            (
                leak("published[7] = updates[:, 7].mean()"),
                "✗ nothing shows in the last coordinate: both auditors pass it",
            ),
            (
                leak("published = updates.sum(axis=0) / 5"),
                "✗ the first auditor refutes the claim",
            ),
            (
                leak("published[0] = updates[:, 0].mean()"),
                "✗ the first auditor refutes the claim",
            ),
            (leak("published = published[-1:]"), "✗ my_leak gives shape (1,), needed (16,)"),
            (leak("published[-1] = np.nan"), "✗ my_leak gives NaN or Inf"),
        ),
    ),
]
