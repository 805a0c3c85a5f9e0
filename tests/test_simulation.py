"""Federated runs: reproducible, interruptible, and equal to what their parts do by hand."""

import itertools
import signal
from functools import partial

import numpy as np
import pytest

from fltutor.aggregation import AggregateResult, dp_mean, mean
from fltutor.clients import cohort_gradients, local_batches, train_client
from fltutor.data import load_digits, partition_iid, partition_shards
from fltutor.errors import InvalidParameterError, InvalidUpdateError, UnsupportedModelError
from fltutor.models import get_params, mlp, set_params
from fltutor.protocols import encrypted_sum, secagg_sum
from fltutor.server_optimizers import ServerOptimizer, adam, sgd
from fltutor.simulation import ServerState, evaluate, federated_rounds, run_federated, run_round
from fltutor.tensorflow_quietly import keras
from fltutor.transcript import Phase, Transcript

NUM_CLIENTS = 6


@pytest.fixture(scope="module")
def setting():
    """A small softmax regression on the digits, and clients with 20 to 70 examples."""
    digits = load_digits()
    whole = partition_iid(digits.y, NUM_CLIENTS, np.random.default_rng(0))
    parts = [part[: 20 + 10 * client] for client, part in enumerate(whole)]
    return mlp(hidden=()), digits, parts


@pytest.fixture
def run(setting):
    return partial(run_federated, *setting, learning_rate=0.5)


def same_runs(first, second):
    return all(
        np.array_equal(a.params, b.params)
        and (a.accuracy, a.loss, a.cohort, a.included, a.bytes_up, a.bytes_down)
        == (b.accuracy, b.loss, b.cohort, b.included, b.bytes_up, b.bytes_down)
        for a, b in zip(first.rounds, second.rounds, strict=True)
    )


PRIVATE = {
    "weigh_by_examples": False,
    "aggregate": partial(dp_mean, clip_norm=1.0, noise_multiplier=0.5, expected_cohort=6),
}


@pytest.mark.parametrize(
    "options",
    [{}, {"client_fraction": 0.5}, {"client_fraction": 0.3, "poisson_sampling": True, **PRIVATE}],
    ids=["all clients", "half of them", "Poisson with noise"],
)
def test_equal_seeds_give_identical_runs(run, options):
    def seeded(seed):
        given = dict(options)
        if "aggregate" in given:
            given["aggregate"] = partial(given["aggregate"], rng=np.random.default_rng(5))
        return run(rounds=4, seed=seed, **given)

    assert same_runs(seeded(1), seeded(1))
    assert not same_runs(seeded(1), seeded(2))


def test_a_run_learns_and_starts_from_the_model_as_it_is(setting, run):
    model, digits, _ = setting
    before = get_params(model)
    history = run(rounds=8)
    assert len(history.rounds) == 9
    assert [r.number for r in history.rounds] == list(range(9))
    np.testing.assert_array_equal(history.rounds[0].params, before)
    np.testing.assert_array_equal(get_params(model), before)
    assert history.accuracy[-1] > 0.75
    assert history.loss[-1] < history.loss[0]
    assert history.params is history.rounds[-1].params
    assert not history.interrupted
    assert evaluate(model, history.params, digits.x_test, digits.y_test) == (
        history.accuracy[-1],
        history.loss[-1],
    )


def test_a_round_is_what_its_parts_do_by_hand(setting):
    model, digits, parts = setting
    params = get_params(model)
    cohort = [4, 1, 3]
    state, result = run_round(
        ServerState(params, None),
        cohort,
        model=model,
        data=digits,
        parts=parts,
        learning_rate=0.5,
        rng=np.random.default_rng(7),
    )
    batches = local_batches(
        [parts[client] for client in cohort], batch_size=10, rng=np.random.default_rng(7)
    )
    updates = [train_client(model, params, digits.x, digits.y, batch, 0.5) for batch in batches]
    expected = params + np.average(updates, axis=0, weights=[len(parts[i]) for i in cohort])
    # seven steps in float32, in another order: a few roundings of weights below 1 each
    np.testing.assert_allclose(state.params, expected, rtol=0, atol=1e-5)
    assert state.params.dtype == np.float32
    assert state.round_number == 1
    assert result.included == (0, 1, 2)


def test_one_client_with_all_data_is_plain_sgd(setting, run):
    model, digits, parts = setting
    everything = np.concatenate(parts)
    history = run_federated(
        model, digits, [everything], rounds=1, learning_rate=0.5, batch_size=len(everything)
    )
    params = get_params(model)
    update = train_client(model, params, digits.x, digits.y, everything[None], 0.5)
    np.testing.assert_allclose(history.params, params + update, rtol=0, atol=1e-6)


def test_clients_are_weighed_by_examples_or_all_alike(run):
    seen = []

    def spy(updates, weights=None):
        seen.append(weights)
        return mean(updates, weights)

    run(rounds=1, aggregate=spy)
    run(rounds=1, aggregate=spy, weigh_by_examples=False)
    assert seen == [[20, 30, 40, 50, 60, 70], None]


def test_a_fraction_of_the_clients_takes_part(run):
    history = run(rounds=6, client_fraction=0.5)
    cohorts = [r.cohort for r in history.rounds[1:]]
    assert all(len(set(cohort)) == 3 and list(cohort) == sorted(cohort) for cohort in cohorts)
    assert len(set(cohorts)) > 1
    assert [len(r.cohort) for r in run(rounds=2, client_fraction=0.01).rounds] == [0, 1, 1]


def test_under_poisson_sampling_cohorts_vary_and_may_be_empty(run):
    history = run(rounds=25, client_fraction=0.2, poisson_sampling=True, seed=3, **PRIVATE)
    sizes = [len(r.cohort) for r in history.rounds[1:]]
    assert 0 in sizes
    assert len(set(sizes)) > 2
    empty = sizes.index(0) + 1
    before, after = history.rounds[empty - 1 : empty + 1]
    assert not np.array_equal(before.params, after.params)  # noise comes all the same
    assert after.bytes_up == after.bytes_down == 0


def test_included_names_clients_of_the_federation(run):
    aggregate = partial(mean, dropped={1: Phase.UPLOAD})
    history = run(rounds=3, client_fraction=0.5, aggregate=aggregate)
    for done in history.rounds[1:]:
        first, _, third = done.cohort
        assert done.included == (first, third)


def test_traffic_is_counted_in_both_directions(setting, run):
    size = len(get_params(setting[0]))
    history = run(rounds=3)
    for done in history.rounds[1:]:
        assert done.bytes_down == NUM_CLIENTS * 4 * size
        assert done.bytes_up == NUM_CLIENTS * 4 * (size + 1)  # the weight travels too
        assert done.seconds > 0
    np.testing.assert_allclose(
        history.megabytes, np.arange(4) * NUM_CLIENTS * 4 * (2 * size + 1) / 1e6
    )


def test_rounds_to_an_accuracy_are_found(run):
    history = run(rounds=5)
    target = history.accuracy[2]
    reached = history.rounds_to(target)
    assert history.accuracy[reached] >= target
    assert all(history.accuracy[:reached] < target)
    assert history.rounds_to(0.0) == 0
    assert history.rounds_to(1.01) is None


def test_longer_runs_continue_shorter_ones(setting, run):
    short, long = run(rounds=2), run(rounds=4)
    long.rounds[3:] = []
    assert same_runs(short, long)
    endless = federated_rounds(*setting, learning_rate=0.5)
    first = [*itertools.islice(endless, 3)]
    np.testing.assert_array_equal(first[-1].params, short.params)


def test_the_server_optimizer_decides_what_becomes_of_the_aggregate(run):
    one, half = run(rounds=1), run(rounds=1, server_optimizer=sgd(0.5))
    moved = [history.params - history.rounds[0].params for history in (one, half)]
    np.testing.assert_allclose(moved[1], 0.5 * moved[0], rtol=0, atol=2.0**-23)

    counting = ServerOptimizer(lambda params: 0, lambda params, update, n: (params + n, n + 1))
    history = run(rounds=3, server_optimizer=counting)
    np.testing.assert_allclose(history.params - history.rounds[0].params, 3, atol=1e-5)  # 0 + 1 + 2


# --- FedProx and SCAFFOLD -----------------------------------------------------------------------

SCAFFOLD = {"scaffold": True, "weigh_by_examples": False}


def rounds_of(setting, cohorts, seed=7, **options):
    """The states after each of these cohorts, the first being the start."""
    model, digits, parts = setting
    rng = np.random.default_rng(seed)
    options = {"server_optimizer": sgd(1.0)} | options
    params = get_params(model)
    states = [ServerState(params, options["server_optimizer"].init(params))]
    for cohort in cohorts:
        state, _ = run_round(
            states[-1],
            cohort,
            model=model,
            data=digits,
            parts=parts,
            learning_rate=0.5,
            rng=rng,
            **options,
        )
        states.append(state)
    return states


def test_a_fedprox_round_is_what_its_parts_do_by_hand(setting):
    model, digits, parts = setting
    params = get_params(model)
    after = rounds_of(setting, [[4, 1]], proximal_mu=0.5)[-1].params
    batches = local_batches([parts[4], parts[1]], batch_size=10, rng=np.random.default_rng(7))
    updates = [
        train_client(model, params, digits.x, digits.y, batch, 0.5, proximal_mu=0.5)
        for batch in batches
    ]
    expected = params + np.average(updates, axis=0, weights=[len(parts[4]), len(parts[1])])
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e-5)  # as for a plain round
    assert np.abs(after - rounds_of(setting, [[4, 1]])[-1].params).max() > 1e-3


def scaffold_by_hand(setting, cohorts, server_rate=1.0):
    """Karimireddy et al. 2020, Algorithm 1 with option II, line by line, client by client."""
    model, digits, parts = setting
    rng = np.random.default_rng(7)
    x = get_params(model).astype(np.float64)
    c, c_i = np.zeros_like(x), np.zeros((len(parts), len(x)))
    for cohort in cohorts:
        delta_y, delta_c = [], []
        batches = local_batches([parts[i] for i in cohort], batch_size=10, rng=rng)
        for i, batch in zip(cohort, batches, strict=True):
            y = x + train_client(
                model,
                x.astype(np.float32),
                digits.x,
                digits.y,
                batch,
                0.5,
                correction=(c - c_i[i]).astype(np.float32),
            )
            plus = c_i[i] - c + (x - y) / (len(batch) * 0.5)
            delta_y.append(y - x)
            delta_c.append(plus - c_i[i])
            c_i[i] = plus
        x = x + server_rate * np.mean(delta_y, axis=0)
        c = c + len(cohort) / len(parts) * np.mean(delta_c, axis=0)
    return x, c, c_i


def test_scaffold_rounds_are_algorithm_1_whoever_takes_part(setting):
    cohorts = [[4, 1, 3], [0, 3], [3, 5, 1, 2], [4]]
    state = rounds_of(setting, cohorts, server_optimizer=sgd(0.8), **SCAFFOLD)[-1]
    x, c, c_i = scaffold_by_hand(setting, cohorts, server_rate=0.8)
    # float32, four rounds of up to seven steps: roundings of weights below 2 and of sums of 65
    # products, each passed on by the c_i after division by a step of 0.5 or more
    np.testing.assert_allclose(state.params, x, rtol=0, atol=2e-5)
    np.testing.assert_allclose(state.controls.server, c, rtol=0, atol=2e-5)
    assert sorted(state.controls.clients) == [0, 1, 2, 3, 4, 5]
    for client, own in state.controls.clients.items():
        np.testing.assert_allclose(own, c_i[client], rtol=0, atol=2e-5)
    plain = rounds_of(setting, cohorts, server_optimizer=sgd(0.8), weigh_by_examples=False)[
        -1
    ].params
    assert np.abs(state.params - plain).max() > 1e-2


def assert_server_control_is_the_mean_of_all(state, num_clients, atol):
    total = sum(own.astype(np.float64) for own in state.controls.clients.values())
    np.testing.assert_allclose(state.controls.server, total / num_clients, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "aggregate",
    [
        mean,
        partial(mean, dropped={1: Phase.UPLOAD}),
        partial(mean, sum_protocol=encrypted_sum, dropped={0: Phase.UPLOAD}),
        partial(mean, sum_protocol=partial(secagg_sum, threshold=3)),
    ],
    ids=["plain", "one drops out", "encrypted", "secure aggregation"],
)
def test_the_servers_control_variate_is_the_mean_of_all_whoever_arrives(setting, aggregate):
    cohorts = [[0, 1, 2, 3], [2, 3, 4, 5], [5, 0, 1, 2], [1, 2, 3, 4], [0, 3, 4, 5]]
    controls = rounds_of(setting, cohorts, aggregate=aggregate, **SCAFFOLD)[-1].controls
    total = sum(own.astype(np.float64) for own in controls.clients.values())
    # five rounds of roundings of numbers below 1: 2^-24 in float32, 2^-25 on secagg's grid
    np.testing.assert_allclose(controls.server, total / NUM_CLIENTS, rtol=0, atol=1e-6)
    assert np.abs(controls.server).max() > 0.01


def test_a_client_whose_upload_is_lost_keeps_its_control_variate(setting):
    lossy = partial(mean, dropped={1: Phase.UPLOAD})
    first, after = rounds_of(setting, [[0, 1], [1, 0]], aggregate=lossy, **SCAFFOLD)[1:]
    assert list(first.controls.clients) == [0]
    assert sorted(after.controls.clients) == [0, 1]
    np.testing.assert_array_equal(after.controls.clients[0], first.controls.clients[0])


def test_scaffold_doubles_the_bytes_in_both_directions(setting, run):
    size = len(get_params(setting[0]))
    for done in run(rounds=2, client_fraction=0.5, **SCAFFOLD).rounds[1:]:
        assert done.bytes_down == 3 * 4 * 2 * size
        assert done.bytes_up == 3 * 4 * (2 * size + 1)  # and the weight, as always


@pytest.mark.parametrize("options", [{"proximal_mu": 0.1}, SCAFFOLD], ids=["FedProx", "SCAFFOLD"])
def test_equal_seeds_give_identical_runs_with_terms_too(run, options):
    given = {"rounds": 3, "client_fraction": 0.5, "server_optimizer": adam(0.1), **options}
    assert same_runs(run(seed=1, **given), run(seed=1, **given))
    assert not same_runs(run(seed=1, **given), run(seed=2, **given))
    plain = run(seed=1, **{k: v for k, v in given.items() if k not in ("scaffold", "proximal_mu")})
    assert not np.array_equal(run(seed=1, **given).params, plain.params)


@pytest.mark.filterwarnings("error")
def test_a_failed_round_leaves_the_state_as_it_was(setting):
    state = rounds_of(setting, [[0, 1, 2]], **SCAFFOLD)[-1]
    kept = state.params.copy(), state.controls.server.copy()
    own = {client: row.copy() for client, row in state.controls.clients.items()}

    def failing(rows, weights):
        mean(rows, weights)
        raise ZeroDivisionError

    model, digits, parts = setting
    given = {"model": model, "data": digits, "parts": parts, "rng": np.random.default_rng(0)}
    for error, options in (
        (ZeroDivisionError, {"learning_rate": 0.5, "aggregate": failing}),
        (InvalidUpdateError, {"learning_rate": 1e38}),
    ):
        with pytest.raises(error):
            run_round(state, [0, 3], **given, **options, **SCAFFOLD)
    run_round(state, [0, 3], learning_rate=0.5, **given, **SCAFFOLD)  # a good one changes nothing
    np.testing.assert_array_equal(state.params, kept[0])
    np.testing.assert_array_equal(state.controls.server, kept[1])
    assert list(state.controls.clients) == list(own)
    for client, row in own.items():
        np.testing.assert_array_equal(state.controls.clients[client], row)


def test_scaffold_comes_to_rest_where_the_pooled_loss_does_and_fedavg_elsewhere():
    digits, model = load_digits(), mlp(hidden=())
    parts = partition_shards(digits.y[:1440], 10, 2, np.random.default_rng(0))

    def steepness(**options):
        """Length of the gradient of the pooled loss after 60 rounds of ten full-batch steps."""
        history = run_federated(
            model,
            digits,
            parts,
            rounds=60,
            learning_rate=0.3,
            batch_size=144,
            local_epochs=10,
            weigh_by_examples=False,
            **options,
        )
        rows = cohort_gradients(model, history.params, digits.x, digits.y, parts)
        return np.linalg.norm(rows.mean(axis=0))

    assert steepness(scaffold=True) < steepness() / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaffold": True}, "takes no example weights: needed weigh_by_examples=False, got True"),
        ({**SCAFFOLD, "proximal_mu": 0.1}, "needed proximal_mu=0, got 0.1"),
        ({"proximal_mu": -0.1}, "proximal_mu must be .* got -0.1"),
        ({"proximal_mu": np.nan}, "proximal_mu must be .* got nan"),
        ({**SCAFFOLD, "aggregate": PRIVATE["aggregate"]}, "clips them to 1"),
    ],
)
def test_mixes_without_a_meaning_are_refused(run, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        run(rounds=1, **options)


def test_an_aggregate_of_another_length_is_refused(run):
    def half(rows, weights):
        return mean(rows[:, :650], weights)

    def twice(rows, weights):
        return mean(np.hstack([rows, rows]), weights)

    with pytest.raises(InvalidUpdateError, match=r"rows of 1300 numbers .* got shape \(650,\)"):
        run(rounds=1, aggregate=half, **SCAFFOLD)
    with pytest.raises(InvalidUpdateError, match=r"shape of the model, \(650,\), got \(1300,\)"):
        run(rounds=1, aggregate=twice)


# --- interruption -------------------------------------------------------------------------------


@pytest.fixture
def stop_button():
    """Interrupts as a kernel does; a shell may have started this process to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_interrupting_a_run_returns_the_rounds_done(run, stop_button):
    """A real SIGINT, as the stop button sends it, in the middle of the third round."""
    calls = itertools.count(1)

    def aggregate(updates, weights):
        if next(calls) == 3:
            stop_button()
        return mean(updates, weights)

    stopped = run(rounds=50, aggregate=aggregate)
    assert stopped.interrupted
    assert len(stopped.rounds) == 3
    whole = run(rounds=2)
    assert same_runs(stopped, whole)
    assert same_runs(run(rounds=2), whole)  # and the next run works as if nothing had been


def test_interrupting_between_rounds_works_too(run, monkeypatch):
    def impatient(items, label, show):
        for item in items:
            if item == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr("fltutor.simulation.progress_bar", impatient)
    stopped = run(rounds=5)
    assert stopped.interrupted
    assert len(stopped.rounds) == 3


def test_other_errors_are_not_swallowed(run):
    def aggregate(updates, weights):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(rounds=2, aggregate=aggregate)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [-1, 1.5, np.nan, np.inf, "3", None])
def test_rounds_must_be_whole_and_not_negative(run, rounds):
    with pytest.raises(InvalidParameterError, match=f"rounds must be a whole .* got {rounds}"):
        run(rounds=rounds)


def test_no_rounds_are_the_untrained_model(run):
    assert len(run(rounds=np.int64(0)).rounds) == 1


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, np.nan])
def test_client_fractions_out_of_range_are_refused(run, fraction):
    with pytest.raises(InvalidParameterError, match=r"client_fraction must be in \(0, 1\], got"):
        run(rounds=1, client_fraction=fraction)


def test_a_diverging_client_is_named(run):
    with pytest.raises(InvalidUpdateError, match="client 0 holds NaN or Inf"):
        run(rounds=3, learning_rate=1e38)


def test_dp_mean_takes_no_weights_in_a_run_either(run):
    with pytest.raises(InvalidParameterError, match="dp_mean takes no weights"):
        run(rounds=1, aggregate=PRIVATE["aggregate"])


def test_models_without_a_defined_meaning_are_refused_by_name(setting):
    _, digits, parts = setting
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dropout(0.5, name="drop"), keras.layers.Dense(10)]
    )
    with pytest.raises(UnsupportedModelError, match="layer drop"):
        run_federated(model, digits, parts, rounds=1, learning_rate=0.1)


# --- evaluation ---------------------------------------------------------------------------------


def test_evaluation_agrees_with_keras(setting):
    _, digits, _ = setting
    model = mlp(seed=4)
    params = get_params(mlp(seed=5))
    accuracy, loss = evaluate(model, params, digits.x_test, digits.y_test)
    set_params(model, params)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    expected = model.evaluate(digits.x_test, digits.y_test, verbose=0)
    np.testing.assert_allclose([loss, accuracy], expected, rtol=1e-5)


def test_extreme_logits_give_a_finite_loss(setting):
    model, digits, _ = setting
    params = 1e6 * get_params(model)
    _, loss = evaluate(model, params, digits.x_test, digits.y_test)
    assert np.isfinite(loss)
    assert loss > 1e4


def test_an_aggregate_may_be_anything_that_answers_like_one(run):
    def nobody_counts(updates, weights):
        return AggregateResult(np.zeros(updates.shape[1]), (), Transcript())

    history = run(rounds=2, aggregate=nobody_counts)
    np.testing.assert_array_equal(history.params, history.rounds[0].params)
    assert history.rounds[1].included == ()


def test_weights_whose_outputs_are_no_numbers_are_refused(setting):
    model, digits, _ = setting
    huge = np.full_like(get_params(model), 3e38)
    with pytest.raises(InvalidUpdateError, match=r"NaN or Inf with weights of up to 3e\+38"):
        evaluate(model, huge, digits.x_test, digits.y_test)
    large = np.where(np.arange(len(huge)) % 2, np.float32(1e36), np.float32(-1e36))
    accuracy, loss = evaluate(model, large, digits.x_test, digits.y_test)
    assert 0 <= accuracy <= 1
    assert 0 < loss < np.inf
