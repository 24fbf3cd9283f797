"""Every score against its definition, and the traps that published code falls into."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm
from sklearn.covariance import LedoitWolf

from jtl.errors import UserError
from jtl.transferability import gbc, h_score, leep, logme, nce, transrate

LABELS = np.array([0, 2, 1, 0, 2, 2, 0, 1, 0, 2, 0, 0])
OF_FEATURES = (h_score, logme, transrate, gbc)
every_score = pytest.mark.parametrize("score", OF_FEATURES)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def distributions(*shape: int, seed: int = 0) -> np.ndarray:
    exponentials = np.exp(normal(*shape, seed=seed))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def with_signal(examples: int, width: int, strength: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(examples) % 3
    return normal(examples, width) + strength * normal(3, width, seed=1)[labels], labels


SMALL, SMALL_LABELS = with_signal(12, 3)


# --- LEEP and NCE ---


def test_leep_is_the_mean_log_of_the_expected_empirical_prediction() -> None:
    p = distributions(12, 4)
    total = 0.0
    for row, label in zip(p, LABELS, strict=True):
        expected = 0.0
        for z in range(4):
            given_z = p[label == LABELS, z].sum() / p[:, z].sum()
            expected += given_z * row[z]
        total += np.log(expected)
    np.testing.assert_allclose(leep(p, LABELS), total / 12, rtol=1e-12)


def test_a_source_class_that_is_never_predicted_says_nothing() -> None:
    p = distributions(12, 4)
    wider = np.insert(p, 2, 0.0, axis=1)
    np.testing.assert_allclose(leep(wider, LABELS), leep(p, LABELS), rtol=1e-12)


def test_nce_is_minus_the_conditional_entropy() -> None:
    sources = np.array([5, 5, 7, 7, 5, 9, 9, 9, 5, 5, 7, 7])
    entropy = 0.0
    for z in np.unique(sources):
        shares = np.bincount(LABELS[sources == z]) / np.sum(sources == z)
        entropy -= np.mean(sources == z) * sum(s * np.log(s) for s in shares if s > 0)
    np.testing.assert_allclose(nce(sources, LABELS), -entropy, rtol=1e-12)


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_leep_of_certain_predictions_is_nce(sources: list[int]) -> None:
    certain = np.eye(4)[sources]
    np.testing.assert_allclose(leep(certain, LABELS), nce(np.array(sources), LABELS), atol=1e-12)


@given(st.integers(0, 99))
def test_predictions_tell_between_nothing_and_the_labels(seed: int) -> None:
    shares = np.bincount(LABELS) / len(LABELS)
    nothing = (shares * np.log(shares)).sum()
    assert nothing - 1e-12 <= leep(distributions(12, 4, seed=seed), LABELS) <= 0
    np.testing.assert_allclose(leep(np.full((12, 4), 0.25), LABELS), nothing)
    assert leep(np.eye(3)[LABELS], LABELS) == 0


# --- H-score ---


@pytest.mark.parametrize(("examples", "width"), [(40, 5), (20, 60)])
def test_h_score_is_the_shrunk_one(examples: int, width: int) -> None:
    features, labels = with_signal(examples, width)
    fit = LedoitWolf().fit(features)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])
    between = np.cov(means[labels], rowvar=False, ddof=0)
    expected = (1 - fit.shrinkage_) * np.trace(np.linalg.solve(fit.covariance_, between))
    np.testing.assert_allclose(h_score(features, labels), expected, rtol=1e-9)


def test_unshrunk_noise_would_have_the_best_score_of_all() -> None:
    labels = np.arange(100) % 10
    noise = normal(100, 400)
    means = np.stack([noise[labels == c].mean(axis=0) for c in range(10)])
    inverse = np.linalg.pinv(np.cov(noise.T), rcond=1e-10)  # of rank 99; the rest is rounding
    unshrunk = np.trace(inverse @ np.cov(means[labels].T))
    np.testing.assert_allclose(unshrunk, 9, rtol=1e-6)
    assert h_score(noise, labels) < 1


def test_what_is_whitened_has_no_h_score() -> None:
    features, labels = with_signal(60, 3)
    centred = features - features.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T)).T)
    assert h_score(features, labels) > 1
    assert 0 <= h_score(white, labels) < 0.01


def test_directions_without_spread_take_no_part_in_the_h_score() -> None:
    features = np.array([[-1.0, 3.0], [-1.0, 3.0], [1.0, 3.0], [1.0, 3.0]])
    assert h_score(features, np.array([0, 0, 1, 1])) == 1
    assert h_score(np.ones((4, 2)), np.array([0, 0, 1, 1])) == 0


# --- LogME ---


def searched_evidence(features: np.ndarray, target: np.ndarray) -> float:
    """The maximum over alpha and beta of the Gaussian's density, by SciPy alone."""

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -20, 20))
        covariance = features @ features.T / alpha + np.eye(len(target)) / beta
        return -multivariate_normal(np.zeros(len(target)), covariance).logpdf(target)

    starts = itertools.product((-2.0, 2.0, 6.0), (0.0, 3.0))
    fits = [minimize(negative, start, method="Nelder-Mead", tol=1e-10) for start in starts]
    return -min(fit.fun for fit in fits)


@pytest.mark.parametrize(("examples", "width"), [(24, 3), (15, 40)])
def test_logme_is_the_largest_gaussian_evidence(examples: int, width: int) -> None:
    features, labels = with_signal(examples, width, strength=0.7)
    expected = [searched_evidence(features, 1.0 * (labels == c)) for c in range(3)]
    np.testing.assert_allclose(logme(features, labels), np.mean(expected) / examples, rtol=1e-6)


def published_evidence(features: np.ndarray, target: np.ndarray) -> tuple[float, float, float]:
    """The authors' fixed point on the truncated decomposition: its evidence, alpha and beta."""
    examples, width = features.shape
    left, scales, _ = np.linalg.svd(features, full_matrices=False)
    squares, inside = scales**2, (left.T @ target) ** 2
    outside = target @ target - inside.sum()
    alpha = beta = 1.0
    for _ in range(11):
        ratio = alpha / beta
        gamma = (squares / (squares + ratio)).sum()
        weights = (squares * inside / (ratio + squares) ** 2).sum()
        rest = (inside / (1 + squares / ratio) ** 2).sum() + outside
        alpha, beta = gamma / (weights + 1e-5), (examples - gamma) / (rest + 1e-5)
    logs = width * np.log(alpha) + examples * np.log(beta) - np.log(alpha + beta * squares).sum()
    value = logs - beta * rest - alpha * weights - examples * np.log(2 * np.pi)
    return value / 2 / examples, alpha, beta


def test_the_published_evidence_of_wide_noise_is_no_evidence() -> None:
    """With 100 examples of 400 features it counts ``400 log alpha`` against 100 terms."""
    noise, labels = normal(100, 400), np.arange(100) % 2
    values, exact = [], []
    for c in range(2):
        target = 1.0 * (labels == c)
        value, alpha, beta = published_evidence(noise, target)
        covariance = noise @ noise.T / alpha + np.eye(100) / beta
        values.append(value)
        exact.append(multivariate_normal(np.zeros(100), covariance).logpdf(target) / 100)
    assert np.mean(values) > 5
    assert np.mean(exact) < 0
    assert np.mean(exact) <= logme(noise, labels) < 0


def test_features_that_fit_exactly_have_a_finite_evidence_above_all_others() -> None:
    labels = np.arange(12) % 3
    exact = np.eye(3)[labels]
    assert logme(exact, labels) < -np.log(2 * np.pi * 1e-9) / 2  # of a noise of that variance
    assert logme(exact, labels) > logme(exact + 0.1 * normal(12, 3), labels)


# --- TransRate ---


def test_transrate_is_the_difference_of_the_rates() -> None:
    def rate(rows: np.ndarray) -> float:
        width = rows.shape[1]
        return np.linalg.slogdet(np.eye(width) + rows.T @ rows / (len(rows) * 0.01))[1] / 2

    centred = SMALL - SMALL.mean(axis=0)
    counts = np.bincount(LABELS)
    within = sum(counts[c] / 12 * rate(centred[c == LABELS]) for c in range(3))
    expected = rate(centred) - within
    np.testing.assert_allclose(transrate(SMALL, LABELS, epsilon=0.01), expected, rtol=1e-10)


@given(st.integers(0, 99), st.integers(1, 11))
def test_classes_of_any_sizes_never_need_more_than_the_whole(seed: int, first: int) -> None:
    """By the concavity of log det; with equal weights for unequal classes it may be negative."""
    labels = (np.arange(12) < first).astype(int)
    assert transrate(normal(12, 3, seed=seed), labels) >= -1e-12


# --- GBC ---


def test_gbc_of_one_feature_is_the_integral_of_the_overlap() -> None:
    features = SMALL[:, :1]
    groups = [features[c == LABELS, 0] for c in range(3)]
    overlap = 0.0
    for a, b in itertools.permutations(groups, 2):
        first, second = norm(a.mean(), a.std()), norm(b.mean(), b.std())
        overlap += quad(lambda x, f=first, g=second: np.sqrt(f.pdf(x) * g.pdf(x)), -30, 30)[0]
    for covariance in ("spherical", "diagonal"):
        np.testing.assert_allclose(
            gbc(features, LABELS, covariance=covariance), -overlap, rtol=1e-6
        )


@pytest.mark.parametrize("covariance", ["spherical", "diagonal"])
def test_gbc_is_minus_the_sum_of_bhattacharyya_coefficients(covariance: str) -> None:
    total = 0.0
    for a, b in itertools.permutations(range(3), 2):
        means, matrices = [], []
        for rows in (SMALL[a == LABELS], SMALL[b == LABELS]):
            variances = rows.var(axis=0)
            if covariance == "spherical":
                variances = np.full(3, variances.mean())
            means.append(rows.mean(axis=0))
            matrices.append(np.diag(variances))
        gap, pooled = means[0] - means[1], (matrices[0] + matrices[1]) / 2
        distance = gap @ np.linalg.solve(pooled, gap) / 8
        spread = np.linalg.det(pooled) / np.sqrt(np.linalg.det(matrices[0] @ matrices[1]))
        total += np.exp(-distance - np.log(spread) / 2)
    np.testing.assert_allclose(gbc(SMALL, LABELS, covariance=covariance), -total, rtol=1e-10)


def test_a_class_of_one_example_and_constant_features_have_a_finite_overlap() -> None:
    labels = np.array([0] + 11 * [1])
    constant = np.concatenate([SMALL, np.ones((12, 1))], axis=1)
    for covariance in ("spherical", "diagonal"):
        assert -2 < gbc(constant, labels, covariance=covariance) <= 0
    assert gbc(np.ones((12, 2)), labels) == -2


# --- All scores of features ---


@every_score
def test_features_that_tell_classes_apart_score_higher_than_noise(score: object) -> None:
    assert callable(score)
    helpful, labels = with_signal(60, 5)
    assert score(helpful, labels) > score(normal(60, 5), labels)


@every_score
def test_names_of_classes_and_the_order_of_examples_do_not_matter(score: object) -> None:
    """A class that is absent between two others neither crashes nor counts."""
    assert callable(score)
    order = np.random.default_rng(0).permutation(12)
    renamed = np.array([40, 7, 300])[LABELS]
    np.testing.assert_allclose(score(SMALL[order], renamed[order]), score(SMALL, LABELS), rtol=1e-9)


@pytest.mark.parametrize("score", [h_score, logme, gbc])
def test_units_do_not_matter(score: object) -> None:
    assert callable(score)
    np.testing.assert_allclose(score(1e3 * SMALL, LABELS), score(SMALL, LABELS), rtol=1e-7)


def test_units_matter_to_transrate() -> None:
    assert transrate(1e3 * SMALL, LABELS) > transrate(SMALL, LABELS) + 0.001


@every_score
def test_single_precision_is_scored_in_double(score: object) -> None:
    assert callable(score)
    single = SMALL.astype(np.float32)
    assert score(single, LABELS) == score(single.astype(np.float64), LABELS)
    assert isinstance(score(single, LABELS), float)


@every_score
@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (SMALL, LABELS[:5], "12 rows for 5 labels"),
        (SMALL[:, 0], LABELS, "expected \\[examples, columns\\]"),
        (SMALL, LABELS * 1.0, "must be \\[examples\\] integers"),
        (SMALL[:0], LABELS[:0], "must be \\[examples\\] integers"),
        (SMALL * np.nan, LABELS, "not finite"),
        (SMALL, LABELS * 0, "needs at least two classes"),
    ],
)
def test_arrays_that_do_not_fit_are_errors(
    score: object, features: np.ndarray, labels: np.ndarray, words: str
) -> None:
    assert callable(score)
    with pytest.raises(UserError, match=words):
        score(features, labels)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: leep(normal(12, 3), LABELS), "apply softmax"),
        (lambda: leep(distributions(12, 3), LABELS[:3]), "12 rows for 3 labels"),
        (lambda: nce(LABELS[:3], LABELS), "3 source labels for 12 labels"),
        (lambda: nce(LABELS * 1.0, LABELS), "must be \\[examples\\] integers"),
        (lambda: transrate(SMALL, LABELS, epsilon=0.0), "epsilon is 0.0"),
        (lambda: gbc(SMALL, LABELS, covariance="sphere"), "did you mean spherical"),
    ],
)
def test_wrong_arguments_are_errors(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=words):
        call()
