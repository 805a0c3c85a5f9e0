"""What notebook 08 uses: ``from fltutor.lessons import secure_aggregation as lesson``."""

from fltutor.lessons.knowledge_table import draw_who_knows_what
from fltutor.lessons.pictures import draw_guesses
from fltutor.lessons.secure_aggregation.checks import (
    SEED_GRID,
    check_private_mean,
    check_seed,
    check_threshold,
    mask_of_16_bits,
)
from fltutor.lessons.secure_aggregation.explorer import masked_round_explorer
from fltutor.lessons.secure_aggregation.plots import draw_sum_leak, draw_uploads
from fltutor.lessons.secure_aggregation.runs import exact_from_sums, two_lists
from fltutor.lessons.single_digits import attack_uploads, one_digit_each

__all__ = [
    "SEED_GRID",
    "attack_uploads",
    "check_private_mean",
    "check_seed",
    "check_threshold",
    "draw_guesses",
    "draw_sum_leak",
    "draw_uploads",
    "draw_who_knows_what",
    "exact_from_sums",
    "mask_of_16_bits",
    "masked_round_explorer",
    "one_digit_each",
    "two_lists",
]
