"""Drawings of notebook 07: images, what an attack makes of them, and how close it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fltutor.attacks import Recovery
from fltutor.lessons.curves import draw_shares
from fltutor.lessons.pictures import draw_sheet
from fltutor.lessons.what_updates_leak.runs import Leak
from fltutor.plotting import BLACK, BLUE, GREY, LINES, RED, SEQUENCE, tidy

SHOWN = 8
"""Images that fit beside each other."""


def draw_units(figure: Figure, kernel_gradient: np.ndarray, *, columns: int = 16) -> str:
    """Draw the weight gradients of each unit as a picture; zero is mid-grey, more is darker.

    Args:
        figure: Where.
        kernel_gradient: Shape (num_features, units), as Keras lays out a dense kernel.
        columns: Units in one line.
    """
    rows = kernel_gradient.T
    lines = [
        range(first, min(first + columns, len(rows))) for first in range(0, len(rows), columns)
    ]
    draw_sheet(
        figure.subplots(),
        [[rows[unit] for unit in line] for line in lines],
        [[f"{unit}" for unit in line] for line in lines],
        [[False for _ in line] for line in lines],
        largest=np.abs(rows).max(),
    )
    silent = int((~rows.any(axis=1)).sum())
    return (
        f"Weight gradients of {len(rows)} units, up to {np.abs(rows).max():.2g} in size; "
        f"{silent} units are silent."
    )


def draw_recovery(figure: Figure, originals: np.ndarray, recovery: Recovery) -> str:
    """Draw the first images above the best guess for each; a thick frame means exact.

    Args:
        figure: Where.
        originals: Shape (n, num_features), pixels 0..1.
        recovery: What came back.
    """
    _draw_recovery(figure.subplots(), originals, recovery)
    return summary(recovery)


def _draw_recovery(ax: Axes, originals: np.ndarray, recovery: Recovery) -> None:
    shown = min(len(originals), SHOWN)
    exact = recovery.exact[:shown]
    closeness = [f"{psnr:.0f} dB" for psnr in recovery.psnr[:shown]]
    draw_sheet(
        ax,
        [[*originals[:shown]], [*recovery.images[:shown]]],
        [
            [f"image {number}" for number in range(1, shown + 1)],
            [text + " ✓" * bool(hit) for text, hit in zip(closeness, exact, strict=True)],
        ],
        [[False] * shown, exact],
        columns=4,
    )
    some = shown < len(originals)
    which = f"{shown} of {len(originals)} images" if some else "The client's images"
    ax.set_title(f"{which}, and below each the best guess", fontsize=11, loc="left")


def summary(recovery: Recovery) -> str:
    """Say how many images came back exactly, and how close the middle one is.

    Example:
        >>> from fltutor.attacks import score
        >>> summary(score(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.9]])))
        'Exact recoveries: 1 of 2. Median PSNR 76 dB.'
    """
    return (
        f"Exact recoveries: {int(recovery.exact.sum())} of {len(recovery.exact)}. "
        f"Median PSNR {np.median(recovery.psnr):.0f} dB."
    )


def draw_exact_shares(figure: Figure, shares: Mapping[str, Mapping[int, np.ndarray]]) -> str:
    """Draw the share of exact recoveries by batch size; bars are two standard errors each way.

    Args:
        figure: Where.
        shares: For each curve, one share per batch, 0 to 1, by batch size.
    """
    ax = figure.subplots()
    means = draw_shares(ax, shares, colours=(RED, BLUE, BLACK))
    tidy(
        ax,
        title="Larger batches hide more images, but not everybody",
        xlabel="images in the batch",
        ylabel="share recovered exactly",
    )
    ax.set_ylim(0, 1.05)
    ax.legend(frameon=False)
    sizes = list(next(iter(shares.values())))
    said = (
        ", ".join(f"{mean:.2f}" for mean in by_size.values()) + f" ({name})"
        for name, by_size in means.items()
    )
    return "\n".join([f"Share recovered exactly from batches of {sizes}:", *said])


def draw_noise(
    figure: Figure, noises: Sequence[float], closeness: Mapping[str, np.ndarray], blind: float
) -> str:
    """Draw how close reconstructions are as noise grows: the mean, and each run as a dot.

    Args:
        figure: Where.
        noises: Standard deviations, as shares of the update's length; none is zero.
        closeness: PSNR in decibels, shape (len(noises), runs), by name.
        blind: PSNR of a guess that needs no update.
    """
    ax = figure.subplots()
    for (name, runs), colour, line in zip(closeness.items(), SEQUENCE, LINES, strict=False):
        ax.plot(noises, runs.mean(axis=1), color=colour, ls=line, lw=2, label=name)
        ax.plot(noises, runs, ".", color=colour, ms=3, alpha=0.4)
    ax.axhline(blind, color=GREY, lw=1)
    ax.text(noises[0], blind, "the mean digit: no update needed", va="bottom", fontsize=9)
    tidy(
        ax,
        title="Little noise goes a long way",
        xlabel="standard deviation of the noise / length of the update",
        ylabel="PSNR (dB)",
    )
    ax.set_xscale("log")
    ax.legend(frameon=False)
    lost = (
        f"{name}: below the mean digit from noise {noises[int(np.argmax(low))]:g}"
        if (low := runs.mean(axis=1) < blind).any()
        else f"{name}: above the mean digit throughout"
        for name, runs in closeness.items()
    )
    return "; ".join(lost) + "."


def draw_leak(figure: Figure, leak: Leak) -> str:
    """Draw images and guesses on the left, the PSNR of every image of the batch on the right."""
    pictures, dots = figure.subplots(1, 2, width_ratios=(2.6, 1))
    _draw_recovery(pictures, leak.originals, leak.recovery)
    draw_closeness(dots, leak.recovery, leak.blind.mean())
    images = f"{len(leak.originals)} image{'s' if len(leak.originals) > 1 else ''}"
    epochs = f"{leak.local_epochs} local epoch{'s' if leak.local_epochs > 1 else ''}"
    return (
        f"{images}, {epochs}, noise {leak.noise:g}. {summary(leak.recovery)} "
        f"The mean digit, which needs no update: {leak.blind.mean():.0f} dB."
    )


def draw_closeness(ax: Axes, recovery: Recovery, blind: float) -> None:
    """Draw the PSNR of each image from the best down; full dots are exact."""
    order = np.argsort(-recovery.psnr, kind="stable")
    places, exact = np.arange(1, len(order) + 1), recovery.exact[order]
    closeness = recovery.psnr[order]
    ax.axhline(blind, color=GREY, lw=1, label="mean digit")
    ax.plot(places[exact], closeness[exact], "o", color=RED, label="exact")
    ax.plot(places[~exact], closeness[~exact], "o", mfc="none", color=BLUE, label="not exact")
    tidy(
        ax,
        title=f"Exact: {int(exact.sum())} of {len(exact)}",
        xlabel="image, best first",
        ylabel="PSNR (dB)",
    )
    ax.set(ylim=(0, 160), xlim=(0.5, len(order) + 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    ax.legend(frameon=False, loc="upper right", fontsize=9)
