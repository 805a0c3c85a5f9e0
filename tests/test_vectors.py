"""Flat vectors: there and back without loss, and clipping that bounds every norm."""

from fractions import Fraction

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.tensorflow_quietly import tf
from fltutor.vectors import (
    as_updates,
    clip_by_norm,
    flatten,
    require_finite_rows,
    row_norms,
    unflatten,
)

FLOATS = st.sampled_from([np.float32, np.float64])


@given(
    FLOATS.flatmap(
        lambda dtype: st.lists(
            hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), min_size=1
        )
    )
)
def test_a_model_survives_the_way_to_a_vector_and_back(arrays):
    vector, spec = flatten(arrays)
    assert vector.shape == (spec.size,) == (sum(array.size for array in arrays),)
    for got, expected in zip(unflatten(vector, spec), arrays, strict=True):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.tobytes() == expected.tobytes()


def test_flatten_refuses_nothing_and_tensors_that_are_no_floats():
    with pytest.raises(InvalidParameterError, match="at least one tensor"):
        flatten([])
    with pytest.raises(InvalidParameterError, match=r"arrays\[1\] must hold floats, got dtype int"):
        flatten([np.ones(2), np.array([1, 2])])


@pytest.mark.parametrize("shape", [(4,), (6,), (5, 1), ()], ids=str)
def test_unflatten_refuses_a_vector_of_another_length(shape):
    _, spec = flatten([np.ones((2, 2)), np.ones(1)])
    with pytest.raises(InvalidParameterError, match=r"must have shape \(5,\), got"):
        unflatten(np.zeros(shape), spec)


@pytest.mark.parametrize(
    "updates", [np.zeros(3), np.zeros((0, 3)), np.zeros((1, 2, 3)), np.zeros((2, 2), int)], ids=str
)
def test_updates_are_a_float_matrix_with_a_row_per_client(updates):
    with pytest.raises(InvalidUpdateError, match="updates must"):
        as_updates(updates)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("client", [0, 2])
def test_the_client_with_nan_or_inf_is_named(bad, client):
    updates = np.ones((3, 4), np.float32)
    updates[client, 1] = bad
    message = f"client {client} holds {'NaN' if np.isnan(bad) else 'Inf'} at coordinate 1"
    with pytest.raises(InvalidUpdateError, match=message):
        clip_by_norm(updates, 1.0)
    with pytest.raises(InvalidUpdateError, match=f"client {10 + client} holds"):
        require_finite_rows(updates, first_client=10)


def test_infinities_that_cancel_are_still_found():
    with pytest.raises(InvalidUpdateError, match="client 0"):
        require_finite_rows(np.array([[np.inf, -np.inf], [1.0, 1.0]]))


def test_finite_rows_whose_sum_overflows_are_accepted():
    require_finite_rows(np.full((2, 2), np.finfo(np.float32).max, np.float32))


ANY_FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def sent_length_is_within(clipped, clip_norm):
    """Whether each row is, in exact arithmetic, no longer than ``clip_norm``, shape (n,)."""
    return np.array(
        [
            sum(Fraction(float(number)) ** 2 for number in row) <= Fraction(clip_norm) ** 2
            for row in clipped
        ],
        bool,
    )


@given(
    ANY_FLOATS.flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
            elements=st.floats(
                allow_nan=False, allow_infinity=False, width=8 * np.dtype(dtype).itemsize
            ),
        )
    ),
    st.floats(0, exclude_min=True, allow_infinity=False) | st.floats(1e-3, 1e3),
)
def test_what_is_sent_is_within_the_bound_and_keeps_its_direction(updates, clip_norm):
    before, inside = updates.copy(), row_norms(updates) <= clip_norm
    clipped = clip_by_norm(updates, clip_norm)
    np.testing.assert_array_equal(updates, before)
    assert clipped.dtype == np.promote_types(updates.dtype, np.float32)
    np.testing.assert_array_equal(clipped[inside], updates[inside])
    norms = row_norms(clipped)
    assert (norms <= clip_norm).all()
    assert sent_length_is_within(clipped[~inside], clip_norm).all()
    assert (clipped * np.sign(updates) >= 0).all()
    info = np.finfo(clipped.dtype)
    if clip_norm > 1e3 * float(info.smallest_normal):  # below, numbers vanish on the dtype's grid
        eps = float(info.eps) + 2.0**-46
        np.testing.assert_allclose(norms[~inside], clip_norm, rtol=eps)
        # the same direction: x / |x| = y / |y|, but for numbers that vanish
        long = updates[~inside].astype(np.float64)
        long /= np.abs(long).max(axis=1, keepdims=True, initial=0)
        np.testing.assert_allclose(
            clipped[~inside] / norms[~inside, None],
            long / row_norms(long)[:, None],
            rtol=4 * eps,
            atol=float(info.smallest_subnormal) / clip_norm + 1e-300,
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("clip_norm", [0.1, 1.0, np.float16(0.1), np.float32(1e-3), 7])
def test_long_rows_are_within_the_bound_after_their_last_rounding(dtype, clip_norm):
    # In float16 a row of 650,000 numbers around 1/800 was 1.92 C long: each rounded up alike.
    numbers = np.random.default_rng(0).uniform(0.999, 1.001, (2, 100_000))
    for updates in (numbers.astype(dtype), np.float64([[1.0], [1e3]]).astype(dtype) * numbers):
        clipped = clip_by_norm(updates.astype(dtype), clip_norm)
        norms = np.linalg.norm(clipped.astype(np.float64), axis=1)
        assert (norms <= float(clip_norm)).all()
        np.testing.assert_allclose(norms, float(clip_norm), rtol=1.2e-7)
        np.testing.assert_array_equal(clip_by_norm(clipped, clip_norm), clipped)


def test_rows_whose_norm_no_float_holds_keep_their_direction():
    clipped = clip_by_norm(np.array([[1.5e308] * 4, [0.0] * 4]), 2.0)
    np.testing.assert_allclose(clipped, [[1.0] * 4, [0.0] * 4], rtol=1e-13)


@pytest.mark.parametrize(
    "updates",
    [
        np.ma.masked_equal([[1.0, -1.0]], -1.0),
        [np.ma.masked_equal([1.0, -1.0], -1.0)],
        np.ones((2, 2), np.longdouble),
        np.ones((2, 2), complex),
        np.ones((2, 2), bool),
        np.array([["1.0"]]),
        np.array([[None, 1.0]]),
        [[1.0], [1.0, 2.0]],
        tf.ones((2, 2), tf.bfloat16),
        iter([[1.0]]),
        None,
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
@pytest.mark.parametrize(
    "call", [as_updates, require_finite_rows, row_norms, lambda updates: clip_by_norm(updates, 1.0)]
)
def test_what_is_no_matrix_of_floats_is_refused_everywhere(call, updates):
    with pytest.raises(InvalidUpdateError, match="updates"):
        call(updates)


def test_tensors_frames_and_lists_of_rows_are_matrices():
    rows = [[3.0, 4.0], [0.0, 1.0]]
    for updates in (rows, tf.constant(rows), pandas.DataFrame(rows), np.asfortranarray(rows)):
        np.testing.assert_array_equal(row_norms(updates), [5.0, 1.0])


def test_an_overflow_is_called_one():
    with np.errstate(over="ignore"):
        updates = np.array([[1.0, 7e4]]).astype(np.float16)
    with pytest.raises(
        InvalidUpdateError, match=r"client 0 holds Inf at .* overflow: float16 ends"
    ):
        require_finite_rows(updates)


def test_a_zero_update_stays_zero():
    np.testing.assert_array_equal(clip_by_norm(np.zeros((2, 3)), 1.0), np.zeros((2, 3)))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_clip_norms_out_of_range_are_refused(bad):
    with pytest.raises(InvalidParameterError, match=f"clip_norm must be .* got {bad}"):
        clip_by_norm(np.ones((1, 2)), bad)


def test_norms_are_taken_in_float64_without_overflow_or_underflow():
    np.testing.assert_allclose(row_norms(np.full((1, 4), 1e38, np.float32)), 2e38, rtol=1e-6)
    np.testing.assert_allclose(row_norms(np.full((1, 4), 1e-200)), 2e-200, rtol=1e-14)
    # 1 + 1e-5: float32 squares would lose half of these digits
    row = np.float32([[1.0] + [1e-4] * 1000])
    expected = np.sqrt(np.square(row.astype(np.float64)).sum())
    np.testing.assert_allclose(row_norms(row)[0], expected, rtol=1e-14)
