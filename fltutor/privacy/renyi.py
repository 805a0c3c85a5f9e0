"""Rényi divergences of one noisy sum from its neighbour's, at many orders at once.

What :mod:`fltutor.privacy.accounting` adds up over rounds. Each function gives
an upper bound for every order in :data:`ORDERS`, exact where it says so, in a few
milliseconds: all orders are computed together, in logarithms.
"""

from __future__ import annotations

import math

import numpy as np

from fltutor.border import as_real
from fltutor.packages import load

#: The Rényi orders, the defaults of dp-accounting.
ORDERS = np.array([1 + x / 10 for x in range(1, 100)] + [*range(11, 64), 128, 256, 512, 1024])

_IS_WHOLE = np.rint(ORDERS) == ORDERS
_WHOLE = ORDERS[_IS_WHOLE].astype(int)
_LOG_FACTORIAL = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, _WHOLE.max() + 1)))])

_MOST_TERMS, _TERMS_AT_ONCE = 1000, 125
_REFINED = 256
"""The largest order at which fixed-size sampling is refined by central moments."""


def gaussian(noise: float) -> np.ndarray:
    """Divergences without sampling, exact: order / (2 noise^2).

    Args:
        noise: Standard deviation in units of what one neighbour moves the sum by, positive.

    Returns:
        One divergence per order, shape (156,).

    Example:
        >>> gaussian(1.0)[ORDERS == 2]
        array([1.])

    Reference:
        Mironov, CSF 2017, Proposition 7. https://arxiv.org/abs/1702.07476
    """
    noise = as_real("noise", noise, above=0)
    return ORDERS / 2 / noise / noise


def poisson(noise: float, rate: float) -> np.ndarray:
    """Divergences if a coin of bias ``rate`` decides about every participant.

    The neighbours are N(0, noise^2) and its mixture with N(1, noise^2). At whole orders the
    binomial theorem is exact. At the others two binomial series, one for each side of where
    the mixture's halves are equal, are added up without their signs, a bound; where a thousand
    terms do not suffice, it is infinity, and that order is out of the race.

    Args:
        noise: As in :func:`gaussian`.
        rate: The bias, above 0 and below 1.

    Example:
        >>> poisson(1.0, 0.5)[ORDERS == 2].round(4)  # log(1 + (e - 1) / 4)
        array([0.3574])

    Reference:
        Mironov, Talwar and Zhang 2019, Sections 3.2 and 3.3. https://arxiv.org/abs/1908.10530
    """
    noise = as_real("noise", noise, above=0)
    rate = as_real("rate", rate, above=0, below=1)
    log_moments = np.empty(ORDERS.shape)
    order, k = _WHOLE[:, np.newaxis], np.arange(_WHOLE.max() + 1)
    terms = np.where(
        k <= order,
        _log_binomials()
        + k * math.log(rate)
        + (order - k) * math.log1p(-rate)
        + (k * k - k) / (2 * noise**2),
        -np.inf,
    )
    log_moments[_IS_WHOLE] = np.logaddexp.reduce(terms, axis=1)
    log_moments[~_IS_WHOLE] = _poisson_between(ORDERS[~_IS_WHOLE], noise, rate)
    return np.maximum(log_moments, 0) / (ORDERS - 1)  # rounding can push a tiny one below 0


def _poisson_between(orders: np.ndarray, noise: float, rate: float) -> np.ndarray:
    """Log moments at orders that are not whole: both series, cut where the rest is rounding."""
    special = load("scipy.special", "scipy")
    gammaln, log_ndtr = special.gammaln, special.log_ndtr
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    middle = noise**2 * (log_rest - log_rate) + 0.5  # where the mixture's halves are equal
    log_moments = np.full(orders.shape, np.inf)
    running = np.arange(orders.size)
    last = sums = np.full((2, orders.size, 1), -np.inf)
    for start in range(0, _MOST_TERMS, _TERMS_AT_ONCE):
        k = np.arange(start, start + _TERMS_AT_ONCE)
        order = orders[running, np.newaxis]
        rest = order - k
        binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(rest + 1)
        left = k * log_rate + rest * log_rest + k * (k - 1) / (2 * noise**2)
        right = rest * log_rate + k * log_rest + rest * (rest - 1) / (2 * noise**2)
        terms = np.stack(
            [
                binomial + left + log_ndtr((middle - k) / noise),
                binomial + right + log_ndtr((rest - middle) / noise),
            ]
        )
        falling = (np.diff(terms, axis=2, prepend=last) < 0).all(axis=0)
        sums = np.logaddexp.accumulate(np.concatenate([sums[:, :, -1:], terms], axis=2), axis=2)
        total = np.logaddexp(sums[0, :, 1:], sums[1, :, 1:])
        enough = falling & (terms.max(axis=0) < total - 30)
        done, first = enough.any(axis=1), enough.argmax(axis=1)
        log_moments[running[done]] = total[done, first[done]]
        if done.all():
            break
        running, sums, last = running[~done], sums[:, ~done], terms[:, ~done, -1:]
    return log_moments


def fixed_size(noise: float, rate: float) -> np.ndarray:
    """Divergences if a cohort of ``rate`` times all participants is drawn without replacement.

    Neighbours differ by replacing one participant. A bound for any Gaussian sum, several
    times what the worst data set reaches: its term of degree j compares *three* cohorts,
    with, without and with the replacement.

    Args:
        noise: As in :func:`gaussian`: a replaced participant moves a sum of clipped rows by
            *two* clipping norms, so this is half the noise multiplier.
        rate: Size of the cohort over the number of participants, above 0 and below 1.

    Example:
        >>> fixed_size(1.0, 0.5)[ORDERS == 2].round(4)  # log(1 + 2 e / 4)
        array([0.8583])

    Reference:
        Wang, Balle and Kasiviswanathan, AISTATS 2019, Theorem 27 and, between whole
        orders, Corollary 10. https://arxiv.org/abs/1808.00087
    """
    noise = as_real("noise", noise, above=0)
    rate = as_real("rate", rate, above=0, below=1)
    j = np.arange(_WHOLE.max() + 1)
    gaussian_moments = j * (j - 1) / (2 * noise**2)  # log E[ratio^j] without sampling
    plain = math.log(2) + gaussian_moments
    refined = plain.copy()
    even = _log_central_moments(noise)  # of degree 0, 2, 4, ...
    degrees = j[2 : _REFINED + 1]
    refined[degrees] = math.log(4) + (even[degrees // 2] + even[(degrees + 1) // 2]) / 2
    refined = np.minimum(refined, plain)

    order = _WHOLE[:, np.newaxis]
    factors = np.where(order <= _REFINED, refined, plain)
    factors[:, 2] = refined[2]
    terms = np.where(
        (j >= 2) & (j <= order), _log_binomials() + j * math.log(rate) + factors, -np.inf
    )
    terms[:, 0] = 0
    whole = np.logaddexp.reduce(terms, axis=1)
    # a log moment is convex in its order: between whole ones the chord is a bound
    log_moments = np.interp(ORDERS, np.concatenate([[1], _WHOLE]), np.concatenate([[0], whole]))
    bound = np.maximum(log_moments, 0) / (ORDERS - 1)
    return np.minimum(bound, gaussian(noise))  # some of them never tell more than all of them


def _log_central_moments(noise: float) -> np.ndarray:
    """Log E[(ratio - 1)^degree] for degree 0, 2, ..., 256, ratio of N(1, noise^2) to N(0, noise^2).

    As alternating sums they cancel to nothing. So the integrand is added up on a grid, which
    is exact to rounding for a smooth function in a Gaussian envelope. Where that would go far
    out, the moment of the ratio itself is e^30 times all else, and taken instead.
    """
    degree = np.arange(0, _REFINED + 1, 2)
    log_moments = degree * (degree - 1) / (2 * noise**2)
    near = degree - 1 < noise**2 * (np.log(2 * np.maximum(degree, 1)) + 30)
    if near.any():
        step, degree = 0.125, degree[near]
        x = np.arange(-28, 12 + degree.max() / noise, step)  # in standard deviations
        distance = np.abs(np.expm1(x / noise - 0.5 / noise**2))
        log_distance = np.log(np.maximum(distance, 1e-300))
        log_terms = degree[:, np.newaxis] * log_distance - x * x / 2
        log_width = math.log(step / math.sqrt(2 * math.pi))
        log_moments[near] = np.logaddexp.reduce(log_terms, axis=1) + log_width
    return log_moments


def _log_binomials() -> np.ndarray:
    """Log of (order over k) for whole orders and k = 0..1024, minus infinity beyond the order."""
    order, k = _WHOLE[:, np.newaxis], np.arange(_WHOLE.max() + 1)
    rest = np.maximum(order - k, 0)
    logs = _LOG_FACTORIAL[order] - _LOG_FACTORIAL[k] - _LOG_FACTORIAL[rest]
    return np.where(k <= order, logs, -np.inf)
