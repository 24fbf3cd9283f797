"""``csv:FILE``, ``jsonl:FILE`` and ``parquet:FILE``: tables of texts, or of numbers."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jtl.data.examples import Examples
from jtl.data.texts import of_texts, tokens
from jtl.errors import UserError, nearest
from jtl.types import Wanted

Table = dict[str, list[Any]]
"""Columns by name, all of one length; a cell without a value is None."""


class Columns(NamedTuple):
    """Which columns of a table are read.

    Attributes:
      text: that of the texts.
      label: that of the labels; a table without it is unlabelled.
    """

    text: str = "text"
    label: str = "label"


def load_csv(argument: str, wanted: Wanted | None, columns: Columns) -> Examples:
    """A CSV file whose first line names the columns."""
    return _load(f"csv:{argument}", Path(argument).expanduser(), _read_csv, wanted, columns)


def load_jsonl(argument: str, wanted: Wanted | None, columns: Columns) -> Examples:
    """A file with one JSON object a line."""
    return _load(f"jsonl:{argument}", Path(argument).expanduser(), _read_jsonl, wanted, columns)


def load_parquet(argument: str, wanted: Wanted | None, columns: Columns) -> Examples:
    """A Parquet file."""
    return _load(f"parquet:{argument}", Path(argument).expanduser(), _read_parquet, wanted, columns)


def _load(
    name: str,
    path: Path,
    read: Callable[[str, Path], Table],
    wanted: Wanted | None,
    columns: Columns,
) -> Examples:
    if not path.is_file():
        raise UserError(f"{name}: there is no such file (looked for {path.absolute()})")
    try:
        table = read(name, path)
    except (OSError, ValueError, csv.Error) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"{name}: cannot be read ({said}); is it the format that it says?") from error
    count = len(next(iter(table.values()), []))
    if not count:
        raise UserError(f"{name}: has no rows")
    labels, classes = _labels(name, table.get(columns.label))
    if wanted is None:
        numbers = {key: column for key, column in table.items() if key != columns.label}
        inputs, notes, names = _numbers(name, numbers), (), None
    else:
        tokenization = of_texts(name, wanted)
        texts = _texts(name, table, columns)
        (inputs, notes), names = tokens(texts, tokenization), texts
    rows = [f"{path.name}:{row}" for row in range(1, count + 1)]
    return Examples(
        name=name,
        inputs=inputs,
        labels=labels,
        classes=classes,
        names=np.array(names or rows),
        # Equal texts are one, so that none is trained on and tested on.
        identities=np.array(names or [f"{path.resolve()}:{row}" for row in range(count)]),
        notes=notes,
    )


def _read_csv(name: str, path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        heads = next(reader, [])
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
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
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


def _texts(name: str, table: Table, columns: Columns) -> list[str]:
    if columns.text not in table:
        raise UserError(
            f"{name}: has no column {columns.text!r}, which data.text_column names; "
            f"{nearest(columns.text, table)}"
        )
    for row, value in enumerate(table[columns.text], 1):
        if not isinstance(value, str) or not value.strip():
            raise UserError(
                f"{name}, row {row}: {columns.text} is {value!r}; it must be a text, not empty"
            )
    return table[columns.text]


def _labels(
    name: str, column: list[Any] | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Positions in the classes, which are the column's values in order."""
    if column is None:
        return None, ()
    for row, value in enumerate(column, 1):
        if value is None:
            raise UserError(f"{name}, row {row}: has no label; give all rows one, or none")
    values = sorted(set(map(str, column)), key=_numerically)
    if len(values) == 1:
        raise UserError(f"{name}: one class only ({values[0]}), so there is nothing to tell apart")
    places: Mapping[str, int] = {value: index for index, value in enumerate(values)}
    return np.array([places[str(value)] for value in column], np.int32), tuple(values)


def _numerically(value: str) -> tuple[int, float, str]:
    """Numbers before words, 2 before 10."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _numbers(name: str, table: Table) -> np.ndarray:
    """All columns as vectors: float32 [rows, columns]."""
    if not table:
        raise UserError(f"{name}: has no column but that of the labels")
    columns = []
    for head, cells in table.items():
        try:
            column = np.array([np.nan if cell is None else float(cell) for cell in cells])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name}: column {head!r} holds {_first_word(cells)!r}, and without a backbone all "
                "columns but the labels' must be numbers; remove it, or name a backbone of texts"
            ) from error
        bad = np.flatnonzero(~np.isfinite(column.astype(np.float32)))
        if len(bad):
            raise UserError(
                f"{name}, row {bad[0] + 1}: {head} is {cells[bad[0]]!r}, no finite number; remove "
                "or fill it"
            )
        columns.append(column.astype(np.float32))
    return np.stack(columns, axis=1)


def _first_word(cells: list[Any]) -> Any:
    for cell in cells:
        try:
            float(cell if cell is not None else 0)
        except (TypeError, ValueError):
            return cell
    return None
