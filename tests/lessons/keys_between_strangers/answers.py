"""Answers to the exercises of notebook 02, right and wrong."""

from tests.lessons import Exercise


def key(expression: str) -> str:
    """The cell of exercise 2.1 with this answer."""
    return f"""
from fltutor.crypto.wire import encode_context


def my_key(secret, purpose, sender, receiver):
    return {expression}


lesson.check_separate_keys(my_key)
"""


def agreement(body: str) -> str:
    """The cell of exercise 2.2 with these lines."""
    return f"""
def my_agree(private_key, public_key):
    {body}
    return secret


lesson.check_all_zero(my_agree)
"""


def accept(*lines: str) -> str:
    """The cell of exercise 2.3 with these lines."""
    body = "\n    ".join(lines)
    return f"""
def my_accept(announcement, round_number, directory, pair):
    {body}


lesson.check_accept(my_accept)
"""


DERIVE = "secret = my_x25519(private_key, public_key)"
FIND = "peer = directory.find(announcement.name)"
VERIFY = 'peer.verify(announcement.signature, announcement.message, purpose="announce key")'
CHECK_ROUND = """if announcement.round_number != round_number:
        raise AuthenticationError(f"a key of round {announcement.round_number}")"""
AGREE = "return keys.agree(pair, announcement.key)"

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=key(
            'hkdf(secret, encode_context({"purpose": purpose, "from": sender, "to": receiver}))'
        ),
        says="✓ every purpose, direction and pair of names has a key of its own",
        mistakes=(
            (key("secret"), "✗ this is the secret itself"),
            (key('hkdf(secret, b"key")'), "✗ the mask key is the transport key"),
            (
                key("hkdf(secret, repr((purpose, *sorted((sender, receiver)))).encode())"),
                "✗ one key for both directions",
            ),
            (
                key("hkdf(secret, (purpose + sender + receiver).encode())"),
                "✗ ambiguous: ann to bob and an to nbob have one key",
            ),
            (key("hkdf(bytes(32), repr((purpose, sender)).encode())"), "✗ the key does not depend"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=agreement(
            f"""{DERIVE}
    if not any(secret):
        raise ValueError("the public key forces the all-zero secret")"""
        ),
        says="✓ honest keys agree, and each of 7 worthless ones is refused",
        mistakes=(
            (agreement(DERIVE), "✗ the public key 00000000... gives the all-zero secret"),
            (
                agreement(
                    f"""if not any(public_key):
        raise ValueError("zero")
    {DERIVE}"""
                ),
                "Look at what comes out, not at what came in",
            ),
            (
                agreement(
                    f"""{DERIVE}
    if not any(secret):
        return None"""
                ),
                "returned None; who forgets to look goes on without a key. Raise",
            ),
            (
                agreement(
                    f"""{DERIVE}
    if 0 in secret or secret[-1] < 128:
        raise ValueError("zero")"""
                ),
                "✗ an honest key is refused",
            ),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=accept(FIND, VERIFY, CHECK_ROUND, AGREE),
        says="✓ nothing is derived from a key that the right client did not sign",
        mistakes=(
            (accept(AGREE), "✗ a key that client 1 never signed was accepted"),
            (
                accept(
                    "try:",
                    f"    {FIND}",
                    f"    {VERIFY}",
                    "except AuthenticationError:",
                    "    pass",
                    AGREE,
                ),
                "✗ a key that client 1 never signed was accepted",
            ),
            (
                accept(
                    "for peer in directory:",
                    "    try:",
                    f"        {VERIFY}",
                    f"        {AGREE}",
                    "    except AuthenticationError:",
                    "        continue",
                    'raise AuthenticationError("nobody signed this")',
                ),
                "✗ a key that client 2 signed was accepted as client 1's",
            ),
            (accept(FIND, VERIFY, AGREE), "✗ a key of round 2 was accepted in round 3"),
            (
                accept(
                    "secret = keys.agree(pair, announcement.key)",
                    FIND,
                    VERIFY,
                    CHECK_ROUND,
                    "return secret",
                ),
                "✗ derived before it verified",
            ),
        ),
    ),
]
