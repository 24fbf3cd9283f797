"""The first block of an image backbone: from pixels to the numbers that it was trained on."""

import jax
import jax.numpy as jnp

from jtl.models.layers import lifted
from jtl.types import Array, Model, Params, Preprocess, Stats, Train


def normalise(preprocess: Preprocess) -> Model:
    """Subtracts the mean of each channel and divides by its deviation. It has no parameters.

    [B, size, size, C] with values from 0 to 255 -> the same, float32.
    """
    mean, std = jnp.array(preprocess.mean), jnp.array(preprocess.std)

    def init(key: jax.Array) -> tuple[Params, Stats]:
        del key
        return {}, {}

    def apply(
        params: Params, stats: Stats, inputs: Array, *, train: Train, rng: jax.Array | None
    ) -> tuple[jax.Array, Stats]:
        del params, train, rng
        x = jnp.asarray(inputs, jnp.float32)
        return (x - lifted(mean, x.ndim)) / lifted(std, x.ndim), stats

    return Model(init, apply)


def patches(x: jax.Array, size: int) -> jax.Array:
    """Square pieces side by side, each as one vector; what is left over at the edges is dropped.

    [B, H, W, C] -> [B, H // size, W // size, size * size * C].

    >>> patches(jnp.arange(8.0).reshape(1, 2, 4, 1), 2)[0, 0, 0]
    Array([0., 1., 4., 5.], dtype=float32)
    """
    count, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    x = x.reshape(count, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(count, rows, columns, -1)
