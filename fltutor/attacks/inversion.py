"""What an attacker makes of a vector that a client sent.

An attack sees what the attacker sees: one flat vector, the model, and the
weights that the server handed out. The original images enter only where an
attack is *scored*. So one call, unchanged, can be fed a gradient, an update, a
sum of clients, a noisy sum or a masked upload:
:func:`inversion_attack` says what each of them gives away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np

from fltutor.border import as_numbers, as_real, as_whole, not_finite
from fltutor.data import as_labels
from fltutor.errors import InvalidParameterError, InvalidUpdateError, UnsupportedModelError
from fltutor.models import architecture, params_spec, require_trainable_by_sgd
from fltutor.tensorflow_quietly import keras, tf
from fltutor.vectors import VectorSpec, unflatten

HALF_GREY_LEVEL = 1 / 32
"""The 8x8 digits have pixels 0/16, 1/16, ..., 16/16: closer than this, each rounds to its own."""

MAX_PSNR = 150.0
"""Decibels. Beyond this, images differ by less than float32 resolves; they count as identical."""


@dataclass(frozen=True)
class Recovery:
    """What an attack gave back of a batch of images, by the best guess for each.

    Attributes:
        images: The guess closest to each original, shape (n, num_features).
        psnr: How close it is, in decibels, shape (n,); see :func:`psnr`.
        exact: Whether some guess has *every* pixel within the tolerance, shape (n,).
    """

    images: np.ndarray = field(repr=False)
    psnr: np.ndarray
    exact: np.ndarray

    @property
    def exact_share(self) -> float:
        """Exact recoveries per image of the batch, 0 to 1."""
        return float(self.exact.mean())


@dataclass(frozen=True)
class GradientMatch:
    """Images whose gradient resembles the one that was seen.

    Attributes:
        images: Shape (n, num_features), in no particular order.
        distance: 1 minus the cosine between their gradient and the one that was seen.
            The attacker sees this number and can judge a guess by it.
    """

    images: np.ndarray = field(repr=False)
    distance: float


def invert_dense_gradient(vector: np.ndarray, spec: VectorSpec, *, dense: int = 0) -> np.ndarray:
    """Divide each unit's weight gradients by its bias gradient: out comes the layer's input.

    For one example x, unit j has the bias gradient delta_j and the weight gradients
    delta_j * x. For a batch the quotient is a weighted mean of the inputs, and exact
    where only one of them lights the unit. The scale of the vector cancels, so an
    update of one local step, or a sum of clients, will do as well as a gradient.

    Args:
        vector: What was sent, shape (d,).
        spec: Shapes of the model's weights, from :func:`fltutor.models.params_spec`.
        dense: Which dense layer to read: 0 is the first, -1 the last.

    Returns:
        One guess per unit, shape (k, num_inputs), in the precision of ``vector``. Units
        that say nothing (bias gradient zero) are left out, so k may be 0.

    Raises:
        InvalidUpdateError: If ``vector`` has another length than the model or holds NaN.
        UnsupportedModelError: If there is no such dense layer with a bias.

    Example:
        >>> spec = VectorSpec(((3, 2), (2,)))  # three inputs, two units; the second is dead
        >>> invert_dense_gradient(np.array([-6.0, 0, -16, 0, -82, 0, -2, 0]), spec)
        array([[ 3.,  8., 41.]])

    Reference:
        Phong et al., IEEE TIFS 2018, section III. https://eprint.iacr.org/2017/715
    """
    kernel, bias = _dense_layer(vector, spec, dense)
    with np.errstate(all="ignore"):
        guesses = (kernel / bias).T
    return guesses[np.isfinite(guesses).all(axis=1)]


def invert_single_image(vector: np.ndarray, spec: VectorSpec) -> np.ndarray:
    """Guess the one input behind a gradient from all units of the first dense layer together.

    With one example the weight gradients are the outer product of x and the bias
    gradients; this is its least-squares solution. Under noise it beats any single unit,
    because loud units count more. For a batch it is one blurred image.

    Args:
        vector: What was sent, shape (d,).
        spec: Shapes of the model's weights.

    Returns:
        Shape (num_inputs,); zeros if no unit says anything, or nothing that fits a float.

    Example:
        >>> spec = VectorSpec(((3, 2), (2,)))
        >>> invert_single_image(np.array([-6.0, 3, -16, 8, -82, 41, -2, 1]), spec)
        array([ 3.,  8., 41.])
    """
    kernel, bias = _dense_layer(vector, spec, 0)
    loudest = np.abs(bias).max()
    if loudest == 0:
        return np.zeros(len(kernel), dtype=kernel.dtype)
    share = bias / loudest  # its squares can neither overflow nor vanish together
    with np.errstate(over="ignore", invalid="ignore"):
        guess = (kernel / loudest) @ share / (share @ share)
    return guess if np.isfinite(guess).all() else np.zeros_like(guess)


def inversion_attack(
    vector: np.ndarray,
    spec: VectorSpec,
    originals: np.ndarray,
    *,
    tolerance: float = HALF_GREY_LEVEL,
) -> Recovery:
    """Invert whatever vector was seen, and score the guesses against the true images.

    The guesses are those of :func:`invert_dense_gradient` and
    :func:`invert_single_image`, with pixels limited to 0..1. Each original is
    compared with the guess closest to it, which only the scorer can pick: an
    attacker knows at most as much.

    Args:
        vector: What the attacker sees, shape (d,): floats, or ring elements, which are read
            in two's complement.
        spec: Shapes of the model's weights; the first layer must be dense.
        originals: The images that went into ``vector``, pixels 0..1, shape (n, num_features).
        tolerance: Largest error of any pixel in an exact recovery.

    Raises:
        InvalidUpdateError: If ``vector`` has another length than the model or holds NaN.
        UnsupportedModelError: If the first layer is not dense, or has no bias.

    Example:
        >>> spec, image = VectorSpec(((3, 1), (1,))), np.array([[0.0, 0.5, 1.0]])
        >>> gradient = np.array([0.0, 0.1, 0.2, 0.2])
        >>> inversion_attack(gradient, spec, image)
        Recovery(psnr=array([150.]), exact=array([ True]))
    """
    if len(spec.shapes[0]) != 2:
        raise UnsupportedModelError(
            f"the first weights have shape {spec.shapes[0]}, needed a dense layer's (inputs, "
            "units): later dense layers hand over features, not pixels"
        )
    guesses = [invert_single_image(vector, spec), *invert_dense_gradient(vector, spec)]
    return score(np.clip(guesses, 0, 1), originals, tolerance=tolerance)


def score(
    guesses: np.ndarray, originals: np.ndarray, *, tolerance: float = HALF_GREY_LEVEL
) -> Recovery:
    """Compare each original with the guess closest to it.

    Args:
        guesses: Shape (k, num_features), in any order, k at least 1.
        originals: Shape (n, num_features).
        tolerance: Largest error of any pixel in an exact recovery.

    Example:
        >>> score(np.array([[0.5, 0.5], [0.0, 0.9]]), np.array([[0.0, 1.0], [0.5, 0.5]]))
        Recovery(psnr=array([ 23.01..., 150. ]), exact=array([False, True]))
    """
    guesses, originals = as_numbers("guesses", guesses), _as_images("originals", originals)
    if guesses.ndim != 2 or not len(guesses) or originals.shape[1:] != guesses.shape[1:]:
        raise InvalidParameterError(
            f"guesses and originals must be (k, num_features) and (n, num_features), "
            f"got {guesses.shape} and {originals.shape}"
        )
    tolerance = as_real("tolerance", tolerance, above=0)
    closeness = np.stack([psnr(original, guesses) for original in originals])  # (n, k)
    exact = [
        (np.abs(np.subtract(guesses, original, dtype=np.float64)).max(axis=1) < tolerance).any()
        for original in originals
    ]
    best = closeness.argmax(axis=1)
    return Recovery(guesses[best], closeness.max(axis=1), np.array(exact))


def psnr(originals: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of images with pixels 0..1, in decibels: higher is closer.

    It is -10 log10 of the mean square error, at most ``MAX_PSNR``: 20 dB is a typical
    error of a tenth of the range, and every 20 dB more is ten times less.

    Args:
        originals: Shape (..., num_features).
        guesses: The same shape, or one that broadcasts.

    Example:
        >>> psnr(np.array([0.0, 1.0]), np.array([0.1, 0.9])).round(3)
        np.float64(20.0)
    """
    originals, guesses = _as_images("originals", originals), as_numbers("guesses", guesses)
    try:
        shape = np.broadcast_shapes(originals.shape, guesses.shape)
    except ValueError:
        shape = ()
    if not shape or not shape[-1]:
        raise InvalidParameterError(
            "originals and guesses must be (..., num_features) of shapes that fit, with at least "
            f"one feature, got {originals.shape} and {guesses.shape}"
        )
    mean_square = np.square(np.subtract(originals, guesses, dtype=np.float64)).mean(axis=-1)
    return -10 * np.log10(np.maximum(mean_square, 10 ** (-MAX_PSNR / 10)))


def gradient_from_update(
    update: np.ndarray, learning_rate: float, *, num_steps: int = 1
) -> np.ndarray:
    """Turn an update of local SGD back into the mean gradient of its steps.

    Exact for one step. For more it is the mean of gradients taken at different
    weights, which an attack can only treat as if it were one gradient.

    Example:
        >>> gradient_from_update(np.array([-0.5, 0.25]), learning_rate=0.5)
        array([ 1. , -0.5])
    """
    update = as_numbers("update", update, InvalidUpdateError)
    learning_rate = as_real("learning_rate", learning_rate, above=0)
    num_steps = as_whole("num_steps", num_steps, least=1)
    dtype = np.promote_types(update.dtype, np.float32)  # an unsigned one would wrap
    with np.errstate(over="ignore"):  # float32 has no number as small as some rates
        gradient = (-update.astype(np.float64) / (learning_rate * num_steps)).astype(dtype)
    if bad := not_finite(gradient, "coordinate"):
        raise InvalidParameterError(
            f"learning_rate {learning_rate} is too small for this update: its gradient holds {bad}"
        )
    return gradient


def infer_label_counts(
    gradient: np.ndarray,
    spec: VectorSpec,
    num_examples: int = 1,
    *,
    probabilities: Sequence[float] | None = None,
) -> np.ndarray:
    """Read off the last layer's bias gradient which labels a client trained on.

    That gradient is the mean of (softmax output - one-hot label). An output is never
    negative, so a label with a negative entry *is* in the batch; for one example the
    only negative entry is its label. For a batch the counts are an estimate, as good as
    the guess of the mean output.

    Args:
        gradient: The mean gradient of cross-entropy over the examples, shape (d,). Its
            scale matters: see :func:`gradient_from_update`.
        spec: Shapes of the model's weights; the last is the bias of the outputs.
        num_examples: Examples in the batch, which the server is often told.
        probabilities: The attacker's guess of the model's mean output, one number per
            label. Uniform by default, about right for an untrained model.

    Returns:
        Examples per label, shape (num_labels,); they add up to ``num_examples``.

    Example:
        >>> spec = VectorSpec(((1, 3), (3,)))
        >>> infer_label_counts(np.array([0, 0, 0, 0.2, -0.6, 0.4]), spec)
        array([0, 1, 0])

    Reference:
        Zhao et al. 2020 (iDLG), section 3, for one example. https://arxiv.org/abs/2001.02610
    """
    _, bias = _dense_layer(gradient, spec, -1)
    num_examples = as_whole("num_examples", num_examples, least=1)
    outputs = np.full(len(bias), 1 / len(bias)) if probabilities is None else probabilities
    outputs = as_numbers("probabilities", outputs)
    if np.shape(outputs) != bias.shape:
        raise InvalidParameterError(
            f"probabilities must hold one number for each of the {len(bias)} labels, "
            f"got shape {np.shape(outputs)}"
        )
    expected = np.maximum(num_examples * (outputs - bias), bias < 0)
    counts = np.zeros(len(bias), dtype=int)
    for _ in range(num_examples):  # one example at a time, to the label that lacks most
        counts[np.argmax(expected - counts)] += 1
    return counts


def invert_by_optimisation(
    gradient: np.ndarray,
    model: keras.Model,
    params: np.ndarray,
    labels: Sequence[int],
    *,
    steps: int = 500,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> GradientMatch:
    """Search for images whose gradient points the same way as the one that was seen.

    Needs no dense layer. It starts from random pixels and follows the cosine distance
    downhill with Adam, pixels limited to 0..1. It takes the client to have done one step;
    an attacker who also imitates local steps does better. Smooth activations leak most;
    on ReLU the search often gets stuck, since the gradient jumps there. The first call for
    a model takes seconds more, to compile.

    Args:
        gradient: What was seen, shape (d,). Its length does not matter but its direction
            does: turn an update round with :func:`gradient_from_update`.
        model: A Keras model that returns logits; its own weights are not used.
        params: The weights at which the client took the gradient, shape (d,).
        labels: One per image to find, from :func:`infer_label_counts`.
        steps: How many steps of Adam.
        learning_rate: Length of the first steps, in pixel values; it falls a hundredfold.
        seed: Seed of the random start.

    Raises:
        InvalidUpdateError: If ``gradient`` has another length than the model, holds NaN, or
            is zero.
        InvalidParameterError: If a label is not one of the model's, or none is given.
        UnsupportedModelError: If the model cannot be trained by plain SGD.

    Reference:
        Zhu et al., NeurIPS 2019, Algorithm 1, https://arxiv.org/abs/1906.08935, with the
        cosine distance of Geiping et al., NeurIPS 2020, equation (4), without its total
        variation, which such small images do not need. https://arxiv.org/abs/2003.14053
    """
    require_trainable_by_sgd(model)
    spec = params_spec(model)
    gradient = _seen(gradient, spec).astype(np.float32)
    params = as_numbers("params", params).astype(np.float32)
    labels = as_labels("labels", labels, num_classes=model.output_shape[-1])
    if params.shape != (spec.size,):
        raise InvalidParameterError(f"params must have shape ({spec.size},), got {params.shape}")
    if not gradient.any():
        raise InvalidUpdateError("the gradient is zero everywhere: it points nowhere")
    steps = as_whole("steps", steps, least=1, most=2**31 - 1)
    learning_rate = as_real("learning_rate", learning_rate, above=0)
    seed = as_whole("seed", seed, least=0)
    start = np.random.default_rng(seed).random((len(labels), *model.input_shape[1:]), np.float32)
    arguments = (gradient, params, labels, start, steps, learning_rate)
    search = _compiled_search(model, architecture(model, start, 1).digest)
    images, distance = search(*map(tf.convert_to_tensor, arguments))
    return GradientMatch(images.numpy().reshape(len(labels), -1), float(distance))


@lru_cache(maxsize=16)
def _compiled_search(model: keras.Model, digest: bytes) -> Callable:
    """Adam on the pixels of any number of images, as one graph for what the model computes now."""
    spec = params_spec(model)
    sizes = [int(np.prod(shape)) for shape in spec.shapes]
    inputs = tf.TensorSpec((None, *model.input_shape[1:]))

    def direction(weights, x, y):
        """Gradient of the mean loss at ``weights``, scaled to length 1."""
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, _ = model.stateless_call(weights, [], x, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, weights)
        return tf.math.l2_normalize(tf.concat([tf.reshape(g, [-1]) for g in gradients], 0))

    @tf.function(
        input_signature=[
            tf.TensorSpec((spec.size,)),
            tf.TensorSpec((spec.size,)),
            tf.TensorSpec((None,), tf.int32),
            inputs,
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec(()),
        ]
    )
    def search(gradient, params, labels, x, steps, learning_rate):
        parts = zip(tf.split(params, sizes), spec.shapes, strict=True)
        weights = [tf.reshape(part, shape) for part, shape in parts]
        seen = tf.math.l2_normalize(gradient)

        def distance(x):  # 1 - cosine, without its loss of digits near 0
            return tf.reduce_sum(tf.square(direction(weights, x, labels) - seen)) / 2

        def adam_step(i, x, mean, square):
            with tf.GradientTape() as tape:
                tape.watch(x)
                apart = distance(x)
            slope = tape.gradient(apart, x)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * tf.square(slope)
            done = tf.cast(i, tf.float32)
            rate = learning_rate * 0.01 ** (done / tf.cast(steps, tf.float32))
            mean_now = mean / (1 - 0.9 ** (done + 1))
            square_now = square / (1 - 0.999 ** (done + 1))
            x = x - rate * mean_now / (tf.sqrt(square_now) + 1e-8)
            return i + 1, tf.clip_by_value(x, 0.0, 1.0), mean, square

        zeros = tf.zeros_like(x)
        _, x, _, _ = tf.while_loop(lambda i, *_: i < steps, adam_step, (0, x, zeros, zeros))
        return x, distance(x)

    return search


def _dense_layer(vector: np.ndarray, spec: VectorSpec, dense: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the vector that belongs to one dense layer: (inputs, units) and (units,)."""
    arrays = unflatten(_seen(vector, spec), spec)
    layers = [
        (kernel, bias)
        for kernel, bias in pairwise(arrays)
        if kernel.ndim == 2 and bias.shape == kernel.shape[1:]
    ]
    try:
        return layers[dense]
    except IndexError:
        raise UnsupportedModelError(
            f"dense layer {dense} was asked for, and the model has {len(layers)} with a bias"
        ) from None


def _as_images(name: str, images: np.ndarray) -> np.ndarray:
    """Images with pixels 0..1, as all measures here take them."""
    images = as_numbers(name, images)
    if images.size and not 0 <= images.min() <= images.max() <= 1:
        raise InvalidParameterError(
            f"{name} must have pixels from 0 to 1, got from {images.min():g} to "
            f"{images.max():g}: divide by their white, such as 255"
        )
    return images


def _seen(vector: np.ndarray, spec: VectorSpec) -> np.ndarray:
    """Take what was seen as numbers: floats as they are, integers as float64.

    Unsigned integers are read as signed ones: so do rings encode negative numbers.
    """
    vector = as_numbers("the vector", vector, InvalidUpdateError)
    if vector.shape != (spec.size,):
        raise InvalidUpdateError(
            f"the vector must have shape ({spec.size},), as the model has, got {vector.shape}"
        )
    if vector.dtype.kind == "u":
        vector = vector.astype(f"u{vector.dtype.itemsize}").view(f"i{vector.dtype.itemsize}")
    wide = vector.dtype.kind == "f" and vector.dtype.itemsize >= 4
    return vector if wide else vector.astype(np.float64)
