"""The sliders of notebook 08."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.secure_aggregation.plots import draw_masked_round
from fltutor.lessons.secure_aggregation.runs import (
    FULL_RING,
    MASK_BITS,
    MAX_CLIENTS,
    masked_round,
)
from fltutor.plotting import new_figure
from fltutor.transcript import Phase
from fltutor.widgets import Explorer, explorer


def masked_round_explorer() -> Explorer:
    """Slide clients, threshold, dropouts and masks; see uploads, what leaks, and who knows what."""
    phases = [(phase.name.lower(), phase) for phase in Phase]
    bits = [(f"{bits} bits" if bits else "none", bits) for bits in reversed(MASK_BITS)]
    return explorer(
        compute=masked_round,
        draw=draw_masked_round,
        controls={
            "clients": ipw.IntSlider(6, min=2, max=MAX_CLIENTS, description="clients"),
            "threshold": ipw.IntSlider(4, min=2, max=MAX_CLIENTS, description="threshold"),
            "leaving": ipw.IntSlider(0, min=0, max=5, description="clients who leave"),
            "phase": ipw.SelectionSlider(
                options=phases, value=Phase.UPLOAD, description="... before"
            ),
            "mask_bits": ipw.SelectionSlider(options=bits, value=FULL_RING, description="masks"),
            "colluding": ipw.IntSlider(0, min=0, max=6, description="clients who collude"),
        },
        figure=new_figure(11, 3.6),
    )
