"""How much a run has revealed: epsilon, and everything that belongs beside it.

The mechanism is always the Gaussian one on a sum of clipped contributions, and
``noise_multiplier`` is its standard deviation in units of the clipping norm.
These combinations are answered, for either unit, and the others are refused by name:

==============  ==============  =====================================
accountant      sampling        adjacency
==============  ==============  =====================================
rdp, moments    none            add-or-remove-one, replace-one
rdp, moments    poisson         add-or-remove-one
rdp, moments    fixed-size      replace-one
pld             none, poisson   add-or-remove-one, replace-one
pld             fixed-size      replace-one
==============  ==============  =====================================

*Accountants.* ``"pld"`` follows the whole distribution of the privacy loss: the
tightest, and slower. ``"rdp"`` follows Rényi divergences at 156 orders from 1.1 to
1024 and converts them as Canonne, Kamath and Steinke (2020, Proposition 12): fast,
and looser. ``"moments"`` is the same with the older conversion of Abadi et al.
(2016), never better, for numbers published before 2020. All are upper bounds.
dp-accounting follows the distributions, on a grid and rounding upwards; without sampling
PLD is exact (:mod:`fltutor.privacy.calibration`). The divergences are those of
:mod:`fltutor.privacy.renyi`, because a slider cannot wait for dp-accounting's.

*Adjacency.* Adding or removing a participant moves the sum by at most one clipping
norm, replacing one by two, which doubles the noise needed.

*Sampling.* ``"poisson"`` means that a coin of bias ``sampling_rate`` decides about
every participant in every round. ``"fixed-size"`` means that a cohort of a fixed
size is drawn without replacement in every round, and ``sampling_rate`` is that size
over the number of participants. Both numbers are public, so nobody is added or
removed unnoticed, and neighbours differ by replacing one. Either way nobody may see who
took part. Poisson sampling cut off at a largest cohort (which dp-accounting 0.6 has for
PLD) and schedules are something else.

*Fixed size* is the one case where PLD need not win. A participant who is not drawn leaves
the place to somebody else, so three sums matter, any two of them two clipping norms
apart. PLD follows dp-accounting's truncated Poisson sampling, where two of them may be
four apart: loose for large rates and few rounds. RDP (Wang, Balle and
Kasiviswanathan 2019) is loose for little noise. Both are upper bounds: take the smaller.

*Unit.* Whose contribution was clipped, ``"client"`` or ``"example"``: it names what
is protected and changes no number.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fltutor.border import as_real, as_whole
from fltutor.errors import InvalidParameterError
from fltutor.packages import load
from fltutor.privacy import renyi
from fltutor.privacy.calibration import gaussian_delta
from fltutor.privacy.renyi import ORDERS

ADD_OR_REMOVE_ONE, REPLACE_ONE = "add-or-remove-one", "replace-one"

_SAMPLINGS = {"poisson": "Poisson", "fixed-size": "fixed size"}
_NAMES = {"rdp": "RDP", "moments": "moments accountant", "pld": "PLD"}
_UNITS = ("client", "example")
_MOST_ROUNDS = 2**53  # so many are still exact as a float
_MOST_ON_A_CURVE = 10**7
_ROUNDS_AT_ONCE = 1024  # whose divergences at all orders stay in the cache
_SUPPORTED = {
    ("rdp", "none"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("rdp", "poisson"): (ADD_OR_REMOVE_ONE,),
    ("rdp", "fixed-size"): (REPLACE_ONE,),
    ("moments", "none"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("moments", "poisson"): (ADD_OR_REMOVE_ONE,),
    ("moments", "fixed-size"): (REPLACE_ONE,),
    ("pld", "none"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("pld", "poisson"): (ADD_OR_REMOVE_ONE, REPLACE_ONE),
    ("pld", "fixed-size"): (REPLACE_ONE,),
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
        sampling = _SAMPLINGS.get(self.sampling)
        return (
            f"epsilon = {epsilon.replace('inf', 'infinity')} at delta = {delta} "
            f"({self.unit}, {self.adjacency}, "
            f"{f'{sampling} q = {self.sampling_rate:.3g}' if sampling else 'no sampling'}, "
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
        sampling_rate: The probability with which each participant takes part in a round;
            with ``"fixed-size"``, the size of the cohort over the number of participants.
        sampling: ``"none"``, ``"poisson"`` or ``"fixed-size"``, as it was really done.
        accountant: ``"rdp"``, ``"pld"`` or ``"moments"``; see the top of this module.
        adjacency: ``"add-or-remove-one"`` or ``"replace-one"``.
        unit: Whose contribution was clipped: ``"client"`` or ``"example"``. It is
            the name of what is protected and changes no number.
        num_clients: How many participants there are. If given, a delta above one in so
            many is warned about: it would allow to publish one participant's data in
            full. And ``"fixed-size"`` checks that the cohort is a whole number.

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
        Zhang 2019, Section 3. https://arxiv.org/abs/1908.10530. Wang, Balle and
        Kasiviswanathan, AISTATS 2019, Theorem 27. https://arxiv.org/abs/1808.00087.
        Canonne, Kamath and Steinke 2020, Proposition 12.
        https://arxiv.org/abs/2004.00010. Doroshenko et al., PoPETs 2022.
        https://arxiv.org/abs/2207.04380
    """
    return epsilon_of_rounds(
        {_checked_noise(noise_multiplier): rounds},
        delta=delta,
        sampling_rate=sampling_rate,
        sampling=sampling,
        accountant=accountant,
        adjacency=adjacency,
        unit=unit,
        num_clients=num_clients,
    )


def epsilon_of_rounds(
    rounds: Mapping[float, int],
    *,
    delta: float,
    sampling_rate: float = 1.0,
    sampling: str = "none",
    accountant: str = "rdp",
    adjacency: str = ADD_OR_REMOVE_ONE,
    unit: str = "client",
    num_clients: int | None = None,
) -> PrivacySpent:
    """Bound what noisy sums together say if not all of them have the same noise.

    Args:
        rounds: How many sums were released with each noise multiplier.
        delta, sampling_rate, sampling, accountant, adjacency, unit, num_clients: As in
            :func:`epsilon_after`, which is this for a single noise multiplier.

    Example:
        >>> print(epsilon_of_rounds({1.0: 9, 2.0: 36}, delta=1e-3))  # as 18 rounds with 1.0
        epsilon = 23.3 at delta = 1e-3 (client, add-or-remove-one, no sampling, RDP)
    """
    if not isinstance(rounds, Mapping):
        raise InvalidParameterError(
            f"rounds must map noise multipliers to numbers of rounds, got {type(rounds).__name__}"
        )
    delta, sampling_rate, sampling, accountant, adjacency = _checked_setting(
        delta, sampling_rate, sampling, accountant, adjacency
    )
    counts: Counter[float] = Counter()  # noise of two types may be one number: 1.5 and 3/2
    for noise, count in rounds.items():
        counts[_checked_noise(noise)] += _checked_rounds(count)
    unit = check_unit(unit)
    if num_clients is not None:
        _compare_with(num_clients, delta, sampling_rate, sampling, unit)
    rounds = {noise: _checked_rounds(count) for noise, count in counts.items() if count}
    if not rounds or sampling_rate == 0:
        epsilon = 0.0
    elif 0 in rounds:
        epsilon = math.inf
    elif accountant == "pld":
        spent = tuple(sorted(rounds.items()))
        epsilon = _epsilon_by_pld(spent, sampling_rate, delta, sampling, adjacency)
    else:
        rdp = sum(
            count * _rdp_of_one_round(noise, sampling_rate, adjacency)
            for noise, count in rounds.items()
        )
        epsilon = float(_epsilon_from_rdp(rdp, delta, accountant))
    return PrivacySpent(epsilon, delta, unit, adjacency, sampling, sampling_rate, accountant)


def _compare_with(
    num_clients: int, delta: float, sampling_rate: float, sampling: str, unit: str
) -> None:
    """Warn about a delta that exposes one in ``num_clients``, refuse a cohort that is not whole."""
    num_clients = as_whole("num_clients", num_clients, least=1)
    cohort = sampling_rate * num_clients
    if sampling == "fixed-size" and abs(cohort - round(cohort)) > 1e-6:
        raise InvalidParameterError(
            f"sampling_rate must be a whole cohort over num_clients, got {sampling_rate:g} of "
            f"{num_clients} = {cohort:g} {unit}s"
        )
    if not delta < 1 / num_clients:
        warnings.warn(
            f"delta = {delta:g} is not below 1/{num_clients}: publishing the data of one "
            f"{unit} chosen at random would satisfy it",
            stacklevel=4,
        )


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
    once and remembered, gives the whole curve. The other arguments are those of
    :func:`epsilon_after`, which agrees with every entry.

    Args:
        noise_multiplier: The same in every round.
        max_rounds: How many rounds at most, up to ten million.

    Returns:
        Shape (max_rounds + 1,), starting at 0 and never falling.

    Raises:
        InvalidParameterError: As :func:`epsilon_after`; also for ``"pld"``, whose
            rounds have to be computed one by one.

    Example:
        >>> budget_curve(1.0, 3, delta=1e-3).round(2)
        array([0.  , 3.54, 5.42, 7.  ])
    """
    max_rounds = as_whole("max_rounds", max_rounds, least=0, most=_MOST_ON_A_CURVE)
    noise = _checked_noise(noise_multiplier)
    delta, sampling_rate, sampling, accountant, adjacency = _checked_setting(
        delta, sampling_rate, sampling, accountant, adjacency
    )
    if accountant == "pld":
        raise InvalidParameterError(
            "budget_curve needs accountant 'rdp' or 'moments': PLD has no shortcut over rounds, "
            "so call epsilon_after for each number of rounds you need"
        )
    curve = np.zeros(max_rounds + 1)
    if sampling_rate > 0:
        one_round = _rdp_of_one_round(noise, sampling_rate, adjacency)
        for first in range(1, max_rounds + 1, _ROUNDS_AT_ONCE):
            rounds = np.arange(first, min(first + _ROUNDS_AT_ONCE, max_rounds + 1))
            rdp = rounds[:, np.newaxis] * one_round  # (rounds, orders)
            curve[rounds] = _epsilon_from_rdp(rdp, delta, accountant)
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
    target_epsilon = as_real("target_epsilon", target_epsilon, above=0)
    rounds = _checked_rounds(rounds)
    delta, sampling_rate, sampling, accountant, adjacency = _checked_setting(
        delta, sampling_rate, sampling, accountant, adjacency
    )
    if rounds == 0 or sampling_rate == 0:
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
    """Bound the Rényi divergence of one noisy sum from its neighbour's, at every order.

    With RDP the adjacency says which sampling it is: Poisson or, replacing one, fixed-size.
    """
    if adjacency == REPLACE_ONE:
        noise = noise / 2  # two clipping norms apart
    if noise == 0:
        rdp = np.full(ORDERS.shape, np.inf)
    elif sampling_rate == 1:
        rdp = renyi.gaussian(noise)
    elif adjacency == REPLACE_ONE:
        rdp = renyi.fixed_size(noise, sampling_rate)
    else:
        rdp = renyi.poisson(noise, sampling_rate)
    rdp.flags.writeable = False
    return rdp


def _epsilon_from_rdp(rdp: np.ndarray, delta: float, accountant: str) -> np.ndarray:
    """Convert Rényi divergences, shape (..., orders), to the best epsilon of any order."""
    if accountant == "moments":  # Abadi et al. 2016, Theorem 2
        return np.maximum((rdp - math.log(delta) / (ORDERS - 1)).min(axis=-1), 0.0)
    offset = np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    epsilon = np.maximum((rdp + offset).min(axis=-1), 0.0)
    # total variation is at most sqrt(1 - exp(-divergence)): below delta, epsilon is 0
    return np.where(delta**2 + np.expm1(-rdp.min(axis=-1)) > 0, 0.0, epsilon)


@lru_cache(maxsize=4096)
def _epsilon_by_pld(
    rounds: tuple[tuple[float, int], ...],
    sampling_rate: float,
    delta: float,
    sampling: str,
    adjacency: str,
) -> float:
    """Epsilon of some rounds with each noise multiplier, as (noise multiplier, rounds)."""
    # Without sampling all rounds together are one Gaussian with less noise.
    steps = 2 if adjacency == REPLACE_ONE else 1
    together = 1 / math.sqrt(sum(count / noise**2 for noise, count in rounds))
    everyone = math.inf
    if sampling_rate == 1 or sampling == "fixed-size":
        everyone = _epsilon_of_gaussian(together / steps, delta)
    if sampling_rate == 1:
        return everyone
    apart = 2 if sampling == "fixed-size" else 1  # see the top of this module
    interval = _interval(rounds, apart, sampling_rate, delta, adjacency)
    whole = None
    for noise, count in rounds:
        part = _pld(noise / apart, sampling_rate, adjacency, interval).self_compose(count)
        whole = part if whole is None else whole.compose(part)
    with np.errstate(over="ignore"):
        epsilon = min(whole.get_epsilon_for_delta(delta), everyone)
    if math.isinf(epsilon):  # beyond 700 the probabilities of losses underflow: RDP knows a bound
        rate = sampling_rate if adjacency in _SUPPORTED["rdp", sampling] else 1.0
        rdp = sum(count * _rdp_of_one_round(noise, rate, adjacency) for noise, count in rounds)
        epsilon = _epsilon_from_rdp(rdp, delta, "rdp")
    return float(epsilon)


@lru_cache(maxsize=4096)
def _epsilon_of_gaussian(noise: float, delta: float) -> float:
    """Epsilon of one Gaussian sum, exactly but for 1e-9 upwards, from its delta."""
    if gaussian_delta(0.0, noise) <= delta:
        return 0.0
    too_small, enough = 0.0, 1.0
    while gaussian_delta(enough, noise) > delta:
        too_small, enough = enough, 2 * enough
    while enough - too_small > 1e-9 * enough:
        middle = (too_small + enough) / 2
        if gaussian_delta(middle, noise) > delta:
            too_small = middle
        else:
            enough = middle
    return enough


def _interval(
    rounds: tuple[tuple[float, int], ...],
    apart: int,
    sampling_rate: float,
    delta: float,
    adjacency: str,
) -> float:
    """A grid that resolves the losses of one round, with bounded work for all of them.

    A coarser grid than dp-accounting's 1e-4 errs upwards.
    """
    least, most = min(rounds)[0] / apart, max(rounds)[0] / apart
    width = 10 / least + 0.5 / least**2  # of the losses of one round
    steps = 2 if adjacency == REPLACE_ONE else 1
    rdp = sum(t * _rdp_of_one_round(z / steps, sampling_rate, ADD_OR_REMOVE_ONE) for z, t in rounds)
    reach = _epsilon_from_rdp(rdp, delta, "rdp")  # about as far as the losses of the run go
    return max(min(sampling_rate / most / 20, 0.002), width / 1e5, reach / 1e5)


@lru_cache(maxsize=64)
def _pld(noise: float, sampling_rate: float, adjacency: str, interval: float):
    """The privacy loss distribution of one round."""
    distributions = load("dp_accounting.pld.privacy_loss_distribution", "dp-accounting")
    relations = load("dp_accounting", "dp-accounting").NeighboringRelation
    return distributions.from_gaussian_mechanism(
        standard_deviation=noise,
        sampling_prob=sampling_rate,
        value_discretization_interval=interval,
        neighboring_relation=relations[adjacency.upper().replace("-", "_")],
    )


# --- arguments --------------------------------------------------------------------------------


def check_unit(unit: Any) -> str:
    """Give a privacy unit as plain text, or refuse it, as every function with a ``unit`` does.

    Raises:
        InvalidParameterError: If it is not ``"client"`` or ``"example"``.
    """
    if _plain(unit) not in _UNITS:
        raise InvalidParameterError(f"unit must be one of {', '.join(_UNITS)}, got {unit!r}")
    return _plain(unit)


def _plain(word: Any) -> str | None:
    """The text itself of a text of any class, also of a ``StrEnum``; None for anything else."""
    return str.__str__(word) if isinstance(word, str) else None


def _checked_noise(noise_multiplier: Any) -> float:
    noise = as_real("noise_multiplier", noise_multiplier)
    if not (noise == 0 or 0.01 <= noise <= 1e6):
        raise InvalidParameterError(
            f"noise_multiplier must be 0 or from 0.01 to 1e6, got {noise_multiplier}"
        )
    return noise


def _checked_rounds(rounds: Any) -> int:
    return as_whole("rounds", rounds, least=0, most=_MOST_ROUNDS)


def _checked_setting(
    delta: Any, sampling_rate: Any, sampling: Any, accountant: Any, adjacency: Any
) -> tuple[float, float, str, str, str]:
    """Return all five as Python floats and plain text; refuse what is not supported."""
    delta = as_real("delta", delta, above=0, below=1)
    sampling_rate = as_real("sampling_rate", sampling_rate, least=0, most=1)
    plain = _plain(sampling), _plain(accountant), _plain(adjacency)
    if plain[2] not in _SUPPORTED.get((plain[1], plain[0]), ()):
        supported = "; ".join(
            f"{accountant}, {sampling}, {' or '.join(adjacencies)}"
            for (accountant, sampling), adjacencies in _SUPPORTED.items()
        )
        raise InvalidParameterError(
            f"accountant {accountant!r} with sampling {sampling!r} and adjacency {adjacency!r} is "
            f"not supported; what is: {supported}"
        )
    if plain[0] == "none" and sampling_rate != 1:
        raise InvalidParameterError(
            f"sampling_rate {sampling_rate} needs sampling='poisson', a coin per participant and "
            f"round, or 'fixed-size': only what is drawn by chance lowers epsilon; otherwise "
            f"leave it at 1"
        )
    return delta, sampling_rate, *plain
