"""Attacks: what a curious server reads out of an update, and what a lying client sends.

An attack that fails proves little: a better one may come. One that succeeds
proves the leak. An auditor attacks, too: by canaries, clients of its own in a
training that claims to be private, with or without a planted bug.
"""

from fltutor.attacks.canaries import AuditedTraining, audit_training, with_canaries
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
    Attacked,
    CoinModels,
    attack_targets,
    lira_scores,
    logit_confidences,
    loss_scores,
    roc_curve,
    tpr_at_fpr,
    train_on_coins,
)
from fltutor.attacks.planted_bugs import BUGS, plant_bug
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
    "BUGS",
    "HALF_GREY_LEVEL",
    "MAX_PSNR",
    "Attacked",
    "AuditedTraining",
    "CoinModels",
    "GradientMatch",
    "Recovery",
    "add_trigger",
    "attack_success_rate",
    "attack_targets",
    "audit_training",
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
    "plant_bug",
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
    "with_canaries",
]
