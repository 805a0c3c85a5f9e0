"""Weighted averages: of tensors as Keras gives them, and of rows with one sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fltutor.border import as_array, not_finite
from fltutor.errors import FltutorError, InvalidParameterError, InvalidUpdateError
from fltutor.privacy.accounting import PrivacySpent
from fltutor.protocols.arrivals import WeightedRows
from fltutor.protocols.plain import plain_sum
from fltutor.transcript import Phase, SumResult, Transcript, uploads
from fltutor.vectors import as_updates

SumProtocol = Callable[..., SumResult]


@dataclass(frozen=True)
class AggregateResult:
    """What an aggregation hands to the server.

    Attributes:
        update: The aggregated vector, float64, shape (d,).
        included: The clients whose rows are in it, ascending.
        transcript: Every message of the protocol that added the rows.
        demonstration: True if the noise in ``update`` came from a seeded generator, or if
            ``spent`` counts a round whose noise or sampling did.
        clip_norm: The L2 norm that rows were clipped to; None if they were not.
        spent: What the privacy budget says after the round; None without a budget.
    """

    update: np.ndarray
    included: tuple[int, ...]
    transcript: Transcript
    demonstration: bool = False
    clip_norm: float | None = None
    spent: PrivacySpent | None = None


def aggregate_gradients(
    gradients: Sequence[Sequence[Any]], weights: Sequence[float]
) -> list[np.ndarray]:
    """Average client gradients, each with the weight of its data (FedSGD).

    With weights n_k, the numbers of examples behind each mean gradient, the
    result is the gradient of the mean loss over all clients' data together.

    Args:
        gradients: One list of tensors per client, as ``tape.gradient`` gives them. The
            ``tf.IndexedSlices`` of an embedding become dense: rows that come twice are added.
        weights: One number per client, zero or more, such as its number of examples.

    Returns:
        One array per tensor. Floating-point tensors keep their dtype (the widest, if
        clients differ); integer ones become float64, since a mean of integers is seldom
        one. The average is taken in float64, so the order of clients changes only its
        last bits.

    Raises:
        InvalidUpdateError: If a client's tensors are missing, None, reordered, of other shapes
            than the first client's, or hold NaN or Inf; the text names the client.
        InvalidParameterError: If there are no clients, or the weights are negative, not
            finite, boolean, too few, too many, or zero in total.

    Example:
        >>> aggregate_gradients([[np.array([1.0, 2.0])], [np.array([5.0, 6.0])]], weights=[3, 1])
        [array([2., 3.])]

    Reference:
        McMahan et al., AISTATS 2017, section 2, FederatedSGD. https://arxiv.org/abs/1602.05629
    """
    return _weighted_mean(gradients, weights, "gradients")


def aggregate_models(models: Sequence[Sequence[Any]], weights: Sequence[float]) -> list[np.ndarray]:
    """Average client models, each with the weight of its data (FedAvg).

    Args:
        models: One list of tensors per client, as ``model.get_weights()`` gives them.
            All must start from the same initial model, or the average means nothing.
        weights: One number per client, zero or more, such as its number of examples.

    Returns:
        One array per tensor, for ``model.set_weights``. Floating-point tensors keep
        their dtype (the widest, if clients differ); integer ones become float64.

    Raises:
        InvalidUpdateError: If a client's tensors are missing, reordered, of other shapes
            than the first client's, or hold NaN or Inf; the text names the client.
        InvalidParameterError: If there are no clients, or the weights are negative, not
            finite, boolean, too few, too many, or zero in total.

    Example:
        >>> aggregate_models([[np.float32(1)], [np.float32(4)]], weights=[2, 1])
        [array(2., dtype=float32)]

    Reference:
        McMahan et al., AISTATS 2017, Algorithm 1. https://arxiv.org/abs/1602.05629
    """
    return _weighted_mean(models, weights, "models")


def mean(
    updates: np.ndarray,
    weights: Sequence[float] | None = None,
    *,
    sum_protocol: SumProtocol = plain_sum,
    dropped: Mapping[int, Phase] | None = None,
) -> AggregateResult:
    """Average client updates with one sum.

    Client i sends the row ``[weight_i * update_i | weight_i]``. The server divides
    the summed updates by the summed weights, so under a protocol that hides rows
    it never learns one client's weight.

    Args:
        updates: One row per client, shape (n, d).
        weights: One number per client, zero or more; None weighs all alike.
        sum_protocol: How the rows are added, from :mod:`fltutor.protocols`.
        dropped: The phase in which a client leaves, by client number.

    Returns:
        The average over the clients whose upload arrived. Rows travel in the dtype
        of ``updates``. Under ``plain_sum`` they are also added in it (float16 in float32),
        so float32 rows carry a rounding error of up to (n + 1) * 6e-8 of their weighted
        mean magnitude.
        Under other protocols ``weight * update`` is rounded to that dtype: in float16 give
        weights of about 1, since products below 6e-5 lose digits and vanish below 3e-8.

    Raises:
        InvalidUpdateError: If a row that arrives holds NaN or Inf; the text names the client.
        InvalidParameterError: If the weights are negative, not finite, boolean, too few,
            too many, beyond the dtype of ``updates``, or zero in total over the clients
            that arrived.

    Example:
        >>> updates = np.array([[1.0, 2.0], [5.0, 6.0]])
        >>> mean(updates, weights=[3, 1]).update
        array([2., 3.])
        >>> from fltutor.protocols import encrypted_sum
        >>> mean(updates, weights=[3, 1], sum_protocol=encrypted_sum).update
        array([2., 3.])
    """
    updates = as_updates(updates)
    weights = _checked_weights(np.ones(len(updates)) if weights is None else weights, len(updates))
    for client in np.flatnonzero(~_survives(weights, updates.dtype)):
        raise InvalidParameterError(
            f"weights travel as {updates.dtype}, which cannot hold {weights[client]} of "
            f"client {client}"
        )
    try:
        result = sum_protocol(WeightedRows(updates, weights), dropped)
    except InvalidUpdateError:
        _name_an_overflow(updates, weights, dropped or {})
        raise
    update, total_weight = result.total[:-1], result.total[-1]
    if not total_weight > 0:
        raise InvalidParameterError("weights must not be zero in total over those who arrived")
    update /= total_weight
    return AggregateResult(update, result.included, result.transcript)


def _name_an_overflow(
    updates: np.ndarray, weights: np.ndarray, dropped: Mapping[int, Phase]
) -> None:
    """Raise if a finite update leaves its dtype when it is multiplied by its weight."""
    largest = float(np.finfo(updates.dtype).max)
    for client, (update, weight) in enumerate(zip(updates, weights, strict=True)):
        if uploads(client, dropped) and np.isfinite(update).all():
            product = float(np.abs(update).max(initial=0)) * weight
            if product > largest:
                raise InvalidUpdateError(
                    f"weight times update of client {client} is up to {product:.3g}, an overflow: "
                    f"rows travel as {updates.dtype}, which ends at {largest:.5g}"
                )


def _checked_weights(weights: Sequence[float], num_clients: int) -> np.ndarray:
    """Return the weights as float64, shape (n,), or say what is wrong with them."""
    checked = finite_weights(weights, num_clients)
    with np.errstate(over="ignore"):
        total = checked.sum()
    if not 0 < total < np.inf:
        raise InvalidParameterError(f"weights must have a positive, finite total, got {total}")
    return checked


def finite_weights(weights: Sequence[float], num_clients: int) -> np.ndarray:
    """Return one finite weight of zero or more per client, float64, shape (n,), or refuse.

    Raises:
        InvalidParameterError: If the weights are negative, not finite, boolean, too few or
            too many; the text names the client.
    """
    if not isinstance(weights, list | tuple):
        weights = as_array("weights", weights)
    try:
        shape = np.shape(weights)
    except ValueError:
        shape = "of unequal lengths"
    if shape != (num_clients,):
        raise InvalidParameterError(
            f"weights must hold one number for each of {num_clients} clients, got shape {shape}"
        )
    checked = np.empty(num_clients)
    for client, weight in enumerate(weights):
        hidden = isinstance(weight, np.ma.MaskedArray)
        if hidden or np.asarray(weight).dtype.kind not in "iuf":  # [True, 2] becomes integers
            raise InvalidParameterError(
                f"weights must be numbers, got {weight!r} for client {client}"
            )
        checked[client] = float(weight)
        if not 0 <= checked[client] < np.inf:
            raise InvalidParameterError(
                f"weights must be finite and at least 0, got {weight} for client {client}"
            )
    return checked


def _survives(weights: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Which weights neither overflow nor vanish when they are sent as ``dtype``."""
    with np.errstate(over="ignore"):
        sent = weights.astype(dtype)
    return np.isfinite(sent) & ((sent > 0) == (weights > 0))


def _weighted_mean(
    clients: Sequence[Sequence[Any]], weights: Sequence[float], name: str
) -> list[np.ndarray]:
    clients = _as_list(name, clients, InvalidParameterError)
    clients = [
        _as_list(f"{name} of client {client}", tensors, InvalidUpdateError)
        for client, tensors in enumerate(clients)
    ]
    if not clients:
        raise InvalidParameterError(f"{name} must hold at least one client, got none")
    weights = _checked_weights(weights, len(clients))
    shares = weights / weights.sum()
    first = [
        _as_tensor(f"{name} of client 0, tensor {position}", tensor)
        for position, tensor in enumerate(clients[0])
    ]
    if not first:
        raise InvalidParameterError(f"{name} of client 0 must hold at least one tensor, got none")
    averages = [np.zeros(tensor.shape) for tensor in first]
    dtypes = [tensor.dtype for tensor in first]
    for client, tensors in enumerate(clients):
        if len(tensors) != len(first):
            raise InvalidUpdateError(
                f"{name} of client {client} hold {len(tensors)} tensors, needed {len(first)}"
            )
        for position, tensor in enumerate(tensors):
            where = f"{name} of client {client}, tensor {position}"
            tensor = _as_tensor(where, tensor)
            if tensor.shape != first[position].shape:
                raise InvalidUpdateError(
                    f"{where}: shape {tensor.shape}, needed {first[position].shape}"
                )
            if tensor.dtype.kind not in "iuf":
                hint = ": cast it to float32" if tensor.dtype.name == "bfloat16" else ""
                raise InvalidUpdateError(
                    f"{where}: dtype {tensor.dtype}, needed integers or floats of NumPy{hint}"
                )
            if bad := not_finite(tensor):
                raise InvalidUpdateError(f"{where}: holds {bad}")
            with np.errstate(over="ignore"):  # named below
                averages[position] += shares[client] * tensor.astype(np.float64)
            dtypes[position] = np.promote_types(dtypes[position], tensor.dtype)
    averages = [
        average.astype(dtype if dtype.kind == "f" else np.float64)
        for average, dtype in zip(averages, dtypes, strict=True)
    ]
    for position, average in enumerate(averages):
        if bad := not_finite(average):
            raise InvalidUpdateError(f"the mean of tensor {position} of all clients is {bad}")
    return averages


def _as_list(name: str, entries: Any, error: type[FltutorError]) -> list:
    """The clients, or the tensors of one, in a list; a generator is read."""
    no_list = isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Iterable)
    if no_list:
        model = ": write model.get_weights()" if hasattr(entries, "get_weights") else ""
        raise error(f"{name} must be a list, got {type(entries).__name__}{model}")
    try:
        return list(entries)
    except TypeError:  # a tensor or an array of one number
        raise error(f"{name} must be a list, got a single number") from None


def _as_tensor(where: str, tensor: Any) -> np.ndarray:
    """One tensor of a client as a dense array."""
    if tensor is None:
        raise InvalidUpdateError(
            f"{where} is None: no loss depends on this variable. Zeros are right then: write "
            "tape.gradient(..., unconnected_gradients='zero')"
        )
    if hasattr(tensor, "dense_shape") and hasattr(tensor, "indices"):  # tf.IndexedSlices
        return _as_dense(where, tensor)
    return as_array(where, tensor, InvalidUpdateError)


def _as_dense(where: str, slices: Any) -> np.ndarray:
    """Put rows where their indices say; rows of one index are added."""
    if slices.dense_shape is None:
        raise InvalidUpdateError(f"{where}: sparse rows without the shape of the whole tensor")
    dense = np.zeros(np.asarray(slices.dense_shape), np.asarray(slices.values).dtype)
    places = tuple(np.atleast_2d(np.asarray(slices.indices).T))
    try:
        np.ravel_multi_index(places, dense.shape[: len(places)])  # refuses negative ones, too
        np.add.at(dense, places, np.asarray(slices.values))
    except ValueError as reason:
        raise InvalidUpdateError(
            f"{where}: sparse rows do not fit into shape {dense.shape}: {reason}"
        ) from None
    return dense
