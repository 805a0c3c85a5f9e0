"""The compiled cohort against the readable client, and gradients against a tape."""

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import e, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.aggregation import aggregate_gradients, aggregate_models
from fltutor.clients import (
    BLOCK,
    GRADIENT_BATCH,
    STEPS,
    cohort_gradients,
    control_changes,
    local_batches,
    train_client,
    train_cohort,
)
from fltutor.data import Dataset, load_digits, load_mnist, partition_dirichlet, partition_iid
from fltutor.errors import InvalidParameterError, UnsupportedModelError
from fltutor.models import cnn, get_params, mlp, params_spec, set_params
from fltutor.simulation import evaluate, run_federated
from fltutor.tensorflow_quietly import keras, num_compiled, tf
from fltutor.vectors import unflatten

layers = keras.layers
RATE = 0.1
BATCH = 5  # one size throughout: each batch size compiles once


@dataclass(frozen=True)
class Setting:
    """A model, its starting weights and the data it learns from."""

    model: keras.Model
    data: Dataset
    longest_sum: int

    @property
    def params(self):
        return get_params(self.model)

    def batches(self, sizes, seed=0):
        """Batches of clients with these numbers of examples."""
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(self.data.y))[: sum(sizes)]
        parts = np.split(chosen, np.cumsum(sizes)[:-1])
        return local_batches(parts, batch_size=BATCH, rng=rng)

    def cohort(self, batches, rate=RATE, **terms):
        given = (self.model, self.params, self.data.x, self.data.y)
        return train_cohort(*given, batches, rate, **terms)

    def one_by_one(self, batches, rate=RATE, corrections=None, **terms):
        given = (self.model, self.params, self.data.x, self.data.y)
        rows = [None] * len(batches) if corrections is None else corrections
        return np.stack(
            [
                train_client(*given, batch, rate, correction=row, **terms)
                for batch, row in zip(batches, rows, strict=True)
            ]
        )


@cache  # each model compiles once for all tests
def setting_named(name):
    if name == "mnist":
        return Setting(mlp(784, 10), load_mnist(), 784)
    if name == "cnn":
        return Setting(cnn(), load_digits(), 8 * 8 * BATCH)  # a filter sees every pixel
    return Setting(mlp(), load_digits(), 64)


@pytest.fixture(params=["mlp", "cnn", "mnist"])
def setting(request):
    return setting_named(request.param)


@pytest.fixture
def digits_mlp():
    return setting_named("mlp")


def tolerance(steps, longest_sum, rate=RATE):
    """How far two runs of the same SGD in float32 may drift apart.

    Each run rounds every weight once a step, by 2^-24 for weights below 2. Its gradients
    are sums of up to ``longest_sum`` products whose magnitudes add up to 4 at most
    (inputs, activations and probabilities of order 1); adding them in another order changes
    them by about 4 sqrt(longest_sum) 2^-24 (Higham and Mary, SIAM J. Sci. Comput. 2019,
    Theorem 3.1). The errors of all steps add up, twice for two runs, and training
    stretches them by exp(rate * curvature * steps), taken as e.
    """
    return 2 * e * (steps + 1) * (1 + rate * 4 * sqrt(longest_sum)) * 2.0**-24


COHORTS = {
    "equal clients": [20] * 10,
    "unequal clients": [1, 7, 30, 12, 5],
    "more steps than STEPS": [3, STEPS * BATCH + 8, BATCH],
    "more clients than BLOCK": [2] * (BLOCK + 2),
    "one client": [9],
}


@pytest.mark.parametrize("name", COHORTS)
def test_a_cohort_trains_as_its_clients_do_one_by_one(setting, name):
    batches = setting.batches(COHORTS[name])
    updates = setting.cohort(batches)
    assert updates.dtype == np.float32
    bound = tolerance(max(map(len, batches)), setting.longest_sum)
    np.testing.assert_allclose(updates, setting.one_by_one(batches), rtol=0, atol=bound)
    assert np.abs(updates).max(axis=1).min() > 20 * bound  # every client moved by far more


def test_the_tolerance_would_show_one_wrong_example(setting):
    batches = setting.batches(COHORTS["more steps than STEPS"])
    other = [batch.copy() for batch in batches]
    other[1][-1, 0] = batches[0][0, 0]  # the last step of the longest client
    gap = np.abs(setting.cohort(other) - setting.cohort(batches)).max(axis=1)
    assert gap[1] > tolerance(len(batches[1]), setting.longest_sum)
    assert gap[0] == gap[2] == 0


def test_many_steps_of_a_few_examples_and_a_wide_block_together(digits_mlp):
    sizes = [1 + (37 * client) % 60 for client in range(2 * BLOCK + 3)]
    batches = digits_mlp.batches(sizes)
    bound = tolerance(max(map(len, batches)), digits_mlp.longest_sum)
    some = [0, 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 2]
    np.testing.assert_allclose(
        digits_mlp.cohort(batches)[some],
        digits_mlp.one_by_one([batches[client] for client in some]),
        rtol=0,
        atol=bound,
    )


def test_clients_do_not_see_each_other(digits_mlp):
    batches = digits_mlp.batches([20, 40, 10])
    alone = np.concatenate([digits_mlp.cohort([batch]) for batch in batches])
    np.testing.assert_array_equal(digits_mlp.cohort(batches), alone)


def test_equal_calls_give_equal_bits(setting):
    batches = setting.batches([20, 7])
    np.testing.assert_array_equal(setting.cohort(batches), setting.cohort(batches))


def test_clients_steps_and_rates_compile_nothing_new(digits_mlp):
    digits_mlp.cohort(digits_mlp.batches([10]))
    before = num_compiled()
    for sizes, rate in (([3] * 40, 0.1), ([400, 2], 0.01), ([5], 1.0)):
        digits_mlp.cohort(digits_mlp.batches(sizes), rate)
    assert num_compiled() == before


def test_a_rate_of_zero_changes_nothing(digits_mlp):
    batches = digits_mlp.batches([20, 7])
    assert not digits_mlp.cohort(batches, 0.0).any()
    assert not digits_mlp.one_by_one(batches, 0.0).any()


def test_nobody_gives_no_rows(digits_mlp):
    assert digits_mlp.cohort([]).shape == (0, len(digits_mlp.params))


def test_the_model_itself_is_not_changed(setting):
    before = setting.params
    batches = setting.batches([5, 5])
    given = (setting.model, before + 1, setting.data.x, setting.data.y)
    train_cohort(*given, batches, RATE)
    train_client(*given, batches[0], RATE)
    np.testing.assert_array_equal(setting.params, before)


def test_a_client_writes_to_no_model(digits_mlp, monkeypatch):
    (batch,) = digits_mlp.batches([20])
    given = (digits_mlp.params + 1, digits_mlp.data.x, digits_mlp.data.y, batch, RATE)
    monkeypatch.setattr(keras.Variable, "assign", lambda *_: pytest.fail("a weight was written"))
    assert np.abs(train_client(digits_mlp.model, *given)).max() > 0


def test_clients_in_threads_train_as_they_do_one_after_the_other(digits_mlp):
    given = (digits_mlp.model, digits_mlp.params, digits_mlp.data.x, digits_mlp.data.y)
    batches = digits_mlp.batches([30] * 8)
    alone = [train_client(*given, batch, RATE) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: train_client(*given, batch, RATE), batches))
        cohorts = list(pool.map(lambda batch: train_cohort(*given, [batch], RATE)[0], batches))
    np.testing.assert_array_equal(together, alone)
    bound = tolerance(6, digits_mlp.longest_sum)
    np.testing.assert_allclose(cohorts, alone, rtol=0, atol=bound)


# --- FedProx and SCAFFOLD -----------------------------------------------------------------------


def random_corrections(setting, num_clients, seed=4):
    rows = np.random.default_rng(seed).normal(size=(num_clients, len(setting.params)))
    return (0.1 * rows).astype(np.float32)


@pytest.mark.parametrize("name", COHORTS)
@pytest.mark.parametrize("terms", ["proximal", "corrections", "both"])
def test_a_cohort_with_terms_trains_as_its_clients_do_one_by_one(digits_mlp, name, terms):
    batches = digits_mlp.batches(COHORTS[name])
    given = {} if terms == "corrections" else {"proximal_mu": 0.7}
    if terms != "proximal":
        given["corrections"] = random_corrections(digits_mlp, len(batches))
    updates = digits_mlp.cohort(batches, **given)
    # a correction of at most 0.5 moves every weight by RATE times that in a step: the longest
    # client comes to weights of 4, whose roundings are four times those that are counted
    bound = 4 * tolerance(max(map(len, batches)), digits_mlp.longest_sum)
    np.testing.assert_allclose(updates, digits_mlp.one_by_one(batches, **given), rtol=0, atol=bound)
    gap = np.abs(updates - digits_mlp.cohort(batches)).max(axis=1)
    moved_on = [len(batch) > 1 or terms != "proximal" for batch in batches]
    assert (gap[moved_on] > 5 * bound).all()  # the terms do something


def test_layers_without_a_batched_form_have_the_terms_too():
    setting = setting_named("cnn")
    batches = setting.batches([1, 7, 12])
    given = {"proximal_mu": 0.7, "corrections": random_corrections(setting, 3)}
    bound = 4 * tolerance(3, setting.longest_sum)
    np.testing.assert_allclose(
        setting.cohort(batches, **given), setting.one_by_one(batches, **given), rtol=0, atol=bound
    )


def softmax_regression_by_hand(x, y, steps, rate, mu, correction):
    """Weights (features + 1, labels) after full batches from zero, in float64."""
    x = np.hstack([x, np.ones((len(x), 1))]).astype(np.float64)
    weights = np.zeros((x.shape[1], 10))
    for _ in range(steps):
        exponentials = np.exp(x @ weights)
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        gradient = x.T @ (probabilities - np.eye(10)[y]) / len(x)
        weights = weights - rate * (gradient + mu * weights + correction)
    return weights


@pytest.mark.parametrize(("mu", "shift"), [(0.0, 0.0), (2.0, 0.0), (0.0, 0.05), (0.5, -0.02)])
def test_both_agree_with_softmax_regression_written_by_hand(mu, shift):
    data, model = load_digits(), mlp(hidden=())
    part, start = np.arange(BATCH), np.zeros(650, np.float32)
    batches = np.tile(part, (8, 1)).astype(np.int32)
    row = np.random.default_rng(0).normal(shift, 0.1, 650).astype(np.float32) if shift else None
    reference = train_client(
        model, start, data.x, data.y, batches, 0.3, proximal_mu=mu, correction=row
    )
    rows = None if row is None else row[None]
    (compiled,) = train_cohort(
        model, start, data.x, data.y, [batches], 0.3, proximal_mu=mu, corrections=rows
    )
    by_hand = softmax_regression_by_hand(
        data.x[part], data.y[part], 8, 0.3, mu, 0.0 if row is None else row.reshape(65, 10)
    ).ravel()
    bound = tolerance(8, 64, 0.3)
    np.testing.assert_allclose(reference, by_hand, rtol=0, atol=bound)
    np.testing.assert_allclose(compiled, by_hand, rtol=0, atol=bound)


def test_zero_terms_are_plain_sgd(digits_mlp):
    batches = digits_mlp.batches([20, 7])
    plain = digits_mlp.cohort(batches)
    nothing = np.zeros((2, len(digits_mlp.params)), np.float32)
    np.testing.assert_array_equal(digits_mlp.cohort(batches, proximal_mu=0.0), plain)
    bound = tolerance(4, digits_mlp.longest_sum)
    np.testing.assert_allclose(
        digits_mlp.cohort(batches, corrections=nothing), plain, rtol=0, atol=bound
    )


def test_a_stronger_pull_keeps_clients_closer_to_the_start(digits_mlp):
    batches = digits_mlp.batches([60, 60, 30])
    lengths = [
        np.linalg.norm(digits_mlp.cohort(batches, proximal_mu=mu), axis=1) for mu in (0, 0.1, 1, 5)
    ]
    assert (np.diff(lengths, axis=0) < 0).all()


def test_corrections_follow_their_clients_into_blocks(digits_mlp):
    sizes = [1 + (37 * client) % 60 for client in range(BLOCK + 3)]  # sorted anew inside
    batches = digits_mlp.batches(sizes)
    rows = random_corrections(digits_mlp, len(sizes))
    together = digits_mlp.cohort(batches, corrections=rows)
    for client in (0, 1, BLOCK, BLOCK + 2):
        (alone,) = digits_mlp.cohort([batches[client]], corrections=rows[client : client + 1])
        np.testing.assert_array_equal(together[client], alone)


def test_padding_takes_no_step_however_strong_the_terms(digits_mlp):
    (batch,) = digits_mlp.batches([BATCH])
    padded = np.vstack([batch, np.full((3, BATCH), -1, np.int32)])
    given = {"proximal_mu": 3.0, "corrections": random_corrections(digits_mlp, 1)}
    np.testing.assert_array_equal(
        digits_mlp.cohort([padded], **given), digits_mlp.cohort([batch], **given)
    )


def test_mu_corrections_and_clients_compile_nothing_new(digits_mlp):
    digits_mlp.cohort(digits_mlp.batches([10]), proximal_mu=0.1)
    before = num_compiled()
    for sizes, rate, mu in (([3] * 40, 0.1, 0.5), ([400, 2], 0.01, 1e-6), ([5], 1.0, 2.0)):
        batches = digits_mlp.batches(sizes)
        digits_mlp.cohort(batches, rate, proximal_mu=mu)
        digits_mlp.cohort(batches, rate, corrections=random_corrections(digits_mlp, len(sizes)))
    assert num_compiled() == before


@pytest.mark.parametrize("mu", [-0.1, np.nan, np.inf, -np.inf])
def test_pulls_out_of_range_are_refused(digits_mlp, mu):
    batches = digits_mlp.batches([5])
    for train in (digits_mlp.cohort, digits_mlp.one_by_one):
        with pytest.raises(InvalidParameterError, match=f"proximal_mu must be .* got {mu}"):
            train(batches, proximal_mu=mu)


@pytest.mark.parametrize("shape", [(2410,), (1, 2410), (3, 2410), (2, 1)], ids=str)
def test_corrections_that_would_broadcast_are_refused(digits_mlp, shape):
    with pytest.raises(InvalidParameterError, match=r"corrections must have shape \(2, 2410\)"):
        digits_mlp.cohort(digits_mlp.batches([5, 5]), corrections=np.zeros(shape, np.float32))


# two clients with one weight: losses 1/2 (w - 0)^2 and 3/2 (w - 4)^2, smallest together at 3
STEEPNESS, FAVOURITE = np.array([1.0, 3.0]), np.array([0.0, 4.0])


def quadratic_clients(w, steps, rate, mu=0.0, correction=0.0):
    y = np.full(2, w)
    for _ in range(steps):
        y = y - rate * (STEEPNESS * (y - FAVOURITE) + mu * (y - w) + correction)
    return (y - w)[:, None]


def test_the_first_control_variates_are_the_gradients_of_one_step():
    # at w = 1 the gradients are 1 and -9; a step of 0.25 leads to 0.75 and 3.25
    updates = quadratic_clients(1.0, steps=1, rate=0.25)
    np.testing.assert_array_equal(updates, [[-0.25], [2.25]])
    changes = control_changes(updates, np.zeros(1), [1, 1], 0.25)
    np.testing.assert_array_equal(changes, [[1.0], [-9.0]])


def test_a_second_round_worked_by_hand():
    # w = 2, c_i = 1 and -9, c = -4, two steps of 0.25; client 0 follows y - 5:
    # 2 + 0.25 * 3 = 2.75, and 2.75 + 0.25 * 2.25 = 3.3125. Client 1 follows 3 (y - 4) + 5:
    # 2 - 0.25 * (-1) = 2.25, and 2.25 - 0.25 * (-0.25) = 2.3125.
    own, control = np.array([1.0, -9.0]), np.array([-4.0])
    updates = quadratic_clients(2.0, steps=2, rate=0.25, correction=control - own)
    np.testing.assert_array_equal(updates, [[1.3125], [0.3125]])
    changes = control_changes(updates, control, [2, 2], 0.25)
    # the mean gradients less c: client 0 had 2 and 2.75, client 1 had -6 and -5.25
    np.testing.assert_array_equal(own[:, None] + changes, [[2.375], [-5.625]])


def test_scaffold_ends_at_the_smallest_total_loss_and_fedavg_does_not():
    plain = w = 0.0
    own = np.zeros((2, 1))
    for _ in range(200):
        plain += quadratic_clients(plain, 20, 0.1).mean()
        correction = (own.mean(axis=0) - own)[:, 0]
        updates = quadratic_clients(w, 20, 0.1, correction=correction)
        own = own + control_changes(updates, own.mean(axis=0), [20, 20], 0.1)
        w += updates.mean()
    assert w == pytest.approx(3, abs=1e-9)
    assert plain == pytest.approx(4 * (1 - 0.7**20) / (2 - 0.9**20 - 0.7**20), abs=1e-9)
    np.testing.assert_allclose(own, [[3.0], [-3.0]], atol=1e-9)  # the gradients at 3


def test_fedprox_moves_the_fixed_point_and_does_not_mend_it():
    # full local minimisation with mu = 1: w = ((0 + w) / 2 + (12 + w) / 4) / 2, so w = 2.4
    w = 0.0
    for _ in range(200):
        w += quadratic_clients(w, 500, 0.1, mu=1.0).mean()
    assert w == pytest.approx(2.4, abs=1e-9)


@pytest.mark.parametrize(
    ("updates", "control", "steps", "rate", "message"),
    [
        (np.ones(3), np.ones(3), [1], 0.1, "updates and control must have shapes"),
        (np.ones((1, 3)), np.ones(1), [1], 0.1, "updates and control must have shapes"),
        (np.ones((2, 3)), np.ones(3), [1], 0.1, "num_steps must hold a positive number for each"),
        (np.ones((2, 3)), np.ones(3), [1, 0], 0.1, "num_steps must hold a positive number"),
        (np.ones((1, 3)), np.ones(3), [np.inf], 0.1, "num_steps must be finite, got Inf"),
        (np.ones((1, 3)), np.ones(3), [np.nan], 0.1, "num_steps must be finite, got NaN"),
        (np.ones((1, 3)), np.ones(3), ["a"], 0.1, "num_steps must hold real numbers"),
        (np.ones((2, 3)), np.ones(3), [[1], [1, 2]], 0.1, "num_steps must be one array"),
        (np.ones((1, 3)) > 0, np.ones(3), [1], 0.1, "updates must hold real numbers, got .* bool"),
        (
            np.ones((1, 3)),
            np.ones(3),
            [1],
            0.0,
            "learning_rate must be positive .* got 0.0",
        ),
        (
            np.ones((1, 3)),
            np.ones(3),
            [1],
            np.nan,
            "learning_rate must be positive .* got nan",
        ),
    ],
)
def test_control_changes_refuse_what_does_not_fit(updates, control, steps, rate, message):
    with pytest.raises(InvalidParameterError, match=message):
        control_changes(updates, control, steps, rate)


# --- nobody's examples get into another's row ---------------------------------------------------

SIZES = [7, 1, BATCH + 2, 3 * BATCH]
SPOILT = {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf, "huge": 3e38}


@cache
def small(kind):
    """A small model and examples of it: 60 examples, each kind compiles once."""
    rng = np.random.default_rng(0)
    y = (np.arange(60) % 3).astype(np.int32)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    middle = {
        "dense": [layers.Dense(4, activation="tanh")],
        "convolution": [layers.Reshape((4, 1)), layers.Conv1D(2, 2), layers.Flatten()],
        "embedding": [layers.Embedding(9, 2), layers.Flatten()],
        "LSTM": [layers.Embedding(9, 2), layers.LSTM(2)],
        "GRU": [layers.Embedding(9, 2, mask_zero=True), layers.GRU(2)],
        "shared layer": [],
        "no training argument": [],
        "divides by its input": [layers.Lambda(lambda x: x / tf.norm(x, axis=-1, keepdims=True))],
    }[kind]
    if kind in ("embedding", "LSTM", "GRU"):
        x = rng.integers(0, 9, size=(60, 4)).astype(np.int32)
    model = keras.Sequential([keras.Input((4,), dtype=x.dtype.name), *middle, layers.Dense(3)])
    if kind == "shared layer":
        given, twice = keras.Input((4,)), layers.Dense(4, activation="tanh")
        model = keras.Model(given, layers.Dense(3)(twice(twice(given))))
    if kind == "no training argument":
        model = Own()
        model(x[:1])
    data = Dataset(x, y, x, y, kind)
    return Setting(model, data, 16)


class Own(keras.Model):
    """A model whose call takes no ``training``, and that has a weight beside its layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(4, activation="tanh"), layers.Dense(3)

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.first.build(shape)
        self.last.build((None, 4))

    def call(self, x):
        return self.last(self.first(self.scale * x))


KINDS = ["dense", "convolution", "embedding", "LSTM", "GRU", "shared layer",
         "no training argument", "divides by its input"]  # fmt: skip


def spoil(setting, keep, value):
    """The examples, all but those of one client ruined."""
    x = setting.data.x.copy()
    others = ~np.isin(np.arange(len(x)), keep)
    if x.dtype.kind == "i":  # other words for others, and no word where nobody looks
        x[others] = (x[others] + 4) % 9
        x[0] = x[0] if 0 in keep else 2**31 - 1
    else:
        x[others] = value
    return x


def rows_of(setting, x, parts, **terms):
    batches = [in_steps(part) for part in parts]
    given = (setting.model, setting.params, x, setting.data.y)
    return train_cohort(*given, batches, RATE, **terms), cohort_gradients(*given, parts)


def in_steps(part):
    padded = np.full(-(-len(part) // BATCH) * BATCH, -1, np.int32)
    padded[: len(part)] = part
    return padded.reshape(-1, BATCH)


@pytest.mark.parametrize("value", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("kind", ["dense", "convolution", "embedding", "LSTM"])
def test_what_a_client_does_not_own_changes_no_bit_of_its_row(kind, value):
    setting = small(kind)
    parts = np.split(np.arange(1, 1 + sum(SIZES)), np.cumsum(SIZES)[:-1])  # nobody owns example 0
    clean = rows_of(setting, setting.data.x, parts)
    assert all(np.isfinite(rows).all() for rows in clean)
    for client, part in enumerate(parts):
        x = spoil(setting, part, value)
        for rows, before in zip(rows_of(setting, x, parts), clean, strict=True):
            np.testing.assert_array_equal(rows[client], before[client])
        given = (setting.model, setting.params)
        batches = in_steps(part)
        np.testing.assert_array_equal(
            train_client(*given, x, setting.data.y, batches, RATE),
            train_client(*given, setting.data.x, setting.data.y, batches, RATE),
        )


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 3 * BATCH), min_size=1, max_size=BLOCK + 2),
    st.data(),
    st.sampled_from(list(SPOILT.values())),
    st.booleans(),
)
def test_any_cohort_keeps_its_rows_apart(sizes, draw, value, with_terms):
    setting, rng = small("dense"), np.random.default_rng(sum(sizes))
    client = draw.draw(st.integers(0, len(sizes) - 1))
    parts = [rng.choice(np.arange(1, 60), size, replace=False) for size in sizes]
    terms = {}
    if with_terms:
        terms = {"proximal_mu": 0.5, "corrections": random_corrections(setting, len(sizes))}
    clean = rows_of(setting, setting.data.x, parts, **terms)
    if with_terms:
        terms["corrections"] = terms["corrections"].copy()
        terms["corrections"][np.arange(len(sizes)) != client] = value  # theirs, too
    spoilt = rows_of(setting, spoil(setting, parts[client], value), parts, **terms)
    for rows, before in zip(spoilt, clean, strict=True):
        np.testing.assert_array_equal(rows[client], before[client])


def test_a_run_does_not_meet_an_example_that_nobody_owns():
    digits = load_digits()
    x = digits.x.copy()
    x[0] = np.nan
    data = Dataset(x, digits.y, digits.x_test, digits.y_test, "first one ruined")
    parts = [part[part > 0] for part in partition_iid(digits.y, 7, np.random.default_rng(0))]
    history = run_federated(setting_named("mlp").model, data, parts, rounds=2, learning_rate=0.3)
    assert history.accuracy[-1] > 0.8


# --- models people bring ------------------------------------------------------------------------


def plain_keras(setting, batches):
    """The update of one client by Keras's own SGD, batch after batch."""
    model, start = setting.model, setting.params
    optimizer = keras.optimizers.SGD(RATE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    try:
        for batch in batches:
            examples = batch[batch >= 0]
            with tf.GradientTape() as tape:
                value = loss(
                    setting.data.y[examples], model(setting.data.x[examples], training=True)
                )
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return get_params(model) - start
    finally:
        set_params(model, start)


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_people_bring_train_as_by_plain_keras(kind):
    setting = small(kind)
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    batches = [in_steps(part) for part in parts]
    expected = np.stack([plain_keras(setting, batch) for batch in batches])
    bound = tolerance(max(map(len, batches)), setting.longest_sum)
    np.testing.assert_allclose(setting.one_by_one(batches), expected, rtol=0, atol=bound)
    np.testing.assert_allclose(setting.cohort(batches), expected, rtol=0, atol=bound)
    assert np.abs(expected).max(axis=1).min() > 100 * bound


@pytest.mark.parametrize("kind", ["embedding", "LSTM", "shared layer"])
def test_gradients_of_models_that_people_bring_are_those_of_a_tape(kind):
    setting, part = small(kind), np.arange(20)
    data = setting.data
    (got,) = cohort_gradients(setting.model, setting.params, data.x, data.y, [part])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(data.y[part], setting.model(data.x[part]))
    expected = tape.gradient(value, setting.model.trainable_variables)
    flat = np.concatenate([tf.convert_to_tensor(g).numpy().ravel() for g in expected])
    np.testing.assert_allclose(got, flat, rtol=0, atol=gradient_tolerance(setting, 20))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
def test_inputs_of_any_type_train_as_float32(dtype):
    setting = small("dense")
    x = (np.abs(setting.data.x) > 0.5).astype(dtype)
    batches = in_steps(np.arange(7))
    given = (setting.model, setting.params)
    expected = train_client(*given, x.astype(np.float32), setting.data.y, batches, RATE)
    np.testing.assert_array_equal(train_client(*given, x, setting.data.y, batches, RATE), expected)
    (row,) = train_cohort(*given, x, setting.data.y, [batches], RATE)
    np.testing.assert_allclose(row, expected, rtol=0, atol=tolerance(2, 16))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
def test_weights_of_any_type_give_float32_updates(dtype):
    setting, batches = small("dense"), in_steps(np.arange(7))
    params = np.round(4 * setting.params).astype(dtype)
    given = (setting.data.x, setting.data.y)
    expected = train_client(setting.model, params.astype(np.float32), *given, batches, RATE)
    update = train_client(setting.model, params, *given, batches, RATE)
    (row,) = train_cohort(setting.model, params, *given, [batches], RATE)
    assert update.dtype == row.dtype == np.float32
    np.testing.assert_array_equal(update, expected)
    np.testing.assert_allclose(row, expected, rtol=0, atol=4 * tolerance(2, 16))


def test_a_compiled_loss_is_not_used():
    setting, batches = small("dense"), [in_steps(np.arange(7))]
    before = setting.cohort(batches)
    setting.model.compile(loss="mse", optimizer="adam", metrics=["accuracy"])
    compiled = num_compiled()
    np.testing.assert_array_equal(setting.cohort(batches), before)
    assert num_compiled() == compiled


# --- what is compiled belongs to an architecture ------------------------------------------------


def test_a_layer_that_was_changed_after_a_run_trains_as_it_is_now():
    data, batches = small("dense").data, [in_steps(np.arange(7))]
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, "relu"), layers.Dense(3)])
    changed = Setting(model, data, 16)
    changed.cohort(batches)
    model.layers[0].activation = keras.activations.tanh
    bound = tolerance(2, 16)
    np.testing.assert_allclose(changed.cohort(batches), changed.one_by_one(batches), atol=bound)
    model.pop()
    model.add(layers.Dense(5))
    np.testing.assert_allclose(changed.cohort(batches), changed.one_by_one(batches), atol=bound)


def test_a_loop_over_seeds_compiles_once_and_warns_of_nothing(caplog):
    data, batches = load_digits(), setting_named("mlp").batches([7])
    counts = []
    with caplog.at_level("WARNING", "tensorflow"):
        for seed in range(8):
            model = mlp(hidden=(3,), seed=seed)
            train_cohort(model, get_params(model), data.x, data.y, batches, RATE)
            counts.append(num_compiled())
    assert counts[0] == counts[-1]
    assert not caplog.records


def test_many_architectures_warn_of_nothing_either(caplog):
    x, y = np.ones((6, 2), np.float32), np.arange(6) % 2
    with caplog.at_level("WARNING", "tensorflow"):
        for outputs in range(2, 9):
            model = mlp(2, outputs, hidden=())
            train_cohort(model, get_params(model), x, y, [in_steps(np.arange(6))], RATE)
    assert not caplog.records


def test_a_model_that_has_trained_may_go():
    model = mlp(4, 3, hidden=())
    data = small("dense").data
    train_cohort(model, get_params(model), data.x, data.y, [in_steps(np.arange(7))], RATE)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# --- gradients ----------------------------------------------------------------------------------


def tape_gradient(setting, examples):
    """The gradient of the mean loss over these examples, straight from Keras and a tape."""
    x, y, model = setting.data.x[examples], setting.data.y[examples], setting.model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(y, model(x))
    gradients = tape.gradient(value, model.trainable_variables)
    return np.concatenate([gradient.numpy().ravel() for gradient in gradients])


def gradient_tolerance(setting, num_examples):
    """As in :func:`tolerance`, for one gradient: sums over units and then over examples."""
    return 2 * 4 * sqrt(setting.longest_sum * num_examples) * 2.0**-24


def test_cohort_gradients_are_those_of_a_tape(setting):
    sizes = [1, GRADIENT_BATCH, GRADIENT_BATCH + 1, 7, 150] + [3] * BLOCK
    chosen = np.random.default_rng(3).permutation(len(setting.data.y))[: sum(sizes)]
    parts = np.split(chosen, np.cumsum(sizes)[:-1])
    got = cohort_gradients(setting.model, setting.params, setting.data.x, setting.data.y, parts)
    assert got.shape == (len(parts), len(setting.params))
    for gradient, part in zip(got[:8], parts, strict=False):
        expected = tape_gradient(setting, part)
        bound = gradient_tolerance(setting, len(part))
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=bound)
        assert np.abs(expected).max() > 100 * bound


def test_gradients_are_taken_where_asked_not_where_the_model_is(digits_mlp):
    data, other = digits_mlp.data, mlp(seed=9)
    part = np.arange(40)
    (got,) = cohort_gradients(digits_mlp.model, get_params(other), data.x, data.y, [part])
    expected = tape_gradient(Setting(other, data, 64), part)
    bound = gradient_tolerance(digits_mlp, 40)
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


@settings(max_examples=15)
@given(st.integers(1, 40), st.sampled_from([None, 0.1, 100.0]), st.integers(0, 99))
def test_any_split_of_the_data_aggregates_to_the_gradient_of_the_pooled_data(n, alpha, seed):
    setting = setting_named("mlp")
    spec = params_spec(setting.model)
    data, rng = setting.data, np.random.default_rng(seed)
    parts = (
        partition_iid(data.y, n, rng)
        if alpha is None
        else partition_dirichlet(data.y, n, alpha, rng)
    )
    weights = [len(part) for part in parts]
    rows = cohort_gradients(setting.model, setting.params, data.x, data.y, parts)
    pooled = tape_gradient(setting, np.arange(len(data.y)))
    bound = gradient_tolerance(setting, len(data.y))

    averaged = aggregate_gradients([unflatten(row, spec) for row in rows], weights)
    np.testing.assert_allclose(np.concatenate([a.ravel() for a in averaged]), pooled, atol=bound)

    # FedAvg after one full-batch step of every client is one step on the pooled data
    stepped = setting.params - RATE * rows
    models = aggregate_models([unflatten(row, spec) for row in stepped], weights)
    step = np.concatenate([tensor.ravel() for tensor in models]) - setting.params
    # two more roundings, of the weights before and after the step, which are below 1
    np.testing.assert_allclose(step, -RATE * pooled, atol=RATE * bound + 2.0**-23)


def test_full_batch_steps_by_the_cohort_call_average_to_the_pooled_step(digits_mlp):
    params, sizes = digits_mlp.params, [4, 4, 1, 3]
    batches = local_batches(
        np.split(np.arange(12), np.cumsum(sizes)[:-1]),
        batch_size=BATCH,
        rng=np.random.default_rng(0),
    )
    trained = params + digits_mlp.cohort(batches)
    (averaged,) = aggregate_models([[row] for row in trained], sizes)
    pooled = params - RATE * tape_gradient(digits_mlp, np.arange(12))
    np.testing.assert_allclose(averaged, pooled, rtol=0, atol=tolerance(1, 64))


# --- batches ------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_every_epoch_uses_every_example_once(sizes, batch_size, epochs, seed):
    parts = np.split(np.arange(sum(sizes)) + 7, np.cumsum(sizes)[:-1])
    rng = np.random.default_rng(seed)
    for part, batches in zip(
        parts,
        local_batches(parts, batch_size=batch_size, local_epochs=epochs, rng=rng),
        strict=True,
    ):
        steps = -(-len(part) // batch_size)
        assert batches.shape == (epochs * steps, batch_size)
        for epoch in np.split(batches, epochs):
            np.testing.assert_array_equal(np.sort(epoch[epoch >= 0]), part)
            assert (epoch[:-1] >= 0).all()  # only the last batch is padded


def test_epochs_are_shuffled_anew_and_seeds_repeat():
    first, again, other = (
        local_batches([np.arange(50)], batch_size=50, local_epochs=2, rng=np.random.default_rng(s))
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0][0], first[0][1])


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["batch_size", "local_epochs"])
def test_sizes_below_one_are_refused(size):
    sizes = {"batch_size": 2, "local_epochs": 1, size: 0}
    with pytest.raises(
        InvalidParameterError, match=f"{size} must be a whole number of at least 1, got 0"
    ):
        local_batches([np.arange(3)], rng=np.random.default_rng(0), **sizes)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (np.array([], int), "client 1 has no examples"),
        (np.array([3, -1]), "client 1 must name examples from 0 to .*, got -1"),
    ],
)
def test_a_client_without_usable_examples_is_named(digits_mlp, part, message):
    parts = [np.arange(3), part]
    with pytest.raises(InvalidParameterError, match=message):
        local_batches(parts, batch_size=2, rng=np.random.default_rng(0))
    data = digits_mlp.data
    with pytest.raises(InvalidParameterError, match=message):
        cohort_gradients(digits_mlp.model, digits_mlp.params, data.x, data.y, parts)


@pytest.mark.parametrize(
    "wrong",
    [
        np.full((2, BATCH), 1442, np.int32),
        np.full((2, BATCH), -2, np.int32),
        np.full((2, BATCH), -1, np.int32),
        np.zeros((0, BATCH), np.int32),
        np.zeros((2, 1), np.int32),
        np.zeros(BATCH, np.int32),
    ],
    ids=["too large", "negative", "only padding", "no steps", "another batch size", "one batch"],
)
def test_batches_that_name_no_examples_are_refused(digits_mlp, wrong):
    with pytest.raises(InvalidParameterError, match="the batches of client 1"):
        digits_mlp.cohort([np.zeros((2, BATCH), np.int32), wrong])


@pytest.mark.parametrize("rate", [np.nan, np.inf, -np.inf, -0.1, -1e-300, 1e39])
def test_rates_that_climb_or_that_float32_cannot_hold_are_refused(digits_mlp, rate):
    for train in training_ways(digits_mlp, learning_rate=rate)[:2]:
        with pytest.raises(InvalidParameterError, match="learning_rate must be at least 0") as e:
            train()
        assert str(e.value).endswith(f"got {rate}")


def test_a_pull_or_a_correction_that_float32_cannot_hold_is_refused_by_name(digits_mlp):
    batches, size = digits_mlp.batches([5, 5]), len(digits_mlp.params)
    with pytest.raises(InvalidParameterError, match=r"proximal_mu must be .* got 1e.39"):
        digits_mlp.cohort(batches, proximal_mu=1e39)
    corrections = np.zeros((2, size))
    corrections[1, 7] = 1e39
    with pytest.raises(InvalidParameterError, match=r"corrections must .* got 1e.39 for client 1"):
        digits_mlp.cohort(batches, corrections=corrections)
    with pytest.raises(
        InvalidParameterError, match=r"^correction must .* got 1e.39 at coordinate 7"
    ):
        digits_mlp.one_by_one(batches[1:], corrections=corrections[1:])


@pytest.mark.parametrize("word", [9, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("kind", ["embedding", "LSTM", "inside"])
def test_words_beyond_the_vocabulary_are_named_by_their_example(kind, word):
    setting = small("embedding" if kind == "inside" else kind)
    model, x = setting.model, setting.data.x.copy()
    if kind == "inside":
        inner = keras.Sequential([layers.Embedding(9, 2), layers.Flatten()])
        model = keras.Sequential([keras.Input((4,), dtype="int32"), inner, layers.Dense(3)])
    x[11, 2] = word
    given = (model, get_params(model), x, setting.data.y)
    parts = [np.arange(1, 6), np.arange(6, 16)]
    batches = [in_steps(part) for part in parts]
    for use in (
        lambda: train_cohort(*given, batches, RATE),
        lambda: train_client(*given, batches[1], RATE),
        lambda: cohort_gradients(*given, parts),
        lambda: evaluate(*given),
    ):
        with pytest.raises(InvalidParameterError, match=f"example 11 of x holds the word {word}"):
            use()
    assert np.isfinite(train_cohort(*given, batches[:1], RATE)).all()  # nobody trains on it


@pytest.mark.parametrize("batches", [None, 5])
def test_batches_that_are_no_list_are_refused(digits_mlp, batches):
    with pytest.raises(InvalidParameterError, match="batches must be a list"):
        digits_mlp.cohort(batches)


def training_ways(setting, batches=None, **changed):
    """The three ways to train, each with one argument changed."""
    batches = setting.batches([5]) if batches is None else batches
    given = {"params": setting.params, "x": setting.data.x, "y": setting.data.y} | changed
    rate = given.pop("learning_rate", RATE)
    return [
        lambda: train_cohort(setting.model, **given, batches=batches, learning_rate=rate),
        lambda: train_client(setting.model, **given, batches=batches[0], learning_rate=rate),
        lambda: cohort_gradients(setting.model, **given, parts=[np.arange(5)]),
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": lambda y: y + 10 * (np.arange(len(y)) == 9)}, "from 0 to 9, got 1. at example 9"),
        ({"y": lambda y: y - 10 * (np.arange(len(y)) == 9)}, "got -.* at example 9"),
        ({"y": lambda y: np.eye(10)[y]}, "y must"),
        ({"y": lambda y: y.astype(np.float32)}, "y must"),
        ({"x": lambda x: np.ma.masked_less(x, 0)}, "x is a masked array"),
        ({"x": lambda x: tf.data.Dataset.from_tensors(x)}, "x must be one array"),
        ({"params": lambda p: [p[:5], p[5:]]}, r"write params=get_params\(model\)"),
        ({"params": lambda p: np.where(p == p[3], np.nan, p)}, "nan at coordinate 3"),
        ({"params": lambda p: p.astype(float) * 1e300 ** (p == p[3])}, r"e\+2.. at coordinate 3"),
        ({"params": lambda p: p.astype(complex)}, "complex128"),
        ({"params": lambda p: p > 0}, "got bool"),
        ({"params": lambda p: np.ma.masked_less(p, 0)}, "params is a masked array"),
    ],
)  # fmt: skip
def test_what_training_cannot_take_is_refused_by_name(digits_mlp, changed, message):
    spoilt = {
        name: spoil(digits_mlp.params if name == "params" else getattr(digits_mlp.data, name))
        for name, spoil in changed.items()
    }
    for train in training_ways(digits_mlp, **spoilt):
        with pytest.raises(InvalidParameterError, match=message):
            train()


@pytest.mark.parametrize("kind", [np.uint8, np.int64, lambda y: y[:, None], tf.constant, list])
def test_labels_of_any_integer_type_train_alike(digits_mlp, kind):
    for train, expected in zip(
        training_ways(digits_mlp, y=kind(digits_mlp.data.y)), training_ways(digits_mlp), strict=True
    ):
        np.testing.assert_array_equal(train(), expected())


@pytest.mark.parametrize("rate", [True, "0.1", None, 1j, [0.1]], ids=str)
def test_rates_that_are_no_numbers_are_refused(digits_mlp, rate):
    for train in training_ways(digits_mlp, learning_rate=rate)[:2]:
        with pytest.raises(InvalidParameterError, match="learning_rate must be"):
            train()


@pytest.mark.parametrize("rate", [np.float16(0.125), np.float32(0.125), np.float64(0.125)])
def test_rates_of_any_precision_train_alike(digits_mlp, rate):
    for train, expected in zip(
        training_ways(digits_mlp, learning_rate=rate)[:2],
        training_ways(digits_mlp, learning_rate=0.125)[:2],
        strict=True,
    ):
        np.testing.assert_array_equal(train(), expected())


@pytest.mark.parametrize(
    "batches", [[[0.0, 1.0]], [[True, False]], [["0", "1"]], [[0, 1442]]], ids=str
)
def test_batches_of_another_type_are_refused(digits_mlp, batches):
    for train in training_ways(digits_mlp, batches=[np.array(batches)])[:2]:
        with pytest.raises(InvalidParameterError, match="the batches of client 0"):
            train()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 10.0}, "batch_size must be a whole number of at least 1, got 10.0"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"local_epochs": "2"}, "local_epochs must be a whole number"),
        ({"rng": 0}, r"write rng=np\.random\.default_rng\(0\)"),
        ({"rng": np.random.RandomState(0)}, "rng must be a NumPy Generator"),
        ({"parts": [[0, 1], [2.0]]}, "client 1 must name its examples by whole numbers"),
        ({"parts": [[0, 1], [2, 2]]}, "client 1 must name each example once"),
        ({"parts": []}, "at least one client"),
    ],
)
def test_batches_are_made_of_whole_numbers_and_a_generator(changed, message):
    given = {"parts": [np.arange(3)], "batch_size": 2, "rng": np.random.default_rng(0)} | changed
    with pytest.raises(InvalidParameterError, match=message):
        local_batches(**given)


def test_masks_mean_the_examples_that_are_true(digits_mlp):
    mask = np.isin(np.arange(1442), [3, 8, 21])
    by_mask, by_number = (
        local_batches([part], batch_size=2, rng=np.random.default_rng(0))
        for part in (mask, np.array([3, 8, 21]))
    )
    np.testing.assert_array_equal(by_mask[0], by_number[0])
    given = (digits_mlp.model, digits_mlp.params, digits_mlp.data.x, digits_mlp.data.y)
    np.testing.assert_array_equal(
        cohort_gradients(*given, [mask]), cohort_gradients(*given, [[3, 8, 21]])
    )


@pytest.mark.parametrize("shape", [(2409,), (2411,), (1, 2410)], ids=str)
def test_weights_of_another_shape_are_refused(digits_mlp, shape):
    data, params = digits_mlp.data, np.zeros(shape, np.float32)
    batches = digits_mlp.batches([5])
    for train in (
        lambda: train_cohort(digits_mlp.model, params, data.x, data.y, batches, RATE),
        lambda: train_client(digits_mlp.model, params, data.x, data.y, batches[0], RATE),
        lambda: cohort_gradients(digits_mlp.model, params, data.x, data.y, [np.arange(5)]),
    ):
        with pytest.raises(
            InvalidParameterError, match=r"params must be one vector of shape \(2410,\)"
        ):
            train()


def test_labels_for_other_examples_are_refused(digits_mlp):
    data = digits_mlp.data
    with pytest.raises(
        InvalidParameterError, match="y must hold one label for each of 1442 examples"
    ):
        train_cohort(
            digits_mlp.model, digits_mlp.params, data.x, data.y_test, digits_mlp.batches([5]), RATE
        )


def test_models_without_a_defined_meaning_are_refused_even_once_compiled(digits_mlp):
    model, data, batches = mlp(), digits_mlp.data, digits_mlp.batches([5])
    train_cohort(model, get_params(model), data.x, data.y, batches, RATE)
    model.layers[0].trainable = False
    for train in (train_cohort, lambda *args: train_client(*args[:4], batches[0], RATE)):
        with pytest.raises(UnsupportedModelError, match=r"layer dense.* frozen"):
            train(model, get_params(model), data.x, data.y, batches, RATE)


def test_a_diverging_client_shows_as_nan_in_its_own_row_only(digits_mlp):
    batches = digits_mlp.batches([5, 200])
    updates = digits_mlp.cohort(batches, 1e30)
    assert not np.isfinite(updates[1]).all()
    set_params(digits_mlp.model, digits_mlp.params)  # the model still takes finite weights


# --- silence ------------------------------------------------------------------------------------

SCRIPT = """
import numpy as np
from fltutor.clients import cohort_gradients, local_batches, train_client, train_cohort
from fltutor.data import load_digits, partition_iid
from fltutor.models import cnn, get_params, mlp
from fltutor.simulation import run_federated

digits, model = load_digits(), mlp()
parts = partition_iid(digits.y, 50, np.random.default_rng(0))
print(run_federated(model, digits, parts, rounds=2, learning_rate=0.1).accuracy)
model = cnn(filters=(2,))
given = (model, get_params(model), digits.x, digits.y)
print(cohort_gradients(*given, parts[:2]).shape)
train_client(*given, local_batches(parts, batch_size=10, rng=np.random.default_rng(0))[0], 0.1)
"""


def test_tensorflow_writes_nothing_to_the_error_output():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    assert "(2, 350)" in done.stdout
