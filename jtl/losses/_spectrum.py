"""Singular values that losses can be mapped over."""

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Float


@jax.custom_jvp
def singular_values(
    matrix: Float[jax.Array, "rows columns"],
) -> Float[jax.Array, " values"]:
    """The singular values, from the largest; their derivative is u v^T, finite for equal ones too.

    Under ``vmap`` one matrix is decomposed after another. On a CPU, jaxlib hands the matrices of a
    batch to the pool of threads that the program itself runs on, and waits there: two such batches
    at once on two cores (BSP's two domains, mapped over seeds) wait for each other for ever. Nor
    is a batch quicker there.
    """
    return _decomposed(matrix)[1]


@jax.custom_jvp
@sequential_vmap
def _decomposed(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    return left, values, right


@singular_values.defjvp
def _derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    left, values, right = _decomposed(*primals)
    return values, jnp.einsum("ri,rc,ic->i", left, tangents[0], right)


@_decomposed.defjvp
def _derivatives(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """For second derivatives; of vectors whose values are equal or 0, which have none, it is 0."""
    left, values, right = _decomposed(*primals)
    (moved,) = tangents
    turned = left.T @ moved @ right.T
    rows, columns = values[:, None], values[None, :]
    mixed = _inverse(jnp.square(columns) - jnp.square(rows))
    of_left = left @ (mixed * (turned * columns + rows * turned.T))
    of_left += (moved @ right.T - left @ turned) * _inverse(columns)
    of_right = (mixed * (rows * turned + turned.T * columns)).T @ right
    of_right += _inverse(rows) * (left.T @ moved - turned @ right)
    return (left, values, right), (of_left, jnp.diagonal(turned), of_right)


def _inverse(x: jax.Array) -> jax.Array:
    """1 / x; of 0, 0."""
    return jnp.where(x == 0, 0, 1 / jnp.where(x == 0, 1, x))
