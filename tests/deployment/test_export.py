"""Exported models: jax alone runs them, on any number of inputs, to the same numbers."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
import pytest
import small_runs as runs

import jtl
from jtl.deployment import export
from jtl.deployment.card import card
from jtl.errors import UserError
from jtl.models import bert, families, heads, saved
from jtl.models.chain import chain, prefixed
from jtl.models.zoo import vectors
from jtl.runs import train
from jtl.shell import cli
from jtl.types import Tokenization

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images, with low-rank leaves in its network."""
    folder = tmp_path_factory.mktemp("exported")
    made = runs.picture_config(folder, steps=2, eval_every=2, checkpoint_every=2)
    made.model.lora.rank = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jtl.runs.page.pictures", lambda *_: ())
        assert train.run(made, folder / "a_run") == 0
    return folder / "a_run"


@pytest.fixture(scope="module")
def exported(finished: Path) -> Path:
    folder = finished.parent / "out"
    # As users have it; all tests run with more.
    with jax.default_matmul_precision("default"):
        assert cli.main(["export", str(finished), "-o", str(folder)]) == 0
    return folder


def images(count: int) -> np.ndarray:
    draw = np.random.default_rng(count)
    return draw.integers(0, 256, (count, 8, 8, 1), np.uint8)


def test_the_folder_holds_all_that_is_needed(exported: Path, finished: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {"README.md", "config.json", "model.json", "model.safetensors", export.PROGRAM}
    for name in ("config.json", "model.safetensors"):
        assert (exported / name).read_bytes() == (finished / name).read_bytes()
    said = json.loads((exported / "model.json").read_text())
    assert said["classes"] == ["dark", "light"]
    assert said["inputs"]["shape"] == ["examples", "8", "8", "1"]
    assert said["inputs"]["preprocessing"].keys() == {
        "size",
        "channels",
        "interpolation",
        "crop",
        "squash",
    }


def test_the_program_gives_the_numbers_of_the_run_on_any_number_of_inputs(exported: Path) -> None:
    program = jax.export.deserialize(bytearray((exported / export.PROGRAM).read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    model = jtl.load(exported)
    for count in (1, 5):
        outputs, expected = program.call(images(count)), model.predict(images(count))
        np.testing.assert_allclose(outputs["probabilities"], expected.probabilities, atol=1e-6)
        np.testing.assert_allclose(outputs["features"], expected.features, atol=1e-6)


def test_products_take_no_short_cut_on_accelerators(exported: Path) -> None:
    program = jax.export.deserialize(bytearray((exported / export.PROGRAM).read_bytes()))
    products = [
        line
        for line in program.mlir_module().splitlines()
        if "stablehlo.dot_general" in line or "stablehlo.convolution" in line
    ]
    assert len(products) >= 4
    assert all("HIGHEST" in line for line in products)


def test_the_code_of_the_card_runs_with_jax_alone(exported: Path) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    (code,) = BLOCK.findall(text)
    code += "\nimport sys\nprint(sorted({'jtl', 'flax', 'optax', 'safetensors'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=exported, capture_output=True, text=True, check=True
    )
    *lines, imported = done.stdout.splitlines()
    assert imported == "[]"
    expected = jtl.load(exported).predict(np.ones((2, 8, 8, 1), np.uint8))
    for line, label, row in zip(lines, expected.labels, expected.probabilities, strict=True):
        assert line.split()[0] == label
        assert float(line.split()[1]) == pytest.approx(row.max(), abs=1e-6)


def test_the_card_says_what_the_run_reached_and_leaves_the_licence(
    exported: Path, finished: Path
) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    summary = json.loads((finished / "summary.json").read_text())
    accuracy = summary["source_test"]["accuracy"]
    shown = "{value:.1f} % ({low:.1f} to {high:.1f})".format(
        **{name: 100 * value for name, value in accuracy.items()}
    )
    assert f"| Accuracy | {shown} |" in text
    assert "# a_run\n" in text and "Classes: dark, light." in text
    assert "license: # to be filled in" in text
    assert all(f"- {line}\n" in text for line in summary["protocol"])
    said = json.loads((exported / "model.json").read_text())
    assert all(f"`{name}`: sha256 {value}" in text for name, value in said["sha256"].items())
    for file in (export.PROGRAM, "model.safetensors"):
        assert said["sha256"][file] == hashlib.sha256((exported / file).read_bytes()).hexdigest()


def test_weights_that_no_program_can_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST", 100)
    found = vectors("8")
    with pytest.raises(UserError, match="the model has 1,000 bytes, and StableHLO holds less than"):
        export.stablehlo(lambda weights, inputs: (inputs, inputs), np.zeros(250, "f4"), found)


def test_a_folder_that_cannot_be_made_is_an_error_and_leaves_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_json", fails)
    with pytest.raises(UserError, match="out: cannot be written \\(No space left on device\\)"):
        export.export(finished, tmp_path / "out")
    assert not list(tmp_path.iterdir())


CONFIG = {
    "data": {"source": "x", "target": "y"},
    "model": {"backbone": "b"},
    "method": {"name": "dann"},
    "steps": 3,
    "batch_size": 2,
    "seed": 1,
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
}
MANIFEST = {
    "git": {"commit": "1a2b", "dirty": True},
    "device": "1 x cpu",
    "started": "now",
    "packages": {"jax": "1"},
    "weights": {},
    "data": {},
}


def test_a_model_of_texts_brings_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "stablehlo", lambda *given: b"program")
    place = tmp_path / "run"
    place.mkdir()
    shape = bert.Shape(width=8, layers=1, heads=2, hidden=8, vocabulary=9, positions=16)
    found = families.backbone("it", "bert", shape, Tokenization('{"a": "é"}', 16, 0))
    blocks = (*prefixed("backbone", found.blocks()), ("head", heads.head(8, 2)))
    shapes, _ = jax.eval_shape(chain(blocks).init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    saved.write(place, params, {}, found, ["a", "b"])
    summary = {"train_seconds": 1.0, "protocol": []}
    for name, content in (("config", CONFIG), ("manifest", MANIFEST), ("summary", summary)):
        (place / f"{name}.json").write_text(json.dumps(content))
    assert export.export(place, tmp_path / "out") == 0
    assert (tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8") == '{"a": "é"}'
    said = json.loads((tmp_path / "out" / "model.json").read_text())
    assert said["inputs"] == {
        "shape": ["examples", "tokens"],
        "dtype": "int32",
        "preprocessing": {"longest": 16, "padding": 0},
    }


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (
            {"shape": ["examples", "tokens"], "dtype": "int32", "preprocessing": {"longest": 9}},
            "cut after 9 tokens and filled up with 0",
        ),
        (
            {"shape": ["examples", "tokens"], "dtype": "int32", "preprocessing": {"longest": 9}},
            "np.ones((2, 9), np.int32)",
        ),
        (
            {
                "shape": ["examples", "2"],
                "dtype": "float32",
                "preprocessing": {"columns": ["b", "a"]},
            },
            "the columns b, a in that order",
        ),
        ({"shape": ["examples", "6"], "dtype": "float32", "preprocessing": {}}, "vectors of 6 num"),
        (
            {
                "shape": ["examples", "8", "8", "3"],
                "dtype": "uint8",
                "preprocessing": {"size": 8, "channels": 3, "crop": 0.875, "squash": False},
            },
            "Images are RGB, cropped to the middle 87.5% of a square at the centre, resized to 8 x",
        ),
        (
            {
                "shape": ["examples", "8", "8", "3"],
                "dtype": "uint8",
                "preprocessing": {"size": 8, "channels": 3, "crop": 1.0, "squash": True},
            },
            "Images are RGB, squeezed to 8 x 8",
        ),
    ],
)
def test_the_card_says_what_goes_in(inputs: dict[str, Any], expected: str) -> None:
    defaults = {"padding": 0, "interpolation": "bicubic"}
    inputs["preprocessing"] = defaults | inputs["preprocessing"]
    model = {"inputs": inputs, "classes": ["a"], "sha256": {}}
    text = card("it", model, CONFIG, MANIFEST, {"train_seconds": 1.0, "protocol": ["None."]})
    assert expected in text
    assert "trained by dann on x for y" in text and "no test example had a label" in text
    assert "| commit of jtl | 1a2b with changes |" in text
