"""Drawings of notebook 11: what noise costs, where a clipping norm goes, what an attack is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from fltutor.lessons.curves import draw_accuracy_so_far, draw_guessing
from fltutor.lessons.private_federated_averaging.runs import PrivateRun
from fltutor.plotting import BLUE, COLOUR, GREEN, GREY, LINES, ORANGE, PINK, RED, SEQUENCE, tidy

GAUGE = (0.1, 100)
"""The ends of the epsilon gauge; what is beyond is written beside it."""


def draw_people(figure: Figure, accuracy: Mapping[int, np.ndarray], epsilon: float) -> str:
    """Draw accuracy by the number of clients; bars are two standard errors each way.

    Args:
        figure: Where.
        accuracy: Test accuracy, one number per seed, by number of clients.
        epsilon: The same for all of them.
    """
    ax = figure.subplots()
    counts, said = list(accuracy), []
    means = [values.mean() for values in accuracy.values()]
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in accuracy.values()]
    ax.errorbar(
        counts,
        means,
        2 * np.array(errors),
        color=COLOUR["accuracy"],
        marker="o",
        capsize=3,
        lw=2,
    )
    for count, values in accuracy.items():
        ax.plot([count] * len(values), values, ".", color=GREY, ms=4)
    for count, mean, error in zip(counts, means, errors, strict=True):
        said.append(f"{count} clients: {mean:.3f} ± {error:.3f}")
    draw_guessing(ax, counts[-1])
    ax.set_xscale("log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
    ax.set_ylim(0, 1)
    tidy(
        ax,
        title=f"Same digits, same noise, same epsilon ({epsilon:.2g}): more people, more accuracy",
        xlabel="clients that share the digits",
        ylabel="test accuracy (share right)",
    )
    return "Mean accuracy and its standard error.\n" + ", ".join(said) + "."


def draw_clip_starts(figure: Figure, runs: Mapping[tuple[str, float], Sequence[PrivateRun]]) -> str:
    """Draw accuracy and clipping norm over rounds, by kind of clipping and by where it starts.

    Args:
        figure: Where.
        runs: The runs of several seeds, by kind (``"fixed"`` or another word) and start.
    """
    left, right = figure.subplots(1, 2)
    said = []
    starts = sorted({start for _, start in runs})
    for (kind, start), seeds in runs.items():
        look = {
            "color": SEQUENCE[starts.index(start)],
            "ls": "--" if kind == "fixed" else "-",
            "lw": 1.2 if kind == "fixed" else 2.2,
            "marker": "os^vDx"[starts.index(start) % 6],
            "markevery": 5,
            "ms": 5,
        }
        name = f"{kind}, {start:g}"
        accuracy = np.mean([run.accuracy for run in seeds], axis=0)
        clips = np.exp(np.mean([np.log(run.clips) for run in seeds], axis=0))
        left.plot(accuracy, label=name, **look)
        right.plot(np.arange(1, len(clips) + 1), clips, **look)
        said.append(f"{name}: {accuracy[-1]:.2f}")
    left.set_ylim(0, 1)
    right.set_yscale("log")
    accuracy = "test accuracy (share right)"
    tidy(
        left, title="Too small costs rounds, too large the model", xlabel="rounds", ylabel=accuracy
    )
    tidy(right, title="Adaptive norms find their way", xlabel="round", ylabel="clipping norm")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    rounds = len(next(iter(runs.values()))[0].clips)
    return f"Mean accuracy after {rounds} rounds, by kind and start.\n" + "; ".join(said) + "."


def draw_attacks(
    figure: Figure,
    noises: Sequence[float],
    epsilons: Sequence[float],
    closeness: np.ndarray,
    blind: float,
    right: np.ndarray,
    limit: Sequence[float],
) -> str:
    """Draw what noise leaves of two attacks on a release, with its epsilon along the top.

    Args:
        figure: Where.
        noises: Noise multipliers, all positive.
        epsilons: Epsilon of one release with each.
        closeness: PSNR of reconstructed images in decibels, shape (len(noises), images).
        blind: PSNR of a guess that needs no release.
        right: Share of right answers to "in or out?", shape (len(noises),).
        limit: The largest share that epsilon and delta allow any attack.
    """
    images, membership = figure.subplots(1, 2)
    images.plot(noises, closeness, ".", color=RED, ms=3, alpha=0.4)
    images.plot(noises, closeness.mean(axis=1), color=RED, lw=2)
    images.axhline(blind, color=GREY, lw=1)
    images.text(noises[-1], blind, "the mean digit", va="bottom", ha="right", fontsize=9)
    tidy(images, title="Inversion: gone at once", ylabel="PSNR of the image (dB)")
    membership.plot(noises, right, color=RED, marker="o", ms=4, label="simple test")
    membership.plot(noises, limit, color=BLUE, ls="--", label="limit for any attack")
    membership.axhline(0.5, color=GREY, lw=1)
    membership.text(noises[0], 0.5, "tossing a coin", va="bottom", fontsize=9)
    membership.set_ylim(0.4, 1.05)
    membership.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.25))
    tidy(membership, title="“Was this client in?”: much later", ylabel="share of right answers")
    for ax in (images, membership):
        ax.set_xscale("log")
        ax.set_xlabel("noise multiplier z of one release")
        _epsilon_on_top(ax, noises, epsilons)
    lost = int(np.argmax(closeness.mean(axis=1) < blind))
    unsure = int(np.argmax(right < 0.9))
    return (
        f"The inversion is worse than the mean digit from z = {noises[lost]:g}, epsilon = "
        f"{epsilons[lost]:.0f}.\nThe test is right less than 9 times in 10 from "
        f"z = {noises[unsure]:g}, epsilon = {epsilons[unsure]:.3g}."
    )


def _epsilon_on_top(ax: Axes, noises: Sequence[float], epsilons: Sequence[float]) -> None:
    top = ax.twiny()
    top.set_xscale("log")
    top.set_xlim(ax.get_xlim())
    labels = [f"{epsilon:.2g}" if epsilon < 10 else f"{epsilon:,.0f}" for epsilon in epsilons]
    top.set_xticks(noises, labels, fontsize=8)
    top.xaxis.set_minor_locator(NullLocator())
    top.xaxis.set_minor_formatter(NullFormatter())
    top.set_xlabel("epsilon of one release", fontsize=9)
    top.spines[["top", "right"]].set_visible(False)
    ax.set_title(ax.get_title(loc="left"), fontsize=11, loc="left", y=1.2)


def draw_noise_of_average(figure: Figure, measured: Mapping[str, Mapping[int, float]]) -> str:
    """Draw the measured noise of an average by the number of clients, for who adds it.

    Args:
        figure: Where.
        measured: Standard deviation per coordinate, by name and number of clients.
    """
    ax = figure.subplots()
    said = []
    for (name, by_count), colour, line, marker in zip(
        measured.items(), (ORANGE, GREEN, PINK), LINES, "osx", strict=False
    ):
        counts, values = list(by_count), list(by_count.values())
        ax.plot(counts, values, color=colour, ls=line, marker=marker, lw=2, label=name)
        said.append(f"{name} " + ", ".join(f"{value:.2g}" for value in values))
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
    ax.legend(frameon=False)
    tidy(
        ax,
        title="Alone, everybody needs the whole noise",
        xlabel="clients",
        ylabel="noise of the average / clipping norm",
    )
    return f"Noise of the average of {counts} clients.\n" + "; ".join(said) + "."


def draw_private_run(figure: Figure, run: PrivateRun) -> str:
    """Draw accuracy, clipping norm and epsilon of a run, and say the last of each."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(4, 4, 1.3))
    done = len(run.accuracy) - 1
    accuracy, epsilon = run.accuracy[-1], run.epsilon[-1]

    draw_accuracy_so_far(left, run.accuracy, run.rounds)
    tidy(left, title=f"Accuracy {accuracy:.2f}", xlabel="rounds", ylabel="test accuracy")

    rounds = np.arange(1, done + 1)
    middle.plot(rounds, run.clips, color=GREEN, lw=2, label="clipping norm")
    middle.plot(rounds, run.norms, color=GREY, ls="--", label="median update")
    middle.set(xlim=(0, run.rounds), yscale="log")
    middle.set_ylim(*_decades(np.concatenate([run.clips, run.norms])))
    middle.yaxis.set_major_locator(LogLocator(numticks=6))
    middle.yaxis.set_minor_locator(NullLocator())
    clip = f"{run.clips[-1]:.2g}" if done else "-"
    kind = "fixed" if run.quantile is None else f"quantile {run.quantile:g}"
    tidy(middle, title=f"Clipping norm {clip} ({kind})", xlabel="round", ylabel="length")
    middle.legend(frameon=False, fontsize=9, loc="best" if done < 2 else "lower right")

    middle.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _draw_gauge(right, epsilon)
    going = "" if done == run.rounds else f" ({done} done)"
    return (
        f"{run.clients} clients, q = {run.sampling_rate:g}, noise {run.noise:g}, "
        f"{run.rounds} rounds{going}: accuracy {accuracy:.3f}, clipping norm {clip} ({kind}), "
        f"{run.spent}"
    )


def _decades(values: np.ndarray) -> tuple[float, float]:
    """Whole powers of ten around what is to be drawn."""
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return 0.1, 10.0
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _draw_gauge(ax: Axes, epsilon: float) -> None:
    low, high = GAUGE
    ax.set(yscale="log", ylim=GAUGE, xlim=(-0.7, 0.7))
    ax.bar([0], [min(max(epsilon, low), high) - low], bottom=low, width=0.8, color=ORANGE)
    ax.set_xticks([])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    title = "ε = ∞" if np.isinf(epsilon) else f"ε = {epsilon:.3g}"
    tidy(ax, title=title, ylabel="epsilon, whole run")
