"""Self-checks: right, wrong, classic mistake, untouched; and never an exception."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from fltutor.checks import agree, difference, named, no_answer, verdict

ROWS = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]])
WEIGHTS = np.array([1.0, 2.0, 1.0])


def average(rows, weights):
    """The reference: a weighted mean of rows."""
    return weights @ rows / weights.sum()


def printed(capsys, *arguments, **options):
    assert agree(*arguments, **options) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_right_function_agrees(capsys):
    def my_average(rows, weights):
        return np.average(rows, axis=0, weights=weights)

    case = (ROWS, WEIGHTS)
    assert (
        printed(capsys, my_average, average, case) == "✓ my_average agrees with average on 1 case"
    )
    line = printed(capsys, my_average, average, case, (ROWS[:2], WEIGHTS[:2]))
    assert line == "✓ my_average agrees with average on 2 cases"


def test_a_wrong_function_is_told_where_and_how(capsys):
    def my_average(rows, weights):
        return rows.mean(axis=0)

    even = (ROWS, np.ones(3))
    line = printed(capsys, my_average, average, even, (ROWS, WEIGHTS))
    assert line == "✗ my_average differs in case 2 of 2: got 3 at 1, needed 3.75"


def test_a_classic_mistake_is_named(capsys):
    def my_average(rows, weights):
        return rows.mean(axis=0)

    mistakes = {
        "the plain sum": lambda rows, weights: rows.sum(axis=0),
        "the unweighted mean": lambda rows, weights: rows.mean(axis=0),
    }
    line = printed(capsys, my_average, average, (ROWS, WEIGHTS), mistakes=mistakes)
    assert line == "✗ my_average: this is the unweighted mean"


def test_a_right_function_is_never_called_a_mistake(capsys):
    line = printed(
        capsys, average, average, (ROWS, np.ones(3)), mistakes={"the mean": lambda r, w: r.mean(0)}
    )
    assert line.startswith("✓")


def no_body(rows, weights):
    """Only a docstring."""
    ...


@pytest.mark.parametrize(
    "mine", [no_body, lambda rows, weights: ..., ..., None], ids=["body", "result", "...", "None"]
)
def test_an_untouched_exercise_is_not_attempted_yet(capsys, mine):
    assert printed(capsys, mine, average, (ROWS, WEIGHTS)) == "· not attempted yet"


def only_pass(rows, weights):
    pass


def returns_nothing(rows, weights):
    return


@pytest.mark.parametrize(
    "mine", [only_pass, returns_nothing, partial(no_body, weights=None)], ids=["pass", "none", "of"]
)
def test_a_function_without_a_body_is_untouched(capsys, mine):
    cases = [(ROWS, WEIGHTS)] if not isinstance(mine, partial) else [(ROWS,)]
    line = printed(capsys, mine, average if len(cases[0]) == 2 else average_of_rows, *cases)
    assert line == "· not attempted yet"


def forgotten(rows, weights):
    """It computes, and keeps what it found."""
    rows @ weights if len(rows) == 2 else rows.mean(axis=0)


def assigned(rows, weights):
    result = average(rows, weights)  # noqa: F841


def said_aloud(rows, weights):
    print(end="")


def on_one_path(rows, weights):
    if len(rows) == 3:
        return average(rows, weights)


@pytest.mark.parametrize("mine", [forgotten, assigned, said_aloud])
def test_a_forgotten_return_gets_a_sentence_of_its_own(capsys, mine):
    sentence = f"{mine.__name__} gives nothing back in case 1 of 1: is a `return` missing?"
    assert printed(capsys, mine, average, (ROWS, WEIGHTS)) == f"✗ {sentence}"
    assert printed(capsys, partial(mine, weights=WEIGHTS), average_of_rows, (ROWS,)) == (
        f"✗ {sentence}"
    )
    mistakes = {"a mistake that gives nothing either": lambda rows, weights: None}
    assert printed(capsys, mine, average, (ROWS, WEIGHTS), mistakes=mistakes) == f"✗ {sentence}"
    assert no_answer(mine, mine(ROWS, WEIGHTS)) == sentence.replace(" in case 1 of 1", "")


def test_a_return_forgotten_on_one_path_is_told_in_its_case(capsys):
    line = printed(capsys, on_one_path, average, (ROWS, WEIGHTS), (ROWS[:2], WEIGHTS[:2]))
    assert line == "✗ on_one_path gives nothing back in case 2 of 2: is a `return` missing?"


def test_a_function_that_should_give_nothing_may(capsys):
    assert printed(capsys, said_aloud, lambda r, w: None, (ROWS, WEIGHTS)).startswith("✓")


def test_a_lambda_that_the_notebook_names_is_seen_through(capsys):
    for mine in (lambda rows, weights: ..., lambda rows, weights: None):
        line = printed(capsys, named("my_average", mine), average, (ROWS, WEIGHTS))
        assert line == "· not attempted yet"


def test_a_raising_function_is_quoted(capsys):
    def my_average(rows, weights):
        return rows @ weights

    line = printed(capsys, my_average, average, (ROWS, WEIGHTS))
    assert line.startswith("✗ my_average stops in case 1 of 1: ValueError: matmul")


def test_a_function_with_other_arguments_is_quoted(capsys):
    line = printed(capsys, lambda: 1, average, (ROWS, WEIGHTS))
    assert line.startswith("✗ your function stops in case 1 of 1: TypeError:")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (np.ones(3), "shape (3,), needed (2,)"),
        (np.ones((1, 2)), "shape (1, 2), needed (2,)"),
        (3.0, "shape (), needed (2,)"),
        (np.array([3.0, np.nan]), "got nan at 1, needed 3.75"),
        (np.array([3.0, np.inf]), "got inf at 1, needed 3.75"),
        (np.array([3.0, 3.75001]), "got 3.75001 at 1, needed 3.75"),
        ("3, 3.75", "got '3, 3.75', needed array([3.  , 3.75])"),
        ({"a": 1}, "got {'a': 1}, needed array([3.  , 3.75])"),
        (len, "got <built-in function len>, needed array([3.  , 3.75])"),
        (np.ma.masked_equal([3.0, 3.75], 3.0), "got a masked array, needed array([3.  , 3.75])"),
        ([[1], [2, 3]], "got list, needed an array"),
        (
            np.array([None, 3.75]),
            "got array([None, 3.75], dtype=object), needed array([3.  , 3.75])",
        ),
    ],
    ids=str,
)
def test_other_shapes_and_numbers_differ(capsys, result, words):
    line = printed(capsys, lambda rows, weights: result, average, (ROWS, WEIGHTS))
    assert line == f"✗ your function differs in case 1 of 1: {words}"


def test_a_yield_in_place_of_a_return_is_called_a_generator(capsys):
    def my_average(rows, weights):
        yield average(rows, weights)

    line = printed(capsys, my_average, average, (ROWS, WEIGHTS))
    assert "got <generator object" in line
    assert line.endswith("needed array([3.  , 3.75])")


@pytest.mark.parametrize(
    ("mine", "reference", "mistakes"),
    [
        (average, lambda rows, weights: 1 / 0, None),
        (np.mean, average, {"a broken mistake": lambda rows, weights: 1 / 0}),
        (lambda rows, weights: Stubborn(), average, None),
        (3, average, None),
    ],
    ids=["reference", "mistake", "result", "no function"],
)
def test_agree_never_raises(capsys, mine, reference, mistakes):
    line = printed(capsys, mine, reference, (ROWS, WEIGHTS), mistakes=mistakes)
    assert line.startswith("✗ ")


class Stubborn:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("I am no array")


def test_an_interrupt_still_stops_the_cell():
    def my_average(rows, weights):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agree(my_average, average, (ROWS, WEIGHTS))


def test_a_function_that_writes_into_its_arguments_spoils_nothing(capsys):
    def my_total(layers, weights):
        layers[0] *= 2
        layers.append("rubbish")
        weights[:] = 0
        return 8.0

    layers, weights = [np.array([1.0, 3.0])], WEIGHTS.copy()
    line = printed(
        capsys, my_total, lambda a, w: 2 * a[0].sum(), (layers, weights), (layers, weights)
    )
    assert line.startswith("✓")
    np.testing.assert_array_equal(layers, [[1.0, 3.0]])
    np.testing.assert_array_equal(weights, WEIGHTS)


class Pair(NamedTuple):
    first: np.ndarray
    second: list


@dataclass
class Holder:
    values: list


class Locked:
    """Like a holder of secrets."""

    def __init__(self):
        self.values = [1]

    def __reduce_ex__(self, protocol):
        raise TypeError("not copied")


def write(value):
    """Change whatever can be changed, at every depth."""
    if isinstance(value, dict):
        list(map(write, value.values()))
        value["new"] = 1
    elif isinstance(value, tuple):
        list(map(write, value))
    elif isinstance(value, list):
        list(map(write, value))
        value.append(1)
    elif isinstance(value, set):
        value.add(7)
    elif isinstance(value, bytearray):
        value += b"more"
    elif isinstance(value, np.ndarray):
        value[...] = 7
    elif isinstance(value, tf.Variable):
        value.assign_add([7.0])
    elif isinstance(value, pd.DataFrame):
        value["new"] = 1
    elif isinstance(value, Holder):
        write(value.values)


WRITABLE = {
    "dict": lambda: {"n": 1},
    "dict of dicts and arrays": lambda: {"a": {"b": [np.ones(2)]}},
    "list of dicts": lambda: [{"n": 1}],
    "default dict": lambda: defaultdict(list, a=[1]),
    "counter": lambda: Counter("abca"),
    "set": lambda: {1, 2},
    "bytearray": lambda: bytearray(b"abc"),
    "named tuple": lambda: Pair(np.ones(2), [1]),
    "dataclass": lambda: Holder([1, [2]]),
    "array of objects": lambda: np.array([1, "a"], object),
    "variable": lambda: tf.Variable([1.0]),
    "frame": lambda: pd.DataFrame({"a": [1, 2]}),
    "dict beside what cannot be copied": lambda: [Locked, {"n": 1}],
}


@pytest.mark.parametrize("make", WRITABLE.values(), ids=WRITABLE)
def test_no_case_is_changed_by_a_function_that_writes_into_it(capsys, make):
    case, fresh = make(), make()

    def my_count(value):
        write(value)
        return 1

    line = printed(capsys, my_count, lambda value: 1, (case,), (case,))
    assert line.startswith("✓")
    assert repr(case) == repr(fresh)


def test_what_refuses_to_be_copied_is_handed_over_and_its_neighbours_are_copied(capsys):
    locked, beside = Locked(), {"n": 1}

    def my_sum(pair, lone):
        pair["beside"]["n"] += 1
        return pair["locked"].values[0] + lone.values[0]

    case = ({"locked": locked, "beside": beside}, locked)
    line = printed(capsys, my_sum, lambda pair, lone: 2, case, case)
    assert line.startswith("✓")
    assert beside == {"n": 1}


def test_both_functions_draw_the_same_random_numbers(capsys):
    rng = np.random.default_rng(1)
    line = printed(capsys, lambda r: r.normal(size=3), lambda r: r.normal(size=3), (rng,), (rng,))
    assert line.startswith("✓")


def test_names_are_found_through_partial(capsys):
    line = printed(capsys, partial(average, weights=WEIGHTS), average_of_rows, (ROWS,))
    assert line == "✓ average agrees with average_of_rows on 1 case"


def average_of_rows(rows):
    return average(rows, WEIGHTS)


# --- difference ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (1, 1.0),
        (3.0, 3),
        (np.float32(0.1), 0.1),
        ([1, 2.5], np.array([1, 2.5])),
        (np.array([1, 2]), [1, 2]),
        ((np.ones(2), [3]), [np.ones(2), (3,)]),
        (b"abc", b"abc"),
        ("abc", "abc"),
        (2**70, 2**70),
        (True, True),
        (np.array([], float), np.array([], float)),
        (1 + 1e-7, 1.0),
        (1j, 1j + 1e-9),
        ({"a": 1}, {"a": 1}),
        ({"a": np.ones(2), "b": "x"}, {"b": "x", "a": [1, 1]}),
        (None, None),
        (bytearray(b"abc"), b"abc"),
        (np.nan, np.nan),
        (np.float32(np.nan), float("nan")),
        (np.array([1, np.nan]), [1, np.nan]),
        ([[np.nan], (1, np.nan)], [np.array([np.nan]), [1, np.nan]]),
        ({"a": np.nan}, {"a": np.nan}),
        (complex(np.nan, 0), complex(np.nan, 0)),
        (np.array([np.inf, -np.inf]), np.array([np.inf, -np.inf])),
        (np.datetime64("NaT"), np.datetime64("NaT")),
        (tf.constant([1.0, 2.0]), [1.0, 2.0]),
        (tf.Variable([1, 2]), (1, 2)),
        (tf.constant([[1.0, 2.0]]), [np.array([1, 2])]),
        (pd.Series([1.0, 2.0], index=[5, 3]), [1.0, 2.0]),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), [[1.0, 3.0], [2.0, 4.0]]),
        (pd.Series([1.0, 2.0]), np.array([1.0, 2.0])),
        (float(2**60), 2**60),
        (np.array([2.0**63]), np.array([2**63], np.uint64)),
        (np.array([2**62]), np.array([2**62], np.uint64)),
        (np.array([1, 0]), np.array([True, False])),
        (3 + 0j, 3),
        (10**5000, 10**5000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_equal_results_do_not_differ(got, expected):
    assert difference(got, expected) is None


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (4_000_000_001, 4_000_000_000, "got 4000000001, needed 4000000000"),
        (np.uint64(2**63), np.uint64(2**63 + 1), "got 9223372036854775808, needed"),
        (2**70, 2**70 + 1, "got "),
        (True, False, "got True, needed False"),
        (1.0001, 1.0, "got 1.0001, needed 1"),
        ([1, 2], [1, 2, 3], "got [1, 2], needed 3 items"),
        (np.array(1.0), [1.0], "needed 1 items"),
        (7, [1.0], "got 7, needed 1 items"),
        ([np.ones(2), np.zeros(2)], [np.ones(2), np.ones(2)], "got 0 at 0, needed 1"),
        (np.eye(2), np.ones((2, 2)), "got 0 at (0, 1), needed 1"),
        ("abc", "abd", "got 'abc', needed 'abd'"),
        ("abc", b"abc", "got 'abc', needed b'abc'"),
        (b"x" * 100, b"y", "..., needed b'y'"),
        ({"a": 1}, {"a": 2}, "got 1, needed 2 for 'a'"),
        ({"a": 1}, {"b": 1}, "got {'a': 1}, needed {'b': 1}"),
        (np.nan, 1.0, "got nan, needed 1"),
        (np.nan, 1, "got nan, needed 1"),
        (1.0, np.nan, "got 1, needed nan"),
        (0, np.nan, "got 0, needed nan"),
        (np.array([np.nan, np.nan]), np.array([np.nan, 1]), "got nan at 1, needed 1"),
        ([1, np.nan], [1, 2], "got nan, needed 2"),
        (np.inf, np.nan, "got inf, needed nan"),
        (None, 1.0, "got None, needed 1.0"),
        (np.ma.masked, 1.0, "got a masked array"),
        (1.0, None, "got 1.0, needed None"),
        (np.array("abc"), "abc", "got array('abc'"),
        (tf.constant([1.0, 2.0]), [1.0, 3.0], "got 2, needed 3"),
        (pd.Series([1.0, 2.0]), [1.0, 2.0, 3.0], "needed 3 items"),
        (tf.constant(1.0), [1.0], "needed 1 items"),
        (np.ma.masked_equal([1.0, 2.0], 2.0), [1.0, 2.0], "got a masked array, needed [1.0, 2.0]"),
        (float(2**60), 2**60 + 5, "needed 1152921504606846981"),
        (float(2**53), 2**53 + 1, "needed 9007199254740993"),
        (
            np.array([9910523521560253917], np.uint64).astype(float),
            np.array([9910523521560253917], np.uint64),
            "at 0, needed 9910523521560253917",
        ),
        (np.array([2**62 + 1]), np.array([2**62], np.uint64), "got 4611686018427387905 at 0"),
        (np.array([-1]), np.array([2**64 - 1], np.uint64), "got -1 at 0, needed 184467440737"),
        (complex(2**60), 2**60 + 5, "needed 1152921504606846981"),
        (np.float32(2**24), 2**24 + 1, "needed 16777217"),
        (10**5000, 3, "got an integer of 16610 bits, needed 3"),
        (3, 10**5000, "got 3, needed an integer of 16610 bits"),
        ([10**5000], [1, 2], "got a list, needed 2 items"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_different_results_are_described(got, expected, words):
    assert words in difference(got, expected)


# --- verdict ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (None, "✓ all is well"),
        ("the nonce was used twice", "✗ the nonce was used twice"),
        (..., "· not attempted yet"),
    ],
    ids=["right", "wrong", "untouched"],
)
def test_a_verdict_is_one_line(capsys, outcome, line):
    verdict(lambda: outcome, "all is well")
    assert capsys.readouterr().out == line + "\n"


def test_a_verdict_never_raises(capsys):
    verdict(lambda: {}["missing"], "all is well")
    assert capsys.readouterr().out == "✗ the check stops: KeyError: 'missing'\n"


def test_a_mistake_that_explains_every_case_is_named_before_one_that_explains_the_first(capsys):
    """The share of two images of two is 1.0, and so is a count that misses one of them."""
    cases = ((np.ones(2),), (np.ones(5),))
    mistakes = {"a share": lambda x: 1.0, "one too few": lambda x: len(x) - 1}
    line = printed(capsys, lambda x: len(x) - 1, len, *cases, mistakes=mistakes)
    assert line == "✗ your function: this is one too few"
    line = printed(capsys, lambda x: 1, len, *cases, mistakes=mistakes)
    assert line == "✗ your function: this is a share"


def test_a_mistake_that_explains_some_cases_only_is_not_named(capsys):
    cases = ((np.ones(2),), (np.ones(5),))
    mistakes = {"a third": lambda x: -1 / 3, "one that stops": lambda x: -1 / (5 - len(x))}
    line = printed(capsys, lambda x: -1 / 3 * (len(x) - 1), len, *cases, mistakes=mistakes)
    assert line == "✗ your function differs in case 1 of 2: got -0.33333333, needed 2"


def test_a_mistake_that_stops_where_mine_stops_explains_that_case(capsys):
    cases = ((np.ones(2),), (np.ones(5),))
    mistakes = {"one that stops": lambda x: -1 / (5 - len(x))}
    line = printed(capsys, lambda x: 1 / (len(x) - 5), len, *cases, mistakes=mistakes)
    assert line == "✗ your function: this is one that stops"
    mistakes = {"one that stops otherwise": lambda x: [-1 / 3][len(x) // 5]}
    line = printed(capsys, lambda x: 1 / (len(x) - 5), len, *cases, mistakes=mistakes)
    assert line.startswith("✗ your function differs in case 1 of 2")


def test_a_mistake_that_gives_nan_is_named(capsys):
    mistakes = {"0 / 0": lambda x: np.nan}
    line = printed(capsys, lambda x: float("nan"), len, (np.ones(2),), mistakes=mistakes)
    assert line == "✗ your function: this is 0 / 0"
