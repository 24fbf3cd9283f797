"""Moments, sliced Wasserstein distances and joint transport of other implementations."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from jtl import losses
from peers.common import markdown, number, softmax, squared_distances

FEATURES = tuple(np.random.default_rng(seed).normal(size=(12, 4)).round(2) for seed in (0, 1))
LABELS = np.arange(12) % 3
TARGET_LOGITS = np.random.default_rng(2).normal(size=(12, 3)).round(2)
ALPHA, LAMBDA = 0.001, 0.0001


def cmd(source: np.ndarray, target: np.ndarray) -> float:
    """CMD's authors: wzell/cmd, models/domain_regularizer.py, ``mmatch`` (d3c5b4b).

    Without the paper's factors 1 / (b - a)^k: behind a sigmoid they are 1.
    """
    gaps = [source.mean(axis=0) - target.mean(axis=0)]
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    gaps += [(source**k).mean(axis=0) - (target**k).mean(axis=0) for k in range(2, 6)]
    return sum(np.sqrt((gap**2).sum()) for gap in gaps)


def swd(source: np.ndarray, target: np.ndarray, directions: np.ndarray) -> float:
    """SWD's authors: apple/ml-cvpr2019-swd, swd.py, ``discrepancy_slice_wasserstein`` (58acb02).

    For batches of equal size. KevinMusgrave/pytorch-adapt,
    src/pytorch_adapt/layers/sliced_wasserstein.py (1366df7c), is the same, and draws 128 lines
    whatever ``m`` says.
    """
    directions = directions / np.sqrt((directions**2).sum(axis=0))
    return (
        (np.sort(source @ directions, axis=0) - np.sort(target @ directions, axis=0)) ** 2
    ).mean()


def least(cost: np.ndarray) -> np.ndarray:
    """The exact plan between batches of equal size."""
    plan = np.zeros(cost.shape)
    plan[linear_sum_assignment(cost)] = 1 / len(cost)
    return plan


def costs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared distances, cross-entropies, and squared distances of labels to predictions."""
    probabilities = softmax(TARGET_LOGITS)
    cross_entropies = -np.log(probabilities)[:, LABELS].T
    return (
        squared_distances(*FEATURES),
        cross_entropies,
        squared_distances(np.eye(3)[LABELS], probabilities),
    )


def paper(alpha: float, lambda_t: float) -> float:
    """One cost for the plan and the loss.

    scikit-adaptation/skada, skada/deep/losses.py, ``deepjdot_loss`` (46bc3db).
    """
    distances, labels, _ = costs()
    cost = alpha * distances + lambda_t * labels
    return (least(cost) * cost).sum()


def authors(alpha: float, lambda_t: float) -> float:
    """bbdamodaran/deepJDOT, Deepjdot.py (b881467): another cost for the plan than for the loss."""
    distances, labels, by_square = costs()
    plan = least(alpha * distances + by_square)
    return (plan * (alpha * distances + lambda_t * labels)).sum()


def authors_script(alpha: float, lambda_t: float) -> float:
    """bbdamodaran/deepJDOT, deepjdot_svhn_mnist.py (b881467), which gives the paper's numbers."""
    distances, labels, by_square = costs()
    plan = least(alpha * distances + lambda_t * by_square)
    return (plan * (alpha * distances + lambda_t * labels)).sum()


def jtl_transport(alpha: float, lambda_t: float) -> float:
    """Jtl's."""
    source, target, logits = (jnp.float32(a) for a in (*FEATURES, TARGET_LOGITS))
    return float(
        losses.joint_transport(
            source, jnp.asarray(LABELS), target, logits, alpha=alpha, lambda_t=lambda_t
        )
    )


TRANSPORT: Sequence[tuple[str, Callable, str]] = (
    ("exact plan of the paper's cost; skada", paper, "cross-entropy in plan and loss"),
    ("jtl", jtl_transport, "the same cost, Sinkhorn's plan"),
    ("authors, script", authors_script, "plan by the squared distance of label and prediction"),
    ("authors, class", authors, "the same, its weight in the plan **always 1**"),
)


def transport_table() -> str:
    """A thousand times the loss, at the paper's factors and at even ones."""
    rows = [
        [name, number(1000 * loss(ALPHA, LAMBDA)), number(1000 * loss(0.001, 0.01)), note]
        for name, loss, note in TRANSPORT
    ]
    return markdown(["1000 x", "alpha .001, lambda .0001", "alpha .001, lambda .01", "plan"], rows)


def jtl_cmd(source: np.ndarray, target: np.ndarray) -> float:
    """Jtl's."""
    return float(losses.central_moment_discrepancy(jnp.float32(source), jnp.float32(target)))


def jtl_swd(source: np.ndarray, target: np.ndarray, key: jax.Array, projections: int) -> float:
    """Jtl's."""
    samples = jnp.float32(source), jnp.float32(target)
    return float(losses.sliced_wasserstein(*samples, key, projections=projections))
