"""What a lying client does: to its labels, to its images, or to the update it sends.

Data poisoning gives a :class:`~fltutor.data.Dataset` in which the attackers' examples are
changed; they then train as everybody does. Update poisoning changes rows between training and
aggregation: an attack is ``attack(updates, attackers)``, and :func:`under_attack` puts it in
front of any aggregation. Each says what the attackers must know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import wraps
from math import ceil
from statistics import NormalDist

import numpy as np

from fltutor.aggregation import AggregateResult
from fltutor.aggregation.arguments import wants
from fltutor.border import as_generator, as_real, as_whole, not_finite, shown
from fltutor.data import Dataset, as_examples, as_parts
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
        parts: One array of example indices, or one mask, per client.
        attackers: Which clients lie.
        shift: How many labels further.

    Returns:
        The same data with other labels at the attackers; test labels stay as they are.

    Raises:
        InvalidParameterError: If an attacker is no client, parts name examples that do not
            exist, or ``shift`` changes no label.

    Example:
        >>> from fltutor.data import load_digits
        >>> digits, parts = load_digits(), [np.arange(5), np.arange(5, 1442)]
        >>> digits.y[:7], flip_labels(digits, parts, attackers=[0]).y[:7]
        (array([0, 1, 2, 3, 4, 6, 7], dtype=int32), array([1, 2, 3, 4, 5, 6, 7], dtype=int32))
    """
    further = as_whole("shift", shift) % data.num_classes
    if further == 0:
        raise InvalidParameterError(f"shift must change a label, got {shown(shift)}")
    parts, y = as_parts(parts, len(data.y), allow_empty=True), data.y.copy()
    for client in _checked_attackers(attackers, len(parts)):
        y[parts[client]] = (y[parts[client]] + further) % data.num_classes
    return replace(data, y=y)


def add_trigger(images: np.ndarray, *, size: int = 2, white: float | None = None) -> np.ndarray:
    """Paint a white square into the lower right corner of square images.

    Args:
        images: Flat square images with pixels from 0 on, such as 0 to 1 or 0 to 255,
            shape (n, side * side).
        size: Side of the square in pixels.
        white: How bright the square is. None takes the brightest pixel of the images, at
            least 1.

    Returns:
        A copy in the dtype of the images.

    Raises:
        InvalidParameterError: If the images are not flat and square, hold NaN or Inf, or their
            dtype cannot hold ``white``; or ``size`` is out of range.

    Example:
        >>> add_trigger(np.zeros((1, 9)), size=1).reshape(3, 3)
        array([[0., 0., 0.],
               [0., 0., 0.],
               [0., 0., 1.]])
        >>> add_trigger(np.uint8([[0, 9, 255, 9]]), size=1)
        array([[  0,   9, 255, 255]], dtype=uint8)
    """
    images = as_examples("images", images).copy()
    side = round(images.shape[-1] ** 0.5)
    if images.ndim != 2 or side * side != images.shape[1]:
        raise InvalidParameterError(
            f"images must be flat and square, shape (n, side * side), got {images.shape}"
        )
    size = as_whole("size", size)
    if not 1 <= size <= side:
        raise InvalidParameterError(f"size must be from 1 to the side {side}, got {size}")
    if bad := not_finite(images):
        raise InvalidParameterError(f"images must be finite, got {bad}")
    white = max(1.0, float(images.max())) if white is None else as_real("white", white, above=0)
    with np.errstate(over="ignore", invalid="ignore"):
        painted = float(np.asarray(white).astype(images.dtype))
    if not abs(painted - white) <= 1e-3 * white:  # a boolean or a whole number holds no half
        raise InvalidParameterError(f"white must fit {images.dtype}, got {white}")
    images.reshape(-1, side, side)[:, -size:, -size:] = white
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
    target = _as_target(target, data)
    share = as_real("share", share, above=0, most=1)
    parts, x, y = as_parts(parts, len(data.y), allow_empty=True), data.x.copy(), data.y.copy()
    for client in _checked_attackers(attackers, len(parts)):
        poisoned = parts[client][: _rounded_up(share, len(parts[client]))]
        if len(poisoned):
            spoilt = poisoned[~np.isfinite(x[poisoned]).reshape(len(poisoned), -1).all(axis=1)]
            if len(spoilt):
                raise InvalidParameterError(
                    f"images must be finite, and example {spoilt[0]} of x holds NaN or Inf"
                )
            x[poisoned] = add_trigger(x[poisoned], size=size, white=_white(data))
            y[poisoned] = target
    return replace(data, x=x, y=y)


def _rounded_up(share: float, number: int) -> int:
    """A share of a number; 0.07 of 100 is 7, also where the floats make it a bit more."""
    return ceil(share * number * (1 - 1e-12))


def attack_success_rate(
    model: keras.Model, params: np.ndarray, data: Dataset, *, target: int, size: int = 2
) -> float:
    """Share of test images of *other* digits that the trigger turns into ``target``, 0 to 1.

    Images of the target itself are left out: to call them ``target`` is no success. An
    honest model scores what it mistakes for the target, trigger or not.

    Raises:
        InvalidParameterError: If ``target`` is no label, or all test images are of it.

    Example:
        >>> from fltutor.data import load_digits
        >>> from fltutor.models import get_params, mlp
        >>> 0 <= attack_success_rate(mlp(), get_params(mlp()), load_digits(), target=7) <= 1
        True
    """
    target = _as_target(target, data)
    others = data.y_test != target
    if not others.any():
        raise InvalidParameterError(f"needed test images of other labels than {target}, got none")
    triggered = add_trigger(data.x_test[others], size=size, white=_white(data))
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
    return scale_update(updates, attackers, factor=-as_real("factor", factor))


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
    factor = as_real("factor", factor)
    updates, attackers = _rows(updates, attackers)
    with np.errstate(over="ignore"):
        lies = updates[attackers].astype(np.float64) * factor
    return _with_lies(updates, attackers, lies)


def send_constant(
    updates: np.ndarray, attackers: Sequence[int], *, value: float = 1e6
) -> np.ndarray:
    """Send the same number in every coordinate: a million, say. Knows: nothing.

    Example:
        >>> send_constant(np.array([[1.0], [2.0], [3.0]]), attackers=[2])
        array([[1.e+00], [2.e+00], [1.e+06]])
    """
    value = as_real("value", value)
    updates, attackers = _rows(updates, attackers)
    return _with_lies(updates, attackers, np.full((len(attackers), updates.shape[1]), value))


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
    sigma, rng = as_real("sigma", sigma, least=0), as_generator("rng", rng)
    updates, attackers = _rows(updates, attackers)
    noise = rng.normal(0, sigma, (len(attackers), updates.shape[1]))
    return _with_lies(updates, attackers, noise)


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
    z = largest_unnoticed_z(len(updates), len(attackers)) if z is None else as_real("z", z)
    known = updates[attackers].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lie = known.mean(axis=0) - z * known.std(axis=0)
    return _with_lies(updates, attackers, np.tile(lie, (len(attackers), 1)))


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
    num_clients = as_whole("num_clients", num_clients, least=1)
    num_attackers = as_whole("num_attackers", num_attackers)
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
    if not isinstance(attackers, Iterable):
        raise InvalidParameterError(f"attackers must be a list of clients, got {attackers!r}")
    attackers = list(attackers)  # a generator would give them once
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
    if not isinstance(attackers, Iterable):
        raise InvalidParameterError(f"attackers must be a list of clients, got {attackers!r}")
    attackers = [
        as_whole("each of the attackers", attacker, least=0, most=num_clients - 1)
        for attacker in attackers
    ]
    if len(set(attackers)) < len(attackers):
        raise InvalidParameterError(f"attackers must differ, got {attackers}")
    return attackers


def _rows(updates: np.ndarray, attackers: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """The updates as they are sent, float32 at least, and the checked attackers."""
    updates = as_updates(updates)
    sent = updates.astype(np.promote_types(updates.dtype, np.float32))
    return sent, _checked_attackers(attackers, len(sent))


def _with_lies(updates: np.ndarray, attackers: list[int], lies: np.ndarray) -> np.ndarray:
    """Put the attackers' rows in; refuse a lie that no float of the updates can tell.

    A row that came with NaN or Inf stays as bad as it was: the aggregation names its client.
    """
    honest = np.isfinite(updates[attackers]).all()
    with np.errstate(over="ignore"):
        updates[attackers] = lies
    if honest and (bad := not_finite(updates[attackers])):
        raise InvalidParameterError(f"the attackers' rows must be finite, got {bad}")
    return updates


def _white(data: Dataset) -> float:
    """The brightest pixel there is, at least 1: the same trigger in training and in the test."""
    return max(1.0, float(data.x.max()), float(data.x_test.max()))


def _as_target(target: int, data: Dataset) -> int:
    return as_whole("target", target, least=0, most=data.num_classes - 1)
