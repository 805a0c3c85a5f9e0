"""Secure aggregation: the server adds rows that nobody but their owner can read.

Each client hides its row, encoded as integers modulo 2^32 or 2^64, under masks::

    upload of i  =  row i  +  self-mask of i  +  sum of  ±mask of the pair {i, j}

A pair's mask is added by one and subtracted by the other, so it cancels in the sum of
both. Self-masks, and the pair masks of clients that left, are recovered from shares
that every client dealt to the others beforehand. Rounds, after Bonawitz et al. 2017:

1. *keys*: every client publishes two fresh public keys, for transport and for masks.
2. *shares*: every client deals shares of its mask key and of its self-mask's seed, each
   sealed for one holder, and commits to them with salted hashes.
3. *upload*: masked rows. The server keeps them to the end of the round, or adds them as they come.
4. *consistency* (``active_server`` only): clients sign the list of those whose upload arrived.
5. *unmasking*: for each client, the others reveal their share of its seed (it uploaded) or
   of its mask key (it left), never both: both would unmask its row.

**Who learns what.** The server learns the sum of the rows that arrived, and who sent them. So
does whoever hears every message, unless they travel over channels. Clients learn nothing of
each other's rows. The sum itself may say a lot about a row; see notebooks 08 and 10.

**How many may collude.** With n clients and threshold t, up to :attr:`Session.most_colluding` of
them may tell the server all they have. With c of them it still learns no more than the sum of the
others whose rows arrived, at least t - c. For c = t - 1 that may be one row, which the sum then
shows: whoever wants a sum of more counts on fewer.

* By default the server may be *curious*, but it follows the protocol: t must exceed n / 2, and
  fewer than t may collude.
* With ``active_server=True`` it may *lie* about keys and about who left: keys are signed by
  identities it does not control, survivor lists are compared by signatures, and t must exceed
  2 n / 3. Fewer than 2 t - n may collude, which is at least a third. For it can tell one group of t
  clients that somebody stayed, another that it left, and 2 t - n clients are in both groups.
  It may also choose whom to leave out: the sum holds t rows or more, those of colluding clients
  among them.
* With a :func:`neighbour_graph` each client shares masks with few others, for many clients and a
  curious server: as many may collude as the graph was derived for, but for a small chance.

**What is trusted.** The session comes from somebody whom the clients trust, see
:mod:`fltutor.protocols.masking.session`; so does the directory of identities, since a server
that writes it could invent all clients but one. An honest client refuses messages that
contradict each other, and the server goes on without a client whose messages are refused, also
when its upload is there: see :meth:`SecAggServer.exclude`, which says when too few would be left,
and a new round must do without that client. Uploads and revealed shares are not signed: they
need channels that *authenticate*, not only ones that hide, or whoever can alter an upload alters
the sum. Where masks do not cancel, the total is most likely beyond what so many rows can add up
to, and is refused: on the default grid, one coordinate of noise passes with a chance of
n / 65,536, and d coordinates with that to the power of d. Nothing here stops a *client* from
sending a senseless row.

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
