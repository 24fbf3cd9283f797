"""Tables of texts and of numbers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from small_sentences import tokenization

from jtl.data import tables
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Preprocess, Wanted

REVIEWS = [
    {"text": "a good film", "label": "yes", "stars": "4"},
    {"text": 'bad, "very" bad', "label": "no", "stars": "1"},
    {"text": "very good", "label": "yes", "stars": "5"},
    {"text": "a good film", "label": "yes", "stars": "10"},
]
VECTORS = [
    {"height": 1.5, "width": -2, "label": 10},
    {"height": 1e3, "width": 0, "label": 9},
    {"height": 0.25, "width": 7, "label": 10},
    {"height": 0.5, "width": 1, "label": 9},
]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(pa.Table.from_pylist(rows), path)


KINDS: dict[str, tuple[Callable[..., Examples], Callable[..., None]]] = {
    "csv": (tables.load_csv, write_csv),
    "jsonl": (tables.load_jsonl, write_jsonl),
    "parquet": (tables.load_parquet, write_parquet),
}


def loaded(
    path: Path, wanted: Wanted | None, *, text: str = "text", label: str = "label"
) -> Examples:
    return KINDS[path.suffix[1:]][0](str(path), wanted, text=text, label=label)


def table(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows.{kind}"
    KINDS[kind][1](path, rows)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_labels_are_read_from_named_columns(tmp_path: Path, kind: str) -> None:
    found = loaded(table(tmp_path, kind, REVIEWS), tokenization(longest=8))
    assert found.classes == ("no", "yes") and found.labels.tolist() == [1, 0, 1, 1]
    assert found.inputs[2].tolist() == [2, 7, 4, 3, 0, 0, 0, 0] and found.padding == 0
    assert found.names.tolist() == [row["text"] for row in REVIEWS]


@pytest.mark.parametrize("kind", KINDS)
def test_other_columns_may_be_named(tmp_path: Path, kind: str) -> None:
    path = table(tmp_path, kind, REVIEWS)
    found = loaded(path, tokenization(), text="label", label="text")
    assert found.names.tolist() == ["yes", "no", "yes", "yes"]
    assert len(found.classes) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_backbone_all_columns_but_the_labels_are_a_vector(
    tmp_path: Path, kind: str
) -> None:
    found = loaded(table(tmp_path, kind, VECTORS), None)
    assert found.inputs.dtype == np.float32
    assert found.inputs.tolist() == [[1.5, -2.0], [1000.0, 0.0], [0.25, 7.0], [0.5, 1.0]]
    assert found.classes == ("9", "10")  # numbers are ordered as numbers
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.names[1] == f"rows.{kind}:2" and found.padding is None


def test_equal_texts_have_one_identity(tmp_path: Path) -> None:
    found = loaded(table(tmp_path, "csv", REVIEWS), tokenization())
    assert found.identities[0] == found.identities[3] != found.identities[2]


def test_equal_rows_of_numbers_are_two_things(tmp_path: Path) -> None:
    found = loaded(table(tmp_path, "csv", [VECTORS[0], VECTORS[0], VECTORS[1]]), None)
    assert len(set(found.identities)) == 3


def test_a_table_without_the_column_of_labels_is_unlabelled(tmp_path: Path) -> None:
    rows = [{"text": row["text"]} for row in REVIEWS]
    found = loaded(table(tmp_path, "jsonl", rows), tokenization())
    assert found.labels is None and found.classes == ()


@pytest.mark.parametrize("whole", [True, False])
def test_whole_numbers_are_the_same_classes_in_every_kind_of_table(
    tmp_path: Path, whole: bool
) -> None:
    rows = [{"text": row["text"], "label": int(row["stars"]) > 3} for row in REVIEWS]
    rows = [row | {"label": int(row["label"])} for row in rows] if whole else rows
    names = {loaded(table(tmp_path, kind, rows), tokenization()).classes for kind in KINDS}
    assert names == ({("0", "1")} if whole else {("False", "True")})


CASES: dict[str, tuple[str, str, Wanted | None, str]] = {
    "no such column": ("csv", "txt,label\na,1\nb,2\n", tokenization(), "did you mean 'txt'|txt"),
    "no text": ("csv", "text,label\na,1\n,2\n", tokenization(), "row 2: text is None"),
    "no label": ("csv", "text,label\na,1\nb,\n", tokenization(), "row 2: has no label"),
    "one class": ("csv", "text,label\na,1\nb,1\n", tokenization(), r"one class only \(1\)"),
    "no classes": (
        "csv",
        "text,label\n" + "".join(f"a,{n}.5\n" for n in range(30)),
        tokenization(),
        "30 different labels in 30 rows .* must name classes",
    ),
    "cells": ("csv", "text,label\na,1\nb,2,3\n", tokenization(), "line 3: 3 cells.* 2 columns"),
    "twice": ("csv", "text,text\na,1\n", tokenization(), "two columns of one name"),
    "empty": ("csv", "", tokenization(), "has no rows"),
    "heads only": ("csv", "text,label\n", tokenization(), "has no rows"),
    "latin": ("csv", "text,label\n\udce9,1\n", tokenization(), "cannot be read as csv"),
    "no json": ("jsonl", '{"text": "a"}\nb\n', tokenization(), "line 2: is no JSON"),
    "no object": ("jsonl", '{"text": "a"}\n[1]\n', tokenization(), "line 2: is no object"),
    "no parquet": ("parquet", "text", tokenization(), "cannot be read as parquet"),
    "word": ("csv", "x,label\n1,0\nb,1\n", None, "column 'x' holds 'b'"),
    "gap": ("csv", "x,label\n1,0\n,1\n", None, "row 2: x is None, no finite number"),
    "too large": ("csv", "x,label\n1,0\n1e99,1\n", None, "row 2: x is '1e99'"),
    "no heads": ("csv", "1,0\n2,1\n", None, "its first line holds numbers; name the columns"),
    "an open quote": ("csv", 'text,label\n"a,1\nb,2\n', tokenization(), "cannot be read as csv"),
    "labels only": ("csv", "label\n0\n1\n", None, "no column but that of the labels"),
    "images": (
        "csv",
        "text,label\na,1\nb,2\n",
        Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3),
        "holds texts, and this backbone takes images",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_one_line_that_says_where(tmp_path: Path, case: str) -> None:
    kind, content, wanted, said = CASES[case]
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=said) as raised:
        loaded(path, wanted)
    assert str(raised.value).startswith(f"{kind}:{path}") and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        loaded(tmp_path / "none.csv", None)


def test_the_mark_that_spreadsheets_begin_a_file_with_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\ufefftext,label\na,1\nb,2\n", encoding="utf-8")
    assert loaded(path, tokenization()).names.tolist() == ["a", "b"]


def test_texts_are_read_without_the_blanks_around_them(tmp_path: Path) -> None:
    found = loaded(
        table(tmp_path, "jsonl", [{"text": " good\n"}, {"text": "good"}]), tokenization()
    )
    assert found.names.tolist() == ["good", "good"] and len({*found.identities}) == 1


def test_lines_of_json_end_at_line_feeds_alone(tmp_path: Path) -> None:
    rows = [{"text": "good\u2028film"}, {"text": "bad\u0085film"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert loaded(path, tokenization()).names.tolist() == [row["text"] for row in rows]


def test_a_column_names_the_rows_of_numbers(tmp_path: Path) -> None:
    rows = [{"name": "first", "x": 1}, {"name": None, "x": 2}]
    found = loaded(table(tmp_path, "jsonl", rows), None)
    assert found.names.tolist() == ["first", "rows.jsonl:2"] and found.columns == ("x",)


def test_columns_meet_by_their_names(tmp_path: Path) -> None:
    source = loaded(table(tmp_path, "csv", VECTORS), None)
    turned = [dict(reversed(row.items())) for row in VECTORS]
    target = loaded(table(tmp_path, "jsonl", turned), None)
    assert target.columns == source.columns[::-1] == ("width", "height")
    met = tables.in_columns(target, source.columns)
    assert met.columns == source.columns
    np.testing.assert_array_equal(met.inputs, source.inputs)
    other = loaded(table(tmp_path, "csv", [{"height": 1, "depth": 2}]), None)
    with pytest.raises(UserError, match=r"lacks width and has depth, unlike data\.source"):
        tables.in_columns(other, source.columns)
