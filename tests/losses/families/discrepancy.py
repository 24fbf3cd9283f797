"""Oracles and cases of the distances between two samples."""

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from families.common import (
    BOTH,
    ODD_FEATURES,
    SOURCE,
    TARGET,
    Case,
    Fixed,
    normal,
    on_features,
    softmax,
)
from jtl import losses
from jtl.types import Array


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
    return joint_mmd([source], [target], estimator, [bandwidths], at and [at])


def joint_mmd(
    source_layers: Sequence[np.ndarray],
    target_layers: Sequence[np.ndarray],
    estimator: str,
    bandwidths: Sequence[Sequence[float] | None],
    at: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> float:
    """``at``: both samples of each layer."""
    at = at or list(zip(source_layers, target_layers, strict=True))
    widths = [
        median_bandwidths(itertools.combinations([*source, *target], 2)) if given is None else given
        for (source, target), given in zip(at, bandwidths, strict=True)
    ]

    def kernel(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
        product = 1.0
        for of_x, of_y, layer in zip(x, y, widths, strict=True):
            distance = squared_distance(of_x, of_y)
            product *= sum(math.exp(-distance / b) for b in layer) / len(layer)
        return product

    def within(rows: list) -> float:
        pairs = list(itertools.product(range(len(rows)), repeat=2))
        if estimator == "unbiased":
            pairs = [(i, j) for i, j in pairs if i != j]
        return np.mean([kernel(rows[i], rows[j]) for i, j in pairs])

    source = list(zip(*source_layers, strict=True))
    target = list(zip(*target_layers, strict=True))
    across = np.mean([kernel(s, t) for s in source for t in target])
    return within(source) + within(target) - 2 * across


def linear_mmd(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    return linear_joint_mmd([source], [target], at and [at])


def linear_joint_mmd(
    source_layers: Sequence[np.ndarray],
    target_layers: Sequence[np.ndarray],
    at: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> float:
    pairs = range(min(len(source_layers[0]), len(target_layers[0])) // 2)

    def quadruples(s: np.ndarray, t: np.ndarray) -> list:
        return [(s[2 * i], s[2 * i + 1], t[2 * i], t[2 * i + 1]) for i in pairs]

    kernels = np.ones((4, len(pairs)))
    layers = list(zip(source_layers, target_layers, strict=True))
    for layer, fixed in zip(layers, at or layers, strict=True):
        read = [p for a, b, c, d in quadruples(*fixed) for p in ((a, b), (c, d), (a, d), (b, c))]
        bandwidths = median_bandwidths(read)
        for column, (a, b, c, d) in enumerate(quadruples(*layer)):
            for row, (x, y) in enumerate(((a, b), (c, d), (a, d), (b, c))):
                widths = [np.exp(-squared_distance(x, y) / w) for w in bandwidths]
                kernels[row, column] *= np.mean(widths)
    return np.mean(kernels[0] + kernels[1] - kernels[2] - kernels[3])


def coral(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    gap = np.cov(source, rowvar=False, ddof=1) - np.cov(target, rowvar=False, ddof=1)
    return (gap**2).sum() / (4 * source.shape[1] ** 2)


def central_moment_discrepancy(
    source: np.ndarray,
    target: np.ndarray,
    moments: int = 5,
    span: float = 1.0,
    at: Fixed = None,
) -> float:
    def moment(rows: np.ndarray, order: int) -> np.ndarray:
        means = [sum(column) / len(rows) for column in rows.T]
        if order == 1:
            return np.array(means)
        powers = [[(x - m) ** order for x in c] for c, m in zip(rows.T, means, strict=True)]
        return np.array([sum(p) / len(rows) for p in powers])

    total = 0.0
    for order in range(1, moments + 1):
        gaps = moment(source, order) - moment(target, order)
        total += np.sqrt(sum(gap**2 for gap in gaps)) / span**order
    return total


PROBABILITIES = (softmax(normal(8, 4)), softmax(normal(16, 4)))
ODD_LAYERS = tuple(
    (source, source[:, :1] * 0, target, target[:, :1] * 0) for source, target in ODD_FEATURES
)
LAYER_MASKS = {"source_where": (0, 1), "target_where": (2, 3)}


def joint(features: Array, more: Array, others: Array, more_others: Array, **options: Any) -> Array:
    return losses.joint_mmd([features, more], [others, more_others], **options)


def joint_oracle(
    features: np.ndarray,
    more: np.ndarray,
    others: np.ndarray,
    more_others: np.ndarray,
    estimator: str = "biased",
    bandwidths: Sequence | None = None,
    at: Fixed = None,
) -> float:
    fixed = at and [(at[0], at[2]), (at[1], at[3])]
    if estimator == "linear":
        return linear_joint_mmd([features, more], [others, more_others], fixed)
    widths = bandwidths or [None, None]
    return joint_mmd([features, more], [others, more_others], estimator, widths, fixed)


def on_layers(**options: Any) -> Case:
    arguments = (SOURCE, PROBABILITIES[0], TARGET, PROBABILITIES[1])
    given = options | {"bandwidths": options.get("bandwidths") and [None, jnp.array([1.68])]}
    loss, oracle = partial(joint, **given), partial(joint_oracle, **options)
    return Case(loss, oracle, arguments, ODD_LAYERS, masks=LAYER_MASKS)


CASES = {
    "mmd": on_features(mmd),
    "mmd/unbiased": on_features(mmd, estimator="unbiased"),
    "mmd/linear": Case(
        partial(losses.mmd, estimator="linear"),
        linear_mmd,
        (SOURCE, TARGET),
        ODD_FEATURES,
        masks=BOTH,
    ),
    "mmd/bandwidths": Case(
        partial(losses.mmd, bandwidths=jnp.array([0.5, 3.0])),
        partial(mmd, bandwidths=[0.5, 3.0]),
        (SOURCE, TARGET),
        ODD_FEATURES,
        masks=BOTH,
    ),
    "joint_mmd": on_layers(),
    "joint_mmd/unbiased": on_layers(estimator="unbiased", bandwidths=[None, [1.68]]),
    "joint_mmd/linear": on_layers(estimator="linear"),
    "coral": on_features(coral),
    "central_moment_discrepancy": on_features(central_moment_discrepancy),
    "central_moment_discrepancy/span": on_features(central_moment_discrepancy, moments=3, span=2.0),
}
