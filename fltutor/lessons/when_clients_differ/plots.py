"""Drawings of notebook 05: clients that drift apart, and races among methods and hospitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fltutor.aggregation import Drift
from fltutor.lessons.curves import draw_accuracy_table, draw_curves_and_rounds, draw_holdings
from fltutor.lessons.when_clients_differ.runs import DifferingRun
from fltutor.plotting import BLACK, BLUE, GREY, LINES, ORANGE, RED, SEQUENCE, SKY, tidy
from fltutor.simulation import History

MARGINS = {"left": 0.05, "right": 0.99, "bottom": 0.15, "top": 0.91, "wspace": 0.3}
"""Of the explorer's picture: fixed, since a layout engine takes half the time of a picture."""


def draw_tug(
    figure: Figure, paths: Mapping[str, np.ndarray], *, minima: Sequence[float], best: float
) -> str:
    """Draw where the server of two clients with one weight goes, round by round.

    Args:
        figure: Where.
        paths: The weight after 0, 1, 2, ... rounds, by name.
        minima: Each client's own favourite weight.
        best: The weight at which their losses together are smallest.
    """
    ax = figure.subplots()
    for client, minimum in enumerate(minima):
        ax.axhline(minimum, color=GREY, lw=1)
        ax.annotate(
            f"client {client}'s favourite",
            (1, minimum),
            (-4, 3),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    ax.axhline(best, color=BLACK, lw=1.2, ls=":")
    ax.annotate(
        "best for both",
        (1, best),
        (-4, 3),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    for (name, path), colour, line in zip(paths.items(), SEQUENCE, LINES, strict=False):
        ax.plot(path, color=colour, ls=line, lw=2, marker="o", ms=3, label=name)
    spread = max(minima) - min(minima)
    ax.set_ylim(min(minima) - 0.08 * spread, max(minima) + 0.15 * spread)
    tidy(ax, title="Long local work ends in the wrong place", xlabel="rounds", ylabel="weight w")
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return "After the last round: " + ", ".join(f"{n} {p[-1]:.3f}" for n, p in paths.items()) + "."


def draw_drifts(figure: Figure, drifts: Mapping[str, Drift]) -> str:
    """Draw the updates of one round as arrows, one panel per split, and their mean.

    Args:
        figure: Where.
        drifts: How far the updates agreed, by the name of the split.
    """
    axes = figure.subplots(1, len(drifts), squeeze=False)[0]
    for ax, (name, drift) in zip(axes, drifts.items(), strict=True):
        draw_arrows(ax, drift)
        ax.set_title(f"{name}: {drift.kept:.0%} is left", fontsize=11, loc="left")
    return (
        "; ".join(
            f"{name}: two clients agree to a cosine of {drift.agreement:.2f}, and {drift.kept:.0%} "
            "of their length is left in the mean"
            for name, drift in drifts.items()
        )
        + "."
    )


def draw_arrows(ax: Axes, drift: Drift) -> None:
    """Draw each client's update as a thin arrow, and their mean as a thick one."""
    reach = 1.1 * np.abs(np.vstack([drift.arrows, drift.average])).max()
    for arrow in drift.arrows:
        _arrow(ax, arrow, color=SKY, lw=1.2, reach=reach)
    _arrow(ax, drift.average, color=RED, lw=3, reach=reach)
    ax.plot([], [], color=SKY, lw=1.2, label="one client's update")
    ax.plot([], [], color=RED, lw=3, label="their mean")
    back = min(-0.2 * reach, 1.1 * drift.arrows[:, 0].min())
    ax.set(xlim=(back, reach), ylim=(-reach, reach))
    ax.axhline(0, color=GREY, lw=0.5, zorder=0)
    ax.legend(frameon=False, fontsize=8, loc="upper left", borderaxespad=0.2)
    tidy(ax, title="", xlabel="along the mean (L2 norm)", ylabel="across it (L2 norm)")


def _arrow(ax: Axes, end: np.ndarray, *, color: str, lw: float, reach: float) -> None:
    ax.annotate(
        "",
        end,
        (0, 0),
        arrowprops={
            "arrowstyle": "-|>",
            "color": color,
            "lw": lw,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 8 + 2 * lw,
        },
    )


def draw_differing_race(
    figure: Figure,
    runs: Mapping[str, Sequence[History]],
    *,
    title: str,
    target: float = 0.9,
    last_round: int | None = None,
) -> str:
    """Draw accuracy over rounds, one thin line a seed, and the rounds to the target.

    Args:
        figure: Where.
        runs: At most seven ways to train, by name; several seeds of each.
        title: The finding.
        target: The accuracy to reach.
        last_round: Where the curves end; None shows the longest to its end.
    """
    left, sentence = draw_curves_and_rounds(figure, runs, SEQUENCE, target)
    longest = max(len(h.rounds) for histories in runs.values() for h in histories) - 1
    left.set_xlim(0, last_round or longest)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(left, title=title, xlabel="rounds", ylabel="test accuracy")
    return sentence


def draw_hospitals(
    figure: Figure, scores: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str]
) -> str:
    """Draw a table of accuracies: who was trained on what, against who is tested.

    Args:
        figure: Where.
        scores: For each model its accuracies, one array of shape (len(columns),) per split.
        columns: Whose test patients each column is.
    """
    ax = figure.subplots()
    table = np.array([np.mean(own, axis=0) for own in scores.values()])
    draw_accuracy_table(ax, table, list(scores), columns, number=".0%", lowest=0.3)
    tidy(
        ax,
        title="Alone, a hospital's model knows its own patients; together, everyone's",
        xlabel="tested on patients of",
        ylabel="trained on",
    )
    ax.spines[:].set_visible(False)
    overall = (f"{name} {row[-1]:.1%}" for name, row in zip(scores, table, strict=True))
    return f"On the test patients of {columns[-1]}: " + ", ".join(overall) + "."


def draw_differing_run(figure: Figure, run: DifferingRun, *, target: float = 0.9) -> str:
    """Draw who holds what, how the clients drift in the last round, and accuracy over rounds."""
    holdings, arrows, curves = figure.subplots(1, 3, gridspec_kw=MARGINS)
    draw_holdings(holdings, run.counts, title="Who holds which digits")
    done = len(run.history.rounds) - 1
    for client in run.cohort:
        holdings.plot(-0.75, client, ">", color=RED, ms=6, clip_on=False)
    if run.drift is None:
        arrows.axis("off")
        drifted = ""
    else:
        draw_arrows(arrows, run.drift)
        arrows.set_title(f"Round {done}: {run.drift.kept:.0%} is left", fontsize=11, loc="left")
        drifted = (
            f" In round {done} two clients agree to a cosine of {run.drift.agreement:.2f}, and "
            f"{run.drift.kept:.0%} of their length is left in the mean."
        )
    curves.plot(run.even.accuracy, color=GREY, ls="--", label="FedAvg, dealt evenly")
    curves.plot(run.history.accuracy, color=BLUE, marker="o", ms=3, label="your setting")
    curves.axhline(target, color=GREY, lw=0.8, ls=":")
    reached = run.history.rounds_to(target)
    if reached is not None:
        where = (reached, run.history.accuracy[reached])
        curves.plot(*where, "o", ms=11, mfc="none", mec=ORANGE, mew=2)
    goal = f"{target:.0%} after {reached} rounds" if reached else f"{target:.0%} not reached"
    tidy(curves, title=goal, xlabel="rounds", ylabel="test accuracy")
    curves.set(xlim=(0, len(run.even.rounds) - 1), ylim=(0, 1))
    curves.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    curves.legend(frameon=False, fontsize=8, loc="lower right")
    if run.problem:
        return f"{run.settings}: in round {done + 1} {run.problem}."
    return f"{run.settings}: {goal}, {run.history.accuracy[-1]:.1%} after {done}.{drifted}"
