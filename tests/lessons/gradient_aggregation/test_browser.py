"""Notebook 03 in a real browser: every control of the explorer changes picture and numbers."""

import re


def numbers(view):
    """Accuracy of the federation, of pooled training, and their largest gap of any weight."""
    numbers = re.search(
        r"accuracy ([\d.]+), loss .* pooled training ([\d.]+)\. Largest gap of any weight: (\S+)\.",
        view.readout,
    )
    return [float(number) for number in numbers.groups()]


def change(view, act):
    view.change(act)
    return numbers(view)


def test_explorer_shows_what_changes_the_model_and_what_does_not(view):
    assert "10 clients with 18 to 414 examples, 40 rounds" in view.readout
    accuracy, pooled, gap = numbers(view)
    assert accuracy == pooled > 0.85
    assert gap < 1e-6

    clients, alpha = view.slider("clients"), view.slider("alpha")
    for act in (
        lambda: clients.press("Home"),
        lambda: clients.drag(1.0),
        lambda: alpha.press("End"),
        lambda: alpha.press("Home"),
    ):
        accuracy, pooled, gap = change(view, act)
        assert accuracy == pooled
        assert gap < 1e-6
    assert "100 clients" in view.readout
    assert alpha.value == "0.03"

    learning_rate = view.slider("learning_rate")
    slow, slow_pooled, _ = change(view, lambda: learning_rate.press("Home"))
    assert slow == slow_pooled < pooled - 0.2
    wild, wild_pooled, _ = change(view, lambda: learning_rate.press("End"))
    assert max(wild, wild_pooled) < pooled - 0.2
    change(view, lambda: learning_rate.press("ArrowLeft", 3))
    assert learning_rate.value == "0.5"

    accuracy, pooled, gap = change(view, view.control("weighted").get_by_role("checkbox").click)
    assert accuracy < pooled
    assert gap > 0.01
    sign = view.control("sign").locator("select")
    uphill, _, gap = change(view, lambda: sign.select_option(label="+ gradient (uphill)"))
    assert uphill < 0.15
    assert gap > 1
