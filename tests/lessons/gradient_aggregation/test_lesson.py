"""FedSGD: what notebook 03 claims, computes, draws and checks."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.aggregation import aggregate_gradients, aggregate_models
from fltutor.clients import cohort_gradients, train_cohort
from fltutor.data import load_digits, partition_dirichlet
from fltutor.lessons.curves import draw_splits
from fltutor.lessons.gradient_aggregation.checks import (
    check_fedavg_round,
    check_sampled_gradient,
    check_server_step,
)
from fltutor.lessons.gradient_aggregation.explorer import fedsgd_explorer
from fltutor.lessons.gradient_aggregation.plots import draw_fedsgd, draw_losses, draw_mistakes
from fltutor.lessons.gradient_aggregation.runs import FedSGDRun, fedsgd
from fltutor.models import cnn, get_params, mlp, params_spec
from fltutor.plotting import new_figure
from fltutor.tensorflow_quietly import keras, num_compiled, tf
from fltutor.vectors import unflatten

DIGITS = load_digits()
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MODELS = {"mlp": mlp(seed=1), "cnn": cnn(seed=1)}
LEARNING_RATE = 0.5


def tape_gradient(model, examples):
    """The plain Keras way, one client at a time."""
    with tf.GradientTape() as tape:
        loss = LOSS(DIGITS.y[examples], model(DIGITS.x[examples]))
    return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]


def float_error(gradients, num_terms):
    """What float32 may lose in a sum of so many terms of this size, added in any order."""
    largest = max(np.abs(tensor).max() for tensors in gradients for tensor in tensors)
    return num_terms * np.finfo(np.float32).eps * largest


@st.composite
def splits(draw, num_examples):
    """Any way to deal out some examples: each goes to a client of its own choice."""
    num_clients = draw(st.integers(1, 6))
    owners = draw(
        st.lists(st.integers(0, num_clients - 1), min_size=num_examples, max_size=num_examples)
    )
    parts = [np.flatnonzero(np.array(owners) == client) for client in range(num_clients)]
    return [part for part in parts if len(part)]


@settings(max_examples=25, derandomize=True)
@given(parts=splits(40))
@pytest.mark.parametrize("name", MODELS)
def test_aggregate_gradients_of_any_split_is_the_gradient_of_the_pooled_data(name, parts):
    model = MODELS[name]
    gradients = [tape_gradient(model, part) for part in parts]
    pooled = tape_gradient(model, np.arange(40))
    aggregated = aggregate_gradients(gradients, [len(part) for part in parts])
    for mine, expected in zip(aggregated, pooled, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=float_error(gradients, 40))


@settings(max_examples=20, derandomize=True)
@given(parts=splits(40))
def test_aggregate_models_after_one_full_batch_step_is_one_step_on_the_pooled_data(parts):
    model = MODELS["mlp"]
    params, spec = get_params(model), params_spec(model)
    batches = [np.array([part.tolist() + [-1] * (40 - len(part))], np.int32) for part in parts]
    updates = train_cohort(model, params, DIGITS.x, DIGITS.y, batches, LEARNING_RATE)
    models = [unflatten(params + update, spec) for update in updates]
    averaged = aggregate_models(models, [len(part) for part in parts])

    gradients = [tape_gradient(model, part) for part in parts]
    pooled = tape_gradient(model, np.arange(40))
    rounding = np.finfo(np.float32).eps * np.abs(params).max() * 4  # weights are float32, too
    tolerance = rounding + LEARNING_RATE * float_error(gradients, 40)
    for mine, start, gradient in zip(averaged, unflatten(params, spec), pooled, strict=True):
        expected = start - LEARNING_RATE * gradient
        np.testing.assert_allclose(mine, expected, rtol=0, atol=tolerance)


def test_split_of_all_digits_gives_the_pooled_gradient_and_equal_votes_do_not():
    model = MODELS["mlp"]
    params = get_params(model)
    parts = partition_dirichlet(DIGITS.y, 10, 0.1, np.random.default_rng(3))
    gradients = cohort_gradients(model, params, DIGITS.x, DIGITS.y, parts)
    pooled = np.concatenate([g.ravel() for g in tape_gradient(model, np.arange(len(DIGITS.y)))])

    [weighted] = aggregate_gradients([[row] for row in gradients], [len(part) for part in parts])
    [equal_votes] = aggregate_gradients([[row] for row in gradients], np.ones(10))
    np.testing.assert_allclose(weighted, pooled, atol=float_error([gradients], len(DIGITS.y)))
    assert np.linalg.norm(equal_votes - pooled) > 0.2 * np.linalg.norm(pooled)


def last(**values) -> FedSGDRun:
    *_, run = fedsgd(**values)
    return run


@pytest.mark.parametrize("alpha", [0.03, 0.1, 100.0])
@pytest.mark.parametrize("clients", [1, 10, 100])
def test_weighted_federation_is_the_pooled_training(clients, alpha):
    run = last(clients=clients, alpha=alpha, rounds=10)
    assert run.counts.sum() == len(DIGITS.y)
    assert len(run.counts) == clients
    assert run.gap.max() < 1e-6
    assert abs(run.accuracy - run.pooled_accuracy).max() <= 1 / len(DIGITS.y_test)


def test_federation_learns_and_each_mistake_costs_what_it_should():
    right = last()
    assert right.accuracy[-1] > 0.85
    assert len(right.accuracy) == right.num_rounds + 1

    assert last(weighted=False).gap.max() > 0.01
    assert last(learning_rate=0.05).accuracy[-1] < right.accuracy[-1] - 0.2

    uphill = last(sign=1)
    assert uphill.accuracy[-1] < 0.15
    assert uphill.loss > 100


def test_every_round_is_yielded_and_the_first_is_the_untrained_model():
    runs = list(fedsgd(rounds=3))
    assert [len(run.accuracy) for run in runs] == [1, 2, 3, 4]
    assert runs[0].gap[0] == 0
    assert runs[0].accuracy[0] == runs[0].pooled_accuracy[0] < 0.3
    np.testing.assert_array_equal(runs[3].accuracy[:2], runs[1].accuracy)


def test_drawing_states_the_numbers_it_shows():
    figure = new_figure()
    run = last(rounds=5)
    sentence = draw_fedsgd(figure, run)
    assert (
        f"10 clients with 18 to 414 examples, 5 rounds: accuracy {run.accuracy[-1]:.3f}" in sentence
    )
    assert f"{run.gap.max():.2g}" in sentence
    holdings, curves, gaps = figure.axes
    np.testing.assert_array_equal(holdings.images[0].get_array(), run.counts)
    pooled, federation = curves.lines
    np.testing.assert_array_equal(pooled.get_ydata(), run.pooled_accuracy)
    np.testing.assert_array_equal(federation.get_ydata(), run.accuracy)
    assert "Rounding alone" in gaps.get_title(loc="left")

    figure.clear()
    sentence = draw_fedsgd(figure, last(rounds=5, weighted=False))
    assert "Not the same model" in figure.axes[2].get_title(loc="left")


def test_other_drawings_show_what_they_are_given():
    figure = new_figure()
    counts = np.arange(30).reshape(3, 10)
    assert draw_splits(figure, {"a": counts, "b": counts}) == (
        "a: 45 to 245 examples a client; b: 45 to 245 examples a client."
    )
    figure.clear()
    one, other = np.array([2.0, 1.0, 0.5]), np.array([2.0, 1.0, 0.75])
    assert "0.25 nats" in draw_losses(figure, {"one": one, "other": other})
    curves, gaps = figure.axes
    assert curves.get_title(loc="left") == "Two splits, two curves"
    np.testing.assert_array_equal(gaps.lines[0].get_ydata(), [np.nan, np.nan, 0.25])
    assert [line.get_label() for line in curves.lines] == ["one", "other"]
    figure.clear()
    sentence = draw_mistakes(figure, {"right": one, "wrong": other}, title="title")
    assert sentence == "Accuracy at the end: right 0.50, wrong 0.75."


def test_explorer_runs_at_the_ends_of_every_slider():
    view = fedsgd_explorer(rounds=4)
    assert view.message.startswith("10 clients with 18 to 414 examples, 4 rounds")
    for name, *ends in (
        ("clients", 1, 100, 10),
        ("alpha", 0.03, 100.0),
        ("learning_rate", 0.05, 5.0),
        ("weighted", False, True),
    ):
        for end in ends:
            before = view.message
            view.controls[name].value = end
            assert view.message != before
            assert "accuracy" in view.message
    downhill = view.message
    view.controls["sign"].value = 1
    assert view.message != downhill


def test_sliders_compile_nothing_once_the_first_round_is_done():
    list(fedsgd(rounds=1))
    compiled = num_compiled()
    for clients, alpha, learning_rate in ((1, 0.03, 0.05), (17, 0.1, 1.0), (100, 100.0, 5.0)):
        list(fedsgd(clients, alpha, False, 1, learning_rate, rounds=1))
    assert num_compiled() == compiled


def said(capsys, check, *args, **kwargs) -> str:
    check(*args, **kwargs)
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("server_step", "answer"),
    [
        (lambda params, gradient, rate: params - rate * gradient, "✓ one step against"),
        (lambda params, gradient, rate: params + gradient, "· not attempted yet"),
        (lambda params, gradient, rate: ..., "· not attempted yet"),
        (lambda params, gradient, rate: params - gradient, "✗ this is a forgotten learning rate"),
        (lambda params, gradient, rate: params + rate * gradient, "✗ this is +gradient"),
        (lambda params, gradient, rate: -rate * gradient, "✗ this is the step alone"),
        (lambda params, gradient, rate: rate * (params - gradient), "✗ this is the learning rate"),
        (lambda params, gradient, rate: params, "✗ got"),
        (lambda params, gradient, rate: params @ 3, "✗ the check stops"),
    ],
)
def test_check_of_the_server_step_names_the_mistake(capsys, server_step, answer):
    assert said(capsys, check_server_step, server_step).startswith(answer)


def test_check_of_the_server_step_sees_an_overwritten_model(capsys):
    def in_place(params, gradient, learning_rate):
        params -= learning_rate * gradient
        return params

    assert "overwrites its input" in said(capsys, check_server_step, in_place)


def fedavg(params, gradients, sizes, learning_rate):
    return np.average(params - learning_rate * gradients, axis=0, weights=sizes)


@pytest.mark.parametrize(
    ("fedavg_round", "answer"),
    [
        (fedavg, "✓ one full-batch FedAvg step equals FedSGD"),
        (lambda *case: ..., "· not attempted yet"),
        (lambda p, g, n, rate: (p - rate * g).mean(axis=0), "✗ this is the unweighted mean"),
        (lambda p, g, n, rate: (p - rate * g).sum(axis=0), "✗ this is the sum of the models"),
        (lambda p, g, n, rate: n @ (p - rate * g), "✗ this is the weighted sum"),
        (lambda p, g, n, rate: p - rate * g, "✗ this is every client's model"),
        (lambda p, g, n, rate: p + fedavg(p, g, n, rate), "✗ this is a model added to a model"),
        (lambda p, g, n, rate: fedavg(p, g, n, rate) - p, "✗ this is the mean update"),
        (lambda p, g, n, rate: fedavg(p, g, n, 1), "✗ this is a forgotten learning rate"),
        (lambda p, g, n, rate: fedavg(p, g, n, -rate), "✗ this is +gradient"),
        (lambda p, g, n, rate: fedavg(p, g, n, rate**2), "✗ this is the learning rate used twice"),
    ],
)
def test_check_of_the_fedavg_round_names_the_mistake(capsys, fedavg_round, answer):
    rng = np.random.default_rng(0)
    case = rng.normal(size=5), rng.normal(size=(3, 5)), [1, 4, 5]
    assert said(capsys, check_fedavg_round, fedavg_round, *case).startswith(answer)


@pytest.mark.parametrize(
    ("sampled_gradient", "answer"),
    [
        (lambda g, n, clients, total: clients / len(n) * (n @ g) / total, "✓ unbiased"),
        (lambda g, n, clients, total: None, "· not attempted yet"),
        (lambda g, n, clients, total: n @ g / n.sum(), "✗ this is the weighted mean of the cohort"),
        (lambda g, n, clients, total: g.mean(axis=0), "✗ this is the unweighted mean"),
        (lambda g, n, clients, total: n @ g / total, "✗ this is missing the factor"),
        (lambda g, n, clients, total: clients * (n @ g) / total, "✗ the estimate is biased"),
        (lambda g, n, clients, total: g, "✗ an estimate has shape (2, 5), needed (5,)"),
    ],
)
def test_check_of_sampled_clients_names_the_mistake(capsys, sampled_gradient, answer):
    rng = np.random.default_rng(0)
    gradients, sizes = rng.normal(size=(4, 5)), np.array([1, 2, 4, 13])
    said_so = said(
        capsys, check_sampled_gradient, sampled_gradient, gradients, sizes, cohort_size=2
    )
    assert said_so.startswith(answer)


def test_weighted_mean_of_a_sampled_cohort_is_biased_unless_sizes_are_equal():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 3))
    cohorts = [list(cohort) for cohort in combinations(range(5), 2)]
    for sizes, biased in ((np.full(5, 7), False), (np.array([1, 2, 3, 4, 50]), True)):
        estimates = [
            aggregate_gradients([[row] for row in gradients[cohort]], sizes[cohort])[0]
            for cohort in cohorts
        ]
        pooled = np.average(gradients, axis=0, weights=sizes)
        assert np.allclose(np.mean(estimates, axis=0), pooled) is not biased
