"""What a classifier's probabilities are worth, with intervals. NumPy only.

Every metric is a function of example weights, so that the value (all weights one) and its
bootstrap (weights that count how often an example was drawn) come from the same code.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jtl.errors import UserError

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "log_loss")
"""What :func:`summarize` reports, in this order."""
BINS = 15
"""Equal-width bins of confidence in the calibration error, (k/15, (k+1)/15]."""
SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities are clipped from below at 1.19e-7 in the log loss, which so never exceeds 15.9."""

Probabilities = Float[np.ndarray, "examples classes"]
Labels = Int[np.ndarray, " examples"]
Interval = dict[str, float]
"""``{"value", "low", "high"}``: a metric and its 95 % interval."""


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
    facts = _facts(probabilities, labels)
    counts = np.bincount(facts.bins, minlength=BINS)
    with np.errstate(invalid="ignore"):  # an empty bin is 0 / 0 = NaN, as documented
        confidence = np.bincount(facts.bins, facts.confidence, minlength=BINS) / counts
        right = np.bincount(facts.bins, facts.correct, minlength=BINS) / counts
    return Reliability(np.linspace(0, 1, BINS + 1), confidence, right, counts)


def summarize(
    probabilities: Probabilities, labels: Labels, *, seed: int = 0, resamples: int = 1000
) -> dict[str, Interval]:
    """All of :data:`METRICS`, each as ``{"value", "low", "high"}``.

    The interval is the 95 % percentile bootstrap over examples: it says what another sample of
    test examples would change, not what another training run would. The same seed gives the
    same interval.

    Args:
      probabilities: [examples, classes], rows sum to one.
      labels: [examples], from 0 to classes - 1.
      seed: of the resampling.
      resamples: how many times the examples are drawn again.

    Raises:
      UserError: as :func:`check`.
    """
    probabilities, labels = check(probabilities, labels)
    facts = _facts(probabilities, labels)
    values = _scores(facts, np.ones((1, len(labels))))
    drawn = [_scores(facts, weights) for weights in _resample(len(labels), seed, resamples)]
    summary = {}
    for name in METRICS:
        low, high = np.percentile(np.concatenate([scores[name] for scores in drawn]), [2.5, 97.5])
        summary[name] = {"value": float(values[name][0]), "low": float(low), "high": float(high)}
    return summary


def check(
    probabilities: Probabilities, labels: Labels
) -> tuple[Float[np.ndarray, "examples classes"], Int[np.ndarray, " examples"]]:
    """Returns probabilities as float64 and labels as int64, or raises.

    Raises:
      UserError: no example; shapes that do not belong together; NaN; rows that are no
        distribution (logits, say); a label that is not a class.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise UserError(
            f"probabilities of shape {probabilities.shape} and labels of shape {labels.shape} "
            "do not belong together: give [examples, classes] and [examples]"
        )
    if not len(labels):
        raise UserError("no example to evaluate: the split is empty; choose another split")
    broken = np.flatnonzero(~np.isfinite(probabilities).all(1))
    if len(broken):
        raise UserError(
            f"probabilities of {len(broken)} of {len(labels)} examples are not finite "
            f"(first: example {broken[0]}): training diverged; lower the learning rate"
        )
    if probabilities.min() < 0 or np.abs(probabilities.sum(1) - 1).max() > 1e-2:
        raise UserError("probabilities do not sum to one in each row: apply softmax to logits")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"labels are {labels.dtype}: give integers from 0 to classes - 1")
    classes = probabilities.shape[1]
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        raise UserError(
            f"label {labels[outside[0]]} of example {outside[0]} is not one of the {classes} "
            f"classes: labels go from 0 to {classes - 1}"
        )
    return probabilities, labels.astype(np.int64)


class _Facts(NamedTuple):
    """What the metrics need to know of each example; the classes are not expanded."""

    classes: int
    labels: Labels
    predictions: Labels
    correct: Float[np.ndarray, " examples"]
    confidence: Float[np.ndarray, " examples"]
    bins: Labels
    losses: Float[np.ndarray, " examples"]


def _facts(probabilities: Probabilities, labels: Labels) -> _Facts:
    predictions = probabilities.argmax(1)
    confidence = probabilities.max(1)
    true = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return _Facts(
        classes=probabilities.shape[1],
        labels=labels,
        predictions=predictions,
        correct=(predictions == labels).astype(np.float64),
        confidence=confidence,
        bins=np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1),
        losses=-np.log(np.clip(true, SMALLEST, None)),
    )


def _scores(
    facts: _Facts, weights: Float[np.ndarray, "resamples examples"]
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Every metric under every row of example weights."""
    total = weights.sum(1)
    labelled = _sum_by(weights, facts.labels, facts.classes)
    predicted = _sum_by(weights, facts.predictions, facts.classes)
    right = _sum_by(weights * facts.correct, facts.labels, facts.classes)
    gap = _sum_by(weights * (facts.correct - facts.confidence), facts.bins, BINS)
    return {
        "accuracy": weights @ facts.correct / total,
        "balanced_accuracy": _mean_where(right, labelled),
        "macro_f1": _mean_where(2 * right, labelled + predicted),
        "ece": np.abs(gap).sum(1) / total,
        "log_loss": weights @ facts.losses / total,
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


def _resample(
    examples: int, seed: int, resamples: int
) -> Iterator[Float[np.ndarray, "chunk examples"]]:
    """Counts of how often each example is drawn, in chunks of at most about 32 MB."""
    generator = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // examples)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(examples, size=(rows, examples))
        drawn += np.arange(rows)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=rows * examples)
        yield counts.reshape(rows, examples).astype(np.float64)


def _value(name: str, probabilities: Probabilities, labels: Labels) -> float:
    facts = _facts(*check(probabilities, labels))
    return float(_scores(facts, np.ones((1, len(facts.labels))))[name][0])
