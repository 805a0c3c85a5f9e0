"""A privacy budget that is checked before anything is released, not after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fltutor.border import as_real
from fltutor.errors import BudgetExceededError, InvalidParameterError
from fltutor.privacy.accounting import (
    ADD_OR_REMOVE_ONE,
    REPLACE_ONE,
    PrivacySpent,
    epsilon_of_rounds,
)

MOST_ROUNDS = 1_000_000
"""As far as ``rounds_left`` looks."""


class PrivacyBudget:
    """An epsilon that a run may spend, and what it has spent so far.

    Call :meth:`charge` *before* each noisy sum is released. Rounds may have different
    noise; sampling and adjacency belong to the whole run. What is charged stays
    charged: if a round fails afterwards, someone may have seen it. A second run with the
    same budget spends what the first one left.

    Args:
        epsilon: What the run may cost at most, positive. ``math.inf`` only keeps count.
        delta, accountant, adjacency, unit, num_clients: As in
            :func:`fltutor.privacy.accounting.epsilon_after`.
        sampling, sampling_rate: As there, too; but what is left out is filled in by
            :func:`fltutor.simulation.run_federated`, which knows how it samples. Without a run
            it counts as no sampling, which costs the most.

    Attributes:
        epsilon: What the run may cost at most.
        demonstration: True once a round was charged whose noise, or whose sampling that the
            charge rests on, came from a seeded generator. Whoever knows the seed is not bound
            by epsilon then.

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
        sampling_rate: float | None = None,
        sampling: str | None = None,
        accountant: str = "rdp",
        adjacency: str = ADD_OR_REMOVE_ONE,
        unit: str = "client",
        num_clients: int | None = None,
    ):
        self.epsilon = as_real("epsilon", epsilon, above=0, most=math.inf)
        self.demonstration = False
        if sampling is None and sampling_rate is not None:
            sampling = "none"  # a rate alone means nothing, unless it is 1
        if sampling_rate is not None:
            sampling_rate = as_real("sampling_rate", sampling_rate, least=0, most=1)
        elif sampling == "none":
            sampling_rate = 1.0
        named = {"sampling": sampling, "sampling_rate": sampling_rate}
        self._named = {name: value for name, value in named.items() if value is not None}
        self._settings = {
            "delta": as_real("delta", delta, above=0, below=1),
            "accountant": accountant,
            "adjacency": adjacency,
            "unit": unit,
            "sampling": "none",
            "sampling_rate": 1.0,
            **self._named,
        }
        self._seeded_sampling = False
        self._rounds: Counter[float] = Counter()  # how many, by noise multiplier
        self._spent = epsilon_of_rounds({}, **self._settings, num_clients=num_clients)
        plain = vars(self._spent)  # as text and floats of Python
        self._settings = {name: plain[name] for name in self._settings}
        self._named = {name: plain[name] for name in self._named}

    def __repr__(self) -> str:
        mark = "; a demonstration, seeded" if self.demonstration else ""
        return (
            f"<PrivacyBudget of {self.epsilon:g} after {self.rounds} rounds: {self._spent}{mark}>"
        )

    @property
    def spent(self) -> PrivacySpent:
        """What all rounds charged so far cost together."""
        return self._spent

    @property
    def rounds(self) -> int:
        """How many rounds were charged."""
        return self._rounds.total()

    def match(self, sampling: str, sampling_rate: float, *, seeded: bool = False) -> None:
        """Fill in how a run samples, or refuse to charge less than that costs.

        What the caller named stays as it is, and so does everything once a round was charged.
        It may count on less luck than the run gives: on no sampling, or on a higher rate.

        Args:
            sampling: How the run samples clients: ``"none"``, ``"poisson"`` or ``"fixed-size"``.
            sampling_rate: The probability with which a client takes part in a round, 0 to 1.
            seeded: Whether anybody who knows a seed can tell who takes part.

        Raises:
            InvalidParameterError: If the budget would charge less than this sampling costs, or
                no accountant is known for it. The budget is as before then.

        Example:
            >>> budget = PrivacyBudget(6.0, delta=1e-3)
            >>> budget.match("poisson", 0.1)
            >>> print(budget.charge(1.0))
            epsilon = 1.17 at delta = 1e-3 (client, add-or-remove-one, Poisson q = 0.1, RDP)
            >>> budget.match("none", 1.0)
            Traceback (most recent call last):
            fltutor.errors.InvalidParameterError: the budget counts on Poisson sampling with ...
        """
        done = {"sampling": sampling, "sampling_rate": sampling_rate}
        counted_on = self._settings if self.rounds else self._settings | done | self._named
        luck = {name: counted_on[name] for name in done}
        require_covered(replace(self._spent, **luck), sampling, sampling_rate)
        spent = epsilon_of_rounds(self._rounds, **counted_on)  # refuses what nobody can count
        self._settings, self._spent = counted_on, spent
        self._seeded_sampling = seeded and not _for_certain(spent)

    @contextmanager
    def matched(
        self, sampling: str, sampling_rate: float, *, seeded: bool = False
    ) -> Iterator[None]:
        """Count within a ``with`` block as :meth:`match` says, and longer only if it charges.

        So a run that is refused, or fails before its first charge, leaves no trace.

        Args:
            sampling, sampling_rate, seeded: As in :meth:`match`.

        Raises:
            InvalidParameterError: As :meth:`match`.

        Example:
            >>> budget = PrivacyBudget(6.0, delta=1e-3)
            >>> with budget.matched("poisson", 0.1):
            ...     print(budget.spent.sampling)
            poisson
            >>> budget.spent.sampling
            'none'
        """
        before, rounds = (self._settings, self._spent, self._seeded_sampling), self.rounds
        self.match(sampling, sampling_rate, seeded=seeded)
        try:
            yield
        finally:
            if self.rounds == rounds:
                self._settings, self._spent, self._seeded_sampling = before

    def charge(self, noise_multiplier: float, *, demonstration: bool = False) -> PrivacySpent:
        """Pay for one more noisy sum, before it is released.

        Args:
            noise_multiplier: Standard deviation of its noise in units of the clipping
                norm. 0 costs infinity.
            demonstration: Whether its noise comes from a seeded generator.

        Returns:
            What is spent with this round.

        Raises:
            BudgetExceededError: If the round would pass the budget. Nothing is charged.
            InvalidParameterError: If ``noise_multiplier`` is out of range.
        """
        noise_multiplier = as_real("noise_multiplier", noise_multiplier)
        after = self._after(noise_multiplier, 1)
        if after.epsilon > self.epsilon:
            raise BudgetExceededError(
                f"round {self.rounds + 1} with noise multiplier {noise_multiplier:g} would bring "
                f"the run to {after}, over the budget of {self.epsilon:g}; spent so far: "
                f"{self._spent.epsilon:.3g}. Release nothing more, or add more noise"
            )
        self._rounds[noise_multiplier] += 1
        self._spent = after
        self.demonstration |= bool(demonstration) or self._seeded_sampling
        return after

    def rounds_left(self, noise_multiplier: float) -> int:
        """Say how many more rounds with this noise the budget allows, at most a million.

        Raises:
            InvalidParameterError: If ``noise_multiplier`` is out of range.
        """
        noise_multiplier = as_real("noise_multiplier", noise_multiplier)

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
        rounds_of = self._rounds + Counter({noise_multiplier: rounds})
        return epsilon_of_rounds(rounds_of, **self._settings)


def require_covered(spent: PrivacySpent, sampling: str, sampling_rate: float) -> None:
    """Refuse an epsilon that counts on more luck than there was.

    Args:
        spent: The epsilon, with the sampling that it counts on.
        sampling: How clients were sampled: ``"none"``, ``"poisson"`` or ``"fixed-size"``.
        sampling_rate: The probability with which a client took part in a round, 0 to 1.

    Raises:
        InvalidParameterError: If what was done costs more than was counted.

    Example:
        >>> spent = epsilon_of_rounds({1.0: 1}, delta=1e-3, sampling="poisson", sampling_rate=0.1)
        >>> require_covered(spent, "poisson", 0.05)
        >>> require_covered(spent, "none", 1.0)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: the budget counts on Poisson sampling with rate ...
    """
    done = replace(spent, sampling=sampling, sampling_rate=sampling_rate)
    if sampling == "fixed-size" and sampling_rate < 1 and spent.adjacency != REPLACE_ONE:
        raise InvalidParameterError(
            "the run draws cohorts of a fixed size, so a client that stays away leaves its "
            f"place to another, and the budget counts by {spent.adjacency}: needed "
            f"poisson_sampling=True, or a budget with adjacency={REPLACE_ONE!r}"
        )
    alike = spent.sampling == sampling
    if not (_for_certain(spent) or (alike and spent.sampling_rate >= sampling_rate)):
        raise InvalidParameterError(
            f"the budget counts on {_in_words(spent)}, and the run has {_in_words(done)}, "
            "which costs more than would be charged: leave sampling and sampling_rate out of "
            "a new budget, give it to the run as budget=..., and the run fills them in"
        )


def _for_certain(spent: PrivacySpent) -> bool:
    """Whether everybody takes part in every round."""
    return spent.sampling == "none" or spent.sampling_rate == 1


def _in_words(spent: PrivacySpent) -> str:
    if _for_certain(spent):
        return "every client in every round"
    kind = {"poisson": "Poisson", "fixed-size": "fixed-size"}[spent.sampling]
    return f"{kind} sampling with rate {spent.sampling_rate:g}"
