"""Drawings of notebook 13: rows in a plane, accuracy under attack, rules against attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fltutor.lessons.curves import draw_accuracy_table
from fltutor.lessons.robust_aggregation.runs import LiarsRun, RowsView
from fltutor.plotting import BLACK, BLUE, GREY, LINES, ORANGE, RED, SEQUENCE, tidy


def draw_points(figure: Figure, rows: np.ndarray, aggregates: Mapping[str, np.ndarray]) -> str:
    """Draw clients with two weights each, and where the rules put the aggregate.

    Args:
        figure: Where.
        rows: Shape (n, 2).
        aggregates: Shape (2,) each, by the rule's name.
    """
    ax = figure.subplots()
    ax.plot(*rows.T, "o", color=BLUE, mfc="none", ms=8, label="clients")
    for (name, point), marker, colour in zip(
        aggregates.items(), "X*PDs", (RED, BLACK, ORANGE, GREY, BLUE), strict=False
    ):
        ax.plot(*point, marker, color=colour, ms=11, ls="none", label=name)
    tidy(ax, title="Where the rules put the aggregate", xlabel="weight 1", ylabel="weight 2")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return "; ".join(f"{name} ({x:.2f}, {y:.2f})" for name, (x, y) in aggregates.items()) + "."


def draw_accuracy(figure: Figure, curves: Mapping[str, np.ndarray], *, title: str) -> str:
    """Draw test accuracy over rounds, the mean over seeds with two standard errors each way.

    Args:
        figure: Where.
        curves: Accuracy after 0, 1, 2, ... rounds, shape (seeds, rounds + 1), by name.
        title: The finding.
    """
    ax = figure.subplots()
    for (name, runs), colour, line in zip(curves.items(), SEQUENCE, LINES, strict=False):
        rounds, middle = np.arange(runs.shape[1]), runs.mean(axis=0)
        error = 2 * runs.std(axis=0) / np.sqrt(len(runs))
        ax.plot(rounds, middle, color=colour, ls=line, lw=2, label=name)
        ax.fill_between(rounds, middle - error, middle + error, color=colour, alpha=0.15, lw=0)
    tidy(ax, title=title, xlabel="round", ylabel="test accuracy")
    ax.set_ylim(0, 1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right center", frameon=False)
    last = (
        f"{name} {runs[:, -1].mean():.2f} (standard error "
        f"{runs[:, -1].std() / np.sqrt(len(runs)):.2f})"
        for name, runs in curves.items()
    )
    return "Accuracy at the end: " + ", ".join(last) + "."


def draw_table(
    figure: Figure, rules: Sequence[str], attacks: Sequence[str], accuracy: np.ndarray
) -> str:
    """Draw one number per rule and attack; darker is better.

    Args:
        figure: Where.
        rules: Names of the rows.
        attacks: Names of the columns.
        accuracy: Test accuracy, 0 to 1, shape (rules, attacks).
    """
    ax = figure.subplots()
    draw_accuracy_table(ax, accuracy, rules, attacks, number=".2f")
    worst = accuracy.argmin(axis=1)
    safest = int(accuracy.min(axis=1).argmax())
    for row, column in enumerate(worst):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=RED, lw=2.5))
    tidy(ax, title="Test accuracy; framed is the worst of each rule")
    ax.spines[["left", "bottom"]].set_visible(False)
    worsts = (
        f"{rule} {accuracy[i, worst[i]]:.2f} ({' '.join(attacks[worst[i]].split())})"
        for i, rule in enumerate(rules)
    )
    return f"Lowest accuracy of each rule: {', '.join(worsts)}. Highest of these: {rules[safest]}."


def draw_spread(
    figure: Figure, honest: np.ndarray, lie: float, aggregates: Mapping[str, float]
) -> str:
    """Draw one coordinate of all honest updates, the lie among them, and what rules make of it.

    Args:
        figure: Where.
        honest: Shape (n,).
        lie: What every liar sends.
        aggregates: One number each, by the rule's name.
    """
    ax = figure.subplots()
    ax.plot(honest, np.zeros_like(honest), "o", color=BLUE, mfc="none", ms=9, label="honest")
    ax.plot([lie], [0], "X", color=RED, ms=12, ls="none", label="all liars")
    for (name, value), line, colour in zip(
        aggregates.items(), LINES, (BLACK, ORANGE, GREY), strict=False
    ):
        ax.axvline(value, color=colour, ls=line, label=name)
    further = int((honest < lie).sum() if lie < honest.mean() else (honest > lie).sum())
    tidy(
        ax,
        title=f"{further} honest clients are further out than the liars",
        xlabel="one coordinate of the updates (units of the weight)",
    )
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    values = ", ".join(f"{name} {value:+.4f}" for name, value in aggregates.items())
    return f"The lie {lie:+.4f}; honest from {honest.min():+.4f} to {honest.max():+.4f}; {values}."


def draw_triggers(figure: Figure, images: np.ndarray, triggered: np.ndarray) -> str:
    """Draw digits above the same digits with the trigger.

    Args:
        figure: Where.
        images: Shape (k, side * side), pixels 0 to 1.
        triggered: The same shape.
    """
    axes = figure.subplots(2, len(images))
    side = round(images.shape[1] ** 0.5)
    for line, pictures in zip(axes, (images, triggered), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture.reshape(side, side), cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
    changed = int((images != triggered).any(axis=0).sum())
    return f"{len(images)} digits, and the same with a trigger that changes {changed} pixels."


def draw_liars(figure: Figure, run: LiarsRun) -> str:
    """Draw the rows of the last round in a plane, and the accuracy of all rounds."""
    plane, curves = figure.subplots(1, 2)
    if run.view is None:
        plane.set_axis_off()
    else:
        draw_view(plane, run.view)
    rounds = np.arange(len(run.accuracy))
    curves.plot(run.honest_accuracy, color=GREY, ls="--", lw=2, label="mean, if nobody lies")
    curves.plot(rounds, run.accuracy, color=BLUE, lw=2.5, marker="o", ms=4, label="this run")
    if run.success is not None:
        curves.plot(
            rounds, run.success, color=RED, ls="-.", lw=2, marker="X", ms=5, label="trigger works"
        )
    curves.set(ylim=(0, 1), xlim=(0, len(run.honest_accuracy) - 1))
    last, honest = run.accuracy[-1], run.honest_accuracy[len(run.accuracy) - 1]
    tidy(
        curves,
        title=f"Accuracy {last:.2f}; the mean without liars {honest:.2f}",
        xlabel="round",
        ylabel="test accuracy, success of the trigger",
    )
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    curves.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.12))
    success = "" if run.success is None else f" The trigger works on {run.success[-1]:.2f}."
    ended = " Training ended: weights are no longer numbers." if run.diverged else ""
    return (
        f"{run.settings}: accuracy {last:.2f} after {len(run.accuracy) - 1} rounds; the mean "
        f"without liars {honest:.2f}.{success}{ended}"
    )


def draw_view(ax: Axes, view: RowsView) -> None:
    """Draw honest rows, lying rows, those the rule chose, and the aggregate."""
    for liars, marker, colour, name in ((False, "o", BLUE, "honest"), (True, "X", RED, "liar")):
        of_kind = view.liars == liars
        for far in (False, True):
            some = of_kind & (view.far == far)
            if some.any():
                label = f"{name}, really further out" if far else name
                face = "none" if far else colour
                ax.plot(
                    *view.places[some].T, marker, color=colour, mfc=face, ms=9, ls="none",
                    alpha=0.75, label=label,
                )  # fmt: skip
    if view.chosen.any():
        ax.plot(
            *view.places[view.chosen].T, "o", color=BLACK, mfc="none", ms=15, ls="none",
            label="chosen by the rule",
        )  # fmt: skip
    name = "aggregate, really further out" if view.aggregate_far else "aggregate"
    ax.plot(*view.aggregate, "*", color=BLACK, mfc=ORANGE, ms=15, ls="none", label=name)
    lies = view.chosen & view.liars
    if view.chosen.any():
        title = f"The rule chose {int(view.chosen.sum())} rows, {int(lies.sum())} of them lies"
    else:
        count, lies = int((view.far & view.liars).sum()), int(view.liars.sum())
        title = f"{count} of {lies} lies are far from all others" if lies else "Nobody lies"
    tidy(
        ax,
        title=title,
        xlabel="first principal component of the updates",
        ylabel="second component",
    )
    ax.margins(0.15)
    ax.legend(frameon=False, fontsize=8, loc="best")
