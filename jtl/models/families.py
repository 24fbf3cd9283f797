"""Architectures that come in many shapes: what a checkpoint's config says becomes a backbone."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

from jtl.errors import UserError
from jtl.models import (
    bert,
    convnext,
    inverted_residual,
    pixels,
    resnet,
    swin,
    vit,
    wav2vec2,
    whisper,
)
from jtl.models.backbone import Backbone, image_side
from jtl.models.chain import Blocks
from jtl.types import Preprocess, Sound, Tokenization, Wanted


class Family(NamedTuple):
    """An architecture.

    Attributes:
      shape: what tells one network of it from another, a named tuple.
      blocks: ``blocks(shape)`` makes them, on normalised images, on tokens or on sounds.
      smallest: side of the smallest image, in pixels; 0 where inputs are no images.
      batch_norm: whether there is any, so that ``blocks`` takes an ``axis_name``.
    """

    shape: Callable[..., Any]
    blocks: Callable[..., Blocks]
    smallest: int = 0
    batch_norm: bool = False


FAMILIES: Mapping[str, Family] = {
    "resnet": Family(resnet.Shape, resnet.blocks, 32, batch_norm=True),
    "inverted_residual": Family(
        inverted_residual.Shape, inverted_residual.blocks, 32, batch_norm=True
    ),
    "convnext": Family(convnext.Shape, convnext.blocks, 32),
    "vit": Family(vit.Shape, vit.blocks, 1),
    "swin": Family(swin.Shape, swin.blocks, 32),
    "bert": Family(bert.Shape, bert.blocks),
    "whisper": Family(whisper.Shape, whisper.blocks),
    "wav2vec2": Family(wav2vec2.Shape, wav2vec2.blocks),
}


def backbone(
    name: str, family: str, shape: Any, wanted: Wanted, *, image_size: int = 0
) -> Backbone:
    """A backbone of a family, starting at random.

    Args:
      name: for messages.
      family: out of :data:`FAMILIES`.
      shape: of that family.
      wanted: what is asked of the inputs.
      image_size: side of the images in pixels; 0 is that of ``wanted``.

    Raises:
      UserError: images of that size do not fit, or inputs are no images.
    """
    if isinstance(wanted, Preprocess):
        wanted = replace(wanted, size=_side(name, family, shape, image_size or wanted.size))
    elif image_size:
        raise UserError(f"model.image_size: {name} takes no images; set 0")
    settings = {
        "shape": shape._asdict(),
        "inputs": _INPUTS[type(wanted)],
        "wanted": asdict(wanted),
    }
    build = partial(_blocks, FAMILIES[family], shape, wanted)
    return Backbone(name, build, wanted, shape.features, architecture=family, settings=settings)


def restored(family: str, settings: Mapping[str, Any], *, image_size: int = 0) -> Backbone:
    """The backbone that once had these settings, which may have been JSON meanwhile."""
    shape = FAMILIES[family].shape(**_tuples(settings["shape"]))
    (kind,) = (kind for kind, name in _INPUTS.items() if name == settings["inputs"])
    wanted = kind(**_tuples(settings["wanted"]))
    return backbone(family, family, shape, wanted, image_size=image_size)


_INPUTS: Mapping[type, str] = {Preprocess: "images", Tokenization: "texts", Sound: "sounds"}


def _tuples(value: Any) -> Any:
    """Lists are tuples again."""
    if isinstance(value, Mapping):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _blocks(family: Family, shape: Any, wanted: Wanted, axis_name: str | None = None) -> Blocks:
    made = family.blocks(shape, axis_name=axis_name) if family.batch_norm else family.blocks(shape)
    if isinstance(wanted, Preprocess):
        return (("pixels", pixels.normalise(wanted)), *made)
    return made


def _side(name: str, family: str, shape: Any, size: int) -> int:
    smallest, step = FAMILIES[family].smallest, getattr(shape, "step", 1)
    side = image_side(size, own=size, smallest=max(smallest, step), name=name)
    if side % step:
        raise UserError(
            f"model.image_size is {side}; {name} takes multiples of {step} pixels: "
            f"{side // step * step} or {(side // step + 1) * step}"
        )
    return side
