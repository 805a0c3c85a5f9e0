"""CKKS: sums within the derived error, and everything it refuses.

FAULTS: a context is authenticated before it is parsed; wrong or mixed keys, flipped bits,
truncation and empty ciphertexts caught by the envelope; values beyond the range, NaN, length
mismatch, too deep a circuit and parameters under 128 bits refused; the context that leaves a client
holds no secret key; the text warns that published decryptions leak.
"""

import copy
import hashlib
import itertools
import operator
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest

from fltutor.crypto import aead, ckks
from fltutor.crypto.channel import Initiator, Responder
from fltutor.crypto.ckks import MAX_MODULUS_BITS, Context, EncryptedVector, Parameters
from fltutor.crypto.keys import Directory, Identity
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    UnsupportedEnvironmentError,
    WireFormatError,
)

tenseal = ckks._tenseal()
CONTEXT, OTHER = Context.generate(), Context.generate()
DEEP = Context.generate(8192, (60, 40, 60), 40)
DEEPER = Context.generate(16384, (60, 40, 40, 60), 40)
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


@pytest.mark.parametrize("factor", [1, 64, -64, 0.3, 1e-6, 2.0**-41 * 1.01])
@pytest.mark.parametrize("context", [DEEP, DEEPER], ids=["depth 1", "depth 2"])
def test_products_keep_to_the_stated_error(context, factor):
    largest, n = context.parameters.largest, context.parameters.num_slots
    signs = np.sign(np.random.default_rng(3).normal(size=n))
    for row in (np.zeros(n), np.full(n, largest), largest * signs, np.eye(1, n)[0]):
        product, expected = context.encrypt(row) * factor, row * factor
        assert np.abs(context.decrypt(product) - expected).max() < product.error_bound
        if context.parameters.depth > product.depth:
            product, expected = product * 0.7, expected * 0.7
            assert np.abs(context.decrypt(product) - expected).max() < product.error_bound
    assert product.error_bound < 1e-6 * max(1, abs(factor))


def test_a_mixture_of_sums_and_products_keeps_to_the_stated_error():
    rows = np.random.default_rng(4).normal(scale=1000, size=(4, 5000))
    a, b, c, d = (DEEPER.encrypt(row) for row in rows)
    mixed = (a * 3 - b * 0.25) * 2.5 + -(c * -1.5 + d * 1.0) * 0.001
    expected = (rows[0] * 3 - rows[1] * 0.25) * 2.5 - (rows[2] * -1.5 + rows[3]) * 0.001
    error = np.abs(DEEPER.decrypt(mixed) - expected).max()
    assert mixed.error_bound / 10_000 < error < mixed.error_bound


def test_the_error_of_a_product_is_of_the_size_that_was_derived():
    parameters, errors = DEEP.parameters, []
    for _ in range(10):  # each key has its own size in a slot, so several of them
        context = Context.generate(8192, (60, 40, 60), 40)
        errors.append(context.decrypt(context.encrypt(np.zeros(4096)) * 0.5))
    rounding = np.sqrt(8192 / 24 * (1 + 2 / 3 * 8192)) / 2.0**40  # two of three of a key are not 0
    expected = np.hypot(0.5 * parameters.noise, rounding)
    assert np.std(errors) == pytest.approx(expected, rel=0.05)
    assert 20 * expected < parameters.product_error < 60 * expected


def test_sum_and_minus_work():
    rows = np.random.default_rng(5).normal(size=(4, 3000))
    encrypted = [CONTEXT.encrypt(row) for row in rows]
    for result, expected in (
        (sum(encrypted), rows.sum(axis=0)),
        (encrypted[0] - encrypted[1], rows[0] - rows[1]),
        (-encrypted[2], -rows[2]),
        (sum([encrypted[0]]) - sum(encrypted[1:]), rows[0] - rows[1:].sum(axis=0)),
    ):
        assert np.abs(CONTEXT.decrypt(result) - expected).max() < result.error_bound
    assert (encrypted[0] - encrypted[1]).weight == 2
    context = Context.generate(max_additions=2)
    one = context.encrypt(VALUES)
    with pytest.raises(InvalidParameterError, match="could overflow"):
        (one - context.encrypt(VALUES)) - one


@pytest.mark.parametrize("start", [1, 0.0, False, None, "0", np.float64(0)], ids=repr)
def test_nothing_but_the_start_of_a_sum_is_added_from_the_left(start):
    encrypted = CONTEXT.encrypt(VALUES)
    with pytest.raises(TypeError):
        start + encrypted
    for operation in (operator.add, operator.sub):
        with pytest.raises(TypeError):
            operation(encrypted, start)


def test_the_same_vector_never_looks_the_same():
    assert len({CONTEXT.encrypt(VALUES).to_bytes() for _ in range(10)}) == 10


# --- keys -------------------------------------------------------------------------------------


def test_the_context_that_leaves_a_client_holds_no_secret_key():
    sent = CONTEXT.to_bytes()
    assert len(sent) < 200  # parameters and a name; a secret key alone is 60 kB
    public = Context.from_bytes(sent, CONTEXT.fingerprint)
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
    colleague = Context.from_bytes(CONTEXT.to_bytes(with_secret_key=True), CONTEXT.fingerprint)
    assert colleague.has_secret_key
    total = CONTEXT.encrypt(VALUES) + colleague.encrypt(VALUES)
    for holder in (CONTEXT, colleague):
        np.testing.assert_allclose(holder.decrypt(total), 2 * VALUES, atol=1e-6)
    assert colleague.to_bytes(with_secret_key=True) == CONTEXT.to_bytes(with_secret_key=True)


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
        ((2048, (54, 54), 20), "poly_degree must be a whole number from 4096 to 16384, got 2048"),
        ((5000, (54, 54), 36), "poly_degree must be one of"),
        ((4096, (54,), 36), "two or more sizes"),
        ((4096, (19, 54), 10), "from 20 to 60"),
        ((8192, (61, 40), 40), "from 20 to 60"),
        ((8192, (60, 40, 60), 36), "each must have scale_bits=36"),
        ((4096, (54, 54), 0), "scale_bits must be a whole number from 1 to 60, got 0"),
        ((4096, (54, 54), 10**400), "scale_bits must be a whole number from 1 to 60, got an int"),
        ((4096, (54, 54), 10**5000), "scale_bits must be a whole number from 1 to 60, got an int"),
        ((4096, (54, 54), -(10**5000)), "scale_bits must be a whole number from 1 to 60, got an"),
        ((10**5000, (54, 54), 36), "poly_degree must be a whole number .*, got an integer of"),
        ((4096, (54, 10**5000), 36), "each of modulus_bits must be .*, got an integer of"),
        ((4096, 10**5000, 36), "modulus_bits must be a sequence .*, got an integer of"),
        ((4096, np.array(54), 36), "modulus_bits must be a sequence .*, got 54"),
        ((4096, {54}, 36), "modulus_bits must be a sequence"),
        ((4096, (54, 54), 50), "values would end at 0.0625"),
        ((4096, (54, 54), 36.0), "scale_bits must be a whole number .*, got 36.0"),
        ((4096, (54, 54), True), "scale_bits must be a whole number .*, got True"),
        ((4096, 54, 36), "modulus_bits must be a sequence"),
        ((4096, None, 36), "modulus_bits must be a sequence"),
        ((4096, (54, "54"), 36), "each of modulus_bits must be a whole number .*, got '54'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(InvalidParameterError, match=said):
        Context.generate(*arguments)


def test_parameters_of_numpy_become_python_integers():
    parameters = Parameters(np.int16(4096), np.array([54, 54], np.int8), np.int8(36), np.uint8(64))
    assert parameters == Parameters()
    kinds = map(type, (*parameters.modulus_bits, parameters.scale_bits, parameters.max_additions))
    assert set(kinds) == {int}
    assert (parameters.largest, parameters.noise) == (Parameters().largest, Parameters().noise)


@pytest.mark.parametrize("additions", [0, -1, 2**32, 1.5, 10**5000], ids=type)
def test_a_number_of_additions_that_makes_no_sense_is_refused(additions):
    with pytest.raises(InvalidParameterError, match="max_additions must be a whole number"):
        Context.generate(max_additions=additions)


# --- values and circuits ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused(bad):
    row = VALUES.copy()
    row[3] = bad
    with pytest.raises(InvalidUpdateError, match=r"finite, got (NaN|Inf) at 3"):
        CONTEXT.encrypt(row)


@pytest.mark.parametrize("beyond", [1024.5, -1e6, 1e300])
def test_values_beyond_the_range_are_refused(beyond):
    assert CONTEXT.parameters.largest == 1024
    with pytest.raises(InvalidUpdateError, match="at most 1024 in size"):
        CONTEXT.encrypt(np.array([0.0, beyond]))


@pytest.mark.parametrize(
    "values", [[], np.ones((2, 2)), 3.0, ["1"], [1j], [True], [None], [[1], [2, 3]]], ids=str
)
def test_what_is_no_vector_of_real_numbers_is_refused(values):
    with pytest.raises(InvalidUpdateError, match="values must"):
        CONTEXT.encrypt(values)


def test_masked_values_are_refused():
    for values in (np.ma.masked_equal([1.0, -1.0], -1.0), np.ma.array([1.0, 2.0])):
        with pytest.raises(InvalidUpdateError, match="values is a masked array"):
            CONTEXT.encrypt(values)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "longdouble", ">f4", "i1", "u1", "i8", "u8"])
def test_every_dtype_of_real_numbers_is_encrypted_at_its_worth(dtype):
    for values in (np.array([0, 1, 3, 100], dtype), np.arange(8).astype(dtype)[::2]):
        opened = CONTEXT.decrypt(CONTEXT.encrypt(values))
        assert np.abs(opened - values.astype(float)).max() < CONTEXT.parameters.resolution


def test_a_long_double_beyond_every_double_is_too_large():
    with pytest.raises(InvalidUpdateError, match="at most 1024 in size"):
        CONTEXT.encrypt(np.array([np.finfo(np.longdouble).max]))


@pytest.mark.parametrize("other", [0, None, "text", b"bytes", [1], CONTEXT], ids=repr)
def test_what_is_no_vector_is_not_opened(other):
    with pytest.raises(InvalidParameterError, match="must be of class EncryptedVector, got"):
        CONTEXT.decrypt(other)


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
    for factor in (np.nan, np.inf, 0, -0.0, 10**400, -(10**5000), np.float16(np.inf)):
        with pytest.raises(InvalidParameterError, match="finite and not zero"):
            encrypted * factor
    for factor in (2.0**-42, -1e-300, 5e-324):
        with pytest.raises(InvalidParameterError, match="vanishes"):
            encrypted * factor
        with pytest.raises(InvalidParameterError, match="vanishes"):
            DEEP.public().read(encrypted.to_bytes()) * factor
    for factor in ("2", None, True, np.bool_(True), 1j, np.complex64(2), np.timedelta64(2)):
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


# --- blocks that lie ----------------------------------------------------------------------------


def protobuf(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + ckks._varint(len(content)) + content


def seal_object(content: bytes) -> bytes:
    return struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, 0, 0, 16 + len(content)) + content


def ciphertext(context=CONTEXT, **lie) -> bytes:
    """A ciphertext as SEAL writes it, of random numbers, with anything else claimed."""
    depth = lie.pop("depth", 0)
    fresh = context.encrypt(VALUES)
    primes = len(context.parameters.modulus_bits) - 1 - depth
    for _ in range(depth):
        fresh = fresh * 1.0
    honest = {
        "parameters": fresh.blocks[0].ciphertext()[0].parms_id(),
        **{"ntt": 1, "size": 2, "degree": context.parameters.poly_degree, "primes": primes},
        **{"scale": 2.0**context.parameters.scale_bits, "correction": 1},
    }
    claim = honest | lie
    count = claim["size"] * honest["degree"] * honest["primes"]
    numbers = np.random.default_rng(1).integers(1, 2**39, min(count, 2**18), np.uint64)
    numbers[len(numbers) // 2 :] *= np.uint64(not lie.get("zeros"))
    claim.pop("zeros", None)
    numbers = struct.pack("<Q", claim.pop("count", count)) + numbers.tobytes()
    fields = struct.pack("<4QBQQQdQ", *claim.pop("parameters"), *claim.values())
    return seal_object(fields + seal_object(numbers))


def block(*ciphertexts: bytes, sizes=bytes([20]), scale=2.0**36, more=b"") -> bytes:
    """A block as TenSEAL writes it."""
    sizes = b"" if sizes is None else protobuf(1, sizes)
    ciphertexts = b"".join(protobuf(2, each) for each in ciphertexts)
    return (
        sizes + ciphertexts + (b"" if scale is None else struct.pack("<cd", b"\x19", scale)) + more
    )


def vector(*blocks: bytes, context=CONTEXT, length=20, weight=1.0, depth=0) -> bytes:
    head = ckks._VECTOR_MAGIC, context.key_id, length, weight, depth, len(blocks)
    parts = (len(each).to_bytes(4, "little") + each for each in blocks)
    return ckks._VECTOR_HEAD.pack(*head) + b"".join(parts)


def test_what_these_tests_write_by_hand_is_read_if_it_is_honest():
    read = CONTEXT.public().read(vector(block(ciphertext())))
    assert len((read + CONTEXT.encrypt(VALUES)).blocks) == 1
    deep = vector(
        block(ciphertext(DEEP, depth=1), scale=2.0**40), context=DEEP, depth=1, weight=2.0
    )
    assert (DEEP.public().read(deep) + DEEP.encrypt(VALUES) * 1.0).depth == 1


LYING_BLOCKS = {
    "no ciphertext": lambda: block(),
    "two ciphertexts": lambda: block(ciphertext(), ciphertext()),
    "no size": lambda: block(ciphertext(), sizes=None),
    "an empty size": lambda: block(ciphertext(), sizes=b""),
    "two sizes": lambda: block(ciphertext(), sizes=bytes([10, 10])),
    "sizes that wrap around": lambda: block(ciphertext(), sizes=b"\xff" * 4 + b"\x0f\x15"),
    "size 0": lambda: block(ciphertext(), sizes=b"\0"),
    "a smaller size": lambda: block(ciphertext(), sizes=bytes([19])),
    "a larger size": lambda: block(ciphertext(), sizes=ckks._varint(2049)),
    "a long way to write 20": lambda: block(ciphertext(), sizes=b"\x94\x00"),
    "no scale": lambda: block(ciphertext(), scale=None),
    "two scales": lambda: block(ciphertext(), scale=8.0, more=struct.pack("<cd", b"\x19", 2.0**36)),
    "a hidden scale": lambda: block(
        ciphertext(), scale=8.0, more=protobuf(9, struct.pack("<cd", b"\x19", 2.0**36))
    ),
    "something more": lambda: block(ciphertext(), more=protobuf(9, b"more")),
    "nothing": lambda: b"",
    "junk": lambda: b"junk",
    "junk in the frame": lambda: block(b"\x5e\xa1\x10 junk"),
    "not NTT": lambda: block(ciphertext(ntt=0)),
    "of size 0": lambda: block(ciphertext(size=0)),
    "of size 1": lambda: block(ciphertext(size=1)),
    "of size 3": lambda: block(ciphertext(size=3)),
    "of size 16": lambda: block(ciphertext(size=16)),
    "of a huge size": lambda: block(ciphertext(size=2**60, count=2**20)),
    "of huge contents": lambda: block(ciphertext(count=2**61)),
    "of another degree": lambda: block(ciphertext(degree=8192)),
    "of more primes": lambda: block(ciphertext(primes=2)),
    "of strange parameters": lambda: block(ciphertext(parameters=(1, 2, 3, 4))),
    "of other parameters": lambda: block(ciphertext(DEEP, scale=2.0**36)),
    "with no secret part": lambda: block(ciphertext(zeros=True)),
    **{
        f"in a block of scale {scale}": lambda scale=scale: block(ciphertext(), scale=scale)
        for scale in (0.0, -1.0, 2.0**20, 2.0**37, np.nan, np.inf, 5e-324)
    },
    **{
        f"of scale {scale}": lambda scale=scale: block(ciphertext(scale=scale))
        for scale in (0.0, -1.0, 2.0**20, 2.0**37, np.nan, np.inf, 5e-324)
    },
}


@pytest.mark.parametrize("lie", LYING_BLOCKS)
def test_a_block_that_is_not_one_ciphertext_of_these_parameters_is_refused(lie):
    for context in (CONTEXT, CONTEXT.public()):
        with pytest.raises(WireFormatError):
            context.read(vector(LYING_BLOCKS[lie]()))


def test_blocks_that_share_their_values_otherwise_are_refused():
    first, second = (block(ciphertext(), sizes=ckks._varint(n)) for n in (1000, 1020))
    with pytest.raises(WireFormatError, match="one ciphertext of 20"):
        CONTEXT.read(vector(block(ciphertext(), sizes=ckks._varint(2048)), first, length=2068))
    with pytest.raises(WireFormatError):
        CONTEXT.read(vector(first, second, length=2020))


def test_a_product_that_says_it_is_fresh_and_the_other_way_round_are_refused():
    for claimed, real in ((0, 1), (1, 0)):
        lie = block(ciphertext(DEEP, depth=real), scale=2.0**40)
        with pytest.raises(WireFormatError, match="number of primes"):
            DEEP.read(vector(lie, context=DEEP, depth=claimed))


def test_every_change_of_a_frame_and_many_of_a_ciphertext_are_refused_or_harmless():
    data, server, rng = (
        CONTEXT.encrypt(VALUES).to_bytes(),
        CONTEXT.public(),
        np.random.default_rng(6),
    )
    outside = [*range(120), *range(len(data) - 20, len(data))]
    for position in (*outside, *rng.integers(len(data), size=200)):
        for change in (1, 128, 255):
            altered = bytearray(data)
            altered[position] ^= change
            try:
                read = server.read(bytes(altered))
            except WireFormatError:
                continue
            (read + read).to_bytes()  # other numbers, which an envelope would have caught
    for cut in (*outside, *rng.integers(len(data), size=100)):
        with pytest.raises(WireFormatError):
            server.read(data[:cut])


@pytest.mark.parametrize("scale", [2.0**20, 2.0**35, 2.0**37])
def test_sums_that_seal_refuses_are_refused_by_type(scale):
    strange = tenseal.ckks_vector(CONTEXT._seal, VALUES.tolist(), scale)
    strange, encrypted = EncryptedVector(CONTEXT, (strange,), 20), CONTEXT.encrypt(VALUES)
    deep = EncryptedVector(CONTEXT, DEEP.encrypt(VALUES).blocks, 20)
    short = EncryptedVector(CONTEXT, (), 20)
    for other, operation in itertools.product((strange, deep, short), (operator.add, operator.sub)):
        with pytest.raises(InvalidParameterError, match="SEAL cannot compute this"):
            operation(encrypted, other)
    with pytest.raises(InvalidParameterError, match="transparent, a zero that hides nothing"):
        encrypted - encrypted


@pytest.mark.parametrize(
    "array", [np.array([0.5, 2.0]), np.array(2.0), np.ones((2, 2)), np.ones(20)], ids=np.shape
)
def test_no_array_computes_with_a_vector(array):
    """It would make an array of vectors, one for each of its entries."""
    encrypted = DEEP.encrypt(VALUES)
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv, np.multiply):
        for operands in ((array, encrypted), (encrypted, array)):
            with pytest.raises(TypeError):
                operation(*operands)


@pytest.mark.parametrize("kind", [int, float, np.int8, np.uint64, np.float16, np.float64])
def test_a_number_of_numpy_is_a_factor_on_either_side(kind):
    encrypted = DEEP.encrypt(VALUES)
    for product in (encrypted * kind(2), kind(2) * encrypted):
        assert np.abs(DEEP.decrypt(product) - 2 * VALUES).max() < product.error_bound


@pytest.mark.parametrize("flag", ["no", "", 1, 0, None, [True]], ids=repr)
def test_nothing_but_true_sends_the_secret_key(flag):
    with pytest.raises(InvalidParameterError, match="with_secret_key must be True or False"):
        CONTEXT.to_bytes(with_secret_key=flag)


# --- contexts on the wire -----------------------------------------------------------------------


@pytest.fixture
def no_tenseal(monkeypatch):
    """From here on, whoever asks for TenSEAL fails."""

    def fail():
        pytest.fail("TenSEAL was called")

    monkeypatch.setattr(ckks, "_tenseal", fail)


def changes(data: bytes, positions):
    """The data with one byte changed, at each position."""
    changed = bytearray(data)
    for position in positions:
        for change in (1, 128, 255):
            changed[position] ^= change
            yield bytes(changed)
            changed[position] ^= change


PUBLIC_BYTES, SECRET_BYTES = CONTEXT.to_bytes(), CONTEXT.to_bytes(with_secret_key=True)


def test_no_changed_byte_of_a_context_reaches_tenseal(no_tenseal):
    head = range(len(PUBLIC_BYTES))
    secret = (*head, *range(len(PUBLIC_BYTES), len(SECRET_BYTES), 41), len(SECRET_BYTES) - 1)
    for data, positions in ((PUBLIC_BYTES, head), (SECRET_BYTES, secret)):
        for changed in changes(data, positions):
            with pytest.raises((AuthenticationError, WireFormatError)):
                Context.from_bytes(changed, CONTEXT.fingerprint)


def test_no_truncated_or_longer_context_reaches_tenseal(no_tenseal):
    cuts = (*range(len(PUBLIC_BYTES) + 60), *range(200, len(SECRET_BYTES), 397))
    cut = [PUBLIC_BYTES[:end] for end in range(len(PUBLIC_BYTES))]
    cut += [SECRET_BYTES[:end] for end in (*cuts, len(SECRET_BYTES) - 1)]
    secret_key = SECRET_BYTES[len(PUBLIC_BYTES) :]
    mixed = [b"FLCC" + SECRET_BYTES[4:], b"FLCS" + PUBLIC_BYTES[4:], PUBLIC_BYTES + secret_key]
    for data in (
        *cut,
        *mixed,
        PUBLIC_BYTES + b"\0",
        SECRET_BYTES + b"\0",
        b"FLCC\x01" + cut[-1][5:],
    ):
        with pytest.raises((AuthenticationError, WireFormatError)):
            Context.from_bytes(data, CONTEXT.fingerprint)


def test_another_context_is_refused_before_it_reaches_tenseal(no_tenseal):
    for data in (OTHER.to_bytes(), OTHER.to_bytes(with_secret_key=True), DEEP.to_bytes()):
        with pytest.raises(AuthenticationError, match="not the context with this fingerprint"):
            Context.from_bytes(data, CONTEXT.fingerprint)
    stolen = PUBLIC_BYTES[5:] + OTHER.to_bytes(with_secret_key=True)[len(PUBLIC_BYTES) :]
    with pytest.raises(AuthenticationError, match="secret key in this context was altered"):
        Context.from_bytes(b"FLCS\x02" + stolen, CONTEXT.fingerprint)


def test_a_fingerprint_is_the_sha_256_of_what_is_sent_with_the_key_or_without():
    assert CONTEXT.fingerprint == hashlib.sha256(PUBLIC_BYTES).digest()
    assert CONTEXT.public().fingerprint == CONTEXT.fingerprint != OTHER.fingerprint
    for data in (PUBLIC_BYTES, SECRET_BYTES, bytearray(PUBLIC_BYTES), memoryview(SECRET_BYTES)):
        read = Context.from_bytes(data, fingerprint=CONTEXT.fingerprint)
        assert read.fingerprint == CONTEXT.fingerprint
        assert read.parameters == CONTEXT.parameters
        assert read.has_secret_key == (len(data) > 200)
        total = read.read(CONTEXT.encrypt(VALUES).to_bytes()) + CONTEXT.encrypt(VALUES)
        np.testing.assert_allclose(CONTEXT.decrypt(total), 2 * VALUES, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [None, "00" * 32, b"", bytes(16), bytes(33), 5], ids=repr)
def test_what_is_no_fingerprint_is_refused(bad):
    with pytest.raises(InvalidParameterError, match="fingerprint must be the 32 bytes"):
        Context.from_bytes(PUBLIC_BYTES, bad)
    with pytest.raises(TypeError, match="fingerprint"):
        Context.from_bytes(PUBLIC_BYTES)


def claimed(digest=None, degree=4096, scale=36, additions=64, primes=(54, 54), count=None) -> bytes:
    digest = (
        hashlib.sha256(SECRET_BYTES[len(PUBLIC_BYTES) :]).digest() if digest is None else digest
    )
    count = len(primes) if count is None else count
    return ckks._CONTEXT_HEAD.pack(digest, degree, scale, additions, count) + bytes(primes)


WRONG_CLAIMS = (
    *({"degree": degree} for degree in (0, 2048, 5000, 2**32 - 1)),
    *({"primes": primes} for primes in ((), (54,), (60, 60), (54, 54, 54), (0, 255), (20,) * 200)),
    *({"scale": 0}, {"scale": 60}, {"scale": 255}, {"additions": 0}, {"additions": 2**32 - 1}),
    {"degree": 16384, "primes": (60, *[20] * 12, 60), "scale": 20},  # so many primes are not there
)


@pytest.mark.parametrize("claim", WRONG_CLAIMS, ids=str)
def test_a_maker_s_context_with_parameters_that_make_no_sense_is_refused(claim):
    about = claimed(**claim)
    for data in (b"FLCC\x02" + about, b"FLCS\x02" + about + SECRET_BYTES[len(PUBLIC_BYTES) :]):
        with pytest.raises(WireFormatError, match="not a CKKS context"):
            Context.from_bytes(data, hashlib.sha256(b"FLCC\x02" + about).digest())


@pytest.mark.parametrize(
    "claim",
    [{"degree": 8192}, {"scale": 35}, {"primes": (54, 53)}, {"primes": (55, 54)}],
    ids=str,
)
def test_a_head_that_contradicts_the_key_inside_is_refused(claim):
    about = claimed(**claim)
    assert Context.from_bytes(b"FLCC\x02" + about, ckks._fingerprint(about)).parameters
    data = b"FLCS\x02" + about + SECRET_BYTES[len(PUBLIC_BYTES) :]
    with pytest.raises(WireFormatError, match="for other parameters"):
        Context.from_bytes(data, ckks._fingerprint(about))


def test_a_key_that_is_none_is_refused():
    keyless = ckks._serialize(CONTEXT._seal)
    about = claimed(hashlib.sha256(keyless).digest())
    with pytest.raises(WireFormatError, match="for other parameters"):
        Context.from_bytes(b"FLCS\x02" + about + keyless, ckks._fingerprint(about))


def test_vectors_of_other_parameters_are_of_another_context():
    about = claimed(additions=2)
    other = Context.from_bytes(
        b"FLCS\x02" + about + SECRET_BYTES[len(PUBLIC_BYTES) :], ckks._fingerprint(about)
    )
    assert (other.parameters.max_additions, other.has_secret_key) == (2, True)
    with pytest.raises(WireFormatError, match="another CKKS key"):
        other.read(CONTEXT.encrypt(VALUES).to_bytes())
    for act in (
        lambda: other.encrypt(VALUES) + CONTEXT.encrypt(VALUES),
        lambda: CONTEXT.decrypt(other.encrypt(VALUES)),
    ):
        with pytest.raises(InvalidParameterError, match="different keys"):
            act()


@pytest.fixture
def ends():
    """Both ends of an open channel."""
    alice, bob = Identity.generate("alice"), Identity.generate("bob")
    directory = Directory([alice.public, bob.public])
    initiator, responder = Initiator(alice, "bob", directory), Responder(bob, directory)
    finished, there = responder.finish(initiator.proof(responder.answer(initiator.hello())))
    return initiator.finish(finished), there


@pytest.mark.parametrize("data", [PUBLIC_BYTES, SECRET_BYTES], ids=["public", "secret"])
def test_a_channel_delivers_a_context(ends, data):
    here, there = ends
    message = here.seal(np.frombuffer(data, np.uint8), {"round": 3})
    read = Context.receive(message, there, {"round": 3})
    assert read.fingerprint == CONTEXT.fingerprint
    assert read.has_secret_key == (data is SECRET_BYTES)


def test_what_no_channel_delivered_does_not_reach_tenseal(ends, no_tenseal):
    here, there = ends
    message = here.seal(np.frombuffer(SECRET_BYTES, np.uint8), {"round": 3})
    for changed in changes(message, (*range(120), *range(120, len(message), 997))):
        with pytest.raises((AuthenticationError, WireFormatError)):
            Context.receive(changed, there, {"round": 3})
    with pytest.raises(AuthenticationError):
        Context.receive(message, there, {"round": 4})
    for stranger in (None, aead.generate_key(), "channel", CONTEXT.fingerprint):
        with pytest.raises(InvalidParameterError, match="channel must be of class Channel"):
            Context.receive(message, stranger)
    assert "0 opened" in repr(there)


@pytest.mark.parametrize(
    "tensors",
    [
        np.ones(3),
        [np.frombuffer(PUBLIC_BYTES, np.uint8)],
        np.frombuffer(PUBLIC_BYTES[:-1], np.uint8),
        np.zeros(0, np.uint8),
        np.frombuffer(PUBLIC_BYTES, np.int8),
    ],
    ids=["floats", "a model", "cut", "empty", "signed"],
)
def test_what_a_channel_delivers_and_is_no_context_is_refused(ends, tensors):
    here, there = ends
    with pytest.raises(WireFormatError, match="context"):
        Context.receive(here.seal(tensors), there)


@pytest.mark.parametrize("data", [None, "text", 5, 10**12, [1, 2], 2.5, CONTEXT], ids=repr)
def test_what_are_no_bytes_is_refused_by_type(data):
    for act in (CONTEXT.read, lambda data: Context.from_bytes(data, CONTEXT.fingerprint)):
        with pytest.raises(InvalidParameterError, match="must be bytes"):
            act(data)


def test_an_encrypted_vector_says_little_of_itself():
    shown = repr(CONTEXT.encrypt(VALUES))
    assert shown == "EncryptedVector(length=20, weight=1.0, depth=0)"
    assert isinstance(CONTEXT.encrypt(VALUES), EncryptedVector)


USE_BOTH = """
import numpy as np, tensorflow as tf
from fltutor.crypto.ckks import Context
context = Context.generate(8192, (60, 40, 60), 40)
total = context.public().read(context.encrypt(np.arange(3.0)).to_bytes())
assert np.abs(context.decrypt((total + total) * 0.5) - [0, 1, 2]).max() < 1e-6
feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[3, 8]))
example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
wanted = {"x": tf.io.FixedLenFeature([2], tf.int64)}
print(tf.io.parse_example([example.SerializeToString()], wanted)["x"].numpy().tolist())
"""
# Both bring a copy of protobuf; mixed up, the process ends in a segmentation fault.
HARMLESS = (
    "tensorflow",
    "fltutor.crypto.ckks as ckks; ckks._tenseal(); import tensorflow, tenseal",
)
ORDERS = list(itertools.permutations(["tensorflow", "tenseal", "fltutor.crypto.ckks"]))


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("first", HARMLESS)
def test_tensorflow_in_the_same_process_does_no_harm(first):
    done = run_python(f"import {first}\n{USE_BOTH}")
    assert (done.returncode, done.stdout) == (0, "[[3, 8]]\n"), done.stderr[-500:]


@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_every_order_of_imports_works_or_says_what_to_do(order):
    done = run_python("\n".join(f"import {name}" for name in order) + USE_BOTH)
    if order.index("tenseal") < order.index("tensorflow"):
        assert (done.returncode, done.stdout) == (0, "[[3, 8]]\n"), done.stderr[-500:]
    else:
        assert done.returncode == 1, done.stderr[-500:]
        said = done.stderr.splitlines()[-1]
        assert said.startswith("fltutor.errors.UnsupportedEnvironmentError: tenseal was imported")
        assert "Restart" in said
        assert "before everything that imports tensorflow" in said


def test_the_wrong_order_is_refused_at_every_call_and_changes_nothing(monkeypatch):
    modules = {name: sys for name in ("tensorflow", "tenseal")}
    monkeypatch.setattr(sys, "modules", {**modules, **sys.modules})
    flags = sys.getdlopenflags()
    for _ in range(2):
        with pytest.raises(UnsupportedEnvironmentError, match="leave `import tenseal` out"):
            ckks._tenseal.__wrapped__()
    assert sys.getdlopenflags() == flags
