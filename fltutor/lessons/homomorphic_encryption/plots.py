"""Drawings of notebook 09: what encryption costs in time, bytes and digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from fltutor.lessons.homomorphic_encryption.runs import Trial
from fltutor.plotting import BLACK, COLOUR, GREY, RED, tidy

TIMES = {1e-4: "", 1e-3: "1 ms", 1e-2: "", 0.1: "", 1: "1 s", 10: "", 60: "1 min", 600: ""}
TIMES[3600] = "1 h"
FLOAT32 = 4


def duration(seconds: float) -> str:
    """Write a time with two digits and a unit a reader feels.

    Example:
        >>> duration(0.00213), duration(3.14), duration(250), duration(9000)
        ('2.1 ms', '3.1 s', '4.2 min', '2.5 h')
    """
    units = ((1, 1e-3, "ms"), (100, 1, "s"), (6000, 60, "min"), (np.inf, 3600, "h"))
    size, unit = next((size, unit) for limit, size, unit in units if seconds < limit)
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def draw_costs(
    figure: Figure, costs: Mapping[str, tuple[float, float]], extrapolated: Sequence[str] = ()
) -> str:
    """Draw seconds to encrypt and bytes a number, one line for each way.

    Args:
        figure: Where.
        costs: Seconds for the whole update and bytes for each of its numbers, by way.
        extrapolated: Ways of which only a part was measured; their bars are hatched.
    """
    left, right = figure.subplots(1, 2, sharey=True)
    for line, (name, (seconds, num_bytes)) in enumerate(costs.items()):
        hatch = "///" if name in extrapolated else ""
        look = {"color": _colour(name), "alpha": 0.6, "hatch": hatch}
        left.barh(line, seconds, **look)
        right.barh(line, num_bytes, **look)
        text = duration(seconds) + (" (extrapolated)" if hatch else "")
        for ax, width, label in ((left, seconds, text), (right, num_bytes, f"{num_bytes:.3g}")):
            ax.annotate(label, (width, line), (4, 0), textcoords="offset points", va="center")
    left.set_yticks(range(len(costs)), list(costs), fontsize=9)
    left.set_ylim(len(costs) - 0.5, -0.5)
    _time_axis(left, 1e-3, 3e4)
    _byte_axis(right)
    tidy(left, title="Time of one client to encrypt its update", xlabel="time")
    tidy(right, title="Size on the wire", xlabel="bytes for each number")
    return (
        "; ".join(
            f"{name}: {duration(seconds)}{' (extrapolated)' if name in extrapolated else ''}, "
            f"{num_bytes:.3g} bytes a number"
            for name, (seconds, num_bytes) in costs.items()
        )
        + "."
    )


def draw_scales(figure: Figure, accuracy: Mapping[int, Sequence[float]]) -> str:
    """Draw accuracy after training over the scale of CKKS, one dot a seed; 0 is the plain sum."""
    ax = figure.subplots()
    plain = np.mean(accuracy[0])
    scales = sorted(scale for scale in accuracy if scale)
    middle = [np.mean(accuracy[scale]) for scale in scales]
    ax.axhline(plain, color=COLOUR["plain"], ls="--", lw=1, label="plain sum")
    ax.plot(scales, middle, color=COLOUR["ckks"], lw=2, label="CKKS, mean of the seeds")
    for scale in scales:
        ax.plot([scale] * len(accuracy[scale]), accuracy[scale], "o", color=BLACK, ms=4)
    ax.set(ylim=(0, 1.02), xticks=scales)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(fontsize=9, frameon=False, loc="lower right")
    tidy(
        ax,
        title="A careless scale costs the model",
        xlabel="scale: numbers are multiplied by 2 to the ...",
        ylabel="test accuracy",
    )
    pairs = ", ".join(f"2^{scale} {value:.0%}" for scale, value in zip(scales, middle, strict=True))
    return f"Accuracy, mean of the seeds: plain {plain:.0%}; CKKS with scale {pairs}."


def draw_trial(figure: Figure, trial: Trial) -> str:
    """Draw the times of three steps, the bytes a number, and numbers before and after."""
    figure.set_layout_engine("none")  # fixed places: faster, and nothing jumps under a slider
    places = {"left": 0.075, "right": 0.985, "bottom": 0.17, "top": 0.88, "wspace": 0.3}
    times, size, values = figure.subplots(1, 3, width_ratios=(4, 3, 4), gridspec_kw=places)
    colour, hatch = _colour(trial.settings), "///" if trial.is_extrapolated else ""
    for line, seconds in enumerate(trial.seconds.values()):
        times.barh(line, seconds, color=colour, alpha=0.6, hatch=hatch)
        times.annotate(
            duration(seconds), (seconds, line), (4, 0), textcoords="offset points", va="center"
        )
    times.set_yticks(range(len(trial.seconds)), list(trial.seconds), fontsize=9)
    times.set_ylim(2.5, -0.5)
    _time_axis(times, 1e-4, 2e5)
    scaled = "scaled up from a part" if trial.is_extrapolated else "measured"
    tidy(times, title=f"Time, {scaled}", xlabel="time")

    each = trial.num_bytes / trial.length
    for line, (width, look) in enumerate(((FLOAT32, GREY), (each, colour))):
        size.barh(line, width, color=look, alpha=0.6)
        size.annotate(
            f"{width:.3g}", (width, line), (4, 0), textcoords="offset points", va="center"
        )
    size.set_yticks([0, 1], ["float32", "sent"], fontsize=9)
    size.set_ylim(1.5, -0.5)
    _byte_axis(size)
    tidy(size, title="Size", xlabel="bytes for each number")

    limit = 1.1 * max(np.abs(trial.sent).max(), 1e-9)
    values.plot([-limit, limit], [-limit, limit], color=GREY, lw=1)
    values.plot(trial.sent, trial.opened, ".", color=RED if _spoiled(trial) else colour, ms=4)
    values.set(xlim=(-limit, limit), ylim=(-1.5 * limit, 1.5 * limit))
    tidy(values, title=f"Largest error {trial.error:.2g}", xlabel="number sent", ylabel="opened")
    return _sentence(trial, each)


def _sentence(trial: Trial, each: float) -> str:
    times = ", ".join(f"{step} {duration(seconds)}" for step, seconds in trial.seconds.items())
    part = f"; time scaled up from {len(trial.sent):,} of them" if trial.is_extrapolated else ""
    return (
        f"{trial.settings}: {times}; {each:.3g} bytes a number (float32: 4); largest error "
        f"{trial.error:.2g}, largest number {np.abs(trial.sent).max():.2g}. "
        f"{trial.length:,} numbers{part}."
    )


def _spoiled(trial: Trial) -> bool:
    """Whether the typical number is smaller than the largest error."""
    return trial.error > np.median(np.abs(trial.sent))


def _colour(name: str) -> str:
    return COLOUR["ckks" if "CKKS" in name else "paillier" if "Paillier" in name else "plain"]


def _time_axis(ax: Axes, shortest: float, longest: float) -> None:
    ax.set_xscale("log")
    ticks = {time: label for time, label in TIMES.items() if shortest <= time <= longest}
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.set_xticklabels(ticks.values(), fontsize=8)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(shortest, longest)


def _byte_axis(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([1, 4, 10, 100, 1000]))
    ax.set_xticklabels(["1", "4", "10", "100", "1,000"], fontsize=8)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(1, 5000)
