"""Notebook 04 in a real browser: pictures and numbers follow the sliders to their ends."""

import re


def rounds_and_megabytes(readout):
    """What the run took to 90 %, as its sentence says."""
    found = re.search(r"90% after (\d+) rounds?, ([\d.]+) MB", readout)
    return int(found[1]), float(found[2])


def move(view, name, key):
    """Press a key on a slider, wait for the end of the run, and return the new numbers."""
    return view.change(lambda: view.slider(name).press(key))


def test_local_epochs_save_rounds_and_few_clients_save_megabytes(view):
    assert "1 local epoch, batches of 10, rate 0.1, 10 of 10 clients" in view.readout
    by_default = rounds_and_megabytes(view.readout)

    many_epochs = rounds_and_megabytes(move(view, "local_epochs", "End"))
    assert view.slider("local_epochs").value == "20"
    assert many_epochs[0] <= by_default[0] / 4
    assert many_epochs[1] <= by_default[1] / 4

    one_client = rounds_and_megabytes(move(view, "fraction", "Home"))
    assert view.slider("fraction").value == "10%"
    assert "1 of 10 clients" in view.readout
    assert one_client[0] >= many_epochs[0]
    assert one_client[1] < many_epochs[1]

    move(view, "local_epochs", "Home")
    move(view, "fraction", "End")
    assert rounds_and_megabytes(view.readout) == by_default

    assert "full batches" in move(view, "batch_size", "End")
    assert view.slider("batch_size").value == "all"
    assert "batches of 5" in move(view, "batch_size", "Home")

    assert "rate 0.01" in view.change(lambda: view.slider("learning_rate").drag(0.0))
    assert "90% not reached" in view.readout
    too_fast = move(view, "learning_rate", "End")
    assert "rate 3.2" in too_fast
    assert "not reached" in too_fast or "blew up" in too_fast
