"""Notebook 13: a federation with liars, one rule against one attack, and a look at the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import islice

import numpy as np

from fltutor.aggregation import (
    AggregateResult,
    bulyan,
    bulyan_choice,
    geometric_median,
    krum,
    krum_choice,
    mean,
    median,
    multi_krum,
    norm_bounded_mean,
    robust_aggregate,
    trimmed_mean,
)
from fltutor.attacks import (
    attack_success_rate,
    flip_labels,
    little_is_enough,
    plant_backdoor,
    scale_update,
    send_constant,
    sign_flip,
    under_attack,
)
from fltutor.data import Dataset, load_digits, partition_dirichlet
from fltutor.errors import InvalidUpdateError
from fltutor.models import mlp
from fltutor.simulation import Round, federated_rounds
from fltutor.tensorflow_quietly import keras

CLIENTS = 15
ROUNDS = 12
LEARNING_RATE = 0.3
MAX_NORM = 1.0
TARGET = 7
"""The label that the backdoor's trigger stands for."""
FAR = 3.0
"""Rows further from the median row than this many typical distances are drawn nearer."""

RULES: dict[str, Callable[[int, int], Callable[[np.ndarray], np.ndarray]]] = {
    "mean": lambda n, f: lambda rows: mean(rows).update,
    "median": lambda n, f: median,
    "trimmed mean": lambda n, f: partial(trimmed_mean, num_trimmed=f),
    "Krum": lambda n, f: partial(krum, num_byzantine=f),
    "multi-Krum": lambda n, f: partial(multi_krum, num_byzantine=f, num_selected=n - f),
    "Bulyan": lambda n, f: partial(bulyan, num_byzantine=f),
    "geometric median": lambda n, f: geometric_median,
    "norm bound": lambda n, f: partial(norm_bounded_mean, max_norm=MAX_NORM),
}
"""By name: from the number of clients and of suspected liars to a rule."""

ATTACKS = {
    "none": None,
    "a million": send_constant,
    "sign flip x 10": partial(sign_flip, factor=10.0),
    "label flip": None,
    "ALIE, z = 1.5": partial(little_is_enough, z=1.5),
    "ALIE, largest z": little_is_enough,
    "backdoor": None,
    "backdoor x 5": partial(scale_update, factor=5.0),
}
"""By name: what liars do to their rows; label flips and backdoors change their data."""


@dataclass(frozen=True)
class RowsView:
    """The rows of one round in a plane: along the two directions in which they differ most.

    Attributes:
        places: Shape (n, 2), in the units of the weights; the median row is the origin.
        far: Which rows are really further away, and drawn nearer, shape (n,).
        liars: Which rows lie, shape (n,).
        chosen: Which rows the rule averages, shape (n,); all False if it mixes all of them.
        aggregate: Where the aggregate is, shape (2,).
        aggregate_far: Whether that is really further away.
    """

    places: np.ndarray = field(repr=False)
    far: np.ndarray = field(repr=False)
    liars: np.ndarray = field(repr=False)
    chosen: np.ndarray = field(repr=False)
    aggregate: np.ndarray = field(repr=False)
    aggregate_far: bool


@dataclass(frozen=True)
class LiarsRun:
    """A federation with liars, as far as it has come.

    Attributes:
        accuracy: Test accuracy after 0, 1, 2, ... rounds, 0 to 1.
        success: How often the trigger works after each round, 0 to 1; None without a backdoor.
        honest_accuracy: What the mean reaches without any liar, after each of all rounds.
        view: The rows of the last round; None before the first.
        settings: The settings in words.
        diverged: Whether training ended because weights were no longer numbers.
    """

    accuracy: np.ndarray = field(repr=False)
    success: np.ndarray | None = field(repr=False)
    honest_accuracy: np.ndarray = field(repr=False)
    view: RowsView | None = field(repr=False)
    settings: str
    diverged: bool = False


def liars_run(
    attackers: int = 3,
    attack: str = "sign flip x 10",
    rule: str = "median",
    num_byzantine: int = 3,
    alpha: float = 100.0,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Iterator[LiarsRun]:
    """Train with liars among the clients and a rule against them; yield after each round.

    Args:
        attackers: How many of the 15 clients lie: the last ones.
        attack: A name of ``ATTACKS``.
        rule: A name of ``RULES``.
        num_byzantine: How many liars the rule is told to expect.
        alpha: How alike the clients' data are, see :func:`fltutor.data.partition_dirichlet`.
        seed: Seed of the split and the shuffles.
        rounds: How many rounds.

    Raises:
        InvalidParameterError: If the rule cannot stand so many liars, or the attack needs more.

    Example:
        >>> *_, run = liars_run(attackers=1, attack="a million", rule="mean", rounds=2)
        >>> bool(run.accuracy[-1] < 0.5 < run.honest_accuracy[-1])
        True
    """
    liars = range(CLIENTS - attackers, CLIENTS)
    seen: dict[str, np.ndarray] = {}
    honest_accuracy = _honest_accuracy(alpha, seed, rounds)
    settings = (
        f"{attackers} of {CLIENTS} clients lie ({attack}), {rule} told to expect "
        f"{num_byzantine}, alpha {alpha:g}"
    )
    backdoor = "backdoor" in attack
    accuracy, success, view = [], [], None
    running = federation(liars, attack, rule, num_byzantine, alpha, seed=seed, seen=seen)
    try:
        for latest in islice(running, rounds + 1):
            accuracy.append(latest.accuracy)
            if backdoor:
                success.append(
                    attack_success_rate(_model(), latest.params, load_digits(), target=TARGET)
                )
            if not latest.number:
                continue  # a rule that refuses the setting should say so before anything shows
            chosen = _chosen(rule, seen["rows"], num_byzantine)
            view = view_rows(seen["rows"], liars, chosen, seen["update"])
            yield LiarsRun(
                np.array(accuracy),
                np.array(success) if backdoor else None,
                honest_accuracy,
                view,
                settings,
            )
    except InvalidUpdateError:
        rates = np.array(success) if backdoor else None
        yield LiarsRun(np.array(accuracy), rates, honest_accuracy, view, settings, diverged=True)


def federation(
    liars: Sequence[int],
    attack: str,
    rule: str,
    num_byzantine: int,
    alpha: float,
    *,
    clients: int = CLIENTS,
    seed: int = 0,
    seen: dict[str, np.ndarray] | None = None,
) -> Iterator[Round]:
    """Train without end on the digits, with liars among the clients; yield each round.

    Args:
        liars: Numbers of the clients that lie.
        attack: A name of ``ATTACKS``.
        rule: A name of ``RULES``.
        num_byzantine: How many liars the rule is told to expect.
        alpha: How alike the clients' data are.
        clients: How many clients share the digits.
        seed: Seed of the split and the shuffles.
        seen: Filled with the rows and the aggregate of the last round, if given.

    Example:
        >>> rounds = federation([9], "a million", "median", 1, alpha=100.0, clients=10)
        >>> next(rounds).number, next(rounds).number
        (0, 1)
    """
    digits = load_digits()
    parts = partition_dirichlet(digits.y, clients, alpha, np.random.default_rng(seed))
    aggregate = partial(robust_aggregate, rule=RULES[rule](clients, num_byzantine))

    def watched(updates: np.ndarray, weights: None = None) -> AggregateResult:
        result = aggregate(updates, weights)
        if seen is not None:
            seen["rows"], seen["update"] = updates, result.update
        return result

    update_attack = ATTACKS[attack]
    return federated_rounds(
        _model(),
        _poisoned(digits, parts, liars, attack),
        parts,
        learning_rate=LEARNING_RATE,
        seed=seed,
        weigh_by_examples=False,
        aggregate=under_attack(watched, update_attack, liars)
        if update_attack and len(liars)
        else watched,
    )


def final_accuracy(
    liars: Sequence[int],
    attack: str,
    rule: str,
    num_byzantine: int,
    alpha: float,
    *,
    clients: int = CLIENTS,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> tuple[float, float]:
    """Test accuracy after so many rounds, and how often the trigger works then; both 0 to 1.

    A run whose weights are no longer numbers counts as guessing: a tenth, and no success.
    Arguments as in :func:`federation`.

    Example:
        >>> accuracy, _ = final_accuracy([], "none", "mean", 0, alpha=100.0, rounds=3)
        >>> accuracy > 0.7
        True
    """
    running = federation(liars, attack, rule, num_byzantine, alpha, clients=clients, seed=seed)
    try:
        *_, last = islice(running, rounds + 1)
    except InvalidUpdateError:
        return 0.1, 0.0
    success = attack_success_rate(_model(), last.params, load_digits(), target=TARGET)
    return last.accuracy, success


def view_rows(
    rows: np.ndarray, liars: Sequence[int], chosen: Sequence[int], update: np.ndarray
) -> RowsView:
    """Lay rows into the plane of their two largest principal components.

    Args:
        rows: What the clients sent, shape (n, d).
        liars: Which of them lie; only the picture knows.
        chosen: Which rows the rule averages, empty if it mixes all of them.
        update: The aggregate, shape (d,).

    Example:
        >>> rows = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0], [1e6, 0.0]])
        >>> view = view_rows(rows, liars=[4], chosen=[], update=np.zeros(2))
        >>> view.far, np.abs(view.places[4]).round(3)
        (array([False, False, False, False,  True]), array([3., 0.]))
    """
    centre = median(rows)
    away = np.vstack([rows.astype(np.float64), update]) - centre
    lengths = np.linalg.norm(away, axis=1)
    limit = FAR * np.median(lengths[:-1])
    shrunk = away.copy()
    shrunk[lengths > limit] *= limit / lengths[lengths > limit, None]
    directions = np.linalg.svd(shrunk[:-1], full_matrices=False)[2][:2]
    directions *= np.sign(
        directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    )[:, None]  # the sign of a direction is free: fix it, so that rounds resemble each other
    places = shrunk @ directions.T
    members = np.arange(len(rows))
    far = lengths > limit
    return RowsView(
        places[:-1],
        far[:-1],
        np.isin(members, list(liars)),
        np.isin(members, list(chosen)),
        places[-1],
        bool(far[-1]),
    )


def _poisoned(
    digits: Dataset, parts: Sequence[np.ndarray], liars: Sequence[int], attack: str
) -> Dataset:
    if attack == "label flip":
        return flip_labels(digits, parts, liars)
    if "backdoor" in attack:
        return plant_backdoor(digits, parts, liars, target=TARGET)
    return digits


def _chosen(rule: str, rows: np.ndarray, num_byzantine: int) -> tuple[int, ...]:
    if rule == "Krum":
        return krum_choice(rows, num_byzantine)
    if rule == "multi-Krum":
        return krum_choice(rows, num_byzantine, len(rows) - num_byzantine)
    if rule == "Bulyan":
        return bulyan_choice(rows, num_byzantine)
    return ()


@lru_cache(maxsize=64)
def _honest_accuracy(alpha: float, seed: int, rounds: int) -> np.ndarray:
    running = federation((), "none", "mean", 0, alpha, seed=seed)
    return np.array([latest.accuracy for latest in islice(running, rounds + 1)])


@cache
def _model() -> keras.Model:
    """One model for every run: what is compiled for it stays compiled."""
    return mlp(seed=13)
