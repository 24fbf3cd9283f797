"""What the losses share: float32 inputs of a stated rank, the global batch, x log x at zero."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

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


def global_batch(values: jax.Array, axis_name: AxisName) -> jax.Array:
    """The rows of all devices, in order; ``values`` itself without an axis name."""
    if axis_name is None:
        return values
    return jax.lax.all_gather(values, axis_name, tiled=True)


def x_log_x(x: jax.Array) -> jax.Array:
    """``x log x``, with value and gradient 0 at 0 (where autodiff would give NaN)."""
    positive = x > 0
    return jnp.where(positive, x * jnp.log(jnp.where(positive, x, 1.0)), 0.0)
