"""What one Gaussian release costs, exactly: epsilon, delta and the noise between them.

For a single release, the analytic Gaussian mechanism needs no bound: delta is a known
function of epsilon and the noise, and the least noise is where it meets the target. For many
releases, or sampled ones, use :mod:`fltutor.privacy.accounting`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from fltutor.border import as_real

_SAFETY = 1e-10  # delta is raised by this much of itself, far beyond what rounding can do to it
_LEAST_DELTA = 1e-298  # near the least float, rounding would be as large as the number
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def gaussian_delta(epsilon: float, noise_multiplier: float) -> float:
    """Return the delta of one Gaussian release: the least with which ``epsilon`` holds.

    Args:
        epsilon: At least 0.
        noise_multiplier: Standard deviation of the noise in units of the sensitivity.

    Returns:
        ``Phi(1/(2 z) - epsilon z) - exp(epsilon) Phi(-1/(2 z) - epsilon z)`` with z =
        ``noise_multiplier`` and the normal distribution function Phi; never below the true
        value and at most 2e-10 of it above, or 1e-298 if that is larger. Computed as one
        integral of positive numbers, so that nothing overflows or cancels.

    Raises:
        InvalidParameterError: If an argument is out of range.

    Example:
        >>> round(gaussian_delta(1.0, noise_multiplier=1.0), 6)
        0.126937

    Reference:
        Balle and Wang, ICML 2018, Theorem 8. https://arxiv.org/abs/1805.06530
    """
    epsilon = as_real("epsilon", epsilon, least=0)
    noise_multiplier = as_real("noise_multiplier", noise_multiplier, above=0)
    noise = Fraction(noise_multiplier)
    upper = 1 / (2 * noise) - Fraction(epsilon) * noise  # exact: its rounding would show
    if upper > 9:
        return 1.0  # delta is above 1 - 1e-18
    if upper < -37:
        return _LEAST_DELTA  # delta is below 1e-299
    # With a = upper, delta is the integral over t > 0 of phi(t - a) (1 - exp(-t / z)): the normal
    # density phi says how likely a privacy loss is, the other factor by how much it is too large.
    a = float(upper)
    end = a + math.hypot(a, 10) if a > 0 else 100 / (math.hypot(a, 10) - a)
    # phi(t - a) = phi(a) exp(a t - t^2 / 2), which falls to exp(-50) of its start at the end
    # panels that halve towards 0, where the other factor may rise within the first z
    edges = end * np.append(0.0, 2.0 ** np.arange(-40, 1))
    middles, halves = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    t = middles[:, None] + halves[:, None] * _NODES
    integrand = np.exp(a * t - t**2 / 2) * -np.expm1(-t / noise_multiplier)
    integral = float(halves @ (integrand @ _WEIGHTS))
    density = math.exp(-float(upper**2) / 2) / math.sqrt(2 * math.pi)
    return min(1.0, max(density * integral * (1 + _SAFETY), _LEAST_DELTA))


def analytic_noise_multiplier(epsilon: float, delta: float) -> float:
    """Find the least Gaussian noise with which one release is (epsilon, delta)-private.

    Unlike the classical ``sqrt(2 log(1.25 / delta)) / epsilon`` it holds for every epsilon,
    and it is never more noise than that where the classical formula holds.

    Args:
        epsilon: At least 0.
        delta: In (1e-298, 1).

    Returns:
        The noise multiplier, never below the least one, and for ``delta`` up to 0.9 at most
        1e-9 of it above: ``gaussian_delta`` of it is at most ``delta``.

    Raises:
        InvalidParameterError: If an argument is out of range.

    Example:
        >>> noise_multiplier = analytic_noise_multiplier(1.0, 1e-5)
        >>> round(noise_multiplier, 4), gaussian_delta(1.0, noise_multiplier) <= 1e-5
        (3.7306, True)

    Reference:
        Balle and Wang, ICML 2018, Algorithm 1, which solves the equation of Theorem 8 in
        another variable. https://arxiv.org/abs/1805.06530
    """
    epsilon = as_real("epsilon", epsilon, least=0)
    delta = as_real("delta", delta, above=_LEAST_DELTA, below=1)
    too_little = enough = 1.0  # bracket the answer by doubling, then halve the bracket
    while gaussian_delta(epsilon, enough) > delta:
        too_little, enough = enough, 2 * enough
    while gaussian_delta(epsilon, too_little) <= delta:
        too_little, enough = too_little / 2, too_little
    while enough / too_little > 1 + 1e-11:
        middle = math.sqrt(enough / too_little) * too_little
        if gaussian_delta(epsilon, middle) > delta:
            too_little = middle
        else:
            enough = middle
    return enough
