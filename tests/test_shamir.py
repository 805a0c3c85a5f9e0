"""Sharing a secret: any t of n recover it, fewer learn nothing, wrong shares are named."""

import itertools
import pickle
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.crypto import shamir
from fltutor.crypto.shamir import (
    PRIME,
    SHARE_BYTES,
    Share,
    combine,
    interpolation_weights,
    least_overlap,
    require_committed,
    split,
    split_with,
)
from fltutor.errors import AuthenticationError, InvalidParameterError, WireFormatError

SECRET = bytes(range(100, 132))


def altered(share, **changes):
    fields = {name: getattr(share, name) for name in ("number", "threshold", "value", "salt")}
    return Share(**fields | changes)


def is_probable_prime(number, rounds=20):
    """Miller and Rabin; a composite passes with probability below 4**-rounds."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(rounds):
        x = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if x not in (1, number - 1) and not any(
            (x := x * x % number) == number - 1 for _ in range(twos - 1)
        ):
            return False
    return True


def test_the_field_is_a_field():
    assert is_probable_prime(PRIME)
    assert not is_probable_prime(2**523 - 1)


def test_the_values_are_the_polynomial_by_hand():
    shares = split_with(bytes(31) + bytes([42]), [PRIME - 10, 3], bytes(32 * 4))
    assert [share.value for share in shares] == [
        (42 - 10 * x + 3 * x * x) % PRIME for x in range(1, 5)
    ]
    assert [(share.number, share.threshold) for share in shares] == [(x, 3) for x in range(1, 5)]


def test_a_long_polynomial_has_the_values_of_its_powers():
    coefficients = [secrets.randbelow(PRIME) for _ in range(79)]
    for share in split_with(SECRET, coefficients, bytes(32 * 300))[::37]:
        powers = (c * pow(share.number, k, PRIME) for k, c in enumerate(coefficients, start=1))
        assert share.value == (int.from_bytes(SECRET, "big") + sum(powers)) % PRIME


@pytest.mark.parametrize(("threshold", "num_shares"), [(2, 2), (2, 4), (3, 5), (5, 5)])
def test_any_threshold_of_shares_recover_the_secret(threshold, num_shares):
    shares = split(SECRET, threshold, num_shares)
    for size in range(threshold, num_shares + 1):
        for some in itertools.permutations(shares, size):
            assert combine(some) == SECRET


@settings(max_examples=50)
@given(st.data())
def test_any_secret_any_threshold_any_survivors(data):
    secret = data.draw(st.binary(min_size=32, max_size=32))
    num_shares = data.draw(st.integers(2, 20))
    threshold = data.draw(st.integers(2, num_shares))
    shares = split(secret, threshold, num_shares)
    numbers = data.draw(st.permutations(range(num_shares)))[:threshold]
    assert combine([shares[number] for number in numbers]) == secret


def test_with_one_share_too_few_every_secret_is_equally_possible():
    """For each other secret there is exactly one polynomial through the t - 1 shares seen."""
    threshold, seen = 3, split(SECRET, 3, 5)[:2]
    for other in (bytes(32), b"\xff" * 32, secrets.token_bytes(32)):
        points = {0: int.from_bytes(other, "big")} | {share.number: share.value for share in seen}
        third = 0  # the value at 3 of the parabola through the secret at 0 and both shares
        for x, y in points.items():
            weight = y
            for z in points:
                if z != x:
                    weight = weight * (3 - z) * pow(x - z, -1, PRIME) % PRIME
            third = (third + weight) % PRIME
        assert combine([*seen, Share(3, threshold, third, bytes(32))]) == other


def test_two_dealings_of_one_secret_share_nothing():
    values = {share.value for _ in range(50) for share in split(SECRET, 2, 3)}
    salts = {share.salt for _ in range(50) for share in split(SECRET, 2, 3)}
    assert len(values) == len(salts) == 150


def test_fewer_shares_than_the_threshold_are_refused():
    with pytest.raises(InvalidParameterError, match="at least the threshold of 3, got 2"):
        combine(split(SECRET, 3, 5)[:2])
    with pytest.raises(InvalidParameterError, match="at least one share, got none"):
        combine([])


def test_shares_that_lie_about_the_threshold_do_not_help():
    lying = [altered(share, threshold=2) for share in split(SECRET, 3, 5)[:2]]
    with pytest.raises(InvalidParameterError, match="do not belong to one secret"):
        combine(lying)


def test_a_duplicate_share_is_refused_and_named():
    shares = split(SECRET, 2, 3)
    with pytest.raises(InvalidParameterError, match="number 2 more than once"):
        combine([shares[1], shares[0], shares[1]])


def test_a_foreign_share_is_refused():
    mine, other = split(SECRET, 2, 3), split(SECRET, 2, 3)
    with pytest.raises(InvalidParameterError, match="shares 1, 2 do not belong to one secret"):
        combine([mine[0], other[1]])
    with pytest.raises(InvalidParameterError, match=r"their thresholds are \[2, 3\]"):
        combine([mine[0], split(SECRET, 3, 3)[1]])


@pytest.mark.parametrize("wrong", range(5))
def test_one_altered_share_among_more_than_enough_is_noticed(wrong):
    shares = split(SECRET, 2, 5)
    shares[wrong] = altered(shares[wrong], value=(shares[wrong].value + 1) % PRIME)
    with pytest.raises(InvalidParameterError, match="belong to"):
        combine(shares)


def test_altering_one_of_exactly_enough_shares_moves_the_secret_and_only_the_commitment_tells():
    shares = split(SECRET, 2, 5)
    liar = altered(shares[0], value=(shares[0].value + 1) % PRIME)
    moved = int.from_bytes(combine([liar, shares[1]]), "big")
    assert moved == int.from_bytes(SECRET, "big") + 2  # the weight of share 1 beside share 2
    with pytest.raises(AuthenticationError):
        require_committed(liar, shares[0].commitment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(number=0), "number must be in 1 to 65535"),
        (dict(number=2**16), "number must be in 1 to 65535"),
        (dict(threshold=1), "threshold must be in 2 to 65535, got 1"),
        (dict(value=PRIME), "value must be in 0 to PRIME - 1"),
        (dict(value=-1), "value must be in 0 to PRIME - 1"),
        (dict(salt=b"short"), "salt must be 32 bytes, got 5"),
        (dict(number="1"), "must be integers"),
        (dict(number=True), "must be integers"),
        (dict(threshold=2.0), "must be integers"),
        (dict(value=None), "must be integers"),
        (dict(salt="a" * 32), "salt must be bytes, got str"),
        (dict(salt=None), "salt must be bytes, got NoneType"),
    ],
    ids=str,
)
def test_a_share_out_of_range_is_refused(changes, message):
    with pytest.raises(InvalidParameterError, match=message):
        altered(split(SECRET, 2, 3)[0], **changes)


@pytest.mark.parametrize(
    ("threshold", "num_shares"),
    [(1, 3), (4, 3), (0, 0), (-1, 3), (2, 2**16), (2.0, 3), (2, True)],
)
def test_a_threshold_that_shares_nothing_is_refused(threshold, num_shares):
    with pytest.raises(InvalidParameterError, match=r"threshold|num_shares"):
        split(SECRET, threshold, num_shares)


@pytest.mark.parametrize("secret", [bytes(31), bytes(33), b"", "a" * 32, 7])
def test_a_secret_that_is_not_32_bytes_is_refused(secret):
    with pytest.raises(InvalidParameterError, match="secret must be"):
        split(secret, 2, 3)


def test_a_share_travels_as_bytes():
    for share in split(SECRET, 2, 3):
        assert len(share.to_bytes()) == SHARE_BYTES
        assert Share.from_bytes(share.to_bytes()) == share


def test_bytes_that_are_no_share_are_refused():
    data = split(SECRET, 2, 3)[0].to_bytes()
    for wrong in (*(data[:length] for length in range(len(data))), data + b"\0"):
        with pytest.raises(WireFormatError, match=f"must be {SHARE_BYTES} bytes, got {len(wrong)}"):
            Share.from_bytes(wrong)
    with pytest.raises(WireFormatError, match="value must be"):
        Share.from_bytes(data[:4] + b"\xff" * 66 + data[70:])
    with pytest.raises(WireFormatError, match="number must be"):
        Share.from_bytes(bytes(2) + data[2:])


def test_every_flipped_bit_breaks_the_commitment():
    share = split(SECRET, 2, 3)[0]
    commitment, data = share.commitment, share.to_bytes()
    refused = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            wrong = Share.from_bytes(bytes(flipped))
        except WireFormatError:
            refused += 1
            continue
        with pytest.raises(AuthenticationError, match="my share is not the one that was dealt"):
            require_committed(wrong, commitment, whose="my share")
    assert refused < 32  # most bits make another well-formed share, which the hash refuses


def test_a_share_of_another_dealing_breaks_the_commitment():
    mine, other = split(SECRET, 2, 3)[0], split(SECRET, 2, 3)[0]
    require_committed(mine, mine.commitment)
    with pytest.raises(AuthenticationError):
        require_committed(other, mine.commitment)


def test_a_commitment_tells_nothing_without_the_salt():
    """The same value under another salt has another commitment: guesses cannot be checked."""
    share = split(SECRET, 2, 3)[0]
    assert altered(share, salt=bytes(32)).commitment != share.commitment


def test_no_text_shows_a_secret():
    shares = split(SECRET, 2, 3)
    shown = [repr(shares), str(shares[0])]
    for bad in ([shares[0]], [shares[0], shares[0]], [shares[0], split(SECRET, 2, 3)[1]]):
        with pytest.raises(InvalidParameterError) as refusal:
            combine(bad)
        shown.append(str(refusal.value))
    for text in shown:
        for share in shares:
            assert str(share.value)[:20] not in text
            assert f"{share.value:x}"[:20] not in text
            assert share.salt.hex()[:20] not in text
    assert repr(shares[0]) == "Share(number=1, threshold=2)"


def test_weights_are_computed_once_for_a_set_of_survivors():
    interpolation_weights.cache_clear()
    for _ in range(3):
        combine(split(SECRET, 3, 5)[1:4])
    info = interpolation_weights.cache_info()
    assert (info.misses, info.hits) == (1, 2)


def test_weights_sum_to_one():
    """They recover constants: the polynomial that is 1 everywhere is 1 at 0."""
    assert sum(interpolation_weights((1, 5, 9, 100))) % PRIME == 1


def test_shares_can_be_stored():
    share = split(SECRET, 2, 3)[0]
    assert pickle.loads(pickle.dumps(share)) == share


def test_the_limit_of_shares_fits_the_wire():
    assert shamir.MAX_SHARES == 2**16 - 1


NO_SHARES = [None, "share", b"bytes", 5, [None], ["share"], [b"bytes", b"bytes"], {1: 2}]


@pytest.mark.parametrize("shares", NO_SHARES, ids=str)
def test_what_is_no_share_is_refused_by_a_typed_error(shares):
    with pytest.raises(InvalidParameterError, match="shares must be Shares"):
        combine(shares)
    for share in shares if isinstance(shares, list) else [shares]:
        with pytest.raises(AuthenticationError, match="my share is no Share"):
            require_committed(share, bytes(32), "my share")


@pytest.mark.parametrize("commitment", [None, "c" * 32, "é" * 16, 5, bytes(31), bytearray(32)])
def test_what_is_no_commitment_commits_to_nothing(commitment):
    with pytest.raises(AuthenticationError, match="differs from the commitment"):
        require_committed(split(SECRET, 2, 3)[0], commitment)


@pytest.mark.parametrize("data", [None, "a" * SHARE_BYTES, 5, [0] * SHARE_BYTES], ids=type)
def test_what_is_no_bytes_is_no_share(data):
    with pytest.raises(WireFormatError, match="a share must be bytes"):
        Share.from_bytes(data)


@pytest.mark.parametrize("n", range(2, 9))
def test_any_two_groups_of_the_threshold_have_so_many_in_common(n):
    """Every pair of groups is looked at."""
    for t in range(1, n + 1):
        groups = [set(group) for group in itertools.combinations(range(n), t)]
        assert least_overlap(t, n) == min(len(a & b) for a in groups for b in groups)


HUGE = 10**5000
"""Python refuses to write an integer of more than 4300 digits."""

NOT_DEALT = {
    "no coefficients": lambda: split_with(SECRET, None, bytes(96)),
    "floats": lambda: split_with(SECRET, [1.5], bytes(96)),
    "booleans": lambda: split_with(SECRET, [True], bytes(96)),
    "a negative": lambda: split_with(SECRET, [-5], bytes(96)),
    "beyond the prime": lambda: split_with(SECRET, [PRIME], bytes(96)),
    "a huge one": lambda: split_with(SECRET, [HUGE], bytes(96)),
    "no salts": lambda: split_with(SECRET, [1], None),
    "half a salt": lambda: split_with(SECRET, [1], bytes(95)),
    "nobody": lambda: split_with(SECRET, [1], b""),
    "huge number": lambda: Share(HUGE, 2, 0, bytes(32)),
    "huge negative": lambda: Share(-HUGE, 2, 0, bytes(32)),
    "huge threshold": lambda: Share(1, HUGE, 0, bytes(32)),
    "huge value": lambda: Share(1, 2, HUGE, bytes(32)),
    "split among many": lambda: split(SECRET, 2, HUGE),
    "split with a high threshold": lambda: split(SECRET, HUGE, 3),
    "split with a low threshold": lambda: split(SECRET, -HUGE, 3),
    "one number twice": lambda: interpolation_weights((1, 1, 2)),
    "two equal": lambda: interpolation_weights((1, 1)),
    "a number too large": lambda: interpolation_weights((1, 2**16)),
    "text": lambda: interpolation_weights(("1", "2")),
    "one number": lambda: interpolation_weights(5),
}


@pytest.mark.parametrize("call", NOT_DEALT.values(), ids=NOT_DEALT)
def test_what_no_dealer_and_no_holder_has_is_refused_and_not_shown(call):
    with pytest.raises(InvalidParameterError) as refusal:
        call()
    assert str(PRIME) not in str(refusal.value)


def test_a_list_of_numbers_has_the_weights_of_the_tuple():
    assert interpolation_weights([1, 5, 9]) == interpolation_weights((1, 5, 9))
