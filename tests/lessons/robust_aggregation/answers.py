"""Answers to the exercises of notebook 13, right and wrong."""

from tests.lessons import Exercise


def krum(first: str, last: str, *, distances: str = "squared", best: str = "argmin") -> str:
    """The cell of exercise 13.1, with the neighbours from ``first`` to ``last``."""
    return f"""
def my_krum(updates, num_byzantine):
    squared = ((updates[:, None] - updates[None]) ** 2).sum(axis=2)
    nearest = np.sort({distances}, axis=1)[:, {first} : {last}]
    return updates[nearest.sum(axis=1).{best}()]


lesson.check_krum(my_krum)
"""


def geometric(body: str) -> str:
    """The cell of exercise 13.2 with this body."""
    return f"""
def my_geometric_median(updates):
{body}


lesson.check_geometric_median(my_geometric_median)
"""


def twins(one: str, other: str) -> str:
    """The cell of exercise 13.3 with these cohorts."""
    return f"""
def my_twins():
    return np.array({one}), np.array({other})


lesson.check_twins(my_twins)
"""


N = "len(updates) - num_byzantine"

WEISZFELD = """
    point = np.mean(updates, axis=0)
    for _ in range({steps}):
        weights = 1 / np.maximum(np.linalg.norm(updates - point, axis=1), 1e-9)
        point = np.average(updates, axis=0, weights=weights)
    return point
"""

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=krum("1", f"{N} - 1"),
        says="✓ my_krum agrees with krum on 4 cases",
        mistakes=(
            (krum("0", f"{N} - 2"), "✗ my_krum: this is Krum with itself as a neighbour"),
            (krum("1", f"{N} + 1"), "✗ my_krum: this is Krum with n - f neighbours"),
            (krum("1", N), "✗ my_krum: this is Krum with n - f - 1 neighbours"),
            (krum("1", "None"), "✗ my_krum: this is Krum with all others as neighbours"),
            (
                krum("1", f"{N} - 1", distances="np.sqrt(squared)"),
                "✗ my_krum: this is Krum with distances",
            ),
            (krum("1", f"{N} - 1", best="argmax"), "✗ my_krum: this is the row with the highest"),
            (
                krum("1", f"{N} - 1").replace("updates[nearest", "(nearest").replace("()]", "())"),
                "✗ my_krum: this is the number of the row",
            ),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=geometric(WEISZFELD.format(steps=200)),
        says="✓ my_geometric_median ends at the median of 3 cohorts",
        mistakes=(
            (geometric("    return updates.mean(axis=0)"), "this is the mean"),
            (geometric("    return np.median(updates, axis=0)"), "this is the median of each"),
            (geometric(WEISZFELD.format(steps=1)), "this is one step only"),
            (geometric(WEISZFELD.format(steps=3)), "✗ the sum of distances in cohort 1 can still"),
            (
                geometric(
                    "    apart = np.linalg.norm(updates[:, None] - updates[None], axis=2)\n"
                    "    return updates[apart.sum(axis=1).argmin()]"
                ),
                "this is the row with the smallest sum",
            ),
            (
                geometric(
                    "    far = np.linalg.norm(updates - updates.mean(axis=0), axis=1)\n"
                    "    return np.average(updates, axis=0, weights=far)"
                ),
                "this is a mean with the distances as weights",
            ),
            (geometric("    return updates[0] * np.nan"), "divides by distance 0"),
            (geometric("    return 0.0"), "gives shape (), needed (4,)"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=twins("[[1.0], [2.0], [6.0]]", "[[1.0], [4.0], [4.0]]"),
        says="✓ one sum, two medians",
        mistakes=(
            (twins("[[1.0], [2.0], [6.0]]", "[[1.0], [3.0], [6.0]]"), "✗ the sums differ"),
            (
                twins("[[1.0], [2.0], [6.0]]", "[[6.0], [1.0], [2.0]]"),
                "✗ these are the same rows in another order",
            ),
            (twins("[[1.0], [2.0], [6.0]]", "[[0.0], [2.0], [7.0]]"), "✗ the medians are equal"),
            (twins("[[1.0], [2.0]]", "[[3.0], [0.0], [0.0]]"), "✗ the cohorts have shapes"),
        ),
    ),
]
