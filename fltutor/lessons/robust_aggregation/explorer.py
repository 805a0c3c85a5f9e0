"""The sliders of notebook 13."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.robust_aggregation.plots import draw_liars
from fltutor.lessons.robust_aggregation.runs import ATTACKS, RULES, liars_run
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def liars_explorer() -> Explorer:
    """Choose liars, attack, rule and data; watch the rows of each round, and the accuracy."""
    return explorer(
        compute=liars_run,
        draw=draw_liars,
        controls={
            "attackers": ipw.IntSlider(3, min=0, max=7, description="liars"),
            "attack": ipw.Dropdown(
                options=list(ATTACKS), value="sign flip x 10", description="attack"
            ),
            "rule": ipw.Dropdown(options=list(RULES), value="mean", description="rule"),
            "num_byzantine": ipw.IntSlider(3, min=0, max=7, description="f, liars expected"),
            "alpha": ipw.SelectionSlider(
                options=[0.1, 0.3, 1.0, 10.0, 100.0], value=100.0, description="alpha (alike)"
            ),
        },
        figure=new_figure(11, 3.8),
    )
