"""Is the claimed epsilon true? Experiments that can refute it.

An audit plays a game with a mechanism: a coin decides whether a *canary* takes part,
the auditor looks at what is released and guesses. Whoever guesses better than epsilon
allows has refuted the claim. Guessing badly proves nothing: a better auditor may come.

A mechanism is any function from what the clients of one round send, ``updates``
(n, d), to what is released, (d,). An audit gets a function that starts a fresh
one for every run, as real ones may keep state from round to round::

    start = lambda: lambda updates: dp_mean(updates, ...).update

Canaries here are whole clients, which send the worst that a client can: so what is
audited is privacy at **client** level, under adding or removing one, for an adversary
who sees what is released in **every** round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from fltutor.border import as_array, as_generator, as_numbers, as_real, as_whole, not_finite
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.packages import load
from fltutor.privacy.accounting import ADD_OR_REMOVE_ONE, PrivacySpent, check_unit
from fltutor.vectors import as_updates, row_norms

Mechanism = Callable[[np.ndarray], np.ndarray]
"""``mechanism(updates)``: from (n, d) to (d,)."""

PILOT = 4
"""One run in so many chooses the threshold; the others are judged by it."""
MAX_THRESHOLDS = 500
"""Thresholds to choose from."""


@dataclass(frozen=True)
class AuditResult:
    """A lower bound on epsilon with all that it depends on; ``print`` shows it.

    Attributes:
        epsilon: With probability ``confidence`` the mechanism has no smaller epsilon.
        delta: The delta that this epsilon goes with.
        confidence: How often at least such a bound holds, if audits are repeated.
        guesses: How often the auditor guessed.
        correct: How many of the guesses were right.
        experiment: What was guessed, in a few words.
        unit: Who the canaries were: ``"client"`` or ``"example"``.
        adjacency: What the coin did: ``"add-or-remove-one"``.

    Example:
        >>> print(AuditResult(3.21, 1e-3, 0.95, 100, 97, "one run, 128 canaries"))
        epsilon >= 3.21 at delta = 1e-3, confidence 95% (client, add-or-remove-one)
        one run, 128 canaries: 97 of 100 guesses right
        A lower bound refutes claims below it; it proves none.
    """

    epsilon: float
    delta: float
    confidence: float
    guesses: int
    correct: int
    experiment: str
    unit: str = "client"
    adjacency: str = ADD_OR_REMOVE_ONE

    def __str__(self) -> str:
        delta = np.format_float_scientific(self.delta, precision=2, trim="-", exp_digits=1)
        return (
            f"epsilon >= {self.epsilon:.3g} at delta = {delta if self.delta else 0}, "
            f"confidence {100 * self.confidence:.4g}% ({self.unit}, {self.adjacency})\n"
            f"{self.experiment}: {self.correct:,} of {self.guesses:,} guesses right\n"
            "A lower bound refutes claims below it; it proves none."
        )

    def refutes(self, claim: PrivacySpent) -> bool:
        """Say whether the claim lies below the bound. False means *not refuted*, never *true*.

        Raises:
            InvalidParameterError: If audit and claim differ in delta, unit or adjacency, and
                so speak of different things.

        Example:
            >>> audit = AuditResult(3.21, 1e-3, 0.95, 100, 97, "one run, 128 canaries")
            >>> audit.refutes(PrivacySpent(2.4, 1e-3, "client", ADD_OR_REMOVE_ONE,
            ...                            "none", 1.0, "pld"))
            True
        """
        for name in ("delta", "unit", "adjacency"):
            audited, claimed = getattr(self, name), getattr(claim, name)
            if audited != claimed:
                raise InvalidParameterError(
                    f"the audit is about {name} {audited}, the claim about {claimed}: "
                    "they cannot be compared"
                )
        return self.epsilon > claim.epsilon


def clopper_pearson(
    count: np.ndarray | int, trials: int, *, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the probability behind ``count`` successes of ``trials``, exactly.

    Each bound on its own holds with probability at least ``confidence``, whatever the
    true probability is. For both at once, or bounds on two rates, split what may fail:
    two bounds that hold with 97.5 % each hold together with 95 %.

    Args:
        count: Number of successes, or an array of such numbers.
        trials: Number of independent trials, positive.
        confidence: Of each bound, in (0, 1).

    Returns:
        The lower and the upper bound, each of the shape of ``count``.

    Raises:
        InvalidParameterError: If ``count`` is no whole number from 0 to ``trials``, there
            are no trials, or ``confidence`` is outside (0, 1).

    Example:
        >>> low, high = clopper_pearson(0, 100, confidence=0.95)
        >>> float(low), round(float(high), 4), round(1 - 0.05 ** (1 / 100), 4)
        (0.0, 0.0295, 0.0295)

    Reference:
        Clopper and Pearson, Biometrika 26(4), 1934. https://doi.org/10.1093/biomet/26.4.404
    """
    betaincinv = load("scipy.special", "scipy").betaincinv
    trials = as_whole("trials", trials, least=1)
    confidence = as_real("confidence", confidence, above=0, below=1)
    count = _as_counts("count", count, trials)
    failed = 1 - confidence
    low = betaincinv(np.maximum(count, 1), trials - count + 1, failed)
    high = betaincinv(count + 1, np.maximum(trials - count, 1), confidence)
    return np.where(count == 0, 0.0, low), np.where(count == trials, 1.0, high)


def epsilon_lower_bound(
    false_positives: np.ndarray | int,
    out_trials: int,
    false_negatives: np.ndarray | int,
    in_trials: int,
    *,
    delta: float,
    confidence: float,
) -> np.ndarray:
    """Turn the errors of a guesser into a bound: no smaller epsilon allows so few of them.

    Under (epsilon, delta) every guesser has FPR * e^epsilon + FNR >= 1 - delta, and
    the same with the two rates exchanged. So epsilon is at least
    ln((1 - delta - FNR) / FPR). Each rate is replaced by an upper bound that fails with
    half of 1 - ``confidence``, so that both hold together.

    Args:
        false_positives: How often the guess was "in" without the canary.
        out_trials: Independent runs without the canary.
        false_negatives: How often the guess was "out" with it.
        in_trials: Independent runs with it.
        delta: The delta of the claim, in [0, 1).
        confidence: That the bound holds, in (0, 1). The guesser must be chosen without a
            look at these runs.

    Returns:
        The better of the two bounds, 0 or more, of the shape of the counts.

    Raises:
        InvalidParameterError: If a count, ``delta`` or ``confidence`` is out of range.

    Example:
        >>> bound = epsilon_lower_bound(0, 500, 0, 500, delta=1e-5, confidence=0.95)
        >>> round(float(bound), 2)  # a perfect guesser, 500 times each: no more than this
        4.91

    Reference:
        Jagielski et al., NeurIPS 2020. https://arxiv.org/abs/2006.07709.
        Kairouz et al., ICML 2015, on hypothesis testing. https://arxiv.org/abs/1311.0776
    """
    delta = as_real("delta", delta, least=0, below=1)
    confidence = as_real("confidence", confidence, above=0, below=1)
    out_trials = as_whole("out_trials", out_trials, least=1)
    in_trials = as_whole("in_trials", in_trials, least=1)
    false_positives = _as_counts("false_positives", false_positives, out_trials)
    false_negatives = _as_counts("false_negatives", false_negatives, in_trials)
    each = 1 - (1 - confidence) / 2
    _, fpr = clopper_pearson(false_positives, out_trials, confidence=each)
    _, fnr = clopper_pearson(false_negatives, in_trials, confidence=each)
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(np.maximum(1 - delta - fnr, 0) / fpr)
        other = np.log(np.maximum(1 - delta - fpr, 0) / fnr)
    return np.maximum(np.maximum(one, other), 0.0)


@dataclass(frozen=True)
class Canaries:
    """Clients of the auditor, each in the run or not.

    A canary sends its update in even rounds (0, 2, ...) and minus its update in odd
    ones. Its score adds up, with the same signs, how far what was released points its
    way: fresh noise gains nothing by the signs, noise that is reused cancels.

    Attributes:
        updates: What they send in even rounds, no row zero, shape (k, d).
        included: Who takes part, bool, shape (k,).
    """

    updates: np.ndarray = field(repr=False)
    included: np.ndarray

    def __post_init__(self):
        updates = as_updates(self.updates)
        norms = row_norms(updates)
        if not (np.isfinite(norms) & (norms > 0)).all():
            raise InvalidUpdateError("each canary must send finite numbers, not all of them zero")
        included = as_array("included", self.included)
        if included.dtype != bool or included.shape != (len(updates),):
            raise InvalidParameterError(
                f"included must be bool of shape ({len(updates)},), got {included.dtype} of "
                f"shape {included.shape}"
            )
        object.__setattr__(self, "updates", updates)
        object.__setattr__(self, "included", included)

    def join(self, updates: np.ndarray, round_number: int) -> np.ndarray:
        """Append the rows of the canaries that take part, (n, d) to (n + included, d).

        Example:
            >>> canaries = Canaries(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([True, False]))
            >>> canaries.join(np.ones((1, 2)), round_number=1)
            array([[ 1.,  1.],
                   [-2., -0.]])
        """
        updates = as_updates(updates, allow_empty=True)
        round_number = as_whole("round_number", round_number, least=0)
        if updates.shape[1] != self.updates.shape[1]:
            raise InvalidUpdateError(
                f"updates must have shape (n, {self.updates.shape[1]}) like the canaries, got "
                f"{updates.shape}"
            )
        sign = -1.0 if round_number % 2 else 1.0
        dtype = np.promote_types(updates.dtype, np.float32)  # as rows are sent
        with np.errstate(over="ignore"):
            rows = (sign * self.updates[self.included]).astype(dtype)
        if bad := not_finite(rows):  # a mechanism may count it as zero, and find no fault
            raise InvalidUpdateError(f"what a canary sends must be finite, got {bad}")
        return np.concatenate([updates, rows])

    def scores(self, released: np.ndarray) -> np.ndarray:
        """Score each canary by what was released, higher for "in".

        Args:
            released: What each round released, shape (rounds, d).

        Returns:
            Shape (k,). If noise is normal and canaries are orthogonal, no other score tells
            more (Neyman and Pearson).

        Example:
            >>> canaries = Canaries(np.array([[2.0, 0.0]]), np.array([True]))
            >>> canaries.scores(np.array([[5.0, 0.1], [4.0, 0.2]]))
            array([1.])
        """
        released = as_numbers("what was released", released, InvalidUpdateError)
        released = released.astype(np.float64)
        if released.ndim != 2 or released.shape[1] != self.updates.shape[1] or not len(released):
            raise InvalidUpdateError(
                f"released must have shape (rounds, {self.updates.shape[1]}), got {released.shape}"
            )
        signs = np.where(np.arange(len(released)) % 2, -1.0, 1.0)
        return self.updates @ (signs @ released) / row_norms(self.updates)


def plant_canaries(
    num_canaries: int, dimension: int, *, norm: float, rng: np.random.Generator
) -> Canaries:
    """Make canaries that do not disturb each other, and toss a fair coin for each.

    Their updates are orthogonal, in random directions: each has its own part of the
    noise, and hardly any of what honest clients send.

    Args:
        num_canaries: How many, from 1 to ``dimension``.
        dimension: Coordinates d of an update.
        norm: L2 norm of what they send: above the clipping norm, to see whether there is one.
        rng: Source of directions and coins.

    Raises:
        InvalidParameterError: If a size is out of range or ``norm`` is not positive and finite.

    Example:
        >>> canaries = plant_canaries(3, 50, norm=10.0, rng=np.random.default_rng(0))
        >>> (canaries.updates @ canaries.updates.T).round(6) + 0.0
        array([[100.,   0.,   0.],
               [  0., 100.,   0.],
               [  0.,   0., 100.]])

    Reference:
        Steinke, Nasr and Jagielski, NeurIPS 2023, Algorithm 1.
        https://arxiv.org/abs/2305.08846. Random directions in federated learning: Andrew
        et al., ICLR 2024. https://arxiv.org/abs/2302.03098
    """
    dimension = as_whole("dimension", dimension, least=1)
    num_canaries = as_whole("num_canaries", num_canaries, least=1, most=dimension)
    norm = as_real("norm", norm, above=0)
    rng = as_generator("rng", rng)
    directions, _ = np.linalg.qr(rng.standard_normal((dimension, num_canaries)))
    return Canaries(norm * directions.T, rng.random(num_canaries) < 0.5)


def play(start: Callable[[], Mechanism], honest: np.ndarray, canaries: Canaries) -> np.ndarray:
    """Run a mechanism over all rounds, with the canaries among the honest clients.

    Args:
        start: Gives a fresh mechanism.
        honest: What the honest clients send, shape (rounds, n, d); n may be 0.
        canaries: Who joins them.

    Returns:
        The score of each canary, taking part or not, shape (k,).

    Example:
        >>> canary = Canaries(np.array([[1.0, 0.0]]), np.array([True]))
        >>> play(lambda: lambda updates: updates.sum(axis=0), np.zeros((4, 3, 2)), canary)
        array([4.])
    """
    honest = as_array("honest", honest, InvalidUpdateError)
    if honest.ndim != 3 or len(honest) == 0:
        raise InvalidUpdateError(f"honest must have shape (rounds, n, d), got {honest.shape}")
    mechanism = start()
    released = [mechanism(canaries.join(sent, number)) for number, sent in enumerate(honest)]
    return canaries.scores(released)


def two_world_scores(
    start: Callable[[], Mechanism],
    honest: np.ndarray,
    canary: np.ndarray,
    *,
    runs: int | Iterable,
) -> tuple[np.ndarray, np.ndarray]:
    """Run a mechanism many times without one canary client, and as often with it.

    Args:
        start: Gives a fresh mechanism for every run; its noise must be fresh, too.
        honest: What the honest clients send, the same in all runs, shape (rounds, n, d).
        canary: What the canary sends in even rounds, shape (d,).
        runs: How many of each kind, or something to count along, such as a progress bar.

    Returns:
        The scores without and with the canary, for :func:`two_world_audit`, shape (runs,).

    Raises:
        InvalidParameterError: If there are no runs.
        InvalidUpdateError: If shapes do not fit, or something released is NaN or Inf.

    Example:
        >>> two_world_scores(lambda: lambda updates: updates.sum(axis=0), np.zeros((2, 1, 1)),
        ...                  np.ones(1), runs=3)
        (array([0., 0., 0.]), array([2., 2., 2.]))
    """
    if not isinstance(runs, Iterable):
        runs = range(as_whole("runs", runs, least=1))
    canary = as_array("canary", canary, InvalidUpdateError)
    out, present = (Canaries(np.atleast_2d(canary), np.array([coin])) for coin in (False, True))
    pairs = [(play(start, honest, out)[0], play(start, honest, present)[0]) for _ in runs]
    if not pairs:
        raise InvalidParameterError("runs must be 1 or more, got none")
    without, with_canary = np.array(pairs).T
    return without, with_canary


def two_world_audit(
    without: np.ndarray,
    with_canary: np.ndarray,
    *,
    delta: float,
    confidence: float = 0.95,
    unit: str = "client",
) -> AuditResult:
    """Bound epsilon from below by telling apart runs with one canary and runs without.

    The first quarter of the runs chooses a threshold, the others are judged by it. A
    threshold chosen and judged on the same runs would look better than it is, and the
    confidence would be a lie.

    Args:
        without: One score per run without the canary, at least 2, in the order of the runs.
        with_canary: One score per run with it, at least 2.
        delta: The delta of the claim, in [0, 1).
        confidence: That the bound holds, in (0, 1).
        unit: What the canary is, ``"client"`` or ``"example"``.

    Raises:
        InvalidParameterError: If there are too few scores, a score is NaN or Inf, or a
            parameter is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> audit = two_world_audit(rng.normal(0, 1, 6000), rng.normal(2, 1, 6000), delta=1e-3)
        >>> round(audit.epsilon, 1)  # noise multiplier 1/2; its epsilon is 7.6
        4.0

    Reference:
        Jagielski et al., NeurIPS 2020, with the threshold
        chosen on separate runs. https://arxiv.org/abs/2006.07709
    """
    delta = as_real("delta", delta, least=0, below=1)
    confidence = as_real("confidence", confidence, above=0, below=1)
    unit = check_unit(unit)
    without, with_canary = _scores("without", without), _scores("with_canary", with_canary)
    pilot_out, pilot_in = max(len(without) // PILOT, 1), max(len(with_canary) // PILOT, 1)
    threshold = _best_threshold(without[:pilot_out], with_canary[:pilot_in], delta, confidence)
    judged_out, judged_in = without[pilot_out:], with_canary[pilot_in:]
    false_positives = int((judged_out > threshold).sum())
    false_negatives = int((judged_in <= threshold).sum())
    bound = epsilon_lower_bound(
        false_positives,
        len(judged_out),
        false_negatives,
        len(judged_in),
        delta=delta,
        confidence=confidence,
    )
    guesses = len(judged_out) + len(judged_in)
    return AuditResult(
        float(bound),
        delta,
        confidence,
        guesses,
        guesses - false_positives - false_negatives,
        f"two worlds, {len(judged_out):,} runs without and {len(judged_in):,} with the canary",
        unit,
    )


def _best_threshold(
    without: np.ndarray, with_canary: np.ndarray, delta: float, confidence: float
) -> float:
    """The threshold with the largest bound on these scores; "in" is what lies above it."""
    candidates = np.unique(np.concatenate([without, with_canary]))
    if len(candidates) > MAX_THRESHOLDS:
        candidates = candidates[np.linspace(0, len(candidates) - 1, MAX_THRESHOLDS).astype(int)]
    middles = (candidates[1:] + candidates[:-1]) / 2  # between two scores, as far from both
    candidates = np.concatenate([candidates[:1], middles])
    bounds = epsilon_lower_bound(
        len(without) - np.searchsorted(np.sort(without), candidates, side="right"),
        len(without),
        np.searchsorted(np.sort(with_canary), candidates, side="right"),
        len(with_canary),
        delta=delta,
        confidence=confidence,
    )
    return float(candidates[np.argmax(bounds)])


def one_run_p_value(
    correct: int, guesses: int, canaries: int, *, epsilon: float, delta: float
) -> float:
    """Bound the probability that so many guesses are right, were the claim true.

    The canaries share one run, so their guesses are not independent trials. The
    theorem holds all the same: under (epsilon, 0) the number of right guesses is at most
    that of a coin with bias e^epsilon / (1 + e^epsilon), and delta adds a term.

    Args:
        correct: Right guesses.
        guesses: Guesses made; the auditor may abstain on the other canaries.
        canaries: Canaries planted, each by its own fair coin.
        epsilon: The claim, 0 or more, for adding or removing one canary.
        delta: The claim, in [0, 1).

    Returns:
        An upper bound, at most 1. If it is small, the claim is false or a rare thing happened.

    Raises:
        InvalidParameterError: If not 0 <= correct <= guesses <= canaries, there is no
            canary, or the claim is out of range.

    Example:
        >>> one_run_p_value(10, 10, 10, epsilon=0.0, delta=0.0) == 0.5**10
        True

    Reference:
        Steinke, Nasr and Jagielski, NeurIPS 2023, section 5 and Appendix D.
        https://arxiv.org/abs/2305.08846
    """
    binom = load("scipy.stats", "scipy").binom
    canaries = as_whole("canaries", canaries, least=1)
    guesses = as_whole("guesses", guesses, least=0, most=canaries)
    correct = as_whole("correct", correct, least=0, most=guesses)
    delta = as_real("delta", delta, least=0, below=1)
    epsilon = as_real("epsilon", epsilon, least=0)
    bias = 1 / (1 + math.exp(-epsilon))
    p_value = binom.sf(correct - 1, guesses, bias)  # P[Binomial >= correct]
    if delta > 0 and correct > 0:
        just_below = np.cumsum(binom.pmf(np.arange(correct)[::-1], guesses, bias))
        worst = (just_below / np.arange(1, correct + 1)).max()
        p_value += 2 * canaries * delta * worst
    return float(min(p_value, 1.0))


def one_run_epsilon(
    correct: int, guesses: int, canaries: int, *, delta: float, confidence: float = 0.95
) -> float:
    """Find the largest epsilon that the guesses of one run refute.

    Args:
        correct, guesses, canaries, delta: As in :func:`one_run_p_value`.
        confidence: That the bound holds, in (0, 1).

    Returns:
        The bound, 0 or more; at most 1e-9 below the largest refuted epsilon.

    Raises:
        InvalidParameterError: As :func:`one_run_p_value`; also for ``confidence``.

    Example:
        >>> round(one_run_epsilon(75, 100, 1000, delta=1e-4, confidence=0.95), 3)
        0.673

    Reference:
        Steinke, Nasr and Jagielski, NeurIPS 2023, Appendix D, where the example stands.
        https://arxiv.org/abs/2305.08846
    """
    confidence = as_real("confidence", confidence, above=0, below=1)

    def is_refuted(epsilon: float) -> bool:
        p_value = one_run_p_value(correct, guesses, canaries, epsilon=epsilon, delta=delta)
        return p_value < 1 - confidence

    refuted, possible = 0.0, 1.0
    if not is_refuted(refuted):
        return 0.0
    while is_refuted(possible):  # ends: a huge epsilon allows all guesses to be right
        refuted, possible = possible, 2 * possible
    while possible - refuted > 1e-9:
        middle = (refuted + possible) / 2
        refuted, possible = (middle, possible) if is_refuted(middle) else (refuted, middle)
    return refuted


def one_run_audit(
    scores: np.ndarray,
    included: np.ndarray,
    *,
    guesses: int,
    delta: float,
    confidence: float = 0.95,
    unit: str = "client",
) -> AuditResult:
    """Bound epsilon from below with many canaries in a single run.

    The auditor says "in" of the highest scores, "out" of the lowest, and nothing of
    those between.

    Args:
        scores: One per canary, from what was released alone, shape (k,), higher for "in".
        included: How the fair coins fell, bool, shape (k,).
        guesses: How many to make, at most k, chosen before the run. The odd one says "in".
        delta: The delta of the claim, in [0, 1).
        confidence: That the bound holds, in (0, 1).
        unit: What a canary is, ``"client"`` or ``"example"``.

    Raises:
        InvalidParameterError: If there is no canary, a score is NaN or Inf, shapes differ,
            or a parameter is out of range.

    Example:
        >>> scores = np.array([3.0, 2.0, 0.1, 0.0, -2.0, -1.0])
        >>> included = np.array([True, True, False, True, False, False])
        >>> audit = one_run_audit(scores, included, guesses=4, delta=0.0)
        >>> audit.correct, round(audit.epsilon, 3)
        (4, 0.0)

    Reference:
        Steinke, Nasr and Jagielski, NeurIPS 2023, Algorithm 1. https://arxiv.org/abs/2305.08846
    """
    scores, included = _scores("scores", scores, least=1), as_array("included", included)
    if included.dtype != bool or included.shape != scores.shape:
        raise InvalidParameterError(
            f"included must be bool of shape {scores.shape}, got {included.dtype} of shape "
            f"{included.shape}"
        )
    guesses = as_whole("guesses", guesses, least=0, most=len(scores))
    delta = as_real("delta", delta, least=0, below=1)
    confidence = as_real("confidence", confidence, above=0, below=1)
    unit = check_unit(unit)
    order = np.argsort(scores, kind="stable")
    said_out, said_in = order[: guesses // 2], order[len(scores) - (guesses + 1) // 2 :]
    correct = int((~included[said_out]).sum() + included[said_in].sum())
    bound = one_run_epsilon(correct, guesses, len(scores), delta=delta, confidence=confidence)
    experiment = f"one run, {len(scores):,} canaries"
    return AuditResult(bound, delta, confidence, guesses, correct, experiment, unit)


def _as_counts(name: str, count: np.ndarray | int, trials: int) -> np.ndarray:
    """The counts as int64: in few bits ``count + 1`` would wrap around."""
    count = as_array(name, count)
    if count.dtype.kind not in "iu" or (count < 0).any() or (count > trials).any():
        raise InvalidParameterError(
            f"{name} must be whole numbers from 0 to {trials} trials, got {count}"
        )
    return count.astype(np.int64)


def _scores(name: str, scores: np.ndarray, least: int = 2) -> np.ndarray:
    """The scores as float64: in few bits a threshold between two of them would wrap around."""
    scores = as_numbers(name, scores).astype(np.float64)
    if scores.ndim != 1 or len(scores) < least:
        raise InvalidParameterError(f"{name} must hold {least} scores or more, got {scores.shape}")
    return scores
