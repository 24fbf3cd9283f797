"""Directories of images."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jtl.data import folder
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Preprocess

RGB = Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3)


def write(path: Path, level: int = 0, mode: str = "RGB") -> None:
    """An image of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), (level,) * len(mode) if len(mode) > 1 else level).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two cats and three dogs."""
    root = tmp_path / "pets"
    for level, name in enumerate(["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png", "dog/c.png"]):
        write(root / name, level)
    return root


@pytest.fixture
def split_pets(tmp_path: Path, pets: Path) -> Path:
    root = tmp_path / "split"
    shutil.copytree(pets, root / "train")
    shutil.copytree(pets, root / "test")
    return root


def load(root: Path) -> Examples:
    return folder.load(str(root), RGB)


def test_class_folders_give_the_labels(pets: Path) -> None:
    examples = load(pets)
    assert examples.classes == ("cat", "dog")
    assert examples.labels is not None and examples.labels.tolist() == [0, 0, 1, 1, 1]
    assert examples.labels.dtype == np.int32
    assert examples.names.tolist()[1:3] == ["cat/b.png", "dog/a.png"]
    assert isinstance(examples.inputs, np.ndarray) and examples.inputs.dtype == np.uint8
    assert examples.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert examples.split is None and examples.notes == ()
    assert len(set(examples.identities)) == 5


def test_images_deeper_in_a_class_folder_belong_to_the_class(pets: Path) -> None:
    write(pets / "cat" / "kittens" / "young" / "k.JPG", 9)
    labels = load(pets).labels
    assert labels is not None and labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_hidden_folders_are_no_classes(pets: Path) -> None:
    write(pets / ".thumbnails" / "a.png")
    assert load(pets).classes == ("cat", "dog")


def test_a_flat_folder_is_unlabelled(pets: Path) -> None:
    examples = load(pets / "dog")
    assert examples.labels is None and examples.classes == () and len(examples) == 3


def test_train_and_test_folders_are_a_split(split_pets: Path) -> None:
    examples = load(split_pets)
    assert examples.classes == ("cat", "dog")
    assert examples.split is not None
    assert examples.split.tolist() == ["train"] * 5 + ["test"] * 5
    assert examples.labels is not None and examples.labels.tolist() == [0, 0, 1, 1, 1] * 2


def test_a_validation_folder_is_passed_over_and_it_is_said(split_pets: Path) -> None:
    shutil.copytree(split_pets / "test", split_pets / "val")
    examples = load(split_pets)
    assert len(examples) == 10
    assert examples.notes == ("only train and test are read, not val",)


def test_a_class_without_test_images_is_said(split_pets: Path) -> None:
    shutil.rmtree(split_pets / "test" / "cat")
    assert load(split_pets).notes == ("no test images of cat",)


def test_a_class_without_training_images_is_an_error(split_pets: Path) -> None:
    shutil.rmtree(split_pets / "train" / "cat")
    with pytest.raises(UserError, match=r"no images found in .*/train/cat "):
        load(split_pets)


@pytest.mark.parametrize("other", ["test", "val"])
def test_half_a_split_is_an_error(split_pets: Path, other: str) -> None:
    shutil.rmtree(split_pets / "test")
    write(split_pets / other / "unsorted.png")
    with pytest.raises(UserError, match=r"/test holds no class folders"):
        load(split_pets)


def test_a_class_may_be_called_train(pets: Path) -> None:
    (pets / "cat").rename(pets / "train")
    assert load(pets).classes == ("dog", "train")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder:.*gone: there is no such directory"):
        load(tmp_path / "gone")


def test_a_file_is_no_directory(pets: Path) -> None:
    with pytest.raises(UserError, match=r"a.png: is a file"):
        load(pets / "cat" / "a.png")


def test_a_directory_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match=r"no images found \(files ending in .bmp, .*\)"):
        load(tmp_path)


def test_an_empty_class_folder_is_named(pets: Path) -> None:
    (pets / "emu").mkdir()
    with pytest.raises(UserError, match=r"no images found in .*/emu .*; add some, or remove"):
        load(pets)


def test_one_class_only_is_an_error(pets: Path) -> None:
    shutil.rmtree(pets / "dog")
    with pytest.raises(UserError, match=r"one class only \(cat\)"):
        load(pets)


def test_images_beside_class_folders_are_an_error(pets: Path) -> None:
    write(pets / "stray.png")
    with pytest.raises(UserError, match=r"also stray.png beside them"):
        load(pets)


def test_a_folder_that_may_not_be_read_is_named(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a patch, as the tests may run as one who may read everything."""

    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(UserError, match=r"folder:.*/cat/.* cannot be read \(Permission denied\)"):
        load(pets)


def test_an_unreadable_class_is_not_an_empty_one(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(parent: Path, *, onerror: Callable[[OSError], None]) -> Iterator[Any]:
        onerror(PermissionError(13, "Permission denied", str(parent)))
        yield from ()

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(UserError, match=r"/cat cannot be read \(Permission denied\)"):
        load(pets)


def test_a_truncated_image_is_named(pets: Path) -> None:
    path = pets / "dog" / "b.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"dog/b.png: cannot be decoded"):
        load(pets)


def test_a_link_to_nothing_is_named(pets: Path) -> None:
    """Rather than passed over, which would train on fewer images than there were."""
    (pets / "dog" / "moved.png").symlink_to(pets / "gone.png")
    with pytest.raises(UserError, match=r"dog/moved.png cannot be read \(No such file"):
        load(pets)
    (pets / "dog" / "moved.png").rename(pets / "dog" / ".moved.png")  # as editors' locks are
    assert len(load(pets)) == 5


def test_a_backbone_of_vectors_is_refused(pets: Path) -> None:
    with pytest.raises(UserError, match="holds images, and this backbone takes vectors; choose"):
        folder.load(str(pets), None)


def test_what_was_done_to_how_many_images_is_said(pets: Path) -> None:
    write(pets / "cat" / "a.png", mode="L")
    write(pets / "cat" / "b.png", mode="LA")
    write(pets / "dog" / "a.png", mode="L")
    (pets / "dog" / "readme.txt").write_text("dogs")
    (pets / "dog" / ".hidden").write_text("nothing")
    assert load(pets).notes == (
        "1 files that are no images were passed over: readme.txt",
        "2 of 5 images: grey made RGB",
        "1 of 5 images: transparency laid over white",
    )


def test_a_set_too_large_for_memory_stays_on_disk(pets: Path) -> None:
    whole = load(pets)
    lazy = folder.load(str(pets), RGB, memory_limit=5 * 8 * 8 * 3 - 1)
    assert not isinstance(lazy.inputs, np.ndarray)
    for index in range(5):
        np.testing.assert_array_equal(lazy.inputs[index], whole.inputs[index])
    assert lazy.notes == ("too large for memory: images are decoded as they are needed",)
    before = lazy.sha256()
    (pets / "dog" / "c.png").write_bytes((pets / "dog" / "c.png").read_bytes() + b"more")
    assert lazy.sha256() != before


def test_the_same_file_reached_from_two_folders_is_one_identity(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "links").symlink_to(pets)
    copied = shutil.copytree(pets, tmp_path / "copy")
    assert (load(tmp_path / "links").identities == load(pets).identities).all()
    assert not set(load(copied).identities) & set(load(pets).identities)
    assert load(copied).sha256() == load(pets).sha256()
