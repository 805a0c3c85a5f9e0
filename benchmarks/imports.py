"""What a fresh process pays for ``import fltutor.aggregation``: no TensorFlow, under a second.

The ratio is the time allowed divided by the time taken, interpreter and all;
``import numpy`` alone takes turns with it, since no array code can be faster.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

ALLOWED = 1.0  # seconds


def seconds(code: str) -> float:
    """Wall-clock time of a fresh Python process that runs ``code``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    ours = "import fltutor.aggregation, sys; assert 'tensorflow' not in sys.modules"
    taken = {code: [] for code in (ours, "import numpy")}
    for _ in range(5):
        for code, times in taken.items():
            times.append(seconds(code))
    ours, numpy = (median(times) for times in taken.values())
    return [
        ("import fltutor.aggregation in a fresh process: in 1 s", ALLOWED / ours, ">= 1"),
        ("import fltutor.aggregation, against import numpy", numpy / ours, "(information)"),
    ]


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:60} {ratio:6.2f}  {target}")
