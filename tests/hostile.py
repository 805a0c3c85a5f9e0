"""What a library must stand: values of every wrong kind, and a fork in the middle of a session."""

import os
import select
import signal
import traceback
import warnings

import numpy as np
import pytest

from fltutor.errors import FltutorError

WRONG = [
    *(None, True, 3, -1, 10**6000, 2.5, float("nan"), 1j, "", "text", "\ud800", b"", bytes(31)),
    *(bytes(64), bytearray(b"FLET\x01\x00"), memoryview(bytes(64))[::2], [], [None], {}, {1: 2}),
    *((), (1, "a"), set(), object(), print, np.int64(3), np.float32(2), np.array(None)),
    *(np.array([object()]), np.array(["2026-01-01"], "datetime64[D]"), np.array(["text"])),
    *(np.zeros((0, 3)), np.ones((2, 2))[:, 0], np.ma.masked_equal([1.0, 2.0], 2.0), np.ma.masked),
    *(np.zeros(3, [("x", "f4")]), np.full(2, np.nan), np.array([1, 2], ">i4"), np.bool_(True)),
]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def stands(call, *arguments, **options):
    """Call with something wrong: it may work, or refuse by an error of the library's own."""
    try:
        return call(*arguments, **options)
    except FltutorError as error:
        return error


def in_a_fork(call, seconds=20):
    """What a call says in a child process: ``"done"``, or the type and text of its error."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run
        child = os.fork()
    if child == 0:
        try:
            call()
            said = "done"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], seconds)
    if not ready:
        os.kill(child, signal.SIGKILL)
    said = os.read(reader, 2**16).decode() if ready else "no answer: it hangs"
    os.close(reader)
    os.waitpid(child, 0)
    return said


def buffers_of(value, depth=3):
    """Every buffer that a variable holds, as bytes."""
    if isinstance(value, bytes | bytearray | memoryview | np.ndarray):
        yield bytes(memoryview(np.ascontiguousarray(value)))
    elif isinstance(value, list | tuple) and depth:
        for entry in value:
            yield from buffers_of(entry, depth - 1)


def frames_of(error):
    """The variables of every frame that an error holds, with those of its causes."""
    seen = []
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "fltutor" in frame.f_code.co_filename and "test" not in frame.f_code.co_filename:
                seen.append(frame.f_locals)
        error = error.__cause__ or error.__context__
    return seen
