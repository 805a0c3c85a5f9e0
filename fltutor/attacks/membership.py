"""Membership inference: was this example in the training set?

Every attack here gives each example a score, higher for "in". What counts is the
**ROC curve at few false accusations**: an attack that is sure about five people has
done harm, though it guesses about everybody else (Carlini et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fltutor.border import as_array, as_generator, as_numbers, as_real, as_whole, not_finite
from fltutor.clients import local_batches, train_cohort
from fltutor.data import as_examples, as_indices, as_labels
from fltutor.errors import InvalidParameterError
from fltutor.models import architecture, logits, params_spec
from fltutor.tensorflow_quietly import keras, tf

LEAST_VARIANCE = 1e-6
"""Added to fitted variances, so that shadow models that all agree divide by no zero."""


@dataclass(frozen=True)
class CoinModels:
    """Models that were each trained on a random half of the same examples.

    Attributes:
        params: Weights of each model, float32, shape (s, d).
        members: Whether an example was in a model's half, bool, shape (s, N).
        confidences: How sure a model is of an example's label, from
            :func:`logit_confidences`, shape (s, N).
    """

    params: np.ndarray = field(repr=False)
    members: np.ndarray = field(repr=False)
    confidences: np.ndarray = field(repr=False)


def train_on_coins(
    model: keras.Model,
    params: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    num_models: int,
    local_epochs: int,
    learning_rate: float,
    rng: np.random.Generator,
    batch_size: int = 10,
    examples: np.ndarray | None = None,
) -> CoinModels:
    """Train many models at once, each on the examples that its own fair coins choose.

    Each model is one client of a cohort, so that all of them train in one compiled
    call. One of them can play the target and the others its shadow models. The coins
    are independent, as :func:`fltutor.privacy.auditing.one_run_audit` needs them.

    Args:
        model: Gives the architecture; its own weights are not used.
        params: Weights that all start from, shape (d,): known to the attacker here.
        x: Inputs, shape (N, ...).
        y: Labels, shape (N,).
        num_models: How many models, positive.
        local_epochs: Passes that each makes over its own half.
        learning_rate: Step size of SGD.
        rng: Source of coins and shuffles.
        batch_size: Examples in a batch.
        examples: Which examples the coins decide about, shape (N,), no two alike; None
            takes all. Choosing here instead of cutting ``x`` compiles nothing anew.

    Raises:
        InvalidParameterError: If there are no models, fewer than two examples, one that is
            named twice, does not exist or holds NaN or Inf, or a model got no example at all.

    Example:
        >>> from fltutor.data import load_digits
        >>> from fltutor.models import get_params, mlp
        >>> digits, model = load_digits(), mlp()
        >>> trained = train_on_coins(
        ...     model, get_params(model), digits.x[:50], digits.y[:50], num_models=3,
        ...     local_epochs=1, learning_rate=0.1, rng=np.random.default_rng(0),
        ... )
        >>> trained.params.shape, trained.members.shape
        ((3, 2410), (3, 50))
    """
    num_models, rng = as_whole("num_models", num_models, least=1), as_generator("rng", rng)
    y = as_labels("y", y)
    x = as_examples("x", x, num_examples=len(y))
    if examples is None:
        examples = np.arange(len(y))
    examples = as_indices("examples", examples, len(y))
    if len(examples) < 2:
        raise InvalidParameterError(f"needed at least 2 examples, got {len(examples)}")
    members = rng.random((num_models, len(examples))) < 0.5
    if not members.any(axis=1).all():
        raise InvalidParameterError(
            f"model {int(np.argmin(members.any(axis=1)))} got none of the {len(examples)} examples "
            "by its coins: take more examples or another rng"
        )
    parts = [examples[row] for row in members]
    batches = local_batches(parts, batch_size=batch_size, local_epochs=local_epochs, rng=rng)
    _require_finite(x, examples)
    trained = params + train_cohort(model, params, x, y, batches, learning_rate)
    confidences = logit_confidences(model, trained, x[examples], y[examples])
    return CoinModels(trained, members, confidences)


def logit_confidences(
    model: keras.Model, params: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Say how sure many models are of the right label of every example, as a log-odds.

    With p the probability of the right label, this is log(p / (1 - p)): it takes the
    probabilities of very sure models apart, and looks normal over models. It comes from
    the logits, so that p = 1 in floating point gives no infinity.

    Args:
        model: A Keras model that returns logits; its own weights are not used.
        params: Weights of the models, shape (s, d).
        x: Inputs, shape (N, ...).
        y: Labels, shape (N,).

    Returns:
        Shape (s, N), float64. The cross-entropy is ``np.logaddexp(0, -confidence)``.

    Raises:
        UnsupportedModelError: If the model has layers with state or randomness of their own.
        InvalidParameterError: If shapes do not fit, a label is none of the model's, or
            weights give NaN or Inf.

    Example:
        >>> from fltutor.models import mlp
        >>> zero = np.zeros((1, 10), np.float32)  # two classes, p = 1/2
        >>> logit_confidences(mlp(4, 2, hidden=()), zero, np.ones((1, 4), np.float32), [0])
        array([[0.]])

    Reference:
        Carlini et al., S&P 2022, on logit scaling. https://arxiv.org/abs/2112.03570
    """
    y = as_labels("y", y)
    x = as_examples("x", x, num_examples=len(y))
    num_outputs = architecture(model, x, 1).num_outputs  # also refuses what cannot be trained
    spec, params = params_spec(model), as_numbers("params", params, finite=False)
    if params.ndim != 2 or params.shape[1] != spec.size:
        raise InvalidParameterError(f"params must have shape (s, {spec.size}), got {params.shape}")
    y = as_labels("y", y, num_classes=num_outputs)
    x, rows = tf.convert_to_tensor(x), np.arange(len(y))
    confidences = np.empty((len(params), len(y)))
    with np.errstate(over="ignore"):  # logits tell
        params = params.astype(np.float32)
    for number, (row, vector) in enumerate(zip(confidences, params, strict=True)):
        outputs = logits(model, vector, x).numpy().astype(np.float64)
        if not np.isfinite(outputs).all():
            _require_finite(x.numpy(), rows)
            reason = (
                "it masks an output, write -1e9 in place of -inf"
                if np.isfinite(vector).all() and not np.isnan(outputs).any()
                else "has its training diverged?"
            )
            raise InvalidParameterError(f"model {number} gives NaN or Inf: {reason}")
        right = outputs[rows, y]
        outputs[rows, y] = -np.inf
        row[:] = right - np.logaddexp.reduce(outputs, axis=1)
    return confidences


def _require_finite(x: np.ndarray, examples: np.ndarray) -> None:
    """Name the first of the examples that holds NaN or Inf."""
    if np.isfinite(x[examples]).all():
        return
    for example in examples:
        if bad := not_finite(x[example]):
            raise InvalidParameterError(f"x must be finite, and example {example} holds {bad}")


def loss_scores(confidences: np.ndarray) -> np.ndarray:
    """Score examples by minus the loss of the target model: who is learned by heart was in.

    One threshold for all examples. It needs no shadow model, and takes easy
    examples for members.

    Args:
        confidences: Of the target model, from :func:`logit_confidences`, any shape.

    Example:
        >>> loss_scores(np.array([0.0, 100.0])).round(3) + 0.0
        array([-0.693,  0.   ])

    Reference:
        Yeom et al., CSF 2018, the threshold adversary, with the threshold left open.
        https://arxiv.org/abs/1709.01604
    """
    confidences = as_numbers("confidences", confidences).astype(np.float64)
    return -np.logaddexp(0, -confidences)


def lira_scores(
    target: np.ndarray,
    shadow: np.ndarray,
    members: np.ndarray,
    *,
    offline: bool = False,
    shared_variance: bool = False,
) -> np.ndarray:
    """Score examples by a likelihood ratio of their own: LiRA.

    For every example, the shadow models that had it and those that had it not give two
    normal distributions of the confidence. The score says which of them the target's
    confidence fits better. So hard examples are compared with themselves.

    Args:
        target: Confidences of the target model, shape (N,).
        shadow: Confidences of the shadow models, shape (s, N).
        members: Whether an example was in a shadow model's half, bool, shape (s, N).
        offline: Use the shadow models without the example only, as an attacker must who
            learns of the example after training them.
        shared_variance: One variance for all examples instead of one each: for few shadow
            models, since a variance of few numbers is hardly known.

    Returns:
        Shape (N,): the log-likelihood ratio; offline, the number of standard deviations
        by which the target is surer than models without the example.

    Raises:
        InvalidParameterError: If shapes do not fit, numbers are not finite or too large to be
            squared, or an example is in (or out of) fewer than two shadow models.

    Example:
        >>> members = np.array([[True], [True], [False], [False]])
        >>> shadow = np.array([[5.0], [7.0], [1.0], [3.0]])
        >>> lira_scores(np.array([6.0]), shadow, members).round(2)
        array([4.])

    Reference:
        Carlini et al., S&P 2022, Algorithm 1 (online), and its offline variant.
        https://arxiv.org/abs/2112.03570
    """
    target = as_numbers("the confidences of target", target).astype(np.float64)
    shadow = as_numbers("the confidences of shadow", shadow).astype(np.float64)
    members = as_array("members", members)
    if shadow.ndim != 2 or target.shape != shadow.shape[1:] or members.shape != shadow.shape:
        raise InvalidParameterError(
            "target (N,), shadow (s, N) and members (s, N) must fit, got "
            f"{target.shape}, {shadow.shape}, {members.shape}"
        )
    if members.dtype != bool:
        raise InvalidParameterError(f"members must be bool, got {members.dtype}")
    scarce = np.minimum(members.sum(axis=0), (~members).sum(axis=0))
    if (scarce < 2).any():
        raise InvalidParameterError(
            f"example {int(np.argmin(scarce))} is in, or out of, only {scarce.min()} shadow "
            "models, needed 2 of each: train more of them"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        out_mean, out_variance = _fit(shadow, ~members, shared_variance)
        if offline:
            scores = (target - out_mean) / np.sqrt(out_variance)
        else:
            into = _log_density(target, *_fit(shadow, members, shared_variance))
            scores = into - _log_density(target, out_mean, out_variance)
    if bad := not_finite(scores, "example") or not_finite(out_variance, "example"):
        raise InvalidParameterError(
            f"the confidences are too large to be compared: a score is {bad}"
        )
    return scores


def _fit(shadow: np.ndarray, chosen: np.ndarray, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each column over the chosen rows."""
    counts = chosen.sum(axis=0)
    mean = np.where(chosen, shadow, 0).sum(axis=0) / counts
    squares = (np.where(chosen, shadow - mean, 0) ** 2).sum(axis=0)
    if shared:
        variance = np.full_like(mean, squares.sum() / (counts - 1).sum())
    else:
        variance = squares / (counts - 1)
    return mean, variance + LEAST_VARIANCE


def _log_density(value: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return -0.5 * (np.log(2 * np.pi * variance) + (value - mean) ** 2 / variance)


def roc_curve(scores: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say, for every threshold, who is accused wrongly and who rightly.

    Args:
        scores: Any shape, higher for "in".
        members: The truth, bool, the same shape.

    Returns:
        False-positive rates and true-positive rates, both rising from 0 to 1. Equal
        scores are accused together.

    Raises:
        InvalidParameterError: If shapes differ, a score is NaN, or members or
            non-members are missing.

    Example:
        >>> fpr, tpr = roc_curve(np.array([3, 2, 1, 0]), np.array([True, False, True, False]))
        >>> fpr, tpr
        (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]))
    """
    scores = as_numbers("scores", scores, finite=False).astype(np.float64)
    members = as_array("members", members)
    if scores.shape != members.shape or members.dtype != bool:
        raise InvalidParameterError(
            f"scores and members (bool) must have one shape, got {scores.shape} and "
            f"{members.shape} of {members.dtype}"
        )
    if np.isnan(scores).any():
        raise InvalidParameterError("scores must be numbers, got NaN")
    scores, members = scores.ravel(), members.ravel()
    if members.all() or not members.any():
        raise InvalidParameterError(
            f"needed members and non-members, got {int(members.sum())} members among {members.size}"
        )
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_equals = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(order) - 1)
    right = np.cumsum(members[order])[last_of_equals]
    wrong = last_of_equals + 1 - right
    return (
        np.append(0.0, wrong / (~members).sum()),
        np.append(0.0, right / members.sum()),
    )


def tpr_at_fpr(scores: np.ndarray, members: np.ndarray, fpr: float) -> float:
    """Share of the members that are found while at most a share ``fpr`` of others is accused.

    Args:
        scores: Any shape, higher for "in".
        members: The truth, bool, the same shape.
        fpr: Largest false-positive rate, 0 to 1.

    Raises:
        InvalidParameterError: As :func:`roc_curve`; also if ``fpr`` is outside [0, 1].

    Example:
        >>> tpr_at_fpr(np.array([3, 2, 1, 0]), np.array([True, False, True, False]), 0.1)
        0.5

    Reference:
        Carlini et al., S&P 2022, on evaluation. https://arxiv.org/abs/2112.03570
    """
    fpr = as_real("fpr", fpr, least=0, most=1)
    wrong, right = roc_curve(scores, members)
    return float(right[wrong <= fpr].max())


@dataclass(frozen=True)
class Attacked:
    """Some models, attacked example by example.

    Attributes:
        members: Whether an example was in a model's training set, bool, shape (t, N).
        scores: Scores of each attack by its name, each of shape (t, N).
        models: How many models the attacker had trained for it, besides the attacked one.
    """

    members: np.ndarray = field(repr=False)
    scores: dict[str, np.ndarray] = field(repr=False)
    models: int

    @property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """False- and true-positive rates of each attack, over all attacked models together."""
        return {name: roc_curve(scores, self.members) for name, scores in self.scores.items()}

    def found(self, attack: str, fpr: float = 0.01) -> float:
        """Share of the members found while at most ``fpr`` of the others are accused.

        Raises:
            InvalidParameterError: If there is no such attack, or ``fpr`` is outside [0, 1].
        """
        if attack not in self.scores:
            raise InvalidParameterError(
                f"attack must be one of {', '.join(self.scores)}, got {attack!r}"
            )
        return tpr_at_fpr(self.scores[attack], self.members, fpr)


def attack_targets(
    trained: CoinModels, targets: int, *, offline: bool = False, shared_variance: bool = False
) -> Attacked:
    """Let the first models be targets one by one, with all others as shadow models.

    So one cohort gives many attacks to average over. They share shadow models: they are
    no independent repetitions, and a standard error wants several cohorts.

    Args:
        trained: Models on random halves of the same examples, from :func:`train_on_coins`.
        targets: How many of them to attack, from 1 to all.
        offline: As in :func:`lira_scores`.
        shared_variance: As in :func:`lira_scores`.

    Returns:
        The scores of the attacks ``"loss threshold"`` and ``"LiRA"``.

    Raises:
        InvalidParameterError: If ``targets`` is out of range, or an example is in (or out of)
            fewer than two of the other models.

    Example:
        >>> members = np.array([[True, False], [False, True]] * 3)
        >>> confidences = np.where(members, 5.0, 1.0) + np.arange(6)[:, None] / 10
        >>> attacked = attack_targets(CoinModels(np.zeros((6, 1)), members, confidences), 2)
        >>> attacked.scores["LiRA"] > 0
        array([[ True, False],
               [False,  True]])
        >>> attacked.models, attacked.found("LiRA", fpr=0.01)
        (5, 1.0)

    Reference:
        Carlini et al., S&P 2022, Algorithm 1, for each target.
        https://arxiv.org/abs/2112.03570
    """
    num_models = len(trained.members)
    targets = as_whole("targets", targets, least=1, most=num_models)
    by_lira = []
    for target in range(targets):
        others = np.arange(num_models) != target
        by_lira.append(
            lira_scores(
                trained.confidences[target],
                trained.confidences[others],
                trained.members[others],
                offline=offline,
                shared_variance=shared_variance,
            )
        )
    scores = {
        "loss threshold": loss_scores(trained.confidences[:targets]),
        "LiRA": np.array(by_lira),
    }
    return Attacked(trained.members[:targets], scores, num_models - 1)
