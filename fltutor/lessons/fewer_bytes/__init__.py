"""What notebook 06 uses: ``from fltutor.lessons import fewer_bytes as lesson``."""

from fltutor.lessons.fewer_bytes.checks import (
    check_ring_bits,
    check_stochastic_rounding,
    check_top_k_bytes,
)
from fltutor.lessons.fewer_bytes.explorer import compression_explorer
from fltutor.lessons.fewer_bytes.plots import draw_rounding, draw_runs
from fltutor.lessons.fewer_bytes.runs import compressed_training

__all__ = [
    "check_ring_bits",
    "check_stochastic_rounding",
    "check_top_k_bytes",
    "compressed_training",
    "compression_explorer",
    "draw_rounding",
    "draw_runs",
]
