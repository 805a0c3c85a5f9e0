"""What notebook 12 uses: ``from fltutor.lessons import auditing_privacy as lesson``."""

from fltutor.lessons.auditing_privacy.checks import check_bugs, check_leak, check_offline
from fltutor.lessons.auditing_privacy.explorer import audit_explorer
from fltutor.lessons.auditing_privacy.plots import draw_bounds, draw_examples, draw_roc, draw_worlds
from fltutor.lessons.auditing_privacy.runs import (
    audited_training,
    power,
    small_world,
    suspects,
    train_halves,
)

__all__ = [
    "audit_explorer",
    "audited_training",
    "check_bugs",
    "check_leak",
    "check_offline",
    "draw_bounds",
    "draw_examples",
    "draw_roc",
    "draw_worlds",
    "power",
    "small_world",
    "suspects",
    "train_halves",
]
