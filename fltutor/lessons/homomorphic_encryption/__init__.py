"""What notebook 09 uses: ``from fltutor.lessons import homomorphic_encryption as lesson``."""

from fltutor.lessons.homomorphic_encryption.checks import (
    check_add,
    check_value_bits,
    check_weighted_mean,
)
from fltutor.lessons.homomorphic_encryption.explorer import homomorphic_explorer
from fltutor.lessons.homomorphic_encryption.plots import draw_costs, draw_scales
from fltutor.lessons.homomorphic_encryption.runs import client_updates, scale_runs
from fltutor.lessons.knowledge_table import draw_who_knows_what
from fltutor.lessons.pictures import draw_guesses
from fltutor.lessons.single_digits import attack_each, one_digit_each

__all__ = [
    "attack_each",
    "check_add",
    "check_value_bits",
    "check_weighted_mean",
    "client_updates",
    "draw_costs",
    "draw_guesses",
    "draw_scales",
    "draw_who_knows_what",
    "homomorphic_explorer",
    "one_digit_each",
    "scale_runs",
]
