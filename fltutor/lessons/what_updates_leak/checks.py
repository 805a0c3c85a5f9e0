"""Checks of notebook 07: one guess from all units, a batch in one unit, counting recoveries."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from fltutor.attacks import HALF_GREY_LEVEL, invert_dense_gradient, psnr, score
from fltutor.checks import agree, difference, named, no_answer, verdict
from fltutor.data import load_digits
from fltutor.models import mlp, params_spec
from fltutor.tensorflow_quietly import tf
from fltutor.vectors import unflatten

NOISE = 0.003
"""Standard deviation of the noise, as a share of the gradient's length."""
SLACK = 0.5
"""Decibels that an answer may lie below the best one."""


def check_single_image(mine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Run the reader's inversion on noisy gradients of single digits, and judge it by its PSNR.

    Example:
        >>> check_single_image(lambda kernel, bias: ...)
        · not attempted yet
        >>> check_single_image(lambda kernel, bias: (kernel / bias).mean(axis=1))
        mean PSNR of 8 digits under noise: yours 5.5 dB, fltutor's 37.0 dB
        ✗ my_single_image: this is the plain mean: units that are nearly all noise count in full
    """
    mistakes = {
        "the plain mean: units that are nearly all noise count in full": lambda kernel, bias: (
            kernel / bias
        ).mean(axis=1),
        "one sum over the other: positive and negative units cancel": lambda kernel, bias: (
            kernel.sum(axis=1) / bias.sum()
        ),
        "the loudest unit alone, and the others know something, too": lambda kernel, bias: (
            kernel[:, np.argmax(np.abs(bias))] / bias[np.argmax(np.abs(bias))]
        ),
        "a mean weighted by size: a unit twice as loud is four times as clear": (
            lambda kernel, bias: kernel @ np.sign(bias) / np.abs(bias).sum()
        ),
        "the sum without its divisor: the shape is right, the ink is not": lambda kernel, bias: (
            kernel @ bias
        ),
    }

    def least_squares(kernel, bias):
        return kernel @ bias / (bias @ bias)

    def closeness(invert):
        return np.mean([psnr(x, np.clip(invert(*noisy), 0, 1)) for x, *noisy in _noisy_gradients()])

    def attempt():
        image, kernel, bias = _noisy_gradients()[0]
        guess = mine(kernel.copy(), bias.copy())
        if guess is None or guess is ...:
            return no_answer(mine, guess)
        if np.shape(guess) != image.shape:
            return f"my_single_image gives shape {np.shape(guess)}, needed {image.shape}"
        own, best = closeness(mine), closeness(least_squares)
        print(f"mean PSNR of 8 digits under noise: yours {own:.1f} dB, fltutor's {best:.1f} dB")
        if own > best - SLACK:
            return None
        for name, mistake in mistakes.items():
            if difference(guess, mistake(kernel, bias)) is None:
                return f"my_single_image: this is {name}"
        return "there is more in these gradients: how should a loud unit count?"

    verdict(attempt, "one guess from all units, as close as least squares")


@cache
def _noisy_gradients() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
    """Eight digits, each with the noisy gradient of a dense layer of 32 units."""
    digits, cases = load_digits(), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        model, image = mlp(seed=seed), int(rng.integers(len(digits.y)))
        gradient = _gradient(model, [image])
        sigma = NOISE * np.linalg.norm(gradient)
        noisy = gradient + sigma * rng.standard_normal(len(gradient))
        kernel, bias, *_ = unflatten(noisy, params_spec(model))
        cases.append((digits.x[image].astype(np.float64), kernel, bias))
    return tuple(cases)


def _gradient(model, examples: list[int]) -> np.ndarray:
    """Gradient of the mean loss over some training digits, float64, shape (d,)."""
    digits = load_digits()
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            digits.y[examples], model(digits.x[examples])
        )
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    return np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64)


def check_blur(mine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Compare ``mine(images, bias_gradients)`` with what units of a real batch hand over.

    Example:
        >>> check_blur(lambda images, bias_gradients: images.mean(axis=0))
        ✗ my_blur: this is the plain mean: louder images count more
    """

    def read_off(images, bias_gradients):
        return next(guess for _, bias, guess in _units() if np.array_equal(bias, bias_gradients))

    read_off.__name__ = "the gradient of the batch"
    agree(
        named("my_blur", mine),
        read_off,
        *((images, bias_gradients) for images, bias_gradients, _ in _units()),
        mistakes={
            "the plain mean: louder images count more": lambda x, b: x.mean(axis=0),
            "a mean weighted by size: a bias gradient has a sign": lambda x, b: (
                np.abs(b) @ x / np.abs(b).sum()
            ),
            "the weighted sum: divide by the sum of the bias gradients": lambda x, b: b @ x,
            "the weighted sum over the number of images: divide by the sum of the bias "
            "gradients": lambda x, b: b @ x / len(b),
        },
        tolerance=1e-3,  # float32 gradients, divided by small sums
    )


@cache
def _units() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
    """Units that several images light: the images, each one's bias gradient, the unit's guess."""
    digits, model, examples = load_digits(), mlp(seed=7), [3, 14, 15, 92, 65]
    spec = params_spec(model)
    each = np.array([unflatten(_gradient(model, [e]), spec)[1] for e in examples])  # (5, units)
    several = np.flatnonzero((each != 0).sum(axis=0) >= 3)
    balanced = np.abs(each[:, several].sum(axis=0)) > 0.2 * np.abs(each[:, several]).sum(axis=0)
    kernel, bias, *_ = unflatten(_gradient(model, examples), spec)
    return tuple(
        (digits.x[examples].astype(np.float64), each[:, unit], kernel[:, unit] / bias[unit])
        for unit in several[balanced]
    )


def check_count(mine: Callable[[np.ndarray, np.ndarray], int]) -> None:
    """Compare ``mine(guesses, originals)`` with the package's count on real batches.

    Example:
        >>> check_count(lambda guesses, originals: ...)
        · not attempted yet
    """

    def errors(guesses, originals):
        return np.abs(guesses[:, None] - originals[None])  # (guesses, originals, pixels)

    def exact_recoveries(guesses, originals):
        return int(score(guesses, originals).exact.sum())

    agree(
        named("my_count", mine),
        exact_recoveries,
        *_inverted_batches(),
        mistakes={
            "a count of guesses: an image that several units give back counts once": lambda g, x: (
                int((errors(g, x).max(axis=2) < HALF_GREY_LEVEL).any(axis=1).sum())
            ),
            "a count with the mean error: one wrong pixel is enough to miss": lambda g, x: int(
                (errors(g, x).mean(axis=2) < HALF_GREY_LEVEL).any(axis=0).sum()
            ),
            "a count of images with one right pixel: all of them must be right": lambda g, x: int(
                (errors(g, x).min(axis=2) < HALF_GREY_LEVEL).any(axis=0).sum()
            ),
            "a share: count images": lambda g, x: float(score(g, x).exact_share),
            "a count of equal images: rounding makes equality too strict": lambda g, x: int(
                (errors(g, x).max(axis=2) == 0).any(axis=0).sum()
            ),
        },
    )


@cache
def _inverted_batches() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Guesses and originals of batches of 2, 5 and 20 digits, and one with a single wrong pixel."""
    digits, cases = load_digits(), []
    for num_images in (2, 5, 20):
        model = mlp(seed=num_images)
        examples = (
            np.random.default_rng(num_images)
            .choice(len(digits.y), num_images, replace=False)
            .tolist()
        )
        guesses = invert_dense_gradient(_gradient(model, examples), params_spec(model))
        cases.append((guesses, digits.x[examples].astype(np.float64)))
    guesses, originals = cases[0]
    spoiled = originals.copy()
    spoiled[0, 0] += 0.5
    cases.append((spoiled, originals))
    return tuple(cases)
