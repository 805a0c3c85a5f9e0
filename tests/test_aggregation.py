"""Averages agree with NumPy, refusals name the client, and noise has the stated size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fltutor.aggregation import aggregate_gradients, aggregate_models, dp_mean, mean
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.models import mlp
from fltutor.protocols import encrypted_sum, plain_sum
from fltutor.tensorflow_quietly import tf
from fltutor.transcript import Phase
from fltutor.vectors import flatten, row_norms, unflatten

LISTS = pytest.mark.parametrize("aggregate", [aggregate_gradients, aggregate_models])
UPDATES = np.random.default_rng(4).normal(size=(5, 7))
WEIGHTS = [3, 0, 1.5, 2, 10]


def models(num_clients=3, dtype=np.float32):
    rng = np.random.default_rng(1)
    return [
        [rng.normal(size=(4, 3)).astype(dtype), rng.normal(size=3).astype(dtype)]
        for _ in range(num_clients)
    ]


# --- lists of tensors ---------------------------------------------------------------------------


@st.composite
def cohorts(draw):
    """Clients with equal shapes, and weights of which one at least is not zero."""
    num_clients = draw(st.integers(1, 6))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    shapes = draw(st.lists(hnp.array_shapes(min_dims=0, min_side=0, max_side=3), min_size=1))
    largest = 1000.0 if dtype == np.float16 else 2.0**100
    elements = st.floats(-largest, largest, width=8 * np.dtype(dtype).itemsize)
    clients = [
        [draw(hnp.arrays(dtype, shape, elements=elements)) for shape in shapes]
        for _ in range(num_clients)
    ]
    weight = st.integers(0, 10**6) | st.floats(0, 1e6)
    weights = draw(st.lists(weight, min_size=num_clients, max_size=num_clients).filter(any))
    return clients, weights


def assert_average(got, clients, weights):
    """Compare with ``np.average`` in float64, its weights scaled so that no product underflows.

    Both add n products in float64, each rounding by 2^-53 of a product, and so differ by
    2 (n + 3) 2^-53 of the largest number at most; then the dtype of the tensor rounds,
    by half of its eps, or of its smallest number.
    """
    weights = np.asarray(weights, np.float64) / max(weights)
    for position, average in enumerate(got):
        stack = np.stack([client[position] for client in clients]).astype(np.float64)
        assert average.dtype == clients[0][position].dtype
        assert average.shape == stack.shape[1:]
        info = np.finfo(average.dtype)
        np.testing.assert_allclose(
            average.astype(np.float64),
            np.average(stack, axis=0, weights=weights),
            rtol=float(info.eps),
            atol=2 * (len(clients) + 3) * 2.0**-53 * np.abs(stack).max(initial=0)
            + float(info.smallest_subnormal),
        )


@given(cohorts(), st.randoms(use_true_random=False))
def test_averages_are_those_of_numpy_in_any_order_of_clients(cohort, random):
    clients, weights = cohort
    before = [[tensor.copy() for tensor in client] for client in clients]
    assert_average(aggregate_models(clients, weights), clients, weights)
    pairs = list(zip(clients, weights, strict=True))
    random.shuffle(pairs)
    assert_average(aggregate_gradients(*zip(*pairs, strict=True)), clients, weights)
    for client, copies in zip(clients, before, strict=True):
        for tensor, copy in zip(client, copies, strict=True):
            np.testing.assert_array_equal(tensor, copy)


@LISTS
def test_equal_models_average_to_themselves(aggregate):
    (model,) = models(1)
    for got, expected in zip(aggregate([model] * 3, [1, 2, 3]), model, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2.0**-23)


@LISTS
def test_one_client_alone_is_returned_bit_by_bit(aggregate):
    clients = models(3)
    for got, expected in zip(aggregate(clients, [0, 5, 0]), clients[1], strict=True):
        assert got.tobytes() == expected.tobytes()


@LISTS
def test_clients_may_come_from_a_generator(aggregate):
    clients = models(3)
    (expected, *_), (got, *_) = (
        aggregate(given, [1, 2, 3]) for given in (clients, (iter(client) for client in clients))
    )
    np.testing.assert_array_equal(got, expected)


@LISTS
@pytest.mark.parametrize(
    ("clients", "message"),
    [
        (None, "must be a list, got NoneType"),
        ({0: [np.ones(1)], 1: [np.ones(1)]}, "must be a list, got dict"),
        ([mlp(), mlp()], r"of client 0 must be a list, got Sequential: write model.get_weights"),
        ([[np.ones(1)], None], "of client 1 must be a list, got NoneType"),
        ([[np.ones(1)], {"w": 1.0}], "of client 1 must be a list, got dict"),
        ([[np.ones(1)], np.float32(1)], "of client 1 must be a list"),
        ([[np.ones(1)], tf.constant(1.0)], "of client 1 must be a list"),
        ([[tf.ones(1, tf.bfloat16)]] * 2, "bfloat16, needed .*: cast it to float32"),
    ],
)
def test_what_is_no_list_of_tensors_is_refused(aggregate, clients, message):
    with pytest.raises((InvalidParameterError, InvalidUpdateError), match=message):
        aggregate(clients, [1, 1])


@LISTS
def test_integers_average_to_fractions_and_0d_tensors_keep_their_shape(aggregate):
    counts, step = aggregate([[np.array([1, 2]), 3], [np.array([2, 2]), 4]], [1, 1])
    np.testing.assert_array_equal(counts, [1.5, 2.0])
    assert counts.dtype == step.dtype == np.float64
    assert step.shape == ()
    assert step == 3.5


@LISTS
def test_large_unsigned_integers_do_not_wrap(aggregate):
    (average,) = aggregate([[np.array([250], np.uint8)], [np.array([252], np.uint8)]], [1, 1])
    np.testing.assert_array_equal(average, [251.0])


@LISTS
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
def test_the_dtype_does_not_depend_on_which_client_comes_first(aggregate, order):
    clients = [[np.array([1], np.int32)], [np.array([0.25], np.float64)]]
    (average,) = aggregate([clients[i] for i in order], [1, 1])
    assert average.dtype == np.float64
    np.testing.assert_array_equal(average, [0.625])


@LISTS
def test_weights_of_any_finite_size_work(aggregate):
    for scale in (1e-300, 1.0, 1e300):
        (average,) = aggregate([[np.array([1.0])], [np.array([4.0])]], [2 * scale, scale])
        np.testing.assert_allclose(average, [2.0], rtol=1e-15)


@LISTS
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors[:1], "client 1 hold 1 tensors, needed 2"),
        (lambda tensors: [*tensors, tensors[0]], "client 1 hold 3 tensors, needed 2"),
        (lambda tensors: [], "client 1 hold 0 tensors, needed 2"),
        (lambda tensors: tensors[::-1], r"client 1, tensor 0: shape \(3,\), needed \(4, 3\)"),
        (lambda tensors: [tensors[0], tensors[1][:1]], r"tensor 1: shape \(1,\), needed \(3,\)"),
        (lambda tensors: [tensors[0], np.float32(1)], r"tensor 1: shape \(\), needed \(3,\)"),
        (lambda tensors: [tensors[0].T, tensors[1]], r"shape \(3, 4\), needed \(4, 3\)"),
        (lambda tensors: [tensors[0] * np.nan, tensors[1]], r"tensor 0: holds NaN at \(0, 0\)"),
        (lambda tensors: [tensors[0], tensors[1] + np.inf], "client 1, tensor 1: holds Inf at 0"),
        (lambda tensors: [tensors[0] > 0, tensors[1]], "client 1, tensor 0: dtype bool"),
        (lambda tensors: [tensors[0] * 1j, tensors[1]], "client 1, tensor 0: dtype complex64"),
        (lambda tensors: [tensors[0].astype(str), tensors[1]], "client 1, tensor 0: dtype <U"),
        (lambda tensors: [None, tensors[1]], "client 1, tensor 0 is None: no loss depends on"),
    ],
    ids=[
        "one missing", "one too many", "all missing", "reordered", "would broadcast",
        "0-d would broadcast", "transposed", "NaN", "Inf", "bool", "complex", "text", "None",
    ],
)  # fmt: skip
@pytest.mark.parametrize("weight", [1, 0])
def test_an_unusable_client_is_named(aggregate, spoil, message, weight):
    clients = models(3)
    clients[1] = spoil(clients[1])
    with pytest.raises(InvalidUpdateError, match=message):
        aggregate(clients, [1, weight, 1])


@LISTS
def test_no_clients_and_no_tensors_are_refused(aggregate):
    with pytest.raises(InvalidParameterError, match="at least one client, got none"):
        aggregate([], [])
    with pytest.raises(InvalidParameterError, match="client 0 must hold at least one tensor"):
        aggregate([[], []], [1, 1])


BAD_WEIGHTS = pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"one number for each of 3 clients, got shape \(2,\)"),
        ([1, 2, 3, 4], r"got shape \(4,\)"),
        (2.0, r"got shape \(\)"),
        ([[1], [2], [3]], r"got shape \(3, 1\)"),
        ([1, -2, 1], "at least 0, got -2 for client 1"),
        ([1, 2, np.nan], "got nan for client 2"),
        ([np.inf, 2, 1], "got inf for client 0"),
        ([0, 0, 0.0], "positive, finite total, got 0.0"),
        ([1e308, 1e308, 1e308], "positive, finite total, got inf"),
        ([True, False, True], "must be numbers, got True for client 0"),
        ([2, True, 1], "must be numbers, got True for client 1"),
        (np.array([True, True, False]), "must be numbers, got np.True_ for client 0"),
        (["1", "2", "3"], "must be numbers, got '1' for client 0"),
        ([1, 1j, 1], "must be numbers, got 1j for client 1"),
        ([1, None, 1], "must be numbers, got None for client 1"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)


@LISTS
@BAD_WEIGHTS
def test_unusable_weights_are_refused_for_lists(aggregate, weights, message):
    with pytest.raises(InvalidParameterError, match=message):
        aggregate(models(3), weights)


@BAD_WEIGHTS
def test_unusable_weights_are_refused_for_a_matrix(weights, message):
    with pytest.raises(InvalidParameterError, match=message):
        mean(UPDATES[:3], weights)


# --- mean over a sum protocol -------------------------------------------------------------------


@given(
    st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
            elements=st.floats(-100, 100, width=16),
        )
    ),
    st.data(),
)
def test_mean_is_the_weighted_average_of_numpy_in_any_order_of_clients(updates, data):
    n = len(updates)
    weights = np.array(data.draw(st.lists(st.integers(0, 100), min_size=n, max_size=n).filter(any)))
    order = data.draw(st.permutations(range(n)))
    exact = updates.astype(np.float64)
    expected = np.average(exact, axis=0, weights=weights)
    # n roundings of products and sums in the dtype the rows are added in, and a division;
    # NumPy's own average rounds as often in float64
    unit = float(np.finfo(np.promote_types(updates.dtype, np.float32)).eps) / 2 + 2.0**-53
    bound = (n + 1) * unit * np.average(np.abs(exact), axis=0, weights=weights)
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    before = updates.copy()
    for rows in (range(n), order):
        result = mean(updates[rows], weights[rows])
        assert result.update.dtype == np.float64
        assert (np.abs(result.update - expected) <= bound + n * tiny).all()
    np.testing.assert_array_equal(updates, before)


def test_mean_weighs_all_alike_by_default():
    np.testing.assert_allclose(mean(UPDATES).update, UPDATES.mean(axis=0), rtol=1e-14)


def test_mean_divides_by_the_weights_of_those_who_came():
    result = mean(UPDATES, WEIGHTS, dropped={0: Phase.UPLOAD, 4: Phase.UNMASKING})
    came = [1, 2, 3, 4]
    expected = np.average(UPDATES[came], axis=0, weights=np.array(WEIGHTS)[came])
    np.testing.assert_allclose(result.update, expected, rtol=1e-14)
    assert result.included == (1, 2, 3, 4)
    assert not result.demonstration


def test_a_protocol_sees_weighted_rows_with_the_weight_beside_them():
    result = mean(UPDATES, WEIGHTS, sum_protocol=lambda r, d: plain_sum(r, d, keep_payloads=True))
    for message, update, weight in zip(result.transcript, UPDATES, WEIGHTS, strict=True):
        np.testing.assert_allclose(message.payload, np.append(weight * update, weight))
        assert message.num_bytes == message.payload.nbytes
    quick = mean(UPDATES, WEIGHTS)
    assert [m.num_bytes for m in quick.transcript] == [m.num_bytes for m in result.transcript]
    np.testing.assert_allclose(quick.update, result.update, rtol=1e-14)


@pytest.mark.parametrize("sum_protocol", [plain_sum, encrypted_sum])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weight", [0, 1])
def test_mean_names_the_client_with_nan_or_inf(sum_protocol, dtype, bad, weight):
    updates = np.ones((4, 1000), dtype)
    updates[2, 777] = bad
    with pytest.raises(InvalidUpdateError, match="the update of client 2 holds NaN or Inf"):
        mean(updates, [1, 1, weight, 1], sum_protocol=sum_protocol)


@pytest.mark.parametrize("sum_protocol", [plain_sum, encrypted_sum])
def test_what_a_dropped_client_never_sent_is_not_looked_at(sum_protocol):
    updates = UPDATES.copy()
    updates[1] = np.nan
    result = mean(updates, sum_protocol=sum_protocol, dropped={1: Phase.KEYS})
    np.testing.assert_allclose(result.update, UPDATES[[0, 2, 3, 4]].mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize(
    "updates", [np.ones(3), np.ones((0, 3)), np.ones((2, 2, 2)), np.ones((2, 2), int)], ids=str
)
def test_mean_needs_a_float_matrix(updates):
    with pytest.raises(InvalidUpdateError, match="updates must"):
        mean(updates)


@pytest.mark.parametrize(
    ("dtype", "weight"),
    [(np.float32, 1e39), (np.float32, 1e-50), (np.float16, 70000), (np.float16, 1e-9)],
)
def test_weights_that_the_rows_cannot_carry_are_refused(dtype, weight):
    with pytest.raises(InvalidParameterError, match=r"travel as float.*cannot hold .* of client 1"):
        mean(np.ones((2, 3), dtype), [1, weight])


@pytest.mark.filterwarnings("error")
def test_a_sum_beyond_the_range_is_refused():
    with pytest.raises(InvalidUpdateError, match="leaves the range of float32"):
        mean(np.full((3, 2), 2e38, np.float32))


def test_float16_rows_are_not_added_in_float16():
    # 3000 + 1 has no float16: a running sum in it would stay at 3000 or jump by 2
    assert mean(np.ones((5000, 1), np.float16)).update == 1.0
    assert mean(np.full((3, 1), 60000, np.float16)).update == 60000


def test_zero_weight_of_all_who_came_is_refused():
    with pytest.raises(InvalidParameterError, match="zero in total over those who arrived"):
        mean(UPDATES[:2], [0, 1], dropped={1: Phase.UPLOAD})


# --- dp_mean ------------------------------------------------------------------------------------

NO_NOISE = {"noise_multiplier": 0, "allow_no_noise": True}


def test_without_noise_dp_mean_is_the_clipped_sum_over_the_expected_cohort():
    clip_norm = float(np.median(row_norms(UPDATES)))
    result = dp_mean(UPDATES, clip_norm=clip_norm, expected_cohort=8, **NO_NOISE)
    scale = np.minimum(1, clip_norm / np.linalg.norm(UPDATES, axis=1, keepdims=True))
    np.testing.assert_allclose(result.update, (UPDATES * scale).sum(axis=0) / 8, rtol=1e-13)
    assert result.included == (0, 1, 2, 3, 4)


@given(
    hnp.arrays(
        np.float64, (4, 3), elements=st.floats(allow_nan=True, allow_infinity=True, width=64)
    ),
    hnp.arrays(np.float64, 3, elements=st.floats(allow_nan=True, allow_infinity=True, width=64)),
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # norms beyond float64
def test_one_client_moves_the_sum_by_no_more_than_the_clip_norm(others, row):
    without = dp_mean(others, clip_norm=2.0, expected_cohort=1, **NO_NOISE).update
    with_row = dp_mean(np.vstack([others, row]), clip_norm=2.0, expected_cohort=1, **NO_NOISE)
    # each of five clipped rows and four sums rounds by 2^-53 of at most 10
    assert np.linalg.norm(with_row.update - without) <= 2.0 + 100 * 2.0**-53


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_nan_or_inf_counts_as_zero(bad):
    updates = UPDATES.copy()
    updates[1, 3] = bad
    zeroed = UPDATES.copy()
    zeroed[1] = 0
    settings = {"clip_norm": 1.0, "expected_cohort": 5, **NO_NOISE}
    spoilt = dp_mean(updates, **settings)
    np.testing.assert_array_equal(spoilt.update, dp_mean(zeroed, **settings).update)
    assert spoilt.included == (0, 1, 2, 3, 4)  # nobody is singled out
    assert np.isnan(updates[1, 3]) or np.isinf(updates[1, 3])  # the argument is as it was


def test_zero_updates_add_nothing():
    update = dp_mean(np.zeros((3, 4)), clip_norm=1.0, expected_cohort=3, **NO_NOISE).update
    np.testing.assert_array_equal(update, np.zeros(4))


def test_weights_are_refused_with_the_reason():
    with pytest.raises(InvalidParameterError, match="would let one client move the sum by more"):
        dp_mean(UPDATES, WEIGHTS, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=5)


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf])
def test_expected_cohorts_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match=f"expected_cohort must .* got {bad}"):
        dp_mean(UPDATES, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=bad)


@pytest.mark.parametrize("clip_norm", [0, -1, np.nan, np.inf])
@pytest.mark.parametrize("num_clients", [0, 5])
def test_clip_norms_out_of_range_are_refused(clip_norm, num_clients):
    with pytest.raises(InvalidParameterError, match=f"positive and finite, got {clip_norm}"):
        dp_mean(UPDATES[:num_clients], clip_norm=clip_norm, noise_multiplier=1.0, expected_cohort=5)


@pytest.mark.parametrize("noise_multiplier", [0, -1, np.nan, np.inf])
def test_noise_multipliers_out_of_range_are_refused(noise_multiplier):
    with pytest.raises(InvalidParameterError, match="noise_multiplier"):
        dp_mean(UPDATES, clip_norm=1.0, noise_multiplier=noise_multiplier, expected_cohort=5)


@pytest.mark.parametrize(
    "updates", [np.ones(3), np.ones(0), np.ones((1, 2, 3)), np.ones((2, 2), int)], ids=str
)
def test_dp_mean_needs_a_float_matrix(updates):
    with pytest.raises(InvalidUpdateError, match="updates must"):
        dp_mean(updates, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=5)


def test_a_stranger_cannot_leave_even_if_nobody_came():
    with pytest.raises(InvalidParameterError, match="dropped names client 0"):
        dp_mean(
            np.empty((0, 3)),
            clip_norm=1.0,
            noise_multiplier=1.0,
            expected_cohort=5,
            dropped={0: Phase.UPLOAD},
        )


def test_seeded_noise_is_a_demonstration_and_repeats():
    settings = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_cohort": 5}
    first, second = (dp_mean(UPDATES, rng=np.random.default_rng(3), **settings) for _ in range(2))
    np.testing.assert_array_equal(first.update, second.update)
    assert first.demonstration
    real, other = dp_mean(UPDATES, **settings), dp_mean(UPDATES, **settings)
    assert not real.demonstration
    assert not np.array_equal(real.update, other.update)


# The noise of the operating system cannot be seeded, so each check below fails by chance
# once in 1e8; the six of them together below 1e-7.
FALSE_ALARM = 1e-8
NUM_COORDINATES = 200_000


def has_noise_of_scale(noise, scale):
    """Whether the sum of squares is one that N(0, scale^2) gives but for FALSE_ALARM."""
    low, high = stats.chi2(noise.size).interval(1 - FALSE_ALARM)
    return low <= np.square(noise / scale).sum() <= high


SITUATIONS = {
    "all come": (5, {}),
    "two leave": (5, {0: Phase.UPLOAD, 3: Phase.KEYS}),
    "all leave": (5, dict.fromkeys(range(5), Phase.UPLOAD)),
    "sampling chose nobody": (0, {}),
    "one client": (1, {}),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_noise_depends_on_the_expected_cohort_and_not_on_who_came(situation):
    num_clients, dropped = SITUATIONS[situation]
    result = dp_mean(
        np.zeros((num_clients, NUM_COORDINATES)),
        clip_norm=0.5,
        noise_multiplier=3.0,
        expected_cohort=10,
        dropped=dropped,
    )
    assert result.included == tuple(i for i in range(num_clients) if i not in dropped)
    assert has_noise_of_scale(result.update, 3.0 * 0.5 / 10)


@pytest.mark.parametrize("wrong", [0.98, 1.02])
def test_a_planted_wrong_scale_is_caught(wrong):
    # 2% of scale moves the sum of squares by 12 standard errors; the bound stands at 5.7
    result = dp_mean(
        np.zeros((5, NUM_COORDINATES)),
        clip_norm=0.5,
        noise_multiplier=3.0 * wrong,
        expected_cohort=10,
        rng=np.random.default_rng(1),
    )
    assert not has_noise_of_scale(result.update, 3.0 * 0.5 / 10)


@pytest.mark.parametrize("sum_protocol", [plain_sum, encrypted_sum])
def test_noise_is_added_once_whatever_the_protocol(sum_protocol):
    updates = np.random.default_rng(2).normal(size=(3, NUM_COORDINATES)).astype(np.float32)
    settings = {"clip_norm": 1.0, "expected_cohort": 3, "sum_protocol": sum_protocol}
    exact = dp_mean(updates, **settings, **NO_NOISE).update
    seeded = np.random.default_rng(8)
    noisy = dp_mean(updates, noise_multiplier=2.0, rng=seeded, **settings).update
    assert has_noise_of_scale(noisy - exact, 2.0 / 3)


def test_vectors_and_lists_agree():
    clients, weights = models(3, np.float64), [1, 2, 3]
    rows, specs = zip(*(flatten(client) for client in clients), strict=True)
    averaged = unflatten(mean(np.stack(rows), weights).update, specs[0])
    for got, expected in zip(averaged, aggregate_models(clients, weights), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14)


# --- tensors and weights as TensorFlow and others give them -------------------------------------


def slices(values, indices, shape):
    return tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant(shape))


@LISTS
def test_the_gradient_of_an_embedding_is_averaged_like_a_dense_one(aggregate):
    table = tf.Variable(np.arange(8, dtype=np.float32).reshape(4, 2))
    gradients = []
    for words in ([0, 0, 2], [3, 0, 3]):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(table, words)))
        gradients.append([tape.gradient(loss, table)])
    assert all(isinstance(sparse, tf.IndexedSlices) for [sparse] in gradients)
    dense = [[tf.convert_to_tensor(sparse)] for [sparse] in gradients]
    [got], [expected] = aggregate(gradients, [1, 3]), aggregate(dense, [1, 3])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    [mixed] = aggregate([gradients[0], dense[1]], [1, 3])
    np.testing.assert_array_equal(mixed, expected)


@LISTS
@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        (slices([[1.0]], [4], [4, 1]), "tensor 0: sparse rows do not fit into shape"),
        (slices([[1.0]], [-1], [4, 1]), "tensor 0: sparse rows do not fit into shape"),
        (slices([[1.0, 2.0]], [0], [4, 1]), "tensor 0: sparse rows do not fit into shape"),
        (slices([[np.nan]], [0], [4, 1]), r"tensor 0: holds NaN at \(0, 0\)"),
        (slices([[1.0]], [0], [5, 1]), r"tensor 0: shape \(5, 1\), needed \(4, 1\)"),
        (
            tf.IndexedSlices(tf.ones((1, 1)), tf.constant([0])),
            "tensor 0: sparse rows without the shape",
        ),
        (None, "tensor 0 is None: .*unconnected_gradients='zero'"),
        (np.ma.masked_equal([[1.0], [2.0], [3.0], [-1.0]], -1.0), "tensor 0 is a masked array"),
        ([[1.0], [2.0], [3.0], [None]], "tensor 0 must be one array of numbers"),
    ],
    ids=["large", "negative", "wide", "NaN", "shape", "no shape", "None", "masked", "objects"],
)
def test_sparse_and_missing_tensors_that_do_not_fit_are_named(aggregate, sparse, message):
    with pytest.raises(InvalidUpdateError, match=f"client 1, {message}"):
        aggregate([[np.ones((4, 1))], [sparse]], [1, 1])
    with pytest.raises(InvalidUpdateError, match=r"client [01], tensor 0"):
        aggregate([[sparse], [np.ones((4, 1))]], [1, 1])


@LISTS
@pytest.mark.filterwarnings("error")
def test_a_mean_that_rounds_beyond_its_dtype_is_called_an_overflow(aggregate):
    huge = np.full(1, np.finfo(np.float64).max)
    np.testing.assert_array_equal(aggregate([[huge]] * 2, [1, 1])[0], huge)
    with pytest.raises(InvalidUpdateError, match="overflow: float64 ends at"):
        aggregate([[huge]] * 11, [1] * 11)  # eleven times a share of 1/11 is above 1


ONE = {"clip_norm": 1.0, "expected_cohort": 5}
MASKED = np.ma.masked_equal([3.0, 1.0, -1.0], -1.0)


@pytest.mark.parametrize(
    "weights", [MASKED, [3.0, 1.0, np.ma.masked], [[3], [1, 2], 1], {3, 1, 2}, "311", iter([1])]
)
def test_weights_that_are_no_row_of_numbers_are_refused(weights):
    with pytest.raises(InvalidParameterError, match="weights"):
        mean(UPDATES[:3], weights)
    with pytest.raises(InvalidParameterError, match="weights"):
        aggregate_models(models(3), weights)


def test_weights_may_be_tensors_and_of_any_precision():
    expected = mean(UPDATES[:3], [3.0, 1.0, 0.5]).update
    exact = [np.float16(3), np.longdouble(1), np.float32(0.5)]
    for weights in (tf.constant([3.0, 1.0, 0.5]), exact, np.float16([3, 1, 0.5])):
        np.testing.assert_array_equal(mean(UPDATES[:3], weights).update, expected)
    with pytest.raises(InvalidParameterError, match="finite and at least 0, got inf for client 1"):
        mean(UPDATES[:3], [1, np.longdouble("1e4000"), 1])


def test_a_weight_that_makes_a_float16_row_overflow_is_called_that():
    updates = np.array([[1.0], [700.0]], np.float16)
    with pytest.raises(
        InvalidUpdateError, match=r"weight times update of client 1 is up to 7e\+04, an overflow"
    ):
        mean(updates, [1, 100], sum_protocol=encrypted_sum)
    assert mean(updates, [1, 100]).update == pytest.approx((1 + 70000) / 101)


@pytest.mark.parametrize(
    "call", [mean, lambda u: dp_mean(u, **NO_NOISE, **ONE)], ids=["mean", "dp"]
)
@pytest.mark.parametrize(
    "updates",
    [np.ma.masked_less(UPDATES, 0), UPDATES.astype(np.longdouble), UPDATES.astype(complex), "rows"],
    ids=["masked", "longdouble", "complex", "text"],
)
def test_rows_that_are_no_floats_are_refused(call, updates):
    with pytest.raises(InvalidUpdateError, match="updates"):
        call(updates)
