"""A whole cohort of clients trains in one compiled call.

Each client starts from the server's weights and runs plain SGD on its own
examples. :func:`train_client` says what that means, one client at a time.
:func:`train_cohort` gives the same updates hundreds of times faster: one
client's step is written once, mapped over clients, and compiled by XLA.

XLA compiles once per shape, so shapes must not follow a slider. Clients go in
blocks of ``BLOCK`` and batches are index arrays of ``STEPS`` steps, both padded
with -1; the number of steps and the learning rate are arguments. What is compiled
belongs to an architecture, not to a model.

Two methods against drift change the local step, and share one more compiled loop:
FedProx pulls a client back to where it began, SCAFFOLD adds a correction to its
gradients. :func:`control_changes` is the other half of SCAFFOLD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fltutor.border import as_array, as_generator, as_numbers, as_real, as_whole
from fltutor.data import as_examples, as_labels, as_parts
from fltutor.errors import InvalidParameterError
from fltutor.models import architecture, checked_params, logits, require_known_words
from fltutor.tensorflow_quietly import compile_once, keras, tf

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
        parts: One array of example indices per client, or a mask of its examples.
        batch_size: Examples in a batch; the last one of an epoch may be smaller.
        local_epochs: Passes over the client's data.
        rng: Source of the shuffles.

    Returns:
        One array per client, shape (steps, batch_size), of example indices; -1 pads.

    Raises:
        InvalidParameterError: If a client has no examples, one with a negative number, or one
            twice, if a size is no whole number of at least 1, or ``rng`` is a seed.

    Example:
        >>> local_batches([np.arange(5)], batch_size=2, rng=np.random.default_rng(0))[0]
        array([[ 2,  4],
               [ 3,  0],
               [ 1, -1]], dtype=int32)
    """
    batch_size = as_whole("batch_size", batch_size, least=1)
    local_epochs = as_whole("local_epochs", local_epochs, least=1)
    return shuffled_batches(
        as_parts(parts, None), batch_size, local_epochs, as_generator("rng", rng)
    )


def shuffled_batches(
    parts: Sequence[np.ndarray], batch_size: int, local_epochs: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """What :func:`local_batches` gives, of arguments that are checked already."""
    return [
        np.concatenate([_in_steps(rng.permutation(part), batch_size) for _ in range(local_epochs)])
        for part in parts
    ]


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
        model: A Keras model that returns logits. Its own weights are neither used nor changed.
        params: The server's weights, shape (d,).
        x: Inputs of all examples, shape (N, ...).
        y: Labels, whole numbers from 0 to the model's outputs - 1, shape (N,).
        batches: This client's batches, shape (steps, batch_size), from :func:`local_batches`.
        learning_rate: Step size, finite in float32; 0 takes no step.
        proximal_mu: As in :func:`train_cohort`.
        correction: Added to every gradient, shape (d,), as in :func:`train_cohort`.

    Returns:
        The update: trained weights minus ``params``, float32, shape (d,).

    Raises:
        UnsupportedModelError: As in :func:`train_cohort`.
        InvalidParameterError: As in :func:`train_cohort`.
    """
    learning_rate, proximal_mu = _checked_step(learning_rate, proximal_mu)
    params, x, y, [batches], _ = _checked(model, params, x, y, [batches])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32")
    correction = 0 * params if correction is None else correction
    correction = checked_params(model, correction, "correction")
    weights = tf.constant(params)
    for batch in batches:
        examples = batch[batch >= 0]
        if len(examples) == 0:
            continue
        with tf.GradientTape() as tape:
            tape.watch(weights)
            batch_loss = loss(y[examples], logits(model, weights, x[examples], training=True))
        gradient = tape.gradient(batch_loss, weights)
        pull = proximal_mu * (weights - params)
        weights = weights - learning_rate * (gradient + pull + correction)
    return weights.numpy() - params


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
    with g the gradient of the batch at y; plain SGD without the last two. The loss of a batch
    is the mean cross-entropy of the softmax of the model's outputs, whatever the model was
    compiled with.

    The first call for an architecture, data set and batch size compiles for about a
    second. Other weights, numbers of clients, steps, rates, and mu compile nothing, and
    neither does another model of the same architecture.

    A client's row depends on its own examples alone: nobody else's NaN gets into it.

    Args:
        model: A Keras model that returns logits; its own weights are not used.
        params: The server's weights, shape (d,).
        x: Inputs of all examples, shape (N, ...).
        y: Labels, whole numbers from 0 to the model's outputs - 1, shape (N,).
        batches: One array per client, shape (steps, batch_size), from :func:`local_batches`.
        learning_rate: Step size, finite in float32; 0 takes no step.
        proximal_mu: FedProx: each client minimises its loss plus
            mu / 2 times the squared distance to ``params``. At least 0; 0 is FedAvg. A step
            is stable only while ``learning_rate * proximal_mu`` is below 2.
        corrections: SCAFFOLD: what to add to each client's gradients, c - c_i in row i,
            shape (n, d); None adds nothing.

    Returns:
        The updates, float32, shape (n, d): row i is what client i would send.

    Raises:
        UnsupportedModelError: If :func:`fltutor.models.require_trainable_by_sgd` refuses the
            model: state or randomness of its own, probabilities, losses of its own, ...
        InvalidParameterError: If a batch names an example that does not exist, a label is none
            of the model's, sizes do not fit together, or a number is out of range.

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
    learning_rate, proximal_mu = _checked_step(learning_rate, proximal_mu)
    params, x, y, batches, digest = _checked(model, params, x, y, batches)
    if corrections is not None:
        corrections = _as_rows("corrections", corrections, (len(batches), len(params)))
    rate = tf.constant(learning_rate, tf.float32)
    if proximal_mu == 0 and corrections is None:
        loop, terms = _train, (rate,)
    else:
        loop, terms = _train_with_terms, (rate, tf.constant(proximal_mu, tf.float32), params)
        if corrections is None:
            corrections = np.zeros((len(batches), len(params)), np.float32)
    compiled = _Compiled(loop, model, digest)
    return _in_blocks(compiled, params, x, y, batches, terms, corrections) - params


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
    updates = as_numbers("updates", updates, finite=False)
    control = as_numbers("control", control, finite=False)
    if updates.ndim != 2 or control.shape != updates.shape[1:]:
        raise InvalidParameterError(
            f"updates and control must have shapes (n, d) and (d,), got {updates.shape} and "
            f"{control.shape}"
        )
    num_steps = as_numbers("num_steps", num_steps)
    if num_steps.shape != (len(updates),) or not np.all(num_steps > 0):
        raise InvalidParameterError(
            f"num_steps must hold a positive number for each of {len(updates)} clients, "
            f"got {num_steps}"
        )
    learning_rate = as_real("learning_rate", learning_rate, above=0)
    lengths = learning_rate * np.reshape(num_steps, (-1, 1)).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the aggregate names who diverged
        changes = -updates / lengths - control
        return changes.astype(np.result_type(updates, np.float32), copy=False)


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
        y: Labels, whole numbers from 0 to the model's outputs - 1, shape (N,).
        parts: One array of example indices per client, or a mask of its examples.

    Returns:
        Shape (n, d), float32: row i is the gradient of client i. It depends on this client's
        examples alone.

    Raises:
        UnsupportedModelError: As in :func:`train_cohort`.
        InvalidParameterError: If a client has no examples, names one that does not exist, or
            one twice; else as in :func:`train_cohort`.
    """
    x = as_examples("x", x)
    parts = as_parts(parts, len(x))
    batches = [_in_steps(part, GRADIENT_BATCH) for part in parts]
    params, x, y, batches, digest = _checked(model, params, x, y, batches)
    compiled = _Compiled(_add_gradients, model, digest)
    sums = _in_blocks(compiled, np.zeros_like(params), x, y, batches, (params,))
    return sums / np.array([[len(part)] for part in parts], dtype=np.float32)


def _checked_step(learning_rate: float, proximal_mu: float) -> tuple[float, float]:
    """Both as float32 can hold them; a negative rate would climb."""
    most = float(np.finfo(np.float32).max)
    return (
        as_real("learning_rate", learning_rate, least=0, most=most),
        as_real("proximal_mu", proximal_mu, least=0, most=most),
    )


def _checked(
    model: keras.Model, params: np.ndarray, x: np.ndarray, y: np.ndarray, batches: Sequence
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray], bytes]:
    """Everything that training needs, checked, and the digest of what the model computes."""
    x = as_examples("x", x)
    if x.dtype.kind == "f":
        x = x.astype(np.float32, copy=False)
    batches = _as_batches(batches, len(x))
    what = architecture(model, x, batches[0].shape[1] if batches else 1)
    y = as_labels("y", y, num_classes=what.num_outputs, num_examples=len(x))
    if what.num_words is not None and batches:
        used = np.unique(np.concatenate([batch.ravel() for batch in batches]))
        require_known_words(what.num_words, x, used[used >= 0])
    return checked_params(model, params), x, y, batches, what.digest


def _as_batches(batches: Sequence, num_examples: int) -> list[np.ndarray]:
    """Batches of all clients, each an array of whole numbers, shape (steps, batch_size)."""
    if not isinstance(batches, Iterable):
        raise InvalidParameterError(
            f"batches must be a list with the batches of each client, got {type(batches).__name__}"
        )
    checked = [as_array(f"the batches of client {c}", batch) for c, batch in enumerate(batches)]
    for client, batch in enumerate(checked):
        if batch.ndim != 2 or batch.shape[1] != checked[0].shape[1]:
            raise InvalidParameterError(
                f"the batches of client {client} have shape {batch.shape}, needed (steps, "
                "batch_size) with one batch_size for all clients"
            )
        if batch.dtype.kind not in "iu":
            raise InvalidParameterError(
                f"the batches of client {client} must hold whole numbers, got dtype {batch.dtype}"
            )
        if batch.size == 0 or not 0 <= batch.max() < num_examples or batch.min() < -1:
            raise InvalidParameterError(
                f"the batches of client {client} must name examples 0 to {num_examples - 1}, and "
                "some"
            )
    return checked


def _as_rows(name: str, rows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows = as_array(name, rows)
    if rows.shape != shape or rows.dtype.kind not in "fiu":
        raise InvalidParameterError(
            f"{name} must have shape {shape}, a row of real numbers per client, got {rows.shape} "
            f"and dtype {rows.dtype}"
        )
    with np.errstate(over="ignore"):
        beyond = np.isfinite(rows) & ~np.isfinite(rows.astype(np.float32))
    if beyond.any():
        client, coordinate = np.argwhere(beyond)[0]
        raise InvalidParameterError(
            f"{name} must be finite in float32, got {rows[client, coordinate]} for client {client}"
        )
    return rows


class _Compiled(NamedTuple):
    """A loop over steps for a model, and what tells it from the same loop for another model."""

    loop: Callable
    model: keras.Model
    digest: bytes

    def __call__(self, *arguments: tf.Tensor) -> tf.Tensor:
        key, loop = (self.loop, self.digest), partial(self.loop, self.model)
        return compile_once(key, loop, *arguments)(*arguments)


def _in_blocks(
    compiled: Callable,
    start: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    batches: list[np.ndarray],
    terms: Sequence[Any],
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Run a compiled loop over blocks of clients and chunks of steps of one fixed shape.

    ``compiled(states, x, y, indices, steps, *terms)`` takes and returns the state of ``BLOCK``
    clients, (BLOCK, d); each client's state begins as ``start``, (d,). With ``rows``,
    (n, d), it is given the block's rows too, as its last argument.
    """
    fixed = [tf.convert_to_tensor(term) for term in terms]
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    results = np.empty((len(batches), len(start)), dtype=np.float32)
    longest_first = sorted(range(len(batches)), key=lambda client: -len(batches[client]))
    for first in range(0, len(batches), BLOCK):
        block = longest_first[first : first + BLOCK]
        states = tf.constant(np.tile(start, (BLOCK, 1)))
        own = []
        if rows is not None:
            padded = np.zeros((BLOCK, len(start)), np.float32)
            padded[: len(block)] = rows[block]
            own = [tf.constant(padded)]
        num_steps = len(batches[block[0]])
        for done in range(0, num_steps, STEPS):
            steps = min(STEPS, num_steps - done)
            indices = np.full((STEPS, BLOCK, batches[0].shape[1]), -1, dtype=np.int32)
            for row, client in enumerate(block):
                chunk = batches[client][done : done + steps]
                indices[: len(chunk), row] = chunk
            indices, steps = tf.constant(indices), tf.constant(steps)
            states = compiled(states, x, y, indices, steps, *fixed, *own)
        results[block] = states.numpy()[: len(block)]
    return results


def _train(model, states, x, y, indices, steps, learning_rate):
    """Plain SGD of a block of clients."""

    def step(params, batch):
        gradient, count = _summed_gradient(model, params, x, y, batch)
        return tf.where(count > 0, params - learning_rate * gradient / count, params)

    return _over_steps_and_clients(model, step, states, indices, steps)


def _train_with_terms(model, states, x, y, indices, steps, learning_rate, mu, start, corrections):
    """SGD of a block of clients with a proximal pull and a correction in every step."""

    def step(params, batch, correction):
        gradient, count = _summed_gradient(model, params, x, y, batch)
        direction = gradient / count + mu * (params - start) + correction
        return tf.where(count > 0, params - learning_rate * direction, params)

    return _over_steps_and_clients(model, step, states, indices, steps, corrections)


def _add_gradients(model, states, x, y, indices, steps, point):
    """Sums of the gradients at one point, of a block of clients."""

    def step(total, batch):
        gradient, count = _summed_gradient(model, point, x, y, batch)
        return tf.where(count > 0, total + gradient, total)

    return _over_steps_and_clients(model, step, states, indices, steps)


def _summed_gradient(model, params, x, y, batch):
    """Gradient of the summed loss over one client's batch, and how many examples it holds.

    A padded place repeats an example of the same batch, and its loss is left out. So it can
    bring in nothing that the batch does not hold: no example of somebody else, and no zeros,
    by which a model may divide. A batch of padding alone stands for no step: whoever calls
    must leave its gradient out.
    """
    real = batch >= 0
    batch = tf.maximum(tf.where(real, batch, tf.reduce_max(batch)), 0)
    with tf.GradientTape() as tape:
        tape.watch(params)
        outputs = logits(model, params, tf.gather(x, batch), training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, batch), outputs)
        loss = tf.reduce_sum(tf.where(real, losses, 0.0))
    return tape.gradient(loss, params), tf.reduce_sum(tf.cast(real, tf.float32))


def _over_steps_and_clients(model, step, states, indices, steps, *own):
    """Apply ``step(state, batch, *own)`` to every client, ``steps`` times."""
    mappable = tuple(getattr(keras.layers, name) for name in _MAPPABLE)
    all_mappable = all(isinstance(layer, mappable) for layer in model.layers)
    over_clients = tf.vectorized_map if all_mappable else _one_by_one
    return tf.while_loop(
        lambda i, states: i < steps,
        lambda i, states: (
            i + 1,
            over_clients(lambda given: step(*given), (states, indices[i], *own)),
        ),
        (0, states),
    )[1]


def _one_by_one(step: Callable, given: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Map over clients with a loop, for layers without a batched form; skips padding."""

    def unless_padding(own):
        return tf.cond(tf.reduce_any(own[1] >= 0), lambda: step(own), lambda: own[0])

    return tf.map_fn(unless_padding, given, fn_output_signature=tf.float32)
