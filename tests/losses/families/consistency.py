"""Oracles and cases of the losses that compare predictions on two forms of an input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from families.classification import distillation
from families.common import LOGITS, ODD_PAIRS, OTHER_LOGITS, WHERE, Case, Fixed, normal, softmax
from jtl import losses
from jtl.types import Array


def consistency(weak: np.ndarray, strong: np.ndarray, threshold: float, at: Fixed = None) -> float:
    sure = softmax(weak if at is None else at[0])
    total = 0.0
    for p, q in zip(sure, softmax(strong), strict=True):
        if p.max() >= threshold:
            total -= np.log(q[p.argmax()])
    return total / len(strong)


KEY = jax.random.key(7)
FIRST, SECOND = normal(4, 5, seed=5), normal(5, 3, seed=6)
INPUTS = normal(8, 4, seed=7)


def network(inputs: Array) -> jax.Array:
    return jnp.tanh(inputs @ jnp.float32(FIRST)) @ jnp.float32(SECOND)


def network_in_float64(inputs: np.ndarray) -> np.ndarray:
    return np.tanh(inputs @ FIRST) @ SECOND


def directions(inputs: np.ndarray, xi: float, iterations: int) -> np.ndarray:
    """The power iteration, with the slope of the divergence by differences."""
    clean = network_in_float64(inputs)
    rows = [np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), 4)) for i in range(8)]
    unit = np.array(rows, np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for _ in range(iterations):
        slope = np.zeros_like(unit)
        for column in range(inputs.shape[1]):
            step = np.zeros(inputs.shape[1])
            step[column] = 1e-6
            ahead, behind = (
                distillation(network_in_float64(inputs + xi * unit + move), clean, 1.0)
                for move in (step, -step)
            )
            slope[:, column] = (ahead - behind) / 2e-6
        unit = slope / np.linalg.norm(slope, axis=1, keepdims=True)
    return unit


def virtual_adversarial(
    inputs: np.ndarray,
    epsilon: float = 0.5,
    xi: float = 1e-2,
    iterations: int = 1,
    at: Fixed = None,
) -> float:
    fixed = inputs if at is None else at[0]
    moved = network_in_float64(inputs + epsilon * directions(fixed, xi, iterations))
    return distillation(moved, network_in_float64(fixed), 1.0).mean()


def of_network(inputs: Array, epsilon: float = 0.5, **options: object) -> Array:
    return losses.virtual_adversarial(network, inputs, KEY, epsilon=epsilon, **options)


ODD_INPUTS = (
    (np.zeros((8, 4)),),
    (np.full((8, 4), 1e4),),  # saturated: the slope is exactly 0
    (np.tile(INPUTS[:1], (8, 1)),),
)

CASES = {
    "consistency": Case(
        partial(losses.consistency, threshold=0.6),
        partial(consistency, threshold=0.6),
        (LOGITS, OTHER_LOGITS),
        ODD_PAIRS,
        masks={"where": (0, 1)},
    ),
    "virtual_adversarial": Case(
        partial(of_network, xi=0.1),  # far enough for float32 to give the oracle's last digits
        partial(virtual_adversarial, xi=0.1),
        (INPUTS,),
        ODD_INPUTS,
        masks=WHERE,
    ),
    "virtual_adversarial/three": Case(
        partial(of_network, epsilon=2.0, xi=1.0, iterations=3),  # as above: so far a move shows
        partial(virtual_adversarial, epsilon=2.0, xi=1.0, iterations=3),  # what the start was
        (INPUTS,),
        ODD_INPUTS,
        masks=WHERE,
    ),
}
