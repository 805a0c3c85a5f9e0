"""A federated round on the digits against Keras ``fit`` per client and compiled client loops.

FedAvg, ten clients with even shares, one local epoch, batches of ten, in steady
state. Every way trains on the same batches in the same order and must reach the
same model before it is timed. Each ratio is the other's time divided by ours;
they take turns in one run and the medians are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from fltutor.aggregation import aggregate_models
from fltutor.clients import local_batches
from fltutor.data import load_digits, partition_iid
from fltutor.models import cnn, get_params, mlp, params_spec, set_params
from fltutor.simulation import ServerState, run_round
from fltutor.tensorflow_quietly import keras, tf

NUM_CLIENTS, BATCH, RATE = 10, 10, 0.1
DIGITS = load_digits()
PARTS = partition_iid(DIGITS.y, NUM_CLIENTS, np.random.default_rng(0))
WEIGHTS = [len(part) for part in PARTS]

Round = Callable[[np.ndarray], np.ndarray]  # from weights to weights, both (d,)


def batches() -> list[np.ndarray]:
    """The batches of every client, the same in each round."""
    return local_batches(PARTS, batch_size=BATCH, rng=np.random.default_rng(1))


def ours(model: keras.Model) -> Round:
    """One round of this package: shuffle, train the cohort, average, step."""

    def one_round(params: np.ndarray) -> np.ndarray:
        state, _ = run_round(
            ServerState(params, None),
            range(NUM_CLIENTS),
            model=model,
            data=DIGITS,
            parts=PARTS,
            learning_rate=RATE,
            rng=np.random.default_rng(1),
            batch_size=BATCH,
        )
        return state.params

    return one_round


def keras_fit(model: keras.Model) -> Round:
    """Client by client: set the weights, ``fit`` for an epoch, collect the weights."""
    model.compile(
        optimizer=keras.optimizers.SGD(RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    orders = [batch[batch >= 0] for batch in batches()]  # shuffled beforehand, so fit need not

    def one_round(params: np.ndarray) -> np.ndarray:
        trained = []
        for order in orders:
            set_params(model, params)
            model.fit(DIGITS.x[order], DIGITS.y[order], BATCH, shuffle=False, verbose=0)
            trained.append(model.get_weights())
        return np.concatenate([t.ravel() for t in aggregate_models(trained, WEIGHTS)])

    return one_round


def compiled_client(model: keras.Model, *, xla: bool) -> Round:
    """One client's epoch as one compiled call, in a Python loop over clients."""
    shapes = params_spec(model).shapes
    sizes = [int(np.prod(shape)) for shape in shapes]
    x, y = tf.constant(DIGITS.x), tf.constant(DIGITS.y)

    @tf.function(jit_compile=xla, reduce_retracing=True)
    def train(params, batches):
        weights = [
            tf.reshape(part, shape)
            for part, shape in zip(tf.split(params, sizes), shapes, strict=True)
        ]
        for batch in batches:
            real = tf.cast(batch >= 0, tf.float32)
            batch = tf.maximum(batch, 0)
            with tf.GradientTape() as tape:
                tape.watch(weights)
                logits, _ = model.stateless_call(weights, [], tf.gather(x, batch), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, batch), logits)
                loss = tf.reduce_sum(real * losses) / tf.reduce_sum(real)
            gradients = tape.gradient(loss, weights)
            weights = [w - RATE * g for w, g in zip(weights, gradients, strict=True)]
        return tf.concat([tf.reshape(w, [-1]) for w in weights], 0)

    def one_round(params: np.ndarray) -> np.ndarray:
        start = tf.constant(params)
        trained = [[train(start, tf.constant(batch)).numpy()] for batch in batches()]
        return aggregate_models(trained, WEIGHTS)[0]

    return one_round


def medians(params: np.ndarray, turns: dict[str, tuple[Round, int]]) -> dict[str, float]:
    """Median seconds of a round, each way taking its number of rounds in every one of 5 turns."""
    seconds = {name: [] for name in turns}
    for _ in range(5):
        for name, (one_round, repeats) in turns.items():
            for _ in range(repeats):
                start = time.perf_counter()
                one_round(params)
                seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def measure(build: Callable[[], keras.Model]) -> dict[str, float]:
    """How many times our round each other way takes."""
    model = build()
    params = get_params(model)
    ways = {
        "ours": (ours(model), 15),
        "Keras fit per client": (keras_fit(build()), 1),
        "compiled client": (compiled_client(model, xla=False), 5),
        "XLA-compiled client": (compiled_client(model, xla=True), 5),
    }
    expected = ways["ours"][0](params)
    for name, (one_round, _) in ways.items():  # the first call compiles, too
        np.testing.assert_allclose(one_round(params), expected, atol=1e-4, err_msg=name)
    taken = medians(params, ways)
    return {name: seconds / taken["ours"] for name, seconds in taken.items() if name != "ours"}


def run() -> list[tuple[str, float, str]]:
    """Return one row per measurement: what, ratio, target."""
    dense, convolutional = measure(mlp), measure(cnn)
    targets = {
        "Keras fit per client": ">= 150",
        "compiled client": ">= 3",
        "XLA-compiled client": ">= 2",
    }
    return [
        (f"round, digits, 64-32-10, {NUM_CLIENTS} clients, against {name}", ratio, targets[name])
        for name, ratio in dense.items()
    ] + [
        (f"round, digits, small CNN, {NUM_CLIENTS} clients, against {name}", ratio, "(information)")
        for name, ratio in convolutional.items()
    ]


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:76} {ratio:7.1f}  {target}")
