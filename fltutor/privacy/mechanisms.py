"""Noise that hides one participant in a sum.

The Gaussian mechanism here is the **textbook** one: it adds floating-point
noise, and the low-order bits of a floating-point sum can give away what the
noise was meant to hide (Mironov, CCS 2012, doi 10.1145/2382196.2382264). The
analysis in :mod:`fltutor.privacy.accounting` is about real numbers. For integers,
:mod:`fltutor.privacy.discrete` adds noise that is drawn as the analysis assumes.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fltutor.border import as_generator, as_numbers, as_real, as_whole
from fltutor.errors import InvalidParameterError

_BLOCK_PAIRS = 8192  # the working arrays of one block, 64 kB each, stay in the cache


@dataclass(frozen=True)
class Noisy:
    """A noisy value and what was done to it.

    ``demonstration`` is True if the noise came from a generator that can be
    repeated or predicted: good for a lesson, no ground for a privacy claim.
    """

    value: Any
    standard_deviation: float
    demonstration: bool


def gaussian_mechanism(
    value: Any,
    sensitivity: float,
    noise_multiplier: float,
    rng: np.random.Generator | None = None,
    *,
    allow_no_noise: bool = False,
) -> Noisy:
    """Add Gaussian noise of standard deviation ``noise_multiplier * sensitivity``.

    If one participant moves ``value`` by at most ``sensitivity`` in L2 norm, the
    noise covers that move; :func:`fltutor.privacy.accounting.epsilon_after` says
    how well.

    Args:
        value: A number or an array. Floating-point types and shapes are kept;
            integers become float64.
        sensitivity: The largest L2 change by one participant, in units of ``value``.
        noise_multiplier: Standard deviation of the noise in units of ``sensitivity``.
        rng: None draws from the operating system's generator. A NumPy generator
            marks the result as a demonstration.
        allow_no_noise: Must be True to accept ``noise_multiplier=0``, which
            protects nobody: epsilon is infinite.

    Returns:
        The noisy value, the standard deviation, and whether it is a demonstration.

    Raises:
        InvalidParameterError: If ``sensitivity`` or ``noise_multiplier`` is out of
            range, if ``value`` is not finite, or if its floating-point numbers are
            spaced so widely, or end so early, that the noise would be lost.

    Example:
        >>> noisy = gaussian_mechanism(np.zeros(3), 2.0, 1.5, rng=np.random.default_rng(1))
        >>> noisy.standard_deviation, noisy.demonstration
        (3.0, True)

    Reference:
        Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014,
        Theorem 3.22 and Appendix A. https://doi.org/10.1561/0400000042
    """
    deviation = _standard_deviation(sensitivity, noise_multiplier, allow_no_noise)
    value = as_numbers("value", value)
    if value.dtype.kind != "f":
        value = value.astype(np.float64)
    if rng is not None:
        as_generator("rng", rng)
    spacing = float(np.spacing(np.abs(value).max(initial=0)))
    if 0 < deviation < spacing:
        raise InvalidParameterError(
            f"noise of standard deviation {deviation:g} is lost in {value.dtype} numbers as large "
            f"as these, which are {spacing:g} apart: scale the value down or use a wider type"
        )
    if rng is None:
        noise = system_normal(value.size).reshape(value.shape)
    else:
        noise = rng.standard_normal(value.shape)
    with np.errstate(over="ignore"):
        noisy = np.add(value, deviation * noise).astype(value.dtype)
    if not np.isfinite(noisy).all():
        raise InvalidParameterError(
            f"value plus noise of scale {deviation:g} leaves the range of {value.dtype}"
        )
    return Noisy(noisy, deviation, demonstration=rng is not None)


def system_normal(size: int) -> np.ndarray:
    """Draw ``size`` standard normal numbers from a cryptographic stream.

    Whoever can guess the noise can subtract it, so the stream is AES-256 in
    counter mode under a fresh key of the operating system, used for this call only.

    Args:
        size: How many numbers.

    Returns:
        Shape (size,), float64, no larger than 9.5 in magnitude.

    Example:
        >>> system_normal(5).shape
        (5,)

    Reference:
        Box and Muller, Annals of Mathematical Statistics 29(2), 1958.
    """
    size = as_whole("size", size, least=0)
    num_blocks = math.ceil(size / (2 * _BLOCK_PAIRS))
    pairs = math.ceil(size / (2 * max(num_blocks, 1)))
    normal = np.empty((num_blocks, 2, pairs))
    words = np.empty((2, pairs), np.uint64)
    zeros = bytes(words.nbytes)
    key = algorithms.AES(secrets.token_bytes(32))
    stream = Cipher(key, modes.CTR(bytes(16))).encryptor()
    for block in normal:
        stream.update_into(zeros, memoryview(words.reshape(-1)).cast("B"))
        _normal_with(words, out=block)
    return normal.reshape(-1)[:size]


def _normal_with(words: np.ndarray, out: np.ndarray) -> None:
    """Turn uniform 64-bit words (2, pairs) into standard normal numbers, in place.

    Box and Muller: a point at a uniform angle whose squared radius is exponential
    has two normal coordinates. Cosine and sine come from the tangent ``t`` of half
    the angle, as 2 / (1 + t^2) - 1 and 2 t / (1 + t^2): one function, not two.
    """
    x, y = out
    radius = (words[0] + 0.5) * 2.0**-64  # in (0, 1]
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)
    np.multiply(words[1].view(np.int64), np.pi * 2.0**-64, out=y)  # half the angle
    np.tan(y, out=y)  # t
    np.multiply(y, y, out=x)
    x += 1
    np.divide(radius, x, out=x)
    x *= 2  # 2 radius / (1 + t^2)
    y *= x
    x -= radius


def _standard_deviation(sensitivity: float, noise_multiplier: float, no_noise: bool) -> float:
    sensitivity = as_real("sensitivity", sensitivity, above=0)
    noise_multiplier = as_real("noise_multiplier", noise_multiplier, least=0)
    if noise_multiplier == 0 and not no_noise:
        raise InvalidParameterError(
            "noise_multiplier is 0: epsilon would be infinite. Ask for it with allow_no_noise=True"
        )
    deviation = noise_multiplier * sensitivity
    if noise_multiplier > 0 and not 0 < deviation < np.inf:
        raise InvalidParameterError(
            f"noise_multiplier * sensitivity must be a positive finite float, got {deviation}"
        )
    return deviation
