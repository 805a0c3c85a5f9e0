"""Paillier: the scheme against its own algebra, and everything it refuses.

FAULTS: Paillier keys of 2048 bits or more outside toy mode, signed fixed point with one shared
scale, overflow refused before it happens, for single ciphertexts and vectors, results
re-randomised; wrong or mixed keys, flipped bits, truncation and empty ciphertexts caught by the
envelope.
"""

import copy
import math
import operator
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fltutor.crypto import aead
from fltutor.crypto.paillier import (
    PACKED_GRID,
    USUAL_BOUND,
    Ciphertext,
    EncryptedVector,
    PrivateKey,
    PublicKey,
    encrypt_vector,
    pack,
    slots_per_ciphertext,
    unpack,
)
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    InvalidUpdateError,
    WireFormatError,
)
from fltutor.fixed_point import FixedPoint
from tests.hostile import WRONG, stands

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
    assert (
        PublicKey(n, toy=True).encrypt_with(5, 2).value
        == pow(n + 1, 5, n * n) * pow(2, n, n * n) % n**2
    )
    assert PrivateKey(p, q, toy=True).decrypt(PublicKey(n, toy=True).encrypt_with(5, 2)) == 5


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


# --- bounds ---------------------------------------------------------------------------------

MAX = PUBLIC.max_int
EDGES = [0, 1, -1, USUAL_BOUND, USUAL_BOUND + 1, MAX >> 40, (MAX >> 40) + 1, MAX // 2, MAX]
ANY_NUMBER = st.sampled_from([*EDGES, *(-edge for edge in EDGES)]) | NUMBERS | st.integers(-99, 99)
FACTORS = st.integers(-(2**70), 2**70) | st.integers(-5, 5)
STEPS = st.one_of(
    st.tuples(st.sampled_from([operator.add, operator.sub]), ANY_NUMBER),
    st.tuples(st.just(operator.mul), FACTORS),
    st.tuples(st.just(operator.neg)),
)


@given(start=ANY_NUMBER, steps=st.lists(STEPS, max_size=6))
@example(start=MAX, steps=[(operator.add, MAX), (operator.add, MAX)])  # 3 (n // 3) is n - 1
@example(start=MAX, steps=[(operator.mul, 3)])
@example(start=-MAX, steps=[(operator.neg,), (operator.sub, -MAX), (operator.sub, -MAX)])
@example(start=1, steps=[(operator.mul, PUBLIC.n)])
@example(start=5, steps=[(operator.mul, 0), (operator.add, -7)])
@settings(max_examples=150)
def test_a_sequence_of_operations_is_refused_or_right(start, steps):
    expected, ciphertext = start, PUBLIC.encrypt(start)
    for operation, *operands in steps:
        encrypted = [*operands]
        if operation in (operator.add, operator.sub):
            encrypted = [PUBLIC.encrypt(number) for number in operands]
        before = ciphertext.value, ciphertext.bound
        try:
            result = operation(ciphertext, *encrypted)
        except InvalidParameterError:
            assert (ciphertext.value, ciphertext.bound) == before
            continue
        expected, ciphertext = operation(expected, *operands), result
        assert abs(expected) <= ciphertext.bound <= MAX
    assert TOY.decrypt(ciphertext) == expected


@pytest.mark.parametrize(
    "act",
    [
        lambda e: e + e,
        lambda e: e + e + e,
        lambda e: e - e,
        lambda e: -e - e,
        lambda e: e - -e,
        lambda e: e * 2,
        lambda e: 3 * e,
        lambda e: e * -2,
        lambda e: np.int64(3) * e,
        lambda e: e * 10**4000,
        lambda e: e.rerandomise() + e,
        lambda e: sum([e, e, e]),
        lambda e: e + Ciphertext(PUBLIC, e.value),
    ],
)
@pytest.mark.parametrize("number", [MAX, -MAX, MAX // 2 + 1], ids=["most", "least", "half"])
def test_a_result_that_could_leave_the_range_is_refused_before_it_is_made(number, act):
    with pytest.raises(InvalidParameterError, match="could have overflowed"):
        act(PUBLIC.encrypt(number))


def test_the_largest_number_can_still_be_negated_kept_and_wiped_out():
    largest = PUBLIC.encrypt(MAX)
    opened = [TOY.decrypt(c) for c in (largest, -largest, largest * 1, largest * 0, sum([largest]))]
    assert opened == [MAX, -MAX, MAX, 0, MAX]


@given(parts=st.integers(1, 100), signs=st.lists(st.sampled_from([1, -1]), min_size=100))
@settings(max_examples=30)
def test_a_promised_bound_leaves_room_to_the_brim_and_no_further(parts, signs):
    bound = MAX // parts
    numbers = [sign * bound for sign in signs[:parts]]
    encrypted = [TOY.encrypt(number, bound=bound) for number in numbers]
    assert TOY.decrypt(sum(encrypted)) == sum(numbers)
    assert TOY.decrypt(encrypted[0] * parts) == numbers[0] * parts
    with pytest.raises(InvalidParameterError, match="could have overflowed"):
        sum(encrypted) + PUBLIC.encrypt(0, bound=bound)


def test_a_bound_says_nothing_of_a_number_of_up_to_64_bits():
    seen = {PUBLIC.encrypt(number).bound for number in (0, 1, -1, 3, USUAL_BOUND, -USUAL_BOUND)}
    seen |= {TOY.encrypt(np.int8(-128)).bound, PUBLIC.encrypt_with(3, 5).bound}
    assert seen == {USUAL_BOUND}
    assert PUBLIC.encrypt(USUAL_BOUND + 1).bound == PUBLIC.encrypt(-(MAX >> 40)).bound == MAX >> 40
    assert PUBLIC.encrypt((MAX >> 40) + 1).bound == MAX
    one, other = ({**vars(PUBLIC.encrypt(number)), "value": 0} for number in (3, -8))
    assert one == other


@pytest.mark.parametrize(
    "bound", [2, -1, MAX + 1, 3.0, True, "3"], ids=["2", "-1", "beyond", "3.0", "True", "text"]
)
def test_a_bound_that_cannot_be_kept_is_refused(bound):
    with pytest.raises(InvalidParameterError, match="bound"):
        PUBLIC.encrypt(3, bound=bound)
    with pytest.raises(InvalidParameterError, match="bound"):
        TOY.encrypt(3, bound=bound)


def test_a_bound_that_was_not_kept_shows_at_the_latest_on_opening():
    lie = Ciphertext(PUBLIC, PUBLIC.encrypt(1001).value, bound=1000)
    for act in (lambda: lie, lambda: lie * 7, lambda: lie + lie):
        with pytest.raises(InvalidParameterError, match="beyond its bound"):
            TOY.decrypt(act())


def test_sum_and_minus_work_on_numbers_and_on_vectors():
    numbers = [3, -8, 20, 0]
    encrypted = [PUBLIC.encrypt(number) for number in numbers]
    assert TOY.decrypt(sum(encrypted)) == 15
    assert TOY.decrypt(encrypted[0] - encrypted[1]) == 11
    assert TOY.decrypt(-encrypted[1]) == 8
    weighted = sum(weight * c for weight, c in zip([5, 1, -2, 7], encrypted, strict=True))
    assert TOY.decrypt(weighted) == 15 - 8 - 40
    rows = np.array([[1.5, -2.0], [0.25, 4.0], [-3.0, 1.0]])
    vectors = [encrypt_vector(row, TOY) for row in rows]
    np.testing.assert_array_equal(TOY.decrypt_vector(sum(vectors)), rows.sum(axis=0))
    np.testing.assert_array_equal(TOY.decrypt_vector(vectors[0] - vectors[1]), rows[0] - rows[1])
    np.testing.assert_array_equal(TOY.decrypt_vector(-vectors[0]), -rows[0])
    assert (vectors[0] - vectors[1] - vectors[2]).weight == 3


@pytest.mark.parametrize("start", [1, 0.0, False, None, "0", np.float64(0)], ids=repr)
def test_nothing_but_the_start_of_a_sum_is_added_from_the_left(start):
    for encrypted in (PUBLIC.encrypt(1), encrypt_vector(VALUES, TOY)):
        with pytest.raises(TypeError):
            start + encrypted
        for operation in (operator.add, operator.sub):
            with pytest.raises(TypeError):
                operation(encrypted, start)


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [128, 512, 1024, 2046])
def test_short_keys_are_refused_unless_named_a_toy(bits):
    with pytest.raises(InvalidParameterError, match="at least 2048"):
        PrivateKey.generate(bits)
    if bits < 2046:
        assert PrivateKey.generate(bits, toy=True).public_key.bits == bits


HUGE = 10**5000  # Python refuses to write it


@pytest.mark.parametrize(
    "bits", [64, 126, 255, 2049, 2048.0, True, "2048", 16386, HUGE, -HUGE, [HUGE]], ids=type
)
def test_keys_of_no_sensible_length_are_refused(bits):
    with pytest.raises(InvalidParameterError, match="bits"):
        PrivateKey.generate(bits, toy=True)


M61, M89, M107, M127, M521 = (2**k - 1 for k in (61, 89, 107, 127, 521))  # primes
M2203, M3217 = 2**2203 - 1, 2**3217 - 1
TWIN = next(p for p in range(M521 + 2, M521 + 2000, 2) if pow(3, p - 1, p) == 1)


@pytest.mark.parametrize("toy", [False, True])
@pytest.mark.parametrize(
    "n",
    [2**256, 15, -(2**256) + 1, 2.5, True, "15", None, M61 * M61, M521, M521**2, M2203, M127**20],
    ids=lambda n: f"{n.bit_length()} bits" if isinstance(n, int) else repr(n),
)
def test_a_modulus_that_cannot_be_one_is_refused(n, toy):
    with pytest.raises(InvalidParameterError, match="n must"):
        PublicKey(n, toy=toy)


@pytest.mark.parametrize("bits", [126, 127, 128, 255, 256, 1024, 2046, 2047])
def test_a_short_modulus_is_refused_unless_it_is_named_a_toy(bits):
    n = 2**bits - 2 ** (bits // 2) + 1  # of this length, odd, and no prime or square for these
    with pytest.raises(
        InvalidParameterError, match=f"at least 2048 bits, got {bits}; for a lesson"
    ):
        PublicKey(n)
    if bits >= 128:
        assert PublicKey(n, toy=True).bits == bits
    else:
        with pytest.raises(InvalidParameterError, match="n must have 128 bits even in a toy"):
            PublicKey(n, toy=True)


@pytest.mark.parametrize(
    ("p", "q", "said"),
    [
        (M89, M89, "different primes"),
        (M89 + 2, M107, "must be primes"),
        (M89, M61 * M61, "must be primes"),
        (M89 * M107, M127, "must be primes"),
        (1729, M521, "must be primes"),  # a Carmichael number fools Fermat's test
        (825265 * 321197185, M107, "must be primes"),
        (2, M127, "different primes"),
        (-M89, -M107, "different primes"),
        (0, M127, "different primes"),
        (1, M127, "different primes"),
        (2**200, M127, "must be primes"),
        (3, 2 * 3 * M127 + 1, "must be primes"),
        (float(M89), M107, "integers"),
        (M89, True, "integers"),
        (str(M89), M107, "integers"),
        (None, M107, "integers"),
        (np.int64(M61), M107, "integers"),
        (M61, 17, "128 bits"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value!r:.12}",
)
def test_what_are_no_two_primes_is_refused_in_a_toy_too(p, q, said):
    for one, other in ((p, q), (q, p)):
        with pytest.raises(InvalidParameterError, match=said) as caught:
            PrivateKey(one, other, toy=True)
        assert str(p) not in str(caught.value) or len(str(p)) < 5


def test_primes_of_which_one_divides_the_other_less_one_are_refused():
    p = M127
    q = next(k * p + 1 for k in range(2, 9999, 2) if pow(3, k * p, k * p + 1) == 1)
    with pytest.raises(InvalidParameterError, match="neither may divide"):
        PrivateKey(p, q, toy=True)


@pytest.mark.parametrize(("p", "q"), [(M89, M107), (M521, TWIN), (M127, M61)], ids=["a", "b", "c"])
def test_short_primes_are_refused_unless_they_are_named_a_toy(p, q):
    with pytest.raises(InvalidParameterError):
        PrivateKey(p, q)
    key = PrivateKey(p, q, toy=True)
    assert key.decrypt(key.public_key.encrypt(-7)) == -7


def test_long_primes_that_anyone_finds_are_refused(real):
    with pytest.raises(InvalidParameterError, match="same length"):
        PrivateKey(M2203, M107)  # the short one is found by trying
    p = real._p
    near = next(q for q in range(p + 2, p + 10**5, 2) if pow(3, q - 1, q) == 1)
    with pytest.raises(InvalidParameterError, match="so close"):
        PrivateKey(p, near)  # the square root of n shows both
    assert math.isqrt(p * near) - p < 10**5
    with pytest.raises(InvalidParameterError, match="primes"):
        PrivateKey(M3217 - 2**3200, M3217)
    again = PrivateKey(real._p, real._q)
    assert again.public_key == real.public_key
    assert PublicKey(real.public_key.n) == real.public_key


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
    with pytest.raises(TypeError):
        vars(TOY)


@pytest.mark.parametrize("spoil", ["decrypt", "encrypt", "encrypt_with", "vector"])
def test_no_frame_of_a_refusal_holds_a_secret(spoil):
    lie = Ciphertext(PUBLIC, PUBLIC.encrypt(1001).value, bound=1000)
    act = {
        "decrypt": lambda: TOY.decrypt(lie),
        "encrypt": lambda: TOY.encrypt(MAX + 1),
        "encrypt_with": lambda: TOY.encrypt_with(MAX + 1, 5),
        "vector": lambda: TOY.decrypt_vector(EncryptedVector((lie,), 1, 1, GRIDS[0])),
    }[spoil]
    with pytest.raises(InvalidParameterError) as caught:
        act()
    frames = [entry.frame for entry in caught.traceback if "paillier.py" in str(entry.path)]
    frames = [frame for frame in frames if not str(frame.code.path).endswith("test_paillier.py")]
    assert frames
    held = {value for frame in frames for value in frame.f_locals.values() if type(value) is int}
    assert not held & {TOY._p, TOY._q, TOY._p_factor, TOY._q_factor, TOY._p**2, TOY._q**2}


# --- what is no number, no ciphertext, or too large --------------------------------------------


@pytest.mark.parametrize("number", [1.0, "1", True, None, np.float64(1)])
def test_what_is_no_integer_is_not_encrypted(number):
    with pytest.raises(InvalidParameterError, match="must be a whole number"):
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
    "r",
    [0, TOY._p, PUBLIC.n, True, 1.5, "7", None],
    ids=["0", "p", "n", "True", "1.5", "text", "None"],
)
def test_a_random_factor_that_hides_nothing_is_refused(r):
    for key in (TOY, PUBLIC):
        with pytest.raises(InvalidParameterError, match="r must"):
            key.encrypt_with(3, r)


@pytest.mark.parametrize("other", [0, 5, None, "text", b"bytes", 2.5, [1], OTHER], ids=repr)
def test_what_is_no_ciphertext_is_not_opened(other):
    with pytest.raises(InvalidParameterError, match="must be of class Ciphertext, got"):
        TOY.decrypt(other)
    with pytest.raises(InvalidParameterError, match="must be of class EncryptedVector, got"):
        TOY.decrypt_vector(other)
    with pytest.raises(InvalidParameterError, match="public_key must be of class PublicKey"):
        Ciphertext(other, 5)
    if not isinstance(other, int):
        with pytest.raises(InvalidParameterError, match="value must be an integer"):
            Ciphertext(PUBLIC, other)


def test_a_number_without_inverse_has_no_negative():
    for value in (0, PUBLIC.n, TOY._p):
        with pytest.raises(InvalidParameterError, match="cannot be a ciphertext"):
            -Ciphertext(PUBLIC, value)


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


@pytest.mark.parametrize(
    "values", [[], np.ones((2, 2)), 3.0, ["1"], [1j], [True], [None], [[1], [2, 3]]], ids=str
)
def test_what_is_no_vector_of_real_numbers_is_refused(values):
    with pytest.raises(InvalidUpdateError, match="values must"):
        encrypt_vector(values, TOY)


def test_masked_values_are_refused():
    for values in (np.ma.masked_equal([1.0, -1.0], -1.0), np.ma.array([1.0, 2.0])):
        with pytest.raises(InvalidUpdateError, match="values is a masked array"):
            encrypt_vector(values, TOY)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "longdouble", ">f4", "i1", "u1", "i8", "u8"])
def test_every_dtype_of_real_numbers_is_encrypted_at_its_worth(dtype):
    values = np.array([0, 1, 3, 100], dtype)
    np.testing.assert_array_equal(TOY.decrypt_vector(encrypt_vector(values, TOY)), [0, 1, 3, 100])
    spread = np.arange(8).astype(dtype)[::2]
    np.testing.assert_array_equal(TOY.decrypt_vector(encrypt_vector(spread, TOY)), [0, 2, 4, 6])


def test_what_is_no_key_and_no_grid_does_not_encrypt():
    for key in (None, PUBLIC.n, b"key", aead.generate_key()):
        for packed in (True, False):
            with pytest.raises(InvalidParameterError, match="key must be a Paillier key"):
                encrypt_vector(VALUES, key, packed=packed)
        with pytest.raises(InvalidParameterError, match="key must be a Paillier key"):
            slots_per_ciphertext(key)
    for grid in (None, 16, "grid"):
        with pytest.raises(InvalidParameterError, match="grid must be of class FixedPoint"):
            encrypt_vector(VALUES, PUBLIC, grid)
        with pytest.raises(InvalidParameterError, match="grid must be of class FixedPoint"):
            slots_per_ciphertext(PUBLIC, grid)


@pytest.mark.parametrize("flag", ["no", "", 0, 1, None, [True]], ids=repr)
def test_only_a_boolean_makes_a_toy_or_packs_or_says_that_a_ciphertext_is_fresh(flag):
    for call in (
        lambda: Ciphertext(PUBLIC, 5, flag),
        lambda: encrypt_vector(VALUES, PUBLIC, packed=flag),
        lambda: PrivateKey.generate(256, toy=flag),
        lambda: PrivateKey(M89, M107, toy=flag),
        lambda: PublicKey(M89 * M107, toy=flag),
    ):
        with pytest.raises(
            InvalidParameterError, match=r"(toy|packed|fresh) must be True or False"
        ):
            call()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_packed_never_or_rightly(wrong):
    elements, numbers = np.arange(4, dtype=np.uint32), [3, 8]
    for call in (
        lambda: pack(wrong, 2),
        lambda: pack(elements, wrong),
        lambda: unpack(wrong, 2, PACKED_GRID),
        lambda: unpack([3, wrong], 2, PACKED_GRID),
        lambda: unpack(numbers, wrong, PACKED_GRID),
        lambda: unpack(numbers, 2, wrong),
        lambda: slots_per_ciphertext(wrong),
        lambda: slots_per_ciphertext(PUBLIC, wrong),
        lambda: encrypt_vector(wrong, TOY),
        lambda: encrypt_vector(VALUES[:2], wrong),
        lambda: encrypt_vector(VALUES[:2], TOY, wrong),
        lambda: encrypt_vector(VALUES[:2], TOY, packed=wrong),
        lambda: PublicKey(wrong, toy=True),
        lambda: PUBLIC.encrypt(wrong),
        lambda: PUBLIC.encrypt(1, bound=wrong),
        lambda: Ciphertext(wrong, 1),
        lambda: Ciphertext(PUBLIC, wrong),
    ):
        stands(call)


@pytest.mark.parametrize("elements", [[1, 2], np.ones(2), np.ones((2, 2), np.uint32), np.uint32(1)])
def test_only_a_vector_of_ring_elements_is_packed(elements):
    with pytest.raises(InvalidParameterError, match="elements must be a vector of uint32 or"):
        pack(elements, 2)


def test_big_endian_elements_are_packed_alike():
    elements = np.array([3, 8, 2**32 - 1], np.uint32)
    assert pack(elements.astype(">u4"), 2) == pack(elements, 2)


@pytest.mark.parametrize("factor", [2, np.int8(2), np.int64(2), np.uint64(2)], ids=type)
def test_an_integer_of_numpy_is_a_factor_on_either_side(factor):
    for product in (PUBLIC.encrypt(-3) * factor, factor * PUBLIC.encrypt(-3)):
        assert TOY.decrypt(product) == -6
    vector = encrypt_vector(VALUES, TOY)
    for product in (vector * factor, factor * vector):
        np.testing.assert_array_equal(TOY.decrypt_vector(product), 2 * TOY.decrypt_vector(vector))


@pytest.mark.parametrize("array", [np.array([1, 2]), np.array([0.5]), np.array(2), np.ones((2, 2))])
def test_no_array_computes_with_a_ciphertext_or_a_vector(array):
    """It would make an array of them, one for each of its entries."""
    for encrypted in (PUBLIC.encrypt(3), encrypt_vector(VALUES, TOY)):
        for operation in (operator.add, operator.sub, operator.mul, operator.truediv, np.multiply):
            for operands in ((array, encrypted), (encrypted, array)):
                with pytest.raises(TypeError):
                    operation(*operands)


def test_vectors_that_do_not_fit_each_other_are_refused():
    vector = encrypt_vector(VALUES, TOY)
    for other in (
        encrypt_vector(VALUES[:-1], TOY),
        encrypt_vector(VALUES, TOY, packed=False),
        encrypt_vector(VALUES, TOY, FixedPoint(fraction_bits=15, bits=26, ring_bits=32)),
    ):
        with pytest.raises(InvalidParameterError, match="vectors differ in"):
            vector + other
    for factor in (0.5, True, "2", np.timedelta64(2)):
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


@pytest.mark.parametrize("data", [None, "text", 5, 10**12, [1, 2], 2.5, TOY], ids=lambda d: repr(d))
def test_what_are_no_bytes_is_refused_by_type(data):
    with pytest.raises(InvalidParameterError, match="must be bytes"):
        PUBLIC.read(data)


@given(data=st.binary(max_size=200), cut=st.integers(0, 70), claims=st.binary(max_size=19))
@settings(max_examples=200)
def test_junk_and_absurd_claims_are_refused_by_type(data, cut, claims):
    good = encrypt_vector(VALUES[:3], TOY).to_bytes()
    head = len(good) % PUBLIC.ciphertext_bytes
    for bad in (
        data,
        good[:cut] + data,
        good[:21] + claims.ljust(head - 21, b"\xff") + good[head:],
    ):
        if bad != good:
            with pytest.raises(WireFormatError):
                PUBLIC.read(bad)


def test_a_received_vector_counts_its_bound_as_the_sender_s_does():
    vector = encrypt_vector(VALUES, TOY) * 64
    received = PUBLIC.read(vector.to_bytes())
    assert [c.bound for c in received.ciphertexts] == [c.bound for c in vector.ciphertexts]
    assert 0 < vector.ciphertexts[0].bound < MAX
    with pytest.raises(InvalidParameterError, match="could wrap around"):
        received + vector
    np.testing.assert_array_equal(
        TOY.decrypt_vector(received), 64 * TOY.decrypt_vector(vector) / 64
    )


@pytest.mark.parametrize("grid", GRIDS, ids=["32-bit slots", "64-bit slots"])
@pytest.mark.parametrize("key", [TOY, PrivateKey.generate(128, toy=True)], ids=["256", "128"])
def test_full_slots_of_both_signs_stay_within_the_bound_of_their_ciphertext(grid, key):
    room = (grid.modulus - 1) // (2**grid.bits - 1)
    num_slots = slots_per_ciphertext(key, grid)
    for sign in (1, -1):
        vector = encrypt_vector(np.full(num_slots, sign * grid.largest), key, grid) * room
        np.testing.assert_array_equal(key.decrypt_vector(vector), room * sign * grid.largest)
