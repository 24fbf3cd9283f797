"""The model that a run leaves, and a backbone taken from it."""

import hashlib
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jtl import registry
from jtl.defaults import defaults
from jtl.errors import UserError
from jtl.models import saved
from jtl.models.chain import chain
from jtl.models.digits_convnet import backbone as digits
from jtl.models.zoo import vectors
from jtl.runs import build
from jtl.training.network import Start

HEAD = {"bias": np.zeros(3, np.float32)}
CLASSES = ("ant", "bee", "cat")


def leave_run(folder: Path, *, size: int = 0, drop: str = "", reshape: str = "") -> dict:
    """Writes what a run on the digits backbone leaves; returns its backbone's parameters."""
    folder.mkdir()
    found = digits(image_size=size)
    params, _ = chain(found.blocks()).init(jax.random.key(1))
    left = {name: dict(block) for name, block in params.items() if name != drop}
    if reshape:
        left[reshape] = {"conv": {"kernel": np.zeros((1, 1, 1, 1), np.float32)}}
    saved.write(folder, {"backbone": left, "head": HEAD}, {}, found, CLASSES)
    return params


def test_parameters_and_statistics_come_back_as_they_were(tmp_path):
    params = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    stats = {"a": {"norm": {"mean": np.ones(3, np.float32)}}}
    file = saved.write(tmp_path, params, stats, digits(image_size=20), CLASSES)
    model = saved.read(tmp_path)
    np.testing.assert_array_equal(model.params["a"]["b"], params["a"]["b"])
    np.testing.assert_array_equal(model.stats["a"]["norm"]["mean"], stats["a"]["norm"]["mean"])
    assert (model.architecture, model.image_size) == ("digits-convnet", 20)
    assert tuple(model.classes) == CLASSES
    assert model.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_equal_models_are_equal_files(tmp_path):
    files = {
        saved.write(tmp_path, {"head": HEAD}, {}, digits(), CLASSES).read_bytes() for _ in range(20)
    }
    assert len(files) == 1


def test_what_classes_are_called_changes_no_random_number(tmp_path):
    salts = []
    for number, (classes, bias) in enumerate(
        ((CLASSES, 0.0), (("x", "y", "z"), 0.0), (CLASSES, 1.0))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        params, _ = chain(digits().blocks()).init(jax.random.key(1))
        head = {"bias": np.full(3, bias, np.float32)}
        saved.write(folder, {"backbone": params, "head": head}, {}, digits(), classes)
        salts.append(saved.backbone(str(folder)).salt)
    assert salts[0] == salts[1] != salts[2]


def test_a_backbone_comes_from_a_finished_run_and_says_what_it_took(tmp_path, capsys):
    params = leave_run(tmp_path / "run")
    found = saved.backbone(str(tmp_path / "run"))
    assert found.weights is not None and found.origin == f"run:{tmp_path / 'run'}"
    jax.tree.map(np.testing.assert_array_equal, found.weights[0], jax.device_get(params))
    assert "loaded all 9 arrays; skipped head" in capsys.readouterr().out


def test_a_run_needs_the_folder_of_the_run_it_started_from_and_no_other(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    params = leave_run(first, size=20)
    found = saved.backbone(str(first))
    second.mkdir()
    saved.write(
        second, {"backbone": found.weights[0], "head": HEAD}, found.weights[1], found, CLASSES
    )
    shutil.rmtree(first)
    again = saved.backbone(str(second))
    jax.tree.map(np.testing.assert_array_equal, again.weights[0], jax.device_get(params))
    assert (again.wanted, again.name) == (found.wanted, "digits-convnet")


def test_an_unfinished_run_is_no_backbone(tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors: finish that run first"):
        saved.backbone(str(tmp_path))


def test_a_run_on_vectors_has_no_backbone(tmp_path):
    saved.write(tmp_path, {"head": HEAD}, {}, vectors("8"), CLASSES)
    with pytest.raises(UserError, match="was trained on vectors and has no backbone"):
        saved.backbone(str(tmp_path))


def test_a_file_that_does_not_name_its_backbone_is_refused(tmp_path):
    save_file({"params/head/bias": HEAD["bias"]}, tmp_path / registry.MODEL)
    with pytest.raises(UserError, match="is no model that a run of jtl wrote"):
        saved.backbone(str(tmp_path))


def test_a_damaged_model_is_named(tmp_path):
    leave_run(tmp_path / "run")
    file = tmp_path / "run" / registry.MODEL
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        saved.backbone(str(tmp_path / "run"))


def test_what_does_not_fit_is_named(tmp_path):
    leave_run(tmp_path / "lacking", drop="dense")
    with pytest.raises(UserError, match="dense/dense/kernel is missing"):
        saved.backbone(str(tmp_path / "lacking"))
    leave_run(tmp_path / "shape", reshape="stage2")
    with pytest.raises(UserError, match=r"stage2/conv/kernel is \(1, 1, 1, 1\), not \(3, 3, 32"):
        saved.backbone(str(tmp_path / "shape"))


def test_images_of_another_size_do_not_fit_and_the_size_that_would_is_named(tmp_path):
    leave_run(tmp_path / "run", size=20)
    with pytest.raises(UserError, match=r"\(trained at 20 pixels\) does not fit: dense/dense/kern"):
        saved.backbone(str(tmp_path / "run"), image_size=28)


def test_the_head_on_a_run_is_not_the_one_it_was_trained_with(tmp_path):
    """With the same seed: features fit even the first values of the head they were trained with."""
    leave_run(tmp_path / "run")
    made = defaults()
    heads = []
    for reference in ("random:digits-convnet", f"run:{tmp_path / 'run'}"):
        made.model.backbone = reference
        found = build.backbone(made)
        params, _ = Start(found, build.classifier_blocks(made, found, classes=10))(seed=0)
        heads.append(params["head"]["dense"]["kernel"])
    correlation = np.corrcoef(heads[0].ravel(), heads[1].ravel())[0, 1]
    assert abs(correlation) < 0.2
