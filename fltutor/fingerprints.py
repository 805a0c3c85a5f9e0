"""Is this model as it was, and do two models compute the same?

Whoever compiles a model remembers it as it was. Two answers say whether that may be used
again. A :class:`Fingerprint` is quick: it notices whatever could change a call of a model, such
as another activation, another layer, a number that a function of the reader's own looks up.
:func:`graph_digest` takes longer and is exact: it is equal for graphs that compute the same in
the same order, whatever their parts are called.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from fltutor.tensorflow_quietly import keras


class Notes:
    """Where a function keeps on an object what it found out about it; no fingerprint looks in."""


_SMALL = 2**16  # bytes; a larger array is told by its identity


class Fingerprint:
    """What a call of an object may read, as it is now, to ask later whether it changed.

    Layers, variables, containers, and objects, classes and functions of the reader's own are
    looked into: attributes, code, what a function closes over, the globals that it names.
    All else is told by its identity: objects of libraries, the values of weights, and arrays
    of more than 64 KiB, whose change in place is not noticed. What was seen is kept, so that
    no identity is given to something else.

    Example:
        >>> layer = keras.layers.Dense(2, activation="relu")
        >>> seen = Fingerprint(layer)
        >>> seen.fits()
        True
        >>> layer.activation = keras.activations.tanh
        >>> seen.fits()
        False
    """

    def __init__(self, value: Any):
        self._kept, self._inside, self._empty, known, waiting = [], [], [], set(), [value]
        while waiting:
            value = waiting.pop()
            if id(value) in known:
                continue
            known.add(id(value))
            self._kept.append(value)
            look = _way_into(value, type(value))
            if look in (iter, _entries) and not value:
                self._empty.append(value)  # most are: asked all at once
            elif look and not isinstance(value, tuple):  # which cannot change
                self._inside.append((look, value, _seen(look, value)))
            if look:
                waiting.extend(_worth_a_look(look, value))

    def fits(self) -> bool:
        """Whether everything is as it was when the fingerprint was taken."""
        if any(self._empty):
            return False
        return all(_seen(look, value) == seen for look, value, seen in self._inside)


def _seen(look: Callable, value: Any) -> Any:
    return look(value) if look is _content else list(map(id, look(value)))


def _worth_a_look(look: Callable, value: Any) -> Iterable:
    if look is _content:
        return ()
    if look is _attributes:  # TensorFlow keeps books in some, which no call reads
        own = [kind for kind in type(value).__mro__ if _is_own(kind.__module__)]
        named = getattr(value, "__dict__", {}).items()
        return own + [v for name, v in named if not name.startswith("_self_")] + _in_slots(value)
    return look(value)


def _way_into(value: Any, kind: type) -> Callable[[Any], Iterable] | None:
    """Which function says what is inside a value; None if it is told by its identity."""
    if kind in (bool, float, int, str):
        return None
    if isinstance(value, dict):
        return _entries
    if isinstance(value, list | tuple | set | frozenset | deque):
        return iter
    if isinstance(value, np.ndarray):
        return _content if value.nbytes <= _SMALL else None
    if isinstance(value, types.FunctionType):
        return _read_by if _is_own(value.__globals__.get("__name__")) else None
    if isinstance(value, types.MethodType):
        return _bound
    if isinstance(value, partial):
        return _filled
    if isinstance(value, property):
        return _getter
    if isinstance(value, staticmethod | classmethod):
        return _wrapped
    if isinstance(value, type):
        return _attributes_of_class if _is_own(value.__module__) else None
    if isinstance(value, keras.Operation | keras.Variable) or _is_own(kind.__module__):
        holds = hasattr(value, "__dict__") or _slots_of(kind)
        return _attributes if holds and kind is not Notes else None
    return None


def _entries(value: dict) -> list:
    return [*value, *value.values()]


def _attributes(value: Any) -> Iterable:
    if not _slots_of(type(value)):
        return value.__dict__.values()
    return [*getattr(value, "__dict__", {}).values(), *_in_slots(value)]


def _in_slots(value: Any) -> list:
    """What an object holds in places that its class names by ``__slots__``."""
    return [slot.__get__(value) for slot in _slots_of(type(value)) if _is_filled(slot, value)]


def _is_filled(slot: types.MemberDescriptorType, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:  # it has no value yet
        return False
    return True


@cache
def _slots_of(kind: type) -> tuple[types.MemberDescriptorType, ...]:
    own = [inside for inside in kind.__mro__ if _is_own(inside.__module__)]
    members = [member for inside in own for member in vars(inside).values()]
    return tuple(m for m in members if isinstance(m, types.MemberDescriptorType))


def _attributes_of_class(value: type) -> Iterable:
    return vars(value).values()


def _content(value: np.ndarray) -> tuple:
    return value.shape, value.dtype.str, value.tobytes()


def _bound(value: types.MethodType) -> tuple:
    return value.__self__, value.__func__


def _filled(value: partial) -> tuple:
    return value.func, value.args, value.keywords


def _getter(value: property) -> tuple:
    return (value.fget,)


def _wrapped(value: staticmethod | classmethod) -> tuple:
    return (value.__func__,)


def _read_by(function: types.FunctionType) -> list:
    """The code of a function, and what it closes over or looks up in its module."""
    found = [function.__code__, function.__defaults__, function.__kwdefaults__]
    found += [inside for cell in function.__closure__ or () for inside in _contents(cell)]
    names, spaces, known = _names(function.__code__), [function.__globals__], set()
    while spaces:  # its module, and modules of the reader's own that it may reach from there
        space = spaces.pop()
        for name in names & space.keys():
            value = space[name]
            found.append(value)
            if isinstance(value, types.ModuleType) and id(value) not in known:
                known.add(id(value))
                if _is_own(value.__name__):
                    spaces.append(vars(value))
    return found


def _contents(cell: types.CellType) -> tuple:
    try:
        return (cell.cell_contents,)
    except ValueError:  # the name has no value yet
        return ()


@cache
def _names(code: types.CodeType) -> frozenset[str]:
    """The names that a function looks up, also in functions inside it."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return frozenset(code.co_names).union(*map(_names, inner))


@cache
def _is_own(module: str | None) -> bool:
    """Whether a module is the reader's own: neither Python's nor an installed package."""
    if module is None or module.partition(".")[0] in sys.stdlib_module_names - {"types"}:
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return not {"dist-packages", "site-packages"} & set(Path(file).parts)


def graph_digest(graph: Any) -> bytes:
    """SHA-256 of what the graph of a concrete function computes, whatever its nodes are called.

    Args:
        graph: The ``graph`` of a concrete function.
    """
    definition = graph.as_graph_def()
    library = {function.signature.name: function for function in definition.library.function}
    known: dict[str, str] = {}

    def describe(nodes: Any, inputs: list[str], named: list[str]) -> str:
        """A graph as text, with its nodes numbered in the order in which they were made."""
        numbers = {name: str(number) for number, name in enumerate(inputs)}
        for node in nodes:
            numbers.setdefault(node.name, str(len(numbers)))

        def numbered(source: str) -> str:
            name, *port = source.removeprefix("^").split(":")
            return ":".join([source[: source.startswith("^")], numbers.get(name, name), *port])

        lines = [
            [node.op, *map(numbered, node.input), *map(setting, sorted(node.attr.items()))]
            for node in nodes
        ]
        return repr((lines, list(map(numbered, named))))

    def setting(item: tuple[str, Any]) -> str:
        name, value = item
        functions = [f.name for f in (value.func, *value.list.func) if f.name in library]
        inside = [function_digest(function) for function in functions]
        return repr((name, inside or value.SerializeToString(deterministic=True)))

    def function_digest(name: str) -> str:
        if name not in known:
            function = library[name]
            inputs = [argument.name for argument in function.signature.input_arg]
            outputs = [function.ret[result.name] for result in function.signature.output_arg]
            text = describe(function.node_def, inputs, outputs)
            known[name] = hashlib.sha256(text.encode()).hexdigest()
        return known[name]

    constants = [outside.numpy().tobytes() for outside, _ in graph.captures]
    named = [*graph.outputs, *(inside for _, inside in graph.captures)]
    text = describe(definition.node, [], [tensor.name for tensor in named])
    return hashlib.sha256((text + repr(constants)).encode()).digest()
