"""Optimizers whose learning rate and weight decay are arrays, and groups of parameters.

An :data:`Optimizer` is built inside the step from the hyper-parameters, so that one compiled
program serves every learning rate and a study can be vmapped over them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import Float

from jtl import partition, schedules
from jtl.types import Array, Hyperparameters, Params

Optimizer = Callable[[Hyperparameters, Float[Array, ""], float], optax.GradientTransformation]
"""``optimizer(hyper, progress, factor)``: reads ``learning_rate`` and ``weight_decay`` from
``hyper``; ``factor`` scales the learning rate of one group."""

Schedule = Callable[[Float[Array, ""]], Float[Array, ""]]


def sgd(schedule: Schedule, *, momentum: float = 0.9) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum and weight decay on matrices."""

    def build(
        hyper: Hyperparameters, progress: Array, factor: float
    ) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(hyper["weight_decay"], mask=_matrices),
            optax.sgd(
                hyper["learning_rate"] * schedule(progress) * factor,
                momentum=momentum,
                nesterov=True,
            ),
        )

    return build


def adamw(schedule: Schedule, *, momentum: float = 0.9) -> Optimizer:
    """Adam with decoupled weight decay on matrices (Loshchilov and Hutter, arXiv 1711.05101)."""

    def build(
        hyper: Hyperparameters, progress: Array, factor: float
    ) -> optax.GradientTransformation:
        return optax.adamw(
            hyper["learning_rate"] * schedule(progress) * factor,
            b1=momentum,
            weight_decay=hyper["weight_decay"],
            mask=_matrices,
        )

    return build


def schedule(name: str, *, warmup: float = 0.0) -> Schedule:
    """The factor of the learning rate over progress: "constant", "cosine" or "inverse"."""
    decay = {
        "constant": lambda progress: 1.0,
        "cosine": schedules.cosine_decay,
        "inverse": schedules.inverse_decay,
    }[name]
    if not warmup:
        return decay
    return lambda progress: decay(progress) * schedules.warm_up(progress, warmup)


def grouped(
    optimizer: Optimizer,
    hyper: Hyperparameters,
    progress: Float[Array, ""],
    labels: Params,
    factors: Mapping[str, float],
    *,
    moving: Callable[[str], bool] = lambda name: True,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """One transformation over labelled groups, through ``optax.partition``.

    Args:
      labels: a label for every trainable leaf.
      factors: the learning-rate factor of every label.
      moving: the labels that this update moves. The others keep their optimizer state untouched,
        so that alternating phases can share one.
      clip: bound on the norm of the gradient of everything that moves; 0 is none.
    """
    groups: dict[str, optax.GradientTransformation] = {}
    for name in sorted({name for _, name in partition.walk(labels)}):
        transformation = optimizer(hyper, progress, factors[name])
        groups[name] = transformation if moving(name) else _hold(transformation)
    parts = optax.partition(groups, labels)
    return optax.chain(optax.clip_by_global_norm(clip), parts) if clip else parts


def _hold(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same state, never changed; no update."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jax.numpy.zeros_like, updates), state

    return optax.GradientTransformation(transformation.init, update)


def _matrices(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
