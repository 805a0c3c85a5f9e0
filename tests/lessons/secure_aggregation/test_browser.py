"""Notebook 08 in a real browser: who leaves, how long masks are, and who colludes all show."""

import re


def found(readout):
    """Images found exactly: in uploads, and in the sum."""
    numbers = re.search(r"gives back (\d+) images exactly; the sum gives back (\d+) of", readout)
    return [int(number) for number in numbers.groups()]


def test_explorer_shows_dropouts_weak_masks_and_colluders(view):
    assert "6 clients, threshold 4, nobody leaves, masks of 64 bits" in view.readout
    in_uploads, in_sum = found(view.readout)
    assert in_uploads == 0 < in_sum

    leaving, phase = view.slider("leaving"), view.slider("phase")
    readout = view.change(lambda: leaving.press("ArrowRight", 2))
    assert "2 leave before UPLOAD" in readout
    assert "Of 4 uploads" in readout
    readout = view.change(lambda: phase.press("End"))
    assert "2 leave before UNMASKING" in readout
    assert "Of 6 uploads" in readout
    assert found(readout) == [0, in_sum]

    readout = view.change(lambda: leaving.press("ArrowRight"))
    assert "stopped in phase UNMASKING: 3 of the 4 clients it takes are left" in readout
    view.change(lambda: leaving.press("Home"))
    assert found(view.readout) == [0, in_sum]

    masks = view.slider("mask_bits")
    readout = view.change(lambda: masks.press("Home"))
    assert "masks of 0 bits" in readout
    assert found(readout) == [6, in_sum]
    view.change(lambda: masks.press("End"))

    colluding = view.slider("colluding")
    readout = view.change(lambda: colluding.press("ArrowRight", 3))
    assert "server + clients 0-2: 0" in readout
    readout = view.change(lambda: colluding.press("ArrowRight"))
    assert "server + clients 0-3: 2" in readout

    view.change(lambda: colluding.press("Home"))
    clients, threshold = view.slider("clients"), view.slider("threshold")
    threshold.press("ArrowLeft")
    view.box.locator(".fltutor-error").wait_for()
    assert "threshold must be above half of 6 clients, 4 to 6, got 3" in view.readout
    assert "3 clients, threshold 3" in view.change(lambda: clients.press("ArrowLeft", 3))
    clients.drag(0.0)
    view.box.locator(".fltutor-error").wait_for()
    assert "threshold must be above half of 2 clients, 2 to 2, got 3" in view.readout
    readout = view.change(lambda: threshold.press("Home"))
    assert "2 clients, threshold 2" in readout
    assert found(readout) == [0, 2]
    clients.press("End")
    view.box.locator(".fltutor-error").wait_for()
    readout = view.change(lambda: threshold.press("End"))
    assert "10 clients, threshold 10" in readout
    assert found(readout)[0] == 0
