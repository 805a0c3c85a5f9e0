"""Pictures for notebook 06: rounding at random, and accuracy against bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fltutor.lessons.fewer_bytes.runs import Comparison, CompressedRun
from fltutor.plotting import BLACK, BLUE, LINES, SEQUENCE, tidy


def draw_rounding(figure: Figure, update: np.ndarray, coarse: Mapping[str, np.ndarray]) -> str:
    """Draw an update's coordinates beside what is left of them after rounding."""
    axes = np.atleast_1d(figure.subplots(1, len(coarse), sharey=True))
    said = []
    for ax, (name, rounded) in zip(axes, coarse.items(), strict=True):
        ax.plot(update, rounded, ".", color=BLUE, markersize=3, alpha=0.4)
        ax.axline((0, 0), slope=1, color=BLACK, linestyle="--", linewidth=1)
        tidy(ax, title=name, xlabel="coordinate of the update")
        kept = np.count_nonzero(rounded) / len(rounded)
        said.append(f"{name}: {kept:.0%} of the coordinates are not zero")
    axes[0].set_ylabel("what the server receives")
    return "; ".join(said) + "."


def draw_runs(figure: Figure, runs: Mapping[str, Sequence[CompressedRun]]) -> str:
    """Draw accuracy over rounds and over kilobytes, the mean of several seeds each."""
    left, right = figure.subplots(1, 2, sharey=True)
    said = []
    for number, (name, seeds) in enumerate(runs.items()):
        look = {"color": SEQUENCE[number], "linestyle": LINES[number], "label": name}
        accuracy = np.mean([run.accuracy for run in seeds], axis=0)
        kilobytes = np.mean([run.kilobytes for run in seeds], axis=0)
        left.plot(accuracy, **look)
        right.plot(kilobytes[1:], accuracy[1:], **look)
        said.append(f"{name} {accuracy[-1]:.3f} with {kilobytes[-1]:,.0f} kB")
    left.legend(fontsize=9, frameon=False, loc="lower right")
    _label(left, right, titles=("Accuracy per round", "Accuracy per byte"))
    return "Accuracy at the end: " + ", ".join(said) + "."


def draw_compressed(figure: Figure, comparison: Comparison) -> str:
    """Draw a compressed run beside the uncompressed one, and say accuracy and kilobytes."""
    left, right = figure.subplots(1, 2, sharey=True)
    run, plain = comparison.run, comparison.plain
    for shown, colour, line, name in (
        (plain, BLACK, "--", "float32"),
        (run, BLUE, "-", comparison.settings),
    ):
        left.plot(shown.accuracy, color=colour, linestyle=line, label=name)
        right.plot(shown.kilobytes[1:], shown.accuracy[1:], color=colour, linestyle=line)
    left.legend(fontsize=9, frameon=False, loc="lower right")
    left.set_xlim(0, run.num_rounds)
    right.set_xlim(plain.kilobytes[-1] / 500, 1.5 * plain.kilobytes[-1])
    done = len(run.accuracy) - 1
    saved = plain.kilobytes[done] / run.kilobytes[-1] if done else np.nan
    _label(
        left,
        right,
        titles=(
            f"Accuracy {run.accuracy[-1]:.3f}, uncompressed {plain.accuracy[done]:.3f}",
            f"{run.kilobytes[-1]:,.0f} kB, uncompressed {plain.kilobytes[done]:,.0f} kB",
        ),
    )
    return (
        f"{comparison.settings}, {done} of {run.num_rounds} rounds: accuracy "
        f"{run.accuracy[-1]:.3f} with {run.kilobytes[-1]:,.0f} kB sent; "
        f"uncompressed {plain.accuracy[done]:.3f} with {plain.kilobytes[done]:,.0f} kB, "
        f"{saved:.1f} times as many"
    )


def _label(left: Axes, right: Axes, *, titles: tuple[str, str]) -> None:
    left.set_ylim(0, 1)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xscale("log")
    tidy(left, title=titles[0], xlabel="rounds", ylabel="test accuracy (share right)")
    tidy(right, title=titles[1], xlabel="sent by all clients (kB, log scale)")
