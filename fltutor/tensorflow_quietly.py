"""TensorFlow without its greeting: import ``tf`` and ``keras`` from here.

TensorFlow writes a few lines about processors to the process's error output
on import, on its first operation, and when XLA first compiles an operation that
goes through MLIR, such as the gradient of ReLU. No log level silences them, so
all three happen here, while the error output points elsewhere.
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

    with contextlib.suppress(RuntimeError):  # somebody used TensorFlow before, and chose
        # The course's matrices are small: sharing one out costs more than it saves.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    one = tf.constant(1.0)
    tf.function(lambda x: tf.raw_ops.ReluGrad(gradients=x, features=x), jit_compile=True)(one)

__all__ = ["keras", "tf"]
