"""Notebook 02: what the explorer runs, and the round of the exercises."""

from __future__ import annotations

import numpy as np

from fltutor.crypto.exchange import Exchange, exchange_keys

ROUND = 3
"""The round in which exercise 2.3 plays: a key of the one before is an old one."""


def exchange_numbers(num_clients: int, num_victims: int, signed: bool) -> Exchange:
    """Let clients agree on keys through a server, each to send ten numbers to all others.

    Example:
        >>> attack = exchange_numbers(4, num_victims=1, signed=False)
        >>> f"{len(attack.overheard)} of {attack.num_messages}"
        '6 of 12'
    """
    updates = np.random.default_rng(2).normal(size=(num_clients, 10))
    return exchange_keys(updates, num_victims, signed, round_number=ROUND)
