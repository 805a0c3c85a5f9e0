"""Drawings of notebook 01: messages byte by byte, and updates as the ink they come from."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fltutor.crypto.aead import EncryptedTensor
from fltutor.lessons.encrypted_tensors.runs import Delivery
from fltutor.lessons.pictures import draw_ink, label_picture
from fltutor.plotting import BLUE, GREEN, ORANGE, RED, SKY

BYTES_PER_LINE = 20
PART_COLOUR = {"header": SKY, "nonce": ORANGE, "ciphertext": BLUE, "tag": GREEN}
PART_MARK = {"header": "H", "nonce": "N", "ciphertext": "C", "tag": "T"}


def draw_message(figure: Figure, encrypted: EncryptedTensor) -> str:
    """Draw a short message, one box a byte; each part has a colour and a letter."""
    ax = figure.subplots()
    position = 0
    sizes = []
    for name, piece in encrypted.parts():
        for byte in piece:
            line, column = divmod(position, BYTES_PER_LINE)
            box = Rectangle((column, line), 0.92, 0.9, color=PART_COLOUR[name], alpha=0.35, lw=0)
            ax.add_patch(box)
            ax.text(column + 0.46, line + 0.38, f"{byte:02x}", ha="center", va="center", size=9)
            ax.text(column + 0.88, line + 0.82, PART_MARK[name], ha="right", va="bottom", size=6)
            position += 1
        sizes.append(f"{name} ({PART_MARK[name]}) {len(piece)}")
    lines = -(-position // BYTES_PER_LINE)
    ax.set(xlim=(0, BYTES_PER_LINE), ylim=(lines, 0), xlabel="byte of the line")
    ax.set_xticks(np.arange(0, BYTES_PER_LINE, 5) + 0.46, range(0, BYTES_PER_LINE, 5))
    ax.set_yticks(np.arange(lines) + 0.45, [line * BYTES_PER_LINE for line in range(lines)])
    ax.set_ylabel("first byte")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(f"A whole message: {position} bytes", loc="left", fontsize=11)
    return f"{position} bytes: " + ", ".join(sizes) + "."


def draw_blocks(ax: Axes, ciphertext: bytes, *, title: str) -> None:
    """Draw each 16-byte block of a (784, 10) float32 tensor as a dot shaded by its first byte.

    70 blocks hold the weights of 28 pixels, so that one line is one row of the image.
    """
    shades = np.frombuffer(ciphertext, np.uint8).reshape(28, 70, 16)[:, :, 0]
    ax.imshow(shades, cmap="gray", vmin=0, vmax=255, aspect=70 / 28, interpolation="nearest")
    ax.set(xticks=(0, 69), yticks=(0, 27))
    label_picture(ax, title, "block of 16 bytes", "pixel row")


def draw_training(figure: Figure, images: np.ndarray, update: np.ndarray, digit: int) -> str:
    """Draw a client's images, and beside them the update it would send."""
    axes = figure.subplots(1, len(images) + 1)
    for number, (ax, image) in enumerate(zip(axes[:-1], images, strict=True), start=1):
        ax.imshow(image.reshape(28, 28), cmap="Greys", interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(f"image {number}", fontsize=10)
    draw_ink(axes[-1], update, digit, title=f"update for “{digit}”")
    axes[-1].set(xticks=[], yticks=[], xlabel="", ylabel="")
    untouched = np.mean(update == 0)
    return (
        f"{len(images)} images of a {digit}. The update has {update.size:,} weights, "
        f"{untouched:.0%} of them exactly zero: pixels that stayed blank."
    )


def draw_wire(figure: Figure, update: np.ndarray, digit: int, ciphertexts: dict[str, bytes]) -> str:
    """Draw what was sent, and beside it what the wire shows under each cipher."""
    axes = figure.subplots(1, len(ciphertexts) + 1)
    draw_ink(axes[0], update, digit, title="what the client sends")
    counts = []
    for ax, (name, ciphertext) in zip(axes[1:], ciphertexts.items(), strict=True):
        draw_blocks(ax, ciphertext, title=f"on the wire: {name}")
        blocks = np.frombuffer(ciphertext, "V16")
        counts.append(f"{name} {len(np.unique(blocks)):,}")
    return f"Different blocks among {len(blocks):,}: " + ", ".join(counts) + "."


def draw_reuse(
    figure: Figure, update: np.ndarray, rebuilt: dict[str, np.ndarray], digit: int
) -> str:
    """Draw the update that was sent, and what the eavesdropper makes of each wire."""
    axes = figure.subplots(1, len(rebuilt) + 1)
    darkest = np.abs(update[:, digit]).max()
    draw_ink(axes[0], update, digit, title="client 7 sent")
    counts = []
    for ax, (name, guess) in zip(axes[1:], rebuilt.items(), strict=True):
        right = int((~_differ(guess, update)).sum())
        title = f"{name}: {right:,} weights right"
        draw_ink(ax, _finite(guess), digit, title=title, darkest=darkest)
        counts.append(f"{name} {right:,}")
    return f"Weights right in every bit, of {update.size:,}: " + ", ".join(counts) + "."


def draw_delivery(figure: Figure, delivery: Delivery) -> str:
    """Draw an update, its ciphertext, the eavesdropper's guess and what the server makes of it."""
    scene, digit = delivery.scene, delivery.scene.digit
    figure.set_layout_engine("none")  # fixed places: faster, and nothing jumps under a slider
    places = {"left": 0.05, "right": 0.99, "wspace": 0.25, "bottom": 0.12, "top": 0.96}
    sent, wire, spy, server = figure.subplots(1, 4, gridspec_kw=places)
    total, darkest = scene.update.size, np.abs(scene.update[:, digit]).max()
    draw_ink(sent, scene.update, digit, title="client 7 sends", darkest=darkest)
    nonce = "reused nonce" if delivery.reused else "fresh nonce"
    nonce = "no nonce" if delivery.cipher == "ECB" else nonce
    draw_blocks(wire, delivery.ciphertext, title=f"wire: {delivery.cipher}, {nonce}")
    guess = delivery.rebuilt if delivery.cipher == "ECB" else _finite(delivery.rebuilt)
    spied = f"eavesdropper: {delivery.num_rebuilt / total:.0%}"
    draw_ink(spy, guess, digit, title=spied, darkest=darkest)
    tampering, title = _tampering(delivery)
    if delivery.opened is None:
        _draw_refusal(server, title)
    else:
        draw_ink(server, _finite(delivery.opened), digit, title=title, darkest=darkest)
        _ring_changes(server, delivery)
    replay = "opens" if delivery.replay_opens else "is refused"
    server.set_xlabel(f"replay in round 4 {replay}")
    return (
        f"AES-256-{delivery.cipher}, {nonce}. Eavesdropper: {delivery.num_rebuilt:,} of {total:,} "
        f"weights right in every bit. Server: {tampering}. "
        f"The same message in round 4 {replay}."
    )


def _tampering(delivery: Delivery) -> tuple[str, str]:
    """A sentence and a title for what the server made of the flipped byte."""
    flipped = f"byte {delivery.flipped_byte:,} flipped"
    if delivery.opened is None:
        return f"{flipped}, refused", "server: refused"
    wrong = np.flatnonzero(_differ(delivery.opened, delivery.scene.update))
    if not len(wrong):
        return "opened as sent", "server: as sent"
    before, after = delivery.scene.update.flat[wrong[0]], delivery.opened.flat[wrong[0]]
    what = (
        f"{len(wrong)} weights are wrong" if len(wrong) > 1 else f"{before:.4g} became {after:.4g}"
    )
    return f"{flipped}, opened all the same: {what}", f"server: {len(wrong)} altered"


def _ring_changes(ax: Axes, delivery: Delivery) -> None:
    """Circle the pixels whose weights arrived altered."""
    for pixel in np.flatnonzero(_differ(delivery.opened, delivery.scene.update).any(axis=1)):
        row, column = divmod(int(pixel), 28)
        ax.plot(column, row, "o", ms=13, mfc="none", mec=RED, mew=2)


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two float32 arrays differ in any bit; NaN equals itself."""
    return one.view(np.uint32) != other.view(np.uint32)


def _draw_refusal(ax: Axes, title: str) -> None:
    ax.add_patch(Rectangle((0, 0), 1, 1, hatch="//", fill=False, ec="0.8", lw=0))
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect=1, xticks=[], yticks=[])
    ax.text(0.5, 0.5, "tag does\nnot match", ha="center", va="center", color=RED, size=13)
    label_picture(ax, title, "", "")


def _finite(weights: np.ndarray) -> np.ndarray:
    """Random bits read as floats hold NaN and Inf: draw them as the largest number."""
    return np.nan_to_num(weights, nan=np.finfo(np.float32).max)
