"""Flat vectors: there and back without loss, and clipping that bounds every norm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.vectors import (
    as_updates,
    clip_by_norm,
    flatten,
    require_finite_rows,
    row_norms,
    unflatten,
)

FLOATS = st.sampled_from([np.float32, np.float64])
MODERATE = st.floats(-1e6, 1e6, width=32)


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
    message = f"client {client} holds NaN or Inf at coordinate 1"
    with pytest.raises(InvalidUpdateError, match=message):
        clip_by_norm(updates, 1.0)
    with pytest.raises(InvalidUpdateError, match=f"client {10 + client} holds"):
        require_finite_rows(updates, first_client=10)


def test_infinities_that_cancel_are_still_found():
    with pytest.raises(InvalidUpdateError, match="client 0"):
        require_finite_rows(np.array([[np.inf, -np.inf], [1.0, 1.0]]))


def test_finite_rows_whose_sum_overflows_are_accepted():
    require_finite_rows(np.full((2, 2), np.finfo(np.float32).max, np.float32))


@given(
    FLOATS.flatmap(
        lambda dtype: hnp.arrays(
            dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=MODERATE
        )
    ),
    st.floats(1e-3, 1e3),
)
def test_clipping_bounds_each_norm_and_keeps_directions(updates, clip_norm):
    before = updates.copy()
    clipped = clip_by_norm(updates, clip_norm)
    np.testing.assert_array_equal(updates, before)
    assert clipped.dtype == updates.dtype
    # Rounding each coordinate moves the norm by at most half an eps of itself. The two norms
    # of up to six coordinates, the scale and the division are some 16 roundings in float64.
    eps = float(np.finfo(updates.dtype).eps) / 2 + 16 * 2.0**-53
    norms = row_norms(clipped)
    assert (norms <= clip_norm * (1 + eps)).all()
    inside = row_norms(updates) <= clip_norm
    np.testing.assert_array_equal(clipped[inside], updates[inside])
    np.testing.assert_allclose(norms[~inside], clip_norm, rtol=eps)
    # the same direction: x * |y| = y * |x|
    np.testing.assert_allclose(
        clipped * row_norms(updates)[:, None],
        updates.astype(np.float64) * norms[:, None],
        rtol=4 * eps,
        atol=1e-30,  # quotients below the normal range
    )


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
