"""Notebook 12 in a real browser: an attack on a training, and an audit of a claim."""

import re

import pytest


@pytest.fixture
def view(lab):
    lab.open("12_auditing_privacy.ipynb")
    assert lab.run_all() == []
    lab.screenshot("12_auditing_privacy")
    view = lab.explorer(0)
    yield view
    lab.screenshot("12_auditing_privacy_moved")


def found(view):
    """The share of members that LiRA finds, as the reader sees it."""
    return float(re.search(r"LiRA finds (\d\.\d+)", view.readout)[1])


def audited(view):
    """The bound, and whether it refutes the claim."""
    bound, verdict = re.search(r"Audited ([\d.]+), claimed [\d.]+: (.*?)\.", view.readout).groups()
    return float(bound), verdict


def change(view, act):
    before = view.picture()
    act()
    view.wait_for_change(before)


def test_explorer_attacks_a_training_and_audits_a_claim(view):
    assert audited(view)[1] in ("refuted", "not refuted")
    epochs, examples, target, trials = (
        view.slider(name) for name in ("epochs", "examples", "target", "trials")
    )
    change(view, lambda: epochs.press("End"))
    assert "40 epochs" in view.readout
    change(view, lambda: examples.press("Home"))
    assert "100 examples" in view.readout
    memorised = found(view)
    change(view, lambda: epochs.press("Home"))
    assert "1 epoch," in view.readout
    assert found(view) < memorised
    change(view, lambda: target.drag(1.0))
    assert "target 15," in view.readout

    change(view, lambda: trials.press("End"))
    assert "8,000 trials" in view.readout
    assert audited(view)[1] == "refuted"  # half of the noise, at last
    bug = view.control("bug").locator("select")
    change(view, lambda: bug.select_option("no bug"))
    assert audited(view)[1] == "not refuted"
    change(view, lambda: bug.select_option("forgets to clip"))
    clear, verdict = audited(view)
    assert (clear > 6, verdict) == (True, "refuted")
    change(view, lambda: trials.drag(0.0))
    few, verdict = audited(view)
    assert few < clear
    assert verdict == "refuted"
