"""The server's step: FedAvg adds the aggregate, and state passes through the caller."""

import copy
import math
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.aggregation import aggregate_models, mean
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.server_optimizers import adagrad, adam, momentum, sgd, yogi
from fltutor.tensorflow_quietly import keras

BAD = (0.0, -1.0, math.nan, math.inf)

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


@given(pairs, st.floats(1e-3, 10))
def test_sgd_moves_by_the_learning_rate_times_the_update(pair, learning_rate):
    params, update = pair
    got = step(sgd(learning_rate), params, update)
    np.testing.assert_array_equal(got, params + learning_rate * update)


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


# --- momentum and the adaptive methods ----------------------------------------------------------

ADAPTIVE = {"adagrad": adagrad, "adam": adam, "yogi": yogi}
ROUNDS = np.array([[1.0, -2.0, 0.0], [0.5, 4.0, 1e-3], [-3.0, 1.0, 1e-3], [0.25, 0.5, 2.0]])


def walk(optimizer, updates, start=None):
    """The weights after each round, and the last state."""
    params = np.zeros(updates.shape[1]) if start is None else start
    state, path = optimizer.init(params), []
    for update in updates:
        params, state = optimizer.apply(params, update, state)
        path.append(params)
    return np.array(path), state


def algorithm_2(name, updates, *, rate, beta_1, beta_2, tau):
    """Reddi et al. 2021, Algorithm 2, one coordinate at a time, in Python's floats."""
    path = []
    for column in updates.T.tolist():
        x, m, v, own = 0.0, 0.0, tau**2, []
        for delta in column:
            m = beta_1 * m + (1 - beta_1) * delta
            if name == "adagrad":
                v = v + delta**2
            elif name == "adam":
                v = beta_2 * v + (1 - beta_2) * delta**2
            else:
                sign = (v > delta**2) - (v < delta**2)
                v = v - (1 - beta_2) * delta**2 * sign
            x = x + rate * m / (math.sqrt(v) + tau)
            own.append(x)
        path.append(own)
    return np.array(path).T


@pytest.mark.parametrize("name", ADAPTIVE)
@settings(max_examples=50)
@given(
    hnp.arrays(np.float64, (5, 3), elements=st.floats(-1e3, 1e3)),
    st.floats(1e-3, 10),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0.0, 0.9, 0.99]),
    st.sampled_from([1e-4, 1e-2, 1.0]),
)
def test_adaptive_methods_are_algorithm_2(name, updates, rate, beta_1, beta_2, tau):
    own = {} if name == "adagrad" else {"beta_2": beta_2}
    got, _ = walk(ADAPTIVE[name](rate, beta_1=beta_1, tau=tau, **own), updates)
    expected = algorithm_2(name, updates, rate=rate, beta_1=beta_1, beta_2=beta_2, tau=tau)
    scale = rate * np.abs(updates).max() / tau + 1  # no step is longer, nor its rounding
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14 * scale)


@settings(max_examples=50)
@given(hnp.arrays(np.float64, (6, 3), elements=st.floats(-1e3, 1e3)), st.floats(0, 0.99))
def test_momentum_is_the_sum_of_fading_updates(updates, beta):
    got, velocity = walk(momentum(0.5, beta=beta), updates)
    fading = [sum(beta ** (t - s) * updates[s] for s in range(t + 1)) for t in range(len(updates))]
    np.testing.assert_allclose(velocity, fading[-1], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(got, 0.5 * np.cumsum(fading, axis=0), rtol=1e-12, atol=1e-9)


def test_keras_steps_the_same_where_the_definitions_meet():
    # Keras subtracts gradients, so it is given minus the update. Its Adagrad adds epsilon inside
    # the root, its Adam corrects the bias of both moments: with beta_1 = 0, and the correction
    # of v, 1 - beta_2^t, put into the rate, its step is rate / sqrt(1 - beta_2^t) times ours.
    def keras_walk(optimizer):
        variable, path = keras.Variable(np.zeros(3, np.float32)), []
        for update in ROUNDS:
            optimizer.apply([-update.astype(np.float32)], [variable])
            path.append(variable.numpy())
        return np.array(path)

    sgd_path = keras_walk(keras.optimizers.SGD(0.1, momentum=0.9))
    # Keras' velocity holds the rate: v <- 0.9 v - rate g, the same while the rate stays
    np.testing.assert_allclose(walk(momentum(0.1, beta=0.9), ROUNDS)[0], sgd_path, rtol=1e-5)

    tau = 1e-6
    adagrad_path = keras_walk(
        keras.optimizers.Adagrad(0.1, initial_accumulator_value=tau**2, epsilon=1e-14)
    )
    ours = walk(adagrad(0.1, tau=tau), ROUNDS[:, :2])[0]
    np.testing.assert_allclose(ours, adagrad_path[:, :2], rtol=1e-4)

    # one step only: afterwards the correction of the bias makes them part
    first = keras_walk(keras.optimizers.Adam(0.1, beta_1=0.0, beta_2=0.99, epsilon=1e-12))[0]
    ours = walk(adam(0.1, beta_1=0.0, beta_2=0.99, tau=1e-9), ROUNDS[:1, :2])[0][0]
    np.testing.assert_allclose(ours * np.sqrt(1 - 0.99), first[:2], rtol=1e-4)


# The weights of TensorFlow Federated's own tests, from 1 with the gradient 2 in every step, no
# epsilon, and an accumulator that begins at 0: tensorflow_federated/python/learning/optimizers,
# sgdm_test.py (test_math_momentum_0_5), adagrad_test.py (test_math_no_momentum), adam_test.py and
# yogi_test.py (test_math).
TFF = {
    "momentum": (0.98, 0.95, 0.915, 0.8775),
    "adagrad": (0.99, 0.9829289, 0.9771554, 0.9721554),
    "adam": (0.9000007, 0.8000017, 0.700002, 0.600003),
    "yogi": (0.9000007, 0.8000267, 0.700077, 0.600153),
}


def corrected(rate, step):
    """TFF's rate of Adam and Yogi in a step from 1 on; Algorithm 2 does not correct the bias."""
    return rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("momentum", lambda step: momentum(0.01, beta=0.5)),
        ("adagrad", lambda step: adagrad(0.01, tau=1e-9)),
        ("adam", lambda step: adam(corrected(0.1, step), beta_2=0.999, tau=1e-9)),
        ("yogi", lambda step: yogi(corrected(0.1, step), beta_2=0.999, tau=1e-9)),
    ],
)
def test_numbers_of_tff_come_out_once_the_bias_is_corrected(name, make):
    params = np.array([1.0])
    state, path = make(1).init(params), []
    for step in range(1, 5):
        params, state = make(step).apply(params, np.array([-2.0]), state)
        path.append(params.item())
    # TFF has 0.999 in float32, off by up to 2^-25 or 3e-5 of 1 - 0.999; half of that is in the
    # root, and so in each of four steps of 0.1
    np.testing.assert_allclose(path, TFF[name], rtol=0, atol=4 * 0.1 * 1.5e-5)


def test_worked_numbers():
    # tau = 1, updates 1 and then 2, rate 1, no momentum, beta_2 = 0.75: by hand
    updates = np.array([[1.0], [2.0]])
    paths = {
        "adagrad": ([2.0, 6.0], {}),  # 1 + 1, 2 + 4
        "adam": ([1.0, 1.75], {"beta_2": 0.75}),  # 0.75 + 0.25, 0.75 + 1
        "yogi": ([1.0, 2.0], {"beta_2": 0.75}),  # 1 - 0.25 * 0, 1 + 0.25 * 4
    }
    for name, (squares, own) in paths.items():
        path, state = walk(ADAPTIVE[name](1.0, beta_1=0.0, tau=1.0, **own), updates)
        steps = np.array([1.0, 2.0]) / (np.sqrt(squares) + 1)
        np.testing.assert_allclose(path[:, 0], np.cumsum(steps), rtol=1e-15)
        np.testing.assert_allclose(state.square, squares[-1], rtol=1e-15)


def test_yogi_forgets_a_large_update_slowly_and_adam_quickly():
    updates = np.array([[10.0]] + [[0.01]] * 50)
    after = {
        name: walk(ADAPTIVE[name](1.0, beta_2=0.9, tau=1e-3), updates)[1].square.item()
        for name in ("adam", "yogi")
    }
    assert after["adam"] < 0.1
    assert after["yogi"] > 9.9


def test_without_bias_correction_a_first_step_of_adam_is_short():
    # m = 0.1 u and v = 0.01 u^2 + 0.99 tau^2: for u far above tau a step of about the rate
    first = walk(adam(0.1, tau=1e-9), np.array([[5.0]]))[0].item()
    assert first == pytest.approx(0.1 * 0.1 / 0.1, rel=1e-6)


@pytest.mark.parametrize("make", [momentum, *ADAPTIVE.values()], ids=["momentum", *ADAPTIVE])
def test_neither_state_nor_arguments_change(make):
    optimizer = make(0.5)
    params, update = np.ones(3, np.float32), np.full(3, 2.0)
    state = optimizer.init(params)
    copies = copy.deepcopy(state)
    once, later = optimizer.apply(params, update, state)
    again, _ = optimizer.apply(params, update, state)
    np.testing.assert_array_equal(once, again)
    assert once.dtype == np.float32
    np.testing.assert_array_equal(params, 1)
    np.testing.assert_array_equal(update, 2)
    for before, after in zip(arrays_of(state), arrays_of(copies), strict=True):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(InvalidUpdateError, match="NaN or Inf"):
        optimizer.apply(params, np.array([0.0, math.nan, 0.0]), later)
    with pytest.raises(InvalidUpdateError, match=r"shape of the model, \(3,\), got"):
        optimizer.apply(params, np.ones(4), state)
    with pytest.raises(InvalidParameterError, match=r"start with init"):
        optimizer.apply(np.ones(4), np.ones(4), state)


def arrays_of(state):
    return [state] if isinstance(state, np.ndarray) else [state.mean, state.square]


@pytest.mark.parametrize(
    ("make", "name", "bad"),
    [
        *[(make, "learning_rate", bad) for make in (momentum, adagrad, adam, yogi) for bad in BAD],
        *[(momentum, "beta", bad) for bad in (-0.1, 1.0, math.nan)],
        *[(make, "beta_1", bad) for make in (adagrad, adam, yogi) for bad in (-0.1, 1.0, math.nan)],
        *[(make, "beta_2", bad) for make in (adam, yogi) for bad in (-0.1, 1.0, math.nan)],
        *[(make, "tau", bad) for make in (adagrad, adam, yogi) for bad in (*BAD, 1e-200, 1e200)],
    ],
)
def test_arguments_out_of_range_are_refused(make, name, bad):
    with pytest.raises(InvalidParameterError, match=rf"{name} must .* got {re.escape(str(bad))}$"):
        make(**{"learning_rate": 0.1, name: bad})


def test_an_update_whose_square_is_infinite_is_refused():
    optimizer = adagrad(0.1)
    state = optimizer.init(np.zeros(2))
    with pytest.raises(InvalidUpdateError, match="NaN or Inf"):
        optimizer.apply(np.zeros(2), np.array([1e200, 1.0]), state)


# --- weights and updates of any type ------------------------------------------------------------

EVERY = {"sgd": sgd, "momentum": momentum, **ADAPTIVE}
EACH_OPTIMIZER = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


@EACH_OPTIMIZER
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, bool, complex, object])
def test_weights_that_would_never_move_are_refused(make, dtype):
    optimizer, params = make(0.5), np.ones(3, dtype)
    state = optimizer.init(np.ones(3))
    with pytest.raises(InvalidParameterError, match=r"^params must"):
        optimizer.init(params)
    with pytest.raises(InvalidParameterError, match=r"^params must"):
        optimizer.apply(params, np.ones(3), state)


@EACH_OPTIMIZER
@pytest.mark.parametrize(
    "update",
    [
        np.ma.masked_equal([1.0, 2.0, -1.0], -1.0),
        np.ones(3, complex),
        np.ones(3, bool),
        np.array(["1"] * 3),
        np.array([None] * 3),
        None,
    ],
    ids=lambda update: f"{type(update).__name__} {getattr(update, 'dtype', '')}",
)
def test_updates_that_are_no_real_numbers_are_refused(make, update):
    optimizer = make(0.5)
    with pytest.raises(InvalidUpdateError, match=r"^update (must|is a masked)"):
        optimizer.apply(np.ones(3), update, optimizer.init(np.ones(3)))


@EACH_OPTIMIZER
def test_tensors_lists_and_whole_updates_step_like_arrays(make):
    optimizer = make(0.5)
    expected = step(optimizer, np.ones(3, np.float32), np.full(3, 2.0))
    for params in (np.ones(3, np.float32), keras.ops.ones((3,), "float32")):
        for update in ([2, 2, 2], np.full(3, 2, np.uint8), keras.ops.full((3,), 2.0)):
            got = step(optimizer, params, update)
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, expected)


@EACH_OPTIMIZER
@pytest.mark.parametrize("low", [np.float16, np.float32, np.longdouble])
def test_settings_of_any_precision_count_as_python_floats(make, low):
    names = {"sgd": (), "momentum": ("beta",), "adagrad": ("beta_1", "tau")}.get(
        make.__name__, ("beta_1", "beta_2", "tau")
    )
    settings = {"learning_rate": low(0.1)} | {name: low(0.3) for name in names}
    plain = {name: float(value) for name, value in settings.items()}
    params, update = np.linspace(0, 1, 5, dtype=np.float32), np.linspace(3, 1, 5)
    got, expected = step(make(**settings), params, update), step(make(**plain), params, update)
    assert got.tobytes() == expected.tobytes()


@EACH_OPTIMIZER
def test_an_overflow_is_called_one_and_nan_is_not(make):
    optimizer = make(3e38)
    params = np.full(3, 3e38, np.float32)
    with pytest.raises(InvalidUpdateError, match="NaN or Inf: an overflow of float32"):
        optimizer.apply(params, np.full(3, 1e3), optimizer.init(params))
    with pytest.raises(InvalidUpdateError, match="the update holds NaN at coordinate 1"):
        optimizer.apply(params, np.array([0, math.nan, 0]), optimizer.init(params))


@pytest.mark.parametrize("make", ADAPTIVE.values(), ids=ADAPTIVE)
@pytest.mark.parametrize("state", [None, np.zeros(3), (np.zeros(3), np.zeros(3))])
def test_a_state_of_another_optimizer_is_refused(make, state):
    with pytest.raises(InvalidParameterError, match=r"state must be Moments, .* init\(params\)"):
        make(0.1).apply(np.ones(3), np.ones(3), state)


@pytest.mark.parametrize(
    "optimizer", [adagrad(0.1), adam(0.1), yogi(0.1)], ids=["adagrad", "adam", "yogi"]
)
@pytest.mark.parametrize("size", [1e200, -1.7e308])
def test_an_update_whose_square_overflows_is_told_so(optimizer, size):
    params = np.zeros(3)
    with pytest.raises(InvalidUpdateError, match=r"its square is Inf at coordinate 1") as e:
        optimizer.apply(params, np.array([0.0, size, 1.0]), optimizer.init(params))
    assert "learning rate" not in str(e.value)
