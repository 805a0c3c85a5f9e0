"""Notebook 06: its runs, pictures and sliders."""

from functools import partial

import numpy as np
import pytest

from fltutor.compression import quantize, top_k
from fltutor.lessons.fewer_bytes.checks import ring_bits
from fltutor.lessons.fewer_bytes.explorer import compression_explorer
from fltutor.lessons.fewer_bytes.plots import draw_compressed, draw_rounding, draw_runs
from fltutor.lessons.fewer_bytes.runs import CLIENTS, compare, compressed_training, uncompressed
from fltutor.plotting import new_figure


def run(compress, rounds=3, **settings):
    return [*compressed_training(compress, rounds=rounds, **settings)][-1]


def two_bits(vector, rng):
    return quantize(vector, 2, rng)


def largest(vector, rng, k=24):
    return top_k(vector, k)


def test_kilobytes_are_the_bytes_of_the_packed_messages():
    parameters = 2410
    assert run(None).kilobytes[-1] == pytest.approx(3 * CLIENTS * 4 * parameters / 1e3)
    packed = 9 + -(-2 * parameters // 8)
    assert run(two_bits).kilobytes[-1] == pytest.approx(3 * CLIENTS * packed / 1e3)
    assert run(largest).kilobytes[-1] == pytest.approx(3 * CLIENTS * (8 + 8 * 24) / 1e3)


def test_sending_every_number_is_the_uncompressed_run():
    all_of_them = run(partial(largest, k=2410))
    np.testing.assert_allclose(all_of_them.accuracy, run(None).accuracy, atol=2 / 355)


def test_a_memory_helps_top_k():
    without, with_memory = run(largest, 12), run(largest, 12, feedback=True)
    assert with_memory.accuracy[-1] > without.accuracy[-1] + 0.05


def test_equal_seeds_give_equal_runs():
    np.testing.assert_array_equal(run(two_bits).accuracy, run(two_bits).accuracy)


def test_the_pictures_say_their_numbers():
    *_, comparison = compare("fewer bits", 2, 0.01, feedback=False)
    figure = new_figure()
    sentence = draw_compressed(figure, comparison)
    assert f"accuracy {comparison.run.accuracy[-1]:.3f}" in sentence
    assert f"{uncompressed().kilobytes[-1]:,.0f} kB" in sentence
    assert all(ax.get_xlabel() for ax in figure.axes)
    assert "float32" in draw_runs(new_figure(), {"float32": [uncompressed()]})
    assert "50%" in draw_rounding(new_figure(), np.array([1.0, 0.0]), {"a": np.array([1.0, 0.0])})


def test_controls_reach_their_ends_without_a_fault():
    view = compression_explorer()
    for method, name in (("fewer bits", "bits"), ("fewer numbers", "share")):
        view.controls["method"].value = method
        control = view.controls[name]
        ends = (
            (control.min, control.max)
            if name == "bits"
            else (control.options[0][1], control.options[-1][1])
        )
        for end in ends:
            control.value = end
            assert "30 of 30 rounds: accuracy" in view.message
    view.controls["feedback"].value = True
    assert "with memory" in view.message


def test_the_ring_holds_every_sum_and_no_smaller_one_does():
    for clients, bits in ((1, 2), (3, 2), (10, 4), (100, 8)):
        most = clients * (2 ** (bits - 1) - 1)
        room = ring_bits(clients, bits)
        assert 2**room >= 2 * most + 1 > 2 ** (room - 1)
