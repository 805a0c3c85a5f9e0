"""The border: what comes in is read as what it means, or refused in one typed sentence."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from fltutor.aggregation import mean
from fltutor.attacks import flip_labels, plant_backdoor
from fltutor.border import (
    as_array,
    as_flag,
    as_generator,
    as_kind,
    as_real,
    as_whole,
    shown,
)
from fltutor.clients import cohort_gradients, local_batches, train_client, train_cohort
from fltutor.data import (
    Dataset,
    Federation,
    as_examples,
    as_labels,
    as_parts,
    label_counts,
    partition_dirichlet,
    partition_iid,
    partition_shards,
)
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.models import get_params, mlp
from fltutor.simulation import ServerState, evaluate, run_federated, run_round

INTEGERS = [
    np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, ">i4", "<i8",
]  # fmt: skip
LABELS = np.array([3, 0, 1, 2, 0, 3, 1, 2, 2, 1])
X = np.random.default_rng(5).random((10, 4)).astype(np.float32)
MODEL = mlp(4, 4, hidden=(3,))
PARAMS = get_params(MODEL)


def rng():
    return np.random.default_rng(0)


def batches():
    return local_batches([np.arange(5), np.arange(5, 10)], batch_size=5, rng=rng())


TAKES_LABELS = {
    "partition_iid": lambda y: partition_iid(y, 3, rng()),
    "partition_dirichlet": lambda y: partition_dirichlet(y, 3, 0.5, rng()),
    "partition_shards": lambda y: partition_shards(y, 5, 2, rng()),
    "label_counts": lambda y: label_counts(y, [np.arange(5), np.arange(5, 10)]),
    "Dataset.y": lambda y: Dataset(X, y, X, LABELS, "").y,
    "Dataset.y_test": lambda y: Dataset(X, LABELS, X, y, "").y_test,
    "evaluate": lambda y: evaluate(MODEL, PARAMS, X, y),
    "train_client": lambda y: train_client(MODEL, PARAMS, X, y, batches()[0], 0.1),
    "train_cohort": lambda y: train_cohort(MODEL, PARAMS, X, y, batches(), 0.1),
    "cohort_gradients": lambda y: cohort_gradients(MODEL, PARAMS, X, y, [np.arange(5)]),
}
"""Everything that takes labels, by the public name."""

SAME_LABELS = {
    **{f"{np.dtype(kind).str}": LABELS.astype(kind) for kind in INTEGERS},
    "column": LABELS[:, None],
    "uint8 column": LABELS[:, None].astype(np.uint8),
    "list": LABELS.tolist(),
    "tensor": tf.constant(LABELS),
    "uint8 tensor": tf.constant(LABELS, tf.uint8),
    "variable": tf.Variable(LABELS),
    "series with another index": pd.Series(LABELS, index=np.arange(10)[::-1]),
    "series with names": pd.Series(LABELS, index=list("abcdefghij")),
    "frame": pd.DataFrame({"label": LABELS}),
    "read-only": np.frombuffer(LABELS.tobytes(), LABELS.dtype),
    "not contiguous": np.repeat(LABELS, 2)[::2],
}


@pytest.mark.parametrize("take", TAKES_LABELS.values(), ids=TAKES_LABELS)
def test_labels_of_every_integer_kind_mean_the_same(take):
    needed = take(LABELS.astype(np.int32))
    for name, labels in SAME_LABELS.items():
        got = take(labels)
        same = all(map(np.array_equal, got, needed)) and len(got) == len(needed)
        assert same, f"{name}: needed {needed}, got {got}"


WRONG_LABELS = {
    "one-hot": (np.eye(4)[LABELS], r"shape \(10, 4\).*argmax"),
    "one-hot integers": (np.eye(4, dtype=int)[LABELS], r"shape \(10, 4\).*argmax"),
    "row": (LABELS[None, :], r"shape \(1, 10\)"),
    "one number": (3, r"shape \(\)"),
    "empty": (np.array([], int), r"shape \(0,\)"),
    "floats": (LABELS.astype(float), "float64.*astype"),
    "a half": (np.where(np.arange(10) == 6, 1.5, LABELS), "1.5 at example 6"),
    "NaN": (np.where(np.arange(10) == 7, np.nan, LABELS), "nan at example 7"),
    "booleans": (LABELS > 1, "dtype bool"),
    "strings": (np.array(list("abcabcabca")), "dtype <U1"),
    "objects": (np.array([*LABELS[:-1], None]), "objects"),
    "negative": (np.where(np.arange(10) == 4, -1, LABELS), "-1 at example 4.*from -1 to 3"),
    "huge": (np.where(np.arange(10) == 4, 2**40, LABELS), "1099511627776 at example 4"),
    "uint64 that wraps": (
        np.where(np.arange(10) == 4, np.uint64(2**64 - 1), LABELS.astype(np.uint64)),
        "18446744073709551615 at example 4",
    ),
    "masked": (np.ma.masked_equal(LABELS, 3), "masked array"),
    "nothing": (None, "objects"),
    "complex": (LABELS.astype(complex), "complex128"),
    "dates": (LABELS.astype("M8[s]"), "datetime64"),
    "dataset": (tf.data.Dataset.from_tensor_slices(LABELS), "tf.data"),
    "sparse": (sparse.csr_matrix(LABELS), "sparse"),
    "ragged": ([[1], [2, 3]], "one array"),
    "nullable series": (pd.Series([1, None] * 5, dtype="Int64"), "objects|float"),
}


@pytest.mark.parametrize("wrong", WRONG_LABELS)
@pytest.mark.parametrize("take", TAKES_LABELS.values(), ids=TAKES_LABELS)
def test_what_is_no_label_is_refused_with_its_shape_and_example(take, wrong):
    labels, message = WRONG_LABELS[wrong]
    with pytest.raises(InvalidParameterError, match=f"(?s)(y|y_test|labels).*({message})"):
        take(labels)


@pytest.mark.parametrize("name", ["evaluate", "train_client", "train_cohort", "cohort_gradients"])
def test_labels_beyond_the_outputs_are_refused_by_example(name):
    labels = np.where(np.arange(10) == 8, 4, LABELS)
    with pytest.raises(InvalidParameterError, match="from 0 to 3, got 4 at example 8"):
        TAKES_LABELS[name](labels)


def test_a_run_refuses_labels_beyond_the_outputs_before_it_trains():
    beyond = np.where(np.arange(10) == 8, 4, LABELS)
    for data in (Dataset(X, beyond, X, LABELS, ""), Dataset(X, LABELS, X, beyond, "")):
        with pytest.raises(InvalidParameterError, match="from 0 to 3, got 4 at example 8"):
            run_federated(MODEL, data, [np.arange(10)], rounds=1, learning_rate=0.1)


@pytest.mark.parametrize("name", ["evaluate", "train_client", "train_cohort", "cohort_gradients"])
@pytest.mark.parametrize("labels", [LABELS[:-1], np.append(LABELS, 0)], ids=["fewer", "more"])
def test_as_many_labels_as_examples_are_needed(name, labels):
    with pytest.raises(InvalidParameterError, match=r"10 examples|as many"):
        TAKES_LABELS[name](labels)


@given(hnp.arrays(hnp.integer_dtypes() | hnp.unsigned_integer_dtypes(), st.integers(1, 20)))
def test_labels_come_out_as_they_went_in_or_the_first_bad_one_is_named(labels):
    allowed = (labels >= 0) & (labels < 100)
    if allowed.all():
        np.testing.assert_array_equal(as_labels("y", labels, num_classes=100), labels)
    else:
        bad = int(np.flatnonzero(~allowed)[0])
        with pytest.raises(InvalidParameterError, match=f"got {labels[bad]} at example {bad}:"):
            as_labels("y", labels, num_classes=100)


# --- examples -----------------------------------------------------------------------------------

TAKES_EXAMPLES = {
    "Dataset.x": lambda x: (Dataset(x, LABELS, X, LABELS, "").x,),
    "Dataset.x_test": lambda x: (Dataset(X, LABELS, x, LABELS, "").x_test,),
    "evaluate": lambda x: evaluate(MODEL, PARAMS, x, LABELS),
    "train_client": lambda x: train_client(MODEL, PARAMS, x, LABELS, batches()[0], 0.1),
    "train_cohort": lambda x: train_cohort(MODEL, PARAMS, x, LABELS, batches(), 0.1),
    "cohort_gradients": lambda x: cohort_gradients(MODEL, PARAMS, x, LABELS, [np.arange(5)]),
}
SAME_EXAMPLES = {
    "float64": X.astype(np.float64),
    "big-endian": X.astype(">f4"),
    "list": X.tolist(),
    "tensor": tf.constant(X),
    "frame with another index": pd.DataFrame(X, index=np.arange(10)[::-1], columns=list("abcd")),
    "column order": np.asfortranarray(X),
}
WRONG_EXAMPLES = {
    "masked": (np.ma.masked_less(X, 0.5), "masked array"),
    "strings": (X.astype(str), "dtype <U"),
    "complex": (X.astype(complex), "complex128"),
    "objects": (X.astype(object), "objects"),
    "dataset": (tf.data.Dataset.from_tensor_slices(X), "tf.data"),
    "one number": (1.0, r"shape \(\)"),
    "empty": (X[:0], r"shape \(0, 4\)"),
    "fewer": (X[:9], "10 examples|9 examples|examples 0 to 8"),
    "sparse": (sparse.csr_matrix(X), "sparse"),
}


@pytest.mark.parametrize("take", TAKES_EXAMPLES.values(), ids=TAKES_EXAMPLES)
def test_examples_of_every_kind_mean_the_same(take):
    needed = take(X)
    for name, examples in SAME_EXAMPLES.items():
        for got, wanted in zip(take(examples), needed, strict=True):
            np.testing.assert_array_equal(np.float32(got), np.float32(wanted), err_msg=name)


@pytest.mark.parametrize("wrong", WRONG_EXAMPLES)
@pytest.mark.parametrize("take", TAKES_EXAMPLES.values(), ids=TAKES_EXAMPLES)
def test_what_is_no_example_is_refused(take, wrong):
    examples, message = WRONG_EXAMPLES[wrong]
    with pytest.raises(InvalidParameterError, match=message):
        take(examples)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool, np.float16])
def test_whole_numbers_and_short_floats_are_examples_too(kind):
    pixels = np.random.default_rng(0).integers(0, 2, (10, 4)).astype(kind)
    needed = train_cohort(MODEL, PARAMS, pixels.astype(np.float32), LABELS, batches(), 0.1)
    got = train_cohort(MODEL, PARAMS, pixels, LABELS, batches(), 0.1)
    np.testing.assert_array_equal(got, needed)
    assert as_examples("x", pixels).dtype == kind


def test_a_data_set_whose_halves_differ_in_shape_is_refused():
    with pytest.raises(InvalidParameterError, match=r"one shape, got \(4,\) and \(2, 2\)"):
        Dataset(X, LABELS, X.reshape(10, 2, 2), LABELS, "")


# --- parts --------------------------------------------------------------------------------------

DATA = Dataset(X, LABELS, X, LABELS, "")
PARTS = [np.array([0, 3, 5]), np.array([9, 1])]
ROUND = {"model": MODEL, "data": DATA, "learning_rate": 0.1}


def one_round(parts):
    state, cohort = ServerState(PARAMS, None), range(len(parts) if hasattr(parts, "__len__") else 1)
    return run_round(state, cohort, parts=parts, rng=rng(), **ROUND)[0].params


TAKES_PARTS = {
    "run_federated": lambda parts: (
        run_federated(MODEL, DATA, parts, rounds=1, learning_rate=0.1).params
    ),
    "run_round": one_round,
    "cohort_gradients": lambda parts: cohort_gradients(MODEL, PARAMS, X, LABELS, parts),
    "label_counts": lambda parts: label_counts(LABELS, parts),
    "flip_labels": lambda parts: flip_labels(DATA, parts, [1]).y,
    "plant_backdoor": lambda parts: plant_backdoor(DATA, parts, [1], target=0, size=1).x,
    "Federation": lambda parts: np.concatenate(Federation(DATA, (), parts, parts, ()).parts),
}


def mask(part):
    return np.isin(np.arange(10), part)


IN_ORDER = [np.sort(part) for part in PARTS]
SAME_PARTS = {
    "masks": [mask(part) for part in PARTS],
    "lists of booleans": [mask(part).tolist() for part in PARTS],
    "rows of a matrix of booleans": np.stack([mask(part) for part in PARTS]),
    "lists": [part.tolist() for part in IN_ORDER],
    "a tuple": tuple(IN_ORDER),
    "uint8": [part.astype(np.uint8) for part in IN_ORDER],
    "tensors": [tf.constant(part) for part in IN_ORDER],
    "series": [pd.Series(part, index=part[::-1]) for part in IN_ORDER],
    "ranges and masks mixed": [IN_ORDER[0], mask(PARTS[1])],
}
WRONG_PARTS = {
    "empty list": ([], "at least one client"),
    "nothing": (None, "NoneType"),
    "a number": (3, "int"),
    "a mapping": (dict(enumerate(PARTS)), "dict"),
    "negative": ([PARTS[0], [1, -1]], "client 1 .*from 0 to 9, got -1"),
    "too large": ([PARTS[0], [1, 10]], "client 1 .*from 0 to 9, got 10"),
    "huge": ([PARTS[0], [1, 2**40]], "client 1 .*got 1099511627776"),
    "twice": ([PARTS[0], [1, 4, 1]], "client 1 .*once, got 1 2 times"),
    "floats": ([PARTS[0], [1.0, 2.0]], "client 1 .*float64"),
    "short mask": ([mask(PARTS[0]), [True, False]], r"client 1 .*\(2,\), needed \(10,\)"),
    "mask as zeros and ones": ([mask(PARTS[0]).astype(int)] * 2, "client 0 .*once"),
    "pairs of arrays": ([(X[:5], LABELS[:5]), (X[5:], LABELS[5:])], "client 0 .*pair"),
    "column": ([PARTS[0], PARTS[1][:, None]], r"client 1 .*shape \(2, 1\)"),
    "strings": ([PARTS[0], ["a", "b"]], "client 1 .*dtype <U1"),
    "masked": ([PARTS[0], np.ma.masked_equal([1, 2], 1)], "client 1 is a masked array"),
    "numbers": ([0, 1], r"client 0 .*shape \(\)"),
}


@pytest.mark.parametrize("take", TAKES_PARTS.values(), ids=TAKES_PARTS)
def test_parts_of_every_kind_mean_the_same(take):
    needed = take(IN_ORDER)
    for name, parts in SAME_PARTS.items():
        np.testing.assert_array_equal(take(parts), needed, err_msg=name)


@pytest.mark.parametrize("wrong", WRONG_PARTS)
@pytest.mark.parametrize("take", TAKES_PARTS.values(), ids=TAKES_PARTS)
def test_parts_that_mean_nothing_are_refused_by_client(take, wrong):
    parts, message = WRONG_PARTS[wrong]
    with pytest.raises(InvalidParameterError, match=message):
        take(parts)


def test_a_client_without_examples_is_refused_by_number_where_it_would_train():
    for parts in ([PARTS[0], []], [PARTS[0], np.zeros(10, bool)]):
        for name in ("run_federated", "run_round", "cohort_gradients"):
            with pytest.raises(InvalidParameterError, match="client 1 has no examples"):
                TAKES_PARTS[name](parts)
        assert label_counts(LABELS, parts)[1].sum() == 0


@given(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=5))
def test_a_mask_means_the_numbers_of_its_true_entries(owned):
    parts = [np.array(sorted(own)) for own in owned]
    for read, part in zip(as_parts([mask(part) for part in parts], 10), parts, strict=True):
        np.testing.assert_array_equal(read, part)


def test_clients_are_called_by_the_numbers_given():
    with pytest.raises(InvalidParameterError, match="client 17 has no examples"):
        as_parts([[0], []], 3, clients=[4, 17])


# --- random generators --------------------------------------------------------------------------

TAKES_A_GENERATOR = {
    "partition_iid": lambda source: partition_iid(LABELS, 2, source),
    "partition_dirichlet": lambda source: partition_dirichlet(LABELS, 2, 1.0, source),
    "partition_shards": lambda source: partition_shards(LABELS, 5, 2, source),
    "local_batches": lambda source: local_batches(PARTS, batch_size=2, rng=source),
    "run_round": lambda source: run_round(
        ServerState(PARAMS, None), [0], parts=PARTS, rng=source, **ROUND
    ),
}


@pytest.mark.parametrize(
    "source",
    [
        0,
        np.int64(3),
        None,
        True,
        "0",
        np.random.RandomState(0),
        np.random.SeedSequence(0),
        np.random,
        np.timedelta64(3),
    ],
    ids=str,
)
@pytest.mark.parametrize("take", TAKES_A_GENERATOR.values(), ids=TAKES_A_GENERATOR)
def test_what_is_no_generator_is_refused_with_the_line_to_write(take, source):
    line = re.escape("write rng=np.random.default_rng(")
    with pytest.raises(InvalidParameterError, match=f"rng must be a NumPy Generator, .*{line}"):
        take(source)


def test_a_seed_is_repeated_in_the_line_to_write():
    with pytest.raises(InvalidParameterError, match=r"default_rng\(7\)"):
        as_generator("rng", 7)


# --- numbers ------------------------------------------------------------------------------------

ONE = [1, 1.0, *(kind(1) for kind in (np.int8, np.uint64, np.float16, np.float32, np.longdouble))]


@pytest.mark.parametrize("number", [*ONE, Fraction(1), np.float64(1)], ids=repr)
def test_every_real_number_becomes_a_float_of_python(number):
    assert type(as_real("a", number)) is float
    assert as_real("a", number, least=1, most=1) == 1


@pytest.mark.parametrize(
    "wrong",
    [True, np.True_, "1", None, 1j, np.complex64(1), [1.0], np.ones(1), np.nan, np.float16("nan"),
     np.inf, -np.inf, 10**400, np.ma.masked, np.timedelta64(3), np.timedelta64(3, "s")],
    ids=repr,
)  # fmt: skip
def test_what_is_no_finite_real_number_is_refused(wrong):
    with pytest.raises(InvalidParameterError, match=r"^a must be finite, got "):
        as_real("a", wrong)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "message"),
    [
        ({"above": 0}, [1e-300, 5], [0, -1, np.inf], "positive and finite"),
        ({"least": 0}, [0, 5], [-1e-300, np.inf], "at least 0 and finite"),
        ({"least": 0, "below": 1}, [0, 0.999], [1, -0.1, np.inf], "at least 0 and below 1"),
        ({"above": 0, "most": np.inf}, [1, np.inf], [0, -np.inf, np.nan], "positive, got"),
        ({"most": 1}, [1, -5], [1.1, -np.inf], "at most 1"),
    ],
)
def test_bounds_of_numbers_hold_and_are_named(bounds, inside, outside, message):
    for number in inside:
        assert as_real("a", number, **bounds) == number
    for number in outside:
        with pytest.raises(InvalidParameterError, match=f"^a must be {message}"):
            as_real("a", number, **bounds)


@pytest.mark.parametrize("kind", [int, *map(np.dtype, INTEGERS)], ids=str)
def test_every_integer_becomes_an_integer_of_python(kind):
    number = 3 if kind is int else np.array(3, kind)[()]
    assert type(as_whole("n", number, least=3, most=3)) is int


@pytest.mark.parametrize(
    "wrong",
    [3.0, np.float32(3), True, np.True_, "3", None, [3], np.array(3), np.timedelta64(3, "s")],
)
def test_what_is_no_whole_number_is_refused(wrong):
    with pytest.raises(InvalidParameterError, match=r"^n must be a whole number, got "):
        as_whole("n", wrong)


@pytest.mark.parametrize(
    ("bounds", "wrong", "message"),
    [
        ({"least": 1}, 0, "of at least 1, got 0"),
        ({"most": 5}, 6, "of at most 5, got 6"),
        ({"least": 1, "most": 5}, -(10**30), "from 1 to 5, got -1000"),
    ],
)
def test_bounds_of_whole_numbers_are_named(bounds, wrong, message):
    with pytest.raises(InvalidParameterError, match=message):
        as_whole("n", wrong, **bounds)


# --- flags, classes, and values in a message ----------------------------------------------------


@pytest.mark.parametrize("flag", [True, False, np.True_, np.False_], ids=repr)
def test_a_boolean_is_a_flag(flag):
    assert type(as_flag("signed", flag)) is bool
    assert as_flag("signed", flag) == flag


@pytest.mark.parametrize(
    "wrong", ["no", "", 0, 1, 1.0, None, [], [True], np.array(True), 10**5000], ids=type
)
def test_what_is_no_boolean_is_no_flag(wrong):
    with pytest.raises(InvalidParameterError, match=r"^signed must be True or False, got "):
        as_flag("signed", wrong)


def test_a_value_of_another_class_is_refused_and_not_shown():
    assert as_kind("run", "a", str) == "a"
    with pytest.raises(InvalidParameterError) as caught:
        as_kind("run", b"SECRET", str, "the syllabus")
    assert str(caught.value) == "run must be of class str (see the syllabus), got bytes"


class Mute:
    def __repr__(self):
        raise RuntimeError("I say nothing")


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), [10**5000], (1, 10**5000), {"a": 10**5000}, Mute(), [Mute()], "x" * 99],
    ids=lambda value: type(value).__name__,
)
def test_every_value_can_be_said_in_a_short_line(value):
    assert len(shown(value)) <= 80
    with pytest.raises(InvalidParameterError, match=r"^n must be a whole number .*, got a"):
        as_whole("n", value, least=0, most=9)
    for check in (as_real, as_flag, as_generator):
        with pytest.raises(InvalidParameterError, match=r"^n must be"):
            check("n", value)


# --- arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (pd.DataFrame({"a": [0.5, 1.0], "b": [True, False]}), r"write a\.astype\(np\.float32\)"),
        ({3, 1}, r"a set has no order: write sorted\(a\)"),
        ([2**70, 1], "of int, and do not fit a number of 64 bits: write floats"),
        ([Fraction(1, 2), 0.5], "of Fraction and float, and do not fit"),
        ((i for i in range(3)), "a generator .* has to be collected"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_are_refused_with_what_to_write(value, hint):
    with pytest.raises(InvalidParameterError, match=f"^a must be one array of numbers.*{hint}"):
        as_array("a", value)


def test_a_list_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(InvalidParameterError):
        as_array("a", endless)


@pytest.mark.parametrize("wrong", [np.array(1.0), Decimal(1), True, "1", None, [1.0]], ids=repr)
def test_what_is_near_a_number_is_refused_with_what_to_write(wrong):
    for bounds in ({}, {"above": 0}, {"least": 0, "most": 2}):
        with pytest.raises(InvalidParameterError, match=r"a Python or NumPy number, .* float\(a\)"):
            as_real("a", wrong, **bounds)


def test_a_masked_array_inside_a_list_does_not_lose_its_mask():
    hidden = np.ma.masked_equal([1.0, -1.0], -1.0)
    for masked in (hidden, [hidden, hidden], (np.zeros(2), hidden), [[hidden]], [([hidden],)]):
        with pytest.raises(InvalidParameterError, match="a is a masked array"):
            as_array("a", masked)
        with pytest.raises(InvalidUpdateError, match="masked array"):
            mean(masked if masked is not hidden else hidden[None])


def test_the_error_of_an_array_is_that_of_its_border():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no array of mine")

    with pytest.raises(InvalidUpdateError, match=r"updates must be one array .* no array of mine"):
        as_array("updates", Broken(), InvalidUpdateError)
