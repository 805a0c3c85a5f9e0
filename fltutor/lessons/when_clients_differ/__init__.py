"""What notebook 05 uses: ``from fltutor.lessons import when_clients_differ as lesson``."""

from fltutor.lessons.curves import draw_splits
from fltutor.lessons.when_clients_differ.checks import (
    check_momentum,
    check_scaffold_bytes,
    check_server_step,
)
from fltutor.lessons.when_clients_differ.explorer import differing_explorer
from fltutor.lessons.when_clients_differ.plots import (
    draw_differing_race,
    draw_drifts,
    draw_hospitals,
    draw_tug,
)

__all__ = [
    "check_momentum",
    "check_scaffold_bytes",
    "check_server_step",
    "differing_explorer",
    "draw_differing_race",
    "draw_drifts",
    "draw_hospitals",
    "draw_splits",
    "draw_tug",
]
