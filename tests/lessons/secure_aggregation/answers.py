"""Answers to the exercises of notebook 08, right and wrong."""

from tests.lessons import Exercise


def seed(test: str) -> str:
    """The cell of exercise 8.1 that takes the first seed whose row passes this test."""
    return f"""
def my_seed(upload):
    for number in range(2**16):
        row = lesson.SEED_GRID.decode(upload - lesson.mask_of_16_bits(number, len(upload)))
        if {test}:
            return number


lesson.check_seed(my_seed)
"""


def threshold(body: str) -> str:
    """The cell of exercise 8.2 with this body."""
    return f"""
from math import comb



def my_threshold(num_clients, leave):
    {body}


lesson.check_threshold(my_threshold)
"""


def from_the_top(at_least: str, answer: str) -> str:
    """Add the chances from the top until ``at_least``, then answer."""
    return threshold(f"""chance, n = 0.0, num_clients
    for staying in range(n, 0, -1):
        chance += comb(n, staying) * (1 - leave) ** staying * leave ** (n - staying)
        if chance >= {at_least}:
            return {answer}""")


def private_mean(body: str) -> str:
    """The cell of exercise 8.3 with this body."""
    return f"""


def my_private_mean(updates, sizes, sum_protocol):
    {body}


lesson.check_private_mean(my_private_mean)
"""


ROWS = """rows = np.column_stack([sizes[:, None] * updates, sizes])
    total = sum_protocol(rows).total
    """

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=seed("np.abs(row).max() < 10"),
        says="✓ both seeds found: 16 bits hide nothing",
        mistakes=(
            (
                seed("abs(row[0]) < 10"),
                "✗ seed 2505 makes the first number small by chance",
            ),
            (seed("number == 7"), "✗ under seed 7 the row would start with"),
            (
                seed("np.abs(row).max() < 10").replace("return number", "return row"),
                "✗ needed the number of the seed, 0 to 65535, got ndarray",
            ),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=from_the_top("0.999", "staying"),
        says="✓ my_threshold agrees",
        mistakes=(
            (
                threshold("return int(num_clients * (1 - leave) + 1e-9)"),
                "✗ my_threshold: this is the number that stays on average",
            ),
            (
                threshold("return num_clients // 2 + 1"),
                "✗ my_threshold: this is just above half",
            ),
            (
                from_the_top("0.999", "staying - 1"),
                "✗ my_threshold: this is one too low",
            ),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=private_mean(ROWS + "return total[:-1] / total[-1]"),
        says="✓ the weighted mean from one sum, also when a client leaves; no size was shown",
        mistakes=(
            (
                private_mean("return sum_protocol(updates).total / len(updates)"),
                "✗ this is the unweighted mean",
            ),
            (
                private_mean(ROWS + "return total[:-1] / len(updates)"),
                "✗ divided by the number of clients instead of the sum of sizes",
            ),
            (
                private_mean(ROWS + "return total[:-1] / sizes.sum()"),
                "✗ client 3 left, but its size is still in the divisor",
            ),
            (
                private_mean(
                    "total = sum_protocol(sizes[:, None] * updates).total\n"
                    "    return total / sum_protocol(sizes[:, None]).total"
                ),
                "✗ 2 sums: a client that leaves between them is in one and not in the other",
            ),
            (
                private_mean("return sizes @ updates / sizes.sum()"),
                "✗ no row went through sum_protocol",
            ),
            (private_mean(ROWS + "return total[:-1]"), "✗ this is the sum: divide it"),
            (
                private_mean(ROWS + "return total / total[-1]"),
                "✗ the size is still at the end of the mean",
            ),
        ),
    ),
]
