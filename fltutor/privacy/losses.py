"""The privacy loss: play whole runs to measure it, and say what it allows one to guess.

The *privacy loss* of what was seen is the logarithm of how much likelier it is with a
participant than without. Accountants (:mod:`fltutor.privacy.accounting`) bound it by theorems;
here runs are played and their losses measured, so that a bound can be held against numbers. And
epsilon and delta are turned into what they mean to somebody who guesses: a share of right answers.
"""

from __future__ import annotations

import math

import numpy as np

from fltutor.border import as_generator, as_numbers, as_real, as_whole
from fltutor.errors import InvalidParameterError


def privacy_losses(
    runs: int,
    rounds: int,
    noise_multiplier: float,
    sampling_rate: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Play whole runs with one participant in the data; tell the privacy loss of each.

    The participant adds the whole sensitivity, 1, to the sum of every round that its coin
    chooses; everybody else is known and subtracted. So the reader sees Gaussian noise around 0,
    or around 1 if the participant was drawn, and adds up the losses of the rounds.

    Args:
        runs: How many runs to play.
        rounds: Noisy sums in a run.
        noise_multiplier: Standard deviation of the noise of each sum, in units of the
            sensitivity.
        sampling_rate: The probability with which a round draws the participant, by a coin.
        rng: A seeded generator: this is a measurement, no protection.

    Returns:
        Shape (runs,): how much likelier each run is with the participant, as a logarithm.

    Raises:
        InvalidParameterError: If an argument is out of range, or ``rng`` is no generator.

    Example:
        >>> privacy_losses(2, rounds=30, noise_multiplier=1.0, sampling_rate=0.2,
        ...                rng=np.random.default_rng(1)).round(2)
        array([ 0.03, -0.17])

    Reference:
        Mironov, Talwar and Zhang 2019, section 3: the two densities of a round.
        https://arxiv.org/abs/1908.10530
    """
    runs = as_whole("runs", runs, least=1)
    rounds = as_whole("rounds", rounds, least=0)
    noise_multiplier = as_real("noise_multiplier", noise_multiplier, above=0)
    sampling_rate = as_real("sampling_rate", sampling_rate, least=0, most=1)
    rng = as_generator("rng", rng)
    with np.errstate(divide="ignore"):  # the log of 0 is -inf, which is right here
        log_absent, log_drawn = np.log1p(-sampling_rate), np.log(sampling_rate)
    losses = np.zeros(runs)
    for _ in range(rounds):
        drawn = rng.random(runs) < sampling_rate
        seen = drawn + noise_multiplier * rng.standard_normal(runs)
        loss_if_drawn = (seen - 0.5) / noise_multiplier / noise_multiplier
        losses += np.logaddexp(log_absent, log_drawn + loss_if_drawn)
    return losses


def measured_delta(losses: np.ndarray, epsilon: float) -> float:
    """Estimate the least delta with which ``epsilon`` holds, from losses of played runs.

    A loss beyond epsilon counts by how much it is beyond: the mean of ``1 - exp(epsilon -
    loss)`` where that is positive. This is about the runs that were played: neighbours that are
    worse, or the same two the other way round, may need more.

    Args:
        losses: One per run, as :func:`privacy_losses` gives them; infinite for what could not
            have been seen without the participant.
        epsilon: At least 0.

    Returns:
        An estimate in [0, 1], no bound: its error shrinks with the root of the number of runs.

    Raises:
        InvalidParameterError: If there are no losses, one is NaN, or ``epsilon`` is negative,
            infinite or NaN.

    Example:
        >>> measured_delta(np.log([1.0, 2.0, 4.0]), epsilon=np.log(2.0))  # (0 + 0 + 1/2) / 3
        0.16666666666666666

    Reference:
        Canonne, Kamath and Steinke, NeurIPS 2020, section 2.3. https://arxiv.org/abs/2004.00010
    """
    losses = as_numbers("losses", losses, finite=False).astype(np.float64)
    if not losses.size or np.isnan(losses).any():
        raise InvalidParameterError(
            f"losses must be one number or more, none of them NaN, got shape {losses.shape}"
        )
    epsilon = as_real("epsilon", epsilon, least=0)
    too_large = np.maximum(losses, epsilon)  # the others count as epsilon itself: nothing
    return float(np.mean(0.0 - np.expm1(epsilon - too_large)))


def most_right(epsilon: float, delta: float) -> float:
    """The largest share of right answers to "in or out?" that epsilon and delta allow.

    No attack on a release of this epsilon does better, if in and out are equally likely.

    Args:
        epsilon: At least 0; infinity allows every answer to be right.
        delta: In [0, 1].

    Returns:
        From 0.5, a coin's share, to 1.

    Raises:
        InvalidParameterError: If an argument is out of range.

    Example:
        >>> most_right(0.0, 0.0), round(most_right(1.0, 1e-3), 3)
        (0.5, 0.731)

    Reference:
        Kairouz, Oh and Viswanath, ICML 2015, Theorem 2.1: true and false positives under
        (epsilon, delta). https://arxiv.org/abs/1311.0776
    """
    epsilon = as_real("epsilon", epsilon, least=0, most=math.inf)
    delta = as_real("delta", delta, least=0, most=1)
    return (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon))
