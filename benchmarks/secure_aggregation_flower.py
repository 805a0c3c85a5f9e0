"""A secure sum with Flower's own primitives, and ours, in one process; run by its neighbour.

Flower's part follows its SecAgg+ client and server (``flwr.client.mod.secure_aggregation``,
``flwr.server.workflow.secure_aggregation``) step by step, without network, messages
and logs. All clients do the same work, so a few of them are measured and scaled up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    decrypt,
    encrypt,
    generate_shared_key,
)
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

from fltutor.crypto import shamir
from fltutor.fixed_point import FixedPoint
from fltutor.protocols.masking import secagg_sum

NUM_CLIENTS, NUM_PARAMS, THRESHOLD = 100, 199_210, 51
MOD_RANGE, CLIPPING, TARGET = 2**32, 8.0, 2**22  # Flower's defaults
GRID = FixedPoint(fraction_bits=16, bits=24, ring_bits=32)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class FlowerClient:
    """Keys of a client, as Flower keeps them: the private ones in PEM."""

    def __init__(self):
        (sk1, pk1), (sk2, pk2) = generate_key_pairs(), generate_key_pairs()
        self.sk1, self.pk1 = private_key_to_bytes(sk1), public_key_to_bytes(pk1)
        self.sk2, self.pk2 = private_key_to_bytes(sk2), public_key_to_bytes(pk2)
        self.seed = os.urandom(32)


def flower_client_round(me: FlowerClient, peers: list[FlowerClient], row: np.ndarray) -> None:
    """Stages 0 to 2 of one client: deal and seal shares, open the others', quantise and mask."""
    FlowerClient()  # stage 0: its own two key pairs
    num = len(peers) + 1
    seed_shares = create_shares(me.seed, THRESHOLD, num)
    key_shares = create_shares(me.sk1, THRESHOLD, num)
    sealed, keys = [], []
    for number, peer in enumerate(peers):
        key = generate_shared_key(bytes_to_private_key(me.sk2), bytes_to_public_key(peer.pk2))
        plain = share_keys_plaintext_concat(0, number, seed_shares[number], key_shares[number])
        sealed.append(encrypt(key, plain))
        keys.append(key)
    for key, message in zip(keys, sealed, strict=True):  # as many and as long as the others'
        share_keys_plaintext_separate(decrypt(key, message))
    values = factor_combine(TARGET, quantize([row], CLIPPING, TARGET))
    shapes = [array.shape for array in values]
    values = parameters_addition(values, pseudo_rand_gen(me.seed, MOD_RANGE, shapes))
    for number, peer in enumerate(peers):
        key = generate_shared_key(bytes_to_private_key(me.sk1), bytes_to_public_key(peer.pk1))
        mask = pseudo_rand_gen(key, MOD_RANGE, shapes)
        combine = parameters_addition if number % 2 else parameters_subtraction
        values = combine(values, mask)
    parameters_mod(values, MOD_RANGE)


def flower_server_round(client: FlowerClient, row: np.ndarray) -> float:
    """What the server does for each client that stayed: recover its seed, take off its mask."""
    shares = create_shares(client.seed, THRESHOLD, NUM_CLIENTS)
    masked = [np.zeros((1,), np.int64), np.zeros(row.shape, np.int64)]

    def recover_and_unmask():
        seed = combine_shares(shares)
        shapes = [array.shape for array in masked]
        parameters_subtraction(masked, pseudo_rand_gen(seed, MOD_RANGE, shapes))
        parameters_addition(masked, masked)  # the upload itself

    return seconds(recover_and_unmask)


def whole_round(turns: int = 2) -> dict[str, float]:
    """Seconds for all clients and the server: Flower's primitives, and ours in both rings."""
    rows = np.random.default_rng(0).normal(size=(NUM_CLIENTS, NUM_PARAMS)).astype(np.float32)
    cohort = [FlowerClient() for _ in range(NUM_CLIENTS)]
    times = {"flower": [], "ours 32": [], "ours 64": []}
    for turn in range(turns):
        client = seconds(lambda: flower_client_round(cohort[0], cohort[1:], rows[0]))
        server = flower_server_round(cohort[turn], rows[0])
        times["flower"].append(NUM_CLIENTS * (client + server))
        times["ours 32"].append(seconds(lambda: secagg_sum(rows, threshold=THRESHOLD, grid=GRID)))
        times["ours 64"].append(seconds(lambda: secagg_sum(rows, threshold=THRESHOLD)))
    return {name: median(values) for name, values in times.items()}


def sharing(turns: int = 3) -> dict[str, float]:
    """Seconds to deal, and to recover, the two secrets of one client, 51 of 100."""
    theirs, key, seed = FlowerClient(), os.urandom(32), os.urandom(32)
    times: dict[str, list[float]] = {}

    def note(name: str, call: Callable[[], object]) -> None:
        times.setdefault(name, []).append(seconds(call))

    for _ in range(turns):
        theirs_dealt = [create_shares(s, THRESHOLD, NUM_CLIENTS) for s in (theirs.sk1, theirs.seed)]
        ours_dealt = [shamir.split(s, THRESHOLD, NUM_CLIENTS) for s in (key, seed)]
        for secret in (theirs.sk1, theirs.seed):
            note(
                "flower split", lambda secret=secret: create_shares(secret, THRESHOLD, NUM_CLIENTS)
            )
        for secret in (key, seed):
            note("ours split", lambda secret=secret: shamir.split(secret, THRESHOLD, NUM_CLIENTS))
        for dealt in theirs_dealt:
            note("flower combine", lambda dealt=dealt: combine_shares(dealt[:THRESHOLD]))
        shamir.interpolation_weights.cache_clear()  # once for these survivors, then a cheap sum
        for dealt in ours_dealt:
            note("ours combine", lambda dealt=dealt: shamir.combine(dealt[:THRESHOLD]))
    return {name: sum(values) / turns for name, values in times.items()}


if __name__ == "__main__":
    print(json.dumps({"round": whole_round, "sharing": sharing}[sys.argv[1]]()))
