"""Oracles and cases of the penalties of fine-tuning."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from families.common import INF, LABELS, Case, Fixed, normal, softmax
from jtl import losses
from jtl.types import Array


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


def nested_l2_sp(backbone: Array, head: Array, reference: Array) -> Array:
    params = {"backbone": {"w": backbone}, "head": head}
    return losses.l2_sp(params, {"backbone": {"w": reference}}, alpha=0.3, beta=0.7)


MAPS, DENSE = normal(8, 2, 2, 3), normal(8, 4)
OLD_MAPS, OLD_DENSE = normal(8, 2, 2, 3, seed=1), normal(8, 4, seed=1)
CHANNELS = {"maps": np.array([0.2, 0.0, 0.8]), "dense": np.array([0.1, 0.2, 0.3, 0.4])}


def delta(
    maps: np.ndarray,
    dense: np.ndarray,
    old_maps: np.ndarray,
    old_dense: np.ndarray,
    weights: dict[str, np.ndarray] | None = None,
    at: Fixed = None,
) -> float:
    if at is not None:
        old_maps, old_dense = at[2:]
    total = 0.0
    for name, new, old in (("maps", maps, old_maps), ("dense", dense, old_dense)):
        for index in np.ndindex(*new.shape):
            weight = 1.0 if weights is None else weights[name][index[-1]]
            total += weight * (new[index] - old[index]) ** 2
    return total / len(maps)


def of_layers(
    maps: Array, dense: Array, old_maps: Array, old_dense: Array, **options: object
) -> Array:
    trained = {"unread": jnp.full((len(maps), 1), jnp.nan), "maps": maps, "dense": dense}
    return losses.delta(trained, {"maps": old_maps, "dense": old_dense}, **options)


RELATIONSHIP = softmax(normal(3, 4, seed=8))
SOURCE_LOGITS = normal(8, 4, seed=9)


def co_tuning(
    logits: np.ndarray, labels: np.ndarray, relationship: np.ndarray, at: Fixed = None
) -> np.ndarray:
    relationship = relationship if at is None else at[2]
    losses = []
    for row, label in zip(softmax(logits), labels, strict=True):
        wanted = relationship[label]
        losses.append(-sum(w * np.log(p) for w, p in zip(wanted, row, strict=True) if w > 0))
    return np.array(losses)


QUERIES, KEYS, QUEUE = normal(8, 4, seed=10), normal(8, 4, seed=11), normal(6, 4, seed=12)
QUEUE_LABELS = np.array([0, 2, -1, 0, 1, -1])


def bi_tuning(
    queries: np.ndarray,
    keys: np.ndarray,
    labels: np.ndarray,
    queue: np.ndarray,
    queue_labels: np.ndarray,
    temperature: float = 0.07,
    at: Fixed = None,
) -> np.ndarray:
    queue = queue if at is None else at[3]

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return sum(x * y) / np.sqrt(sum(x * x) * sum(y * y))

    losses = []
    for query, key, label in zip(queries, keys, labels, strict=True):
        pool = [(key, label), *((k, c) for k, c in zip(queue, queue_labels, strict=True) if c >= 0)]
        p = softmax(np.array([cosine(query, k) / temperature for k, _ in pool]))
        own_class = [p[i] for i, (_, c) in enumerate(pool) if c == label]
        losses.append(-np.mean(np.log(own_class)))
    return np.array(losses)


CASES = {
    "l2_sp": Case(
        nested_l2_sp,
        l2_sp,
        (normal(2, 3), normal(4), normal(2, 3, seed=4)),
        ((np.zeros((2, 3)), np.zeros(4), np.zeros((2, 3))),),
        batch=False,
    ),
    "delta": Case(
        of_layers,
        delta,
        (MAPS, DENSE, OLD_MAPS, OLD_DENSE),
        ((MAPS, DENSE, MAPS, DENSE),),
        masks={"where": (0, 1, 2, 3)},
    ),
    "delta/weighted": Case(
        partial(of_layers, weights={k: w.astype(np.float32) for k, w in CHANNELS.items()}),
        partial(delta, weights=CHANNELS),
        (MAPS, DENSE, OLD_MAPS, OLD_DENSE),
        masks={"where": (0, 1, 2, 3)},
    ),
    "co_tuning": Case(
        losses.co_tuning,
        co_tuning,
        (SOURCE_LOGITS, LABELS, RELATIONSHIP),
        (
            (SOURCE_LOGITS, LABELS, np.eye(3, 4)),
            (np.tile([0.0, -INF, 1e4, -1e4], (8, 1)), LABELS, np.eye(3, 4)),
            (np.tile([0.0, -INF, 1e4, -1e4], (8, 1)), LABELS, RELATIONSHIP),
        ),
        batch=False,
    ),
    "bi_tuning": Case(
        losses.bi_tuning,
        bi_tuning,
        (QUERIES, KEYS, LABELS, QUEUE, QUEUE_LABELS),
        (
            (QUERIES * 0, KEYS, LABELS, QUEUE, QUEUE_LABELS),
            (QUERIES * 1e-25, KEYS, LABELS, QUEUE, QUEUE_LABELS),
            (QUERIES, KEYS * 0, LABELS, QUEUE * 0, QUEUE_LABELS),
            (QUERIES, QUERIES, LABELS, QUEUE, np.full(6, -1)),
        ),
        batch=False,
    ),
    "bi_tuning/warm": Case(
        partial(losses.bi_tuning, temperature=1.0),
        partial(bi_tuning, temperature=1.0),
        (QUERIES, KEYS, LABELS, QUEUE, QUEUE_LABELS),
        batch=False,
    ),
}
