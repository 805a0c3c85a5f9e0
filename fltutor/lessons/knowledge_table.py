"""The table of who knows what, drawn the same way in every notebook."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fltutor.knowledge import Knowledge
from fltutor.plotting import BLACK, BLUE, GREY, RED


def draw_who_knows_what(figure: Figure, tables: Mapping[str, Knowledge]) -> str:
    """Draw one table per protocol, side by side.

    Args:
        figure: Where.
        tables: From :func:`fltutor.knowledge.who_knows_what`, by the name of the protocol.

    Returns:
        For each protocol, how many rows of others each observer knows.
    """
    widths = [len(table.facts) for table in tables.values()]
    axes = figure.subplots(1, len(tables), width_ratios=widths, squeeze=False)[0]
    sentences = []
    for number, (ax, (name, table)) in enumerate(zip(axes, tables.items(), strict=True)):
        draw_table(ax, table, title=name)
        if number and table.observers == next(iter(tables.values())).observers:
            ax.set_yticklabels([])
        sentences.append(f"{name}: {summary(table)}")
    return " ".join(sentences)


def draw_table(ax: Axes, table: Knowledge, *, title: str) -> None:
    """Draw one table: a full square is known, one with a cross is somebody else's row."""
    for line in range(len(table.observers)):
        for column in range(len(table.facts)):
            known = table.matrix[line, column]
            foreign = table.foreign[line, column]
            colour = (RED if foreign else BLUE) if known else "white"
            box = Rectangle((column - 0.42, line - 0.42), 0.84, 0.84, fc=colour, ec=GREY, lw=0.6)
            ax.add_patch(box)
            if foreign:
                ax.text(column, line, "×", color="white", ha="center", va="center", fontsize=11)
    columns = range(len(table.facts))
    ax.set(xlim=(-0.6, columns[-1] + 0.6), ylim=(len(table.observers) - 0.4, -0.6), aspect="equal")
    ax.set_xticks(columns, [fact.removeprefix("row ") for fact in table.facts], fontsize=9)
    ax.set_yticks(range(len(table.observers)), table.observers, fontsize=9)
    ax.axvline(len(columns) - 1.5, color=BLACK, lw=0.8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("row of client, and the sum", fontsize=9)
    ax.set_title(title, fontsize=11, loc="left")


def summary(table: Knowledge) -> str:
    """Say how many rows of others each observer knows.

    Example:
        >>> import numpy as np
        >>> from fltutor.knowledge import who_knows_what
        >>> from fltutor.protocols import plain_sum
        >>> summary(who_knows_what(plain_sum(np.eye(2)).transcript, ["server", "client 0"]))
        'rows of others known: server: 2, client 0: 0.'
    """
    counts = zip(table.observers, table.foreign.sum(axis=1), strict=True)
    return "rows of others known: " + ", ".join(f"{name}: {count}" for name, count in counts) + "."
