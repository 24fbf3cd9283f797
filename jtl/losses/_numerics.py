"""What the losses share: float32 inputs of a stated rank, masks, the global batch, safe powers."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from jtl.errors import UserError
from jtl.types import Array

AxisName = str | tuple[str, ...] | None
"""The mapped axis (of ``pmap``, ``shard_map`` or ``vmap``) that the batch is spread over."""


def as_matrix(name: str, values: Array, *, rows: int = 0) -> Float[jax.Array, "rows columns"]:
    """``values`` in float32; a UserError unless it is a matrix of at least ``rows`` rows.

    Shapes are checked even where jaxtyping is off: a vector or a [B, 1] would broadcast silently.
    """
    if values.ndim != 2:
        raise UserError(f"{name} has shape {values.shape}, expected two axes [examples, columns]")
    if values.shape[0] < rows:
        raise UserError(f"{name} has {values.shape[0]} rows, needs at least {rows}")
    return jnp.asarray(values, jnp.float32)


def as_vector(name: str, values: Array, *, rows: int = 0) -> Float[jax.Array, " rows"]:
    """``values`` in float32; a UserError unless it is a vector of at least ``rows`` entries."""
    if values.ndim != 1:
        raise UserError(f"{name} has shape {values.shape}, expected one axis [examples]")
    if values.shape[0] < rows:
        raise UserError(f"{name} has {values.shape[0]} entries, needs at least {rows}")
    return jnp.asarray(values, jnp.float32)


def as_labels(name: str, labels: Array, rows: Array) -> Integer[jax.Array, " rows"]:
    """``labels`` in int32; a UserError unless they are one integer for each of the rows."""
    if labels.shape != rows.shape[:1]:
        raise UserError(f"{name}: labels of shape {labels.shape} for {rows.shape[0]} examples")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"{name}: labels are {labels.dtype}, must be integers")
    return jnp.asarray(labels, jnp.int32)


def require_same_shape(name: str, first: Array, second: Array) -> None:
    """A UserError if two arrays that belong together differ in shape."""
    if first.shape != second.shape:
        raise UserError(f"{name} have shapes {first.shape} and {second.shape}, expected the same")


def require_same_columns(name: str, first: Array, second: Array) -> None:
    """A UserError if two matrices, of any number of rows, differ in width."""
    if first.shape[1] != second.shape[1]:
        raise UserError(f"{name} have widths {first.shape[1]} and {second.shape[1]}, must be equal")


def require_positive(name: str, value: float | Array) -> None:
    """A UserError if a number known while tracing is not positive."""
    if isinstance(value, int | float) and not value > 0:
        raise UserError(f"{name} is {value}, must be greater than 0")


def row_mask(name: str, values: Array, where: Array | None) -> Bool[jax.Array, " rows"]:
    """``where`` as a mask over the rows of ``values``; all of them if it is None.

    Raises:
      UserError: not one boolean for each row.
    """
    if where is None:
        return jnp.ones(values.shape[0], bool)
    if where.shape != values.shape[:1] or where.dtype != bool:
        raise UserError(
            f"{name}: where is {where.dtype}{list(where.shape)}, "
            f"must be one boolean for each of {values.shape[0]} rows"
        )
    return jnp.asarray(where)


def masked_batch(
    name: str, values: Array, where: Array | None, axis_name: AxisName
) -> tuple[Float[jax.Array, "rows columns"], Bool[jax.Array, " rows"]]:
    """The rows of all devices in float32 and which of them count; the others are set to 0.

    So nothing that a padded row holds, NaN included, reaches a value or a gradient.

    Raises:
      UserError: not a matrix, no row, or a mask that does not fit.
    """
    rows = as_matrix(name, values, rows=1)
    mask = row_mask(name, rows, where)
    rows = jnp.where(mask[:, None], rows, 0.0)
    return global_batch(rows, axis_name), global_batch(mask, axis_name)


def masked_mean(
    values: Float[jax.Array, "rows ..."], mask: Bool[jax.Array, " rows"]
) -> Float[jax.Array, "..."]:
    """The mean over the rows that count; 0 if none does."""
    counts = jnp.expand_dims(mask, range(1, values.ndim))
    total = jnp.sum(jnp.where(counts, values, 0.0), axis=0)
    return total / jnp.maximum(mask.sum(dtype=jnp.float32), 1.0)


def global_batch(values: jax.Array, axis_name: AxisName) -> jax.Array:
    """The rows of all devices, in order; ``values`` itself without an axis name."""
    if axis_name is None:
        return values
    return jax.lax.all_gather(values, axis_name, tiled=True)


def x_log_x(x: jax.Array) -> jax.Array:
    """``x log x``, with value and gradient 0 at 0 (where autodiff would give NaN)."""
    positive = x > 0
    return jnp.where(positive, x * jnp.log(jnp.where(positive, x, 1.0)), 0.0)


def row_norms(rows: Float[jax.Array, "rows columns"]) -> Float[jax.Array, " rows"]:
    """Euclidean norm of each row; the gradient of a zero row's is 0 (where autodiff gives NaN)."""
    scale, norms = _scaled_norms(rows)
    return jnp.where(scale == 0, 0.0, scale * norms)


def unit_rows(rows: Float[jax.Array, "rows columns"]) -> Float[jax.Array, "rows columns"]:
    """Each row divided by its norm; a zero row stays 0."""
    scale, norms = _scaled_norms(rows)
    rows = rows / jnp.where(scale == 0, 1.0, scale)[:, None]
    return jnp.where(scale[:, None] == 0, 0.0, rows / norms[:, None])


def _scaled_norms(
    rows: Float[jax.Array, "rows columns"],
) -> tuple[Float[jax.Array, " rows"], Float[jax.Array, " rows"]]:
    """The largest entry of each row, and the norm of the row divided by it.

    So no square overflows or vanishes. Of a zero row they are 0 and 1.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), axis=1))
    zero = largest < jnp.finfo(jnp.float32).tiny  # not `largest > 0`, which would hide NaN
    squares = jnp.sum((rows / jnp.where(zero, 1.0, largest)[:, None]) ** 2, axis=1)
    return jnp.where(zero, 0.0, largest), jnp.sqrt(jnp.where(zero, 1.0, squares))
