"""Compression: right on average, packed to the bit, and nothing lost with error feedback."""

import struct
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fltutor.compression import (
    MAX_SIZE,
    Quantized,
    Sparse,
    quantize,
    top_k,
    with_error_feedback,
)
from fltutor.errors import InvalidParameterError, InvalidUpdateError, WireFormatError
from tests.hostile import WRONG, stands

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


@pytest.mark.parametrize("bits", [1, 17, 2.5, -3, 2.0, True, "4", None])
def test_bits_out_of_range_are_refused(bits, rng):
    with pytest.raises(InvalidParameterError, match="bits must be"):
        quantize(np.ones(3), bits, rng)


@pytest.mark.parametrize("k", [0, 4, -1, 2.0, True, "2", None, np.float64(1)])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(InvalidParameterError, match="k must be a whole number from 1 to 3"):
        top_k(np.ones(3), k)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_refused_by_coordinate(bad, rng):
    vector = np.array([0.0, bad])
    for compress in (partial(quantize, bits=2, rng=rng), partial(top_k, k=1)):
        with pytest.raises(InvalidUpdateError, match=r"finite, got (NaN|Inf) at 1"):
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
    for indices in ([1, 1], [3, 1], [1, 9], [5, 6]):
        message = struct.pack("<II2I2f", 5, 2, *indices, 1.0, 1.0)
        with pytest.raises(WireFormatError, match="indices must rise and stay below 5"):
            Sparse.from_bytes(message)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(WireFormatError, match="a value is NaN or Inf"):
            Sparse.from_bytes(struct.pack("<IIIf", 5, 1, 3, value))
        with pytest.raises(WireFormatError, match="no header: 2 bits"):
            Quantized.from_bytes(struct.pack("<BIfB", 2, 1, value, 0))


# --- what is claimed is checked against what is there -------------------------------------------


@pytest.mark.parametrize("claimed", [MAX_SIZE + 1, 2**31, 2**32 - 1])
def test_a_claimed_size_is_refused_before_memory_is_taken(claimed):
    messages = [
        (Sparse.from_bytes, struct.pack("<II", claimed, 0)),
        (Sparse.from_bytes, struct.pack("<IIIf", claimed, 1, 0, 1.0)),
        *((Quantized.from_bytes, struct.pack("<BIf", bits, claimed, 1.0)) for bits in (2, 16)),
    ]
    tracemalloc.start()
    for read, message in messages:
        with pytest.raises(WireFormatError, match=f"claims {claimed} coordinates"):
            read(message)
        with pytest.raises(WireFormatError, match=f"claims {claimed} coordinates, needed 7"):
            read(message, size=7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_receiver_that_says_how_many_gets_that_many_or_a_refusal(rng):
    vector = rng.normal(size=7)
    for message in (quantize(vector, 3, rng), top_k(vector, 2)):
        read = type(message).from_bytes
        np.testing.assert_array_equal(read(message.to_bytes(), size=7).dense, message.dense)
        for other in (0, 6, 8, 2**40):
            with pytest.raises(WireFormatError, match=f"claims 7 coordinates, needed {other}"):
                read(message.to_bytes(), size=other)
        for wrong in (7.0, True, "7", -1):
            with pytest.raises(InvalidParameterError, match="size must be a whole number"):
                read(message.to_bytes(), size=wrong)


def test_a_size_beyond_the_limit_is_read_where_the_receiver_asks_for_it():
    message = Sparse([2**24], [1.0], 2**24 + 1).to_bytes()
    assert Sparse.from_bytes(message, size=2**24 + 1).indices == [2**24]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([0.5], 1.0, 2), "levels must be whole numbers"),
        (([[1]], 1.0, 2), "levels must be whole numbers"),
        ((np.array([True]), 1.0, 2), "levels must be whole numbers"),
        (([2], 1.0, 2), "a level is 2, the largest is 1"),
        (([-2], 1.0, 2), "a level is 2, the largest is 1"),
        ((np.array([2**64 - 1], np.uint64), 1.0, 16), "a level is 18446744073709551615"),
        (([np.iinfo(np.int64).min], 1.0, 16), "a level is 9223372036854775808"),
        (([1], 1e39, 2), "scale must be"),
        (([1], -1.0, 2), "scale must be"),
        (([1], np.nan, 2), "scale must be"),
        (([1], "1", 2), "scale must be"),
        (([1], 1.0, 17), "bits must be a whole number from 2 to 16, got 17"),
        (([1], 1.0, 2.0), "bits must be a whole number"),
        ((np.ma.masked_equal([1, 0], 0), 1.0, 2), "levels is a masked array"),
    ],
    ids=str,
)
def test_a_quantized_vector_that_cannot_be_is_refused(fields, message):
    with pytest.raises(InvalidParameterError, match=message):
        Quantized(*fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([9], [1.0], 5), "indices must rise and stay below 5"),
        (([-1], [1.0], 5), "indices must rise and stay below 5"),  # -1 would be the last one
        (([2, 1], [1.0, 1.0], 5), "indices must rise"),
        (([1, 1], [1.0, 1.0], 5), "indices must rise"),
        (([0], [1.0], 0), "indices must rise and stay below 0"),
        (([True, False], [1.0, 1.0], 5), "indices must be whole numbers"),
        (([1.0], [1.0], 5), "indices must be whole numbers"),
        (([[1]], [[1.0]], 5), "indices must be whole numbers"),
        (([1, 2], [1.0], 5), "one real number for each of 2 indices"),
        (([1, 2], 1.0, 5), "one real number for each of 2 indices"),
        (([1], ["x"], 5), "one real number for each"),
        (([1], [np.nan], 5), "a value is NaN or Inf"),
        (([1], [1e39], 5), "leaves the range of float32"),
        (([1], [1.0], 2**32), "size must be a whole number"),
        (([1], [1.0], 5.0), "size must be a whole number"),
        (([1], [1.0], -1), "size must be a whole number"),
        ((np.ma.masked_equal([1, 0], 0), [1.0, 1.0], 5), "indices is a masked array"),
        (([0, 1], np.ma.masked_equal([1.0, 0.0], 0.0), 5), "values is a masked array"),
    ],
    ids=str,
)
def test_a_sparse_vector_that_cannot_be_is_refused(fields, message):
    with pytest.raises(InvalidParameterError, match=message):
        Sparse(*fields)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int64", "uint64"])
def test_whole_numbers_of_any_dtype_make_the_same_message(dtype):
    levels = np.array([0, 1, 100], dtype)
    message = Quantized(levels, 0.1, 9)
    assert message.to_bytes() == Quantized(levels.astype(int), 0.1, 9).to_bytes()
    np.testing.assert_array_equal(Quantized.from_bytes(message.to_bytes()).dense, message.dense)
    sparse = Sparse(levels, levels, 101)
    np.testing.assert_array_equal(Sparse.from_bytes(sparse.to_bytes()).dense, sparse.dense)
    assert sparse.dense[100] == 100


@given(data=st.data())
@settings(max_examples=150)
def test_a_mutated_message_is_refused_by_a_typed_error_or_gives_a_whole_vector(data):
    vector = np.arange(1.0, 8.0)
    message = data.draw(
        st.sampled_from([quantize(vector, 3, np.random.default_rng(1)), top_k(vector, 2)])
    )
    altered = bytearray(message.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(altered)))
        stop = data.draw(st.integers(start, min(len(altered), start + 5)))
        altered[start:stop] = data.draw(st.binary(max_size=5))
    read = stands(lambda: type(message).from_bytes(altered, size=7))
    if not isinstance(read, WireFormatError):
        assert read.dense.shape == (7,)
        assert np.isfinite(read.dense).all()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(wrong, rng):
    vector = np.arange(3.0)
    for call in (
        lambda: quantize(wrong, 2, rng),
        lambda: quantize(vector, wrong, rng),
        lambda: quantize(vector, 2, wrong),
        lambda: top_k(wrong, 1),
        lambda: top_k(vector, wrong),
        lambda: Quantized.from_bytes(wrong),
        lambda: Sparse.from_bytes(wrong),
        lambda: Quantized(wrong, 1.0, 2).to_bytes(),
        lambda: Quantized([1], wrong, 2).to_bytes(),
        lambda: Quantized([1], 1.0, wrong).to_bytes(),
        lambda: Sparse(wrong, [1.0], 3).to_bytes(),
        lambda: Sparse([1], wrong, 3).to_bytes(),
        lambda: Sparse([1], [1.0], wrong).to_bytes(),
        lambda: with_error_feedback(partial(top_k, k=1), wrong, vector),
        lambda: with_error_feedback(partial(top_k, k=1), vector, wrong),
        lambda: with_error_feedback(lambda v: wrong, vector, vector),
        lambda: with_error_feedback(wrong, vector, vector),
    ):
        stands(call)


@pytest.mark.parametrize("size", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", ["sparse", "quantized"])
def test_a_message_of_another_size_is_refused_and_not_spread_over_the_memory(kind, size):
    message = Quantized(np.ones(size, int), 1.0, 2) if kind == "quantized" else Sparse([], [], size)
    with pytest.raises(InvalidParameterError, match=f"of 3 coordinates, got one of {size}"):
        with_error_feedback(lambda wanted: message, np.array([2.0, 3.0, 4.0]), np.zeros(3))


@pytest.mark.parametrize("compress", [None, 3, "top_k", Sparse([], [], 3)], ids=str)
def test_what_compresses_is_a_function(compress):
    with pytest.raises(InvalidParameterError, match="compress must be a function, got"):
        with_error_feedback(compress, np.ones(3), np.zeros(3))


def test_two_messages_are_compared_without_an_error():
    for make in (lambda: Sparse([0, 1], [1.0, 2.0], 3), lambda: Quantized([1, 0], 1.0, 2)):
        one, other = make(), make()
        assert one == one
        assert one != other
        assert len({one, other}) == 2


def test_a_size_too_long_to_write_is_needed_in_vain():
    for message in (Sparse([0], [1.0], 3), Quantized([1, 0, 1], 1.0, 2)):
        with pytest.raises(WireFormatError, match="needed an integer of 16610 bits"):
            type(message).from_bytes(message.to_bytes(), size=10**5000)


@pytest.mark.parametrize("rng", [0, None, np.random, np.random.RandomState(1)], ids=str)
def test_roundings_come_from_a_generator(rng):
    with pytest.raises(InvalidParameterError, match="rng must be a NumPy Generator"):
        quantize(np.ones(3), 2, rng)


def test_masked_vectors_are_refused(rng):
    masked = np.ma.masked_equal([1.0, -1.0], -1.0)
    for call in (
        lambda: quantize(masked, 2, rng),
        lambda: top_k(masked, 1),
        lambda: with_error_feedback(partial(top_k, k=1), masked, np.zeros(2)),
        lambda: with_error_feedback(partial(top_k, k=1), np.zeros(2), masked),
    ):
        with pytest.raises(InvalidUpdateError, match="masked array"):
            call()
