"""What notebook 04 uses: ``from fltutor.lessons import model_aggregation as lesson``."""

from fltutor.lessons.model_aggregation.checks import (
    check_megabytes,
    check_reordering,
    check_weighted_mean,
)
from fltutor.lessons.model_aggregation.explorer import local_work_explorer
from fltutor.lessons.model_aggregation.plots import draw_between, draw_race

__all__ = [
    "check_megabytes",
    "check_reordering",
    "check_weighted_mean",
    "draw_between",
    "draw_race",
    "local_work_explorer",
]
