"""The quick forms of convolution against XLA's own operations."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jtl.models import layers


def _random(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


def _grouped(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _with_gradients(
    function: Callable[..., jax.Array], *inputs: jax.Array
) -> tuple[jax.Array, ...]:
    """The output, and the gradients for a fixed upstream gradient."""

    @jax.jit
    def run(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        output, gradients = jax.vjp(function, *inputs)
        return output, *gradients(jnp.cos(jnp.arange(output.size)).reshape(output.shape))

    return run(*inputs)


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"),
    [(8, 8, 3, 1), (8, 8, 3, 2), (7, 10, 5, 1), (7, 10, 5, 2), (3, 2, 5, 2), (1, 1, 3, 1)],
)
def test_depthwise_equals_a_grouped_convolution_with_its_gradients(
    height: int, width: int, size: int, stride: int
) -> None:
    x, kernel = _random(3, height, width, 4), _random(size, size, 1, 4)
    found = _with_gradients(partial(layers.depthwise, stride=stride), x, kernel)
    expected = _with_gradients(partial(_grouped, stride=stride), x, kernel)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("platform", "grouped"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_only_the_cpu_leaves_the_grouped_convolution(platform: str, grouped: bool) -> None:
    def both_ways(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
        output, gradients = jax.vjp(layers.depthwise, x, kernel)
        return gradients(output)

    traced = jax.jit(both_ways).trace(_random(2, 6, 6, 8), _random(3, 3, 1, 8))
    assert ("convolution" in traced.lower(lowering_platforms=(platform,)).as_text()) == grouped


def test_convolution_pads_an_even_image_at_its_end() -> None:
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    corner = jnp.zeros((3, 3, 1, 1)).at[2, 2].set(1.0)  # reads the window's last pixel
    output = layers.convolve(x, corner, 2)[0, :, :, 0]
    np.testing.assert_array_equal(output, [[10, 0], [0, 0]])


def test_a_pointwise_layer_is_a_1x1_convolution() -> None:
    from flax import nnx

    layer = layers.Pointwise(3, 5, rngs=nnx.Rngs(0))
    x = _random(2, 4, 4, 3)
    expected = layers.convolve(x, layer.kernel[...][None, None])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
