"""Notebook 10: what a run costs, counted in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fltutor.errors import InvalidParameterError
from fltutor.privacy.accounting import (
    ADD_OR_REMOVE_ONE,
    REPLACE_ONE,
    PrivacySpent,
    budget_curve,
    epsilon_after,
)

MAX_ROUNDS = 300
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DELTAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)
GAMES = {
    "Poisson, add or remove one": ("poisson", ADD_OR_REMOVE_ONE),
    "Poisson, replace one": ("poisson", REPLACE_ONE),
    "fixed size, replace one": ("fixed-size", REPLACE_ONE),
}
"""How a cohort is drawn, and what makes two data sets neighbours."""


@dataclass(frozen=True)
class Spending:
    """Epsilon over rounds, counted as asked and in two coarser ways.

    Attributes:
        rounds: Where epsilon is known, ascending, up to the last round.
        epsilon: Epsilon of the whole run so far, one per entry of ``rounds``.
        everyone: The same by RDP if everyone took part in every round, for each round from 0.
        at: A few numbers of rounds.
        added: For each of ``at``, the sum of one budget per round, everyone taking part.
        spent: The last epsilon, with all that belongs beside it; None while it is not known.
    """

    rounds: np.ndarray = field(repr=False)
    epsilon: np.ndarray = field(repr=False)
    everyone: np.ndarray = field(repr=False)
    at: np.ndarray = field(repr=False)
    added: np.ndarray = field(repr=False)
    spent: PrivacySpent | None


def spending(
    noise: float,
    sampling_rate: float,
    rounds: int,
    delta: float,
    accountant: str = "rdp",
    game: str = "Poisson, add or remove one",
) -> Iterator[Spending]:
    """Count what a run costs. PLD takes longer, so what RDP says is there before it.

    Args:
        noise: Noise multiplier; 0 costs infinity.
        sampling_rate: Share of the clients that a round draws.
        rounds: Length of the run.
        delta: The probability with which the bound may fail.
        accountant: ``"rdp"``, ``"pld"`` or ``"moments"``.
        game: One of :data:`GAMES`: the sampling, and who is a neighbour.

    Raises:
        InvalidParameterError: If the accountant does not support the game.

    Example:
        >>> *_, end = spending(1.0, 0.2, 30, 1e-3, "pld")
        >>> print(end.spent)
        epsilon = 5.34 at delta = 1e-3 (client, add-or-remove-one, Poisson q = 0.2, PLD)
        >>> f"{end.added[-1]:.0f} or {end.everyone[-1]:.1f}"
        '123 or 33.7'
    """
    sampling, adjacency = GAMES[game]
    terms = {
        "delta": delta,
        "sampling_rate": sampling_rate,
        "sampling": sampling,
        "adjacency": adjacency,
    }
    everyone = budget_curve(noise, rounds, delta=delta, adjacency=adjacency)
    at = np.unique(np.rint(np.geomspace(1, rounds, 8)).astype(int))
    one = {"noise_multiplier": noise, "accountant": "pld", "adjacency": adjacency}
    added = np.array([t * epsilon_after(1, delta=delta / t, **one).epsilon for t in at.tolist()])
    coarse = (everyone, at, added)
    if accountant != "pld":
        curve = budget_curve(noise, rounds, accountant=accountant, **terms)
        spent = epsilon_after(rounds, noise_multiplier=noise, accountant=accountant, **terms)
        yield Spending(np.arange(rounds + 1), curve, *coarse, spent)
        return
    try:
        curve = budget_curve(noise, rounds, **terms)
    except InvalidParameterError:  # replacing one with Poisson sampling is for PLD alone
        curve = everyone
    yield Spending(np.arange(rounds + 1), curve, *coarse, None)
    counts = [
        epsilon_after(t, noise_multiplier=noise, accountant="pld", **terms) for t in at.tolist()
    ]
    epsilon = np.array([0.0, *(spent.epsilon for spent in counts)])
    yield Spending(np.array([0, *at]), epsilon, *coarse, counts[-1])
