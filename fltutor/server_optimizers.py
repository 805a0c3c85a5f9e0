"""What the server does with an aggregated update: one step of an optimizer.

The aggregate is a change of the model, so it points downhill already: the
server *adds* it, where an optimizer on gradients would subtract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fltutor.border import as_array, as_numbers, as_real, not_finite
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
    learning_rate = as_real("learning_rate", learning_rate, above=0)

    def init(params: np.ndarray) -> None:
        _as_params(params)

    def apply(params: np.ndarray, update: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        params, update = _as_params(params), _as_update(params, update)
        with np.errstate(over="ignore", invalid="ignore"):
            stepped = (params + learning_rate * update).astype(params.dtype)
        return _finite(stepped, update), None

    return ServerOptimizer(init, apply)


def momentum(learning_rate: float = 1.0, *, beta: float = 0.9) -> ServerOptimizer:
    """Add a running sum of the aggregates, old ones fading by ``beta`` a round (FedAvgM).

    What clients agree on in round after round adds up, to 1 / (1 - beta) times one
    update; what pulls to and fro cancels. The sum is of *updates*: a momentum of
    models would drag the server towards where it has been.

    Args:
        learning_rate: The server's step size, positive and finite.
        beta: How much of the sum stays from round to round, 0 to below 1; 0 is :func:`sgd`.

    Returns:
        An optimizer whose state is the sum v, float64, shape (d,), zero before the first round:
        v <- beta v + update, params <- params + learning_rate v. No dampening, no Nesterov.

    Raises:
        InvalidParameterError: If an argument is out of range; from ``apply``, if the state
            is not of the model's shape.
        InvalidUpdateError: From ``apply``, as in :func:`sgd`.

    Example:
        >>> optimizer = momentum(beta=0.5)
        >>> params, state = np.zeros(1), optimizer.init(np.zeros(1))
        >>> for _ in range(3):
        ...     params, state = optimizer.apply(params, np.array([1.0]), state)
        ...     print(params)
        [1.]
        [2.5]
        [4.25]

    Reference:
        Hsu et al. 2019, FedAvgM: v <- beta v + Δw, w <- w - v, where Δw points against our
        update. https://arxiv.org/abs/1909.06335
    """
    learning_rate = as_real("learning_rate", learning_rate, above=0)
    beta = as_real("beta", beta, least=0, below=1)

    def init(params: np.ndarray) -> np.ndarray:
        return np.zeros(_as_params(params).shape)

    def apply(
        params: np.ndarray, update: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        params, update = _as_params(params), _as_update(params, update)
        state = _as_state(params, state)
        with np.errstate(over="ignore", invalid="ignore"):
            velocity = beta * state + update.astype(np.float64)
            stepped = (params + learning_rate * velocity).astype(params.dtype)
        return _finite(stepped, update), velocity

    return ServerOptimizer(init, apply)


@dataclass(frozen=True)
class Moments:
    """What :func:`adagrad`, :func:`adam` and :func:`yogi` keep between rounds.

    Attributes:
        mean: Fading mean m of the updates, float64, shape (d,).
        square: The accumulator v of squared updates, float64, shape (d,).
    """

    mean: np.ndarray
    square: np.ndarray


def adagrad(learning_rate: float, *, beta_1: float = 0.0, tau: float = 1e-3) -> ServerOptimizer:
    """Step less where updates have been large: v adds up all squared updates (FedAdagrad).

    Args:
        learning_rate: The server's step size, positive and finite. A step is about this
            long in every coordinate, so it is in the units of the weights.
        beta_1: How much of the mean update stays from round to round, 0 to below 1.
        tau: How adaptive: the smaller, the more. Positive; v begins as its square.

    Returns:
        An optimizer whose state is a :class:`Moments`, with the accumulator v <- v + update².
        The rest is as in :func:`adam`.

    Raises:
        InvalidParameterError: If an argument is out of range; from ``apply``, if the state
            is not of the model's shape.
        InvalidUpdateError: From ``apply``, as in :func:`sgd`.

    Example:
        >>> optimizer = adagrad(0.1, tau=1.0)
        >>> state = optimizer.init(np.zeros(2))
        >>> params, state = optimizer.apply(np.zeros(2), np.array([1.0, -8.0]), state)
        >>> state.square
        array([ 2., 65.])
        >>> params.round(4)  # 0.1 * 1 / (sqrt(2) + 1), 0.1 * -8 / (sqrt(65) + 1)
        array([ 0.0414, -0.0883])

    Reference:
        Reddi et al., ICLR 2021, Algorithm 2, FedAdagrad. https://arxiv.org/abs/2003.00295
    """
    return _adaptive(learning_rate, beta_1, tau, lambda square, power: square + power)


def adam(
    learning_rate: float, *, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-3
) -> ServerOptimizer:
    """Step by a fading mean of updates over the root of their fading square (FedAdam).

    Every coordinate moves at about the same pace, whether updates there are large
    or small. This is the federated variant: v begins at tau², tau stands beside the
    root, and there is *no bias correction*, unlike in ``keras.optimizers.Adam``.

    Args:
        learning_rate: The server's step size, positive and finite.
        beta_1: How much of the mean m stays from round to round, 0 to below 1.
        beta_2: How much of the accumulator v stays, 0 to below 1.
        tau: How adaptive: the smaller, the more. Positive; v begins as its square.

    Returns:
        An optimizer whose state is a :class:`Moments`:
        m <- beta_1 m + (1 - beta_1) update, v <- beta_2 v + (1 - beta_2) update²,
        params <- params + learning_rate m / (sqrt(v) + tau).

    Raises:
        InvalidParameterError: If an argument is out of range; from ``apply``, if the state
            is not of the model's shape.
        InvalidUpdateError: From ``apply``, as in :func:`sgd`.

    Example:
        >>> optimizer = adam(0.1, beta_1=0.5, beta_2=0.75, tau=1.0)
        >>> state = optimizer.init(np.zeros(2))
        >>> params, state = optimizer.apply(np.zeros(2), np.array([1.0, -3.0]), state)
        >>> state.square  # 0.75 * 1 + 0.25 * update²
        array([1., 3.])
        >>> params.round(4)
        array([ 0.025 , -0.0549])

    Reference:
        Reddi et al., ICLR 2021, Algorithm 2, FedAdam. https://arxiv.org/abs/2003.00295
    """
    beta_2 = as_real("beta_2", beta_2, least=0, below=1)
    return _adaptive(
        learning_rate,
        beta_1,
        tau,
        lambda square, power: beta_2 * square + (1 - beta_2) * power,
    )


def yogi(
    learning_rate: float, *, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-3
) -> ServerOptimizer:
    """Step as :func:`adam` does, but forget large updates slowly (FedYogi).

    Adam's accumulator falls quickly once updates become small, and its steps jump.
    Yogi moves v by (1 - beta_2) update² at most, up or down.

    Args:
        learning_rate: The server's step size, positive and finite.
        beta_1: How much of the mean m stays from round to round, 0 to below 1.
        beta_2: 1 minus the pace of the accumulator v, 0 to below 1.
        tau: How adaptive: the smaller, the more. Positive; v begins as its square.

    Returns:
        An optimizer whose state is a :class:`Moments`, with the accumulator
        v <- v - (1 - beta_2) update² sign(v - update²). The rest is as in :func:`adam`.

    Raises:
        InvalidParameterError: If an argument is out of range; from ``apply``, if the state
            is not of the model's shape.
        InvalidUpdateError: From ``apply``, as in :func:`sgd`.

    Example:
        >>> optimizer = yogi(0.1, beta_2=0.75, tau=1.0)
        >>> params, state = np.zeros(2), optimizer.init(np.zeros(2))
        >>> params, state = optimizer.apply(params, np.array([4.0, 0.5]), state)
        >>> state.square  # 1 + 0.25 * 16, and 1 - 0.25 * 0.25
        array([5.    , 0.9375])

    Reference:
        Reddi et al., ICLR 2021, Algorithm 2, FedYogi. https://arxiv.org/abs/2003.00295
    """
    beta_2 = as_real("beta_2", beta_2, least=0, below=1)
    return _adaptive(
        learning_rate,
        beta_1,
        tau,
        lambda square, power: square - (1 - beta_2) * power * np.sign(square - power),
    )


def _adaptive(
    learning_rate: float,
    beta_1: float,
    tau: float,
    accumulate: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> ServerOptimizer:
    """Algorithm 2, with ``accumulate(v, update²)`` for the line that tells its methods apart."""
    learning_rate = as_real("learning_rate", learning_rate, above=0)
    beta_1 = as_real("beta_1", beta_1, least=0, below=1)
    tau = as_real("tau", tau, above=0)
    if not 0 < tau * tau < np.inf:
        raise InvalidParameterError(
            f"tau must be positive and finite, and its square too, got {tau}"
        )

    def init(params: np.ndarray) -> Moments:
        shape = _as_params(params).shape
        return Moments(np.zeros(shape), np.full(shape, tau**2))

    def apply(params: np.ndarray, update: np.ndarray, state: Moments) -> tuple[np.ndarray, Moments]:
        params, update = _as_params(params), _as_update(params, update).astype(np.float64)
        if not isinstance(state, Moments):
            raise InvalidParameterError(
                f"the optimizer's state must be Moments, got {type(state).__name__}: start with "
                "init(params)"
            )
        old = Moments(_as_state(params, state.mean), _as_state(params, state.square))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = beta_1 * old.mean + (1 - beta_1) * update
            power = update**2
            square = accumulate(old.square, power)
            stepped = params + learning_rate * mean / (np.sqrt(square) + tau)
            stepped = stepped.astype(params.dtype)
        if np.isfinite(update).all() and (bad := not_finite(power, "coordinate")):
            raise InvalidUpdateError(
                f"update would leave weights NaN or Inf: its square is {bad}; clip the updates, or "
                "use sgd or momentum"
            )
        _finite(square, update)  # an infinite one would stop its coordinate for ever
        return _finite(stepped, update), Moments(mean, square)

    return ServerOptimizer(init, apply)


def _as_params(params: np.ndarray) -> np.ndarray:
    """The weights as an array of floats: whole numbers would stay where they are."""
    params = as_array("params", params)
    if params.dtype.kind != "f":
        raise InvalidParameterError(
            f"params must hold floats, got dtype {params.dtype}: write params.astype(np.float32)"
        )
    return params


def _as_state(params: np.ndarray, state: np.ndarray) -> np.ndarray:
    if np.shape(state) != params.shape:
        raise InvalidParameterError(
            f"the optimizer's state is of shape {np.shape(state)}, needed that of the model, "
            f"{params.shape}: start with init(params)"
        )
    return as_numbers("the optimizer's state", state)


def _as_update(params: np.ndarray, update: np.ndarray) -> np.ndarray:
    update = as_numbers("update", update, InvalidUpdateError, finite=False)
    if update.shape != np.shape(params):
        raise InvalidUpdateError(
            f"update must have the shape of the model, {np.shape(params)}, got {update.shape}"
        )
    return update


def _finite(stepped: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Refuse a result with NaN or Inf; ``update`` tells whether they come from it."""
    bad = stepped.size - np.count_nonzero(np.isfinite(stepped))
    if bad:
        reason = (
            f"the update holds {not_finite(update, 'coordinate')}"
            if not np.isfinite(update).all()
            else f"an overflow of {stepped.dtype}: a smaller learning rate may help"
        )
        raise InvalidUpdateError(
            f"update would leave {bad} of {stepped.size} weights NaN or Inf: {reason}"
        )
    return stepped
