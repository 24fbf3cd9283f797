"""How far a study is, told from its folder alone: on any machine, while others work in it."""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from jtl.errors import UserError
from jtl.records import log, workdir
from jtl.studies import attempts

PLAN = "study.json"
"""Which runs a study has."""
FINISHED, RUNNING, FAILED, WAITING = "finished", "running", "failed", "waiting"
REFRESH = 2.0
"""Seconds."""


class Standing(NamedTuple):
    """How far a run is.

    Attributes:
      name: of its folder.
      key: what it has in common with those of other seeds.
      state: finished, running, failed or waiting.
      said: the steps of one that runs, why one failed, why one has to be tried again.
      accuracy: of one that is finished.
    """

    name: str
    key: str
    state: str
    said: str = ""
    accuracy: float | None = None


class Watch:
    """Looks at the runs of a study, again and again.

    Raises:
      UserError: nothing in the folder says which runs there are.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._runs = json.loads((folder / PLAN).read_text())["runs"]
        except (OSError, ValueError, KeyError):
            raise UserError(
                f"no study in {folder}; give the folder of one, such as runs/emoji_adaptation"
            ) from None
        self._folder = folder
        self._ended: dict[str, Standing] = {}

    def look(self) -> list[Standing]:
        """All runs, in their order."""
        found = []
        for run in self._runs:
            standing = self._ended.get(run["name"]) or _standing(self._folder, **run)
            if standing.state == FINISHED:
                self._ended[standing.name] = standing
            found.append(standing)
        return found


def _standing(folder: Path, name: str, key: str, steps: int) -> Standing:
    place = folder / "runs" / name
    summary, attempt = workdir.summary(place), attempts.read(place)
    if summary is not None and workdir.FAILED in summary:
        return Standing(name, key, FAILED, summary[workdir.FAILED])
    if summary is not None:
        return Standing(name, key, FINISHED, accuracy=_accuracy(summary))
    if attempt is None:
        return Standing(name, key, WAITING)
    if attempt.process and workdir.is_taken(place):
        return Standing(name, key, RUNNING, f"step {_step(place):,} of {steps:,}")
    if not attempt.process and attempt.failed.get(attempt.session, 0) >= attempts.MOST:
        return Standing(name, key, FAILED, attempt.reason)
    return Standing(name, key, WAITING, "its process died" if attempt.process else attempt.reason)


def _accuracy(summary: dict[str, Any]) -> float | None:
    """On the target where it has labels, else on the source."""
    tested = (summary[split] for split in log.SUMMARY_SPLITS if split in summary)
    return next((split["accuracy"]["value"] for split in tested), None)


def _step(place: Path) -> int:
    """The last step that is noted."""
    try:
        *_, last = (place / workdir.METRICS).read_text().rpartition("\n")[0].splitlines()
        return json.loads(last)["step"]
    except (OSError, ValueError, KeyError):
        return 0


def line(standings: Iterable[Standing]) -> str:
    """All of them in a line.

    >>> line([Standing("a-seed0", "a", "finished"), Standing("a-seed1", "a", "running")])
    '1 of 2 runs are finished, 1 running'
    """
    states = [standing.state for standing in standings]
    counts = [f"{states.count(state)} {state}" for state in (RUNNING, FAILED) if state in states]
    return ", ".join([f"{states.count(FINISHED)} of {len(states)} runs are finished", *counts])


def failures(standings: Iterable[Standing]) -> list[str]:
    """Each run that failed, and why."""
    return [f"{each.name} failed: {each.said}." for each in standings if each.state == FAILED]


def table(standings: Sequence[Standing]) -> str:
    """A row for the runs that differ in their seeds alone, then what failed.

    >>> print(table([Standing("a-seed0", "a", "finished", accuracy=0.5),
    ...              Standing("a-seed1", "a", "running", "step 3 of 9")]))
    1 of 2 runs are finished, 1 running
    <BLANKLINE>
    run  finished  accuracy, %  now
    a    1 of 2    50.0         step 3 of 9
    """
    by_key: dict[str, list[Standing]] = {}
    for standing in standings:
        by_key.setdefault(standing.key, []).append(standing)
    rows = [("run", "finished", "accuracy, %", "now")]
    rows += [_row(key, group) for key, group in by_key.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    failed = failures(standings)
    return "\n".join([line(standings), "", *lines, *([""] if failed else []), *failed])


def _row(key: str, group: Sequence[Standing]) -> tuple[str, str, str, str]:
    reached = [each.accuracy for each in group if each.accuracy is not None]
    finished = sum(each.state == FINISHED for each in group)
    running = [each.said for each in group if each.state == RUNNING]
    failed = sum(each.state == FAILED for each in group)
    again = sum(each.state == WAITING and bool(each.said) for each in group)
    now = [f"{len(running)} at {running[0]}" if len(running) > 1 else "".join(running)]
    now += [f"{again} to try again"] if again else []
    now += [f"{failed} failed"] if failed else []
    return (
        key,
        f"{finished} of {len(group)}",
        f"{100 * statistics.mean(reached):.1f}" if reached else "",
        ", ".join(filter(None, now)),
    )


class Screen:
    """Shows a study as it goes on: on a terminal the table, renewed; elsewhere a line a change.

    Args:
      lines: even on a terminal, where something else is on it too.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self._stream: TextIO = sys.stdout
        self._live = self._stream.isatty() and not lines
        self._lines = 0
        self._ended: list[Standing] | None = None

    def show(self, standings: Sequence[Standing]) -> None:
        """Shows how far the runs are."""
        if self._live:
            self._draw(standings)
            return
        ended = [each for each in standings if each.state in (FINISHED, FAILED)]
        if ended != self._ended:
            self._ended = ended
            print(line(standings), file=self._stream, flush=True)

    def _draw(self, standings: Sequence[Standing]) -> None:
        size = shutil.get_terminal_size()
        lines = table(standings).splitlines()
        if len(lines) >= size.lines:  # what happens, where not all has a place
            happening = {each.key for each in standings if each.state in (RUNNING, FAILED)}
            lines = table([each for each in standings if each.key in happening]).splitlines()
            lines = [line(standings), *lines[1:]][: size.lines - 1]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        drawn = "".join(f"\x1b[2K{text[: size.columns - 1]}\n" for text in lines)
        self._stream.write(f"{up}{drawn}\x1b[J")
        self._stream.flush()
        self._lines = len(lines)


def follow(watch: Watch) -> int:
    """Shows a study: until it has ended, on a terminal; once, elsewhere."""
    screen = Screen()
    standings = watch.look()
    if not sys.stdout.isatty():
        print(table(standings))
        return 0
    screen.show(standings)
    while any(each.state in (RUNNING, WAITING) for each in standings):
        time.sleep(REFRESH)
        standings = watch.look()
        screen.show(standings)
    return 0
