"""Notebook 01: one real update on the wire, under good and bad encryption."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache

import ipywidgets as ipw
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fltutor.crypto.wire import byte_view, encode_context
from fltutor.data import Dataset, load_mnist
from fltutor.plots.encrypted_tensors import draw_delivery
from fltutor.plots.style import new_figure
from fltutor.widgets import Explorer, explorer

BLOCK_BYTES = 16
ROUND, NEXT_ROUND, CLIENT = 3, 4, 7


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


def xor(*messages: bytes) -> bytes:
    """XOR messages of one length, byte by byte.

    Example:
        >>> list(xor(bytes([3, 8, 5]), bytes([41, 7, 200])))
        [42, 15, 205]
    """
    return np.bitwise_xor.reduce([np.frombuffer(m, np.uint8) for m in messages]).tobytes()


def seal(cipher: str, values: bytes, key: bytes, nonce: bytes, associated_data: bytes) -> bytes:
    """Encrypt with AES-256 in a mode by name; only GCM appends a tag and binds the data.

    For showing what goes wrong. Use :func:`fltutor.crypto.aead.encrypt_tensor`.
    """
    if cipher == "GCM":
        return AESGCM(key).encrypt(nonce, values, associated_data)
    return _aes(cipher, key, nonce).encryptor().update(values)


def unseal(cipher: str, message: bytes, key: bytes, nonce: bytes, associated_data: bytes) -> bytes:
    """Undo :func:`seal`.

    Raises:
        InvalidTag: If the cipher is GCM and anything was altered. The others never notice.
    """
    if cipher == "GCM":
        return AESGCM(key).decrypt(nonce, message, associated_data)
    return _aes(cipher, key, nonce).decryptor().update(message)


def _aes(cipher: str, key: bytes, nonce: bytes) -> Cipher:
    mode = modes.ECB() if cipher == "ECB" else modes.CTR(nonce + bytes(4))
    return Cipher(algorithms.AES(key), mode)


def repeated_blocks(ciphertext: bytes) -> np.ndarray:
    """Find the 16-byte blocks that equal the most frequent one, shape (num_blocks,), bool.

    Example:
        >>> repeated_blocks(bytes(32) + bytes(range(16)) + bytes(16))
        array([ True,  True, False,  True])
    """
    blocks = np.frombuffer(ciphertext, f"V{BLOCK_BYTES}")
    _, inverse, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    return (inverse == counts.argmax()) & (counts.max() > 1)


@dataclass(frozen=True)
class Delivery:
    """What became of one update on its way to the server.

    Attributes:
        scene: Who sent what.
        cipher: GCM, CTR or ECB.
        reused: Whether the nonce had carried the global model before.
        ciphertext: What the eavesdropper saw, without the tag.
        rebuilt: Her best guess at the update; NaN where she has none, shape (784, 10).
        num_rebuilt: How many weights of it are right, bit for bit.
        flipped_byte: Which byte the attacker flipped, counted from 1; 0 for none.
        opened: What the server took for the update, or None if it refused.
        replay_opens: Whether the same message opens again in the next round.
    """

    scene: Scene
    cipher: str
    reused: bool
    ciphertext: bytes
    rebuilt: np.ndarray
    num_rebuilt: int
    flipped_byte: int
    opened: np.ndarray | None
    replay_opens: bool


def deliver(
    cipher: str = "GCM", nonce: str = "fresh", flipped_byte: int = 0, bind_round: bool = True
) -> Delivery:
    """Send the global model down and an update up, with an attacker on the wire.

    She knows the global model and no key. She XORs the two messages, or looks
    for repeated blocks under ECB; flips the top bit of a byte; and sends the
    message once more in the next round.

    Args:
        cipher: "GCM", "CTR" or "ECB", all with AES-256.
        nonce: "fresh" for each message, or "reused" for both. ECB has none.
        flipped_byte: Byte of the ciphertext to alter, from 1; 0 leaves it.
        bind_round: Whether the round is in the associated data (GCM only has such).
    """
    scene = load_scene()
    plaintext, known = byte_view(scene.update).tobytes(), byte_view(scene.global_model).tobytes()
    key, first = os.urandom(32), os.urandom(12)
    second = first if nonce == "reused" else os.urandom(12)

    def bound(round_number):
        return encode_context({"round": round_number} if bind_round else {})

    down = seal(cipher, known, key, first, bound(ROUND))[: len(known)]
    message = seal(cipher, plaintext, key, second, bound(ROUND))
    ciphertext = message[: len(plaintext)]
    rebuilt = _rebuild(cipher, ciphertext, down, known)
    same = rebuilt.view(np.uint32) == scene.update.view(np.uint32)

    altered = bytearray(message)
    if flipped_byte:
        altered[flipped_byte - 1] ^= 0x80
    return Delivery(
        scene=scene,
        cipher=cipher,
        reused=nonce == "reused" and cipher != "ECB",
        ciphertext=ciphertext,
        rebuilt=rebuilt,
        num_rebuilt=int(same.sum()),
        flipped_byte=flipped_byte,
        opened=_opened(cipher, bytes(altered), key, second, bound(ROUND)),
        replay_opens=_opened(cipher, message, key, second, bound(NEXT_ROUND)) is not None,
    )


def _rebuild(cipher: str, ciphertext: bytes, down: bytes, known: bytes) -> np.ndarray:
    """The eavesdropper's work: no key in sight."""
    if cipher != "ECB":
        return np.frombuffer(xor(ciphertext, down, known), np.float32).reshape(784, 10)
    zero = np.repeat(repeated_blocks(ciphertext), BLOCK_BYTES // 4)  # four weights a block
    return np.where(zero, np.float32(0), np.float32(np.nan)).reshape(784, 10)


def _opened(
    cipher: str, message: bytes, key: bytes, nonce: bytes, associated_data: bytes
) -> np.ndarray | None:
    try:
        values = unseal(cipher, message, key, nonce, associated_data)
    except InvalidTag:
        return None
    return np.frombuffer(values, np.float32).reshape(784, 10)


def encryption_explorer() -> Explorer:
    """Choose a cipher and its mistakes; watch the wire, the eavesdropper and the server."""
    num_bytes = load_scene().update.nbytes
    return explorer(
        compute=deliver,
        draw=draw_delivery,
        controls={
            "cipher": _choice("cipher", "GCM", "CTR", "ECB"),
            "nonce": _choice("nonce", "fresh", "reused"),
            "flipped_byte": ipw.IntSlider(
                0, min=0, max=num_bytes, description="flip byte (0: none)"
            ),
            "bind_round": ipw.Checkbox(True, description="round in associated data"),
        },
        figure=new_figure(height=2.8),
    )


def _choice(description: str, *options: str) -> ipw.ToggleButtons:
    narrow = {"button_width": "5em"}
    return ipw.ToggleButtons(options=options, description=description, style=narrow)
