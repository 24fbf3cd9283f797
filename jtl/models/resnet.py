"""Residual networks: ResNet with the stride in its 3x3 convolution (v1.5), and ResNet-D.

He et al., CVPR 2016, arXiv 1512.03385; He et al., CVPR 2019, "Bag of Tricks", arXiv 1812.01187.
Images [B, size, size, 3], normalised. Padding is PyTorch's: alike on both sides.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jtl.models import pooling
from jtl.models.adapter import from_nnx
from jtl.models.batch_norm import normed
from jtl.models.chain import Blocks
from jtl.models.layers import Conv, Images, Pointwise, even_padding
from jtl.models.max_pool import overlapping_max_pool
from jtl.models.weights import Rule, dense, kernel, linear, norm


class Shape(NamedTuple):
    """What tells one residual network from another.

    Attributes:
      depths: residual blocks in each stage.
      bottleneck: whether a residual block has three convolutions, and four times the width.
      deep: whether it is a ResNet-D: three convolutions in the stem, and a mean before a shortcut
        that halves the size.
      width: of the first stage.
      factor: by which the 3x3 convolutions of a bottleneck are wider (Wide ResNet).
    """

    depths: tuple[int, ...]
    bottleneck: bool
    deep: bool = False
    width: int = 64
    factor: int = 1

    @property
    def expansion(self) -> int:
        """By how much the outputs of a residual block are wider than its stage."""
        return 4 if self.bottleneck else 1

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.width * 2 ** (len(self.depths) - 1) * self.expansion


def blocks(shape: Shape, *, axis_name: str | None = None) -> Blocks:
    """The blocks "stem", "stage1" to the last one, and "pool", the mean over all places."""
    made = [("stem", from_nnx(partial(_Stem, shape), axis_name=axis_name))]
    for number in range(len(shape.depths)):
        build = partial(_Stage, shape, number)
        made.append((f"stage{number + 1}", from_nnx(build, axis_name=axis_name)))
    return (*made, ("pool", pooling.of_images()))


def _norm(width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(width, epsilon=1e-5, momentum=0.9, rngs=rngs)


class _Normed(nnx.Module):
    """Convolutions and their norms, "conv1" with "norm1" and so on, with a ReLU between."""

    def __init__(self, *convs: Conv | Pointwise, widths: list[int], rngs: nnx.Rngs) -> None:
        self.count = len(convs)
        for number, (conv, width) in enumerate(zip(convs, widths, strict=True), start=1):
            setattr(self, f"conv{number}", conv)
            setattr(self, f"norm{number}", _norm(width, rngs))

    def convolved(self, x: Images) -> Images:
        for number in range(1, self.count + 1):
            x = nnx.relu(x) if number > 1 else x
            x = normed(getattr(self, f"conv{number}"), getattr(self, f"norm{number}"), x)
        return x


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> Conv | Pointwise:
    if size == 1:
        return Pointwise(inputs, outputs, stride, rngs=rngs)
    return Conv(inputs, outputs, size, stride, even_padding, rngs=rngs)


class _Stem(_Normed):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        width, half = shape.width, shape.width // 2
        sizes = [(3, half, 3, 2), (half, half, 3, 1), (half, width, 3, 1)]
        sizes = sizes if shape.deep else [(3, width, 7, 2)]
        convs = [_conv(*size, rngs) for size in sizes]
        super().__init__(*convs, widths=[size[1] for size in sizes], rngs=rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        return overlapping_max_pool(nnx.relu(self.convolved(x)))


class _Block(_Normed):
    def __init__(self, shape: Shape, inputs: int, width: int, stride: int, rngs: nnx.Rngs) -> None:
        outputs, inner = width * shape.expansion, width * shape.factor
        sizes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        if shape.bottleneck:
            sizes = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        convs = [_conv(*size, rngs) for size in sizes]
        super().__init__(*convs, widths=[size[1] for size in sizes], rngs=rngs)
        self.halves = shape.deep and stride == 2
        self.changes = stride != 1 or inputs != outputs
        if self.changes:
            self.shortcut = Pointwise(inputs, outputs, 1 if shape.deep else stride, rngs=rngs)
            self.shortcut_norm = _norm(outputs, rngs)

    def __call__(self, x: Images) -> Images:
        y = self.convolved(x)
        x = _halved(x) if self.halves else x
        return nnx.relu(y + (normed(self.shortcut, self.shortcut_norm, x) if self.changes else x))


def _halved(x: Images) -> Images:
    """The mean of each 2x2 window; at an odd edge, of what is there."""
    _, height, width, _ = x.shape
    edges = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    window = (1, 2, 2, 1)

    def total(values: jax.Array) -> jax.Array:
        return lax.reduce_window(values, 0.0, lax.add, window, window, edges)

    return total(x) / total(jnp.ones((1, height, width, 1), x.dtype))


class _Stage(nnx.Module):
    def __init__(self, shape: Shape, number: int, rngs: nnx.Rngs) -> None:
        width = shape.width * 2**number
        outputs = width * shape.expansion
        inputs = outputs // 2 if number else shape.width
        self.names = tuple(f"block{n}" for n in range(1, shape.depths[number] + 1))
        for name in self.names:
            stride = 2 if number and name == "block1" else 1
            setattr(self, name, _Block(shape, inputs, width, stride, rngs))
            inputs = outputs

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        for name in self.names:
            x = getattr(self, name)(x)
        return x


def table(shape: Shape) -> tuple[Rule, ...]:
    """The names in files of timm and torchvision."""
    block, ours = r"layer(\d)\.(\d+)\.", r"stage\1/block\2+/"
    convolution = dense if shape.bottleneck else kernel
    deep = (
        *linear(r"conv1\.0", "stem/conv1", kernel),
        *norm(r"conv1\.1", "stem/norm1"),
        *linear(r"conv1\.3", "stem/conv2", kernel),
        *norm(r"conv1\.4", "stem/norm2"),
        *linear(r"conv1\.6", "stem/conv3", kernel),
        *norm("bn1", "stem/norm3"),
    )
    # A ResNet-D has the mean as module 0 of its shortcut.
    first = 1 if shape.deep else 0
    return (
        *(
            deep
            if shape.deep
            else (*linear("conv1", "stem/conv1", kernel), *norm("bn1", "stem/norm1"))
        ),
        *linear(block + r"conv2", ours + "conv2", kernel),
        *linear(block + r"conv([13])", ours + r"conv\3", convolution),
        *norm(block + r"bn(\d)", ours + r"norm\3"),
        *linear(block + rf"downsample\.{first}", ours + "shortcut"),
        *norm(block + rf"downsample\.{first + 1}", ours + "shortcut_norm"),
        *linear("fc", "head/dense"),
    )
