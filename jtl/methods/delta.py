"""DELTA: fine-tuning that keeps feature maps. Li et al., ICLR 2019, arXiv 1901.09229."""

import math
from collections.abc import Mapping

import jax
import numpy as np

from jtl import attention as channels
from jtl import losses
from jtl.errors import UserError
from jtl.types import Array, Method, Params, Phase, Pretrained, Scope, Source, Target, Terms


def objective(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
    """Task loss, how far the backbone's maps have moved, and the size of what is new."""
    del target
    start = scope.forward(source.inputs, scope.memory["start"])
    maps = {name: value for name, value in start.layers.items() if name.startswith("backbone/")}
    if not maps:
        raise UserError(
            "method.name: delta compares the backbone's blocks, and none is trained; label more of "
            "backbone/.* 'train' in partition"
        )
    # A mean over positions; a channel that weighs as much as others counts as one number.
    weights = {
        name: _weights(scope, name, value.shape[-1]) / math.prod(value.shape[1:-1])
        for name, value in maps.items()
    }
    new = {name: block for name, block in scope.params.items() if name != "backbone"}
    task = losses.cross_entropy(source.logits, source.labels).mean()
    moved = losses.delta(source.layers, maps, weights=weights)
    size = losses.l2_sp(new, {}, alpha=0.0, beta=1.0)
    value = task + scope.hyper["strength"] * moved + scope.hyper["beta"] * size
    return value, {"task": task, "moved": moved, "size": size}


def _weights(scope: Scope, block: str, count: int) -> Array:
    return count * scope.hyper.get(block, np.full(count, 1 / count, np.float32))


def remember(params: Params, key: jax.Array) -> Params:
    """The pretrained values of all that trains."""
    del key
    return {"start": params}


def measure(pretrained: Pretrained, labels: np.ndarray) -> Mapping[str, Array]:
    """The weight of each channel, by block."""
    return channels.channel_weights(pretrained, labels)


def delta(*, attention: bool = True) -> Method:
    """Lets parameters go where they like as long as the blocks of the backbone return the same.

    All parameters minimise the task loss, the squared distance between what each block of the
    backbone returns and what it returned before training, and half the squared norm of everything
    new. Hyper-parameters: ``strength``, the weight of the distance, 0.32, and ``beta``, that of the
    norm, 0.01. The authors' code has 0.01 for both, the distance halved and summed over 64 images.
    The penalties take the place of weight decay: set ``optimizer.weight_decay`` to 0.

    Deviations: every block that is trained is compared, where the authors name four layers. The
    pretrained model is run as the trained one is: batch norm normalises it by the batch unless
    ``batch_norm`` is "frozen".

    Args:
      attention: whether channels weigh by how much the task needs them
        (:func:`jtl.attention.channel_weights`); else all the same.
    """
    return Method(
        (Phase(objective, reads=("source",)),),
        remember=remember,
        hyper={"strength": 0.32, "beta": 0.01},
        measure=measure if attention else None,
    )
