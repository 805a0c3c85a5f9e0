"""Models: there and back to a vector, equal seeds equal weights, and refusals by name."""

import numpy as np
import pytest

from fltutor.clients import cohort_gradients, train_client, train_cohort
from fltutor.data import Dataset
from fltutor.errors import InvalidParameterError, UnsupportedModelError
from fltutor.models import (
    cnn,
    get_params,
    mlp,
    params_spec,
    require_trainable_by_sgd,
    set_params,
)
from fltutor.simulation import evaluate, run_federated
from fltutor.tensorflow_quietly import keras, tf

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


# --- judged by what a call does -------------------------------------------------------------------

X = np.random.default_rng(0).random((20, 4)).astype(np.float32)


class Model(keras.Model):
    """A model whose call is a function of two dense layers, a dropout, the input, training."""

    def __init__(self, function, **settings):
        super().__init__(**settings)
        self.first, self.last, self.drop = layers.Dense(5), layers.Dense(3), layers.Dropout(0.5)
        self.function = function

    def call(self, x, training=False):
        return self.function(self, x, training)


class Silent(Model):
    """The same without ``training`` in its call."""

    def call(self, x):
        return self.function(self, x, None)


def subclass(function, kind=Model, **settings):
    model = kind(lambda m, x, training: m.drop(m.last(m.first(x))), **settings)
    model(X)
    model.function = function
    return model


class Layer(layers.Layer):
    """A layer whose call is a function, with a counter, a weight, and a variable beside them."""

    def __init__(self, function):
        super().__init__()
        self.function, self.outside = function, tf.Variable(2.0)

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
        super().build(shape)

    def call(self, x):
        return self.function(self, x)


def functional(function):
    given = keras.Input((4,))
    return keras.Model(given, function(given))


def count(layer, x):
    layer.count.assign_add(1.0)
    return x


def add_a_loss(layer, x):
    layer.add_loss(tf.reduce_mean(x))
    return x


def two_inputs():
    first, second = keras.Input((4,)), keras.Input((4,))
    return keras.Model([first, second], layers.Dense(3)(first + second))


def in_mixed_precision(build):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return build()
    finally:
        keras.config.set_dtype_policy("float32")


def softmax_by_hand(z):
    return tf.exp(z) / tf.reduce_sum(tf.exp(z), axis=-1, keepdims=True)


PROBABILITIES = {
    "tf.nn": lambda: network(last=layers.Dense(3, activation=tf.nn.softmax)),
    "keras.ops": lambda: network(last=layers.Dense(3, activation=keras.ops.softmax)),
    "lambda": lambda: network(last=layers.Dense(3, activation=lambda z: tf.nn.softmax(z))),
    "by hand": lambda: network(last=layers.Dense(3, activation=softmax_by_hand)),
    "Lambda": lambda: network(layers.Dense(3), last=layers.Lambda(tf.nn.softmax)),
    "with a temperature": lambda: network(
        last=layers.Dense(3, activation=lambda z: tf.nn.softmax(z / 9))
    ),
    "nested": lambda: network(last=network(last=layers.Dense(3, activation=tf.nn.softmax))),
    "functional": lambda: functional(lambda x: keras.ops.softmax(layers.Dense(3)(x))),
    "softmax then reshape": lambda: network(
        layers.Dense(3), layers.Softmax(), last=layers.Reshape((3,))
    ),
    "subclass": lambda: subclass(lambda m, x, training: tf.nn.softmax(m.last(m.first(x)))),
    "in training only": lambda: subclass(
        lambda m, x, training: tf.nn.softmax(m.last(m.first(x))) if training else m.last(m.first(x))
    ),
    "outside training only": lambda: subclass(
        lambda m, x, training: m.last(m.first(x)) if training else tf.nn.softmax(m.last(m.first(x)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("build", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_refused_however_they_are_made(build):
    with pytest.raises(UnsupportedModelError, match=r"returns probabilities, .*: remove the"):
        require_trainable_by_sgd(build(), X)


@pytest.mark.parametrize("examples", [np.full_like(X, np.nan), np.zeros_like(X), X[:1], 1e6 * X])
def test_probabilities_are_seen_on_any_examples(examples):
    for model in (PROBABILITIES["tf.nn"](), PROBABILITIES["subclass"]()):
        with pytest.raises(UnsupportedModelError, match="returns probabilities"):
            require_trainable_by_sgd(model, examples)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh", "log_softmax", "softplus"])
@pytest.mark.parametrize("examples", [X, np.zeros_like(X), X[:1]], ids=["some", "zeros", "one"])
def test_outputs_that_are_no_probabilities_raise_no_alarm(activation, examples):
    require_trainable_by_sgd(network(last=layers.Dense(3, activation=activation)), examples)
    require_trainable_by_sgd(network(last=layers.Dense(2, activation=activation)), examples)


REFUSED = {
    "activity regularizer": (
        lambda: network(layers.Dense(5, activity_regularizer="l2", name="calm")),
        r"leaves losses of its own .* remove the activity_regularizer of layer calm \(Dense\)",
    ),
    "activity regularizer inside": (
        lambda: network(network(layers.Dense(5, activity_regularizer="l2"))),
        "leaves losses of its own",
    ),
    "activity regularizer of the model": (
        lambda: subclass(lambda m, x, _: m.last(m.first(x)), activity_regularizer="l2"),
        "leaves losses of its own",
    ),
    "a layer for it": (
        lambda: network(layers.ActivityRegularization(l2=0.1)), "leaves losses of its own"
    ),
    "add_loss in a layer": (
        lambda: network(Layer(add_a_loss)), "leaves losses of its own .* remove add_loss"
    ),
    "add_loss in a model": (
        lambda: subclass(lambda m, x, _: m.last(add_a_loss(m, m.first(x)))), "leaves losses"
    ),
    "dropout and no training argument": (
        lambda: subclass(lambda m, x, _: m.last(m.drop(m.first(x))), kind=Silent),
        r"layer dropout\S* \(Dropout\) keeps state",
    ),
    "a counter": (lambda: network(Layer(count)), r"\(Layer\) keeps state"),
    "a variable that is not trained": (
        lambda: network(Layer(lambda layer, x: x + layer.count)), r"\(Layer\) keeps state"
    ),
    "a variable of TensorFlow": (
        lambda: network(Layer(lambda layer, x: x * layer.outside)), "none of its weights"
    ),
    "random numbers": (
        lambda: network(layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))),
        "draws random numbers",
    ),
    "a Python function": (
        lambda: network(
            layers.Lambda(lambda x: tf.ensure_shape(tf.py_function(abs, [x], tf.float32), x.shape))
        ),
        "draws random numbers or acts outside itself",
    ),
    "LSTM with dropout": (
        lambda: network(layers.Reshape((4, 1)), layers.LSTM(2, dropout=0.5, name="rnn")),
        r"layer rnn \(LSTM\) keeps state",
    ),
    "GRU with recurrent dropout": (
        lambda: network(layers.Reshape((4, 1)), layers.GRU(2, recurrent_dropout=0.5)),
        r"\(GRU\) keeps state",
    ),
    "LSTM with a regularizer": (
        lambda: network(layers.Reshape((4, 1)), layers.LSTM(2, kernel_regularizer="l2")),
        r"\(LSTM\) has a regularizer",
    ),
    "two inputs": (two_inputs, "has 2 inputs, needed one"),
    "two outputs": (
        lambda: functional(lambda x: [layers.Dense(3)(x), layers.Dense(3)(x)]), "has 2 outputs"
    ),
    "a dictionary of outputs": (
        lambda: subclass(lambda m, x, _: {"out": m.last(m.first(x))}), "returns a dict, needed one"
    ),
    "one output": (lambda: network(last=layers.Dense(1)), r"one output, .* Dense\(2\)"),
    "a sigmoid": (
        lambda: network(last=layers.Dense(1, activation="sigmoid")), r"one output, .* Dense\(2\)"
    ),
    "a row for each word": (
        lambda: network(layers.Reshape((4, 1))), r"returns shape \(4, 4, 3\) .* \(4, outputs\)"
    ),
    "no weights yet": (
        lambda: keras.Sequential([layers.Dense(3)]), r"give it keras.Input.*, or call it once"
    ),
    "a subclass without weights": (
        lambda: Model(lambda m, x, _: m.last(m.first(x))), "or call it once on an example"
    ),
    "a layer without weights": (
        lambda: unbuilt_inside(), "no weights yet: call the model once on an example, or leave"
    ),
    "mixed precision": (
        lambda: in_mixed_precision(network), "computes in float16 and float32, needed float32"
    ),
    "a subclass in mixed precision": (
        lambda: in_mixed_precision(lambda: subclass(lambda m, x, _: m.last(m.first(x)))),
        "computes in float16 and float32, needed float32",
    ),
    "other examples": (
        lambda: mlp(5, 3), r"cannot be compiled for batches of shape \(4, 4\) .*incompatible"
    ),
}  # fmt: skip


def batch_size_of(z):
    return tf.cast(tf.shape(z)[0], tf.float32)


ACROSS_THE_BATCH = {
    "centred": lambda z: z - tf.reduce_mean(z, axis=0),
    "divided by the largest": lambda z: z / (1e-6 + tf.reduce_max(tf.abs(z))),
    "summed": lambda z: z + tf.reduce_sum(z, axis=0),
    "added up in order": lambda z: tf.cumsum(z, axis=0),
    "its neighbour": lambda z: z + tf.roll(z, 1, axis=0),
    "in order": lambda z: tf.sort(z, axis=0),
    "attention": lambda z: tf.nn.softmax(z @ tf.transpose(z)) @ z,
    "times the number of examples": lambda z: z * batch_size_of(z),
}


@pytest.mark.parametrize("function", ACROSS_THE_BATCH.values(), ids=ACROSS_THE_BATCH)
def test_layers_that_look_across_the_batch_are_refused(function):
    model = network(layers.Dense(6), layers.Lambda(function))
    with pytest.raises(UnsupportedModelError, match="depends on the other examples of its batch"):
        require_trainable_by_sgd(model, X)
    y = np.arange(20) % 3
    with pytest.raises(UnsupportedModelError, match="depends on the other examples of its batch"):
        train_cohort(model, get_params(model), X, y, [np.arange(4)[None]], 0.1)


def words(*middle):
    return keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 5), *middle, layers.Dense(3)]
    )


def attention():
    given = keras.Input((4,), dtype="int32")
    embedded = layers.Embedding(9, 5)(given)
    seen = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(embedded, embedded))
    return keras.Model(given, layers.Dense(3)(layers.Flatten()(seen)))


APART = {
    "LSTM": lambda: words(layers.LSTM(6)),
    "two ways": lambda: words(layers.Bidirectional(layers.GRU(6))),
    "attention": attention,
    "convolution": lambda: network(
        layers.Reshape((2, 2, 1)), layers.Conv2D(3, 2), layers.GroupNormalization(1),
        layers.Flatten(),
    ),
    "deep": lambda: network(*[layers.Dense(32, activation="relu") for _ in range(8)]),
    "along the row": lambda: network(layers.Lambda(lambda z: tf.cumsum(tf.sort(z), axis=-1))),
    "scaled": lambda: network(layers.Lambda(lambda z: z / tf.norm(z, axis=-1, keepdims=True))),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize("build", APART.values(), ids=APART)
def test_layers_that_look_along_an_example_raise_no_alarm(build, scale):
    model = build()
    x = (
        X * np.float32(scale)
        if model.inputs[0].dtype == "float32"
        else np.abs(9 * X).astype(int) % 9
    )
    for few in (x, x[:1], x[:3]):
        require_trainable_by_sgd(build(), few)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mlp(hidden=32), r"hidden must be a list of sizes such as \(32,\), got 32"),
        (lambda: mlp(hidden="32"), "hidden must be a list"),
        (lambda: mlp(hidden=(3, 0)), r"hidden\[1\] must be a whole number of at least 1, got 0"),
        (lambda: mlp(hidden=(3.5,)), r"hidden\[0\] must be a whole number"),
        (lambda: mlp(seed=-1), "seed must be a whole number of at least 0, got -1"),
        (lambda: mlp(64.0), "num_features must be a whole number of at least 1, got 64.0"),
        (lambda: mlp(64, 0), "num_classes must be a whole number of at least 1"),
        (lambda: cnn(2), "side must be a whole number of at least 4, got 2"),
        (lambda: cnn(8.0), "side must be a whole number"),
        (lambda: cnn(filters=8), "filters must be a list"),
        (lambda: cnn(seed="a"), "seed must be a whole number"),
    ],
)
def test_sizes_of_a_model_are_whole_numbers(build, message):
    with pytest.raises(InvalidParameterError, match=message):
        build()


def unbuilt_inside():
    model = Model(lambda m, x, _: m.last(x))
    model(X)
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_call_does_beside_is_refused_in_a_sentence(case):
    build, message = REFUSED[case]
    model = build()
    for _ in range(2):  # also when asked again
        with pytest.raises(UnsupportedModelError, match=message) as raised:
            require_trainable_by_sgd(model, X)
        assert "\n" not in str(raised.value)


def test_the_refusal_comes_wherever_a_model_is_used():
    model = PROBABILITIES["tf.nn"]()
    y, params = np.arange(20) % 3, get_params(model)
    data = Dataset(X, y, X, y, "made up")
    for use in (
        lambda: run_federated(model, data, [np.arange(9)], rounds=1, learning_rate=0.1),
        lambda: evaluate(model, params, X, y),
        lambda: train_client(model, params, X, y, np.arange(4)[None], 0.1),
        lambda: train_cohort(model, params, X, y, [np.arange(4)[None]], 0.1),
        lambda: cohort_gradients(model, params, X, y, [np.arange(4)]),
    ):
        with pytest.raises(UnsupportedModelError, match="returns probabilities"):
            use()


def test_a_model_that_has_no_weights_says_so_when_asked_for_them():
    with pytest.raises(UnsupportedModelError, match="or call it once on an example"):
        get_params(keras.Sequential([layers.Dense(3)]))


@pytest.mark.parametrize(
    "layer", [lambda: layers.LSTM(2), lambda: layers.GRU(2), lambda: layers.SimpleRNN(2),
              lambda: layers.Bidirectional(layers.LSTM(2)), lambda: layers.Conv1D(2, 2)],
)  # fmt: skip
def test_an_unused_generator_is_no_state(layer):
    model = network(layers.Reshape((4, 1)), layer(), layers.Flatten())
    before = [variable.numpy() for variable in model.non_trainable_variables]
    require_trainable_by_sgd(model, X)
    evaluate(model, get_params(model), X, np.arange(20) % 3)
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_model_that_was_found_fit_is_looked_at_again_after_a_change():
    model = network(last=layers.Dense(3))
    require_trainable_by_sgd(model, X)
    model.layers[-1].activation = tf.nn.softmax
    with pytest.raises(UnsupportedModelError, match="returns probabilities"):
        require_trainable_by_sgd(model, X)
    model.layers[-1].activation = keras.activations.linear
    require_trainable_by_sgd(model)
    model.layers[-1].trainable = False
    with pytest.raises(UnsupportedModelError, match="no trainable weights"):
        require_trainable_by_sgd(model)


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
