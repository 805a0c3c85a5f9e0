"""Notebook 07 in a real browser: images, epochs and noise change what comes back."""

import re


def numbers(view):
    """Exact recoveries, images, and the median PSNR, as the reader sees them."""
    found = re.search(r"Exact recoveries: (\d+) of (\d+)\. Median PSNR (\d+) dB", view.readout)
    return [int(number) for number in found.groups()]


def change(view, act):
    view.change(act)
    return numbers(view)


def test_explorer_shows_what_protects_an_image_and_what_does_not(view):
    exact, images, _ = numbers(view)
    assert exact < images == 5

    count, epochs, noise = (view.slider(name) for name in ("images", "local_epochs", "noise"))
    exact, images, before = change(view, lambda: count.press("Home"))
    assert exact == images == 1
    exact, _, after = change(view, lambda: epochs.press("End"))
    assert exact == 1
    assert min(before, after) > 100
    assert "50 local epochs" in view.readout

    change(view, lambda: noise.press("ArrowRight", 5))
    assert noise.value == "0.01"
    exact, _, little = numbers(view)
    assert exact == 0
    assert little > 15
    assert change(view, lambda: noise.press("End"))[2] < 12
    change(view, lambda: noise.press("Home"))

    change(view, lambda: epochs.press("Home"))
    exact, images, _ = change(view, lambda: count.drag(1.0))
    assert images == 50
    assert exact < 10
    change(view, lambda: view.slider("draw").press("ArrowRight", 2))
