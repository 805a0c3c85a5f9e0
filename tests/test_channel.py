"""The channel: what it carries, what it refuses, and a real attacker on a real wire."""

import copy
import itertools
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.crypto import channel as channel_module
from fltutor.crypto.channel import (
    HANDSHAKE_LIMIT,
    Channel,
    Initiator,
    Responder,
    SocketLine,
    accept,
    connect,
)
from fltutor.crypto.keys import Directory, Identity, KeyPair, PublicIdentity
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    FltutorError,
    InvalidParameterError,
    KeyExhaustedError,
    WireFormatError,
)
from fltutor.protocols import Sessions, encrypted_sum
from fltutor.transcript import Phase
from tests import channel_parties
from tests.hostile import WRONG, buffers_of, frames_of, in_a_fork, needs_fork, stands

ALICE, BOB, CAROL = (Identity.generate(name) for name in ("alice", "bob", "carol"))
DIRECTORY = Directory(party.public for party in (ALICE, BOB, CAROL))
ROUND = {"round": 3}


@pytest.fixture
def update():
    return np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def shake_hands(one=ALICE, other=BOB, **occasion):
    """Both ends of a fresh session, and the four messages that made it."""
    initiator = Initiator(one, other.name, DIRECTORY, **occasion)
    responder = Responder(other, DIRECTORY, **occasion)
    hello = initiator.hello()
    answer = responder.answer(hello)
    proof = initiator.proof(answer)
    finished, theirs = responder.finish(proof)
    return initiator.finish(finished), theirs, (hello, answer, proof, finished)


@pytest.fixture
def ends():
    return shake_hands()[:2]


def assert_still_works(alice, bob, update):
    for sender, receiver in ((alice, bob), (bob, alice)):
        np.testing.assert_array_equal(receiver.open(sender.seal(update, ROUND), ROUND), update)


# --- what it carries ------------------------------------------------------------------------------


def test_tensors_and_models_come_back_equal_in_order_and_both_ways(ends, update):
    alice, bob = ends
    sent = [update, np.array(3), [update, np.arange(5)], np.zeros((0, 2)), [np.float64(1)]]
    for sender, receiver in ((alice, bob), (bob, alice)):
        messages = [sender.seal(tensors, ROUND) for tensors in sent]
        for message, tensors in zip(messages, sent, strict=True):
            opened = receiver.open(message, ROUND)
            assert isinstance(opened, list) == isinstance(tensors, list)
            pairs = (
                zip(opened, tensors, strict=True)
                if isinstance(opened, list)
                else [(opened, tensors)]
            )
            for got, expected in pairs:
                np.testing.assert_array_equal(got, expected, strict=True)


def test_both_ends_know_each_other_and_the_session(ends):
    alice, bob = ends
    assert (alice.me, alice.peer) == (bob.peer, bob.me) == ("alice", "bob")
    assert alice.session == bob.session
    assert repr(alice) == f"Channel('alice' to 'bob', session {alice.session}, 0 sealed, 0 opened)"


def test_one_key_per_direction_and_new_keys_for_every_session(ends):
    sealed = set()
    for alice, bob in (ends, shake_hands()[:2], shake_hands(round_number=1)[:2]):
        for sender, receiver in ((alice, bob), (bob, alice)):
            raw = []
            for key in (sender._keys.to_seal, receiver._keys.to_open):
                out = bytearray(32)
                key._cipher.encrypt_into(bytes(12), bytes(16), None, out)
                raw.append(bytes(out))
            assert raw[0] == raw[1]  # the two ends of one direction share a key
            sealed.add(raw[0])
    assert len(sealed) == 6


def test_a_restart_means_a_new_session_key(ends, update):
    alice, bob = ends
    old = alice.seal(update)
    alice_again, bob_again, _ = shake_hands()
    with pytest.raises(AuthenticationError, match="message 0 refused"):
        bob_again.open(old)
    assert alice_again.session != alice.session
    assert_still_works(alice_again, bob_again, update)
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(CopyRefusedError, match="connect again"):
            duplicate(bob)


def test_the_private_keys_of_a_session_are_forgotten():
    initiator, responder = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    finished, _ = responder.finish(initiator.proof(responder.answer(initiator.hello())))
    initiator.finish(finished)
    assert initiator._pair is responder._pair is None


# --- what it refuses, and the window stays as it was --------------------------------------------


def test_a_replay_is_refused_and_the_window_stays_as_it_was(ends, update):
    alice, bob = ends
    first, second = alice.seal(update), alice.seal(update)
    bob.open(first)
    for _ in range(3):
        with pytest.raises(AuthenticationError, match="message 0 from 'alice' refused: it came"):
            bob.open(first)
    bob.open(second)
    with pytest.raises(AuthenticationError, match="needed message 2"):
        bob.open(second)
    assert_still_works(alice, bob, update)


def test_a_reflection_is_refused_and_the_window_stays_as_it_was(ends, update):
    alice, bob = ends
    message = alice.seal(update)
    with pytest.raises(AuthenticationError, match="'bob' did not seal this"):
        alice.open(message)
    bob.open(message)
    assert_still_works(alice, bob, update)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:], ids=str)
def test_a_reordering_is_refused_and_the_window_stays_as_it_was(ends, update, order):
    alice, bob = ends
    messages = [alice.seal(update + number) for number in range(3)]
    with pytest.raises(AuthenticationError, match="refused: it"):
        [bob.open(messages[number]) for number in order]
    due = bob._num_opened
    for number in range(due, 3):  # whoever delivers in order is heard
        np.testing.assert_array_equal(bob.open(messages[number]), update + number)
    assert_still_works(alice, bob, update)


def test_a_renumbered_message_is_refused(ends, update):
    alice, bob = ends
    first, second = alice.seal(update), alice.seal(update)
    with pytest.raises(AuthenticationError, match="message 0 refused: 'alice' did"):
        bob.open(first[:8] + second[8:])
    bob.open(first)
    with pytest.raises(AuthenticationError, match="message 1 refused: 'alice' did"):
        bob.open(second[:8] + first[8:])
    bob.open(second)


def test_a_message_of_an_earlier_round_is_refused_and_the_window_stays_as_it_was(ends, update):
    alice, bob = ends
    message = alice.seal(update, {"round": 2})
    for other in (ROUND, None, {}, {"round": "2"}, {"round": 2, "client": 7}):
        with pytest.raises(AuthenticationError, match="context"):
            bob.open(message, other)
    bob.open(message, {"round": 2})
    assert_still_works(alice, bob, update)


def test_another_senders_message_is_refused_and_the_window_stays_as_it_was(ends, update):
    alice, bob = ends
    carol, _, _ = shake_hands(one=CAROL)
    with pytest.raises(AuthenticationError, match="'alice' did not seal this"):
        bob.open(carol.seal(update))
    assert_still_works(alice, bob, update)


def test_a_context_cannot_pose_as_the_number(ends, update):
    alice, bob = ends
    message = alice.seal(update, {"number": 5})
    with pytest.raises(AuthenticationError):
        bob.open(message)
    bob.open(message, {"number": 5})


def test_every_flipped_bit_is_refused_and_the_window_stays_as_it_was(ends):
    alice, bob = ends
    message = alice.seal(np.float32([1.5]))
    for bit in range(8 * len(message)):
        altered = bytearray(message)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises((AuthenticationError, WireFormatError)):
            bob.open(altered)
    np.testing.assert_array_equal(bob.open(message), np.float32([1.5]))


def test_a_message_cut_anywhere_or_lengthened_is_refused(ends):
    alice, bob = ends
    message = alice.seal(np.float32([1.5]))
    for length in range(len(message)):
        with pytest.raises(WireFormatError):
            bob.open(message[:length])
    with pytest.raises(WireFormatError, match="trailing"):
        bob.open(message + b"\0")
    bob.open(message)


@settings(max_examples=100)
@given(noise=st.binary(max_size=100) | st.binary(max_size=100).map(lambda b: bytes(8) + b))
def test_noise_is_refused_as_a_message_and_in_every_step_of_a_handshake(noise):
    alice, bob, _ = shake_hands()
    initiator = Initiator(ALICE, "bob", DIRECTORY)
    initiator.hello()
    for hear in (alice.open, bob.open, Responder(BOB, DIRECTORY).answer, initiator.proof):
        with pytest.raises((WireFormatError, AuthenticationError)):
            hear(noise)


@pytest.mark.parametrize("message", [None, 3, "text", [1, 2]], ids=repr)
def test_what_is_not_bytes_is_refused(ends, message):
    for hear in (ends[0].open, Responder(BOB, DIRECTORY).answer):
        with pytest.raises(InvalidParameterError, match="must be bytes or a contiguous buffer"):
            hear(message)


def test_a_refused_tensor_uses_up_no_number(ends, update):
    alice, bob = ends
    for tensors in (np.array(["text"]), [], None):
        with pytest.raises(InvalidParameterError):
            alice.seal(tensors)
    assert_still_works(alice, bob, update)


def test_an_exhausted_key_refuses_and_uses_up_no_number(ends, update):
    alice, bob = ends
    used, alice._keys.to_seal._uses = alice._keys.to_seal._uses, 2**32
    with pytest.raises(KeyExhaustedError):
        alice.seal(update)
    alice._keys.to_seal._uses = used
    assert_still_works(alice, bob, update)


def test_threads_share_a_channel_without_losing_a_number(ends):
    alice, bob = ends
    sealed = []
    threads = [
        threading.Thread(target=lambda: sealed.extend(alice.seal(1.0) for _ in range(100)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for message in sorted(sealed, key=lambda m: int.from_bytes(m[:8], "little")):
        bob.open(message)
    assert bob._num_opened == 800


# --- the handshake ------------------------------------------------------------------------------


def handshake_with(spoil, step, **responder_occasion):
    """Run a handshake in which message number ``step`` is spoilt; return how far it came."""
    initiator, responder = (
        Initiator(ALICE, "bob", DIRECTORY),
        Responder(BOB, DIRECTORY, **responder_occasion),
    )
    on_wire = [lambda m, n=n: spoil(m) if n == step else m for n in range(4)]
    answer = responder.answer(on_wire[0](initiator.hello()))
    proof = initiator.proof(on_wire[1](answer))
    finished, theirs = responder.finish(on_wire[2](proof))
    return initiator.finish(on_wire[3](finished)), theirs


@pytest.mark.parametrize("step", range(4), ids=["hello", "answer", "proof", "finished"])
def test_every_flipped_bit_of_a_handshake_is_refused(step):
    num_bits = 8 * len(shake_hands()[2][step])
    for bit in range(0, num_bits):

        def flip(message, bit=bit):
            altered = bytearray(message)
            altered[bit // 8] ^= 1 << bit % 8
            return bytes(altered)

        with pytest.raises((AuthenticationError, WireFormatError)):
            handshake_with(flip, step)


@pytest.mark.parametrize("step", range(4), ids=["hello", "answer", "proof", "finished"])
def test_a_handshake_message_cut_anywhere_or_lengthened_is_refused(step):
    length = len(shake_hands()[2][step])
    for stop in range(length):
        with pytest.raises(WireFormatError):
            handshake_with(lambda message, stop=stop: message[:stop], step)
    with pytest.raises(WireFormatError, match="trailing"):
        handshake_with(lambda message: message + b"\0", step)


@pytest.mark.parametrize("step", range(4), ids=["hello", "answer", "proof", "finished"])
def test_a_message_of_an_earlier_handshake_is_refused(step):
    old = shake_hands()[2][step]
    if step == 0:  # anyone may play an old hello, but not go on: its private key is gone
        responder = Responder(BOB, DIRECTORY)
        responder.answer(old)
        with pytest.raises(AuthenticationError, match="'alice' did not sign"):
            responder.finish(shake_hands()[2][2])
        return
    with pytest.raises(AuthenticationError):
        handshake_with(lambda message: old, step)


def test_a_refused_handshake_message_leaves_the_place_for_the_right_one(update):
    initiator, responder = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    old_hello, old_answer, old_proof, old_finished = shake_hands()[2]

    def refused(hear, message):
        with pytest.raises((AuthenticationError, WireFormatError)):
            hear(message)

    hello = initiator.hello()
    refused(responder.answer, old_answer)
    answer = responder.answer(hello)
    refused(initiator.proof, old_answer)
    proof = initiator.proof(answer)
    refused(responder.finish, old_proof)
    finished, bob = responder.finish(proof)
    refused(initiator.finish, old_finished)
    assert_still_works(initiator.finish(finished), bob, update)
    for again in (lambda: initiator.finish(finished), lambda: responder.finish(proof),
                  lambda: initiator.proof(answer), lambda: responder.answer(old_hello),
                  initiator.hello):  # fmt: skip
        with pytest.raises(InvalidParameterError, match="runs once and in order"):
            again()


@pytest.mark.parametrize("step", range(5), ids=["hello", "answer", "proof", "bob", "alice"])
def test_each_step_of_a_handshake_runs_in_one_thread(monkeypatch, update, step):
    """Two channels of one handshake would have the same keys, and one message opens in both."""

    def slowly(act, *arguments):
        time.sleep(0.02)
        return act(*arguments)

    for name in ("_pack", "_unpack"):
        monkeypatch.setattr(channel_module, name, partial(slowly, getattr(channel_module, name)))

    def run(number, method, *messages):
        if number != step:
            return method(*messages)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: stands(method, *messages), range(4)))
        (made,) = (result for result in results if not isinstance(result, FltutorError))
        assert sum("once and in order" in str(result) for result in results) == 3
        return made

    initiator, responder = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    answer = run(1, responder.answer, run(0, initiator.hello))
    finished, bob = run(3, responder.finish, run(2, initiator.proof, answer))
    assert_still_works(run(4, initiator.finish, finished), bob, update)


def test_an_impostor_with_a_registered_name_is_refused_on_either_side():
    impostor = Responder(Identity.generate("bob"), DIRECTORY)
    initiator = Initiator(ALICE, "bob", DIRECTORY)
    answer = impostor.answer(initiator.hello())
    with pytest.raises(AuthenticationError, match="'bob' did not sign"):
        initiator.proof(answer)
    impostor = Initiator(Identity.generate("alice"), "bob", DIRECTORY)
    responder = Responder(BOB, DIRECTORY)
    proof = impostor.proof(responder.answer(impostor.hello()))
    with pytest.raises(AuthenticationError, match="'alice' did not sign"):
        responder.finish(proof)


def test_an_unknown_name_is_refused_on_either_side():
    mallory = Identity.generate("mallory")
    with pytest.raises(AuthenticationError, match="nobody is registered as 'mallory'"):
        Initiator(ALICE, "mallory", DIRECTORY)
    stranger = Initiator(mallory, "bob", DIRECTORY)
    with pytest.raises(AuthenticationError, match="nobody is registered as 'mallory'"):
        Responder(BOB, DIRECTORY).answer(stranger.hello())


def test_ones_own_name_and_ones_own_key_are_refused(monkeypatch):
    with pytest.raises(AuthenticationError, match="'alice' is my own name"):
        Initiator(ALICE, "alice", DIRECTORY)
    pair = KeyPair.generate()
    monkeypatch.setattr(channel_module.KeyPair, "generate", lambda: pair)  # both ends draw it
    with pytest.raises(AuthenticationError, match="my own"):
        shake_hands()


def test_an_all_zero_secret_is_refused_even_from_a_registered_party(monkeypatch):
    responder = Responder(BOB, DIRECTORY)
    initiator = Initiator(ALICE, "bob", DIRECTORY)
    responder._pair.public_key = bytes(32)  # bob himself signs a worthless key
    with pytest.raises(AuthenticationError, match="all-zero secret"):
        initiator.proof(responder.answer(initiator.hello()))


def test_nothing_is_derived_before_the_signature_holds(monkeypatch):
    """A forged message with a worthless key: the answer speaks of the signature, not of the key."""
    initiator = Initiator(ALICE, "bob", DIRECTORY)
    impostor = Responder(Identity.generate("bob"), DIRECTORY)
    impostor._pair.public_key = bytes(32)
    monkeypatch.setattr(channel_module, "agree", lambda *_: pytest.fail("derived too early"))
    with pytest.raises(AuthenticationError, match="did not sign"):
        initiator.proof(impostor.answer(initiator.hello()))
    impostor, responder = (
        Initiator(Identity.generate("alice"), "bob", DIRECTORY),
        Responder(BOB, DIRECTORY),
    )
    responder.answer(impostor.hello())
    with pytest.raises(AuthenticationError, match="did not sign"):
        responder.finish(channel_module._pack(3, bytes(64), bytes(32)))


@pytest.mark.parametrize("occasion", [{"run": "b"}, {"round_number": 1}], ids=str)
def test_another_run_or_round_is_refused(occasion):
    with pytest.raises(AuthenticationError, match="not for run"):
        handshake_with(lambda message: message, None, **occasion)


def test_a_hello_for_another_party_is_refused():
    hello = Initiator(ALICE, "bob", DIRECTORY).hello()
    with pytest.raises(AuthenticationError, match="not for 'carol'"):
        Responder(CAROL, DIRECTORY).answer(hello)
    with pytest.raises(AuthenticationError, match="not for 'alice'"):
        Responder(ALICE, DIRECTORY).answer(hello)  # reflected


@pytest.mark.parametrize(
    ("step", "byte"),
    [(0, -1), (1, 8), (1, -1), (2, 8)],
    ids=["fresh key of alice", "fresh key of bob", "signature of bob", "signature of alice"],
)
def test_the_keys_depend_on_all_that_was_said(monkeypatch, step, byte):
    """Were a change to slip past the signatures, the two ends would hold different keys."""
    monkeypatch.setattr(PublicIdentity, "verify", lambda *_, **__: None)

    def alter(message):
        altered = bytearray(message)
        altered[byte] ^= 1
        return bytes(altered)

    with pytest.raises(AuthenticationError, match="did not derive the same keys"):
        handshake_with(alter, step)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Initiator("alice", "bob", DIRECTORY), "me must be of class Identity"),
        (lambda: Responder(BOB, [BOB.public]), "directory must be of class Directory"),
        (lambda: Responder(BOB, DIRECTORY, run="x" * 300), "run must be a short name"),
        (lambda: Responder(BOB, DIRECTORY, run=None), "run"),
        (lambda: Responder(BOB, DIRECTORY, round_number=1.5), "round"),
    ],
    ids=["identity", "directory", "long run", "no run", "round"],
)
def test_arguments_of_other_types_are_refused(make, message):
    with pytest.raises(InvalidParameterError, match=message):
        make()


def test_a_handshake_with_the_longest_names_fits_its_limit():
    long = [Identity.generate(letter * 255) for letter in "ab"]
    directory = Directory(party.public for party in long)
    initiator = Initiator(long[0], long[1].name, directory, run="r" * 190, round_number=2**31)
    responder = Responder(long[1], directory, run="r" * 190, round_number=2**31)
    hello = initiator.hello()
    answer = responder.answer(hello)
    proof = initiator.proof(answer)
    assert max(map(len, (hello, answer, proof))) < HANDSHAKE_LIMIT


def test_no_text_holds_a_key_of_the_session(ends):
    alice, _ = ends
    proof = alice._keys.my_proof
    for text in (repr(alice), str(alice), repr(alice._keys), repr(alice._keys.to_seal)):
        assert proof.hex() not in text
        assert repr(proof)[2:-1] not in text
    assert "hidden" in repr(alice._keys.to_seal)


# --- a line over a socket -----------------------------------------------------------------------


@pytest.fixture
def lines():
    here, there = socket.socketpair()
    for end in (here, there):
        end.settimeout(channel_parties.TIMEOUT)
    with here, there:
        yield here, there, SocketLine(here), SocketLine(there)


def test_connect_and_accept_make_one_session_over_a_socket(lines, update):
    *_, here, there = lines
    ends = {}
    thread = threading.Thread(
        target=lambda: ends.update(bob=accept(BOB, DIRECTORY, there, run="demo", round_number=2))
    )
    thread.start()
    alice = connect(ALICE, "bob", DIRECTORY, here, run="demo", round_number=2)
    thread.join()
    assert isinstance(alice, Channel)
    assert alice.session == ends["bob"].session
    assert_still_works(alice, ends["bob"], update)


def test_a_frame_beyond_the_limit_or_cut_short_is_refused(lines):
    here, _, line, there = lines
    line.send(bytes(100))
    with pytest.raises(WireFormatError, match="100 bytes is longer than the limit 99"):
        there.receive(limit=99)
    here.sendall(bytes([9]) + bytes(7) + b"half")
    here.shutdown(socket.SHUT_WR)
    there._socket.recv(100)
    with pytest.raises(WireFormatError, match="closed after"):
        there.receive()


def test_a_frame_cut_within_says_how_far_it_came(lines):
    here, _, _, there = lines
    here.sendall(bytes([9]) + bytes(7) + b"half")
    here.shutdown(socket.SHUT_WR)
    with pytest.raises(WireFormatError, match="closed after 4 of 9 bytes"):
        there.receive()


LOST = {
    "the peer sends nothing": lambda here, there: SocketLine(there).receive(),
    "the peer stops within a message": lambda here, there: (
        here.sendall(bytes([9]) + bytes(7) + b"half"),
        SocketLine(there).receive(),
    ),
    "the peer does not read": lambda here, there: SocketLine(there).send(bytes(2**24)),
    "the peer is gone, and we send": lambda here, there: (
        here.close(),
        SocketLine(there).send(bytes(2**24)),
    ),
    "the peer is gone, and left our message": lambda here, there: (
        there.sendall(b"unread"),
        here.close(),
        SocketLine(there).receive(),
    ),
    "my end is closed, and I send": lambda here, there: (
        there.close(),
        SocketLine(there).send(b"late"),
    ),
    "my end is closed, and I wait": lambda here, there: (
        there.close(),
        SocketLine(there).receive(),
    ),
    "nobody accepts": lambda here, there: connect(ALICE, "bob", DIRECTORY, SocketLine(there)),
    "nobody connects": lambda here, there: accept(BOB, DIRECTORY, SocketLine(there)),
}


@pytest.mark.parametrize("lost", LOST)
def test_a_line_that_closes_or_stays_silent_is_refused_by_type(lines, lost):
    here, there, *_ = lines
    there.settimeout(0.05)
    with pytest.raises(WireFormatError, match="line closed"):
        LOST[lost](here, there)


# --- a real attacker between real processes -----------------------------------------------------

FOLDER_OF_TESTS = Path(channel_parties.__file__).parents[1]


def start(role, folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.channel_parties", role, folder, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=FOLDER_OF_TESTS,
    )


def read_event(process):
    line = process.stdout.readline()
    assert line, "a party ended before it was done"
    return json.loads(line)


@pytest.fixture(scope="module")
def loopback(tmp_path_factory):
    """Each attack between two honest attempts: what server and client saw, and the recording."""
    folder = tmp_path_factory.mktemp("loopback")
    secrets = {name: os.urandom(32) for name in ("server", "client")}
    known = {}
    for name, secret in secrets.items():
        (folder / f"{name}.secret").write_bytes(secret)
        known[name] = Identity.from_bytes(name, secret).public.public_key.hex()
    (folder / "directory.json").write_text(json.dumps(known), encoding="utf-8")

    attempts = ["pass on"]
    for attack in channel_parties.ATTACKS:
        attempts += [attack, "pass on"]
    processes = [start("server", folder)]
    try:
        processes.append(start("attacker", folder, read_event(processes[0])["port"], *attempts))
        processes.append(start("client", folder, read_event(processes[1])["port"], len(attempts)))
        server, attacker, client = processes
        seen = []
        for attempt in attempts:
            seen.append((attempt, read_event(server), read_event(client)))
            assert read_event(attacker) == {"attack": attempt}
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    return seen, (folder / "everything.recorded").read_bytes()


MODEL = channel_parties.digest(channel_parties.model())
REPLY = channel_parties.digest([tensor + 1 for tensor in channel_parties.model()])


def test_two_processes_exchange_a_model_before_and_after_every_attack(loopback):
    honest = [(server, client) for attempt, server, client in loopback[0] if attempt == "pass on"]
    assert len(honest) == len(channel_parties.ATTACKS) + 1
    for server, client in honest:
        assert server["opened"] == [MODEL, MODEL]
        assert client["opened"] == [REPLY, REPLY]
        assert (server["peer"], client["peer"]) == ("client", "server")
        assert server["session"] == client["session"]
        assert "refused" not in server | client
    assert len({server["session"] for server, _ in honest}) == len(honest)


# How many models the server, and how many replies the client, opens before somebody refuses,
# who does it, and with what word. Everything opened is genuine, and nothing twice.
EXPECTED = {
    "flip a bit of a model": (0, 0, "server", "message 0 refused: 'client' did not seal this"),
    "flip a bit of a reply": (2, 0, "client", "message 0 refused: 'server' did not seal this"),
    "flip a bit of the hello": (0, 0, "client", "'server' did not sign"),
    "flip a bit of the answer": (0, 0, "client", "'server' did not sign"),
    "flip a bit of the proof": (0, 0, "server", "did not derive the same keys"),
    "flip a bit of the last handshake message": (0, 0, "client", "did not derive the same keys"),
    "send a model twice": (1, 1, "server", "message 0 from 'client' refused: it came already"),
    "send a reply twice": (2, 1, "client", "message 0 from 'server' refused: it came already"),
    "reflect a model": (0, 0, "client", "message 0 refused: 'server' did not seal this"),
    "reflect the hello": (0, 0, "client", "not the 'answer' message"),
    "swap two models": (0, 0, "server", "message 1 from 'client' refused: it is not next"),
    "lose a model": (0, 0, "server", "message 1 from 'client' refused: it is not next"),
    "shorten a model": (0, 0, "server", "truncated"),
    "hang up within a model": (0, 0, "server", "line closed after"),
    "shorten the answer": (0, 0, "client", "truncated"),
    "put a key of one's own": (0, 0, "client", "'server' did not sign"),
    "put the all-zero key": (0, 0, "client", "'server' did not sign"),
    "claim a terabyte": (0, 0, "server", "longer than the limit 2048"),
    "play an old client": (0, 0, "server", "'client' did not sign"),
    "play an old server": (0, 0, "client", "'server' did not sign"),
    "be an impostor to both": (0, 0, "client", "'server' did not sign"),
}


@pytest.mark.parametrize("attack", channel_parties.ATTACKS)
def test_an_attacker_on_the_wire_breaks_nothing(loopback, attack):
    [(server, client)] = [(s, c) for attempt, s, c in loopback[0] if attempt == attack]
    num_models, num_replies, who, why = EXPECTED[attack]
    assert server["opened"] == [MODEL] * num_models
    assert client["opened"] == [REPLY] * client["opened"].count(REPLY)
    assert len(client["opened"]) <= num_replies  # a reply may be cut off when the server hangs up
    refused = {"server": server, "client": client}[who]
    assert why in refused["why"], refused


def test_an_attacker_on_the_wire_gets_nothing(loopback):
    """No 12 bytes in a row of any tensor are anywhere in what the attacker saw."""
    sent = [t.tobytes() for t in channel_parties.model()]
    sent += [(t + 1).tobytes() for t in channel_parties.model()]
    pieces = {data[i : i + 12] for data in sent for i in range(0, len(data) - 11, 4)}

    def finds_a_piece(recorded):
        return any(recorded[i : i + 12] in pieces for i in range(len(recorded) - 11))

    recorded = loopback[1]
    print(f"searched {len(recorded)} recorded bytes for {len(pieces)} pieces of tensors")
    assert len(recorded) > 20 * 2 * sum(map(len, sent))  # all honest attempts at least
    assert not finds_a_piece(recorded)
    assert finds_a_piece(recorded[:1000] + sent[0][101:121])  # the search does find things


# --- the sum over the channel -------------------------------------------------------------------


def test_the_encrypted_sum_is_the_sum_and_its_transcript_holds_the_handshakes(update):
    rows = np.random.default_rng(2).normal(size=(4, 6))
    result = encrypted_sum(rows, {1: Phase.UPLOAD, 2: Phase.UNMASKING}, keep_payloads=True)
    assert result.included == (0, 2, 3)
    np.testing.assert_array_equal(result.total, rows[[0, 2, 3]].sum(axis=0))
    kinds = [m.kind for m in result.transcript if "client 2" in (m.sender, m.receiver)]
    assert kinds == ["hello", "answer", "proof", "finished", "sealed update"]
    assert len(result.transcript) == 15
    assert all(len(m.payload) == m.num_bytes for m in result.transcript)
    wire = b"".join(m.payload for m in result.transcript)
    assert not any(row.tobytes()[i : i + 8] in wire for row in rows for i in range(0, 48, 8))


def test_kept_sessions_shake_hands_once_and_new_clients_join_later():
    rows, sessions = np.arange(12.0).reshape(4, 3), Sessions("demo")
    lengths = []
    for round_number, cohort in enumerate((rows[:2], rows[:2], rows, rows)):
        result = encrypted_sum(cohort, round_number=round_number, sessions=sessions)
        np.testing.assert_array_equal(result.total, cohort.sum(axis=0))
        lengths.append(len(result.transcript))
    assert lengths == [10, 2, 12, 4]


def test_a_bad_row_leaves_kept_sessions_usable():
    rows, sessions = np.ones((3, 2)), Sessions()
    with pytest.raises(FltutorError, match="client 2 holds NaN"):
        encrypted_sum(np.where(np.arange(6).reshape(3, 2) == 5, np.nan, 1), sessions=sessions)
    np.testing.assert_array_equal(encrypted_sum(rows, sessions=sessions).total, [3.0, 3.0])


# --- everything else that is wrong --------------------------------------------------------------


class Played:
    """A line on which a recorded or made-up answer comes, whatever is said."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def send(self, data):
        pass

    def receive(self, limit=None):
        return self.answers.pop(0)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(ends, update, wrong):
    alice, bob = ends
    message = alice.seal(update, {"round": 7})
    started, answered = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    proved = Initiator(ALICE, "bob", DIRECTORY)
    started.hello()
    proved.proof(answered.answer(proved.hello()))
    here, there = socket.socketpair()
    with here, there:
        for call in (
            lambda: Initiator(wrong, "bob", DIRECTORY),
            lambda: Initiator(ALICE, wrong, DIRECTORY),
            lambda: Initiator(ALICE, "bob", wrong),
            lambda: Initiator(ALICE, "bob", DIRECTORY, run=wrong),
            lambda: Initiator(ALICE, "bob", DIRECTORY, round_number=wrong),
            lambda: Responder(wrong, DIRECTORY),
            lambda: Responder(BOB, wrong),
            lambda: Responder(BOB, DIRECTORY, run=wrong),
            lambda: Responder(BOB, DIRECTORY, round_number=wrong),
            lambda: Responder(BOB, DIRECTORY).answer(wrong),
            lambda: started.proof(wrong),
            lambda: answered.finish(wrong),
            lambda: proved.finish(wrong),
            lambda: connect(ALICE, "bob", DIRECTORY, Played(wrong, wrong)),
            lambda: accept(BOB, DIRECTORY, Played(wrong, wrong)),
            lambda: connect(ALICE, "bob", DIRECTORY, wrong),
            lambda: accept(BOB, DIRECTORY, wrong),
            lambda: SocketLine(wrong),
            lambda: alice.seal(wrong),
            lambda: alice.seal([update, wrong]),
            lambda: alice.seal(update, wrong),
            lambda: alice.seal(update, {"round": wrong}),
            lambda: bob.open(wrong),
            lambda: bob.open(message, wrong),
            lambda: bob.open(message, {"round": wrong}),
            lambda: SocketLine(here).send(wrong),
        ):
            stands(call)
        if not isinstance(wrong, int | np.integer) or isinstance(wrong, bool):
            with pytest.raises(InvalidParameterError, match="limit must be a whole number"):
                SocketLine(here).receive(wrong)
    np.testing.assert_array_equal(bob.open(message, {"round": 7}), update)


@settings(max_examples=100)
@given(data=st.data())
def test_a_mutated_message_is_refused_by_a_typed_error_in_every_step(data):
    """Bytes changed, cut out, put in or moved; and every length of every field."""

    def mutate(message):
        altered = bytearray(message)
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(altered)))
            stop = data.draw(st.integers(start, min(len(altered), start + 40)))
            altered[start:stop] = data.draw(st.binary(max_size=40))
        return bytes(altered)

    step = data.draw(st.integers(0, 4))
    if step == 4:
        alice, bob, _ = shake_hands()
        message = alice.seal(np.float32([1, 2]))
        if (altered := mutate(message)) != message:
            with pytest.raises((AuthenticationError, WireFormatError)):
                bob.open(altered)
        np.testing.assert_array_equal(bob.open(message), np.float32([1, 2]))
        return
    spoilt = []

    def spoil(message):
        spoilt.append((message, mutate(message)))
        return spoilt[0][1]

    refusal = stands(lambda: handshake_with(spoil, step))
    assert isinstance(refusal, AuthenticationError | WireFormatError) or len(set(spoilt[0])) == 1


@pytest.mark.parametrize("side", ["initiator", "responder"])
@pytest.mark.parametrize("way", ["the top bit", "counted on from the prime"])
def test_a_key_written_in_a_second_way_is_refused_at_once(side, way):
    """Whoever owns the name signs: only the key is wrong."""
    initiator, responder = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    pair = (initiator if side == "initiator" else responder)._pair
    flipped = pair.public_key[:-1] + bytes([pair.public_key[-1] | 0x80])
    pair.public_key = flipped if way == "the top bit" else (2**255 - 12).to_bytes(32, "little")
    hello = initiator.hello()
    hear, message = responder.answer, hello
    if side == "responder":
        hear, message = initiator.proof, responder.answer(hello)
    with pytest.raises(AuthenticationError, match=r"refused: .* is not below 2\^255 - 19"):
        hear(message)


def test_an_unknown_peer_of_any_type_is_nobody():
    for peer in (None, 3, ["bob"], {"bob"}, b"bob"):
        with pytest.raises(AuthenticationError, match="nobody is registered"):
            Initiator(ALICE, peer, DIRECTORY)


@pytest.mark.parametrize("step", range(4))
def test_an_unfinished_handshake_is_never_copied(step):
    """Two copies would give two channels with one key, each counting from 0."""
    initiator, responder = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    if step > 0:
        hello = initiator.hello()
    if step > 1:
        answer = responder.answer(hello)
    if step > 2:
        initiator.proof(answer)
    for side, duplicate in itertools.product(
        (initiator, responder), (pickle.dumps, copy.copy, copy.deepcopy)
    ):
        with pytest.raises(CopyRefusedError, match=r"handshake \((Initiator|Responder)\)"):
            duplicate(side)
        assert "secrets hidden" in repr(side)


def test_the_keys_of_a_session_are_in_no_variables(ends):
    for end in ends:
        with pytest.raises(TypeError):
            vars(end)
        with pytest.raises(TypeError):
            vars(end._keys)
        assert end._keys.my_proof.hex() not in repr(end._keys)
        assert repr(end._keys.my_proof) not in repr(end._keys)


def test_a_bad_tag_leaves_no_plaintext_in_any_frame_of_a_channel(ends):
    alice, bob = ends
    altered = bytearray(alice.seal(np.frombuffer(b"SECRET!!" * 5, np.uint8)))
    altered[-1] ^= 1
    with pytest.raises(AuthenticationError) as caught:
        bob.open(altered)
    frames = frames_of(caught.value)
    assert any("opened" in frame for frame in frames)
    for frame in frames:
        for value in frame.values():
            assert not any(b"SECRET" in data for data in buffers_of(value))


# --- forks ----------------------------------------------------------------------------------------


@needs_fork
def test_a_fork_of_a_channel_neither_seals_nor_opens_and_the_first_goes_on(ends, update):
    alice, bob = ends
    message = alice.seal(update, ROUND)
    for call in (lambda: bob.open(message, ROUND), lambda: alice.seal(update, ROUND)):
        said = in_a_fork(call)
        assert said.startswith("CopyRefusedError: this Channel is the copy that a fork made")
    np.testing.assert_array_equal(bob.open(message, ROUND), update)
    assert_still_works(alice, bob, update)


@needs_fork
def test_a_handshake_is_not_finished_in_a_fork(update):
    initiator, responder = Initiator(ALICE, "bob", DIRECTORY), Responder(BOB, DIRECTORY)
    assert in_a_fork(initiator.hello).startswith("CopyRefusedError: this Initiator")
    hello = initiator.hello()
    assert in_a_fork(lambda: responder.answer(hello)).startswith("CopyRefusedError: this Respond")
    answer = responder.answer(hello)
    assert in_a_fork(lambda: initiator.proof(answer)).startswith("CopyRefusedError: this Initiator")
    proof = initiator.proof(answer)
    assert in_a_fork(lambda: responder.finish(proof)).startswith("CopyRefusedError: this Responder")
    finished, bob = responder.finish(proof)
    said = in_a_fork(lambda: initiator.finish(finished))
    assert said.startswith("CopyRefusedError: this Initiator")
    assert_still_works(initiator.finish(finished), bob, update)


@needs_fork
def test_a_fork_may_make_channels_of_its_own():
    assert in_a_fork(shake_hands) == "done"


@needs_fork
def test_a_fork_of_a_channel_does_not_wait_for_a_lock_that_nobody_opens(ends, update):
    alice, bob = ends
    message = alice.seal(update)
    with alice._sealing, bob._opening:
        assert in_a_fork(lambda: alice.seal(update), seconds=5).startswith("CopyRefusedError")
        assert in_a_fork(lambda: bob.open(message), seconds=5).startswith("CopyRefusedError")
