"""Notebook 09: one real update under each scheme, and what it costs in time, bytes and digits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np

from fltutor.aggregation import AggregateResult, SumProtocol
from fltutor.clients import local_batches, train_cohort
from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import (
    MIN_BITS,
    EncryptedVector,
    PrivateKey,
    encrypt_vector,
    slots_per_ciphertext,
)
from fltutor.data import load_digits, partition_iid
from fltutor.fixed_point import FixedPoint
from fltutor.models import get_params, mlp
from fltutor.protocols import Sessions, ckks_sum, plain_sum
from fltutor.simulation import run_federated
from fltutor.tensorflow_quietly import keras

NUM_CLIENTS = 10
KEY_BITS = (512, 1024, 2048, 3072)
DEGREES = {4096: (54, 54), 8192: (60, 60), 16384: (60, 60)}
INTEGER_BITS = 10  # of a slot, sign included: values up to 512
PATIENCE = 0.5  # seconds of measuring for one setting


@dataclass(frozen=True)
class Trial:
    """What it takes to send one update encrypted, to add ten of them, and to open the sum.

    Attributes:
        settings: The settings in words.
        seconds: For the whole update, by step: "encrypt", "add ten", "open".
        num_bytes: Of the whole update on its way to the server.
        length: Numbers in the update.
        sent: Those that were really encrypted so far, before.
        opened: The same numbers after decryption.
    """

    settings: str
    seconds: dict[str, float]
    num_bytes: int
    length: int
    sent: np.ndarray = field(repr=False)
    opened: np.ndarray = field(repr=False)

    @property
    def is_extrapolated(self) -> bool:
        """Whether only a part was measured, and the time scaled up in proportion."""
        return len(self.sent) < self.length

    @property
    def error(self) -> float:
        """Largest error among the numbers that were opened."""
        return float(np.abs(self.opened - self.sent).max())


@cache
def client_updates(num_clients: int = NUM_CLIENTS) -> np.ndarray:
    """What real clients send after one local epoch on the digits, shape (n, 2410)."""
    digits, model = load_digits(), _model()
    start = get_params(mlp(seed=9))
    parts = partition_iid(digits.y, num_clients, np.random.default_rng(9))
    batches = local_batches(parts, batch_size=10, rng=np.random.default_rng(9))
    updates = train_cohort(model, start, digits.x, digits.y, batches, learning_rate=0.1)
    updates.flags.writeable = False
    return updates


@cache
def toy_or_real_key(bits: int) -> PrivateKey:
    """A Paillier key, drawn once per session; below 2048 bits a toy."""
    return PrivateKey.generate(bits, toy=bits < MIN_BITS)


def slot_grid(fraction_bits: int) -> FixedPoint:
    """A grid for values up to 512, in slots of 32 bits if 16 of them can be added there.

    Example:
        >>> [slot_grid(bits).ring_bits for bits in (4, 18, 19, 40)]
        [32, 32, 64, 64]
    """
    bits = fraction_bits + INTEGER_BITS
    return FixedPoint(fraction_bits, bits, ring_bits=32 if bits <= 28 else 64)


def try_paillier(
    update: np.ndarray,
    private_key: PrivateKey,
    *,
    fraction_bits: int = 16,
    packed: bool = True,
    patience: float = PATIENCE,
) -> Iterator[Trial]:
    """Encrypt, add ten times and open one ciphertext after the other, until patience ends.

    Yields:
        A trial after each ciphertext; times of the whole update are scaled up from those
        that were measured.
    """
    grid, length = slot_grid(fraction_bits), len(update)
    num_slots = slots_per_ciphertext(private_key, grid) if packed else 1
    count = -(-length // num_slots)
    bits = private_key.public_key.bits
    toy = ", a toy" if bits < MIN_BITS else ""
    each = f"{num_slots} numbers of {grid.ring_bits} bits" if packed else "one number"
    settings = f"Paillier, {bits} bits{toy}, {each} in a ciphertext, steps of 2^-{fraction_bits}"
    opened, deadline = np.empty(0), time.perf_counter() + patience
    taken = np.zeros(3)
    for done in range(1, count + 1):
        block = update[(done - 1) * num_slots : done * num_slots]
        values, seconds = _measured(
            lambda block=block: encrypt_vector(block, private_key, grid, packed=packed),
            _add_ten,
            private_key.decrypt_vector,
        )
        taken, opened = taken + seconds, np.append(opened, values)
        yield Trial(
            settings,
            dict(zip(("encrypt", "add ten", "open"), taken * count / done, strict=True)),
            count * private_key.public_key.ciphertext_bytes,
            length,
            update[: len(opened)].astype(np.float64),
            opened,
        )
        if time.perf_counter() > deadline:
            return


def try_ckks(update: np.ndarray, context: Context) -> Trial:
    """Encrypt, add ten times and open the whole update."""
    encrypted = context.encrypt(update)
    opened, seconds = _measured(lambda: context.encrypt(update), _add_ten, context.decrypt)
    parameters = context.parameters
    return Trial(
        f"CKKS, degree {parameters.poly_degree}, {parameters.num_slots} numbers in a "
        f"ciphertext, scale 2^{parameters.scale_bits}",
        dict(zip(("encrypt", "add ten", "open"), seconds, strict=True)),
        encrypted.num_bytes,
        len(update),
        update.astype(np.float64),
        opened,
    )


def _add_ten(encrypted: EncryptedVector) -> EncryptedVector:
    """What the server does with ten uploads; here they are ten times the same."""
    total = encrypted
    for _ in range(NUM_CLIENTS - 1):
        total = total + encrypted
    return total


def _measured(encrypt: Callable, add: Callable, decrypt: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Values of one upload after the way there and back, and the seconds of the three steps."""
    marks = [time.perf_counter()]
    encrypted = encrypt()
    marks.append(time.perf_counter())
    total = add(encrypted)
    marks.append(time.perf_counter())
    opened = decrypt(total)
    marks.append(time.perf_counter())
    return opened / NUM_CLIENTS, np.diff(marks)


def scale_runs(
    scales: Sequence[int], seeds: Sequence[int] = (0, 1), rounds: int = 10
) -> dict[int, list[float]]:
    """Train ten clients under CKKS at each scale; the accuracy at the end, by seed.

    All clients count alike and the number of clients is no secret, so it is not sent: what
    goes wrong, goes wrong in the weights.

    Returns:
        By scale in bits, one accuracy per seed; 0 stands for the plain sum.
    """
    digits, model = load_digits(), _model()
    parts = partition_iid(digits.y, NUM_CLIENTS, np.random.default_rng(9))
    accuracy: dict[int, list[float]] = {}
    for scale in (0, *scales):
        sum_protocol = plain_sum
        if scale:
            context = Context.generate(scale_bits=scale)
            sum_protocol = partial(ckks_sum, context=context, sessions=Sessions())
        histories = (
            run_federated(
                model,
                digits,
                parts,
                rounds=rounds,
                learning_rate=0.1,
                seed=seed,
                weigh_by_examples=False,
                aggregate=partial(_plain_average, sum_protocol=sum_protocol),
            )
            for seed in seeds
        )
        accuracy[scale] = [float(history.accuracy[-1]) for history in histories]
    return accuracy


def _plain_average(
    updates: np.ndarray, weights: None, *, sum_protocol: SumProtocol
) -> AggregateResult:
    result = sum_protocol(updates)
    average = result.total / len(result.included)
    return AggregateResult(average, result.included, result.transcript)


@cache
def _model() -> keras.Model:
    """One model for every run: what is compiled for it stays compiled."""
    return mlp(seed=9)


def trials(
    scheme: str = "Paillier",
    key_bits: int = 2048,
    packing: bool = True,
    poly_degree: int = 4096,
    scale_bits: int = 16,
) -> Iterator[Trial]:
    """Send the first client's update under one setting; times get better while it measures.

    Args:
        scheme: "Paillier" or "CKKS".
        key_bits: Of Paillier's n.
        packing: Whether a Paillier ciphertext holds as many numbers as fit.
        poly_degree: Of CKKS.
        scale_bits: Numbers are multiplied by 2 to this power and rounded, in both.
    """
    # Some pixels are always blank: in random order, a part of the update is like the whole.
    update = np.random.default_rng(0).permutation(client_updates()[0])
    if scheme == "CKKS":
        context = Context.generate(
            poly_degree, DEGREES[poly_degree], scale_bits, max_additions=NUM_CLIENTS
        )
        yield try_ckks(update, context)
    else:
        key = toy_or_real_key(key_bits)
        yield from try_paillier(update, key, fraction_bits=scale_bits, packed=packing)
