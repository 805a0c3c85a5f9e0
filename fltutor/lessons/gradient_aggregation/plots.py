"""Drawings of notebook 03: who holds which digits, and curves that lie on each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fltutor.lessons.curves import draw_holdings
from fltutor.lessons.gradient_aggregation.runs import FedSGDRun
from fltutor.plotting import BLACK, BLUE, LINES, ORANGE, SEQUENCE, SKY, tidy

ROUNDING = 1e-6
MARGINS = {"left": 0.05, "right": 0.99, "bottom": 0.15, "top": 0.91, "wspace": 0.27}
"""Of the explorer's picture: fixed, since a layout engine takes half the time of a picture."""


def draw_losses(figure: Figure, losses: Mapping[str, np.ndarray]) -> str:
    """Draw two loss curves, the first wide and pale so that the second shows on it, and the gap.

    Args:
        figure: Where.
        losses: Two test losses in nats after 1, 2, ... rounds, by name.
    """
    curves, gaps = figure.subplots(1, 2)
    (first, wide), (second, thin) = losses.items()
    rounds = np.arange(1, len(wide) + 1)
    curves.plot(rounds, wide, color=SKY, lw=7, alpha=0.6, label=first)
    curves.plot(rounds, thin, color=BLACK, lw=1.5, ls="--", label=second)
    gap = np.abs(np.subtract(wide, thin))
    largest = f"{gap.max():.2g}"
    found = "one curve" if gap.max() < ROUNDING else "two curves"
    tidy(curves, title=f"Two splits, {found}", xlabel="round", ylabel="test loss (nats)")
    curves.set_ylim(bottom=0)
    curves.legend(frameon=False)
    draw_gap(gaps, rounds, gap, ylabel="gap between the curves (nats)")
    gaps.set_title(f"Gap up to {largest}", fontsize=11, loc="left")
    return f"Largest gap between {first} and {second} in {rounds[-1]} rounds: {largest} nats."


def draw_gap(ax: Axes, rounds: np.ndarray, gap: np.ndarray, *, ylabel: str) -> None:
    """Draw differences over rounds in powers of ten; an exact zero leaves a hole."""
    ax.axhspan(1e-9, ROUNDING, color=SKY, alpha=0.25, lw=0)
    across = ax.get_yaxis_transform()
    ax.text(0.97, 1.5e-9, "rounding of float32", ha="right", va="bottom", transform=across)
    ax.plot(rounds, np.where(gap > 0, gap, np.nan), "o", color=ORANGE, ms=3)
    ax.set_yscale("log")
    ax.set_ylim(1e-9, max(10.0, 10 * np.max(gap)))
    ax.set_yticks([1e-9, 1e-6, 1e-3, 1], ["1e-9", "1e-6", "1e-3", "1"])
    ax.minorticks_off()
    tidy(ax, title="", xlabel="round", ylabel=ylabel)


def draw_mistakes(figure: Figure, accuracy: Mapping[str, np.ndarray], *, title: str) -> str:
    """Draw test accuracy over rounds for several ways to step; the lines differ in style too.

    Args:
        figure: Where.
        accuracy: Test accuracy after 1, 2, ... rounds, 0 to 1, by name.
        title: The finding.
    """
    ax = figure.subplots()
    for (name, curve), colour, line in zip(accuracy.items(), SEQUENCE, LINES, strict=False):
        ax.plot(np.arange(1, len(curve) + 1), curve, color=colour, ls=line, lw=2, label=name)
    tidy(ax, title=title, xlabel="round", ylabel="test accuracy")
    ax.set_ylim(0, 1)
    figure.legend(loc="outside right center", frameon=False)
    last = (f"{name} {curve[-1]:.2f}" for name, curve in accuracy.items())
    return "Accuracy at the end: " + ", ".join(last) + "."


def draw_fedsgd(figure: Figure, run: FedSGDRun) -> str:
    """Draw who holds what, the federation's accuracy on the pooled one, and the gap in weights."""
    holdings, curves, gaps = figure.subplots(1, 3, gridspec_kw=MARGINS)
    num_clients, done = len(run.counts), len(run.accuracy) - 1
    sizes = run.counts.sum(axis=1)
    held = f"{sizes.min()} to {sizes.max()} examples"
    draw_holdings(holdings, run.counts, title=f"Clients hold {held}")

    rounds = np.arange(done + 1)
    curves.plot(rounds, run.pooled_accuracy, color=SKY, lw=7, alpha=0.6, label="pooled data")
    curves.plot(rounds, run.accuracy, color=BLUE, lw=1.5, ls="--", label="federation")
    tidy(
        curves,
        title=f"Accuracy {run.accuracy[-1]:.3f}; pooled {run.pooled_accuracy[-1]:.3f}",
        xlabel="round",
        ylabel="test accuracy",
    )
    curves.set(xlim=(0, run.num_rounds), ylim=(0, 1))
    curves.legend(frameon=False, loc="center right")

    draw_gap(gaps, rounds, run.gap, ylabel="largest gap of any weight")
    gaps.set_xlim(0, run.num_rounds)
    largest = run.gap.max()
    same = "Rounding alone" if largest < ROUNDING else "Not the same model"
    gaps.set_title(f"{same}: gap up to {largest:.2g}", fontsize=11, loc="left")

    who = f"{num_clients} clients with {held}" if num_clients > 1 else "1 client"
    return (
        f"{who}, {done} rounds: accuracy {run.accuracy[-1]:.3f}, loss {run.loss:.3g} nats; "
        f"pooled training {run.pooled_accuracy[-1]:.3f}. "
        f"Largest gap of any weight: {largest:.2g}."
    )
