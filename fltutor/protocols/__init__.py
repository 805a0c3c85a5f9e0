"""Ways to add up client vectors, one call each: ``sum_protocol(vectors, dropped)``."""

from fltutor.protocols.encrypted import Sessions, encrypted_sum
from fltutor.protocols.homomorphic import ckks_sum, paillier_sum
from fltutor.protocols.masking import secagg_sum
from fltutor.protocols.plain import plain_sum

__all__ = ["Sessions", "ckks_sum", "encrypted_sum", "paillier_sum", "plain_sum", "secagg_sum"]
