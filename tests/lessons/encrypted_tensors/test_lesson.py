"""Notebook 01's explorer, drawings and checks, without a browser."""

import os

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from matplotlib.figure import Figure

from fltutor.crypto.aead import encrypt_model, encrypt_tensor, generate_key
from fltutor.lessons.encrypted_tensors.checks import (
    check_associated_data,
    check_nonces,
    check_overhead,
)
from fltutor.lessons.encrypted_tensors.explorer import encryption_explorer
from fltutor.lessons.encrypted_tensors.plots import (
    draw_delivery,
    draw_message,
    draw_reuse,
    draw_training,
    draw_wire,
)
from fltutor.lessons.encrypted_tensors.runs import deliver, repeated_blocks, seal, unseal, xor
from fltutor.lessons.scene import Scene, load_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return load_scene()


# --- the scene ------------------------------------------------------------------------------------


def test_the_global_model_is_trained_and_the_update_is_sparse_where_the_images_are_blank(scene):
    assert scene.accuracy(scene.global_model) > 0.85
    blank = ~scene.images.any(axis=0)
    assert blank.mean() > 0.5
    assert not scene.update[blank].any()
    assert scene.update[~blank].any(axis=1).all()


# --- ciphers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", ["GCM", "CTR", "ECB"])
def test_each_cipher_opens_what_it_sealed_and_only_gcm_notices_a_change(cipher):
    key, nonce, values = bytes(range(32)), bytes(12), bytes(range(64))
    message = seal(cipher, values, key, nonce, b"round 3")
    assert unseal(cipher, message, key, nonce, b"round 3") == values
    altered = bytes([message[0] ^ 1]) + message[1:]
    if cipher == "GCM":
        with pytest.raises(InvalidTag):
            unseal(cipher, altered, key, nonce, b"round 3")
        with pytest.raises(InvalidTag):
            unseal(cipher, message, key, nonce, b"round 4")
    else:
        assert unseal(cipher, altered, key, nonce, b"round 4") != values


def test_xor_of_two_messages_under_one_pad_cancels_the_pad():
    pad, one, other = bytes([9, 200, 3]), bytes([1, 2, 3]), bytes([7, 7, 7])
    assert xor(xor(one, pad), xor(other, pad), one) == other


def test_only_blocks_that_repeat_are_found():
    blocks = [bytes([value]) * 16 for value in (1, 2, 1, 3)]
    np.testing.assert_array_equal(repeated_blocks(b"".join(blocks)), [True, False, True, False])
    assert not repeated_blocks(b"".join(blocks[:2])).any()


# --- what becomes of an update --------------------------------------------------------------------


@pytest.mark.parametrize("cipher", ["GCM", "CTR"])
def test_a_reused_nonce_gives_every_bit_and_a_fresh_one_nothing(scene, cipher):
    reused, fresh = deliver(cipher, "reused"), deliver(cipher, "fresh")
    assert reused.rebuilt.tobytes() == scene.update.tobytes()
    assert reused.num_rebuilt == scene.update.size
    # Each weight is right by chance with probability 2**-32.
    assert fresh.num_rebuilt <= 1


@pytest.mark.parametrize("nonce", ["fresh", "reused"])
def test_ecb_gives_most_zeros_away_whatever_the_nonce(scene, nonce):
    delivery = deliver("ECB", nonce)
    guessed = ~np.isnan(delivery.rebuilt)
    assert not scene.update[guessed].any()  # what she takes for zero is zero
    assert delivery.num_rebuilt == guessed.sum() > 0.9 * (scene.update == 0).sum()
    assert not delivery.reused


@pytest.mark.parametrize(
    ("cipher", "num_changed"), [("GCM", None), ("CTR", 1), ("ECB", 4)], ids=["GCM", "CTR", "ECB"]
)
@pytest.mark.parametrize("flipped_byte", [1, 13_780, 31_360])
def test_a_flipped_byte_is_refused_or_changes_what_the_mode_says(
    scene, cipher, num_changed, flipped_byte
):
    opened = deliver(cipher, flipped_byte=flipped_byte).opened
    if num_changed is None:
        assert opened is None
    else:
        different = opened.view(np.uint32) != scene.update.view(np.uint32)
        assert different.sum() == num_changed
        assert different.flat[(flipped_byte - 1) // 4]


def test_the_top_bit_of_every_fourth_byte_is_the_sign(scene):
    weight = int(np.abs(scene.update).argmax())
    opened = deliver("CTR", flipped_byte=4 * weight + 4).opened
    assert opened.flat[weight] == -scene.update.flat[weight] != 0


@pytest.mark.parametrize("cipher", ["GCM", "CTR", "ECB"])
@pytest.mark.parametrize("bind_round", [True, False])
def test_a_replay_opens_unless_gcm_binds_the_round(cipher, bind_round):
    delivery = deliver(cipher, bind_round=bind_round)
    assert delivery.replay_opens == (cipher != "GCM" or not bind_round)
    assert delivery.opened is not None


# --- drawings ---------------------------------------------------------------------------------


def texts(figure):
    return " ".join(ax.get_title(loc="left") + " " + ax.get_xlabel() for ax in figure.axes)


def inks(figure):
    return [ax.images[0].get_array() for ax in figure.axes if ax.images]


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({}, ["fresh nonce", ": 0 of 7,840", "opened as sent", "round 4 is refused"]),
        ({"nonce": "reused", "flipped_byte": 9}, ["7,840 of 7,840", "byte 9 flipped, refused"]),
        ({"cipher": "CTR", "flipped_byte": 13_780}, ["became -", "round 4 opens"]),
        ({"cipher": "ECB", "flipped_byte": 13_780}, ["no nonce", "4 weights are wrong"]),
        ({"bind_round": False}, ["round 4 opens"]),
    ],
    ids=str,
)
def test_the_explorer_says_its_numbers_and_draws_them(scene, settings, numbers):
    figure, delivery = Figure(), deliver(**settings)
    sentence = draw_delivery(figure, delivery)
    for number in numbers:
        assert number in sentence
    assert f"eavesdropper: {delivery.num_rebuilt / 7840:.0%}" in texts(figure)
    if settings.get("nonce") == "reused":
        sent, _, rebuilt = inks(figure)
        np.testing.assert_array_equal(sent, rebuilt)
        assert "server: refused" in texts(figure)


def test_the_explorer_answers_its_controls():
    view = encryption_explorer()
    assert "fresh nonce" in view.message
    view.controls["nonce"].value = "reused"
    assert "7,840 of 7,840" in view.message
    for name, ends in (("flipped_byte", (0, 31_360)), ("bind_round", (True, False))):
        for end in ends:
            view.controls[name].value = end
            assert "AES-256-GCM" in view.message
    assert "byte 31,360 flipped, refused" in view.message


def test_a_message_is_drawn_byte_by_byte():
    figure, sealed = Figure(), encrypt_tensor(np.float32([1, 2, 3]), generate_key())
    assert draw_message(figure, sealed).startswith("60 bytes: header (H) 20, nonce (N) 12")
    shown = [text.get_text() for text in figure.axes[0].texts if len(text.get_text()) == 2]
    assert bytes.fromhex("".join(shown)) == sealed.to_bytes()
    model = encrypt_model([np.zeros(1, np.int8)] * 2, generate_key())
    assert draw_message(Figure(), model).startswith(f"{model.num_bytes} bytes")


def test_training_wires_and_reuse_say_their_numbers(scene):
    sentence = draw_training(Figure(), scene.images, scene.update, scene.digit)
    assert (
        f"5 images of a 3. The update has 7,840 weights, {np.mean(scene.update == 0):.0%}"
        in sentence
    )
    update = scene.update.tobytes()
    wires = {
        cipher: seal(cipher, update, bytes(32), bytes(12), b"")[:31_360]
        for cipher in ("CTR", "ECB")
    }
    sentence = draw_wire(Figure(), scene.update, scene.digit, wires)
    different = len({update[start : start + 16] for start in range(0, 31_360, 16)})
    assert sentence == f"Different blocks among 1,960: CTR 1,960, ECB {different:,}."
    wrong = scene.update.copy()
    wrong[0, 0] = np.nan
    sentence = draw_reuse(Figure(), scene.update, {"a": scene.update, "b": wrong}, scene.digit)
    assert sentence == "Weights right in every bit, of 7,840: a 7,840, b 7,839."


# --- checks of the exercises (the notebook's own are in answers.py) -----------------------


def as_bytes(*everything):
    return repr(everything).encode()


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda r, c, s: None, "· not attempted yet"),
        (lambda r, c, s: ..., "· not attempted yet"),
        (lambda r, c, s: "text", "✗ associated data must be bytes, got str"),
        (lambda r, c, s: os.urandom(8), "✗ two calls with the same arguments differ"),
        (lambda r, c, s: as_bytes(c, s), "✗ the round is not bound"),
        (lambda r, c, s: as_bytes(r, s), "✗ the client is not bound"),
        (lambda r, c, s: as_bytes(r, c), "✗ the shape is not bound: (784, 10) opens as (10, 784)"),
        (lambda r, c, s: as_bytes(r, c, np.prod(s)), "✗ the shape is not bound"),
        (lambda r, c, s: as_bytes(r, c, s[0]), "✗ the shape is not bound: (784, 10) opens as (784"),
        (lambda r, c, s: as_bytes({r, c}, s), "✗ round 3 of client 7 opens as round 7 of client 3"),
        (lambda r, c, s: f"{r}{c}{s}".encode(), "✗ ambiguous: round 1, client 23"),
        (lambda r, c, s: f"{r},{c}{s[0]},{s[1:]}".encode(), "✗ ambiguous: round 3, client 7,"),
        (lambda r, c, s: f"{r},{c},".encode() + b"".join(b"%d" % n for n in s), "✗ "),
        (lambda r, c, s: bytes([r, c]) + b"".join(n.to_bytes(2) for n in s), "✓ every replay"),
        (lambda r, c, s: 1 / 0, "✗ the check stops: ZeroDivisionError"),
        (as_bytes, "✓ every replay is refused"),
    ],
)  # fmt: skip
def test_associated_data_check_names_the_mistake(capsys, mine, printed):
    check_associated_data(mine)
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda s, c: None, "· not attempted yet"),
        (lambda s, c: c, "✗ a nonce of AES-GCM is 12 bytes, got int"),
        (lambda s, c: bytes(16), "✗ a nonce of AES-GCM is 12 bytes, got 16 bytes"),
        (lambda s, c: os.urandom(12), "✗ two calls for the same message differ"),
        (lambda s, c: c.to_bytes(12), "✗ the nonce was used twice: by sender 0 at count 0 and by"),
        (
            lambda s, c: bytes(12),
            "✗ the nonce was used twice: by sender 0 at count 0 and by sender 0",
        ),
        (lambda s, c: s.to_bytes(4) + (c % 2**32).to_bytes(8), "✗ the nonce was used twice"),
        (lambda s, c: s.to_bytes(4) + (c % 2**64).to_bytes(8), "✗ the nonce was used twice"),
        (lambda s, c: (s + c).to_bytes(12), "✗ the nonce was used twice"),
        (lambda s, c: f"{s}{c}".encode().rjust(12)[-12:], "✗ the nonce was used twice"),
        (lambda s, c: s.to_bytes(8) + c.to_bytes(4), "✗ the check stops: OverflowError"),
        (lambda s, c: s.to_bytes(4) + c.to_bytes(8), "✓ no nonce comes twice"),
        (lambda s, c: s.to_bytes(4, "little") + c.to_bytes(8, "little"), "✓ no nonce comes twice"),
    ],
)
def test_nonce_check_names_the_mistake(capsys, mine, printed):
    check_nonces(mine)
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda shape: ..., "· not attempted yet"),
        (lambda shape: 40 + 8 * len(shape), "✓"),
        (lambda shape: 24 + 8 * len(shape), "this is the overhead without the tag"),
        (lambda shape: 28 + 8 * len(shape), "this is the overhead without the nonce"),
        (lambda shape: 12 + 8 * len(shape), "this is the header alone"),
        (lambda shape: 28, "this is nonce and tag alone"),
        (lambda shape: 56, "differs in case 1 of 3: got 56, needed 48"),
    ],
)
def test_overhead_check_names_the_mistake(capsys, mine, printed):
    check_overhead(mine)
    assert printed in capsys.readouterr().out
