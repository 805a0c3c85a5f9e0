"""``encrypt_tensor`` against AES-256-GCM of the library itself on buffers that exist already.

Each ratio is the raw time divided by ours, so 1.0 means that encrypting a
tensor costs nothing beyond the cipher. The two take turns in one run; medians.

A new 100 MB message needs new memory, which the operating system fills with
zeros: on a processor whose AES is as fast as its memory, that alone halves the
speed of any encryption into a new buffer. Both cases are shown; ``out`` is how
a program that sends one model after another avoids it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fltutor.crypto.aead import decrypt_tensor, encrypt_model, encrypt_tensor, generate_key


def ratios(turns: int, *calls: Callable[[], object]) -> list[float]:
    """Median time of the first call divided by that of each other, taking turns."""
    seconds = [[] for _ in calls]
    for turn in range(turns + 1):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if turn:  # the first is a warm-up
                times.append(time.perf_counter() - start)
    return [median(seconds[0]) / median(times) for times in seconds[1:]]


def measure(megabytes: int, turns: int) -> list[float]:
    """Ratios for encrypt_tensor, with ``out``, encrypt_model with ``out``, and decrypt_tensor."""
    num_bytes = megabytes * 10**6
    update = np.random.default_rng(0).standard_normal(num_bytes // 4, dtype=np.float32)
    layers = np.split(update, [num_bytes // 16, num_bytes // 8])
    key, context = generate_key(), {"round": 3, "client": 7}
    raw, data = AESGCM(os.urandom(32)), update.view(np.uint8)
    sealed, out = bytearray(num_bytes + 16), bytearray(num_bytes + 1000)
    message = encrypt_tensor(update, key, context)
    return ratios(
        turns,
        lambda: raw.encrypt_into(os.urandom(12), data, b"round 3, client 7", sealed),
        lambda: encrypt_tensor(update, key, context),
        lambda: encrypt_tensor(update, key, context, out=out),
        lambda: encrypt_model(layers, key, context, out=out),
        lambda: decrypt_tensor(message, key, context),
    )


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    names = ("encrypt_tensor", "encrypt_tensor(out=)", "encrypt_model(out=)", "decrypt_tensor")
    new_memory = "(new memory each time)"
    rows = []
    for megabytes, turns, targets in (
        (1, 300, (">= 0.7", ">= 0.7", "(three tensors)", ">= 0.7")),
        (100, 15, (new_memory, ">= 0.7", ">= 0.7", new_memory)),
    ):
        for name, ratio, target in zip(names, measure(megabytes, turns), targets, strict=True):
            rows.append((f"{name}, {megabytes} MB, against raw AES-256-GCM", ratio, target))
    return rows


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:56} {ratio:6.2f}  {target}")
