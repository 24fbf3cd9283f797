"""The batch in parts: the activations of one part at a time, the numbers of the whole.

Each part passes through the model, and of its forward pass the outputs alone are kept. The
objective sees those of the whole batch, so a discrepancy between batches is what it is without
parts.
The backward pass computes the forward pass of each part again, and sums the parts' gradients
(GradCache, Gao et al., 2021, arXiv 2101.06983). It costs one more forward pass.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jtl import partition
from jtl.errors import UserError
from jtl.training import execution
from jtl.types import Model, Params, Stats, Train


def in_parts(model: Model, parts: int) -> Model:
    """The model, on so many parts of its inputs one after another.

    For training without batch norms that move, which would be normalised by their part; see
    :func:`check`. Dropout draws for each part apart.

    Args:
      model: what it returns has examples along its first axis, as its inputs have.
      parts: how many; 1 is the model itself.
    """
    if parts == 1:
        return model

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        # Every device's examples are cut alike, so none has to move to another.
        cut = jnp.moveaxis(inputs.reshape(-1, parts, *inputs.shape[1:]), 1, 0)

        @jax.checkpoint
        def run(params: Params, part: Any, number: jax.Array) -> Any:
            own = None if rng is None else jax.random.fold_in(rng, number)
            return model.apply(params, stats, part, train=train, rng=own)[0]

        given = cut, jnp.arange(parts)
        slow = execution.loop_is_slow(jax.make_jaxpr(run)(params, *(rows[0] for rows in given)))
        _, outputs = jax.lax.scan(
            lambda carry, one: (carry, run(params, *one)),
            None,
            given,
            unroll=parts if slow else 1,
        )
        together = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), outputs
        )
        return together, stats

    return Model(model.init, apply)


def check(
    parts: int, batch_norm: str, rules: partition.Rules, params: Params, stats: Stats
) -> None:
    """Whether the numbers of a batch in parts are those of the whole.

    Args:
      parts: how many.
      batch_norm: out of :data:`jtl.registry.BATCH_NORM`.
      rules: which parameters train.
      params: of the whole model and of the method's networks, or their shapes.
      stats: of its batch norms.

    Raises:
      UserError: they are not.
    """
    if parts == 1 or batch_norm == "frozen":
        return
    moving = partition.moving_norms(partition.label(params, rules), stats)
    if moving:
        raise UserError(
            f"accumulate: the batch norm {moving[0]} trains, and would see a part of the batch "
            "alone; set batch_norm=frozen, or accumulate to 1"
        )
