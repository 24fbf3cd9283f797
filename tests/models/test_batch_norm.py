"""Batch norm in training against flax's, whose gradient is autodiff's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.models.batch_norm import by_batch, normed
from jtl.models.layers import Pointwise, product
from jtl.types import Array

CHANNELS = 8
DRAW = np.random.default_rng(0)
X = DRAW.normal(1.0, 2.0, (8, 3, 4, CHANNELS)).astype(np.float32)
UPSTREAM = DRAW.normal(size=X.shape).astype(np.float32)


def with_gradients(
    norm: Callable[[nnx.BatchNorm, Any], Any], x: Array, upstream: Array, axis: str | None = None
) -> tuple[Any, Any]:
    """Outputs and statistics; gradients of the values, scale and bias."""
    scale, bias = (jnp.linspace(0.5, end, CHANNELS) for end in (2.0, -1.0))

    def run(x: Array, scale: Array, bias: Array) -> tuple[Any, Any]:
        layer = nnx.BatchNorm(CHANNELS, momentum=0.9, axis_name=axis, rngs=nnx.Rngs(0))
        layer.scale[...], layer.bias[...] = scale, bias
        y = norm(layer, x)
        return (y * upstream).sum(), (y, layer.mean[...], layer.var[...])

    gradient = jax.value_and_grad(run, (0, 1, 2), has_aux=True)
    (_, outputs), gradients = gradient(x, scale, bias)
    return outputs, gradients


def flaxs(layer: nnx.BatchNorm, x: Any) -> Any:
    return layer(x, use_running_average=False)


def test_it_is_flaxs_with_its_gradients_and_statistics() -> None:
    found, wanted = (
        jax.jit(lambda x, g, norm=norm: with_gradients(norm, x, g))(X, UPSTREAM)
        for norm in (by_batch, flaxs)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def test_devices_see_the_whole_batch() -> None:
    parts = X.reshape(4, 2, *X.shape[1:]), UPSTREAM.reshape(4, 2, *X.shape[1:])
    mapped = jax.pmap(
        lambda x, g: with_gradients(by_batch, x, g, axis="devices"),
        axis_name="devices",
        devices=jax.devices()[:4],
    )
    (y, mean, variance), (values, *parameters) = mapped(*parts)
    (whole, *statistics), (gradient, *summed) = jax.jit(
        lambda x, g: with_gradients(by_batch, x, g)
    )(X, UPSTREAM)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(y.reshape(X.shape), whole, **close)
    np.testing.assert_allclose(values.reshape(X.shape), gradient, **close)
    for of_devices, of_all in zip((mean, variance), statistics, strict=True):
        np.testing.assert_allclose(of_devices[3], of_all, **close)
    for of_devices, of_all in zip(parameters, summed, strict=True):
        np.testing.assert_allclose(of_devices.sum(0), of_all, **close)


class _Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = Pointwise(CHANNELS, CHANNELS, rngs=rngs)
        self.norm = nnx.BatchNorm(CHANNELS, rngs=rngs)

    def __call__(self, x: Any, *, rng: jax.Array | None = None) -> Any:
        del rng
        return normed(self.conv, self.norm, x)


def test_on_stored_statistics_it_is_folded_into_the_convolution() -> None:
    model = from_nnx(_Layer)
    params, stats = model.init(jax.random.key(0))
    stats = jax.tree.map(lambda leaf: leaf + 0.5, stats)
    folded = jax.jit(lambda x: model.apply(params, stats, x, train=False, rng=None)[0])
    kept = stats["norm"]
    expected = (X @ np.asarray(params["conv"]["kernel"]) - np.asarray(kept["mean"])) / np.sqrt(
        np.asarray(kept["var"]) + 1e-5
    )
    np.testing.assert_allclose(folded(X), expected, rtol=1e-4, atol=1e-5)
    text = folded.lower(X).as_text()
    assert text.count("stablehlo.subtract") == 1, "from the bias, and from no value"


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 4, 8)])
def test_a_product_is_of_two_matrices_with_its_gradients(shape: tuple[int, ...]) -> None:
    x, kernel = DRAW.normal(size=shape).astype(np.float32), jnp.ones((8, 5))
    np.testing.assert_allclose(product(x, kernel), x @ np.ones((8, 5)), rtol=1e-4, atol=1e-5)

    @jax.jit
    def gradients(x: Array, kernel: Array) -> Any:
        return jax.grad(lambda *given: product(*given).sum(), (0, 1))(x, kernel)

    assert "contracting_dims = [0, 1]" not in gradients.lower(x, kernel).as_text()
