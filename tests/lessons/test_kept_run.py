"""A kept run goes on where it stopped, and starts afresh after an interruption."""

from itertools import count

import pytest

from fltutor.errors import InvalidUpdateError
from fltutor.lessons.kept_run import KeptRun


def interrupted_once(starts):
    """Starts of a run that yields 0, 1, 2, ...; the first one is interrupted after 1."""

    def start():
        starts.append(len(starts))
        for number in count():
            if number == 2 and len(starts) == 1:
                raise KeyboardInterrupt
            yield number

    return start


def test_nothing_is_computed_twice():
    starts = []

    def start():
        starts.append(1)
        return count()

    kept = KeptRun(start)
    assert list(kept.reach(1)) == [[0], [0, 1]]
    assert list(kept.reach(3)) == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert list(kept.reach(2)) == [[0, 1, 2]]
    assert starts == [1]


def test_an_interrupted_run_starts_afresh_and_what_was_done_still_shows():
    starts = []
    kept = KeptRun(interrupted_once(starts))
    with pytest.raises(KeyboardInterrupt):
        list(kept.reach(3))
    assert list(kept.reach(1)) == [[0, 1]]
    assert starts == [0]
    assert list(kept.reach(3))[-1] == [0, 1, 2, 3]
    assert starts == [0, 1]


def test_a_start_that_is_interrupted_leaves_a_run_that_works():
    attempts = []

    def start():
        attempts.append(1)
        if len(attempts) == 1:
            raise KeyboardInterrupt
        return count()

    kept = KeptRun(start)
    with pytest.raises(KeyboardInterrupt):
        next(kept.reach(0))
    assert next(kept.reach(0)) == [0]


def test_a_late_fault_keeps_what_was_done_and_says_why_at_once():
    starts, fault = [], InvalidUpdateError("the update of client 17 holds NaN or Inf")

    def start():
        starts.append(1)
        yield from range(3)
        raise fault

    kept = KeptRun(start)
    seen = []
    for _ in range(2):
        with pytest.raises(InvalidUpdateError, match="client 17"):
            seen.extend(kept.reach(5))
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert kept.stopped_by is fault
    assert list(kept.reach(2)) == [[0, 1, 2]]
    assert starts == [1]


def test_a_fault_before_the_first_finished_round_may_be_tried_again():
    starts = []

    def start():
        starts.append(1)
        yield 0
        if len(starts) == 1:
            raise InvalidUpdateError("the update of client 17 holds NaN or Inf")
        yield 1

    kept = KeptRun(start)
    with pytest.raises(InvalidUpdateError, match="client 17"):
        list(kept.reach(1))
    assert list(kept.reach(1))[-1] == [0, 1]
