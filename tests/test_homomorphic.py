"""Homomorphic sums: who can open what, and what happens to bad rows and late leavers."""

from functools import partial

import numpy as np
import pytest

from fltutor.aggregation import mean
from fltutor.crypto import ckks
from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import PrivateKey
from fltutor.errors import InvalidParameterError, InvalidUpdateError, ProtocolAbort, WireFormatError
from fltutor.fixed_point import FixedPoint
from fltutor.knowledge import WIRE, who_knows_what
from fltutor.protocols import Sessions, ckks_sum, paillier_sum
from fltutor.protocols.homomorphic import AddingServer, CkksClient, PaillierClient
from fltutor.transcript import SERVER, Phase

TOY, CONTEXT = PrivateKey.generate(256, toy=True), Context.generate()
ROWS = np.random.default_rng(9).normal(size=(4, 30))
GRID = FixedPoint(fraction_bits=16, bits=26, ring_bits=32)


@pytest.fixture(
    params=[partial(paillier_sum, private_key=TOY), partial(ckks_sum, context=CONTEXT)],
    ids=["paillier", "ckks"],
)
def sum_protocol(request):
    return request.param


@pytest.fixture(
    params=[
        lambda: (PaillierClient(TOY, GRID, True), PaillierClient(make_paillier(), GRID, True)),
        lambda: (CkksClient(CONTEXT), CkksClient(Context.generate())),
    ],
    ids=["paillier", "ckks"],
)
def two_federations(request):
    """Clients of two federations, whose keys differ."""
    return request.param()


def make_paillier():
    return PrivateKey.generate(256, toy=True)


# --- who knows what ---------------------------------------------------------------------------


def test_the_server_learns_nothing_and_the_clients_the_sum(sum_protocol):
    knowledge = who_knows_what(sum_protocol(ROWS, {1: Phase.UPLOAD}).transcript)
    assert knowledge.observers == (SERVER, "the wire", "client 0", "client 2", "client 3")
    for observer in (SERVER, WIRE):
        assert not any(knowledge.knows(observer, fact) for fact in knowledge.facts)
    for client in (0, 2, 3):
        known = [fact for fact in knowledge.facts if knowledge.knows(f"client {client}", fact)]
        assert known == [f"row {client}", "sum"]


def test_a_client_that_colludes_with_the_server_opens_every_row(sum_protocol):
    knowledge = who_knows_what(sum_protocol(ROWS).transcript, [(SERVER, "client 0")])
    assert knowledge.matrix.all()


def test_two_clients_know_no_more_than_the_sum_and_their_own_rows(sum_protocol):
    knowledge = who_knows_what(sum_protocol(ROWS).transcript, [("client 0", "client 1")])
    known = dict(zip(knowledge.facts, knowledge.matrix[0], strict=True))
    assert known == {"row 0": True, "row 1": True, "row 2": False, "row 3": False, "sum": True}


def test_nobody_sends_the_decrypted_total_back(sum_protocol):
    transcript = sum_protocol(ROWS, keep_payloads=True).transcript
    kinds = [(m.sender == SERVER, m.kind) for m in transcript if "encrypted" in m.kind]
    assert kinds == [(False, "encrypted update")] * 4 + [(True, "encrypted total")] * 4
    plain = [row.tobytes()[:8] for row in (*ROWS, ROWS.sum(axis=0))]
    for message in transcript:
        assert not any(value in bytes(message.payload) for value in plain)


def test_the_server_object_holds_no_secret(two_federations):
    mine, _ = two_federations
    server = AddingServer(mine.public)
    server.receive(mine.encrypt(ROWS[0]))
    public = server._public
    if isinstance(public, Context):
        assert not public.has_secret_key
        assert not server._total.context.has_secret_key
    else:
        assert not {TOY._p, TOY._q} & set(vars(public).values())


# --- faults -------------------------------------------------------------------------------------


def test_a_client_with_a_key_of_another_federation_is_refused(two_federations):
    mine, stranger = two_federations
    server = AddingServer(mine.public)
    server.receive(mine.encrypt(ROWS[0]))
    with pytest.raises(WireFormatError, match=r"another (Paillier|CKKS) key"):
        server.receive(stranger.encrypt(ROWS[1]))
    total = server.total()
    with pytest.raises(WireFormatError, match=r"another (Paillier|CKKS) key"):
        stranger.decrypt(total)
    np.testing.assert_allclose(mine.decrypt(total), ROWS[0], atol=2e-5)


def test_a_row_of_another_length_is_refused(two_federations):
    mine, _ = two_federations
    server = AddingServer(mine.public)
    server.receive(mine.encrypt(ROWS[0]))
    with pytest.raises(InvalidParameterError, match="differ in length"):
        server.receive(mine.encrypt(ROWS[0, :-1]))


def test_a_malformed_upload_is_refused_and_leaves_the_total_as_it_was(two_federations):
    mine, _ = two_federations
    server, upload = AddingServer(mine.public), mine.encrypt(ROWS[0])
    server.receive(upload)
    other = mine.encrypt(ROWS[1])
    empty_block = bytes([10, 1, 30])  # names 30 values and holds none: it would end the process
    empty = other[: ckks._VECTOR_HEAD.size] + len(empty_block).to_bytes(4, "little") + empty_block
    for bad in (b"", other[:-1], other + b"\0", other[:60], other[::-1], empty):
        with pytest.raises(WireFormatError):
            server.receive(bad)
    for bad in (None, "text", 7, ROWS.tolist()):
        with pytest.raises(InvalidParameterError, match="must be bytes"):
            server.receive(bad)
        with pytest.raises(InvalidParameterError, match="must be bytes"):
            mine.decrypt(bad)
    server.receive(other)
    np.testing.assert_allclose(mine.decrypt(server.total()), ROWS[0] + ROWS[1], atol=4e-5)


def test_a_server_that_received_nothing_has_no_total(two_federations):
    with pytest.raises(ProtocolAbort, match="no upload has arrived"):
        AddingServer(two_federations[0].public).total()


@pytest.mark.parametrize(
    "key",
    [TOY.public_key, TOY.public_key.n, b"key", CONTEXT],
    ids=["public key", "modulus", "bytes", "context"],
)
def test_what_is_no_private_key_is_refused(key):
    with pytest.raises(InvalidParameterError, match="private_key must be of class PrivateKey"):
        paillier_sum(ROWS, private_key=key)


def test_what_is_no_context_with_the_secret_key_is_refused():
    for context in (TOY, CONTEXT.parameters, CONTEXT.to_bytes()):
        with pytest.raises(InvalidParameterError, match="context must be of class Context"):
            ckks_sum(ROWS, context=context)
    with pytest.raises(InvalidParameterError, match="no secret key"):
        ckks_sum(ROWS, context=CONTEXT.public())


def test_masked_rows_are_refused(sum_protocol):
    masked = np.ma.masked_greater(ROWS, 1.0)
    for rows in (masked, [masked], iter([ROWS, masked])):
        with pytest.raises((InvalidParameterError, InvalidUpdateError), match="masked array"):
            sum_protocol(rows)


def test_values_beyond_the_range_are_refused_and_their_client_named(sum_protocol):
    rows = ROWS.copy()
    rows[2, 5] = -1e5
    with pytest.raises(InvalidUpdateError, match="the update of client 2: "):
        sum_protocol(rows)


def test_more_rows_than_there_is_room_for_are_refused():
    rows = np.ones((3, 2))
    with pytest.raises(InvalidParameterError, match="could overflow"):
        ckks_sum(rows, context=Context.generate(max_additions=2))
    tight = FixedPoint(fraction_bits=16, bits=31, ring_bits=32)  # one guard bit
    with pytest.raises(InvalidParameterError, match="could wrap around"):
        paillier_sum(rows, private_key=TOY, grid=tight)
    np.testing.assert_array_equal(paillier_sum(rows[:2], private_key=TOY, grid=tight).total, [2, 2])


def test_a_client_that_leaves_after_its_upload_counts_and_gets_no_total(sum_protocol):
    result = sum_protocol(ROWS, {2: Phase.UNMASKING})
    assert result.included == (0, 1, 2, 3)
    told = [m.receiver for m in result.transcript if m.kind == "encrypted total"]
    assert told == ["client 0", "client 1", "client 3"]


def test_nobody_left_to_open_the_total_aborts(sum_protocol):
    with pytest.raises(ProtocolAbort, match="nobody is left to open the total: all 4"):
        sum_protocol(ROWS, dict.fromkeys(range(4), Phase.UNMASKING))


# --- the rest ---------------------------------------------------------------------------------


def test_without_a_key_each_call_draws_a_real_one():
    result = paillier_sum(ROWS[:2, :1], keep_payloads=True)
    np.testing.assert_allclose(result.total, ROWS[:2, :1].sum(axis=0), rtol=0, atol=2.0**-16)
    [total, _] = [m.payload for m in result.transcript if m.kind == "encrypted total"]
    assert len(total) > 2 * 2048 // 8
    np.testing.assert_allclose(ckks_sum(ROWS).total, ROWS.sum(axis=0), rtol=0, atol=1e-6)


def test_unpacked_is_the_same_sum_in_many_more_bytes():
    packed = paillier_sum(ROWS, private_key=TOY)
    unpacked = paillier_sum(ROWS, private_key=TOY, packed=False)
    np.testing.assert_array_equal(packed.total, unpacked.total)
    assert unpacked.transcript.bytes_sent() > 3 * packed.transcript.bytes_sent()


def test_integer_weights_give_the_exact_weighted_mean_of_the_rounded_rows():
    weights = [3, 1, 4, 1]
    rounded = np.rint(ROWS * 2**16) / 2**16
    result = mean(rounded, weights, sum_protocol=partial(paillier_sum, private_key=TOY))
    expected = (np.array(weights) @ rounded) / 9
    np.testing.assert_allclose(result.update, expected, rtol=1e-15, atol=0)


def test_sessions_are_kept_from_round_to_round(sum_protocol):
    sessions = Sessions("demo")
    first = sum_protocol(ROWS, sessions=sessions, round_number=1).transcript
    second = sum_protocol(ROWS, sessions=sessions, round_number=2).transcript
    assert len(first) == 4 * 6  # four messages to connect, an update, a total
    assert len(second) == 4 * 2
