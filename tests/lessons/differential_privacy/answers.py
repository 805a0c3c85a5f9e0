"""Answers to the exercises of notebook 10, right and wrong."""

from tests.lessons import Exercise


def rdp(expression: str) -> str:
    """The cell of exercise 10.1 with this answer."""
    return f"""
def my_gaussian_rdp(order, z, rounds):
    return {expression}


lesson.check_gaussian_rdp(my_gaussian_rdp)
"""


def noise(body: str) -> str:
    """The cell of exercise 10.2 with this body."""
    return f"""
def my_noise(epsilon, rounds, delta, sampling_rate):
{body}


lesson.check_noise(my_noise)
"""


def search(rounds="rounds", epsilon="epsilon", sampling_rate="sampling_rate", keep="enough"):
    """The cell of exercise 10.2 with a search that counts these terms."""
    return noise(f"""
    too_little, enough = 0.1, 100.0
    while enough - too_little > 1e-5:
        z = (too_little + enough) / 2
        spent = epsilon_after(
            {rounds},
            noise_multiplier=z,
            delta=delta,
            sampling_rate={sampling_rate},
            sampling="poisson",
        )
        if spent.epsilon <= {epsilon}:
            enough = z
        else:
            too_little = z
    return {keep}
""")


def subtract(body: str) -> str:
    """The cell of exercise 10.3 with this body."""
    return f"""
def my_subtract(published):
{body}


lesson.check_subtract(my_subtract)
"""


EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=rdp("rounds * order / (2 * z**2)"),
        says="✓ my_gaussian_rdp agrees with fltutor_rdp on 3 cases",
        mistakes=(
            (rdp("order / (2 * z**2)"), "✗ my_gaussian_rdp: this is one round's"),
            (rdp("rounds * order / z**2"), "✗ my_gaussian_rdp: this is twice the divergence"),
            (rdp("rounds * order / (2 * z)"), "✗ my_gaussian_rdp: this is divided by z"),
            (
                rdp("np.sqrt(rounds) * order / (2 * z**2)"),
                "✗ my_gaussian_rdp: this is what standard deviations do",
            ),
            (
                rdp("rounds * (order - 1) / (2 * z**2)"),
                "✗ my_gaussian_rdp: this is for the order below",
            ),
            (
                rdp("rounds * order * (order - 1) / (2 * z**2)"),
                "✗ my_gaussian_rdp: this is the logarithm of the moment",
            ),
            (rdp("1.0"), "✗ my_gaussian_rdp differs in case 1 of 3"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=search(),
        says="✓ the noise is just enough for three runs",
        mistakes=(
            (
                noise("    return np.sqrt(2 * np.log(1.25 / delta)) / epsilon"),
                "✗ my_noise: this is the textbook formula",
            ),
            (search(rounds="1"), "✗ my_noise: this is the noise for a single round"),
            (
                search(rounds="1", epsilon="epsilon / rounds"),
                "✗ my_noise: this is one budget per round",
            ),
            (search(sampling_rate="1.0"), "✗ my_noise: this is the noise without sampling"),
            (search(keep="0.9 * enough"), "costs epsilon 2.33, not 2, with 30"),
            (search(keep="2 * enough"), "is more than needed for 2: it costs"),
            (noise("    return -1.0"), "✗ the check stops: InvalidParameterError"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=subtract("""
    def counts(seed):
        return published - 5 * np.random.default_rng(seed).standard_normal(20)

    def distance(counts):
        return np.abs(counts - np.rint(counts)).max()

    return np.rint(min(map(counts, range(10_000)), key=distance))
"""),
        says="✓ sixty counts, and the noise is gone from all of them",
        mistakes=(
            (subtract("    return np.rint(published)"), "✗ my_subtract: this is rounding"),
            (
                subtract(
                    "    noise = 5 * np.random.default_rng(0).standard_normal(20)\n"
                    "    return np.rint(published - noise)"
                ),
                "✗ my_subtract: this is the noise of seed 0",
            ),
            (
                subtract("    return np.full(20, published.mean())"),
                "✗ my_subtract: this is smoothing",
            ),
            (subtract("    return 4711"), "✗ my_subtract gives one number"),
            (subtract("    return published"), "✗ my_subtract: got"),
        ),
    ),
]
