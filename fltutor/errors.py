"""Every exception that fltutor raises on purpose.

Each one subclasses the builtin that a reader would expect, so that
``except ValueError`` works too. The text names the argument, what was needed
and what came, and the client, round or phase where there is one. It never
holds key material.
"""

import re

_CLIENTS = re.compile(r"(?<=\bclient )\d+|(?<=\bclients )\d+(?:(?:, and |, | and | or )\d+)*\b")
_NUMBER = re.compile(r"\d+")


def renumbered(text, clients):
    """Say ``"client 17"`` where a text calls row 3 of a cohort ``"client 3"``.

    Args:
        text: Any text.
        clients: The client of the federation behind each row of the cohort.

    Example:
        >>> renumbered("the update of client 1 holds NaN; clients 0 and 1 stay", [4, 17])
        'the update of client 17 holds NaN; clients 4 and 17 stay'
    """

    def client(number):
        row = int(number.group())
        return str(clients[row]) if row < len(clients) else number.group()

    return _CLIENTS.sub(lambda found: _NUMBER.sub(client, found.group()), text)


class FltutorError(Exception):
    """Base of all errors raised by this package."""

    def renumber(self, clients):
        """Name the clients of the federation in place of the rows of a cohort.

        Args:
            clients: The client of the federation behind each row of the cohort.

        Example:
            >>> error = InvalidUpdateError("the update of client 1 holds NaN or Inf")
            >>> error.renumber([4, 17])
            >>> print(error)
            the update of client 17 holds NaN or Inf
        """
        self.args = tuple(
            renumbered(part, clients) if isinstance(part, str) else part for part in self.args
        )


class InvalidParameterError(FltutorError, ValueError):
    """An argument is outside its domain: a negative noise scale, an empty list."""


class InvalidUpdateError(FltutorError, ValueError):
    """A client's data is unusable: NaN, Inf, a wrong shape. The text names the client."""


class WireFormatError(FltutorError, ValueError):
    """Received bytes do not follow the wire format: truncated, trailing, unknown version."""


class AuthenticationError(FltutorError, ValueError):
    """A message was altered, was sealed with another key, or belongs to another context."""


class KeyExhaustedError(FltutorError, RuntimeError):
    """A key was used as often as is safe. Generate a new one."""


class CopyRefusedError(FltutorError, TypeError):
    """An object that must stay unique, such as a key, was about to be copied or pickled."""


class ProtocolAbort(FltutorError, RuntimeError):
    """A protocol stopped without a result because going on would be wrong or unsafe."""


class TooFewClients(ProtocolAbort):
    """Too many clients left: finishing with the rest would be impossible or unsafe.

    Attributes:
        phase: The phase that too few clients finished, a :class:`~fltutor.transcript.Phase`.
        survivors: The clients that are left, ascending.
        threshold: How many were needed.
    """

    def __init__(self, phase, survivors, threshold, whose=""):
        super().__init__(phase, survivors, threshold, whose)
        self.phase, self.survivors, self.threshold = phase, tuple(survivors), threshold
        self._whose = whose

    def renumber(self, clients):
        """As for every error; ``survivors`` are clients of the federation afterwards, too."""
        named = {row: clients[row] for row in self.survivors if row < len(clients)}
        survivors = tuple(sorted(named.get(row, row) for row in self.survivors))
        self.__init__(self.phase, survivors, self.threshold, renumbered(self._whose, clients))

    def __str__(self):
        survivors = ", ".join(map(str, self.survivors)) or "none"
        return (
            f"stopped in phase {self.phase.name}: {len(self.survivors)} of the {self.threshold} "
            f"clients it takes are left{self._whose} ({survivors}). Start anew, with fresh keys"
        )


class UnsupportedModelError(FltutorError, ValueError):
    """A Keras model has layers whose meaning in a federated round is not defined here."""


class BudgetExceededError(FltutorError, RuntimeError):
    """The next round would spend more privacy than was allowed."""


class MissingPackageError(FltutorError, ImportError):
    """A package is missing that only this part of the course needs. The text says which."""


class DataUnavailableError(MissingPackageError, RuntimeError):
    """A data set cannot be loaded: the package that ships it is missing, or the file in it."""


class UnsupportedEnvironmentError(FltutorError, RuntimeError):
    """A setting of this process or machine rules the call out. The text says what to change."""
