"""Notebook 12: guess who took part, and hold the guesses against a claimed epsilon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np

from fltutor.attacks import (
    BUGS,
    Attacked,
    AuditedTraining,
    CoinModels,
    attack_targets,
    audit_training,
    plant_bug,
    train_on_coins,
)
from fltutor.data import load_digits, partition_iid
from fltutor.models import get_params, mlp
from fltutor.privacy.accounting import PrivacySpent, epsilon_after
from fltutor.privacy.auditing import (
    AuditResult,
    Mechanism,
    plant_canaries,
    two_world_audit,
    two_world_scores,
)
from fltutor.tensorflow_quietly import keras

DELTA = 1e-3
CONFIDENCE = 0.95
CLIP_NORM = 1.0
CANARY_NORM = 10.0
SEED = 12

TRAINING_ROUNDS, TRAINING_NOISE = 8, 4.0
SMALL_ROUNDS, SMALL_NOISE = 2, 2.0  # the same epsilon: both have noise 4 / sqrt(8) in total
TRAINING_CLIENTS = 200
SMALL_CLIENTS, SMALL_DIMENSION = 5, 16
NUM_CANARIES, GUESSES = 128, 100

EPOCHS = (1, 2, 5, 10, 20, 40)
EXAMPLES = (100, 200, 400, 800)
TRIALS = (100, 300, 1000, 2000, 4000, 8000)
FEWEST_MODELS, MOST_MODELS = 31, 63  # shadow models; with the target, whole blocks
LEARNING_RATE = 0.3
FPR = 0.01


@cache
def claim(rounds: int = TRAINING_ROUNDS, noise_multiplier: float = TRAINING_NOISE) -> PrivacySpent:
    """What the mechanism would have, were it free of bugs.

    Example:
        >>> print(claim())
        epsilon = 2.05 at delta = 1e-3 (client, add-or-remove-one, no sampling, PLD)
    """
    return epsilon_after(
        rounds, noise_multiplier=noise_multiplier, delta=DELTA, accountant="pld", unit="client"
    )


def audited_training(bug: str, seed: int = 0) -> AuditedTraining:
    """Train on the digits under a claimed epsilon, with canaries, and audit that one run.

    Two hundred honest clients train a model together for 8 rounds; each of 128 canaries
    joins them if its coin says so. The auditor sees what each round releases.

    Args:
        bug: One of ``BUGS``.
        seed: Of the split, the canaries, their coins, the shuffles and the noise.
    """
    digits, model = load_digits(), _model()
    rng = np.random.default_rng([SEED, seed])
    canaries = plant_canaries(NUM_CANARIES, len(get_params(model)), norm=CANARY_NORM, rng=rng)
    start = plant_bug(
        bug,
        clip_norm=CLIP_NORM,
        noise_multiplier=TRAINING_NOISE,
        expected_cohort=TRAINING_CLIENTS + NUM_CANARIES / 2,
        rng=rng,
    )
    return audit_training(
        model,
        digits,
        partition_iid(digits.y, TRAINING_CLIENTS, rng),
        start(),
        canaries,
        rounds=TRAINING_ROUNDS,
        guesses=GUESSES,
        delta=DELTA,
        confidence=CONFIDENCE,
        learning_rate=LEARNING_RATE,
        local_epochs=5,
        seed=seed,
    )


def train_halves(
    examples: int = 400, epochs: int = 40, num_models: int = MOST_MODELS, seed: int = 0
) -> CoinModels:
    """Draw some training digits and train models on random halves of them, all at once.

    Args:
        examples: Digits that the coins decide about.
        epochs: Passes of each model over its half.
        num_models: How many models.
        seed: Of the digits, the coins and the shuffles.
    """
    digits, model = load_digits(), _model()
    rng = np.random.default_rng([SEED, seed])
    chosen = np.random.default_rng([SEED, seed, 1]).permutation(len(digits.y))[:examples]
    return train_on_coins(
        model,
        get_params(model),
        digits.x,
        digits.y,
        num_models=num_models,
        local_epochs=epochs,
        learning_rate=LEARNING_RATE,
        rng=rng,
        examples=chosen,
    )


def power(bug: str, trials: int, seeds: int = 5) -> np.ndarray:
    """Audit a small mechanism in two worlds, several times over.

    Five honest clients with 16 coordinates, two rounds, and one canary.

    Args:
        bug: One of ``BUGS``.
        trials: Runs without the canary, and as many with it.
        seeds: How many audits.

    Returns:
        One lower bound on epsilon per audit, shape (seeds,).
    """
    return np.array(
        [
            two_world_audit(
                *small_runs(bug, trials, seed), delta=DELTA, confidence=CONFIDENCE
            ).epsilon
            for seed in range(seeds)
        ]
    )


def small_start(bug: str, rng: np.random.Generator) -> Callable[[], Mechanism]:
    """The mechanism of :func:`small_runs`: five honest clients, noise multiplier 2."""
    return plant_bug(
        bug,
        clip_norm=CLIP_NORM,
        noise_multiplier=SMALL_NOISE,
        expected_cohort=SMALL_CLIENTS,
        rng=rng,
    )


def small_world(coordinate: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What five honest clients send in two rounds, and a canary that sends one coordinate.

    Returns:
        Shapes (2, 5, 16) and (16,).
    """
    honest = np.random.default_rng(SEED).normal(size=(SMALL_CLIENTS, SMALL_DIMENSION)) / 4
    canary = CANARY_NORM * np.eye(SMALL_DIMENSION)[coordinate]
    return np.stack([honest] * SMALL_ROUNDS), canary


def suspects() -> dict[str, Callable[[], Mechanism]]:
    """Four small mechanisms with the same claim, one for each of ``BUGS``, in unknown order."""
    shuffled = np.random.default_rng(SEED).permutation(BUGS)
    return {
        name: small_start(str(bug), np.random.default_rng([SEED, place]))
        for place, (name, bug) in enumerate(zip("ABCD", shuffled, strict=True))
    }


def small_runs(bug: str, trials: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a small mechanism without and with the canary, shape (trials,) each.

    More trials keep the first ones. Multiples of 100 are computed once and kept.
    """
    chunks = [_hundred_runs(bug, seed, number) for number in range(-(-trials // 100))]
    without, with_canary = (np.concatenate(scores)[:trials] for scores in zip(*chunks, strict=True))
    return without, with_canary


@lru_cache(maxsize=4096)
def _hundred_runs(bug: str, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([SEED, BUGS.index(bug), seed, number])
    return two_world_scores(small_start(bug, rng), *small_world(), runs=100)


@dataclass(frozen=True)
class AuditView:
    """One setting of the explorer: an attack on one model, and an audit of one mechanism.

    Attributes:
        attacked: The target and what the attacks say of every example.
        examples: Digits that the coins decided about.
        epochs: Passes of each model over its half.
        target: Which model is attacked.
        bug: What is wrong with the audited mechanism.
        without: Scores of runs without the canary.
        with_canary: Scores of runs with it.
        trials: How many runs of each kind were asked for; some may be on their way.
        runs: After how many runs of each kind the auditor drew a bound.
        bounds: Those bounds on epsilon.
        audit: The last bound with all that belongs to it.
        claim: What the mechanism says of itself.
    """

    attacked: Attacked
    examples: int
    epochs: int
    target: int
    bug: str
    without: np.ndarray = field(repr=False)
    with_canary: np.ndarray = field(repr=False)
    trials: int
    runs: tuple[int, ...]
    bounds: tuple[float, ...]
    audit: AuditResult
    claim: PrivacySpent


def audit_view(
    epochs: int, examples: int, target: int, bug: str, trials: int
) -> Iterator[AuditView]:
    """Attack a trained model and audit a mechanism, yielding as models and runs are done.

    Everything is kept: a setting that was seen before answers at once, and more
    trials go on from fewer.

    Example:
        >>> *_, view = audit_view(20, 100, target=0, bug="forgets to clip", trials=300)
        >>> view.audit.refutes(view.claim)
        True
    """
    done = min(100, trials)
    models = FEWEST_MODELS
    while True:
        attacked = _attacked(epochs, examples, models, target)
        yield _view(attacked, epochs, examples, target, bug, done, trials)
        if models == MOST_MODELS and done == trials:
            return
        models = MOST_MODELS
        done = min(done + 100, trials)


def _view(
    attacked: Attacked, epochs: int, examples: int, target: int, bug: str, done: int, trials: int
) -> AuditView:
    without, with_canary = small_runs(bug, done)
    runs = (*(size for size in TRIALS if size < done), done)
    audits = [_kept_audit(bug, size) for size in runs]
    return AuditView(
        attacked,
        examples,
        epochs,
        target,
        bug,
        without,
        with_canary,
        trials,
        runs,
        tuple(audit.epsilon for audit in audits),
        audits[-1],
        claim(SMALL_ROUNDS, SMALL_NOISE),
    )


@lru_cache(maxsize=1024)
def _kept_audit(bug: str, size: int) -> AuditResult:
    return two_world_audit(*small_runs(bug, size), delta=DELTA, confidence=CONFIDENCE)


@lru_cache(maxsize=512)
def _attacked(epochs: int, examples: int, models: int, target: int) -> Attacked:
    trained = _trained(epochs, examples, models)
    order = np.roll(np.arange(models + 1), -target)  # the target first
    turned = CoinModels(
        *(part[order] for part in (trained.params, trained.members, trained.confidences))
    )
    return attack_targets(turned, 1)


@lru_cache(maxsize=64)
def _trained(epochs: int, examples: int, models: int) -> CoinModels:
    return train_halves(examples, epochs, models + 1)


@cache
def _model() -> keras.Model:
    """One model for every run: what is compiled for it stays compiled."""
    return mlp(seed=SEED)
