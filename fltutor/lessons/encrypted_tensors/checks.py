"""Checks for the exercises of notebook 01."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fltutor.checks import agree, no_answer, verdict
from fltutor.crypto.aead import encrypt_tensor, generate_key

SENDERS = (0, 1, 2, 12, 255, 256, 2**16)
COUNTS = (*range(300), 2**16, 2**24, 2**32 - 1, 2**32, 2**32 + 1)
HUGE_COUNTS = (2**48, 2**56, 2**64, 2**64 + 1, 2**88, 2**96, 2**96 + 1)  # may be refused


def check_associated_data(mine: Callable[[int, int, tuple[int, ...]], bytes]) -> None:
    """Seal a message with the reader's associated data, and replay it elsewhere.

    Example:
        >>> check_associated_data(lambda round_number, client, shape: b"")
        ✗ the round is not bound: a message of round 3 opens in round 4
        >>> check_associated_data(lambda *everything: repr(everything).encode())
        ✓ every replay is refused: round, client and shape are bound
    """
    verdict(
        lambda: _replay_problem(mine),
        "every replay is refused: round, client and shape are bound",
    )


def _replay_problem(mine: Callable) -> str | None:
    sent = (3, 7, (784, 10))
    first = mine(*sent)
    if first is None or first is ...:
        return no_answer(mine, first)
    if not isinstance(first, bytes):
        return f"associated data must be bytes, got {type(first).__name__}"
    if mine(*sent) != first:
        return "two calls with the same arguments differ, so the server cannot compute it"
    replays = [
        (sent, (4, 7, (784, 10)), "the round is not bound: a message of round 3 opens in round 4"),
        (sent, (3, 8, (784, 10)), "the client is not bound: client 8 can pass as client 7"),
        (sent, (3, 7, (10, 784)), "the shape is not bound: (784, 10) opens as (10, 784)"),
        (sent, (3, 7, (7840,)), "the shape is not bound: (784, 10) opens as (7840,)"),
        (sent, (3, 7, (784, 1, 10)), "the shape is not bound: (784, 10) opens as (784, 1, 10)"),
        (sent, (7, 3, (784, 10)), "round 3 of client 7 opens as round 7 of client 3"),
        _ambiguous((1, 23, (5,)), (12, 3, (5,))),
        _ambiguous((3, 7, (12, 3)), (3, 71, (2, 3))),
        _ambiguous((3, 7, (1, 23)), (3, 7, (12, 3))),
    ]
    for genuine, replayed, problem in replays:
        if _opens(mine(*genuine), mine(*replayed)):
            return problem
    return None


def _ambiguous(one: tuple, other: tuple) -> tuple[tuple, tuple, str]:
    """Two meanings that careless joining writes alike."""
    texts = [f"round {r}, client {c}, shape {s}" for r, c, s in (one, other)]
    return one, other, f"ambiguous: {texts[0]} and {texts[1]} give the same bytes"


def _opens(sealed_with: bytes, opened_with: bytes) -> bool:
    key, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    try:
        key.decrypt(nonce, key.encrypt(nonce, b"an update", sealed_with), opened_with)
    except InvalidTag:
        return False
    return True


def check_nonces(mine: Callable[[int, int], bytes]) -> None:
    """Draw thousands of the reader's nonces and look for one that comes twice.

    Example:
        >>> check_nonces(lambda sender, count: count.to_bytes(12))
        ✗ the nonce was used twice: by sender 0 at count 0 and by sender 1 at count 0
        >>> check_nonces(lambda sender, count: sender.to_bytes(4) + count.to_bytes(8))
        ✓ no nonce comes twice, and the counter does not wrap
    """
    verdict(lambda: _nonce_problem(mine), "no nonce comes twice, and the counter does not wrap")


def _nonce_problem(mine: Callable) -> str | None:
    first = mine(1, 0)
    if first is None or first is ...:
        return no_answer(mine, first)
    if not isinstance(first, bytes) or len(first) != 12:
        size = f"{len(first)} bytes" if isinstance(first, bytes) else type(first).__name__
        return f"a nonce of AES-GCM is 12 bytes, got {size}"
    if mine(1, 0) != first:
        return "two calls for the same message differ: this is a random nonce, not a counter"
    drawn = {}
    for sender in SENDERS:
        for count in COUNTS + HUGE_COUNTS:
            try:
                nonce = mine(sender, count)
            except Exception:
                if count in HUGE_COUNTS:
                    continue  # refusing to wrap is right
                raise
            if nonce in drawn:
                other_sender, other_count = drawn[nonce]
                return (
                    f"the nonce was used twice: by sender {other_sender} at count {other_count:,} "
                    f"and by sender {sender} at count {count:,}"
                )
            drawn[nonce] = (sender, count)
    return None


def check_overhead(mine: Callable[[tuple[int, ...]], int]) -> None:
    """Compare the reader's count of extra bytes with sealed tensors of several shapes.

    Example:
        >>> def my_overhead(shape): return 10 + 2 + 8 * len(shape) + 12
        >>> check_overhead(my_overhead)
        ✗ my_overhead: this is the overhead without the tag
    """
    agree(
        mine,
        sealed_overhead,
        ((10,),),
        ((784, 10),),
        ((),),
        mistakes={
            "the overhead without the tag": lambda shape: sealed_overhead(shape) - 16,
            "the overhead without the nonce": lambda shape: sealed_overhead(shape) - 12,
            "the header alone, without nonce and tag": lambda shape: sealed_overhead(shape) - 28,
            "nonce and tag alone, without the header": lambda shape: 28,
        },
    )


def sealed_overhead(shape: tuple[int, ...]) -> int:
    """Seal zeros of this shape and count the bytes beyond their values."""
    return encrypt_tensor(np.zeros(shape, np.float32), generate_key()).overhead
