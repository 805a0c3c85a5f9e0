"""What notebook 10 uses: ``from fltutor.lessons import differential_privacy as lesson``."""

from fltutor.lessons.differential_privacy.checks import (
    check_gaussian_rdp,
    check_noise,
    check_subtract,
    seeded_counts,
)
from fltutor.lessons.differential_privacy.explorer import spending_explorer
from fltutor.lessons.differential_privacy.plots import draw_counts, draw_textbook, draw_two_worlds

__all__ = [
    "check_gaussian_rdp",
    "check_noise",
    "check_subtract",
    "draw_counts",
    "draw_textbook",
    "draw_two_worlds",
    "seeded_counts",
    "spending_explorer",
]
