"""Drawings of notebook 02: who holds which key, and who reads what."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fltutor.crypto.exchange import Exchange
from fltutor.plotting import COLOUR

PRIVATE, READ = COLOUR["encrypted"], COLOUR["attack"]
SLASH = np.array([[[-0.3, 0.3], [0.3, -0.3]]])  # of one square, around its middle
CROSS = 1.5 * np.concatenate([SLASH, SLASH * [1, -1]])
FRAME = np.array([[[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]]) * 0.44


def draw_exchange(figure: Figure, exchange: Exchange) -> str:
    """Draw the key matrix and, beside it, who reads the message of each pair."""
    figure.set_layout_engine("none")  # fixed places: a slider waits for this
    _draw_keys(figure.add_axes((0.07, 0.15, 0.34, 0.76)), exchange)
    _draw_messages(figure.add_axes((0.47, 0.15, 0.34, 0.76)), exchange)
    num_victims, total = exchange.num_victims, exchange.num_messages
    victims = f"{num_victims} victim{'s' * (num_victims != 1)}" if num_victims else "no victim"
    return (
        f"{exchange.num_clients} clients, {'signed' if exchange.signed else 'unsigned'} keys, "
        f"{victims}: {len(exchange.refusals)} of {total} keys refused, "
        f"{exchange.delivered.sum()} messages arrive, the server reads {len(exchange.overheard)}."
    )


def _draw_keys(ax: Axes, exchange: Exchange) -> None:
    """One square a key; its shade and its two digits are the first byte of its fingerprint."""
    prints = exchange.fingerprints
    held = prints >= 0
    first_byte = np.where(held, prints >> 52, 0)
    _draw_squares(
        ax, np.where(held, 0.5 + 0.5 * first_byte / 255, 1.0)[..., None].repeat(3, axis=2)
    )
    _draw_lines(ax, FRAME, _overheard(exchange), color=READ, linewidth=1.8)
    _draw_lines(ax, SLASH, ~held & _pairs(exchange), color="0.7", linewidth=1)
    for row, column in np.argwhere(held):
        digits = f"{first_byte[row, column]:02x}"
        ax.text(column, row, digits, ha="center", va="center", fontsize=8)
    shared = int(((prints == prints.T) & held).sum()) // 2
    title = f"{shared} of {exchange.num_messages // 2} pairs share a key"
    _label(ax, exchange, title, "holds a key for client")


def _draw_messages(ax: Axes, exchange: Exchange) -> None:
    overheard, missing = _overheard(exchange), ~exchange.delivered & _pairs(exchange)
    squares = np.ones((*overheard.shape, 3))
    squares[exchange.delivered] = to_rgb(PRIVATE)
    squares[overheard] = to_rgb(READ)
    _draw_squares(ax, squares)
    _draw_lines(ax, CROSS, overheard, color="white", linewidth=1)
    _draw_lines(ax, SLASH, missing, color="0.7", linewidth=1)
    legend = {"its reader only": PRIVATE, "× the server too": READ, "/ not sent": "0.55"}
    for line, (text, colour) in enumerate(legend.items()):
        place = (1.04, 0.6 - 0.1 * line)
        ax.text(*place, text, transform=ax.transAxes, color=colour, weight="bold", fontsize=10)
    title = f"The server reads {overheard.sum()} of {exchange.num_messages} messages"
    _label(ax, exchange, title, "writes to client")


def _overheard(exchange: Exchange) -> np.ndarray:
    read = np.zeros_like(exchange.delivered)
    for pair in exchange.overheard:
        read[pair] = True
    return read


def _pairs(exchange: Exchange) -> np.ndarray:
    """True off the diagonal."""
    return ~np.eye(exchange.num_clients, dtype=bool)


def _draw_squares(ax: Axes, colours: np.ndarray) -> None:
    ax.imshow(colours, interpolation="nearest")
    edges = np.arange(len(colours) + 1) - 0.5
    for draw in (ax.hlines, ax.vlines):
        draw(edges, edges[0], edges[-1], color="white", linewidth=2)


def _draw_lines(ax: Axes, shape: np.ndarray, where: np.ndarray, **style) -> None:
    """Draw the same lines in every square where it says so, all at once."""
    middles = np.argwhere(where)[:, None, None, ::-1]  # x is the column
    lines = (middles + shape).reshape(-1, *shape.shape[1:])
    ax.add_collection(LineCollection(lines, **style))


def _label(ax: Axes, exchange: Exchange, title: str, xlabel: str) -> None:
    ax.set_xticks(range(exchange.num_clients))
    ax.set_yticks(range(exchange.num_clients))
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=11, loc="left")
    ax.set_xlabel(f"... {xlabel} ...")
    ax.set_ylabel("client ...")
