"""What the server does with client vectors: one sum, or a look at every row.

``aggregate_gradients`` and ``aggregate_models`` work on lists of tensors as
Keras gives them. ``mean`` and ``dp_mean`` work on a matrix, one row per client,
and take a ``sum_protocol``, because one sum is all they need.
"""

from fltutor.aggregation.averaging import (
    AggregateResult,
    SumProtocol,
    aggregate_gradients,
    aggregate_models,
    mean,
)
from fltutor.aggregation.private import AdaptiveClip, dp_mean, split_noise

__all__ = [
    "AdaptiveClip",
    "AggregateResult",
    "SumProtocol",
    "aggregate_gradients",
    "aggregate_models",
    "dp_mean",
    "mean",
    "split_noise",
]
