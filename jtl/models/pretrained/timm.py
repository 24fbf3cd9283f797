"""timm's checkpoints: from their config to the shape of a family."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jtl.errors import UserError, nearest
from jtl.models import convnext, inverted_residual, resnet, swin, vit
from jtl.models.families import FAMILIES
from jtl.models.pretrained.names import TIMM
from jtl.models.weights import Rule
from jtl.types import Preprocess, Wanted


class Described(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      family: out of :data:`jtl.models.families.FAMILIES`.
      shape: of that family.
      wanted: what is asked of the inputs.
      table: where the tensors go.
      pooled: whether features are pooled as the checkpoint does it, whose weights for it then
        belong to them.
    """

    family: str
    shape: Any
    wanted: Wanted
    table: tuple[Rule, ...]
    pooled: bool = True


_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def described(config: Mapping[str, Any], name: str, *, pooling: str = "") -> Described:
    """What a checkpoint with this ``config.json`` holds.

    Args:
      config: of timm: ``architecture``, ``pretrained_cfg``, ``model_args``.
      name: of the checkpoint, for messages.
      pooling: of the tokens, where it is not to be the checkpoint's own.

    Raises:
      UserError: the architecture is unknown, or the config asks for what jtl does not have.
    """
    architecture = config.get("architecture", "")
    if architecture not in TIMM:
        raise UserError(
            f"model.backbone: {name} is a {architecture!r}, which jtl does not have; "
            f"{nearest(architecture, TIMM)}"
        )
    named = TIMM[architecture]
    wanted = _preprocess(config.get("pretrained_cfg", config), named.size, name)
    changes = dict(config.get("model_args") or {})
    size = changes.pop("img_size", None) or named.size
    if changes:
        raise UserError(
            f"model.backbone: {name} changes {', '.join(sorted(changes))} of {architecture}, which "
            "jtl cannot; name another checkpoint"
        )
    shape = shaped(named.family, named.shape, size, pooling=pooling, name=name)
    own = shaped(named.family, named.shape, size, name=name)
    return Described(named.family, shape, wanted, table(named.family, shape), shape == own)


def shaped(
    family: str, settings: Mapping[str, Any], size: int, *, pooling: str = "", name: str
) -> Any:
    """The shape of a family for images of a size."""
    settings = dict(settings)
    if family == "vit":
        settings["grid"] = size // settings["patch"]
    elif family == "swin":
        settings["grid"] = size // 4
    if pooling:
        if family != "vit":
            raise UserError(f"model.pooling: {name} has no tokens to pool; leave it empty")
        if pooling in ("class", "both") and not settings.get("class_token", True):
            raise UserError(f"model.pooling: {name} has no class token; set mean or attention")
        settings["pooling"] = pooling
    return FAMILIES[family].shape(**settings)


def table(family: str, shape: Any) -> tuple[Rule, ...]:
    """Where the tensors of timm's files go."""
    tables = {"resnet": resnet.table, "inverted_residual": inverted_residual.table}
    if family in tables:
        return tables[family](shape)
    return {"vit": vit.TIMM, "convnext": convnext.TIMM, "swin": swin.TIMM}[family]


def _preprocess(config: Mapping[str, Any], size: int, name: str) -> Preprocess:
    given = {**_IMAGENET, **config}
    channels, height, width = given.get("input_size", (3, size, size))
    mode = given.get("crop_mode", "center")
    if channels != 3 or height != width or mode not in ("center", "squash"):
        raise UserError(
            f"model.backbone: {name} wants images {channels} x {height} x {width}, cropped "
            f"'{mode}'; jtl has square RGB images, cropped 'center' or 'squash'"
        )
    return Preprocess(
        height,
        3,
        tuple(255 * value for value in given["mean"]),
        tuple(255 * value for value in given["std"]),
        given.get("interpolation", "bicubic"),
        crop=given.get("crop_pct", 1.0) if mode == "center" else 1.0,
        squash=mode == "squash",
    )
