"""Copies the numbers of finished runs into documents, between markers that name them, and configs.

python tools/fill_tables.py [FILE ...]      # README.md, docs/ and configs/ by default

A table stands between two lines::

    <!-- table: runs/emoji_adaptation/table.md -->
    <!-- end -->

and a value within one, out of a table by row and column or out of a summary by its keys::

    <!-- value: runs/emoji_adaptation/table.md; dann; Google to Twitter --><!-- end -->
    <!-- value: runs/emoji_dann/summary.json; target_test; accuracy --><!-- end -->

In a config file it is the line of the docstring that begins with "Test accuracy" or "Target
accuracy", and the run is the one of that name.

What names a file that is not there stays as it is and is reported, with exit code 1. Filling twice
changes nothing.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ACCURACY = re.compile(r"^((Test|Target) accuracy[\w ]*): .*$", re.MULTILINE)
PLACE = re.compile(r"(<!-- (table|value): (.*?) -->)(.*?)(<!-- end -->)", re.DOTALL)


def fill(text: str, root: Path) -> tuple[str, list[str]]:
    """The document with its places filled, and the files that are not there.

    Raises:
      KeyError: a file lacks what a marker asks of it.
    """
    missing: list[str] = []

    def replace(place: re.Match[str]) -> str:
        start, kind, where, _, end = place.groups()
        name, *keys = where.split("; ")
        if not (root / name).exists():
            missing.append(name)
            return place[0]
        content = (root / name).read_text(encoding="utf-8")
        if kind == "table":
            return f"{start}\n{content.strip()}\n{end}"
        found = in_summary(content, keys) if name.endswith(".json") else in_table(content, keys)
        return f"{start}{found}{end}"

    return PLACE.sub(replace, text), missing


def fill_config(text: str, name: str, root: Path) -> tuple[str, list[str]]:
    """The same for a config file, from ``runs/NAME``."""
    folder = root / "runs" / name
    line = ACCURACY.search(text)
    if not line:
        return text, []
    if not (folder / "summary.json").exists():
        return text, [f"runs/{name}/summary.json"]
    split = {"Test": "source_test", "Target": "target_test"}[line[2]]
    found = in_summary((folder / "summary.json").read_text("utf-8"), [split, "accuracy"])
    value, interval = found.rstrip(")").split(" (")
    device = json.loads((folder / "manifest.json").read_text("utf-8"))["device"].replace(
        "1 x ", "one "
    )
    said = f"{line[1]}: {value} % (95 % interval {interval}), one run on {device}."
    return text[: line.start()] + said + text[line.end() :], []


def in_table(table: str, keys: list[str]) -> str:
    """The cell of a row, named by its first cell, and a column."""
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in table.splitlines()]
    row, column = keys
    by_name = {cells[0]: dict(zip(rows[0], cells, strict=True)) for cells in rows}
    return by_name[row][column]


def in_summary(summary: str, keys: list[str]) -> str:
    """A score in percent, with its interval."""
    score: Any = json.loads(summary)
    for key in keys:
        score = score[key]
    value, low, high = (100 * score[name] for name in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def main(documents: list[Path]) -> int:
    """Fills the documents; 1 where something could not be."""
    missing: list[str] = []
    for document in documents:
        before = document.read_text(encoding="utf-8")
        is_config = document.suffix == ".py"
        text, absent = fill_config(before, document.stem, ROOT) if is_config else fill(before, ROOT)
        document.write_text(text, encoding="utf-8")
        missing += absent
    for name in dict.fromkeys(missing):
        print(f"{name}: is not there; its places were left as they are", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    everything = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.py")]
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(everything)))
