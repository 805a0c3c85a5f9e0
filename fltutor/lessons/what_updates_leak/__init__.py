"""What notebook 07 uses: ``from fltutor.lessons import what_updates_leak as lesson``."""

from fltutor.lessons.what_updates_leak.checks import check_blur, check_count, check_single_image
from fltutor.lessons.what_updates_leak.explorer import leak_explorer
from fltutor.lessons.what_updates_leak.plots import (
    draw_exact_shares,
    draw_noise,
    draw_recovery,
    draw_units,
    summary,
)
from fltutor.lessons.what_updates_leak.runs import exact_shares, leak

__all__ = [
    "check_blur",
    "check_count",
    "check_single_image",
    "draw_exact_shares",
    "draw_noise",
    "draw_recovery",
    "draw_units",
    "exact_shares",
    "leak",
    "leak_explorer",
    "summary",
]
