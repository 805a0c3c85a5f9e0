"""Drawings of notebook 10: two worlds, a broken claim, a measured run, epsilon over rounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fltutor.lessons.curves import draw_no_bound
from fltutor.lessons.differential_privacy.runs import Spending
from fltutor.plotting import BLACK, BLUE, COLOUR, GREY, LINES, RED, SEQUENCE, tidy


def draw_two_worlds(
    figure: Figure, seen: np.ndarray, without: np.ndarray, with_: np.ndarray, epsilon: float
) -> str:
    """Draw the densities of a noisy sum in both worlds, and the loss at each place.

    Args:
        figure: Where.
        seen: Possible noisy sums, ascending and evenly spaced.
        without: Their density without the participant.
        with_: Their density with the participant.
        epsilon: The loss that is allowed.
    """
    left, right = figure.subplots(1, 2)
    left.plot(seen, without, color=BLUE, lw=2, label="without Dora")
    left.plot(seen, with_, color=COLOUR["privacy"], ls="--", lw=2, label="with Dora")
    loss = np.log(with_ / without)
    beyond = loss > epsilon
    left.fill_between(
        seen, np.exp(epsilon) * without, with_, where=beyond, color=RED, alpha=0.6, label="delta"
    )
    left.legend(frameon=False, loc="upper left")
    tidy(
        left,
        title="What may be published",
        xlabel="noisy sum (clipping norms)",
        ylabel="probability density",
    )
    right.plot(seen, loss, color=BLACK)
    right.axhline(epsilon, color=RED, ls=":")
    right.text(seen[0], epsilon, f"epsilon = {epsilon:g}", color=RED, va="bottom")
    tidy(
        right,
        title="The further right, the surer it was with Dora",
        xlabel="noisy sum (clipping norms)",
        ylabel="privacy loss (log ratio)",
    )
    width = seen[1] - seen[0]
    delta = np.maximum(with_ - np.exp(epsilon) * without, 0).sum() * width
    chance = with_[beyond].sum() * width
    return (
        f"The loss passes epsilon = {epsilon:g} with probability {chance:.2g}; "
        f"the part beyond, delta, is {delta:.2g}."
    )


def draw_textbook(figure: Figure, epsilons: np.ndarray, shares: Mapping[float, np.ndarray]) -> str:
    """Draw the true delta of textbook noise, as a multiple of the claimed one.

    Args:
        figure: Where.
        epsilons: Claimed epsilons.
        shares: True delta over claimed delta for each of them, by claimed delta.
    """
    ax = figure.subplots()
    ax.axvspan(epsilons[0], 1, color=GREY, alpha=0.25, lw=0)
    ax.axhline(1, color=BLACK, lw=1)
    sentences = []
    for (delta, share), colour, line in zip(shares.items(), SEQUENCE, LINES, strict=False):
        ax.plot(epsilons, share, color=colour, ls=line, lw=2, label=f"claimed delta {delta:g}")
        where = f"{epsilons[share > 1][0]:.1f}" if (share > 1).any() else "nowhere here"
        sentences.append(f"delta {delta:g}: {where}")
    ax.set(xscale="log", yscale="log", xlim=(epsilons[0], epsilons[-1]))
    ax.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    ax.minorticks_off()
    beside = ax.get_yaxis_transform()  # x as a share of the picture, y as data
    ax.text(0.98, 1.15, "claim broken", ha="right", va="bottom", color=RED, transform=beside)
    ax.text(0.98, 0.87, "claim kept", ha="right", va="top", transform=beside)
    ax.text(0.71, 0.42, "its proof\nholds here", ha="center", transform=ax.get_xaxis_transform())
    ax.legend(frameon=False, loc="upper left")
    tidy(
        ax,
        title="The textbook noise is too much at first, then too little",
        xlabel="claimed epsilon",
        ylabel="true delta / claimed delta",
    )
    return "Epsilon from which the claim is false: " + ", ".join(sentences) + "."


def draw_counts(
    figure: Figure,
    epsilons: np.ndarray,
    deltas: np.ndarray,
    counts: Mapping[str, float],
    delta: float,
) -> str:
    """Draw the measured delta of a run over epsilon, and where each count claims to be.

    Args:
        figure: Where.
        epsilons: Where it was measured.
        deltas: One line per seed, shape (seeds, len(epsilons)).
        counts: Epsilon at ``delta`` by the name of the count.
        delta: The delta that the counts share.
    """
    ax = figure.subplots()
    mean, error = deltas.mean(axis=0), deltas.std(axis=0, ddof=1) / np.sqrt(len(deltas))
    ax.plot(epsilons, mean, color=BLACK, lw=2, label="measured")
    ax.fill_between(epsilons, mean - 3 * error, mean + 3 * error, color=GREY, alpha=0.5, lw=0)
    ax.axhline(delta, color=GREY, lw=1, ls=":")
    markers = "svoD"
    for (name, epsilon), colour, marker in zip(counts.items(), SEQUENCE, markers, strict=False):
        ax.plot([epsilon], [delta], marker, ms=9, color=colour, label=f"{epsilon:.4g}: {name}")
    ax.set(xscale="log", yscale="log", xlim=(1, 200), ylim=(delta / 30, 1))
    ax.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    ax.minorticks_off()
    ax.legend(frameon=False, loc="upper right")
    least, most = min(counts.values()), max(counts.values())
    tidy(
        ax,
        title=f"One run, {len(counts)} counts: epsilon from {least:.3g} to {most:.3g}",
        xlabel="epsilon",
        ylabel="delta",
    )
    return "; ".join(f"{name}: epsilon {epsilon:.4g}" for name, epsilon in counts.items()) + "."


def draw_spending(figure: Figure, run: Spending) -> str:
    """Draw epsilon over rounds as asked, and two coarser ways of counting the same run."""
    ax = figure.subplots()
    last = len(run.everyone) - 1
    if not np.isfinite(run.everyone[-1]):
        ax.set_axis_off()
        ax.set_title(draw_no_bound(ax), fontsize=11, loc="left")
        return str(run.spent) if run.spent else "epsilon = infinity"
    ax.plot(run.at, run.added, color=RED, ls=":", lw=2, marker="v", ms=4, label="added up")
    ax.plot(run.everyone, color=BLUE, ls="--", lw=1.5, label="everyone, RDP")
    few = len(run.rounds) < len(run.everyone)
    ax.plot(
        run.rounds,
        run.epsilon,
        color=COLOUR["privacy"],
        lw=2.5,
        marker="o" if few or last < 3 else None,
        ms=5,
        label=_name(run),
    )
    ax.set_yscale("symlog", linthresh=0.1, linscale=0.3)
    ax.set(xlim=(0, last * 1.02), ylim=(0, 1.5 * max(run.added[-1], run.everyone[-1], 0.2)))
    ax.yaxis.set_minor_locator(MaxNLocator(1))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    epsilon = run.epsilon[-1]
    added = run.added[-1]
    title = f"Epsilon {epsilon:.3g} after {last} round{'s' if last > 1 else ''}"
    if added > 1.005 * epsilon > 0:
        title += f"; added up round by round: {added:.3g}"
    tidy(ax, title=title, xlabel="rounds", ylabel="epsilon of the whole run")
    count = f"{run.spent}" if run.spent else f"{_name(run)}: epsilon = {epsilon:.3g}"
    return f"{count}. Everyone in every round: {run.everyone[-1]:.3g}. Added up: {added:.3g}."


def _name(run: Spending) -> str:
    if run.spent is None:
        return "RDP (PLD is on its way)"
    return {"rdp": "RDP", "pld": "PLD"}.get(run.spent.accountant, run.spent.accountant)
