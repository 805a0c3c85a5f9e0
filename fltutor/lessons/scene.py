"""One client that wrote a single digit, and what its update shows to whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fltutor.data import Dataset, load_mnist


@dataclass(frozen=True)
class Scene:
    """A global model, and what one client that wrote a single digit sends back.

    Attributes:
        digits: The data.
        global_model: Softmax regression, float32, shape (784, 10), the same for all clients.
        update: The client's weights after training, minus ``global_model``.
        digit: The only digit the client wrote.
        images: Its images, shape (num_images, 784).
    """

    digits: Dataset = field(repr=False)
    global_model: np.ndarray = field(repr=False)
    update: np.ndarray = field(repr=False)
    digit: int
    images: np.ndarray = field(repr=False)

    def accuracy(self, weights: np.ndarray) -> float:
        """Share of the test digits that ``weights`` classifies right."""
        scores = self.digits.x_test @ weights
        return float(np.mean(scores.argmax(axis=1) == self.digits.y_test))


@cache
def load_scene(digit: int = 3, num_images: int = 5) -> Scene:
    """Train a global model on MNIST, then let a client with a few images train on.

    Example:
        >>> scene = load_scene()
        >>> scene.update.shape, scene.accuracy(scene.global_model) > 0.85
        ((784, 10), True)
    """
    digits = load_mnist()
    zeros = np.zeros((784, 10), np.float32)
    global_model = train(zeros, digits.x, digits.y, steps=60, learning_rate=0.5)
    mine = np.flatnonzero(digits.y == digit)[:num_images]
    images = digits.x[mine]
    local = train(global_model, images, digits.y[mine], steps=5, learning_rate=0.1)
    update = local - global_model
    for array in (global_model, update):
        array.flags.writeable = False
    return Scene(digits, global_model, update, digit, images)


def train(
    weights: np.ndarray, images: np.ndarray, labels: np.ndarray, steps: int, learning_rate: float
) -> np.ndarray:
    """Softmax regression by gradient descent; returns new weights, shape (784, 10)."""
    for _ in range(steps):
        scores = images @ weights
        guess = np.exp(scores - scores.max(axis=1, keepdims=True))
        guess /= guess.sum(axis=1, keepdims=True)
        guess[np.arange(len(labels)), labels] -= 1
        weights = weights - np.float32(learning_rate / len(images)) * (images.T @ guess)
    return weights
