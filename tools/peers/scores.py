"""Transferability scores of other implementations."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

from jtl import transferability
from peers.common import markdown, number

STABLE = "google-research/google-research, stable_transfer/transferability (1d4d2f1)"


def noise(examples: int, width: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Features that say nothing of their labels."""
    features = np.random.default_rng((examples, width)).normal(size=(examples, width))
    return features, np.arange(examples) % classes


# --- LogME ----------------------------------------------------------------------------------------


class Spectrum(NamedTuple):
    """Of features: left singular vectors, squares of singular values, and their width."""

    left: np.ndarray
    squares: np.ndarray
    width: int


def fixed_point(
    spectrum: Spectrum, target: np.ndarray, small: float
) -> tuple[float, float, float, float]:
    """Their iteration: alpha, beta, the squared error and the squared weights.

    thuml/LogME, LogME.py (56551ca); ``small`` is its 1e-5 under the two divisions.
    """
    squares, inside = spectrum.squares, (spectrum.left.T @ target) ** 2
    outside = target @ target - inside.sum()
    ratio, alpha, beta = 1.0, 1.0, 1.0
    for _ in range(11):
        gamma = (squares / (squares + ratio)).sum()
        weights = (squares * inside / (ratio + squares) ** 2).sum()
        error = (inside / (1 + squares / ratio) ** 2).sum() + outside
        alpha, beta = gamma / (weights + small), (len(target) - gamma) / (error + small)
        before, ratio = ratio, alpha / beta
        if abs(ratio - before) / before <= 1e-3:
            break
    return alpha, beta, error, weights


def published(spectrum: Spectrum, target: np.ndarray, alphas: int, small: float) -> float:
    """Their evidence, which counts log(alpha) / 2 ``alphas`` times too often."""
    alpha, beta, error, weights = fixed_point(spectrum, target, small)
    squares, width = spectrum.squares, spectrum.width
    missing = width - len(squares) - alphas  # of the directions with no data
    logs = width * np.log(alpha) + len(target) * np.log(beta)
    logs -= np.log(alpha + beta * squares).sum() + missing * np.log(alpha)
    value = logs - beta * error - alpha * weights - len(target) * np.log(2 * np.pi)
    return value / 2 / len(target)


def over_classes(evidence: Callable, features: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes."""
    left, scales, _ = np.linalg.svd(features, full_matrices=False)
    spectrum = Spectrum(left, scales**2, features.shape[1])
    return float(np.mean([evidence(spectrum, 1.0 * (labels == c)) for c in np.unique(labels)]))


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """The authors' default, ``_fit_fixed_point``; stable_transfer's logme.py is the same."""
    extra = max(features.shape[1] - features.shape[0], 0)
    return over_classes(lambda s, y: published(s, y, extra, 1e-5), features, labels)


def logme_icml(features: np.ndarray, labels: np.ndarray) -> float:
    """The authors' ``_fit_icml``; thuml/Transfer-Learning-Library's logme.py, without 1e-5."""
    return over_classes(lambda s, y: published(s, y, 0, 1e-5), features, labels)


LOGME: Sequence[tuple[str, Callable, str]] = (
    ("jtl", transferability.logme, "exact, searched for"),
    ("LogME's authors (default), stable_transfer", logme, "**(d - n) / 2 log alpha** too much"),
    ("LogME's authors, `_fit_icml`; TLL", logme_icml, "at the point where 11 steps end"),
)


def logme_table() -> str:
    """Of noise: wider and wider than its 100 examples."""
    sets = [noise(100, width) for width in (20, 100, 400, 1600)]
    rows = [
        [name, *(number(score(*data), 2) for data in sets), note] for name, score, note in LOGME
    ]
    return markdown(["noise", "20 wide", "100 wide", "400 wide", "1600 wide", ""], rows)


# --- H-score --------------------------------------------------------------------------------------


def class_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each example's, of its class."""
    means = np.stack([features[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    return means[labels]


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """thuml/Transfer-Learning-Library, tllib/ranking/hscore.py (c4aa59e), as the authors'."""
    inverse = np.linalg.pinv(np.cov(features.T), rcond=1e-15)
    return float(np.trace(inverse @ np.cov(class_means(features, labels).T)))


def shrunk_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """The same file: ``regularized_h_score``."""
    fit = LedoitWolf().fit(features)
    between = np.cov(class_means(features, labels).T)
    return float((1 - fit.shrinkage_) * np.trace(np.linalg.pinv(fit.covariance_) @ between))


def elementwise_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """stable_transfer's hscore.py: ``trace(pinv(C) * C_between)``."""
    inverse = np.linalg.pinv(np.cov(features.T), rcond=1e-5)
    return float(np.trace(inverse * np.cov(class_means(features, labels).T)))


def helpful() -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of 400 examples that tell four classes apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    features = rng.normal(size=(400, 20)) + 1.5 * rng.normal(size=(4, 20))[labels]
    return features @ rng.normal(size=(20, 20)), labels


H_SCORE: Sequence[tuple[str, Callable, str]] = (
    ("jtl", transferability.h_score, "shrunk after Ledoit and Wolf"),
    ("TLL, regularized", shrunk_h_score, "the same, one covariance by n, one by n - 1"),
    ("the authors, TLL", h_score, "unshrunk"),
    ("stable_transfer", elementwise_h_score, "the covariances multiplied **entry by entry**"),
)


def h_score_table() -> str:
    """Of wide noise with ten classes and of features that tell four classes apart."""
    sets = noise(100, 400), helpful()
    rows = [
        [name, *(number(score(*data), 2) for data in sets), note] for name, score, note in H_SCORE
    ]
    return markdown(["", "noise, 10 classes", "helpful, 4 classes", ""], rows)


# --- TransRate ------------------------------------------------------------------------------------


def transrate(features: np.ndarray, labels: np.ndarray) -> float:
    """thuml/Transfer-Learning-Library, tllib/ranking/transrate.py (c4aa59e), and the paper."""

    def rate(rows: np.ndarray) -> float:
        scales = np.linalg.svd(rows, compute_uv=False)
        return float(np.log1p(scales**2 / (len(rows) * 1e-4)).sum() / 2)

    centred = features - features.mean(axis=0)
    classes = np.unique(labels)
    return rate(centred) - sum(rate(centred[labels == c]) for c in classes) / len(classes)


TRANSRATE: Sequence[tuple[str, Callable, str]] = (
    ("jtl", transferability.transrate, "classes by their share"),
    ("the authors, TLL", transrate, "**classes alike**"),
)


def transrate_table() -> str:
    """The same noise with even and with uneven classes."""
    features, _ = noise(1000, 20)
    even, uneven = np.arange(1000) % 2, 1 * (np.arange(1000) < 20)
    rows = [
        [name, *(number(score(features, labels), 3) for labels in (even, uneven)), note]
        for name, score, note in TRANSRATE
    ]
    return markdown(["noise", "500 and 500", "980 and 20", ""], rows)


# --- GBC ------------------------------------------------------------------------------------------


def gbc(features: np.ndarray, labels: np.ndarray) -> float:
    """stable_transfer's gbc.py, spherical: determinants of one variance, not of d equal ones."""
    means, variances = [], []
    for c in np.unique(labels):
        rows = features[labels == c]
        means.append(rows.mean(axis=0))
        variances.append(np.maximum(rows.var(axis=0), 1e-4).mean())
    total = 0.0
    for a in range(len(means)):
        for b in range(len(means)):
            pooled = (variances[a] + variances[b]) / 2
            distance = ((means[a] - means[b]) ** 2 / pooled).sum() / 8
            distance += np.log(pooled / np.sqrt(variances[a] * variances[b])) / 2
            total += np.exp(-distance) * (a != b)
    return float(-total)


GBC: Sequence[tuple[str, Callable, str]] = (
    ("jtl", transferability.gbc, "d equal variances"),
    ("stable_transfer (the authors)", gbc, "log det of **one** variance"),
)


def gbc_table() -> str:
    """Two classes around one point, the second 1.5 times as wide, in 1 and in 64 features."""
    rows = []
    for name, score, note in GBC:
        values = []
        for width in (1, 64):
            features, labels = noise(20_000, width, classes=2)
            values.append(number(score(features * (1 + 0.5 * labels[:, None]), labels)))
        rows.append([name, *values, note])
    exact = [number(-2 * (1.5 / ((1 + 1.5**2) / 2)) ** (width / 2)) for width in (1, 64)]
    return markdown(["", "1 feature", "64 features", ""], [*rows, ["exact", *exact, ""]])
