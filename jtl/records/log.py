"""What a run tells while it runs: metrics.jsonl, the progress line, the table at the end."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from jtl.errors import UserError
from jtl.records.atomic import replacing

SUMMARY_SPLITS = {"target_test": "target", "source_test": "source"}


class MetricsLog:
    """Appends records ``{"step", "split", "values"}``, one JSON line each, flushed at once.

    A number that JSON does not have is written as "nan", "inf" or "-inf"; :func:`read_metrics`
    turns it back. A line that a kill cut short is dropped when the file is opened again. To
    resume, call :meth:`truncate_after` with the restored step: later records will be written
    again, so that a step never appears twice. (Write what belongs to a step before saving it.)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if self._path.exists():
            self._keep(_lines(self._path))
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Appends one record. Values are scalars of Python, NumPy or jax."""
        safe = {name: _safe(float(value)) for name, value in values.items()}
        record = {"step": int(step), "split": split, "values": safe}
        self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def truncate_after(self, step: int) -> int:
        """Drops the records of later steps, atomically; returns how many."""
        self._file.close()
        lines = _lines(self._path)
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self._keep(kept)
        self._file = self._path.open("a", encoding="utf-8")
        return len(lines) - len(kept)

    def close(self) -> None:
        """Closes the file; every record is on disk already."""
        self._file.close()

    def _keep(self, lines: list[str]) -> None:
        text = "".join(line + "\n" for line in lines)
        if text.encode() == self._path.read_bytes():
            return
        with replacing(self._path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, in order; a last line cut short is left out.

    Raises:
      UserError: the file is missing, or a line before the last is no record.
    """
    records = [json.loads(line) for line in _lines(Path(path))]
    for record in records:
        record["values"] = {name: float(value) for name, value in record["values"].items()}
    return records


def _lines(path: Path) -> list[str]:
    """The complete lines of the file, each of which holds a record."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the workdir of a run") from None
    *lines, _cut_short = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not _is_record(line):
            if number == len(lines):  # a machine that lost power may end a file in zeros
                return lines[:-1]
            raise UserError(f"{path}, line {number} is no record: mend or delete that line")
    return lines


def _is_record(line: str) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and {"step", "split", "values"} <= record.keys()


def _safe(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


class Progress:
    """One live line on a terminal, a few plain lines elsewhere.

    On a terminal the line is rewritten at most ten times a second and cut to its width. Elsewhere
    (a file, a batch system) a line is printed at every tenth of the way and every 30 seconds, but
    never two within 2 seconds, except the last.

    Args:
      total: steps of the run.
      start: steps done before, if the run was resumed.
      examples: per step, to show examples per second.
      unit: what a step is called.
      stream: where to; standard error by default, so that standard output holds results only.
      clock: seconds, for tests.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        examples: int | None = None,
        unit: str = "step",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._examples, self._unit, self._clock = total, examples, unit, clock
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._step, self._losses = start, ""
        self._first: tuple[float, int] | None = None
        self._drawn_at = -math.inf if self._live else clock()
        self._drawn_step, self._width = start, 0

    def update(self, step: int, losses: Mapping[str, Any]) -> None:
        """Says that ``step`` steps are done. Losses are read only if a line is drawn now.

        So device arrays may be passed at every step: most calls do not wait for them.
        """
        now = self._clock()
        if self._first is None:  # the first update ends compilation, which is no measure of speed
            self._first = (now, step)
        self._step = step
        if self._due(now):
            self._losses = "  ".join(f"{name} {float(x):.3g}" for name, x in losses.items())
            self._draw(now)

    def message(self, text: str) -> None:
        """Prints a line of its own: above the live one, or below the last of the plain ones."""
        if not self._live and self._drawn_step != self._step:
            self._draw(self._clock())
        if self._live:
            self._stream.write("\r" + " " * self._width + "\r")
        self._stream.write(text + "\n")
        if self._live and self._width:
            self._draw(self._clock())
        self._stream.flush()

    def close(self) -> None:
        """Draws the last state and ends the line."""
        if self._live:
            self._draw(self._clock())
            self._stream.write("\n")
        elif self._drawn_step != self._step:
            self._draw(self._clock())
        self._stream.flush()

    def _due(self, now: float) -> bool:
        waited = now - self._drawn_at
        if self._live:
            return waited >= 0.1 or self._step == self._total
        tenth = 10 * self._step // self._total > 10 * self._drawn_step // self._total
        return self._step == self._total or (waited >= 2 and tenth) or waited >= 30

    def _draw(self, now: float) -> None:
        if self._live:
            columns = shutil.get_terminal_size().columns
            line = fit(self._parts(now), columns - 1)
            # the old line may be longer: cover it, but never beyond the edge, which would wrap
            self._stream.write("\r" + line.ljust(min(self._width, columns - 1)))
            self._width = len(line)
        else:
            self._stream.write("  ".join(self._parts(now)) + "\n")
        self._stream.flush()
        self._drawn_at, self._drawn_step = now, self._step

    def _parts(self, now: float) -> list[str]:
        parts = [f"{self._unit} {self._step:,}/{self._total:,}", f"{self._step / self._total:4.0%}"]
        since, step = self._first or (now, self._step)
        if self._step > step and now > since:
            rate = (self._step - step) / (now - since)
            parts.append(f"{duration((self._total - self._step) / rate)} left")
            speed = f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}"
            parts.append(f"{speed} {self._unit}s/s")
            if self._examples:
                parts.append(f"{rate * self._examples:,.0f} examples/s")
        return [*parts, self._losses] if self._losses else parts


def fit(parts: list[str], width: int) -> str:
    """Joins as many parts as fit, the first ones first; the first is cut if need be.

    >>> fit(["step 1/10", "10%", "loss 2"], 15)
    'step 1/10  10%'
    """
    line = parts[0][: max(width, 0)]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += "  " + part
    return line


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> duration(75), duration(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def gibibytes(peak: Mapping[str, int]) -> str:
    """The most memory that a process held.

    >>> gibibytes({"host": 2**30, "device": 3 * 2**29})
    '1.0 GiB, 1.5 GiB on a device'
    """
    said = f"{peak['host'] / 2**30:.1f} GiB"
    return f"{said}, {peak['device'] / 2**30:.1f} GiB on a device" if "device" in peak else said


def percent(metric: Mapping[str, float]) -> str:
    """A share with its 95 % interval.

    >>> percent({"value": 0.612, "low": 0.58, "high": 0.644})
    '61.2 % (95 % interval 58.0 to 64.4)'
    """
    value, low, high = (100 * metric[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % (95 % interval {low:.1f} to {high:.1f})"


def final_table(summary: Mapping[str, Any], report: str | os.PathLike[str]) -> str:
    """The few lines that end a run. A split that the run did not evaluate has no line.

    Args:
      summary: what summary.json holds.
      report: where the report lies.
    """
    rows = [
        (f"{domain} accuracy", percent(summary[split]["accuracy"]))
        for split, domain in SUMMARY_SPLITS.items()
        if split in summary
    ]
    speed = f"{summary['steps']:,} steps, {summary['examples_per_second']:,.0f} examples/s"
    seconds = duration(summary["train_seconds"])
    rows.append(("training time", f"{seconds} ({speed}, evaluation apart)"))
    if "peak_memory" in summary:  # runs of older versions did not look
        rows.append(("peak memory", gibibytes(summary["peak_memory"])))
    rows.append(("report", os.fspath(report)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
