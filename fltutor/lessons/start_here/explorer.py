"""The sliders of notebook 00."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.start_here.plots import draw_private_training
from fltutor.lessons.start_here.runs import CLIENTS, MAX_ROUNDS, private_training
from fltutor.widgets import Explorer, explorer


def training_explorer() -> Explorer:
    """Slide clients, noise and rounds; watch accuracy and epsilon of a real training."""
    return explorer(
        compute=private_training,
        draw=draw_private_training,
        controls={
            "clients": ipw.SelectionSlider(options=CLIENTS, value=10, description="clients"),
            "noise": ipw.FloatSlider(1.0, min=0, max=8, step=0.5, description="noise multiplier z"),
            "rounds": ipw.IntSlider(20, min=1, max=MAX_ROUNDS, description="rounds"),
        },
    )
