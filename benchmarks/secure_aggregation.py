"""Secure aggregation against the raw cipher, against Flower's primitives, and against itself.

Flower runs in an environment of its own (see ``benchmarks.peers``), with our part
in the same process, taking turns. Growth is fitted as a power of n or d over three sizes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.stats import hypergeom

from benchmarks.peers import PeerMissingError, measure_beside_peer
from fltutor.crypto.prg import add_mask, expand
from fltutor.fixed_point import FixedPoint
from fltutor.protocols.masking import neighbour_graph, secagg_sum

Row = tuple[str, float, str]
NUM_PARAMS = 200_000
GRID = FixedPoint(fraction_bits=12, bits=20, ring_bits=32)


def times(turns: int, *calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, taking turns; the first turn is a warm-up."""
    seconds = [[] for _ in calls]
    for turn in range(turns + 1):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                taken.append(time.perf_counter() - start)
    return [median(taken) for taken in seconds]


def masks() -> list[Row]:
    """One mask of 200 k parameters: made, and made and added, against the cipher alone."""
    rows = []
    for dtype in (np.uint32, np.uint64):
        accumulator = np.zeros(NUM_PARAMS, dtype)
        zeros, out = bytes(accumulator.nbytes), bytearray(accumulator.nbytes)

        def raw_aes(zeros=zeros, out=out):
            cipher = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16)))
            cipher.encryptor().update_into(zeros, out)

        raw, added, expanded = times(
            200,
            raw_aes,
            lambda accumulator=accumulator: add_mask(accumulator, bytes(32)),
            lambda dtype=dtype: expand(bytes(32), NUM_PARAMS, dtype),
        )
        name = np.dtype(dtype).name
        rows.append((f"add_mask, 200 k {name}, against raw AES-256-CTR", raw / added, ">= 0.6"))
        rows.append((f"expand, 200 k {name}, against raw AES-256-CTR", raw / expanded, ">= 0.6"))
    return rows


def against_flower() -> list[Row]:
    """100 clients x 199,210 parameters, 51 of 100 shares."""
    whole = "100 clients x 199 k parameters against Flower's primitives"
    dealt = "51 of 100 shares of a client's key and seed against Flower's"
    try:
        taken = measure_beside_peer("secure_aggregation_flower", "round")
        print(f"whole round: {', '.join(f'{name} {s:.2f} s' for name, s in taken.items())}")
        shares = measure_beside_peer("secure_aggregation_flower", "sharing")
        print(f"sharing: {', '.join(f'{name} {1e3 * s:.2f} ms' for name, s in shares.items())}")
    except PeerMissingError as reason:
        return [(name, float("nan"), f"skipped: {reason}") for name in (whole, dealt)]
    return [
        (f"secagg_sum, 32-bit ring, {whole}", taken["flower"] / taken["ours 32"], ">= 20"),
        (f"secagg_sum, 64-bit ring, {whole}", taken["flower"] / taken["ours 64"], ""),
        (f"split, {dealt}", shares["flower split"] / shares["ours split"], ">= 100"),
        (f"combine, {dealt}", shares["flower combine"] / shares["ours combine"], ">= 100"),
    ]


def growth() -> list[Row]:
    """The power of n or d that fits the time best, over three sizes."""
    rows = []
    for what, sizes, sum_of in (
        ("clients n, everybody with everybody", (25, 50, 100), _everybody),
        ("clients n, neighbours (5 % corrupt, 5 % leave)", (100, 300, 900), _neighbours),
        ("parameters d, 20 clients", (50_000, 200_000, 800_000), _long_rows),
    ):
        taken = times(2, *(sum_of(size) for size in sizes))
        power, _ = np.polyfit(np.log(sizes), np.log(taken), 1)
        pairs = ", ".join(
            f"{size:,}: {1e3 * s:.0f} ms" for size, s in zip(sizes, taken, strict=True)
        )
        print(f"time over {what}: {pairs}")
        rows.append((f"secagg_sum, time grows with {what}, power", float(power), "(fitted)"))
    return rows


def _everybody(num_clients: int) -> Callable[[], object]:
    rows = np.zeros((num_clients, 10_000), np.float32)
    return lambda: secagg_sum(rows, threshold=num_clients // 2 + 1, grid=GRID)


def _neighbours(num_clients: int) -> Callable[[], object]:
    rows = np.zeros((num_clients, 100), np.float32)
    graph = neighbour_graph(num_clients, corrupt=0.05, dropouts=0.05)
    return lambda: secagg_sum(rows, graph=graph, grid=GRID)


def _long_rows(num_params: int) -> Callable[[], object]:
    rows = np.zeros((20, num_params), np.float32)
    return lambda: secagg_sum(rows, threshold=11, grid=GRID)


def graph() -> list[Row]:
    """Derive a large graph, against one chance of SciPy's for each degree that is tried."""
    derive = partial(neighbour_graph, 2000, corrupt=0.45, dropouts=0.45)
    degrees = range(2, derive().degree + 1, 2)
    ours, scipys = times(
        3, derive, lambda: [hypergeom.sf(degree // 2, 1999, 900, degree) for degree in degrees]
    )
    name = "neighbour_graph, 2,000 clients, 45 % corrupt, 45 % leave, against SciPy's tails"
    return [(name, scipys / ours, "(information)")]


def run() -> list[Row]:
    """Return one row per measurement: what, ratio, target."""
    return [*masks(), *against_flower(), *growth(), *graph()]


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:90} {ratio:8.2f}  {target}")
