"""Notebook 11 in a real browser: clients, sampling, noise, clip and rounds change the run."""

import re


def numbers(view):
    """Accuracy, clipping norm and epsilon, as the reader sees them."""
    accuracy = re.search(r"accuracy ([\d.]+)", view.readout)[1]
    clip = re.search(r"clipping norm ([\d.e+-]+)", view.readout)[1]
    epsilon = re.search(r"epsilon = (\S+)", view.readout)[1]
    return float(accuracy), float(clip), float("inf" if epsilon == "infinity" else epsilon)


def change(view, act):
    view.change(act)
    return numbers(view)


def test_explorer_shows_what_people_noise_and_clip_do(view):
    names = ("clients", "sampling_rate", "noise", "clip", "quantile", "rounds")
    clients, rate, noise, clip, quantile, rounds = (view.slider(name) for name in names)
    adapted = numbers(view)
    assert adapted[1] > 0.3

    fixed = change(view, lambda: quantile.press("Home"))
    assert "(fixed)" in view.readout
    assert fixed[1] == 0.1
    assert fixed[2] == adapted[2]
    assert fixed[0] < adapted[0] - 0.2

    wrecked = change(view, lambda: clip.press("End"))
    assert wrecked[1] == 100
    assert wrecked[0] < 0.5
    change(view, lambda: clip.press("ArrowLeft", 4))
    good = numbers(view)
    assert good[1] == 1
    assert good[0] > 0.8

    everyone = change(view, lambda: rate.press("End"))
    assert "no sampling" in view.readout
    assert everyone[2] > good[2]
    few = change(view, lambda: clients.drag(0.0))
    assert "10 clients" in view.readout
    assert few[2] == everyone[2]
    assert few[0] < everyone[0] - 0.2

    longer = change(view, lambda: rounds.press("ArrowRight", 5))
    assert "25 rounds" in view.readout
    assert longer[2] > few[2]
    silent = change(view, lambda: noise.drag(0.0))
    assert silent[2] == float("inf")
    assert silent[0] > 0.85
