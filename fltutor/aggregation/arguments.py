"""What an aggregate takes, and what is bound inside it already: found before the first round."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any


def takes(function: Callable, name: str) -> bool:
    """Whether a function takes an argument of this name, or any that is named.

    Example:
        >>> takes(lambda updates, weights: updates, "dropped")
        False
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, or not callable
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def wants(function: Callable, name: str) -> bool:
    """Whether a function has an argument of this name itself, and nothing is bound to it yet.

    Example:
        >>> wants(lambda updates, weights, cohort: updates, "cohort")
        True
    """
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    code = getattr(inner, "__code__", None)
    if code is not None and name not in code.co_varnames:  # as nearly always, and quick to see
        return False
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters and any(
        parameters[name].default is nothing for nothing in (None, inspect.Parameter.empty)
    )


def bound_in(function: Callable) -> Iterator[tuple[str, Any]]:
    """Yield what a function carries inside, each with its name, as far as it shows.

    That is what partials bind, also partials inside partials; default values; what a closure
    remembers; the global names that a function outside this package reads; what the object of
    a method keeps, and a callable object; and the entries of a dictionary among all these.
    What lies deeper does not show: in a list or another object, or written out in the body.

    Example:
        >>> dict(bound_in(partial(partial(sum, start=3))))["start"]
        3
    """
    waiting: list[tuple[str, Any, dict | None]] = [("", function, None)]
    seen: set[int] = set()
    while waiting:
        name, value, home = waiting.pop()
        yield name, value
        if id(value) not in seen:
            seen.add(id(value))
            waiting += _inside(value, home)


def _inside(value: Any, home: dict | None) -> list[tuple[str, Any, dict | None]]:
    """One step inwards. ``home`` is the module whose global names led here, if any."""
    if isinstance(value, partial):
        found = [("", value.func), *(("", each) for each in value.args), *value.keywords.items()]
    elif isinstance(value, MethodType):
        found = [("", value.__func__), *_kept_by(value.__self__)]
    elif isinstance(value, FunctionType):
        variables = inspect.signature(value, follow_wrapped=False).parameters.values()
        found = [(p.name, p.default) for p in variables if p.default is not p.empty]
        found += _remembered(value)
        own = value.__globals__
        outside = not str(own.get("__name__")).startswith("fltutor")
        if outside and (home is None or home is own):
            read = [(name, own[name], own) for name in _names_read(value.__code__) if name in own]
            return [(name, each, home) for name, each in found] + read
    elif isinstance(value, Mapping):
        found = [(str(name), each) for name, each in value.items()]
    elif callable(value) and not isinstance(value, type) and home is None:
        home, found = {}, _kept_by(value)
    else:
        found = []
    return [(name, each, home) for name, each in found]


def _kept_by(value: Any) -> list[tuple[str, Any]]:
    """The attributes of an object itself."""
    return list(getattr(value, "__dict__", {}).items())


def _remembered(function: FunctionType) -> list[tuple[str, Any]]:
    """The variables of the functions around this one, but those that have no value yet."""
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # an empty cell
            found.append((name, cell.cell_contents))
    return found


def _names_read(code: CodeType) -> set[str]:
    """The global names that a function reads, also in the functions written inside it."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return names.union(*map(_names_read, inner))
