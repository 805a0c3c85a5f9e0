"""What notebook 11 uses: ``from fltutor.lessons import private_federated_averaging as lesson``."""

from fltutor.lessons.pictures import draw_guesses
from fltutor.lessons.private_federated_averaging.checks import (
    check_bounded_rows,
    check_lost_rounds,
    check_noise,
)
from fltutor.lessons.private_federated_averaging.explorer import private_run_explorer
from fltutor.lessons.private_federated_averaging.plots import (
    draw_attacks,
    draw_clip_starts,
    draw_noise_of_average,
    draw_people,
)
from fltutor.lessons.private_federated_averaging.runs import (
    SHORT,
    in_or_out,
    last_of,
    released_alone,
)
from fltutor.lessons.single_digits import attack_each, attack_uploads, one_digit_each

__all__ = [
    "SHORT",
    "attack_each",
    "attack_uploads",
    "check_bounded_rows",
    "check_lost_rounds",
    "check_noise",
    "draw_attacks",
    "draw_clip_starts",
    "draw_guesses",
    "draw_noise_of_average",
    "draw_people",
    "in_or_out",
    "last_of",
    "one_digit_each",
    "private_run_explorer",
    "released_alone",
]
