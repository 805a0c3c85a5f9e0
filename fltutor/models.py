"""Small Keras models, and the step between a model and its flat vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fltutor.errors import UnsupportedModelError
from fltutor.tensorflow_quietly import keras
from fltutor.vectors import VectorSpec, flatten, unflatten


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

    Example:
        >>> mlp(64, 10).count_params()
        2410
    """
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
    return keras.Sequential(layers)


def cnn(
    side: int = 8, num_classes: int = 10, *, filters: Sequence[int] = (8, 16), seed: int = 0
) -> keras.Model:
    """Build a small convolutional network on square images given as flat vectors.

    Args:
        side: Height and width of an image in pixels; inputs have ``side**2`` features.
        num_classes: Number of outputs; one logit per label.
        filters: Filters of each 3x3 convolution, each followed by 2x2 pooling.
        seed: Seed of the initial weights.

    Example:
        >>> cnn(8, 10).output_shape
        (None, 10)
    """
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
    return keras.Sequential(layers)


def _logits(num_classes: int, seed: int) -> keras.layers.Layer:
    """The last layer: one output per label, and no softmax."""
    return keras.layers.Dense(
        num_classes, kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32"
    )


def get_params(model: keras.Model) -> np.ndarray:
    """Read all trainable weights as one float32 vector, shape (d,).

    Example:
        >>> get_params(mlp(4, 2, hidden=())).shape
        (10,)
    """
    return flatten([variable.numpy() for variable in model.trainable_variables])[0]


def set_params(model: keras.Model, params: np.ndarray) -> None:
    """Write a vector of shape (d,) into the model's trainable weights.

    Raises:
        InvalidParameterError: If the length is not the model's.
    """
    arrays = unflatten(params, params_spec(model))
    for variable, array in zip(model.trainable_variables, arrays, strict=True):
        variable.assign(array)


def params_spec(model: keras.Model) -> VectorSpec:
    """Shapes of the trainable weights, in the order of :func:`get_params`."""
    return VectorSpec(tuple(tuple(v.shape) for v in model.trainable_variables))


def require_trainable_by_sgd(model: keras.Model) -> None:
    """Refuse a model whose local training would not be plain SGD on its weights.

    Raises:
        UnsupportedModelError: If a layer keeps state or draws random numbers of its own
            (BatchNormalization, Dropout), if a layer is frozen, if a weight has a
            regularizer or constraint, if a layer does not compute in float32 or expects
            channels before pixels, or if the outputs are probabilities; the text names the
            layer.

    Example:
        >>> dropout = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
        >>> require_trainable_by_sgd(dropout)
        Traceback (most recent call last):
        fltutor.errors.UnsupportedModelError: layer dropout (Dropout) keeps state of its own...
    """
    for layer in model.layers:
        if layer.non_trainable_variables:
            raise UnsupportedModelError(
                f"layer {layer.name} ({type(layer).__name__}) keeps state of its own or is "
                "frozen, and averaging it has no agreed meaning; use layers whose only "
                "variables are trainable weights"
            )
        for variable in layer.trainable_variables:
            if variable.regularizer or variable.constraint:
                raise UnsupportedModelError(
                    f"layer {layer.name} has a regularizer or constraint on {variable.name}, "
                    "which local SGD on the cross-entropy would leave out"
                )
    for layer in _leaves(model):
        _require_supported_settings(layer)
    if not model.trainable_variables:
        raise UnsupportedModelError("the model has no trainable weights")
    last = model.layers[-1]
    while getattr(last, "layers", None):  # a model inside the model
        last = last.layers[-1]
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax:
        raise UnsupportedModelError(
            f"layer {last.name} returns probabilities; the last layer must return logits "
            "(no softmax), because the loss applies the softmax itself"
        )


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers, also those of models inside the model."""
    for layer in model.layers:
        yield from _leaves(layer) if getattr(layer, "layers", None) else [layer]


def _require_supported_settings(layer: keras.layers.Layer) -> None:
    """Refuse what a user's Keras settings may have made of a layer."""
    name = f"layer {layer.name} ({type(layer).__name__})"
    dtypes = {layer.compute_dtype, *(variable.dtype for variable in layer.trainable_variables)}
    if not isinstance(layer, keras.layers.InputLayer) and dtypes - {"float32"}:
        raise UnsupportedModelError(
            f"{name} computes in {' and '.join(sorted(dtypes))}, needed float32 alone: build the "
            'model anew with dtype="float32", or after keras.config.set_floatx("float32") and '
            'keras.config.set_dtype_policy("float32")'
        )
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedModelError(
            f"{name} expects channels_first, which TensorFlow cannot compute on a CPU: build the "
            'model anew with data_format="channels_last"'
        )
