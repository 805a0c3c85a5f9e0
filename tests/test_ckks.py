"""CKKS: sums within the derived error, and everything it refuses.

FAULTS: wrong or mixed keys, flipped bits, truncation and empty ciphertexts caught by the envelope;
values beyond the range, NaN, length mismatch, too deep a circuit and parameters under 128 bits
refused; the context that leaves a client holds no secret key; the text warns that published
decryptions leak.
"""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fltutor.crypto import aead, ckks
from fltutor.crypto.ckks import MAX_MODULUS_BITS, Context, EncryptedVector, Parameters
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    WireFormatError,
)

tenseal = ckks._tenseal()
CONTEXT, OTHER = Context.generate(), Context.generate()
DEEP = Context.generate(8192, (60, 40, 60), 40)
VALUES = np.random.default_rng(9).normal(size=20)


@pytest.mark.parametrize("length", [1, 2047, 2048, 2049, 10_000])
@pytest.mark.parametrize("context", [CONTEXT, DEEP], ids=["additive", "one multiplication"])
def test_vectors_add_within_the_derived_error(context, length):
    rows = np.random.default_rng(length).normal(scale=30, size=(5, length))
    encrypted = [context.encrypt(row) for row in rows]
    total = encrypted[0]
    for other in encrypted[1:]:
        total = total + other
    assert len(total.blocks) == -(-length // context.parameters.num_slots)
    assert (total.length, total.weight) == (length, 5)
    error = np.abs(context.decrypt(total) - rows.sum(axis=0)).max()
    assert error < 5 * context.parameters.resolution
    assert context.decrypt(total).dtype == np.float64


def test_the_derived_error_is_no_exaggeration():
    row = np.zeros(20_480)
    errors = CONTEXT.decrypt(CONTEXT.encrypt(row))
    # 20,480 normal errors: their deviation is known to half a percent, here to five of those
    assert errors.std() == pytest.approx(CONTEXT.parameters.noise, rel=0.025)


def test_rounding_can_swallow_a_lonely_number_and_is_part_of_the_derived_error():
    coarse = Context.generate(scale_bits=8)
    row = np.eye(1, 2048)[0]  # its coefficients are 1/2048, too small for a scale of 256
    opened = np.mean([coarse.decrypt(coarse.encrypt(row))[0] for _ in range(100)])
    assert abs(opened) < 5 * coarse.parameters.noise / 10
    wave = 0.499 * np.sign(np.cos(np.pi * np.arange(4096) / 4096))  # the worst for one slot
    aligned = abs(wave @ np.exp(1j * np.pi * np.arange(4096) / 4096)) / 256
    assert aligned == pytest.approx(
        coarse.parameters.resolution - 8 * coarse.parameters.noise, rel=0.01
    )


def test_the_error_halves_with_each_bit_of_scale():
    resolutions = [Parameters(scale_bits=bits).resolution for bits in (20, 21, 30)]
    assert resolutions[0] == 2 * resolutions[1] == 1024 * resolutions[2]
    coarse = Context.generate(scale_bits=20)
    error = np.abs(coarse.decrypt(coarse.encrypt(VALUES)) - VALUES)
    assert coarse.parameters.resolution / 100 < error.max() < coarse.parameters.resolution


def test_the_extremes_of_the_range_survive_as_many_additions_as_promised():
    context = Context.generate(max_additions=4)
    signs = np.sign(np.random.default_rng(1).normal(size=2048))
    for row in (np.ones(2048), -np.ones(2048), signs, np.eye(1, 2048)[0]):
        row = row * context.parameters.largest
        encrypted = context.encrypt(row)
        total = encrypted + encrypted + encrypted + encrypted
        np.testing.assert_allclose(context.decrypt(total), 4 * row, rtol=1e-12, atol=1e-6)
        with pytest.raises(InvalidParameterError, match="could overflow"):
            total + encrypted


@pytest.mark.parametrize("factor", [3, 0.25, -2.5, np.float32(1.5), np.int64(-7)])
def test_a_product_with_a_number(factor):
    product = DEEP.encrypt(VALUES) * factor
    assert product.weight == max(1, abs(factor))
    np.testing.assert_allclose(DEEP.decrypt(product), factor * VALUES, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        DEEP.decrypt(factor * DEEP.encrypt(VALUES)), factor * VALUES, atol=1e-5
    )


def test_the_same_vector_never_looks_the_same():
    assert len({CONTEXT.encrypt(VALUES).to_bytes() for _ in range(10)}) == 10


# --- keys -------------------------------------------------------------------------------------


def test_the_context_that_leaves_a_client_holds_no_secret_key():
    sent = CONTEXT.to_bytes()
    assert len(sent) < 200  # parameters and a name; a secret key alone is 60 kB
    public = Context.from_bytes(sent)
    assert not public.has_secret_key
    assert not public._seal.has_secret_key()
    encrypted = CONTEXT.encrypt(VALUES)
    for received in (public, CONTEXT.public()):
        with pytest.raises(InvalidParameterError, match="no secret key to decrypt"):
            received.decrypt(encrypted)
        with pytest.raises(InvalidParameterError, match="no secret key to encrypt"):
            received.encrypt(VALUES)
        with pytest.raises(InvalidParameterError, match="no secret key to send"):
            received.to_bytes(with_secret_key=True)
        arrived = received.read(encrypted.to_bytes())
        with pytest.raises((ValueError, RuntimeError)):
            arrived.blocks[0].decrypt()  # not even past our own checks


def test_ciphertexts_carry_no_secret_key_to_the_server():
    arrived = CONTEXT.public().read(CONTEXT.encrypt(VALUES).to_bytes())
    assert not (arrived + arrived).context.has_secret_key


def test_another_client_gets_the_secret_key_by_name_only():
    colleague = Context.from_bytes(CONTEXT.to_bytes(with_secret_key=True))
    assert colleague.has_secret_key
    total = CONTEXT.encrypt(VALUES) + colleague.encrypt(VALUES)
    for holder in (CONTEXT, colleague):
        np.testing.assert_allclose(holder.decrypt(total), 2 * VALUES, atol=1e-6)


def test_a_wrong_key_is_refused_where_ckks_itself_returns_garbage():
    encrypted = CONTEXT.encrypt(VALUES)
    with pytest.raises(InvalidParameterError, match="different keys"):
        OTHER.decrypt(encrypted)
    garbage = np.array(encrypted.blocks[0].decrypt(OTHER._seal.secret_key()))
    assert np.abs(garbage - VALUES).min() > 1000  # and no error from the library


def test_mixed_keys_do_not_add():
    with pytest.raises(InvalidParameterError, match="different keys"):
        CONTEXT.encrypt(VALUES) + OTHER.encrypt(VALUES)


def test_a_context_hides_itself_and_is_not_copied_by_accident():
    assert repr(CONTEXT) == "Context(degree 4096, secret key hidden)"
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(CopyRefusedError):
            act(CONTEXT)


def test_the_text_warns_that_published_decryptions_leak():
    assert "Li and Micciancio" in ckks.__doc__
    assert "Never hand a decrypted vector to somebody who also saw its ciphertext" in ckks.__doc__


# --- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("degree", "allowed"), MAX_MODULUS_BITS.items())
def test_parameters_under_128_bits_of_security_are_refused(degree, allowed):
    primes = [60] * (allowed // 60) + [allowed % 60]
    primes = primes if primes[-1] >= 20 else [*primes[:-2], 40, 20 + primes[-1]]
    assert sum(primes) == allowed
    with pytest.raises(InvalidParameterError, match="less than 128 bits"):
        Parameters(degree, (*primes[:-1], primes[-1] + 1))
    # SEAL draws the same line, by its own table
    common = {"coeff_mod_bit_sizes": primes, "encryption_type": tenseal.ENCRYPTION_TYPE.SYMMETRIC}
    tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, **common)
    common["coeff_mod_bit_sizes"] = [*primes[:-1], primes[-1] + 1]
    with pytest.raises(ValueError, match="parameters"):
        tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, **common)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((2048, (54,), 20), "poly_degree must be one of 4096, 8192, 16384, got 2048"),
        ((5000, (54, 54), 36), "poly_degree must be one of"),
        ((4096, (54,), 36), "two or more sizes"),
        ((4096, (19, 54), 10), "from 20 to 60"),
        ((8192, (61, 40), 40), "from 20 to 60"),
        ((8192, (60, 40, 60), 36), "each must have scale_bits=36"),
        ((4096, (54, 54), 0), "scale_bits and max_additions must be at least 1"),
        ((4096, (54, 54), 50), "values would end at 0.0625"),
        ((4096, (54, 54), 36.0), "must be integers"),
        ((4096, (54, 54), True), "must be integers"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(InvalidParameterError, match=said):
        Context.generate(*arguments)


@pytest.mark.parametrize("additions", [0, -1, 2**32, 1.5])
def test_a_number_of_additions_that_makes_no_sense_is_refused(additions):
    with pytest.raises(InvalidParameterError, match=r"max_additions|integers|would end"):
        Context.generate(max_additions=additions)


# --- values and circuits ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused(bad):
    row = VALUES.copy()
    row[3] = bad
    with pytest.raises(InvalidUpdateError, match="NaN or Inf at coordinate 3"):
        CONTEXT.encrypt(row)


@pytest.mark.parametrize("beyond", [1024.5, -1e6, 1e300])
def test_values_beyond_the_range_are_refused(beyond):
    assert CONTEXT.parameters.largest == 1024
    with pytest.raises(InvalidUpdateError, match="at most 1024 in size"):
        CONTEXT.encrypt(np.array([0.0, beyond]))


@pytest.mark.parametrize("values", [[], np.ones((2, 2)), 3.0, ["1"], [1j]], ids=str)
def test_what_is_no_vector_of_real_numbers_is_refused(values):
    with pytest.raises(InvalidUpdateError, match="values must"):
        CONTEXT.encrypt(values)


def test_vectors_of_different_length_or_depth_do_not_add():
    with pytest.raises(InvalidParameterError, match="differ in length: 20 and 19"):
        CONTEXT.encrypt(VALUES) + CONTEXT.encrypt(VALUES[:-1])
    with pytest.raises(InvalidParameterError, match="differ in depth: 1 and 0"):
        DEEP.encrypt(VALUES) * 2 + DEEP.encrypt(VALUES)


def test_too_deep_a_circuit_is_refused():
    with pytest.raises(InvalidParameterError, match="too deep: these parameters allow 0"):
        CONTEXT.encrypt(VALUES) * 2
    with pytest.raises(InvalidParameterError, match="too deep: these parameters allow 1"):
        DEEP.encrypt(VALUES) * 2 * 2


def test_factors_that_overflow_or_are_no_numbers_are_refused():
    encrypted = DEEP.encrypt(VALUES)
    with pytest.raises(InvalidParameterError, match="grown 65 times"):
        encrypted * 65
    for factor in (np.nan, np.inf, 0):
        with pytest.raises(InvalidParameterError, match="finite and not zero"):
            encrypted * factor
    for factor in ("2", None, True):
        with pytest.raises(TypeError):
            encrypted * factor
    with pytest.raises(TypeError):
        encrypted + 1.0


# --- on the wire ------------------------------------------------------------------------------

KEY = aead.generate_key()
ABOUT = {"round": 3, "client": 7}


def test_an_envelope_brings_the_vector_back():
    sent = DEEP.encrypt(np.arange(5000.0) / 10) * 2
    received = DEEP.public().open(sent.seal(KEY, ABOUT), KEY, ABOUT)
    assert (received.length, received.weight, received.depth) == (5000, 2, 1)
    np.testing.assert_array_equal(DEEP.decrypt(received), DEEP.decrypt(sent))
    assert len(sent.to_bytes()) == sent.num_bytes


def test_flipped_bits_truncation_and_other_contexts_do_not_open():
    message = CONTEXT.encrypt(VALUES).seal(KEY, ABOUT)
    for position in [*range(200), *range(200, len(message), 997), len(message) - 1]:
        altered = bytearray(message)
        altered[position] ^= 1 << position % 8
        with pytest.raises((AuthenticationError, WireFormatError)):
            CONTEXT.open(bytes(altered), KEY, ABOUT)
    for cut in (message[:-1], message[:20], b"", message + b"\0"):
        with pytest.raises(WireFormatError):
            CONTEXT.open(cut, KEY, ABOUT)
    for key, about in ((aead.generate_key(), ABOUT), (KEY, {"round": 4, "client": 7}), (KEY, None)):
        with pytest.raises(AuthenticationError):
            CONTEXT.open(message, key, about)


def test_ckks_itself_decrypts_an_altered_ciphertext_to_garbage():
    block, strange = CONTEXT.encrypt(VALUES).blocks[0], OTHER.encrypt(VALUES).blocks[0]
    assert np.abs(np.array((block + strange).decrypt()) - VALUES).min() > 1000


def test_a_vector_under_another_key_does_not_open():
    message = OTHER.encrypt(VALUES).seal(KEY, ABOUT)
    with pytest.raises(WireFormatError, match="another CKKS key"):
        CONTEXT.open(message, KEY, ABOUT)


def test_an_insider_s_malformed_vector_is_refused():
    good = CONTEXT.encrypt(VALUES).to_bytes()
    head = ckks._VECTOR_HEAD

    def claim(length=20, weight=1.0, depth=0, blocks=1):
        return head.pack(ckks._VECTOR_MAGIC, CONTEXT.key_id, length, weight, depth, blocks)

    assert claim() == good[: head.size]
    for bad in (
        *(b"", good[:10], good[: head.size], good[: head.size + 2], good[:-1], good + b"\0"),
        *(b"FLCV\x02" + good[5:], claim(length=0, blocks=0), claim(length=0) + good[head.size :]),
        *(claim(**lie) + good[head.size :] for lie in LIES),
        claim() + (4).to_bytes(4, "little") + b"junk",
    ):
        with pytest.raises(WireFormatError):
            CONTEXT.read(bad)


LIES = (
    *({"length": 19}, {"length": 2049}, {"blocks": 2**32 - 1}, {"length": 2**63}),
    *({"weight": w} for w in (0.0, -1.0, 65.0, np.nan, np.inf)),
    {"depth": 1},
)


@pytest.mark.parametrize("position", [0, 21, 30], ids=["magic", "degree", "primes"])
def test_a_malformed_context_is_refused(position):
    data = bytearray(CONTEXT.to_bytes())
    data[position] ^= 255
    with pytest.raises(WireFormatError):
        Context.from_bytes(bytes(data))
    with pytest.raises(WireFormatError):
        Context.from_bytes(CONTEXT.to_bytes()[: 31 + position])


def test_an_encrypted_vector_says_little_of_itself():
    shown = repr(CONTEXT.encrypt(VALUES))
    assert shown == "EncryptedVector(length=20, weight=1.0, depth=0)"
    assert isinstance(CONTEXT.encrypt(VALUES), EncryptedVector)


@pytest.mark.parametrize("first", ["tensorflow", "fltutor.crypto.ckks as ckks; ckks._tenseal()"])
def test_tensorflow_in_the_same_process_does_no_harm(first):
    # both bring a copy of protobuf; mixed up, the process ends in a segmentation fault
    code = f"""
import {first}
import numpy as np, tensorflow as tf
from fltutor.crypto.ckks import Context
context = Context.generate()
total = context.public().read(context.encrypt(np.arange(3.0)).to_bytes())
assert np.abs(context.decrypt(total + total) - [0, 2, 4]).max() < 1e-6
feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[3, 8]))
example = tf.train.Example(features=tf.train.Features(feature={{"x": feature}}))
wanted = {{"x": tf.io.FixedLenFeature([2], tf.int64)}}
print(tf.io.parse_example([example.SerializeToString()], wanted)["x"].numpy().tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[[3, 8]]\n"), done.stderr[-500:]
