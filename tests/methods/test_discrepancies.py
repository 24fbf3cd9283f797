"""The methods that add one term to the task loss, each against its paper's formula."""

import itertools
from collections.abc import Callable
from typing import Any

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed import SOURCE, TARGET, TASK, float64, softmax
from test_registered import build

S, T = float64(SOURCE.features), float64(TARGET.features)


def confusion() -> float:
    p = softmax(TARGET.logits / 2.5)
    weights = 1 + np.exp(-fixed.entropies(TARGET.logits / 2.5))
    weights *= len(p) / weights.sum()
    classes = range(fixed.CLASSES)
    matrix = np.array([[(weights * p[:, j] * p[:, k]).sum() for k in classes] for j in classes])
    matrix /= matrix.sum(axis=1, keepdims=True)
    return (matrix.sum() - np.trace(matrix)) / fixed.CLASSES


def nuclear() -> float:
    return -np.linalg.svd(softmax(TARGET.logits), compute_uv=False).sum() / len(TARGET.logits)


def entropy() -> float:
    return fixed.entropies(TARGET.logits).mean()


def coral() -> float:
    gap = np.cov(float64(SOURCE.logits).T) - np.cov(float64(TARGET.logits).T)
    return (gap**2).sum() / (4 * fixed.CLASSES**2)


def kernel_matrix(*samples: Any) -> np.ndarray:
    """Five Gaussians around the median squared distance, of all pairs of the pooled rows."""
    rows = np.concatenate([float64(sample) for sample in samples])
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
    median = np.median([distances[pair] for pair in itertools.combinations(range(len(rows)), 2)])
    return np.mean([np.exp(-distances / (median * 2.0**k)) for k in range(-2, 3)], axis=0)


def mmd(kernel: np.ndarray) -> float:
    n = len(SOURCE.labels)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def of_layers() -> float:
    features, logits = (SOURCE.features, TARGET.features), (SOURCE.logits, TARGET.logits)
    return mmd(kernel_matrix(*features)) + mmd(kernel_matrix(*logits))


def joint() -> float:
    of_features = kernel_matrix(SOURCE.features, TARGET.features)
    return mmd(of_features * kernel_matrix(softmax(SOURCE.logits), softmax(TARGET.logits)))


def moments() -> float:
    s, t = np.tanh(S), np.tanh(T)
    total = np.linalg.norm(s.mean(0) - t.mean(0)) / 2
    for order in range(2, 6):
        central = [((x - x.mean(0)) ** order).mean(0) for x in (s, t)]
        total += np.linalg.norm(central[0] - central[1]) / 2**order
    return total


FORMULAS: dict[str, tuple[float, Callable[[], float]]] = {
    "mcc": (1.0, confusion),
    "bnm": (1.0, nuclear),
    "entropy_minimization": (0.1, entropy),
    "deep_coral": (1.0, coral),
    "dan": (1.0, of_layers),
    "jan": (1.0, joint),
    "cmd": (1.0, moments),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_value_is_task_plus_strength_times_the_papers_term(name: str) -> None:
    published, term = FORMULAS[name]
    method = build(name)
    found, terms = fixed.value(method, progress=1.0)
    fixed.assert_close(terms["task"], TASK)
    # At the end of training JAN's strength is 0.9999 of the whole.
    fixed.assert_close(found, TASK + published * term(), rtol=1e-4)
    twice, _ = fixed.value(method, progress=1.0, strength=2 * published)
    fixed.assert_close(twice, TASK + 2 * published * term(), rtol=1e-4)


def test_the_joint_discrepancy_starts_without_weight_and_rises() -> None:
    for progress in (0.0, 0.1):
        found, _ = fixed.value(build("jan"), progress=progress)
        fixed.assert_close(found, TASK + fixed.ramp(progress) * joint(), rtol=1e-4)


def test_afn_pushes_every_feature_outward_and_reports_the_norms() -> None:
    method = build("afn")
    found, terms = fixed.value(method, step=2.0)
    fixed.assert_close(found, TASK + 0.05 * (2.0**2 + 2.0**2))
    fixed.assert_close(terms["source_norm"], np.linalg.norm(S, axis=1).mean())
    fixed.assert_close(terms["target_norm"], np.linalg.norm(T, axis=1).mean())

    def of(source: jax.Array, target: jax.Array) -> jax.Array:
        seen = SOURCE._replace(features=source), TARGET._replace(features=target)
        return fixed.value(method, 0, *seen)[0]

    gradients = jax.grad(of, (0, 1))(jnp.asarray(SOURCE.features), jnp.asarray(TARGET.features))
    for features, gradient in zip((S, T), gradients, strict=True):
        direction = features / np.linalg.norm(features, axis=1, keepdims=True)
        fixed.assert_close(gradient, -0.05 * 2 * direction / len(features))


def plan(cost: np.ndarray, epsilon: float) -> np.ndarray:
    """Sinkhorn's, by scaling rows and columns in turn."""
    matrix = np.exp(-cost / epsilon)
    for _ in range(3000):
        matrix /= matrix.sum(axis=1, keepdims=True) * len(matrix)
        matrix /= matrix.sum(axis=0, keepdims=True) * matrix.shape[1]
    return matrix


def test_deep_jdot_pays_for_what_the_plan_carries_and_the_plan_has_no_gradient() -> None:
    alpha, lambda_t, epsilon = 0.5, 2.0, 0.1
    method = build("deep_jdot", iterations=1000)
    assert method.hyper == {"alpha": 0.001, "lambda_t": 0.0001, "epsilon": 0.01}

    def costs(target: np.ndarray) -> np.ndarray:
        distances = ((S[:, None] - target[None]) ** 2).sum(axis=-1)
        return alpha * distances - lambda_t * np.log(softmax(TARGET.logits)[:, SOURCE.labels]).T

    carried = plan(costs(T), epsilon * costs(T).mean())

    def of(target: jax.Array) -> jax.Array:
        seen = TARGET._replace(features=target)
        settings = {"alpha": alpha, "lambda_t": lambda_t, "epsilon": epsilon}
        return fixed.value(method, 0, SOURCE, seen, **settings)[0]

    found, gradient = jax.value_and_grad(of)(jnp.asarray(TARGET.features))
    fixed.assert_close(found, TASK + (carried * costs(T)).sum(), rtol=1e-4)
    expected = fixed.slope(lambda target: (carried * costs(target)).sum(), T)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)
