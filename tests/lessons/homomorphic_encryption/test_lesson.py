"""Notebook 09's explorer, drawings and checks, without a browser."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import PrivateKey
from fltutor.lessons.homomorphic_encryption.checks import (
    check_add,
    check_value_bits,
    check_weighted_mean,
)
from fltutor.lessons.homomorphic_encryption.explorer import homomorphic_explorer
from fltutor.lessons.homomorphic_encryption.plots import (
    draw_costs,
    draw_scales,
    draw_trial,
    duration,
)
from fltutor.lessons.homomorphic_encryption.runs import (
    NUM_CLIENTS,
    client_updates,
    scale_runs,
    slot_grid,
    trials,
    try_ckks,
    try_paillier,
)

TOY = PrivateKey.generate(512, toy=True)
ROW = np.random.default_rng(9).normal(scale=0.1, size=100).astype(np.float32)


# --- trials -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("packed", "num_ciphertexts"), [(True, 7), (False, 100)])
def test_a_patient_paillier_trial_sends_every_number(packed, num_ciphertexts):
    done = list(try_paillier(ROW, TOY, packed=packed, patience=60))
    assert len(done) == num_ciphertexts
    last = done[-1]
    assert not last.is_extrapolated
    np.testing.assert_array_equal(last.sent, ROW.astype(np.float64))
    assert 0 < last.error <= 2.0**-17
    assert last.num_bytes == num_ciphertexts * 128
    assert [trial.is_extrapolated for trial in done[:-1]] == [True] * (num_ciphertexts - 1)


def test_an_impatient_trial_scales_up_what_it_measured(monkeypatch):
    ticks = itertools.count()  # a clock on which every step takes a second
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    first, *_, last = try_paillier(ROW, TOY, packed=False, patience=30)
    assert (len(first.sent), first.length, first.is_extrapolated) == (1, 100, True)
    assert 1 < len(last.sent) < 20
    for trial in (first, last):
        assert trial.seconds == {"encrypt": 100, "add ten": 100, "open": 100}
        assert trial.num_bytes == 100 * 128


def test_a_ckks_trial_shows_the_error_of_its_scale():
    fine, coarse = (try_ckks(ROW, Context.generate(scale_bits=bits)) for bits in (36, 12))
    assert fine.error < 1e-7
    assert 1e-2 < coarse.error < 1
    assert not fine.is_extrapolated
    assert fine.num_bytes > 50_000


def test_slots_widen_when_the_scale_needs_it():
    for fraction_bits in range(4, 45):
        grid = slot_grid(fraction_bits)
        grid.require_room(NUM_CLIENTS)
        assert grid.ring_bits == (32 if fraction_bits <= 18 else 64)
        assert grid.largest > 511


def test_the_updates_are_what_clients_really_send():
    updates = client_updates()
    assert updates.shape == (10, 2410)
    assert 0.01 < np.abs(updates).max() < 1
    assert np.linalg.matrix_rank(updates) == 10


@pytest.mark.parametrize("settings", [{}, {"packing": False}, {"scheme": "CKKS"}], ids=str)
def test_trials_use_the_update_in_random_order(settings, monkeypatch):
    ticks = itertools.count()  # a clock that moves a millisecond whenever somebody looks
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) / 1000)
    *_, last = trials(key_bits=512, **settings)
    assert last.length == 2410
    assert np.count_nonzero(last.sent[:50]) > 20


def test_a_coarse_scale_costs_accuracy_and_a_fine_one_does_not():
    accuracy = scale_runs((36, 8), seeds=(0,), rounds=4)
    assert set(accuracy) == {0, 36, 8}
    assert accuracy[36][0] == pytest.approx(accuracy[0][0], abs=0.02)
    assert accuracy[8][0] < accuracy[0][0] - 0.1


# --- drawings and the explorer ------------------------------------------------------------------


def test_durations_have_units():
    said = [duration(s) for s in (2e-5, 0.0123, 0.999, 59, 100, 5000, 6000, 84_000)]
    assert said == ["0.02 ms", "12 ms", "999 ms", "59 s", "1.7 min", "83 min", "1.7 h", "23 h"]


def test_a_trial_is_drawn_with_its_numbers():
    [part] = try_paillier(ROW, TOY, packed=False, patience=0)
    figure = Figure()
    sentence = draw_trial(figure, part)
    assert sentence.startswith("Paillier, 512 bits, a toy, one number in a ciphertext, steps of")
    assert "128 bytes a number (float32: 4)" in sentence
    assert sentence.endswith("100 numbers; time scaled up from 1 of them.")
    times, _, values = figure.axes
    assert times.get_title(loc="left") == "Time, scaled up from a part"
    assert [bar.get_width() for bar in times.patches] == list(part.seconds.values())
    np.testing.assert_array_equal(values.lines[1].get_ydata(), part.opened)

    whole = try_ckks(ROW, Context.generate())
    figure = Figure()
    assert "CKKS, degree 4096, 2048 numbers in a ciphertext, scale 2^36" in draw_trial(
        figure, whole
    )
    assert figure.axes[0].get_title(loc="left") == "Time, measured"


def test_costs_and_scales_say_their_numbers():
    costs = {"Paillier, one by one": (250.0, 512.0), "CKKS": (0.002, 51.2)}
    figure = Figure()
    sentence = draw_costs(figure, costs, extrapolated=["Paillier, one by one"])
    assert sentence == (
        "Paillier, one by one: 4.2 min (extrapolated), 512 bytes a number; "
        "CKKS: 2 ms, 51.2 bytes a number."
    )
    hatches = [bar.get_hatch() for bar in figure.axes[0].patches]
    assert [bool(hatch) for hatch in hatches] == [True, False]
    sentence = draw_scales(Figure(), {0: [0.8, 1.0], 36: [0.9, 0.8], 8: [0.1, 0.3]})
    assert sentence == (
        "Accuracy, mean of the seeds: plain 90%; CKKS with scale 2^8 20%, 2^36 85%."
    )


def test_the_explorer_answers_its_controls():
    view = homomorphic_explorer()
    controls = view.controls
    assert "Paillier, 2048 bits, 63 numbers of 32 bits" in view.message
    controls["key_bits"].value = 512
    assert "512 bits, a toy" in view.message
    controls["packing"].value = False
    assert "one number in a ciphertext" in view.message
    assert "time scaled up from" in view.message
    for end in (4, 44):
        controls["scale_bits"].value = end
        assert f"steps of 2^-{end}" in view.message
    assert [controls[name].disabled for name in ("packing", "poly_degree")] == [False, True]
    controls["scheme"].value = "CKKS"
    assert [controls[name].disabled for name in ("packing", "poly_degree")] == [True, False]
    assert "degree 4096" in view.message
    assert "scale 2^44" in view.message
    controls["poly_degree"].value = 16384
    assert "8192 numbers in a ciphertext" in view.message
    controls["scale_bits"].value = 4
    assert "scale 2^4:" in view.message


# --- checks of the exercises (the notebook's own are in answers.py) -----------------------


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda e, w, k: ..., "· not attempted yet"),
        (lambda e, w, k: k.decrypt_vector(e[0] * 3 + e[1] + e[2] * 4) / 8, "✓ the weighted mean"),
        (lambda e, w, k: k.decrypt_vector(e[0] * 3 + e[1] + e[2] * 3) / 8, "✗ got"),
        (lambda e, w, k: k.decrypt_vector(e[0] * 0.5), "✗ TypeError"),
        (lambda e, w, k: k.decrypt_vector(e[0] * 99), "✗ the check stops: InvalidParameterError"),
    ],
)
def test_weighted_mean_check_names_the_mistake(capsys, mine, printed):
    check_weighted_mean(mine)
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda s, n, w: None, "· not attempted yet"),
        (lambda s, n, w: s, "✗ 32-bit slots, 16 clients, weights up to 1: with 32 bits a value"),
        (lambda s, n, w: 28.0, "✗ 32-bit slots, 16 clients, weights up to 1: bits are a whole"),
        (lambda s, n, w: 1, "✗ 32-bit slots, 16 clients, weights up to 1: 28 bits"),
        (lambda s, n, w: s - int(np.ceil(np.log2(n * w))), "✓ no slot overflows"),
    ],
)
def test_value_bits_check_names_the_mistake(capsys, mine, printed):
    check_value_bits(mine)
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.parametrize("slot_bits", [32, 64])
@pytest.mark.parametrize("terms", [1, 2, 3, 16, 33, 1000])
def test_the_formula_of_the_check_is_the_largest_that_fits(slot_bits, terms):
    bits = slot_bits - (terms - 1).bit_length()
    assert terms * 2 ** (bits - 1) <= 2 ** (slot_bits - 1) < terms * 2**bits


@pytest.mark.parametrize(
    ("mine", "printed"),
    [
        (lambda uploads: ..., "· not attempted yet"),
        (lambda uploads: 2.5, "✗ needed a ciphertext"),
        (lambda uploads: uploads[0][1], "✗ this is not the product"),
    ],
)
def test_add_check_names_the_mistake(capsys, mine, printed):
    check_add(mine)
    assert capsys.readouterr().out.startswith(printed)
