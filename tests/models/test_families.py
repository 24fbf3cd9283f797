"""The architectures that come in many shapes: what holds of each, small and at random."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import numpy as np
import pytest

from jtl.deployment.export import stablehlo
from jtl.errors import UserError
from jtl.models import families, lora
from jtl.models.chain import chain
from jtl.types import Preprocess, Sound, Tokenization, Wanted

IMAGES = Preprocess(32, 3, (0.0,) * 3, (255.0,) * 3)
TEXTS = Tokenization("{}", 16, 0)
LAYERS = {"width": 8, "layers": 2, "heads": 2, "hidden": 16}
_BLOCK = (3, 2, 8, 8, 4, "silu")
SHAPES: Mapping[str, tuple[Mapping[str, Any], Wanted]] = {
    "resnet": ({"depths": (1, 1), "bottleneck": True, "width": 8}, IMAGES),
    "inverted_residual": (
        {
            "stem": 8,
            "stages": ((_BLOCK,), (_BLOCK,)),
            "last": 8,
            "dense": 8,
            "activation": "silu",
            "hard": True,
        },
        IMAGES,
    ),
    "convnext": ({"depths": (1, 1), "widths": (8, 8), "second": True}, IMAGES),
    "vit": ({**LAYERS, "patch": 8, "grid": 4, "registers": 2}, IMAGES),
    "swin": ({"width": 8, "depths": (2, 1), "heads": (2, 2), "window": 4, "grid": 8}, IMAGES),
    "bert": ({**LAYERS, "vocabulary": 20, "positions": 16, "unit": True}, TEXTS),
    "whisper": ({**LAYERS, "bands": 4, "positions": 8}, Sound((0, 4), 16)),
    "wav2vec2": (
        {
            **LAYERS,
            "widths": (8, 8),
            "kernels": (4, 3),
            "strides": (4, 2),
            "place_kernel": 4,
            "place_groups": 2,
        },
        Sound((0,)),
    ),
}


def inputs_of(wanted: Wanted) -> np.ndarray:
    draw = np.random.default_rng(0)
    if isinstance(wanted, Preprocess):
        return draw.integers(0, 256, (2, wanted.size, wanted.size, 3), np.uint8)
    if isinstance(wanted, Tokenization):
        return np.array([[3, 4, 5, 0], [6, 0, 0, 0]], np.int32)
    return draw.normal(size=(2, 16, *wanted.shape[1:])).astype(np.float32)


def made(family: str, **changes: Any):
    shape, wanted = SHAPES[family]
    settings = {**shape, **changes}
    return families.backbone("it", family, families.FAMILIES[family].shape(**settings), wanted)


def test_every_family_is_here() -> None:
    assert SHAPES.keys() == families.FAMILIES.keys()


@functools.cache
def weights(family: str) -> tuple[Any, Any]:
    """Parameters and statistics, drawn here: jax takes longer to compile that than a network."""
    draw = np.random.default_rng(0)

    def leaf(like: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(like.shape) < 2:
            return draw.uniform(0.5, 1.0, like.shape).astype(like.dtype)
        return (draw.normal(size=like.shape) / like.shape[-2] ** 0.5).astype(like.dtype)

    model = chain(made(family).blocks())
    return jax.tree.map(leaf, jax.eval_shape(model.init, jax.random.key(0)))


@functools.cache
def compiled(family: str) -> Callable[[Any], jax.Array]:
    """The features of inputs."""
    apply = jax.jit(functools.partial(chain(made(family).blocks()).apply, train=False, rng=None))
    return lambda inputs: apply(*weights(family), inputs)[0]


@pytest.mark.parametrize("family", SHAPES)
def test_a_backbone_gives_its_features_and_is_restored_from_json(family: str) -> None:
    found = made(family)
    again = families.restored(family, json.loads(json.dumps(dict(found.settings))))
    assert again.wanted == found.wanted and again.settings == found.settings
    features = compiled(family)(inputs_of(found.wanted))
    assert features.shape == (2, found.width) and np.isfinite(features).all()
    shapes = [
        jax.eval_shape(chain(each.blocks()).init, jax.random.key(0)) for each in (found, again)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("family", SHAPES)
def test_a_program_for_every_platform_takes_any_number_of_inputs(family: str) -> None:
    found = made(family)
    model = chain(found.blocks())

    def outputs(weights: Any, inputs: Any) -> tuple[jax.Array, jax.Array]:
        features = model.apply(*weights, inputs, train=False, rng=None)[0]
        return features, features

    program = jax.export.deserialize(bytearray(stablehlo(outputs, weights(family), found)))
    examples = program.in_avals[0].shape[0]
    assert not isinstance(examples, int)
    assert [leaf.shape for leaf in program.out_avals] == [(examples, found.width)] * 2
    inputs = inputs_of(found.wanted)
    wanted = compiled(family)(inputs)
    np.testing.assert_allclose(program.call(inputs)["features"], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", SHAPES)
def test_examples_do_not_touch_each_other(family: str) -> None:
    inputs = inputs_of(SHAPES[family][1])
    other = np.stack([inputs[0], inputs[1][::-1]])
    first, second = map(compiled(family), (inputs, other))
    np.testing.assert_allclose(first[0], second[0], atol=1e-6)
    assert np.abs(first[1] - second[1]).max() > 1e-4, "the other one did change"


def test_padding_changes_nothing() -> None:
    short = np.array([[3, 4, 5]], np.int32)
    results = [compiled("bert")(np.pad(short, ((0, 0), (0, more)))) for more in (0, 6)]
    np.testing.assert_allclose(*results, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(results[0], axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["class", "mean", "both", "attention"])
def test_tokens_are_pooled_as_asked(pooling: str) -> None:
    found = made("vit", pooling=pooling)
    *blocks, pool = found.blocks()
    tokens = np.random.default_rng(0).normal(size=(2, 19, 8)).astype(np.float32)
    params, stats = pool[1].init(jax.random.key(0))
    features = pool[1].apply(params, stats, tokens, train=False, rng=None)[0]
    assert features.shape == (2, found.width) == (2, 16 if pooling == "both" else 8)
    wanted = {"class": tokens[:, 0], "mean": tokens[:, 3:].mean(1)}
    wanted["both"] = np.concatenate(list(wanted.values()), axis=1)
    if pooling in wanted:
        np.testing.assert_allclose(features, wanted[pooling], rtol=1e-5)
    assert [name for name, _ in blocks] == ["pixels", "embed", "layer1", "layer2", "norm"]


def test_sides_that_are_no_multiple_of_a_patch_are_refused() -> None:
    shape, wanted = SHAPES["vit"]
    with pytest.raises(
        UserError, match=r"model.image_size is 30; it takes multiples of 8 pixels: 24 or 32"
    ):
        families.backbone("it", "vit", families.vit.Shape(**shape), wanted, image_size=30)
    with pytest.raises(UserError, match=r"model.image_size: it takes no images; set 0"):
        families.backbone(
            "it", "bert", families.bert.Shape(**SHAPES["bert"][0]), TEXTS, image_size=8
        )


@pytest.mark.parametrize("family", ["vit", "bert", "swin", "whisper", "wav2vec2"])
def test_low_rank_leaves_find_queries_and_values_by_one_name(family: str) -> None:
    blocks = lora.adapted(made(family).blocks(), rank=1, alpha=1.0, on=r".*/(query|value)/kernel")
    params, _ = jax.eval_shape(chain(blocks).init, jax.random.key(0))
    names = {path for path, _ in lora.walk(params) if path.endswith(lora.A)}
    layers = sum("query/" in name for name in names)
    assert layers and len(names) == 2 * layers
