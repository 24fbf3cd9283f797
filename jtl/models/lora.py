"""Low-rank adaptation (LoRA): Hu et al., ICLR 2022, arXiv 2106.09685.

A transform of models that looks at parameters alone. Beside a kernel ``W`` come two leaves, ``A``
and ``B``, and the model runs on ``W + alpha / rank * A B``. ``B`` starts at 0, so nothing changes
before training; to keep ``W`` as it is, freeze it by partition rules::

    ((".*_lora_[ab]", "train"), ("head/.*", "train"), (".*", "freeze"))

A kernel of a convolution [h, w, inputs, outputs] is a matrix [h * w * inputs, outputs] here.
"""

import math
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from jtl.errors import UserError
from jtl.models.chain import Blocks
from jtl.partition import map_paths, merge, split, walk
from jtl.types import Model, Params, Stats, Train

A, B = "_lora_a", "_lora_b"
"""What the names of the leaves end with: those of ``kernel`` are ``kernel_lora_a`` [inputs, rank]
and ``kernel_lora_b`` [rank, outputs], in the same dictionary."""


def adapted(blocks: Blocks, *, rank: int, alpha: float, on: str) -> Blocks:
    """The blocks with low-rank leaves beside the kernels whose whole paths match a pattern.

    Args:
      blocks: of a classifier.
      rank: of the change, 1 or more; from 1 to 64 in the paper.
      alpha: the change is multiplied by ``alpha / rank``.
      on: a regular expression. Vectors that it matches stay as they are.

    Raises:
      UserError: it matches no kernel.
    """
    made, count = [], 0
    for path, model in blocks:
        shapes, _ = jax.eval_shape(model.init, jax.random.key(0))
        chosen = {
            name
            for name, leaf in walk(shapes)
            if len(leaf.shape) > 1 and re.fullmatch(on, f"{path}/{name}")
        }
        made.append((path, _adapted(model, rank, alpha, chosen) if chosen else model))
        count += len(chosen)
    if not count:
        tops = ", ".join(path for path, _ in blocks)
        raise UserError(f"model.lora.on: {on!r} matches no kernel; the blocks are {tops}")
    return tuple(made)


def merged(params: Params, *, alpha: float) -> Params:
    """The parameters of the plain model: the low-rank leaves are added to their kernels.

    >>> params = {"kernel": jnp.ones((1, 1)), "kernel_lora_a": jnp.full((1, 2), 3.0)}
    >>> merged(params | {"kernel_lora_b": jnp.ones((2, 1))}, alpha=1.0)  # 1 + (3 + 3) / 2
    {'kernel': Array([[4.]], dtype=float32)}
    """

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return merged(value, alpha=alpha)
        if name + A not in params:
            return value
        a, b = params[name + A], params[name + B]
        return value + alpha / a.shape[1] * (a @ b).reshape(value.shape)

    return {name: plain(name, v) for name, v in params.items() if not name.endswith((A, B))}


def without(params: Params) -> Params:
    """The parameters without their low-rank leaves, as they were before training."""
    return split(params, map_paths(lambda path, _: not path.endswith((A, B)), params))[0]


def _adapted(model: Model, rank: int, alpha: float, chosen: set[str]) -> Model:
    def init(key: jax.Array) -> tuple[Params, Stats]:
        params, stats = model.init(key)
        return _extended(params, key, rank, chosen), stats

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        return model.apply(merged(params, alpha=alpha), stats, inputs, train=train, rng=rng)

    return Model(init, apply)


def _extended(params: Params, key: jax.Array, rank: int, chosen: set[str]) -> Params:
    """With the leaves beside the chosen ones: ``A`` normal with variance 1 / inputs, ``B`` 0."""
    extra: Params = {}
    for path, leaf in walk(params):
        if path in chosen:
            *parents, name = path.split("/")
            place = extra
            for parent in parents:
                place = place.setdefault(parent, {})
            inputs, own_key = math.prod(leaf.shape[:-1]), jax.random.fold_in(key, _number(path))
            place[name + A] = jax.random.normal(own_key, (inputs, rank)) / math.sqrt(inputs)
            place[name + B] = jnp.zeros((rank, leaf.shape[-1]))
    return merge(params, extra)


def _number(path: str) -> int:
    return zlib.crc32((path + A).encode())
