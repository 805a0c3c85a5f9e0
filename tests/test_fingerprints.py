"""Nothing that could change a call of a model goes unnoticed; names of parts count for nothing."""

import copy
import gc
import types
import weakref
from collections import deque
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from fltutor.fingerprints import Fingerprint, graph_digest
from fltutor.models import architecture, cnn, mlp
from fltutor.tensorflow_quietly import keras, tf

layers = keras.layers
X = np.random.default_rng(0).random((8, 4)).astype(np.float32)
SLOPE = 0.1
SETTINGS = types.SimpleNamespace(slope=0.1)


def network(*middle):
    return keras.Sequential([keras.Input((4,)), *middle, layers.Dense(3)])


class Scaled(layers.Layer):
    """Reads a number from wherever a reader may have put one."""

    power = 1

    def __init__(self, scale=2.0):
        super().__init__()
        self.scale, self.table = scale, {"shift": [0.5, np.arange(4.0)]}

    def call(self, x):
        shift, vector = self.table["shift"]
        return self.scale * x**self.power + shift + tf.constant(vector, tf.float32)


class Branching(keras.Model):
    """A model whose own attribute says what its call does."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.bend = layers.Dense(4), layers.Dense(3), "tanh"

    def call(self, x):
        x = self.first(x)
        return self.last(tf.tanh(x) if self.bend == "tanh" else tf.nn.relu(x))


def branching():
    model = Branching()
    model(X)
    return model


def closing_over():
    slope = 0.1

    def leaky(x):
        return tf.maximum(slope * x, x)

    def steepen():
        nonlocal slope
        slope = 0.9

    model = network(layers.Dense(4, activation=leaky))
    model.steepen = steepen
    return model


def half(x):
    return SLOPE * x


def leaky_by_a_helper(x):
    return tf.maximum(half(x), x)


def popped(model):
    model.pop()
    model.add(layers.Dense(3, activation="relu"))


def write(owner, name, value):
    owner[name] = value


class Slotted:
    __slots__ = ("empty", "slope")

    def __init__(self):
        self.slope = 0.1


@dataclass(slots=True)
class SlottedData(Slotted):
    shift: float = 0.5


SLOTTED, SLOTTED_DATA, QUEUE = Slotted(), SlottedData(), deque([0.1])
PACKAGE = types.ModuleType("a_package_of_the_reader")
PACKAGE.inside = types.ModuleType("a_package_of_the_reader.inside")
PACKAGE.inside.slope, PACKAGE.inside.around = 0.1, PACKAGE


class Helped(layers.Layer):
    """Calls functions that belong to its class."""

    @staticmethod
    def bent(x):
        return SLOPE * x

    @classmethod
    def shifted(cls, x):
        return x + SHIFT

    def call(self, x):
        return self.shifted(self.bent(x))


SHIFT = 0.5


CHANGES = {
    "a slot": (
        lambda: network(layers.Lambda(lambda x: SLOTTED.slope * x)),
        lambda model, patch: patch.setattr(SLOTTED, "slope", 0.9),
    ),
    "a slot of a dataclass": (
        lambda: network(layers.Lambda(lambda x: SLOTTED_DATA.shift + x)),
        lambda model, patch: patch.setattr(SLOTTED_DATA, "shift", 0.9),
    ),
    "an entry of a queue": (
        lambda: network(layers.Lambda(lambda x: QUEUE[0] * x)),
        lambda model, _: QUEUE.appendleft(QUEUE[0] + 1),
    ),
    "a global of a static method": (
        lambda: network(Helped()),
        lambda model, patch: patch.setitem(globals(), "SLOPE", 0.9),
    ),
    "a global of a class method": (
        lambda: network(Helped()),
        lambda model, patch: patch.setitem(globals(), "SHIFT", 0.9),
    ),
    "a module in a module": (
        lambda: network(layers.Lambda(lambda x: PACKAGE.inside.slope * x)),
        lambda model, patch: patch.setattr(PACKAGE.inside, "slope", 0.9),
    ),
    "another activation": (
        lambda: network(layers.Dense(4, activation="relu")),
        lambda model, _: setattr(model.layers[0], "activation", keras.activations.tanh),
    ),
    "an activation inside": (
        lambda: network(keras.Sequential([layers.Dense(4, activation="relu")])),
        lambda model, _: setattr(model.layers[0].layers[0], "activation", keras.activations.elu),
    ),
    "pop and add": (lambda: network(layers.Dense(4)), lambda model, _: popped(model)),
    "a layer more": (lambda: network(), lambda model, _: model.add(layers.Dense(3))),
    "another slope": (
        lambda: network(layers.LeakyReLU(0.1)),
        lambda model, _: setattr(model.layers[0], "negative_slope", 0.3),
    ),
    "a lambda for a lambda": (
        lambda: network(layers.Dense(4, activation=lambda x: 2.0 * x)),
        lambda model, _: setattr(model.layers[0], "activation", lambda x: 3.0 * x),
    ),
    "a call of its own": (
        lambda: network(layers.Dense(4)),
        lambda model, _: setattr(model.layers[0], "call", lambda x, training=None: -x),
    ),
    "an attribute of a layer": (
        lambda: network(Scaled()),
        lambda model, _: setattr(model.layers[0], "scale", 3.0),
    ),
    "a number deep in a layer": (
        lambda: network(Scaled()),
        lambda model, _: write(model.layers[0].table["shift"], 0, 0.25),
    ),
    "an entry of an array": (
        lambda: network(Scaled()),
        lambda model, _: write(model.layers[0].table["shift"][1], 2, 7.0),
    ),
    "an attribute of a class": (
        lambda: network(Scaled()),
        lambda model, patch: patch.setattr(Scaled, "power", 2),
    ),
    "a method of a class": (
        lambda: network(Scaled()),
        lambda model, patch: patch.setattr(Scaled, "call", lambda self, x: -x),
    ),
    "what a function closes over": (closing_over, lambda model, _: model.steepen()),
    "a global": (
        lambda: network(layers.Dense(4, activation=leaky_by_a_helper)),
        lambda model, patch: patch.setitem(globals(), "SLOPE", 0.9),
    ),
    "a function that a function calls": (
        lambda: network(layers.Dense(4, activation=leaky_by_a_helper)),
        lambda model, patch: patch.setitem(globals(), "half", lambda x: 0.7 * x),
    ),
    "an attribute of a global": (
        lambda: network(layers.Lambda(lambda x: SETTINGS.slope * x)),
        lambda model, patch: patch.setattr(SETTINGS, "slope", 0.9),
    ),
    "what a partial fills in": (
        lambda: network(layers.Dense(4, activation=partial(tf.nn.leaky_relu, alpha=0.1))),
        lambda model, _: model.layers[0].activation.keywords.update(alpha=0.4),
    ),
    "an attribute of the model": (branching, lambda model, _: setattr(model, "bend", "relu")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_another_computation_has_another_digest(change, monkeypatch):
    build, alter = CHANGES[change]
    model = build()
    before = architecture(model, X, 8).digest
    seen = Fingerprint(model)
    assert seen.fits()
    assert architecture(model, X, 8).digest == before
    alter(model, monkeypatch)
    assert not seen.fits()
    assert architecture(model, X, 8).digest != before


@pytest.mark.parametrize("change", CHANGES)
def test_two_of_one_recipe_have_one_digest(change):
    build, _ = CHANGES[change]
    assert architecture(build(), X, 8).digest == architecture(build(), X, 8).digest


RECIPES = {
    "mlp": (lambda seed: mlp(4, 3, seed=seed), X),
    "cnn": (lambda seed: cnn(4, 3, filters=(2,), seed=seed), np.tile(X, 4)),
    "LSTM": (lambda seed: network(layers.Reshape((4, 1)), layers.LSTM(2, seed=seed)), X),
    "a constant of TensorFlow": (
        lambda seed: network(layers.Lambda(partial(tf.add, tf.constant([1.0, 2, 3, 4])))),
        X,
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_names_and_weights_do_not_count_but_shapes_and_types_do(recipe):
    build, x = RECIPES[recipe]
    digest = architecture(build(1), x, 8).digest
    assert architecture(build(2), x, 8).digest == digest
    others = {architecture(build(1), x, 7).digest, architecture(build(1), x.astype(int), 8).digest}
    assert digest not in others


def test_other_constants_are_another_computation():
    def shifted(by):
        return network(layers.Lambda(partial(tf.add, tf.constant([by, 0, 0, 0]))))

    digests = {architecture(shifted(by), X, 8).digest for by in (1.0, 2.0)}
    assert len(digests) == 2


def graph(function, *shapes):
    specs = [tf.TensorSpec(shape) for shape in shapes]
    return tf.function(function).get_concrete_function(*specs).graph


def test_which_input_goes_where_counts_in_functions_too():
    def repeated(body):
        def call(a, b):
            return tf.while_loop(
                lambda i, a, b: i < 3, lambda i, a, b: (i + 1, *body(a, b)), (0, a, b)
            )

        return graph_digest(graph(call, (2,), (2,)))

    assert repeated(lambda a, b: (a - b, b)) == repeated(lambda a, b: (a - b, b))
    assert repeated(lambda a, b: (a - b, b)) != repeated(lambda a, b: (b - a, b))
    assert repeated(lambda a, b: (a - b, b)) != repeated(lambda a, b: (a - b, a))


def test_a_change_back_is_no_change_of_the_computation():
    model = network(layers.Dense(4, activation="relu"))
    digest = architecture(model, X, 8).digest
    for name in ("tanh", "relu"):
        model.layers[0].activation = keras.activations.get(name)
        changed = architecture(model, X, 8).digest
    assert changed == digest


def test_weights_may_move_without_a_new_look():
    model = mlp(4, 3)
    architecture(model, X, 8)
    seen = Fingerprint(model)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model(X)
    assert seen.fits()


def test_what_was_found_out_is_neither_copied_nor_saved(tmp_path):
    model = mlp(4, 3)
    architecture(model, X, 8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (copy.copy(model), copy.deepcopy(model), keras.models.clone_model(model), loaded):
        assert "_fltutor_notes" not in vars(other)


@pytest.mark.parametrize("build", [mlp, cnn, branching, closing_over])
def test_no_model_is_kept_alive(build):
    model = build()
    architecture(model, X if build in (branching, closing_over) else np.zeros((1, 64), "f4"), 8)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
