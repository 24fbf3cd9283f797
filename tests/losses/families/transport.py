"""Oracles and cases of the Wasserstein distances and of optimal transport."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from families.adversarial import DOMAIN_LOGITS, MORE_LOGITS, ODD_DOMAIN_LOGITS, twice
from families.common import (
    BOTH,
    INF,
    LABELS,
    ODD_FEATURES,
    ODD_LOGITS,
    SOURCE,
    TARGET,
    Case,
    Fixed,
    normal,
    softmax,
)
from jtl import losses
from jtl.types import Array

KEY = jax.random.key(3)


def wasserstein_critic(source: np.ndarray, target: np.ndarray, at: Fixed = None) -> float:
    return sum(source) / len(source) - sum(target) / len(target)


FIRST, SECOND = normal(3, 4, seed=20), normal(4, seed=21)


def penalty_of(source: Array, target: Array, first: Array, second: Array, **options: str) -> Array:
    def critic(points: jax.Array) -> jax.Array:
        return jnp.tanh(points @ jnp.asarray(first, jnp.float32)) @ jnp.asarray(second, jnp.float32)

    return losses.gradient_penalty(critic, source, target, KEY, **options)


def gradient_penalty(
    source: np.ndarray,
    target: np.ndarray,
    first: np.ndarray = FIRST,
    second: np.ndarray = SECOND,
    at: Fixed = None,
) -> float:
    source, target = (source, target) if at is None else at[:2]
    points = [*source, *target]
    for i in range(max(len(source), len(target))):
        share = float(jax.random.uniform(jax.random.fold_in(KEY, i)))
        s, t = source[i % len(source)], target[i % len(target)]
        points.append(share * s + (1 - share) * t)
    penalties = []
    for point in points:
        slope = first @ ((1 - np.tanh(point @ first) ** 2) * second)
        penalties.append((np.sqrt(slope @ slope) - 1) ** 2)
    return np.mean(penalties)


def sliced_wasserstein(
    source: np.ndarray, target: np.ndarray, projections: int, at: Fixed = None
) -> float:
    """Rows repeated until both samples have as many, then sorted along each direction."""
    directions = np.array(jax.random.normal(KEY, (projections, source.shape[1])), np.float64)
    rows = np.lcm(len(source), len(target))
    distances = []
    for u in directions:
        s = np.sort(np.repeat(source @ u, rows // len(source)))
        t = np.sort(np.repeat(target @ u, rows // len(target)))
        distances.append(np.mean((s - t) ** 2) / (u @ u))
    return np.mean(distances)


def sliced(source: Array, target: Array, **options: str) -> Array:
    return losses.sliced_wasserstein(source, target, KEY, projections=6, **options)


def sinkhorn_plan(
    cost: np.ndarray, epsilon: float, iterations: int = 100, at: Fixed = None
) -> np.ndarray:
    """Cuturi's iterations on the kernel itself, then Altschuler's rounding."""
    a, b = np.full(len(cost), 1 / len(cost)), np.full(cost.shape[1], 1 / cost.shape[1])
    kernel = np.exp(-cost / epsilon)
    v = np.ones(len(b))
    for _ in range(iterations):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    u = a / (kernel @ v)
    plan = u[:, None] * kernel * v[None, :]
    plan = plan * np.minimum(a / plan.sum(axis=1), 1)[:, None]
    plan = plan * np.minimum(b / plan.sum(axis=0), 1)[None, :]
    of_rows, of_columns = a - plan.sum(axis=1), b - plan.sum(axis=0)
    rest = of_rows.sum()
    return plan + np.outer(of_rows, of_columns) / rest if rest > 1e-15 else plan


def joint_transport(
    source: np.ndarray,
    labels: np.ndarray,
    target: np.ndarray,
    logits: np.ndarray,
    alpha: float,
    lambda_t: float,
    epsilon: float,
    iterations: int,
    at: Fixed = None,
) -> float:
    def cost(source: np.ndarray, target: np.ndarray, logits: np.ndarray) -> np.ndarray:
        costs = np.zeros((len(source), len(target)))
        for i, j in np.ndindex(*costs.shape):
            distance = sum((source[i] - target[j]) ** 2)
            costs[i, j] = alpha * distance - lambda_t * np.log(softmax(logits[j])[labels[i]])
        return costs

    fixed = cost(*((source, target, logits) if at is None else (at[0], at[2], at[3])))
    plan = sinkhorn_plan(fixed / fixed.mean(), epsilon, iterations)
    return (plan * cost(source, target, logits)).sum()


COST = normal(6, 4, seed=22) ** 2
ODD_COSTS = (
    np.zeros((6, 4)),
    np.full((6, 4), 1e6),
    np.full((6, 4), -3.0),
    np.full((6, 4), INF),
    np.where(np.arange(6)[:, None] == 2, INF, COST),
    np.where(COST > 1, INF, COST),
    COST * 1e4,
    COST * 1e-20,
)
TRANSPORT = {"alpha": 0.5, "lambda_t": 1.5, "epsilon": 0.3, "iterations": 40}

CASES = {
    "wasserstein_critic": Case(
        losses.wasserstein_critic, wasserstein_critic, DOMAIN_LOGITS, ODD_DOMAIN_LOGITS, masks=BOTH
    ),
    "gradient_penalty": Case(
        partial(penalty_of, first=FIRST, second=SECOND),
        gradient_penalty,
        (SOURCE, TARGET),
        ODD_FEATURES,
        masks=BOTH,
    ),
    "gradient_penalty/critic": Case(
        penalty_of,
        gradient_penalty,
        (SOURCE, TARGET, FIRST, SECOND),
        ((SOURCE, TARGET, np.zeros((3, 4)), SECOND), (SOURCE, TARGET, FIRST, np.zeros(4))),
        batch=False,
    ),
    "sliced_wasserstein": Case(
        sliced,
        partial(sliced_wasserstein, projections=6),
        (SOURCE, TARGET),
        ODD_FEATURES,
        masks=BOTH,
    ),
    "sinkhorn_plan": Case(
        partial(losses.sinkhorn_plan, epsilon=0.7),
        partial(sinkhorn_plan, epsilon=0.7),
        (COST,),
        tuple((cost,) for cost in ODD_COSTS),
        batch=False,
    ),
    "joint_transport": Case(
        partial(losses.joint_transport, **TRANSPORT),
        partial(joint_transport, **TRANSPORT),
        (SOURCE, LABELS, TARGET, MORE_LOGITS),
        (
            *((source, LABELS, target, MORE_LOGITS) for source, target in ODD_FEATURES),
            *((SOURCE, LABELS, TARGET, twice(odd)) for odd in ODD_LOGITS),
            (np.zeros((8, 3)), LABELS, np.zeros((16, 3)), np.eye(3)[twice(LABELS)] * 1e3),
        ),
        masks={"source_where": (0, 1), "target_where": (2, 3)},
    ),
}
