"""Real numbers as integers modulo 2^32 or 2^64, where masks can hide them.

A mask hides a number completely only where adding it wraps around: integers
modulo m. A real number x becomes the integer nearest to x * 2^f, negative ones
count back from m, and a sum of such integers decodes to the sum of the numbers
as long as it stays within the ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fltutor.errors import InvalidParameterError, InvalidUpdateError


class Encoded(NamedTuple):
    """Ring elements, and how many values had to be clipped to become one."""

    values: np.ndarray
    num_clipped: int


@dataclass(frozen=True)
class FixedPoint:
    """A grid of real numbers that can be added up as integers modulo ``2**ring_bits``.

    Attributes:
        fraction_bits: Bits after the point: neighbours on the grid are ``2**-fraction_bits`` apart.
        bits: Bits of one value: sign, integer part and fraction.
        max_weight: Rows may come multiplied by a weight of up to this.
        ring_bits: 32 or 64; the modulus is ``2**ring_bits``. Half the bits, half the bytes.

    Raises:
        InvalidParameterError: If a value does not fit the ring, or a double (53 bits).

    Example:
        >>> grid = FixedPoint(fraction_bits=2, bits=8, ring_bits=32)
        >>> grid.resolution, grid.largest
        (0.25, 31.75)
        >>> encoded = grid.encode(np.array([1.5, -0.25, 99.0]))
        >>> encoded
        Encoded(values=array([         6, 4294967295,        127], dtype=uint32), num_clipped=1)
        >>> grid.decode(encoded.values)
        array([ 1.5 , -0.25, 31.75])
    """

    fraction_bits: int = 24
    bits: int = 48
    max_weight: int = 1
    ring_bits: int = 64

    def __post_init__(self):
        for name in ("fraction_bits", "bits", "max_weight", "ring_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InvalidParameterError(f"{name} must be an integer, got {value!r}")
            object.__setattr__(self, name, int(value))  # NumPy's would overflow below
        if self.ring_bits not in (32, 64):
            raise InvalidParameterError(f"ring_bits must be 32 or 64, got {self.ring_bits}")
        if not 0 <= self.fraction_bits < self.bits:
            raise InvalidParameterError(
                f"fraction_bits must be at least 0 and below bits={self.bits} (one is the sign), "
                f"got {self.fraction_bits}"
            )
        if self.max_weight < 1:
            raise InvalidParameterError(f"max_weight must be at least 1, got {self.max_weight}")
        if self._limit >= 2**53:
            raise InvalidParameterError(
                f"max_weight * 2**(bits - 1) must be at most 2**53, which a double still counts "
                f"one by one, got {self.max_weight} * 2**{self.bits - 1}"
            )
        self.require_room(1)

    @property
    def resolution(self) -> float:
        """Distance between neighbours on the grid; rounding is off by at most half of it."""
        return 2.0**-self.fraction_bits

    @property
    def largest(self) -> float:
        """Largest magnitude that is kept; values beyond it are clipped and counted."""
        return self._limit * self.resolution

    @property
    def modulus(self) -> int:
        """Number of ring elements."""
        return 2**self.ring_bits

    @property
    def dtype(self) -> np.dtype:
        """Unsigned integers whose overflow is the arithmetic of the ring."""
        return np.dtype(f"uint{self.ring_bits}")

    @property
    def _limit(self) -> int:
        return self.max_weight * (2 ** (self.bits - 1) - 1)

    def require_room(self, num_clients: int) -> None:
        """Refuse, before anything is sent, a cohort whose sum could wrap around.

        Raises:
            InvalidParameterError: If ``num_clients * max_weight * (2**bits - 1)`` is not
                below the modulus.

        Example:
            >>> FixedPoint(fraction_bits=16, bits=28, ring_bits=32).require_room(10)
            >>> FixedPoint(fraction_bits=16, bits=28, ring_bits=32).require_room(20)
            Traceback (most recent call last):
            fltutor.errors.InvalidParameterError: the sum could wrap around: num_clients *
            max_weight * (2**bits - 1) = 20 * 1 * (2**28 - 1) = 5368709100 must be below the
            modulus 2**32 = 4294967296. Take fewer bits or the larger ring
        """
        if num_clients < 1:
            raise InvalidParameterError(f"num_clients must be at least 1, got {num_clients}")
        needed = int(num_clients) * self.max_weight * (2**self.bits - 1)
        if needed >= self.modulus:
            raise InvalidParameterError(
                "the sum could wrap around: num_clients * max_weight * (2**bits - 1) = "
                f"{num_clients} * {self.max_weight} * (2**{self.bits} - 1) = {needed} must be "
                f"below the modulus 2**{self.ring_bits} = {self.modulus}. "
                "Take fewer bits or the larger ring"
            )

    def encode(self, values: np.ndarray) -> Encoded:
        """Round to the grid, clip to its ends, and wrap negative numbers around the ring.

        Args:
            values: Real numbers, any shape.

        Returns:
            Ring elements of the same shape, and the number of values that were clipped.

        Raises:
            InvalidUpdateError: If a value is NaN or Inf, which no integer stands for.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise InvalidUpdateError(f"values must be real numbers, got dtype {values.dtype}")
        if not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InvalidUpdateError(f"values must be finite, got NaN or Inf at coordinate {place}")
        with np.errstate(over="ignore"):  # a huge double may become Inf here, and is clipped
            scaled = np.rint(values * np.float64(2.0**self.fraction_bits))
        num_clipped = int(np.count_nonzero(np.abs(scaled) > self._limit))
        if num_clipped:
            scaled = np.clip(scaled, -self._limit, self._limit)
        integers = scaled.astype(f"int{self.ring_bits}")
        return Encoded(np.asarray(integers).view(self.dtype), num_clipped)

    def decode(self, elements: np.ndarray) -> np.ndarray:
        """Read ring elements, or a sum of them, as real numbers: the upper half is negative.

        Returns:
            float64, the same shape. Beyond 2^53 steps of the grid, rounded to a double.

        Raises:
            InvalidParameterError: If ``elements`` are not of this ring.
        """
        elements = np.asarray(elements)
        if elements.dtype != self.dtype:
            raise InvalidParameterError(
                f"elements must have dtype {self.dtype}, got {elements.dtype}"
            )
        return elements.view(f"int{self.ring_bits}") * np.float64(self.resolution)


DEFAULT_GRID = FixedPoint()
"""Steps of 6e-8, values up to 8 million, up to 65,536 clients."""
