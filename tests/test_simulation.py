"""Federated runs: reproducible, interruptible, and equal to what their parts do by hand."""

import dataclasses
import itertools
import signal
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fltutor.aggregation import (
    AdaptiveClip,
    AggregateResult,
    distributed_dp_mean,
    dp_mean,
    mean,
    median,
    robust_aggregate,
)
from fltutor.attacks.poisoning import sign_flip, under_attack
from fltutor.clients import cohort_gradients, local_batches, train_client
from fltutor.data import load_digits, partition_iid, partition_shards
from fltutor.errors import (
    BudgetExceededError,
    FltutorError,
    InvalidParameterError,
    InvalidUpdateError,
    ProtocolAbort,
    TooFewClients,
    UnsupportedModelError,
)
from fltutor.knowledge import who_knows_what
from fltutor.models import get_params, mlp, set_params
from fltutor.privacy.accounting import epsilon_after
from fltutor.privacy.budget import PrivacyBudget
from fltutor.protocols import ckks_sum, encrypted_sum, plain_sum, secagg_sum
from fltutor.protocols.encrypted import Sessions
from fltutor.server_optimizers import ServerOptimizer, adam, sgd
from fltutor.simulation import ServerState, evaluate, federated_rounds, run_federated, run_round
from fltutor.tensorflow_quietly import keras
from fltutor.transcript import Phase, Transcript, uploads

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
    assert result.included == (1, 3, 4)  # clients, not rows


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
    history = run(rounds=3, client_fraction=0.5, dropped={1: Phase.UPLOAD, 4: Phase.UPLOAD})
    cohorts = [done.cohort for done in history.rounds[1:]]
    assert any({1, 4} & set(cohort) for cohort in cohorts)
    for done in history.rounds[1:]:
        assert done.included == tuple(client for client in done.cohort if client not in (1, 4))


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
    ("aggregate", "dropped"),
    [
        (mean, None),
        (mean, {1: Phase.UPLOAD}),
        (partial(mean, sum_protocol=encrypted_sum), {0: Phase.UPLOAD}),
        (partial(mean, sum_protocol=partial(secagg_sum, threshold=3)), None),
    ],
    ids=["plain", "one drops out", "encrypted", "secure aggregation"],
)
def test_the_servers_control_variate_is_the_mean_of_all_whoever_arrives(
    setting, aggregate, dropped
):
    cohorts = [[0, 1, 2, 3], [2, 3, 4, 5], [5, 0, 1, 2], [1, 2, 3, 4], [0, 3, 4, 5]]
    options = {"aggregate": aggregate, "dropped": dropped, **SCAFFOLD}
    controls = rounds_of(setting, cohorts, **options)[-1].controls
    assert sorted(controls.clients) == [c for c in range(NUM_CLIENTS) if c not in (dropped or {})]
    total = sum(own.astype(np.float64) for own in controls.clients.values())
    # five rounds of roundings of numbers below 1: 2^-24 in float32, 2^-25 on secagg's grid
    np.testing.assert_allclose(controls.server, total / NUM_CLIENTS, rtol=0, atol=1e-6)
    assert np.abs(controls.server).max() > 0.01


def test_a_client_whose_upload_is_lost_keeps_its_control_variate(setting):
    def lost(round_number):
        return {1: Phase.UPLOAD} if round_number == 1 else {0: Phase.UPLOAD}

    first, after = rounds_of(setting, [[0, 1], [1, 0]], dropped=lost, **SCAFFOLD)[1:]
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


# --- one numbering of clients -------------------------------------------------------------------

COHORT = [5, 1, 4, 2]
PROTOCOLS = {
    "plain": plain_sum,
    "encrypted": encrypted_sum,
    "secure aggregation": partial(secagg_sum, threshold=3),
    "against an active server": partial(secagg_sum, threshold=3, active_server=True),
    "CKKS": ckks_sum,
}


def one_round(setting, cohort=COHORT, **options):
    """The result of one round with this cohort."""
    model, digits, parts = setting
    options = {"parts": parts, "learning_rate": 0.5, "rng": np.random.default_rng(7)} | options
    return run_round(
        ServerState(get_params(model), None), cohort, model=model, data=digits, **options
    )[1]


def spoilt(aggregate, row):
    """An aggregate that gets NaN in this row."""

    def spoil_and_aggregate(updates, weights=None, **options):
        updates = updates.copy()
        updates[row] = np.nan
        return aggregate(updates, weights, **options)

    return spoil_and_aggregate


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("name", [*PROTOCOLS, "median"])
def test_a_bad_row_is_the_fault_of_the_federations_client(setting, name, row):
    inner = (
        partial(robust_aggregate, rule=median)
        if name == "median"
        else partial(mean, sum_protocol=PROTOCOLS[name])
    )
    with pytest.raises(InvalidUpdateError, match=f"client {COHORT[row]}\\b"):
        one_round(setting, aggregate=spoilt(inner, row), weigh_by_examples=False)


def test_whoever_cannot_train_is_named_by_its_number_in_the_federation(setting):
    _, digits, parts = setting
    ruined = digits.x.copy()
    ruined[parts[4][-1]] = np.nan
    data = type(digits)(ruined, digits.y, digits.x_test, digits.y_test, "ruined")
    with pytest.raises(InvalidUpdateError, match="client 4 "):
        one_round((setting[0], data, parts))
    with pytest.raises(InvalidParameterError, match="client 4 has no examples"):
        one_round(setting, parts=[*parts[:4], parts[4][:0], parts[5]])
    with pytest.raises(InvalidParameterError, match=r"client 4 .* got -1"):
        one_round(setting, parts=[*parts[:4], np.array([3, -1]), parts[5]])


def test_weights_are_named_by_client_too(setting):
    def negative(updates, weights):
        return mean(updates, [1, 1, -1, 1])

    with pytest.raises(InvalidParameterError, match="got -1 for client 4"):
        one_round(setting, aggregate=negative)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_transcripts_speak_of_the_federations_clients(setting, name):
    aggregate = partial(mean, sum_protocol=PROTOCOLS[name])
    result = one_round(setting, aggregate=aggregate, dropped={4: Phase.UPLOAD})
    assert result.included == (1, 2, 5)
    spoke = {m.sender for m in result.transcript} | {m.receiver for m in result.transcript}
    assert spoke - {"server"} <= {"client 1", "client 2", "client 4", "client 5"}
    assert {"client 1", "client 2", "client 5"} <= spoke
    uploads = [m for m in result.transcript if "row" in m.kind or "update" in m.kind]
    mentioned = " ".join(str(m.contents) for m in uploads)
    assert "row 5" in mentioned
    assert "row 0" not in mentioned


@pytest.mark.parametrize("name", PROTOCOLS)
def test_who_knows_what_is_the_same_under_the_new_numbers(name):
    rows = np.eye(4)
    old = PROTOCOLS[name](rows, {2: Phase.UPLOAD}).transcript
    knowledge, renamed = who_knows_what(old), who_knows_what(old.renumbered(COHORT))
    fact = {f"row {row}": f"row {client}" for row, client in enumerate(COHORT)} | {"sum": "sum"}
    party = {f"client {row}": f"client {client}" for row, client in enumerate(COHORT)}
    for observer in knowledge.observers:
        for known in knowledge.facts:
            assert renamed.knows(party.get(observer, observer), fact[known]) == knowledge.knows(
                observer, known
            )


def test_an_abort_names_the_clients_that_are_left(setting):
    aggregate = partial(mean, sum_protocol=PROTOCOLS["secure aggregation"])
    with pytest.raises(TooFewClients, match=r"are left \(2, 5\)") as stopped:
        one_round(setting, aggregate=aggregate, dropped=dict.fromkeys([1, 4], Phase.UPLOAD))
    assert stopped.value.survivors == (2, 5)
    assert stopped.value.phase == Phase.UPLOAD
    spoke = {message.sender for message in stopped.value.transcript}
    assert spoke - {"server"} <= {f"client {number}" for number in COHORT}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_dropped_means_the_federations_clients_whoever_is_in_the_cohort(setting, data):
    clients = st.integers(0, NUM_CLIENTS - 1)
    cohort = data.draw(st.lists(clients, min_size=1, unique=True))
    dropped = data.draw(st.dictionaries(clients, st.sampled_from(Phase)))
    left = sorted(client for client in cohort if uploads(client, dropped))
    if not left:
        with pytest.raises(ProtocolAbort):
            one_round(setting, cohort, dropped=dropped)
        return
    result = one_round(setting, cohort, dropped=dropped)
    assert result.included == tuple(left)
    alone = one_round(setting, left, rng=FixedShuffles())
    again = one_round(setting, cohort, dropped=dropped, rng=FixedShuffles())
    np.testing.assert_allclose(again.update, alone.update, rtol=0, atol=1e-6)


class FixedShuffles(np.random.Generator):
    """Shuffles nothing, so that a client's update does not depend on who else is there."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def permutation(self, x, axis=0):
        return np.arange(x) if np.ndim(x) == 0 else np.array(x)


def test_a_function_of_the_round_says_who_leaves(run):
    asked = []

    def dropped(round_number):
        asked.append(round_number)
        return {round_number: Phase.UPLOAD}

    history = run(rounds=3, dropped=dropped)
    assert asked == [1, 2, 3]
    for number, done in enumerate(history.rounds[1:], start=1):
        assert done.included == tuple(c for c in range(NUM_CLIENTS) if c != number)


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        ({6: Phase.UPLOAD}, "client 6, but there are 6 clients"),
        ({-1: Phase.UPLOAD}, "client -1, but there are 6 clients"),
        ({"client 1": Phase.UPLOAD}, "'client 1', but there are 6"),
        ({1.0: Phase.UPLOAD}, r"client 1\.0, but there are 6 clients"),
        ({True: Phase.UPLOAD}, "client True, but there are 6 clients"),
        ({1: "UPLOAD"}, "in which Phase client 1 leaves, got 'UPLOAD'"),
        ([1, 2], r"must map clients to the Phase .* got a list"),
    ],
)
def test_leavers_that_mean_nothing_are_refused_before_the_first_round(run, dropped, message):
    def must_not_run(updates, weights, dropped=None):
        raise AssertionError("aggregated")

    for leaving in (dropped, lambda round_number: dropped):
        with pytest.raises(InvalidParameterError, match=message):
            run(rounds=1, client_fraction=0.5, dropped=leaving, aggregate=must_not_run)


LOST = {1: Phase.UPLOAD}


def lossy_by_global(updates, weights):
    return mean(updates, weights, dropped=LOST_BY_NAME["dropped"], **LOST_BY_NAME)


LOST_BY_NAME = {"dropped": LOST}


def lossy_by_closure():
    dropped = LOST
    return lambda updates, weights: mean(updates, weights, dropped=dropped)


class LossyObject:
    def __init__(self):
        self.mean = partial(mean, dropped=LOST)

    def __call__(self, updates, weights):
        return self.mean(updates, weights)


@pytest.mark.parametrize(
    "aggregate",
    [
        partial(mean, dropped=LOST),
        partial(partial(robust_aggregate, dropped=LOST), rule=median),
        partial(mean, sum_protocol=partial(plain_sum, dropped=LOST)),
        lossy_by_closure(),
        lossy_by_global,
        lambda updates, weights, dropped=LOST: mean(updates, weights, dropped=dropped),
        spoilt(partial(mean, dropped=LOST), 0),
        LossyObject(),
        LossyObject().__call__,
        partial(mean, sum_protocol=partial(encrypted_sum, sessions=Sessions())),
    ],
)
def test_what_counts_rows_is_refused_inside_the_aggregate_of_a_sample(setting, run, aggregate):
    for options in ({"client_fraction": 0.5}, {"client_fraction": 0.5, "poisson_sampling": True}):
        with pytest.raises(InvalidParameterError, match="bound inside the aggregate"):
            run(rounds=1, aggregate=aggregate, **options)
    with pytest.raises(InvalidParameterError, match="bound inside the aggregate"):
        one_round(setting, [0, 2], aggregate=aggregate)


def test_where_everybody_takes_part_rows_are_clients(setting, run):
    for aggregate in (partial(mean, dropped=LOST), lossy_by_closure(), LossyObject()):
        assert run(rounds=1, aggregate=aggregate).rounds[1].included == (0, 2, 3, 4, 5)
    sessions = partial(mean, sum_protocol=partial(encrypted_sum, sessions=Sessions()))
    assert len(run(rounds=2, aggregate=sessions).rounds) == 3
    with pytest.raises(InvalidParameterError, match="dropped is given, and another one is bound"):
        run(rounds=1, aggregate=partial(mean, dropped=LOST), dropped=LOST)
    with pytest.raises(InvalidParameterError, match="takes no argument dropped"):
        run(rounds=1, aggregate=lambda updates, weights: mean(updates, weights), dropped=LOST)


def test_an_aggregate_that_asks_is_told_whose_rows_it_has(setting, run):
    seen = []

    def curious(updates, weights, *, cohort):
        seen.append(cohort)
        return mean(updates, weights)

    one_round(setting, aggregate=curious)
    history = run(rounds=3, client_fraction=0.5, aggregate=curious)
    assert seen == [tuple(COHORT), *(done.cohort for done in history.rounds[1:])]


@pytest.mark.parametrize(
    ("cohort", "message"),
    [
        ([0, 6], "from 0 to 5, got 6"),
        ([-1], "from 0 to 5, got -1"),
        ([1.0], r"from 0 to 5, got 1\.0"),
        (np.array([True, False]), "from 0 to 5, got True"),
        ([2, 3, 2], r"each client once, got \[2, 3, 2\]"),
    ],
)
def test_cohorts_that_mean_nothing_are_refused(setting, cohort, message):
    with pytest.raises(InvalidParameterError, match=message):
        one_round(setting, cohort)


def test_an_aggregate_must_say_which_of_its_rows_it_included(setting):
    def of_another_world(updates, weights):
        return AggregateResult(mean(updates).update, (1, 2, 4, 5), Transcript())

    with pytest.raises(InvalidParameterError, match=r"of the 4 rows .* got \(1, 2, 4, 5\)"):
        one_round(setting, aggregate=of_another_world)


@pytest.mark.parametrize("included", [(0, 0, 1), (1, 1), (0, 1, 2, 3, 3)])
def test_an_aggregate_must_name_each_row_once(setting, included):
    def stutters(updates, weights):
        return AggregateResult(mean(updates).update, included, Transcript())

    with pytest.raises(InvalidParameterError, match="each once and counted from 0, got"):
        one_round(setting, aggregate=stutters)


class TakesCohort:
    def __call__(self, updates, weights, *, cohort):
        raise InvalidUpdateError("the update of client 1 is odd")


def told_by_argument(updates, weights, cohort):
    raise InvalidUpdateError("the update of client 1 is odd")


def told_and_asks_another(updates, weights, cohort):
    return refuses_rows(updates, weights)


def refuses_rows(updates, weights):
    raise InvalidUpdateError("the update of client 1 is odd")


@pytest.mark.parametrize(
    ("aggregate", "client"),
    [
        (told_by_argument, 1),
        (TakesCohort(), 1),
        (partial(told_by_argument), 1),
        (under_attack(told_by_argument, sign_flip, [1]), 1),
        (told_and_asks_another, 2),
        (refuses_rows, 2),
    ],
    ids=range(6),
)
def test_a_client_is_numbered_once(setting, aggregate, client):
    with pytest.raises(InvalidUpdateError, match=f"the update of client {client} is odd"):
        one_round(setting, [1, 2, 3], aggregate=aggregate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mlp"}, r"model must be of class Model .*fltutor\.models.* got str"),
        ({"data": (1, 2)}, r"data must be of class Dataset .*fltutor\.data.* got tuple"),
        ({"aggregate": None}, "aggregate must be a function such as mean, got NoneType"),
        ({"aggregate": "mean"}, "aggregate must be a function such as mean, got str"),
        ({"server_optimizer": "sgd"}, "server_optimizer must be of class ServerOptimizer .* str"),
        ({"server_optimizer": keras.optimizers.SGD()}, "server_optimizer must be of .* got SGD"),
        ({"server_optimizer": 0}, "server_optimizer must be of .* got int"),
        ({"aggregate": lambda updates, weights: updates[0]}, "aggregate returns .* got ndarray"),
        ({"aggregate": lambda updates, weights: None}, "aggregate returns .* got NoneType"),
    ],
)
def test_what_no_round_can_be_made_of_is_refused_by_name(setting, change, message):
    model, digits, parts = setting
    given_all = {"model": model, "data": digits, "parts": parts, "learning_rate": 0.1} | change
    with pytest.raises(InvalidParameterError, match=message):
        run_federated(rounds=1, **given_all)
    state = ServerState(get_params(model), None)
    with pytest.raises(InvalidParameterError, match=message):
        run_round(state, [0, 2], rng=np.random.default_rng(0), **given_all)


@pytest.mark.parametrize("cohort", [5, None, 1.5], ids=repr)
def test_a_cohort_is_a_list(setting, cohort):
    with pytest.raises(InvalidParameterError, match="cohort must be a list of client numbers, got"):
        one_round(setting, cohort)


def test_only_a_model_is_evaluated():
    with pytest.raises(InvalidParameterError, match="model must be of class Model"):
        evaluate("mlp", np.zeros(3), np.zeros((1, 2)), [0])


# --- a late fault -------------------------------------------------------------------------------


def failing_in(round_number, error):
    calls = itertools.count(1)

    def aggregate(updates, weights=None):
        if next(calls) == round_number:
            raise error
        return mean(updates, weights)

    return aggregate


@pytest.mark.parametrize(
    "error",
    [
        InvalidUpdateError("the update of client 0 holds NaN or Inf"),
        TooFewClients(Phase.UPLOAD, [0, 2], 3),
        ProtocolAbort("no upload arrived"),
        BudgetExceededError("over the budget"),
        InvalidParameterError("weights must not be zero in total"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_late_fault_keeps_the_rounds_that_were_done(run, error, capsys):
    history = run(rounds=50, aggregate=failing_in(4, error), progress=True)
    assert history.stopped_by is error
    assert history.stopped_by.__traceback__ is None
    assert same_runs(history, run(rounds=3))
    assert not history.interrupted
    assert history.out_of_budget == isinstance(error, BudgetExceededError)
    reason = f"<History of 3 rounds, accuracy {history.accuracy[-1]:.3f}; stopped by "
    assert repr(history) == f"{reason}{type(error).__name__}: {error}>"
    assert repr(history) in capsys.readouterr().out


def test_a_client_of_a_sample_that_diverges_late_is_named(run):
    cohorts = []

    def third_time_unlucky(updates, weights, cohort):
        cohorts.append(cohort)
        return (spoilt(mean, 1) if len(cohorts) == 3 else mean)(updates, weights)

    history = run(rounds=9, client_fraction=0.5, seed=2, aggregate=third_time_unlucky)
    assert isinstance(history.stopped_by, InvalidUpdateError)
    assert len(history.rounds) == len(cohorts) == 3
    assert cohorts[-1][1] != 1
    assert f"client {cohorts[-1][1]} " in str(history.stopped_by)


def test_a_fault_before_the_first_finished_round_is_raised(run):
    error = InvalidUpdateError("the update of client 0 holds NaN or Inf")
    with pytest.raises(InvalidUpdateError) as raised:
        run(rounds=5, aggregate=failing_in(1, error))
    assert raised.value is error
    assert run(rounds=1).stopped_by is None


@pytest.mark.parametrize("error", [ZeroDivisionError(), TypeError("no"), KeyError("x")], ids=repr)
def test_mistakes_of_a_program_are_never_a_short_run(run, error):
    for round_number in (1, 4):
        with pytest.raises(type(error)):
            run(rounds=5, aggregate=failing_in(round_number, error))


# --- the budget and the sampling of a run -------------------------------------------------------


@pytest.fixture(scope="module")
def twenty(setting):
    """A run of twenty clients that charges each round: noise multiplier 1."""
    model, digits, _ = setting
    parts = partition_iid(digits.y[:400], 20, np.random.default_rng(0))
    private = partial(dp_mean, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=10)

    def run(aggregate=private, **options):
        options = {"rounds": 2, "learning_rate": 0.3, "weigh_by_examples": False} | options
        return run_federated(model, digits, parts, aggregate=aggregate, **options)

    return run


SAMPLED = {
    "everybody": ({}, "none", 1.0),
    "Poisson": ({"client_fraction": 0.3, "poisson_sampling": True}, "poisson", 0.3),
    "every coin falls right": ({"client_fraction": 1.0, "poisson_sampling": True}, "none", 1.0),
    "fixed size": ({"client_fraction": 0.33}, "fixed-size", 7 / 20),
    "a size that is all": ({"client_fraction": 0.99}, "none", 1.0),
}


@pytest.mark.parametrize("bound", [False, True], ids=["given", "bound"])
@pytest.mark.parametrize("sampled", SAMPLED)
def test_the_run_fills_in_what_the_budget_does_not_say(twenty, sampled, bound):
    options, sampling, rate = SAMPLED[sampled]
    adjacency = {"adjacency": "replace-one"} if sampling == "fixed-size" else {}
    budget = PrivacyBudget(1000.0, delta=1e-3, **adjacency)
    if bound:
        aggregate = partial(dp_mean, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=6)
        history = twenty(partial(aggregate, budget=budget), **options)
    else:
        history = twenty(budget=budget, **options)
    expected = epsilon_after(
        2,
        noise_multiplier=1.0,
        delta=1e-3,
        sampling=sampling,
        sampling_rate=rate,
        **adjacency,
    )
    assert history.rounds[-1].spent == budget.spent == expected
    assert budget.rounds == 2
    assert history.demonstration == budget.demonstration == (sampling != "none")


def sampling_named(sampling, rate, adjacency="add-or-remove-one"):
    return {"sampling": sampling, "sampling_rate": rate, "adjacency": adjacency}


@pytest.mark.parametrize("bound", [False, True], ids=["given", "bound"])
@pytest.mark.parametrize(
    ("named", "sampled"),
    [
        (sampling_named("poisson", 0.1), "everybody"),
        (sampling_named("poisson", 0.1), "every coin falls right"),
        (sampling_named("poisson", 0.29), "Poisson"),
        (sampling_named("poisson", 0.33), "fixed size"),
        (sampling_named("fixed-size", 0.33, "replace-one"), "fixed size"),
        (sampling_named("fixed-size", 0.35, "replace-one"), "Poisson"),
        (sampling_named("fixed-size", 0.35, "replace-one"), "a size that is all"),
        (sampling_named("none", 1.0), "fixed size"),
        ({}, "fixed size"),
    ],
    ids=str,
)
def test_a_budget_that_charges_less_than_was_done_is_refused_before_round_1(
    twenty, named, sampled, bound
):
    def must_not_run(updates, weights=None, budget=None):
        raise AssertionError("aggregated")

    budget = PrivacyBudget(1000.0, delta=1e-3, **named)
    options, before = SAMPLED[sampled][0], repr(budget)
    if bound:
        options = options | {"aggregate": partial(must_not_run, budget=budget)}
    else:
        options = options | {"aggregate": must_not_run, "budget": budget}
    with pytest.raises(InvalidParameterError, match="the budget counts"):
        twenty(**options)
    assert (budget.rounds, repr(budget)) == (0, before)


def test_the_example_of_the_report_can_no_longer_be_run(twenty):
    claimed = PrivacyBudget(100.0, delta=1e-3, sampling="poisson", sampling_rate=0.1)
    with pytest.raises(InvalidParameterError, match=r"Poisson sampling with rate 0\.1, and"):
        twenty(rounds=5, budget=claimed)
    honest = PrivacyBudget(100.0, delta=1e-3)
    twenty(rounds=5, budget=honest)
    assert honest.spent.epsilon == pytest.approx(9.73, abs=0.01)


@pytest.mark.parametrize(
    ("named", "sampled"),
    [
        (sampling_named("none", 1.0), "Poisson"),
        (sampling_named("poisson", 0.5), "Poisson"),
        (sampling_named("poisson", 1.0), "Poisson"),
        (sampling_named("none", 1.0, "replace-one"), "fixed size"),
        (sampling_named("fixed-size", 0.5, "replace-one"), "fixed size"),
    ],
    ids=str,
)
def test_a_budget_may_charge_more_than_was_done(twenty, named, sampled):
    budget = PrivacyBudget(1000.0, delta=1e-3, **named)
    history = twenty(budget=budget, **SAMPLED[sampled][0])
    expected = epsilon_after(2, noise_multiplier=1.0, delta=1e-3, **named)
    assert history.rounds[-1].spent == expected
    assert history.demonstration == (named["sampling_rate"] < 1)  # else nothing rests on coins


def test_coins_of_a_seed_are_a_demonstration_and_coins_of_the_system_a_claim(twenty):
    options = {"client_fraction": 0.5, "poisson_sampling": True, "rounds": 3}
    for seed, marked in ((0, True), (7, True), (None, False)):
        budget = PrivacyBudget(1000.0, delta=1e-3)
        history = twenty(seed=seed, budget=budget, **options)
        assert [done.demonstration for done in history.rounds] == [False] + 3 * [marked]
        assert history.demonstration == budget.demonstration == marked
        assert ("demonstration" in repr(history)) == marked
        assert ("demonstration" in repr(budget)) == marked
    everybody = PrivacyBudget(1000.0, delta=1e-3)
    assert not twenty(seed=0, budget=everybody).demonstration  # the noise is the system's


def test_seeded_noise_is_a_demonstration_whoever_tosses_the_coins(twenty):
    budget = PrivacyBudget(1000.0, delta=1e-3)
    noisy = partial(
        dp_mean,
        clip_norm=1.0,
        noise_multiplier=1.0,
        expected_cohort=10,
        rng=np.random.default_rng(0),
    )
    history = twenty(noisy, seed=None, budget=budget, client_fraction=0.5, poisson_sampling=True)
    assert history.demonstration
    assert budget.demonstration


@pytest.mark.parametrize("poisson", [True, False], ids=["Poisson", "fixed size"])
def test_coins_of_the_system_differ_and_fall_as_often_as_they_should(setting, poisson):
    model, digits, _ = setting
    parts = [np.array([0])] * 400
    federated = federated_rounds(
        model,
        digits,
        parts,
        learning_rate=0.1,
        seed=None,
        client_fraction=0.25,
        poisson_sampling=poisson,
    )
    cohorts = [done.cohort for done in itertools.islice(federated, 1, 26)]
    assert len(set(cohorts)) == 25
    assert all(list(cohort) == sorted(set(cohort)) for cohort in cohorts)
    sizes = [len(cohort) for cohort in cohorts]
    if poisson:  # 10,000 coins of probability 1/4: five standard errors are 217
        assert abs(sum(sizes) - 2500) < 217
        assert len(set(sizes)) > 1
    else:
        assert sizes == [100] * 25
    counts = np.bincount(np.concatenate(cohorts), minlength=400)
    assert counts.max() <= 25 * 0.25 + 6 * np.sqrt(25 * 0.25 * 0.75)


def test_a_reused_budget_goes_on_where_it_stood_and_is_raised_when_empty(twenty):
    curve = epsilon_after(3, noise_multiplier=1.0, delta=1e-3).epsilon
    budget = PrivacyBudget(curve, delta=1e-3)
    assert len(twenty(rounds=2, budget=budget).rounds) == 3
    second = twenty(rounds=5, budget=budget)
    assert second.out_of_budget
    assert len(second.rounds) == 2
    assert "BudgetExceededError: round 4" in repr(second)
    with pytest.raises(BudgetExceededError, match="round 4 with noise multiplier 1 would bring"):
        twenty(rounds=5, budget=budget)
    assert budget.rounds == 3


def test_a_reused_budget_keeps_the_sampling_that_it_was_charged_by(twenty):
    poisson = SAMPLED["Poisson"][0]
    budget = PrivacyBudget(1000.0, delta=1e-3)
    twenty(budget=budget, **poisson)
    with pytest.raises(InvalidParameterError, match=r"Poisson sampling with rate 0\.3, and"):
        twenty(budget=budget)
    twenty(budget=budget, **poisson | {"client_fraction": 0.2})  # costs no more
    assert budget.rounds == 4
    assert budget.spent.sampling_rate == 0.3
    unsampled = PrivacyBudget(1000.0, delta=1e-3)
    twenty(budget=unsampled)
    twenty(budget=unsampled, **poisson)
    assert unsampled.spent.sampling == "none"


def adaptive(clip, **options):
    return partial(dp_mean, clip_norm=clip, noise_multiplier=1.0, expected_cohort=10, **options)


def test_an_adaptive_clip_goes_on_only_with_the_budget_that_paid_for_it(twenty):
    clip, budget = AdaptiveClip(1.0), PrivacyBudget(1000.0, delta=1e-3)
    twenty(adaptive(clip), budget=budget)
    twenty(adaptive(clip), budget=budget)
    assert len(clip.path) == budget.rounds + 1 == 5
    for options in ({}, {"budget": PrivacyBudget(1000.0, delta=1e-3)}):
        with pytest.raises(InvalidParameterError, match=r"of 4 rounds, and .* paid for 0"):
            twenty(adaptive(clip), **options)
    with pytest.raises(InvalidParameterError, match="clients of 4 rounds"):
        twenty(lambda updates, weights: adaptive(clip)(updates))
    assert len(clip.path) == 5


def test_a_budget_that_nobody_would_charge_is_refused(twenty):
    budget = PrivacyBudget(1000.0, delta=1e-3)
    for aggregate in (mean, lambda updates, weights: mean(updates)):
        with pytest.raises(InvalidParameterError, match="takes no argument budget"):
            twenty(aggregate, budget=budget)
    with pytest.raises(InvalidParameterError, match="budget is given, and another one is bound"):
        twenty(adaptive(1.0, budget=PrivacyBudget(1.0, delta=1e-3)), budget=budget)
    with pytest.raises(InvalidParameterError, match="budget must be a PrivacyBudget or None, got"):
        twenty(budget=4.0)


COSTS = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_cohort": 10}


def poisson_budget(rate=0.1):
    return PrivacyBudget(100.0, delta=1e-3, sampling="poisson", sampling_rate=rate)


class Server:
    """Keeps a budget where a run finds it, or hides it."""

    def __init__(self, budget, in_list=False):
        self.kept = [budget] if in_list else budget

    def aggregate(self, updates, weights=None):
        budget = self.kept[0] if isinstance(self.kept, list) else self.kept
        return dp_mean(updates, budget=budget, **COSTS)


def in_a_list(budget):
    kept = [budget]
    return lambda updates, weights: dp_mean(updates, budget=kept[0], **COSTS)


def in_a_namespace(budget):
    kept = SimpleNamespace(inner=SimpleNamespace(budget=budget))
    return lambda updates, weights: dp_mean(updates, budget=kept.inner.budget, **COSTS)


def in_a_dataclass(budget):
    kept = dataclasses.make_dataclass("Kept", ["budget"])(budget)
    return lambda updates, weights: dp_mean(updates, budget=kept.budget, **COSTS)


class Slotted:
    __slots__ = ("budget",)

    def __init__(self, budget):
        self.budget = budget

    def aggregate(self, updates, weights):
        return dp_mean(updates, budget=self.budget, **COSTS)


HIDING = {
    "method": lambda budget: Server(budget).aggregate,
    "list of a method": lambda budget: Server(budget, in_list=True).aggregate,
    "list": in_a_list,
    "namespace": in_a_namespace,
    "dataclass": in_a_dataclass,
    "slots": lambda budget: Slotted(budget).aggregate,
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"client_fraction": 0.3, "poisson_sampling": True},
        {"client_fraction": 0.3},
        {"client_fraction": 0.3, "seed": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("hiding", HIDING)
def test_a_budget_that_charges_too_little_is_found_before_round_2_wherever_it_is(
    twenty, hiding, options
):
    budget = poisson_budget()
    with pytest.raises(InvalidParameterError, match="the budget counts"):
        twenty(HIDING[hiding](budget), rounds=10, **options)
    assert budget.rounds <= 1
    honest = PrivacyBudget(100.0, delta=1e-3, adjacency="replace-one")  # hidden or not
    aggregate = HIDING[hiding](honest)
    if not options.get("poisson_sampling"):
        history = twenty(aggregate, rounds=2, **options)
        assert history.rounds[-1].spent == honest.spent
        assert honest.rounds == 2


def test_a_budget_in_a_method_is_matched_before_the_first_round(twenty):
    budget = PrivacyBudget(1000.0, delta=1e-3)
    history = twenty(Server(budget).aggregate, client_fraction=0.3, poisson_sampling=True)
    assert history.rounds[-1].spent.sampling_rate == 0.3
    assert history.demonstration


def test_dropped_in_the_object_of_a_method_is_found(run):
    class Lossy:
        def __init__(self):
            self.dropped = LOST

        def aggregate(self, updates, weights):
            return mean(updates, weights, dropped=self.dropped)

    with pytest.raises(InvalidParameterError, match="bound inside the aggregate"):
        run(rounds=1, client_fraction=0.5, aggregate=Lossy().aggregate)


BUDGET = budget_of_a_notebook = poisson_budget()  # not what cfg.budget below is
dropped = LOST
cfg = SimpleNamespace(dropped=None, budget=None)


def global_in_a_comprehension(updates, weights):
    [only] = [dp_mean(updates, budget=BUDGET, **each) for each in [COSTS]]
    return only


def dropped_in_an_inner_function(updates, weights):
    return (lambda: mean(updates, weights, dropped=dropped))()


def attributes_only(updates, weights):
    return mean(updates, weights, dropped=cfg.dropped)


def test_global_names_are_read_as_the_function_reads_them(twenty, run):
    for aggregate in (
        global_in_a_comprehension,
        lambda updates, weights: dp_mean(updates, budget=budget_of_a_notebook, **COSTS),
    ):
        with pytest.raises(InvalidParameterError, match="the budget counts on Poisson"):
            twenty(aggregate)
    assert BUDGET.rounds == 0
    with pytest.raises(InvalidParameterError, match="bound inside the aggregate"):
        run(rounds=1, client_fraction=0.5, aggregate=dropped_in_an_inner_function)
    assert len(run(rounds=1, client_fraction=0.5, aggregate=attributes_only).rounds) == 2


def test_a_variable_without_a_value_is_no_fault(run):
    def aggregate(updates, weights):
        return mean(updates, weights) if len(updates) else later

    assert len(run(rounds=1, client_fraction=0.5, aggregate=aggregate).rounds) == 2
    later = None


@pytest.mark.parametrize(
    "refused",
    [
        {"batch_size": 10.0},
        {"local_epochs": 0},
        {"learning_rate": np.nan},
        {"proximal_mu": -1.0},
        {"scaffold": True, "proximal_mu": 1.0},
        {"rounds": 0},
        {"rounds": -1},
    ],
    ids=str,
)
def test_a_run_that_charges_nothing_leaves_the_budget_as_it_was(twenty, setting, refused):
    sampled = {"client_fraction": 0.1, "poisson_sampling": True}
    for bound in (False, True):
        budget = PrivacyBudget(100.0, delta=1e-3)
        before = repr(budget)
        giving = {"aggregate": partial(dp_mean, budget=budget, **COSTS)} if bound else {}
        giving = giving or {"budget": budget}
        with suppress(FltutorError):
            twenty(**giving, **sampled | refused)
        assert repr(budget) == before
        by_hand = dp_mean(np.ones((20, 3)), budget=budget, **COSTS)
        assert by_hand.spent == epsilon_after(1, noise_multiplier=1.0, delta=1e-3)
        assert not by_hand.demonstration


def test_between_rounds_that_were_not_charged_a_budget_is_untouched(setting):
    budget = PrivacyBudget(100.0, delta=1e-3)
    model, digits, parts = setting
    rounds = federated_rounds(
        model,
        digits,
        parts,
        learning_rate=0.1,
        weigh_by_examples=False,
        client_fraction=0.5,
        poisson_sampling=True,
        aggregate=partial(dp_mean, **COSTS),
        budget=budget,
    )
    next(rounds)
    assert budget.spent.sampling == "none"
    dp_mean(np.ones((6, 3)), budget=budget, **COSTS)
    assert next(rounds).spent == epsilon_after(2, noise_multiplier=1.0, delta=1e-3)


def test_a_run_on_a_budget_with_seeded_rounds_is_a_demonstration(twenty):
    sampled = {"client_fraction": 0.5, "poisson_sampling": True}
    budget = PrivacyBudget(1000.0, delta=1e-3)
    assert not twenty(seed=None, budget=budget, **sampled).demonstration
    assert twenty(seed=0, budget=budget, **sampled).demonstration
    assert twenty(seed=None, budget=budget, **sampled).demonstration == budget.demonstration
    assert budget.demonstration


def test_distributed_noise_counts_without_sampling_as_it_must(twenty):
    distributed = partial(
        distributed_dp_mean, clip_norm=1.0, noise_multiplier=1.0, expected_cohort=20, threshold=11
    )
    poisson = {"client_fraction": 0.95, "poisson_sampling": True, "rounds": 1}
    named = PrivacyBudget(1000.0, delta=1e-3, sampling="none")
    history = twenty(distributed, budget=named, **poisson)
    assert history.rounds[1].spent.sampling == "none"
    assert not history.demonstration
    with pytest.raises(InvalidParameterError, match="sampling 'none'"):
        twenty(distributed, budget=PrivacyBudget(1000.0, delta=1e-3), **poisson)


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


@pytest.mark.parametrize("rounds", [-1, 1.5, np.nan, np.inf, "3", None, True, 3.0])
def test_rounds_must_be_whole_and_not_negative(run, rounds):
    with pytest.raises(InvalidParameterError, match=f"rounds must be a whole .* got {rounds!r}"):
        run(rounds=rounds)


def test_no_rounds_are_the_untrained_model(run):
    assert len(run(rounds=np.int64(0)).rounds) == 1


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, np.nan, True, "all"])
def test_client_fractions_out_of_range_are_refused(run, fraction):
    with pytest.raises(InvalidParameterError, match=r"client_fraction must be .* most 1, got"):
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


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", list])
def test_labels_of_any_integer_dtype_are_what_they_say(setting, dtype, shape):
    model, digits, _ = setting
    params = get_params(model)
    labels = digits.y_test.reshape(shape)
    labels = labels.tolist() if dtype is list else labels.astype(dtype)
    found = evaluate(model, params, digits.x_test, labels)
    assert found == evaluate(model, params, digits.x_test, digits.y_test)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y - 1,
        lambda y: y + 1,
        lambda y: y.astype(float),
        lambda y: np.eye(10)[y],
        lambda y: y[:-1],
        lambda y: y.astype(str),
        lambda y: np.ma.masked_equal(y, 3),
        lambda y: y[:0],
    ],
    ids=["-1", "10", "floats", "one-hot", "too few", "strings", "masked", "none"],
)
def test_labels_without_a_meaning_are_refused(setting, spoil):
    model, digits, _ = setting
    with pytest.raises(InvalidParameterError, match=r"^[xy] "):
        evaluate(model, get_params(model), digits.x_test, spoil(digits.y_test))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_test_example_that_is_no_number_is_named(setting, value):
    model, digits, parts = setting
    ruined = digits.x_test.copy()
    ruined[17, 5] = ruined[20, 3] = value
    with pytest.raises(InvalidParameterError, match="x holds NaN or Inf in example 17"):
        evaluate(model, get_params(model), ruined, digits.y_test)
    data = type(digits)(digits.x, digits.y, ruined, digits.y_test, "ruined")
    with pytest.raises(InvalidParameterError, match="x_test holds NaN or Inf in example 17"):
        run_federated(model, data, parts, rounds=2, learning_rate=0.1)


def test_weights_as_keras_gives_them_are_refused_with_the_line_to_write(setting, run):
    model, digits, _ = setting
    with pytest.raises(InvalidParameterError, match=r"write start=get_params\(model\)"):
        run(rounds=1, start=model.get_weights())
    with pytest.raises(InvalidParameterError, match=r"write params=get_params\(model\)"):
        evaluate(model, model.get_weights(), digits.x_test, digits.y_test)
    with pytest.raises(InvalidParameterError, match=r"start must .*\(650,\).*\(649,\)"):
        run(rounds=1, start=get_params(model)[:-1])
    same = run(rounds=1, start=get_params(model).astype(np.float64).tolist())
    assert same_runs(same, run(rounds=1))


@pytest.mark.parametrize("seed", [np.random.default_rng(0), -1, 0.5, "0", True, [1, 2]])
def test_seeds_are_whole_numbers_or_none(run, seed):
    with pytest.raises(InvalidParameterError, match="seed must be a whole number"):
        run(rounds=1, seed=seed)


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)], ids=str)
def test_a_round_needs_a_generator(setting, rng):
    with pytest.raises(InvalidParameterError, match=r"write rng=np\.random\.default_rng\(0\)"):
        one_round(setting, rng=rng)


def test_examples_of_any_real_dtype_are_evaluated_and_trained_alike(setting):
    model, digits, parts = setting
    params = get_params(model)
    whole = np.round(16 * digits.x_test)
    expected = evaluate(model, params, whole.astype(np.float32), digits.y_test)
    for dtype in ("float16", "float32", "float64", "uint8", "int64"):
        assert evaluate(model, params, whole.astype(dtype), digits.y_test) == expected
    assert evaluate(model, params, keras.ops.convert_to_tensor(whole), digits.y_test) == expected
    wide = type(digits)(
        digits.x.astype(np.float64), digits.y, digits.x_test.astype(np.float64), digits.y_test, "64"
    )
    assert same_runs(
        run_federated(model, wide, parts, rounds=2, learning_rate=0.1),
        run_federated(model, digits, parts, rounds=2, learning_rate=0.1),
    )


def test_the_start_of_a_run_is_a_copy(setting, run):
    start = get_params(setting[0])
    history = run(rounds=1, start=start)
    start[:] = 7
    assert not (history.rounds[0].params == 7).any()


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
