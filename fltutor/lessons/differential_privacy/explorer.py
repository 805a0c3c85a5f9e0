"""The sliders of notebook 10."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.differential_privacy.plots import draw_spending
from fltutor.lessons.differential_privacy.runs import DELTAS, GAMES, MAX_ROUNDS, RATES, spending
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def spending_explorer() -> Explorer:
    """Slide noise, sampling rate, rounds and delta; choose how it is counted."""
    return explorer(
        compute=spending,
        draw=draw_spending,
        controls={
            "noise": ipw.FloatSlider(1.0, min=0, max=8, step=0.1, description="noise multiplier z"),
            "sampling_rate": ipw.SelectionSlider(
                options=RATES, value=0.2, description="sampling rate q"
            ),
            "rounds": ipw.IntSlider(30, min=1, max=MAX_ROUNDS, description="rounds"),
            "delta": ipw.SelectionSlider(
                options=[(f"{delta:.0e}", delta) for delta in DELTAS],
                value=1e-3,
                description="delta",
            ),
            "accountant": ipw.Dropdown(
                options=[("RDP", "rdp"), ("PLD", "pld"), ("moments (2016)", "moments")],
                value="rdp",
                description="accountant",
            ),
            "game": ipw.Dropdown(options=list(GAMES), description="sampling, neighbours"),
        },
        figure=new_figure(9, 3.8),
    )
