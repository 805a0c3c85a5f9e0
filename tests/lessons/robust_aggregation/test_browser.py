"""Notebook 13 in a real browser: liars, rules and data change what the model learns."""

import re


def accuracy(view):
    """Of this run, and of the mean without liars, as the reader sees them."""
    found = re.search(r"accuracy (\d\.\d+) after .* without liars (\d\.\d+)", view.readout)
    return [float(number) for number in found.groups()]


def choose(view, control, name):
    view.change(lambda: view.control(control).locator("select").select_option(name))


def test_explorer_shows_whom_a_rule_trusts_and_what_that_costs(view):
    liars, expected = view.slider("attackers"), view.slider("num_byzantine")
    run, honest = accuracy(view)
    assert run < 0.4 < 0.8 < honest  # three sign flippers against the mean

    choose(view, "rule", "median")
    assert accuracy(view)[0] > 0.8
    choose(view, "rule", "Krum")
    view.change(lambda: liars.press("Home"))
    assert view.readout.startswith("0 of 15 clients lie")
    alike = accuracy(view)[0]
    view.change(lambda: view.slider("alpha").drag(0.0))
    run, honest = accuracy(view)
    assert run < min(alike, honest) - 0.2  # nobody lies, and Krum pays

    view.change(lambda: view.slider("alpha").press("End"))
    choose(view, "rule", "Bulyan")
    before = view.readout
    expected.press("ArrowRight")
    view._wait(lambda: view.readout != before, 60)
    assert "bulyan needs n >= 4 * num_byzantine + 3" in view.readout
    assert "got 15" in view.readout
    view.change(lambda: expected.press("ArrowLeft"))

    choose(view, "rule", "mean")
    choose(view, "attack", "backdoor")
    view.change(lambda: liars.drag(1.0))
    assert liars.value == "7"
    works = float(re.search(r"trigger works on (\d\.\d+)", view.readout)[1])
    assert works > 0.6
    assert accuracy(view)[0] > 0.7
