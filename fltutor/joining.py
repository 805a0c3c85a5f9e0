"""Does joining pay? Models trained alone, together and on pooled data, tested on everyone.

A federation promises each client a better model than it would have alone. The promise is
about all of them *on average*; whether it holds for one client is another question, and
only that client's own test examples answer it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fltutor.data import Federation
from fltutor.errors import BudgetExceededError, InvalidParameterError
from fltutor.simulation import evaluate, run_federated
from fltutor.tensorflow_quietly import keras


def train_alone_and_together(
    model: keras.Model,
    federation: Federation,
    *,
    rounds: int,
    learning_rate: float,
    local_epochs: int = 1,
    batch_size: int = 10,
    seed: int = 0,
    start: np.ndarray | None = None,
    **together: Any,
) -> dict[str, np.ndarray]:
    """Train every client alone, all of them together, and one model on pooled data; test all.

    Each model makes ``rounds`` times ``local_epochs`` passes over the examples it may see.
    Alone, those are a client's own. Pooled, they are everyone's in one place, which is what
    a federation is there to avoid: it says what is lost by not pooling.

    Args:
        model: Gives the architecture and, unless ``start`` does, the starting point.
        federation: Whose clients train and test. On several splits of it, by
            :func:`fltutor.data.fresh_split`, luck shows.
        rounds: How many rounds, at least 0.
        learning_rate: Step size of SGD, in all trainings.
        local_epochs: Passes over its data that a client makes in a round.
        batch_size: Examples in a local batch.
        seed: Seed of the shuffles.
        start: Weights that all models start from, shape (d,); None takes the model's own.
        together: More settings of the federated training, and of no other, as in
            :func:`fltutor.simulation.federated_rounds`: ``aggregate``,
            ``server_optimizer``, ``proximal_mu``, ``client_fraction``, ...

    Returns:
        For each model by name, ``"Basel alone"`` and so on, ``"federated"`` and
        ``"pooled"``: its accuracy (0 to 1) on the test examples of each client, and at
        the end on all of them, shape (n + 1,).

    Raises:
        InvalidParameterError: If a client has no examples to train or to test on, two have
            one name, or a setting is out of range.
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidUpdateError: If a training diverges to NaN or Inf.
        BudgetExceededError: If a budget in ``together`` ends the federated training early.
        KeyboardInterrupt: If a training was interrupted: models with unequal training cannot
            be compared.

    Example:
        >>> from fltutor.data import load_heart_disease
        >>> from fltutor.models import mlp
        >>> heart = load_heart_disease()
        >>> scores = train_alone_and_together(
        ...     mlp(35, 2, hidden=()), heart, rounds=3, learning_rate=0.1
        ... )
        >>> list(scores)
        ['Cleveland alone', 'Hungary alone', 'Switzerland alone', 'VA Long Beach alone',
        'federated', 'pooled']
        >>> scores["federated"].shape
        (5,)

    Reference:
        Yu, Bagdasaryan and Shmatikov 2020 compare clients' own models with the federated
        one; for many it is worse. https://arxiv.org/abs/2002.04758
    """
    data, names, parts = federation.data, federation.names, federation.parts
    _require_examples(federation)
    alike = {
        "rounds": rounds,
        "learning_rate": learning_rate,
        "local_epochs": local_epochs,
        "batch_size": batch_size,
        "seed": seed,
        "start": start,
    }

    def test(own: Sequence[np.ndarray], **settings: Any) -> np.ndarray:
        history = run_federated(model, data, own, **alike, **settings)
        if history.out_of_budget:
            raise BudgetExceededError(
                f"the budget allowed {len(history.rounds) - 1} of {rounds} rounds, and models "
                "with unequal training cannot be compared"
            )
        if history.stopped_by is not None:
            raise history.stopped_by
        tested = (
            evaluate(model, history.params, data.x_test[rows], data.y_test[rows])[0]
            for rows in federation.test_parts
        )
        return np.array([*tested, history.accuracy[-1]])

    scores = {f"{name} alone": test([part]) for name, part in zip(names, parts, strict=True)}
    scores["federated"] = test(parts, **together)
    scores["pooled"] = test([np.arange(len(data.y))])
    return scores


def _require_examples(federation: Federation) -> None:
    """Refuse a client that cannot train or be tested, and names that say two things."""
    names = federation.names
    if len(set(names)) < len(names):
        raise InvalidParameterError(f"clients must have names of their own, got {names}")
    for what, parts in (("train", federation.parts), ("test", federation.test_parts)):
        if len(parts) != len(names):
            raise InvalidParameterError(
                f"needed one part to {what} on for each of {len(names)} names, got {len(parts)}"
            )
        for name, part in zip(names, parts, strict=True):
            if not len(part):
                raise InvalidParameterError(f"{name} has no examples to {what} on")
