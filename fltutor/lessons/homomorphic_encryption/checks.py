"""Checks of notebook 09: a weighted mean of ciphertexts, room in a slot, keys that must match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fltutor.border import is_whole
from fltutor.checks import difference, no_answer, verdict
from fltutor.crypto.paillier import EncryptedVector, PrivateKey, encrypt_vector

# Mersenne primes: anyone can check them, and anyone can open what they lock.
TOY_PRIMES = (2**89 - 1, 2**107 - 1)
OTHER_PRIMES = (2**127 - 1, 2**61 - 1)


class WatchedKey:
    """A private key that counts what it opens."""

    def __init__(self, private_key: PrivateKey):
        self._private_key, self.num_opened = private_key, 0

    def decrypt_vector(self, encrypted: EncryptedVector) -> np.ndarray:
        """Open a vector and count it."""
        self.num_opened += 1
        return self._private_key.decrypt_vector(encrypted)


def check_weighted_mean(mine: Callable[[list, list[int], Any], np.ndarray]) -> None:
    """Check ``mine(encrypted, weights, private_key)`` on three vectors.

    Example:
        >>> def my_mean(encrypted, weights, private_key):
        ...     total = encrypted[0] + encrypted[1] + encrypted[2]
        ...     return private_key.decrypt_vector(total) / 3
        >>> check_weighted_mean(my_mean)
        ✗ this is the unweighted mean
    """
    verdict(lambda: _mean_problem(mine), "the weighted mean is right, and only the sum was opened")


def _mean_problem(mine: Callable) -> str | None:
    rows, weights = np.array([[1.5, -2.0, 0.25], [3.0, 4.0, -1.0], [-0.5, 8.0, 6.0]]), [3, 1, 4]
    key = PrivateKey(*TOY_PRIMES, toy=True)
    watched = WatchedKey(key)
    try:
        got = mine([encrypt_vector(row, key) for row in rows], list(weights), watched)
    except TypeError as error:
        return (
            f"TypeError: {error}. A ciphertext is multiplied by whole numbers only; divide "
            "after opening"
        )
    if got is None or got is ...:
        return no_answer(mine, got)
    if isinstance(got, EncryptedVector):
        return "the result is still encrypted: open the sum, then divide"
    if watched.num_opened > 1:
        return (
            f"the key opened {watched.num_opened} vectors: whoever holds it may open the sum, "
            "and nothing else"
        )
    total = np.array(weights) @ rows
    if not difference(got, rows.mean(axis=0)):
        return "this is the unweighted mean"
    if not difference(got, total):
        return "this is the weighted sum: divide by the sum of the weights"
    if not difference(got, total / len(weights)):
        return "divide by the sum of the weights, not by the number of clients"
    return difference(got, total / sum(weights))


def check_value_bits(mine: Callable[[int, int, int], int]) -> None:
    """Fill slots with the extremes that ``mine(slot_bits, num_clients, max_weight)`` allows.

    Example:
        >>> check_value_bits(lambda slot_bits, num_clients, max_weight: slot_bits - 4)
        ✗ 32-bit slots, 40 clients, weights up to 1: with 28 bits a value the sum is wrong: the
        neighbour of the fullest slot became 199, not 200
        >>> check_value_bits(lambda slots, n, w: slots - (n * w - 1).bit_length())
        ✓ no slot overflows, and no bit is wasted
    """
    verdict(lambda: _bits_problem(mine), "no slot overflows, and no bit is wasted")


def _bits_problem(mine: Callable) -> str | None:
    cases = ((32, 16, 1), (32, 40, 1), (32, 10, 100), (64, 1000, 500), (64, 33, 3), (32, 1, 1))
    for slot_bits, num_clients, max_weight in cases:
        got = mine(slot_bits, num_clients, max_weight)
        if got is None or got is ...:
            return no_answer(mine, got)
        where = f"{slot_bits}-bit slots, {num_clients} clients, weights up to {max_weight}"
        if not is_whole(got):
            return f"{where}: bits are a whole number, got {got!r}"
        needed = slot_bits - (num_clients * max_weight - 1).bit_length()
        if got > needed:
            spoiled = _neighbour(slot_bits, int(got), num_clients, max_weight)
            return (
                f"{where}: with {got} bits a value the sum is wrong: the neighbour of the "
                f"fullest slot became {spoiled}, not {5 * num_clients * max_weight}"
            )
        if got < needed:
            return f"{where}: {needed} bits a value would do, got {got}"
    return None


def _neighbour(slot_bits: int, value_bits: int, num_clients: int, max_weight: int) -> int:
    """Add the most negative value in slot 0 so often, and read slot 1, where each put a 5."""
    total = num_clients * max_weight * (-(2 ** (value_bits - 1)) + 5 * 2**slot_bits)
    half = 2 ** (slot_bits - 1)
    lowest = (total + half) % 2**slot_bits - half
    return (total - lowest) >> slot_bits


def check_add(mine: Callable[[Sequence[tuple[int, int]]], int]) -> None:
    """Check ``mine(uploads)``, where an upload is the pair of n and the ciphertext.

    Example:
        >>> def my_add(uploads):
        ...     product = 1
        ...     for n, ciphertext in uploads:
        ...         product = product * ciphertext % n**2
        ...     return product
        >>> check_add(my_add)
        ✗ two keys were mixed and nothing was said: 3 and 8 then open to ..., not to 11
    """
    verdict(lambda: _add_problem(mine), "sums are right, and mixed keys are refused")


def _add_problem(mine: Callable) -> str | None:
    private_key, other = PrivateKey(*TOY_PRIMES, toy=True), PrivateKey(*OTHER_PRIMES, toy=True)
    public_key = private_key.public_key
    n = public_key.n
    three, eight, five = (public_key.encrypt(number).value for number in (3, 8, -5))
    got = mine([(n, three), (n, eight), (n, five)])
    if got is None or got is ...:
        return no_answer(mine, got)
    if isinstance(got, bool) or not isinstance(got, int):
        return f"needed a ciphertext, a whole number, got {type(got).__name__}"
    if got in (three + eight + five, (three + eight + five) % n**2):
        return "these ciphertexts were added; the product of ciphertexts is what adds the numbers"
    if got == three * eight * five:
        return "right, but it grows with every client: take the product modulo n²"
    if got == three * eight * five % n:
        return "modulo n is too little: ciphertexts live modulo n²"
    if got != three * eight * five % n**2:
        return "this is not the product of the ciphertexts modulo n²"
    strange = other.public_key.encrypt(8).value
    try:
        mixed = mine([(n, three), (other.public_key.n, strange)])
    except ValueError:
        return None
    opened = _open_anything(mixed, private_key)
    return f"two keys were mixed and nothing was said: 3 and 8 then open to {opened}, not to 11"


def _open_anything(value: int, private_key: PrivateKey) -> str:
    """What Paillier's formula makes of any number, in short; the package would refuse it."""
    p, q = TOY_PRIMES
    n, order = p * q, (p - 1) * (q - 1)
    number = (pow(value, order, n * n) - 1) // n * pow(order, -1, n) % n
    number -= n if number > n // 2 else 0
    return f"{number:.3e}" if abs(number) > 10**6 else str(number)
