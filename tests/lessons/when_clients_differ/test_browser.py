"""Notebook 05 in a real browser: the split, the cohort and the server's method change the run."""

import re


def change(view, act):
    """Act, and return the accuracy that the reader then sees, 0 to 1."""
    return float(re.search(r"([\d.]+)% after 30", view.change(act))[1]) / 100


def choose(view, name):
    return change(view, lambda: view.control("method").locator("select").select_option(name))


def rounds(view):
    return int(re.search(r"90% after (\d+) rounds", view.readout)[1])


def test_explorer_shows_drift_and_what_calms_it(view):
    alpha, fraction, rate = map(view.slider, ("alpha", "fraction", "server_learning_rate"))
    assert view.readout.startswith("alpha 0.1, 10 of 10 clients, FedAvg, server rate 1: ")
    apart = rounds(view)
    change(view, lambda: alpha.press("End"))
    assert view.readout.startswith("alpha 100")
    assert rounds(view) < apart / 2
    change(view, lambda: alpha.press("ArrowLeft", 4))
    assert view.readout.startswith("alpha 0.1,")

    reckless = choose(view, "FedAdam")
    careful = change(view, lambda: rate.press("ArrowLeft", 10))
    assert "FedAdam, server rate 0.1:" in view.readout
    assert careful > reckless + 0.2
    assert careful > 0.85

    change(view, lambda: rate.press("ArrowRight", 10))
    whole = choose(view, "FedAvgM")
    few = change(view, lambda: fraction.drag(0.0))
    assert "1 of 10 clients" in view.readout
    assert few < whole - 0.2
