"""Checks for the exercises of notebook 02."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fltutor.checks import no_answer, verdict
from fltutor.crypto.exchange import PURPOSE, Announcement
from fltutor.crypto.keys import (
    Directory,
    Identity,
    KeyPair,
    Label,
    Party,
    Secret,
    agree,
    derive,
    x25519,
)
from fltutor.errors import AuthenticationError, InvalidParameterError
from fltutor.lessons.keys_between_strangers.runs import ROUND

P = 2**255 - 19
WORTHLESS_POINTS = tuple(
    number.to_bytes(32, "little")
    for number in (
        0,
        1,
        P - 1,
        P,
        P + 1,
        0xB8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
        0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    )
)
"""Public keys of small order: each forces the all-zero secret (Wycheproof, X25519)."""


def check_separate_keys(mine: Callable[[bytes, str, str, str], bytes]) -> None:
    """Look for two purposes, directions or pairs of names that get one key.

    Example:
        >>> check_separate_keys(lambda secret, purpose, sender, receiver: secret)
        ✗ this is the secret itself: one leaked key would be all keys
        >>> def my_key(secret, *label): return hkdf(secret, repr(label).encode())
        >>> from fltutor.crypto.keys import hkdf
        >>> check_separate_keys(my_key)
        ✓ every purpose, direction and pair of names has a key of its own
    """
    verdict(
        lambda: _separation_problem(mine),
        "every purpose, direction and pair of names has a key of its own",
    )


def _separation_problem(mine: Callable) -> str | None:
    secret, label = bytes(range(32)), ("transport", "ann", "bob")
    key = mine(secret, *label)
    if key is None or key is ...:
        return no_answer(mine, key)
    if not isinstance(key, bytes) or len(key) != 32:
        size = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        return f"a key is 32 bytes, got {size}"
    if key == secret:
        return "this is the secret itself: one leaked key would be all keys"
    if mine(secret, *label) != key:
        return "two calls with the same arguments differ, so the peer cannot compute it"
    if mine(bytes(32), *label) == key:
        return "the key does not depend on the secret: everyone can compute it"
    others = [
        (("mask", "ann", "bob"), "the mask key is the transport key: who learns one has both"),
        (("transport", "bob", "ann"), "one key for both directions: a message can be sent back"),
        (("transport", "ann", "eve"), "the receiver is not in the label"),
        (("transport", "eve", "bob"), "the sender is not in the label"),
        (("transport", "an", "nbob"), "ambiguous: ann to bob and an to nbob have one key"),
        (("transporta", "nn", "bob"), "ambiguous: the end of the purpose can pass as a name"),
    ]
    return next((problem for other, problem in others if mine(secret, *other) == key), None)


def check_all_zero(mine: Callable[[bytes, bytes], bytes]) -> None:
    """Offer honest keys and worthless ones to the reader's key agreement.

    Example:
        >>> check_all_zero(x25519)
        ✓ honest keys agree, and each of 7 worthless ones is refused
    """
    verdict(
        lambda: _all_zero_problem(mine),
        f"honest keys agree, and each of {len(WORTHLESS_POINTS)} worthless ones is refused",
    )


def _all_zero_problem(mine: Callable) -> str | None:
    for number in (1, 2, 3):
        private, public = bytes([number] * 32), KeyPair.from_bytes(bytes([9] * 32)).public_key
        try:
            got = mine(private, public)
        except Exception as error:
            return f"an honest key is refused: {type(error).__name__}: {error}"
        if got is None or got is ...:
            return no_answer(mine, got)
        if got != x25519(private, public):
            return "an honest key gives another secret than X25519"
    for point in WORTHLESS_POINTS:
        name = f"the public key {point.hex()[:8]}..."
        try:
            got = mine(bytes([1] * 32), point)
        except Exception:
            continue  # refused, which is right
        if got is None or got is ... or got is False:
            return f"{name}: returned {got}; who forgets to look goes on without a key. Raise"
        if not any(point):
            return f"{name} gives the all-zero secret, which the attacker knows, and it went out"
        return (
            f"{name} is not zero and still gives the all-zero secret. "
            "Look at what comes out, not at what came in"
        )
    return None


def check_accept(mine: Callable[[Announcement, int, Directory, KeyPair], Any]) -> None:
    """Hand honest and forged announcements to the reader's function.

    Example:
        >>> def my_accept(announcement, round_number, directory, pair):
        ...     return agree(pair, announcement.key)
        >>> check_accept(my_accept)
        ✗ a key that client 1 never signed was accepted
    """
    verdict(
        lambda: _accept_problem(mine),
        "nothing is derived from a key that the right client did not sign for this round",
    )


def _accept_problem(mine: Callable) -> str | None:
    one, two = Identity.generate("client 1"), Identity.generate("client 2")
    stranger, impostor = Identity.generate("client 9"), Identity.generate("client 1")
    directory = Directory([one.public, two.public])
    me, peer = KeyPair.generate(), KeyPair.generate()

    def announced(signer, name, key=peer.public_key, round_number=ROUND):
        bare = Announcement(name, key, round_number)
        signature = signer.sign(bare.message, purpose=PURPOSE)
        return Announcement(name, key, round_number, signature)

    honest = announced(one, "client 1")
    got = mine(honest, ROUND, directory, me)
    if got is None or got is ...:
        return no_answer(mine, got)
    if not isinstance(got, Secret):
        return f"needed the Secret that agree returns, got {type(got).__name__}"
    label = Label("check", Party("a", me.public_key), Party("b", peer.public_key))
    if derive(got, label) != derive(agree(peer, me.public_key), label):
        return "this is not the secret of these two keys"

    swapped = Announcement("client 1", KeyPair.generate().public_key, ROUND, honest.signature)
    forgeries = [
        (swapped, "a key that client 1 never signed was accepted"),
        (announced(impostor, "client 1"), "a key that client 1 never signed was accepted"),
        (announced(two, "client 1"), "a key that client 2 signed was accepted as client 1's"),
        (announced(stranger, "client 9"), "a stranger, whom the directory lacks, was accepted"),
        (
            announced(one, "client 1", round_number=ROUND - 1),
            f"a key of round {ROUND - 1} was accepted in round {ROUND}: its secret may be stolen",
        ),
    ]
    for forged, problem in forgeries:
        try:
            got = mine(forged, ROUND, directory, me)
        except AuthenticationError:
            continue
        except Exception as error:
            return f"refuse with an AuthenticationError, got {type(error).__name__}: {error}"
        if not isinstance(got, Secret):
            return f"returned {got}; who forgets to look goes on without a key. Raise"
        return problem
    return _order_problem(mine, announced(impostor, "client 1", key=bytes(32)), directory, me)


def _order_problem(mine: Callable, forged: Announcement, directory: Directory, me: KeyPair):
    """A forged key that is also worthless: which of the two the code meets first shows."""
    try:
        mine(forged, ROUND, directory, me)
    except AuthenticationError:
        return None
    except InvalidParameterError:
        return "derived before it verified: a key that nobody signed got as far as agree"
    return "a key that client 1 never signed was accepted"
