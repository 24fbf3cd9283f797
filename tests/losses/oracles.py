"""The losses again, in float64 NumPy and naive loops straight from the papers.

``at`` holds the arguments where whatever carries no gradient is computed (bandwidths, weights,
teachers); finite differences move the arguments and leave ``at`` where it is.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

Fixed = tuple[np.ndarray, ...] | None


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


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


def domain_adversarial(
    source: np.ndarray,
    target: np.ndarray,
    source_weights: np.ndarray | None = None,
    target_weights: np.ndarray | None = None,
    at: Fixed = None,
) -> float:
    w_s = np.ones(len(source)) if source_weights is None else source_weights
    w_t = np.ones(len(target)) if target_weights is None else target_weights
    p_s, p_t = 1 / (1 + np.exp(-source)), 1 / (1 + np.exp(-target))
    source_loss = sum(-w * np.log(p) for w, p in zip(w_s, p_s, strict=True)) / sum(w_s)
    target_loss = sum(-w * np.log(1 - p) for w, p in zip(w_t, p_t, strict=True)) / sum(w_t)
    return (source_loss + target_loss) / 2


def entropy_weights(logits: np.ndarray, at: Fixed = None) -> np.ndarray:
    weights = 1 + np.exp(-entropy(logits if at is None else at[0]))
    return weights / weights.mean()


def classifier_discrepancy(first: np.ndarray, second: np.ndarray, at: Fixed = None) -> float:
    p, q = softmax(first), softmax(second)
    classes = range(p.shape[1])
    return np.mean([np.mean([abs(p[i, c] - q[i, c]) for c in classes]) for i in range(len(p))])


def squared_distance(x: np.ndarray, y: np.ndarray) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def median_bandwidths(pairs: Iterable) -> list[float]:
    median = np.median([squared_distance(x, y) for x, y in pairs])
    return [median * 2.0**octave for octave in (-2, -1, 0, 1, 2)]


def mmd(
    source: np.ndarray,
    target: np.ndarray,
    estimator: str = "biased",
    bandwidths: Sequence[float] | None = None,
    at: Fixed = None,
) -> float:
    fixed_source, fixed_target = (source, target) if at is None else at
    if bandwidths is None:
        pooled = [*fixed_source, *fixed_target]
        bandwidths = median_bandwidths(itertools.combinations(pooled, 2))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return np.mean([np.exp(-squared_distance(x, y) / b) for b in bandwidths])

    def within(rows: np.ndarray) -> float:
        pairs = list(itertools.product(range(len(rows)), repeat=2))
        if estimator == "unbiased":
            pairs = [(i, j) for i, j in pairs if i != j]
        return np.mean([kernel(rows[i], rows[j]) for i, j in pairs])

    across = np.mean([kernel(s, t) for s in source for t in target])
    return within(source) + within(target) - 2 * across


def linear_mmd(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    pairs = range(min(len(source), len(target)) // 2)

    def quadruples(s: np.ndarray, t: np.ndarray) -> list:
        return [(s[2 * i], s[2 * i + 1], t[2 * i], t[2 * i + 1]) for i in pairs]

    fixed = quadruples(*((source, target) if at is None else at))
    read = [pair for a, b, c, d in fixed for pair in ((a, b), (c, d), (a, d), (b, c))]
    bandwidths = median_bandwidths(read)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return np.mean([np.exp(-squared_distance(x, y) / b) for b in bandwidths])

    terms = [
        kernel(a, b) + kernel(c, d) - kernel(a, d) - kernel(b, c)
        for a, b, c, d in quadruples(source, target)
    ]
    return np.mean(terms)


def coral(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    gap = np.cov(source, rowvar=False, ddof=1) - np.cov(target, rowvar=False, ddof=1)
    return (gap**2).sum() / (4 * source.shape[1] ** 2)


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


def l2_sp(
    backbone: np.ndarray,
    head: np.ndarray,
    reference: np.ndarray,
    alpha: float = 0.3,
    beta: float = 0.7,
    at: Fixed = None,
) -> float:
    start = reference if at is None else at[2]
    kept = sum((w - w0) ** 2 for w, w0 in zip(backbone.flat, start.flat, strict=True))
    return alpha / 2 * kept + beta / 2 * sum(w**2 for w in head.flat)
