"""What a trained model is asked about: files, folders, arrays and tables, read as in training."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jtl.data import arrays, images
from jtl.data.preprocess import TAKEN, of_images
from jtl.errors import UserError
from jtl.types import Preprocess, Wanted

CHUNK = 128
"""How many inputs are read at a time."""
NAME, LABEL = "name", "label"
"""Columns of a table that are no features: the first one names the rows, the other is not read."""


class Taken(NamedTuple):
    """What a model takes.

    Attributes:
      wanted: by its backbone; None where it takes vectors.
      width: of the vectors.
    """

    wanted: Wanted | None
    width: int


class Item(NamedTuple):
    """An input that has not been read yet.

    Attributes:
      name: what to call it.
      read: gives it as the model takes it, or raises a ``UserError``.
    """

    name: str
    read: Callable[[], np.ndarray]


class Chunk(NamedTuple):
    """Some inputs that were read together.

    Attributes:
      names: of those that could be read.
      rows: what the model takes, one for each of them; None where there is none.
      unread: why the others could not be, a line each.
    """

    names: list[str]
    rows: np.ndarray | None
    unread: list[str]


def named(words: Sequence[str], taken: Taken) -> tuple[list[Item], list[str]]:
    """The inputs that some paths stand for.

    A folder stands for all files in it and below it that the model can take. Names begin with the
    word that stands for them.

    Args:
      words: each a path.
      taken: by the model.

    Returns:
      The inputs, and a line for each path that stands for none.
    """
    items: list[Item] = []
    unread: list[str] = []
    for word in words:
        try:
            items += _of_path(Path(word).expanduser(), word, taken)
        except UserError as error:
            unread.append(str(error))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            said = getattr(error, "strerror", None) or str(error)
            unread.append(f"{word}: cannot be read ({said})")
    return items, unread


def given(inputs: Any, taken: Taken) -> list[Item]:
    """The inputs that a program hands over.

    Args:
      inputs: images or vectors as one array, or a sequence of images: each a path, an image of
        Pillow's or an array [height, width] or [height, width, channels].
      taken: by the model.

    Raises:
      UserError: a path stands for no input.
    """
    if isinstance(inputs, str | os.PathLike | Image.Image):
        inputs = [inputs]
    if taken.wanted and isinstance(inputs, np.ndarray) and inputs.shape[2:] in ((3,), (4,)):
        raise UserError(
            f"inputs: an array of shape {inputs.shape} is one image, or images without channels "
            f"that are {inputs.shape[2]} pixels wide; give several as one array, or [image]"
        )
    items: list[Item] = []
    for number, value in enumerate(inputs):
        name = f"inputs[{number}]"
        if isinstance(value, str | os.PathLike):
            found, unread = named([os.fspath(value)], taken)
            if unread:
                raise UserError(unread[0])
            items += found
        elif isinstance(value, Image.Image):
            items.append(Item(name, partial(_picture, name, value, taken)))
        else:
            items.append(Item(name, partial(_row, name, np.asarray(value), taken)))
    return items


def chunks(items: Sequence[Item]) -> Iterator[Chunk]:
    """The inputs in order, read by all cores, at most :data:`CHUNK` at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            tried = list(zip(part, pool.map(_try, part), strict=True))
            rows = [found for _, found in tried if not isinstance(found, str)]
            yield Chunk(
                names=[item.name for item, found in tried if not isinstance(found, str)],
                rows=np.stack(rows) if rows else None,
                unread=[found for _, found in tried if isinstance(found, str)],
            )


def _try(item: Item) -> np.ndarray | str:
    """The input, or why it cannot be read."""
    try:
        return item.read()
    except UserError as error:
        return str(error)


def _of_path(path: Path, name: str, taken: Taken) -> list[Item]:
    readers, kind = READERS.get(type(taken.wanted), {}), TAKEN[type(taken.wanted)]
    if not readers:
        raise UserError(f"{name}: this model takes {kind}, which jtl cannot read from files")
    if path.is_dir():
        found = [
            item
            for file in _below(path)
            if file.suffix.lower() in readers
            for item in readers[file.suffix.lower()](file, str(file), taken)
        ]
        if not found:
            raise UserError(f"{name}: holds no file that this model takes ({', '.join(readers)})")
        return found
    if not path.exists():
        raise UserError(f"{name}: there is no such file or folder")
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{name}: this model takes {kind}, in files that end in {', '.join(readers)}"
        )
    return readers[path.suffix.lower()](path, name, taken)


def _below(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    hidden = (file.relative_to(folder).parts for file in files)
    return sorted(
        folder.joinpath(*parts) for parts in hidden if not any(p.startswith(".") for p in parts)
    )


def _image(path: Path, name: str, taken: Taken) -> list[Item]:
    return [Item(name, lambda: images.decode(path, of_images(name, taken.wanted)))]


def _archive(path: Path, name: str, taken: Taken) -> list[Item]:
    """The inputs of an .npz file."""
    rows = arrays.read(name, path)["inputs"]
    return [
        Item(where, partial(_row, where, row, taken))
        for where, row in ((f"{name}[{number}]", row) for number, row in enumerate(rows))
    ]


def _table(path: Path, name: str, taken: Taken) -> list[Item]:
    """The rows of a .csv file of numbers, whose first line may name the columns."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [cells for cells in csv.reader(file) if cells]
    heads = rows.pop(0) if rows and not all(map(_is_number, rows[0])) else []
    kept = [n for n, head in enumerate(heads) if head not in (NAME, LABEL)]
    place = heads.index(NAME) if NAME in heads else None
    items = []
    for number, cells in enumerate(rows):
        where = f"{name}[{number}]"
        numbers = [cells[n] for n in kept if n < len(cells)] if heads else cells
        own = where if place is None or place >= len(cells) else cells[place]
        items.append(Item(own, partial(_numbers, where, numbers, taken)))
    return items


def _numbers(name: str, cells: Sequence[str], taken: Taken) -> np.ndarray:
    for cell in cells:
        if not _is_number(cell):
            raise UserError(f"{name}: {cell!r} is no number; mend or remove that row")
    return _row(name, np.array(cells, np.float64), taken)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _row(name: str, row: np.ndarray, taken: Taken) -> np.ndarray:
    """One image or vector as the model takes it."""
    fitted, _ = arrays.fitted(name, row[None], taken.wanted)
    if taken.wanted is None and fitted.shape[1] != taken.width:
        raise UserError(
            f"{name}: has {fitted.shape[1]} numbers, and this model takes {taken.width}"
        )
    return fitted[0]


def _picture(name: str, image: Image.Image, taken: Taken) -> np.ndarray:
    """An image of Pillow's as the model takes it."""
    preprocess = of_images(name, taken.wanted)
    return images.finish(*images.plain(image), preprocess).pixels


Reader = Callable[[Path, str, Taken], list[Item]]
READERS: dict[type, dict[str, Reader]] = {
    Preprocess: dict.fromkeys(images.SUFFIXES, _image) | {".npz": _archive},
    type(None): {".npz": _archive, ".csv": _table},
}
"""How the inputs of a model that wants them so are read, by the suffix of the file."""
