"""What notebook 03 uses: ``from fltutor.lessons import gradient_aggregation as lesson``."""

from fltutor.lessons.curves import draw_splits
from fltutor.lessons.gradient_aggregation.checks import (
    check_fedavg_round,
    check_sampled_gradient,
    check_server_step,
)
from fltutor.lessons.gradient_aggregation.explorer import fedsgd_explorer
from fltutor.lessons.gradient_aggregation.plots import draw_losses, draw_mistakes

__all__ = [
    "check_fedavg_round",
    "check_sampled_gradient",
    "check_server_step",
    "draw_losses",
    "draw_mistakes",
    "draw_splits",
    "fedsgd_explorer",
]
