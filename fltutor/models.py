"""Small Keras models, and the step between a model and its flat vector."""

from __future__ import annotations

from collections.abc import Sequence

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
    layers = [keras.Input((num_features,))]
    layers += [
        keras.layers.Dense(
            width,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(next(seeds)),
        )
        for width in hidden
    ]
    layers.append(
        keras.layers.Dense(
            num_classes, kernel_initializer=keras.initializers.GlorotUniform(next(seeds))
        )
    )
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
    layers = [keras.Input((side * side,)), keras.layers.Reshape((side, side, 1))]
    for count in filters:
        initializer = keras.initializers.HeNormal(next(seeds))
        layers += [
            keras.layers.Conv2D(
                count, 3, padding="same", activation="relu", kernel_initializer=initializer
            ),
            keras.layers.AveragePooling2D(2),
        ]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(
            num_classes, kernel_initializer=keras.initializers.GlorotUniform(next(seeds))
        ),
    ]
    return keras.Sequential(layers)


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
            regularizer or constraint, or if the outputs are probabilities; the text
            names the layer.

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
