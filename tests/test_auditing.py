"""Audits: the bounds are exact, an honest mechanism is not accused, a bug is caught.

Random tests are seeded. Those that count how often something happens state how often
they would fail by chance under another seed.
"""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fltutor.aggregation import dp_mean
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.lessons.auditing_privacy.runs import claim, power, small_start, small_world
from fltutor.privacy.accounting import epsilon_after
from fltutor.privacy.auditing import (
    AuditResult,
    Canaries,
    clopper_pearson,
    epsilon_lower_bound,
    one_run_audit,
    one_run_epsilon,
    one_run_p_value,
    plant_canaries,
    play,
    two_world_audit,
    two_world_scores,
)

FALSE_ALARM = 1e-6


# Clopper and Pearson


@given(
    st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.5, 0.9999),
)
def test_clopper_pearson_is_scipys_exact_interval(counts, confidence):
    count, trials = counts
    low, high = clopper_pearson(count, trials, confidence=confidence)
    test = stats.binomtest(count, trials)
    expected = test.proportion_ci(1 - 2 * (1 - confidence), method="exact")  # two-sided
    assert low == pytest.approx(expected.low, rel=1e-9, abs=1e-12)
    assert high == pytest.approx(expected.high, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("count", "trials"), [(0, 5), (3, 7), (19, 20), (20, 20)])
def test_clopper_pearson_solves_its_own_equation_in_whole_numbers(count, trials):
    """At the upper bound, so few successes have probability 1 - confidence, counted exactly."""
    low, high = clopper_pearson(count, trials, confidence=0.95)

    def at_most(k, p):
        p = Fraction(float(p))
        terms = (math.comb(trials, i) * p**i * (1 - p) ** (trials - i) for i in range(k + 1))
        return float(sum(terms))

    assert high == 1 if count == trials else at_most(count, high) == pytest.approx(0.05, rel=1e-9)
    assert low == 0 if count == 0 else 1 - at_most(count - 1, low) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("trials", [1, 10, 57])
def test_clopper_pearson_covers_every_probability(trials):
    """By summing over all outcomes, not by drawing some."""
    counts = np.arange(trials + 1)
    low, high = clopper_pearson(counts, trials, confidence=0.9)
    for p in np.linspace(0.001, 0.999, 301):
        weights = stats.binom.pmf(counts, trials, p)
        assert weights[p <= high].sum() >= 0.9 - 1e-12
        assert weights[p >= low].sum() >= 0.9 - 1e-12


# Two worlds: the bound


def randomised_response(epsilon, world, runs, rng):
    """A bit, kept with probability e^epsilon / (1 + e^epsilon): the worst that epsilon allows."""
    kept = rng.random(runs) < 1 / (1 + math.exp(-epsilon))
    return np.where(kept, world, 1 - world).astype(float)


def test_bound_is_the_larger_of_both_directions():
    high = {  # 97.5 % each, so that both hold with 95 %
        k: float(clopper_pearson(k, 100, confidence=0.975)[1]) for k in (2, 40)
    }
    expected = math.log((1 - 0.01 - high[40]) / high[2])
    for errors in ((2, 40), (40, 2)):
        bound = epsilon_lower_bound(errors[0], 100, errors[1], 100, delta=0.01, confidence=0.95)
        assert bound == pytest.approx(expected, rel=1e-12)
    assert epsilon_lower_bound(50, 100, 50, 100, delta=0.01, confidence=0.95) == 0
    assert epsilon_lower_bound(100, 100, 100, 100, delta=0.01, confidence=0.95) == 0


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_bound_holds_as_often_as_it_says_where_epsilon_is_known(epsilon):
    """Randomised response has exactly this epsilon, so the bound may exceed it in 10 % at most.

    Summed over all outcomes. It is no empty promise: it does exceed it sometimes.
    """
    trials, confidence = 200, 0.9
    wrong = 1 / (1 + math.exp(epsilon))
    errors = np.arange(trials + 1)
    weights = stats.binom.pmf(errors, trials, wrong)
    pairs = np.array(
        [
            epsilon_lower_bound(k, trials, errors, trials, delta=0.0, confidence=confidence)
            for k in errors
        ]
    )
    exceeds = float((np.outer(weights, weights) * (pairs > epsilon)).sum())
    assert 0.001 < exceeds < 1 - confidence


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_empirical_rates_without_bounds_would_accuse_the_innocent(epsilon):
    """The planted wrong version: what the test above would catch."""
    trials = 200
    errors = np.arange(1, trials)
    weights = stats.binom.pmf(errors, trials, 1 / (1 + math.exp(epsilon)))
    rates = errors / trials
    naive = np.maximum(
        np.log((1 - rates[None]) / rates[:, None]), np.log((1 - rates[:, None]) / rates[None])
    )
    assert (np.outer(weights, weights) * (naive > epsilon)).sum() > 0.5


def too_often(exceeded, audits, allowed):
    """Whether so many false accusations happen once in a million under the stated confidence."""
    return stats.binom.sf(exceeded - 1, audits, allowed) < FALSE_ALARM


def test_an_audit_of_randomised_response_exceeds_epsilon_no_more_often_than_it_says():
    rng, epsilon, audits = np.random.default_rng(1), 1.0, 400
    exceeded = 0
    for _ in range(audits):
        scores = [randomised_response(epsilon, world, 400, rng) for world in (0, 1)]
        exceeded += two_world_audit(*scores, delta=0.0, confidence=0.8).epsilon > epsilon
    assert not too_often(exceeded, audits, 0.2)
    assert exceeded > 0  # the bound is close enough to be wrong sometimes


def test_a_threshold_judged_by_the_runs_that_chose_it_accuses_the_innocent():
    """Why the first runs choose and the others judge: noise alone, epsilon 0."""
    rng, audits, runs, dishonest, honest = np.random.default_rng(2), 200, 100, 0, 0
    for _ in range(audits):
        out, present = np.sort(rng.normal(size=(2, runs)))
        thresholds = np.concatenate([out, present])
        bounds = epsilon_lower_bound(
            runs - np.searchsorted(out, thresholds, side="right"),
            runs,
            np.searchsorted(present, thresholds, side="right"),
            runs,
            delta=0.0,
            confidence=0.5,
        )
        dishonest += bounds.max() > 0
        out, present = rng.permutation(out), rng.permutation(present)
        honest += two_world_audit(out, present, delta=0.0, confidence=0.5).epsilon > 0
    assert too_often(dishonest, audits, 0.5)
    assert not too_often(honest, audits, 0.5)


def test_the_correct_mechanism_is_not_accused_more_often_than_confidence_allows():
    """Many cheap audits of dp_mean itself, one round, at 80 % confidence."""
    rng = np.random.default_rng(3)
    spent = epsilon_after(1, noise_multiplier=1.0, delta=1e-3, accountant="pld")

    def start():
        return lambda updates: (
            dp_mean(updates, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=2, rng=rng).update
        )

    audits, accused, bounds = 150, 0, []
    for _ in range(audits):
        scores = two_world_scores(start, np.zeros((1, 1, 1)), np.array([10.0]), runs=100)
        audit = two_world_audit(*scores, delta=1e-3, confidence=0.8)
        bounds.append(audit.epsilon)
        accused += audit.refutes(spent)
    assert not too_often(accused, audits, 0.2)
    assert np.mean(bounds) > 0.3  # it does see the canary


@pytest.mark.parametrize(
    ("bug", "trials", "needed"),
    [
        ("forgets to clip", 200, 1.0),
        ("reuses the noise", 200, 1.0),
        ("halves the noise", 4000, 0.6),
    ],
)
def test_each_planted_bug_is_caught_with_the_stated_power(bug, trials, needed):
    """Of five audits each: 200 runs of each world always find a forgotten clip and reused noise.

    Halved noise takes 4,000. The next test but one measures a power above 0.9 for it, so
    that fewer than three of five have a probability below 1 %.
    """
    caught = power(bug, trials, seeds=5) > claim().epsilon
    assert caught.mean() >= needed


def test_few_runs_do_not_catch_halved_noise():
    assert (power("halves the noise", 200, seeds=5) > claim().epsilon).mean() < 0.5


def test_the_power_against_halved_noise_in_many_simulated_audits():
    """The scores of a Gaussian mechanism are normal: draw them, and audit 100 times."""
    rng = np.random.default_rng(4)
    caught = {}
    for name, noise in (("halves the noise", 1.0), ("no bug", 2.0)):
        apart = math.sqrt(2) / noise
        bounds = [
            two_world_audit(rng.normal(0, 1, 4000), rng.normal(apart, 1, 4000), delta=1e-3).epsilon
            for _ in range(100)
        ]
        caught[name] = np.mean(np.array(bounds) > claim(2, 2.0).epsilon)
    assert caught["halves the noise"] > 0.9
    assert caught["no bug"] == 0


def test_more_perfect_runs_prove_more_and_never_more_than_their_number_allows():
    bounds = [two_world_audit(np.zeros(n), np.ones(n), delta=1e-5).epsilon for n in (40, 400, 4000)]
    assert np.all(np.diff(bounds) > 2)
    judged = 3000
    assert bounds[-1] == pytest.approx(math.log(judged / -math.log(0.025)), rel=2e-3)


def test_equal_scores_and_the_least_number_of_runs_give_no_bound():
    for scores in (np.zeros(50), np.zeros(2), np.arange(2)):
        audit = two_world_audit(scores, scores, delta=1e-5)
        assert audit.epsilon == 0
    assert audit.guesses == 2


# One run


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "published"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
    ids=["appendix D", "section 7, figure 11"],
)
def test_one_run_bound_gives_the_papers_numbers(canaries, guesses, correct, delta, published):
    """Steinke, Nasr and Jagielski 2023, arXiv 2305.08846; they round one and cut the other."""
    bound = one_run_epsilon(correct, guesses, canaries, delta=delta, confidence=0.95)
    assert abs(bound - published) < 1e-3


def worst_case_p_value(correct, guesses, canaries, epsilon, delta):
    """The appendix's sums term by term, in exact arithmetic but for the bias."""
    bias = Fraction(1 / (1 + math.exp(-epsilon)))

    def exactly(k):
        return math.comb(guesses, k) * bias**k * (1 - bias) ** (guesses - k)

    tail = sum(exactly(k) for k in range(correct, guesses + 1))
    means = [
        sum(exactly(k) for k in range(correct - i, correct)) / i for i in range(1, correct + 1)
    ]
    return float(min(tail + 2 * canaries * Fraction(delta) * max(means, default=0), 1))


@pytest.mark.parametrize(
    "case",
    [(c, 8, 12, e, d) for c, e, d in product((0, 1, 5, 8), (0.0, 1.0, 3.0), (0.0, 1e-3, 0.2))],
    ids=str,
)
def test_one_run_p_value_is_the_papers_sum(case):
    correct, guesses, canaries, epsilon, delta = case
    p_value = one_run_p_value(correct, guesses, canaries, epsilon=epsilon, delta=delta)
    assert p_value == pytest.approx(worst_case_p_value(*case), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_one_run_bound_is_right_as_often_as_it_says_for_randomised_response(epsilon):
    """All canaries answer by randomised response: exactly binomial, so the sum is exact."""
    guesses, confidence = 120, 0.9
    counts = np.arange(guesses + 1)
    bounds = [
        one_run_epsilon(int(k), guesses, guesses, delta=0.0, confidence=confidence) for k in counts
    ]
    weights = stats.binom.pmf(counts, guesses, 1 / (1 + math.exp(-epsilon)))
    exceeds = weights[np.array(bounds) > epsilon].sum()
    assert 0.03 < exceeds <= 1 - confidence  # tight up to the steps of a whole number


def test_one_run_audit_of_simulated_randomised_response_keeps_its_confidence():
    rng, epsilon, audits, exceeded, bounds = np.random.default_rng(5), 1.5, 300, 0, []
    for _ in range(audits):
        included = rng.random(200) < 0.5
        scores = randomised_response(epsilon, included, 200, rng) + 1e-6 * rng.random(200)
        audit = one_run_audit(scores, included, guesses=80, delta=0.0, confidence=0.8)
        exceeded += audit.epsilon > epsilon
        bounds.append(audit.epsilon)
    assert not too_often(exceeded, audits, 0.2)
    assert np.mean(bounds) > 0.7 * epsilon


def test_delta_costs_the_auditor_and_more_so_with_more_canaries():
    bounds = [
        one_run_epsilon(95, 100, canaries, delta=delta)
        for canaries, delta in ((100, 0.0), (100, 1e-4), (10_000, 1e-4), (100, 0.5))
    ]
    assert bounds[0] > bounds[1] > bounds[2] > bounds[3] == 0


def test_one_run_audit_says_in_of_the_highest_out_of_the_lowest_and_abstains_between():
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    truth = np.array([True, True, False, True, False])
    audit = one_run_audit(scores, truth, guesses=3, delta=0.0)
    assert (audit.guesses, audit.correct) == (3, 3)  # in: 5 and 4, out: 1
    assert one_run_audit(scores, ~truth, guesses=3, delta=0.0).correct == 0
    assert one_run_audit(scores, truth, guesses=0, delta=0.0).epsilon == 0


# Canaries


def test_canaries_are_orthogonal_of_one_norm_and_their_coins_are_fair():
    rng = np.random.default_rng(6)
    canaries = plant_canaries(40, 50, norm=3.0, rng=rng)
    np.testing.assert_allclose(canaries.updates @ canaries.updates.T, 9 * np.eye(40), atol=1e-12)
    heads = sum(plant_canaries(50, 50, norm=1.0, rng=rng).included.sum() for _ in range(20))
    assert stats.binomtest(int(heads), 1000).pvalue > 1e-4


def test_canaries_join_with_alternating_signs_and_honest_clients_stay():
    canaries = Canaries(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([False, True]))
    honest = np.ones((3, 2), np.float32)
    for number, sign in enumerate((1, -1, 1)):
        sent = canaries.join(honest, number)
        assert sent.dtype == np.float32
        np.testing.assert_array_equal(sent, [*honest, [0, 4 * sign]])


def test_a_score_is_what_was_released_along_the_canary_with_alternating_signs():
    canaries = Canaries(np.array([[2.0, 0.0], [3.0, 4.0]]), np.array([False, True]))
    released = np.array([[1.0, 0.0], [10.0, 5.0], [100.0, 0.0]])
    np.testing.assert_allclose(
        canaries.scores(released), [1 - 10 + 100, 0.6 * (1 - 10 + 100) - 0.8 * 5]
    )


def test_reused_noise_cancels_in_the_score_and_fresh_noise_does_not():
    honest, canary = small_world()
    out = Canaries(canary[None], np.array([False]))
    reused, fresh = (
        play(small_start(bug, np.random.default_rng(7)), honest, out)[0]
        for bug in ("reuses the noise", "no bug")
    )
    assert reused == pytest.approx(0, abs=1e-12)
    assert abs(fresh) > 1e-3


def test_every_run_starts_a_fresh_mechanism():
    started = []

    def start():
        started.append(None)
        return lambda updates: updates.sum(axis=0)

    two_world_scores(start, np.zeros((2, 1, 1)), np.ones(1), runs=iter(range(4)))
    assert len(started) == 8


# What is printed and compared


def test_an_audit_prints_all_that_belongs_to_it_and_that_it_proves_nothing():
    audit = two_world_audit(
        np.zeros(400), np.ones(400), delta=1e-3, confidence=0.99, unit="example"
    )
    text = str(audit)
    for part in (
        f"epsilon >= {audit.epsilon:.3g}",
        "delta = 1e-3",
        "confidence 99%",
        "example",
        "add-or-remove-one",
        "two worlds, 300 runs without and 300 with",
        "600 of 600 guesses right",
        "it proves none",
    ):
        assert part in text


@pytest.mark.parametrize(
    "other",
    [
        {"delta": 1e-5},
        {"unit": "example"},
        {"adjacency": "replace-one"},
    ],
    ids=str,
)
def test_an_audit_refuses_to_judge_a_claim_about_something_else(other):
    audit = AuditResult(9.0, 1e-3, 0.95, 10, 10, "one run, 10 canaries")
    settings = {"delta": 1e-3, "unit": "client", "accountant": "pld"} | other
    spent = epsilon_after(1, noise_multiplier=1.0, **settings)
    with pytest.raises(InvalidParameterError, match=f"{next(iter(other))} .* cannot be compared"):
        audit.refutes(spent)


def test_a_bound_at_the_claim_does_not_refute_it():
    spent = epsilon_after(1, noise_multiplier=1.0, delta=1e-3)
    at, above = (
        AuditResult(epsilon, 1e-3, 0.95, 10, 10, "")
        for epsilon in (spent.epsilon, spent.epsilon + 1)
    )
    assert not at.refutes(spent)
    assert above.refutes(spent)


# Refusals

FINE = np.arange(8.0)
COINS = np.arange(8) % 2 == 0
ONE = Canaries(np.ones((1, 3)), np.array([True]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: clopper_pearson(-1, 5, confidence=0.9), "0 to 5"),
        (lambda: clopper_pearson(6, 5, confidence=0.9), "0 to 5"),
        (lambda: clopper_pearson(2.0, 5, confidence=0.9), "whole numbers"),
        (lambda: clopper_pearson(True, 5, confidence=0.9), "whole numbers"),
        (lambda: clopper_pearson(0, 0, confidence=0.9), "trials must be"),
        (lambda: clopper_pearson(0, 5, confidence=1.0), "confidence"),
        (lambda: clopper_pearson(0, 5, confidence=0.0), "confidence"),
        (lambda: clopper_pearson(0, 5, confidence=math.nan), "confidence"),
        (lambda: epsilon_lower_bound(1, 5, 1, 5, delta=1.0, confidence=0.9), "delta"),
        (lambda: epsilon_lower_bound(1, 5, 1, 5, delta=-0.1, confidence=0.9), "delta"),
        (lambda: epsilon_lower_bound(1, 5, 1, 5, delta=math.nan, confidence=0.9), "delta"),
        (lambda: epsilon_lower_bound(1, 5, 1, 5, delta=0.1, confidence=2.0), "confidence"),
        (lambda: epsilon_lower_bound(6, 5, 1, 5, delta=0.1, confidence=0.9), "0 to 5"),
        (lambda: one_run_p_value(4, 3, 5, epsilon=1.0, delta=0.0), "correct .* from 0 to 3"),
        (lambda: one_run_p_value(3, 6, 5, epsilon=1.0, delta=0.0), "guesses .* from 0 to 5"),
        (lambda: one_run_p_value(0, 0, 0, epsilon=1.0, delta=0.0), "canaries"),
        (lambda: one_run_p_value(1.0, 3, 5, epsilon=1.0, delta=0.0), "correct"),
        (lambda: one_run_p_value(1, 3, 5, epsilon=-1.0, delta=0.0), "epsilon"),
        (lambda: one_run_p_value(1, 3, 5, epsilon=math.inf, delta=0.0), "epsilon"),
        (lambda: one_run_p_value(1, 3, 5, epsilon=math.nan, delta=0.0), "epsilon"),
        (lambda: one_run_p_value(1, 3, 5, epsilon=1.0, delta=1.0), "delta"),
        (lambda: one_run_epsilon(1, 3, 5, delta=0.0, confidence=1.0), "confidence"),
        (lambda: one_run_audit(np.array([]), np.array([], bool), guesses=0, delta=0.0), "1 scores"),
        (lambda: one_run_audit(FINE, COINS[:5], guesses=2, delta=0.0), "included"),
        (lambda: one_run_audit(FINE, COINS.astype(int), guesses=2, delta=0.0), "bool"),
        (lambda: one_run_audit(FINE, COINS, guesses=9, delta=0.0), "from 0 to 8"),
        (lambda: one_run_audit(FINE * np.nan, COINS, guesses=2, delta=0.0), "finite"),
        (lambda: two_world_audit(FINE, FINE + np.inf, delta=0.0), "with_canary must be finite"),
        (lambda: two_world_audit(FINE[:1], FINE, delta=0.0), "without must hold 2"),
        (lambda: two_world_audit(FINE[None], FINE, delta=0.0), "without must hold 2"),
        (lambda: two_world_audit(FINE > 2, FINE, delta=0.0), "without must hold real numbers, got"),
        (lambda: two_world_audit(FINE, FINE, delta=0.0, confidence=1.5), "confidence"),
        (lambda: two_world_audit(FINE, FINE, delta=1.5), "delta"),
        (lambda: plant_canaries(0, 5, norm=1.0, rng=np.random.default_rng(0)), "num_canaries"),
        (lambda: plant_canaries(6, 5, norm=1.0, rng=np.random.default_rng(0)), "from 1 to 5"),
        (lambda: plant_canaries(1, 0, norm=1.0, rng=np.random.default_rng(0)), "dimension"),
        (lambda: plant_canaries(1, 5, norm=0.0, rng=np.random.default_rng(0)), "norm"),
        (lambda: plant_canaries(1, 5, norm=math.inf, rng=np.random.default_rng(0)), "norm"),
        (lambda: Canaries(np.zeros((1, 3)), np.array([True])), "not all of them zero"),
        (lambda: Canaries(np.full((1, 3), np.nan), np.array([True])), "finite"),
        (lambda: Canaries(np.ones((1, 3)), np.array([1])), "included must be bool"),
        (lambda: Canaries(np.ones((1, 3)), np.array([True, False])), r"shape \(1,\)"),
        (lambda: ONE.join(np.ones((2, 4)), 0), r"\(n, 3\)"),
        (lambda: ONE.scores(np.zeros((0, 3))), r"\(rounds, 3\)"),
        (lambda: ONE.scores(np.full((1, 3), np.nan)), "must be finite"),
        (lambda: play(lambda: None, np.ones((2, 3)), ONE), r"\(rounds, n, d\)"),
        (lambda: two_world_scores(lambda: None, np.ones((1, 2, 3)), np.ones(3), runs=0), "runs"),
        (lambda: two_world_scores(lambda: None, np.ones((1, 2, 3)), np.ones(3), runs=()), "runs"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises((InvalidParameterError, InvalidUpdateError), match=words):
        call()


# --- numbers of few bits ------------------------------------------------------------------------


@pytest.mark.parametrize("low", [np.int8, np.uint8, np.int16, np.uint64])
def test_counts_of_few_bits_do_not_wrap_around(low):
    for count, trials in ((100, 120), (127, 127), (0, 1000)):
        got = clopper_pearson(low(count), trials, confidence=0.95)
        np.testing.assert_array_equal(got, clopper_pearson(count, trials, confidence=0.95))
    got = epsilon_lower_bound(
        np.array([1, 120], low), 1000, low(3), 1000, delta=1e-5, confidence=0.95
    )
    expected = epsilon_lower_bound(np.array([1, 120]), 1000, 3, 1000, delta=1e-5, confidence=0.95)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("low", [np.int8, np.uint8, np.float16])
def test_scores_of_few_bits_have_the_same_threshold(low):
    rng = np.random.default_rng(0)
    out, present = rng.integers(90, 110, 400), rng.integers(105, 125, 400)  # sums wrap in int8
    got = two_world_audit(out.astype(low), present.astype(low), delta=1e-5)
    assert got == two_world_audit(out, present, delta=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_canary_is_as_loud_as_planted_among_rows_of_few_bits(dtype):
    canaries = Canaries(np.array([[9e4, 0.0]]), np.array([True]))  # float16 ends at 65504
    joined = canaries.join(np.ones((2, 2), dtype), 0)
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, [[1, 1], [1, 1], [9e4, 0]])
    loud = Canaries(np.array([[1e39, 0.0]]), np.array([True]))
    with pytest.raises(InvalidUpdateError, match="overflow: float32 ends at"):
        loud.join(np.ones((2, 2), dtype), 0)


def test_canaries_may_be_lists_and_are_refused_among_whole_numbers():
    canaries = Canaries([[0.5, 0.0]], [True])
    np.testing.assert_array_equal(canaries.scores([[5, 0], [4, 0]]), [1.0])
    with pytest.raises(InvalidUpdateError, match="updates must hold floats"):
        canaries.join(np.zeros((1, 2), int), 0)  # half a canary would be none
    with pytest.raises(InvalidUpdateError, match="updates must hold floats"):
        play(lambda: lambda updates: updates.sum(axis=0), np.zeros((2, 1, 2), int), canaries)
    for bad in (np.ma.masked_equal([[1.0, -1.0]], -1.0), [["1", "2"]], None):
        with pytest.raises(InvalidUpdateError, match="updates"):
            Canaries(bad, np.array([True]))
        with pytest.raises(InvalidUpdateError, match="what was released"):
            canaries.scores(bad)


def test_what_a_mechanism_releases_in_unequal_shapes_is_refused():
    shapes = iter([2, 3])
    canaries = Canaries([[0.5, 0.0]], [True])
    with pytest.raises(InvalidUpdateError, match="what was released must be one array"):
        play(lambda: lambda updates: np.zeros(next(shapes)), np.zeros((2, 1, 2)), canaries)
