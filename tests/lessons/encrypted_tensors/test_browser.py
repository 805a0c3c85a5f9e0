"""Notebook 01 in a real browser: the explorer's picture and numbers follow every control."""


def test_explorer_shows_reuse_tampering_replay_and_ecb(view):
    def choose(name, option):
        return lambda: view.control(name).get_by_role("button", name=option, exact=True).click()

    assert "fresh nonce" in view.readout
    assert "Eavesdropper: 0 of 7,840" in view.readout
    assert "round 4 is refused" in view.readout

    assert "Eavesdropper: 7,840 of 7,840" in view.change(choose("nonce", "reused"))
    flipped = view.slider("flipped_byte")
    assert "flipped, refused" in view.change(lambda: flipped.drag(0.4))

    readout = view.change(choose("cipher", "CTR"))
    assert "opened all the same" in readout
    assert "round 4 opens" in readout
    before = flipped.value
    assert readout != view.change(lambda: flipped.press("ArrowRight"))
    assert flipped.value != before

    readout = view.change(choose("cipher", "ECB"))
    assert "no nonce" in readout
    assert "4 weights are wrong" in readout

    view.change(choose("cipher", "GCM"))
    view.change(lambda: flipped.press("Home"))
    assert "opened as sent" in view.readout
    unbind = view.control("bind_round").get_by_role("checkbox")
    assert "round 4 opens" in view.change(unbind.click)
