"""Drawings of notebook 12: scores of members and others, ROC curves, claims against bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from fltutor.attacks import Attacked
from fltutor.lessons.auditing_privacy.runs import FPR, AuditView
from fltutor.plotting import BLACK, BLUE, GREEN, GREY, LINES, ORANGE, RED, tidy
from fltutor.privacy.accounting import PrivacySpent
from fltutor.privacy.auditing import AuditResult

SCORE_LIMIT = 15
PLACES = [(x, y, 0.41, 0.355) for y in (0.59, 0.09) for x in (0.065, 0.56)]
"""Of the explorer's four pictures: fixed, which saves half of the time to draw them."""
ATTACKS = {"LiRA": (RED, LINES[0]), "loss threshold": (BLUE, LINES[1])}


def draw_examples(
    figure: Figure,
    confidences: np.ndarray,
    members: np.ndarray,
    targets: Sequence[float],
    titles: Sequence[str],
) -> str:
    """Draw, for a few examples, how sure models with and without the example are of it.

    Args:
        figure: Where.
        confidences: Of the shadow models, shape (s, examples).
        members: Whether the example was in, bool, the same shape.
        targets: How sure the target is, one per example.
        titles: One per example.
    """
    panels = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    sentences = []
    for ax, column, inside, target, title in zip(
        panels, confidences.T, members.T, targets, titles, strict=True
    ):
        _draw_two_histograms(
            ax, column[~inside], column[inside], ("without it", "with it"), (GREY, RED)
        )
        ax.axvline(target, color=BLACK, ls=LINES[3], lw=2, label="target")
        tidy(ax, title=title, xlabel="log-odds of the right label")
        sentences.append(
            f"{title}: models without it {column[~inside].mean():.1f} on average, with it "
            f"{column[inside].mean():.1f}, the target {target:.1f}."
        )
    panels[0].set_ylabel("models (share)")
    panels[-1].legend(frameon=False, fontsize=9)
    return "\n".join(sentences)


def _draw_two_histograms(
    ax: Axes,
    first: np.ndarray,
    second: np.ndarray,
    labels: tuple[str, str],
    colours: tuple[str, str],
    bins: int = 30,
) -> None:
    """Draw two histograms over each other: one filled, one hatched with a thick outline."""
    edges = np.linspace(*_ends(np.concatenate([first, second])), bins + 1)
    for values, label, colour, looks in zip(
        (first, second),
        labels,
        colours,
        ({"alpha": 0.6}, {"fill": False, "hatch": "////", "lw": 1.5}),
        strict=True,
    ):
        heights, _ = np.histogram(values, edges)
        ax.stairs(
            heights / max(len(values), 1),
            edges,
            **({"fill": True} | looks),
            ec=colour,
            fc=colour,
            label=label,
        )
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_locator(MaxNLocator(6))


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def draw_roc(figure: Figure, attacked: Attacked) -> str:
    """Draw the ROC curves of all attacks on logarithmic axes, and say who finds how many."""
    _draw_roc(figure.subplots(), attacked)
    return _found(attacked)


def _found(attacked: Attacked) -> str:
    found = ", ".join(f"{name} finds {attacked.found(name, FPR):.3f}" for name in attacked.scores)
    return f"Of the members, with {FPR:.0%} of the others accused: {found}."


def _draw_roc(ax: Axes, attacked: Attacked) -> None:
    least = 1 / (~attacked.members).sum()
    for name, (wrong, right) in attacked.curves.items():
        colour, line = ATTACKS.get(name, (GREEN, LINES[2]))
        ax.plot(wrong, right, color=colour, ls=line, lw=2, label=name, drawstyle="steps-post")
    ax.plot([least, 1], [least, 1], color=GREY, lw=1, label="guessing")
    ax.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.1))
    ticks = [tick for tick in (1e-4, 1e-3, 1e-2, 0.1, 1) if tick >= least]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())  # each tick costs time to draw
        axis.set_ticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    name, share = max(
        ((name, attacked.found(name, FPR)) for name in attacked.scores), key=lambda pair: pair[1]
    )
    tidy(
        ax,
        title=f"{FPR:.0%} accused falsely: {name} finds {share:.0%} of the members",
        xlabel="non-members accused (false-positive rate)",
        ylabel="members found",
    )
    ax.legend(frameon=False, fontsize=9, loc="lower right")


def draw_worlds(
    figure: Figure,
    without: np.ndarray,
    with_canary: np.ndarray,
    audit: AuditResult,
    claim: PrivacySpent,
) -> str:
    """Draw the scores of runs without and with the canary; say bound and claim."""
    _draw_worlds(figure.subplots(), without, with_canary)
    return f"Claimed: {claim}\nAudited: {audit}"


def _draw_worlds(ax: Axes, without: np.ndarray, with_canary: np.ndarray, who: str = "") -> None:
    _draw_two_histograms(
        ax, without, with_canary, ("without the canary", "with it"), (GREY, ORANGE), bins=40
    )
    gap = (with_canary.mean() - without.mean()) / max(without.std(), 1e-12)
    apart = f"{gap:.1f} standard deviations apart" if gap < 1e3 else "as far apart as can be"
    tidy(
        ax,
        title=f"{who}{len(without):,} runs each: {apart}",
        xlabel="score of the canary (units of the model weights)",
        ylabel="runs (share)",
    )
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])  # room for the legend
    ax.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)


def draw_bounds(figure: Figure, bounds: Mapping[str, Sequence[float]], claim: PrivacySpent) -> str:
    """Draw every audit's bound as a dot, and the claim that it refutes or does not.

    Args:
        figure: Where.
        bounds: Lower bounds on epsilon, one per audit, by name of the mechanism.
        claim: What all of them say of themselves.
    """
    ax = figure.subplots()
    caught = {}
    for row, (name, values) in enumerate(bounds.items()):
        values = np.asarray(values)
        above = values > claim.epsilon
        caught[name] = f"{name} {int(above.sum())} of {len(values)}"
        spread = row + np.linspace(-0.2, 0.2, len(values))
        ax.plot(values[above], spread[above], "o", color=RED, ms=7)
        ax.plot(values[~above], spread[~above], "s", color=BLUE, mfc="none", ms=7)
    ax.axvline(claim.epsilon, color=BLACK, ls=LINES[1], lw=1.5)
    ax.text(claim.epsilon, -0.62, " claimed", va="center", fontsize=10)
    ax.set(yticks=range(len(bounds)), yticklabels=list(bounds), xlim=(0, None))
    ax.set_ylim(len(bounds) - 0.5, -0.85)
    tidy(
        ax,
        title="Full dots lie above the claim: it is refuted",
        xlabel=f"lower bound on epsilon (delta = {claim.delta:g})",
    )
    return "Claims refuted: " + ", ".join(caught.values()) + "."


def draw_audit(figure: Figure, view: AuditView) -> str:
    """Draw an attack above (scores, ROC) and an audit below (scores, bounds over runs)."""
    above_left, above_right, below_left, below_right = map(figure.add_axes, PLACES)
    _draw_member_scores(above_left, view.attacked, view.target)
    _draw_roc(above_right, view.attacked)
    _draw_worlds(below_left, view.without, view.with_canary, f"{view.bug.capitalize()}, ")
    verdict = _draw_bounds_over_runs(below_right, view)
    epochs = f"{view.epochs} epoch{'s' if view.epochs > 1 else ''}"
    going = "" if len(view.without) == view.trials else f" ({len(view.without):,} runs done)"
    return (
        f"{view.examples} examples, {epochs}, target {view.target}, {view.attacked.models} shadow "
        f"models. {_found(view.attacked)} Mechanism: {view.bug}, {view.trials:,} trials{going}. "
        f"Audited {view.audit.epsilon:.2f}, claimed {view.claim.epsilon:.2f}: {verdict}. "
        f"Claim: {view.claim}; confidence {view.audit.confidence:.0%}."
    )


def _draw_member_scores(ax: Axes, attacked: Attacked, target: int) -> None:
    scores = np.clip(attacked.scores["LiRA"], -SCORE_LIMIT, SCORE_LIMIT)
    others, members = scores[~attacked.members], scores[attacked.members]
    _draw_two_histograms(ax, others, members, ("not trained on", "trained on"), (BLUE, RED))
    tidy(
        ax,
        title=f"Target {target}: what LiRA says of {scores.size} examples",
        xlabel=f"log-likelihood ratio (cut at ±{SCORE_LIMIT})",
        ylabel="examples (share)",
    )
    ax.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_bounds_over_runs(ax: Axes, view: AuditView) -> str:
    refuted = view.audit.refutes(view.claim)
    verdict = "refuted" if refuted else "not refuted"
    ax.plot(view.runs, view.bounds, color=ORANGE, marker="o", lw=2, label="audited: at least")
    ax.axhline(view.claim.epsilon, color=BLACK, ls=LINES[1], label="claimed: at most")
    ax.set(xscale="log", xlim=(80, 10_000), ylim=(0, max(1.15 * view.claim.epsilon, 8)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks([100, 1000, 10_000], ["100", "1,000", "10,000"])
    tidy(
        ax,
        title=f"Audited {view.audit.epsilon:.2f}, claimed {view.claim.epsilon:.2f}: {verdict}",
        xlabel="runs of each world",
        ylabel=f"epsilon (delta = {view.claim.delta:g})",
    )
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return verdict
