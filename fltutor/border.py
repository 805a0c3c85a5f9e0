"""What comes in from outside is checked here, once: arrays, numbers, random generators.

Labels, examples and parts have their border in :mod:`fltutor.data`, rows of updates in
:mod:`fltutor.vectors`. Behind a border nobody checks again.
"""

from __future__ import annotations

import math
from collections.abc import Set
from numbers import Number, Real
from typing import Any

import numpy as np

from fltutor.errors import FltutorError, InvalidParameterError


def as_array(
    name: str, value: Any, error: type[FltutorError] = InvalidParameterError
) -> np.ndarray:
    """Make an array of numbers, booleans or text: of an array, a tensor, a list, or of pandas.

    Args:
        name: What to call it in the message.
        value: Anything that NumPy can read as one array of one type.
        error: Which error to raise.

    Raises:
        FltutorError: The given ``error``, if the array is masked, is ragged, or holds objects;
            ``tf.data`` and sparse matrices are no arrays either.

    Example:
        >>> as_array("x", [[1, 2], [3, 4]]).shape
        (2, 2)
        >>> as_array("x", np.ma.masked_equal([1.0, -1.0], -1.0))
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: x is a masked array, whose hidden entries would ...
    """
    if _holds_masks(value):
        raise error(
            f"{name} is a masked array, whose hidden entries would count like the others: write "
            f"{name}.filled(value), or leave out what is hidden"
        )
    try:
        array = np.asarray(value)
    except Exception as reason:  # whatever a foreign __array__ raises
        raise error(
            f"{name} must be one array of numbers, got {type(value).__name__}: "
            f"{str(reason).splitlines()[0] if str(reason) else type(reason).__name__}"
        ) from None
    if array.dtype.kind == "O":
        raise error(
            f"{name} must be one array of numbers, got {type(value).__name__} of objects; "
            f"{_hint_on_objects(name, value, array)}"
        )
    return array


_MAY_HOLD_MASKS = (list, tuple, np.ma.MaskedArray)


def _holds_masks(value: Any, depth: int = 64) -> bool:
    """Whether it is a masked array, or lists with one in them, as deep as NumPy reads lists."""
    if isinstance(value, list | tuple) and depth:
        inside = (entry for entry in value if isinstance(entry, _MAY_HOLD_MASKS))
        return any(_holds_masks(entry, depth - 1) for entry in inside)
    return isinstance(value, np.ma.MaskedArray)


def _hint_on_objects(name: str, value: Any, array: np.ndarray) -> str:
    """What to write in place of objects, as far as the first of them tells."""
    if hasattr(value, "dtypes"):  # of pandas, with columns of several types
        return f"its columns are of several types: write {name}.astype(np.float32)"
    if isinstance(value, Set):
        return f"a set has no order: write sorted({name})"
    if array.size and all(isinstance(entry, Number) for entry in array.flat):
        kinds = " and ".join(sorted({type(entry).__name__ for entry in array.flat}))
        return f"these are of {kinds}, and do not fit a number of 64 bits: write floats"
    return "a tf.data.Dataset, a generator or a sparse matrix has to be collected to an array first"


def as_numbers(
    name: str,
    value: Any,
    error: type[FltutorError] = InvalidParameterError,
    *,
    finite: bool = True,
) -> np.ndarray:
    """Make an array of real numbers: integers or floats, in the dtype that they came in.

    Args:
        name, value, error: As in :func:`as_array`.
        finite: Refuse NaN and Inf.

    Raises:
        FltutorError: The given ``error``, if it is no array of integers or floats, or is not
            finite where it must be.

    Example:
        >>> as_numbers("scores", [3, 1]).dtype.kind
        'i'
        >>> as_numbers("scores", [0.5, np.nan])
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: scores must be finite, got NaN at 1
        >>> as_numbers("scores", [True, False])
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: scores must hold real numbers, got dtype bool
    """
    array = as_array(name, value, error)
    if array.dtype.kind not in "fiu":
        hint = f": write {name}.astype(np.float32)" if array.dtype.name == "bfloat16" else ""
        raise error(f"{name} must hold real numbers, got dtype {array.dtype}{hint}")
    if finite and (bad := not_finite(array)):
        raise error(f"{name} must be finite, got {bad}")
    return array


def not_finite(numbers: np.ndarray, place: str = "") -> str:
    """Say what the first number is that is not finite, and where; nothing if all are.

    Args:
        numbers: An array of floats, of any shape.
        place: What to call a place in it.

    Example:
        >>> not_finite(np.array([0.0, np.nan]), "coordinate")
        'NaN at coordinate 1'
        >>> with np.errstate(over="ignore"):
        ...     not_finite(np.array([[1.0, 7e4]]).astype(np.float16))
        'Inf at (0, 1), an overflow: float16 ends at 65504'
    """
    finite = np.isfinite(numbers)
    if finite.all():
        return ""
    first = tuple(int(index) for index in np.argwhere(~finite)[0])
    shown = first[0] if len(first) == 1 else first
    where = f" at {place} {shown}".replace("  ", " ") if first else ""
    if np.isnan(numbers[first]):
        return f"NaN{where}"
    dtype = numbers.dtype
    return f"Inf{where}, an overflow: {dtype.name} ends at {float(np.finfo(dtype).max):.5g}"


def as_whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Make a Python integer of a whole number, within bounds.

    Raises:
        InvalidParameterError: If it is no integer (``10.0`` and ``True`` are none), or is
            outside ``least`` to ``most``.

    Example:
        >>> as_whole("batch_size", np.int8(10), least=1)
        10
        >>> as_whole("batch_size", 10.0, least=1)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: batch_size must be a whole number of at least 1, ...
    """
    if is_whole(value) and (least is None or value >= least) and (most is None or value <= most):
        return int(value)
    bounds = (
        f" from {least} to {most}"
        if least is not None and most is not None
        else f" of at least {least}"
        if least is not None
        else f" of at most {most}"
        if most is not None
        else ""
    )
    raise InvalidParameterError(f"{name} must be a whole number{bounds}, got {shown(value)}")


def as_real(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Make a Python float of a real number, within bounds.

    A float16 or float32 keeps its value, but what is computed from it has the precision of
    a Python float.

    Args:
        name: What to call it in the message.
        value: A Python or NumPy number.
        least, above, most, below: The bounds that there are; ``above`` and ``below`` are
            not reached. Infinity must be allowed by name: ``most=math.inf``.

    Raises:
        InvalidParameterError: If it is no real number (``True`` and ``"1"`` are none), is NaN,
            is infinite where that is not allowed, or is out of bounds.

    Example:
        >>> as_real("clip_norm", np.float16(0.5), above=0)
        0.5
        >>> as_real("clip_norm", 0.0, above=0)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: clip_norm must be positive and finite, got 0.0
    """
    real = isinstance(value, Real | np.floating) and not isinstance(value, bool | np.timedelta64)
    try:
        number = float(value) if real else math.nan
    except OverflowError:  # a Python integer beyond any float
        number = math.nan
    infinite = math.isinf(number) and (most if number > 0 else least) != number
    if (
        not (math.isnan(number) or infinite)
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
    ):
        return number
    words = {"at least": least, "above": above, "at most": most, "below": below}
    bounds = [
        "positive" if (word, bound) == ("above", 0) else f"{word} {bound:g}"
        for word, bound in words.items()
        if bound is not None and math.isfinite(bound)
    ]
    if most is None and below is None:
        bounds.append("finite")
    kind = "" if real else f": needed a Python or NumPy number, such as float({name}) gives"
    raise InvalidParameterError(
        f"{name} must be {' and '.join(bounds) or 'a number'}, got {shown(value)}{kind}"
    )


def as_flag(name: str, value: Any) -> bool:
    """Make a Python boolean of a boolean: ``"no"`` and ``0`` are none, and ``"no"`` would count.

    Raises:
        InvalidParameterError: If it is anything but True or False.

    Example:
        >>> as_flag("signed", np.True_)
        True
        >>> as_flag("signed", "no")
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: signed must be True or False, got 'no'
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InvalidParameterError(f"{name} must be True or False, got {shown(value)}")


def as_kind(name: str, value: Any, kind: type, hint: str = "") -> Any:
    """Give a value back, if it is of this class; the message shows its class and not the value.

    Args:
        name: What to call it in the message.
        value: Any object; it may be secret.
        kind: The class.
        hint: Where to get one.

    Raises:
        InvalidParameterError: If it is of another class.

    Example:
        >>> as_kind("run", 3, str)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: run must be of class str, got int
    """
    if isinstance(value, kind):
        return value
    see = f" (see {hint})" if hint else ""
    raise InvalidParameterError(
        f"{name} must be of class {kind.__name__}{see}, got {type(value).__name__}"
    )


def as_generator(name: str, value: Any) -> np.random.Generator:
    """Give a source of random numbers back, if it is one.

    Raises:
        InvalidParameterError: If it is a seed, or a generator of another kind; the message
            gives the line to write.

    Example:
        >>> as_generator("rng", 0)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: rng must be a NumPy Generator, got 0: write ...
    """
    if isinstance(value, np.random.Generator):
        return value
    seed = value if is_whole(value) and 0 <= value < 2**128 else 0
    raise InvalidParameterError(
        f"{name} must be a NumPy Generator, got {shown(value)}: write "
        f"{name}=np.random.default_rng({seed})"
    )


def is_whole(value: Any) -> bool:
    """Whether it is an integer; a boolean and a duration are of such classes, and are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def shown(value: Any) -> str:
    """The value as a reader would write it, in a line."""
    if isinstance(value, int) and value.bit_length() > 1000:  # Python may refuse to write it
        return f"an integer of {value.bit_length()} bits"
    try:
        text = str(value) if isinstance(value, np.generic) else repr(value)
    except Exception:  # a huge integer within a list, or whatever a foreign __repr__ raises
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"
