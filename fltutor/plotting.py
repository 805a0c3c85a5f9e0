"""One look for the whole course: colours that differ in hue and in grey.

The colours are Okabe and Ito's, safe for colour-blind readers. Each idea keeps
one colour from the first notebook to the last, and lines also differ in style,
so that a black-and-white print loses nothing.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"

SEQUENCE = (BLUE, ORANGE, GREEN, PINK, BLACK, SKY, RED)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))

COLOUR = {
    "plain": BLACK,
    "encrypted": BLUE,
    "secure aggregation": GREEN,
    "paillier": PINK,
    "ckks": SKY,
    "privacy": ORANGE,
    "attack": RED,
    "accuracy": BLUE,
}


def new_figure(width: float = 9.0, height: float = 3.4) -> Figure:
    """Make a figure that belongs to no window; sizes are in inches.

    Example:
        >>> new_figure(4, 3).get_size_inches()
        array([4., 3.])
    """
    return Figure(figsize=(width, height), dpi=80, layout="constrained")


def tidy(ax: Axes, *, title: str, xlabel: str = "", ylabel: str = "") -> Axes:
    """Label an axes; the title states the finding, the labels carry the units."""
    ax.set_title(title, fontsize=11, loc="left", y=1.0)  # a fixed place, found quickly
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
