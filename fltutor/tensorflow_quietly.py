"""TensorFlow without its greeting: import ``tf`` and ``keras`` from here.

TensorFlow writes a few lines about processors to the process's error output
on import and on its first operation. No log level silences them, so the error
output is pointed elsewhere for that moment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _silence_error_output() -> Iterator[None]:
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


with _silence_error_output():
    import keras
    import tensorflow as tf

    tf.constant(0) + 1
    tf.function(lambda x: x + 1, jit_compile=True)(1)

__all__ = ["keras", "tf"]
