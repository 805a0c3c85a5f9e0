"""Secure aggregation: the server adds rows that nobody but their owner can read.

Each client hides its row, encoded as integers modulo 2^32 or 2^64, under masks::

    upload of i  =  row i  +  self-mask of i  +  sum of  ±mask of the pair {i, j}

A pair's mask is added by one and subtracted by the other, so it cancels in the sum of
both. Self-masks, and the pair masks of clients that left, are recovered from shares
that every client dealt to the others beforehand. Rounds, after Bonawitz et al. 2017:

1. *keys*: every client publishes two fresh public keys, for transport and for masks.
2. *shares*: every client deals shares of its mask key and of its self-mask's seed, each
   sealed for one holder, and commits to them with salted hashes.
3. *upload*: masked rows. The server adds them as they come.
4. *consistency* (``active_server`` only): clients sign the list of those whose upload arrived.
5. *unmasking*: for each client, the others reveal their share of its seed (it uploaded) or
   of its mask key (it left), never both: both would unmask its row.

**Who learns what.** The server learns the sum of the rows that arrived, as long as fewer
than ``threshold`` clients collude with it. So does whoever hears every message, unless
they travel over channels. Clients learn nothing of each other's rows.
The sum itself may say a lot about a row; see notebooks 08 and 10.

**Two kinds of server.** By default the server may be curious, but it follows the protocol:
the threshold must exceed n / 2. With ``active_server=True`` it may lie about keys and about
who left: keys are signed by identities it does not control, survivor lists are compared by
signatures, and the threshold must exceed 2 n / 3. In either case an honest client refuses
messages that contradict each other. For many clients and a server that follows the protocol,
:func:`neighbour_graph` lets each share masks with few others. Nothing here stops a *client*
from sending a senseless row, or a server from inventing clients if it writes the directory
of identities.

For teaching only: the cryptography is vetted except for the shares, whose
integer arithmetic takes time that depends on the secrets; memory is not wiped.

References:
    Bonawitz et al., CCS 2017, Figure 4. https://eprint.iacr.org/2017/281
    Bell et al., CCS 2020: neighbours instead of everybody. https://eprint.iacr.org/2020/704
"""

from fltutor.protocols.masking.client import SecAggClient
from fltutor.protocols.masking.graph import NeighbourGraph, neighbour_graph
from fltutor.protocols.masking.run import MaskedSum, secagg_sum
from fltutor.protocols.masking.server import SecAggServer
from fltutor.protocols.masking.session import Session

__all__ = [
    "MaskedSum",
    "NeighbourGraph",
    "SecAggClient",
    "SecAggServer",
    "Session",
    "neighbour_graph",
    "secagg_sum",
]
