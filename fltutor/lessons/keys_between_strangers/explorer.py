"""The sliders of notebook 02."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.keys_between_strangers.plots import draw_exchange
from fltutor.lessons.keys_between_strangers.runs import exchange_numbers
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def key_explorer() -> Explorer:
    """Let the server swap keys, let the clients sign them; watch the keys and who reads what."""
    return explorer(
        compute=exchange_numbers,
        draw=draw_exchange,
        controls={
            "num_clients": ipw.IntSlider(6, min=2, max=10, description="clients"),
            "num_victims": ipw.IntSlider(0, min=0, max=10, description="victims of the server"),
            "signed": ipw.Checkbox(False, description="clients sign their keys"),
        },
        figure=new_figure(height=3.8),
    )
