"""Linear probes in double precision, their strength of regularisation chosen by leave-one-out.

A probe that has seen an example says little about it: with more features than examples it tells
any two domains apart. So whatever is said of an example here comes from a probe without it, in
closed form, from a single fit: nothing is drawn, and the order of examples does not matter.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jtl.metrics.checks import Features, check_features

PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""The factors of ``|w|^2 / 2`` that are tried on standardised features, against a mean loss."""
ROUNDING = 1e-6
"""A feature that varies by less than this share of its mean is constant in single precision."""
TIE = 1e-9
"""A log ratio this close to 0 favours neither domain: what differs is rounding."""

Column = Float[np.ndarray, " examples"]
Weights = Float[np.ndarray, " inputs"]
Design = Float[np.ndarray, "examples inputs"]


def domain_log_ratio(
    source_features: Float[np.ndarray, "source features"],
    target_features: Float[np.ndarray, "target features"],
) -> tuple[Float[np.ndarray, " source"], Float[np.ndarray, " target"]]:
    """``log p_target(x) - log p_source(x)`` at every example of both domains.

    From a logistic regression on standardised features that tells the domains apart. Each domain
    has half of the weight, whatever its size, so its log odds are the log ratio of densities.
    The value at an example is that of the regression without it: one Newton step from the fit
    (approximate leave-one-out, Rad and Maleki, 2020, https://arxiv.org/abs/1801.10243). Penalties
    are tried from the strongest on until the log loss of these values rises.

    Costs about 20 times ``examples * features^2`` multiplications, with the smaller of both for
    ``features`` where examples are fewer.

    Raises:
      UserError: as :func:`jtl.metrics.checks.check_features`.

    >>> source, target = domain_log_ratio(np.ones((3, 1)), np.ones((4, 1)))
    >>> float(np.abs(source).max()), float(np.abs(target).max())  # nothing tells them apart
    (0.0, 0.0)
    """
    source, target = check_features(source_features, target_features)
    sizes = len(source), len(target)
    domains = np.repeat([1.0, 0.0], sizes)
    weights = np.repeat([0.5 / sizes[0], 0.5 / sizes[1]], sizes)
    design = _design(np.concatenate([source, target]), weights)
    fitted, log_odds, lowest = np.zeros(design.shape[1]), np.zeros(len(design)), np.inf
    for penalty in PENALTIES:
        fitted = _newton(design, domains, weights, penalty, fitted)
        without = _logistic_left_out(design, domains, weights, penalty, fitted)
        loss = float(weights @ (np.logaddexp(0, without) - domains * without))
        if loss >= lowest:
            break
        log_odds, lowest = without, loss
    return -log_odds[: sizes[0]], -log_odds[sizes[0] :]


def a_distance(
    source_features: Float[np.ndarray, "source features"],
    target_features: Float[np.ndarray, "target features"],
) -> float:
    """Proxy A-distance: how well a linear classifier tells the domains apart.

    ``2 (1 - 2 error)`` (Ben-David et al., 2007, "Analysis of representations for domain
    adaptation"), with the errors on left-out examples of :func:`domain_log_ratio`. ``error`` is
    the mean of the two domains' errors, as in the definition: with the share of all errors, a
    classifier that always names the larger domain would find a distance. A tie is half an error.

    Returns:
      From 2 (separable) to about 0 (the same); as errors are of left-out examples, chance takes
      it below 0 as often as above.

    Raises:
      UserError: as :func:`jtl.metrics.checks.check_features`.

    >>> a_distance(np.array([[0.0], [0.1], [0.2]]), np.array([[5.0], [5.1]]))
    2.0
    """
    source, target = domain_log_ratio(source_features, target_features)
    return 2 - 2 * (_errors(source) + _errors(-target))


def _errors(wrong: Column) -> float:
    """The share of positive values; ties count half."""
    return float(np.mean(wrong > TIE) + np.mean(np.abs(wrong) <= TIE) / 2)


class Ridge(NamedTuple):
    """A linear classifier by least squares."""

    mean: Weights
    """Of the features it was fitted on; ``scale`` is their deviation, infinite where constant."""
    scale: Weights
    coefficients: Float[np.ndarray, "features classes"]
    intercept: Float[np.ndarray, " classes"]

    def __call__(self, features: Features) -> Int[np.ndarray, " examples"]:
        """The class of each example."""
        standard = (np.asarray(features, np.float64) - self.mean) / self.scale
        return (standard @ self.coefficients + self.intercept).argmax(1)


def fit_ridge(features: Features, labels: Int[np.ndarray, " examples"], classes: int) -> Ridge:
    """Regresses one-hot labels on standardised features, with the penalty that predicts best.

    Minimises ``mean |y - x w - b|^2 / 2 + penalty |w|^2 / 2``. Penalties are tried from the
    strongest on until the squared error of left-out examples, which is exact, rises. A class
    without an example is never predicted.
    """
    features = np.asarray(features, np.float64)
    mean, scale = _standard(features, np.full(len(features), 1 / len(features)))
    standard, targets = (features - mean) / scale, np.eye(classes)[labels]
    intercept = targets.mean(0)
    coefficients, lowest = np.zeros((standard.shape[1], classes)), np.inf
    for penalty in PENALTIES:
        tried, error = _ridge(standard, targets - intercept, penalty)
        if error >= lowest:
            break
        coefficients, lowest = tried, error
    return Ridge(mean, scale, coefficients, intercept)


def _ridge(
    standard: Features, centred: Float[np.ndarray, "examples classes"], penalty: float
) -> tuple[Float[np.ndarray, "features classes"], float]:
    """The coefficients, and the mean squared error at left-out examples."""
    examples, features = standard.shape
    ridge = examples * penalty
    if features <= examples:
        inverse = np.linalg.inv(standard.T @ standard + ridge * np.eye(features))
        projection = standard @ inverse
    else:  # the same by the kernel of the examples
        kernel = standard @ standard.T
        projection = np.linalg.inv(kernel + ridge * np.eye(examples)) @ standard
    coefficients = projection.T @ centred
    leverage = (projection * standard).sum(1) + 1 / examples
    residuals = (centred - standard @ coefficients) / np.maximum(1 - leverage, TIE)[:, None]
    return coefficients, float((residuals**2).sum(1).mean())


def _standard(features: Features, weights: Column) -> tuple[Weights, Weights]:
    """Weighted mean and deviation of each feature; infinite where it is constant but for rounding.

    Divided by infinity, a constant feature is 0 and takes no part: rounding that depends on the
    batch would tell domains apart.
    """
    mean = weights @ features
    spread = np.sqrt(weights @ (features - mean) ** 2)
    return mean, np.where(spread > ROUNDING * np.abs(mean), spread, np.inf)


def _design(features: Features, weights: Column) -> Design:
    """Standardised features and a column of ones.

    With more features than examples, their coordinates in the space that the examples span: the
    fit is the same, as a penalty on ``|w|`` does not depend on the axes.
    """
    mean, scale = _standard(features, weights)
    standard = (features - mean) / scale
    if standard.shape[1] > len(standard):
        standard = np.asarray(np.linalg.qr(standard.T, mode="r")).T
    return np.column_stack([standard, np.ones(len(standard))])


def _newton(
    design: Design, domains: Column, weights: Column, penalty: float, start: Weights
) -> Weights:
    """Minimises the weighted log loss plus ``penalty |w|^2 / 2``; the intercept goes free."""
    ridge = np.append(np.full(design.shape[1] - 1, penalty), 0.0)

    def objective(fitted: Weights) -> float:
        log_odds = design @ fitted
        losses = np.logaddexp(0, log_odds) - domains * log_odds
        return float(weights @ losses + ridge @ fitted**2 / 2)

    fitted, value = start, objective(start)
    for _ in range(50):  # Newton needs 5 to 10
        gradient = design.T @ (weights * (_sigmoid(design @ fitted) - domains)) + ridge * fitted
        if np.abs(gradient).max() < 1e-10:
            break
        step = np.linalg.solve(_hessian(design, weights, fitted, ridge), gradient)
        size = 1.0
        while objective(fitted - size * step) > value + 1e-12 and size > 1e-3:
            size /= 2
        fitted = fitted - size * step
        value = objective(fitted)
    return fitted


def _logistic_left_out(
    design: Design, domains: Column, weights: Column, penalty: float, fitted: Weights
) -> Column:
    """The log odds at each example by a fit without it, its domain keeping half of the weight.

    Without example i, the gradient of its domain of m examples, ``g``, becomes
    ``g + (g - g_i) / (m - 1)``, and the Hessian loses the part of example i.
    """
    ridge = np.append(np.full(design.shape[1] - 1, penalty), 0.0)
    log_odds = design @ fitted
    residuals, curvature = _sigmoid(log_odds) - domains, _curvature(log_odds)
    solved = design @ np.linalg.inv(_hessian(design, weights, fitted, ridge))
    leverage = (solved * design).sum(1)
    moved = np.empty_like(log_odds)
    for domain in (0.0, 1.0):
        inside = domains == domain
        gradient = design[inside].T @ residuals[inside] / inside.sum()
        moved[inside] = (solved[inside] @ gradient - residuals[inside] * leverage[inside]) / (
            2 * (inside.sum() - 1)
        )
    return log_odds - moved / (1 - weights * curvature * leverage)


def _hessian(
    design: Design, weights: Column, fitted: Weights, ridge: Weights
) -> Float[np.ndarray, "inputs inputs"]:
    rooted = design * np.sqrt(weights * _curvature(design @ fitted))[:, None]
    return rooted.T @ rooted + np.diag(ridge)


def _sigmoid(log_odds: Column) -> Column:
    return (1 + np.tanh(log_odds / 2)) / 2


def _curvature(log_odds: Column) -> Column:
    """``p (1 - p)``, from below by 1e-12: two domains far apart leave the Hessian invertible."""
    return np.maximum(1 / (2 + 2 * np.cosh(np.clip(log_odds, -500, 500))), 1e-12)
