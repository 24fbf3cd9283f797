"""Scores of how far apart a pretrained model's features keep the new classes."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from jtl.errors import UserError, nearest
from jtl.transferability._checks import Features, Labels, with_classes


def h_score(features: Features, labels: Labels) -> float:
    """H-score with shrunk covariance: how much of the features' spread is between classes.

    ``(1 - a) tr(C_a^-1 C_between)`` with ``C_between`` the covariance of the class means and
    ``C_a = (1 - a) C + a tr(C) / d I``, ``a`` after Ledoit and Wolf, 2004 (H-score: Bao et al.,
    2019, arXiv 1906.11549; shrunk: Ibrahim et al., 2021, arXiv 2110.06893). Unshrunk it is
    ``classes - 1`` for any features wider than there are examples, noise included. Do not whiten
    features before: of those ``a`` is near 1, and the score near 0 whatever they say.

    Args:
      features: [examples, features]; the units do not matter.
      labels: [examples], integers, of at least two classes.

    Returns:
      From 0 to the smaller of ``classes - 1`` and the features' width.

    Raises:
      UserError: shapes that differ, values that are not finite, labels that are not integers, or
        fewer than two classes.

    >>> round(h_score(np.array([[-1.0], [-1.0], [1.0], [1.0]]), np.array([0, 0, 1, 1])), 4)
    1.0
    """
    features, classes = with_classes("h_score", features, labels)
    centred = features - features.mean(axis=0)
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    variances, width = scales**2 / len(centred), features.shape[1]
    shrinkage = _ledoit_wolf(centred, variances)
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.sum() / width
    counts = np.bincount(classes)
    means = _class_sums(centred, classes) / counts[:, None] @ directions.T
    between = (counts[:, None] / len(classes) * means**2).sum(axis=0)
    kept = shrunk > variances.max() * 1e-12  # rounding has no directions
    return float((1 - shrinkage) * (between[kept] / shrunk[kept]).sum())


def transrate(features: Features, labels: Labels, *, epsilon: float = 1e-4) -> float:
    """How many more nats all features need, coded up to an error, than those of single classes.

    ``R(F) - sum_c n_c / n R(F_c)`` with ``R(F) = log det(I + F^T F / (n epsilon)) / 2`` (Huang et
    al., 2022, arXiv 2106.09362), the features centred over all classes. Classes count by their
    share; the authors' listing, with ``1 / classes``, assumes them balanced.

    Args:
      features: [examples, features]. The score depends on their units: to compare backbones, divide
        each one's by its root mean square.
      labels: [examples], integers, of at least two classes.
      epsilon: the squared error of the code, positive.

    Returns:
      In nats; not negative but for rounding.

    Raises:
      UserError: as :func:`logme`, or an ``epsilon`` that is not positive.

    >>> features, labels = np.array([[-1.0], [1.0]]), np.array([0, 1])
    >>> round(transrate(features, labels, epsilon=1.0), 4)  # both rates are log(1 + 1) / 2
    0.0
    """
    if not epsilon > 0:
        raise UserError(f"transrate: epsilon is {epsilon}, must be greater than 0")
    features, classes = with_classes("transrate", features, labels)
    centred = features - features.mean(axis=0)

    def rate(rows: Features) -> float:
        scales = np.linalg.svd(rows, compute_uv=False)
        return float(np.log1p(scales**2 / (len(rows) * epsilon)).sum() / 2)

    counts = np.bincount(classes)
    within = [count * rate(centred[classes == c]) for c, count in enumerate(counts)]
    return float(rate(centred) - sum(within) / len(classes))


def gbc(
    features: Features,
    labels: Labels,
    *,
    covariance: Literal["spherical", "diagonal"] = "spherical",
) -> float:
    """Minus the overlap of the classes, each a Gaussian: ``-sum_(a != b) exp(-D(a, b))``.

    ``D`` is Bhattacharyya's distance, ``(m_a - m_b)^T S^-1 (m_a - m_b) / 8 + log(det S / sqrt(det
    S_a det S_b)) / 2`` with ``S = (S_a + S_b) / 2`` (Pandy et al., 2022, arXiv 2111.12780). Each
    pair counts twice, as in the paper.

    Args:
      features: [examples, features]; the units do not matter.
      labels: [examples], integers, of at least two classes.
      covariance: of each class, one variance for all features or one for each.

    Returns:
      From ``-classes (classes - 1)`` (all alike) to 0 (no overlap). Each class's variances are kept
      above 1e-4 of the features' mean variance: a class may hold a feature constant.

    Raises:
      UserError: as :func:`logme`, or an unknown covariance.

    >>> features, labels = np.array([[-1.0], [1.0], [-1.0], [1.0]]), np.array([0, 0, 1, 1])
    >>> gbc(features, labels)  # two equal classes, in both orders
    -2.0
    """
    if covariance not in ("spherical", "diagonal"):
        hint = nearest(covariance, ("spherical", "diagonal"))
        raise UserError(f"gbc: no covariance {covariance!r}; {hint}")
    features, classes = with_classes("gbc", features, labels)
    counts = np.bincount(classes)[:, None]
    means = _class_sums(features, classes) / counts
    variances = _class_sums((features - means[classes]) ** 2, classes) / counts
    if covariance == "spherical":
        variances = np.broadcast_to(variances.mean(axis=1, keepdims=True), variances.shape)
    floor = 1e-4 * features.var(axis=0).mean()
    if floor == 0:
        return float(-len(counts) * (len(counts) - 1))
    variances = np.maximum(variances, floor)
    overlap = 0.0
    for a in range(len(counts)):
        pooled = (variances + variances[a]) / 2
        distance = ((means - means[a]) ** 2 / pooled).sum(axis=1) / 8
        spread = np.log(pooled) - np.log(variances) / 2 - np.log(variances[a]) / 2
        distance += spread.sum(axis=1) / 2
        overlap += np.exp(-distance).sum() - 1  # itself
    return float(-overlap)


def _ledoit_wolf(centred: Features, variances: Float[np.ndarray, " k"]) -> float:
    """The shrinkage towards ``tr(C) / d I`` that Ledoit and Wolf found best, from 0 to 1."""
    examples, width = centred.shape
    mean = variances.sum() / width
    distance = (variances**2).sum() - width * mean**2
    error = ((centred**2).sum(axis=1) ** 2).sum() / examples - (variances**2).sum()
    return float(min(error / examples, distance) / distance) if distance > 0 else 0.0


def _class_sums(rows: Features, classes: Labels) -> Float[np.ndarray, "classes features"]:
    sums = np.zeros((classes.max() + 1, rows.shape[1]))
    np.add.at(sums, classes, rows)
    return sums
