"""Answers to the exercises of notebook 09, right and wrong."""

from tests.lessons import Exercise


def weighted_mean(body: str) -> str:
    """The cell of exercise 9.1 with this body."""
    return f"""
def my_weighted_mean(encrypted, weights, private_key):
    {body}


lesson.check_weighted_mean(my_weighted_mean)
"""


def value_bits(expression: str) -> str:
    """The cell of exercise 9.2 with this answer."""
    return f"""
def my_value_bits(slot_bits, num_clients, max_weight):
    return {expression}


lesson.check_value_bits(my_value_bits)
"""


def add(product: str, refuse: bool = True, start: int = 1) -> str:
    """The cell of exercise 9.3 with this step, with or without the refusal."""
    return f"""
def my_add(uploads):
    if {refuse} and len({{n for n, _ in uploads}}) > 1:
        raise ValueError("two keys")
    product = {start}
    for n, ciphertext in uploads:
        product = {product}
    return product


lesson.check_add(my_add)
"""


TOTAL = """total = encrypted[0] * weights[0]
    for vector, weight in zip(encrypted[1:], weights[1:]):
        total = total + vector * weight
    """
OPEN_EACH = """opened = [private_key.decrypt_vector(vector) for vector in encrypted]
    return np.average(opened, axis=0, weights=weights)"""
FRACTIONS = """shares = [weight / sum(weights) for weight in weights]
    total = encrypted[0] * shares[0] + encrypted[1] * shares[1] + encrypted[2] * shares[2]
    return private_key.decrypt_vector(total)"""

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=weighted_mean(TOTAL + "return private_key.decrypt_vector(total) / sum(weights)"),
        says="✓ the weighted mean is right, and only the sum was opened",
        mistakes=(
            (
                weighted_mean(
                    "return private_key.decrypt_vector(encrypted[0] + encrypted[1] + encrypted[2])"
                    " / 3"
                ),
                "✗ this is the unweighted mean",
            ),
            (
                weighted_mean(TOTAL + "return private_key.decrypt_vector(total)"),
                "✗ this is the weighted sum: divide by the sum of the weights",
            ),
            (
                weighted_mean(TOTAL + "return private_key.decrypt_vector(total) / len(weights)"),
                "✗ divide by the sum of the weights, not by the number of clients",
            ),
            (weighted_mean(OPEN_EACH), "✗ the key opened 3 vectors"),
            (weighted_mean(FRACTIONS), "A ciphertext is multiplied by whole numbers only"),
            (weighted_mean(TOTAL + "return total"), "✗ the result is still encrypted"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=value_bits("slot_bits - (num_clients * max_weight - 1).bit_length()"),
        says="✓ no slot overflows, and no bit is wasted",
        mistakes=(
            (
                value_bits("slot_bits - (num_clients - 1).bit_length()"),
                "✗ 32-bit slots, 10 clients, weights up to 100: with 28 bits a value",
            ),
            (
                value_bits("slot_bits - int(np.log2(num_clients * max_weight))"),
                "✗ 32-bit slots, 40 clients, weights up to 1: with 27 bits a value",
            ),
            (
                value_bits("slot_bits - (num_clients * max_weight).bit_length()"),
                "✗ 32-bit slots, 16 clients, weights up to 1: 28 bits a value would do, got 27",
            ),
            (value_bits("slot_bits - np.log2(num_clients)"), "✗ 32-bit slots, 16 clients"),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=add("product * ciphertext % n**2"),
        says="✓ sums are right, and mixed keys are refused",
        mistakes=(
            (add("product * ciphertext % n**2", refuse=False), "✗ two keys were mixed"),
            (add("product + ciphertext", start=0), "✗ these ciphertexts were added"),
            (add("product * ciphertext"), "✗ right, but it grows with every client"),
            (add("product * ciphertext % n"), "✗ modulo n is too little"),
        ),
    ),
]
