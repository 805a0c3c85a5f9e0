"""Small Keras models, the step between a model and its flat vector, and what can be trained.

A model is judged by what it does. It is called on a few of the examples it is to learn from,
and what the call reads, changes and returns says whether local training would be plain SGD on
its weights. A model that was found fit is asked again once something in it has changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fltutor.border import as_array, as_whole, shown
from fltutor.data import as_examples
from fltutor.errors import InvalidParameterError, UnsupportedModelError
from fltutor.fingerprints import Fingerprint, Notes, graph_digest
from fltutor.tensorflow_quietly import keras, tf
from fltutor.vectors import VectorSpec, flatten, unflatten

_FEW = 4  # examples on which a model is judged
_HARMLESS = {"Assert", "Print", "PrintV2"}  # operations that act, and change no result


def mlp(
    num_features: int = 64,
    num_classes: int = 10,
    *,
    hidden: Sequence[int] = (32,),
    seed: int = 0,
) -> keras.Model:
    """Build a network of dense layers that returns logits.

    Args:
        num_features: Length of an input vector.
        num_classes: Number of outputs; one logit per label.
        hidden: Width of each hidden layer; ``()`` is softmax regression.
        seed: Seed of the initial weights; equal seeds give equal models.

    Raises:
        InvalidParameterError: If a size is no whole number of at least 1, or ``hidden`` no list.

    Example:
        >>> mlp(64, 10).count_params()
        2410
    """
    num_features = as_whole("num_features", num_features, least=1)
    num_classes = as_whole("num_classes", num_classes, least=1)
    seed = as_whole("seed", seed, least=0)
    hidden = _as_sizes("hidden", hidden)
    seeds = iter(np.random.SeedSequence(seed).generate_state(len(hidden) + 1).tolist())
    layers = [keras.Input((num_features,), dtype="float32")]
    layers += [
        keras.layers.Dense(
            width,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(next(seeds)),
            dtype="float32",
        )
        for width in hidden
    ]
    layers.append(_logits(num_classes, next(seeds)))
    return _in_float32(layers)


def cnn(
    side: int = 8, num_classes: int = 10, *, filters: Sequence[int] = (8, 16), seed: int = 0
) -> keras.Model:
    """Build a small convolutional network on square images given as flat vectors.

    Args:
        side: Height and width of an image in pixels; inputs have ``side**2`` features.
        num_classes: Number of outputs; one logit per label.
        filters: Filters of each 3x3 convolution, each followed by 2x2 pooling.
        seed: Seed of the initial weights.

    Raises:
        InvalidParameterError: If a size is no whole number of at least 1, ``filters`` no list,
            or the side too short to be halved once per entry of ``filters``.

    Example:
        >>> cnn(8, 10).output_shape
        (None, 10)
    """
    filters = _as_sizes("filters", filters)
    side = as_whole("side", side, least=2 ** len(filters))
    num_classes = as_whole("num_classes", num_classes, least=1)
    seed = as_whole("seed", seed, least=0)
    seeds = iter(np.random.SeedSequence(seed).generate_state(len(filters) + 1).tolist())
    layout = {"data_format": "channels_last", "dtype": "float32"}  # whatever Keras is set to
    layers = [
        keras.Input((side * side,), dtype="float32"),
        keras.layers.Reshape((side, side, 1), dtype="float32"),
    ]
    for count in filters:
        initializer = keras.initializers.HeNormal(next(seeds))
        layers += [
            keras.layers.Conv2D(
                count,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=initializer,
                **layout,
            ),
            keras.layers.AveragePooling2D(2, **layout),
        ]
    layers += [keras.layers.Flatten(**layout), _logits(num_classes, next(seeds))]
    return _in_float32(layers)


def _as_sizes(name: str, sizes: Any) -> list[int]:
    """Whole numbers of at least 1, in a list."""
    if not isinstance(sizes, Iterable) or isinstance(sizes, str | bytes | dict):
        raise InvalidParameterError(
            f"{name} must be a list of sizes such as ({shown(sizes)},), got {shown(sizes)}"
        )
    return [as_whole(f"{name}[{i}]", size, least=1) for i, size in enumerate(sizes)]


def _in_float32(layers: list) -> keras.Model:
    """Put layers one after the other, whatever precision Keras is set to."""
    model = keras.Sequential(layers)
    model.dtype_policy = "float32"
    return model


def _logits(num_classes: int, seed: int) -> keras.layers.Layer:
    """The last layer: one output per label, and no softmax."""
    return keras.layers.Dense(
        num_classes, kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32"
    )


def get_params(model: keras.Model) -> np.ndarray:
    """Read all trainable weights as one float32 vector, shape (d,).

    Raises:
        UnsupportedModelError: If the model has no weights yet.

    Example:
        >>> get_params(mlp(4, 2, hidden=())).shape
        (10,)
    """
    _require_built(model)
    return flatten([variable.numpy() for variable in model.trainable_variables])[0]


def set_params(model: keras.Model, params: np.ndarray) -> None:
    """Write a vector of shape (d,) into the model's trainable weights.

    Raises:
        InvalidParameterError: If ``params`` is not as :func:`get_params` gives it.
    """
    arrays = unflatten(checked_params(model, params), params_spec(model))
    for variable, array in zip(model.trainable_variables, arrays, strict=True):
        variable.assign(array)


def params_spec(model: keras.Model) -> VectorSpec:
    """Shapes of the trainable weights, in the order of :func:`get_params`."""
    return VectorSpec(tuple(tuple(v.shape) for v in model.trainable_variables))


def checked_params(model: keras.Model, params: np.ndarray, name: str = "params") -> np.ndarray:
    """Check that a vector can be the weights of the model, and return it as float32, (d,).

    Args:
        model: Whose weights they are to be.
        params: Real numbers, shape (d,), as :func:`get_params` gives them.
        name: What to call them in the message.

    Raises:
        InvalidParameterError: If they are a list of tensors, have another shape or type, or
            hold what is no number in float32.

    Example:
        >>> checked_params(mlp(4, 2, hidden=()), mlp(4, 2, hidden=()).get_weights(), "start")
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: start must be one vector of shape (10,), got a ...
    """
    size = params_spec(model).size
    if isinstance(params, list | tuple) and any(np.ndim(part) for part in params):
        raise InvalidParameterError(
            f"{name} must be one vector of shape ({size},), got a list of arrays, as "
            f"model.get_weights() gives it: write {name}=get_params(model)"
        )
    array = as_array(name, params)
    real = array.dtype.kind in "fiu" or array.dtype.name == "bfloat16"
    if array.shape != (size,) or not real:
        raise InvalidParameterError(
            f"{name} must be one vector of shape ({size},), as get_params(model) gives it, got "
            f"{array.dtype} of shape {array.shape}"
        )
    with np.errstate(over="ignore"):
        vector = array.astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        first = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InvalidParameterError(
            f"{name} must hold finite numbers of float32, got {array[first]} at coordinate {first}"
        )
    return vector


def logits(model: keras.Model, params: Any, x: Any, *, training: bool = False) -> tf.Tensor:
    """Outputs of the model with weights ``params``; the model and its weights stay as they are.

    Args:
        model: A model that :func:`require_trainable_by_sgd` lets pass.
        params: Weights, float32, shape (d,); a tensor where a gradient is wanted.
        x: Inputs, shape (N, ...).
        training: What the layers are told: whether this call is for training.

    Returns:
        One row of logits per example, shape (N, outputs).

    Example:
        >>> model = mlp(4, 2, hidden=())
        >>> logits(model, np.zeros(10, np.float32), np.ones((3, 4), np.float32)).shape
        TensorShape([3, 2])
    """
    shapes = params_spec(model).shapes
    parts = tf.split(tf.cast(params, tf.float32), [int(np.prod(shape)) for shape in shapes])
    weights = [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
    with keras.StatelessScope(list(zip(model.trainable_variables, weights, strict=True))):
        return model(tf.convert_to_tensor(x), training=training)


@dataclass(frozen=True)
class Architecture:
    """What a model computes on a batch of a given shape, whatever its weights are.

    Attributes:
        digest: Equal for models that compute the same, such as two of one recipe.
        num_outputs: How many logits there are for an example.
        num_words: How many words an Embedding has that reads the examples; None without one.
    """

    digest: bytes
    num_outputs: int
    num_words: int | None = None


def require_trainable_by_sgd(model: keras.Model, x: np.ndarray | None = None) -> None:
    """Refuse a model whose local training would not be plain SGD on its weights.

    Training minimises the cross-entropy of the softmax of the model's outputs, one output per
    label, averaged over a batch. A loss that the model was compiled with is not used.

    Args:
        model: A Keras model of one input and one output.
        x: Examples that it is to learn from, shape (N, ...); the first few are tried, and all
            are looked at where they are words. None tries zeros and ones, where the model
            tells its shapes.

    Raises:
        UnsupportedModelError: If the model has no weights yet; if a call reads or changes
            variables that are not trained (BatchNormalization, Dropout, a frozen layer), draws
            random numbers, or leaves losses of its own; if what it says of an example depends
            on the other examples of the batch; if a weight has a regularizer or
            constraint; if a layer does not compute in float32 or expects channels before
            pixels; if the outputs are probabilities, or not one row of at least two logits per
            example; or if it cannot be called on such examples. The text names the layer.
        InvalidParameterError: As :func:`require_known_words`.

    Example:
        >>> layers = [keras.Input((4,)), keras.layers.Dropout(0.5, name="drop")]
        >>> require_trainable_by_sgd(keras.Sequential([*layers, keras.layers.Dense(2)]))
        Traceback (most recent call last):
        fltutor.errors.UnsupportedModelError: layer drop (Dropout) keeps state of its own or is...
    """
    notes = _notes_on(model)
    if x is not None:
        x = as_examples("x", x)
        require_known_words(_known(model, notes, x, _FEW).num_words, x)
    elif not notes.known and (made_up := _made_up_examples(model)) is not None:
        _known(model, notes, made_up, _FEW)


def architecture(model: keras.Model, x: np.ndarray, batch_size: int) -> Architecture:
    """Check a model as :func:`require_trainable_by_sgd` does, and say what it computes.

    What was found is noted on the model and holds until something in it changes, so that only
    the first call takes time.

    Args:
        model: A Keras model of one input and one output.
        x: Examples that it is to learn from, shape (N, ...).
        batch_size: Examples in a batch.
    """
    return _known(model, _notes_on(model), x, batch_size)


def require_known_words(
    num_words: int | None, x: np.ndarray, examples: np.ndarray | None = None
) -> None:
    """Refuse words that an Embedding does not have: a compiled step would train without them.

    Args:
        num_words: Of :class:`Architecture`; None asks for nothing.
        x: Numbers of words, shape (N, ...).
        examples: Which examples are looked at; None takes all.

    Raises:
        InvalidParameterError: If a word is negative or too large. The text names the example.

    Example:
        >>> require_known_words(10, np.array([[3, 9], [0, 10]]))
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: example 1 of x holds the word 10, and the Embedding...
    """
    if num_words is None:
        return
    examples = np.arange(len(x)) if examples is None else examples
    words = x[examples].reshape(len(examples), -1)
    known = (words >= 0) & (words < num_words)
    if not known.all():
        row, place = np.argwhere(~known)[0]
        raise InvalidParameterError(
            f"example {examples[row]} of x holds the word {words[row, place]}, and the Embedding "
            f"of the model knows words from 0 to {num_words - 1}"
        )


def _known(model: keras.Model, notes: Notes, x: np.ndarray, batch_size: int) -> Architecture:
    shape, dtype = (batch_size, *np.shape(x)[1:]), x.dtype
    if (shape, dtype) not in notes.known:
        found = _traced(model, shape, dtype)
        if not notes.known:
            _require_logits(model, x)
            _require_rows_apart(model, x)
        notes.known[shape, dtype] = found
        notes.fingerprint = Fingerprint(model)
    return notes.known[shape, dtype]


def _notes_on(model: keras.Model) -> Notes:
    """What was found out about the model as it is now: nothing, if it has changed."""
    notes = vars(model).get("_fltutor_notes")
    if notes is None:
        notes = vars(model)["_fltutor_notes"] = Notes()  # past Keras, which would track it
        notes.fingerprint = None
    if notes.fingerprint is None or not notes.fingerprint.fits():
        _require_settings(model)
        notes.known, notes.fingerprint = {}, Fingerprint(model)
    return notes


def _made_up_examples(model: keras.Model) -> np.ndarray | None:
    """Zeros and ones in the shape that the model asks for, if it asks for one."""
    inputs = getattr(model, "inputs", None)
    if not inputs or None in inputs[0].shape[1:]:
        return None
    shape = (_FEW, *inputs[0].shape[1:])
    return np.random.default_rng(0).integers(0, 2, shape).astype(inputs[0].dtype)


def _require_built(model: keras.Model) -> None:
    if not model.built:
        raise UnsupportedModelError(
            f"the model {model.name} has no weights yet: give it keras.Input(shape) as its first "
            "layer, or call it once on an example"
        )


def _require_settings(model: keras.Model) -> None:
    """Refuse what can be seen on a model without calling it."""
    _require_built(model)
    for layer in model._flatten_layers():
        _require_supported_settings(layer)
    for variable in model.trainable_variables:
        if variable.regularizer or variable.constraint:
            raise UnsupportedModelError(
                f"{_owner(model, variable)} has a regularizer or constraint on {variable.name}, "
                "which local SGD on the cross-entropy would leave out"
            )
        if variable.dtype != "float32":
            raise UnsupportedModelError(_in_another_dtype(_owner(model, variable), variable.dtype))
    if not model.trainable_variables:
        raise UnsupportedModelError("the model has no trainable weights")
    for what in ("inputs", "outputs"):
        number = len(getattr(model, what, None) or [None])
        if number != 1:
            raise UnsupportedModelError(
                f"the model has {number} {what}, needed one: examples are one array, and a label "
                "is compared with one row of logits"
            )


def _require_supported_settings(layer: keras.layers.Layer) -> None:
    """Refuse what a user's Keras settings may have made of a layer."""
    name = _name(layer)
    if not layer.built:
        raise UnsupportedModelError(
            f"{name} has no weights yet: call the model once on an example, or leave out what no "
            "call uses"
        )
    dtypes = {layer.compute_dtype, layer.variable_dtype}
    if isinstance(layer, keras.Model):
        dtypes -= {"float64"}  # what only holds layers loses no precision by it
    if dtypes - {"float32"} and not isinstance(layer, keras.layers.InputLayer):
        raise UnsupportedModelError(_in_another_dtype(name, " and ".join(sorted(dtypes))))
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedModelError(
            f"{name} expects channels_first, which TensorFlow cannot compute on a CPU: build the "
            'model anew with data_format="channels_last"'
        )


def _in_another_dtype(name: str, dtypes: str) -> str:
    return (
        f"{name} computes in {dtypes}, needed float32 alone: build the model anew with "
        'dtype="float32", or after keras.config.set_floatx("float32") and '
        'keras.config.set_dtype_policy("float32")'
    )


def _traced(model: keras.Model, shape: tuple[int, ...], dtype: Any) -> Architecture:
    """Write down a call for training on a batch of this shape, and judge what it does."""
    seen: dict[str, Any] = {}

    def call(weights, state, x):
        values = [*zip(model.trainable_variables, weights, strict=True)]
        values += zip(model.non_trainable_variables, state, strict=True)
        with keras.StatelessScope(values, collect_losses=True) as scope:
            outputs = model(x, training=True)
        after = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
        seen.update(outputs=outputs, state=state, after=after, losses=scope.losses)
        return outputs

    weights, state = (
        [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    batch = tf.TensorSpec(shape, dtype)
    try:
        written = tf.function(call, autograph=False).get_concrete_function(weights, state, batch)
    except Exception as reason:  # whatever a layer raises
        raise UnsupportedModelError(
            f"the model cannot be compiled for batches of shape {shape} and dtype "
            f"{np.dtype(dtype)}: {_in_a_line(reason)}"
        ) from reason
    _require_stateless(model, seen, written.graph)
    if seen["losses"] or model.losses:
        raise UnsupportedModelError(
            "a call of the model leaves losses of its own (model.losses), which local SGD on the "
            f"cross-entropy would leave out: remove {_loss_to_remove(model)}"
        )
    num_outputs = _num_outputs(seen["outputs"], shape[0])
    return Architecture(graph_digest(written.graph), num_outputs, _num_words(model))


def _num_words(model: keras.Model) -> int | None:
    """The vocabulary of an Embedding that reads the examples as they come, where there is one."""
    inputs = getattr(model, "inputs", None) or []
    for layer in model.layers:
        read = [tensor for node in layer._inbound_nodes for tensor in node.input_tensors]
        if any(tensor is given for tensor in read for given in inputs):
            if isinstance(layer, keras.layers.Embedding):
                return layer.input_dim
            if isinstance(layer, keras.Model) and (inside := _num_words(layer)) is not None:
                return inside
    return None


def _require_stateless(model: keras.Model, seen: dict[str, Any], graph: Any) -> None:
    """Refuse a call that reads or changes more than trained weights, or draws random numbers.

    An LSTM holds the state of a generator that it does not use without dropout; that is none.
    """
    for variable, before, after in zip(
        model.non_trainable_variables, seen["state"], seen["after"], strict=True
    ):
        if after is not before or before.consumers():
            raise UnsupportedModelError(
                f"{_owner(model, variable)} keeps state of its own or is frozen, and averaging it "
                "has no agreed meaning; use layers whose only variables are trainable weights"
            )
    if any(outside.dtype == tf.resource for outside, _ in graph.captures):
        raise UnsupportedModelError(
            f"a call of the model {model.name} reads a variable that is none of its weights, and "
            "would not be trained: make it by add_weight in one of its layers"
        )
    acts = {op.type for op in graph.get_operations() if op.op_def.is_stateful} - _HARMLESS
    if acts:
        raise UnsupportedModelError(
            f"a call of the model {model.name} draws random numbers or acts outside itself "
            f"({', '.join(sorted(acts))}), and two calls would differ: leave that out"
        )


def _num_outputs(outputs: Any, batch_size: int) -> int:
    """How many logits there are for an example."""
    if not tf.is_tensor(outputs):
        raise UnsupportedModelError(
            f"the model returns a {type(outputs).__name__}, needed one tensor: a label is compared "
            "with one row of logits"
        )
    shape = tuple(outputs.shape)
    if len(shape) != 2 or shape[0] != batch_size or shape[1] is None or outputs.dtype != tf.float32:
        raise UnsupportedModelError(
            f"the model returns shape {shape} and dtype {outputs.dtype.name} for {batch_size} "
            f"examples, needed one float32 row of logits per example, shape ({batch_size}, outputs)"
        )
    if shape[1] == 1:
        raise UnsupportedModelError(
            "the model has one output, as for a sigmoid, and the loss here compares one logit per "
            "label: end it with Dense(2), without an activation, for labels 0 and 1"
        )
    return shape[1]


def _require_logits(model: keras.Model, x: np.ndarray) -> None:
    """Refuse probabilities: rows that are never negative and add up to one, for any weights."""
    few = _finite_few(x)
    rng, size = np.random.default_rng(0), params_spec(model).size
    for training in (True, False):
        rows = [
            logits(
                model, 0.1 * rng.standard_normal(size, np.float32), few, training=training
            ).numpy()
            for _ in range(2)
        ]
        if all((row >= 0).all() and np.allclose(row.sum(axis=1), 1, atol=1e-3) for row in rows):
            raise UnsupportedModelError(
                f"the model returns probabilities, and the loss applies the softmax itself: "
                f"{_softmax_to_remove(model)}, so that it returns logits"
            )


def _require_rows_apart(model: keras.Model, x: np.ndarray) -> None:
    """Refuse a layer that looks across the batch: padding would get into what it computes.

    An example is asked about among others, and with itself alone, twice. A rounding differs,
    so that only a clear difference at any weights counts.
    """
    few = _finite_few(x)
    among = np.resize(few, (_FEW, *few.shape[1:]))
    rng, size = np.random.default_rng(1), params_spec(model).size
    for _ in range(2):
        params = 0.1 * rng.standard_normal(size, np.float32)
        together = logits(model, params, among, training=True).numpy()
        alone = [
            logits(model, params, np.repeat(among[row : row + 1], 2, axis=0), training=True).numpy()
            for row in (0, _FEW - 1)
        ]
        with np.errstate(invalid="ignore"):
            gap = np.abs(np.stack(alone) - together[[0, _FEW - 1]][:, None])
        if not gap.max() > 1e-3 * np.abs(together).max():  # NaN says nothing
            return
    raise UnsupportedModelError(
        f"what the model {model.name} says of an example depends on the other examples of its "
        "batch, and on padding: let each layer compute every example by itself"
    )


def _finite_few(x: np.ndarray) -> np.ndarray:
    """The first examples without those that are not finite, or zeros."""
    few = np.asarray(x[:_FEW])
    usable = np.isfinite(few).reshape(len(few), -1).all(axis=1)
    return few[usable] if usable.any() else np.zeros_like(few)


def _softmax_to_remove(model: keras.Model) -> str:
    """What to write in place of the softmax, as far as the last layer says where it is."""
    last = model
    while getattr(last, "layers", None):  # also a model inside the model
        last = last.layers[-1]
    if isinstance(last, keras.layers.Softmax | keras.layers.Activation):
        return f"remove {_name(last)}"
    if isinstance(last, keras.layers.Dense) and last.activation is not keras.activations.linear:
        return f"remove the activation of {_name(last)}"
    return "remove the softmax at the end of its call"


def _loss_to_remove(model: keras.Model) -> str:
    """Which layer adds a loss, as far as its settings say."""
    layers = model._flatten_layers()
    named = [_name(layer) for layer in layers if getattr(layer, "activity_regularizer", None)]
    return f"the activity_regularizer of {' and '.join(named)}" if named else "add_loss"


def _owner(model: keras.Model, variable: keras.Variable) -> str:
    """Which layer of the model a variable belongs to, in words."""
    for layer in model.layers:
        if any(own is variable for own in layer.variables):
            return _name(layer)
    return _name(model)


def _name(layer: keras.layers.Layer) -> str:
    return f"layer {layer.name} ({type(layer).__name__})"


def _in_a_line(reason: Exception) -> str:
    """What went wrong, without the colours and the heading that Keras adds."""
    lines = re.sub(r"\x1b\[\d*m", "", str(reason)).splitlines()
    told = [line for line in lines if line and not line.startswith("Exception encountered")]
    return told[0] if told else type(reason).__name__
