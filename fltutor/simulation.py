"""Federated training, round after round, on real data and real protocols."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fltutor.aggregation import AggregateResult, mean
from fltutor.clients import control_changes, local_batches, train_cohort
from fltutor.data import Dataset
from fltutor.errors import BudgetExceededError, InvalidParameterError, InvalidUpdateError
from fltutor.models import get_params, params_spec, require_trainable_by_sgd
from fltutor.privacy.accounting import PrivacySpent
from fltutor.progress import progress_bar
from fltutor.server_optimizers import ServerOptimizer, sgd
from fltutor.tensorflow_quietly import keras, tf
from fltutor.transcript import SERVER


@dataclass(frozen=True)
class ControlVariates:
    """What SCAFFOLD remembers between rounds; all zero before the first.

    Attributes:
        server: The server's c, shape (d,): the mean of all clients' c_i.
        clients: The c_i of each client that has taken part, by its number. In a real
            federation each stays on its client; a simulation has them in one place.
    """

    server: np.ndarray
    clients: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class ServerState:
    """All that is carried from one round to the next.

    Attributes:
        params: Weights of the global model, shape (d,).
        optimizer_state: Whatever the server optimizer keeps.
        round_number: Rounds done so far.
        controls: The control variates of SCAFFOLD; None before its first round, and
            without it.
    """

    params: np.ndarray
    optimizer_state: Any
    round_number: int = 0
    controls: ControlVariates | None = None


@dataclass(frozen=True)
class Round:
    """What one round did, and how good the global model is after it.

    Attributes:
        number: 0 is the untrained model; round t is the t-th training round.
        params: Weights after the round, shape (d,).
        accuracy: Share of test examples classified right, 0 to 1.
        loss: Mean cross-entropy on the test examples, in nats.
        cohort: The clients that took part.
        included: Those of them whose upload arrived.
        bytes_up: Bytes the server received.
        bytes_down: Bytes it sent: the model, one float32 vector per client of the cohort,
            and under SCAFFOLD its control variate, another one.
        seconds: Wall-clock time of the round.
        clip_norm: The L2 norm that updates were clipped to; None if they were not.
        spent: What the privacy budget said after the round; None without a budget.
        demonstration: True if its noise came from a seeded generator.
    """

    number: int
    params: np.ndarray = field(repr=False)
    accuracy: float
    loss: float
    cohort: tuple[int, ...] = ()
    included: tuple[int, ...] = ()
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    clip_norm: float | None = None
    spent: PrivacySpent | None = None
    demonstration: bool = False


@dataclass
class History:
    """The rounds of one run, from the untrained model on.

    ``interrupted`` is True if the run was stopped by hand, ``out_of_budget`` if the privacy
    budget refused the next round; the rounds done are here.
    """

    rounds: list[Round]
    interrupted: bool = False
    out_of_budget: bool = False

    @property
    def accuracy(self) -> np.ndarray:
        """Test accuracy after 0, 1, 2, ... rounds."""
        return np.array([r.accuracy for r in self.rounds])

    @property
    def loss(self) -> np.ndarray:
        """Test loss after 0, 1, 2, ... rounds, in nats."""
        return np.array([r.loss for r in self.rounds])

    @property
    def megabytes(self) -> np.ndarray:
        """Traffic in both directions up to each round, in 10^6 bytes."""
        return np.cumsum([r.bytes_up + r.bytes_down for r in self.rounds]) / 1e6

    @property
    def params(self) -> np.ndarray:
        """Weights of the last model, shape (d,)."""
        return self.rounds[-1].params

    def rounds_to(self, accuracy: float) -> int | None:
        """First round after which the test accuracy is at least ``accuracy``; None if never."""
        reached = np.flatnonzero(self.accuracy >= accuracy)
        return int(reached[0]) if reached.size else None


def run_round(
    state: ServerState,
    cohort: Sequence[int],
    *,
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    learning_rate: float,
    rng: np.random.Generator,
    batch_size: int = 10,
    local_epochs: int = 1,
    weigh_by_examples: bool = True,
    aggregate: Callable[..., AggregateResult] = mean,
    server_optimizer: ServerOptimizer | None = None,
    proximal_mu: float = 0.0,
    scaffold: bool = False,
) -> tuple[ServerState, AggregateResult]:
    """Train the cohort locally, aggregate, and let the server take one step.

    SCAFFOLD is one sum, too. A client sends [update | change of c_i], 2d numbers, in one
    row, so every protocol can add them. The server steps by the mean of the first halves
    and moves c by the mean of the second, times the share of the clients that sent one. A
    client whose upload is lost keeps its old c_i, so that c stays the mean of all c_i.

    Args:
        state: Where the server stands.
        cohort: Numbers of the clients that take part, in row order.
        model: Gives the architecture; its own weights are not used.
        data: The examples of all clients.
        parts: One array of example indices per client of the federation.
        learning_rate: Step size of the clients' SGD.
        rng: Source of the clients' shuffles.
        batch_size: Examples in a local batch.
        local_epochs: Passes over its data that each client makes.
        weigh_by_examples: Weigh a client by its number of examples, or all alike.
        aggregate: ``aggregate(updates, weights)``, such as :func:`fltutor.aggregation.mean`
            with its protocol bound by ``functools.partial``.
        server_optimizer: What the server does with the aggregate; None adds it (FedAvg).
        proximal_mu: FedProx, as in :func:`fltutor.clients.train_cohort`; 0 is without.
        scaffold: Correct the clients' drift by control variates. All clients count
            alike, as in the paper, so ``weigh_by_examples`` must be False.

    Returns:
        The next state, and what the aggregation saw. ``included`` in it counts rows of
        the cohort. Under SCAFFOLD its ``update`` has 2d coordinates.

    Raises:
        InvalidParameterError: If ``scaffold`` comes with example weights, ``proximal_mu``, or
            an aggregate that clips rows; no paper says what they mean together. The
            last is known, and refused, once the rows were added.

    Reference:
        McMahan et al., AISTATS 2017, Algorithm 1. https://arxiv.org/abs/1602.05629
        Karimireddy et al., ICML 2020, Algorithm 1, option II. https://arxiv.org/abs/1910.06378
    """
    server_optimizer = server_optimizer or sgd(1.0)
    own = [parts[client] for client in cohort]
    weights = [len(part) for part in own] if weigh_by_examples else None
    controls = _checked_controls(state, scaffold, weights, proximal_mu)
    if own:
        batches = local_batches(own, batch_size=batch_size, local_epochs=local_epochs, rng=rng)
        rows = train_cohort(
            model,
            state.params,
            data.x,
            data.y,
            batches,
            learning_rate,
            proximal_mu=proximal_mu,
            corrections=controls and _corrections(controls, cohort),
        )
        if controls:
            steps = [len(batch) for batch in batches]
            changes = control_changes(rows, controls.server, steps, learning_rate)
            rows = np.hstack([rows, changes])
    else:
        rows = np.empty((0, (2 if controls else 1) * len(state.params)), dtype=np.float32)
    result = aggregate(rows, weights)
    update = result.update
    if controls:
        update, change = _halves(result, rows.shape[1])
    params, optimizer_state = server_optimizer.apply(state.params, update, state.optimizer_state)
    if controls:
        sent = {int(cohort[row]): changes[row] for row in result.included}
        controls = _moved(controls, sent, len(sent) / len(parts) * change)
    return ServerState(params, optimizer_state, state.round_number + 1, controls), result


def _checked_controls(
    state: ServerState, scaffold: bool, weights: list[int] | None, proximal_mu: float
) -> ControlVariates | None:
    """The control variates to use in a round: zeros in the first, None without SCAFFOLD."""
    if not scaffold:
        return None
    if weights is not None:
        raise InvalidParameterError(
            "SCAFFOLD counts all clients alike and takes no example weights: needed "
            "weigh_by_examples=False, got True"
        )
    if proximal_mu:
        raise InvalidParameterError(
            f"SCAFFOLD reads gradients off the steps, and FedProx would be in them: needed "
            f"proximal_mu=0, got {proximal_mu}"
        )
    return state.controls or ControlVariates(np.zeros(len(state.params), np.float32), {})


def _halves(result: AggregateResult, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean update and the mean change of the control variates, each (d,)."""
    if result.clip_norm is not None:
        raise InvalidParameterError(
            "SCAFFOLD needs an aggregate that leaves rows as they are, got one that clips them "
            f"to {result.clip_norm:g}: its control variate would no longer be the clients' mean"
        )
    if np.shape(result.update) != (size,):
        raise InvalidUpdateError(
            f"the aggregate of rows of {size} numbers must have as many, got shape "
            f"{np.shape(result.update)}"
        )
    return np.split(result.update, 2)


def _corrections(controls: ControlVariates, cohort: Sequence[int]) -> np.ndarray:
    """c - c_i for each client of the cohort, (n, d)."""
    nothing = np.zeros_like(controls.server)
    return controls.server - np.stack(
        [controls.clients.get(int(client), nothing) for client in cohort]
    )


def _moved(
    controls: ControlVariates, changes: Mapping[int, np.ndarray], server_change: np.ndarray
) -> ControlVariates:
    """New control variates; the old ones stay as they were."""
    moved = {client: controls.clients.get(client, 0) + change for client, change in changes.items()}
    server = (controls.server + server_change).astype(controls.server.dtype)
    return ControlVariates(server, {**controls.clients, **moved})


def federated_rounds(
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    *,
    learning_rate: float,
    seed: int = 0,
    start: np.ndarray | None = None,
    client_fraction: float = 1.0,
    poisson_sampling: bool = False,
    batch_size: int = 10,
    local_epochs: int = 1,
    weigh_by_examples: bool = True,
    aggregate: Callable[..., AggregateResult] = mean,
    server_optimizer: ServerOptimizer | None = None,
    proximal_mu: float = 0.0,
    scaffold: bool = False,
) -> Iterator[Round]:
    """Train without end, yielding each round; the first is the untrained model.

    Take as many rounds as you like with ``itertools.islice``, or stop at any time.
    :func:`run_federated` is the usual way in.

    Args:
        model: Gives the architecture and, unless ``start`` does, the starting point.
        data: The examples of all clients, and the test examples.
        parts: One array of example indices per client, from :mod:`fltutor.data`.
        learning_rate: Step size of the clients' SGD.
        seed: Seed of sampling and shuffling; equal seeds give equal runs on one machine.
        start: Weights to start from, shape (d,); None takes the model's own.
        client_fraction: Share of the clients in a round, 0 to 1. At least one takes part
            under fixed-size sampling.
        poisson_sampling: Each client takes part by its own coin toss with probability
            ``client_fraction``, as privacy accounting assumes. A round may then be empty:
            ``dp_mean`` covers that with noise, ``mean`` refuses it.
        batch_size: Examples in a local batch.
        local_epochs: Passes over its data that each client makes in a round.
        weigh_by_examples: Weigh a client by its number of examples, or all alike.
        aggregate: As in :func:`run_round`.
        server_optimizer: As in :func:`run_round`.
        proximal_mu: As in :func:`run_round`.
        scaffold: As in :func:`run_round`.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidParameterError: If ``client_fraction`` is outside (0, 1], or ``scaffold`` comes
            with example weights or ``proximal_mu``.
        InvalidUpdateError: If a client's training diverges to NaN or Inf.
    """
    if not 0 < client_fraction <= 1:
        raise InvalidParameterError(f"client_fraction must be in (0, 1], got {client_fraction}")
    server_optimizer = server_optimizer or sgd(1.0)
    rng = np.random.default_rng(seed)
    params = get_params(model) if start is None else np.array(start, dtype=np.float32)
    state = ServerState(params, server_optimizer.init(params))
    yield Round(0, params, *evaluate(model, params, data.x_test, data.y_test))
    while True:
        start = time.perf_counter()
        if poisson_sampling:
            cohort = np.flatnonzero(rng.random(len(parts)) < client_fraction)
        else:
            size = max(1, round(client_fraction * len(parts)))
            cohort = np.sort(rng.choice(len(parts), size, replace=False))
        state, result = run_round(
            state,
            cohort,
            model=model,
            data=data,
            parts=parts,
            learning_rate=learning_rate,
            rng=rng,
            batch_size=batch_size,
            local_epochs=local_epochs,
            weigh_by_examples=weigh_by_examples,
            aggregate=aggregate,
            server_optimizer=server_optimizer,
            proximal_mu=proximal_mu,
            scaffold=scaffold,
        )
        accuracy, loss = evaluate(model, state.params, data.x_test, data.y_test)
        yield Round(
            state.round_number,
            state.params,
            accuracy,
            loss,
            cohort=tuple(int(client) for client in cohort),
            included=tuple(int(cohort[row]) for row in result.included),
            bytes_up=result.transcript.bytes_sent(receiver=SERVER),
            bytes_down=len(cohort) * 4 * len(params) * (2 if scaffold else 1),
            seconds=time.perf_counter() - start,
            clip_norm=result.clip_norm,
            spent=result.spent,
            demonstration=result.demonstration,
        )


def run_federated(
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    *,
    rounds: int,
    progress: bool = False,
    **settings: Any,
) -> History:
    """Train for a number of rounds and keep what happened.

    Interrupting the running cell ends the run, and so does a privacy budget that refuses
    the next round; the rounds done are returned.

    Args:
        model: Gives the architecture and, by its weights, the starting point.
        data: The examples of all clients, and the test examples.
        parts: One array of example indices per client, from :mod:`fltutor.data`.
        rounds: How many rounds, at least 0.
        progress: Show a progress bar.
        settings: As in :func:`federated_rounds`: ``learning_rate``, ``seed``,
            ``client_fraction``, ``batch_size``, ``local_epochs``, ``aggregate``, ...

    Example:
        >>> from fltutor.data import load_digits, partition_iid
        >>> from fltutor.models import mlp
        >>> digits = load_digits()
        >>> parts = partition_iid(digits.y, 10, np.random.default_rng(0))
        >>> history = run_federated(mlp(), digits, parts, rounds=3, learning_rate=0.3)
        >>> len(history.rounds), bool(history.accuracy[3] > 0.8)
        (4, True)
    """
    if not isinstance(rounds, int | np.integer) or rounds < 0:
        raise InvalidParameterError(f"rounds must be a whole number of at least 0, got {rounds}")
    running = federated_rounds(model, data, parts, **settings)
    history = History([next(running)])
    try:
        for _ in progress_bar(range(int(rounds)), "rounds", show=progress):
            history.rounds.append(next(running))
    except KeyboardInterrupt:
        history.interrupted = True
    except BudgetExceededError:
        history.out_of_budget = True
    return history


def evaluate(
    model: keras.Model, params: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[float, float]:
    """Accuracy (0 to 1) and mean cross-entropy (nats) of the model with weights ``params``.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidUpdateError: If the weights are so large that an output is NaN or Inf.

    Example:
        >>> from fltutor.data import load_digits
        >>> from fltutor.models import mlp
        >>> digits, model = load_digits(), mlp()
        >>> accuracy, loss = evaluate(model, get_params(model), digits.x_test, digits.y_test)
        >>> accuracy < 0.3
        True
    """
    require_trainable_by_sgd(model)
    shapes = params_spec(model).shapes
    sizes = [int(np.prod(shape)) for shape in shapes]
    weights = [
        tf.reshape(part, shape)
        for part, shape in zip(
            tf.split(tf.constant(params, tf.float32), sizes), shapes, strict=True
        )
    ]
    logits = model.stateless_call(weights, [], tf.convert_to_tensor(x), training=False)[0].numpy()
    if not np.isfinite(logits).all():
        raise InvalidUpdateError(
            f"the model gives NaN or Inf with weights of up to {np.abs(params).max():.2g}: "
            "training has diverged; a smaller learning rate may help"
        )
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    accuracy = float((logits.argmax(axis=1) == y).mean())
    return accuracy, float(-log_probabilities[np.arange(len(y)), y].mean())
