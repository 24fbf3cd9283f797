"""What models say of inputs, as files: predictions and features."""

import csv
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from jtl import runtime, trained
from jtl.atomic import replacing
from jtl.data import inputs as asked
from jtl.data.inputs import NAME
from jtl.errors import UserError
from jtl.models.backbone import Backbone

Write = Callable[[str, np.ndarray], None]
"""Writes what is said of one input: its name, and its probabilities or features."""


def predict(place: Path, words: Sequence[str], output: Path | None) -> int:
    """Writes the classes that a finished run's model sees in inputs; returns the exit code.

    Args:
      place: the run's folder, or the file of its model.
      words: paths of files and folders.
      output: a .csv or .jsonl file; None writes CSV to standard output.

    Raises:
      UserError: the model cannot be read, or no input can, or the file cannot be written.
    """
    runtime.keep_compiled_programs()
    model = trained.load(place)
    with _opened(output) as file:
        lines = output is not None and output.suffix == ".jsonl"
        write = (_predictions_jsonl if lines else _predictions_csv)(file, model.classes)
        count = _answer(model.runner, words, lambda outputs: outputs[0], write)
    _say(f"{count} predicted", output)
    return 0


def features(found: Backbone, words: Sequence[str], output: Path) -> int:
    """Writes what a backbone makes of inputs; returns the exit code.

    Args:
      found: the backbone.
      words: paths of files and folders.
      output: a .csv file, or an .npz file of ``names`` and ``features`` [inputs, features].

    Raises:
      UserError: no input can be read, or the file cannot be written.
    """
    runtime.keep_compiled_programs()
    runner = trained.embedder(found)
    if output.suffix == ".npz":
        names: list[str] = []
        rows: list[np.ndarray] = []

        def keep(name: str, row: np.ndarray) -> None:
            names.append(name)
            rows.append(row)

        count = _answer(runner, words, lambda outputs: outputs, keep)
        with replacing(output) as temporary, temporary.open("wb") as file:
            np.savez(file, names=np.array(names), features=np.stack(rows))
    else:
        with _opened(output) as file:
            write = _features_csv(file, found.width)
            count = _answer(runner, words, lambda outputs: outputs, write)
    _say(f"features of {count}, {found.width} each", output)
    return 0


def _answer(
    runner: trained.Runner,
    words: Sequence[str],
    chosen: Callable[[Any], np.ndarray],
    write: Write,
) -> int:
    """Runs all inputs and writes what is said of each; returns of how many.

    What cannot be read is listed on standard error.

    Raises:
      UserError: nothing can be read.
    """
    items, unread = asked.named(words, runner.taken)
    count, live = 0, sys.stderr.isatty()
    for chunk, outputs in runner(items):
        unread += chunk.unread
        for name, row in zip(chunk.names, chosen(outputs) if chunk.names else (), strict=True):
            write(name, row)
        count += len(chunk.names)
        if live:
            print(f"\r{count:,} of {len(items):,} inputs", end="", file=sys.stderr, flush=True)
    if live and items:
        print(file=sys.stderr)
    if not count:
        more = f" ({len(unread) - 1} more could not be read)" if unread[1:] else ""
        raise UserError(f"{unread[0]}{more}")
    for line in unread:
        print(f"jtl: skipped {line}", file=sys.stderr)
    return count


def _say(what: str, output: Path | None) -> None:
    if output:
        print(f"{output}: {what}")


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is there once all of it is written."""
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads it, `head` say, has seen enough; Python would say so once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        return
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def _predictions_csv(file: TextIO, classes: Sequence[str]) -> Write:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow((NAME, "predicted", "confidence", *classes))

    def write(name: str, probabilities: np.ndarray) -> None:
        best = int(probabilities.argmax())
        shown = [f"{value:.6f}" for value in probabilities]
        rows.writerow((name, classes[best], shown[best], *shown))

    return write


def _predictions_jsonl(file: TextIO, classes: Sequence[str]) -> Write:
    def write(name: str, probabilities: np.ndarray) -> None:
        best = int(probabilities.argmax())
        shown = [round(float(value), 6) for value in probabilities]
        record = {
            NAME: name,
            "predicted": classes[best],
            "confidence": shown[best],
            "probabilities": dict(zip(classes, shown, strict=True)),
        }
        file.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write


def _features_csv(file: TextIO, width: int) -> Write:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow((NAME, *(f"feature{number}" for number in range(width))))

    def write(name: str, values: np.ndarray) -> None:
        rows.writerow((name, *map(str, values)))  # as many digits as tell float32 apart

    return write
