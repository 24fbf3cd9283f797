"""Attention head by head, against the formula in double precision and against jax's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jtl.models.dot_product import attend

EXAMPLES, TOKENS, READ, HEADS, WIDTH = 2, 5, 4, 3, 2
THERE = np.array([[True, True, True, False], [True, False, True, False]])
BIAS = np.random.default_rng(5).normal(size=(1, HEADS, TOKENS, READ))


def _drawn() -> tuple[np.ndarray, ...]:
    draw = np.random.default_rng(0)
    read = (EXAMPLES, READ, HEADS, WIDTH)
    return tuple(
        draw.normal(size=shape) for shape in ((EXAMPLES, TOKENS, HEADS, WIDTH), read, read)
    )


def _naive(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    there: np.ndarray | None,
    bias: np.ndarray | None,
) -> np.ndarray:
    means = np.zeros_like(query)
    for example, token, head in np.ndindex(*query.shape[:3]):
        logits = key[example, :, head] @ query[example, token, head] / np.sqrt(WIDTH)
        if bias is not None:
            logits = logits + bias[0, head, token]
        counted = np.full(READ, True) if there is None else there[example]
        weights = softmax(logits[counted])
        means[example, token, head] = weights @ value[example, counted, head]
    return means


@pytest.mark.parametrize("there", [None, THERE])
@pytest.mark.parametrize("bias", [None, BIAS])
def test_is_the_formula(there: Any, bias: Any) -> None:
    given = _drawn()
    found = jax.jit(attend)(*map(jnp.float32, given), there, bias)
    np.testing.assert_allclose(found, _naive(*given, there, bias), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_jax() -> None:
    given = tuple(map(jnp.float32, _drawn()))
    upstream = jnp.cos(jnp.arange(given[0].size)).reshape(given[0].shape)
    bias = jnp.float32(BIAS)

    def native(query: Any, key: Any, value: Any, bias: Any) -> jax.Array:
        mask = jnp.asarray(THERE)[:, None, None]
        return jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask)

    def ours(query: Any, key: Any, value: Any, bias: Any) -> jax.Array:
        return attend(query, key, value, THERE, bias)

    wanted, found = (
        jax.jit(lambda *given, run=run: jax.vjp(run, *given)[1](upstream))(*given, bias)
        for run in (native, ours)
    )
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_weights_of_bfloat16_are_normalised_in_float32() -> None:
    given = tuple(map(jnp.bfloat16, _drawn()))
    found = jax.jit(attend)(*given)
    assert found.dtype == jnp.bfloat16
    exact = _naive(*(np.asarray(part, np.float64) for part in given), None, None)
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, atol=0.02)


def test_nothing_there_and_large_logits_give_no_nan() -> None:
    query, key, value = (1e4 * jnp.float32(part) for part in _drawn())
    nothing = np.zeros((EXAMPLES, READ), bool)
    found = jax.jit(lambda *given: jax.vjp(lambda q: attend(q, key, value, nothing), *given))(query)
    assert np.isfinite(found[0]).all()
    assert np.isfinite(jax.jit(attend)(query, key, value)).all()
