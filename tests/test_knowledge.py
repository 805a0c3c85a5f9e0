"""Who knows what: each way to learn a fact, and what it says of whole protocols."""

from functools import partial

import numpy as np
import pytest

from fltutor.crypto.ckks import Context
from fltutor.crypto.paillier import PrivateKey
from fltutor.errors import InvalidParameterError
from fltutor.knowledge import WIRE, who_knows_what
from fltutor.protocols import ckks_sum, encrypted_sum, paillier_sum, plain_sum
from fltutor.protocols.masking import secagg_sum
from fltutor.transcript import Combination, Phase, Piece, Sealed, Transcript

ROWS = np.eye(5)


def matrix(transcript, *observers):
    return who_knows_what(transcript, list(observers)).matrix.astype(int).tolist()


# --- the ways to learn something -----------------------------------------------------------------


@pytest.fixture
def transcript():
    transcript = Transcript()
    transcript.hold("client 0", "row 0", "key")
    transcript.hold("client 1", "row 1")
    return transcript


def test_what_is_sent_plainly_is_known_to_both_ends_and_the_wire(transcript):
    transcript.send("client 0", "server", "update", 8, contents=("row 0",))
    assert matrix(transcript, "server", WIRE, "client 0", "client 1") == [
        [1, 0, 1],
        [1, 0, 1],
        [1, 0, 1],
        [0, 1, 0],
    ]


def test_a_sealed_fact_needs_the_key_whichever_comes_first(transcript):
    sealed = Sealed("key", (Sealed("inner key", ("row 0",)),))
    transcript.send("client 0", "server", "sealed", 8, contents=(sealed,))
    assert matrix(transcript, "server") == [[0, 0, 0]]
    transcript.send("client 0", "server", "a key", 8, contents=("key",))
    assert matrix(transcript, "server") == [[0, 0, 0]]
    transcript.send("client 0", "server", "a key", 8, contents=("inner key",))
    assert matrix(transcript, "server") == [[1, 0, 1]]


def test_pieces_need_the_threshold_of_different_numbers(transcript):
    transcript.send("client 0", "server", "sealed", 8, contents=(Sealed("secret", ("row 0",)),))
    for number, known in ((1, 0), (1, 0), (2, 0), (3, 1)):
        piece = Piece("secret", number, threshold=3)
        transcript.send("client 0", "server", "piece", 8, contents=(piece,))
        assert matrix(transcript, "server") == [[known, 0, known]]


def test_a_secret_implies_what_everyone_can_compute_from_it(transcript):
    transcript.implied["seed"] = ("mask",)
    masked = Combination((("row 0", 1), ("mask", 1)))
    transcript.send("client 0", "server", "masked", 8, contents=(masked,))
    assert matrix(transcript, "server") == [[0, 0, 0]]
    transcript.send("client 0", "server", "seed", 8, contents=("seed",))
    assert matrix(transcript, "server") == [[1, 0, 1]]


def test_sums_are_solved_like_equations(transcript):
    both = Combination((("row 0", 1), ("row 1", 1)))
    transcript.send("client 0", "server", "sum", 8, contents=(both,))
    assert matrix(transcript, "server") == [[0, 0, 1]]
    assert matrix(transcript, ("server", "client 1")) == [[1, 1, 1]]  # total minus own
    difference = Combination((("row 0", 1), ("row 1", -1)))
    transcript.send("client 0", "server", "difference", 8, contents=(difference,))
    assert matrix(transcript, "server") == [[1, 1, 1]]


def test_a_mask_that_cancels_leaves_the_sum_and_no_row(transcript):
    for client, sign in ((0, 1), (1, -1)):
        masked = Combination(((f"row {client}", 1), ("mask", sign)))
        transcript.send(f"client {client}", "server", "masked", 8, contents=(masked,))
    assert matrix(transcript, "server") == [[0, 0, 1]]


def test_nothing_sent_is_nothing_known(transcript):
    assert matrix(transcript, "server", WIRE) == [[0, 0, 0], [0, 0, 0]]


def test_a_field_is_looked_up_by_name(transcript):
    transcript.send("client 0", "server", "update", 8, contents=("row 0",))
    knowledge = who_knows_what(transcript)
    assert knowledge.observers == ("server", WIRE, "client 0", "client 1")
    assert knowledge.facts == ("row 0", "row 1", "sum")
    assert knowledge.knows("server", "row 0")
    assert not knowledge.knows("client 1", "row 0")


def test_rows_of_others_are_told_from_ones_own(transcript):
    transcript.send("client 0", "client 1", "update", 8, contents=("row 0",))
    observers = ["client 0", "client 1", ("client 0", "client 1"), ("server", "client 0")]
    knowledge = who_knows_what(transcript, observers)
    assert knowledge.foreign.astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert knowledge.observers[2:] == ("clients 0, 1", "server + client 0")


def test_a_coalition_is_named_in_short(transcript):
    transcript.hold("client 2")
    transcript.hold("client 3")
    names = [("server",), ("server", "client 1"), ("client 0", "client 2"),
             ("server", "client 1", "client 2", "client 3")]  # fmt: skip
    assert who_knows_what(transcript, names).observers == (
        "server",
        "server + client 1",
        "clients 0, 2",
        "server + clients 1-3",
    )


# --- observers that there are --------------------------------------------------------------------


STRANGERS = {
    "another spelling": ["Server"],
    "one client too many": ["client 5"],
    "a negative client": ["client -1"],
    "a stranger in a coalition": [("server", "client 7")],
    "a number": [3],
    "nobody": [()],
    "no observers": [],
    "nothing": [None],
    "a bare string": "server",
    "a bare client": "client 0",
    "a number for all": 5,
}
PROTOCOLS = {
    "plain": plain_sum,
    "encrypted": encrypted_sum,
    "secagg": partial(secagg_sum, threshold=3),
    "paillier": partial(paillier_sum, private_key=PrivateKey.generate(256, toy=True)),
    "ckks": partial(ckks_sum, context=Context.generate()),
}


@pytest.mark.parametrize("observers", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_an_observer_that_does_not_exist_is_refused_not_answered(protocol, observers):
    transcript = protocol(ROWS).transcript
    with pytest.raises(InvalidParameterError, match="observers must"):
        who_knows_what(transcript, observers)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_client_may_be_asked_for_also_one_that_left(protocol, phase):
    transcript = protocol(ROWS, {1: phase}).transcript
    for client in range(5):
        assert who_knows_what(transcript, [f"client {client}"]).foreign.sum() == 0
    assert who_knows_what(transcript, ["server", WIRE]).facts[-1] == "sum"


@pytest.mark.parametrize(
    ("observer", "fact"),
    [("Server", "sum"), ("client 9", "sum"), ("server", "row 9"), ("server", 3), (None, "sum")],
)
def test_a_field_that_does_not_exist_is_refused(transcript, observer, fact):
    with pytest.raises(InvalidParameterError, match="must be one of"):
        who_knows_what(transcript).knows(observer, fact)


# --- whole protocols -----------------------------------------------------------------------------


def test_plain_everybody_who_listens_knows_every_row_that_was_sent():
    transcript = plain_sum(ROWS, {3: Phase.UPLOAD}).transcript
    knowledge = who_knows_what(transcript)
    assert knowledge.facts == ("row 0", "row 1", "row 2", "row 4", "sum")
    assert knowledge.matrix[:2].all()
    assert knowledge.matrix[2:, :-1].sum() == 4  # each client its own


def test_encrypted_the_server_knows_every_row_and_the_wire_none():
    assert matrix(encrypted_sum(ROWS).transcript, "server", WIRE) == [[1] * 6, [0] * 6]


def test_masked_nobody_knows_a_row_and_whoever_hears_everything_knows_the_sum():
    transcript = secagg_sum(ROWS, threshold=3).transcript
    assert matrix(transcript, "server", WIRE) == [[0, 0, 0, 0, 0, 1]] * 2
    own = np.eye(5, 6, dtype=int).tolist()
    assert matrix(transcript, *(f"client {i}" for i in range(5))) == own


@pytest.mark.parametrize("phase", Phase)
def test_masked_with_dropouts_the_server_still_knows_the_sum_and_no_row(phase):
    transcript = secagg_sum(ROWS, {1: phase, 2: phase}, threshold=3).transcript
    assert matrix(transcript, "server") == [[0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("colluding", range(5))
def test_masked_it_takes_the_threshold_of_colluders_to_know_the_others(colluding):
    transcript = secagg_sum(ROWS, threshold=3).transcript
    coalition = ("server", *(f"client {i}" for i in range(colluding)))
    known = who_knows_what(transcript, [coalition]).matrix[0, :5]
    # One honest client left: the sum minus the others is its row, with any threshold.
    everything = colluding >= 3 or colluding == 4
    assert known.tolist() == [i < colluding or everything for i in range(5)]


def test_the_sum_of_two_is_no_secret_from_one_of_the_two():
    transcript = secagg_sum(ROWS[:2], threshold=2).transcript
    assert matrix(transcript, "server", ("server", "client 0")) == [[0, 0, 1], [1, 1, 1]]


def test_a_client_that_revealed_both_shares_would_be_unmasked():
    """What the client's refusal prevents, in symbols: the missing shares are added by hand."""
    transcript = secagg_sum(ROWS, threshold=3).transcript
    for number in range(3):
        piece = Piece("mask key 4", number, 3)
        transcript.send(f"client {number}", "server", "revealed shares", 8, contents=(piece,))
    assert matrix(transcript, "server") == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("name", ["paillier", "ckks"])
def test_a_client_that_left_keeps_the_key_of_all_clients(name, phase):
    """It was there when the key was dealt: with the server's ciphertexts it opens every row."""
    transcript = PROTOCOLS[name](ROWS, {1: phase}).transcript
    knowledge = who_knows_what(transcript, ["client 1", ("server", "client 1"), WIRE, "server"])
    others = [fact for fact in knowledge.facts if fact != "row 1"]
    assert not any(knowledge.knows("client 1", row) for row in others[:-1])
    assert all(knowledge.knows("server + client 1", fact) for fact in others)
    assert not knowledge.matrix[2:].any()
    sent = phase > Phase.UPLOAD
    assert knowledge.facts == (*(f"row {i}" for i in range(5) if sent or i != 1), "sum")


@pytest.mark.parametrize(
    "protocol",
    [plain_sum, encrypted_sum, partial(secagg_sum, threshold=3)],
    ids=["plain", "encrypted", "secagg"],
)
def test_the_table_lists_every_client_that_took_part(protocol):
    knowledge = who_knows_what(protocol(ROWS).transcript)
    assert knowledge.observers == ("server", WIRE, *(f"client {i}" for i in range(5)))
    assert knowledge.facts == (*(f"row {i}" for i in range(5)), "sum")


# --- what is no question -------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [None, "server", 10**5000, [], {}], ids=type)
def test_what_is_no_transcript_is_refused(thing):
    with pytest.raises(InvalidParameterError, match="transcript must be a Transcript, got"):
        who_knows_what(thing)


def test_a_result_in_place_of_its_transcript_gives_the_line_to_write():
    with pytest.raises(InvalidParameterError, match=r"got SumResult: write result\.transcript"):
        who_knows_what(plain_sum(ROWS))


@pytest.mark.parametrize(
    "name", [np.array(["server", "row 0"]), None, 3, 10**5000, ["server"], ("server",)], ids=type
)
def test_a_field_of_no_such_name_is_refused(name):
    knowledge = who_knows_what(plain_sum(ROWS).transcript)
    with pytest.raises(InvalidParameterError, match="observer must be one of"):
        knowledge.knows(name, "sum")
    with pytest.raises(InvalidParameterError, match="fact must be one of"):
        knowledge.knows("server", name)
    with pytest.raises(InvalidParameterError, match="observers must"):
        who_knows_what(plain_sum(ROWS).transcript, [[name, 10**5000]])


def test_a_party_that_is_named_twice_is_one():
    knowledge = who_knows_what(plain_sum(ROWS).transcript, [("client 1", "client 1")])
    assert knowledge.observers == ("client 1",)
