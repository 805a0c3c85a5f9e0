"""Real numbers in a ring: what comes back, what is refused, and when a sum is exact."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.aggregation import mean
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.fixed_point import FixedPoint
from fltutor.protocols import secagg_sum
from fltutor.transcript import Phase
from tests.hostile import WRONG, stands

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
    encoded, num_clipped, num_vanished = grid.encode(values)
    np.testing.assert_array_equal(grid.decode(encoded), values)
    assert (num_clipped, num_vanished) == (0, 0)
    assert grid.largest == values.max()


def test_rounding_is_off_by_at_most_half_the_resolution(grid):
    values = np.random.default_rng(1).uniform(-1, 1, 1000) * min(grid.largest, 2.0**20)
    errors = np.abs(grid.decode(grid.encode(values).values) - values)
    assert errors.max() <= grid.resolution / 2


def test_values_beyond_the_ends_are_clipped_and_counted(grid):
    values = np.array([2.0, -2.0, 0.5, 1e250]) * grid.largest
    encoded, num_clipped, num_vanished = grid.encode(values)
    assert num_vanished == 0
    clipped = np.array([1, -1, 0.5, 1]) * grid.largest
    assert num_clipped == 3
    np.testing.assert_allclose(grid.decode(encoded), clipped, rtol=0, atol=grid.resolution / 2)


def test_the_largest_double_is_clipped_too():
    encoded, num_clipped, _ = FixedPoint().encode(np.array([np.finfo(np.float64).max]))
    assert (FixedPoint().decode(encoded)[0], num_clipped) == (FixedPoint().largest, 1)


def test_values_that_vanish_are_counted(grid):
    values = np.array([0.0, -0.0, 0.4, -0.4, 0.5, -0.5, 0.51, 1.0, 1e-300 / grid.resolution])
    encoded = grid.encode(values * grid.resolution)
    assert encoded.num_vanished == 5  # ±0.4, ±0.5 (to the even neighbour), and the tiny one
    assert encoded.num_clipped == 0
    np.testing.assert_array_equal(np.flatnonzero(encoded.values), [6, 7])
    assert grid.encode(np.zeros(3)).num_vanished == 0
    assert grid.encode(np.array([], float)).num_vanished == 0
    assert grid.encode(np.float64(0.3 * grid.resolution)).num_vanished == 1
    assert grid.encode(np.full((2, 3), 0.3 * grid.resolution)).num_vanished == 6


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_values_of_every_precision_vanish_alike(dtype):
    grid = FixedPoint(fraction_bits=4, bits=16)
    values = np.array([0.01, -0.01, 0.0, 0.25, 1e9], np.float64)
    values = values[: 4 if dtype is np.float16 else 5].astype(dtype)
    assert grid.encode(values)[1:] == (0 if dtype is np.float16 else 1, 2)


@given(
    st.sampled_from(GRIDS),
    st.lists(st.floats(-1e12, 1e12) | st.floats(-1e-6, 1e-6), min_size=1, max_size=20),
)
def test_every_value_is_near_its_code_or_counted(grid, values):
    values = np.array(values)
    encoded = grid.encode(values)
    decoded = grid.decode(encoded.values)
    vanished = (decoded == 0) & (values != 0)
    assert encoded.num_vanished == vanished.sum()
    assert (np.abs(values[vanished]) <= grid.resolution / 2).all()
    far = np.abs(decoded - values) > grid.resolution / 2 + np.abs(values) * 1e-15
    assert far.sum() <= encoded.num_clipped
    assert encoded.num_clipped == 0 or (np.abs(values) > grid.largest).any()


# --- where nothing may be clipped ---------------------------------------------------------------


def test_what_fits_is_encoded_unclipped_as_ever(grid):
    values = np.array([1.0, -0.25, 0.1]) * min(grid.largest, 1.0)
    for got, expected in zip(grid.encode_unclipped(values), grid.encode(values), strict=True):
        np.testing.assert_array_equal(got, expected)


EDGE = 511.9994 / 400  # times 400 is beyond the last step of the grid, and rounded to it


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [2, 0, 0],
            "1 of 3 values is beyond the grid, which ends at ±511.999, the first at coordi",
        ),
        ([0, -2, -3, 0.5], "2 of 4 values are beyond .* the first at coordinate 1: scale them"),
        ([2], "1 of 1 values is beyond .* at coordinate 0: scale them"),
        ([0.1, 0.2, 2], "1 of 3 values is beyond .*: the last one, which is the weight where"),
        ([3, 0.2, 2], "2 of 3 values are beyond .*: among them the last one, which is the weight"),
        ([[2, 3]], "2 of 2 values are beyond .* at coordinate 0"),
        ([2, 0, EDGE], "1 of 3 values is beyond .*, the first at coordinate 0: scale them"),
        ([EDGE, 2, 0], "1 of 3 values is beyond .*, the first at coordinate 1: scale them"),
        ([EDGE, -EDGE, -2], "1 of 3 values is beyond .*: the last one, which is the weight"),
    ],
    ids=str,
)
def test_values_beyond_the_ends_are_refused_and_the_weight_is_called_a_weight(values, message):
    grid = FixedPoint(fraction_bits=10, bits=20, ring_bits=32)
    with pytest.raises(InvalidUpdateError, match=message):
        grid.encode_unclipped(np.array(values) * 400.0)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", ">i8", "u1", "u8"])
@pytest.mark.parametrize("end", ["least", "greatest"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_ends_of_every_integer_are_clipped_or_refused_at_their_place(kind, end, place):
    """The least integer has no positive of its own: its magnitude would be negative."""
    grid, limits = FixedPoint(fraction_bits=0, bits=8, ring_bits=32), np.iinfo(kind)
    values = np.zeros(3, kind)
    values[place] = limits.min if end == "least" else limits.max
    needed = np.clip(values.astype(float), -127, 127)
    np.testing.assert_array_equal(grid.decode(grid.encode(values).values), needed)
    if np.array_equal(needed, values):
        assert grid.encode_unclipped(values).num_clipped == 0
        return
    where = "the last one" if place == 2 else f"the first at coordinate {place}"
    with pytest.raises(InvalidUpdateError, match=f"1 of 3 values is beyond .*{where}"):
        grid.encode_unclipped(values)


@pytest.mark.skipif(np.finfo(np.longdouble).max <= np.finfo(float).max, reason="no long double")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_long_double_beyond_every_double_is_clipped_or_refused_like_other_values(sign):
    values = np.array([1.0, sign, 2.0], np.longdouble)
    values[1] *= np.finfo(np.longdouble).max
    grid = FixedPoint()
    encoded = grid.encode(values)
    assert encoded.num_clipped == 1
    np.testing.assert_array_equal(grid.decode(encoded.values), [1, sign * grid.largest, 2])
    with pytest.raises(InvalidUpdateError, match=r"1 of 3 .* the first at coordinate 1"):
        grid.encode_unclipped(values)
    values[0] = np.nan
    with pytest.raises(InvalidUpdateError, match="finite, got NaN at coordinate 0"):
        grid.encode(values)


@given(
    st.sampled_from(GRIDS),
    hnp.arrays(
        hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes(),
        st.integers(1, 6),
    ),
)
def test_what_is_encoded_unclipped_is_what_is_clipped_nowhere(grid, values):
    if not np.isfinite(values).all():
        for act in (grid.encode, grid.encode_unclipped):
            with pytest.raises(InvalidUpdateError, match="values must be finite"):
                act(values)
    elif encoded := grid.encode(values).num_clipped:
        with pytest.raises(InvalidUpdateError, match=f"{encoded} of {values.size} values"):
            grid.encode_unclipped(values)
    else:
        assert grid.encode_unclipped(values).num_clipped == 0


def test_two_encodings_are_compared_without_an_error():
    one, other = FixedPoint().encode(np.ones(2)), FixedPoint().encode(np.ones(2))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_the_weight_of_a_weighted_mean_is_named_with_its_client():
    updates = np.full((3, 2), 1e-3)
    grid = FixedPoint(fraction_bits=10, bits=20, ring_bits=32)
    protocol = partial(secagg_sum, threshold=2, grid=grid)
    with pytest.raises(InvalidUpdateError, match=r"client 1: .* the last one, which is the weight"):
        mean(updates, weights=[1, 1000, 2], sum_protocol=protocol)


def test_secure_aggregation_counts_what_vanishes_like_what_is_clipped():
    grid = FixedPoint(fraction_bits=10, bits=20, ring_bits=32)
    rows = np.array([[1e-5, 1.0], [1e-5, 1e-5], [0.0, 2.0]])
    result = secagg_sum(rows, threshold=2, grid=grid)
    assert (result.num_vanished, result.num_clipped) == (3, 0)
    assert secagg_sum(rows, {1: Phase.UPLOAD}, threshold=2, grid=grid).num_vanished == 1
    np.testing.assert_array_equal(result.total, [0, 3])


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(wrong):
    grid = FixedPoint()
    for call in (
        lambda: grid.encode(wrong),
        lambda: grid.encode_unclipped(wrong),
        lambda: grid.decode(wrong),
        lambda: grid.require_room(wrong),
        lambda: FixedPoint(fraction_bits=wrong),
        lambda: FixedPoint(bits=wrong),
        lambda: FixedPoint(max_weight=wrong),
        lambda: FixedPoint(ring_bits=wrong),
    ):
        stands(call)


def test_masked_values_are_refused():
    grid, masked = FixedPoint(), np.ma.masked_equal([1.0, -1.0], -1.0)
    for call in (grid.encode, grid.encode_unclipped):
        with pytest.raises(InvalidUpdateError, match="values is a masked array"):
            call(masked)
    with pytest.raises(InvalidParameterError, match="elements is a masked array"):
        grid.decode(np.ma.masked_equal(np.array([1, 2], np.uint64), 1))


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
    with pytest.raises(InvalidUpdateError, match=r"finite, got (NaN|Inf) at coordinate 2"):
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
    with pytest.raises(InvalidUpdateError, match=r"values must .*(real|array of) numbers"):
        FixedPoint().encode(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(ring_bits=48), "ring_bits must be 32 or 64, got 48"),
        (dict(fraction_bits=48), "fraction_bits must be below bits=48"),
        (dict(fraction_bits=-1), "fraction_bits must be a whole number from 0 to 64, got -1"),
        (dict(max_weight=0), "max_weight must be a whole number from 1 to .*, got 0"),
        (dict(max_weight=1.5), "max_weight must be a whole number from 1 to .*, got 1.5"),
        (dict(bits=True), "bits must be a whole number from 1 to 64, got True"),
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
    with pytest.raises(InvalidParameterError, match=r"num_clients must be a whole .*, got"):
        FixedPoint().require_room(0)
    for wrong in (1.0, "2", True, None):
        with pytest.raises(InvalidParameterError, match="num_clients must be a whole number"):
            FixedPoint().require_room(wrong)
