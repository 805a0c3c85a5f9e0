"""Checks of the exercises of notebook 00."""

from __future__ import annotations

import numpy as np

from fltutor.checks import verdict
from fltutor.lessons.private_training import DELTA
from fltutor.lessons.start_here.runs import CLIENTS, private_training
from fltutor.privacy.accounting import budget_curve


def check_enough_clients(
    num_clients: int, *, noise: float = 4.0, rounds: int = 20, accuracy: float = 0.85
) -> None:
    """Exercise 0.1: is this the smallest federation that learns under this noise?

    Trains for real, with three seeds, the federation named and the next smaller one.
    """

    def reached(clients: int) -> float:
        runs = [[*private_training(clients, noise, rounds, seed=seed)][-1] for seed in range(3)]
        return float(np.mean([run.accuracy[-1] for run in runs]))

    def attempt():
        if num_clients is ...:
            return ...
        if num_clients not in CLIENTS:
            return f"choose one of {', '.join(map(str, CLIENTS))}; got {num_clients}"
        own = reached(num_clients)
        print(f"{num_clients} clients reach {own:.3f}, mean of three seeds")
        if own < accuracy:
            return f"that is below {accuracy}: too few people share the noise"
        smaller = CLIENTS[max(CLIENTS.index(num_clients) - 1, 0)]
        if smaller < num_clients and reached(smaller) >= accuracy:
            return f"enough, but not the smallest: {smaller} clients reach {accuracy} as well"
        return None

    verdict(attempt, f"{num_clients} clients are enough, and the next smaller number is not")


def check_affordable_rounds(rounds: int, *, noise: float = 4.0, budget: float = 3.0) -> None:
    """Exercise 0.2: is this the largest number of rounds within the budget?"""
    curve = budget_curve(noise, 200, delta=DELTA)
    most = int(np.flatnonzero(curve <= budget)[-1])

    def attempt():
        if rounds is ...:
            return ...
        if rounds == most:
            return None
        if rounds == int(budget / curve[1]):
            return (
                f"you added up the epsilons of single rounds ({curve[1]:.2f} each); "
                "rounds compose better than that"
            )
        if rounds > most:
            return f"{rounds} rounds cost epsilon {curve[min(rounds, 200)]:.2f}, over {budget:g}"
        return f"{rounds} rounds cost only {curve[rounds]:.2f}; there is room for more"

    verdict(
        attempt, f"{most} rounds cost epsilon {curve[most]:.2f}, one more would pass {budget:g}"
    )
