"""Answers to the exercises of notebook 11, right and wrong."""

from tests.lessons import Exercise


def rows(expression: str) -> str:
    """The cell of exercise 11.1 with this answer."""
    return f"""
def my_bounded_rows(updates, weights, max_weight, clip_norm):
    norms = np.linalg.norm(updates, axis=1, keepdims=True)
    clipped = updates / np.maximum(1, norms / clip_norm)
    shares = np.minimum(weights / max_weight, 1)[:, None]
    return {expression}


lesson.check_bounded_rows(my_bounded_rows)
"""


def rounds(expression: str) -> str:
    """The cell of exercise 11.2 with this answer."""
    return f"""
def my_lost_rounds(factor, quantile, learning_rate):
    gap = quantile if factor < 1 else 1 - quantile
    return int(np.ceil({expression}))


lesson.check_lost_rounds(my_lost_rounds)
"""


def noise(central: str, distributed: str, local: str) -> str:
    """The cell of exercise 11.3 with these answers."""
    return f"""
def my_noise(where, num_clients, noise_multiplier, clip_norm):
    n, whole = num_clients, noise_multiplier * clip_norm
    return {{"central": {central}, "distributed": {distributed}, "local": {local}}}[where]


lesson.check_noise(my_noise)
"""


EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=rows("shares * clipped"),
        says="✓ a weighted sum that no client moves by more than clip_norm",
        mistakes=(
            (
                rows("weights[:, None] * clipped"),
                "✗ my_bounded_rows: the bare weight multiplies what was clipped",
            ),
            (rows("weights[:, None] * clipped"), "one client moves the sum by up to 1000"),
            (rows("weights[:, None] / max_weight * clipped"), "a share above 1"),
            (rows("weights[:, None] / weights.sum() * clipped"), "shares of the total"),
            (rows("shares * updates"), "nothing is clipped"),
            (
                rows(
                    "weights[:, None] * updates"
                    " / np.maximum(1, weights[:, None] * norms / clip_norm)"
                ),
                "weighed first, then clipped",
            ),
            (
                rows("shares * updates / np.maximum(1, shares * norms / clip_norm)"),
                "the share first, then clipped",
            ),
            (rows("shares * np.clip(updates, -clip_norm, clip_norm)"), "coordinate by coordinate"),
            (rows("clipped"), "no weights at all"),
            (rows("2 * shares * clipped"), "by more than the noise covers"),
            (rows("shares**2 * clipped"), "private, but not the weighted sum"),
            (rows("(shares * clipped).sum(axis=0)"), "gives shape (4,), needed (5, 4)"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=rounds("abs(np.log(factor)) / (learning_rate * gap)"),
        says="✓ my_lost_rounds counts the rounds of 5 real adaptive clips",
        mistakes=(
            (rounds("abs(np.log(factor)) / learning_rate"), "a full learning rate per round"),
            (
                rounds("abs(np.log(factor)) / (learning_rate * quantile)"),
                "the speed upwards in both directions",
            ),
            (
                rounds("abs(np.log(factor)) / (learning_rate * (1 - quantile))"),
                "the speed downwards in both directions",
            ),
            (
                rounds("abs(np.log(factor)) / (learning_rate * (1 - gap))"),
                "up and down exchanged",
            ),
            (rounds("abs(np.log10(factor)) / (learning_rate * gap)"), "the logarithm to base 10"),
            (rounds("abs(factor - 1) / (learning_rate * gap)"), "steps of equal length"),
            (rounds("2 * np.log(9)"), "a real clip needs 19"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=noise("whole / n", "whole / n", "whole / np.sqrt(n)"),
        says="✓ my_noise is within 3% of the noise of 6 real runs",
        mistakes=(
            (noise("whole", "whole", "whole * np.sqrt(n)"), "this is the noise of the sum"),
            (noise("whole / n", "whole / n", "whole"), "added like numbers"),
            (noise("whole / n", "whole / n", "whole / n"), "local noise as small as central"),
            (
                noise("whole / np.sqrt(n)", "whole / np.sqrt(n)", "whole / np.sqrt(n)"),
                "central noise as large as local",
            ),
            (
                noise("whole / n", "whole / np.sqrt(n)", "whole / np.sqrt(n)"),
                "distributed noise as large as local",
            ),
            (
                noise("noise_multiplier / n", "noise_multiplier / n", "noise_multiplier / n**0.5"),
                "noise without clip_norm",
            ),
            (noise("1", "1", "1"), "central, 10 clients: got 1, measured"),
        ),
    ),
]
