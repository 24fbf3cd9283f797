"""``csv:FILE``, ``jsonl:FILE`` and ``parquet:FILE``: tables of texts, or of numbers."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jtl.data.examples import Examples
from jtl.data.texts import of_texts, tokens
from jtl.errors import UserError, nearest
from jtl.types import Wanted

Table = dict[str, list[Any]]
"""Columns by name, all of one length; a cell without a value is None."""
NAME = "name"
"""The column that says what to call the rows, where they are not texts."""
_LONGEST_CELL = 2**31 - 1


def read(kind: str, path: Path) -> Table:
    """The columns of a file.

    Args:
      kind: out of :data:`jtl.registry.TABLES`.
      path: of the file.

    Raises:
      UserError: there is none, it is none of that kind, or it has no rows.
    """
    name = f"{kind}:{path}"
    if not path.is_file():
        raise UserError(f"{name}: there is no such file (looked for {path.absolute()})")
    try:
        table = _READ[kind](name, path)
    except (OSError, ValueError, csv.Error) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"{name}: cannot be read as {kind} ({said}); mend or convert it") from error
    if not any(table.values()):
        raise UserError(f"{name}: has no rows")
    return table


def _load(kind: str, argument: str, wanted: Wanted | None, *, text: str, label: str) -> Examples:
    """The texts or the vectors of a table.

    Args:
      kind: out of :data:`jtl.registry.TABLES`.
      argument: the file.
      wanted: by the backbone.
      text: the column of the texts.
      label: the column of the labels; a table without it is unlabelled.

    Raises:
      UserError: the file cannot be read, lacks what is wanted, or holds it in part.
    """
    name, path = f"{kind}:{argument}", Path(argument).expanduser()
    table = read(kind, path)
    labels, classes = _labels(name, table.pop(label, None))
    columns: tuple[str, ...] = ()
    if wanted is None:
        names = row_names(path.name, table)
        table.pop(NAME, None)
        inputs, notes, padding, columns = vectors(name, table), (), None, tuple(table)
        identities = [f"{path.resolve()}:{row}" for row in range(1, len(inputs) + 1)]
    else:
        tokenization = of_texts(name, wanted)
        # Equal texts are one thing, so that none is trained on and tested on.
        names = identities = texts(name, table, text)
        inputs, notes = tokens(names, tokenization)
        padding = tokenization.padding
    return Examples(
        name=name,
        inputs=inputs,
        labels=labels,
        classes=classes,
        names=np.array(names),
        identities=np.array(identities),
        columns=columns,
        padding=padding,
        notes=notes,
    )


def in_columns(examples: Examples, columns: Sequence[str]) -> Examples:
    """Vectors with their columns in an order; as they are where either has no names.

    Raises:
      UserError: they have other columns.
    """
    if not columns or not examples.columns or examples.columns == tuple(columns):
        return examples
    if set(columns) != set(examples.columns):
        lacking = sorted(set(columns) - set(examples.columns))
        more = sorted(set(examples.columns) - set(columns))
        said = [
            f"{what} {', '.join(names)}"
            for what, names in (("lacks", lacking), ("has", more))
            if names
        ]
        raise UserError(
            f"{examples.name}: {' and '.join(said)}, unlike data.source; name columns alike"
        )
    order = [examples.columns.index(column) for column in columns]
    return replace(examples, inputs=examples.array()[:, order], columns=tuple(columns))


load_csv = partial(_load, "csv")
"""A CSV file whose first line names the columns; as :func:`_load`."""
load_jsonl = partial(_load, "jsonl")
"""A file with one JSON object a line."""
load_parquet = partial(_load, "parquet")
"""A Parquet file."""


def _read_csv(name: str, path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        csv.field_size_limit(_LONGEST_CELL)
        reader = csv.reader(file, strict=True)
        heads = next(reader, [])
        if heads and all(map(is_number, heads)):
            raise UserError(f"{name}: its first line holds numbers; name the columns there")
        table: Table = {head: [] for head in heads}
        if len(table) < len(heads):
            raise UserError(f"{name}: two columns of one name in its first line")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(heads):
                raise UserError(
                    f"{name}, line {reader.line_num}: {len(cells)} cells, but the first line names "
                    f"{len(heads)} columns"
                )
            for head, cell in zip(heads, cells, strict=True):
                table[head].append(cell if cell != "" else None)
    return table


def _read_jsonl(name: str, path: Path) -> Table:
    rows = []
    # Not splitlines, which ends lines at characters that JSON may hold.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{name}, line {number}: is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{name}, line {number}: is no object with named values")
        rows.append(row)
    heads = list(dict.fromkeys(head for row in rows for head in row))
    return {head: [row.get(head) for row in rows] for head in heads}


def _read_parquet(name: str, path: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{name}: needs pyarrow; pip install 'jtl[parquet]'") from error
    return parquet.read_table(path).to_pydict()


_READ: Mapping[str, Callable[[str, Path], Table]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def row_names(place: str, table: Table) -> list[str]:
    """What to call the rows: as the column :data:`NAME` says, or by their numbers."""
    rows = len(next(iter(table.values()), ()))
    own = table.get(NAME, [None] * rows)
    return [f"{place}:{row}" if n is None else str(n) for row, n in enumerate(own, 1)]


def texts(name: str, table: Table, column: str) -> list[str]:
    """A column of texts, without the blanks around them.

    Raises:
      UserError: there is none of that name, or a row of it holds none.
    """
    if column not in table:
        raise UserError(
            f"{name}: has no column {column!r}, which data.text_column names; "
            f"{nearest(column, table)}"
        )
    for row, value in enumerate(table[column], 1):
        if not isinstance(value, str) or not value.strip():
            raise UserError(
                f"{name}, row {row}: {column} is {value!r}; it must be a text, not empty"
            )
    return [text.strip() for text in table[column]]


def _labels(name: str, column: list[Any] | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Positions in the classes, which are the column's values in order."""
    if column is None:
        return None, ()
    for row, value in enumerate(column, 1):
        if value is None:
            raise UserError(f"{name}, row {row}: has no label; give all rows one, or none")
    values = sorted(set(map(str, column)), key=_numerically)
    if len(values) == 1:
        raise UserError(
            f"{name}: one class only ({values[0]}), so there is nothing to tell apart; add rows of "
            "another, or leave the labels out for an unlabelled set"
        )
    if len(values) > max(20, len(column) // 2):
        raise UserError(
            f"{name}: {len(values)} different labels in {len(column)} rows ({values[0]!r}, "
            f"{values[1]!r}, ...); data.label_column must name classes"
        )
    places: Mapping[str, int] = {value: index for index, value in enumerate(values)}
    return np.array([places[str(value)] for value in column], np.int32), tuple(values)


def _numerically(value: str) -> tuple[int, float, str]:
    """Numbers before words, 2 before 10."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def vectors(name: str, table: Table) -> np.ndarray:
    """All columns, as vectors: float32 [rows, columns].

    Raises:
      UserError: there is no column, or one that holds no finite number in some row.
    """
    if not table:
        raise UserError(f"{name}: has no column but that of the labels")
    columns = []
    for head, cells in table.items():
        try:
            column = np.array([np.nan if cell is None else float(cell) for cell in cells])
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{name}: column {head!r} holds {_first_word(cells)!r}, and without a backbone all "
                "columns but the labels' must be numbers; remove it, or name a backbone of texts"
            ) from error
        with np.errstate(over="ignore"):  # what overflows is reported below
            bad = np.flatnonzero(~np.isfinite(column.astype(np.float32)))
        if len(bad):
            raise UserError(
                f"{name}, row {bad[0] + 1}: {head} is {cells[bad[0]]!r}, no finite number; remove "
                "or fill it"
            )
        columns.append(column.astype(np.float32))
    return np.stack(columns, axis=1)


def _first_word(cells: list[Any]) -> Any:
    return next((cell for cell in cells if cell is not None and not is_number(cell)), None)


def is_number(cell: Any) -> bool:
    """Can it be read as one?"""
    try:
        float(cell)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
