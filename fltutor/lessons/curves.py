"""Drawings that several lessons share: who holds what, accuracy over rounds, tables of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fltutor.plotting import BLACK, COLOUR, GREY, LINES, tidy
from fltutor.simulation import History


def draw_splits(figure: Figure, splits: Mapping[str, np.ndarray]) -> str:
    """Draw who holds which digits, one square table per split; darker is more examples.

    Args:
        figure: Where.
        splits: Examples per client and digit, shape (num_clients, 10), by name.
    """
    axes = figure.subplots(1, len(splits), squeeze=False)[0]
    sentences = []
    for ax, (name, counts) in zip(axes, splits.items(), strict=True):
        image = draw_holdings(ax, counts, title=name)
        sizes = counts.sum(axis=1)
        sentences.append(f"{name}: {sizes.min()} to {sizes.max()} examples a client")
        figure.colorbar(image, ax=ax, label="examples")
    return "; ".join(sentences) + "."


def draw_holdings(ax: Axes, counts: np.ndarray, *, title: str):
    """Draw one table of examples per client and digit, and return the image."""
    image = ax.imshow(counts, cmap="Blues", aspect="auto", vmin=0, interpolation="nearest")
    tidy(ax, title=title, xlabel="digit", ylabel="client")
    ax.set_xticks(range(counts.shape[1]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return image


def draw_curves_and_rounds(
    figure: Figure, runs: Mapping[str, Sequence[History]], colours: Sequence[str], target: float
) -> tuple[Axes, str]:
    """Draw the two panels of a race; the left one still needs a title and its axis of rounds.

    Args:
        figure: Where.
        runs: Ways to train, by name; several seeds of each.
        colours: One for each way to train.
        target: The accuracy to reach.

    Returns:
        The left panel, and the rounds to the target in a sentence.
    """
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    said = []
    for row, (name, histories) in enumerate(runs.items()):
        colour, line = colours[row], LINES[row]
        for history in histories:
            left.plot(history.accuracy, color=colour, lw=0.7, alpha=0.35)
        average = np.mean([history.accuracy for history in histories], axis=0)
        left.plot(average, color=colour, ls=line, lw=2, label=name)
        reached = [history.rounds_to(target) for history in histories]
        middle = np.median([np.inf if r is None else r for r in reached])
        ticks = [r for r in reached if r is not None]
        if np.isfinite(middle):
            right.barh(row, middle, color=colour, alpha=0.55)
        right.plot(ticks, [row] * len(ticks), "|", color=BLACK, ms=12)
        text = f"{middle:g}" if np.isfinite(middle) else "not reached"
        right.annotate(
            text, (max(ticks, default=0), row), (8, 0), textcoords="offset points", va="center"
        )
        said.append(f"{name} {text}")
    draw_accuracy_axis(left, target)
    left.legend(fontsize=8, loc="lower right", frameon=False)
    right.set_yticks(range(len(runs)), list(runs), fontsize=9)
    right.set_ylim(len(runs) - 0.5, -0.5)
    right.margins(x=0.2)
    tidy(right, title=f"Rounds to {target:.0%}: middle, and each run", xlabel="rounds")
    return left, f"Rounds to {target:.0%}, the middle of the runs: " + ", ".join(said) + "."


def draw_accuracy_axis(ax: Axes, target: float) -> None:
    """Percents from 0 to 100, and the accuracy to reach."""
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.axhline(target, color=GREY, lw=0.8, ls=":")


def draw_shares(
    ax: Axes, shares: Mapping[str, Mapping[int, np.ndarray]], *, colours: Sequence[str]
) -> dict[str, dict[int, float]]:
    """Draw mean shares by size on a logarithmic axis; bars are two standard errors each way.

    Args:
        ax: Where; it still needs a title, labels and its limits in y.
        shares: For each curve several shares, 0 to 1, by size.
        colours: One per curve.

    Returns:
        The means, as they are drawn.
    """
    means: dict[str, dict[int, float]] = {}
    for (name, by_size), colour, line, marker in zip(
        shares.items(), colours, LINES, "os^", strict=False
    ):
        means[name] = {size: values.mean() for size, values in by_size.items()}
        errors = [2 * values.std() / np.sqrt(len(values)) for values in by_size.values()]
        ax.errorbar(
            list(by_size), list(means[name].values()), errors,
            color=colour, ls=line, marker=marker, ms=5, capsize=3, label=name,
        )  # fmt: skip
    sizes = list(next(iter(shares.values())))
    ax.set_xscale("log")
    ax.set_xticks(sizes, sizes)
    ax.minorticks_off()
    return means


def draw_accuracy_so_far(ax: Axes, accuracy: np.ndarray, rounds: int) -> None:
    """Draw test accuracy after 0, 1, 2, ... of ``rounds`` rounds, and what guessing gives."""
    ax.plot(accuracy, color=COLOUR["accuracy"], marker="o", markersize=3)
    draw_guessing(ax, rounds)
    ax.set(xlim=(0, rounds), ylim=(0, 1))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))  # each tick costs time to draw
    ax.yaxis.set_major_locator(MaxNLocator(4))


def draw_guessing(ax: Axes, end: float) -> None:
    """Say what guessing one of ten digits gives, left of ``end``."""
    ax.axhline(0.1, color=GREY, linestyle=":", linewidth=1)
    ax.annotate("guessing", (end, 0.1), ha="right", va="bottom", color="#555555")


def draw_no_bound(ax: Axes) -> str:
    """Say in place of a curve that epsilon is infinite; give the title for it."""
    ax.text(0.5, 0.5, "ε = ∞", transform=ax.transAxes, ha="center", fontsize=28)
    return "No noise, no bound: epsilon is infinite"


def draw_accuracy_table(
    ax: Axes,
    accuracy: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    number: str,
    lowest: float = 0.0,
) -> None:
    """Draw one accuracy per row and column, darker for better; it still needs a title.

    Args:
        ax: Where.
        accuracy: 0 to 1, shape (rows, columns).
        rows: Names of the rows.
        columns: Names of the columns.
        number: How to write one, such as ``".2f"``.
        lowest: The accuracy that is drawn white.
    """
    ax.imshow(accuracy, cmap="Blues", vmin=lowest, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(accuracy):
        colour = "white" if value > lowest + 0.7 * (1 - lowest) else BLACK
        ax.text(column, row, f"{value:{number}}", ha="center", va="center", color=colour)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
