"""Answers to the exercises of notebook 04, right and wrong."""

from tests.lessons import Exercise


def weighted_mean(body: str) -> str:
    """The cell of exercise 4.1 with this answer."""
    return f"""
def my_weighted_mean(updates, sizes):
    {body}


lesson.check_weighted_mean(my_weighted_mean)
"""


def reordered(result: str) -> str:
    """The cell of exercise 4.2 with this answer."""
    return f"""
def my_reordered(weights, order):
    first, bias, second, last_bias = weights
    return {result}


lesson.check_reordering(my_reordered, unflatten(siblings[0], params_spec(model)), accuracy)
"""


def traffic(expression: str) -> str:
    """The cell of exercise 4.3 with this answer."""
    return f"""
def my_megabytes(rounds, cohort, num_params):
    return {expression}


lesson.check_megabytes(my_megabytes)
"""


AVERAGE = "return sizes @ updates / sizes.sum()"

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=weighted_mean(
            f"""sizes = np.asarray(sizes, dtype=float)
    if not np.isfinite(sizes).all() or (sizes < 0).any() or sizes.sum() == 0:
        raise ValueError(f"sizes must be finite, not negative, not all zero; got {{sizes}}")
    {AVERAGE}"""
        ),
        says="✓ the weighted mean is right, and bad sizes are refused",
        mistakes=(
            (weighted_mean("return updates.mean(axis=0)"), "✗ this is the unweighted mean"),
            (weighted_mean("return sizes @ updates"), "✗ this is the weighted sum: divide"),
            (weighted_mean("return sizes @ updates / 3"), "✗ divide by the sum of the sizes, not"),
            (weighted_mean(AVERAGE), "✗ sizes [0, 0, 0] slip through and give [nan nan]"),
            (
                weighted_mean(f"if sizes.sum() <= 0: raise ValueError(sizes)\n    {AVERAGE}"),
                "✗ sizes [1, nan, 4] slip through and give [nan nan]: every comparison with NaN",
            ),
            (
                weighted_mean(f"assert sizes.sum() > 0\n    {AVERAGE}"),
                "✗ sizes [0, 0, 0] meet an assert",
            ),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=reordered("[first[:, order], bias[order], second[order], last_bias]"),
        says="✓ another order, other weights, the same outputs",
        mistakes=(
            (reordered("weights"), "✗ these are the weights as they came"),
            (
                reordered("[first[order], bias[order], second[order], last_bias]"),
                "✗ this reorders the pixels",
            ),
            (
                reordered("[first[:, order], bias, second[order], last_bias]"),
                "✗ the biases of the hidden units stayed behind",
            ),
            (
                reordered("[first[:, order], bias[order], second, last_bias]"),
                "✗ the second layer still expects the old order",
            ),
            (reordered("[tensor[order] for tensor in weights]"), "✗ the check stops: IndexError"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=traffic("rounds * cohort * (num_params + num_params + 1) * 4 / 1e6"),
        says="✓ every number is counted: down, up, and the weight",
        mistakes=(
            (
                traffic("rounds * cohort * num_params * 8 / 1e6"),
                "✗ this is without the one number that goes up with each update",
            ),
            (
                traffic("rounds * cohort * (num_params + 1) * 4 / 1e6"),
                "✗ this is the upload alone",
            ),
            (
                traffic("rounds * (2 * num_params + 1) * 4 / 1e6"),
                "✗ this is one client's traffic",
            ),
            (
                traffic("rounds * cohort * (2 * num_params + 1) * 4"),
                "✗ this is a number of bytes",
            ),
        ),
    ),
]
