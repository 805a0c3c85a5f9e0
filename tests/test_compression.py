"""Compression: right on average, packed to the bit, and nothing lost with error feedback."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fltutor.compression import Quantized, Sparse, quantize, top_k, with_error_feedback
from fltutor.errors import InvalidParameterError, InvalidUpdateError, WireFormatError

vectors = arrays(
    np.float64, st.integers(0, 40), elements=st.floats(-1e6, 1e6, allow_subnormal=False)
)


@pytest.fixture
def rng():
    return np.random.default_rng(6)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_quantize_is_right_on_average(bits, rng):
    vector = np.array([1.0, -0.7, 0.3, 0.01, 0.0])
    draws = np.stack([quantize(vector, bits, rng).dense for _ in range(20_000)])
    step = 1.0 / (2 ** (bits - 1) - 1)
    # A draw is off by at most one step, so the mean's standard error is at most
    # step / 2 / sqrt(20,000). Six of them: a false alarm once in 10^8 runs.
    np.testing.assert_allclose(draws.mean(axis=0), vector, atol=6 * step / 2 / np.sqrt(20_000))


def test_plain_rounding_would_fail_that_test():
    vector = np.array([1.0, -0.7, 0.3, 0.01, 0.0])
    assert np.abs(np.rint(vector) - vector).max() > 6 / 2 / np.sqrt(20_000)


@given(vector=vectors, bits=st.integers(2, 16), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_a_quantized_message_survives_the_wire_in_the_bytes_it_promises(vector, bits, seed):
    message = quantize(vector, bits, np.random.default_rng(seed))
    data = message.to_bytes()
    assert len(data) == 9 + -(-len(vector) * bits // 8)
    received = Quantized.from_bytes(data)
    np.testing.assert_array_equal(received.levels, message.levels)
    np.testing.assert_array_equal(received.dense, message.dense)
    step = message.scale / (2 ** (bits - 1) - 1)
    assert np.all(np.abs(received.dense - vector) <= step * (1 + 1e-9))


@given(vector=vectors.filter(len), data=st.data())
@settings(max_examples=60)
def test_top_k_keeps_the_largest_and_survives_the_wire(vector, data):
    k = data.draw(st.integers(1, len(vector)))
    message = top_k(vector, k)
    kept = np.abs(vector[message.indices])
    left_out = np.delete(np.abs(vector), message.indices)
    assert len(kept) == k
    assert not left_out.size or kept.min() >= left_out.max()
    received = Sparse.from_bytes(message.to_bytes())
    assert len(message.to_bytes()) == 8 + 8 * k
    np.testing.assert_array_equal(received.dense, message.dense)


def test_error_feedback_loses_nothing(rng):
    compress, memory, sent = partial(top_k, k=3), np.zeros(50), np.zeros(50)
    updates = rng.normal(size=(30, 50))
    for update in updates:
        message, memory = with_error_feedback(compress, update, memory)
        sent += message.dense
    np.testing.assert_allclose(sent + memory, updates.sum(axis=0), atol=1e-9)
    assert np.linalg.norm(memory) > 0


def test_without_feedback_small_coordinates_are_never_sent():
    update = np.array([1.0, 0.01])
    assert sum(top_k(update, 1).dense[1] for _ in range(200)) == 0
    memory, sent = np.zeros(2), np.zeros(2)
    for _ in range(200):
        message, memory = with_error_feedback(partial(top_k, k=1), update, memory)
        sent += message.dense
    assert sent[1] == pytest.approx(2.0, abs=1.0)


def test_a_zero_vector_stays_zero(rng):
    message = quantize(np.zeros(5), 2, rng)
    np.testing.assert_array_equal(message.dense, 0)


@pytest.mark.parametrize("bits", [1, 17, 2.5, -3])
def test_bits_out_of_range_are_refused(bits, rng):
    with pytest.raises(InvalidParameterError, match="bits must be"):
        quantize(np.ones(3), bits, rng)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(InvalidParameterError, match="k must be from 1 to 3"):
        top_k(np.ones(3), k)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_refused_by_coordinate(bad, rng):
    vector = np.array([0.0, bad])
    for compress in (partial(quantize, bits=2, rng=rng), partial(top_k, k=1)):
        with pytest.raises(InvalidUpdateError, match="coordinate 1"):
            compress(vector)


def test_values_beyond_float32_are_refused(rng):
    with pytest.raises(InvalidUpdateError, match="float32"):
        quantize(np.array([1e39]), 2, rng)
    with pytest.raises(InvalidUpdateError, match="float32"), np.errstate(over="ignore"):
        top_k(np.array([1e39]), 1)


def test_a_memory_of_another_shape_is_refused():
    with pytest.raises(InvalidParameterError, match="memory must have the shape"):
        with_error_feedback(partial(top_k, k=1), np.ones(3), np.zeros(2))


@pytest.mark.parametrize("kind", [Quantized, Sparse])
def test_truncated_and_trailing_bytes_are_refused(kind, rng):
    vector = rng.normal(size=7)
    message = quantize(vector, 3, rng) if kind is Quantized else top_k(vector, 2)
    data = message.to_bytes()
    for length in range(len(data)):
        with pytest.raises(WireFormatError):
            kind.from_bytes(data[:length])
    with pytest.raises(WireFormatError):
        kind.from_bytes(data + b"\0")


def test_impossible_messages_are_refused():
    two_bits = bytearray(Quantized(np.array([1]), 1.0, 2).to_bytes())
    two_bits[-1] = 0b11000000  # level 3 - 1 = 2, but the largest is 1
    with pytest.raises(WireFormatError, match="a level is 2"):
        Quantized.from_bytes(bytes(two_bits))
    twice = Sparse(np.array([1, 1]), np.ones(2, np.float32), 5)
    beyond = Sparse(np.array([1, 9]), np.ones(2, np.float32), 5)
    for message in (twice, beyond):
        with pytest.raises(WireFormatError, match="indices must rise"):
            Sparse.from_bytes(message.to_bytes())
