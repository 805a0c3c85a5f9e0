"""Answers to the exercises of notebook 06, right and wrong."""

from tests.lessons import Exercise


def rounding(body: str) -> str:
    return (
        f"def my_round(x, rng):\n    return {body}\n\n\nlesson.check_stochastic_rounding(my_round)"
    )


def ring(body: str) -> str:
    function = f"def my_ring_bits(num_clients, bits):\n    return {body}"
    return f"{function}\n\n\nlesson.check_ring_bits(my_ring_bits)"


def top_k_bytes(body: str) -> str:
    return (
        f"def my_top_k_bytes(k):\n    return {body}\n\n\nlesson.check_top_k_bytes(my_top_k_bytes)"
    )


EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=rounding("np.floor(x + rng.random(x.shape))"),
        says="✓ whole numbers, and right on average",
        mistakes=(
            (rounding("np.rint(x)"), "this is plain rounding"),
            (rounding("np.floor(x)"), "always rounds down"),
            (rounding("np.floor(x) + (rng.random(x.shape) < 0.5)"), "a fair coin ignores"),
            (rounding("x"), "must be a whole number"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=ring("(2 * num_clients * (2 ** (bits - 1) - 1)).bit_length()"),
        says="✓ my_ring_bits agrees with ring_bits on 4 cases",
        mistakes=(
            (ring("bits"), "the room for one client"),
            (ring("bits + num_clients"), "a doubling of clients takes one"),
            (ring("(num_clients * (2 ** (bits - 1) - 1)).bit_length()"), "positive levels only"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=top_k_bytes("8 + 8 * k"),
        says="✓ my_top_k_bytes agrees with top_k_bytes on 3 cases",
        mistakes=(
            (top_k_bytes("4 * k"), "would not know where they belong"),
            (top_k_bytes("8 + 4 * k"), "each one needs its index too"),
            (top_k_bytes("8 * k"), "right but for the header"),
        ),
    ),
]
