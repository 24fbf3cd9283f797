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
