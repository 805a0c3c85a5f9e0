"""What the server does with an aggregated update: one step of an optimizer.

The aggregate is a change of the model, so it points downhill already: the
server *adds* it, where an optimizer on gradients would subtract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fltutor.errors import InvalidParameterError, InvalidUpdateError


@dataclass(frozen=True)
class ServerOptimizer:
    """A server optimizer is two functions; the state in between belongs to the caller.

    Attributes:
        init: ``init(params) -> state``: the state before the first round.
        apply: ``apply(params, update, state) -> (params, state)``: one round. Neither
            the arrays that come in nor the state are changed.
    """

    init: Callable[[np.ndarray], Any]
    apply: Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, Any]]


def sgd(learning_rate: float = 1.0) -> ServerOptimizer:
    """Add ``learning_rate`` times the aggregate; with 1.0 this is FedAvg.

    Args:
        learning_rate: The server's step size, positive and finite.

    Returns:
        An optimizer without state. Weights keep the dtype they came in.

    Raises:
        InvalidParameterError: If ``learning_rate`` is not positive and finite.
        InvalidUpdateError: From ``apply``, if the update has another shape than the
            model or would leave it with NaN or Inf.

    Example:
        >>> optimizer = sgd(learning_rate=0.5)
        >>> state = optimizer.init(np.zeros(2))
        >>> params, state = optimizer.apply(np.zeros(2), np.array([1.0, -2.0]), state)
        >>> params
        array([ 0.5, -1. ])

    Reference:
        Reddi et al., ICLR 2021, Algorithm 1 with ServerOpt = SGD.
        https://arxiv.org/abs/2003.00295
    """
    if not 0 < learning_rate < np.inf:
        raise InvalidParameterError(
            f"learning_rate must be positive and finite, got {learning_rate}"
        )

    def apply(params: np.ndarray, update: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        _require_same_shape(params, update)
        with np.errstate(over="ignore", invalid="ignore"):
            stepped = (params + learning_rate * update).astype(params.dtype)
        return _require_finite(stepped), None

    return ServerOptimizer(init=lambda params: None, apply=apply)


def _require_same_shape(params: np.ndarray, update: np.ndarray) -> None:
    if np.shape(update) != np.shape(params):
        raise InvalidUpdateError(
            f"update must have the shape of the model, {np.shape(params)}, got {np.shape(update)}"
        )


def _require_finite(params: np.ndarray) -> np.ndarray:
    bad = np.size(params) - np.count_nonzero(np.isfinite(params))
    if bad:
        raise InvalidUpdateError(
            f"update would leave {bad} of {np.size(params)} weights NaN or Inf: "
            f"a smaller learning rate may help"
        )
    return params
