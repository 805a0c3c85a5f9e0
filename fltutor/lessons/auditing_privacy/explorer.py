"""The sliders of notebook 12."""

from __future__ import annotations

import ipywidgets as ipw
from matplotlib.figure import Figure

from fltutor.attacks import BUGS
from fltutor.lessons.auditing_privacy.plots import draw_audit
from fltutor.lessons.auditing_privacy.runs import (
    EPOCHS,
    EXAMPLES,
    TRIALS,
    audit_view,
)
from fltutor.widgets import Explorer, explorer


def audit_explorer() -> Explorer:
    """Slide the attacked training and the audited mechanism; compare claim and bound."""
    return explorer(
        compute=audit_view,
        draw=draw_audit,
        controls={
            "epochs": ipw.SelectionSlider(options=EPOCHS, value=20, description="epochs"),
            "examples": ipw.SelectionSlider(options=EXAMPLES, value=400, description="examples"),
            "target": ipw.IntSlider(0, min=0, max=15, description="target model"),
            "bug": ipw.Dropdown(options=BUGS, value="halves the noise", description="planted bug"),
            "trials": ipw.SelectionSlider(options=TRIALS, value=1000, description="trials"),
        },
        figure=Figure(figsize=(11, 6), dpi=80),  # no layout to compute: places are fixed
    )
