"""LogME: the evidence that features explain the labels, exact and at its maximum."""

import numpy as np
from jaxtyping import Float

from jtl.transferability._checks import Features, Labels, with_classes


def logme(features: Features, labels: Labels) -> float:
    """Log maximum evidence of a Bayesian linear model of each class, per example.

    For each class present, ``log N(y | 0, F F^T / alpha + I / beta) / examples`` at the ``alpha``
    and ``beta`` where it is largest, ``y`` being 1 for the class and 0 for the others; the mean
    over classes (You et al., 2021, arXiv 2102.11005). The evidence is exact also where features are
    wider than there are examples, and its maximum is searched for rather than iterated to.

    Args:
      features: [examples, features]; the units do not matter.
      labels: [examples], integers, of at least two classes.

    Returns:
      In nats. The noise's variance is kept above 1e-9, without which features that fit a class
      exactly would have infinite evidence.

    Raises:
      UserError: shapes that differ, values that are not finite, labels that are not integers, or
        fewer than two classes.

    >>> labels = np.arange(20) % 2
    >>> helpful, useless = np.eye(2)[labels] + 0.1, np.ones((20, 1))
    >>> logme(helpful, labels) > logme(useless, labels)
    True
    """
    features, classes = with_classes("logme", features, labels)
    left, scales, _ = np.linalg.svd(features, full_matrices=False)
    targets = np.eye(classes.max() + 1)[classes]
    inside = (left.T @ targets) ** 2
    outside = np.maximum((targets**2).sum(axis=0) - inside.sum(axis=0), 0)
    evidences = [
        _maximum_evidence(scales**2, inside[:, c], outside[c], len(classes))
        for c in range(targets.shape[1])
    ]
    return float(np.mean(evidences) / len(classes))


def _maximum_evidence(
    squares: Float[np.ndarray, " k"], inside: Float[np.ndarray, " k"], outside: float, examples: int
) -> float:
    """The largest ``log N(y | 0, F F^T / alpha + I / beta)`` over alpha and beta.

    Args:
      squares: the squared singular values of F.
      inside: the squared coordinates of y along F's left singular vectors.
      outside: the squared length of what is left of y.
      examples: the length of y.
    """

    def evidence(log_ratio: Float[np.ndarray, " ratios"]) -> Float[np.ndarray, " ratios"]:
        # With t = alpha / beta the covariance is (I + F F^T / t) / beta, and the best 1 / beta the
        # mean square of y in its metric.
        stretch = 1 + squares[None, :] / np.exp(log_ratio)[:, None]
        distance = (inside / stretch).sum(axis=1) + outside
        noise = np.maximum(distance / examples, 1e-9)
        constant = np.log(2 * np.pi * noise) + distance / (examples * noise)
        return -(examples * constant + np.log(stretch).sum(axis=1)) / 2

    # From a signal far below the noise to one far above; then finer and finer around the best.
    middle, reach = np.log(max(squares.max(), 1e-300)), 40.0
    best = -np.inf
    for _ in range(8):
        grid = middle + reach * np.linspace(-1, 1, 81)
        values = evidence(grid)
        best = max(best, float(values.max()))
        middle, reach = grid[values.argmax()], reach / 20
    return best
