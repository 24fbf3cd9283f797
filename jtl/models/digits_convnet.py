"""A small convolutional backbone for digits, in the shape of LeNet, with group norm.

Group norm (Wu and He, ECCV 2018) has no running statistics, so that neither domain's enter the
other's features. Input [B, size, size, 1] with pixels from 0 to 255.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.models.backbone import Backbone, image_side
from jtl.models.chain import Blocks
from jtl.models.layers import Conv, Images, max_pool
from jtl.types import Preprocess

NAME = "digits-convnet"
SIZE = 28
MEAN, STD = 33.0, 79.0
"""Of MNIST's pixels."""


def backbone(*, image_size: int = 0, width: int = 32) -> Backbone:
    """The backbone, starting at random.

    Args:
      image_size: side of the input in pixels, at least 4; 0 is 28.
      width: channels of the first block; the second has twice, the features have four times as
        many. A multiple of 4; the tests use 4.
    """
    # Halved twice.
    size = image_side(image_size, own=SIZE, smallest=4, name=NAME)
    preprocess = Preprocess(size, 1, (MEAN,), (STD,), "bilinear")
    build = partial(blocks, size=size, width=width)
    return Backbone(NAME, build, preprocess, 4 * width, architecture=NAME)


def blocks(*, size: int = SIZE, width: int = 32, axis_name: str | None = None) -> Blocks:
    """The blocks "stage1" and "stage2" (convolution, pooling, norm, ReLU) and "dense"."""
    pixels = size // 2 // 2
    parts = {
        "stage1": partial(_First, width),
        "stage2": partial(_Stage, width, 2 * width, 3),
        "dense": partial(_Dense, pixels * pixels * 2 * width, 4 * width),
    }
    return tuple((name, from_nnx(build, axis_name=axis_name)) for name, build in parts.items())


class _Stage(nnx.Module):
    def __init__(self, inputs: int, outputs: int, size: int, rngs: nnx.Rngs) -> None:
        self.conv = Conv(inputs, outputs, size, rngs=rngs)
        self.norm = nnx.GroupNorm(outputs, num_groups=4, rngs=rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        # Pooled before the norm, which then works on a quarter of the values.
        return nnx.relu(self.norm(max_pool(self.conv(x))))


class _First(_Stage):
    def __init__(self, outputs: int, rngs: nnx.Rngs) -> None:
        super().__init__(1, outputs, 5, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        return super().__call__((jnp.asarray(x, jnp.float32) - MEAN) / STD, rng=rng)


class _Dense(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)
        self.norm = nnx.LayerNorm(outputs, rngs=rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> jax.Array:
        del rng
        return nnx.relu(self.norm(self.dense(x.reshape(len(x), -1))))
