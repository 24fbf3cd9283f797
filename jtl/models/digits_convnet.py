"""A small convolutional backbone for digits, in the shape of LeNet, with group or batch norm.

Group norm (Wu and He, ECCV 2018) has no running statistics, so that neither domain's enter the
other's features; batch norm is there for methods that adapt by them. Input [B, size, size, 1] with
pixels from 0 to 255.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.models.backbone import Backbone, image_side
from jtl.models.chain import Blocks
from jtl.models.layers import Conv, Images
from jtl.models.max_pool import max_pool
from jtl.types import Preprocess

NAME, BATCH_NORM_NAME = "digits-convnet", "digits-convnet-bn"
SIZE = 28
MEAN, STD = 33.0, 79.0
"""Of MNIST's pixels."""


Norm = Callable[[int, nnx.Rngs], nnx.Module]
"""``norm(width, rngs)``: a layer that normalises the last axis or parts of it."""


def backbone(*, image_size: int = 0, width: int = 32) -> Backbone:
    """The backbone with group norm, and layer norm on its features, starting at random.

    Args:
      image_size: side of the input in pixels, at least 4; 0 is 28.
      width: channels of the first block; the second has twice, the features have four times as
        many. A multiple of 4; the tests use 4.
    """
    return _backbone(NAME, image_size, width)


def with_batch_norm(*, image_size: int = 0, width: int = 32) -> Backbone:
    """The same, each of its three norms a batch norm. A tenth of what they run on is the newest
    batch's.

    Args:
      image_size: as for :func:`backbone`.
      width: as for :func:`backbone`.
    """
    return _backbone(BATCH_NORM_NAME, image_size, width)


def _backbone(name: str, image_size: int, width: int) -> Backbone:
    # Halved twice.
    size = image_side(image_size, own=SIZE, smallest=4, name=name)
    preprocess = Preprocess(size, 1, (MEAN,), (STD,), "bilinear")
    build = partial(_blocks, size=size, width=width, batch_norm=name == BATCH_NORM_NAME)
    return Backbone(name, build, preprocess, 4 * width, architecture=name)


def _blocks(*, size: int, width: int, batch_norm: bool, axis_name: str | None = None) -> Blocks:
    """The blocks "stage1" and "stage2" (convolution, pooling, norm, ReLU) and "dense"."""
    pixels = size // 2 // 2
    of_images, of_features = (
        (_batch_norm, _batch_norm) if batch_norm else (_group_norm, _layer_norm)
    )
    parts = {
        "stage1": partial(_First, width, of_images),
        "stage2": partial(_Stage, width, 2 * width, 3, of_images),
        "dense": partial(_Dense, pixels * pixels * 2 * width, 4 * width, of_features),
    }
    return tuple((name, from_nnx(build, axis_name=axis_name)) for name, build in parts.items())


def _group_norm(width: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    return nnx.GroupNorm(width, num_groups=4, rngs=rngs)


def _layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, rngs=rngs)


def _batch_norm(width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(width, momentum=0.9, rngs=rngs)


class _Stage(nnx.Module):
    def __init__(self, inputs: int, outputs: int, size: int, norm: Norm, rngs: nnx.Rngs) -> None:
        self.conv = Conv(inputs, outputs, size, rngs=rngs)
        self.norm = norm(outputs, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        # Pooled before the norm, which then works on a quarter of the values.
        return nnx.relu(self.norm(max_pool(self.conv(x))))


class _First(_Stage):
    def __init__(self, outputs: int, norm: Norm, rngs: nnx.Rngs) -> None:
        super().__init__(1, outputs, 5, norm, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        return super().__call__((jnp.asarray(x, jnp.float32) - MEAN) / STD, rng=rng)


class _Dense(nnx.Module):
    def __init__(self, inputs: int, outputs: int, norm: Norm, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)
        self.norm = norm(outputs, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> jax.Array:
        del rng
        return nnx.relu(self.norm(self.dense(x.reshape(x.shape[0], -1))))
