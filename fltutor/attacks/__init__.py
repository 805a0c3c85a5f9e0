"""Attacks: what a curious server reads out of an update, and what a lying client sends.

An attack that fails proves little: a better one may come. One that succeeds
proves the leak.
"""

from fltutor.attacks.inversion import (
    HALF_GREY_LEVEL,
    MAX_PSNR,
    GradientMatch,
    Recovery,
    gradient_from_update,
    infer_label_counts,
    inversion_attack,
    invert_by_optimisation,
    invert_dense_gradient,
    invert_single_image,
    psnr,
    score,
)
from fltutor.attacks.membership import (
    CoinModels,
    lira_scores,
    logit_confidences,
    loss_scores,
    roc_curve,
    tpr_at_fpr,
    train_on_coins,
)
from fltutor.attacks.poisoning import (
    add_trigger,
    attack_success_rate,
    flip_labels,
    largest_unnoticed_z,
    little_is_enough,
    plant_backdoor,
    scale_update,
    send_constant,
    send_noise,
    sign_flip,
    under_attack,
)

__all__ = [
    "HALF_GREY_LEVEL",
    "MAX_PSNR",
    "CoinModels",
    "GradientMatch",
    "Recovery",
    "add_trigger",
    "attack_success_rate",
    "flip_labels",
    "gradient_from_update",
    "infer_label_counts",
    "inversion_attack",
    "invert_by_optimisation",
    "invert_dense_gradient",
    "invert_single_image",
    "largest_unnoticed_z",
    "lira_scores",
    "little_is_enough",
    "logit_confidences",
    "loss_scores",
    "plant_backdoor",
    "psnr",
    "roc_curve",
    "scale_update",
    "score",
    "send_constant",
    "send_noise",
    "sign_flip",
    "tpr_at_fpr",
    "train_on_coins",
    "under_attack",
]
