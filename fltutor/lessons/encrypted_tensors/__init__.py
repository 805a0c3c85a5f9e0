"""What notebook 01 uses: ``from fltutor.lessons import encrypted_tensors as lesson``."""

from fltutor.lessons.encrypted_tensors.checks import (
    check_associated_data,
    check_nonces,
    check_overhead,
)
from fltutor.lessons.encrypted_tensors.explorer import encryption_explorer
from fltutor.lessons.encrypted_tensors.plots import (
    draw_message,
    draw_reuse,
    draw_training,
    draw_wire,
)
from fltutor.lessons.encrypted_tensors.runs import xor
from fltutor.lessons.scene import load_scene

__all__ = [
    "check_associated_data",
    "check_nonces",
    "check_overhead",
    "draw_message",
    "draw_reuse",
    "draw_training",
    "draw_wire",
    "encryption_explorer",
    "load_scene",
    "xor",
]
