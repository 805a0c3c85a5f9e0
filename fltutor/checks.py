"""Notebooks and homework check themselves.

A check prints one line and never raises, so that *Run all* goes on. ``✓``
means it agrees, ``✗`` says what differs, ``·`` means not attempted yet: the cell is
as the notebook gives it. A function that was written and gives nothing has most likely
lost its ``return``, and is told so.
"""

from __future__ import annotations

import copy
import dis
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fltutor.border import shown


def agree(
    mine: Callable,
    reference: Callable,
    *cases: tuple,
    mistakes: Mapping[str, Callable] | None = None,
    tolerance: float = 1e-6,
) -> None:
    """Compare two functions on every case and print one line.

    Args:
        mine: The reader's function. A body of ``...`` alone counts as not attempted.
        reference: The function it should agree with.
        cases: One tuple of arguments per comparison.
        mistakes: Classic mistakes by name, such as ``{"the unweighted mean": f}``.
            If ``mine`` agrees with one of them in all cases, the line says so.
        tolerance: Largest relative or absolute difference between numbers. Where the
            reference gives integers, they must be equal; where it gives NaN, NaN.

    Example:
        >>> def my_double(x): return x + x
        >>> agree(my_double, lambda x: 2 * x, (3,), (np.array([1.0, 2.0]),))
        ✓ my_double agrees with the reference on 2 cases
        >>> agree(lambda x: ..., lambda x: 2 * x, (3,))
        · not attempted yet
        >>> def my_double(x): x + x
        >>> agree(my_double, lambda x: 2 * x, (3,))
        ✗ my_double gives nothing back in case 1 of 1: is a `return` missing?
    """
    try:
        print(_compare(mine, reference, cases, mistakes or {}, tolerance))
    except Exception as error:
        print(
            f"✗ the check of {_name(mine, 'your function')} stops: {type(error).__name__}: {error}"
        )


def _compare(
    mine: Callable,
    reference: Callable,
    cases: tuple,
    mistakes: Mapping[str, Callable],
    tolerance: float,
) -> str:
    if mine is None or mine is ...:
        return "· not attempted yet"
    name = _name(mine, "your function")
    for number, case in enumerate(cases, start=1):
        where = f"case {number} of {len(cases)}"
        expected = _copy_and_call(reference, case)
        try:
            got = _copy_and_call(mine, case)
        except Exception as error:
            return f"✗ {name} stops in {where}: {type(error).__name__}: {error}"
        if got is ... or (got is None and expected is not None):
            problem = no_answer(mine, got, where)
            return "· not attempted yet" if problem is ... else f"✗ {problem}"
        problem = difference(got, expected, tolerance)
        if problem:
            if label := _mistake(mine, cases, mistakes, tolerance):
                return f"✗ {name}: this is {label}"
            return f"✗ {name} differs in {where}: {problem}"
    count = f"{len(cases)} case{'s' if len(cases) != 1 else ''}"
    return f"✓ {name} agrees with {_name(reference, 'the reference')} on {count}"


def _mistake(
    mine: Callable, cases: tuple, mistakes: Mapping[str, Callable], tolerance: float
) -> str | None:
    """The first mistake that explains every case: one that fits some is a guess."""

    def result(function: Callable, case: tuple) -> Any:
        try:
            return _copy_and_call(function, case)
        except Exception as error:
            return error

    def same(own: Any, other: Any) -> bool:
        if isinstance(own, Exception) or isinstance(other, Exception):
            return type(own) is type(other)
        return not difference(own, other, tolerance)

    got = [result(mine, case) for case in cases]
    for label, mistake in mistakes.items():
        if all(same(own, result(mistake, case)) for own, case in zip(got, cases, strict=True)):
            return label
    return None


def no_answer(mine: Callable, got: Any = None, where: str = "") -> Any:
    """Say why there is no answer: ``...`` for an untouched function, else a sentence.

    Args:
        mine: The reader's function.
        got: What it gave, None or ``...``.
        where: In which case, such as ``"case 1 of 2"``.

    Example:
        >>> def untouched(x): ...
        >>> no_answer(untouched)
        Ellipsis
        >>> def my_double(x): x + x
        >>> no_answer(my_double)
        'my_double gives nothing back: is a `return` missing?'
    """
    if got is ... or _is_empty(mine):
        return ...
    place = f" in {where}" if where else ""
    return f"{_name(mine, 'your function')} gives nothing back{place}: is a `return` missing?"


def _is_empty(function: Callable) -> bool:
    """Whether a function does nothing: its body is ``...``, a docstring, or ``pass``."""
    function = inspect.unwrap(getattr(function, "func", function))
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    return {step.opname for step in dis.get_instructions(code)} <= idle


def verdict(attempt: Callable[[], str | None], done: str) -> None:
    """Print the outcome of a check written by hand.

    Args:
        attempt: Runs the reader's code. Returns None if it is right, a sentence
            that names the mistake if it is wrong, and ``...`` if not attempted, as
            :func:`no_answer` says.
        done: The sentence for a right answer.

    Example:
        >>> verdict(lambda: None, "the nonce never repeats")
        ✓ the nonce never repeats
        >>> verdict(lambda: "the nonce was used twice", "the nonce never repeats")
        ✗ the nonce was used twice
        >>> verdict(lambda: ..., "the nonce never repeats")
        · not attempted yet
    """
    try:
        problem = attempt()
    except Exception as error:
        problem = f"the check stops: {type(error).__name__}: {error}"
    if problem is ...:
        print("· not attempted yet")
    elif problem is None:
        print(f"✓ {done}")
    else:
        print(f"✗ {problem}")


def named(name: str, function: Callable) -> Callable:
    """Call a lambda what the notebook calls it; anything else stays as it is.

    Example:
        >>> agree(named("my_double", lambda x: x + x), lambda x: 2 * x, (3,))
        ✓ my_double agrees with the reference on 1 case
    """
    if getattr(function, "__name__", None) != "<lambda>":
        return function

    def called(*args):
        return function(*args)

    called.__name__, called.__wrapped__ = name, function
    return called


def difference(got: Any, expected: Any, tolerance: float = 1e-6) -> str | None:
    """Say in a few words how two results differ, or None if they agree.

    Example:
        >>> difference([1.0, 2.0], [1.0, 2.0]) is None
        True
        >>> difference(np.ones(2), np.ones(3))
        'shape (2,), needed (3,)'
        >>> difference(np.array([np.nan, np.nan]), np.array([np.nan, 1.0]))
        'got nan at 1, needed 1'
    """
    if isinstance(got, np.ma.MaskedArray):
        return f"got a masked array, needed {_short(expected)}"
    if isinstance(expected, bytes | str):
        same = isinstance(got, bytes | bytearray | str) and got == expected
        return None if same else f"got {_short(got)}, needed {_short(expected)}"
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple) and hasattr(got, "__array__"):
            try:
                array = np.asarray(got)  # of an array, a tensor or a series
            except Exception:
                return f"got {type(got).__name__}, needed {len(expected)} items"
            got = list(array) if array.ndim else got
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            return f"got {_short(got)}, needed {len(expected)} items"
        pairs = zip(got, expected, strict=True)
        return next((p for p in (difference(g, e, tolerance) for g, e in pairs) if p), None)
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            return f"got {_short(got)}, needed {_short(expected)}"
        pairs = ((key, difference(got[key], expected[key], tolerance)) for key in expected)
        return next((f"{problem} for {key!r}" for key, problem in pairs if problem), None)
    given, wanted = _short(got), _short(expected)
    try:
        got, expected = np.asarray(got), np.asarray(expected)
    except Exception:  # whatever a foreign __array__ raises
        return f"got {type(got).__name__}, needed an array"
    if expected.dtype.kind not in "fiubc":
        same = np.array_equal(got, expected, equal_nan=expected.dtype.kind in "mM")
        return None if same else f"got {given}, needed {wanted}"
    if got.dtype.kind not in "fiubc":
        return f"got {given}, needed {wanted}"
    if got.shape != expected.shape:
        return f"shape {got.shape}, needed {expected.shape}"
    if expected.dtype.kind in "iub" and got.dtype != expected.dtype:
        wrong = got.astype(object) != expected.astype(object)  # a double would round integers
    elif expected.dtype.kind in "iub":
        wrong = got != expected
    else:
        wrong = ~np.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if np.any(wrong):
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        at = f" at {place[0] if len(place) == 1 else place}" if place else ""
        return f"got {_number(got[place])}{at}, needed {_number(expected[place])}"
    return None


def _name(function: Callable, anonymous: str) -> str:
    function = getattr(function, "func", function)  # see through functools.partial
    name = getattr(function, "__name__", type(function).__name__)
    return anonymous if name == "<lambda>" else name


def _number(value: np.generic) -> str:
    return str(value) if value.dtype.kind in "iub" else f"{value:.8g}"


def _short(value: Any) -> str:
    try:
        text = repr(value).replace("\n", "")
    except Exception:  # an integer too long to write, or whatever a foreign __repr__ raises
        return shown(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _copy_and_call(function: Callable, case: tuple) -> Any:
    """Call on copies, so that no function sees what another wrote into its input or drew."""
    return function(*_copy(case))


def _copy(value: Any) -> Any:
    """A copy of all that can be copied; a holder of secrets refuses, and stays as it is."""
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    if type(value) is dict:
        return {key: _copy(entry) for key, entry in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever a foreign __deepcopy__ raises
        return value
