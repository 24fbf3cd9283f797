"""Data sets prepared by TensorFlow Datasets, in an environment without TensorFlow."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as datasets
from PIL import Image

from jtl.data import embedded, tfds
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Preprocess

GREY = Preprocess(28, 1, (0.0,), (1.0,))
SIZES = {"train": 30, "test": 12}


def digits() -> Examples:
    """The embedded digits that the prepared sets hold: of every class."""
    return embedded.load("mnist", GREY).take(np.arange(0, 10_000, 230)[:42])


class Embedded(datasets.core.GeneratorBasedBuilder):
    """A real builder of the embedded digits."""

    VERSION = datasets.core.Version("1.0.0")
    name = "embedded"
    image: Any = datasets.features.Image(shape=(28, 28, 1))
    sizes = SIZES
    supervised: tuple[str, str] | None = ("image", "label")

    def _info(self) -> datasets.core.DatasetInfo:
        label = datasets.features.ClassLabel(num_classes=10)
        features = datasets.features.FeaturesDict({"image": self.image, "label": label})
        return datasets.core.DatasetInfo(
            builder=self, features=features, supervised_keys=self.supervised
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        starts = np.cumsum([0, *self.sizes.values()])
        return {
            split: self._generate_examples(int(start), size)
            for start, (split, size) in zip(starts, self.sizes.items(), strict=False)
        }

    def _generate_examples(self, start: int, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        examples = digits()
        for index in range(start, start + size):
            assert isinstance(examples.inputs, np.ndarray) and examples.labels is not None
            pixels = examples.inputs[index]
            as_image = isinstance(self.image, datasets.features.Image)
            value = Image.fromarray(pixels[..., 0]) if as_image else pixels
            yield index, {"image": value, "label": int(examples.labels[index])}


class Tensors(Embedded):
    """The same as plain arrays, in one split, without supervised keys."""

    name = "tensors"
    image = datasets.features.Tensor(shape=(28, 28, 1), dtype=np.uint8)
    sizes = {"everything": 42}  # noqa: RUF012 (a class attribute that no one changes)
    supervised = None


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both sets prepared."""
    root = tmp_path_factory.mktemp("tfds")
    for builder in (Embedded, Tensors):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture
def data_dir(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


def by_pixels(images: Any, labels: np.ndarray | None) -> set[tuple[bytes, int]]:
    """The examples without their order, which preparing a set changes."""
    assert labels is not None
    pairs = zip(range(len(images)), labels.tolist(), strict=True)
    return {(images[index].tobytes(), label) for index, label in pairs}


def test_a_prepared_set_is_read_back(data_dir: Path) -> None:
    examples, original = tfds.load("embedded", GREY), digits()
    assert by_pixels(examples.inputs, examples.labels) == by_pixels(
        original.inputs, original.labels
    )
    assert examples.split is not None
    assert examples.split.tolist() == ["train"] * 30 + ["test"] * 12
    train = examples.take(range(30))
    assert by_pixels(train.inputs, train.labels) == by_pixels(
        original.take(range(30)).inputs, original.take(range(30)).labels
    )
    assert examples.classes == tuple("0123456789")
    assert len(set(examples.identities)) == 42 and examples.notes == ()
    assert "tensorflow" not in sys.modules


def test_arrays_of_pixels_without_supervised_keys_are_read(data_dir: Path) -> None:
    examples, original = tfds.load("tensors", GREY), digits()
    assert by_pixels(examples.inputs, examples.labels) == by_pixels(
        original.inputs, original.labels
    )
    assert examples.split is None


def test_a_path_is_as_good_as_a_name(prepared: Path, data_dir: Path) -> None:
    by_name = tfds.load("embedded", GREY)
    for path in (prepared / "embedded", prepared / "embedded" / "1.0.0"):
        by_path = tfds.load(str(path), GREY)
        np.testing.assert_array_equal(by_path.inputs, by_name.inputs)


def test_images_are_brought_to_the_backbone(data_dir: Path) -> None:
    examples = tfds.load("embedded", Preprocess(14, 3, (0.0,) * 3, (1.0,) * 3))
    assert isinstance(examples.inputs, np.ndarray) and examples.inputs.shape == (42, 14, 14, 3)
    assert examples.notes == ("42 of 42 images: grey made RGB",)


def test_a_set_too_large_for_memory_is_read_when_needed(data_dir: Path) -> None:
    whole, lazy = tfds.load("embedded", GREY), tfds.load("embedded", GREY, memory_limit=1000)
    assert not isinstance(lazy.inputs, np.ndarray)
    np.testing.assert_array_equal(lazy.inputs[35], whole.inputs[35])
    assert lazy.labels is not None and whole.labels is not None
    assert lazy.labels.tolist() == whole.labels.tolist()
    assert "too large for memory" in lazy.notes[0]
    assert len(lazy.sha256()) == 64


def test_a_path_that_holds_no_set_is_one_line(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such data set was prepared"):
        tfds.load(str(tmp_path), GREY)


def test_a_name_that_was_not_prepared_lists_the_nearest(data_dir: Path) -> None:
    with pytest.raises(UserError, match=r"tfds:embeded: .*TFDS_DATA_DIR.*did you mean embedded"):
        tfds.load("embeded", GREY)


def test_a_missing_config_is_asked_for(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded" / "small").symlink_to(prepared / "embedded")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"name a config too: tfds:embedded/small"):
        tfds.load("embedded", GREY)
    assert len(tfds.load("embedded/small", GREY)) == 42


def test_a_format_that_needs_tensorflow_is_refused(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prepared / "embedded" / "1.0.0"
    for file in ("dataset_info.json", "features.json"):
        text = (source / file).read_text().replace("array_record", "tfrecord")
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=r"stored as tfrecord, which needs TensorFlow"):
        tfds.load(str(tmp_path), GREY)


def test_images_are_refused_by_a_backbone_of_vectors(data_dir: Path) -> None:
    with pytest.raises(UserError, match=r"tfds:embedded: holds images"):
        tfds.load("embedded", None)


def test_a_label_out_of_range_is_named(data_dir: Path) -> None:
    with pytest.raises(UserError, match=r"the label of example 1 is -1, but it has 2 classes"):
        tfds._labels("tfds:x", [0, -1], ("a", "b"))


def test_vectors_are_read_across_the_sources_of_a_set() -> None:
    sources = ([{"x": np.array([1, 2])}], [{"x": np.array([3, 4])}, {"x": np.array([5.0, np.inf])}])
    records = tfds.Records("x/1.0.0", sources, "x")
    assert len(records) == 3
    assert records.vector(1).tolist() == [3, 4] and records.vector(1).dtype == np.float32
    with pytest.raises(UserError, match=r"x/1.0.0\[2\]: x is float64 .* takes vectors of finite"):
        records.vector(2)
    with pytest.raises(UserError, match=r"x/1.0.0\[0\]: x is int64 .* takes images"):
        records.picture(0, GREY)
