"""Oracles and cases of the losses of features' lengths, of rows and of principal directions."""

from functools import partial

import numpy as np

from families.common import SOURCE, WHERE, Case, Fixed, normal
from jtl import losses

WIDE = normal(8, 12)
ODD = tuple(
    (rows,)
    for rows in (
        np.zeros((8, 3)),
        np.tile(SOURCE[:1], (8, 1)),
        np.concatenate([SOURCE[:7], np.zeros((1, 3))]),
        np.eye(8, 3),  # equal singular values
        np.diag([2.0, 1, 1, 0, 0, 0, 0, 0])[:, :3],
        SOURCE * 1e-15,
        SOURCE * 1e-25,
        SOURCE + 1e4,
    )
)


def lengths(features: np.ndarray) -> np.ndarray:
    return np.array([sum(x**2 for x in row) ** 0.5 for row in features])


def adaptive_feature_norm(features: np.ndarray, step: float = 1.0, at: Fixed = None) -> float:
    before = lengths(features if at is None else at[0])
    return np.mean([(n - (b + step)) ** 2 for n, b in zip(lengths(features), before, strict=True)])


def hard_feature_norm(features: np.ndarray, radius: float = 25.0, at: Fixed = None) -> float:
    return (sum(lengths(features)) / len(features) - radius) ** 2


def squared_singular_values(features: np.ndarray) -> np.ndarray:
    """In rising order: eigenvalues of the smaller Gram matrix."""
    short = features if len(features) < features.shape[1] else features.T
    return np.linalg.eigvalsh(short @ short.T)


def batch_spectral_penalty(features: np.ndarray, k: int = 1, at: Fixed = None) -> float:
    return sum(squared_singular_values(features)[-k:])


def batch_spectral_shrinkage(features: np.ndarray, k: int = 1, at: Fixed = None) -> float:
    return sum(squared_singular_values(features)[:k])


def of_rows(oracle: object, features: np.ndarray = SOURCE, **options: float) -> Case:
    assert callable(oracle)
    loss = partial(getattr(losses, oracle.__name__), **options)
    edges = ODD if features is SOURCE else ()
    return Case(loss, partial(oracle, **options), (features,), edges, masks=WHERE)


CASES = {
    "adaptive_feature_norm": of_rows(adaptive_feature_norm),
    "adaptive_feature_norm/step": of_rows(adaptive_feature_norm, step=0.3),
    "hard_feature_norm": of_rows(hard_feature_norm),
    "hard_feature_norm/radius": of_rows(hard_feature_norm, radius=1.5),
    "batch_spectral_penalty": of_rows(batch_spectral_penalty),
    "batch_spectral_penalty/two": of_rows(batch_spectral_penalty, k=2),
    "batch_spectral_penalty/wide": of_rows(batch_spectral_penalty, WIDE, k=3),
    "batch_spectral_shrinkage": of_rows(batch_spectral_shrinkage),
    "batch_spectral_shrinkage/two": of_rows(batch_spectral_shrinkage, k=2),
    "batch_spectral_shrinkage/wide": of_rows(batch_spectral_shrinkage, WIDE, k=3),
}
