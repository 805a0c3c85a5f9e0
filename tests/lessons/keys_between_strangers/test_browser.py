"""Notebook 02 in a real browser: the explorer's picture and numbers follow every control."""


def test_explorer_shows_the_swap_and_what_signatures_do_about_it(view):
    assert "6 clients, unsigned keys, no victim" in view.readout
    assert "the server reads 0." in view.readout

    victims = view.slider("num_victims")
    readout = view.change(lambda: victims.press("ArrowRight"))
    assert victims.value == "1"
    assert "1 victim:" in readout
    assert "30 messages arrive, the server reads 10." in readout
    assert "the server reads 30." in view.change(lambda: victims.drag(1.0))

    sign = view.control("signed").get_by_role("checkbox")
    readout = view.change(sign.click)
    assert "30 of 30 keys refused" in readout
    assert "the server reads 0." in readout

    clients = view.slider("num_clients")
    readout = view.change(lambda: clients.press("End"))
    assert clients.value == "10"
    assert "90 of 90 keys refused" in readout
    view.change(lambda: victims.press("Home"))
    readout = view.change(lambda: victims.press("ArrowRight", 3))
    assert "48 of 90 keys refused, 42 messages arrive" in readout
    assert "the server reads 48." in view.change(sign.click)
