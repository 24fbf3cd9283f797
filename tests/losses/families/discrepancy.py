"""Oracles and cases of the distances between two samples."""

import itertools
from collections.abc import Iterable, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np

from families.common import ODD_FEATURES, SOURCE, TARGET, Case, Fixed, on_features
from jtl import losses


def squared_distance(x: np.ndarray, y: np.ndarray) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def median_bandwidths(pairs: Iterable) -> list[float]:
    median = np.median([squared_distance(x, y) for x, y in pairs])
    return [median * 2.0**octave for octave in (-2, -1, 0, 1, 2)]


def mmd(
    source: np.ndarray,
    target: np.ndarray,
    estimator: str = "biased",
    bandwidths: Sequence[float] | None = None,
    at: Fixed = None,
) -> float:
    fixed_source, fixed_target = (source, target) if at is None else at
    if bandwidths is None:
        pooled = [*fixed_source, *fixed_target]
        bandwidths = median_bandwidths(itertools.combinations(pooled, 2))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return np.mean([np.exp(-squared_distance(x, y) / b) for b in bandwidths])

    def within(rows: np.ndarray) -> float:
        pairs = list(itertools.product(range(len(rows)), repeat=2))
        if estimator == "unbiased":
            pairs = [(i, j) for i, j in pairs if i != j]
        return np.mean([kernel(rows[i], rows[j]) for i, j in pairs])

    across = np.mean([kernel(s, t) for s in source for t in target])
    return within(source) + within(target) - 2 * across


def linear_mmd(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    pairs = range(min(len(source), len(target)) // 2)

    def quadruples(s: np.ndarray, t: np.ndarray) -> list:
        return [(s[2 * i], s[2 * i + 1], t[2 * i], t[2 * i + 1]) for i in pairs]

    fixed = quadruples(*((source, target) if at is None else at))
    read = [pair for a, b, c, d in fixed for pair in ((a, b), (c, d), (a, d), (b, c))]
    bandwidths = median_bandwidths(read)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return np.mean([np.exp(-squared_distance(x, y) / b) for b in bandwidths])

    terms = [
        kernel(a, b) + kernel(c, d) - kernel(a, d) - kernel(b, c)
        for a, b, c, d in quadruples(source, target)
    ]
    return np.mean(terms)


def coral(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    gap = np.cov(source, rowvar=False, ddof=1) - np.cov(target, rowvar=False, ddof=1)
    return (gap**2).sum() / (4 * source.shape[1] ** 2)


CASES = {
    "mmd": on_features(mmd),
    "mmd/unbiased": on_features(mmd, estimator="unbiased"),
    "mmd/linear": Case(
        partial(losses.mmd, estimator="linear"), linear_mmd, (SOURCE, TARGET), ODD_FEATURES
    ),
    "mmd/bandwidths": Case(
        partial(losses.mmd, bandwidths=jnp.array([0.5, 3.0])),
        partial(mmd, bandwidths=[0.5, 3.0]),
        (SOURCE, TARGET),
        ODD_FEATURES,
    ),
    "coral": on_features(coral),
}
