"""Averages that a few liars cannot carry away: rules that compare the rows of all clients.

A rule takes the matrix ``updates``, one row per client, and gives one vector. It must *see*
the rows, so it works under a protocol that shows them to the server, and under no other:
:func:`robust_aggregate` says so. A rule promises something only while at most so many clients
lie as it was told, and while honest rows resemble each other. Clients with unlike data look
like liars to it, and liars that stay inside the honest spread do not.

Rows must be finite. Sums and distances are float64. Where rows tie, the client with the lowest
number wins: so permuting clients can change a choice among equals, and otherwise changes
results by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from fltutor.aggregation.averaging import AggregateResult, SumProtocol
from fltutor.border import as_real, as_whole
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.protocols import ckks_sum, encrypted_sum, paillier_sum, plain_sum, secagg_sum
from fltutor.transcript import Phase
from fltutor.vectors import as_updates, clip_by_norm, require_finite_rows, row_norms

SHOW_ROWS = (plain_sum, encrypted_sum)
"""The protocols under which the server sees every row."""
HIDE_ROWS = (secagg_sum, paillier_sum, ckks_sum)
SORTED_COLUMNS, COMPARED_COLUMNS = 2048, 512
"""Columns worked on at a time, so that a block stays in the cache."""
CLOSE = 2.0**-10
"""Rows closer than this, in squares, than to a common reference are measured anew."""
QUICK_SIZE = 10**7
"""From n * n * d on, Krum looks for the winner in float32 first."""


def median(updates: np.ndarray) -> np.ndarray:
    """Take the median of each coordinate.

    Half of the clients must lie before they can choose a coordinate freely. But every
    coordinate takes its median from another client, and the mean is closer to the truth
    when nobody lies.

    Args:
        updates: One row per client, shape (n, d).

    Returns:
        Shape (d,), float64; for even n the midpoint of the two middle values.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.

    Example:
        >>> median(np.array([[1.0, 5.0], [2.0, 6.0], [1e6, -1e6]]))
        array([2., 5.])

    Reference:
        Yin et al., ICML 2018, Definition 1. https://arxiv.org/abs/1803.01498
    """
    updates = _checked(updates)
    middle = np.empty(updates.shape[1])
    lower, upper = (len(updates) - 1) // 2, len(updates) // 2
    for columns, ordered in _sorted_columns(updates):
        low, high = ordered[:, lower].astype(np.float64), ordered[:, upper].astype(np.float64)
        middle[columns] = np.where(low == high, low, 0.5 * low + 0.5 * high)
    return middle


def trimmed_mean(updates: np.ndarray, num_trimmed: int) -> np.ndarray:
    """Average each coordinate without its ``num_trimmed`` largest and smallest entries.

    The rest is added up. Subtracting the extremes from the sum of all would be quicker, and
    would leave the liar's rounding errors in it.

    Args:
        updates: One row per client, shape (n, d).
        num_trimmed: Entries left out on each side, less than n / 2: at least as many as
            clients may lie.

    Returns:
        Shape (d,), float64.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If fewer than ``2 * num_trimmed + 1`` clients are there.

    Example:
        >>> trimmed_mean(np.array([[1.0], [2.0], [4.0], [1e6], [-1e6]]), num_trimmed=1).round(3)
        array([2.333])

    Reference:
        Yin et al., ICML 2018, Definition 2. https://arxiv.org/abs/1803.01498
    """
    updates = _checked(updates)
    n = len(updates)
    num_trimmed = _checked_count("trimmed_mean", "num_trimmed", num_trimmed, n, factor=2, more=1)
    average = np.empty(updates.shape[1])
    with np.errstate(over="ignore"):
        for columns, ordered in _sorted_columns(updates):
            kept = ordered[:, num_trimmed : n - num_trimmed]
            average[columns] = kept.mean(axis=1, dtype=np.float64)
    return _finite(average)


def krum_scores(updates: np.ndarray, num_byzantine: int) -> np.ndarray:
    """Add up each client's squared distances to its n - f - 2 nearest other clients.

    With f liars, an honest row has n - f - 1 other honest rows, so its score does not depend
    on how far away the liars are.

    Args:
        updates: One row per client, shape (n, d).
        num_byzantine: How many clients may lie, f; n must be at least 2 f + 3.

    Returns:
        Shape (n,), float64, in squared units of the weights. A common offset of all rows
        does no harm, and neither does a row that is far away.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If there are fewer than 2 f + 3 clients.

    Example:
        >>> krum_scores(np.array([[0.0], [1.0], [3.0], [9.0]]), num_byzantine=0)
        array([ 10.,   5.,  13., 100.])

    Reference:
        Blanchard et al., NeurIPS 2017, section 4. https://arxiv.org/abs/1703.02757
    """
    updates = _checked(updates)
    n = len(updates)
    num_byzantine = _checked_count("krum", "num_byzantine", num_byzantine, n, factor=2, more=3)
    return _scores(_squared_distances(updates), num_byzantine)


def krum(updates: np.ndarray, num_byzantine: int) -> np.ndarray:
    """Choose the one row that is closest to its n - f - 2 nearest others.

    The result is some client's own update: nothing is averaged, and with it goes what the
    other clients know.

    Args:
        updates: One row per client, shape (n, d).
        num_byzantine: How many clients may lie, f; n must be at least 2 f + 3.

    Returns:
        The row with the lowest of the :func:`krum_scores`, shape (d,), float64.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If there are fewer than 2 f + 3 clients.

    Example:
        >>> krum(np.array([[0.0], [1.0], [3.0], [99.0]]), num_byzantine=0)
        array([1.])

    Reference:
        Blanchard et al., NeurIPS 2017, section 4. https://arxiv.org/abs/1703.02757
    """
    return multi_krum(updates, num_byzantine, num_selected=1)


def multi_krum(updates: np.ndarray, num_byzantine: int, num_selected: int) -> np.ndarray:
    """Average the rows with the lowest Krum scores.

    Args:
        updates: One row per client, shape (n, d).
        num_byzantine: How many clients may lie, f; n must be at least 2 f + 3.
        num_selected: How many rows to average, 1 to n - f. 1 is Krum; more than n - f
            would surely take a liar in, if there are f.

    Returns:
        Shape (d,), float64.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If there are too few clients or ``num_selected`` is out of range.

    Example:
        >>> multi_krum(np.array([[1.0], [2.0], [4.0], [3.0], [99.0]]), 1, num_selected=3)
        array([2.])

    Reference:
        Blanchard et al., NeurIPS 2017, section 6 (Multi-Krum). https://arxiv.org/abs/1703.02757
    """
    chosen = krum_choice(updates, num_byzantine, num_selected)
    with np.errstate(over="ignore"):
        return _finite(as_updates(updates)[list(chosen)].mean(axis=0, dtype=np.float64))


def krum_choice(updates: np.ndarray, num_byzantine: int, num_selected: int = 1) -> tuple[int, ...]:
    """Name the clients whose rows :func:`krum` and :func:`multi_krum` take, best first.

    Args:
        updates: One row per client, shape (n, d).
        num_byzantine: How many clients may lie, f; n must be at least 2 f + 3.
        num_selected: How many rows, 1 to n - f.

    Example:
        >>> krum_choice(np.array([[1.0], [2.0], [4.0], [3.0], [99.0]]), 1, num_selected=3)
        (1, 3, 0)
    """
    updates = as_updates(updates)
    n = len(updates)
    num_byzantine = _checked_count("krum", "num_byzantine", num_byzantine, n, factor=2, more=3)
    num_selected = as_whole("num_selected", num_selected)
    if not 1 <= num_selected <= n - num_byzantine:
        raise InvalidParameterError(
            f"num_selected must be from 1 to n - num_byzantine = {n - num_byzantine}, "
            f"got {num_selected}"
        )
    if num_selected == 1 and updates.dtype == np.float32 and n * updates.size >= QUICK_SIZE:
        quick = _quick_winner(updates, num_byzantine)
        if quick is not None:
            return (quick,)
    scores = krum_scores(updates, num_byzantine)
    chosen = scores.argsort(kind="stable")[:num_selected]
    if not np.isfinite(scores[chosen]).all():
        raise InvalidUpdateError(
            "squared distances between most rows leave the range of float64: more than "
            f"num_byzantine = {num_byzantine} of the {n} rows are far from all others"
        )
    return tuple(int(client) for client in chosen)


def bulyan(updates: np.ndarray, num_byzantine: int) -> np.ndarray:
    """Choose n - 2 f rows by Krum, then average the n - 4 f values nearest to each median.

    Krum looks at whole rows, so a liar may hide one large coordinate in a row that is close
    to the others. The second step looks at each coordinate.

    Args:
        updates: One row per client, shape (n, d).
        num_byzantine: How many clients may lie, f; n must be at least 4 f + 3.

    Returns:
        Shape (d,), float64. For an even number of chosen rows the median is the midpoint of
        the middle two; of two values equally near, the smaller counts as nearer.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If there are fewer than 4 f + 3 clients.

    Example:
        >>> rows = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [1e6]])
        >>> bulyan_choice(rows, num_byzantine=1), bulyan(rows, num_byzantine=1)
        ((3, 2, 4, 1, 5), array([4.]))

    Reference:
        El Mhamdi et al., ICML 2018 (Bulyan). https://arxiv.org/abs/1802.07927
    """
    chosen = as_updates(updates)[list(bulyan_choice(updates, num_byzantine))]
    num_cut = 2 * int(num_byzantine)
    kept = len(chosen) - num_cut
    average = np.empty(chosen.shape[1])
    with np.errstate(over="ignore"):
        for columns, ordered in _sorted_columns(chosen):
            halves = 0.5 * ordered.astype(np.float64)  # of the values: their sums fit a float
            centre = halves[:, (len(chosen) - 1) // 2] + halves[:, len(chosen) // 2]
            # The nearest values are neighbours: move on while the next one beats the first.
            beaten = halves[:, :num_cut] + halves[:, kept:] < centre[:, None]
            places = beaten.sum(axis=1)[:, None] + np.arange(kept)
            average[columns] = np.take_along_axis(ordered, places, axis=1).mean(
                axis=1, dtype=np.float64
            )
    return _finite(average)


def bulyan_choice(updates: np.ndarray, num_byzantine: int) -> tuple[int, ...]:
    """Name the n - 2 f clients that :func:`bulyan` averages over, in the order of their choice.

    Krum chooses one row, which then leaves, and again. The scores of those that are left take
    m - f - 2 neighbours of m, and one at least. With one neighbour, two rows that are nearest
    to each other always tie: then the second neighbour decides, and so on, and at last the
    lowest number.

    Args:
        updates: One row per client, shape (n, d).
        num_byzantine: How many clients may lie, f; n must be at least 4 f + 3.
    """
    updates = _checked(updates)
    n = len(updates)
    num_byzantine = _checked_count("bulyan", "num_byzantine", num_byzantine, n, factor=4, more=3)
    squared = _squared_distances(updates)
    left, chosen = list(range(len(updates))), []
    while len(chosen) < len(updates) - 2 * num_byzantine:
        distances = squared[np.ix_(left, left)]
        scores, ordered = _scores(distances, num_byzantine), np.sort(distances, axis=1)
        best = min(range(len(left)), key=lambda row: (scores[row], *ordered[row]))
        chosen.append(left.pop(best))
    return tuple(chosen)


def geometric_median(
    updates: np.ndarray, *, tolerance: float = 1e-8, max_steps: int = 1000
) -> np.ndarray:
    """Find the point whose distances to all rows have the smallest sum.

    Each row pulls with a force of one, however far away it is. So a minority cannot carry the
    point away, and turning the coordinate axes changes nothing, unlike with :func:`median`.
    This is the exact median, without the smoothing of Pillutla et al. Each step is
    Weiszfeld's, which always goes down, or Newton's, whole or shortened, where that goes
    down further.

    Args:
        updates: One row per client, shape (n, d).
        tolerance: The search ends when the mean of the unit vectors from the point to the
            rows, which is zero at the median, is no longer than this, or when rounding lets
            no step go down any more.
        max_steps: Give up after so many steps.

    Returns:
        Shape (d,), float64. It is a row itself if its own weight, the number of rows like it,
        holds it against the pull of all the others. Rows on one line may have a segment of
        medians; then any of them may come out.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf, or rows lie too far apart for float64.
        InvalidParameterError: If a parameter is out of range, or ``max_steps`` are too few.

    Example:
        >>> updates = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1e6, 0.0], [0.0, -1e6]])
        >>> geometric_median(updates)  # three honest rows against any two
        array([1., 2.])

    Reference:
        Vardi and Zhang, PNAS 2000: the step away from a row. Pillutla et al., IEEE TSP 2022:
        as a rule for federated learning. https://arxiv.org/abs/1912.13445
    """
    updates = _checked(updates)
    tolerance = as_real("tolerance", tolerance, above=0, below=1)
    max_steps = as_whole("max_steps", max_steps, least=0)
    start = median(updates)  # a place that no minority chooses
    with np.errstate(over="ignore", invalid="ignore"):
        axes, rows = np.linalg.qr((updates.astype(np.float64) - start).T)  # the rows' own space
    rows = rows.T  # (n, min(n, d))
    if not np.isfinite(rows).all():
        raise InvalidUpdateError("rows lie farther apart than float64 can tell")
    blur = 8 * len(rows) * np.finfo(np.float64).eps * row_norms(rows)  # rounding moved them so far
    point, tried, enough = np.zeros(rows.shape[1]), set(), tolerance * len(rows)
    for _ in range(max_steps):
        distances, pull = _pull(rows, point, blur)
        nearest = int(distances.argmin())
        if nearest not in tried:  # may the search end on this row?
            tried.add(nearest)
            around, pull_there = _pull(rows, rows[nearest], blur)
            if np.linalg.norm(pull_there) <= (around == 0).sum() + enough:
                return updates[nearest].astype(np.float64)
        if np.linalg.norm(pull) <= enough:
            break
        steps = _steps(rows, point, distances, pull)
        changes = [_shortening(rows, point, new) for new in steps]
        if not min(changes) < 0:
            break
        point = steps[int(np.argmin(changes))]
    else:
        raise InvalidParameterError(
            f"max_steps = {max_steps} are too few for tolerance {tolerance:g}"
        )
    return start + axes @ point


def _pull(rows: np.ndarray, point: np.ndarray, blur: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances from a point to all rows, and the sum of the unit vectors to those elsewhere."""
    away = rows - point
    distances = row_norms(away)
    distances[distances <= blur] = 0
    elsewhere = distances > 0
    return distances, (away[elsewhere] / distances[elsewhere, None]).sum(axis=0)


def _steps(
    rows: np.ndarray, point: np.ndarray, distances: np.ndarray, pull: np.ndarray
) -> list[np.ndarray]:
    """Where Weiszfeld and Newton go from here; rows that are here hold back with one each."""
    elsewhere = distances > 0
    inverse = 1 / distances[elsewhere]
    held = min(1.0, (~elsewhere).sum() / np.linalg.norm(pull))
    weiszfeld = point + (1 - held) * pull / inverse.sum()
    if held:
        return [weiszfeld]  # no second derivative here
    units = (rows - point) * inverse[:, None]
    curvature = inverse.sum() * np.eye(len(point)) - (units.T * inverse) @ units
    newton = np.linalg.lstsq(curvature, pull, rcond=None)[0]  # may shoot far: also shorter ones
    return [weiszfeld, *(point + newton / 4**shorter for shorter in range(10))]


def _shortening(rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> float:
    """Change of the sum of distances; exact to rounding also beside rows that are far away."""
    step, middle = new - old, (new + old) / 2 - rows
    lengths = row_norms(rows - old) + row_norms(rows - new)
    return float((2 * (middle @ step) / np.where(lengths > 0, lengths, 1)).sum())


def norm_bounded_mean(updates: np.ndarray, max_norm: float) -> np.ndarray:
    """Average the rows after scaling those longer than ``max_norm`` down to it.

    One client then moves the mean by at most ``2 * max_norm / n``, wherever it points. That
    stops shouting; it does not stop many clients that whisper the same.

    Args:
        updates: One row per client, shape (n, d).
        max_norm: Largest L2 norm a row keeps, in the units of the model weights.

    Returns:
        Shape (d,), float64.

    Raises:
        InvalidUpdateError: If a row holds NaN or Inf; the message names the client.
        InvalidParameterError: If ``max_norm`` is not positive and finite.

    Example:
        >>> updates = np.array([[1.0, 0.0], [0.0, 1.0], [-3e6, 4e6]])
        >>> norm_bounded_mean(updates, max_norm=1.0).round(3)
        array([0.133, 0.6  ])

    Reference:
        Sun et al. 2019 (norm thresholding). https://arxiv.org/abs/1911.07963
    """
    return _finite(clip_by_norm(updates, max_norm).mean(axis=0, dtype=np.float64))


def robust_aggregate(
    updates: np.ndarray,
    weights: None = None,
    *,
    rule: Callable[[np.ndarray], np.ndarray],
    sum_protocol: SumProtocol = plain_sum,
    dropped: Mapping[int, Phase] | None = None,
) -> AggregateResult:
    """Send the rows to the server and let it apply a robust rule to those that arrive.

    For a federated run: ``aggregate=partial(robust_aggregate, rule=partial(krum,
    num_byzantine=2))`` with ``weigh_by_examples=False``.

    Args:
        updates: One row per client, shape (n, d).
        weights: Must be None. A liar would claim the largest weight.
        rule: Turns the rows that arrived, shape (m, d), into one vector, shape (d,).
        sum_protocol: How the rows travel: ``plain_sum`` or ``encrypted_sum``, also with
            arguments bound by ``functools.partial``. The server opens both, row by row.
        dropped: The phase in which a client leaves, by client number.

    Returns:
        The vector, who is in it, and every message. Rules that count clients count those
        that arrived.

    Raises:
        InvalidParameterError: If weights are given, or the protocol hides rows from the server.
        InvalidUpdateError: If a row that arrives holds NaN or Inf; the text names the client.

    Example:
        >>> updates = np.array([[1.0], [2.0], [1e6]])
        >>> robust_aggregate(updates, rule=median).update
        array([2.])
    """
    name = _name(rule)
    if weights is not None:
        raise InvalidParameterError(
            f"{name} takes no weights: a client that lies would claim the largest one. "
            "Use weigh_by_examples=False"
        )
    if _unbound(sum_protocol) not in SHOW_ROWS:
        hides = "hides them from" if _unbound(sum_protocol) in HIDE_ROWS else "may not show them to"
        raise InvalidParameterError(
            f"{name} must compare the rows of the clients, and {_name(sum_protocol)} {hides} "
            "the server. Use plain_sum or encrypted_sum, or an aggregation that needs one sum"
        )
    updates = as_updates(updates)
    result = sum_protocol(updates, dropped)
    rows = updates[list(result.included)]
    return AggregateResult(rule(rows), result.included, result.transcript)


def _unbound(function: Callable) -> Callable:
    while isinstance(function, partial):
        function = function.func
    return function


def _name(function: Callable) -> str:
    function = _unbound(function)
    return getattr(function, "__name__", type(function).__name__)


def _checked(updates: np.ndarray) -> np.ndarray:
    updates = as_updates(updates)
    require_finite_rows(updates)
    return updates


def _finite(vector: np.ndarray) -> np.ndarray:
    """Refuse a result beyond the range of float64, which finite rows can have."""
    if not np.isfinite(vector).all():
        raise InvalidUpdateError("the sum of the updates leaves the range of float64")
    return vector


def _checked_count(rule: str, name: str, value: int, n: int, *, factor: int, more: int) -> int:
    """The value as a Python integer; refuse fewer than ``factor * value + more`` clients."""
    value = as_whole(name, value, least=0)
    if n < factor * value + more:
        raise InvalidParameterError(
            f"{rule} needs n >= {factor} * {name} + {more} clients: with {name} = {value} that "
            f"is {factor * value + more}, got {n}"
        )
    return value


def _sorted_columns(updates: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of columns, each sorted: entry (j, k) is the k-th smallest of column j."""
    for first in range(0, updates.shape[1], SORTED_COLUMNS):
        columns = slice(first, first + SORTED_COLUMNS)
        block = np.array(updates[:, columns].T, order="C")  # a copy: sorting goes along memory
        block.sort(axis=1)
        yield columns, block


def _scores(squared: np.ndarray, num_byzantine: int) -> np.ndarray:
    """Krum scores from squared distances, shape (m, m); nobody is its own neighbour."""
    others = squared + np.diag(np.full(len(squared), np.inf))
    num_neighbours = max(1, len(squared) - num_byzantine - 2)
    with np.errstate(over="ignore"):
        return np.sort(others, axis=1)[:, :num_neighbours].sum(axis=1)


def _squared_distances(updates: np.ndarray) -> np.ndarray:
    """Squared distances of all pairs, float64, shape (n, n); inf beyond its range.

    Products of rows give all distances at once, |a|² + |b|² - 2ab, but their difference
    cancels where a and b are close to each other and far from the origin. So one row becomes
    the origin, and pairs that are still much closer to each other than to it wait until one
    of them is the origin. Distances to the origin are sums of squared differences.
    """
    squared = np.full((len(updates), len(updates)), np.nan)
    np.fill_diagonal(squared, 0)
    while (unknown := np.isnan(squared)).any():
        origin = int(unknown.sum(axis=1).argmax())
        group = np.flatnonzero(unknown[origin])
        with np.errstate(over="ignore", invalid="ignore"):
            products = _products(updates, group, origin)
            lengths = np.diag(products)
            sums = lengths[:, None] + lengths
            found = sums - 2 * products
            found[~(found >= CLOSE * sums)] = np.nan  # also where inf - inf is NaN
        pairs = np.ix_(group, group)
        squared[pairs] = np.where(unknown[pairs], found, squared[pairs])
        squared[origin, group] = squared[group, origin] = lengths
    return squared


def _products(updates: np.ndarray, group: np.ndarray, origin: int) -> np.ndarray:
    """Inner products of the rows of a group, relative to one row, added in float64."""
    total = np.zeros((len(group), len(group)))
    for first in range(0, updates.shape[1], COMPARED_COLUMNS):
        block = updates[:, first : first + COMPARED_COLUMNS]
        away = block[group].astype(np.float64) - block[origin]
        total += away @ away.T
    return total


def _quick_winner(updates: np.ndarray, num_byzantine: int) -> int | None:
    """The row that Krum chooses, if float32 can tell; None where it cannot.

    A product of k terms is off by at most k rounding errors of the product of lengths, and
    blocks are added in float64. So scores have an interval, and the lowest one wins if it
    lies below all others. Lengths from the mean row are shorter; the mean is taken off where
    the first columns say that it makes a difference, since that takes a fifth of the time.
    """
    n, total = len(updates), np.zeros((len(updates), len(updates)))
    shares = np.full(n, 1 / n, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        first_columns = updates[:, :COMPARED_COLUMNS]
        offset = np.square(shares @ first_columns).sum()
        centred = bool(offset > 0.1 * (shares @ np.square(first_columns)).sum())
        for first in range(0, updates.shape[1], COMPARED_COLUMNS):
            block = updates[:, first : first + COMPARED_COLUMNS]
            away = block - shares @ block if centred else block
            total += away @ away.T
        lengths = np.diag(total)
        sums = lengths[:, None] + lengths
        squared = sums - 2 * total
        float32 = np.finfo(np.float32)
        error = 2 * (COMPARED_COLUMNS + 8) * float32.epsneg * sums
        error += 4 * updates.shape[1] * float32.tiny  # products that vanish
        lowest = _scores(np.maximum(squared - error, 0), num_byzantine)
        highest = _scores(squared + error, num_byzantine)
    winner = int(highest.argmin())
    others = np.delete(lowest, winner)
    return winner if highest[winner] < others.min() else None
