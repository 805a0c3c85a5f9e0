"""Notebook 06: federated training with compressed updates, and what it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from fltutor.aggregation import mean
from fltutor.clients import local_batches, train_cohort
from fltutor.compression import Quantized, Sparse, quantize, top_k, with_error_feedback
from fltutor.data import load_digits, partition_iid
from fltutor.models import get_params, mlp
from fltutor.simulation import evaluate

CLIENTS = 10
ROUNDS = 30
LEARNING_RATE = 0.3

Message = Quantized | Sparse
Compressor = Callable[[np.ndarray, np.random.Generator], Message]


@dataclass(frozen=True)
class CompressedRun:
    """Accuracy and bytes of one training so far.

    Attributes:
        accuracy: Test accuracy after 0, 1, 2, ... rounds.
        kilobytes: All bytes that the clients have sent up to then, in 10^3 bytes.
        num_rounds: How many rounds it set out to do.
    """

    accuracy: np.ndarray
    kilobytes: np.ndarray
    num_rounds: int


def compressed_training(
    compress: Compressor | None,
    *,
    feedback: bool = False,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Iterator[CompressedRun]:
    """Train ten clients on the digits; each compresses its update, packs it and sends it.

    The server unpacks the bytes and averages. All clients hold equally many digits,
    but for one, and count alike.

    Args:
        compress: ``compress(update, rng)``, or None to send float32 as it is.
        feedback: Let each client remember what it left out.
        rounds: How many rounds.
        seed: Seed of the model, the split, the shuffles and the roundings.

    Yields:
        The run so far, after every round.
    """
    digits, rng = load_digits(), np.random.default_rng(seed)
    model, params = _model(), _first_params(seed)
    parts = partition_iid(digits.y, CLIENTS, rng)
    memory = np.zeros((CLIENTS, len(params)))
    accuracy, kilobytes = [], [0.0]
    for _ in range(rounds + 1):
        accuracy.append(evaluate(model, params, digits.x_test, digits.y_test)[0])
        yield CompressedRun(np.array(accuracy), np.cumsum(kilobytes), rounds)
        batches = local_batches(parts, batch_size=10, rng=rng)
        updates = train_cohort(model, params, digits.x, digits.y, batches, LEARNING_RATE)
        received, sent = [], 0
        for client, update in enumerate(updates):
            if compress is None:
                received.append(update)
                sent += update.nbytes
                continue
            if feedback:
                message, memory[client] = with_error_feedback(
                    lambda vector: compress(vector, rng), update, memory[client]
                )
            else:
                message = compress(update, rng)
            data = message.to_bytes()
            received.append(type(message).from_bytes(data, size=len(params)).dense)
            sent += len(data)
        kilobytes.append(sent / 1e3)
        params = (params + mean(np.stack(received)).update).astype(np.float32)


@cache
def _model():
    return mlp()  # one model for all runs, so that it compiles once


@cache
def _first_params(seed: int) -> np.ndarray:
    return get_params(mlp(seed=seed))


@cache
def uncompressed(seed: int = 0) -> CompressedRun:
    """The run to compare with: float32 as it is."""
    return [*compressed_training(None, seed=seed)][-1]


@dataclass(frozen=True)
class Comparison:
    """A compressed run so far beside the uncompressed one, and its settings in words."""

    run: CompressedRun
    plain: CompressedRun
    settings: str


def compare(method: str, bits: int, share: float, feedback: bool) -> Iterator[Comparison]:
    """Train with one compressor, beside the uncompressed run from the same seed.

    Args:
        method: ``"fewer bits"`` or ``"fewer numbers"``.
        bits: Bits per coordinate, for the first.
        share: Share of the coordinates that are sent, for the second.
        feedback: Let each client remember what it left out.
    """
    plain = uncompressed()
    if method == "fewer bits":
        compress, settings = partial(_quantize, bits=bits), f"{bits} bits"
    else:
        k = max(1, round(share * len(_first_params(0))))
        compress, settings = partial(_keep, k=k), f"top {share:.1%}, {k} numbers"
    settings += ", with memory" if feedback else ", no memory"
    for run in compressed_training(compress, feedback=feedback):
        yield Comparison(run, plain, settings)


def _quantize(vector: np.ndarray, rng: np.random.Generator, *, bits: int) -> Quantized:
    return quantize(vector, bits, rng)


def _keep(vector: np.ndarray, rng: np.random.Generator, *, k: int) -> Sparse:
    return top_k(vector, k)
