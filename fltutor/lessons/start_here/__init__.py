"""What notebook 00 uses: ``from fltutor.lessons import start_here as lesson``."""

from fltutor.lessons.start_here.checks import check_affordable_rounds, check_enough_clients
from fltutor.lessons.start_here.explorer import training_explorer
from fltutor.lessons.start_here.runs import private_training

__all__ = [
    "check_affordable_rounds",
    "check_enough_clients",
    "private_training",
    "training_explorer",
]
