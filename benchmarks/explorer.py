"""From a slider's move to its first picture in notebook 00, and to the finished one.

And from a move to the numbers of the first two rounds in notebook 13, whatever the rule.

The explorer works as under a kernel, on its worker thread; the way to the browser
is not in it. Compiling is over: the explorer has shown its first run. Moves of
*clients* and *noise* train afresh each time, no run is kept; neither is any of
notebook 13. Each ratio is the time allowed divided by the median or the worst of the moves.
"""

from __future__ import annotations

import threading
import time
from itertools import islice
from statistics import median

from fltutor import widgets
from fltutor.lessons.private_training import kept_private_run
from fltutor.lessons.robust_aggregation.runs import RULES, liars_run
from fltutor.lessons.start_here.explorer import training_explorer
from fltutor.widgets import Explorer

ALLOWED = 0.2  # seconds
MOVES = {
    "clients": (5, 20, 50, 100, 200, 400, 10),
    "noise": (2.0, 4.0, 0.0, 8.0, 0.5, 1.0),
    "rounds": (5, 30, 1, 12, 25, 20),
}
LIARS = (4, 1, 5, 2, 6)  # of notebook 13


def seconds_to_pictures(view: Explorer, slider: str, value: float) -> tuple[float, float]:
    """Seconds from the move until the first picture, and until the run is all there."""
    painted = threading.Event()
    picture = view.children[-1]
    picture.observe(lambda change: painted.set(), names="value")
    start = time.perf_counter()
    view.controls[slider].value = value
    if not painted.wait(60):
        raise TimeoutError(f"no picture a minute after {slider} became {value}")
    first = time.perf_counter() - start
    while "fltutor-busy" in view._dom_classes:
        time.sleep(0.001)
    picture.unobserve_all("value")
    return first, time.perf_counter() - start


def seconds_of_two_rounds(rule: str) -> float:
    """Seconds from a move in notebook 13 until two rounds are computed, the median of moves."""
    times = []
    for liars in (3, *LIARS):  # the first computes the run without liars, too
        start = time.perf_counter()
        list(islice(liars_run(rule=rule, attackers=liars), 2))
        times.append(time.perf_counter() - start)
    return median(times[1:])


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    widgets.in_notebook = lambda: True
    view = training_explorer()
    rows = []
    for slider, values in MOVES.items():
        times = []
        for value in values:
            if slider != "rounds":  # which shows a prefix of the run that is kept
                kept_private_run.cache_clear()
            times.append(seconds_to_pictures(view, slider, value))
        first, whole = (sorted(column) for column in zip(*times, strict=True))
        found = f"first picture after moving {slider}, median {1000 * median(first):.0f} ms"
        rows.append((f"{found}: in 200 ms", ALLOWED / median(first), ">= 1"))
        found = f"first picture after moving {slider}, worst {1000 * first[-1]:.0f} ms"
        rows.append((f"{found}: in 200 ms", ALLOWED / first[-1], "(information)"))
        found = f"whole run after moving {slider}, median {1000 * median(whole):.0f} ms"
        rows.append((f"{found}: in 200 ms", ALLOWED / median(whole), "(information)"))
    taken = {rule: seconds_of_two_rounds(rule) for rule in RULES}
    slowest = max(taken, key=taken.get)
    found = f"two rounds after moving liars, {slowest} (slowest) {1000 * taken[slowest]:.0f} ms"
    rows.append((f"{found}: in 200 ms", ALLOWED / taken[slowest], ">= 1"))
    return rows


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:76} {ratio:6.2f}  {target}")
