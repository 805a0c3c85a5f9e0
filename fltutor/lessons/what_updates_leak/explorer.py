"""The sliders of notebook 07."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.what_updates_leak.plots import draw_leak
from fltutor.lessons.what_updates_leak.runs import MAX_IMAGES, NOISES, leak
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def leak_explorer() -> Explorer:
    """Slide images, local epochs and noise; compare the originals with what comes back."""
    return explorer(
        compute=leak,
        draw=draw_leak,
        controls={
            "images": ipw.IntSlider(5, min=1, max=MAX_IMAGES, description="images"),
            "local_epochs": ipw.IntSlider(1, min=1, max=50, description="local epochs"),
            "noise": ipw.SelectionSlider(options=NOISES, value=0, description="noise / length"),
            "draw": ipw.IntSlider(0, min=0, max=20, description="other digits"),
        },
        figure=new_figure(11, 3.4),
    )
