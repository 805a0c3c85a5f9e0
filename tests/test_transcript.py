"""A transcript counts what was said; phases say whose upload still counts."""

import re

import numpy as np
import pytest

from fltutor.errors import InvalidParameterError
from fltutor.transcript import SERVER, Message, Phase, SumResult, Transcript, uploaders


@pytest.fixture
def transcript():
    transcript = Transcript()
    transcript.send("client 0", SERVER, "update", 10)
    transcript.send("client 1", SERVER, "update", 20)
    transcript.send(SERVER, "client 0", "model", 40, payload=b"secret")
    return transcript


def test_bytes_are_counted_by_sender_and_receiver(transcript):
    assert transcript.bytes_sent() == 70
    assert transcript.bytes_sent(receiver=SERVER) == 30
    assert transcript.bytes_sent(sender="client 0") == 10
    assert transcript.bytes_sent(sender=SERVER, receiver="client 1") == 0


def test_messages_stay_in_order(transcript):
    assert len(transcript) == 3
    assert [message.kind for message in transcript] == ["update", "update", "model"]
    assert Transcript().messages == []  # no list is shared between transcripts


def test_payloads_never_show_in_text(transcript):
    assert "secret" not in repr(transcript)
    assert "secret" not in repr(SumResult(None, (), transcript))
    assert Message("a", "b", "k", 1, b"x") == Message("a", "b", "k", 1, b"y")


@pytest.mark.parametrize("phase", Phase)
def test_a_row_counts_unless_its_client_leaves_by_the_upload(phase):
    arrived = phase in (Phase.CONSISTENCY, Phase.UNMASKING)
    assert uploaders(3, {1: phase}) == ((0, 1, 2) if arrived else (0, 2))


def test_nobody_leaves_by_default():
    assert uploaders(2, None) == uploaders(2, {}) == (0, 1)
    assert uploaders(0, None) == ()


@pytest.mark.parametrize("stranger", [-1, 3, 0.5, "1", 1.0, True, None, (1,)])
def test_strangers_cannot_leave(stranger):
    with pytest.raises(
        InvalidParameterError, match=re.escape(f"names client {stranger!r}, but there are 3")
    ):
        uploaders(3, {stranger: Phase.UPLOAD})


@pytest.mark.parametrize("phase", ["upload", 3, None])
def test_only_a_phase_says_when(phase):
    with pytest.raises(InvalidParameterError, match=f"which Phase client 1 leaves, got {phase!r}"):
        uploaders(3, {1: phase})


@pytest.mark.parametrize("dropped", [{1}, [1], 1, "1", [(1, Phase.UPLOAD)]], ids=str)
def test_who_leaves_is_a_mapping(dropped):
    with pytest.raises(InvalidParameterError, match="dropped must map clients to the Phase"):
        uploaders(3, dropped)


def test_a_number_of_numpy_names_a_client_too():
    assert uploaders(3, {np.int64(1): Phase.UPLOAD}) == (0, 2)
