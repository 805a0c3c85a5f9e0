"""A privacy budget that is checked before anything is released, not after."""

from __future__ import annotations

from collections import Counter
from functools import partial
from numbers import Real

from fltutor.errors import BudgetExceededError, InvalidParameterError
from fltutor.privacy.accounting import ADD_OR_REMOVE_ONE, PrivacySpent, epsilon_of_rounds

MOST_ROUNDS = 1_000_000
"""As far as ``rounds_left`` looks."""


class PrivacyBudget:
    """An epsilon that a run may spend, and what it has spent so far.

    Call :meth:`charge` *before* each noisy sum is released. Rounds may have different
    noise; sampling and adjacency belong to the whole run. What is charged stays
    charged: if a round fails afterwards, someone may have seen it.

    Args:
        epsilon: What the run may cost at most, positive. ``math.inf`` only keeps count.
        delta, sampling_rate, sampling, accountant, adjacency, unit, num_clients: As in
            :func:`fltutor.privacy.accounting.epsilon_after`.

    Raises:
        InvalidParameterError: If ``epsilon`` is not positive, or as ``epsilon_after``.

    Example:
        >>> budget = PrivacyBudget(6.0, delta=1e-3)
        >>> print(budget.charge(1.0))
        epsilon = 3.54 at delta = 1e-3 (client, add-or-remove-one, no sampling, RDP)
        >>> budget.rounds_left(1.0), budget.rounds_left(4.0)
        (1, 21)
        >>> print(budget.charge(4.0))
        epsilon = 3.67 at delta = 1e-3 (client, add-or-remove-one, no sampling, RDP)
        >>> budget.charge(0.5)
        Traceback (most recent call last):
            ...
        fltutor.errors.BudgetExceededError: round 3 with noise multiplier 0.5 would bring ...
    """

    def __init__(
        self,
        epsilon: float,
        *,
        delta: float,
        sampling_rate: float = 1.0,
        sampling: str = "none",
        accountant: str = "rdp",
        adjacency: str = ADD_OR_REMOVE_ONE,
        unit: str = "client",
        num_clients: int | None = None,
    ):
        if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not epsilon > 0:
            raise InvalidParameterError(f"epsilon must be positive, got {epsilon}")
        self.epsilon = epsilon
        self._rounds: Counter[float] = Counter()  # how many, by noise multiplier
        self._epsilon_of = partial(
            epsilon_of_rounds,
            delta=delta,
            sampling_rate=sampling_rate,
            sampling=sampling,
            accountant=accountant,
            adjacency=adjacency,
            unit=unit,
        )
        self._spent = self._epsilon_of({}, num_clients=num_clients)

    def __repr__(self) -> str:
        return f"<PrivacyBudget of {self.epsilon:g} after {self.rounds} rounds: {self._spent}>"

    @property
    def spent(self) -> PrivacySpent:
        """What all rounds charged so far cost together."""
        return self._spent

    @property
    def rounds(self) -> int:
        """How many rounds were charged."""
        return self._rounds.total()

    def charge(self, noise_multiplier: float) -> PrivacySpent:
        """Pay for one more noisy sum, before it is released.

        Args:
            noise_multiplier: Standard deviation of its noise in units of the clipping
                norm. 0 costs infinity.

        Returns:
            What is spent with this round.

        Raises:
            BudgetExceededError: If the round would pass the budget. Nothing is charged.
            InvalidParameterError: If ``noise_multiplier`` is out of range.
        """
        after = self._after(noise_multiplier, 1)
        if after.epsilon > self.epsilon:
            raise BudgetExceededError(
                f"round {self.rounds + 1} with noise multiplier {noise_multiplier:g} would bring "
                f"the run to {after}, over the budget of {self.epsilon:g}; spent so far: "
                f"{self._spent.epsilon:.3g}. Release nothing more, or add more noise"
            )
        self._rounds[noise_multiplier] += 1
        self._spent = after
        return after

    def rounds_left(self, noise_multiplier: float) -> int:
        """Say how many more rounds with this noise the budget allows, at most a million.

        Raises:
            InvalidParameterError: If ``noise_multiplier`` is out of range.
        """

        def fits(rounds: int) -> bool:
            return self._after(noise_multiplier, rounds).epsilon <= self.epsilon

        enough, too_many = 0, 1
        while too_many <= MOST_ROUNDS and fits(too_many):
            enough, too_many = too_many, 2 * too_many
        too_many = min(too_many, MOST_ROUNDS + 1)
        while too_many - enough > 1:
            middle = (enough + too_many) // 2
            enough, too_many = (middle, too_many) if fits(middle) else (enough, middle)
        return enough

    def _after(self, noise_multiplier: float, rounds: int) -> PrivacySpent:
        """What is spent after so many more rounds with this noise."""
        return self._epsilon_of(self._rounds + Counter({noise_multiplier: rounds}))
