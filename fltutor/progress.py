"""A progress bar for loops that a reader waits for, in a notebook or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any


def progress_bar(items: Sequence[Any], label: str, *, show: bool = True) -> Iterator[Any]:
    """Go through ``items`` and show how far it is.

    Args:
        items: What to loop over; its length must be known.
        label: What is counted, such as ``"rounds"``.
        show: False shows nothing.

    Example:
        >>> sum(progress_bar(range(4), "rounds", show=False))
        6
    """
    if not show:
        yield from items
    elif in_notebook():
        import ipywidgets as ipw
        from IPython.display import display

        bar = ipw.IntProgress(0, 0, len(items), description=label)
        count = ipw.Label(f"0 of {len(items)}")
        box = ipw.HBox([bar, count])
        box.add_class("fltutor-progress")
        display(box)
        for done, item in enumerate(items, start=1):
            yield item
            bar.value, count.value = done, f"{done} of {len(items)}"
    else:
        for done, item in enumerate(items, start=1):
            yield item
            filled = 30 * done // len(items)
            end = "\n" if done == len(items) else ""
            print(
                f"\r{label} [{'#' * filled}{'.' * (30 - filled)}] {done} of {len(items)}",
                end=end,
                flush=True,
            )


def in_notebook() -> bool:
    """True under a Jupyter kernel; plain terminals and scripts load nothing for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and getattr(shell, "kernel", None) is not None
