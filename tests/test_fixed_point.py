"""Real numbers in a ring: what comes back, what is refused, and when a sum is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.fixed_point import FixedPoint

GRIDS = [
    FixedPoint(),
    FixedPoint(fraction_bits=0, bits=53),
    FixedPoint(fraction_bits=16, bits=25, ring_bits=32),
    FixedPoint(fraction_bits=10, bits=16, max_weight=100, ring_bits=32),
]


@pytest.fixture(params=GRIDS, ids=str)
def grid(request):
    return request.param


def test_a_value_on_the_grid_comes_back_exactly(grid):
    steps = np.array([0, 1, -1, 2, -7, grid._limit, -grid._limit])
    values = steps * grid.resolution
    encoded, num_clipped = grid.encode(values)
    np.testing.assert_array_equal(grid.decode(encoded), values)
    assert num_clipped == 0
    assert grid.largest == values.max()


def test_rounding_is_off_by_at_most_half_the_resolution(grid):
    values = np.random.default_rng(1).uniform(-1, 1, 1000) * min(grid.largest, 2.0**20)
    errors = np.abs(grid.decode(grid.encode(values).values) - values)
    assert errors.max() <= grid.resolution / 2


def test_values_beyond_the_ends_are_clipped_and_counted(grid):
    values = np.array([2.0, -2.0, 0.5, 1e250]) * grid.largest
    encoded, num_clipped = grid.encode(values)
    clipped = np.array([1, -1, 0.5, 1]) * grid.largest
    assert num_clipped == 3
    np.testing.assert_allclose(grid.decode(encoded), clipped, rtol=0, atol=grid.resolution / 2)


def test_the_largest_double_is_clipped_too():
    encoded, num_clipped = FixedPoint().encode(np.array([np.finfo(np.float64).max]))
    assert (FixedPoint().decode(encoded)[0], num_clipped) == (FixedPoint().largest, 1)


@given(
    st.sampled_from(GRIDS),
    st.lists(
        st.lists(st.integers(-(2**15), 2**15), min_size=3, max_size=3), min_size=1, max_size=9
    ),
)
def test_the_sum_of_encodings_decodes_to_the_sum_of_the_values(grid, rows):
    grid.require_room(len(rows))
    values = np.clip(np.array(rows), -grid._limit, grid._limit) * grid.resolution
    total = np.zeros(3, grid.dtype)
    for row in values:
        total += grid.encode(row).values
    np.testing.assert_array_equal(grid.decode(total), values.sum(axis=0))


def test_as_many_largest_values_as_there_is_room_for_do_not_wrap_around(grid):
    num_clients = (grid.modulus - 1) // (grid.max_weight * (2**grid.bits - 1))
    grid.require_room(num_clients)
    for sign in (1, -1):
        one = grid.encode(np.array([sign * grid.largest])).values
        total = one * grid.dtype.type(num_clients)
        assert grid.decode(total)[0] == pytest.approx(sign * num_clients * grid.largest, rel=1e-15)
    with pytest.raises(InvalidParameterError, match="could wrap around"):
        grid.require_room(num_clients + 1)


def test_too_many_clients_do_wrap_around_and_so_are_refused_at_set_up():
    grid = FixedPoint(fraction_bits=0, bits=31, ring_bits=32)
    total = grid.encode(np.array([2.0**29])).values * np.uint32(5)
    assert grid.decode(total)[0] < 0  # five large positive values add up to a negative one
    with pytest.raises(InvalidParameterError) as refusal:
        grid.require_room(5)
    assert "5 * 1 * (2**31 - 1) = 10737418235" in str(refusal.value)
    assert "2**32 = 4294967296" in str(refusal.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused_with_their_place(bad):
    with pytest.raises(InvalidUpdateError, match="NaN or Inf at coordinate 2"):
        FixedPoint().encode(np.array([1.0, 2.0, bad]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
def test_every_real_dtype_is_encoded(dtype):
    encoded = FixedPoint().encode(np.array([1, 2, 3], dtype))
    np.testing.assert_array_equal(FixedPoint().decode(encoded.values), [1, 2, 3])


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shapes_are_kept(shape):
    encoded = FixedPoint().encode(np.ones(shape))
    assert encoded.values.shape == FixedPoint().decode(encoded.values).shape == shape


@pytest.mark.parametrize("values", [np.array([1j]), np.array(["1"]), np.array([True]), [None]])
def test_what_is_not_a_real_number_is_refused(values):
    with pytest.raises(InvalidUpdateError, match="real numbers"):
        FixedPoint().encode(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(ring_bits=48), "ring_bits must be 32 or 64, got 48"),
        (dict(fraction_bits=48), "fraction_bits must be at least 0 and below bits=48"),
        (dict(fraction_bits=-1), "fraction_bits must be at least 0"),
        (dict(max_weight=0), "max_weight must be at least 1, got 0"),
        (dict(max_weight=1.5), "max_weight must be an integer, got 1.5"),
        (dict(bits=True), "bits must be an integer, got True"),
        (dict(bits=60), "at most 2\\*\\*53"),
        (dict(bits=48, max_weight=100), "at most 2\\*\\*53"),
        (dict(bits=40, ring_bits=32), "could wrap around"),
    ],
    ids=str,
)
def test_a_grid_that_cannot_work_is_refused(settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        FixedPoint(**settings)


def test_numpy_integers_are_settings_too():
    assert FixedPoint(np.int32(16), bits=np.int8(25), ring_bits=np.uint8(32)).modulus == 2**32


def test_elements_of_another_ring_are_refused():
    with pytest.raises(InvalidParameterError, match="must have dtype uint64, got uint32"):
        FixedPoint().decode(np.zeros(3, np.uint32))


def test_no_room_for_no_clients():
    with pytest.raises(InvalidParameterError, match="num_clients must be at least 1, got 0"):
        FixedPoint().require_room(0)
