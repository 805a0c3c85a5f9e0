"""What notebook 13 uses: ``from fltutor.lessons import robust_aggregation as lesson``."""

from fltutor.lessons.robust_aggregation.checks import (
    check_geometric_median,
    check_krum,
    check_twins,
)
from fltutor.lessons.robust_aggregation.explorer import liars_explorer
from fltutor.lessons.robust_aggregation.plots import (
    draw_accuracy,
    draw_points,
    draw_spread,
    draw_table,
    draw_triggers,
)
from fltutor.lessons.robust_aggregation.runs import federation, final_accuracy

__all__ = [
    "check_geometric_median",
    "check_krum",
    "check_twins",
    "draw_accuracy",
    "draw_points",
    "draw_spread",
    "draw_table",
    "draw_triggers",
    "federation",
    "final_accuracy",
    "liars_explorer",
]
