"""What a label of the new task means in classes of the pretrained model, for Co-Tuning.

Co-Tuning (You et al., NeurIPS 2020, "Co-Tuning for Transfer Learning") estimates ``p(s | y)`` for
source classes ``s`` and target classes ``y`` once, before training, from what the pretrained model
predicts on the labelled examples; :func:`jtl.losses.co_tuning` trains on it. NumPy, and
scikit-learn for the calibrated form.
"""

import numpy as np
from jaxtyping import Float, Int

from jtl.errors import UserError
from jtl.metrics.checks import check_probabilities

Probabilities = Float[np.ndarray, "examples source_classes"]
Labels = Int[np.ndarray, " examples"]
Relationship = Float[np.ndarray, "target_classes source_classes"]

STRENGTHS = tuple(10.0**exponent for exponent in np.arange(4, -4.5, -0.5))
"""The inverse penalties that :func:`calibrated` tries: 10^4, 10^3.5, ..., 10^-4."""


def direct(source_probabilities: Probabilities, labels: Labels) -> Relationship:
    """The mean prediction on the examples of each label.

    ``p(s | y) = mean_(i: y_i = y) p_i(s)``: the paper's direct approach.

    Args:
      source_probabilities: [examples, source classes] of the pretrained head.
      labels: [examples], from 0; each class up to the largest has an example.

    Returns:
      [target classes, source classes] in float64; rows sum to 1.

    Raises:
      UserError: shapes that differ, rows that are no distribution, or a class without examples.

    >>> direct(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), np.array([0, 0, 1]))
    array([[0.75, 0.25],
           [0.  , 1.  ]])
    """
    p, labels = _check("relationship.direct", source_probabilities, labels)
    sums = np.zeros((labels.max() + 1, p.shape[1]))
    np.add.at(sums, labels, p)
    return sums / sums.sum(axis=1, keepdims=True)


def calibrated(
    source_probabilities: Probabilities,
    labels: Labels,
    validation_probabilities: Probabilities,
    validation_labels: Labels,
) -> Relationship:
    """What each source class predicts of the labels, turned round by Bayes' rule.

    A logistic regression without intercept learns labels from ``source_probabilities``; its penalty
    is the one with most right on the validation examples, and its logits are scaled to their least
    log loss there. Its prediction on a certain source class is ``p(y | s)``, and ``p(s | y)`` is
    that times the mean ``p(s)`` of all examples, with rows made to sum to 1: the paper's reverse
    approach. The pretrained head should be calibrated too (the authors scale their ImageNet
    model's logits by 0.884).

    Args:
      source_probabilities: [examples, source classes] of the pretrained head.
      labels: [examples], from 0; each class up to the largest has an example.
      validation_probabilities: [validation, source classes], of other examples.
      validation_labels: [validation], of the same classes.

    Returns:
      [target classes, source classes] in float64; rows sum to 1. A source class of probability 0
      on all examples gets 0.

    Raises:
      UserError: as :func:`direct`, widths that differ, fewer than two classes, or a validation
        label that ``labels`` does not have.

    Three of four right at predictions of 0.9 and 0.1 make ``1 / (1 + exp(-log(3) / 0.8))`` right at
    certain ones:

    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    >>> calibrated(p, np.array([0, 0, 1, 1]), p, np.array([0, 1, 1, 1])).round(3)
    array([[0.798, 0.202],
           [0.202, 0.798]])
    """
    name = "relationship.calibrated"
    p, labels = _check(name, source_probabilities, labels)
    held, held_labels = _check(name, validation_probabilities, validation_labels, every=False)
    if p.shape[1] != held.shape[1]:
        raise UserError(f"{name}: {p.shape[1]} source classes, but {held.shape[1]} in validation")
    if labels.max() == 0:
        raise UserError(f"{name}: all labels are 0, needs at least two classes")
    if held_labels.max() > labels.max():
        raise UserError(f"{name}: validation label {held_labels.max()} is not among the labels")

    fits = [_fit(p, labels, strength) for strength in STRENGTHS]
    right = [np.mean((held @ weights).argmax(axis=1) == held_labels) for weights in fits]
    weights = fits[int(np.argmax(right))]
    weights = weights * _scale(held @ weights, held_labels)
    marginal = np.concatenate([p, held]).mean(axis=0)
    with np.errstate(divide="ignore"):  # of a source class that is never predicted
        log_joint = _log_softmax(weights).T + np.log(marginal)
    return np.exp(_log_softmax(log_joint))


def _fit(
    p: Probabilities, labels: Labels, strength: float
) -> Float[np.ndarray, "source_classes target_classes"]:
    """The weights of a logistic regression on probabilities."""
    from sklearn.linear_model import LogisticRegression  # late: takes seconds to import

    fit = LogisticRegression(C=strength, fit_intercept=False, max_iter=10_000).fit(p, labels)
    weights = fit.coef_.T
    # Of two classes scikit-learn has the difference of their logits alone.
    return np.concatenate([0 * weights, weights], axis=1) if weights.shape[1] == 1 else weights


def _scale(logits: Float[np.ndarray, "examples classes"], labels: Labels) -> float:
    """The factor of least log loss, between 1e-3 and 1e3: the loss is convex in it."""
    low, high = 1e-3, 1e3
    wanted = logits[np.arange(len(labels)), labels]
    for _ in range(60):
        middle = np.sqrt(low * high)
        predicted = np.exp(_log_softmax(middle * logits))
        slope = np.mean((predicted * logits).sum(axis=1) - wanted)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.sqrt(low * high))


def _log_softmax(logits: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _check(
    name: str, probabilities: np.ndarray, labels: np.ndarray, *, every: bool = True
) -> tuple[Probabilities, Labels]:
    p, labels = check_probabilities(probabilities, f"{name}: probabilities"), np.asarray(labels)
    if labels.shape != p.shape[:1]:
        raise UserError(f"{name}: probabilities {p.shape} for labels {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise UserError(f"{name}: labels must be integers from 0")
    absent = np.flatnonzero(np.bincount(labels) == 0)
    if every and len(absent):
        raise UserError(f"{name}: class {absent[0]} has no example, so nothing is known of it")
    return p, labels.astype(np.int64)
