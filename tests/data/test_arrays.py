"""Arrays that the user made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtl.data import arrays
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Preprocess

GREY = Preprocess(8, 1, (0.0,), (1.0,))
VECTORS = np.arange(12.0).reshape(4, 3)
IMAGES = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8, 1)
LABELS = np.array([0, 1, 1, 0])


def load(folder: Path, preprocess: Preprocess | None = None, **columns: Any) -> Examples:
    np.savez(folder / "mine.npz", **columns)
    return arrays.load(str(folder / "mine.npz"), preprocess)


def test_vectors_become_float32(tmp_path: Path) -> None:
    examples = load(tmp_path, inputs=VECTORS, labels=LABELS)
    assert isinstance(examples.inputs, np.ndarray) and examples.inputs.dtype == np.float32
    np.testing.assert_array_equal(examples.inputs, VECTORS)
    assert examples.labels is not None and examples.labels.dtype == np.int32
    assert examples.labels.tolist() == LABELS.tolist() and examples.classes == ("0", "1")
    assert examples.names.tolist() == [f"mine.npz[{i}]" for i in range(4)]
    assert len(set(examples.identities)) == 4 and examples.split is None and examples.notes == ()


def test_images_are_brought_to_the_backbone(tmp_path: Path) -> None:
    examples = load(tmp_path, Preprocess(4, 3, GREY.mean * 3, GREY.std * 3), inputs=IMAGES)
    assert isinstance(examples.inputs, np.ndarray) and examples.inputs.shape == (4, 4, 4, 3)
    assert examples.labels is None and examples.classes == ()
    assert "grey images were made RGB" in examples.notes


def test_images_without_channels_are_grey_and_it_is_said(tmp_path: Path) -> None:
    examples = load(tmp_path, GREY, inputs=IMAGES[..., 0])
    np.testing.assert_array_equal(examples.inputs, IMAGES)
    assert examples.notes == ("images without channels were taken to be grey",)


def test_all_columns_are_read(tmp_path: Path) -> None:
    examples = load(
        tmp_path,
        inputs=VECTORS,
        labels=LABELS,
        classes=np.array(["cat", "dog", "emu"]),
        identities=np.array([7, 7, 8, 9]),
        split=np.array(["train", "train", "test", "train"]),
    )
    assert examples.classes == ("cat", "dog", "emu")
    assert examples.identities.tolist() == ["7", "7", "8", "9"]
    assert examples.split is not None and examples.split.tolist()[2] == "test"
    assert examples.notes == ("no examples of class emu",)


NAN = VECTORS.copy()
NAN[2, 1] = np.nan
HUGE = VECTORS.copy()
HUGE[0, 2] = 1e300
MISTAKES = {
    "nan": (None, {"inputs": NAN}, r"inputs\[2, 1\] is nan \(1 values are not finite"),
    "overflow": (None, {"inputs": HUGE}, r"inputs\[0, 2\] is 1e\+300"),
    "float images": (GREY, {"inputs": IMAGES / 255}, r"is float64 of shape .* takes images: uint8"),
    "images for vectors": (None, {"inputs": IMAGES}, r"uint8 of shape .* takes vectors"),
    "strings": (None, {"inputs": np.array([["a"]])}, r"takes vectors: numbers"),
    "vectors for images": (GREY, {"inputs": VECTORS}, r"takes images"),
    "no pixels": (GREY, {"inputs": np.zeros((4, 0, 0, 3), np.uint8)}, r"images without pixels"),
    "channels first": (GREY, {"inputs": np.zeros((4, 2, 8, 8), np.uint8)}, r"have 8 channels"),
    "no inputs": (None, {"labels": LABELS}, r"has no array 'inputs'; it has labels"),
    "no examples": (None, {"inputs": VECTORS[:0]}, r"'inputs' holds no examples"),
    "a scalar": (None, {"inputs": np.float32(3)}, r"'inputs' holds no examples"),
    "unknown key": (None, {"inputs": VECTORS, "label": LABELS}, r"'label'; did you mean labels\?"),
    "length": (None, {"inputs": VECTORS, "labels": LABELS[:3]}, r"'labels' has shape \(3,\)"),
    "split length": (None, {"inputs": VECTORS, "split": np.array(["train"])}, r"'split' has shape"),
    "label rank": (None, {"inputs": VECTORS, "labels": np.eye(4)}, r"'labels' has shape \(4, 4\)"),
    "float labels": (None, {"inputs": VECTORS, "labels": LABELS / 1}, r"'labels' is float64"),
    "negative label": (None, {"inputs": VECTORS, "labels": LABELS - 1}, r"labels\[0\] is -1"),
    "large label": (
        None,
        {"inputs": VECTORS, "labels": LABELS * 2, "classes": np.array(["a", "b"])},
        r"labels\[1\] is 2, but it has 2 classes",
    ),
    "absurd label": (None, {"inputs": VECTORS, "labels": LABELS * 10**12}, r"labels\[1\] is 1000"),
    "one class": (None, {"inputs": VECTORS, "labels": LABELS * 0}, r"one class only \(0\)"),
    "classes": (
        None,
        {"inputs": VECTORS, "labels": LABELS, "classes": np.array(["a", "a"])},
        r"'classes' must be a list of different strings",
    ),
    "split": (
        None,
        {"inputs": VECTORS, "split": np.array(["train", "val", "test", "test"])},
        r"split\[1\] is 'val'; it must be train or test",
    ),
    "objects": (None, {"inputs": np.array([{}, []], object)}, r"Python objects"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_gets_one_line_that_names_the_file(tmp_path: Path, mistake: str) -> None:
    preprocess, columns, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=rf"^arrays:.*mine.npz: .*{message}") as info:
        load(tmp_path, preprocess, **columns)
    assert "\n" not in str(info.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.npz: there is no such file"):
        arrays.load(str(tmp_path / "gone.npz"), None)


def test_a_bare_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", VECTORS)
    with pytest.raises(UserError, match=r"one.npy: holds one bare array"):
        arrays.load(str(tmp_path / "one.npy"), None)


@pytest.mark.parametrize("kept", [0, 10, 200, 400])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, inputs=VECTORS, labels=LABELS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"mine.npz: cannot be read"):
        arrays.load(str(path), None)


@pytest.mark.parametrize("start", [100, 2000])
def test_a_damaged_file_is_named(tmp_path: Path, start: int) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, inputs=np.random.default_rng(0).normal(size=(50, 50)))
    data = bytearray(path.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"mine.npz: cannot be read"):
        arrays.load(str(path), None)
