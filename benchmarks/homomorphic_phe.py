"""The Paillier library ``phe``, number by number; run by its neighbour where it is installed.

With gmpy2 beside it, which makes it several times faster than with Python's integers.
"""

from __future__ import annotations

import json
import sys
import time

from phe import paillier
from phe.util import HAVE_GMP


def per_number(count: int) -> dict[str, float]:
    """Seconds to encrypt, add and decrypt one number with 2048 bits, over ``count`` of them."""
    public_key, private_key = paillier.generate_paillier_keypair(n_length=2048)
    values = [0.1 * (number - count / 2) for number in range(count)]
    marks = [time.perf_counter()]
    encrypted = [public_key.encrypt(value) for value in values]
    marks.append(time.perf_counter())
    sums = [number + number for number in encrypted]
    marks.append(time.perf_counter())
    opened = [private_key.decrypt(number) for number in sums]
    marks.append(time.perf_counter())
    assert max(abs(got - 2 * value) for got, value in zip(opened, values, strict=True)) < 1e-9
    steps = zip(marks, marks[1:], ("encrypt", "add", "decrypt"), strict=False)
    return {name: (stop - start) / count for start, stop, name in steps} | {"gmp": HAVE_GMP}


if __name__ == "__main__":
    print(json.dumps(per_number(int(sys.argv[1]))))
