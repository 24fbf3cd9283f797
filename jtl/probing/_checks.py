"""What the solvers accept: each check returns arrays, or raises."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jtl.errors import UserError
from jtl.metrics.checks import check_labels
from jtl.probing._lazy import Features, in_memory


def check_examples(
    features: Features, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[Any, np.ndarray, np.ndarray, int]:
    """Features, labels, weights (ones by default) and the number of classes, or raises.

    Features that are not in memory are not read.

    Raises:
      UserError: not ``[examples, features]`` and ``[examples]``; features or weights that are not
        finite; negative weights; a class without weight; fewer than two classes.
    """
    labels = np.asarray(labels)
    whole = np.asarray(features) if in_memory(features) else None
    features = features if whole is None else whole
    if features.ndim != 2 or not features.shape[1] or labels.shape != features.shape[:1]:
        raise UserError(
            f"features of shape {features.shape} and labels of shape {labels.shape} do not belong "
            "together: give [examples, features] and [examples]"
        )
    given = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    if given.shape != labels.shape or not np.isfinite(given).all() or (given < 0).any():
        raise UserError("weights: give a finite number from 0 for each example")
    if whole is not None:
        check_finite(whole)
    classes = int(labels.max()) + 1 if len(labels) and labels.dtype.kind in "iu" else 1
    labels = check_labels(labels, classes)
    if classes < 2:
        raise UserError("all examples are of one class: a probe needs two or more")
    check_shares(np.bincount(labels, given, classes))
    return features, labels, given, classes


def check_finite(features: np.ndarray) -> None:
    """Raises a UserError where a feature is NaN or infinite."""
    broken = np.flatnonzero(~np.isfinite(features).all(1))
    if len(broken):
        raise UserError(
            f"features of {len(broken)} of {len(features)} examples are not finite (first: example "
            f"{broken[0]}): leave them out"
        )


def check_shares(shares: np.ndarray, where: str = "") -> None:
    """Raises a UserError where a class has no weight."""
    without = np.flatnonzero(shares <= 0)
    if len(without):
        raise UserError(
            f"class {without[0]} has no example{where}: number the classes from 0 without gaps, "
            "and give each two examples or more"
        )


def check_strengths(
    strengths: Sequence[float] | np.ndarray, named: str = "strengths"
) -> np.ndarray:
    """Strengths in double precision, or raises a UserError: none, or not positive and finite."""
    given = np.asarray(strengths, np.float64)
    if given.ndim != 1 or not len(given) or not (np.isfinite(given) & (given > 0)).all():
        raise UserError(f"{named}: give one or more positive numbers")
    return given


def check_folds(folds: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """The fold of each example, in each dealing, ``[dealings, examples]``, or raises.

    Raises:
      UserError: not one integer from 0 for each example; fewer than two folds; a fold without
        an example.
    """
    if folds is None:
        return np.empty((0, len(labels)), np.int64)
    given = np.atleast_2d(np.asarray(folds))
    if given.ndim != 2 or given.shape[1] != len(labels) or given.dtype.kind not in "iu":
        raise UserError(
            f"folds of shape {np.shape(folds)}: give an integer for each of {len(labels)} examples"
        )
    if given.min() < 0 or len(np.unique(given)) < max(2, given.max() + 1):
        raise UserError("folds: number two or more from 0, each with an example")
    return given


def deal(labels: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """A fold for each example, every class spread evenly over the folds.

    >>> deal(np.array([0, 0, 1, 1]), 2).reshape(2, 2).sum(1)  # each class in both
    array([1, 1])

    Raises:
      UserError: fewer than two folds, or fewer examples than folds.
    """
    if not 2 <= folds <= len(labels):
        raise UserError(f"{folds} folds of {len(labels)} examples: give from 2 to as many folds")
    draw = np.random.Generator(np.random.Philox(seed))
    drawn = draw.permutation(len(labels))
    order = drawn[np.argsort(labels[drawn], kind="stable")]
    dealt = np.empty(len(labels), np.int64)
    dealt[order] = np.arange(len(labels)) % folds
    return dealt
