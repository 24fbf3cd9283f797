"""What a classifier's probabilities are worth.

Most metrics are functions of example weights, so that the value (all weights one) and its
bootstrap (weights that count how often an example was drawn) come from the same code.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jtl.errors import UserError
from jtl.metrics.checks import Labels, Probabilities, check

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "log_loss")
"""What :func:`jtl.metrics.summarize` reports, in this order."""
BINS = 15
"""Equal-width bins of confidence in the calibration error, (k/15, (k+1)/15]."""
SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities are clipped from below at 1.19e-7 in the log loss, which so never exceeds 15.9."""


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of examples whose most probable class is the label (the first, on a tie).

    >>> accuracy(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    0.5
    """
    return _value("accuracy", probabilities, labels)


def balanced_accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Mean over the classes present in the labels of the share recognised (recall).

    >>> balanced_accuracy(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), np.array([0, 0, 1]))
    0.5
    """
    return _value("balanced_accuracy", probabilities, labels)


def macro_f1(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of ``2 tp / (labelled + predicted)`` over classes that are labelled or predicted.

    >>> macro_f1(np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), np.array([0, 0, 1]))
    1.0
    """
    return _value("macro_f1", probabilities, labels)


def ece(probabilities: Probabilities, labels: Labels) -> float:
    """Expected calibration error: the gap between confidence and accuracy, averaged over bins.

    ``sum over bins of (examples in bin / examples) * |accuracy - mean confidence|`` with 15
    equal-width bins, closed above (Guo et al., 2017, https://arxiv.org/abs/1706.04599). It is
    biased upwards on few examples, and its bootstrap doubly so: the value may lie below "low".

    >>> round(ece(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])), 6)
    0.4
    """
    return _value("ece", probabilities, labels)


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of ``-log p(label)``, in nats, with p clipped at :data:`SMALLEST`.

    >>> round(log_loss(np.array([[0.5, 0.5]]), np.array([1])), 6)
    0.693147
    """
    return _value("log_loss", probabilities, labels)


def brier(probabilities: Probabilities, labels: Labels) -> float:
    """Mean squared distance between prediction and one-hot label (Brier, 1950).

    ``mean_i sum_c (p_ic - [c = y_i])^2``, from 0 to 2. With two classes it is twice the score that
    counts the positive class alone.

    >>> brier(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]))  # (2 + 0.5) / 2
    1.25
    """
    probabilities, labels = check(probabilities, labels)
    true = _of_labels(probabilities, labels)
    return float(np.mean((probabilities**2).sum(1) - true**2 + (1 - true) ** 2))


def per_class_accuracy(
    probabilities: Probabilities, labels: Labels
) -> Float[np.ndarray, " classes"]:
    """Share of each class's examples that are recognised; NaN for a class without an example.

    >>> per_class_accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    array([ 1., nan])
    """
    counts = confusion_matrix(probabilities, labels)
    with np.errstate(invalid="ignore"):  # a class without an example is 0 / 0 = NaN, as documented
        return np.diagonal(counts) / counts.sum(1)


def auroc(probabilities: Probabilities, labels: Labels) -> float:
    """Area under the ROC curve: how often an example of a class is ranked above one of the others.

    ``P(p of a positive > p of a negative)``, a tie counting half (Mann-Whitney). With two classes,
    class 1 is the positive one; with more, each class in turn is, against all others, and the
    result is the mean over the classes present in the labels.

    Raises:
      UserError: as :func:`check`; fewer than two classes, or all labels of one class, which leaves
        nothing to rank.

    >>> auroc(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 1, 0]))
    0.5
    """
    probabilities, labels = check(probabilities, labels)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    if (counts > 0).sum() < 2:
        raise UserError(
            "auroc: all labels are of one class, so there is nothing to rank: give examples of two"
        )
    positives = [1] if len(counts) == 2 else np.flatnonzero(counts)
    areas = []
    for positive in positives:
        rank_sum = _ranks(probabilities[:, positive])[labels == positive].sum()
        mine, others = counts[positive], len(labels) - counts[positive]
        areas.append((rank_sum - mine * (mine + 1) / 2) / (mine * others))
    return float(np.mean(areas))


def confusion_matrix(
    probabilities: Probabilities, labels: Labels
) -> Int[np.ndarray, "classes classes"]:
    """Counts examples: rows are labels, columns are predictions.

    >>> confusion_matrix(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    array([[1, 0],
           [1, 0]])
    """
    probabilities, labels = check(probabilities, labels)
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


class Reliability(NamedTuple):
    """Calibration by bin of confidence; empty bins hold NaN and a count of 0."""

    edges: Float[np.ndarray, " edges"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    counts: Int[np.ndarray, " bins"]


def reliability(probabilities: Probabilities, labels: Labels) -> Reliability:
    """The bins behind :func:`ece`: mean confidence, accuracy and number of examples of each."""
    probabilities, labels = check(probabilities, labels)
    known = facts(probabilities, labels)
    counts = np.bincount(known.bins, minlength=BINS)
    with np.errstate(invalid="ignore"):  # an empty bin is 0 / 0 = NaN, as documented
        confidence = np.bincount(known.bins, known.confidence, minlength=BINS) / counts
        right = np.bincount(known.bins, known.correct, minlength=BINS) / counts
    return Reliability(np.linspace(0, 1, BINS + 1), confidence, right, counts)


class Facts(NamedTuple):
    """What weighted metrics need to know of each example; the classes are not expanded."""

    classes: int
    labels: Labels
    predictions: Labels
    correct: Float[np.ndarray, " examples"]
    confidence: Float[np.ndarray, " examples"]
    bins: Labels
    losses: Float[np.ndarray, " examples"]


def facts(probabilities: Probabilities, labels: Labels) -> Facts:
    """Derives :class:`Facts` from what :func:`jtl.metrics.check` returned."""
    predictions = probabilities.argmax(1)
    confidence = probabilities.max(1)
    true = _of_labels(probabilities, labels)
    return Facts(
        classes=probabilities.shape[1],
        labels=labels,
        predictions=predictions,
        correct=(predictions == labels).astype(np.float64),
        confidence=confidence,
        bins=np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1),
        losses=-np.log(np.clip(true, SMALLEST, None)),
    )


def scores(
    known: Facts, weights: Float[np.ndarray, "resamples examples"]
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Every metric under every row of example weights."""
    total = weights.sum(1)
    labelled = _sum_by(weights, known.labels, known.classes)
    predicted = _sum_by(weights, known.predictions, known.classes)
    right = _sum_by(weights * known.correct, known.labels, known.classes)
    gap = _sum_by(weights * (known.correct - known.confidence), known.bins, BINS)
    return {
        "accuracy": weights @ known.correct / total,
        "balanced_accuracy": _mean_where(right, labelled),
        "macro_f1": _mean_where(2 * right, labelled + predicted),
        "ece": np.abs(gap).sum(1) / total,
        "log_loss": weights @ known.losses / total,
    }


def _sum_by(
    values: Float[np.ndarray, "resamples examples"], groups: Labels, count: int
) -> Float[np.ndarray, "resamples groups"]:
    """Sums columns of the same group. Sorting keeps the cost free of the number of groups."""
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    sums = np.zeros((len(values), count))
    sums[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


def _mean_where(
    numerator: Float[np.ndarray, "resamples classes"],
    denominator: Float[np.ndarray, "resamples classes"],
) -> Float[np.ndarray, " resamples"]:
    """Mean ratio over the classes whose denominator is not zero."""
    there = denominator > 0
    ratios = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=there)
    return ratios.sum(1) / there.sum(1)


def _of_labels(probabilities: Probabilities, labels: Labels) -> Float[np.ndarray, " examples"]:
    """The probability that each example gets for its label."""
    return np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]


def _ranks(values: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " examples"]:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[which]


def _value(name: str, probabilities: Probabilities, labels: Labels) -> float:
    known = facts(*check(probabilities, labels))
    return float(scores(known, np.ones((1, len(known.labels))))[name][0])
