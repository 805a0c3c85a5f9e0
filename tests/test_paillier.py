"""Paillier: the scheme against its own algebra, and everything it refuses.

FAULTS: Paillier keys of 2048 bits or more outside toy mode, signed fixed point with one shared
scale, overflow refused, results re-randomised; wrong or mixed keys, flipped bits, truncation and
empty ciphertexts caught by the envelope.
"""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.crypto import aead
from fltutor.crypto.paillier import (
    Ciphertext,
    EncryptedVector,
    PrivateKey,
    PublicKey,
    encrypt_vector,
    slots_per_ciphertext,
)
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    WireFormatError,
)
from fltutor.fixed_point import FixedPoint

TOY = PrivateKey.generate(256, toy=True)
OTHER = PrivateKey.generate(256, toy=True)
PUBLIC = TOY.public_key
NUMBERS = st.integers(-PUBLIC.max_int, PUBLIC.max_int)
VALUES = np.random.default_rng(9).normal(size=20)


@pytest.fixture(scope="module")
def real():
    return PrivateKey.generate()


# --- numbers ----------------------------------------------------------------------------------


def test_a_ciphertext_by_hand():
    p, q = 2**89 - 1, 2**107 - 1  # Mersenne primes, so anyone can check the numbers
    n = p * q
    assert PublicKey(n).encrypt_with(5, 2).value == pow(n + 1, 5, n * n) * pow(2, n, n * n) % n**2
    assert PrivateKey(p, q).decrypt(PublicKey(n).encrypt_with(5, 2)) == 5


@given(number=NUMBERS, r=st.integers(2, 2**200))
@settings(max_examples=50)
def test_the_private_key_encrypts_to_the_same_bits_as_the_public_one(number, r):
    assert TOY.encrypt_with(number, r) == PUBLIC.encrypt_with(number, r)


@given(number=NUMBERS)
@settings(max_examples=50)
def test_decryption_is_paillier_s_formula_without_the_shortcut(number):
    ciphertext, n = PUBLIC.encrypt(number), PUBLIC.n
    order = (TOY._p - 1) * (TOY._q - 1)
    plain = (pow(ciphertext.value, order, n * n) - 1) // n * pow(order, -1, n) % n
    assert plain == number % n
    assert TOY.decrypt(ciphertext) == number


@given(a=st.integers(-(2**200), 2**200), b=st.integers(-(2**200), 2**200))
@settings(max_examples=50)
def test_products_of_ciphertexts_are_sums_and_powers_are_products(a, b):
    factor = b >> 160
    total = PUBLIC.encrypt(a) + PUBLIC.encrypt(b)
    assert TOY.decrypt(total) == a + b
    assert TOY.decrypt(PUBLIC.encrypt(a) * factor) == a * factor
    assert TOY.decrypt(factor * PUBLIC.encrypt(a)) == a * factor


def test_the_real_size_works_too(real):
    assert real.public_key.bits == 2048
    ciphertext = real.encrypt(-(10**9)) + real.public_key.encrypt(7)
    assert real.decrypt(ciphertext) == 7 - 10**9


def test_the_same_number_never_looks_the_same():
    seen = {PUBLIC.encrypt(3).value for _ in range(100)}
    assert len(seen) == 100


def test_results_are_rerandomised_before_they_are_sent():
    one, two = PUBLIC.encrypt(3), PUBLIC.encrypt(8)
    total = one + two
    assert [c.fresh for c in (one, total, one * 2, total.rerandomise())] == [
        True,
        False,
        False,
        True,
    ]
    assert total.value == one.value * two.value % PUBLIC.n_squared  # anyone could recognise it
    assert total.rerandomise().value != total.value
    assert TOY.decrypt(total.rerandomise()) == 11
    assert TOY.decrypt(total.rerandomise_with(12345)) == 11

    vector = encrypt_vector(VALUES, PUBLIC)
    doubled = vector + vector
    assert vector.to_bytes() == vector.to_bytes()
    assert doubled.to_bytes() != doubled.to_bytes()
    np.testing.assert_array_equal(
        TOY.decrypt_vector(PUBLIC.read(doubled.to_bytes())), TOY.decrypt_vector(doubled)
    )


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [128, 512, 1024, 2046])
def test_short_keys_are_refused_unless_named_a_toy(bits):
    with pytest.raises(InvalidParameterError, match="at least 2048"):
        PrivateKey.generate(bits)
    if bits < 2046:
        assert PrivateKey.generate(bits, toy=True).public_key.bits == bits


@pytest.mark.parametrize("bits", [64, 126, 255, 2049, 2048.0, True, "2048"])
def test_keys_of_no_sensible_length_are_refused(bits):
    with pytest.raises(InvalidParameterError, match="bits"):
        PrivateKey.generate(bits, toy=True)


@pytest.mark.parametrize("n", [2**256, 15, -(2**256) + 1, 2.5, True])
def test_a_modulus_that_cannot_be_one_is_refused(n):
    with pytest.raises(InvalidParameterError, match="n must"):
        PublicKey(n)


def test_equal_primes_are_refused():
    with pytest.raises(InvalidParameterError, match="different primes"):
        PrivateKey(2**89 - 1, 2**89 - 1)


def test_mixed_keys_do_not_add():
    with pytest.raises(InvalidParameterError, match="different keys"):
        PUBLIC.encrypt(1) + OTHER.encrypt(1)
    with pytest.raises(InvalidParameterError, match="different keys"):
        encrypt_vector(VALUES, TOY) + encrypt_vector(VALUES, OTHER)


def test_a_wrong_key_does_not_decrypt():
    with pytest.raises(InvalidParameterError, match="different keys"):
        OTHER.decrypt(PUBLIC.encrypt(1))
    with pytest.raises(InvalidParameterError, match="different keys"):
        OTHER.decrypt_vector(encrypt_vector(VALUES, TOY))


def test_the_private_key_hides_itself_and_leaves_with_nobody():
    for text in (repr(TOY), str(TOY), repr(PUBLIC), repr(PUBLIC.encrypt(1))):
        assert not any(str(prime) in text for prime in (TOY._p, TOY._q))
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(CopyRefusedError):
            act(TOY)
    assert not {TOY._p, TOY._q} & set(vars(PUBLIC).values())


# --- what is no number, no ciphertext, or too large --------------------------------------------


@pytest.mark.parametrize("number", [1.0, "1", True, None, np.float64(1)])
def test_what_is_no_integer_is_not_encrypted(number):
    with pytest.raises(InvalidParameterError, match="must be an integer"):
        PUBLIC.encrypt(number)
    with pytest.raises(TypeError):
        PUBLIC.encrypt(1) * number
    with pytest.raises(TypeError):
        PUBLIC.encrypt(1) + number


def test_numbers_beyond_a_third_of_n_are_refused_and_so_are_sums_that_get_there():
    largest = PUBLIC.max_int
    for number in (largest + 1, -largest - 1):
        with pytest.raises(InvalidParameterError, match="within n / 3"):
            PUBLIC.encrypt(number)
    with pytest.raises(InvalidParameterError, match="overflowed"):
        TOY.decrypt(PUBLIC.encrypt(largest) + PUBLIC.encrypt(largest // 2))


@pytest.mark.parametrize(
    "value",
    [0, -1, PUBLIC.n, PUBLIC.n_squared, TOY._p],
    ids=["0", "-1", "n", "n squared", "a factor of n"],
)
def test_what_cannot_be_a_ciphertext_is_not_decrypted(value):
    with pytest.raises(InvalidParameterError, match="cannot be a ciphertext"):
        TOY.decrypt(Ciphertext(PUBLIC, value))


# --- vectors ----------------------------------------------------------------------------------

GRIDS = [
    FixedPoint(fraction_bits=16, bits=26, ring_bits=32),
    FixedPoint(fraction_bits=24, bits=48, ring_bits=64),
]


@pytest.mark.parametrize("grid", GRIDS, ids=["32-bit slots", "64-bit slots"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("length", [1, 6, 7, 8, 20])
def test_vectors_add_and_scale_as_fixed_point_numbers_do(grid, packed, length):
    rows = np.random.default_rng(length).normal(scale=4, size=(3, length))
    one, two, three = (encrypt_vector(row, TOY, grid, packed=packed) for row in rows)
    expected = grid.decode(grid.encode(rows).values)
    np.testing.assert_array_equal(TOY.decrypt_vector(one), expected[0])
    total = one + two * 3 + three * -2
    np.testing.assert_array_equal(
        TOY.decrypt_vector(total), expected[0] + 3 * expected[1] - 2 * expected[2]
    )
    assert total.weight == 6
    assert np.abs(expected - rows).max() <= grid.resolution / 2


def test_extremes_of_both_signs_do_not_disturb_their_neighbours():
    grid = FixedPoint(fraction_bits=0, bits=26, ring_bits=32)
    row = np.array([1, -1, 0, 1, -1, -1, 1.0]) * grid.largest
    total = encrypt_vector(row, TOY, grid) * 64
    np.testing.assert_array_equal(TOY.decrypt_vector(total), 64 * row)


def test_sixty_three_numbers_share_a_real_ciphertext(real):
    assert slots_per_ciphertext(real) == 63
    row = np.linspace(-1, 1, 64)
    encrypted = encrypt_vector(row, real)
    assert len(encrypted.ciphertexts) == 2
    np.testing.assert_allclose(real.decrypt_vector(encrypted), row, rtol=0, atol=2.0**-17)


def test_overflow_of_a_slot_is_refused_before_it_happens():
    vector = encrypt_vector(VALUES, TOY)
    for act in (lambda: vector * 65, lambda: vector * -65, lambda: vector * 64 + vector):
        with pytest.raises(InvalidParameterError, match="could wrap around"):
            act()
    total = vector * 64
    np.testing.assert_array_equal(TOY.decrypt_vector(total), 64 * TOY.decrypt_vector(vector))


def test_the_overflow_that_is_refused_would_really_ruin_the_neighbour():
    grid = FixedPoint(fraction_bits=0, bits=26, ring_bits=32)
    vector = encrypt_vector(np.array([grid.largest, 5.0]), TOY, grid)
    unchecked = Ciphertext(PUBLIC, pow(vector.ciphertexts[0].value, 100, PUBLIC.n_squared))
    spoiled = EncryptedVector((unchecked,), 2, vector.num_slots, grid)
    assert TOY.decrypt_vector(spoiled)[1] == 501  # and not 500


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 512.0, -600.0])
def test_nan_inf_and_values_beyond_the_grid_are_refused(bad):
    row = VALUES.copy()
    row[3] = bad
    with pytest.raises(InvalidUpdateError, match=r"finite|beyond the grid"):
        encrypt_vector(row, TOY)


@pytest.mark.parametrize("values", [[], np.ones((2, 2)), 3.0, ["1"], [1j]], ids=str)
def test_what_is_no_vector_of_real_numbers_is_refused(values):
    with pytest.raises(InvalidUpdateError, match="values must"):
        encrypt_vector(values, TOY)


def test_vectors_that_do_not_fit_each_other_are_refused():
    vector = encrypt_vector(VALUES, TOY)
    for other in (
        encrypt_vector(VALUES[:-1], TOY),
        encrypt_vector(VALUES, TOY, packed=False),
        encrypt_vector(VALUES, TOY, FixedPoint(fraction_bits=15, bits=26, ring_bits=32)),
    ):
        with pytest.raises(InvalidParameterError, match="vectors differ in"):
            vector + other
    for factor in (0.5, True, "2"):
        with pytest.raises(TypeError):
            vector * factor


# --- on the wire ------------------------------------------------------------------------------

KEY = aead.generate_key()
ABOUT = {"round": 3, "client": 7}


def test_an_envelope_brings_the_vector_back():
    sent = encrypt_vector(VALUES, TOY) * 3
    received = PUBLIC.open(sent.seal(KEY, ABOUT), KEY, ABOUT)
    assert (received.length, received.grid, received.weight) == (20, sent.grid, 3)
    np.testing.assert_array_equal(TOY.decrypt_vector(received), TOY.decrypt_vector(sent))
    assert len(sent.to_bytes()) == sent.num_bytes


def test_flipped_bits_truncation_and_other_contexts_do_not_open():
    message = encrypt_vector(VALUES[:3], TOY).seal(KEY, ABOUT)
    for position in range(len(message)):
        altered = bytearray(message)
        altered[position] ^= 1 << position % 8
        with pytest.raises((AuthenticationError, WireFormatError)):
            PUBLIC.open(bytes(altered), KEY, ABOUT)
    for cut in (message[:-1], message[:20], b"", message + b"\0"):
        with pytest.raises(WireFormatError):
            PUBLIC.open(cut, KEY, ABOUT)
    for key, about in ((aead.generate_key(), ABOUT), (KEY, {"round": 4, "client": 7}), (KEY, None)):
        with pytest.raises(AuthenticationError):
            PUBLIC.open(message, key, about)


def test_a_vector_under_another_key_does_not_open():
    message = encrypt_vector(VALUES, OTHER).seal(KEY, ABOUT)
    with pytest.raises(WireFormatError, match="another Paillier key"):
        PUBLIC.open(message, KEY, ABOUT)


def test_an_insider_s_malformed_vector_is_refused():
    good = encrypt_vector(VALUES, TOY).to_bytes()
    head = len(good) % PUBLIC.ciphertext_bytes
    zero = good[:head] + bytes(len(good) - head)
    for bad in (b"", good[:head], good[:-1], good + b"\0", b"FLPV\x02" + good[5:], zero):
        with pytest.raises(WireFormatError):
            PUBLIC.read(bad)
    empty = bytearray(good[:head])
    empty[-16:-8] = bytes(8)  # the length: an empty vector
    with pytest.raises(WireFormatError, match="0 numbers"):
        PUBLIC.read(bytes(empty))
    heavy = bytearray(good)
    heavy[head - 8 : head] = (65).to_bytes(8, "little")
    with pytest.raises(WireFormatError, match="could wrap around"):
        PUBLIC.read(bytes(heavy))
