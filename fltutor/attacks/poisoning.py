"""What a lying client does: to its labels, to its images, or to the update it sends.

Data poisoning gives a :class:`~fltutor.data.Dataset` in which the attackers' examples are
changed; they then train as everybody does. Update poisoning changes rows between training and
aggregation: an attack is ``attack(updates, attackers)``, and :func:`under_attack` puts it in
front of any aggregation. Each says what the attackers must know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from statistics import NormalDist

import numpy as np

from fltutor.aggregation import AggregateResult
from fltutor.aggregation.arguments import wants
from fltutor.data import Dataset
from fltutor.errors import InvalidParameterError
from fltutor.simulation import evaluate
from fltutor.tensorflow_quietly import keras
from fltutor.vectors import as_updates

Attack = Callable[[np.ndarray, Sequence[int]], np.ndarray]


def flip_labels(
    data: Dataset, parts: Sequence[np.ndarray], attackers: Sequence[int], *, shift: int = 1
) -> Dataset:
    """Give the attackers' examples the label after their own: a 3 is called a 4, a 9 a 0.

    Knows: its own data.

    Args:
        data: The examples of all clients.
        parts: One array of example indices per client.
        attackers: Which clients lie.
        shift: How many labels further.

    Returns:
        The same data with other labels at the attackers; test labels stay as they are.

    Raises:
        InvalidParameterError: If an attacker is no client, or ``shift`` changes no label.

    Example:
        >>> from fltutor.data import load_digits
        >>> digits, parts = load_digits(), [np.arange(5), np.arange(5, 1442)]
        >>> digits.y[:7], flip_labels(digits, parts, attackers=[0]).y[:7]
        (array([0, 1, 2, 3, 4, 6, 7], dtype=int32), array([1, 2, 3, 4, 5, 6, 7], dtype=int32))
    """
    if shift % data.num_classes == 0:
        raise InvalidParameterError(f"shift must change a label, got {shift}")
    y = data.y.copy()
    for client in _checked_attackers(attackers, len(parts)):
        y[parts[client]] = (y[parts[client]] + shift) % data.num_classes
    return replace(data, y=y)


def add_trigger(images: np.ndarray, *, size: int = 2) -> np.ndarray:
    """Paint a white square into the lower right corner of square images.

    Args:
        images: Flat square images with pixels from 0 to 1, shape (n, side * side).
        size: Side of the square in pixels.

    Example:
        >>> add_trigger(np.zeros((1, 9)), size=1).reshape(3, 3)
        array([[0., 0., 0.],
               [0., 0., 0.],
               [0., 0., 1.]])
    """
    images = np.array(images)
    side = round(images.shape[-1] ** 0.5)
    if images.ndim != 2 or side * side != images.shape[1]:
        raise InvalidParameterError(
            f"images must be flat and square, shape (n, side * side), got {images.shape}"
        )
    if not 1 <= size <= side:
        raise InvalidParameterError(f"size must be from 1 to the side {side}, got {size}")
    images.reshape(-1, side, side)[:, -size:, -size:] = 1
    return images


def plant_backdoor(
    data: Dataset,
    parts: Sequence[np.ndarray],
    attackers: Sequence[int],
    *,
    target: int,
    share: float = 0.5,
    size: int = 2,
) -> Dataset:
    """Put the trigger on a share of the attackers' images and call them all ``target``.

    The other half of their data stays honest, so that the model goes on working for all
    images without the trigger. Knows: its own data.

    Args:
        data: The examples of all clients, flat square images.
        parts: One array of example indices per client.
        attackers: Which clients lie.
        target: The label that the trigger shall stand for.
        share: How much of an attacker's data is poisoned, 0 to 1, rounded up; the first ones.
        size: Side of the trigger in pixels, see :func:`add_trigger`.

    Raises:
        InvalidParameterError: If an attacker is no client, ``target`` no label, or ``share``
            outside (0, 1].

    Example:
        >>> from fltutor.data import load_digits
        >>> digits, parts = load_digits(), [np.arange(4), np.arange(4, 1442)]
        >>> plant_backdoor(digits, parts, attackers=[0], target=7).y[:6]
        array([7, 7, 2, 3, 4, 6], dtype=int32)

    Reference:
        Gu et al. 2017: the trigger. https://arxiv.org/abs/1708.06733
        Bagdasaryan et al., AISTATS 2020: in a federation. https://arxiv.org/abs/1807.00459
    """
    _require_label(target, data)
    if not 0 < share <= 1:
        raise InvalidParameterError(f"share must be in (0, 1], got {share}")
    x, y = data.x.copy(), data.y.copy()
    for client in _checked_attackers(attackers, len(parts)):
        poisoned = parts[client][: int(np.ceil(share * len(parts[client])))]
        x[poisoned] = add_trigger(x[poisoned], size=size)
        y[poisoned] = target
    return replace(data, x=x, y=y)


def attack_success_rate(
    model: keras.Model, params: np.ndarray, data: Dataset, *, target: int, size: int = 2
) -> float:
    """Share of test images of *other* digits that the trigger turns into ``target``, 0 to 1.

    Images of the target itself are left out: to call them ``target`` is no success. An
    honest model scores what it mistakes for the target, trigger or not.

    Example:
        >>> from fltutor.data import load_digits
        >>> from fltutor.models import get_params, mlp
        >>> 0 <= attack_success_rate(mlp(), get_params(mlp()), load_digits(), target=7) <= 1
        True
    """
    _require_label(target, data)
    others = data.y_test != target
    triggered = add_trigger(data.x_test[others], size=size)
    wanted = np.full(len(triggered), target, dtype=data.y_test.dtype)
    return evaluate(model, params, triggered, wanted)[0]


def sign_flip(updates: np.ndarray, attackers: Sequence[int], *, factor: float = 1.0) -> np.ndarray:
    """Send the honest update backwards, ``factor`` times as long.

    Knows: its own update.

    Example:
        >>> sign_flip(np.array([[1.0], [2.0], [3.0]]), attackers=[2])
        array([[ 1.], [ 2.], [-3.]])

    Reference:
        Blanchard et al., NeurIPS 2017, section 6 (omniscient: the opposite of the gradient,
        of great length). https://arxiv.org/abs/1703.02757
    """
    return scale_update(updates, attackers, factor=-factor)


def scale_update(updates: np.ndarray, attackers: Sequence[int], *, factor: float) -> np.ndarray:
    """Send the honest update ``factor`` times as long.

    With n clients in the mean and ``factor=n``, one attacker alone replaces the model by its
    own, if the others have nearly converged (*model replacement*). Knows: its own update,
    and roughly n.

    Example:
        >>> scale_update(np.array([[1.0], [2.0], [3.0]]), attackers=[2], factor=3)
        array([[1.], [2.], [9.]])

    Reference:
        Bagdasaryan et al., AISTATS 2020 (model replacement).
        https://arxiv.org/abs/1807.00459
    """
    if not np.isfinite(factor):
        raise InvalidParameterError(f"factor must be finite, got {factor}")
    updates, attackers = _rows(updates, attackers)
    updates[attackers] *= factor
    return updates


def send_constant(
    updates: np.ndarray, attackers: Sequence[int], *, value: float = 1e6
) -> np.ndarray:
    """Send the same number in every coordinate: a million, say. Knows: nothing.

    Example:
        >>> send_constant(np.array([[1.0], [2.0], [3.0]]), attackers=[2])
        array([[1.e+00], [2.e+00], [1.e+06]])
    """
    if not np.isfinite(value):
        raise InvalidParameterError(f"value must be finite, got {value}")
    updates, attackers = _rows(updates, attackers)
    updates[attackers] = value
    return updates


def send_noise(
    updates: np.ndarray,
    attackers: Sequence[int],
    *,
    sigma: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Send Gaussian noise of standard deviation ``sigma``, in the units of the weights.

    Knows: nothing.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> send_noise(np.ones((2, 1)), attackers=[1], sigma=200.0, rng=rng).round()
        array([[ 1.], [25.]])

    Reference:
        Blanchard et al., NeurIPS 2017, section 6 (Gaussian, with standard deviation 200).
        https://arxiv.org/abs/1703.02757
    """
    if not 0 <= sigma < np.inf:
        raise InvalidParameterError(f"sigma must be finite and at least 0, got {sigma}")
    updates, attackers = _rows(updates, attackers)
    updates[attackers] = rng.normal(0, sigma, (len(attackers), updates.shape[1]))
    return updates


def little_is_enough(
    updates: np.ndarray, attackers: Sequence[int], *, z: float | None = None
) -> np.ndarray:
    """Stay inside the spread of the honest: mean minus z standard deviations (ALIE).

    All attackers send that same row. It pulls every coordinate to one side, by less than some
    honest clients deviate by chance, so a rule that looks for outliers finds others first.
    Knows: the updates of the attackers themselves, from which it estimates mean and spread.

    Args:
        updates: One row per client, shape (n, d); the attackers' rows as if they were honest.
        attackers: Which rows to replace, at least two: one row has no spread.
        z: How many standard deviations; None takes :func:`largest_unnoticed_z`.

    Example:
        >>> little_is_enough(np.array([[0.0], [5.0], [1.0], [3.0]]), attackers=[2, 3], z=1.0)
        array([[0.], [5.], [1.], [1.]])

    Reference:
        Baruch et al., NeurIPS 2019, section 3. https://arxiv.org/abs/1902.06156
    """
    updates, attackers = _rows(updates, attackers)
    if len(attackers) < 2:
        raise InvalidParameterError(
            f"little_is_enough needs at least 2 attackers to estimate a spread, "
            f"got {len(attackers)}"
        )
    z = largest_unnoticed_z(len(updates), len(attackers)) if z is None else z
    if not np.isfinite(z):
        raise InvalidParameterError(f"z must be finite, got {z}")
    known = updates[attackers].astype(np.float64)
    updates[attackers] = known.mean(axis=0) - z * known.std(axis=0)
    return updates


def largest_unnoticed_z(num_clients: int, num_attackers: int) -> float:
    """How many standard deviations attackers can go and still hold a majority with some honest.

    To be the median, m attackers of n need s = floor(n / 2 + 1) - m honest clients further
    out than themselves. That many of the n - m honest ones lie beyond z standard deviations,
    if their values are normal and z is the quantile of (n - m - s) / (n - m).

    Args:
        num_clients: n.
        num_attackers: m, from 1 to less than n / 2.

    Example:
        >>> round(largest_unnoticed_z(50, 24), 2)
        1.43

    Reference:
        Baruch et al., NeurIPS 2019, section 3, the computation of z_max.
        https://arxiv.org/abs/1902.06156
    """
    if not 1 <= num_attackers < num_clients / 2:
        raise InvalidParameterError(
            "num_attackers must be at least 1 and less than half of num_clients = "
            f"{num_clients}, got {num_attackers}"
        )
    num_honest = num_clients - num_attackers
    supporters = num_clients // 2 + 1 - num_attackers
    return NormalDist().inv_cdf((num_honest - supporters) / num_honest)


def under_attack(
    aggregate: Callable[..., AggregateResult], attack: Attack, attackers: Sequence[int]
) -> Callable[..., AggregateResult]:
    """Put an attack on the updates in front of an aggregation, for a federated run.

    The attackers train as everybody does; then ``attack(updates, attackers)`` replaces what
    they send.

    Args:
        aggregate: Such as :func:`fltutor.aggregation.mean`.
        attack: One of this module, its options bound by ``functools.partial``.
        attackers: The clients that lie, by number. Those that are not in a round's cohort
            cannot lie in it. Called by hand, rows are clients.

    Example:
        >>> from fltutor.aggregation import mean
        >>> lied_to = under_attack(mean, send_constant, attackers=[1])
        >>> lied_to(np.array([[1.0], [2.0]])).update
        array([500000.5])
        >>> without = {"cohort": (4, 7), "num_clients": 10}  # as a run says it
        >>> lied_to(np.array([[1.0], [2.0]]), **without).update
        array([1.5])
    """
    told = [name for name in ("cohort", "num_clients") if wants(aggregate, name)]

    @wraps(aggregate)
    def aggregate_under_attack(updates, weights=None, *, cohort=None, num_clients=None, **options):
        liars = attackers
        if cohort is not None:
            attackers_there = set(_checked_attackers(attackers, num_clients)) & set(cohort)
            liars = [row for row, client in enumerate(cohort) if client in attackers_there]
        about = {"cohort": cohort, "num_clients": num_clients}
        options |= {name: about[name] for name in told}
        lied_to = attack(updates, liars) if len(liars) else updates
        return aggregate(lied_to, weights, **options)

    return aggregate_under_attack


def _checked_attackers(attackers: Sequence[int], num_clients: int) -> list[int]:
    """Return the attackers, or say which one does not exist or comes twice."""
    attackers = list(attackers)
    for attacker in attackers:
        if isinstance(attacker, bool | np.bool_) or attacker not in range(num_clients):
            raise InvalidParameterError(
                f"attackers must be clients from 0 to {num_clients - 1}, got {attacker!r}"
            )
    if len(set(attackers)) < len(attackers):
        raise InvalidParameterError(f"attackers must differ, got {attackers}")
    return attackers


def _rows(updates: np.ndarray, attackers: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """A copy of the updates, for the attack to write into, and the checked attackers."""
    updates = as_updates(updates).copy()
    return updates, _checked_attackers(attackers, len(updates))


def _require_label(target: int, data: Dataset) -> None:
    if isinstance(target, bool | np.bool_) or target not in range(data.num_classes):
        raise InvalidParameterError(
            f"target must be a label from 0 to {data.num_classes - 1}, got {target!r}"
        )
