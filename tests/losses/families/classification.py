"""Oracles and cases of the losses of single predictions."""

from functools import partial

import numpy as np

from families.common import (
    LABELS,
    LOGITS,
    ODD_LOGITS,
    ODD_PAIRS,
    OTHER_LOGITS,
    Case,
    Fixed,
    on_logits,
    softmax,
)
from jtl import losses
from jtl.types import Array


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0, at: Fixed = None
) -> np.ndarray:
    losses = []
    for row, label in zip(softmax(logits), labels, strict=True):
        uniform = -np.mean(np.log(row))
        losses.append((1 - label_smoothing) * -np.log(row[label]) + label_smoothing * uniform)
    return np.array(losses)


def focal(
    logits: np.ndarray, labels: np.ndarray, gamma: float = 2.0, at: Fixed = None
) -> np.ndarray:
    picked = [row[label] for row, label in zip(softmax(logits), labels, strict=True)]
    return np.array([-((1 - p) ** gamma) * np.log(p) for p in picked])


def entropy(logits: np.ndarray, at: Fixed = None) -> np.ndarray:
    return np.array([-sum(p * np.log(p) for p in row if p > 0) for row in softmax(logits)])


def distillation(
    student: np.ndarray, teacher: np.ndarray, temperature: float, at: Fixed = None
) -> np.ndarray:
    teacher = teacher if at is None else at[1]
    losses = []
    for s, t in zip(softmax(student / temperature), softmax(teacher / temperature), strict=True):
        divergence = sum(q * np.log(q / p) for p, q in zip(s, t, strict=True) if q > 0)
        losses.append(temperature**2 * divergence)
    return np.array(losses)


def smoothed(logits: Array, labels: Array) -> Array:
    return losses.cross_entropy(logits, labels, label_smoothing=0.1)


def over_labels(*logits: np.ndarray) -> tuple:
    return tuple((rows, LABELS) for rows in logits)


CASES = {
    "cross_entropy": Case(
        losses.cross_entropy,
        cross_entropy,
        (LOGITS, LABELS),
        over_labels(*ODD_LOGITS),
        batch=False,
    ),
    "cross_entropy/smoothed": Case(
        smoothed,
        partial(cross_entropy, label_smoothing=0.1),
        (LOGITS, LABELS),
        over_labels(*ODD_LOGITS),
        batch=False,
    ),
    "focal": Case(losses.focal, focal, (LOGITS, LABELS), over_labels(*ODD_LOGITS), batch=False),
    "focal/half": Case(
        partial(losses.focal, gamma=0.5),
        partial(focal, gamma=0.5),
        (LOGITS, LABELS),
        over_labels(*ODD_LOGITS),
        batch=False,
    ),
    "entropy": Case(losses.entropy, entropy, (LOGITS,), on_logits(entropy).edges, batch=False),
    "distillation": Case(
        partial(losses.distillation, temperature=3.0),
        partial(distillation, temperature=3.0),
        (LOGITS, OTHER_LOGITS),
        ODD_PAIRS,
        batch=False,
    ),
}
