"""Notebook 06 in a real browser: bits, share and memory change the picture and the numbers."""

import re

import pytest


@pytest.fixture
def view(lab):
    lab.open("06_fewer_bytes.ipynb")
    assert lab.run_all() == []
    view = lab.explorer(0)
    yield view
    lab.screenshot("06_fewer_bytes")


def change(view, act):
    """Do something to a control; return the accuracy and the kilobytes that follow."""
    before = view.picture()
    act()
    view.wait_for_change(before)
    found = re.search(r"accuracy ([\d.]+) with ([\d,]+) kB sent", view.readout)
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
