"""Notebook 12 in a real browser: an attack on a training, and an audit of a claim."""

import re


def found(view):
    """The share of members that LiRA finds, as the reader sees it."""
    return float(re.search(r"LiRA finds (\d\.\d+)", view.readout)[1])


def audited(view):
    """The bound, and whether it refutes the claim."""
    bound, verdict = re.search(r"Audited ([\d.]+), claimed [\d.]+: (.*?)\.", view.readout).groups()
    return float(bound), verdict


def test_explorer_attacks_a_training_and_audits_a_claim(view):
    assert audited(view)[1] in ("refuted", "not refuted")
    epochs, examples, target, trials = (
        view.slider(name) for name in ("epochs", "examples", "target", "trials")
    )
    view.change(lambda: epochs.press("End"))
    assert "40 epochs" in view.readout
    view.change(lambda: examples.press("Home"))
    assert "100 examples" in view.readout
    memorised = found(view)
    view.change(lambda: epochs.press("Home"))
    assert "1 epoch," in view.readout
    assert found(view) < memorised
    view.change(lambda: target.drag(1.0))
    assert "target 15," in view.readout

    view.change(lambda: trials.press("End"))
    assert "8,000 trials" in view.readout
    assert audited(view)[1] == "refuted"  # half of the noise, at last
    bug = view.control("bug").locator("select")
    view.change(lambda: bug.select_option("no bug"))
    assert audited(view)[1] == "not refuted"
    view.change(lambda: bug.select_option("forgets to clip"))
    clear, verdict = audited(view)
    assert (clear > 6, verdict) == (True, "refuted")
    view.change(lambda: trials.drag(0.0))
    few, verdict = audited(view)
    assert few < clear
    assert verdict == "refuted"
