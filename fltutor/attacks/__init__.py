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

__all__ = [
    "HALF_GREY_LEVEL",
    "MAX_PSNR",
    "GradientMatch",
    "Recovery",
    "gradient_from_update",
    "infer_label_counts",
    "inversion_attack",
    "invert_by_optimisation",
    "invert_dense_gradient",
    "invert_single_image",
    "psnr",
    "score",
]
