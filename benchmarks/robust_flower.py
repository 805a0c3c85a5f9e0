"""Flower's robust rules, and ours, in one process; run by its neighbour where Flower is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median as middle

import numpy as np
from flwr.server.strategy.aggregate import (
    aggregate_krum,
    aggregate_median,
    aggregate_trimmed_avg,
)

from fltutor.aggregation import krum, median, trimmed_mean

NUM_CLIENTS, NUM_COORDINATES, NUM_LIARS, TURNS = 100, 1_000_000, 10, 3


def seconds(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, np.ravel(result)


def rules() -> dict[str, float]:
    """Seconds of each rule, the median over turns, and of reading the memory once."""
    rng = np.random.default_rng(0)
    updates = rng.standard_normal((NUM_CLIENTS, NUM_COORDINATES), dtype=np.float32)
    results = [([row], 1) for row in updates]
    flat = updates.reshape(-1)
    pairs = {
        "median": (lambda: aggregate_median(results), lambda: median(updates)),
        "trimmed mean": (
            lambda: aggregate_trimmed_avg(results, NUM_LIARS / NUM_CLIENTS),
            lambda: trimmed_mean(updates, NUM_LIARS),
        ),
        "krum": (
            lambda: aggregate_krum(results, NUM_LIARS, to_keep=0),
            lambda: krum(updates, NUM_LIARS),
        ),
    }
    times: dict[str, list[float]] = {}
    krum(updates, NUM_LIARS)  # a warm-up
    for _ in range(TURNS):
        for name, (flower, ours) in pairs.items():
            taken, theirs = seconds(flower)
            times.setdefault(f"{name}, Flower", []).append(taken)
            taken, found = seconds(ours)
            times.setdefault(f"{name}, ours", []).append(taken)
            np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-5)  # float32 means
        times.setdefault("reading once", []).append(seconds(lambda: flat @ flat)[0])
    return {name: middle(taken) for name, taken in times.items()}


if __name__ == "__main__":
    print(json.dumps(rules()))
