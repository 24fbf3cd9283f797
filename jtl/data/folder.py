"""``folder:DIR``: a directory of image files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from jtl.data.examples import Examples
from jtl.data.images import MEMORY_LIMIT, SUFFIXES, Files, decoded_bytes
from jtl.data.preprocess import of_images
from jtl.errors import UserError
from jtl.types import Wanted

SPLITS = ("train", "test")
UNUSED_SPLITS = ("val", "valid", "validation")


class Found(NamedTuple):
    """Image files of one set, in a fixed order."""

    paths: list[Path]
    classes: list[str]
    """The class of each file; "" where the folder has no classes."""
    splits: list[str]
    """The split of each file; "" where the folder has no splits."""


def load(argument: str, wanted: Wanted | None, *, memory_limit: int = MEMORY_LIMIT) -> Examples:
    """The images of a directory, in one of three layouts.

    ``DIR/CLASS/*.png`` is a labelled set, its classes in alphabetical order; ``DIR/*.png`` an
    unlabelled one; ``DIR/train/CLASS/*.png`` with ``DIR/test/CLASS/*.png`` a labelled one that
    comes split. A set that takes more than ``memory_limit`` bytes once decoded stays on disk.
    """
    name = f"folder:{argument}"
    root = Path(argument).expanduser()
    if not root.exists():
        raise UserError(f"{name}: there is no such directory (looked for {root.absolute()})")
    if not root.is_dir():
        raise UserError(f"{name}: is a file; name the directory that holds the images")
    preprocess = of_images(name, wanted)
    try:
        found, notes = _find(name, root)
        classes = _classes(name, root, found)
    except OSError as error:
        raise UserError(f"{name}: {error.filename} cannot be read ({error.strerror})") from error
    notes += _missing_tests(classes, found)
    names = tuple(path.relative_to(root).as_posix() for path in found.paths)
    files = Files(tuple(found.paths), names, preprocess)
    if decoded_bytes(len(files), preprocess) <= memory_limit:
        inputs, changes = files.read_all()
        notes += changes
    else:
        inputs = files
        notes += ("too large for memory: images are decoded as they are needed",)
    labels = [classes.index(found_class) for found_class in found.classes] if classes else None
    return Examples(
        name=name,
        inputs=inputs,
        labels=None if labels is None else np.array(labels, np.int32),
        classes=classes,
        names=np.array(names),
        # Resolved, so that links to one file, in two domains say, are known to show one thing.
        identities=np.array([str(path.resolve()) for path in found.paths]),
        split=np.array(found.splits) if found.splits[0] else None,
        notes=notes,
    )


def _find(name: str, root: Path) -> tuple[Found, tuple[str, ...]]:
    """The images below ``root``, and what was passed over."""
    found, flat = Found([], [], []), Found([], [], [])
    others: list[Path] = []
    parents = _parents(name, root)
    for parent, split in parents:
        for folder in _folders(parent):
            _collect(folder, folder.name, split, found, others)
    _collect(root, "", "", flat, others, deep=False)
    if flat.paths and found.paths:
        raise UserError(
            f"{name}: holds folders of images but also {flat.paths[0].name} beside them; "
            "move it into the folder of its class"
        )
    if not (flat.paths or found.paths):
        raise UserError(f"{name}: no images found (files ending in {', '.join(SUFFIXES)})")
    notes = []
    if others:
        notes.append(f"{len(others)} files that are no images were passed over: {others[0].name}")
    unused = [f.name for f in _folders(root) if len(parents) == 2 and f.name not in SPLITS]
    if unused:
        notes.append(f"only train and test are read, not {', '.join(unused)}")
    return (found if found.paths else flat), tuple(notes)


def _parents(name: str, root: Path) -> list[tuple[Path, str]]:
    """The directories that hold class folders, each with the split it stands for ("" for none)."""
    names = {folder.name for folder in _folders(root)}
    if not names or not names <= {*SPLITS, *UNUSED_SPLITS}:  # a class may well be called "train"
        return [(root, "")]
    for split in SPLITS:
        if split not in names or not _folders(root / split):
            raise UserError(
                f"{name}: has folders {', '.join(sorted(names))}, but {root / split} holds no "
                "class folders; add them, or name one of the folders for an unlabelled set"
            )
    return [(root / split, split) for split in SPLITS]


def _folders(parent: Path) -> list[Path]:
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))


def _collect(
    folder: Path, label: str, split: str, found: Found, others: list[Path], *, deep: bool = True
) -> None:
    """Adds the images in ``folder`` (and below it, if ``deep``) to ``found``."""
    for path in sorted(_below(folder) if deep else folder.iterdir()):
        if path.name.startswith("."):
            continue
        image = path.suffix.lower() in SUFFIXES
        if image and path.is_symlink():
            path.stat()  # an error, where the link leads to nothing
        if not path.is_file():
            continue
        if not image:
            others.append(path)
            continue
        found.paths.append(path)
        found.classes.append(label)
        found.splits.append(split)


def _below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> NoReturn:
        raise error

    for parent, _, names in os.walk(folder, onerror=stop):
        yield from (Path(parent, name) for name in names)


def _classes(name: str, root: Path, found: Found) -> tuple[str, ...]:
    """The class folders' names; an error where one is empty or there is but one."""
    if found.classes and not found.classes[0]:
        return ()
    parents = [root / half for half in SPLITS] if found.splits and found.splits[0] else [root]
    folders = [folder for parent in parents for folder in _folders(parent)]
    classes = tuple(sorted({folder.name for folder in folders}))
    trained = {c for c, s in zip(found.classes, found.splits, strict=True) if s != "test"}
    for class_name in classes:
        if class_name not in trained:
            raise UserError(
                f"{name}: no images found in {parents[0] / class_name} "
                f"(files ending in {', '.join(SUFFIXES)}); add some, or remove the class"
            )
    if len(classes) == 1:
        raise UserError(
            f"{name}: one class only ({classes[0]}), so there is nothing to tell apart; "
            "add a folder for another class, or name that folder for an unlabelled set"
        )
    return classes


def _missing_tests(classes: tuple[str, ...], found: Found) -> tuple[str, ...]:
    tested = {c for c, s in zip(found.classes, found.splits, strict=True) if s == "test"}
    missing = [name for name in classes if name not in tested]
    return (f"no test images of {', '.join(missing)}",) if tested and missing else ()
