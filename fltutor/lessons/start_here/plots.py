"""Pictures for notebook 00."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fltutor.lessons.curves import draw_accuracy_so_far, draw_no_bound
from fltutor.lessons.start_here.runs import PrivateTraining
from fltutor.plotting import COLOUR, tidy


def draw_private_training(figure: Figure, run: PrivateTraining) -> str:
    """Draw accuracy and epsilon over rounds, and say the last of each."""
    left, right = figure.subplots(1, 2)
    done = len(run.accuracy) - 1
    accuracy = run.accuracy[-1]

    draw_accuracy_so_far(left, run.accuracy, run.rounds)
    tidy(
        left,
        title=f"Accuracy {accuracy:.2f} after {done} rounds",
        xlabel="rounds",
        ylabel="test accuracy (share right)",
    )

    epsilon = run.epsilon[-1]
    right.set(xlim=(0, run.rounds))
    if np.isfinite(epsilon):
        right.plot(run.epsilon, color=COLOUR["privacy"], linestyle="--", linewidth=2)
        right.set_ylim(0, max(1.0, 1.1 * epsilon))
        title = f"Epsilon {epsilon:.3g}: less is more private"
    else:
        right.tick_params(left=False, labelleft=False)
        title = draw_no_bound(right)
    tidy(right, title=title, xlabel="rounds", ylabel="epsilon, whole run so far")

    right.xaxis.set_major_locator(MaxNLocator(5, integer=True))  # each tick costs time to draw
    right.yaxis.set_major_locator(MaxNLocator(4))
    going = "" if done == run.rounds else f" ({done} done)"
    return (
        f"{run.clients} clients, noise {run.noise:g}, {run.rounds} rounds{going}: "
        f"accuracy {accuracy:.3f}, {run.spent}"
    )
