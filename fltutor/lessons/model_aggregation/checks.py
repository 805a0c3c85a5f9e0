"""Checks of notebook 04: a careful mean, a network in another order, megabytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fltutor.aggregation import aggregate_models
from fltutor.checks import difference, no_answer, verdict
from fltutor.lessons.model_sizes import MODEL_SIZES


def check_weighted_mean(mine: Callable) -> None:
    """Check ``mine(updates, sizes)``: right for good sizes, a ValueError for bad ones.

    Example:
        >>> check_weighted_mean(lambda updates, sizes: updates.mean(axis=0))
        ✗ this is the unweighted mean: every client counts alike, whatever its size
        >>> check_weighted_mean(lambda updates, sizes: np.average(updates, axis=0, weights=sizes))
        ✗ sizes [0, 0, 0] end in ZeroDivisionError; raise a ValueError that says what came
    """
    verdict(lambda: _mean_problem(mine), "the weighted mean is right, and bad sizes are refused")


def _mean_problem(mine: Callable) -> str | None:
    updates, sizes = np.array([[1.0, 2.0], [5.0, 6.0], [3.0, -2.0]]), [1, 3, 4]
    got = mine(updates.copy(), np.array(sizes))
    if got is None or got is ...:
        return no_answer(mine, got)
    total = np.array(sizes) @ updates
    if not difference(got, updates.mean(axis=0)):
        return "this is the unweighted mean: every client counts alike, whatever its size"
    if not difference(got, total):
        return "this is the weighted sum: divide by the sum of the sizes"
    if not difference(got, total / len(sizes)):
        return "divide by the sum of the sizes, not by the number of clients"
    problem = difference(got, total / sum(sizes))
    if problem:
        return f"sizes {sizes}: {problem}"
    problems = (
        _accepts(mine, updates, [0, 0, 0], "divide only after you have looked at the sum"),
        _accepts(mine, updates, [1, np.nan, 4], "every comparison with NaN is False; np.isfinite"),
        _accepts(mine, updates, [1, np.inf, 4], "np.isfinite finds it"),
        _accepts(mine, updates, [3, -1, 4], "client 1 would count backwards"),
    )
    return next((problem for problem in problems if problem), None)


def _accepts(mine: Callable, updates: np.ndarray, sizes: list[float], hint: str) -> str | None:
    """Say what goes wrong with sizes that must be refused, or None if a ValueError comes."""
    said = f"[{', '.join(f'{size:g}' for size in sizes)}]"
    try:
        with np.errstate(all="ignore"):
            got = mine(updates.copy(), np.array(sizes))
    except ValueError:
        return None
    except AssertionError:
        return f"sizes {said} meet an assert, and python -O skips those; raise a ValueError"
    except Exception as error:
        name = type(error).__name__
        return f"sizes {said} end in {name}; raise a ValueError that says what came"
    return f"sizes {said} slip through and give {np.round(got, 2)}: {hint}"


def check_reordering(
    mine: Callable, weights: Sequence[np.ndarray], accuracy: Callable[[list], float]
) -> None:
    """Check ``mine(weights, order)``: hidden units in another order, the same outputs.

    Args:
        mine: The reader's function.
        weights: The four tensors of a trained network with one hidden layer.
        accuracy: Gives the accuracy, 0 to 1, of a network from its tensors.

    Example:
        >>> def right(weights, order):
        ...     first, bias, second, last_bias = weights
        ...     return [first[:, order], bias[order], second[order], last_bias]
        >>> network = [np.eye(4), np.zeros(4), np.eye(4), np.zeros(4)]
        >>> check_reordering(right, network, lambda weights: weights[0][0, 0])
        ✓ another order, other weights, the same outputs
        network 100.0%, its twin 0.0%, the average of the two 50.0%
        >>> check_reordering(lambda weights, order: weights, network, np.mean)
        ✗ these are the weights as they came: nothing was put in another order
    """
    networks = []

    def attempt():
        problem = _reordering_problem(mine)
        if problem is None:
            order = np.random.default_rng(4).permutation(len(weights[1]))
            twin = mine([tensor.copy() for tensor in weights], order)
            networks.extend([weights, twin, aggregate_models([weights, twin], [1, 1])])
        return problem

    verdict(attempt, "another order, other weights, the same outputs")
    if networks:
        network, twin, average = (accuracy(tensors) for tensors in networks)
        print(f"network {network:.1%}, its twin {twin:.1%}, the average of the two {average:.1%}")


def _reordering_problem(mine: Callable) -> str | None:
    rng = np.random.default_rng(4)
    shapes = [(5, 5), (5,), (5, 3), (3,)]  # as many inputs as hidden units: mistakes fit, too
    weights, order = [rng.normal(size=shape) for shape in shapes], np.array([3, 0, 4, 1, 2])
    x = rng.normal(size=(20, 5))
    got = mine([tensor.copy() for tensor in weights], order)
    if got is None or got is ...:
        return no_answer(mine, got)
    got = [np.asarray(tensor) for tensor in got]
    if [tensor.shape for tensor in got] != shapes:
        return f"the shapes became {[tensor.shape for tensor in got]}, needed {shapes}"
    moved = [bool(difference(new, old)) for new, old in zip(got, weights, strict=True)]
    if not any(moved):
        return "these are the weights as they came: nothing was put in another order"
    if moved[3]:
        return "the last bias belongs to the outputs, and their order stays"
    if not difference(got[0], weights[0][order]) and moved[0]:
        return "this reorders the pixels: in the first tensor, a hidden unit is a column"
    if not difference(_outputs(got, x), _outputs(weights, x)):
        return None
    if not moved[1]:
        return "the biases of the hidden units stayed behind"
    if not moved[2]:
        return "the second layer still expects the old order: reorder its rows"
    if not moved[0]:
        return "the first layer still gives the old order: reorder its columns"
    return "the outputs changed: all three tensors must follow the same order"


def _outputs(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    first, bias, second, last_bias = weights
    return np.maximum(x @ first + bias, 0) @ second + last_bias


def megabytes(rounds: int, cohort: int, num_params: int) -> float:
    """Traffic of a run in both directions, in 10^6 bytes of float32 numbers.

    Each client of the cohort receives ``num_params`` numbers in every round and
    sends one more than that: its weight.

    Example:
        >>> megabytes(rounds=10, cohort=100, num_params=1000)
        8.004
    """
    return rounds * cohort * 4 * (2 * num_params + 1) / 1e6


def check_megabytes(mine: Callable) -> None:
    """Check ``mine(rounds, cohort, num_params)`` against :func:`megabytes`, and use it.

    Example:
        >>> check_megabytes(lambda rounds, cohort, num_params: rounds * cohort * num_params / 1e6)
        ✗ this is a count of weights sent one way: a float32 has four bytes
        >>> check_megabytes(megabytes)
        ✓ every number is counted: down, up, and the weight
        100 rounds, 100 clients, digits              193 MB
        100 rounds, 100 clients, a million        80,000 MB
        100 rounds, 100 clients, ResNet-50     2,048,000 MB
    """
    done = []

    def attempt():
        problem = _megabytes_problem(mine)
        done.append(problem is None)
        return problem

    verdict(attempt, "every number is counted: down, up, and the weight")
    if done == [True]:
        for name, num_params in MODEL_SIZES.items():
            print(f"100 rounds, 100 clients, {name:10}{mine(100, 100, num_params):14,.0f} MB")


def _megabytes_problem(mine: Callable) -> str | None:
    case = rounds, cohort, num_params = 40, 7, 2410
    got = mine(*case)
    if got is None or got is ...:
        return no_answer(mine, got)
    numbers, right = rounds * cohort * num_params, megabytes(*case)
    mistakes = {
        "the upload alone": right - 4 * numbers / 1e6,
        "the download alone": 4 * numbers / 1e6,
        "without the one number that goes up with each update, its weight": 8 * numbers / 1e6,
        "a count of weights sent one way: a float32 has four bytes": numbers / 1e6,
        "one client's traffic: there is a whole cohort in each round": right / cohort,
        "one round's traffic": right / rounds,
        "a number of bits: a byte has eight": 8 * right,
        "a number of bytes: a megabyte has 10^6": 1e6 * right,
        "for float64: Keras trains and sends float32": 2 * right,
        "in mebibytes: a megabyte has 10^6 bytes": right * 1e6 / 2**20,
    }
    for name, value in mistakes.items():
        if not difference(got, value):
            return f"this is {name}"
    problem = difference(got, right)
    return f"40 rounds, 7 clients, 2,410 weights: {problem}" if problem else None
