"""Federated training, round after round, on real data and real protocols."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fltutor.aggregation import AdaptiveClip, AggregateResult, mean
from fltutor.aggregation.arguments import bound_in, takes, wants
from fltutor.border import as_generator, as_kind, as_real, as_whole
from fltutor.clients import control_changes, shuffled_batches, train_cohort
from fltutor.data import Dataset, as_examples, as_labels, as_parts
from fltutor.errors import (
    BudgetExceededError,
    FltutorError,
    InvalidParameterError,
    InvalidUpdateError,
)
from fltutor.models import checked_params, get_params, logits, require_trainable_by_sgd
from fltutor.privacy.accounting import PrivacySpent
from fltutor.privacy.budget import PrivacyBudget, require_covered
from fltutor.progress import progress_bar
from fltutor.protocols.encrypted import Sessions
from fltutor.server_optimizers import ServerOptimizer, sgd
from fltutor.tensorflow_quietly import keras
from fltutor.transcript import SERVER, Phase, as_dropped, uploaders

Dropped = Mapping[int, Phase] | Callable[[int], Mapping[int, Phase]]
"""Who leaves, and in which phase, by client number; or a function of the round that says so."""


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
        demonstration: True if its noise came from a seeded generator, or if ``spent`` counts
            a round, also one of an earlier run, whose noise or sampling did. Then ``spent`` is
            no claim: whoever knows the seed is not bound by it.
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

    Attributes:
        rounds: Those that were done; the first is the untrained model.
        stopped_by: Why the run ended before all its rounds were done: an error of this package,
            such as a client whose training diverged or a budget that refused the next round;
            or a ``KeyboardInterrupt``. None if it was not stopped.

    Example:
        >>> History([Round(0, np.zeros(2), 0.1, 2.3), Round(1, np.ones(2), 0.9, 0.4)])
        <History of 1 round, accuracy 0.900>
    """

    rounds: list[Round]
    stopped_by: FltutorError | KeyboardInterrupt | None = None

    def __repr__(self) -> str:
        done = len(self.rounds) - 1
        mark = ", a demonstration" if self.demonstration else ""
        reached = f"accuracy {self.rounds[-1].accuracy:.3f}" if self.rounds else "not begun"
        text = f"<History of {done} round{'s' * (done != 1)}, {reached}{mark}"
        if self.stopped_by is not None:
            text += f"; stopped by {type(self.stopped_by).__name__}"
            text += f": {self.stopped_by}" if str(self.stopped_by) else ""
        return text + ">"

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped by hand."""
        return isinstance(self.stopped_by, KeyboardInterrupt)

    @property
    def out_of_budget(self) -> bool:
        """Whether the privacy budget refused the next round."""
        return isinstance(self.stopped_by, BudgetExceededError)

    @property
    def demonstration(self) -> bool:
        """Whether a seed stands behind the noise or the charged sampling of a round."""
        return any(r.demonstration for r in self.rounds)

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
    dropped: Dropped | None = None,
) -> tuple[ServerState, AggregateResult]:
    """Train the cohort locally, aggregate, and let the server take one step.

    SCAFFOLD is one sum, too. A client sends [update | change of c_i], 2d numbers, in one
    row, so every protocol can add them. The server steps by the mean of the first halves
    and moves c by the mean of the second, times the share of the clients that sent one. A
    client whose upload is lost keeps its old c_i, so that c stays the mean of all c_i.

    Args:
        state: Where the server stands.
        cohort: Numbers of the clients that take part, in row order, each once.
        model: Gives the architecture; its own weights are not used.
        data: The examples of all clients.
        parts: One array of example indices per client of the federation.
        learning_rate: Step size of the clients' SGD.
        rng: Source of the clients' shuffles.
        batch_size: Examples in a local batch.
        local_epochs: Passes over its data that each client makes.
        weigh_by_examples: Weigh a client by its number of examples, or all alike.
        aggregate: ``aggregate(updates, weights)``, such as :func:`fltutor.aggregation.mean`
            with its protocol bound by ``functools.partial``. It sees rows, numbered from 0; one
            that takes an argument ``cohort`` is told whose they are, and one that takes
            ``num_clients``, how many clients there are in all. How the cohort was drawn is not
            known here: a privacy budget bound inside is charged by the sampling that it names,
            and whoever draws the cohorts answers for it.
        server_optimizer: What the server does with the aggregate; None adds it (FedAvg).
        proximal_mu: FedProx, as in :func:`fltutor.clients.train_cohort`; 0 is without.
        scaffold: Correct the clients' drift by control variates. All clients count
            alike, as in the paper, so ``weigh_by_examples`` must be False.
        dropped: The phase in which a client leaves, by client number; or a function that gives
            this for the number of the round, 1 for the first. Who is not in the cohort does
            not matter.

    Returns:
        The next state, and what the aggregation saw. Under SCAFFOLD its ``update`` has 2d
        coordinates. Clients have their numbers in the federation: in ``included``, in the
        transcript, and in every error, but those that a function raises which takes ``cohort``:
        it knows the numbers itself. Only payloads stay as they were sent.

    Raises:
        InvalidParameterError: If ``scaffold`` comes with example weights, ``proximal_mu``, or
            an aggregate that clips rows; no paper says what they mean together. The
            last is known, and refused, once the rows were added. If ``cohort`` or ``dropped``
            names a client that does not exist. If the cohort is not everybody and the
            aggregate has ``dropped`` or channels bound inside, which count its rows.
        InvalidUpdateError: If a client's training diverges to NaN or Inf.

    Reference:
        McMahan et al., AISTATS 2017, Algorithm 1. https://arxiv.org/abs/1602.05629
        Karimireddy et al., ICML 2020, Algorithm 1, option II. https://arxiv.org/abs/1910.06378
    """
    _require_kinds(model, data, aggregate, server_optimizer)
    parts = as_parts(parts, len(data.y))
    cohort = _checked_cohort(cohort, len(parts))
    everybody = cohort == list(range(len(parts)))
    passed_on = {}
    if not everybody or dropped is not None:
        _require_fitting(aggregate, everybody=everybody, dropped=dropped)
    if dropped is not None:
        passed_on["dropped"] = _leavers(dropped, state.round_number + 1, len(parts))
    state, result = _one_round(
        state,
        cohort,
        model=model,
        data=data,
        parts=parts,
        learning_rate=learning_rate,
        rng=as_generator("rng", rng),
        batch_size=as_whole("batch_size", batch_size, least=1),
        local_epochs=as_whole("local_epochs", local_epochs, least=1),
        weigh_by_examples=weigh_by_examples,
        aggregate=aggregate,
        server_optimizer=server_optimizer or sgd(1.0),
        proximal_mu=proximal_mu,
        scaffold=scaffold,
        passed_on=passed_on,
    )
    if not everybody:
        result = replace(result, transcript=result.transcript.renumbered(cohort))
    return state, result


def _one_round(
    state: ServerState,
    cohort: list[int],
    *,
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    learning_rate: float,
    rng: np.random.Generator,
    batch_size: int,
    local_epochs: int,
    weigh_by_examples: bool,
    aggregate: Callable[..., AggregateResult],
    server_optimizer: ServerOptimizer,
    proximal_mu: float,
    scaffold: bool,
    passed_on: dict[str, Any],
) -> tuple[ServerState, AggregateResult]:
    """Do a round whose arguments are checked; its transcript still counts rows."""
    own = [parts[client] for client in cohort]
    weights = [len(part) for part in own] if weigh_by_examples else None
    controls = _checked_controls(state, scaffold, weights, proximal_mu)
    if "dropped" in passed_on:
        leavers = passed_on["dropped"]
        by_row = {row: leavers[client] for row, client in enumerate(cohort) if client in leavers}
        passed_on = passed_on | {"dropped": by_row}
    for name, value in (("cohort", tuple(cohort)), ("num_clients", len(parts))):
        if wants(aggregate, name):
            passed_on = passed_on | {name: value}
    with _errors_of(cohort):
        if own:
            batches = shuffled_batches(own, batch_size, local_epochs, rng)
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
        result = aggregate(rows, weights, **passed_on)
    result = as_kind("what the aggregate returns", result, AggregateResult)
    included = result.included
    if len(set(included)) < len(included) or not set(included) <= set(range(len(cohort))):
        raise InvalidParameterError(
            f"the aggregate must say which of the {len(cohort)} rows it included, each once and "
            f"counted from 0, got {included}"
        )
    update = result.update
    if controls:
        update, change = _halves(result, rows.shape[1])
    params, optimizer_state = server_optimizer.apply(state.params, update, state.optimizer_state)
    if controls:
        sent = {cohort[row]: changes[row] for row in result.included}
        controls = _moved(controls, sent, len(sent) / len(parts) * change)
    included = tuple(sorted(cohort[row] for row in result.included))
    state = ServerState(params, optimizer_state, state.round_number + 1, controls)
    return state, replace(result, included=included)


@contextmanager
def _errors_of(cohort: Sequence[int]) -> Iterator[None]:
    """Let errors about a row of the cohort name the client of the federation.

    Training, aggregation and protocols know rows alone. Here, and nowhere else, a row
    gets the number of its client. A function that takes ``cohort`` knows the clients: the
    errors that it raises itself stay as they are.
    """
    try:
        yield
    except FltutorError as error:
        if _raised_by_one_that_takes_cohort(error):
            raise
        error.renumber(cohort)
        if hasattr(error, "transcript"):  # of a protocol that was aborted
            error.transcript = error.transcript.renumbered(cohort)
        raise


def _raised_by_one_that_takes_cohort(error: FltutorError) -> bool:
    """Whether the function that raised the error has an argument ``cohort``."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    return "cohort" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _require_kinds(
    model: keras.Model,
    data: Dataset,
    aggregate: Callable[..., AggregateResult],
    server_optimizer: ServerOptimizer | None,
) -> None:
    """Refuse, before anything is done, what no round can be made of."""
    as_kind("model", model, keras.Model, "fltutor.models")
    as_kind("data", data, Dataset, "fltutor.data")
    if not callable(aggregate):
        raise InvalidParameterError(
            f"aggregate must be a function such as mean, got {type(aggregate).__name__}"
        )
    if server_optimizer is not None:
        as_kind("server_optimizer", server_optimizer, ServerOptimizer, "fltutor.server_optimizers")


def _checked_cohort(cohort: Sequence[int], num_clients: int) -> list[int]:
    """The numbers of the clients that take part, or what is wrong with them."""
    if not isinstance(cohort, Iterable):
        raise InvalidParameterError(
            f"cohort must be a list of client numbers, got {type(cohort).__name__}"
        )
    most = num_clients - 1
    cohort = [as_whole("a client in cohort", client, least=0, most=most) for client in cohort]
    if len(set(cohort)) < len(cohort):
        raise InvalidParameterError(f"cohort must name each client once, got {cohort}")
    return cohort


def _leavers(dropped: Dropped, round_number: int, num_clients: int) -> dict[int, Phase]:
    """Who leaves in this round, by client number, or what is wrong with it."""
    leavers = as_dropped(dropped(round_number) if callable(dropped) else dropped)
    uploaders(num_clients, leavers)  # refuses who does not exist
    return leavers


def _require_fitting(
    aggregate: Callable[..., AggregateResult],
    *,
    everybody: bool,
    dropped: Dropped | None = None,
    budget: PrivacyBudget | None = None,
) -> dict[str, list[Any]]:
    """Refuse what is bound inside an aggregate and does not fit; give the budgets and clips."""
    bound = list(bound_in(aggregate))
    leaving = [each for name, each in bound if name == "dropped" and isinstance(each, Mapping)]
    budgets = [each for _, each in bound if isinstance(each, PrivacyBudget)]
    clips = [each for _, each in bound if isinstance(each, AdaptiveClip)]
    for name, given, inside in (("dropped", dropped, leaving), ("budget", budget, budgets)):
        if given is None:
            continue
        if any(inside):
            raise InvalidParameterError(
                f"{name} is given, and another one is bound inside the aggregate: needed only one"
            )
        if not takes(aggregate, name):
            raise InvalidParameterError(
                f"{name} is given, and the aggregate takes no argument {name}: needed one that "
                f"does, such as {'dp_mean' if name == 'budget' else 'mean'}"
            )
    if not everybody and any(leaving):
        raise InvalidParameterError(
            "dropped is bound inside the aggregate, where it counts rows of a cohort that is not "
            "everybody: give dropped to the run instead, by client number"
        )
    if not everybody and any(isinstance(each, Sessions) for _, each in bound):
        raise InvalidParameterError(
            "sessions are bound inside the aggregate, where they belong to rows of a cohort that "
            "is not everybody: leave them out, and each round connects anew"
        )
    if budget is not None:
        budgets = [budget]
    return {"budgets": list({id(each): each for each in budgets}.values()), "clips": clips}


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
    seed: int | None = 0,
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
    dropped: Dropped | None = None,
    budget: PrivacyBudget | None = None,
) -> Iterator[Round]:
    """Train without end, yielding each round; the first is the untrained model.

    Take as many rounds as you like with ``itertools.islice``, or stop at any time.
    :func:`run_federated` is the usual way in.

    Args:
        model: Gives the architecture and, unless ``start`` does, the starting point.
        data: The examples of all clients, and the test examples.
        parts: One array of example indices per client, from :mod:`fltutor.data`.
        learning_rate: Step size of the clients' SGD.
        seed: Seed of sampling and shuffling; equal seeds give equal runs on one machine. None
            draws both from the operating system: needed where a privacy claim counts on
            nobody knowing who took part.
        start: Weights to start from, shape (d,), as ``get_params(model)`` gives them; None
            takes the model's own.
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
        dropped: As in :func:`run_round`.
        budget: Charged by the aggregate, such as ``dp_mean``, before each round; how the run
            samples is filled in. A budget that is bound inside the aggregate is treated alike,
            if it shows there: see :func:`fltutor.aggregation.arguments.bound_in`. After each
            round, ``spent`` of the aggregate's result is compared with the sampling of the run,
            whichever budget it came from. A second run spends what is left.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidParameterError: If an argument is out of range, or ``scaffold`` comes
            with example weights or ``proximal_mu``. If the budget counts on less than this
            sampling costs; where it is hidden inside the aggregate, after the first round, which
            was charged then. If an adaptive clip has followed the clients of rounds that the
            budget did not pay for. If clients are sampled, and the aggregate has ``dropped``
            or channels bound inside. What the aggregate makes for itself in its body cannot be
            seen: see :func:`fltutor.aggregation.arguments.bound_in`.
        InvalidUpdateError: If a client's training diverges to NaN or Inf.
    """
    _require_kinds(model, data, aggregate, server_optimizer)
    parts = as_parts(parts, len(data.y))
    seed = seed if seed is None else as_whole("seed", seed, least=0)
    params = get_params(model) if start is None else checked_params(model, start, "start").copy()
    server_optimizer = server_optimizer or sgd(1.0)
    sampling = _Sampling.of(client_fraction, poisson_sampling, len(parts))
    if budget is not None and not isinstance(budget, PrivacyBudget):
        raise InvalidParameterError(
            f"budget must be a PrivacyBudget or None, got {type(budget).__name__}"
        )
    if dropped is not None and not callable(dropped):
        _leavers(dropped, 1, len(parts))  # refuses
    everybody = sampling.kind == "none"
    found = _require_fitting(aggregate, everybody=everybody, dropped=dropped, budget=budget)
    for clip in found["clips"]:
        _require_paid(clip, found["budgets"])
    with _matched(found["budgets"], sampling, seed):  # refuses
        pass
    return _rounds(
        ServerState(params, server_optimizer.init(params)),
        sampling,
        found["budgets"],
        seed,
        dropped,
        {} if budget is None else {"budget": budget},
        model=model,
        data=data,
        parts=parts,
        learning_rate=learning_rate,
        batch_size=as_whole("batch_size", batch_size, least=1),
        local_epochs=as_whole("local_epochs", local_epochs, least=1),
        weigh_by_examples=weigh_by_examples,
        aggregate=aggregate,
        server_optimizer=server_optimizer,
        proximal_mu=proximal_mu,
        scaffold=scaffold,
    )


def _rounds(
    state: ServerState,
    sampling: _Sampling,
    budgets: Sequence[PrivacyBudget],
    seed: int | None,
    dropped: Dropped | None,
    passed_on: dict[str, Any],
    *,
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    scaffold: bool,
    **settings: Any,
) -> Iterator[Round]:
    rng, params = np.random.default_rng(seed), state.params
    test = (as_examples("x_test", data.x_test), as_labels("y_test", data.y_test))
    yield Round(0, params, *_evaluate(model, params, *test, names=("x_test", "y_test")))
    while True:
        began = time.perf_counter()
        cohort = sampling.draw(rng if seed is not None else None)
        if dropped is not None:
            leavers = _leavers(dropped, state.round_number + 1, len(parts))
            passed_on = passed_on | {"dropped": leavers}
        with _matched(budgets, sampling, seed):
            state, result = _one_round(
                state,
                cohort,
                model=model,
                data=data,
                parts=parts,
                rng=rng,
                scaffold=scaffold,
                passed_on=passed_on,
                **settings,
            )
        if result.spent is not None:  # by a budget that may have been hidden from this run
            require_covered(result.spent, sampling.kind, sampling.rate)
        accuracy, loss = _evaluate(model, state.params, *test, names=("x_test", "y_test"))
        spent = result.spent
        lucky = spent is not None and spent.sampling != "none" and spent.sampling_rate < 1
        yield Round(
            state.round_number,
            state.params,
            accuracy,
            loss,
            cohort=tuple(cohort),
            included=result.included,
            bytes_up=result.transcript.bytes_sent(receiver=SERVER),
            bytes_down=len(cohort) * 4 * len(params) * (2 if scaffold else 1),
            seconds=time.perf_counter() - began,
            clip_norm=result.clip_norm,
            spent=spent,
            demonstration=result.demonstration or (lucky and seed is not None),
        )


@contextmanager
def _matched(
    budgets: Sequence[PrivacyBudget], sampling: _Sampling, seed: int | None
) -> Iterator[None]:
    """Let budgets count as the run samples, and go on doing so only if a round is charged."""
    with ExitStack() as within:
        for budget in budgets:
            matched = budget.matched(sampling.kind, sampling.rate, seeded=seed is not None)
            within.enter_context(matched)
        yield


class _Sampling(NamedTuple):
    """Who takes part in a round, as an accountant calls it."""

    kind: str
    rate: float
    num_clients: int
    by_coins: bool

    @classmethod
    def of(cls, client_fraction: float, poisson_sampling: bool, num_clients: int) -> _Sampling:
        """What a run with these settings does."""
        fraction = as_real("client_fraction", client_fraction, above=0, most=1)
        if poisson_sampling:
            kind, rate = "poisson", fraction
        else:
            kind, rate = "fixed-size", max(1, round(fraction * num_clients)) / num_clients
        return cls(kind if rate < 1 else "none", rate, num_clients, bool(poisson_sampling))

    def draw(self, rng: np.random.Generator | None) -> list[int]:
        """The clients of one round, ascending; by the operating system if there is no ``rng``."""
        n, size = self.num_clients, round(self.rate * self.num_clients)
        if self.by_coins:
            coins = _system_coins(n) if rng is None else rng.random(n)
            return np.flatnonzero(coins < self.rate).tolist()
        if rng is None:
            return sorted(secrets.SystemRandom().sample(range(n), size))
        return np.sort(rng.choice(n, size, replace=False)).tolist()


def _system_coins(size: int) -> np.ndarray:
    """Numbers in [0, 1) from the operating system, with the 53 bits that a float64 has."""
    words = np.frombuffer(secrets.token_bytes(8 * size), np.uint64)
    return (words >> np.uint64(11)) * 2.0**-53


def _require_paid(clip: AdaptiveClip, budgets: Sequence[PrivacyBudget]) -> None:
    """Refuse an adaptive clip that tells about clients of rounds that nobody paid for."""
    moved = len(clip.path) - 1
    paid = max((budget.rounds for budget in budgets), default=0)
    if moved > paid:
        raise InvalidParameterError(
            f"the adaptive clip has followed the clients of {moved} rounds, and the budget of this "
            f"run has paid for {paid}: take a new one, AdaptiveClip(start), or the budget of "
            "those rounds"
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

    A run that is stopped keeps the rounds that were done: by an interrupt of the running cell,
    by a privacy budget that refuses the next round, or by any other error of this package in
    a later round, such as a client that diverges. ``history.stopped_by`` says why. An
    error before the first round is finished is raised. So is, always, an error that is
    not of this package: a mistake in a program should not pass for a short run.

    Args:
        model: Gives the architecture and, by its weights, the starting point.
        data: The examples of all clients, and the test examples.
        parts: One array of example indices per client, from :mod:`fltutor.data`.
        rounds: How many rounds, at least 0.
        progress: Show a progress bar, and say why if the run stops early.
        settings: As in :func:`federated_rounds`: ``learning_rate``, ``seed``,
            ``client_fraction``, ``batch_size``, ``local_epochs``, ``aggregate``, ``budget``, ...

    Raises:
        FltutorError: As :func:`federated_rounds`, before the first round is finished.

    Example:
        >>> from fltutor.data import load_digits, partition_iid
        >>> from fltutor.models import mlp
        >>> digits = load_digits()
        >>> parts = partition_iid(digits.y, 10, np.random.default_rng(0))
        >>> history = run_federated(mlp(), digits, parts, rounds=3, learning_rate=0.3)
        >>> len(history.rounds), bool(history.accuracy[3] > 0.8)
        (4, True)
    """
    rounds = as_whole("rounds", rounds, least=0)
    running = federated_rounds(model, data, parts, **settings)
    history = History([next(running)])
    try:
        for _ in progress_bar(range(rounds), "rounds", show=progress):
            history.rounds.append(next(running))
    except (FltutorError, KeyboardInterrupt) as error:
        if len(history.rounds) == 1 and isinstance(error, FltutorError):
            raise
        history.stopped_by = error.with_traceback(None)  # whose frames hold models and keys
        if progress:
            print(f"\n{history}")
    return history


def evaluate(
    model: keras.Model, params: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[float, float]:
    """Accuracy (0 to 1) and mean cross-entropy (nats) of the model with weights ``params``.

    Args:
        model: Gives the architecture; its own weights are not used.
        params: Shape (d,), as ``get_params(model)`` gives them.
        x: Examples, shape (N, ...), as in :func:`fltutor.data.as_examples`.
        y: Their labels, as in :func:`fltutor.data.as_labels`.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidParameterError: If labels or examples are none, a label has no output, an example
            holds NaN or Inf, or ``params`` is no vector of the model's weights.
        InvalidUpdateError: If the weights are so large that an output is NaN or Inf.

    Example:
        >>> from fltutor.data import load_digits
        >>> from fltutor.models import mlp
        >>> digits, model = load_digits(), mlp()
        >>> accuracy, loss = evaluate(model, get_params(model), digits.x_test, digits.y_test)
        >>> accuracy < 0.3
        True
    """
    as_kind("model", model, keras.Model, "fltutor.models")
    y = as_labels("y", y)
    x = as_examples("x", x, num_examples=len(y))
    return _evaluate(model, checked_params(model, params), x, y, names=("x", "y"))


def _evaluate(
    model: keras.Model, params: np.ndarray, x: np.ndarray, y: np.ndarray, names: tuple[str, str]
) -> tuple[float, float]:
    """Accuracy and loss on checked examples, called by these names in messages."""
    if x.dtype.kind == "f":
        x = x.astype(np.float32, copy=False)  # as in training
    require_trainable_by_sgd(model, x)
    outputs = logits(model, np.asarray(params, np.float32), x).numpy()
    y = as_labels(names[1], y, num_classes=outputs.shape[1])
    if not np.isfinite(outputs).all():
        raise _not_finite(names[0], x, params)
    outputs = outputs.astype(np.float64)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    accuracy = float((outputs.argmax(axis=1) == y).mean())
    return accuracy, float(-log_probabilities[np.arange(len(y)), y].mean())


def _not_finite(name: str, x: np.ndarray, params: np.ndarray) -> FltutorError:
    """Why outputs are NaN or Inf: an example that is, or weights that ran away."""
    if x.dtype.kind not in "iub":
        bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
        if bad.any():
            return InvalidParameterError(f"{name} holds NaN or Inf in example {bad.argmax()}")
    return InvalidUpdateError(
        f"the model gives NaN or Inf with weights of up to {np.abs(params).max():.2g}: "
        "training has diverged; a smaller learning rate may help"
    )
