"""Noise that nobody adds alone: every client adds a share, and only the sum is seen.

If the server adds the noise, it sees the sum without it. Under secure aggregation it need not:
each client rounds its clipped row to a grid, adds its own discrete Gaussian noise, and the
masks let the server see nothing but the sum of all, noise included. What counts is the
noise of those who are sure to be in the sum and do not tell theirs: ``num_shares`` of them.

**The sum of n discrete Gaussians is not one**, but close: each of its probabilities
is that of the discrete Gaussian of scale sqrt(n) sigma times a factor that depends on x and varies
by at most exp(tau / 2) over all x, where ``tau = 10 * sum_k exp(-2 pi^2 sigma^2 k / (k + 1))``
over k = 1, ..., n - 1. For ten clients, noise of half a grid step each makes tau 2, of one step
5e-4, of two steps 7e-17. So the Rényi divergence of order a is at most the smaller of
``a/2 * l^2 + tau * d`` and ``a/2 * (l + tau * sqrt(d))^2`` for d coordinates and
``l = sensitivity / (sqrt(n) sigma)``; see :func:`rdp_of_noise_shares`.

**What it does not do.** Clients that do not add their share, or tell it, lessen the
noise: they count as colluding. Who takes part is not hidden: the protection is that a
client's row could be all zeros (``"zero-out"``) or another row (``"replace-one"``). No sampling
is claimed: the server of a protocol knows whom it has invited.

Reference:
    Kairouz, Liu and Steinke, ICML 2021, Theorem 1 and Proposition 14.
    https://arxiv.org/abs/2102.06387
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from fltutor.border import as_flag, as_kind, as_real, as_whole, shown
from fltutor.crypto.shamir import least_overlap, least_threshold
from fltutor.errors import InvalidParameterError
from fltutor.fixed_point import DEFAULT_GRID, FixedPoint
from fltutor.privacy.accounting import (
    _UNITS,
    ORDERS,
    REPLACE_ONE,
    PrivacySpent,
    _checked_rounds,
    _epsilon_from_rdp,
)
from fltutor.privacy.discrete import LARGEST_SIGMA, delta_of_sampling, largest_draw

ZERO_OUT = "zero-out"
"""Neighbours differ in one client's row, which is all zeros in one of them."""

LEAST_SHARE = 0.5
"""Steps of the grid that the noise of one client must have for the bound on sums."""

MOST_SHARES, MOST_COORDINATES = 10**7, 10**12
"""So many shares and coordinates are counted in a moment, and in floats without an overflow."""


@dataclass(frozen=True)
class NoiseShares:
    """How the noise of one private sum is divided among clients; checked once for everybody.

    Attributes:
        clip_norm: Largest L2 norm of a client's row, in the units of the model weights.
        noise_multiplier: Standard deviation of the noise of all counted shares together, in units
            of ``clip_norm``, as in :func:`~fltutor.aggregation.dp_mean`.
        num_coordinates: Length d of a row.
        num_shares: How many clients' noise is counted on: those sure to be in the sum
            who do not collude with whoever sees it. More only add noise.
        grid: Rows are rounded to it and added up on it.
        allow_no_noise: Must be True to accept ``noise_multiplier=0`` (epsilon is infinite).

    Raises:
        InvalidParameterError: If an argument is out of range, the noise of one client is
            less than half a step of the grid, or row plus noise could leave the grid.

    Example:
        >>> shares = NoiseShares(1.0, 2.0, num_coordinates=100, num_shares=4,
        ...                      grid=FixedPoint(fraction_bits=8, bits=20))
        >>> shares.scale, shares.sensitivity
        (256.0, 261.0)
    """

    clip_norm: float
    noise_multiplier: float
    num_coordinates: int
    num_shares: int
    grid: FixedPoint = DEFAULT_GRID
    allow_no_noise: bool = False

    def __post_init__(self):
        checked = {
            "clip_norm": as_real("clip_norm", self.clip_norm, above=0),
            "noise_multiplier": as_real("noise_multiplier", self.noise_multiplier, least=0),
            "num_coordinates": _num_coordinates(self.num_coordinates),
            "num_shares": _num_shares(self.num_shares),
            "grid": as_kind("grid", self.grid, FixedPoint),
            "allow_no_noise": as_flag("allow_no_noise", self.allow_no_noise),
        }
        for name, value in checked.items():  # a float16 keeps its value, and loses its precision
            object.__setattr__(self, name, value)
        if self.noise_multiplier == 0 and not self.allow_no_noise:
            raise InvalidParameterError(
                "noise_multiplier is 0: epsilon would be infinite. Ask for it with "
                "allow_no_noise=True"
            )
        if self.noise_multiplier:
            self._require_a_scale_that_fits()
        self._require_room()

    @property
    def scale(self) -> float:
        """The scale sigma of the noise of one client, in steps of the grid."""
        together = self.noise_multiplier * self.clip_norm / self.grid.resolution
        return together / math.sqrt(self.num_shares)

    @property
    def sensitivity(self) -> float:
        """The L2 norm of a client's rounded row, in steps of the grid, at most.

        Rounding to the nearest step moves each of d coordinates by half a step at most, and
        so the row by sqrt(d) / 2: the triangle inequality.
        """
        return self.clip_norm / self.grid.resolution + math.sqrt(self.num_coordinates) / 2

    @property
    def largest_noise(self) -> int:
        """The largest magnitude that the noise of one client can have, in steps of the grid."""
        return largest_draw(self.scale) if self.noise_multiplier else 0

    @property
    def effective_noise_multiplier(self) -> float:
        """The noise multiplier of real-valued Gaussian noise that costs no less than these shares.

        A little below ``noise_multiplier``: rounding lengthens rows, and a sum of discrete
        Gaussians is not quite one. For accountants that count by Rényi divergences.
        """
        if self.noise_multiplier == 0:
            return 0.0
        tau = divergence_of_sums(self.scale, self.num_shares) if self.num_shares > 1 else 0.0
        loss = self.sensitivity / (math.sqrt(self.num_shares) * self.scale)
        return 1 / (loss + tau * math.sqrt(self.num_coordinates))

    def _require_a_scale_that_fits(self) -> None:
        if self.num_shares > 1 and not self.scale >= LEAST_SHARE:
            raise InvalidParameterError(
                f"the noise of one client would be {self.scale:.3g} steps of the grid, and the "
                f"bound on sums needs {LEAST_SHARE:g}: take a finer grid than "
                f"{self.grid.fraction_bits} fraction bits"
            )
        if self.scale > LARGEST_SIGMA:
            raise InvalidParameterError(
                f"the noise of one client would be {self.scale:.3g} steps of the grid, needed "
                f"at most {LARGEST_SIGMA:.3g}: take a coarser grid"
            )

    def _require_room(self) -> None:
        row, ends = self.clip_norm / self.grid.resolution + 0.5, self.grid.largest
        if not (row + self.largest_noise) * self.grid.resolution <= ends:
            raise InvalidParameterError(
                f"clip_norm {self.clip_norm:g} and noise of up to "
                f"{self.largest_noise * self.grid.resolution:.3g} do not fit the grid, which ends "
                f"at {ends:g}: take more bits, fewer fraction bits or less noise"
            )


def divergence_of_sums(sigma: float, num_shares: int) -> float:
    """Bound how far the privacy loss of a sum of discrete Gaussians is from that of one: tau.

    Args:
        sigma: The scale of each of them, at least 1/2.
        num_shares: How many are added up.

    Returns:
        The largest difference of the two privacy losses per coordinate; 0 for one share.

    Raises:
        InvalidParameterError: If ``sigma`` is below 1/2 or ``num_shares`` below 1.

    Example:
        >>> [f"{divergence_of_sums(sigma, num_shares=10):.0e}" for sigma in (0.5, 1.0, 2.0)]
        ['2e+00', '5e-04', '7e-17']

    Reference:
        Kairouz, Liu and Steinke 2021, Theorem 1. https://arxiv.org/abs/2102.06387
        Why it holds: a sum of n + 1 has a probability proportional to
        ``exp(-x^2 / (2 (n + 1) sigma^2))`` times a discrete Gaussian's sum around a centre that
        depends on x. By Poisson's summation formula the latter varies by a factor of
        (1 + e) / (1 - e) at most, ``e = 2 (q + q^4 + q^9 + ...)`` and ``q`` the exponential above.
        Factors multiply from share to share; log((1 + e) / (1 - e)) is below 5 q from
        ``sigma`` = 1/2 on, which leaves a second factor of 2.
    """
    num_shares = _num_shares(num_shares)
    sigma = min(100.0, as_real("sigma", sigma, least=LEAST_SHARE))  # from 9 on it is 0 in floats
    k = np.arange(1, num_shares)
    return float(10 * np.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1)).sum())


def rdp_of_noise_shares(
    sensitivity: float, sigma: float, num_shares: int, num_coordinates: int
) -> np.ndarray:
    """Bound the Rényi divergence of one sum of rows, each with its discrete Gaussian noise.

    Args:
        sensitivity: The largest L2 change by one client, in steps of the grid.
        sigma: The scale of each client's noise, in steps of the grid.
        num_shares: How many clients' noise is in the sum, at least.
        num_coordinates: Length d of a row.

    Returns:
        One number for each of :data:`fltutor.privacy.accounting.ORDERS`.

    Raises:
        InvalidParameterError: If several shares are smaller than half a step, or the sensitivity
            is so many times the noise that no float holds the divergence.

    Example:
        >>> rdp_of_noise_shares(100.0, 50.0, num_shares=4, num_coordinates=1000)[-1]
        np.float64(512.0)

    Reference:
        Kairouz, Liu and Steinke 2021, Proposition 14. https://arxiv.org/abs/2102.06387
        Why they hold, in one coordinate moved by k: the privacy loss of the sum is the
        Gaussian's, ``(k^2 - 2 k x) / (2 n sigma^2)``, and a rest of at most tau. The Gaussian's is
        linear in x, and the sum is subgaussian as its parts are (Canonne, Kamath and
        Steinke 2020), so the mean of ``exp((a - 1) * loss)`` is at most what a Gaussian gives
        times ``exp((a - 1) * tau)``: the first bound. The second goes from the sum to the Gaussian,
        tau / 2 away, from there to its neighbour, and back to the sum's, by the triangle
        inequality of concentrated differential privacy (Bun and Steinke 2016).
    """
    sensitivity = as_real("sensitivity", sensitivity, least=0)
    sigma = as_real("sigma", sigma, above=0)
    num_shares, d = _num_shares(num_shares), _num_coordinates(num_coordinates)
    tau = divergence_of_sums(sigma, num_shares) if num_shares > 1 else 0.0
    loss = sensitivity / sigma / math.sqrt(num_shares)
    if not loss <= 1e100:
        raise InvalidParameterError(
            f"sensitivity must be at most 1e100 times the noise, got {sensitivity:g} and "
            f"sigma {sigma:g}"
        )
    return np.minimum(ORDERS / 2 * loss**2 + tau * d, ORDERS / 2 * (loss + tau * math.sqrt(d)) ** 2)


def distributed_epsilon_after(
    rounds: int,
    *,
    clip_norm: float,
    noise_multiplier: float,
    num_coordinates: int,
    threshold: int,
    num_colluding: int = 0,
    grid: FixedPoint = DEFAULT_GRID,
    delta: float,
    adjacency: str = ZERO_OUT,
    unit: str = "client",
    num_clients: int | None = None,
    active_server: bool = False,
) -> PrivacySpent:
    """Bound what ``rounds`` calls of ``distributed_dp_mean`` say about any one client.

    Args:
        rounds: How many noisy sums were released, 0 or more.
        clip_norm, noise_multiplier, threshold, num_colluding, grid, active_server: As in
            :func:`~fltutor.aggregation.distributed_dp_mean`, the same in every round;
            ``noise_multiplier`` may be 0, which costs infinity.
        num_coordinates: Length d of a row.
        delta: The probability with which the bound may fail, in (0, 1), but for the sampler.
        adjacency: ``"zero-out"`` (a client's row could be all zeros) or ``"replace-one"`` (it
            could be any other).
        unit: The name of what one row is about: ``"client"`` or ``"example"``.
        num_clients: If given, a delta above one in so many is warned about. With
            ``active_server`` it is needed: how many may collude depends on it.

    Returns:
        Epsilon by Rényi divergences, without sampling. Its ``delta`` is the one given and what
        :func:`~fltutor.privacy.discrete.delta_of_sampling` adds for all draws counted on.

    Raises:
        InvalidParameterError: If an argument is out of range; see :class:`NoiseShares` and
            :func:`guaranteed_shares`.

    Example:
        >>> print(distributed_epsilon_after(30, clip_norm=1.0, noise_multiplier=3.0,
        ...                                 num_coordinates=650, threshold=8, delta=1e-3))
        epsilon = 7.49 at delta = 1e-3 (client, zero-out, no sampling, RDP)
    """
    rounds = _checked_rounds(rounds)
    delta = as_real("delta", delta, above=0, below=1)
    if not isinstance(adjacency, str) or adjacency not in (ZERO_OUT, REPLACE_ONE):
        raise InvalidParameterError(
            f"adjacency must be {ZERO_OUT!r} or {REPLACE_ONE!r}: noise shares do not hide who "
            f"took part; got {shown(adjacency)}"
        )
    if not isinstance(unit, str) or unit not in _UNITS:
        raise InvalidParameterError(f"unit must be one of {', '.join(_UNITS)}, got {shown(unit)}")
    num_shares = guaranteed_shares(
        threshold, num_colluding, num_clients, active_server=active_server
    )
    if num_clients is not None and not delta < 1 / num_clients:
        warnings.warn(
            f"delta = {delta:g} is not below 1/{num_clients}: publishing the data of one "
            f"{unit} chosen at random would satisfy it",
            stacklevel=2,
        )
    shares = NoiseShares(
        clip_norm,
        noise_multiplier,
        num_coordinates,
        num_shares,
        grid,
        allow_no_noise=True,
    )
    if rounds == 0:
        epsilon = 0.0
    elif noise_multiplier == 0:
        epsilon = math.inf
    else:
        apart = shares.sensitivity * (2 if adjacency == REPLACE_ONE else 1)
        rdp = rdp_of_noise_shares(apart, shares.scale, shares.num_shares, num_coordinates)
        epsilon = float(_epsilon_from_rdp(rounds * rdp, delta, "rdp"))
        num_draws = rounds * num_coordinates * shares.num_shares
        delta = min(1.0, delta + delta_of_sampling(epsilon, shares.scale, num_draws))
    return PrivacySpent(epsilon, delta, unit, adjacency, "none", 1.0, "rdp")


def guaranteed_shares(
    threshold: int,
    num_colluding: int = 0,
    num_clients: int | None = None,
    *,
    active_server: bool = False,
) -> int:
    """Count the clients whose noise is sure to be in the sum and unknown to the server.

    Secure aggregation gives no sum of fewer than ``threshold`` rows, and of those at most
    ``num_colluding`` may come from clients that tell the server their noise, or add none.

    Args:
        threshold: Shares that recover a secret, and clients that must stay.
        num_colluding: Clients that tell the server all they have: fewer than the threshold. If
            the server may lie, fewer than ``2 * threshold - num_clients``: see
            :attr:`fltutor.protocols.masking.Session.most_colluding`.
        num_clients: How many are invited; needed with ``active_server``.
        active_server: The server may lie about who left.

    Raises:
        InvalidParameterError: If so many could unmask a row, the threshold is above
            ``num_clients`` or, with ``active_server``, not above two thirds of them, or an
            argument is no whole number.

    Example:
        >>> guaranteed_shares(threshold=7, num_colluding=2)
        5
        >>> guaranteed_shares(threshold=7, num_colluding=4, num_clients=10, active_server=True)
        Traceback (most recent call last):
        fltutor.errors.InvalidParameterError: num_colluding must be below 2 * 7 - 10 = 4 against a
        server that may lie, got 4: it could tell two groups of 7 different things, and unmask ...
    """
    threshold = as_whole("threshold", threshold, least=1, most=MOST_SHARES)
    num_colluding = as_whole("num_colluding", num_colluding, least=0)
    active_server = as_flag("active_server", active_server)
    if num_clients is not None or active_server:
        num_clients = as_whole("num_clients", num_clients, least=threshold, most=MOST_SHARES)
    if num_colluding >= threshold:
        raise InvalidParameterError(
            f"num_colluding must be below the threshold of {threshold}, got "
            f"{shown(num_colluding)}: as many as the threshold could unmask every row"
        )
    if active_server:
        least = least_threshold(num_clients, active_server=True)
        if threshold < least:
            raise InvalidParameterError(
                f"threshold must be above two thirds of {num_clients} clients, {least} or more, "
                f"against a server that may lie, got {threshold}"
            )
        overlap = least_overlap(threshold, num_clients)
        if num_colluding >= overlap:
            raise InvalidParameterError(
                f"num_colluding must be below 2 * {threshold} - {num_clients} = {overlap} against "
                f"a server that may lie, got {num_colluding}: it could tell two groups of "
                f"{threshold} different things, and unmask every row"
            )
    return threshold - num_colluding


def _num_shares(value: int) -> int:
    return as_whole("num_shares", value, least=1, most=MOST_SHARES)


def _num_coordinates(value: int) -> int:
    return as_whole("num_coordinates", value, least=1, most=MOST_COORDINATES)
