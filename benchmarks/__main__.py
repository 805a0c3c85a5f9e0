"""Run every benchmark and print each as a ratio against its target.

``python -m benchmarks`` runs all of them, ``python -m benchmarks training aead``
those named. Absolute times wander with the machine; ratios taken in one run
stay. Higher is better in every line.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time

MODULES = (
    "aead",
    "privacy",
    "aggregation",
    "robust",
    "training",
    "explorer",
    "imports",
    "secure_aggregation",
    "homomorphic",
)


def verdict(ratio: float, target: str) -> str:
    """PASS or BELOW for a target such as ``">= 0.7"``; nothing for one in words.

    Example:
        >>> verdict(0.8, ">= 0.7"), verdict(0.5, ">= 0.7"), verdict(0.5, "(information)")
        ('PASS', 'BELOW', '')
    """
    if not target.startswith(">="):
        return ""
    return "PASS" if ratio >= float(target.removeprefix(">=")) else "BELOW"


def main(names: list[str]) -> int:
    """Print one line per measurement; return how many are below their target or failed."""
    logging.disable(logging.WARNING)  # some peers have much to say
    faults = 0
    for name in names or MODULES:
        start = time.perf_counter()
        try:
            rows = importlib.import_module(f"benchmarks.{name}").run()
        except Exception as error:  # one broken benchmark must not hide the others
            print(f"{'FAILED':6} {name}: {type(error).__name__}: {error}", flush=True)
            faults += 1
            continue
        for what, ratio, target in rows:
            mark = verdict(ratio, target)
            faults += mark == "BELOW"
            print(f"{mark:6} {ratio:9.2f}  {target:30} {what}")
        print(f"       {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return faults


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
