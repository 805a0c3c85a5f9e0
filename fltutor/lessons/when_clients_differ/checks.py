"""Checks of notebook 05: the server's step, momentum in its place, and SCAFFOLD's bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fltutor.aggregation import mean
from fltutor.checks import agree, difference, named, no_answer, verdict
from fltutor.lessons.model_sizes import MODEL_SIZES
from fltutor.server_optimizers import momentum, sgd


def check_server_step(mine: Callable) -> None:
    """Check ``mine(params, models, sizes, learning_rate)``: the server's SGD from client models.

    Example:
        >>> check_server_step(lambda params, models, sizes, learning_rate: ...)
        · not attempted yet
        >>> def weighted(params, models, sizes, learning_rate):
        ...     return learning_rate * np.average(models, axis=0, weights=sizes)
        >>> check_server_step(weighted)
        ✗ weighted: this is a share of the models: with half a rate the weights halve
    """

    def server_step(params, models, sizes, learning_rate):
        optimizer = sgd(learning_rate)
        update = mean(models - params, sizes).update
        return optimizer.apply(params, update, optimizer.init(params))[0]

    def average(models, sizes):
        return np.average(models, axis=0, weights=sizes)

    server_step.__name__ = "sgd"
    params, models = np.array([1.0, -2.0]), np.array([[2.0, 0.0], [4.0, -3.0], [0.0, 7.0]])
    agree(
        named("my_server_step", mine),
        server_step,
        (params, models, np.array([1, 3, 4]), 0.5),
        (params, models, np.array([1, 3, 4]), 1.0),
        (params, models, np.array([2, 2, 2]), 2.0),
        mistakes={
            "a share of the models: with half a rate the weights halve": lambda p, m, s, r: (
                r * average(m, s)
            ),
            "a step against the updates: they point downhill already": lambda p, m, s, r: (
                p - r * (average(m, s) - p)
            ),
            "the unweighted mean: a client counts by its size": lambda p, m, s, r: (
                p + r * (m.mean(axis=0) - p)
            ),
            "FedAvg at any rate: where is learning_rate?": lambda p, m, s, r: average(m, s),
            "models added to the weights: an update is a model minus params": lambda p, m, s, r: (
                p + r * average(m, s)
            ),
        },
    )


def check_momentum(mine: Callable) -> None:
    """Check ``mine(params, updates, beta)``: the weights after a round for each update.

    Example:
        >>> check_momentum(lambda params, updates, beta: ...)
        · not attempted yet
        >>> check_momentum(lambda params, updates, beta: params + updates.sum(axis=0))
        ✗ my_momentum: this is FedAvg: nothing is carried from round to round
    """

    def fedavgm(params, updates, beta):
        optimizer = momentum(beta=beta)
        state = optimizer.init(params)
        for update in updates:
            params, state = optimizer.apply(params, update, state)
        return params

    def carrying(next_velocity, step):
        """A loop with another line for the velocity, or another for the step."""

        def run(params, updates, beta):
            velocity = np.zeros_like(params)
            for update in updates:
                velocity = next_velocity(velocity, update, beta)
                params = step(params, velocity, update, beta)
            return params

        return run

    def usual(v, u, b):
        return b * v + u

    def on_the_model(params, updates, beta):
        for update in updates:
            params = beta * params + (1 - beta) * (params + update)
        return params

    fedavgm.__name__ = "momentum"
    updates = np.array([[1.0, -2.0], [0.5, 4.0], [-3.0, 1.0]])
    agree(
        named("my_momentum", mine),
        fedavgm,
        (np.array([0.5, -1.0]), updates, 0.5),
        (np.array([2.0, 3.0]), updates, 0.9),
        (np.array([2.0, 3.0]), updates, 0.0),
        mistakes={
            "FedAvg: nothing is carried from round to round": lambda p, u, b: p + u.sum(axis=0),
            "momentum on the model: an average of old and new weights only brakes": on_the_model,
            "a fading mean: v takes the whole update, not a share of 1 - beta": carrying(
                lambda v, u, b: b * v + (1 - b) * u, lambda p, v, u, b: p + v
            ),
            "Nesterov's variant, which looks ahead: the step is v itself": carrying(
                usual, lambda p, v, u, b: p + u + b * v
            ),
            "a step against the updates: they point downhill already": carrying(
                usual, lambda p, v, u, b: p - v
            ),
            "a sum that never fades: beta is missing": carrying(
                lambda v, u, b: v + u, lambda p, v, u, b: p + v
            ),
            "the update added twice: v has it already": carrying(
                usual, lambda p, v, u, b: p + v + u
            ),
        },
    )


def scaffold_bytes(cohort: int, num_params: int) -> tuple[int, int]:
    """Bytes that go up and down in one round of SCAFFOLD, all numbers being float32.

    Each client of the cohort sends its update, the change of its control variate, and its
    weight in the mean; it receives the model and the server's control variate.

    Example:
        >>> scaffold_bytes(cohort=10, num_params=1000)
        (80040, 80000)
    """
    return 4 * cohort * (2 * num_params + 1), 4 * cohort * 2 * num_params


def check_scaffold_bytes(mine: Callable) -> None:
    """Check ``mine(cohort, num_params)`` against :func:`scaffold_bytes`, and use it.

    Example:
        >>> check_scaffold_bytes(lambda cohort, num_params: (4 * cohort * num_params,) * 2)
        ✗ this is FedAvg's download, twice: what else travels, and which way?
        >>> check_scaffold_bytes(scaffold_bytes)
        ✓ both directions are counted
        one round, 100 clients, digits             4 MB, with FedAvg 2 MB
        one round, 100 clients, a million      1,600 MB, with FedAvg 800 MB
        one round, 100 clients, ResNet-50     40,960 MB, with FedAvg 20,480 MB
    """
    done = []

    def attempt():
        problem = _bytes_problem(mine)
        done.append(problem is None)
        return problem

    verdict(attempt, "both directions are counted")
    if done == [True]:
        for name, num_params in MODEL_SIZES.items():
            total = sum(mine(100, num_params)) / 1e6
            fedavg = 4 * 100 * (2 * num_params + 1) / 1e6
            print(
                f"one round, 100 clients, {name:10}{total:10,.0f} MB, with FedAvg {fedavg:,.0f} MB"
            )


def _bytes_problem(mine: Callable) -> str | None:
    cohort, num_params = 7, 2410
    got = mine(cohort, num_params)
    if got is None or got is ...:
        return no_answer(mine, got)
    up, down = scaffold_bytes(cohort, num_params)
    single = 4 * cohort * num_params
    weights = 4 * cohort
    mistakes = {
        "FedAvg: the control variates travel, too": (single + weights, single),
        "FedAvg's download, twice: what else travels, and which way?": (single, single),
        "without the server's control variate, which every client needs": (up, single),
        "without the changes of the clients' control variates": (single + weights, down),
        "without the one number that goes up with each row, its weight": (down, down),
        "two weights a client: both halves travel in one row": (up + weights, down),
        "down before up: the order is (up, down)": (down, up),
        "one client's traffic: there is a whole cohort": (up // cohort, down // cohort),
        "a number of bits: a byte has eight": (8 * up, 8 * down),
        "a count of numbers: a float32 has four bytes": (up // 4, down // 4),
        "for float64: clients send float32": (2 * up, 2 * down),
    }
    for name, value in mistakes.items():
        if not difference(got, value):
            return f"this is {name}"
    problem = difference(got, (up, down))
    return f"7 clients, 2,410 weights: {problem}" if problem else None
