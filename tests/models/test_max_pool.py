"""The quick forms of max-pooling against XLA's own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jtl.models.max_pool import max_pool, overlapping_max_pool

Pool = Callable[[jax.Array], jax.Array]


def of_two(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def of_three(x: jax.Array) -> jax.Array:
    edges = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)


PAIRS = [(max_pool, of_two), (overlapping_max_pool, of_three)]


def with_gradient(pool: Pool, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The output, and the gradient for a fixed upstream gradient."""

    @jax.jit
    def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        output, back = jax.vjp(pool, x)
        return output, back(jnp.cos(jnp.arange(output.size)).reshape(output.shape))[0]

    return run(x)


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (2, 7, 5, 1), (1, 2, 3, 4)])
@pytest.mark.parametrize(("pool", "reference"), PAIRS)
def test_it_equals_xlas_and_gives_the_gradient_to_the_first_of_equals(
    pool: Pool, reference: Pool, shape: tuple[int, ...]
) -> None:
    # Few distinct values, so that most windows hold ties.
    x = jnp.round(jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32))
    found, expected = with_gradient(pool, x), with_gradient(reference, x)
    np.testing.assert_array_equal(found[0], expected[0])
    # Where windows overlap, a place sums several gradients, in another order.
    exact = pool is max_pool
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("pool", [max_pool, overlapping_max_pool])
def test_on_cpu_nothing_is_scattered(pool: Pool) -> None:
    pooled = jax.jit(jax.grad(lambda x: pool(x).sum()))
    images = jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32)
    text = pooled.trace(images).lower(lowering_platforms=("cpu",)).as_text()
    assert "select_and_scatter" not in text
    assert "reduce_window" not in text
