"""The sliders of notebook 03."""

from __future__ import annotations

from functools import partial

import ipywidgets as ipw
from matplotlib.figure import Figure

from fltutor.lessons.gradient_aggregation.plots import draw_fedsgd
from fltutor.lessons.gradient_aggregation.runs import ROUNDS, fedsgd
from fltutor.widgets import Explorer, explorer


def fedsgd_explorer(rounds: int = ROUNDS) -> Explorer:
    """Slide clients, their likeness and the server's step; compare with pooled training."""
    return explorer(
        compute=partial(fedsgd, rounds=rounds),
        draw=draw_fedsgd,
        controls={
            "clients": ipw.IntSlider(10, min=1, max=100, description="clients"),
            "alpha": ipw.SelectionSlider(
                options=[0.03, 0.1, 0.3, 1.0, 10.0, 100.0], value=0.1, description="alpha (alike)"
            ),
            "learning_rate": ipw.SelectionSlider(
                options=[0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0],
                value=0.5,
                description="learning rate",
            ),
            "sign": ipw.Dropdown(
                options=[("− gradient (downhill)", -1), ("+ gradient (uphill)", 1)],
                description="step",
            ),
            "weighted": ipw.Checkbox(True, description="weigh by examples"),
        },
        figure=Figure(figsize=(11, 3.4), dpi=80),  # without a layout engine, for speed
    )
