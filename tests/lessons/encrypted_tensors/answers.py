"""Answers to the exercises of notebook 01, right and wrong."""

from tests.lessons import Exercise


def associated_data(expression: str) -> str:
    """The cell of exercise 1.1 with this answer."""
    return f"""
def my_associated_data(round_number, client, shape):
    return {expression}


lesson.check_associated_data(my_associated_data)
"""


def nonce(expression: str) -> str:
    """The cell of exercise 1.2 with this answer."""
    return f"""
def my_nonce(sender, count):
    return {expression}


lesson.check_nonces(my_nonce)
"""


def overhead(expression: str) -> str:
    """The cell of exercise 1.3 with this answer."""
    return f"""
def my_overhead(shape):
    return {expression}


lesson.check_overhead(my_overhead)
"""


EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=associated_data('f"round {round_number} client {client} shape {shape}".encode()'),
        says="✓ every replay is refused: round, client and shape are bound",
        mistakes=(
            (
                associated_data('f"{client} {shape}".encode()'),
                "✗ the round is not bound: a message of round 3 opens in round 4",
            ),
            (
                associated_data('f"{round_number} {shape}".encode()'),
                "✗ the client is not bound: client 8 can pass as client 7",
            ),
            (
                associated_data('f"{round_number} {client}".encode()'),
                "✗ the shape is not bound: (784, 10) opens as (10, 784)",
            ),
            (
                associated_data('f"{round_number}{client}{shape}".encode()'),
                "✗ ambiguous: round 1, client 23, shape (5,) and round 12, client 3, shape (5,)",
            ),
            (
                associated_data('os.urandom(8) + f"{round_number} {client} {shape}".encode()'),
                "✗ two calls with the same arguments differ, so the server cannot compute it",
            ),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=nonce("sender.to_bytes(4) + count.to_bytes(8)"),
        says="✓ no nonce comes twice, and the counter does not wrap",
        mistakes=(
            (nonce("count.to_bytes(12)"), "✗ the nonce was used twice: by sender 0 at count 0 and"),
            (
                nonce("sender.to_bytes(4) + (count % 2**32).to_bytes(8)"),
                "✗ the nonce was used twice: by sender 0 at count 0 and by sender 0 at count 4,29",
            ),
            (
                nonce("sender.to_bytes(4) + (count % 2**64).to_bytes(8)"),
                "✗ the nonce was used twice: by sender 0 at count 0 and by sender 0 at count 18,44",
            ),
            (nonce("os.urandom(12)"), "✗ two calls for the same message differ"),
            (nonce("count.to_bytes(16)"), "✗ a nonce of AES-GCM is 12 bytes, got 16 bytes"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=overhead("10 + 2 + 8 * len(shape) + 12 + 16"),
        says="✓ my_overhead agrees",
        mistakes=(
            (overhead("10 + 2 + 8 * len(shape) + 12"), "this is the overhead without the tag"),
            (overhead("10 + 2 + 8 * len(shape) + 16"), "this is the overhead without the nonce"),
            (overhead("10 + 2 + 8 * len(shape)"), "this is the header alone"),
            (overhead("12 + 16"), "this is nonce and tag alone, without the header"),
        ),
    ),
]
