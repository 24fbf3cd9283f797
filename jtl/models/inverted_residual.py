"""Networks of inverted residuals that weigh their channels: MobileNetV3 and EfficientNet-B0.

Howard et al., ICCV 2019, arXiv 1905.02244; Tan and Le, ICML 2019, arXiv 1905.11946; the weights of
channels (squeeze-and-excitation) are of Hu et al., CVPR 2018. Images [B, size, size, 3],
normalised. Padding is PyTorch's: alike on both sides.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.models.batch_norm import normed
from jtl.models.chain import Blocks
from jtl.models.layers import Conv, Depthwise, Images, Pointwise, even_padding
from jtl.models.weights import Rule, dense, kernel, linear, norm
from jtl.types import Array

ACTIVATIONS: Mapping[str, Callable[[Array], jax.Array]] = {
    "relu": nnx.relu,
    "hard_swish": nnx.hard_swish,
    "silu": nnx.silu,
}


class Block(NamedTuple):
    """One inverted residual.

    Attributes:
      kernel: side of its depthwise convolution.
      stride: of it.
      hidden: its channels.
      width: of the outputs.
      squeezed: to how many numbers the channels are squeezed to weigh them; 0 weighs none.
      activation: out of :data:`ACTIVATIONS`.
    """

    kernel: int
    stride: int
    hidden: int
    width: int
    squeezed: int
    activation: str


class Shape(NamedTuple):
    """What tells one network from another.

    Attributes:
      stem: width of the first convolution.
      stages: the blocks of each stage.
      last: width of the last convolution.
      dense: width of a dense layer on the mean over all places; 0 is none.
      activation: of both and of the stem.
      hard: whether the weights of channels are a hard sigmoid.
    """

    stem: int
    stages: tuple[tuple[Block, ...], ...]
    last: int
    dense: int
    activation: str
    hard: bool

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.dense or self.last


def blocks(shape: Shape, *, axis_name: str | None = None) -> Blocks:
    """The blocks "stem", "stage1" to the last one, and "top", which gives the features."""
    made = [("stem", from_nnx(partial(_Stem, shape), axis_name=axis_name))]
    inputs = shape.stem
    for number, stage in enumerate(shape.stages, start=1):
        build = partial(_Stage, inputs, stage, number == 1, shape.hard)
        made.append((f"stage{number}", from_nnx(build, axis_name=axis_name)))
        inputs = Block._make(stage[-1]).width
    return (*made, ("top", from_nnx(partial(_Top, shape, inputs), axis_name=axis_name)))


def _norm(width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(width, epsilon=1e-5, momentum=0.9, rngs=rngs)


class _Stem(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        self.conv = Conv(3, shape.stem, 3, 2, even_padding, rngs=rngs)
        self.norm = _norm(shape.stem, rngs)
        self.activation = ACTIVATIONS[shape.activation]

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        return self.activation(normed(self.conv, self.norm, x))


class _Squeeze(nnx.Module):
    """Weighs each channel, by what all channels are on average."""

    def __init__(self, block: Block, hard: bool, rngs: nnx.Rngs) -> None:
        self.down = nnx.Linear(block.hidden, block.squeezed, rngs=rngs)
        self.up = nnx.Linear(block.squeezed, block.hidden, rngs=rngs)
        self.activation = nnx.relu if hard else ACTIVATIONS[block.activation]
        self.gate = nnx.hard_sigmoid if hard else nnx.sigmoid

    def __call__(self, x: Images) -> Images:
        weights = self.gate(self.up(self.activation(self.down(x.mean((1, 2))))))
        return x * weights[:, None, None]


class _Block(nnx.Module):
    def __init__(
        self, inputs: int, block: Block, expands: bool, hard: bool, rngs: nnx.Rngs
    ) -> None:
        self.expands, self.squeezes = expands, bool(block.squeezed)
        if expands:
            self.expand = Pointwise(inputs, block.hidden, rngs=rngs)
            self.expand_norm = _norm(block.hidden, rngs)
        self.depthwise = Depthwise(
            block.hidden, block.kernel, block.stride, even_padding, rngs=rngs
        )
        self.depthwise_norm = _norm(block.hidden, rngs)
        if self.squeezes:
            self.squeeze = _Squeeze(block, hard, rngs)
        self.project = Pointwise(block.hidden, block.width, rngs=rngs)
        self.project_norm = _norm(block.width, rngs)
        self.residual = block.stride == 1 and inputs == block.width
        self.activation = ACTIVATIONS[block.activation]

    def __call__(self, x: Images) -> Images:
        y = self.activation(normed(self.expand, self.expand_norm, x)) if self.expands else x
        y = self.activation(normed(self.depthwise, self.depthwise_norm, y))
        y = normed(self.project, self.project_norm, self.squeeze(y) if self.squeezes else y)
        return x + y if self.residual else y


class _Stage(nnx.Module):
    def __init__(
        self, inputs: int, stage: tuple[Block, ...], first: bool, hard: bool, rngs: nnx.Rngs
    ) -> None:
        self.names = tuple(f"block{number}" for number in range(1, len(stage) + 1))
        for name, block in zip(self.names, map(Block._make, stage), strict=True):
            setattr(self, name, _Block(inputs, block, not first, hard, rngs))
            inputs = block.width

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class _Top(nnx.Module):
    def __init__(self, shape: Shape, inputs: int, rngs: nnx.Rngs) -> None:
        self.conv = Pointwise(inputs, shape.last, rngs=rngs)
        self.norm = _norm(shape.last, rngs)
        self.widens = bool(shape.dense)
        if self.widens:
            self.dense = nnx.Linear(shape.last, shape.dense, rngs=rngs)
        self.activation = ACTIVATIONS[shape.activation]

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Array:
        del rng
        x = self.activation(normed(self.conv, self.norm, x)).mean((1, 2))
        return self.activation(self.dense(x)) if self.widens else x


def table(shape: Shape) -> tuple[Rule, ...]:
    """The names in timm's files."""
    first, later = r"blocks\.(0)\.(\d+)\.", rf"blocks\.([1-{len(shape.stages) - 1}])\.(\d+)\."
    block, ours = r"blocks\.(\d)\.(\d+)\.", r"stage\1+/block\2+/"
    top = (*linear("conv_head", "top/conv"), *norm("bn2", "top/norm"))
    if shape.dense:
        last = rf"blocks\.{len(shape.stages)}\.0\."
        top = (
            *linear(last + "conv", "top/conv"),
            *norm(last + "bn1", "top/norm"),
            *linear("conv_head", "top/dense"),
        )
    return (
        *linear("conv_stem", "stem/conv", kernel),
        *norm("bn1", "stem/norm"),
        # The first stage does not expand, so its names say something else.
        *norm(first + "bn1", ours + "depthwise_norm"),
        *linear(first + "conv_pw", ours + "project"),
        *norm(first + "bn2", ours + "project_norm"),
        *linear(later + "conv_pw", ours + "expand"),
        *norm(later + "bn1", ours + "expand_norm"),
        *norm(later + "bn2", ours + "depthwise_norm"),
        *linear(later + "conv_pwl", ours + "project"),
        *norm(later + "bn3", ours + "project_norm"),
        *linear(block + "conv_dw", ours + "depthwise", kernel),
        *linear(block + r"se\.conv_reduce", ours + "squeeze/down"),
        *linear(block + r"se\.conv_expand", ours + "squeeze/up"),
        *top,
        *linear("classifier", "head/dense", dense),
    )
