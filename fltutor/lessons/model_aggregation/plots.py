"""Drawings of notebook 04: accuracy against rounds and megabytes, and between two networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from fltutor.lessons.curves import draw_accuracy_axis, draw_curves_and_rounds
from fltutor.lessons.model_aggregation.runs import LocalWork
from fltutor.plotting import BLACK, BLUE, GREEN, GREY, LINES, ORANGE, RED, tidy
from fltutor.simulation import History

RUN_COLOURS = (BLACK, BLUE, ORANGE, GREEN)


def draw_race(figure: Figure, runs: Mapping[str, Sequence[History]], *, target: float = 0.9) -> str:
    """Draw accuracy over rounds, one thin line a seed, and the rounds to the target.

    Args:
        figure: Where.
        runs: At most four ways to train, by name; several seeds of each.
        target: The accuracy to reach.
    """
    left, sentence = draw_curves_and_rounds(figure, runs, RUN_COLOURS, target)
    _log_axis(left.xaxis, (1, 2, 5, 10, 20, 50, 100))
    left.set_xlim(1, max(len(h.rounds) for histories in runs.values() for h in histories) - 1)
    tidy(left, title="More work at home, fewer rounds", xlabel="rounds", ylabel="test accuracy")
    return sentence


def draw_local_work(figure: Figure, work: LocalWork, *, target: float = 0.9) -> str:
    """Draw one run against FedSGD, per round and per megabyte, and say when it got there."""
    history, fedsgd = work.history, work.fedsgd
    figure.set_layout_engine("none")  # fixed places: faster, and nothing jumps under a slider
    places = {"left": 0.085, "right": 0.985, "bottom": 0.15, "top": 0.9, "wspace": 0.1}
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw=places)
    reached, done = history.rounds_to(target), len(history.rounds) - 1
    every_round = np.arange(len(fedsgd.rounds))
    for ax, x, reference in (
        (left, np.arange(done + 1), every_round),
        (right, history.megabytes, fedsgd.megabytes),
    ):
        ax.plot(reference[1:], fedsgd.accuracy[1:], color=GREY, ls="--", label="FedSGD")
        ax.plot(x[1:], history.accuracy[1:], color=BLUE, marker="o", ms=3, label="your setting")
        if reached:
            ax.plot(x[reached], history.accuracy[reached], "o", ms=11, mfc="none", mec=RED, mew=2)
    _log_axis(left.xaxis, (1, 2, 5, 10, 20, 50))
    _log_axis(right.xaxis, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10))
    left.set_xlim(0.95, every_round[-1] * 1.05)
    right.set_xlim(fedsgd.megabytes[1] / 10 * 0.95, fedsgd.megabytes[-1] * 1.05)
    draw_accuracy_axis(left, target)
    right.axhline(target, color=GREY, lw=0.8, ls=":")
    left.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.12), frameon=False)
    megabytes = history.megabytes
    if reached:
        per_round = f"{target:.0%} after {reached} round{'s' * (reached > 1)}"
        per_megabyte = f"{target:.0%} after {megabytes[reached]:.2f} MB"
        passes = work.passes_per_round * reached
        goal = f"{per_round}, {megabytes[reached]:.2f} MB, {passes:.3g} passes"
    else:
        per_round = per_megabyte = goal = f"{target:.0%} not reached"
    tidy(left, title=per_round, xlabel="rounds", ylabel="test accuracy")
    tidy(right, title=per_megabyte, xlabel="traffic, both directions (MB)")
    if work.diverged:
        return f"{work.settings}: training blew up in round {done + 1}; lower the learning rate."
    return f"{work.settings}: {goal}. After {done} rounds: {history.accuracy[-1]:.1%}."


def draw_between(figure: Figure, shares: np.ndarray, accuracies: Mapping[str, np.ndarray]) -> str:
    """Draw the accuracy of mixtures of two networks, from all of one to all of the other.

    Args:
        figure: Where.
        shares: The share of the second network in each mixture, 0 to 1, shape (m,).
        accuracies: For each pair of networks by name, the accuracy of each mixture.
    """
    ax = figure.subplots()
    said = []
    for (name, accuracy), colour, line in zip(
        accuracies.items(), (GREEN, RED), LINES, strict=False
    ):
        ax.plot(shares, accuracy, color=colour, ls=line, lw=2, marker="o", ms=4, label=name)
        middle = np.interp(0.5, shares, accuracy)
        said.append(f"{name}: {accuracy[0]:.1%} and {accuracy[-1]:.1%}, halfway {middle:.1%}")
    ax.set_ylim(min(0.5, *(accuracy.min() - 0.05 for accuracy in accuracies.values())), 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="lower left", frameon=False)
    tidy(
        ax,
        title="Halfway between two strangers there is no good network",
        xlabel="share of the second network in the average",
        ylabel="test accuracy",
    )
    return "; ".join(said) + "."


def _log_axis(axis, ticks: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers."""
    axis.set_tick_params(which="minor", length=0)
    axis.axes.set_xscale("log")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, position: f"{value:g}")
