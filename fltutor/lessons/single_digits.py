"""Clients that hold one digit each, and the inversion of notebook 07 on what is seen of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fltutor.attacks import Recovery, inversion_attack
from fltutor.clients import cohort_gradients
from fltutor.data import load_digits
from fltutor.fixed_point import DEFAULT_GRID
from fltutor.models import get_params, mlp, params_spec
from fltutor.tensorflow_quietly import keras
from fltutor.transcript import Transcript
from fltutor.vectors import VectorSpec

LEARNING_RATE = 0.1
SEED = 8


@dataclass(frozen=True)
class Cohort:
    """Clients that hold one digit each, and what each would send after one local step.

    Attributes:
        images: Shape (n, 64), pixels 0..1.
        updates: Shape (n, d).
        spec: Shapes of the model's weights.
    """

    images: np.ndarray = field(repr=False)
    updates: np.ndarray = field(repr=False)
    spec: VectorSpec = field(repr=False)

    def attack(self, vector: np.ndarray, clients: tuple[int, ...]) -> Recovery:
        """Run the inversion of notebook 07 on any vector, scored on these clients' images."""
        return inversion_attack(vector, self.spec, self.images[list(clients)])


@cache
def one_digit_each(num_clients: int, seed: int = 0) -> Cohort:
    """Deal one random digit to each client and let it take one step from fresh weights.

    Example:
        >>> one_digit_each(3).updates.shape
        (3, 2410)
    """
    digits, model = load_digits(), _model()
    chosen = np.random.default_rng([SEED, seed]).choice(len(digits.y), num_clients, replace=False)
    start = get_params(mlp(seed=seed))
    parts = [np.array([example]) for example in chosen]
    updates = -LEARNING_RATE * cohort_gradients(model, start, digits.x, digits.y, parts)
    updates.flags.writeable = False
    return Cohort(digits.x[chosen], updates, params_spec(model))


@cache
def _model() -> keras.Model:
    """One model for every cohort: what is compiled for it stays compiled."""
    return mlp(seed=SEED)


def uploads(transcript: Transcript) -> dict[int, np.ndarray]:
    """The masked rows that the server received, as ring elements, by client.

    Needs a transcript with payloads, from ``secagg_sum(..., keep_payloads=True)``.
    """
    received = (m.payload for m in transcript if m.kind == "masked row")
    return {upload.client: upload.values for upload in received}


def attack_each(cohort: Cohort, seen: Sequence[np.ndarray] | Mapping[int, np.ndarray]) -> Recovery:
    """Run the inversion, unchanged, on one vector per client, and put the guesses together.

    Args:
        cohort: The clients, with the images that the guesses are scored on.
        seen: What is seen of each client, shape (n, d), or by the client's number.
    """
    by_client = seen if isinstance(seen, Mapping) else dict(enumerate(seen))
    found = [cohort.attack(vector, (client,)) for client, vector in by_client.items()]
    if not found:
        return Recovery(np.empty((0, cohort.images.shape[1])), np.empty(0), np.empty(0, bool))
    parts = zip(*((one.images, one.psnr, one.exact) for one in found), strict=True)
    return Recovery(*map(np.concatenate, parts))


def attack_uploads(cohort: Cohort, transcript: Transcript) -> Recovery:
    """Run the inversion on every masked row alone; guesses in client order."""
    rows = uploads(transcript).items()
    return attack_each(cohort, {client: DEFAULT_GRID.decode(row) for client, row in rows})
