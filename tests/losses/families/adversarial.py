"""Oracles and cases of the adversarial losses."""

import numpy as np

from families.classification import entropy
from families.common import (
    LOGITS,
    ODD_PAIRS,
    OTHER_LOGITS,
    Case,
    Fixed,
    normal,
    on_logits,
    softmax,
)
from jtl import losses
from jtl.types import Array


def domain_adversarial(
    source: np.ndarray,
    target: np.ndarray,
    source_weights: np.ndarray | None = None,
    target_weights: np.ndarray | None = None,
    at: Fixed = None,
) -> float:
    w_s = np.ones(len(source)) if source_weights is None else source_weights
    w_t = np.ones(len(target)) if target_weights is None else target_weights
    p_s, p_t = 1 / (1 + np.exp(-source)), 1 / (1 + np.exp(-target))
    source_loss = sum(-w * np.log(p) for w, p in zip(w_s, p_s, strict=True)) / sum(w_s)
    target_loss = sum(-w * np.log(1 - p) for w, p in zip(w_t, p_t, strict=True)) / sum(w_t)
    return (source_loss + target_loss) / 2


def entropy_weights(logits: np.ndarray, at: Fixed = None) -> np.ndarray:
    weights = 1 + np.exp(-entropy(logits if at is None else at[0]))
    return weights / weights.mean()


def classifier_discrepancy(first: np.ndarray, second: np.ndarray, at: Fixed = None) -> float:
    p, q = softmax(first), softmax(second)
    classes = range(p.shape[1])
    return np.mean([np.mean([abs(p[i, c] - q[i, c]) for c in classes]) for i in range(len(p))])


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
    "domain_adversarial": Case(
        losses.domain_adversarial, domain_adversarial, DOMAIN_LOGITS, ODD_DOMAIN_LOGITS
    ),
    "domain_adversarial/weighted": Case(
        weighted_adversarial,
        domain_adversarial,
        (*DOMAIN_LOGITS, *WEIGHTS),
        ((*DOMAIN_LOGITS, np.zeros(8), np.ones(16)),),
    ),
    "entropy_weights": on_logits(entropy_weights),
    "classifier_discrepancy": Case(
        losses.classifier_discrepancy, classifier_discrepancy, (LOGITS, OTHER_LOGITS), ODD_PAIRS
    ),
}
