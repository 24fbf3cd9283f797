"""Singular values that losses can be mapped over."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl import losses
from jtl.losses._spectrum import singular_values

MATRICES = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("matrix", [MATRICES[0], MATRICES[0].T])
def test_values_and_gradients_are_the_decompositions(matrix: np.ndarray) -> None:
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    given = jnp.asarray(matrix)
    found, gradients = singular_values(given), jax.jacobian(singular_values)(given)
    np.testing.assert_allclose(found, values, rtol=1e-5)
    np.testing.assert_allclose(gradients, np.einsum("ri,ic->irc", left, right), atol=1e-5)


@pytest.mark.parametrize("matrix", [MATRICES[0], MATRICES[0].T])
def test_second_derivatives_are_those_of_the_decomposition(matrix: np.ndarray) -> None:
    def curved(values: jax.Array) -> jax.Array:
        return (jnp.sin(values) * jnp.arange(1.0, 5.0)).sum()

    def plain(matrix: jax.Array) -> jax.Array:
        return curved(jnp.linalg.svd(matrix, full_matrices=False)[1])

    given = jnp.asarray(matrix)
    found = jax.hessian(lambda matrix: curved(singular_values(matrix)))(given)
    wanted = jax.hessian(plain)(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


SPECTRAL = [
    losses.batch_spectral_penalty,
    losses.batch_spectral_shrinkage,
    losses.batch_nuclear_norm,
]


@pytest.mark.parametrize("loss", SPECTRAL)
def test_a_penalty_on_the_gradient_has_one_itself(loss: Callable[..., jax.Array]) -> None:
    found = jax.grad(lambda matrix: jnp.square(jax.grad(loss)(matrix)).sum())
    mapped = jax.vmap(found)(jnp.asarray(MATRICES))
    for got, matrix in zip(mapped, MATRICES, strict=True):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, found(jnp.asarray(matrix)), rtol=1e-4, atol=1e-5)


def _total(matrix: jax.Array) -> jax.Array:
    return singular_values(matrix).sum()


def test_mapped_over_matrices_they_are_those_of_each() -> None:
    found = jax.vmap(jax.value_and_grad(_total))(MATRICES)
    each = [jax.value_and_grad(_total)(jnp.asarray(matrix)) for matrix in MATRICES]
    for got, wanted in zip(found, zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", SPECTRAL)
def test_no_batch_of_matrices_is_decomposed_at_once(loss: Callable[..., jax.Array]) -> None:
    """Two such batches at once can wait for each other for ever, on a CPU of few cores."""
    decomposed = re.compile(r"custom_call @lapack_sgesdd_ffi\(.*?\) .*?: \(tensor<(\w+)xf32>")
    mapped = jax.jit(jax.vmap(jax.grad(loss))).lower(MATRICES).as_text()
    assert decomposed.findall(mapped) == ["6x4"]
    assert decomposed.findall(jax.jit(jnp.linalg.svd).lower(MATRICES).as_text()) == ["3x6x4"]
