"""What a trained model is asked about: files, folders, arrays, tables and texts, read as in
training.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jtl.data import arrays, images, tables
from jtl.data.preprocess import TAKEN, of_images
from jtl.data.texts import tokens
from jtl.errors import UserError
from jtl.types import Preprocess, Sound, Tokenization, Wanted

CHUNK, TEXTS = 128, 2048
"""How many inputs, and how many texts, are read at a time."""
STANDARD_INPUT = "-"
"""The word that stands for the lines of standard input."""


class Taken(NamedTuple):
    """What a model takes.

    Attributes:
      wanted: by its backbone; None where it takes vectors.
      width: of the vectors.
      text: the column of a table's texts.
      label: the column that it was trained to tell, which is not read.
      vectors: the columns of numbers that it was trained on, in order; empty where it was not
        trained on a table, and takes all of them.
    """

    wanted: Wanted | None
    width: int
    text: str = "text"
    label: str = "label"
    vectors: Sequence[str] = ()


class Item(NamedTuple):
    """An input that has not been read yet.

    Attributes:
      name: what to call it.
      read: gives it as the model takes it, or raises a ``UserError``.
    """

    name: str
    read: Callable[[], np.ndarray | str]


class Chunk(NamedTuple):
    """Some inputs that were read together.

    Attributes:
      names: of those that could be read.
      rows: what the model takes, one for each of them; None where there is none.
      unread: why the others could not be, a line each.
      notes: what was done to those that could.
    """

    names: list[str]
    rows: np.ndarray | None
    unread: list[str]
    notes: tuple[str, ...]


def named(words: Sequence[str], taken: Taken) -> tuple[list[Item], list[str]]:
    """The inputs that some paths stand for.

    A folder stands for all files in it and below it that the model can take. Names begin with the
    word that stands for them.

    Args:
      words: each a path, or :data:`STANDARD_INPUT`.
      taken: by the model.

    Returns:
      The inputs, and a line for each path that stands for none.
    """
    items: list[Item] = []
    unread: list[str] = []
    readers = READERS.get(type(taken.wanted), {})
    for path, name in (file for word in words for file in _files(word, readers)):
        try:
            items += _of_file(path, name, taken)
        except UserError as error:
            unread.append(str(error))
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or str(error)
            unread.append(f"{name}: cannot be read ({said})")
    return items, unread


def given(inputs: Any, taken: Taken) -> list[Item]:
    """The inputs that a program hands over.

    Args:
      inputs: images or vectors as one array, or a sequence of images: each a path, an image of
        Pillow's or an array [height, width] or [height, width, channels]; or of texts: each a
        string, or a path that is none.
      taken: by the model.

    Raises:
      UserError: a path stands for no input.
    """
    if isinstance(inputs, str | os.PathLike | Image.Image):
        inputs = [inputs]
    pictures = isinstance(taken.wanted, Preprocess) and isinstance(inputs, np.ndarray)
    if pictures and inputs.shape[2:] in ((3,), (4,)):
        raise UserError(
            f"inputs: an array of shape {inputs.shape} is one image, or images without channels "
            f"that are {inputs.shape[2]} pixels wide; give several as one array, or [image]"
        )
    items: list[Item] = []
    for number, value in enumerate(inputs):
        name = f"inputs[{number}]"
        if isinstance(value, str) and isinstance(taken.wanted, Tokenization):
            items.append(_text(name, value))
        elif isinstance(value, str | os.PathLike):
            found, unread = named([os.fspath(value)], taken)
            if unread:
                raise UserError(unread[0])
            items += found
        elif isinstance(value, Image.Image):
            items.append(Item(name, partial(_picture, name, value, taken)))
        else:
            items.append(Item(name, partial(_row, name, np.asarray(value), taken)))
    return items


def chunks(items: Sequence[Item], taken: Taken) -> Iterator[Chunk]:
    """The inputs in order, read by threads, some at a time."""
    size = TEXTS if isinstance(taken.wanted, Tokenization) else CHUNK
    with ThreadPoolExecutor(images.threads()) as pool:
        for start in range(0, len(items), size):
            part = items[start : start + size]
            tried = list(zip(part, pool.map(_try, part), strict=True))
            found = [row for _, row in tried if not isinstance(row, UserError)]
            rows, notes = _stacked(found, taken) if found else (None, ())
            yield Chunk(
                names=[item.name for item, row in tried if not isinstance(row, UserError)],
                rows=rows,
                unread=[str(row) for _, row in tried if isinstance(row, UserError)],
                notes=notes,
            )


def _try(item: Item) -> np.ndarray | str | UserError:
    """The input, or why it cannot be read."""
    try:
        return item.read()
    except UserError as error:
        return error


def _stacked(rows: Sequence[Any], taken: Taken) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(taken.wanted, Tokenization):
        return tokens(rows, taken.wanted)
    return np.stack(rows), ()


def _files(word: str, suffixes: Collection[str]) -> list[tuple[Path, str]]:
    """The file that a word names, or those of a folder with one of some suffixes; their names.

    A folder without any stands for itself.
    """
    try:
        path = Path(word).expanduser()
        folder = path.is_dir()
    except (OSError, RuntimeError):  # too long for a name, or ~ and the name of no user
        path, folder = Path(word), False
    if not folder:
        return [(path, word)]
    below = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    shown = sorted(file for file in below if not any(p.startswith(".") for p in file.parts))
    found = [path / file for file in shown if file.suffix.lower() in suffixes]
    return [(file, str(file)) for file in found] or [(path, word)]


def _of_file(path: Path, name: str, taken: Taken) -> list[Item]:
    readers, kind = READERS.get(type(taken.wanted), {}), TAKEN[type(taken.wanted)]
    if name == STANDARD_INPUT and isinstance(taken.wanted, Tokenization):
        return _of_lines("standard input", list(sys.stdin))
    if not readers:
        raise UserError(f"{name}: this model takes {kind}, which jtl cannot read from files")
    if not path.exists():
        raise UserError(f"{name}: there is no such file or folder")
    if path.is_dir():
        raise UserError(f"{name}: holds no file that this model takes ({', '.join(readers)})")
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{name}: this model takes {kind}, in files that end in {', '.join(readers)}"
        )
    return readers[path.suffix.lower()](path, name, taken)


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
    """The rows of a table: its column of texts, or all columns of numbers."""
    table = tables.read(path.suffix[1:].lower(), path)
    names = tables.row_names(name, table)
    table.pop(taken.label, None)
    read_texts = isinstance(taken.wanted, Tokenization)
    numbers = taken.vectors or [column for column in table if column != tables.NAME]
    columns = [taken.text] if read_texts else [*numbers]
    if not columns:
        raise UserError(f"{name}: has no column but {taken.label!r}, which is not read")
    for column in columns:
        if column not in table:
            raise UserError(f"{name}: has no column {column!r}; it has {', '.join(table)}")
    if read_texts:
        items = _texts(name, table[taken.text])
    else:
        rows = enumerate(zip(*(table[column] for column in columns), strict=True), 1)
        items = [Item("", partial(_numbers, f"{name}:{n}", row, taken)) for n, row in rows]
    return [Item(own, item.read) for own, item in zip(names, items, strict=True)]


def _lines(path: Path, name: str, taken: Taken) -> list[Item]:
    """The lines of a text file."""
    del taken
    return _of_lines(name, path.read_text(encoding="utf-8-sig").split("\n"))


def _of_lines(name: str, lines: Sequence[str]) -> list[Item]:
    """Texts by their lines' numbers; lines that hold nothing are passed over."""
    items = zip(_texts(name, lines), lines, strict=True)
    return [item for item, line in items if line.strip()]


def _texts(name: str, texts: Sequence[Any]) -> list[Item]:
    return [_text(f"{name}:{number}", text) for number, text in enumerate(texts, 1)]


def _text(name: str, text: Any) -> Item:
    def read() -> str:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{name}: holds no text")
        return text.strip()

    return Item(name, read)


def _numbers(name: str, cells: Sequence[Any], taken: Taken) -> np.ndarray:
    for cell in cells:
        if not tables.is_number(cell):
            raise UserError(f"{name}: {cell!r} is no number; mend or remove that row")
    return _row(name, np.array(cells, np.float64), taken)


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
    try:
        plain = images.plain(image)
    except Exception as error:  # as of a file's content
        raise UserError(f"{name}: cannot be decoded ({images.brief(error)})") from error
    return images.finish(*plain, preprocess).pixels


_TABLES = dict.fromkeys((".csv", ".jsonl", ".parquet"), _table)
Reader = Callable[[Path, str, Taken], list[Item]]
READERS: dict[type, dict[str, Reader]] = {
    Preprocess: dict.fromkeys(images.SUFFIXES, _image) | {".npz": _archive},
    Tokenization: {".txt": _lines} | _TABLES,
    type(None): {".npz": _archive} | _TABLES,
    Sound: {".npz": _archive},
}
"""How the inputs of a model that wants them so are read, by the suffix of the file."""
