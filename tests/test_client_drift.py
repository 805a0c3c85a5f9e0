"""Client drift: what two numbers and a picture say of the updates of one round."""

import numpy as np
import pytest

from fltutor.aggregation import Drift, client_drift, drift
from fltutor.errors import InvalidParameterError, InvalidUpdateError


def test_drift_of_equal_updates_is_none_and_of_opposite_ones_is_total():
    same = drift(np.tile([1.0, 2.0, 2.0], (3, 1)))
    assert (same.agreement, same.kept) == pytest.approx((1, 1))
    np.testing.assert_allclose(same.arrows, [[3, 0]] * 3, atol=1e-12)
    opposite = drift(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert (opposite.agreement, opposite.kept) == pytest.approx((-1, 0))


def test_drift_is_the_mean_over_all_pairs_and_turns_with_the_updates():
    rng = np.random.default_rng(1)
    updates = rng.normal(1, 1, size=(5, 7))
    found = drift(updates)
    cosines = [
        updates[i] @ updates[j] / np.linalg.norm(updates[i]) / np.linalg.norm(updates[j])
        for i in range(5)
        for j in range(i)
    ]
    assert found.agreement == pytest.approx(np.mean(cosines))
    average = updates.mean(axis=0)
    lengths = np.linalg.norm(updates, axis=1)
    assert found.kept == pytest.approx(np.linalg.norm(average) / lengths.mean())
    np.testing.assert_allclose(found.arrows.mean(axis=0), found.average, atol=1e-12)

    turned = drift(updates @ np.linalg.qr(rng.normal(size=(7, 7)))[0])
    np.testing.assert_allclose(turned.arrows, found.arrows, atol=1e-10)
    assert turned.agreement == pytest.approx(found.agreement)


def test_drift_weighs_clients_as_the_server_does():
    updates = np.array([[3.0, 4.0], [3.0, -4.0]])
    np.testing.assert_allclose(drift(updates, [1, 0]).average, [5, 0])
    assert drift(updates, [2, 2]).kept == drift(updates).kept == pytest.approx(0.6)
    assert drift(updates[:1]).agreement == 1


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_update_without_a_direction_is_refused_by_name(bad):
    with pytest.raises(InvalidUpdateError, match="client 1"):
        drift(np.array([[1.0, 0.0], [bad, 0.0]]))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1], r"for each of 2 clients, got shape \(1,\)"),
        ([1, -1], "at least 0, got -1 for client 1"),
        ([1, np.nan], "finite and at least 0, got nan for client 1"),
        ([True, True], "must be numbers, got True for client 0"),
        ([0, 0], "positive, finite total, got 0"),
        ([1e308, 1e308], "positive, finite total, got inf"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_weights_that_mean_nothing_are_refused(weights, words):
    with pytest.raises(InvalidParameterError, match=words):
        drift(np.eye(2), weights)


def test_the_function_does_not_hide_the_module_it_lives_in():
    assert client_drift.drift is drift
    assert client_drift.Drift is Drift
