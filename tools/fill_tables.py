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

What names a file that is not there stays as it is and is reported, with exit code 1; so does a run
that was made with another config, or from a checkout with changes. Filling twice changes nothing.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from jtl import configuration

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


def fill_config(file: Path, root: Path) -> tuple[str, list[str]]:
    """The same for a config file, from ``runs/NAME``."""
    text, folder = file.read_text(encoding="utf-8"), root / "runs" / file.stem
    line = ACCURACY.search(text)
    if not line:
        return text, []
    if reason := no_result(file, folder):
        return text, [f"runs/{file.stem} {reason}"]
    split = {"Test": "source_test", "Target": "target_test"}[line[2]]
    found = in_summary((folder / "summary.json").read_text("utf-8"), [split, "accuracy"])
    value, interval = found.rstrip(")").split(" (")
    device = json.loads((folder / "manifest.json").read_text("utf-8"))["device"].replace(
        "1 x ", "one "
    )
    said = f"{line[1]}: {value} % (95 % interval {interval}), one run on {device}."
    return text[: line.start()] + said + text[line.end() :], []


def no_result(file: Path, folder: Path) -> str:
    """Why a run says nothing of a config as anyone can run it; nothing if it does."""
    if not (folder / "summary.json").exists():
        return "is not there, or not finished"
    config, _ = configuration.load(str(file), ())
    if json.loads((folder / "config.json").read_text("utf-8")) != json.loads(config.to_json()):
        return "was made with another config"
    git = json.loads((folder / "manifest.json").read_text("utf-8"))["git"]
    return "was made from a checkout with changes" if not git or git["dirty"] else ""


def in_table(table: str, keys: list[str]) -> str:
    """The cell of a row, named by its first cell, and a column."""
    # Cells at the end of a row may be empty.
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
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
    reasons: list[str] = []
    for document in documents:
        if document.suffix == ".py":
            text, unfilled = fill_config(document, ROOT)
        else:
            text, missing = fill(document.read_text(encoding="utf-8"), ROOT)
            unfilled = [f"{name} is not there" for name in missing]
        document.write_text(text, encoding="utf-8")
        reasons += unfilled
    for reason in dict.fromkeys(reasons):
        print(f"{reason}; its places were left as they are", file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    everything = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.py")]
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(everything)))
