"""Keys through a server: an honest one reads nothing, a swapping one all, signatures stop it."""

import copy
import hashlib
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from fltutor.crypto.exchange import (
    Announcement,
    Client,
    Server,
    SwappingServer,
    exchange_keys,
    fingerprint,
    pair_key,
)
from fltutor.crypto.keys import Directory, Identity, KeyPair, Label, Party, agree, derive
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    WireFormatError,
)
from tests.hostile import WRONG, stands


def numbers(num_clients):
    return np.random.default_rng(1).normal(size=(num_clients, 4))


# --- who reads what -----------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("num_clients", [2, 5, 10])
def test_an_honest_server_reads_nothing_and_every_pair_shares_a_key(num_clients, signed):
    exchange = exchange_keys(numbers(num_clients), 0, signed)
    off_diagonal = ~np.eye(num_clients, dtype=bool)
    np.testing.assert_array_equal(exchange.fingerprints, exchange.fingerprints.T)
    np.testing.assert_array_equal(exchange.delivered, off_diagonal)
    assert exchange.overheard == {}
    assert exchange.refusals == ()
    pairs = exchange.fingerprints[np.triu(off_diagonal)]
    assert len(set(pairs)) == exchange.num_messages // 2  # and no two pairs the same one


@pytest.mark.parametrize("num_victims", [1, 3, 6])
def test_a_swapping_server_reads_every_message_to_or_from_a_victim(num_victims):
    updates = numbers(6)
    exchange = exchange_keys(updates, num_victims)
    touched = {pair for pair in permutations(range(6), 2) if min(pair) < num_victims}
    assert len(touched) == 30 - (6 - num_victims) * (5 - num_victims)
    assert set(exchange.overheard) == touched
    for (sender, _), read in exchange.overheard.items():
        np.testing.assert_array_equal(read, updates[sender])
    assert exchange.delivered.sum() == 30  # nobody notices
    for one, other in permutations(range(6), 2):
        same = exchange.fingerprints[one, other] == exchange.fingerprints[other, one]
        assert same == ((one, other) not in touched)


@pytest.mark.parametrize("num_victims", [1, 3, 6])
def test_signed_keys_lock_the_swapping_server_out(num_victims):
    exchange = exchange_keys(numbers(6), num_victims, signed=True)
    others = 6 - num_victims
    assert exchange.overheard == {}
    assert exchange.delivered.sum() == others * (others - 1)
    assert len(exchange.refusals) == 30 - others * (others - 1)
    assert all("did not sign" in refusal for refusal in exchange.refusals)
    assert (exchange.fingerprints[:num_victims] == -1).all()


def test_more_victims_than_clients_are_all_clients():
    assert exchange_keys(numbers(3), 10).num_victims == 3


def test_tensors_of_any_shape_arrive_and_are_read_as_they_were_sent():
    updates = [np.array(3), np.array([[np.nan, 1.0]], np.float32), np.arange(5)]
    exchange = exchange_keys(updates, num_victims=3, round_number=7)
    assert exchange.delivered.sum() == 6
    for (sender, _), read in exchange.overheard.items():
        np.testing.assert_array_equal(read, updates[sender])
        assert read.dtype == updates[sender].dtype


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"updates": numbers(1)}, "updates must be of 2 clients or more, got 1"),
        ({"num_victims": -1}, "num_victims must be a whole number of at least 0, got -1"),
        ({"num_victims": 1.0}, "num_victims must be a whole number of at least 0, got 1.0"),
        ({"num_victims": True}, "num_victims must be a whole number of at least 0, got True"),
        ({"round_number": "3"}, "round_number must be a whole number from 0 to .*, got '3'"),
        ({"round_number": 10**5000}, "round_number must be .*, got an integer of 16610 bits"),
        ({"signed": "no"}, "signed must be True or False, got 'no'"),
        ({"signed": 0}, "signed must be True or False, got 0"),
        ({"updates": ["one", "two"]}, "the update of client 0 must be of a known"),
    ],
)
def test_an_exchange_of_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        exchange_keys(**{"updates": numbers(3)} | arguments)


def test_two_exchanges_are_compared_without_an_error():
    one, other = exchange_keys(numbers(2)), exchange_keys(numbers(2))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


# --- clients ------------------------------------------------------------------------------------


@pytest.fixture
def identities():
    return [Identity.generate(name) for name in "ab"]


@pytest.fixture
def directory(identities):
    return Directory(identity.public for identity in identities)


def test_one_key_under_two_names_is_refused():
    """Why the swapping server draws a fresh pair for each end."""
    one, other, me = (Client(Identity.generate(name), None) for name in "abc")
    fake = KeyPair.generate().public_key
    me.meet(replace(one.announce(), key=fake))
    with pytest.raises(AuthenticationError, match="'b' announces the key of another client"):
        me.meet(replace(other.announce(), key=fake))
    assert not me.knows("b")
    server = SwappingServer(["a", "b", "c"])
    assert len({server.announce(client.announce(), "c").key for client in (one, other)}) == 2


def test_a_client_that_verifies_refuses_another_name_key_round_or_no_signature(
    identities, directory
):
    announcement = Client(identities[0], directory, round_number=3).announce()
    me = Client(Identity.generate("c"), directory, round_number=3)
    for changes in (
        {"name": "b"},
        {"name": "stranger"},
        {"key": KeyPair.generate().public_key},
        {"round_number": 4},
        {"signature": b""},
    ):
        with pytest.raises(AuthenticationError):
            me.meet(replace(announcement, **changes))
        assert not me.knows("a")
    me.meet(announcement)
    assert me.knows("a")


def test_a_genuine_signature_of_another_round_is_refused(identities, directory):
    one, other = identities
    me = Client(other, directory, round_number=3)
    with pytest.raises(AuthenticationError, match="a key of round 2, needed round 3"):
        me.meet(Client(one, directory, round_number=2).announce())
    assert not me.knows("a")


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"key": bytes(32)}, "all-zero secret"), ({"name": "c"}, "must differ in name")],
)
def test_a_worthless_key_or_my_own_name_is_refused_and_the_right_one_still_comes(changes, why):
    peer, me = (Client(Identity.generate(name), None) for name in "ac")
    with pytest.raises(AuthenticationError, match=f"is refused: .*{why}"):
        me.meet(replace(peer.announce(), **changes))
    me.meet(peer.announce())
    assert me.knows("a")
    with pytest.raises(AuthenticationError, match="is my own"):
        me.meet(replace(peer.announce(), key=me.announce().key))


def test_a_message_opens_for_its_receiver_only_and_only_once_keys_are_agreed():
    one, two, three = (Client(Identity.generate(name), None) for name in "abc")
    for use in (lambda: one.seal(np.ones(2), "b"), lambda: one.fingerprint("b")):
        with pytest.raises(InvalidParameterError, match="'a' has agreed on no key with 'b'"):
            use()
    for client, peer in permutations((one, two, three), 2):
        client.meet(peer.announce())
    message = one.seal(np.ones(2), "b")
    assert two.open(message, "a").tolist() == [1.0, 1.0]
    for client, peer in ((one, "b"), (two, "c"), (three, "a")):  # sent back, or not for them
        with pytest.raises(AuthenticationError):
            client.open(message, peer)
    with pytest.raises(AuthenticationError):
        two.open(message[:-1] + bytes([message[-1] ^ 1]), "a")
    with pytest.raises(WireFormatError):
        two.open(b"", "a")


def test_a_client_is_not_copied(identities, directory):
    with pytest.raises(CopyRefusedError):
        copy.deepcopy(Client(identities[0], directory))


def test_a_client_signs_only_if_signatures_count(identities, directory):
    assert Client(identities[0], None).announce().signature == b""
    signed = Client(identities[0], directory, round_number=5).announce()
    assert signed.message == {"round": 5, "key": signed.key}
    directory.find("a").verify(signed.signature, signed.message, purpose="announce key")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "a name must be 1 to 255 bytes"),
        ({"key": bytes(31)}, "the public key of 'a' must be 32 bytes, got 31"),
        ({"key": "key"}, "the public key of 'a' must be bytes, got str"),
        ({"round_number": 1.5}, "round_number must be a whole number from 0 to .*, got 1.5"),
        ({"round_number": False}, "round_number must be a whole number from 0 to .*, got False"),
        ({"round_number": -1}, "round_number must be a whole number from 0 to .*, got -1"),
        ({"round_number": 2**63}, "round_number must be a whole number from 0 to .*, got 9223"),
        ({"round_number": 10**5000}, "round_number must be .*, got an integer of 16610 bits"),
    ],
)
def test_an_announcement_of_nobodys_key_is_refused(changes, message):
    with pytest.raises(InvalidParameterError, match=message):
        Announcement(**{"name": "a", "key": bytes(32)} | changes)


# --- servers and keys ---------------------------------------------------------------------------


def test_a_server_passes_on_what_it_cannot_read():
    one, two = (Client(Identity.generate(name), None) for name in "ab")
    one.meet(two.announce())
    message = one.seal(np.ones(2), "b")
    for server in (Server(), SwappingServer([]), SwappingServer(["a"])):
        assert server.carry(message, "a", "b") == message
        assert server.overheard("a", "b") is None
    server.announce(one.announce(), "b")  # one way only: b's key came to a unseen
    assert server.carry(message, "a", "b") == message


def test_a_swapping_server_notices_a_key_that_it_did_not_give():
    one, two = (Client(Identity.generate(name), None) for name in "ab")
    server = SwappingServer(["a"])
    server.announce(one.announce(), "b")
    server.announce(two.announce(), "a")
    one.meet(two.announce())  # past the server
    with pytest.raises(AuthenticationError):
        server.carry(one.seal(np.ones(2), "b"), "a", "b")
    assert server.overheard("a", "b") is None


def test_victims_are_a_list_of_names():
    with pytest.raises(InvalidParameterError, match="victims must be a list of names, got one"):
        SwappingServer("client 1")


def test_a_pair_key_is_of_one_round_and_both_ends_derive_it():
    one, two = KeyPair.generate(), KeyPair.generate()
    keys = {
        pair_key(one, "a", Announcement("b", two.public_key, number)) for number in (0, 1, 2)
    } | {pair_key(two, "b", Announcement("a", one.public_key, number)) for number in (0, 1, 2)}
    assert len(keys) == 3
    ends = Party("a", one.public_key), Party("b", two.public_key)
    label = Label.between("pair key", *ends, round_number=2)
    assert derive(agree(one, two.public_key), label) in keys


def test_a_fingerprint_is_sixty_bits_of_sha256():
    key = bytes(range(32))
    assert f"{fingerprint(key):015x}" == hashlib.sha256(key).hexdigest()[:15]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(identities, directory, wrong):
    one, two = (Client(identity, directory) for identity in identities)
    one.meet(two.announce())
    two.meet(one.announce())
    good, message = one.announce(), one.seal(np.ones(2), "b")
    server, pair = SwappingServer(["a"]), KeyPair.generate()
    server.announce(good, "b")
    server.announce(two.announce(), "a")
    fields = {"name": "a", "key": good.key, "round_number": 0, "signature": b""}
    for call in (
        *(
            lambda field=field: two.meet(Announcement(**fields | {field: wrong}))
            for field in fields
        ),
        lambda: Client(wrong, directory),
        lambda: Client(identities[0], wrong),
        lambda: Client(identities[0], directory, round_number=wrong),
        lambda: one.meet(wrong),
        lambda: one.knows(wrong),
        lambda: one.fingerprint(wrong),
        lambda: one.seal(wrong, "b"),
        lambda: one.seal(np.ones(2), wrong),
        lambda: two.open(wrong, "a"),
        lambda: two.open(message, wrong),
        lambda: SwappingServer(wrong),
        lambda: SwappingServer([wrong]),
        lambda: server.announce(wrong, "b"),
        lambda: server.announce(good, wrong),
        lambda: server.carry(wrong, "a", "b"),
        lambda: server.carry(message, wrong, "b"),
        lambda: server.carry(message, "a", wrong),
        lambda: pair_key(wrong, "me", good),
        lambda: pair_key(pair, wrong, good),
        lambda: pair_key(pair, "me", wrong),
        lambda: fingerprint(wrong),
        lambda: exchange_keys(wrong),
        lambda: exchange_keys([np.ones(2), wrong]),
        lambda: exchange_keys(numbers(2), wrong),
        lambda: exchange_keys(numbers(2), signed=wrong),
        lambda: exchange_keys(numbers(2), round_number=wrong),
    ):
        stands(call)
    np.testing.assert_array_equal(two.open(message, "a"), np.ones(2))


def test_masked_updates_are_refused_by_client_before_any_key_is_drawn(monkeypatch):
    masked = np.ma.masked_equal(np.eye(3), 1.0)
    monkeypatch.setattr(Identity, "generate", lambda name: pytest.fail("too late"))
    with pytest.raises(InvalidParameterError, match="updates is a masked array"):
        exchange_keys(masked)
    with pytest.raises(InvalidParameterError, match="the update of client 1 is a masked array"):
        exchange_keys([np.ones(3), masked[1]])


def test_ones_own_key_and_a_key_of_another_do_not_pass_with_the_top_bit_flipped(identities):
    one, other = (Client(identity, None) for identity in identities)
    for announced in (one.announce(), other.announce()):
        key = announced.key[:-1] + bytes([announced.key[-1] ^ 0x80])
        with pytest.raises(InvalidParameterError, match="a second way to write"):
            one.meet(replace(announced, key=key))
    assert not one.knows("b")
