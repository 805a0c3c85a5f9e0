"""Robust rules against brute force, against liars of any size, and their refusals."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.aggregation import (
    bulyan,
    bulyan_choice,
    geometric_median,
    krum,
    krum_choice,
    krum_scores,
    mean,
    median,
    multi_krum,
    norm_bounded_mean,
    robust,
    robust_aggregate,
    trimmed_mean,
)
from fltutor.errors import InvalidParameterError, InvalidUpdateError, ProtocolAbort
from fltutor.protocols import Sessions, ckks_sum, encrypted_sum, paillier_sum, plain_sum, secagg_sum
from fltutor.tensorflow_quietly import tf
from fltutor.transcript import Phase

RULES = {
    "median": median,
    "trimmed mean": partial(trimmed_mean, num_trimmed=1),
    "krum": partial(krum, num_byzantine=1),
    "multi-krum": partial(multi_krum, num_byzantine=1, num_selected=3),
    "bulyan": partial(bulyan, num_byzantine=1),
    "geometric median": geometric_median,
    "norm bound": partial(norm_bounded_mean, max_norm=2.0),
}
EACH_RULE = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
STAND_LIARS = pytest.mark.parametrize(
    ("rule", "num_liars"),
    [
        (median, 7),
        (partial(trimmed_mean, num_trimmed=7), 7),
        (partial(krum, num_byzantine=6), 6),
        (partial(multi_krum, num_byzantine=6, num_selected=9), 6),
        (partial(bulyan, num_byzantine=3), 3),
        (geometric_median, 7),
    ],
    ids=["median", "trimmed mean", "krum", "multi-krum", "bulyan", "geometric median"],
)


@st.composite
def cohorts(draw, smallest=3):
    """Rows of small whole numbers, so that ties are common and exact, on a common offset."""
    shape = draw(st.tuples(st.integers(smallest, 12), st.integers(1, 6)))
    rows = draw(hnp.arrays(np.int8, shape, elements=st.integers(-3, 3)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    offset = draw(st.sampled_from([0.0, 1e6, -(2.0**23)]))
    return rows.astype(dtype) + dtype(offset)


def squared_distances(rows):
    """Directly, in the longest float there is."""
    rows = rows.astype(np.longdouble)
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


def brute_scores(squared, num_neighbours):
    """Krum scores by a loop over clients; a client is no neighbour of its own."""
    scores = []
    for client, distances in enumerate(squared):
        others = sorted(float(d) for other, d in enumerate(distances) if other != client)
        scores.append(sum(others[:num_neighbours]))
    return scores


def brute_bulyan_choice(rows, f):
    squared, left, chosen = squared_distances(rows), list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * f:
        near = squared[np.ix_(left, left)]
        scores = brute_scores(near, max(1, len(left) - f - 2))
        ranks = [(scores[i], sorted(map(float, near[i])), i) for i in range(len(left))]
        chosen.append(left.pop(min(ranks)[2]))
    return tuple(chosen)


@given(cohorts(), st.data())
def test_median_and_trimmed_mean_are_those_of_sorted_columns(rows, data):
    np.testing.assert_array_equal(median(rows), np.median(rows.astype(np.float64), axis=0))
    cut = data.draw(st.integers(0, (len(rows) - 1) // 2))
    expected = [
        np.mean(sorted(column)[cut : len(column) - cut]) for column in rows.T.astype(np.float64)
    ]
    np.testing.assert_allclose(trimmed_mean(rows, cut), expected, rtol=1e-14, atol=1e-14)


@given(cohorts(), st.data())
def test_krum_is_brute_force_with_ties_and_offsets(rows, data):
    f = data.draw(st.integers(0, (len(rows) - 3) // 2))
    m = data.draw(st.integers(1, len(rows) - f))
    scores = brute_scores(squared_distances(rows), len(rows) - f - 2)
    np.testing.assert_array_equal(krum_scores(rows, f), scores)  # whole numbers: exact
    expected = sorted(range(len(rows)), key=lambda client: (scores[client], client))[:m]
    assert krum_choice(rows, f, m) == tuple(expected)
    np.testing.assert_array_equal(krum(rows, f), rows[expected[0]])
    np.testing.assert_allclose(
        multi_krum(rows, f, m), rows[expected].astype(np.float64).mean(axis=0), rtol=1e-14
    )


@given(cohorts(smallest=7), st.data())
def test_bulyan_is_brute_force_with_ties_and_offsets(rows, data):
    f = data.draw(st.integers(0, (len(rows) - 3) // 4))
    chosen = brute_bulyan_choice(rows, f)
    assert bulyan_choice(rows, f) == chosen
    kept, expected = len(chosen) - 2 * f, []
    for column in rows[list(chosen)].T.astype(np.float64):
        centre = np.median(column)
        nearest = sorted(column, key=lambda value: (abs(value - centre), value))[:kept]
        expected.append(np.mean(nearest))
    np.testing.assert_allclose(bulyan(rows, f), expected, rtol=1e-14, atol=1e-14)


@given(cohorts(smallest=1), st.data())
def test_no_step_away_from_the_geometric_median_shortens_the_distances(rows, data):
    point, rows = geometric_median(rows), rows.astype(np.float64)

    def total(centre):
        return np.linalg.norm(rows - centre, axis=1).sum()

    best = total(point)
    slack = 1e-7 * len(rows) * np.ptp(rows, axis=0).sum() + 1e-9  # mean pull 1e-8 along the hull
    directions = data.draw(hnp.arrays(np.float64, (8, rows.shape[1]), elements=st.floats(-1, 1)))
    for step in (*np.eye(rows.shape[1]), *-np.eye(rows.shape[1]), *directions):
        for size in (1e-6, 1e-3, 0.1, 1.0):
            assert total(point + size * step) >= best - slack
    assert min(total(row) for row in rows) >= best - slack
    assert total(rows.mean(axis=0)) >= best - slack


def test_geometric_median_of_a_triangle_is_fermats_point():
    """From there all corners of a triangle appear under 120 degrees, if no angle is as wide."""
    corners = np.array([[0.0, 0.0], [5.0, 0.0], [1.0, 4.0]])
    away = corners - geometric_median(corners)
    units = away / np.linalg.norm(away, axis=1, keepdims=True)
    cosines = (units @ units.T)[~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(cosines, -0.5, atol=1e-6)


@pytest.mark.parametrize("wide", [(0.0, 0.0), (0.0, 0.1)])
def test_geometric_median_is_a_row_where_the_angle_there_is_wide(wide):
    corners = np.array([[-3.0, -0.5], wide, [4.0, -0.5]])
    np.testing.assert_array_equal(geometric_median(corners), wide)


def test_geometric_median_ends_on_rows_that_many_send():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(9, 40)).astype(np.float32)
    rows[4:] = rows[4]  # five equal rows against four
    np.testing.assert_array_equal(geometric_median(rows), rows[4])
    np.testing.assert_array_equal(geometric_median(np.ones((3, 2))), [1, 1])


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30])
@STAND_LIARS
def test_liars_up_to_the_number_expected_move_the_result_no_further_than_the_honest(
    rule, num_liars, far
):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(15, 20)).astype(np.float32)
    honest = rows[num_liars:]
    for lies in (far, -far, far * rng.normal(size=(num_liars, 20))):
        rows[:num_liars] = lies
        result = rule(rows)
        assert np.linalg.norm(result - honest.mean(axis=0)) < 2 * np.sqrt(20)
    rows[:num_liars] = far * np.linspace(1, 2, num_liars)[:, None]  # a crowd on one side
    assert np.abs(rule(rows)).max() < 10


@pytest.mark.parametrize("far", [1e3, 1e9])
def test_more_liars_than_that_carry_every_rule_away(far):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(15, 20))
    rows[:8] = far
    for rule in (median, partial(trimmed_mean, num_trimmed=3), geometric_median):
        assert np.linalg.norm(rule(rows)) > far / 10
    assert krum_choice(rows, 3) == (0,)


def test_norm_bound_limits_what_one_client_moves():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(10, 5))
    before = norm_bounded_mean(rows, 0.5)
    rows[3] = 1e30
    assert np.linalg.norm(norm_bounded_mean(rows, 0.5) - before) <= 2 * 0.5 / 10 + 1e-12


@EACH_RULE
def test_permuting_clients_changes_nothing_but_rounding(rule):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(9, 50)).astype(np.float32) + np.float32(1e3)
    expected = rule(rows)
    for _ in range(5):
        np.testing.assert_allclose(rule(rows[rng.permutation(9)]), expected, rtol=1e-9)


def test_of_equal_scores_the_lowest_client_wins():
    rows = np.array([[9.0], [1.0], [1.0], [1.0], [1.0]])
    assert krum_choice(rows, 1, 3) == (1, 2, 3)
    assert krum_choice(rows[::-1], 1, 3) == (0, 1, 2)


@pytest.mark.parametrize("liar", [None, 0, 7])
def test_the_choice_survives_an_offset_that_float32_products_do_not(liar):
    rng = np.random.default_rng(4)
    for _ in range(5):
        rows = (1e6 + rng.normal(size=(12, 400))).astype(np.float32)
        if liar is not None:
            rows[liar] = 1e20
        squared = squared_distances(rows)
        scores = brute_scores(squared, 12 - 2 - 2)
        assert krum_choice(rows, 2) == (int(np.argmin(scores)),)
        clear = np.arange(12) != liar
        np.testing.assert_allclose(krum_scores(rows, 2)[clear], np.array(scores)[clear], rtol=1e-9)
    honest = rows[clear]
    products = honest @ honest.T  # the usual shortcut, for comparison
    lengths = np.diag(products)
    shortcut = lengths[:, None] + lengths - 2 * products
    assert np.abs(shortcut - squared[np.ix_(clear, clear)]).max() > 0.1 * squared[1, 2]


def test_the_quick_winner_is_the_winner_or_nobody():
    rng, found = np.random.default_rng(5), 0
    for trial in range(60):
        scale = rng.uniform(0.9, 1.1, (10, 1)) * 10.0 ** rng.integers(-25, 15)
        rows = (scale * rng.normal(size=(10, 700))).astype(np.float32)
        if trial % 3 == 0:
            rows += np.float32(100 * scale.max())
        if trial % 5 == 0:
            rows[4] = 1e30
        quick = robust._quick_winner(rows, 2)
        found += quick is not None
        assert quick in (None, int(krum_scores(rows, 2).argmin()))
    assert found >= 20  # else the test would be about nothing


def test_the_quick_winner_leaves_ties_and_bad_rows_to_the_exact_way():
    assert robust._quick_winner(np.ones((7, 600), np.float32), 2) is None
    rows = np.random.default_rng(6).normal(size=(7, 600)).astype(np.float32)
    rows[1] = rows[0]  # 0 and 1 have equal scores, whichever they are
    rows[:2] *= 0.1
    assert robust._quick_winner(rows, 2) is None
    rows[3, 5] = np.nan
    assert robust._quick_winner(rows, 2) is None


def test_large_cohorts_take_the_quick_way_to_the_same_row(monkeypatch):
    rows = np.random.default_rng(7).normal(size=(20, 30_000)).astype(np.float32)
    rows *= np.linspace(1, 1.2, 20, dtype=np.float32)[::-1, None]
    assert 20 * rows.size >= robust.QUICK_SIZE
    called = []
    quick = robust._quick_winner
    monkeypatch.setattr(robust, "_quick_winner", lambda *args: called.append(1) or quick(*args))
    winner = krum_choice(rows, 4)
    assert called
    assert winner == (int(krum_scores(rows, 4).argmin()),)
    rows[2, 3] = np.inf
    with pytest.raises(InvalidUpdateError, match="client 2 holds Inf at coordinate 3, an overflow"):
        krum(rows, 4)


@EACH_RULE
def test_results_are_float64_vectors_and_the_rows_stay_as_they_are(rule):
    for dtype in (np.float16, np.float32, np.float64):
        rows = np.random.default_rng(8).normal(size=(9, 4)).astype(dtype)
        before = rows.copy()
        result = rule(rows)
        assert result.dtype == np.float64
        assert result.shape == (4,)
        np.testing.assert_array_equal(rows, before)
        np.testing.assert_allclose(rule(np.asfortranarray(rows)), result, rtol=1e-12)


@EACH_RULE
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_refused_by_name(rule, bad):
    rows = np.zeros((9, 4))
    rows[6, 2] = bad
    kind = "NaN" if np.isnan(bad) else "Inf"
    with pytest.raises(InvalidUpdateError, match=f"client 6 holds {kind} at coordinate 2"):
        rule(rows)


@EACH_RULE
@pytest.mark.parametrize(
    "updates",
    [np.zeros(9), np.zeros((0, 3)), np.zeros((9, 2, 2)), np.zeros((9, 2), int), [[True]] * 9],
    ids=["vector", "no rows", "3-d", "integers", "bools"],
)
def test_what_is_no_matrix_of_floats_is_refused(rule, updates):
    with pytest.raises(InvalidUpdateError, match="updates must"):
        rule(updates)


@pytest.mark.parametrize(
    ("rule", "num_clients", "message"),
    [
        (partial(trimmed_mean, num_trimmed=2), 4, r"2 \* num_trimmed \+ 1 .* is 5, got 4"),
        (partial(krum, num_byzantine=2), 6, r"krum needs n >= 2 \* num_byzantine \+ 3 .* 7, got 6"),
        (partial(krum_scores, num_byzantine=0), 2, "is 3, got 2"),
        (partial(multi_krum, num_byzantine=2, num_selected=1), 6, "is 7, got 6"),
        (partial(bulyan, num_byzantine=2), 10, r"4 \* num_byzantine \+ 3 .* is 11, got 10"),
    ],
    ids=["trimmed mean", "krum", "scores", "multi-krum", "bulyan"],
)
def test_one_client_too_few_is_refused_with_the_numbers(rule, num_clients, message):
    rule(np.zeros((num_clients + 1, 2)))
    with pytest.raises(InvalidParameterError, match=message):
        rule(np.zeros((num_clients, 2)))


@pytest.mark.parametrize("bad", [-1, 1.0, True, np.True_, None, "1", np.nan], ids=repr)
@pytest.mark.parametrize("rule", [trimmed_mean, krum, krum_scores, bulyan, bulyan_choice])
def test_numbers_of_liars_must_be_whole(rule, bad):
    with pytest.raises(InvalidParameterError, match="must be a whole number of at least 0"):
        rule(np.zeros((9, 2)), bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: multi_krum(u, 2, 0), "num_selected must be from 1 to .* = 7, got 0"),
        (lambda u: multi_krum(u, 2, 8), "num_selected must be from 1 to .* = 7, got 8"),
        (lambda u: multi_krum(u, 2, True), "num_selected must be a whole number"),
        (
            lambda u: geometric_median(u, tolerance=0),
            "tolerance must be positive and below 1, got 0",
        ),
        (lambda u: geometric_median(u, tolerance=np.nan), "tolerance must be"),
        (lambda u: geometric_median(u, max_steps=-1), "max_steps must be a whole number"),
        (lambda u: geometric_median(u, max_steps=1), "max_steps = 1 are too few"),
        (lambda u: norm_bounded_mean(u, 0), "clip_norm must be positive and finite, got 0"),
        (lambda u: norm_bounded_mean(u, np.inf), "positive and finite"),
    ],
)
def test_other_parameters_out_of_range_are_refused(call, message):
    rows = np.random.default_rng(9).normal(size=(9, 3))
    with pytest.raises(InvalidParameterError, match=message):
        call(rows)


@pytest.mark.filterwarnings("error")
def test_rows_at_the_end_of_the_range_give_a_number_or_an_error():
    rows = np.random.default_rng(10).normal(size=(9, 3))
    rows[8] = 1.7e308
    rows[7] = -1.7e308
    assert krum_choice(rows, 2)[0] < 7
    assert np.abs(bulyan(rows, 1)).max() < 1e308
    assert np.abs(median(rows)).max() < 10
    rows[:] = 1.7e308
    np.testing.assert_array_equal(median(rows), rows[0])
    np.testing.assert_array_equal(krum(rows, 2), rows[0])
    with pytest.raises(InvalidUpdateError, match="leaves the range of float64"):
        trimmed_mean(rows, 1)
    with pytest.raises(InvalidUpdateError, match="range of float64"):
        krum(
            rows
            * np.array([1, -1, 1, -1, 1, -1, 1, -1, 1])[:, None]
            * np.linspace(0.5, 1, 9)[:, None],
            2,
        )
    spread = np.zeros((5, 2))
    spread[:2] = [[1.7e308, 0], [-1.7e308, 0]]
    spread[2:] = [[-1.7e308, 1], [1.7e308, 2], [1.7e308, 3]]
    with pytest.raises(InvalidUpdateError, match="farther apart than float64"):
        geometric_median(spread)


# --- in a federation -----------------------------------------------------------------------------

ROWS = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0], [1e6, -1e6]])


@pytest.mark.parametrize(
    "sum_protocol",
    [
        plain_sum,
        encrypted_sum,
        partial(partial(encrypted_sum, round_number=3), sessions=Sessions()),
    ],
    ids=["plain", "encrypted", "bound twice"],
)
def test_rules_see_the_rows_that_arrive_and_the_bytes_are_counted(sum_protocol):
    dropped = {0: Phase.UPLOAD, 1: Phase.UNMASKING}
    result = robust_aggregate(ROWS, rule=median, sum_protocol=sum_protocol, dropped=dropped)
    assert result.included == (1, 2, 3, 4)
    np.testing.assert_array_equal(result.update, median(ROWS[1:]))
    assert result.transcript.bytes_sent(receiver="server") >= 4 * ROWS[0].nbytes
    assert "row 2" in result.transcript.held["client 2"]


@pytest.mark.parametrize(
    "sum_protocol",
    [secagg_sum, partial(secagg_sum, threshold=3), paillier_sum, partial(ckks_sum, context=None)],
    ids=["secagg", "secagg bound", "paillier", "ckks bound"],
)
def test_protocols_that_hide_rows_are_refused_with_the_reason(sum_protocol):
    name = getattr(sum_protocol, "func", sum_protocol).__name__
    message = f"krum must compare the rows of the clients, and {name} hides them from the server"
    with pytest.raises(InvalidParameterError, match=message):
        robust_aggregate(ROWS, rule=partial(krum, num_byzantine=1), sum_protocol=sum_protocol)


def test_an_unknown_protocol_is_refused():
    def my_sum(vectors, dropped=None):
        return plain_sum(vectors, dropped)

    with pytest.raises(InvalidParameterError, match="my_sum may not show them to the server"):
        robust_aggregate(ROWS, rule=median, sum_protocol=my_sum)


@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1], [30, 20, 10, 5, 1e6]])
def test_weights_are_refused_since_liars_claim_them(weights):
    with pytest.raises(InvalidParameterError, match="median takes no weights: a client that lies"):
        robust_aggregate(ROWS, weights, rule=median)


def test_dropouts_can_leave_too_few_for_the_rule_or_for_any():
    rule = partial(krum, num_byzantine=1)
    assert robust_aggregate(ROWS, rule=rule).included == (0, 1, 2, 3, 4)
    with pytest.raises(InvalidParameterError, match="is 5, got 4"):
        robust_aggregate(ROWS, rule=rule, dropped={4: Phase.KEYS})
    with pytest.raises(ProtocolAbort, match="no upload arrived"):
        robust_aggregate(ROWS, rule=rule, dropped=dict.fromkeys(range(5), Phase.KEYS))


def test_a_bad_row_of_a_client_that_left_harms_nobody():
    rows = ROWS.copy()
    rows[4] = np.nan
    with pytest.raises(InvalidUpdateError, match="client 4 holds NaN or Inf"):
        robust_aggregate(rows, rule=median)
    result = robust_aggregate(rows, rule=median, dropped={4: Phase.UPLOAD})
    np.testing.assert_array_equal(result.update, mean(ROWS[:4]).update)


# --- numbers and rows of any type ---------------------------------------------------------------


@pytest.mark.parametrize("low", [np.int8, np.uint8, np.int64])
def test_counts_of_few_bits_do_not_wrap_around(low):
    # 4 * np.int8(50) is -56: too few clients would have passed the check
    for rule in (krum, bulyan, trimmed_mean, krum_scores, bulyan_choice):
        with pytest.raises(InvalidParameterError, match="50"):
            rule(np.zeros((60, 2)), low(50))
    rows = np.random.default_rng(3).normal(size=(300, 3))
    np.testing.assert_array_equal(trimmed_mean(rows, low(100)), trimmed_mean(rows, 100))
    np.testing.assert_array_equal(bulyan(rows[:283], low(70)), bulyan(rows[:283], 70))
    np.testing.assert_array_equal(
        multi_krum(rows, low(100), low(100)), multi_krum(rows, 100, num_selected=100)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_smallest_numbers_have_a_median(dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    np.testing.assert_array_equal(median(np.full((4, 1), smallest)), [float(smallest)])
    np.testing.assert_array_equal(median(np.full((3, 1), smallest)), [float(smallest)])


@EACH_RULE
def test_rows_that_are_masked_or_no_floats_are_refused(rule):
    rows = np.random.default_rng(8).normal(size=(9, 4))
    for bad in (np.ma.masked_less(rows, 0), rows.astype(int), rows.astype(np.longdouble), None):
        with pytest.raises(InvalidUpdateError, match="updates"):
            rule(bad)


@EACH_RULE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_and_lists_of_rows_give_the_same(rule, dtype):
    rows = np.random.default_rng(8).normal(size=(9, 4)).astype(dtype)
    np.testing.assert_array_equal(rule(tf.constant(rows)), rule(rows))
    np.testing.assert_allclose(rule(rows.tolist()), rule(rows), rtol=1e-6)


def test_a_bound_of_low_precision_counts_as_the_number_it_is():
    rows = np.random.default_rng(8).normal(size=(9, 4)).astype(np.float16)
    low = np.float16(0.3)
    np.testing.assert_array_equal(norm_bounded_mean(rows, low), norm_bounded_mean(rows, float(low)))
    np.testing.assert_array_equal(
        geometric_median(rows, tolerance=np.float16(1e-3)),
        geometric_median(rows, tolerance=float(np.float16(1e-3))),
    )
