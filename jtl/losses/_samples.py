"""What losses of two samples share: their masks, their distances, the rows that count first."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jtl.losses._numerics import AxisName, masked_batch, require_same_columns
from jtl.types import Array


class Samples(NamedTuple):
    """Two samples of the global batch in float32; rows that do not count are 0."""

    source: Float[jax.Array, "source features"]
    target: Float[jax.Array, "target features"]
    of_source: Bool[jax.Array, " source"]
    of_target: Bool[jax.Array, " target"]
    """Which rows count."""

    @property
    def counts(self) -> tuple[Int[jax.Array, ""], Int[jax.Array, ""]]:
        """How many rows of each sample count."""
        return self.of_source.sum(dtype=jnp.int32), self.of_target.sum(dtype=jnp.int32)

    def have(self, rows: int) -> Bool[jax.Array, ""]:
        """Whether both samples have at least that many rows that count."""
        of_source, of_target = self.counts
        return (of_source >= rows) & (of_target >= rows)


def two_samples(
    name: str,
    source: Array,
    target: Array,
    source_where: Array | None,
    target_where: Array | None,
    axis_name: AxisName,
) -> Samples:
    """Both samples with what counts of them.

    Raises:
      UserError: not two matrices of equal width, no row, or a mask that does not fit.
    """
    source, of_source = masked_batch(f"{name}: source", source, source_where, axis_name)
    target, of_target = masked_batch(f"{name}: target", target, target_where, axis_name)
    require_same_columns(f"{name}: source and target", source, target)
    return Samples(source, target, of_source, of_target)


def counted_first(mask: Bool[jax.Array, " rows"]) -> Int[jax.Array, " rows"]:
    """The order that puts the rows that count before the others and changes nothing else."""
    return jnp.argsort(~mask, stable=True)


def squared_distances(
    rows: Float[jax.Array, "rows features"],
    others: Float[jax.Array, "others features"],
    origin: Float[jax.Array, " features"],
) -> Float[jax.Array, "rows others"]:
    """Between all rows of two matrices, from one product: never a [rows, others, features] array.

    Far from the origin ``|x|^2 + |y|^2 - 2xy`` loses all digits and reaches below 0, so a point
    near the rows is subtracted first (which changes no distance, hence no gradient either) and the
    result clamped.
    """
    origin = jax.lax.stop_gradient(origin)[None, :]
    rows, others = rows - origin, others - origin
    # Accelerators multiply float32 matrices in lower precision unless told otherwise.
    products = jnp.matmul(rows, others.T, precision="highest")
    squares = jnp.sum(rows**2, axis=1)[:, None] + jnp.sum(others**2, axis=1)[None, :]
    return jnp.maximum(squares - 2 * products, 0.0)
