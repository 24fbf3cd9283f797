"""ConvNeXt, first and second version.

Liu et al., CVPR 2022, arXiv 2201.03545; Woo et al., CVPR 2023, arXiv 2301.00808, with global
response normalisation in place of layer scale. Images [B, size, size, 3], normalised.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks
from jtl.models.layers import Dense, Depthwise, Images, lifted
from jtl.models.pixels import patches
from jtl.models.weights import Rule, kernel, linear, norm, of_patches
from jtl.types import Array

EPSILON = 1e-6


class Shape(NamedTuple):
    """What tells one ConvNeXt from another.

    Attributes:
      depths: residual blocks in each stage.
      widths: of the stages.
      second: whether it is the second version.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    second: bool = False

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.widths[-1]


def blocks(shape: Shape) -> Blocks:
    """The blocks "stage1" to the last one, and "pool": the mean over all places, normed."""
    stages = (
        (f"stage{number + 1}", from_nnx(partial(_Stage, shape, number)))
        for number in range(len(shape.depths))
    )
    return (*stages, ("pool", from_nnx(partial(_Pool, shape.features))))


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)


class _Block(nnx.Module):
    def __init__(self, width: int, second: bool, rngs: nnx.Rngs) -> None:
        self.depthwise = Depthwise(width, 7, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(width))
        self.norm = _norm(width, rngs)
        self.up = Dense(width, 4 * width, rngs=rngs)
        self.down = Dense(4 * width, width, rngs=rngs)
        if second:
            self.response_scale = nnx.Param(jnp.zeros(4 * width))
            self.response_bias = nnx.Param(jnp.zeros(4 * width))
        else:
            self.scale = nnx.Param(jnp.full(width, 1e-6))
        self.second = second

    def __call__(self, x: Images) -> Images:
        y = self.norm(self.depthwise(x) + lifted(self.bias[...], 4))
        y = jax.nn.gelu(self.up(y), approximate=False)
        if self.second:
            size = jnp.sqrt((y**2).sum((1, 2), keepdims=True))
            share = size / (size.mean(-1, keepdims=True) + EPSILON)
            scale, bias = lifted(self.response_scale[...], 4), lifted(self.response_bias[...], 4)
            return x + self.down(y + y * share * scale + bias)
        return x + self.down(y) * lifted(self.scale[...], 4)


class _Stage(nnx.Module):
    def __init__(self, shape: Shape, number: int, rngs: nnx.Rngs) -> None:
        width, inputs = shape.widths[number], shape.widths[number - 1] if number else 3
        self.first, self.side = not number, 2 if number else 4
        self.norm = _norm(inputs if number else width, rngs)
        self.patch = Dense(inputs * self.side**2, width, rngs=rngs)
        self.names = tuple(f"block{n}" for n in range(1, shape.depths[number] + 1))
        for name in self.names:
            setattr(self, name, _Block(width, shape.second, rngs))

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        x = x if self.first else self.norm(x)
        x = self.patch(patches(x, self.side))
        x = self.norm(x) if self.first else x
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class _Pool(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norm = _norm(width, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Array:
        del rng
        return self.norm(x.mean((1, 2)))


_STAGE, _BLOCK = r"stages\.(\d)\.downsample\.", r"stages\.(\d)\.blocks\.(\d+)\."
_OURS = r"stage\1+/block\2+/"
TIMM = (
    *linear(r"stem\.0", "stage1/patch", of_patches),
    *norm(r"stem\.1", "stage1/norm"),
    *norm(_STAGE + "0", r"stage\1+/norm"),
    *linear(_STAGE + "1", r"stage\1+/patch", of_patches),
    Rule(_BLOCK + r"conv_dw\.weight", _OURS + "depthwise/kernel", kernel),
    Rule(_BLOCK + r"conv_dw\.bias", _OURS + "bias"),
    *norm(_BLOCK + "norm", _OURS + "norm"),
    *linear(_BLOCK + r"mlp\.fc1", _OURS + "up"),
    Rule(_BLOCK + r"mlp\.grn\.weight", _OURS + "response_scale"),
    Rule(_BLOCK + r"mlp\.grn\.bias", _OURS + "response_bias"),
    *linear(_BLOCK + r"mlp\.fc2", _OURS + "down"),
    Rule(_BLOCK + "gamma", _OURS + "scale"),
    *norm(r"head\.norm", "pool/norm"),
    *linear(r"head\.fc", "head/dense"),
)
"""The names in timm's files."""
