"""Validators that read source labels: risks on held-out source examples, moved to the target."""

import numpy as np
from jaxtyping import Float

from jtl.errors import UserError
from jtl.metrics import check, domain_log_ratio, log_loss
from jtl.metrics.checks import (
    Labels,
    Probabilities,
    check_features,
    check_labels,
    check_probabilities,
)
from jtl.metrics.classification import facts
from jtl.metrics.linear import fit_ridge
from jtl.validators.target import entropies

LARGEST = 100.0
"""Logarithms of importance weights are clipped from above here, which keeps sums finite."""

Weights = Float[np.ndarray, " source"]


def source_risk(source_probabilities: Probabilities, source_labels: Labels) -> float:
    """Negative log loss on held-out source examples, in nats. Blind to the target.

    ``-mean_i l_i`` with ``l_i = -log p_i(y_i)``, p clipped at 1.19e-7; from -15.9 to 0, higher is
    better. Reads source labels.

    >>> round(source_risk(np.array([[0.5, 0.5]]), np.array([1])), 4)
    -0.6931
    """
    return -log_loss(source_probabilities, source_labels)


def importance_weights(
    source_features: Float[np.ndarray, "source features"],
    target_features: Float[np.ndarray, "target features"],
) -> Weights:
    """How much likelier each source example is in the target: ``p_target(x) / p_source(x)``.

    The odds of a logistic regression that tells the domains apart and that has not seen the
    example (:func:`jtl.metrics.domain_log_ratio`). A classifier that has seen the source examples
    it weighs tells them apart with ease where features are many, and gives all of them weight 0.

    Where features tell the domains apart, the target has none of the source's examples, and all
    weights go to 0: their mean, 1 where the domains overlap, shows it. Reads no label.

    >>> importance_weights(np.ones((3, 2)), np.ones((5, 2)))
    array([1., 1., 1.])
    """
    log_ratio, _ = domain_log_ratio(source_features, target_features)
    return np.exp(np.minimum(log_ratio, LARGEST))


def importance_weighted_risk(
    source_probabilities: Probabilities, source_labels: Labels, importance_weights: Weights
) -> float:
    """Negative log loss on held-out source examples, weighted as the target would have them.

    ``-mean_i w_i l_i`` with l as in :func:`source_risk`; at most 0, higher is better. Unbiased for
    the target where only the distribution of features differs, and of large variance (Sugiyama et
    al., 2007, "Covariate shift adaptation by importance weighted cross validation"). Weights that
    all go to 0, as between domains that are told apart, bring it to 0, the best there is: it then
    prefers the model that keeps the domains apart. Reads source labels.

    >>> p, labels = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([1, 0])
    >>> round(importance_weighted_risk(p, labels, np.array([0.0, 2.0])), 4)
    -0.6931
    """
    weighted, _ = _weighted(source_probabilities, source_labels, importance_weights)
    return -float(weighted.mean())


def deep_embedded_validation(
    source_probabilities: Probabilities, source_labels: Labels, importance_weights: Weights
) -> float:
    """The importance-weighted risk with a control variate, negated (DEV).

    ``-(mean w l + eta mean w - eta)`` with ``eta = -Cov(w l, w) / Var(w)``: weights should average
    1, and what their mean misses is taken out of the risk (You et al., ICML 2019,
    https://proceedings.mlr.press/v97/you19a.html). Where all weights are equal eta is 0 (the
    formula says 0/0). Higher is better; the risk may come out below 0. Reads source labels.

    >>> p, labels = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([1, 0])
    >>> round(deep_embedded_validation(p, labels, np.array([0.5, 2.5])), 4)  # as if the mean were 1
    -0.6931
    """
    weighted, weights = _weighted(source_probabilities, source_labels, importance_weights)
    centred = weights - weights.mean()
    vary = np.ptp(weights) > 1e-9 * weights.max()  # and not by rounding alone
    eta = -(centred @ weighted) / (centred @ centred) if vary else 0.0
    return -float(weighted.mean() + eta * weights.mean() - eta)


def average_thresholded_confidence(
    source_probabilities: Probabilities, source_labels: Labels, target_probabilities: Probabilities
) -> float:
    """The accuracy on the target, estimated by the share of predictions surer than a threshold.

    The score of a prediction is its negative entropy; the threshold is such that as many source
    examples lie below it as are misclassified: of the possible ones, the largest. From 0 to 1,
    higher is better (ATC-NE, Garg et al., 2022, https://arxiv.org/abs/2201.04234). Reads source
    labels.

    >>> source = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> target = np.array([[0.65, 0.35], [0.95, 0.05]])
    >>> average_thresholded_confidence(source, np.array([0, 0, 0, 1]), target)  # one below 0.7
    0.5
    """
    source, labels = check(source_probabilities, source_labels)
    target = check_probabilities(target_probabilities, "target_probabilities")
    wrong = int((source.argmax(1) != labels).sum())
    if wrong == len(labels):  # no threshold is low enough
        return 0.0
    threshold = np.sort(-entropies(source))[wrong]
    return float(np.mean(-entropies(target) >= threshold))


def reverse_validation(
    source_features: Float[np.ndarray, "source features"],
    source_labels: Labels,
    target_features: Float[np.ndarray, "target features"],
    target_probabilities: Probabilities,
) -> float:
    """Accuracy on the source of a probe trained on the target with the model's own labels.

    The probe is a ridge classifier on target features and predicted classes; wrong predictions
    teach it what does not fit the source. From 0 to 1, higher is better (Zhong et al., 2010,
    "Cross validation framework to choose amongst models and datasets for transfer learning"; Ganin
    et al., 2016, https://arxiv.org/abs/1505.07818, who train the whole method in reverse, and
    call the error reverse risk). Reads source labels.

    >>> features = np.array([[-1.0], [-1.1], [1.0], [1.1]])
    >>> certain = np.eye(2)[[0, 0, 1, 1]]
    >>> reverse_validation(features, np.array([0, 0, 1, 0]), features, certain)
    0.75
    """
    source, target = check_features(source_features, target_features)
    predictions = check_probabilities(target_probabilities, "target_probabilities")
    labels = check_labels(source_labels, predictions.shape[1])
    _check_lengths("source_labels", labels, "source_features", source)
    _check_lengths("target_probabilities", predictions, "target_features", target)
    probe = fit_ridge(target, predictions.argmax(1), predictions.shape[1])
    return float(np.mean(probe(source) == labels))


def _weighted(
    probabilities: Probabilities, labels: Labels, weights: Weights
) -> tuple[Float[np.ndarray, " source"], Weights]:
    """Weighted losses, and the weights as float64."""
    losses = facts(*check(probabilities, labels)).losses
    weights = np.asarray(weights, np.float64)
    if weights.shape != losses.shape or not np.isfinite(weights).all() or weights.min() < 0:
        raise UserError(
            f"importance_weights of shape {weights.shape}: give {len(losses)} finite numbers that "
            "are not negative, one for each source example"
        )
    return weights * losses, weights


def _check_lengths(name: str, array: np.ndarray, other: str, features: np.ndarray) -> None:
    if len(array) != len(features):
        raise UserError(
            f"{len(array)} {name} and {len(features)} {other} do not belong together: give those "
            "of the same examples"
        )
