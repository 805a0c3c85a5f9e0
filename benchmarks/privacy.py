"""Cryptographic noise against NumPy's generator, discrete noise against the exact sampler,
and how soon an epsilon is there.

Each ratio is the other's time, or the time allowed, divided by ours; the two
take turns in one run and the medians are compared.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from dp_accounting import (
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from fltutor.lessons.differential_privacy.runs import MAX_ROUNDS, spending
from fltutor.privacy import renyi
from fltutor.privacy.accounting import budget_curve, epsilon_after
from fltutor.privacy.discrete import (
    discrete_gaussian,
    exact_discrete_gaussian,
    sampling_distance,
)
from fltutor.privacy.mechanisms import system_normal

SLIDER = 0.1  # seconds in which a slider's epsilon should be there
NOISES = (0.5, 0.7, 1.0, 1.3, 2.9, 5.1, 7.7, 8.0, 50.0)  # a slider's ends and between, and much
SAMPLED = {"sampling_rate": 0.2, "sampling": "poisson"}
DRAWN = {"sampling_rate": 0.2, "sampling": "fixed-size", "adjacency": "replace-one"}
SCALES = (10.0, 800.0, 2.0**20)  # a small table, the largest, and three in one draw
EXACT, FAST = 1000, 1_000_000  # draws in one turn


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(turns: int, theirs: Callable[[], object], ours: Callable[[], object]) -> float:
    """Median time of ``theirs`` divided by that of ``ours``, taking turns."""
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(turns + 1)][1:]  # one to warm up
    return median(t for t, _ in pairs) / median(o for _, o in pairs)


def curve_by_dp_accounting(noise: float) -> None:
    """Epsilon after 1, ..., 100 rounds, as its documentation composes them."""
    accountant, event = RdpAccountant(), PoissonSampledDpEvent(0.2, GaussianDpEvent(noise))
    for _ in range(100):
        accountant.compose(event).get_epsilon(1e-5)


def pld_by_dp_accounting(noise: float) -> None:
    """Epsilon after 100 rounds on the default grid."""
    event = PoissonSampledDpEvent(0.2, GaussianDpEvent(noise))
    PLDAccountant().compose(event, 100).get_epsilon(1e-5)


def rdp_by_dp_accounting(event, relation: NeighboringRelation) -> None:
    """Divergences of one round at every order."""
    RdpAccountant(neighboring_relation=relation).compose(event)


def first_picture(noise: float) -> None:
    """What notebook 10 draws at once when its longest run is to be counted by PLD."""
    next(spending(noise, 0.2, MAX_ROUNDS, 1e-5, "pld"))


def slowest(call: Callable[[float], object]) -> float:
    """Seconds at the noise multiplier of ``NOISES`` that takes longest: medians of three.

    Each is asked a little further on, where nothing is remembered.
    """
    call(1.0)  # imports
    further = (i / 1e5 for i in itertools.count(1))

    def taken(noise: float) -> float:
        return seconds(lambda: call(noise + next(further)))

    return max(median(taken(noise) for _ in range(3)) for noise in NOISES)


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    rng = np.random.default_rng(0)
    new = (1 + i / 1000 for i in itertools.count())  # noise multipliers that nothing remembers

    def curve(noise: float, **sampling) -> None:
        budget_curve(noise, 100, delta=1e-5, **sampling)

    def pld(noise: float) -> None:
        epsilon_after(100, noise_multiplier=noise, delta=1e-5, accountant="pld", **SAMPLED)

    rows = [
        (
            f"Gaussian noise, {size:,} numbers: cryptographic stream against NumPy's generator",
            ratio(
                31,
                lambda size=size: rng.standard_normal(size),
                lambda size=size: system_normal(size),
            ),
            ">= 1",
        )
        for size in (100_000, 1_000_000)
    ]
    rows += [
        (
            f"discrete Gaussian, sigma {sigma:,.0f}: draws a second against the exact sampler",
            FAST
            / EXACT
            * ratio(
                5,
                lambda sigma=sigma: exact_discrete_gaussian(sigma**2, EXACT),
                lambda sigma=sigma: discrete_gaussian(sigma, FAST),
            ),
            ">= 1000",
        )
        for sigma in SCALES
    ]
    furthest = max(sampling_distance(sigma) for sigma in SCALES)
    rows.append(("discrete Gaussian: bits of a draw's distance", -math.log2(furthest), ">= 60"))
    slider = [
        ("0-100 rounds, no sampling, new noise", curve),
        ("0-100 rounds, Poisson, known noise", lambda _: curve(1.0, **SAMPLED)),
        ("0-100 rounds, Poisson, new noise", partial(curve, **SAMPLED)),
        ("0-100 rounds, fixed size, new noise", partial(curve, **DRAWN)),
        (f"0-{MAX_ROUNDS} rounds, PLD asked, new noise: the first picture", first_picture),
    ]
    for name, call in slider:
        took = slowest(call)
        found = f"epsilon of {name}, at worst {1000 * took:.0f} ms"
        rows.append((f"{found}: in 100 ms", SLIDER / took, ">= 1"))
    rows.append(
        (
            "epsilon of 0-100 rounds, Poisson, new noise: against dp-accounting round by round",
            ratio(
                1, lambda: curve_by_dp_accounting(next(new)), lambda: curve(next(new), **SAMPLED)
            ),
            ">= 50",
        )
    )
    one_round = {
        "Poisson": (
            lambda: rdp_by_dp_accounting(
                PoissonSampledDpEvent(0.2, GaussianDpEvent(next(new))),
                NeighboringRelation.ADD_OR_REMOVE_ONE,
            ),
            lambda: renyi.poisson(next(new), 0.2),
        ),
        "fixed size": (
            lambda: rdp_by_dp_accounting(
                SampledWithoutReplacementDpEvent(1000, 200, GaussianDpEvent(next(new))),
                NeighboringRelation.REPLACE_ONE,
            ),
            lambda: renyi.fixed_size(next(new), 0.2),
        ),
    }
    rows += [
        (
            f"divergences of one round, {name}, new noise: against dp-accounting",
            ratio(5, *calls),
            ">= 10",
        )
        for name, calls in one_round.items()
    ]
    rows.append(
        (
            "epsilon by PLD, Poisson, new noise: against dp-accounting on its default grid",
            ratio(3, lambda: pld_by_dp_accounting(next(new)), lambda: pld(next(new))),
            ">= 3",
        )
    )
    return rows


if __name__ == "__main__":
    for name, value, target in run():
        print(f"{name:84} {value:9.2f}  {target}")
