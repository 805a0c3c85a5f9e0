"""Drawings of notebook 08: uploads as noise, sums as pictures, and what a round gives away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fltutor.attacks import Recovery
from fltutor.lessons.curves import draw_shares
from fltutor.lessons.knowledge_table import draw_table, summary
from fltutor.lessons.pictures import draw_sheet
from fltutor.lessons.secure_aggregation.runs import FULL_RING, MaskedRound
from fltutor.plotting import GREEN, RED, tidy


def draw_uploads(
    figure: Figure, updates: np.ndarray, uploads: np.ndarray, total: np.ndarray, *, shown: int = 120
) -> str:
    """Draw rows as clients have them, as the server receives them, and the sum of both.

    Zero is mid-grey on the left; on the right white is 0 and black the end of the ring.

    Args:
        figure: Where.
        updates: Shape (n, d).
        uploads: Ring elements, shape (n, d).
        total: What the server decoded, shape (d,).
        shown: How many coordinates, the loudest of the sum, in their order.
    """
    loudest = np.sort(np.argsort(-np.abs(total))[:shown])
    rows, noise = updates[:, loudest], uploads[:, loudest]
    modulus = 2.0 ** (8 * uploads.itemsize)
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(len(rows), 2))
    size = np.abs(rows).max()
    (have, see), (mine, theirs) = axes
    look = {"aspect": "auto", "interpolation": "nearest"}
    have.imshow(rows, cmap="Greys", vmin=-size, vmax=size, **look)
    see.imshow(noise / modulus, cmap="Greys", vmin=0, vmax=1, **look)
    largest = np.abs(total).max()
    for ax, row in ((mine, updates.sum(axis=0)), (theirs, total)):
        ax.imshow(row[None, loudest], cmap="Greys", vmin=-largest, vmax=largest, **look)
        ax.set_xlabel(f"coordinate, the {shown} loudest")
        ax.set_yticks([0], ["sum"])
    tidy(have, title="What clients have", ylabel="client")
    tidy(see, title=f"What the server receives, as a part of 2^{8 * uploads.itemsize}")
    for ax in axes.flat:
        ax.set_xticks([])
    error = np.abs(total - updates.sum(axis=0, dtype=np.float64)).max()
    return (
        f"{len(rows)} uploads of {updates.shape[1]:,} numbers: in the pictured ones the mean is "
        f"{noise.mean() / modulus:.2f} of the ring, uniform would be 0.50. "
        f"The two sums differ by at most {error:.0e}."
    )


def draw_sum_leak(figure: Figure, shares: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> str:
    """Draw what share of the images comes back exactly, by the number of clients in the sum.

    Args:
        figure: Where.
        shares: For each number of clients one share per seed, from the sum and from the
            uploads one by one.
    """
    ax, sizes = figure.subplots(), list(shares)
    means = draw_shares(
        ax,
        {
            "the sum": {size: shares[size][0] for size in sizes},
            "one masked upload": {size: shares[size][1] for size in sizes if size > 1},
        },
        colours=(RED, GREEN),
    )
    ax.set_ylim(-0.04, 1.08)
    ax.legend(frameon=False, title="the attacker inverts")
    tidy(
        ax,
        title="Masks hide the rows; the sum speaks for itself",
        xlabel="clients in the sum, one image each",
        ylabel="share recovered exactly",
    )
    said = (
        f"{name}: " + ", ".join(f"{size}: {mean:.2f}" for size, mean in by_size.items())
        for name, by_size in means.items()
    )
    return "Share recovered exactly, by clients in the sum. " + "; ".join(said) + "."


def draw_masked_round(figure: Figure, done: MaskedRound) -> str:
    """Draw what clients have, what the server sees of each, what the sum gives, and who knows."""
    figure.set_layout_engine("none")  # fixed places: faster, and nothing jumps under a slider
    left, right = figure.add_axes((0.1, 0, 0.56, 0.93)), figure.add_axes((0.79, 0.1, 0.2, 0.76))
    right.set_anchor("N")
    cohort, clients = done.cohort, range(len(done.cohort.images))
    seen = [_loudest_unit(done, client) for client in clients]
    nobody = dict.fromkeys(clients)
    alone = nobody | _by_client(done, done.from_uploads)
    together = nobody | (_by_client(done, done.from_total) if done.from_total else {})
    draw_sheet(
        left,
        [list(cohort.images), seen, [guess and guess.image for guess in together.values()]],
        [
            [f"client {client}" for client in clients],
            [guess.closeness if guess else "left" for guess in alone.values()],
            [guess.closeness if guess else "" for guess in together.values()],
        ],
        [
            [False] * len(clients),
            [bool(guess and guess.exact) for guess in alone.values()],
            [bool(guess and guess.exact) for guess in together.values()],
        ],
        labels=["each client has", "the server sees", "the sum gives"],
    )
    if done.abort:
        left.set_title("No sum: " + done.abort.partition(":")[0], fontsize=11, loc="left")
    else:
        left.set_title(f"The sum is right to {done.error:.0e}", fontsize=11, loc="left")
    weak = done.mask_bits < FULL_RING
    caveat = ",\nif masks were perfect" if weak else ""
    draw_table(right, done.knowledge, title="Who knows what" + caveat)
    found = int(done.from_uploads.exact.sum())
    outcome = (
        f"the sum gives back {int(done.from_total.exact.sum())} of {len(done.from_total.exact)} "
        "images exactly"
        if done.from_total is not None
        else done.abort
    )
    return (
        f"{done.settings}. Of {len(done.uploaded)} uploads the attack gives back {found} images "
        f"exactly; {outcome}. {'If masks were perfect, r' if weak else 'R'}"
        f"{summary(done.knowledge)[1:]}"
    )


def _loudest_unit(done: MaskedRound, client: int) -> np.ndarray | None:
    """The upload's numbers for the unit that is loudest in the true update: a picture."""
    if client not in done.uploaded:
        return None
    shape, _ = done.cohort.spec.shapes[:2]
    size = shape[0] * shape[1]
    true = done.cohort.updates[client][:size].reshape(shape)
    unit = np.abs(true).sum(axis=0).argmax()
    seen = done.uploaded[client][:size].reshape(shape)[:, unit]
    low, high = seen.min(), seen.max()
    seen = (seen - low) / (high - low)
    return seen if true[:, unit].sum() > 0 else 1 - seen


class _Guess(NamedTuple):
    image: np.ndarray
    closeness: str
    exact: bool


def _by_client(done: MaskedRound, recovery: Recovery) -> dict[int, _Guess]:
    """The best guess for the image of each client that uploaded."""
    lines = zip(recovery.images, recovery.psnr, recovery.exact, strict=True)
    guesses = [_Guess(image, f"{closeness:.0f} dB", exact) for image, closeness, exact in lines]
    return dict(zip(sorted(done.uploaded), guesses, strict=True))
