"""TensorFlow without its greeting, at its first use: import ``tf`` and ``keras`` from here.

TensorFlow takes seconds to import and most of a gigabyte of memory, so it is imported when
something is first read from ``tf`` or ``keras``. It then writes a few lines about processors
to the process's error output: on import, on its first operation, and when XLA first compiles
an operation that goes through MLIR, such as the gradient of ReLU. No log level silences
them, so all three happen here, while the error output points elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from types import ModuleType
from typing import Any

from fltutor.errors import UnsupportedEnvironmentError
from fltutor.packages import load

_ONE_AT_A_TIME = threading.RLock()
_modules: dict[str, ModuleType] = {}
_compiled_in: list[int] = []  # the process in which XLA was first used: this, or an ancestor
_kept: OrderedDict[Hashable, Callable] = OrderedDict()  # the one that was used last at the end
_counted = [0]
KEPT = 32


class _Deferred:
    """A module that is imported when something is first read from it."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__version__":
            raise AttributeError(attribute)  # whoever looks a namespace over uses nothing yet
        return getattr(_loaded()[self._name], attribute)

    def __dir__(self) -> list[str]:
        return dir(_loaded()[self._name])

    def __repr__(self) -> str:
        return f"<{self._name}, imported at its first use>"


tf = _Deferred("tensorflow")
keras = _Deferred("keras")


def compile_once(key: Hashable, function: Callable, *arguments: Any) -> Callable:
    """Compile a function by XLA for arguments of these shapes and types, once for each key.

    What was compiled last is kept, ``KEPT`` functions of it.

    Args:
        key: Equal keys must mean functions that compute the same.
        function: Takes and returns tensors.
        arguments: Tensors; their values do not matter.

    Returns:
        The compiled function of the first call with this key, or of this call.

    Raises:
        UnsupportedEnvironmentError: In a process that was forked from one that compiled.
    """
    tensorflow = _loaded()["tensorflow"]
    key = (key, *((argument.shape, argument.dtype) for argument in arguments))
    with _ONE_AT_A_TIME:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
        if not _compiled_in:
            _compiled_in.append(os.getpid())
            with _silence_error_output():
                _first_compilation(tensorflow)
        made = tensorflow.function(function, jit_compile=True, autograph=False)
        _kept[key] = made.get_concrete_function(*arguments)
        _counted[0] += 1
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return _kept[key]


def num_compiled() -> int:
    """How many functions were compiled by :func:`compile_once` so far."""
    return _counted[0]


def _loaded() -> dict[str, ModuleType]:
    if _compiled_in and os.getpid() not in _compiled_in:
        raise UnsupportedEnvironmentError(
            "this process was forked from one in which TensorFlow had compiled, and would wait "
            "for ever: fork before the first training, or start processes by "
            'multiprocessing.get_context("spawn")'
        )
    if not _modules:
        with _ONE_AT_A_TIME:
            if not _modules:  # another thread may have been first
                _modules.update(_first_use())
    return _modules


def _first_use() -> dict[str, ModuleType]:
    with _silence_error_output(), _tensorflow_as_backend():
        tensorflow = load("tensorflow", "tensorflow")
        keras = load("keras", "keras")
        with contextlib.suppress(RuntimeError):  # somebody used TensorFlow before, and chose
            # The course's matrices are small: sharing one out costs more than it saves.
            tensorflow.config.threading.set_intra_op_parallelism_threads(1)
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        tensorflow.constant(1.0)
    return {"tensorflow": tensorflow, "keras": keras}


def _first_compilation(tensorflow: ModuleType) -> None:
    def gradient_of_relu(x):
        return tensorflow.raw_ops.ReluGrad(gradients=x, features=x)

    tensorflow.function(gradient_of_relu, jit_compile=True)(tensorflow.constant(1.0))


@contextlib.contextmanager
def _tensorflow_as_backend() -> Iterator[None]:
    """Let Keras compute with TensorFlow, whatever its settings file says; refuse a wish.

    Raises:
        UnsupportedEnvironmentError: If the environment asks for another backend, or Keras was
            imported with one.
    """
    before = wish = os.environ.get("KERAS_BACKEND")
    if sys.modules.get("keras"):
        wish = sys.modules["keras"].config.backend()
    if wish not in (None, "", "tensorflow"):
        raise UnsupportedEnvironmentError(
            f"the course computes with Keras on TensorFlow, and here Keras is set to {wish!r}: "
            "set KERAS_BACKEND=tensorflow before Python starts"
        )
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        yield
    finally:
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before


@contextlib.contextmanager
def _silence_error_output() -> Iterator[None]:
    """Point the process's error output elsewhere for a while; one that is closed stays there."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # None, broken, closed
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:
        saved = None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != 2:
        os.dup2(nowhere, 2)
        os.close(nowhere)
    try:
        yield
    finally:
        if saved is not None:
            os.dup2(saved, 2)
            os.close(saved)


__all__ = ["compile_once", "keras", "num_compiled", "tf"]
