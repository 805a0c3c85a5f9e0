"""The mean of ten models of 200 k parameters under CKKS, against ways that take hours.

Those ways handle each number by itself, so a few numbers are measured and the time is
scaled up in proportion: an extrapolation, and printed as one. ``phe`` runs in an
environment of its own (see ``benchmarks.peers``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.peers import PeerMissingError, measure_beside_peer
from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import PrivateKey, encrypt_vector, slots_per_ciphertext

Row = tuple[str, float, str]
NUM_CLIENTS, NUM_PARAMS = 10, 200_000


def seconds(call: Callable[[], object], turns: int = 3) -> float:
    """Best of a few turns."""
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def ckks_mean(models: Sequence[np.ndarray], context: Context) -> np.ndarray:
    """Every client scales and encrypts, the server reads and adds, a client opens."""
    server, total = context.public(), None
    for model in models:
        sent = context.encrypt(model / len(models)).to_bytes()
        total = server.read(sent) if total is None else total + server.read(sent)
    return context.decrypt(context.read(total.to_bytes()))


def whole(per_number: dict[str, float]) -> float:
    """Seconds of the whole mean, from those of encrypting, adding and decrypting one number."""
    return NUM_PARAMS * (
        NUM_CLIENTS * per_number["encrypt"]
        + (NUM_CLIENTS - 1) * per_number["add"]
        + per_number["decrypt"]
    )


def naive_ckks(context: Context, count: int = 100) -> dict[str, float]:
    """Seconds for one number in a ciphertext of its own, measured over ``count`` of them."""
    one, number = np.array([0.5]), context.encrypt(np.array([0.5]))
    calls = {
        "encrypt": lambda: context.encrypt(one),
        "add": lambda: number + number,
        "decrypt": lambda: context.decrypt(number),
    }
    return {
        name: seconds(lambda call=call: [call() for _ in range(count)]) / count
        for name, call in calls.items()
    }


def run() -> list[Row]:
    """Return one row per measurement: what, ratio, target."""
    rng = np.random.default_rng(0)
    models = rng.normal(0, 0.1, (NUM_CLIENTS, NUM_PARAMS))
    context = Context.generate()
    error = np.abs(ckks_mean(models, context) - models.mean(axis=0)).max()
    assert error < NUM_CLIENTS * context.parameters.resolution
    ours = seconds(lambda: ckks_mean(models, context))
    bytes_per_value = context.encrypt(models[0]).num_bytes / NUM_PARAMS
    print(
        f"CKKS mean of {NUM_CLIENTS} x {NUM_PARAMS:,}: {ours:.2f} s, {bytes_per_value:.0f} bytes "
        f"a number, largest error {error:.0e}"
    )

    naive = whole(naive_ckks(context))
    print(f"one number per CKKS ciphertext: {naive / 60:.0f} min, extrapolated from 100 numbers")
    name = "CKKS mean of ten 200 k models against"
    rows = [(f"{name} one number per ciphertext (extrapolated)", naive / ours, ">= 100")]
    try:
        per_number = measure_beside_peer("homomorphic_phe", "20")
        phe = whole(per_number)
        gmp = "with" if per_number["gmp"] else "without"
        print(f"phe, 2048 bits, {gmp} gmpy2: {phe / 3600:.1f} h, extrapolated from 20 numbers")
        rows.append((f"{name} phe (extrapolated)", phe / ours, ">= 1000"))
    except PeerMissingError as reason:
        rows.append((f"{name} phe (extrapolated)", float("nan"), f"skipped: {reason}"))
    return rows + packing()


def packing() -> list[Row]:
    """Our Paillier, packed against one ciphertext per number, and what the private key saves."""
    private_key = PrivateKey.generate()
    public_key, slots = private_key.public_key, slots_per_ciphertext(private_key)
    public = seconds(lambda: public_key.encrypt(5), 10)
    private = seconds(lambda: private_key.encrypt(5), 10)
    packed = seconds(lambda: encrypt_vector(np.full(slots, 0.5), private_key), 10) / slots
    print(f"Paillier, 2048 bits, private key: {1 / private:.0f} ciphertexts a second")
    return [
        ("Paillier, 63 packed numbers against one by one", private / packed, ">= 50"),
        (
            "Paillier, encrypting with the private key against the public",
            public / private,
            ">= 3",
        ),
    ]


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:80} {ratio:10,.1f}  {target}")
