"""Membership inference: exact scores, honest curves, and LiRA against one threshold for all."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_curve as sklearn_roc_curve

from fltutor.attacks import (
    CoinModels,
    attack_targets,
    lira_scores,
    logit_confidences,
    loss_scores,
    roc_curve,
    tpr_at_fpr,
    train_on_coins,
)
from fltutor.clients import local_batches, train_client
from fltutor.data import load_digits
from fltutor.errors import InvalidParameterError, UnsupportedModelError
from fltutor.models import cnn, get_params, mlp, set_params
from fltutor.privacy.auditing import one_run_audit
from fltutor.tensorflow_quietly import keras

DIGITS = load_digits()
X, Y = DIGITS.x[:60], DIGITS.y[:60]


def small_cohort(num_models=5, epochs=2, seed=0, examples=None, rng=...):
    model = mlp(hidden=(8,))
    return train_on_coins(
        model,
        get_params(model),
        X,
        Y,
        num_models=num_models,
        local_epochs=epochs,
        learning_rate=0.3,
        rng=np.random.default_rng(seed) if rng is ... else rng,
        examples=examples,
    )


MODEL = mlp(seed=12)  # one for all, so that it compiles once


def train_halves(examples=400, epochs=40, num_models=63, seed=0):
    """Models on random halves of some digits."""
    chosen = np.random.default_rng([12, seed, 1]).permutation(len(DIGITS.y))[:examples]
    return train_on_coins(
        MODEL,
        get_params(MODEL),
        DIGITS.x,
        DIGITS.y,
        num_models=num_models,
        local_epochs=epochs,
        learning_rate=0.3,
        rng=np.random.default_rng([12, seed]),
        examples=chosen,
    )


def standard_error(values):
    return np.std(values, ddof=1) / np.sqrt(len(values))


# Many models at once


def test_every_model_is_what_a_client_alone_would_train_on_its_members():
    model, trained = mlp(hidden=(8,)), small_cohort()
    rng = np.random.default_rng(0)
    members = rng.random((5, 60)) < 0.5
    np.testing.assert_array_equal(trained.members, members)
    parts = [np.flatnonzero(row) for row in members]
    batches = local_batches(parts, batch_size=10, local_epochs=2, rng=rng)
    start = get_params(model)
    for params, batch in zip(trained.params, batches, strict=True):
        alone = start + train_client(model, start, X, Y, batch, 0.3)
        np.testing.assert_allclose(params, alone, atol=1e-5)


def test_coins_are_fair_and_independent_between_models_and_examples():
    members = small_cohort(num_models=64, epochs=1).members
    assert stats.binomtest(int(members.sum()), members.size).pvalue > 1e-4
    signs = np.where(members, 1.0, -1.0)
    for pairs in (signs @ signs.T, signs.T @ signs):
        off = pairs[~np.eye(len(pairs), dtype=bool)]
        assert abs(off).max() < 6 * np.sqrt(members.size / len(pairs))


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn"])
def test_confidences_are_log_odds_of_the_right_label_by_keras(make):
    model = make(seed=3)
    params = np.stack([get_params(make(seed=seed)) for seed in (4, 5)])
    confidences = logit_confidences(model, params, X, Y)
    for row, vector in zip(confidences, params, strict=True):
        set_params(model, vector)
        logits = model(X).numpy().astype(np.float64)
        p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[np.arange(60), Y]
        np.testing.assert_allclose(row, np.log(p / (1 - p)), atol=1e-4)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        np.testing.assert_allclose(loss_scores(row), -loss(Y, logits).numpy(), atol=1e-4)


def test_a_model_too_sure_for_floating_point_still_has_a_finite_confidence():
    model = mlp(4, 3, hidden=())
    params = np.zeros((1, 15), np.float32)
    params[0, -3:] = [1000, 0, 0]  # biases: p = 1 in any float
    confidences = logit_confidences(model, params, np.zeros((3, 4), np.float32), np.arange(3))
    np.testing.assert_allclose(confidences, [[1000 - np.log(2), -1000, -1000]])


def test_examples_choose_the_same_as_cutting_the_data():
    model, chosen = mlp(hidden=(8,)), np.array([50, 3, 17, 4, 29, 30])
    settings = {"num_models": 3, "local_epochs": 2, "learning_rate": 0.3}
    start = get_params(model)
    cut = train_on_coins(
        model, start, X[chosen], Y[chosen], rng=np.random.default_rng(9), **settings
    )
    named = train_on_coins(
        model, start, X, Y, rng=np.random.default_rng(9), examples=chosen, **settings
    )
    np.testing.assert_array_equal(named.members, cut.members)
    np.testing.assert_allclose(named.params, cut.params, atol=1e-6)
    np.testing.assert_allclose(named.confidences, cut.confidences, atol=1e-4)


# LiRA


def test_lira_is_the_likelihood_ratio_of_two_normal_fits():
    rng = np.random.default_rng(1)
    target, shadow = rng.normal(size=20), rng.normal(size=(12, 20))
    members = rng.permuted(np.tile(np.arange(12) % 2 == 0, (20, 1)), axis=1).T
    online, offline = (lira_scores(target, shadow, members, offline=o) for o in (False, True))
    for j in range(20):
        fits = [
            stats.norm(column.mean(), column.std(ddof=1))
            for column in (shadow[members[:, j], j], shadow[~members[:, j], j])
        ]
        expected = fits[0].logpdf(target[j]) - fits[1].logpdf(target[j])
        assert online[j] == pytest.approx(expected, rel=1e-3, abs=1e-3)
        assert stats.norm.sf(offline[j]) == pytest.approx(fits[1].sf(target[j]), rel=1e-3, abs=1e-4)


def test_shared_variance_pools_the_squares_of_all_examples():
    rng = np.random.default_rng(2)
    shadow = rng.normal(size=(400, 50)) * 3
    members = rng.random((400, 50)) < 0.5
    target = rng.normal(size=50)
    pooled = lira_scores(target, shadow, members, offline=True, shared_variance=True)
    out_mean = np.array([shadow[~members[:, j], j].mean() for j in range(50)])
    np.testing.assert_allclose(pooled, (target - out_mean) / 3, atol=0.05)


def test_shadow_models_that_all_agree_divide_by_no_zero():
    members = np.array([[True], [True], [False], [False]])
    shadow = np.array([[2.0], [2.0], [1.0], [1.0]])
    scores = [lira_scores(np.array([t]), shadow, members)[0] for t in (1.0, 2.0)]
    assert np.isfinite(scores).all()
    assert scores[0] < 0 < scores[1]


def test_lira_finds_more_members_than_a_loss_threshold_where_few_are_accused():
    """At 1 % and at 0.1 % false accusations, over five draws of digits, coins and shuffles."""
    for fpr, at_least in ((0.01, 0.08), (0.001, 0.02)):
        gaps = []
        for seed in range(5):
            attacked = cohort(seed)
            gaps.append(attacked.found("LiRA", fpr) - attacked.found("loss threshold", fpr))
        assert np.mean(gaps) > 4 * standard_error(gaps)
        assert np.mean(gaps) > at_least
        guessing = [cohort(seed).found("loss threshold", fpr) - fpr for seed in range(5)]
        assert np.mean(guessing) < 0.01  # which is hardly more than guessing


COHORTS = {}


def cohort(seed):
    if seed not in COHORTS:
        COHORTS[seed] = attack_targets(train_halves(num_models=48, seed=seed), 12)
    return COHORTS[seed]


def test_one_epoch_leaves_an_attacker_hardly_better_than_guessing():
    found = [
        attack_targets(train_halves(epochs=1, num_models=32, seed=seed), 8).found("LiRA", 0.01)
        for seed in range(4)
    ]
    assert np.mean(found) < 0.04


def test_an_attack_on_coins_that_were_not_used_finds_nobody():
    """The planted null: the truth is drawn anew, so every rate is that of guessing."""
    attacked = cohort(0)
    other = np.random.default_rng(3).random(attacked.members.shape) < 0.5
    for fpr in (0.01, 0.1):
        found = tpr_at_fpr(attacked.scores["LiRA"], other, fpr)
        assert abs(found - fpr) < 5 * np.sqrt(fpr / (other.size / 2))


def test_ordinary_training_has_no_small_epsilon_at_example_level():
    """One model is one run with 400 canaries: most audits exclude epsilon 1, at 95 % each."""
    attacked = cohort(1)
    bounds = [
        one_run_audit(scores, members, guesses=40, delta=1e-5, unit="example").epsilon
        for scores, members in zip(attacked.scores["LiRA"], attacked.members, strict=True)
    ]
    assert np.median(bounds) > 1


# Targets one by one


@pytest.mark.parametrize(
    "options", [{}, {"offline": True}, {"shared_variance": True}], ids=["online", "offline", "few"]
)
def test_each_target_is_attacked_with_all_other_models(options):
    trained = train_halves(examples=60, epochs=2, num_models=16, seed=5)
    attacked = attack_targets(trained, 3, **options)
    assert attacked.models == 15
    rest = np.arange(16) != 2
    expected = lira_scores(
        trained.confidences[2], trained.confidences[rest], trained.members[rest], **options
    )
    np.testing.assert_allclose(attacked.scores["LiRA"][2], expected)
    by_loss = attacked.scores["loss threshold"]
    np.testing.assert_array_equal(by_loss, loss_scores(trained.confidences[:3]))
    np.testing.assert_array_equal(attacked.members, trained.members[:3])


def test_curves_and_shares_are_those_of_all_targets_together():
    attacked = attack_targets(train_halves(examples=60, epochs=2, num_models=16, seed=5), 3)
    for name, (fpr, tpr) in attacked.curves.items():
        expected = roc_curve(attacked.scores[name], attacked.members)
        np.testing.assert_array_equal((fpr, tpr), expected)
        assert attacked.found(name, 0.5) == tpr[fpr <= 0.5].max()
        assert attacked.found(name) == attacked.found(name, 0.01)


# The curve


@pytest.mark.parametrize("decimals", [0, 8], ids=["many ties", "no ties"])
def test_roc_curve_is_scikit_learns(decimals):
    rng = np.random.default_rng(4)
    members = rng.random(300) < 0.4
    scores = (rng.normal(size=300) + members).round(decimals)
    fpr, tpr = roc_curve(scores, members)
    expected_fpr, expected_tpr, _ = sklearn_roc_curve(members, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected_fpr)
    np.testing.assert_allclose(tpr, expected_tpr)


def test_roc_curve_accuses_infinite_scores_too():
    fpr, tpr = roc_curve(np.array([np.inf, 0.0, -np.inf]), np.array([True, False, False]))
    np.testing.assert_array_equal(tpr, [0, 1, 1, 1])
    np.testing.assert_array_equal(fpr, [0, 0, 0.5, 1])


def test_tpr_at_fpr_never_accuses_more_than_allowed():
    scores, members = np.array([5.0, 4, 3, 2, 1]), np.array([False, True, True, False, True])
    for fpr, found in ((0.0, 0.0), (0.49, 0.0), (0.5, 2 / 3), (1.0, 1.0)):
        assert tpr_at_fpr(scores, members, fpr) == pytest.approx(found)


def test_equal_scores_are_accused_together():
    assert tpr_at_fpr(np.zeros(4), np.array([True, False, True, False]), 0.9) == 0


# Refusals

FINE, SHADOW = np.zeros(3), np.zeros((4, 3))
COINS = np.tile([[True], [True], [False], [False]], 3)
ONE_ROW = np.zeros((1, 2410), np.float32)
SIX = CoinModels(np.zeros((6, 1)), np.tile(COINS[1:3], (3, 1)), np.zeros((6, 3)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: small_cohort(num_models=0),
            "num_models must be a whole number of at least 1, got 0",
        ),
        (
            lambda: train_on_coins(
                mlp(),
                get_params(mlp()),
                X[:1],
                Y[:1],
                num_models=1,
                local_epochs=1,
                learning_rate=0.1,
                rng=np.random.default_rng(0),
            ),
            "2 examples",
        ),
        (
            lambda: small_cohort(examples=[1, 2, 1]),
            "examples must name each example once, got 1 2 times",
        ),
        (lambda: small_cohort(examples=[1]), "2 examples"),
        (
            lambda: small_cohort(examples=np.arange(50, 70)),
            "examples must name examples from 0 to 59, got 60",
        ),
        (
            lambda: small_cohort(examples=np.arange(-9, 9)),
            "examples must name examples from 0 to 59, got -9",
        ),
        (
            lambda: small_cohort(epochs=0),
            "local_epochs must be a whole number of at least 1, got 0",
        ),
        (lambda: logit_confidences(mlp(), ONE_ROW[0], X, Y), r"\(s, 2410\)"),
        (lambda: logit_confidences(mlp(), ONE_ROW[:, :9], X, Y), r"\(s, 2410\)"),
        (lambda: logit_confidences(mlp(), ONE_ROW, X, Y[:9]), "x must hold 9 examples"),
        (lambda: logit_confidences(mlp(), ONE_ROW, X[:0], Y[:0]), "N of at least 1"),
        (lambda: logit_confidences(mlp(), ONE_ROW, X, Y + 9), "labels"),
        (lambda: logit_confidences(mlp(), ONE_ROW, X, Y - 1), "labels"),
        (lambda: logit_confidences(mlp(), ONE_ROW, X, Y + 0.5), "y must be whole numbers"),
        (
            lambda: logit_confidences(mlp(), ONE_ROW * np.nan, X, Y),
            "NaN or Inf",
        ),
        (lambda: loss_scores(np.array([np.nan])), "finite"),
        (lambda: lira_scores(FINE[:2], SHADOW, COINS), "must fit"),
        (lambda: lira_scores(FINE, SHADOW[0], COINS[0]), "must fit"),
        (lambda: lira_scores(FINE, SHADOW, COINS[:3]), "must fit"),
        (lambda: lira_scores(FINE, SHADOW, COINS.astype(int)), "bool"),
        (lambda: lira_scores(FINE + np.nan, SHADOW, COINS), "finite"),
        (lambda: lira_scores(FINE, SHADOW + np.inf, COINS), "finite"),
        (lambda: lira_scores(FINE, SHADOW[1:], COINS[1:]), "only 1 shadow"),
        (lambda: lira_scores(FINE, SHADOW, np.ones_like(COINS)), "only 0 shadow"),
        (lambda: roc_curve(FINE, COINS[0, :2]), "one shape"),
        (lambda: roc_curve(FINE, COINS[0].astype(int)), "bool"),
        (lambda: roc_curve(FINE + np.nan, np.array([True, False, True])), "NaN"),
        (lambda: roc_curve(FINE, np.ones(3, bool)), "members and non-members"),
        (lambda: roc_curve(np.zeros(0), np.zeros(0, bool)), "members and non-members"),
        (
            lambda: tpr_at_fpr(FINE, np.array([True, False, True]), 1.5),
            "fpr must be at least 0 and at most 1",
        ),
        (
            lambda: tpr_at_fpr(FINE, np.array([True, False, True]), np.nan),
            "fpr must be at least 0 and at most 1",
        ),
        (lambda: attack_targets(SIX, 0), "whole number from 1 to 6, got 0"),
        (lambda: attack_targets(SIX, 7), "whole number from 1 to 6, got 7"),
        (lambda: attack_targets(SIX, 2.0), "whole number from 1 to 6, got 2.0"),
        (lambda: attack_targets(SIX, True), "whole number from 1 to 6, got True"),
        (
            lambda: attack_targets(CoinModels(ONE_ROW, COINS[:4], SHADOW), 1),
            "only 1 shadow models",
        ),
        (lambda: attack_targets(SIX, 2).found("guess"), "one of loss threshold, LiRA, got 'guess'"),
        (lambda: attack_targets(SIX, 2).found("LiRA", 1.5), "fpr must be at least 0 and at most 1"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(InvalidParameterError, match=words):
        call()


def test_a_model_with_dropout_is_refused():
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dropout(0.5), keras.layers.Dense(10)]
    )
    with pytest.raises(UnsupportedModelError):
        logit_confidences(model, np.zeros((1, 650), np.float32), X, Y)


def test_a_training_that_diverges_is_refused_and_not_scored():
    model = mlp(hidden=(8,))
    with pytest.raises(InvalidParameterError, match="diverged"):
        train_on_coins(
            model,
            get_params(model),
            X,
            Y,
            num_models=2,
            local_epochs=20,
            learning_rate=1e30,
            rng=np.random.default_rng(0),
        )


# --- scores, labels and generators of any type --------------------------------------------------


@pytest.mark.parametrize("low", [np.uint8, np.int8, np.uint64, np.float16, np.float32])
def test_scores_of_few_bits_are_in_the_same_order(low):
    scores = np.array([3, 0, 2, 100, 1])
    members = np.array([True, False, True, False, True])
    for got, expected in zip(
        roc_curve(scores.astype(low), members), roc_curve(scores, members), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_equal_infinities_are_accused_together():
    fpr, tpr = roc_curve(np.array([np.inf, np.inf, -np.inf]), np.array([True, False, False]))
    np.testing.assert_array_equal(fpr, [0, 0.5, 1])
    np.testing.assert_array_equal(tpr, [0, 1, 1])


@pytest.mark.parametrize("bad", [np.ma.masked_equal([1.0, 2.0], 2.0), [True, False], ["1", "2"]])
def test_scores_that_are_no_numbers_are_refused(bad):
    with pytest.raises(InvalidParameterError, match="scores"):
        roc_curve(bad, np.array([True, False]))
    with pytest.raises(InvalidParameterError, match="confidences"):
        loss_scores(bad)


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0), np.random.SeedSequence(0)])
def test_coins_come_from_a_generator(rng):
    with pytest.raises(InvalidParameterError, match=r"write rng=np\.random\.default_rng\(0\)"):
        small_cohort(rng=rng)


def test_labels_of_any_integer_dtype_and_in_a_column_give_the_same_confidences():
    params = get_params(mlp())[None]
    expected = logit_confidences(mlp(), params, X, Y)
    for labels in (Y.astype(np.uint8), Y[:, None], Y.tolist()):
        np.testing.assert_array_equal(logit_confidences(mlp(), params, X, labels), expected)


def test_an_example_with_nan_is_named_and_not_the_training():
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(InvalidParameterError, match="x must be finite, and example 3 holds NaN"):
        logit_confidences(mlp(), ONE_ROW, x, Y)
    with pytest.raises(InvalidParameterError, match="x must be finite, and example 3 holds NaN"):
        train_on_coins(
            mlp(), ONE_ROW[0], x, Y, num_models=3, local_epochs=1, learning_rate=0.1,
            rng=np.random.default_rng(0),
        )  # fmt: skip


def test_a_model_that_the_coins_give_nothing_is_called_a_model():
    with pytest.raises(InvalidParameterError, match=r"model [0-9]+ got none of the 2 examples"):
        train_on_coins(
            mlp(), ONE_ROW[0], X[:2], Y[:2], num_models=50, local_epochs=1, learning_rate=0.1,
            rng=np.random.default_rng(0),
        )  # fmt: skip


def test_a_masked_output_is_no_divergence():
    mask = np.zeros(10, np.float32)
    mask[0] = -np.inf
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(10), keras.layers.Lambda(lambda z: z + mask)]
    )
    with pytest.raises(InvalidParameterError, match="model 0 gives NaN or Inf: it masks an output"):
        logit_confidences(model, get_params(model)[None], X, Y % 9 + 1)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("size", [1e200, 1.7e308])
def test_confidences_too_large_to_be_squared_are_refused(size, offline):
    with pytest.raises(InvalidParameterError, match="too large to be compared"):
        lira_scores(
            FINE, np.array([[size], [-size], [size], [-size]]) + SHADOW, COINS, offline=offline
        )
