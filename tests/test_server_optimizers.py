"""The server's step: FedAvg adds the aggregate, and state passes through the caller."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.aggregation import aggregate_models, mean
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.server_optimizers import sgd

numbers = st.floats(-1e6, 1e6, width=32)
pairs = st.integers(1, 20).flatmap(
    lambda d: st.tuples(*[hnp.arrays(np.float64, d, elements=numbers)] * 2)
)


def step(optimizer, params, update):
    return optimizer.apply(params, update, optimizer.init(params))[0]


def test_fedavg_gives_the_weighted_mean_of_the_models():
    # params + mean(models - params) = mean(models); float64 rounds both sums below 1e-15
    rng = np.random.default_rng(5)
    params, models = rng.standard_normal(7), rng.standard_normal((4, 7))
    weights = np.array([1.0, 5.0, 2.0, 2.0])
    got = step(sgd(1.0), params, mean(models - params, weights).update)
    (expected,) = aggregate_models([[model] for model in models], weights)
    np.testing.assert_allclose(got, expected, atol=1e-14)


@settings(deadline=None)
@given(pairs, st.floats(1e-3, 10))
def test_sgd_moves_by_the_learning_rate_times_the_update(pair, learning_rate):
    params, update = pair
    got = step(sgd(learning_rate), params, update)
    np.testing.assert_array_equal(got, params + learning_rate * update)


@settings(deadline=None)
@given(pairs)
def test_the_step_is_taken_towards_the_update_not_against_it(pair):
    params, update = pair
    assert ((step(sgd(), params, update) - params) * update >= 0).all()


def test_two_half_steps_are_one_whole_step():
    params, update = np.array([1.0, -3.0]), np.array([0.5, 8.0])
    half = sgd(0.5)
    state = half.init(params)
    for _ in range(2):
        params, state = half.apply(params, update, state)
    np.testing.assert_array_equal(params, [1.5, 5.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_keep_their_dtype_and_arguments_their_values(dtype):
    params, update = np.ones(3, dtype), np.full(3, 2.0)
    got = step(sgd(0.25), params, update)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, [1.5, 1.5, 1.5])
    np.testing.assert_array_equal(params, 1.0)
    np.testing.assert_array_equal(update, 2.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_learning_rates_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match=f"learning_rate .* got {bad}"):
        sgd(bad)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (4,), (1, 3), (3, 1)], ids=str)
def test_an_update_that_would_broadcast_is_refused(shape):
    with pytest.raises(InvalidUpdateError, match=r"shape of the model, \(3,\), got"):
        step(sgd(), np.zeros(3), np.ones(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38])
def test_a_step_into_nan_or_inf_is_refused(bad):
    params = np.full(3, 1e38, np.float32)
    with pytest.raises(InvalidUpdateError, match="leave 1 of 3 weights NaN or Inf"):
        step(sgd(), params, np.array([0.0, bad, 0.0], np.float32))
    np.testing.assert_array_equal(params, np.float32(1e38))


def test_an_optimizer_cannot_be_altered():
    with pytest.raises(FrozenInstanceError):
        sgd().apply = None
