"""Every protocol computes the same sum. A new one joins by a line in ``PROTOCOLS``."""

from functools import partial

import numpy as np
import pytest

from fltutor.aggregation import mean
from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import PrivateKey
from fltutor.data import load_digits, partition_iid
from fltutor.errors import InvalidParameterError, InvalidUpdateError, ProtocolAbort
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.models import mlp
from fltutor.protocols import ckks_sum, encrypted_sum, paillier_sum, plain_sum, secagg_sum
from fltutor.protocols.encrypted import Sessions
from fltutor.protocols.homomorphic import AddingServer
from fltutor.simulation import run_federated
from fltutor.transcript import SERVER, Phase, client_name

CKKS, GRID = Context.generate(), FixedPoint(fraction_bits=16, bits=27, ring_bits=32)
PAILLIER = partial(paillier_sum, private_key=PrivateKey.generate(256, toy=True), grid=GRID)
PROTOCOLS = {  # name: (protocol, largest error it makes in one coordinate of one row)
    "plain": (plain_sum, 0.0),
    "encrypted": (encrypted_sum, 0.0),
    "paillier": (PAILLIER, GRID.resolution / 2),
    "ckks": (partial(ckks_sum, context=CKKS), CKKS.parameters.resolution),
    "masking": (partial(secagg_sum, threshold=3), DEFAULT_GRID.resolution / 2),
}
DROPS = pytest.mark.parametrize(
    "dropped",
    [{}, {1: Phase.UPLOAD}, {0: Phase.KEYS, 4: Phase.SHARES}, {2: Phase.UNMASKING}],
    ids=["nobody leaves", "one before its upload", "two early", "one after its upload"],
)
HUGE = 10**5000
"""Python refuses to write an integer of more than 4300 digits."""

VECTORS = np.random.default_rng(6).normal(size=(5, 40))
WEIGHTS = [3, 1, 4, 1, 5]


@pytest.fixture(params=PROTOCOLS.values(), ids=PROTOCOLS.keys())
def protocol(request):
    return request.param


@pytest.fixture
def sum_protocol(protocol):
    return protocol[0]


def rounding(rows, resolution):
    """Error of a sum of ``rows``: the protocol's own and one rounding in float64 per addition."""
    return len(rows) * (resolution + 2.0**-53 * np.abs(rows).sum(axis=0).max())


def who_arrives(dropped):
    return [i for i in range(len(VECTORS)) if dropped.get(i, Phase.UNMASKING) > Phase.UPLOAD]


@DROPS
def test_every_protocol_computes_the_same_sum(protocol, dropped):
    sum_protocol, resolution = protocol
    before = VECTORS.copy()
    result = sum_protocol(VECTORS, dropped)
    rows = VECTORS[who_arrives(dropped)]
    assert result.included == tuple(who_arrives(dropped))
    assert result.total.dtype == np.float64
    np.testing.assert_allclose(
        result.total, rows.sum(axis=0), rtol=0, atol=rounding(rows, resolution)
    )
    np.testing.assert_array_equal(VECTORS, before)


@DROPS
def test_every_protocol_computes_the_same_weighted_mean(protocol, dropped):
    sum_protocol, resolution = protocol
    result = mean(VECTORS, WEIGHTS, sum_protocol=sum_protocol, dropped=dropped)
    came = who_arrives(dropped)
    weights = np.array(WEIGHTS)[came]
    expected = np.average(VECTORS[came], axis=0, weights=weights)
    # numerator and denominator each carry the error of a sum; the mean is below 5 in size
    largest = np.abs(VECTORS).max()
    error = rounding(weights[:, None] * VECTORS[came], resolution) * (1 + largest) / weights.sum()
    assert result.included == tuple(came)
    np.testing.assert_allclose(result.update, expected, rtol=0, atol=2 * error)


@DROPS
def test_every_protocol_carries_a_full_round_of_keras_training(protocol, dropped, trained):
    sum_protocol, resolution = protocol
    history = trained(sum_protocol, dropped)
    expected = trained(plain_sum, dropped)
    assert history.rounds[1].included == tuple(who_arrives(dropped))
    # rows travel as float32 [weight * update | weight] and are added in another order; divided
    # by the total weight, their error is that of the update, which is below 1 in size
    error = 2 * len(VECTORS) * (resolution + 2.0**-24)
    np.testing.assert_allclose(history.params, expected.params, rtol=0, atol=error)
    assert history.accuracy[1] > history.accuracy[0] + 0.2
    assert history.rounds[1].bytes_up >= len(who_arrives(dropped)) * 4 * len(history.params)


@pytest.fixture(scope="module")
def trained():
    """One round on the digits of five clients with unequal shares, under any protocol."""
    digits, model = load_digits(), mlp()
    whole = partition_iid(digits.y, 5, np.random.default_rng(0))
    parts = [part[: 60 + 40 * client] for client, part in enumerate(whole)]

    def run(sum_protocol, dropped):
        aggregate = partial(mean, sum_protocol=sum_protocol, dropped=dropped)
        return run_federated(
            model, digits, parts, rounds=1, learning_rate=0.3, aggregate=aggregate, seed=2
        )

    return run


def test_blocks_stream_one_at_a_time(protocol):
    sum_protocol, resolution = protocol
    made = []

    def blocks():
        for start in (0, 1, 3):
            made.append(start)
            yield VECTORS[start : {0: 1, 1: 3, 3: 5}[start]]

    streamed = sum_protocol(blocks(), {3: Phase.UPLOAD})
    whole = sum_protocol(VECTORS, {3: Phase.UPLOAD})
    assert made == [0, 1, 3]
    assert streamed.included == whole.included
    error = 2 * rounding(VECTORS, resolution)  # each of the two has its own
    np.testing.assert_allclose(streamed.total, whole.total, rtol=0, atol=error)


def test_the_transcript_names_every_upload(sum_protocol):
    result = sum_protocol(VECTORS, {1: Phase.UPLOAD})
    sent = [
        result.transcript.bytes_sent(sender=client_name(client), receiver=SERVER)
        for client in range(5)
    ]  # client 1 may have sent something, but no row
    for client in (0, 2, 3, 4):
        assert sent[client] - sent[1] >= VECTORS[client].nbytes
    assert all(message.payload is None for message in result.transcript)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_nan_or_inf_is_refused_and_its_client_named(sum_protocol, bad):
    rows = VECTORS.copy()
    rows[3, 7] = bad
    with pytest.raises(InvalidUpdateError, match="client 3 holds NaN or Inf"):
        sum_protocol(rows)
    with pytest.raises(InvalidUpdateError, match="client 3 holds NaN or Inf"):
        sum_protocol([rows[:2], rows[2:]])


def test_an_overflow_is_called_overflow(sum_protocol):
    rows = VECTORS.astype(np.float16)
    rows[3, 7] = np.inf
    with pytest.raises(InvalidUpdateError, match=r"client 3 holds NaN or Inf: Inf at coordinate 7"):
        sum_protocol(rows)
    with pytest.raises(InvalidUpdateError, match=r"an overflow: float16 ends at 65504"):
        sum_protocol(rows)


def test_blocks_of_different_width_are_refused(sum_protocol):
    with pytest.raises(InvalidUpdateError, match="client 2 has 39 coordinates, needed 40"):
        sum_protocol([VECTORS[:2], VECTORS[2:, :39]])


def masked_rows():
    return np.ma.masked_array(VECTORS, mask=VECTORS > 1)


@pytest.mark.parametrize(
    "wrap", [masked_rows, lambda: [masked_rows()], lambda: iter([VECTORS[:2], masked_rows()])]
)
def test_masked_arrays_are_refused(sum_protocol, wrap):
    """What is masked would be added like the rest."""
    with pytest.raises(InvalidUpdateError, match="masked array"):
        sum_protocol(wrap())


@pytest.mark.parametrize("vectors", [None, 5, len, "rows", {"a": 1}], ids=str)
def test_what_holds_no_rows_is_refused_by_a_typed_error(sum_protocol, vectors):
    with pytest.raises((InvalidUpdateError, InvalidParameterError), match=r"vectors|updates"):
        sum_protocol(vectors)


def test_a_table_of_pandas_or_a_tensor_is_one_matrix(protocol):
    pandas = pytest.importorskip("pandas")
    sum_protocol, resolution = protocol
    total = sum_protocol(pandas.DataFrame(VECTORS)).total
    error = rounding(VECTORS, resolution)
    np.testing.assert_allclose(total, VECTORS.sum(axis=0), rtol=0, atol=error)


@pytest.mark.parametrize(
    "vectors", [np.ones(3), np.ones((0, 3)), np.ones((2, 2), int), [np.ones(3)]], ids=str
)
def test_rows_that_are_no_float_matrix_are_refused(sum_protocol, vectors):
    with pytest.raises(InvalidUpdateError, match="updates must"):
        sum_protocol(vectors)


def test_no_blocks_at_all_are_refused(sum_protocol):
    with pytest.raises(InvalidParameterError, match="at least one client, got none"):
        sum_protocol([])


@pytest.mark.parametrize(
    "stranger", [-1, 5, 0.5, "1", 1.0, True, None, (1,), HUGE, -HUGE], ids=type
)
def test_a_stranger_cannot_leave(sum_protocol, stranger):
    with pytest.raises(InvalidParameterError, match="dropped names client"):
        sum_protocol(VECTORS, {stranger: Phase.UPLOAD})


def test_a_client_leaves_in_a_phase(sum_protocol):
    with pytest.raises(InvalidParameterError, match="in which Phase client 1 leaves, got 'upload'"):
        sum_protocol(VECTORS, {1: "upload"})
    for phase in (3, None, HUGE):
        with pytest.raises(InvalidParameterError, match="in which Phase client 1 leaves"):
            sum_protocol(VECTORS, {1: phase})


@pytest.mark.parametrize("dropped", [{1}, [1], 1], ids=str)
def test_who_leaves_is_a_mapping(sum_protocol, dropped):
    with pytest.raises(InvalidParameterError, match="dropped must map clients"):
        sum_protocol(VECTORS, dropped)


def test_nobody_left_to_upload_aborts(sum_protocol):
    with pytest.raises(ProtocolAbort, match=r"all 5 clients|0 of the 3 clients it takes"):
        sum_protocol(VECTORS, dict.fromkeys(range(5), Phase.UPLOAD))


def test_plain_rows_are_kept_only_when_asked_for():
    rows = VECTORS.copy()
    kept = plain_sum(rows, keep_payloads=True)
    rows[:] = 0  # what the server saw does not change afterwards
    for message, row in zip(kept.transcript, VECTORS, strict=True):
        np.testing.assert_array_equal(message.payload, row)


def test_encrypted_rows_are_not_readable_on_the_wire():
    result = encrypted_sum(VECTORS.astype(np.float32), keep_payloads=True)
    wire = b"".join(bytes(message.payload) for message in result.transcript)
    for row in VECTORS.astype(np.float32):
        assert row.tobytes()[:16] not in wire


@pytest.mark.parametrize("sessions", ["x", 1, {}, CKKS], ids=type)
@pytest.mark.parametrize("name", ["encrypted", "paillier", "ckks"])
def test_sessions_are_sessions(name, sessions):
    with pytest.raises(InvalidParameterError, match="sessions must be"):
        PROTOCOLS[name][0](VECTORS, sessions=sessions)


@pytest.mark.parametrize("round_number", ["zwei", 1.0, True, None], ids=type)
@pytest.mark.parametrize("name", ["encrypted", "paillier", "ckks", "masking"])
def test_a_round_is_a_number_also_where_channels_are_kept(name, round_number):
    kept = {} if name == "masking" else {"sessions": Sessions()}
    PROTOCOLS[name][0](VECTORS, **kept)
    with pytest.raises(InvalidParameterError, match="round_number must be"):
        PROTOCOLS[name][0](VECTORS, round_number=round_number, **kept)


@pytest.mark.parametrize(
    "call",
    [
        lambda: AddingServer(None),
        lambda: AddingServer("key"),
        lambda: PAILLIER(VECTORS, packed="no"),
        lambda: PAILLIER(VECTORS, grid="fine"),
        lambda: Sessions(run=3),
    ],
)
def test_an_argument_that_only_looks_right_is_refused(call):
    with pytest.raises(InvalidParameterError):
        call()
