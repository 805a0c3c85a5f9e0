"""Notebook 10 in a real browser: the same run, counted in other ways."""

import re


def epsilons(view):
    """Epsilon as asked, with everyone, and added up, as the reader sees them."""
    found = re.search(
        r"^epsilon = (\S+) at .* Everyone in every round: (\S+)\. Added up: (\S+)\.$", view.readout
    )
    return [float(number) for number in found.groups()]


def choose(view, name, label):
    view.change(lambda: view.control(name).locator("select").select_option(label=label))


def test_explorer_counts_the_same_run_in_other_ways(view):
    rdp, everyone, added = epsilons(view)
    assert rdp < everyone < added
    assert "Poisson q = 0.2, RDP" in view.readout

    choose(view, "accountant", "PLD")
    pld, *coarse = epsilons(view)
    assert pld < rdp
    assert coarse == [everyone, added]

    noise, rounds, rate, delta = (
        view.slider(name) for name in ("noise", "rounds", "sampling_rate", "delta")
    )
    view.change(lambda: noise.press("ArrowRight", 10))
    assert noise.value == "2.00"
    assert epsilons(view)[0] < pld
    view.change(lambda: rounds.drag(1.0))
    assert rounds.value == "300"
    many = epsilons(view)[0]
    view.change(lambda: delta.press("End"))
    assert epsilons(view)[0] > many
    view.change(lambda: rate.press("Home"))
    assert epsilons(view)[0] < many
    view.change(lambda: noise.press("Home"))
    assert view.readout.startswith("epsilon = infinity")
    view.change(lambda: noise.press("PageUp", 2))


def test_explorer_refuses_what_no_accountant_here_counts(view):
    before = view.picture()
    view.control("game").locator("select").select_option(label="Poisson, replace one")
    view.box.locator(".fltutor-error").wait_for()
    assert "is not supported; what is: rdp, none, add-or-remove-one" in view.readout
    assert view.picture() == before  # the last picture stays
    choose(view, "accountant", "PLD")
    assert "replace-one, Poisson q = 0.2, PLD" in view.readout
    choose(view, "game", "fixed size, replace one")
    assert "replace-one, fixed size q = 0.2, PLD" in view.readout
