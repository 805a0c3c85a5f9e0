"""How much a run has revealed: epsilon, and everything that belongs beside it.

The mechanism is always the Gaussian one on a sum of clipped contributions, and
``noise_multiplier`` is its standard deviation in units of the clipping norm.
These combinations are answered, the others refused:

==============  =================  =====================================
accountant      sampling           adjacency
==============  =================  =====================================
rdp, moments    none               add-or-remove-one, replace-one
rdp, moments    poisson            add-or-remove-one
pld             none, poisson      add-or-remove-one, replace-one
==============  =================  =====================================

*Accountants.* ``"pld"`` follows the whole distribution of the privacy loss: the
tightest, and slower. ``"rdp"`` follows Rényi divergences at 156 orders from 1.1 to
1024 and converts them as Canonne, Kamath and Steinke (2020, Proposition 12): fast,
and looser. ``"moments"`` is the same with the older conversion of Abadi et al.
(2016), never better, for numbers published before 2020. All are upper bounds. The
work is done by dp-accounting, except for what has a closed form.

*Adjacency.* Adding or removing a participant moves the sum by at most one clipping
norm, replacing one by two, which doubles the noise needed.

*Sampling.* ``"poisson"`` means that a coin of bias ``sampling_rate`` decides about
every participant in every round, and that nobody sees who took part. A fixed
number per round or a schedule is something else.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fltutor.errors import InvalidParameterError

#: The Rényi orders of ``"rdp"`` and ``"moments"``, the defaults of dp-accounting.
ORDERS = np.array([1 + x / 10 for x in range(1, 100)] + [*range(11, 64), 128, 256, 512, 1024])

ADD_OR_REMOVE_ONE, REPLACE_ONE = "add-or-remove-one", "replace-one"

_NAMES = {"rdp": "RDP", "moments": "moments accountant", "pld": "PLD"}
_UNITS = ("client", "example")
_SUPPORTED = {
    ("rdp", "none"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("rdp", "poisson"): (ADD_OR_REMOVE_ONE,),
    ("moments", "none"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("moments", "poisson"): (ADD_OR_REMOVE_ONE,),
    ("pld", "none"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("pld", "poisson"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
}


@dataclass(frozen=True)
class PrivacySpent:
    """An epsilon with all that it depends on; ``print`` shows it in one line.

    Example:
        >>> print(PrivacySpent(5.312, 1e-3, "client", "add-or-remove-one", "poisson", 0.2, "pld"))
        epsilon = 5.31 at delta = 1e-3 (client, add-or-remove-one, Poisson q = 0.2, PLD)
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    sampling: str
    sampling_rate: float
    accountant: str

    def __str__(self) -> str:
        epsilon = (
            f"{self.epsilon:.0f}" if 1000 <= self.epsilon < math.inf else f"{self.epsilon:.3g}"
        )
        delta = np.format_float_scientific(self.delta, precision=2, trim="-", exp_digits=1)
        sampling = f"Poisson q = {self.sampling_rate:.3g}"
        return (
            f"epsilon = {epsilon.replace('inf', 'infinity')} at delta = {delta} "
            f"({self.unit}, {self.adjacency}, "
            f"{sampling if self.sampling == 'poisson' else 'no sampling'}, "
            f"{_NAMES.get(self.accountant, self.accountant)})"
        )


def epsilon_after(
    rounds: int,
    *,
    noise_multiplier: float,
    delta: float,
    sampling_rate: float = 1.0,
    sampling: str = "none",
    accountant: str = "rdp",
    adjacency: str = ADD_OR_REMOVE_ONE,
    unit: str = "client",
    num_clients: int | None = None,
) -> PrivacySpent:
    """Bound what ``rounds`` noisy sums together say about any one participant.

    Args:
        rounds: How many sums were released, 0 or more.
        noise_multiplier: Standard deviation of the noise in units of the clipping
            norm, the same in every round; from 0.01 to 1e6, or 0, which costs infinity.
        delta: The probability with which the bound may fail, in (0, 1).
        sampling_rate: The probability with which each participant takes part in a round.
        sampling: ``"none"`` or ``"poisson"``, as it was really done.
        accountant: ``"rdp"``, ``"pld"`` or ``"moments"``; see the top of this module.
        adjacency: ``"add-or-remove-one"`` or ``"replace-one"``.
        unit: Whose contribution was clipped: ``"client"`` or ``"example"``. It is
            the name of what is protected and changes no number.
        num_clients: If given, a delta above one in so many is warned about: it
            would allow to publish one participant's data in full.

    Returns:
        Epsilon, with delta, unit, adjacency, sampling and accountant.

    Raises:
        InvalidParameterError: If an argument is out of range, or the combination
            of accountant, sampling and adjacency is not supported.

    Example:
        >>> print(epsilon_after(30, noise_multiplier=1.0, delta=1e-3))
        epsilon = 33.7 at delta = 1e-3 (client, add-or-remove-one, no sampling, RDP)
        >>> print(epsilon_after(30, noise_multiplier=1.0, delta=1e-3,
        ...                     sampling_rate=0.2, sampling="poisson", accountant="pld"))
        epsilon = 5.34 at delta = 1e-3 (client, add-or-remove-one, Poisson q = 0.2, PLD)

    Reference:
        Mironov, CSF 2017. https://arxiv.org/abs/1702.07476. Mironov, Talwar and
        Zhang 2019, Section 3. https://arxiv.org/abs/1908.10530. Canonne, Kamath and
        Steinke 2020, Proposition 12. https://arxiv.org/abs/2004.00010. Doroshenko et
        al., PoPETs 2022. https://arxiv.org/abs/2207.04380
    """
    rounds = _require_rounds(rounds)
    _require(noise_multiplier, delta, sampling_rate, sampling, accountant, adjacency)
    if unit not in _UNITS:
        raise InvalidParameterError(f"unit must be one of {', '.join(_UNITS)}, got {unit!r}")
    if num_clients is not None and not delta < 1 / num_clients:
        warnings.warn(
            f"delta = {delta:g} is not below 1/{num_clients}: publishing the data of one "
            f"{unit} chosen at random would satisfy it",
            stacklevel=2,
        )
    if rounds == 0 or sampling_rate == 0:
        epsilon = 0.0
    elif noise_multiplier == 0:
        epsilon = math.inf
    elif accountant == "pld":
        epsilon = _epsilon_by_pld(rounds, noise_multiplier, sampling_rate, delta, adjacency)
    else:
        one_round = _rdp_of_one_round(noise_multiplier, sampling_rate, adjacency)
        epsilon = float(_epsilon_from_rdp(rounds * one_round, delta, accountant))
    return PrivacySpent(epsilon, delta, unit, adjacency, sampling, sampling_rate, accountant)


def budget_curve(
    noise_multiplier: float,
    max_rounds: int,
    *,
    delta: float,
    sampling_rate: float = 1.0,
    sampling: str = "none",
    accountant: str = "rdp",
    adjacency: str = ADD_OR_REMOVE_ONE,
) -> np.ndarray:
    """Epsilon after 0, 1, ..., ``max_rounds`` rounds, fast enough for a slider.

    Rényi divergences add up over rounds, so one round's worth of them, computed
    once and remembered, gives the whole curve. The arguments are those of
    :func:`epsilon_after`, which agrees with every entry.

    Returns:
        Shape (max_rounds + 1,), starting at 0 and never falling.

    Raises:
        InvalidParameterError: As :func:`epsilon_after`; also for ``"pld"``, whose
            rounds have to be computed one by one.

    Example:
        >>> budget_curve(1.0, 3, delta=1e-3).round(2)
        array([0.  , 3.54, 5.42, 7.  ])
    """
    max_rounds = _require_rounds(max_rounds)
    _require(noise_multiplier, delta, sampling_rate, sampling, accountant, adjacency)
    if accountant == "pld":
        raise InvalidParameterError(
            "budget_curve needs accountant 'rdp' or 'moments': PLD has no shortcut over rounds, "
            "so call epsilon_after for each number of rounds you need"
        )
    curve = np.zeros(max_rounds + 1)
    if sampling_rate > 0:
        one_round = _rdp_of_one_round(noise_multiplier, sampling_rate, adjacency)
        rdp = np.arange(1, max_rounds + 1)[:, np.newaxis] * one_round  # (max_rounds, orders)
        curve[1:] = _epsilon_from_rdp(rdp, delta, accountant)
    return curve


def noise_multiplier_for(
    target_epsilon: float,
    rounds: int,
    *,
    delta: float,
    sampling_rate: float = 1.0,
    sampling: str = "none",
    accountant: str = "rdp",
    adjacency: str = ADD_OR_REMOVE_ONE,
) -> float:
    """Find the least noise with which ``rounds`` rounds cost at most ``target_epsilon``.

    Args:
        target_epsilon: The epsilon not to exceed, positive.
        rounds: How many sums will be released, 1 or more.
        delta, sampling_rate, sampling, accountant, adjacency: As in :func:`epsilon_after`.

    Returns:
        A noise multiplier at most 0.01 % above the least one.

    Raises:
        InvalidParameterError: As :func:`epsilon_after`; also if the target needs a
            noise multiplier outside [0.1, 1000], with the range that can be reached.

    Example:
        >>> z = noise_multiplier_for(2.0, 30, delta=1e-3)
        >>> round(z, 2), epsilon_after(30, noise_multiplier=z, delta=1e-3).epsilon <= 2.0
        (8.81, True)
    """
    if not 0 < target_epsilon < math.inf:
        raise InvalidParameterError(
            f"target_epsilon must be positive and finite, got {target_epsilon}"
        )
    if _require_rounds(rounds) == 0 or sampling_rate == 0:
        raise InvalidParameterError("nothing is released in 0 rounds or from nobody: no noise fits")

    def epsilon(noise_multiplier: float) -> float:
        return epsilon_after(
            rounds,
            noise_multiplier=noise_multiplier,
            delta=delta,
            sampling_rate=sampling_rate,
            sampling=sampling,
            accountant=accountant,
            adjacency=adjacency,
        ).epsilon

    too_little, enough = 0.5, 1.0  # bracket the answer by doubling, then halve the bracket
    while epsilon(enough) > target_epsilon and enough < 1000:
        too_little, enough = enough, min(2 * enough, 1000)
    while epsilon(too_little) <= target_epsilon and too_little > 0.1:
        too_little, enough = max(too_little / 2, 0.1), too_little
    if not epsilon(enough) <= target_epsilon < epsilon(too_little):
        raise InvalidParameterError(
            f"target_epsilon {target_epsilon:g} is out of reach: {rounds} rounds cost from "
            f"{epsilon(1000):.3g} (noise multiplier 1000) to {epsilon(0.1):.3g} (0.1)"
        )
    while enough / too_little > 1.0001:
        middle = math.sqrt(enough * too_little)
        too_little, enough = (
            (too_little, middle) if epsilon(middle) <= target_epsilon else (middle, enough)
        )
    return enough


@lru_cache(maxsize=4096)
def _rdp_of_one_round(noise: float, sampling_rate: float, adjacency: str) -> np.ndarray:
    """Rényi divergence of one noisy sum from its neighbour's, at every order."""
    if adjacency == REPLACE_ONE:
        noise = noise / 2  # two clipping norms apart; dp-accounting's RDP does not count this in
    if noise == 0:
        rdp = np.full(ORDERS.shape, np.inf)
    elif sampling_rate == 1:
        rdp = ORDERS / 2 / noise / noise  # Mironov 2017, Proposition 7
    else:
        from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
        from dp_accounting import rdp as dp_rdp

        event = PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(noise))
        with _without_log_lines("absl"):  # orders that do not converge are left out, correctly
            rdp = dp_rdp.RdpAccountant(ORDERS).compose(event).rdp
    rdp.flags.writeable = False
    return rdp


def _epsilon_from_rdp(rdp: np.ndarray, delta: float, accountant: str) -> np.ndarray:
    """Convert Rényi divergences, shape (..., orders), to the best epsilon of any order."""
    if accountant == "moments":  # Abadi et al. 2016, Theorem 2
        epsilon = rdp - math.log(delta) / (ORDERS - 1)
    else:
        epsilon = rdp + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
        # total variation is at most sqrt(1 - exp(-divergence)): below delta, epsilon is 0
        epsilon = np.where(delta**2 + np.expm1(-rdp) > 0, 0.0, epsilon)
    return np.maximum(epsilon.min(axis=-1), 0.0)


@lru_cache(maxsize=4096)
def _epsilon_by_pld(
    rounds: int, noise: float, sampling_rate: float, delta: float, adjacency: str
) -> float:
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, pld

    # The grid on which privacy losses are counted resolves their spread: the work is bounded,
    # and a coarser grid than dp-accounting's 1e-4 errs upwards.
    if sampling_rate == 1:
        event = GaussianDpEvent(noise)
        interval = math.sqrt(rounds) / noise / 1000
    else:
        event = PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(noise))
        width = 10 / noise + 0.5 / noise**2  # of the losses of one round
        interval = max(min(sampling_rate / noise / 20, 0.002), width / 1e5)
    relation = NeighboringRelation[adjacency.upper().replace("-", "_")]
    accountant = pld.PLDAccountant(relation, value_discretization_interval=interval)
    return float(accountant.compose(event, rounds).get_epsilon(delta))


def _require(
    noise_multiplier: float,
    delta: float,
    sampling_rate: float,
    sampling: str,
    accountant: str,
    adjacency: str,
) -> None:
    if not (noise_multiplier == 0 or 0.01 <= noise_multiplier <= 1e6):
        raise InvalidParameterError(
            f"noise_multiplier must be 0 or from 0.01 to 1e6, got {noise_multiplier}"
        )
    if not 0 < delta < 1:
        raise InvalidParameterError(f"delta must be above 0 and below 1, got {delta}")
    if not 0 <= sampling_rate <= 1:
        raise InvalidParameterError(f"sampling_rate must be from 0 to 1, got {sampling_rate}")
    if adjacency not in _SUPPORTED.get((accountant, sampling), ()):
        supported = "; ".join(
            f"{accountant}, {sampling}, {' or '.join(adjacencies)}"
            for (accountant, sampling), adjacencies in _SUPPORTED.items()
        )
        raise InvalidParameterError(
            f"accountant {accountant!r} with sampling {sampling!r} and adjacency {adjacency!r} is "
            f"not supported; what is: {supported}"
        )
    if sampling == "none" and sampling_rate != 1:
        raise InvalidParameterError(
            f"sampling_rate {sampling_rate} needs sampling='poisson', a coin per participant and "
            f"round: only what is drawn by chance lowers epsilon; otherwise leave it at 1"
        )


def _require_rounds(rounds: int) -> int:
    if (
        isinstance(rounds, bool | np.bool_)
        or not isinstance(rounds, int | np.integer)
        or rounds < 0
    ):
        raise InvalidParameterError(f"rounds must be a whole number, 0 or more, got {rounds!r}")
    return int(rounds)


@contextmanager
def _without_log_lines(name: str) -> Iterator[None]:
    """Keep the lines of one logger out of a notebook while a block runs."""
    logger, silence = logging.getLogger(name), lambda record: False
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)
