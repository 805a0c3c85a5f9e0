"""Models: there and back to a vector, equal seeds equal weights, and refusals by name."""

import numpy as np
import pytest

from fltutor.clients import train_client
from fltutor.errors import InvalidParameterError, UnsupportedModelError
from fltutor.models import (
    cnn,
    get_params,
    mlp,
    params_spec,
    require_trainable_by_sgd,
    set_params,
)
from fltutor.tensorflow_quietly import keras

layers = keras.layers


@pytest.mark.parametrize("build", [mlp, cnn])
def test_weights_survive_the_way_to_a_vector_and_back(build):
    model, other = build(seed=1), build(seed=2)
    params = get_params(model)
    assert params.dtype == np.float32
    assert params.shape == (model.count_params(),) == (params_spec(model).size,)
    assert not np.array_equal(get_params(other), params)
    set_params(other, params)
    for got, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("build", [mlp, cnn])
def test_equal_seeds_give_equal_weights_and_layers_differ(build):
    np.testing.assert_array_equal(get_params(build(seed=3)), get_params(build(seed=3)))
    deep = mlp(8, 8, hidden=(8, 8)).get_weights()[::2]
    assert not np.allclose(deep[0], deep[1])


@pytest.mark.parametrize("length", [0, 2409, 2411])
def test_a_vector_of_another_length_changes_nothing(length):
    model = mlp()
    before = get_params(model)
    with pytest.raises(InvalidParameterError, match=rf"\(2410,\), .* of shape \({length},\)"):
        set_params(model, np.zeros(length, np.float32))
    np.testing.assert_array_equal(get_params(model), before)


def test_models_have_the_size_they_promise():
    assert mlp(4, 3, hidden=()).count_params() == 4 * 3 + 3
    assert mlp(784, 10, hidden=(200, 200)).count_params() == 784 * 200 + 200 * 200 + 2000 + 410
    assert cnn(28, 10).output_shape == (None, 10)
    for model in (mlp(), cnn()):
        require_trainable_by_sgd(model)


def network(*middle, last=None):
    return keras.Sequential([keras.Input((4,)), *middle, layers.Dense(3) if last is None else last])


def frozen_dense():
    layer = layers.Dense(5, name="iced")
    layer.trainable = False
    return layer


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: network(layers.Dropout(0.5, name="drop")), r"layer drop \(Dropout\) keeps state"),
        (
            lambda: network(layers.BatchNormalization(name="norm")),
            r"layer norm \(BatchNormalization\) keeps state",
        ),
        (
            lambda: network(layers.GaussianNoise(0.1, name="hiss")),
            r"layer hiss \(GaussianNoise\) keeps state",
        ),
        (lambda: network(frozen_dense()), r"layer iced \(Dense\) .* frozen"),
        (
            lambda: network(keras.Sequential([layers.Dropout(0.5)], name="inner")),
            r"layer inner \(Sequential\) keeps state",
        ),
        (
            lambda: network(layers.Dense(5, kernel_regularizer="l2", name="decay")),
            r"layer decay \(Dense\) has a regularizer or constraint on kernel",
        ),
        (
            lambda: network(layers.Dense(5, bias_constraint="non_neg", name="up")),
            r"layer up \(Dense\) has a regularizer or constraint on bias",
        ),
        (
            lambda: network(last=layers.Dense(3, activation="softmax", name="out")),
            r"returns probabilities, .* remove the activation of layer out \(Dense\), so that",
        ),
        (
            lambda: network(layers.Dense(3), last=layers.Softmax(name="out")),
            r"returns probabilities, .*: remove layer out \(Softmax\), so that",
        ),
        (
            lambda: network(layers.Dense(3), last=layers.Activation("softmax", name="out")),
            r"returns probabilities, .*: remove layer out \(Activation\), so that",
        ),
        (
            lambda: network(
                last=keras.Sequential(
                    [keras.Input((4,)), layers.Dense(3, activation="softmax", name="deep")]
                )
            ),
            r"returns probabilities, .* remove the activation of layer deep \(Dense\), so that",
        ),
        (lambda: network(last=layers.ReLU()), "the model has no trainable weights"),
    ],
    ids=[
        "Dropout", "BatchNormalization", "GaussianNoise", "frozen", "Dropout inside",
        "regularizer", "constraint", "softmax", "Softmax layer", "softmax activation",
        "softmax inside", "no weights",
    ],
)  # fmt: skip
def test_models_without_a_defined_meaning_are_refused_by_name(build, message):
    with pytest.raises(UnsupportedModelError, match=message):
        require_trainable_by_sgd(build())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: layers.Dense(3, dtype="float64", name="wide"), "layer wide .* in float64, needed"),
        (
            lambda: layers.Dense(3, dtype="mixed_float16", name="mix"),
            "in float16 and float32, need",
        ),
        (
            lambda: layers.Embedding(9, 3, dtype="bfloat16", name="rows"),
            "rows .* in bfloat16, need",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((4,)), layers.Dense(3, dtype="mixed_float16", name="deep")]
            ),
            "layer deep .* in float16 and float32, ",
        ),
        (lambda: layers.Activation("tanh", dtype="float64", name="bend"), "bend .* in float64, "),
    ],
    ids=["float64", "mixed", "bfloat16", "inside", "no weights"],
)
def test_what_does_not_compute_in_float32_is_refused_by_name(layer, message):
    with pytest.raises(UnsupportedModelError, match=message):
        require_trainable_by_sgd(keras.Sequential([keras.Input((4,)), layer(), layers.Dense(2)]))


def test_channels_before_pixels_are_refused_by_name():
    images = [keras.Input((1, 8, 8)), layers.Conv2D(2, 3, data_format="channels_first", name="see")]
    with pytest.raises(UnsupportedModelError, match=r'layer see .* data_format="channels_last"'):
        require_trainable_by_sgd(keras.Sequential(images))


def test_models_of_the_course_are_the_same_whatever_keras_is_set_to():
    before = [get_params(mlp()), get_params(cnn())]
    keras.config.set_floatx("float64")
    keras.config.set_image_data_format("channels_first")
    try:
        models = [mlp(), cnn()]
        for model, params in zip(models, before, strict=True):
            require_trainable_by_sgd(model)
            np.testing.assert_array_equal(get_params(model), params)
            assert model(np.zeros((2, 64))).shape == (2, 10)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_the_readable_reference_computes_in_float32_whatever_keras_is_set_to(floatx):
    model, rng = mlp(4, 3, hidden=()), np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)).astype(np.float32), np.arange(6) % 3
    batches = np.arange(6).reshape(2, 3)
    usual = train_client(model, get_params(model), x, y, batches, 0.1)
    keras.config.set_floatx(floatx)
    try:
        update = train_client(model, get_params(model), x, y, batches, 0.1)
    finally:
        keras.config.set_floatx("float32")
    np.testing.assert_array_equal(update, usual)
