"""Checks of notebook 03: the server's step, one step of FedAvg, sampled clients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from fltutor.checks import difference, no_answer, verdict

TOLERANCE = 1e-5  # float32 gradients, added in whatever order the reader likes


def check_server_step(server_step: Callable) -> None:
    """Check ``server_step(params, gradient, learning_rate)``: one step downhill.

    Example:
        >>> check_server_step(lambda params, gradient, learning_rate: params + gradient)
        · not attempted yet
        >>> check_server_step(lambda params, gradient, learning_rate: params - gradient)
        ✗ this is a forgotten learning rate: right direction, 20 times too far
    """
    params, gradient, learning_rate = np.array([1.0, -2.0, 0.5]), np.array([4.0, 6.0, -8.0]), 0.05

    def attempt():
        given, slope = params.copy(), gradient.copy()
        new = server_step(given, slope, learning_rate)
        if new is None or new is ...:
            return no_answer(server_step, new)
        if _same(new, params + gradient):  # as the cell gives it
            return ...
        if _same(new, params - learning_rate * gradient):
            if _same(given, params) and _same(slope, gradient):
                return None
            return "the step is right, but it overwrites its input: the old model is lost"
        step = learning_rate * gradient
        mistakes = {
            "a forgotten learning rate: right direction, 20 times too far": params - gradient,
            "+gradient: it climbs the loss": params + step,
            "the step alone: add it to params": -step,
            "the learning rate on the model too": learning_rate * params - step,
        }
        return _named(new, mistakes) or difference(new, params - learning_rate * gradient)

    verdict(attempt, "one step against the gradient, as long as the learning rate says")


def check_fedavg_round(
    fedavg_round: Callable,
    params: np.ndarray,
    gradients: np.ndarray,
    sizes: list[int],
    learning_rate: float = 0.5,
) -> None:
    """Check ``fedavg_round(params, gradients, sizes, learning_rate)`` against FedSGD.

    Args:
        fedavg_round: Lets each client take one step, then averages the models.
        params: The global model, shape (d,).
        gradients: Each client's gradient on all its data, shape (n, d).
        sizes: Each client's number of examples; they must differ.
        learning_rate: Step size of client and server.

    Example:
        >>> check_fedavg_round(lambda *args: ..., np.zeros(1), np.array([[1.0], [4.0]]), [2, 1])
        · not attempted yet
    """
    gradient = np.average(gradients, axis=0, weights=sizes)
    expected = params - learning_rate * gradient
    models = params - learning_rate * gradients

    def attempt():
        new = fedavg_round(params.copy(), gradients.copy(), list(sizes), learning_rate)
        if new is None or new is ...:
            return no_answer(fedavg_round, new)
        if _same(new, expected):
            return None
        average = np.average(models, axis=0, weights=sizes)
        update = average - params
        mistakes = {
            "the unweighted mean of the models": models.mean(axis=0),
            "the sum of the models, not their mean": models.sum(axis=0),
            "the weighted sum: divide by the sum of the sizes": np.dot(sizes, models),
            "every client's model: the server still has to average them": models,
            "a model added to a model: the average replaces params": params + average,
            "the mean update: add it to params": update,
            "a forgotten learning rate": params - gradient,
            "+gradient: every client climbs its loss": params + learning_rate * gradient,
            "the learning rate used twice": params + learning_rate * update,
        }
        return _named(new, mistakes) or difference(new, expected, TOLERANCE)

    verdict(attempt, "one full-batch FedAvg step equals FedSGD, but for rounding")


def check_sampled_gradient(
    sampled_gradient: Callable, gradients: np.ndarray, sizes: list[int], *, cohort_size: int = 3
) -> None:
    """Try ``sampled_gradient`` on every cohort of one size: is it right on average?

    Args:
        sampled_gradient: ``sampled_gradient(gradients, sizes, num_clients, num_examples)``
            estimates the pooled gradient from the rows and sizes of one cohort.
        gradients: The gradients of all clients, shape (n, d).
        sizes: Their numbers of examples; they must differ.
        cohort_size: Clients in a cohort; every cohort is equally likely.

    Example:
        >>> check_sampled_gradient(
        ...     lambda gradients, sizes, num_clients, num_examples: gradients.mean(axis=0),
        ...     np.array([[0.0], [3.0], [0.0]]), [1, 1, 4], cohort_size=2
        ... )
        ✗ this is the unweighted mean of the cohort: averaged over all 3 cohorts it is 100% off
    """
    gradients, sizes = np.asarray(gradients, dtype=np.float64), np.asarray(sizes)
    num_clients, num_examples = len(sizes), int(sizes.sum())
    pooled = sizes @ gradients / num_examples
    cohorts = [list(cohort) for cohort in combinations(range(num_clients), cohort_size)]

    def off(estimate):
        return np.linalg.norm(estimate - pooled) / np.linalg.norm(pooled)

    def attempt():
        estimates = []
        for cohort in cohorts:
            rows, own = gradients[cohort], sizes[cohort]
            estimate = sampled_gradient(rows.copy(), own.copy(), num_clients, num_examples)
            if estimate is None or estimate is ...:
                return no_answer(sampled_gradient, estimate)
            if np.shape(estimate) != pooled.shape:
                return f"an estimate has shape {np.shape(estimate)}, needed {pooled.shape}"
            estimates.append(estimate)
        bias = off(np.mean(estimates, axis=0))
        if bias < TOLERANCE:
            return None
        rows, own = gradients[cohorts[0]], sizes[cohorts[0]]
        total = own @ rows
        mistakes = {
            "the unweighted mean of the cohort": rows.mean(axis=0),
            "the weighted mean of the cohort, whose divisor changes": total / own.sum(),
            "missing the factor num_clients / len(sizes)": total / num_examples,
        }
        name = _named(estimates[0], mistakes) or "the estimate is biased"
        return f"{name}: averaged over all {len(cohorts)} cohorts it is {bias:.0%} off"

    verdict(
        attempt,
        f"unbiased: averaged over all {len(cohorts)} cohorts of {cohort_size}, "
        "it is the pooled gradient",
    )


def _same(got: object, expected: np.ndarray) -> bool:
    return difference(got, expected, TOLERANCE) is None


def _named(got: object, mistakes: dict[str, np.ndarray]) -> str | None:
    """Name the mistake that gives exactly this result, if it is a known one."""
    return next((f"this is {name}" for name, value in mistakes.items() if _same(got, value)), None)
