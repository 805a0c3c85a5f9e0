"""Canaries in a real federated training: clients of an auditor, who watches what is released.

:mod:`fltutor.privacy.auditing` plays with a mechanism alone. Here the same canaries join the
honest clients of a training, and one run is enough to audit it: the accuracy is that of a real
model, and so are the updates among which the canaries hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fltutor.aggregation import AggregateResult
from fltutor.border import as_whole
from fltutor.data import Dataset
from fltutor.errors import BudgetExceededError, InvalidParameterError, InvalidUpdateError
from fltutor.privacy.auditing import AuditResult, Canaries, Mechanism, one_run_audit
from fltutor.simulation import History, run_federated
from fltutor.tensorflow_quietly import keras
from fltutor.transcript import Transcript


def with_canaries(
    mechanism: Mechanism, canaries: Canaries, released: list[np.ndarray]
) -> Callable[..., AggregateResult]:
    """Smuggle canaries into a federated training, and note what each round releases.

    Args:
        mechanism: From the updates of a round, (n, d), to what is released, (d,).
        canaries: Who joins the honest clients.
        released: Where the auditor notes what it sees, one vector per round; empty at first.

    Returns:
        An ``aggregate`` for :func:`fltutor.simulation.run_federated`, for one run. It takes no
        weights. Its results count as demonstrations: canaries in a model are no real run.

    Raises:
        InvalidParameterError: In a round, if there are weights.
        InvalidUpdateError: In a round, if what is released is not of shape (d,).

    Example:
        >>> canary, released = Canaries(np.array([[2.0, 0.0]]), np.array([True])), []
        >>> aggregate = with_canaries(lambda updates: updates.sum(axis=0), canary, released)
        >>> [aggregate(np.ones((3, 2))).update for _ in range(2)]
        [array([5., 3.]), array([1., 3.])]
        >>> canary.scores(np.array(released))
        array([4.])
    """

    def aggregate(updates: np.ndarray, weights: None = None) -> AggregateResult:
        if weights is not None:
            raise InvalidParameterError(
                "the mechanism counts all clients alike and takes no weights: needed "
                "weigh_by_examples=False"
            )
        update = mechanism(canaries.join(updates, round_number=len(released)))
        if np.shape(update) != np.shape(updates)[1:]:
            raise InvalidUpdateError(
                f"the mechanism must release shape {np.shape(updates)[1:]}, got {np.shape(update)}"
            )
        released.append(update)
        return AggregateResult(update, tuple(range(len(updates))), Transcript(), demonstration=True)

    return aggregate


@dataclass(frozen=True)
class AuditedTraining:
    """A real federated training with canaries in it, and what its auditor found.

    Attributes:
        audit: The bound from this one run.
        history: The rounds, with the accuracy of the model that the canaries are in.
        canaries: Who they were, and which took part.
        released: What the auditor saw, one vector per round, shape (rounds, d).
    """

    audit: AuditResult
    history: History = field(repr=False)
    canaries: Canaries = field(repr=False)
    released: np.ndarray = field(repr=False)

    @property
    def scores(self) -> np.ndarray:
        """One per canary, taking part or not, shape (k,)."""
        return self.canaries.scores(self.released)


def audit_training(
    model: keras.Model,
    data: Dataset,
    parts: Sequence[np.ndarray],
    mechanism: Mechanism,
    canaries: Canaries,
    *,
    rounds: int,
    guesses: int,
    delta: float,
    confidence: float = 0.95,
    **settings: Any,
) -> AuditedTraining:
    """Train with canaries among the clients, and bound epsilon from below by this one run.

    Every client takes part in every round, and so does every canary whose coin says so. The
    auditor sees what each round releases.

    Args:
        model: Gives the architecture and, by its weights, the starting point.
        data: The examples of the honest clients, and the test examples.
        parts: One array of example indices per honest client.
        mechanism: From the updates of a round, (n, d), to what is released, (d,); freshly
            started. Its divisor should expect the honest clients and half of the canaries.
        canaries: Who joins them, from :func:`fltutor.privacy.auditing.plant_canaries`.
        rounds: How many rounds, at least 1.
        guesses: How many the auditor makes, at most one per canary, chosen before the run.
        delta: The delta of the claim, in [0, 1).
        confidence: That the bound holds, in (0, 1).
        settings: As in :func:`fltutor.simulation.federated_rounds`: ``learning_rate``,
            ``local_epochs``, ``seed``, ... All clients count alike.

    Raises:
        InvalidParameterError: If ``rounds``, ``guesses``, ``delta`` or ``confidence`` is out
            of range, or clients are sampled: canaries are not, so they would refute a true
            claim that counts on sampling. Nothing is trained then.
        InvalidUpdateError: If the canaries are not as long as the model's weights, or what is
            released has another shape, NaN or Inf.
        BudgetExceededError: If a budget in the settings ends the training early.
        KeyboardInterrupt: If the training was interrupted: fewer rounds than the claim is
            about show less than there is.

    Example:
        >>> from fltutor.attacks import plant_bug
        >>> from fltutor.data import load_digits, partition_iid
        >>> from fltutor.models import mlp
        >>> from fltutor.privacy.auditing import plant_canaries
        >>> digits, rng = load_digits(), np.random.default_rng(0)
        >>> server = plant_bug("forgets to clip", clip_norm=1.0, noise_multiplier=1.0,
        ...                    expected_cohort=20 + 64 / 2, rng=rng)
        >>> found = audit_training(
        ...     mlp(), digits, partition_iid(digits.y, 20, rng), server(),
        ...     plant_canaries(64, 2410, norm=50.0, rng=rng), rounds=2, guesses=40,
        ...     delta=0.0, learning_rate=0.1,
        ... )
        >>> found.audit.correct, round(found.audit.epsilon, 1)
        (40, 2.6)

    Reference:
        Steinke, Nasr and Jagielski, NeurIPS 2023, Algorithm 1.
        https://arxiv.org/abs/2305.08846. Canary clients in a federated training: Andrew et
        al., ICLR 2024; they estimate, this bounds. https://arxiv.org/abs/2302.03098
    """
    if settings.get("client_fraction", 1.0) != 1:
        raise InvalidParameterError(
            "canaries take part in every round, and so must the clients: needed "
            f"client_fraction=1, got {settings['client_fraction']}"
        )
    rounds = as_whole("rounds", rounds, least=1)  # or nothing would be released
    judge = {"guesses": guesses, "delta": delta, "confidence": confidence}
    one_run_audit(np.zeros(len(canaries.included)), canaries.included, **judge)  # or it refuses
    released: list[np.ndarray] = []
    history = run_federated(
        model,
        data,
        parts,
        rounds=rounds,
        weigh_by_examples=False,
        aggregate=with_canaries(mechanism, canaries, released),
        **settings,
    )
    if history.out_of_budget:
        raise BudgetExceededError(
            f"the budget allowed {len(released)} of {rounds} rounds; the claim is about all"
        )
    if history.stopped_by is not None:
        raise history.stopped_by
    seen = np.array(released)
    audit = one_run_audit(canaries.scores(seen), canaries.included, **judge)
    return AuditedTraining(audit, history, canaries, seen)
