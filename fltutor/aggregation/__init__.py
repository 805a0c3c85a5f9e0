"""What the server does with client vectors: one sum, or a look at every row.

``aggregate_gradients`` and ``aggregate_models`` work on lists of tensors as
Keras gives them. ``mean`` and ``dp_mean`` work on a matrix, one row per client,
and take a ``sum_protocol``, because one sum is all they need. The robust rules take
the matrix alone, because they must compare clients. ``drift`` compares them, too, and says how
far they agree.
"""

from fltutor.aggregation.averaging import (
    AggregateResult,
    SumProtocol,
    aggregate_gradients,
    aggregate_models,
    mean,
)
from fltutor.aggregation.client_drift import Drift, drift
from fltutor.aggregation.distributed import distributed_dp_mean, noisy_row
from fltutor.aggregation.private import AdaptiveClip, dp_mean, split_noise
from fltutor.aggregation.robust import (
    bulyan,
    bulyan_choice,
    geometric_median,
    krum,
    krum_choice,
    krum_scores,
    median,
    multi_krum,
    norm_bounded_mean,
    robust_aggregate,
    trimmed_mean,
)

__all__ = [
    "AdaptiveClip",
    "AggregateResult",
    "Drift",
    "SumProtocol",
    "aggregate_gradients",
    "aggregate_models",
    "bulyan",
    "bulyan_choice",
    "distributed_dp_mean",
    "dp_mean",
    "drift",
    "geometric_median",
    "krum",
    "krum_choice",
    "krum_scores",
    "mean",
    "median",
    "multi_krum",
    "noisy_row",
    "norm_bounded_mean",
    "robust_aggregate",
    "split_noise",
    "trimmed_mean",
]
