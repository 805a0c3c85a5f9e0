"""The sliders of notebook 09."""

from __future__ import annotations

import ipywidgets as ipw

from fltutor.crypto.paillier import (
    MIN_BITS,
)
from fltutor.lessons.homomorphic_encryption.plots import draw_trial
from fltutor.lessons.homomorphic_encryption.runs import DEGREES, KEY_BITS, trials
from fltutor.plotting import new_figure
from fltutor.widgets import Explorer, explorer


def homomorphic_explorer() -> Explorer:
    """Choose a scheme and its parameters; watch time, bytes and error of a real update."""
    bits = [(f"{bits} (toy)" if bits < MIN_BITS else str(bits), bits) for bits in KEY_BITS]
    controls = {
        "scheme": ipw.ToggleButtons(
            options=["Paillier", "CKKS"], description="scheme", style={"button_width": "6em"}
        ),
        "scale_bits": ipw.IntSlider(16, min=4, max=44, description="scale: 2 to the"),
        "key_bits": ipw.SelectionSlider(options=bits, value=2048, description="Paillier: key bits"),
        "packing": ipw.Checkbox(True, description="Paillier: packing"),
        "poly_degree": ipw.SelectionSlider(
            options=list(DEGREES), value=4096, description="CKKS: degree"
        ),
    }
    view = explorer(trials, draw_trial, controls, figure=new_figure(height=3.0))

    def enable(_: object = None) -> None:
        is_ckks = controls["scheme"].value == "CKKS"
        controls["key_bits"].disabled = controls["packing"].disabled = is_ckks
        controls["poly_degree"].disabled = not is_ckks

    controls["scheme"].observe(enable, names="value")
    enable()
    return view
