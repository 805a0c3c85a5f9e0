"""Notebook 01 in a real browser: the explorer's picture and numbers follow every control."""

import pytest


@pytest.fixture
def view(lab):
    lab.open("01_encrypted_tensors.ipynb")
    assert lab.run_all() == []
    view = lab.explorer(0)
    yield view
    lab.screenshot("01_encrypted_tensors")


def change(view, act):
    """Do something to a control, wait for another picture, and return the new numbers."""
    before = view.picture()
    act()
    view.wait_for_change(before)
    return view.readout


def test_explorer_shows_reuse_tampering_replay_and_ecb(view):
    def choose(name, option):
        return lambda: view.control(name).get_by_role("button", name=option, exact=True).click()

    assert "fresh nonce" in view.readout
    assert "Eavesdropper: 0 of 7,840" in view.readout
    assert "round 4 is refused" in view.readout

    assert "Eavesdropper: 7,840 of 7,840" in change(view, choose("nonce", "reused"))
    flipped = view.slider("flipped_byte")
    assert "flipped, refused" in change(view, lambda: flipped.drag(0.4))

    readout = change(view, choose("cipher", "CTR"))
    assert "opened all the same" in readout
    assert "round 4 opens" in readout
    before = flipped.value
    assert readout != change(view, lambda: flipped.press("ArrowRight"))
    assert flipped.value != before

    readout = change(view, choose("cipher", "ECB"))
    assert "no nonce" in readout
    assert "4 weights are wrong" in readout

    change(view, choose("cipher", "GCM"))
    change(view, lambda: flipped.press("Home"))
    assert "opened as sent" in view.readout
    unbind = view.control("bind_round").get_by_role("checkbox")
    assert "round 4 opens" in change(view, unbind.click)
