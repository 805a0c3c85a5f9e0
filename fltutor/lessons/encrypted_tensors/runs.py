"""Notebook 01: one real update on the wire, under good and bad encryption."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fltutor.crypto.wire import byte_view, encode_context
from fltutor.lessons.scene import Scene, load_scene

BLOCK_BYTES = 16
ROUND, NEXT_ROUND = 3, 4


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
