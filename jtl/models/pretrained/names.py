"""The architectures that timm's names stand for, as the settings of their family. Needs no JAX."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Named(NamedTuple):
    """What a name stands for.

    Attributes:
      family: out of :data:`jtl.models.families.FAMILIES`.
      shape: the settings of its shape, but for ``grid``, which follows from the image size.
      size: side of the images that it was made for, in pixels.
    """

    family: str
    shape: Mapping[str, Any]
    size: int = 224


_DEPTHS: Mapping[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    26: ((2, 2, 2, 2), True),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
    200: ((3, 24, 36, 3), True),
}


def _resnets() -> Iterator[tuple[str, Named]]:
    for layers, (depths, bottleneck) in _DEPTHS.items():
        shape = {"depths": depths, "bottleneck": bottleneck}
        yield f"resnet{layers}", Named("resnet", shape)
        size = 256 if layers > 50 else 224
        yield f"resnet{layers}d", Named("resnet", shape | {"deep": True}, size)
    for layers in (50, 101):
        depths, bottleneck = _DEPTHS[layers]
        shape = {"depths": depths, "bottleneck": bottleneck, "factor": 2}
        yield f"wide_resnet{layers}_2", Named("resnet", shape)


def _convnexts() -> Iterator[tuple[str, Named]]:
    for size, depths, width in (
        ("atto", (2, 2, 6, 2), 40),
        ("femto", (2, 2, 6, 2), 48),
        ("pico", (2, 2, 6, 2), 64),
        ("nano", (2, 2, 8, 2), 80),
        ("tiny", (3, 3, 9, 3), 96),
        ("small", (3, 3, 27, 3), 96),
        ("base", (3, 3, 27, 3), 128),
        ("large", (3, 3, 27, 3), 192),
        ("xlarge", (3, 3, 27, 3), 256),
        ("huge", (3, 3, 27, 3), 352),
    ):
        shape = {"depths": depths, "widths": tuple(width * 2**n for n in range(4))}
        if size != "huge":
            yield f"convnext_{size}", Named("convnext", shape)
        if size not in ("small", "xlarge"):
            pixels = 384 if size == "huge" else 224
            yield f"convnextv2_{size}", Named("convnext", shape | {"second": True}, pixels)


class _Vit(NamedTuple):
    width: int
    layers: int
    heads: int
    hidden: int


_VITS: Mapping[str, _Vit] = {
    "tiny": _Vit(192, 12, 3, 768),
    "xsmall": _Vit(256, 10, 4, 1024),
    "small": _Vit(384, 12, 6, 1536),
    "medium": _Vit(512, 12, 8, 2048),
    "base": _Vit(768, 12, 12, 3072),
    "large": _Vit(1024, 24, 16, 4096),
    "huge": _Vit(1280, 32, 16, 5120),
    "giant": _Vit(1408, 40, 16, 6144),
    "gigantic": _Vit(1664, 48, 16, 8192),
    "so400m": _Vit(1152, 27, 16, 4304),
}


def _vit(size: str, patch: int, pixels: int, **settings: Any) -> Named:
    return Named("vit", {**_VITS[size]._asdict(), "patch": patch, **settings}, pixels)


def _plain_vits() -> Iterator[tuple[str, Named]]:
    for size, patch, pixels in (
        *(("tiny", 16, pixels) for pixels in (224, 384)),
        *(("small", patch, pixels) for patch in (16, 32) for pixels in (224, 384)),
        *(("base", patch, pixels) for patch in (16, 32) for pixels in (224, 384)),
        *(("large", patch, pixels) for patch in (16, 32) for pixels in (224, 384)),
        ("small", 8, 224),
        ("base", 8, 224),
        ("large", 14, 224),
        ("huge", 14, 224),
    ):
        yield f"vit_{size}_patch{patch}_{pixels}", _vit(size, patch, pixels)
    for size, pixels in (("tiny", 224), ("small", 224), ("base", 224), ("base", 384)):
        yield f"deit_{size}_patch16_{pixels}", _vit(size, 16, pixels)
    later = {"placed": False, "scaled": True}
    for size in ("small", "medium", "base", "large"):
        for pixels in (224,) if size == "medium" else (224, 384):
            yield f"deit3_{size}_patch16_{pixels}", _vit(size, 16, pixels, **later)
    yield "deit3_huge_patch14_224", _vit("huge", 14, 224, **later)


def _self_supervised_vits() -> Iterator[tuple[str, Named]]:
    for size in ("small", "base", "large"):
        name = f"vit_{size}_patch14"
        yield f"{name}_dinov2", _vit(size, 14, 518, scaled=True)
        registers = {"scaled": True, "registers": 4, "placed": False}
        yield f"{name}_reg4_dinov2", _vit(size, 14, 518, **registers)


def _vits_of_captions() -> Iterator[tuple[str, Named]]:
    clip = {"norm_first": True, "epsilon": 1e-5}
    for size, patch, pixels in (
        ("xsmall", 16, 224),
        ("medium", 16, 224),
        ("medium", 32, 224),
        *(("base", 16, pixels) for pixels in (224, 384)),
        *(("base", 32, pixels) for pixels in (224, 256, 384, 448)),
        *(("large", 14, pixels) for pixels in (224, 336)),
        *(("huge", 14, pixels) for pixels in (224, 336, 378)),
        ("giant", 14, 224),
        *(("gigantic", 14, pixels) for pixels in (224, 378)),
    ):
        yield f"vit_{size}_patch{patch}_clip_{pixels}", _vit(size, patch, pixels, **clip)
    for size, patch, pixels in (
        ("base", 16, 224),
        ("base", 32, 224),
        *(("large", 14, pixels) for pixels in (224, 336)),
        *(("huge", 14, pixels) for pixels in (224, 378)),
        ("gigantic", 14, 224),
    ):
        quick = clip | {"activation": "quick_gelu"}
        yield f"vit_{size}_patch{patch}_clip_quickgelu_{pixels}", _vit(size, patch, pixels, **quick)
    for size, patch, pixels in (
        *(("base", 16, pixels) for pixels in (224, 256, 384, 512)),
        ("base", 32, 256),
        *(("large", 16, pixels) for pixels in (256, 384, 512)),
        *(("so400m", 14, pixels) for pixels in (224, 378, 384)),
        *(("so400m", 16, pixels) for pixels in (256, 384, 512)),
    ):
        name = f"vit_{size}_patch{patch}_siglip"
        pooled = {"class_token": False, "pooling": "attention"}
        yield f"{name}_{pixels}", _vit(size, patch, pixels, **pooled)
        yield f"{name}_gap_{pixels}", _vit(size, patch, pixels, **pooled | {"pooling": "mean"})


def _swins() -> Iterator[tuple[str, Named]]:
    for size, width, depths, heads in (
        ("tiny", 96, (2, 2, 6, 2), (3, 6, 12, 24)),
        ("small", 96, (2, 2, 18, 2), (3, 6, 12, 24)),
        ("base", 128, (2, 2, 18, 2), (4, 8, 16, 32)),
        ("large", 192, (2, 2, 18, 2), (6, 12, 24, 48)),
    ):
        shape = {"width": width, "depths": depths, "heads": heads}
        yield f"swin_{size}_patch4_window7_224", Named("swin", shape)
        if size in ("base", "large"):
            name = f"swin_{size}_patch4_window12_384"
            yield name, Named("swin", shape | {"window": 12}, 384)


_R, _H = "relu", "hard_swish"
_MOBILENET = {"stem": 16, "activation": _H, "hard": True}
# Of each stage its blocks: kernel, stride, hidden, width, squeezed, activation.
_LARGE = (
    ((3, 1, 16, 16, 0, _R),),
    ((3, 2, 64, 24, 0, _R), (3, 1, 72, 24, 0, _R)),
    ((5, 2, 72, 40, 24, _R), (5, 1, 120, 40, 32, _R), (5, 1, 120, 40, 32, _R)),
    (
        (3, 2, 240, 80, 0, _H),
        (3, 1, 200, 80, 0, _H),
        (3, 1, 184, 80, 0, _H),
        (3, 1, 184, 80, 0, _H),
    ),
    ((3, 1, 480, 112, 120, _H), (3, 1, 672, 112, 168, _H)),
    ((5, 2, 672, 160, 168, _H), (5, 1, 960, 160, 240, _H), (5, 1, 960, 160, 240, _H)),
)
_SMALL = (
    ((3, 2, 16, 16, 8, _R),),
    ((3, 2, 72, 24, 0, _R), (3, 1, 88, 24, 0, _R)),
    ((5, 2, 96, 40, 24, _H), (5, 1, 240, 40, 64, _H), (5, 1, 240, 40, 64, _H)),
    ((5, 1, 120, 48, 32, _H), (5, 1, 144, 48, 40, _H)),
    ((5, 2, 288, 96, 72, _H), (5, 1, 576, 96, 144, _H), (5, 1, 576, 96, 144, _H)),
)


def _efficientnet_b0() -> tuple[tuple[tuple[Any, ...], ...], ...]:
    stages, inputs = [], 32
    for expansion, size, stride, width, count in (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ):
        stage = []
        for number in range(count):
            step = 1 if number else stride
            stage.append((size, step, inputs * expansion, width, max(1, inputs // 4), "silu"))
            inputs = width
        stages.append(tuple(stage))
    return tuple(stages)


def _inverted_residuals() -> Iterator[tuple[str, Named]]:
    large = _MOBILENET | {"stages": _LARGE, "last": 960, "dense": 1280}
    small = _MOBILENET | {"stages": _SMALL, "last": 576, "dense": 1024}
    b0 = {"stem": 32, "activation": "silu", "hard": False, "last": 1280, "dense": 0}
    yield "mobilenetv3_large_100", Named("inverted_residual", large)
    yield "mobilenetv3_small_100", Named("inverted_residual", small)
    yield "efficientnet_b0", Named("inverted_residual", b0 | {"stages": _efficientnet_b0()})


TIMM: Mapping[str, Named] = {
    name: named
    for names in (
        _resnets(),
        _convnexts(),
        _plain_vits(),
        _self_supervised_vits(),
        _vits_of_captions(),
        _swins(),
        _inverted_residuals(),
    )
    for name, named in names
}
"""By the name of the architecture, as in ``config.json`` of timm's checkpoints."""
