"""Masks from a seed: the right stream, uniform over the ring, and the same in place."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fltutor.crypto import prg
from fltutor.crypto.prg import add_mask, expand
from fltutor.errors import InvalidParameterError
from tests.hostile import WRONG, stands

SEED = bytes(range(32))
DTYPES = [np.uint32, np.uint64]
BLOCK = prg._BLOCK_BYTES


def aes_of_counters(seed, num_blocks):
    """Counter mode from its definition: encrypt 0, 1, 2, ... with the block cipher alone."""
    encryptor = Cipher(algorithms.AES(seed), modes.ECB()).encryptor()
    return encryptor.update(b"".join(i.to_bytes(16, "big") for i in range(num_blocks)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_stream_is_aes_256_of_the_counters(dtype):
    stream = aes_of_counters(SEED, 2 * BLOCK // 16)
    expected = np.frombuffer(stream, np.dtype(dtype).newbyteorder("<"))
    np.testing.assert_array_equal(expand(SEED, len(expected), dtype), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_adding_in_blocks_equals_adding_the_whole_stream(dtype, blocks, extra):
    length = max(0, blocks * BLOCK // np.dtype(dtype).itemsize + extra)
    start = expand(bytes(32), length, dtype)
    accumulator = start.copy()
    add_mask(accumulator, SEED)
    np.testing.assert_array_equal(accumulator, start + expand(SEED, length, dtype))
    add_mask(accumulator, SEED, subtract=True)
    np.testing.assert_array_equal(accumulator, start)


def test_a_shorter_stream_is_the_beginning_of_a_longer_one():
    np.testing.assert_array_equal(expand(SEED, 10_000)[:37], expand(SEED, 37))


def test_every_bit_of_the_seed_changes_the_stream():
    """A generator that uses 32 bits of its seed, as a seeded Mersenne Twister does, fails here."""
    streams = {expand(SEED, 4).tobytes()}
    for bit in range(256):
        seed = bytearray(SEED)
        seed[bit // 8] ^= 1 << bit % 8
        streams.add(expand(bytes(seed), 4).tobytes())
    assert len(streams) == 257


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_byte_of_a_number_is_uniform(dtype):
    """Chi-square of 256 values, mean 255, deviation sqrt(510): a false alarm is below 1e-9."""
    length = 200_000
    columns = expand(SEED, length, dtype).view(np.uint8).reshape(length, -1)
    for column in columns.T:
        counts = np.bincount(column, minlength=256)
        statistic = np.square(counts - length / 256).sum() / (length / 256)
        assert statistic < 410, statistic


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (bytes(31), "seed must be 32 bytes, got 31"),
        (bytes(33), "seed must be 32 bytes, got 33"),
        (12345, "seed must be bytes, got int"),
        ("x" * 32, "seed must be bytes, got str"),
    ],
)
def test_a_seed_that_is_not_32_bytes_is_refused(seed, message):
    with pytest.raises(InvalidParameterError, match=message):
        expand(seed, 3)
    accumulator = np.zeros(3, np.uint64)
    with pytest.raises(InvalidParameterError, match=message):
        add_mask(accumulator, seed)
    assert not accumulator.any()


@pytest.mark.parametrize("length", [-1, 1.0, True, None])
def test_a_length_that_is_not_a_count_is_refused(length):
    with pytest.raises(InvalidParameterError, match="length must be a whole number"):
        expand(SEED, length)


@pytest.mark.parametrize("length", [10**15, 2**59, 2**60 - 1])
def test_a_length_beyond_all_memory_is_refused(length):
    with pytest.raises(InvalidParameterError, match=f"fit into memory, got {length}"):
        expand(SEED, length)


@pytest.mark.parametrize("subtract", ["no", "", 0, 1, None])
def test_a_mask_is_subtracted_or_added_by_a_boolean_only(subtract):
    accumulator = np.zeros(3, np.uint64)
    with pytest.raises(InvalidParameterError, match="subtract must be True or False"):
        add_mask(accumulator, SEED, subtract=subtract)
    assert not accumulator.any()


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, ">u4", object])
def test_a_dtype_that_is_no_ring_is_refused(dtype):
    with pytest.raises(InvalidParameterError, match="dtype must be uint32 or uint64"):
        expand(SEED, 3, dtype)
    with pytest.raises(InvalidParameterError, match="dtype must be uint32 or uint64"):
        add_mask(np.zeros(3, dtype), SEED)


class Mute:
    def __repr__(self):
        raise RuntimeError("I say nothing")


@pytest.mark.parametrize("dtype", [Mute(), [Mute()]], ids=["object", "list"])
def test_what_numpy_cannot_even_name_is_no_ring(dtype):
    with pytest.raises(InvalidParameterError, match="dtype must be uint32 or uint64"):
        expand(SEED, 3, dtype)


def test_an_accumulator_that_could_not_be_changed_in_place_is_refused():
    frozen = np.zeros(4, np.uint64)
    frozen.flags.writeable = False
    for accumulator in (np.zeros(8, np.uint64)[::2], np.zeros((2, 2), np.uint64), frozen):
        with pytest.raises(InvalidParameterError, match="contiguous, writable vector"):
            add_mask(accumulator, SEED)
        assert not accumulator.any()
    with pytest.raises(InvalidParameterError, match="array of uint32 or uint64, got list"):
        add_mask([1, 2, 3], SEED)
    masked = np.ma.masked_equal(np.array([1, 2], np.uint64), 1)
    with pytest.raises(InvalidParameterError, match="accumulator is a masked array"):
        add_mask(masked, SEED)
    np.testing.assert_array_equal(masked.data, [1, 2])


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(wrong):
    accumulator = np.zeros(3, np.uint64)
    for call in (
        lambda: expand(wrong, 3),
        lambda: expand(SEED, wrong),
        lambda: expand(SEED, 3, wrong),
        lambda: add_mask(wrong, SEED),
        lambda: add_mask(accumulator, wrong),
    ):
        stands(call)
    assert not accumulator.any()
