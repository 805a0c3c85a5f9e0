"""Discrete Gaussian noise: integers, so that no low-order bit gives anything away.

The discrete Gaussian gives the integer x a probability proportional to
``exp(-x^2 / (2 sigma^2))``. For integer-valued sums it protects as the Gaussian does: if one
participant moves the sum by at most ``sensitivity`` in L2 norm, the Rényi divergence of
order a is at most ``a * sensitivity^2 / (2 sigma^2)``, so
:func:`fltutor.privacy.accounting.epsilon_after` holds for it with accountant ``"rdp"`` and no
sampling. Unlike floating-point noise, it can be drawn just as the analysis assumes.

Two samplers. :func:`exact_discrete_gaussian` is the textbook one: no error at all, whole
numbers only, slow. :func:`discrete_gaussian` looks draws up in tables, thousands of times
faster, at a distance from the exact distribution that :func:`sampling_distance` states.

**How the tables work.** Probabilities are computed with 110 digits and rounded down to
multiples of 2^-256; what is lost goes to 0. They are then spread over 2^k columns of equal
mass, each split between two integers (Walker's alias method). A draw is one 64-bit word: its
last k bits choose the column, the others say on which side of the split it falls. Where they
equal the first bits of the split, which is rare, 192 further bits decide. For ``sigma`` beyond
880 one table would be too large: there, ``fine + 128 * coarse`` is drawn, each part
a discrete Gaussian, whose law differs from the wanted one by a factor of 1 ± 2^-300
(Poisson's summation formula; see :func:`sampling_distance`).

Bits come from AES-256 in counter mode under a fresh key of the operating system; they are
taken to be uniform. The time a draw takes may depend on its value: for teaching only,
where nobody measures the time.

References:
    Canonne, Kamath and Steinke, NeurIPS 2020. https://arxiv.org/abs/2004.00010
    Walker, ACM Transactions on Mathematical Software 3(3), 1977.
"""

from __future__ import annotations

import decimal
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from numbers import Rational, Real
from typing import Any

import numpy as np

from fltutor.border import as_array, as_generator, as_real, as_whole
from fltutor.crypto import prg
from fltutor.errors import InvalidParameterError
from fltutor.privacy.mechanisms import Noisy

#: The largest ``sigma`` of :func:`discrete_gaussian`; its draws are below 2^47.
LARGEST_SIGMA = 2.0**40

_UNIT_BITS = 256  # probabilities are multiples of 2^-256
_DIGITS = 110  # 10^-110 is to 2^-256 as an atom to the sun and more
_WORD_BITS = 64
_REST_BITS = _UNIT_BITS - _WORD_BITS
_LARGEST_TABLE = 880  # sigma up to which one table of at most 2^15 columns is used
_STRIDE = 128
_FINE = Fraction(622) ** 2  # sigma^2 of the fine part: 622 is about 880 / sqrt(2)
_BLOCK = 2**14  # words worked on at once: 128 kB
_INT64 = np.iinfo(np.int64)


# --- exact, as in the paper -------------------------------------------------------------------


def exact_discrete_gaussian(
    sigma_squared: Fraction | int | float,
    size: int,
    randbelow: Callable[[int], int] = secrets.randbelow,
) -> np.ndarray:
    """Draw from the discrete Gaussian without any error, with whole numbers only.

    A discrete Laplace number with about the same width is proposed, and accepted with the
    probability that makes it Gaussian. Coins of the irrational bias exp(-x) are
    thrown as a series of coins with rational bias.

    Args:
        sigma_squared: The parameter sigma^2, positive; a float means exactly the
            rational number that it is.
        size: How many numbers; several thousand take a second.
        randbelow: Gives a uniform whole number below its argument. The default takes it
            from the operating system.

    Returns:
        Shape (size,), int64.

    Raises:
        InvalidParameterError: If ``sigma_squared`` is not positive and finite, or beyond 2^80.

    Example:
        >>> exact_discrete_gaussian(Fraction(9, 4), size=5).shape
        (5,)

    Reference:
        Canonne, Kamath and Steinke 2020, Algorithms 1 to 3. https://arxiv.org/abs/2004.00010
    """
    variance = _exact(sigma_squared, "sigma_squared", LARGEST_SIGMA**2)
    size = as_whole("size", size, least=0)
    return np.array([_gaussian(variance, randbelow) for _ in range(size)], np.int64)


def _gaussian(variance: Fraction, randbelow: Callable[[int], int]) -> int:
    """Algorithm 3."""
    scale = math.isqrt(math.floor(variance)) + 1  # floor(sigma) + 1
    while True:
        proposal = _laplace(scale, randbelow)
        excess = (abs(proposal) - variance / scale) ** 2 / (2 * variance)
        if _bernoulli_exp(excess, randbelow):
            return proposal


def _laplace(scale: int, randbelow: Callable[[int], int]) -> int:
    """Algorithm 2 for a whole scale: x has a probability proportional to exp(-|x| / scale)."""
    while True:
        remainder = randbelow(scale)
        if not _bernoulli_exp(Fraction(remainder, scale), randbelow):
            continue
        quotient = 0
        while _bernoulli_exp(Fraction(1), randbelow):
            quotient += 1
        magnitude, negative = remainder + scale * quotient, randbelow(2)
        if magnitude or not negative:  # 0 must not come twice
            return -magnitude if negative else magnitude


def _bernoulli_exp(exponent: Fraction, randbelow: Callable[[int], int]) -> bool:
    """Algorithm 1: True with probability exp(-exponent)."""
    while exponent > 1:
        if not _bernoulli_exp(Fraction(1), randbelow):
            return False
        exponent -= 1
    trials = 1
    while randbelow(exponent.denominator * trials) < exponent.numerator:
        trials += 1
    return trials % 2 == 1


# --- fast, from tables ------------------------------------------------------------------------


def discrete_gaussian(
    sigma: float | Fraction, size: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Draw from the discrete Gaussian by looking up tables, millions a second.

    The first call for a ``sigma`` builds its table, in less than a tenth of a second; the
    last sixteen are remembered.

    Args:
        sigma: The scale, positive and at most 2^40; a float means exactly the rational number
            that it is. The standard deviation is never above it, and equal to it but for
            2e-7 of it or less from ``sigma`` = 1 on.
        size: How many numbers.
        rng: None draws from the operating system. A NumPy generator is for demonstrations.

    Returns:
        Shape (size,), int64. The law of each number is within :func:`sampling_distance` of
        the exact one, and no number is larger than :func:`largest_draw`.

    Raises:
        InvalidParameterError: If ``sigma`` is not positive, or above 2^40.

    Example:
        >>> discrete_gaussian(2.0, 5, rng=np.random.default_rng(1))
        array([5, 1, 0, 1, 4])

    Reference:
        Canonne, Kamath and Steinke 2020, Definition 1. https://arxiv.org/abs/2004.00010
    """
    return _discrete_gaussian(_exact(sigma, "sigma", LARGEST_SIGMA) ** 2, size, rng)


def _discrete_gaussian(
    variance: Fraction, size: int, rng: np.random.Generator | None
) -> np.ndarray:
    size = as_whole("size", size, least=0)
    parts = _parts(variance)
    if rng is None:
        words = prg.expand(secrets.token_bytes(prg.SEED_BYTES), size * len(parts))
        more_bits = secrets.randbits
    else:
        words = as_generator("rng", rng).integers(0, 2**64, size * len(parts), np.uint64)

        def more_bits(count: int) -> int:
            return int.from_bytes(rng.bytes(count // 8), "little")

    total = np.zeros(size, np.int64)
    for (stride, table), part in zip(parts, words.reshape(len(parts), size), strict=True):
        for first in range(0, size, _BLOCK):
            block = slice(first, first + _BLOCK)
            total[block] += stride * _look_up_with(table, part[block], more_bits)
    return total


def sampling_distance(sigma: float | Fraction) -> float:
    """Bound the statistical distance of one draw of :func:`discrete_gaussian` to the exact law.

    It is the most by which the probability of any event may differ, added up from:

    * *one table*: each of the T positive and T negative integers is at most two units of
      2^-256 off (rounding down, and 110 digits), and so is 0 by all of them together. Cut off
      is what has a probability below one unit: at most ``4 / (1 - r)`` units, r being the
      ratio of the first two probabilities left out.
    * *two tables*: ``fine + 128 * coarse``, discrete Gaussians with f^2 + 128^2 c^2 = sigma^2,
      is x with a probability proportional to ``exp(-x^2 / (2 sigma^2))`` times a sum
      over a discrete Gaussian of scale s = f c / sigma whose centre depends on x. By
      Poisson's summation formula that sum is the same for all x but for a factor of
      1 ± e, where ``e = 2 (q + q^4 + q^9 + ...)`` and ``q = exp(-2 pi^2 s^2)``. The distance
      is at most ``e / (1 - e)``, which ``3 q`` covers.

    Args:
        sigma: As in :func:`discrete_gaussian`.

    Returns:
        The bound, below 2^-230. Multiply it by the number of draws; then
        :func:`delta_of_sampling` says what that adds to delta.

    Example:
        >>> [int(np.log2(sampling_distance(sigma))) for sigma in (1.0, 100.0, 1e6)]
        [-249, -243, -239]
    """
    parts = _parts(_exact(sigma, "sigma", LARGEST_SIGMA) ** 2)
    distance = sum(table.distance for _, table in parts)
    wide = _exact(sigma, "sigma", LARGEST_SIGMA) ** 2
    for _ in parts[1:]:
        coarse = (wide - _FINE) / _STRIDE**2
        distance += 3 * math.exp(-2 * math.pi**2 * float(_FINE * coarse / wide))
        wide = coarse
    return distance


def largest_draw(sigma: float | Fraction) -> int:
    """Return the largest magnitude that :func:`discrete_gaussian` can give: about 20 sigma.

    Example:
        >>> largest_draw(1.0), largest_draw(800.0)
        (18, 14744)
    """
    parts = _parts(_exact(sigma, "sigma", LARGEST_SIGMA) ** 2)
    return sum(stride * table.largest for stride, table in parts)


def delta_of_sampling(epsilon: float, sigma: float | Fraction, num_draws: int) -> float:
    """What it adds to delta that noise comes from tables instead of the exact distribution.

    If an event has probability at most ``exp(epsilon) * p + delta`` under exact noise, and each of
    the two probabilities may be off by ``distance``, then tables add
    ``(1 + exp(epsilon)) * distance`` to delta.

    Args:
        epsilon: The epsilon that was found for exact noise, of the whole run.
        sigma: As in :func:`discrete_gaussian`.
        num_draws: How many numbers were drawn in the run: coordinates times rounds, and
            times the shares that are counted on if several add noise.

    Returns:
        The amount, at most 1.

    Raises:
        InvalidParameterError: If an argument is out of range.

    Example:
        >>> delta_of_sampling(10.0, 50.0, num_draws=10**12) < 1e-56
        True
    """
    epsilon = as_real("epsilon", epsilon, least=0, most=math.inf)
    distance = as_whole("num_draws", num_draws, least=0) * sampling_distance(sigma)
    if not distance or epsilon == math.inf:  # an infinite epsilon promises nothing as it is
        return 0.0
    return min(1.0, distance + math.exp(min(epsilon + math.log(distance), 0.0)))


def discrete_gaussian_mechanism(
    value: Any,
    sensitivity: float,
    noise_multiplier: float,
    rng: np.random.Generator | None = None,
    *,
    allow_no_noise: bool = False,
) -> Noisy:
    """Add discrete Gaussian noise of scale ``noise_multiplier * sensitivity`` to integers.

    The safe path beside the textbook :func:`~fltutor.privacy.mechanisms.gaussian_mechanism`:
    integers have no low-order bits in which a floating-point sum would give the noise away.

    Args:
        value: A whole number or an integer array. Real numbers must be put on a grid first,
            and the sensitivity with them: rounding d coordinates to the nearest whole
            number can add ``sqrt(d)`` to the distance of two neighbours.
        sensitivity: The largest L2 change by one participant, in units of ``value``.
        noise_multiplier: Scale of the noise in units of ``sensitivity``.
        rng: None draws from the operating system's generator. A NumPy generator
            marks the result as a demonstration.
        allow_no_noise: Must be True to accept ``noise_multiplier=0``, which
            protects nobody: epsilon is infinite.

    Returns:
        The noisy value, int64, the scale of the noise (its standard deviation, never more and
        hardly less; see :func:`discrete_gaussian`), and whether it is a demonstration. What the
        sampler adds to delta, :func:`delta_of_sampling` says for all draws of a run together.

    Raises:
        InvalidParameterError: If ``sensitivity`` or ``noise_multiplier`` is out of range, the
            noise could leave int64, or ``value`` holds anything but integers.

    Example:
        >>> noisy = discrete_gaussian_mechanism([10, 20], 2, 1.5, rng=np.random.default_rng(1))
        >>> noisy.standard_deviation, noisy.demonstration
        (3.0, True)

    Reference:
        Canonne, Kamath and Steinke 2020, Theorem 4. https://arxiv.org/abs/2004.00010
    """
    value = as_array("value", value)
    if value.dtype.kind not in "iu":
        raise InvalidParameterError(
            f"value must hold integers, got dtype {value.dtype}: put real numbers on a grid first"
        )
    if rng is not None:
        as_generator("rng", rng)
    is_number = isinstance(noise_multiplier, Real) and not isinstance(noise_multiplier, bool)
    if is_number and noise_multiplier == 0:
        if not allow_no_noise:
            raise InvalidParameterError(
                "noise_multiplier is 0: epsilon would be infinite. Ask for it with "
                "allow_no_noise=True"
            )
        _exact(sensitivity, "sensitivity", math.inf)
        scale, noise, reach = Fraction(0), np.zeros(value.size, np.int64), 0
    else:
        scale = _exact(noise_multiplier, "noise_multiplier", math.inf)
        scale *= _exact(sensitivity, "sensitivity", math.inf)
        scale = _exact(scale, "noise_multiplier * sensitivity", LARGEST_SIGMA)
        reach = largest_draw(scale)
    if value.size:
        lowest, highest = int(value.min()) - reach, int(value.max()) + reach
        if lowest < _INT64.min or highest > _INT64.max:
            raise InvalidParameterError(
                f"value plus noise of up to {reach} could leave int64: it reaches from "
                f"{value.min()} to {value.max()}"
            )
    if scale:
        noise = _discrete_gaussian(scale**2, value.size, rng)
    noisy = value.astype(np.int64) + noise.reshape(value.shape)
    return Noisy(noisy, float(scale), demonstration=rng is not None)


# --- tables -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Table:
    """One discrete Gaussian as columns of equal mass, each split between two integers."""

    column_bits: int
    largest: int
    split: np.ndarray
    """Mass of a column's own integer, its first 64 - column_bits bits; shape (columns,)."""
    rest: bytes
    """The further 192 bits of each split."""
    other: np.ndarray
    """The integer, plus ``largest``, on the other side of the split."""
    distance: float
    """Statistical distance to the exact distribution, at most."""


def _look_up_with(table: _Table, words: np.ndarray, more_bits: Callable[[int], int]) -> np.ndarray:
    """Turn uniform 64-bit words into draws, one each; ``more_bits(192)`` decides the rare ties."""
    columns = (words & np.uint64((1 << table.column_bits) - 1)).astype(np.intp)
    rest = words >> np.uint64(table.column_bits)
    split = table.split[columns]
    own = rest < split
    for place in np.flatnonzero(rest == split):
        first = columns[place] * _REST_BITS // 8
        further = int.from_bytes(table.rest[first : first + _REST_BITS // 8], "little")
        own[place] = more_bits(_REST_BITS) < further
    return np.where(own, columns, table.other[columns]) - table.largest


def _parts(variance: Fraction) -> list[tuple[int, _Table]]:
    """Strides and tables whose draws, times the strides, add up to one draw."""
    parts, stride = [], 1
    while variance > _LARGEST_TABLE**2:
        parts.append((stride, _table(_FINE)))
        variance, stride = (variance - _FINE) / _STRIDE**2, stride * _STRIDE
    return [*parts, (stride, _table(variance))]


@lru_cache(maxsize=16)
def _table(variance: Fraction) -> _Table:
    units, distance = _probabilities(variance)
    largest = len(units) - 1
    masses = units[:0:-1] + units
    column_bits = max(1, (len(masses) - 1).bit_length())
    masses += [0] * (2**column_bits - len(masses))
    full = 2 ** (_UNIT_BITS - column_bits)
    splits, other = [full] * len(masses), list(range(len(masses)))
    poor = [column for column, mass in enumerate(masses) if mass < full]
    rich = [column for column, mass in enumerate(masses) if mass >= full]
    while poor:  # a rich column fills up a poor one, and may become poor itself
        column = poor.pop()
        splits[column], other[column] = masses[column], rich[-1]
        masses[rich[-1]] -= full - masses[column]
        if masses[rich[-1]] < full:
            poor.append(rich.pop())
    split = np.array([split >> _REST_BITS for split in splits], np.uint64)
    last = 2**_REST_BITS - 1
    rest = b"".join((split & last).to_bytes(_REST_BITS // 8, "little") for split in splits)
    return _Table(column_bits, largest, split, rest, np.array(other), distance)


def _probabilities(variance: Fraction) -> tuple[list[int], float]:
    """Probabilities of 0, 1, 2, ... in units of 2^-256, and how far they are off in all.

    The weight exp(-x^2 / (2 variance)) follows from its neighbour's by one multiplication, and
    the factor from its neighbour's by another: after T of them the relative error is below
    T^2 * 10^-109, hence below 10^-100. Weights below 10^-5 units are not even added up, which
    changes the sum by less than a hundredth of a unit.
    """
    with decimal.localcontext(decimal.Context(prec=_DIGITS)):
        step = (Decimal(-variance.denominator) / (2 * variance.numerator)).exp()
        ratio, unit = step * step, Decimal(2) ** -_UNIT_BITS
        weights = [Decimal(1)]
        while weights[-1] > unit * Decimal("1e-5"):
            weights.append(weights[-1] * step)
            step *= ratio
        scale = 1 / (unit * (2 * sum(weights) - 1))
        units = [int(weight * scale) for weight in weights]
        while units[-1] == 0 and len(units) > 1:
            units.pop()
    ratio = math.exp(-min((2 * len(units) + 1) / (2 * variance), 700))  # of the first two cut off
    units[0] = 2**_UNIT_BITS - 2 * sum(units[1:])
    return units, math.ldexp(4 * (len(units) - 1) + 4 / (1 - ratio), -_UNIT_BITS)


# --- arguments --------------------------------------------------------------------------------


def _exact(number: Any, name: str, largest: float) -> Fraction:
    """The rational number that an argument is, positive and at most ``largest``."""
    if isinstance(number, Rational) and not isinstance(number, bool):
        number = Fraction(int(number.numerator), int(number.denominator))  # NumPy's would wrap
    else:
        number = Fraction(as_real(name, number))
    if not number > 0:
        raise InvalidParameterError(f"{name} must be a finite number above 0, got {number}")
    if number > largest:
        raise InvalidParameterError(
            f"{name} must be at most {largest:.6g}, got {float(min(number, 1e300)):.6g} or more: "
            "measure in larger units, such as those of a coarser grid"
        )
    return number
