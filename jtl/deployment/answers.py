"""What models say of inputs, as files: predictions and features."""

import csv
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from jtl.data import inputs as asked
from jtl.data.tables import NAME
from jtl.deployment import trained
from jtl.devices import runtime
from jtl.errors import UserError
from jtl.models.backbone import Backbone
from jtl.records.atomic import replacing

Said = Iterable[tuple[str, np.ndarray]]
"""The names of inputs, and what is said of each: probabilities or features."""


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
    lines = output is not None and output.suffix == ".jsonl"
    write = _predictions_jsonl if lines else _predictions_csv
    with _opened(output) as file:
        shown = output is not None or not sys.stdout.isatty()
        count = write(file, model.classes, _said(model.runner, words, shown=shown))
    if output:
        print(f"{output}: {count} predicted")
    return 0


def features(
    found: Backbone, words: Sequence[str], output: Path, *, text: str, on_disk: bool
) -> int:
    """Writes what a backbone makes of inputs; returns the exit code.

    Args:
      found: the backbone.
      words: paths of files and folders.
      output: a .csv file, or an .npz file of ``names`` and ``features`` [inputs, features].
      text: the column of a table's texts.
      on_disk: whether they are kept for later commands too.

    Raises:
      UserError: no input can be read, or the file cannot be written.
    """
    runtime.keep_compiled_programs()
    made = _said(trained.embedder(found, text=text, on_disk=on_disk), words)
    if output.suffix == ".npz":
        names, rows = zip(*made, strict=True)
        count = len(names)
        with replacing(output) as temporary, temporary.open("wb") as file:
            np.savez(file, names=np.array(names), features=np.stack(rows))
    else:
        with _opened(output) as file:
            count = _features_csv(file, found.width, made)
    print(f"{output}: features of {count}, {found.width} each")
    return 0


def _said(
    runner: trained.Runner, words: Sequence[str], *, shown: bool = True
) -> Iterator[tuple[str, np.ndarray]]:
    """The first of a runner's outputs for each input; what cannot be read is listed at the end.

    Args:
      runner: runs a model.
      words: paths of files and folders.
      shown: may a line say how far it is? Not where the outputs go to the same terminal.

    Raises:
      UserError: nothing can be read.
    """
    items, unread = asked.named(words, runner.taken)
    count, live = 0, shown and sys.stderr.isatty()
    notes: list[str] = []
    for chunk, outputs in runner(items):
        unread += chunk.unread
        if chunk.names:
            yield from zip(chunk.names, outputs[0], strict=True)
        count += len(chunk.names)
        notes += chunk.notes
        if live:
            print(f"\r{count:,} of {len(items):,} inputs", end="", file=sys.stderr, flush=True)
    if live and items:
        print(file=sys.stderr)
    if not count and not unread:
        raise UserError(f"{', '.join(words)}: holds no input; name what is to be read")
    if not count:
        more = f" ({len(unread) - 1} more could not be read)" if unread[1:] else ""
        raise UserError(f"{unread[0]}{more}")
    for line in (*notes, *(f"skipped {line}" for line in unread)):
        print(f"jtl: {line}", file=sys.stderr)


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
    with (
        replacing(output) as temporary,
        # Names of files may be no UTF-8.
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def _predictions_csv(file: TextIO, classes: Sequence[str], said: Said) -> int:
    """Writes a row for each input, and the heads before the first; returns how many."""
    rows, count = csv.writer(file, lineterminator="\n"), 0
    for count, (name, probabilities) in enumerate(said, 1):
        if count == 1:
            rows.writerow((NAME, "predicted", "confidence", *classes))
        best = int(probabilities.argmax())
        shown = [f"{value:.6f}" for value in probabilities]
        rows.writerow((name, classes[best], shown[best], *shown))
    return count


def _predictions_jsonl(file: TextIO, classes: Sequence[str], said: Said) -> int:
    """Writes an object for each input; returns how many."""
    count = 0
    for name, probabilities in said:
        best = int(probabilities.argmax())
        shown = [round(float(value), 6) for value in probabilities]
        record = {
            NAME: name,
            "predicted": classes[best],
            "confidence": shown[best],
            "probabilities": dict(zip(classes, shown, strict=True)),
        }
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        count += 1
    return count


def _features_csv(file: TextIO, width: int, said: Said) -> int:
    """Writes a row for each input, and the heads before the first; returns how many."""
    rows, count = csv.writer(file, lineterminator="\n"), 0
    for count, (name, values) in enumerate(said, 1):
        if count == 1:
            rows.writerow((NAME, *(f"feature{number}" for number in range(width))))
        rows.writerow((name, *map(str, values)))  # as many digits as tell float32 apart
    return count
