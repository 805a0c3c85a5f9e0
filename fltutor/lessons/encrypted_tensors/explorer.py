"""The sliders of notebook 01."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.lessons.encrypted_tensors.plots import draw_delivery
from fltutor.lessons.encrypted_tensors.runs import deliver
from fltutor.lessons.scene import load_scene
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def encryption_explorer() -> Explorer:
    """Choose a cipher and its mistakes; watch the wire, the eavesdropper and the server."""
    num_bytes = load_scene().update.nbytes
    return explorer(
        compute=deliver,
        draw=draw_delivery,
        controls={
            "cipher": _choice("cipher", "GCM", "CTR", "ECB"),
            "nonce": _choice("nonce", "fresh", "reused"),
            "flipped_byte": ipw.IntSlider(
                0, min=0, max=num_bytes, description="flip byte (0: none)"
            ),
            "bind_round": ipw.Checkbox(True, description="round in associated data"),
        },
        figure=new_figure(height=2.8),
    )


def _choice(description: str, *options: str) -> ipw.ToggleButtons:
    narrow = {"button_width": "5em"}
    return ipw.ToggleButtons(options=options, description=description, style=narrow)
