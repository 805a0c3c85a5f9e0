"""Notebook 06 in a real browser: bits, share and memory change the picture and the numbers."""

import re


def change(view, act):
    """Do something to a control; return the accuracy and the kilobytes that follow."""
    found = re.search(r"accuracy ([\d.]+) with ([\d,]+) kB sent", view.change(act))
    return float(found[1]), float(found[2].replace(",", ""))


def test_compression_sliders(view):
    assert view.readout.startswith("2 bits, no memory")
    _, fine = change(view, lambda: view.slider("bits").press("End"))
    assert view.readout.startswith("8 bits")
    _, coarse = change(view, lambda: view.slider("bits").drag(0.0))
    assert 3.5 < fine / coarse < 4.5

    top_k = view.control("method").get_by_role("button", name="fewer numbers")
    forgetful, _ = change(view, top_k.click)
    assert "top 1.0%" in view.readout
    remembering, _ = change(view, view.control("feedback").get_by_role("checkbox").click)
    assert "with memory" in view.readout
    assert remembering > forgetful + 0.02
