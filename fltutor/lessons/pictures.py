"""Square pictures: images, the ink of weights, and what an attack makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fltutor.attacks import Recovery
from fltutor.plotting import BLACK, GREY, RED

MAX_COLUMNS = 10


def draw_guesses(figure: Figure, lines: Mapping[str, tuple[np.ndarray, Recovery | None]]) -> str:
    """Draw lines of pictures: images, or an attack's best guess for each, exact ones framed.

    Args:
        figure: Where.
        lines: For each line its pictures, shape (n, num_features), and the recovery they
            are from, if they are guesses.
    """
    pictures, titles, framed = [], [], []
    for images, recovery in lines.values():
        pictures.append([*images[:MAX_COLUMNS]])
        if recovery is None:
            titles.append([""] * len(images))
            framed.append([False] * len(images))
        else:
            titles.append([f"{closeness:.0f} dB" for closeness in recovery.psnr])
            framed.append(list(recovery.exact))
    draw_sheet(figure.subplots(), pictures, titles, framed, labels=list(lines))
    return (
        "Exact recoveries: "
        + "; ".join(
            f"{name.replace(chr(10), ' ')} {int(recovery.exact.sum())} of {len(recovery.exact)}"
            for name, (_, recovery) in lines.items()
            if recovery is not None
        )
        + "."
    )


def draw_sheet(
    ax: Axes,
    lines: Sequence[Sequence[np.ndarray | None]],
    titles: Sequence[Sequence[str]],
    framed: Sequence[Sequence[bool]],
    *,
    labels: Sequence[str] = (),
    columns: int = 1,
    largest: float | None = None,
) -> None:
    """Draw lines of square pictures on one axes, which is many times faster than an axes each.

    Args:
        ax: Where.
        lines: Pictures of one size, pixels 0 (white) to 1 (black); None is an empty frame.
        titles: What stands above each.
        framed: Which get a thick frame: an attack got them back exactly.
        labels: What stands to the left of each line.
        columns: Leave room for at least so many.
        largest: If given, pixels run from minus (white) to plus this (black).
    """
    side = int(np.sqrt(next(p for line in lines for p in line if p is not None).size))
    width, height = side + 2, side + 3
    columns = max(columns, *map(len, lines))
    sheet = np.full((len(lines) * height, columns * width), np.nan)
    for row, line in enumerate(lines):
        for column, picture in enumerate(line):
            top, left = row * height + 2, column * width + 1
            if picture is not None:
                sheet[top : top + side, left : left + side] = picture.reshape(side, side)
            edge, thickness = (RED, 2.5) if framed[row][column] else (GREY, 0.6)
            corner = (left - 0.5, top - 0.5)
            ax.add_patch(Rectangle(corner, side, side, fill=False, ec=edge, lw=thickness))
            middle = left + side / 2 - 0.5
            ax.text(middle, top - 0.8, titles[row][column], ha="center", va="bottom", fontsize=8)
    for row, label in enumerate(labels):
        middle = row * height + 2 + side / 2
        ax.text(-1, middle, label, ha="right", va="center", fontsize=9, color=BLACK)
    ends = (0, 1) if largest is None else (-largest, largest)
    ax.imshow(sheet, cmap="Greys", vmin=ends[0], vmax=ends[1], interpolation="nearest")
    ax.set_anchor("NW")
    ax.set_axis_off()


def draw_ink(
    ax: Axes, weights: np.ndarray, digit: int, *, title: str, darkest: float | None = None
) -> None:
    """Draw the weights of one digit as a 28x28 picture; larger is darker, unknown is grey.

    Args:
        ax: Where.
        weights: Shape (784, 10).
        digit: Which column.
        title: The finding.
        darkest: The size that is drawn black; the largest by default.
    """
    ink = np.abs(weights[:, digit], dtype=np.float64).reshape(28, 28)
    ax.set_facecolor("0.85")
    darkest = darkest or np.nanmax(ink)
    ax.imshow(ink, cmap="Greys", vmin=0, vmax=darkest, interpolation="nearest")
    ax.set(xticks=(0, 27), yticks=(0, 27))
    label_picture(ax, title, "pixel column", "pixel row")


def label_picture(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Small letters, so that four pictures fit beside each other."""
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel(xlabel, fontsize=9)
    ax.set_ylabel(ylabel, fontsize=9)
    ax.tick_params(labelsize=8, length=2)
