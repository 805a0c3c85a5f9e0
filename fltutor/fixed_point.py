"""Real numbers as integers modulo 2^32 or 2^64, where masks can hide them.

A mask hides a number completely only where adding it wraps around: integers
modulo m. A real number x becomes the integer nearest to x * 2^f, negative ones
count back from m, and a sum of such integers decodes to the sum of the numbers
as long as it stays within the ring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fltutor.border import as_array, as_numbers, as_whole, not_finite
from fltutor.errors import InvalidParameterError, InvalidUpdateError


class Encoded(NamedTuple):
    """Ring elements, and how many values do not fit the grid.

    Attributes:
        values: The ring elements.
        num_clipped: Values beyond the ends, which became the ends.
        num_vanished: Values other than 0 that became 0: below half of the resolution.
    """

    values: np.ndarray
    num_clipped: int
    num_vanished: int

    # as an object and not as a tuple, since arrays can be neither compared nor hashed
    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__


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
        >>> encoded = grid.encode(np.array([1.5, -0.25, 99.0, 0.1]))
        >>> encoded.values
        array([         6, 4294967295,        127,          0], dtype=uint32)
        >>> encoded.num_clipped, encoded.num_vanished
        (1, 1)
        >>> grid.decode(encoded.values)
        array([ 1.5 , -0.25, 31.75,  0.  ])
    """

    fraction_bits: int = 24
    bits: int = 48
    max_weight: int = 1
    ring_bits: int = 64

    def __post_init__(self):
        for name in ("fraction_bits", "bits", "max_weight", "ring_bits"):
            least, most = int(name != "fraction_bits"), 2**53 if name == "max_weight" else 64
            # NumPy's integers would overflow below
            object.__setattr__(
                self, name, as_whole(name, getattr(self, name), least=least, most=most)
            )
        if self.ring_bits not in (32, 64):
            raise InvalidParameterError(f"ring_bits must be 32 or 64, got {self.ring_bits}")
        if not self.fraction_bits < self.bits:
            raise InvalidParameterError(
                f"fraction_bits must be below bits={self.bits} (one is the sign), "
                f"got {self.fraction_bits}"
            )
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
        num_clients = as_whole("num_clients", num_clients, least=1, most=2**64)
        needed = num_clients * self.max_weight * (2**self.bits - 1)
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
            Ring elements of the same shape, the number of values that were clipped, and the
            number of those that vanished.

        Raises:
            InvalidUpdateError: If a value is NaN or Inf, which no integer stands for, or
                the values are no array of real numbers.
        """
        values = as_numbers("values", values, InvalidUpdateError, finite=False)
        largest = max(float(values.max()), -float(values.min())) if values.size else 0.0
        if not math.isfinite(largest) and (bad := not_finite(values, "coordinate")):
            raise InvalidUpdateError(f"values must be finite, got {bad}")
        scaled = self._scaled(values)
        num_clipped = num_vanished = 0
        if largest * 2.0**self.fraction_bits > self._limit:
            num_clipped = int(np.count_nonzero(np.abs(scaled) > self._limit))
            scaled = np.clip(scaled, -self._limit, self._limit)
        integers = np.asarray(scaled.astype(f"int{self.ring_bits}"))
        if np.count_nonzero(integers) < integers.size:
            num_vanished = int(np.count_nonzero(values[integers == 0]))
        return Encoded(integers.view(self.dtype), num_clipped, num_vanished)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """The values in steps of the grid, whole numbers; a huge one may become Inf."""
        with np.errstate(over="ignore"):
            return np.rint(values * np.float64(2.0**self.fraction_bits))

    def encode_unclipped(self, values: np.ndarray) -> Encoded:
        """Encode like :meth:`encode`, and refuse values that it would clip.

        Raises:
            InvalidUpdateError: If a value is beyond the ends, NaN or Inf. The text says so
                where it is the last one: in the rows of a weighted mean, the weight.

        Example:
            >>> grid = FixedPoint(fraction_bits=2, bits=8, ring_bits=32)
            >>> grid.encode_unclipped(np.array([1.5, -0.25, 99.0]))
            Traceback (most recent call last):
            fltutor.errors.InvalidUpdateError: 1 of 3 values is beyond the grid, which ends at
            ±31.75: the last one, which is the weight where rows are those of a weighted mean.
            Take smaller weights, such as shares of the total, or a grid with more bits
        """
        encoded = self.encode(values)
        if not encoded.num_clipped:
            return encoded
        values = np.asarray(values)
        places = np.flatnonzero(np.abs(self._scaled(values)) > self._limit)
        fault = (
            f"{encoded.num_clipped} of {values.size} values "
            f"{'is' if encoded.num_clipped == 1 else 'are'} beyond the grid, which ends at "
            f"±{self.largest:g}"
        )
        if values.ndim == 1 and 1 < values.size == places[-1] + 1:
            among = "the last one" if encoded.num_clipped == 1 else "among them the last one"
            raise InvalidUpdateError(
                f"{fault}: {among}, which is the weight where rows are those of a weighted mean. "
                "Take smaller weights, such as shares of the total, or a grid with more bits"
            )
        raise InvalidUpdateError(
            f"{fault}, the first at coordinate {places[0]}: scale them, take a grid with more "
            "bits, or allow clipping"
        )

    def decode(self, elements: np.ndarray) -> np.ndarray:
        """Read ring elements, or a sum of them, as real numbers: the upper half is negative.

        Returns:
            float64, the same shape. Beyond 2^53 steps of the grid, rounded to a double.

        Raises:
            InvalidParameterError: If ``elements`` are not of this ring.
        """
        elements = as_array("elements", elements)
        if elements.dtype != self.dtype:
            raise InvalidParameterError(
                f"elements must have dtype {self.dtype}, got {elements.dtype}"
            )
        return elements.view(f"int{self.ring_bits}") * np.float64(self.resolution)


DEFAULT_GRID = FixedPoint()
"""Steps of 6e-8, values up to 8 million, up to 65,536 clients."""
