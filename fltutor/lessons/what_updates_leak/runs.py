"""Notebook 07: what a server gets out of one client's update."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fltutor.attacks import Recovery, inversion_attack, psnr
from fltutor.clients import cohort_gradients, train_cohort
from fltutor.data import load_digits
from fltutor.models import get_params, mlp, params_spec
from fltutor.tensorflow_quietly import keras

MAX_IMAGES = 50
LEARNING_RATE = 0.1
NOISES = (0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1)
SEED = 7


@dataclass(frozen=True)
class Leak:
    """One update, attacked.

    Attributes:
        originals: The client's images, shape (n, 64).
        recovery: What the attack gave back of them.
        blind: PSNR of the mean training digit, a guess that needs no update, shape (n,).
        local_epochs: How often the client went through its images.
        noise: Standard deviation of the noise, as a share of the update's length.
    """

    originals: np.ndarray = field(repr=False)
    recovery: Recovery
    blind: np.ndarray = field(repr=False)
    local_epochs: int
    noise: float


def leak(images: int = 1, local_epochs: int = 1, noise: float = 0.0, draw: int = 0) -> Leak:
    """Let a client train on some digits, add noise to its update, and attack what is sent.

    The client takes one step per epoch, on all its images at once, with learning rate
    0.1 from freshly drawn weights. The noise is seeded: a demonstration.

    Args:
        images: How many digits the client holds, 1 to 50.
        local_epochs: Steps it takes.
        noise: Standard deviation in every coordinate, as a share of the L2 norm of the
            update. If updates are clipped to just this norm, it is the noise multiplier.
        draw: Which digits, and which noise.

    Example:
        >>> leak(images=1, local_epochs=5).recovery.exact
        array([ True])
    """
    digits, model = load_digits(), _model()
    rng = np.random.default_rng([SEED, draw])
    chosen = rng.permutation(len(digits.y))[:images]  # more images keep the first ones
    steps = np.full((local_epochs, MAX_IMAGES), -1, dtype=np.int32)  # -1 pads: one shape for all
    steps[:, :images] = chosen
    [update] = train_cohort(
        model, get_params(model), digits.x, digits.y, [steps], learning_rate=LEARNING_RATE
    )
    sent = update + noise * np.linalg.norm(update) * rng.standard_normal(len(update))
    originals = digits.x[chosen]
    recovery = inversion_attack(sent.astype(np.float32), params_spec(model), originals)
    blind = psnr(originals, digits.x.mean(axis=0))
    return Leak(originals, recovery, blind, local_epochs, noise)


def exact_shares(
    num_images: int,
    *,
    units: int = 32,
    batches: int = 20,
    seeds: int = 5,
    params: np.ndarray | None = None,
) -> np.ndarray:
    """Invert the gradients of random batches: what share of each comes back exactly?

    Args:
        num_images: Digits in a batch.
        units: Hidden units of the model, a dense layer of ReLUs.
        batches: Batches per seed.
        seeds: Draws of the model's weights and of the batches.
        params: Weights to use for all seeds instead of freshly drawn ones, shape (d,).

    Returns:
        One share per batch, 0 to 1, shape (seeds * batches,).

    Example:
        >>> exact_shares(1, batches=2, seeds=1)
        array([1., 1.])
    """
    digits, model = load_digits(), _model(units)
    shares = []
    for seed in range(seeds):
        rng = np.random.default_rng([SEED, seed])
        point = get_params(mlp(hidden=(units,), seed=seed)) if params is None else params
        parts = [rng.choice(len(digits.y), num_images, replace=False) for _ in range(batches)]
        gradients = cohort_gradients(model, point, digits.x, digits.y, parts)
        for gradient, part in zip(gradients, parts, strict=True):
            recovery = inversion_attack(gradient, params_spec(model), digits.x[part])
            shares.append(recovery.exact_share)
    return np.array(shares)


@cache
def _model(units: int = 32) -> keras.Model:
    """One model for every run: what is compiled for it stays compiled."""
    return mlp(hidden=(units,), seed=SEED)
