"""Oracles and cases of the losses of a batch's predictions."""

import itertools

import numpy as np

from families.classification import entropy
from families.common import Fixed, on_logits, softmax


def minimum_class_confusion(
    logits: np.ndarray, temperature: float = 2.5, at: Fixed = None
) -> float:
    p = softmax(logits / temperature)
    weights = 1 + np.exp(-entropy((logits if at is None else at[0]) / temperature))
    weights = len(p) * weights / weights.sum()
    examples, classes = p.shape
    confusion = np.zeros((classes, classes))
    for j, k, i in itertools.product(range(classes), range(classes), range(examples)):
        confusion[j, k] += p[i, j] * weights[i] * p[i, k]
    off_diagonal = 0.0
    for j in range(classes):
        mass = confusion[j].sum()
        if mass > 0:
            off_diagonal += (mass - confusion[j, j]) / mass
    return off_diagonal / classes


def information_maximization(logits: np.ndarray, at: Fixed = None) -> float:
    mean = softmax(logits).mean(axis=0)
    return entropy(logits).mean() + sum(p * np.log(p) for p in mean if p > 0)


def batch_nuclear_norm(logits: np.ndarray, at: Fixed = None) -> float:
    p = softmax(logits)
    return -np.sqrt(np.maximum(np.linalg.eigvalsh(p.T @ p), 0)).sum() / len(p)


CASES = {
    "minimum_class_confusion": on_logits(minimum_class_confusion),
    "information_maximization": on_logits(information_maximization),
    "batch_nuclear_norm": on_logits(batch_nuclear_norm),
}
