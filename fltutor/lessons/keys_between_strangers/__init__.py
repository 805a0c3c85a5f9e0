"""What notebook 02 uses: ``from fltutor.lessons import keys_between_strangers as lesson``."""

from fltutor.lessons.keys_between_strangers.checks import (
    check_accept,
    check_all_zero,
    check_separate_keys,
)
from fltutor.lessons.keys_between_strangers.explorer import key_explorer
from fltutor.lessons.keys_between_strangers.plots import draw_exchange
from fltutor.lessons.pictures import draw_ink
from fltutor.lessons.scene import load_scene

__all__ = [
    "check_accept",
    "check_all_zero",
    "check_separate_keys",
    "draw_exchange",
    "draw_ink",
    "key_explorer",
    "load_scene",
]
