"""The image architectures against timm, every tensor drawn at random."""

from typing import Any

import jax
import numpy as np
import pytest
import timm
import torch
from comparing import assert_same, randomised
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from jtl.models import convnext, families, resnet, swin, vit, weights
from jtl.models.chain import chain
from jtl.models.pretrained.names import TIMM
from jtl.models.pretrained.timm import shaped, table
from jtl.models.weights import import_weights


def images(side: int) -> np.ndarray:
    return np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32)


def features(module: torch.nn.Module, inputs: np.ndarray) -> torch.Tensor:
    return module(torch.tensor(inputs.transpose(0, 3, 1, 2)))


SMALL_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3}
VITS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {},
    "deit3_small_patch16_224": {"placed": False, "scaled": True},
    "vit_small_patch14_dinov2": {"patch": 14, "scaled": True},
    "vit_small_patch14_reg4_dinov2": {
        "patch": 14,
        "scaled": True,
        "registers": 4,
        "placed": False,
    },
    "vit_base_patch16_clip_224": {"norm_first": True, "epsilon": 1e-5},
    "vit_base_patch16_clip_quickgelu_224": {
        "norm_first": True,
        "epsilon": 1e-5,
        "activation": "quick_gelu",
    },
    "vit_base_patch16_siglip_224": {"class_token": False, "pooling": "attention"},
    "vit_base_patch16_siglip_gap_224": {"class_token": False, "pooling": "mean"},
}


@pytest.mark.parametrize("more", [0, 2], ids=["native", "larger"])
@pytest.mark.parametrize("name", VITS)
def test_vision_transformers(name: str, more: int) -> None:
    settings = {"patch": 16} | VITS[name]
    patch = settings["patch"]
    shape = vit.Shape(24, 2, 3, 96, grid=4, **settings)
    module = timm.create_model(
        name, num_classes=0, img_size=4 * patch, dynamic_img_size=True, **SMALL_VIT
    )
    inputs = images((4 + more) * patch)
    assert_same(randomised(module), vit.blocks(shape), vit.TIMM, inputs, features)


@pytest.mark.parametrize("side", [64, 75])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_residual_networks(bottleneck: bool, deep: bool, side: int) -> None:
    shape = resnet.Shape((1, 2, 1, 1), bottleneck, deep)
    stem = {"stem_width": 32, "stem_type": "deep", "avg_down": True} if deep else {}
    module = ResNet(
        Bottleneck if bottleneck else BasicBlock,
        (1, 2, 1, 1),
        num_classes=0,
        **stem,
    )
    assert_same(
        randomised(module), resnet.blocks(shape), resnet.table(shape), images(side), features
    )


@pytest.mark.parametrize("side", [64, 75])
@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_tiny"])
def test_convnexts(name: str, side: int) -> None:
    depths, widths = (1, 2, 1, 1), (8, 16, 24, 32)
    shape = convnext.Shape(depths, widths, second=name.startswith("convnextv2"))
    module = timm.create_model(name, num_classes=0, depths=depths, dims=widths)
    assert_same(randomised(module), convnext.blocks(shape), convnext.TIMM, images(side), features)


@pytest.mark.parametrize("side", [56, 112, 72])
def test_swin_transformers(side: int) -> None:
    depths, heads = (2, 2, 2, 2), (2, 2, 4, 4)
    shape = swin.Shape(12, depths, heads, grid=side // 4)
    module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=0,
        img_size=side,
        embed_dim=12,
        depths=depths,
        num_heads=heads,
    )
    assert_same(randomised(module), swin.blocks(shape), swin.TIMM, images(side), features)


@pytest.mark.parametrize("side", [64, 75])
@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_100", "mobilenetv3_large_100", "efficientnet_b0"]
)
def test_inverted_residuals(name: str, side: int) -> None:
    named = TIMM[name]
    shape = shaped(named.family, named.shape, side, name=name)
    blocks = families.FAMILIES[named.family].blocks(shape)
    module = randomised(timm.create_model(name, num_classes=0))
    assert_same(module, blocks, table(named.family, shape), images(side), features)


@pytest.mark.parametrize("name", TIMM)
def test_every_name_is_the_network_that_timm_calls_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names and shapes of all tensors; the largest would fill the memory."""

    def fitted(layout: weights.Layout, tensor: Any, shape: Any, dtype: Any) -> tuple[Any, str]:
        found = layout(tensor).shape
        return tensor, "" if found == shape else f"becomes {found}, not {shape}"

    monkeypatch.setattr(weights, "_fitted", fitted)
    named = TIMM[name]
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=7)
    tensors = {
        tensor: np.broadcast_to(np.float32(0), value.shape)
        for tensor, value in module.state_dict().items()
    }
    shape = shaped(named.family, named.shape, module.pretrained_cfg["input_size"][1], name=name)
    found = families.FAMILIES[named.family]
    params, stats = jax.eval_shape(chain(found.blocks(shape)).init, jax.random.key(0))
    leaf = jax.ShapeDtypeStruct
    head = {"kernel": leaf((shape.features, 7), "float32"), "bias": leaf((7,), "float32")}
    import_weights(table(named.family, shape), tensors, params | {"head": {"dense": head}}, stats)
    assert module.pretrained_cfg["input_size"][1] == named.size
    assert _epsilons(module) == {getattr(shape, "epsilon", None) or EPSILONS[named.family]}


EPSILONS = {"resnet": 1e-5, "inverted_residual": 1e-5, "convnext": 1e-6, "swin": 1e-5}


def _epsilons(module: torch.nn.Module) -> set[float]:
    return {part.eps for part in module.modules() if hasattr(part, "eps")}


def test_a_mistake_is_found() -> None:
    shape = vit.Shape(24, 2, 3, 96, 16, 4, activation="gelu_tanh")
    module = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, **SMALL_VIT)
    with pytest.raises(AssertionError):
        assert_same(randomised(module), vit.blocks(shape), vit.TIMM, images(64), features)
