"""Krum, median and trimmed mean of a large cohort against Flower's, and against reading once.

Flower runs in an environment of its own (see ``benchmarks.peers``), with our part in the
same process, taking turns. Both get rows of standard normal numbers, which are the hardest
for Krum: all scores are nearly equal. Results are compared, too. With two threads for linear
algebra Krum was slower; Flower's took the same.
"""

from __future__ import annotations

from benchmarks.peers import PeerMissingError, measure_beside_peer

TARGETS = {"krum": 15, "median": 5, "trimmed mean": 5}


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    size = "100 clients x 1,000,000 float32"
    try:
        taken = measure_beside_peer("robust_flower")
    except PeerMissingError as reason:
        return [
            (f"{name}, {size}, against Flower", float("nan"), f"skipped: {reason}")
            for name in TARGETS
        ]
    print(", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in taken.items()))
    rows = []
    for name, target in TARGETS.items():
        ours = taken[f"{name}, ours"]
        ratio = taken[f"{name}, Flower"] / ours
        rows.append((f"{name}, {size}, against Flower", ratio, f">= {target}"))
        rows.append(
            (
                f"{name}, {size}, against reading once (dot product)",
                taken["reading once"] / ours,
                "(information)",
            )
        )
    return rows


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:80} {ratio:7.2f}  {target}")
