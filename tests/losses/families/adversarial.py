"""Oracles and cases of the adversarial losses."""

import jax.numpy as jnp
import numpy as np

from families.classification import entropy
from families.common import (
    LABELS,
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


def margin_disparity(
    source: np.ndarray,
    source_adversary: np.ndarray,
    target: np.ndarray,
    target_adversary: np.ndarray,
    margin: float = 4.0,
    at: Fixed = None,
) -> float:
    source, target = (source, target) if at is None else (at[0], at[2])
    on_source = [
        np.log(p[np.argmax(z)]) for z, p in zip(source, softmax(source_adversary), strict=True)
    ]
    on_target = [
        np.log(1 - p[np.argmax(z)]) for z, p in zip(target, softmax(target_adversary), strict=True)
    ]
    return margin * np.mean(on_source) + np.mean(on_target)


def multilinear_map(
    features: np.ndarray, probabilities: np.ndarray, at: Fixed = None
) -> np.ndarray:
    return np.array(
        [[f * p for f in row for p in ps] for row, ps in zip(features, probabilities, strict=True)]
    )


def randomized_multilinear_map(
    features: np.ndarray, probabilities: np.ndarray, at: Fixed = None
) -> np.ndarray:
    products = []
    for f, p in zip(features, probabilities, strict=True):
        products.append([(f @ r) * (p @ q) for r, q in zip(*(m.T for m in MATRICES), strict=True)])
    return np.array(products) / np.sqrt(MATRICES[0].shape[1])


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


MATRICES = (normal(3, 6, seed=5), normal(3, 6, seed=6))
MORE_LOGITS, MORE_OTHER_LOGITS = normal(16, 3), normal(16, 3, seed=1)


def randomized(features: Array, probabilities: Array) -> Array:
    matrices = tuple(jnp.asarray(m, jnp.float32) for m in MATRICES)
    return losses.randomized_multilinear_map(features, probabilities, matrices)


def twice(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, rows])


CASES = {
    "domain_adversarial": Case(
        losses.domain_adversarial,
        domain_adversarial,
        DOMAIN_LOGITS,
        ODD_DOMAIN_LOGITS,
        masks={"source_weights": (0,), "target_weights": (1,)},
    ),
    "domain_adversarial/weighted": Case(
        weighted_adversarial,
        domain_adversarial,
        (*DOMAIN_LOGITS, *WEIGHTS),
        ((*DOMAIN_LOGITS, np.zeros(8), np.ones(16)),),
    ),
    "entropy_weights": on_logits(entropy_weights),
    "classifier_discrepancy": Case(
        losses.classifier_discrepancy,
        classifier_discrepancy,
        (LOGITS, OTHER_LOGITS),
        ODD_PAIRS,
        masks={"where": (0, 1)},
    ),
    "margin_disparity": Case(
        losses.margin_disparity,
        margin_disparity,
        (LOGITS, OTHER_LOGITS, MORE_LOGITS, MORE_OTHER_LOGITS),
        tuple((one, other, twice(one), twice(other)) for one, other in ODD_PAIRS),
        masks={"source_where": (0, 1), "target_where": (2, 3)},
    ),
    "multilinear_map": Case(
        losses.multilinear_map,
        multilinear_map,
        (LOGITS, softmax(OTHER_LOGITS)),
        ((np.zeros((8, 3)), np.eye(3)[LABELS]),),
        batch=False,
    ),
    "randomized_multilinear_map": Case(
        randomized,
        randomized_multilinear_map,
        (LOGITS, softmax(OTHER_LOGITS)),
        ((np.zeros((8, 3)), np.eye(3)[LABELS]),),
        batch=False,
    ),
}
