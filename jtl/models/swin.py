"""Swin transformers: attention within windows, which move by half from layer to layer.

Liu et al., ICCV 2021, arXiv 2103.14030. Images [B, size, size, 3], normalised.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks
from jtl.models.layers import Dense, Images
from jtl.models.pixels import patches
from jtl.models.transformer import Attention, Inner, Size
from jtl.models.weights import Rule, dense, linear, norm, of_patches
from jtl.types import Array

EPSILON = 1e-5


class Shape(NamedTuple):
    """What tells one Swin transformer from another.

    Attributes:
      width: of a token in the first stage; each stage doubles it.
      depths: layers in each stage.
      heads: of the attention in each stage.
      window: side of a window, in patches.
      grid: patches along a side of the images that it was trained on, on which the windows' size
        depends where there are few.
      patch: side of a patch, in pixels.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int = 7
    grid: int = 56
    patch: int = 4

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.width * 2 ** (len(self.depths) - 1)


def blocks(shape: Shape) -> Blocks:
    """The blocks "embed", "stage1" to the last one, and "pool": the normed mean over all places."""
    stages = (
        (f"stage{number + 1}", from_nnx(partial(_Stage, shape, number)))
        for number in range(len(shape.depths))
    )
    return (
        ("embed", from_nnx(partial(_Embed, shape))),
        *stages,
        ("pool", from_nnx(partial(_Pool, shape.features))),
    )


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)


class _Embed(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        self.patch = Dense(shape.patch**2 * 3, shape.width, rngs=rngs)
        self.norm = _norm(shape.width, rngs)
        self.side = shape.patch

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        return self.norm(self.patch(patches(x, self.side)))


class _Layer(nnx.Module):
    """Attention within windows, then two dense layers; each on normed tokens, and added to them."""

    def __init__(self, size: Size, window: int, shift: int, rngs: nnx.Rngs) -> None:
        self.attention, self.attention_norm = Attention(size, rngs), size.norm(rngs)
        self.inner, self.inner_norm = Inner(size, rngs), size.norm(rngs)
        self.apart = nnx.Param(jnp.zeros(((2 * window - 1) ** 2, size.heads)))
        self.window, self.shift = window, shift

    def __call__(self, x: Images) -> Images:
        x = x + self._attended(self.attention_norm(x))
        return x + self.inner(self.inner_norm(x))

    def _attended(self, x: Images) -> Images:
        count, rows, columns, width = x.shape
        size, shift = self.window, self.shift
        x = jnp.roll(x, (-shift, -shift), (1, 2))
        x = jnp.pad(x, ((0, 0), (0, -rows % size), (0, -columns % size), (0, 0)))
        high, wide = x.shape[1] // size, x.shape[2] // size
        windows = x.reshape(count, high, size, wide, size, width).swapaxes(2, 3)
        windows = windows.reshape(-1, size * size, width)
        y = self.attention(windows, bias=self._bias(count, high, wide))
        y = y.reshape(count, high, wide, size, size, width).swapaxes(2, 3)
        y = y.reshape(x.shape)[:, :rows, :columns]
        return jnp.roll(y, (shift, shift), (1, 2))

    def _bias(self, count: int, high: int, wide: int) -> Float[jax.Array, "windows heads to of"]:
        """By how far apart two places are; those that were not neighbours before the move, -100."""
        bias = self.apart[...][_pairs(self.window)].transpose(2, 0, 1)[None]
        if self.shift:
            near = _neighbours(high, wide, self.window, self.shift)
            bias = jnp.tile(bias + jnp.where(near, 0.0, -100.0)[:, None], (count, 1, 1, 1))
        return jnp.broadcast_to(bias, (count * high * wide, *bias.shape[1:]))


def _pairs(window: int) -> Int[np.ndarray, "places places"]:
    """For each pair of places in a window, the row of the table of biases."""
    places = np.stack(np.meshgrid(range(window), range(window), indexing="ij"), -1).reshape(-1, 2)
    apart = places[:, None] - places[None] + window - 1
    return apart[..., 0] * (2 * window - 1) + apart[..., 1]


def _neighbours(
    high: int, wide: int, window: int, shift: int
) -> Bool[np.ndarray, "windows places places"]:
    """Which places of a moved window were neighbours before."""
    zones = np.zeros((high * window, wide * window), int)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (row, column) in enumerate((row, column) for row in cuts for column in cuts):
        zones[row, column] = number
    zones = zones.reshape(high, window, wide, window).swapaxes(1, 2).reshape(-1, window * window)
    return zones[:, :, None] == zones[:, None, :]


class _Stage(nnx.Module):
    def __init__(self, shape: Shape, number: int, rngs: nnx.Rngs) -> None:
        width = shape.width * 2**number
        self.merges = bool(number)
        if number:
            self.norm = _norm(2 * width, rngs)
            self.merge = Dense(2 * width, width, use_bias=False, rngs=rngs)
        grid = -(-shape.grid // 2**number)
        window = min(shape.window, grid)
        size = Size(width, shape.heads[number], 4 * width, EPSILON)
        self.names = tuple(f"layer{n}" for n in range(1, shape.depths[number] + 1))
        for index, name in enumerate(self.names):
            shift = window // 2 if index % 2 and grid > window else 0
            setattr(self, name, _Layer(size, window, shift, rngs))

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        x = self._merged(x) if self.merges else x
        for name in self.names:
            x = getattr(self, name)(x)
        return x

    def _merged(self, x: Images) -> Images:
        """Each 2x2 places as one, column by column; beyond an odd edge is 0."""
        count, rows, columns, width = x.shape
        x = jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
        x = x.reshape(count, -(-rows // 2), 2, -(-columns // 2), 2, width)
        x = x.transpose(0, 1, 3, 4, 2, 5).reshape(*x.shape[:2], x.shape[3], 4 * width)
        return self.merge(self.norm(x))


class _Pool(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norm = _norm(width, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Array:
        del rng
        return self.norm(x).mean((1, 2))


_LAYER, _OURS = r"layers\.(\d)\.blocks\.(\d+)\.", r"stage\1+/layer\2+/"
_MERGE = r"layers\.(\d)\.downsample\."
TIMM = (
    *linear(r"patch_embed\.proj", "embed/patch", of_patches),
    *norm(r"patch_embed\.norm", "embed/norm"),
    *norm(_MERGE + "norm", r"stage\1+/norm"),
    *linear(_MERGE + "reduction", r"stage\1+/merge"),
    *norm(_LAYER + "norm1", _OURS + "attention_norm"),
    *linear(_LAYER + r"attn\.qkv", _OURS + "attention/*", dense, ("query", "key", "value")),
    *linear(_LAYER + r"attn\.proj", _OURS + "attention/output"),
    Rule(_LAYER + r"attn\.relative_position_bias_table", _OURS + "apart"),
    *norm(_LAYER + "norm2", _OURS + "inner_norm"),
    *linear(_LAYER + r"mlp\.fc1", _OURS + "inner/up"),
    *linear(_LAYER + r"mlp\.fc2", _OURS + "inner/down"),
    *norm("norm", "pool/norm"),
    *linear(r"head\.fc", "head/dense"),
    # What follows from the sizes alone.
    Rule(r".*\.relative_position_index|.*\.attn_mask", None),
)
"""The names in timm's files."""
