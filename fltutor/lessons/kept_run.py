"""A run that explorers keep: fewer rounds are a prefix of it, more go on where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from fltutor.errors import FltutorError

Step = TypeVar("Step")

_ONE_AT_A_TIME = threading.Lock()


class KeptRun(Generic[Step]):
    """What a run without end has yielded so far, and the run itself, ready to go on.

    Args:
        start: Begins the run, with generators of its own, so that it can begin again.

    Attributes:
        done: What it has yielded: the start, and one step per round.
        stopped_by: Why it cannot go on: an error of this package in a later round, such as a
            client whose training diverged. What is done stays, and shows.

    Example:
        >>> from itertools import count
        >>> kept = KeptRun(count)
        >>> [list(steps) for steps in kept.reach(2)]
        [[0], [0, 1], [0, 1, 2]]
        >>> [list(steps) for steps in kept.reach(1)]
        [[0, 1]]
    """

    def __init__(self, start: Callable[[], Iterator[Step]]):
        self._start = start
        self._running: Iterator[Step] | None = None
        self.done: list[Step] = []
        self.stopped_by: FltutorError | None = None

    def reach(self, rounds: int) -> Iterator[list[Step]]:
        """Yield the start and the steps of up to so many rounds, whenever there is one more.

        Raises:
            FltutorError: After the rounds that were done, if the run stopped before ``rounds``.
        """
        while True:
            if self.done:
                yield self.done[: rounds + 1]
            if len(self.done) > rounds:
                return
            with _ONE_AT_A_TIME:  # a slider and a cell may ask for the same run
                if self.stopped_by is not None:
                    raise self.stopped_by.with_traceback(None)
                try:
                    if self._running is None:
                        running = self._start()
                        self.done = [next(running)]
                        self._running = running
                    else:
                        self.done.append(next(self._running))
                except FltutorError as error:
                    if self._running is not None and len(self.done) > 1:
                        self.stopped_by = error  # a late fault; an early one may be tried again
                    self._running = None
                    raise
                except BaseException:  # an interrupted run cannot go on: the next one starts afresh
                    self._running = None
                    raise
