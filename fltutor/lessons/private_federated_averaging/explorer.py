"""The sliders of notebook 11."""

from __future__ import annotations

import ipywidgets as ipw
import numpy as np

from fltutor.lessons.private_federated_averaging.plots import draw_private_run
from fltutor.lessons.private_federated_averaging.runs import (
    CLIENTS,
    CLIPS,
    MAX_ROUNDS,
    QUANTILES,
    SAMPLING_RATES,
    private_run,
)
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def private_run_explorer() -> Explorer:
    """Slide clients, sampling, noise, clip and rounds; watch accuracy, clip path and epsilon."""
    options = {
        "clients": (CLIENTS, 100, "clients"),
        "sampling_rate": (SAMPLING_RATES, 0.5, "sampling rate q"),
        "noise": (tuple(np.arange(0, 8.5, 0.5).tolist()), 2.0, "noise multiplier z"),
        "clip": (CLIPS, 0.1, "clipping norm (start)"),
        "quantile": (QUANTILES, 0.5, "quantile, or fixed"),
    }
    controls: dict[str, ipw.Widget] = {
        name: ipw.SelectionSlider(options=values, value=value, description=description)
        for name, (values, value, description) in options.items()
    }
    controls["rounds"] = ipw.IntSlider(20, min=1, max=MAX_ROUNDS, description="rounds")
    return explorer(private_run, draw_private_run, controls, figure=new_figure(11, 3.4))
