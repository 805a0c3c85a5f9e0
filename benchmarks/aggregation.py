"""``mean`` of a large cohort against ``np.average``, and against reading the memory once.

All take turns in one run. Each ratio is the other's time divided by ours, turn by
turn, and the median turn counts: what else the machine does then slows both.
No sum can be faster than the memory it reads, so the fastest of three plain
readers is the limit. With whole numbers as weights ``np.average`` works in
float64; it is also given float32 weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from fltutor.aggregation import mean

NUM_CLIENTS, NUM_COORDINATES = 100, 1_000_000


def ratios(turns: int, ours: Callable[[], object], others: dict[str, Callable]) -> dict[str, float]:
    """Time of each other call over that of ours, the median of several turns."""
    found = {name: [] for name in others}
    for turn in range(turns + 1):
        seconds = {}
        for name, call in (others | {"ours": ours}).items():
            start = time.perf_counter()
            call()
            seconds[name] = time.perf_counter() - start
        for name, values in found.items():
            if turn:  # the first only warms up
                values.append(seconds[name] / seconds["ours"])
    return {name: median(values) for name, values in found.items()}


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    rng = np.random.default_rng(0)
    updates = rng.standard_normal((NUM_CLIENTS, NUM_COORDINATES), dtype=np.float32)
    weights = rng.integers(10, 60, NUM_CLIENTS)
    flat, words = updates.reshape(-1), updates.reshape(-1).view(np.uint64)
    ones = np.ones(NUM_COORDINATES, np.float32)
    readers = {
        "largest word": lambda: words.max(),
        "dot product": lambda: flat @ flat,
        "row sums": lambda: updates @ ones,
    }
    averages = {
        "np.average": lambda: np.average(updates, axis=0, weights=weights),
        "np.average, float32 weights": lambda: np.average(
            updates, axis=0, weights=weights.astype(np.float32)
        ),
    }
    limit = ratios(40, lambda: mean(updates, weights), readers)
    beside = ratios(3, lambda: mean(updates, weights), averages)

    size = f"mean, {NUM_CLIENTS} clients x {NUM_COORDINATES:,} float32"
    fastest = min(limit, key=limit.get)
    return [
        (f"{size}, against np.average", beside["np.average"], ">= 10"),
        (
            f"{size}, against np.average, float32 weights",
            beside["np.average, float32 weights"],
            "(information)",
        ),
        (f"{size}, against reading once ({fastest})", limit[fastest], ">= 0.7"),
    ]


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:84} {ratio:7.2f}  {target}")
