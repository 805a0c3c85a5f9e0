"""A whole cohort of clients trains in one compiled call.

Each client starts from the server's weights and runs plain SGD on its own
examples. :func:`train_client` says what that means, one client at a time.
:func:`train_cohort` gives the same updates hundreds of times faster: one
client's step is written once, mapped over clients, and compiled by XLA.

XLA compiles once per shape, so shapes must not follow a slider. Clients go in
blocks of ``BLOCK`` and batches are index arrays of ``STEPS`` steps, both padded
with -1; the number of steps and the learning rate are arguments.

Two methods against drift change the local step, and share one more compiled loop:
FedProx pulls a client back to where it began, SCAFFOLD adds a correction to its
gradients. :func:`control_changes` is the other half of SCAFFOLD.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from fltutor.errors import InvalidParameterError
from fltutor.models import get_params, params_spec, require_trainable_by_sgd, set_params
from fltutor.tensorflow_quietly import keras, tf, xla
from fltutor.vectors import unflatten

BLOCK = 16
STEPS = 64
GRADIENT_BATCH = 32

_MAPPABLE = (
    "InputLayer",
    "Dense",
    "Flatten",
    "Reshape",
    "Rescaling",
    "Activation",
    "ReLU",
    "LeakyReLU",
)
"""Layers that become one batched matrix product when mapped over clients."""


def local_batches(
    parts: Sequence[np.ndarray],
    *,
    batch_size: int,
    local_epochs: int = 1,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Shuffle each client's examples into batches, anew for every epoch.

    Args:
        parts: One array of example indices per client.
        batch_size: Examples in a batch; the last one of an epoch may be smaller.
        local_epochs: Passes over the client's data.
        rng: Source of the shuffles.

    Returns:
        One array per client, shape (steps, batch_size), of example indices; -1 pads.

    Raises:
        InvalidParameterError: If a client has no examples or one with a negative number,
            or a size is not positive.

    Example:
        >>> local_batches([np.arange(5)], batch_size=2, rng=np.random.default_rng(0))[0]
        array([[ 2,  4],
               [ 3,  0],
               [ 1, -1]], dtype=int32)
    """
    if batch_size < 1 or local_epochs < 1:
        raise InvalidParameterError(
            f"batch_size and local_epochs must be at least 1, got {batch_size}, {local_epochs}"
        )
    _require_examples(parts)
    return [
        np.concatenate([_in_steps(rng.permutation(part), batch_size) for _ in range(local_epochs)])
        for part in parts
    ]


def _require_examples(parts: Sequence[np.ndarray]) -> None:
    for client, part in enumerate(parts):
        if len(part) == 0:
            raise InvalidParameterError(f"client {client} has no examples to train on")
        if np.min(part) < 0:  # -1 would pass for padding
            raise InvalidParameterError(
                f"client {client} names example {np.min(part)}; numbers start at 0"
            )


def _in_steps(examples: np.ndarray, batch_size: int) -> np.ndarray:
    """Cut indices into rows of ``batch_size``, the last one padded with -1."""
    steps = -(-len(examples) // batch_size)
    padded = np.full(steps * batch_size, -1, dtype=np.int32)
    padded[: len(examples)] = examples
    return padded.reshape(steps, batch_size)


def train_client(
    model: keras.Model,
    params: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    batches: np.ndarray,
    learning_rate: float,
    *,
    proximal_mu: float = 0.0,
    correction: np.ndarray | None = None,
) -> np.ndarray:
    """Train one client with SGD: the readable reference for :func:`train_cohort`.

    Args:
        model: A Keras model that returns logits. Its weights are left as they were.
        params: The server's weights, shape (d,).
        x: Inputs of all examples, shape (N, ...).
        y: Labels, shape (N,).
        batches: This client's batches, shape (steps, batch_size), from :func:`local_batches`.
        learning_rate: Step size.
        proximal_mu: As in :func:`train_cohort`.
        correction: Added to every gradient, shape (d,), as in :func:`train_cohort`.

    Returns:
        The update: trained weights minus ``params``, shape (d,).
    """
    require_trainable_by_sgd(model)
    _require_local_step(learning_rate, proximal_mu)
    before, spec = get_params(model), params_spec(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32")
    start = unflatten(params, spec)
    added = unflatten(np.zeros_like(params) if correction is None else correction, spec)
    try:
        set_params(model, params)
        for batch in batches:
            examples = batch[batch >= 0]
            with tf.GradientTape() as tape:
                batch_loss = loss(y[examples], model(x[examples], training=True))
            gradients = tape.gradient(batch_loss, model.trainable_variables)
            for variable, gradient, begun, term in zip(
                model.trainable_variables, gradients, start, added, strict=True
            ):
                pull = proximal_mu * (variable - begun)
                variable.assign_sub(learning_rate * (gradient + pull + term))
        return get_params(model) - params
    finally:
        set_params(model, before)


def train_cohort(
    model: keras.Model,
    params: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    batches: Sequence[np.ndarray],
    learning_rate: float,
    *,
    proximal_mu: float = 0.0,
    corrections: np.ndarray | None = None,
) -> np.ndarray:
    """Train every client of a cohort at once, each from ``params`` on its own batches.

    A local step is y <- y - learning_rate (g + proximal_mu (y - params) + correction),
    with g the gradient of the batch at y; plain SGD without the last two.

    The first call for a model, data set and batch size compiles for about a
    second. Other numbers of clients, steps, rates, and mu compile nothing.

    Args:
        model: A Keras model that returns logits; its own weights are not used.
        params: The server's weights, shape (d,).
        x: Inputs of all examples, shape (N, ...).
        y: Labels, shape (N,).
        batches: One array per client, shape (steps, batch_size), from :func:`local_batches`.
        learning_rate: Step size.
        proximal_mu: FedProx: each client minimises its loss plus
            mu / 2 times the squared distance to ``params``. At least 0; 0 is FedAvg. A step
            is stable only while ``learning_rate * proximal_mu`` is below 2.
        corrections: SCAFFOLD: what to add to each client's gradients, c - c_i in row i,
            shape (n, d); None adds nothing.

    Returns:
        The updates, float32, shape (n, d): row i is what client i would send.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidParameterError: If a batch names an example that does not exist, or sizes
            do not fit together, or ``proximal_mu`` is negative or not finite.

    Example:
        >>> from fltutor.data import load_digits
        >>> from fltutor.models import get_params, mlp
        >>> digits, model = load_digits(), mlp()
        >>> batches = local_batches(
        ...     [np.arange(20), np.arange(20, 50)], batch_size=10, rng=np.random.default_rng(0)
        ... )
        >>> train_cohort(model, get_params(model), digits.x, digits.y, batches, 0.1).shape
        (2, 2410)

    Reference:
        FedProx: Li et al., MLSys 2020, equation 2. https://arxiv.org/abs/1812.06127
        SCAFFOLD: Karimireddy et al., ICML 2020, equation 3. https://arxiv.org/abs/1910.06378
    """
    _require_local_step(learning_rate, proximal_mu)
    params = _checked_params(model, params)
    rate = tf.constant(learning_rate, tf.float32)
    if proximal_mu == 0 and corrections is None:
        train, _ = _compiled(model)
        trained = _in_blocks(batches, x, y, params, lambda *args: train(*args, rate))
        return trained - params
    if corrections is None:
        corrections = np.zeros((len(batches), len(params)), np.float32)
    elif np.shape(corrections) != (len(batches), len(params)):
        raise InvalidParameterError(
            f"corrections must have shape {(len(batches), len(params))}, a row per client, "
            f"got {np.shape(corrections)}"
        )
    train = _compiled_with_terms(model)
    start, mu = tf.constant(params), tf.constant(proximal_mu, tf.float32)
    trained = _in_blocks(
        batches, x, y, params, lambda *args: train(*args, rate, mu, start), corrections
    )
    return trained - params


def control_changes(
    updates: np.ndarray, control: np.ndarray, num_steps: Sequence[int], learning_rate: float
) -> np.ndarray:
    """Say how each client's control variate changes after a SCAFFOLD round.

    A control variate c_i remembers which way client i pulls; c is their mean. The step
    that client i took, divided by its length, *is* its mean gradient plus c - c_i. So
    its new c_i is that mean gradient, without another look at the data (option II).

    Args:
        updates: What the clients' training gave, y_i - x, shape (n, d).
        control: The server's control variate c, shape (d,).
        num_steps: How many local steps each client took.
        learning_rate: Step size of the clients' SGD, positive.

    Returns:
        Row i is the change of c_i: -c + (x - y_i) / (num_steps_i * learning_rate), (n, d).

    Raises:
        InvalidParameterError: If a number of steps or the rate is not positive and finite,
            or if shapes do not fit together.

    Example:
        >>> control_changes(np.array([[-2.0, 0.4]]), np.array([1.0, 0.0]), [4], 0.1)
        array([[ 4., -1.]])

    Reference:
        Karimireddy et al., ICML 2020, Algorithm 1 and equation 4, option II.
        https://arxiv.org/abs/1910.06378
    """
    updates, control = np.asarray(updates), np.asarray(control)
    if updates.ndim != 2 or control.shape != updates.shape[1:]:
        raise InvalidParameterError(
            f"updates and control must have shapes (n, d) and (d,), got {updates.shape} and "
            f"{control.shape}"
        )
    if np.shape(num_steps) != (len(updates),) or not np.all(np.asarray(num_steps) > 0):
        raise InvalidParameterError(
            f"num_steps must hold a positive number for each of {len(updates)} clients, "
            f"got {num_steps}"
        )
    if not 0 < learning_rate < np.inf:
        raise InvalidParameterError(
            f"learning_rate must be positive and finite, got {learning_rate}"
        )
    lengths = learning_rate * np.reshape(num_steps, (-1, 1)).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the aggregate names who diverged
        return (-updates / lengths - control).astype(updates.dtype)


def cohort_gradients(
    model: keras.Model,
    params: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    parts: Sequence[np.ndarray],
) -> np.ndarray:
    """Gradient of each client's mean loss at ``params``, over all its examples.

    Args:
        model: A Keras model that returns logits; its own weights are not used.
        params: Where to take the gradient, shape (d,).
        x: Inputs of all examples, shape (N, ...).
        y: Labels, shape (N,).
        parts: One array of example indices per client.

    Returns:
        Shape (n, d), float32: row i is the gradient of client i.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidParameterError: If a client has no examples or names one that does not exist.
    """
    _require_examples(parts)
    params = _checked_params(model, params)
    _, add_gradients = _compiled(model)
    point = tf.constant(params)
    batches = [_in_steps(part, GRADIENT_BATCH) for part in parts]
    sums = _in_blocks(
        batches, x, y, np.zeros_like(params), lambda *args: add_gradients(*args, point)
    )
    return sums / np.array([[len(part)] for part in parts], dtype=np.float32)


def _require_local_step(learning_rate: float, proximal_mu: float) -> None:
    if not np.isfinite(learning_rate):
        raise InvalidParameterError(f"learning_rate must be finite, got {learning_rate}")
    if not 0 <= proximal_mu < np.inf:
        raise InvalidParameterError(f"proximal_mu must be at least 0 and finite, got {proximal_mu}")


def _checked_params(model: keras.Model, params: np.ndarray) -> np.ndarray:
    """Return the weights as float32, (d,), if the model still is one that can be trained."""
    require_trainable_by_sgd(model)
    params, size = np.asarray(params, dtype=np.float32), params_spec(model).size
    if params.shape != (size,):
        raise InvalidParameterError(f"params must have shape ({size},), got {params.shape}")
    return params


def _in_blocks(
    batches: Sequence[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    start: np.ndarray,
    run: Callable,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Run a compiled loop over blocks of clients and chunks of steps of one fixed shape.

    ``run(states, x, y, indices, steps)`` takes and returns the state of ``BLOCK``
    clients, (BLOCK, d); each client's state begins as ``start``, (d,). With ``rows``,
    (n, d), it is given the block's rows too, as its last argument.
    """
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    if len(x) != len(y):
        raise InvalidParameterError(f"x and y must be equally long, got {len(x)} and {len(y)}")
    for client, batch in enumerate(batches):
        if batch.ndim != 2 or batch.shape[1] != batches[0].shape[1]:
            raise InvalidParameterError(
                f"the batches of client {client} have shape {batch.shape}, needed (steps, "
                "batch_size) with one batch_size for all clients"
            )
        if batch.size == 0 or not 0 <= batch.max() < len(x) or batch.min() < -1:
            raise InvalidParameterError(
                f"the batches of client {client} must name examples 0 to {len(x) - 1}, and some"
            )
    results = np.empty((len(batches), len(start)), dtype=np.float32)
    longest_first = sorted(range(len(batches)), key=lambda client: -len(batches[client]))
    for first in range(0, len(batches), BLOCK):
        block = longest_first[first : first + BLOCK]
        states = tf.constant(np.tile(start, (BLOCK, 1)))
        own = ()
        if rows is not None:
            padded = np.zeros((BLOCK, len(start)), np.float32)
            padded[: len(block)] = np.asarray(rows)[block]
            own = (tf.constant(padded),)
        num_steps = len(batches[block[0]])
        for done in range(0, num_steps, STEPS):
            steps = min(STEPS, num_steps - done)
            indices = np.full((STEPS, BLOCK, batches[0].shape[1]), -1, dtype=np.int32)
            for row, client in enumerate(block):
                chunk = batches[client][done : done + steps]
                indices[: len(chunk), row] = chunk
            states = run(states, x, y, indices, tf.constant(steps), *own)
        results[block] = states.numpy()[: len(block)]
    return results


@lru_cache(maxsize=16)
def _compiled(model: keras.Model) -> tuple[Callable, Callable]:
    """Write one client's step once, map it over a block of clients, and compile it."""
    summed_gradient, loop = _mapped(model)

    @xla
    def train(states, x, y, indices, steps, learning_rate):
        def step(params, batch):
            gradient, count = summed_gradient(params, x, y, batch)
            return params - learning_rate * gradient / tf.maximum(count, 1.0)

        return loop(step, states, indices, steps)

    @xla
    def add_gradients(states, x, y, indices, steps, point):
        def step(total, batch):
            return total + summed_gradient(point, x, y, batch)[0]

        return loop(step, states, indices, steps)

    return train, add_gradients


@lru_cache(maxsize=16)
def _compiled_with_terms(model: keras.Model) -> Callable:
    """The loop of :func:`_compiled` with a proximal pull and a correction in every step."""
    summed_gradient, loop = _mapped(model)

    @xla
    def train(states, x, y, indices, steps, corrections, learning_rate, mu, start):
        def step(params, batch, correction):
            gradient, count = summed_gradient(params, x, y, batch)
            direction = gradient / tf.maximum(count, 1.0) + mu * (params - start) + correction
            return params - tf.minimum(count, 1.0) * learning_rate * direction  # padding: no step

        return loop(step, states, indices, steps, corrections)

    return train


def _mapped(model: keras.Model) -> tuple[Callable, Callable]:
    """The gradient of one client's batch, and a loop over steps that is mapped over clients."""
    spec = params_spec(model)
    sizes = [int(np.prod(shape)) for shape in spec.shapes]
    mappable = tuple(getattr(keras.layers, name) for name in _MAPPABLE)
    all_mappable = all(isinstance(layer, mappable) for layer in model.layers)
    over_clients = tf.vectorized_map if all_mappable else _one_by_one

    def summed_gradient(params, x, y, batch):
        """Gradient of the summed loss over one batch, and how many examples it holds."""
        real = tf.cast(batch >= 0, tf.float32)
        batch = tf.maximum(batch, 0)
        weights = [
            tf.reshape(part, shape)
            for part, shape in zip(tf.split(params, sizes), spec.shapes, strict=True)
        ]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, _ = model.stateless_call(weights, [], tf.gather(x, batch), training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, batch), logits)
            loss = tf.reduce_sum(real * losses)
        gradients = tape.gradient(loss, weights)
        return tf.concat([tf.reshape(g, [-1]) for g in gradients], 0), tf.reduce_sum(real)

    def loop(step, states, indices, steps, *own):
        """Apply ``step(state, batch, *own)`` to every client, ``steps`` times."""
        return tf.while_loop(
            lambda i, states: i < steps,
            lambda i, states: (
                i + 1,
                over_clients(lambda given: step(*given), (states, indices[i], *own)),
            ),
            (0, states),
        )[1]

    return summed_gradient, loop


def _one_by_one(step: Callable, given: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Map over clients with a loop, for layers without a batched form; skips padding."""

    def unless_padding(own):
        return tf.cond(tf.reduce_any(own[1] >= 0), lambda: step(own), lambda: own[0])

    return tf.map_fn(unless_padding, given, fn_output_signature=tf.float32)
