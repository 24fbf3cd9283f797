"""Every loss with its oracle and inputs: what the conformance tests run over."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import oracles

from jtl import losses
from jtl.types import Array

INF = np.inf


@dataclass(frozen=True)
class Case:
    """One loss, or one form of it.

    Attributes:
      loss: arrays to a scalar or one value per example.
      oracle: the same in float64 NumPy.
      arguments: generic ones, float64; integers stay integers.
      edges: arguments where a naive implementation has NaN or infinite gradients.
      batch: the loss takes ``axis_name``.
    """

    loss: Callable
    oracle: Callable
    arguments: tuple
    edges: tuple = ()
    batch: bool = True


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 0])
LOGITS, OTHER_LOGITS = normal(8, 3), normal(8, 3, seed=1)
SOURCE, TARGET = normal(8, 3, seed=2), normal(16, 3, seed=3) + 0.5

ODD_LOGITS = (
    np.zeros((8, 3)),
    np.full((8, 3), 1e4) * np.array([1, -1, 0]),
    np.tile([200.0, 0.0, 0.0], (8, 1)),
    np.tile([0.0, -INF, 1.0], (8, 1)),
    np.concatenate([[[0.0, -INF, -INF], [-INF, 3.0, -INF]], LOGITS[2:]]),
    np.eye(3)[LABELS] * 1e3,
    np.tile([0.0, -95.0, 0.0], (8, 1)),  # a probability that is a denormal float32
    np.tile([0.0, -250.0, 0.0], (8, 1)),  # the same at temperature 2.5
)
ODD_PAIRS = (
    *((odd, LOGITS) for odd in ODD_LOGITS),
    *((LOGITS, odd) for odd in ODD_LOGITS),
    *((odd, odd) for odd in ODD_LOGITS),
)
ODD_FEATURES = (
    (np.zeros((8, 3)), np.zeros((16, 3))),
    (np.zeros((8, 3)), TARGET),
    (np.tile(SOURCE[:1], (8, 1)), np.tile(SOURCE[:1], (16, 1))),
    (SOURCE, np.concatenate([SOURCE, SOURCE])),
    (SOURCE + 1e4, TARGET + 1e4),
    (np.concatenate([np.ones((7, 3)), np.zeros((1, 3))]), np.ones((16, 3))),
    (SOURCE * 1e-15, TARGET * 1e-15),
)


def l2_sp(backbone: Array, head: Array, reference: Array) -> Array:
    params = {"backbone": {"w": backbone}, "head": head}
    return losses.l2_sp(params, {"backbone": {"w": reference}}, alpha=0.3, beta=0.7)


def smoothed(logits: Array, labels: Array) -> Array:
    return losses.cross_entropy(logits, labels, label_smoothing=0.1)


def over_labels(*logits: np.ndarray) -> tuple:
    return tuple((rows, LABELS) for rows in logits)


def on_logits(name: str) -> Case:
    edges = tuple((odd,) for odd in ODD_LOGITS)
    return Case(getattr(losses, name), getattr(oracles, name), (LOGITS,), edges)


def on_features(name: str, **options: Any) -> Case:
    loss, oracle = getattr(losses, name), getattr(oracles, name)
    return Case(
        partial(loss, **options), partial(oracle, **options), (SOURCE, TARGET), ODD_FEATURES
    )


DOMAIN_LOGITS = (normal(8), normal(16))
ODD_DOMAIN_LOGITS = tuple(
    (np.full(8, source), np.full(16, target))
    for source in (0.0, 1e4, -1e4)
    for target in (0.0, 1e4, -1e4)
)
WEIGHTS = (np.arange(8) / 7, np.arange(16) / 3)


def weighted_adversarial(
    source: Array, target: Array, source_weights: Array, target_weights: Array, **axis: str
) -> Array:
    return losses.domain_adversarial(
        source, target, source_weights=source_weights, target_weights=target_weights, **axis
    )


CASES = {
    "cross_entropy": Case(
        losses.cross_entropy,
        oracles.cross_entropy,
        (LOGITS, LABELS),
        over_labels(*ODD_LOGITS),
        batch=False,
    ),
    "cross_entropy/smoothed": Case(
        smoothed,
        partial(oracles.cross_entropy, label_smoothing=0.1),
        (LOGITS, LABELS),
        over_labels(*ODD_LOGITS),
        batch=False,
    ),
    "focal": Case(
        losses.focal, oracles.focal, (LOGITS, LABELS), over_labels(*ODD_LOGITS), batch=False
    ),
    "focal/half": Case(
        partial(losses.focal, gamma=0.5),
        partial(oracles.focal, gamma=0.5),
        (LOGITS, LABELS),
        over_labels(*ODD_LOGITS),
        batch=False,
    ),
    "entropy": Case(
        losses.entropy, oracles.entropy, (LOGITS,), on_logits("entropy").edges, batch=False
    ),
    "distillation": Case(
        partial(losses.distillation, temperature=3.0),
        partial(oracles.distillation, temperature=3.0),
        (LOGITS, OTHER_LOGITS),
        ODD_PAIRS,
        batch=False,
    ),
    "domain_adversarial": Case(
        losses.domain_adversarial, oracles.domain_adversarial, DOMAIN_LOGITS, ODD_DOMAIN_LOGITS
    ),
    "domain_adversarial/weighted": Case(
        weighted_adversarial,
        oracles.domain_adversarial,
        (*DOMAIN_LOGITS, *WEIGHTS),
        ((*DOMAIN_LOGITS, np.zeros(8), np.ones(16)),),
    ),
    "entropy_weights": on_logits("entropy_weights"),
    "classifier_discrepancy": Case(
        losses.classifier_discrepancy,
        oracles.classifier_discrepancy,
        (LOGITS, OTHER_LOGITS),
        ODD_PAIRS,
    ),
    "mmd": on_features("mmd"),
    "mmd/unbiased": on_features("mmd", estimator="unbiased"),
    "mmd/linear": Case(
        partial(losses.mmd, estimator="linear"), oracles.linear_mmd, (SOURCE, TARGET), ODD_FEATURES
    ),
    "mmd/bandwidths": Case(
        partial(losses.mmd, bandwidths=jnp.array([0.5, 3.0])),
        partial(oracles.mmd, bandwidths=[0.5, 3.0]),
        (SOURCE, TARGET),
        ODD_FEATURES,
    ),
    "coral": on_features("coral"),
    "minimum_class_confusion": on_logits("minimum_class_confusion"),
    "information_maximization": on_logits("information_maximization"),
    "batch_nuclear_norm": on_logits("batch_nuclear_norm"),
    "l2_sp": Case(
        l2_sp,
        oracles.l2_sp,
        (normal(2, 3), normal(4), normal(2, 3, seed=4)),
        ((np.zeros((2, 3)), np.zeros(4), np.zeros((2, 3))),),
        batch=False,
    ),
}
