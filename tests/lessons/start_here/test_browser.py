"""Notebook 00 in a real browser: clients, noise and rounds change the picture and the numbers."""

import re


def numbers(view):
    """Accuracy and epsilon as the reader sees them."""
    accuracy = float(re.search(r"accuracy ([\d.]+)", view.readout)[1])
    epsilon = re.search(r"epsilon = (\S+)", view.readout)[1]
    return accuracy, float("inf" if epsilon == "infinity" else epsilon)


def change(view, act):
    view.change(act)
    return numbers(view)


def test_sliders_redraw_accuracy_and_epsilon(view):
    accuracy, epsilon = numbers(view)

    noisier = change(view, lambda: view.slider("noise").press("ArrowRight", 8))
    assert "noise 5," in view.readout
    assert noisier[1] < epsilon
    assert noisier[0] < accuracy - 0.2

    crowd = change(view, lambda: view.slider("clients").drag(0.67))
    assert "100 clients" in view.readout
    assert crowd[1] == noisier[1]
    assert crowd[0] > noisier[0] + 0.3

    shorter = change(view, lambda: view.slider("rounds").press("ArrowLeft", 10))
    assert "10 rounds" in view.readout
    assert shorter[1] < crowd[1]

    silent = change(view, lambda: view.slider("noise").press("Home"))
    assert silent[1] == float("inf")

    change(view, lambda: view.slider("clients").press("End"))
    change(view, lambda: view.slider("rounds").press("Home"))
    assert "400 clients, noise 0, 1 rounds" in view.readout
