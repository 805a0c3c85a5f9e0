"""The sliders of notebook 06."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.fewer_bytes.plots import draw_compressed
from fltutor.lessons.fewer_bytes.runs import compare
from fltutor.widgets import Explorer, explorer


def compression_explorer() -> Explorer:
    """Slide bits or the share of numbers sent; watch accuracy against kilobytes."""
    shares = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
    return explorer(
        compute=compare,
        draw=draw_compressed,
        controls={
            "method": ipw.ToggleButtons(
                options=["fewer bits", "fewer numbers"], description="send"
            ),
            "bits": ipw.IntSlider(2, min=2, max=8, description="bits per number"),
            "share": ipw.SelectionSlider(
                options=[(f"{share:.1%}", share) for share in shares],
                value=0.01,
                description="share of numbers",
            ),
            "feedback": ipw.Checkbox(False, description="remember what was left out"),
        },
    )
