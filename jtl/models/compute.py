"""How the blocks of a backbone are computed: in which precision, and with what memory.

Transforms of models that know nothing of what is inside, like :mod:`jtl.models.lora`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks
from jtl.types import Model, Params, Stats, Train


def computed(found: Backbone, *, bfloat16: bool, remat: bool) -> Backbone:
    """The backbone with other ways to compute its blocks.

    Args:
      found: the backbone.
      bfloat16: whether each block computes in bfloat16. Parameters, statistics, gradients and what
        goes from block to block, the features too, stay float32.
      remat: whether the backward pass of a block computes its forward pass again, so that only what
        goes from block to block is kept for it (Chen et al., 2016, arXiv 1604.06174). On a CPU, XLA
        must also be told to schedule for memory, see docs/backbones.md.
    """

    def blocks(*, axis_name: str | None = None) -> Blocks:
        made = found.blocks(axis_name=axis_name)
        if remat:
            made = tuple((path, rematerialised(model)) for path, model in made)
        if bfloat16:
            made = tuple((path, in_bfloat16(model)) for path, model in made)
        return made

    # What frozen blocks give is kept under this name.
    name = f"{found.name} in bfloat16" if bfloat16 else found.name
    return replace(found, name=name, blocks=blocks) if bfloat16 or remat else found


def in_bfloat16(model: Model) -> Model:
    """A model that computes in bfloat16, on float32 parameters and statistics, to float32."""

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        # Statistics stay as they are: in bfloat16 a running mean does not move by small steps.
        rounded = _cast((params, inputs), jnp.bfloat16)
        outputs, stats = model.apply(rounded[0], stats, rounded[1], train=train, rng=rng)
        return _cast(outputs, jnp.float32), stats

    return Model(model.init, apply)


def rematerialised(model: Model) -> Model:
    """A model that keeps its inputs alone for its backward pass."""

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        run: Callable[..., tuple[Any, Stats]] = jax.checkpoint(
            lambda *given: model.apply(*given[:3], train=train, rng=given[3])
        )
        return run(params, stats, inputs, rng)

    return Model(model.init, apply)


def _cast(tree: Any, dtype: Any) -> Any:
    """The floating leaves of a tree in another type."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
