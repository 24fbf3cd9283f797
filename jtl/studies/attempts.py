"""Who is at a run of a study, and how its earlier attempts ended.

A hidden file in the run's folder, which whoever has claimed the folder writes. Whoever dies without
a word leaves it behind, so that a run that takes its process with it is tried again once and no
more: by any worker, as none has to have seen it happen.
"""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jtl.records import atomic, workdir
from jtl.records.manifest import write_json

FILE = ".attempt.json"
MOST = 2
"""How often a session of work on a study tries a run."""


class Attempt(NamedTuple):
    """The last attempt at a run.

    Attributes:
      session: of work on the study: a command, or a job of several machines.
      host, process: that are at it; process 0 where it has ended with an error.
      failed: how many attempts of each session have. Several may work on a study at once, and none
        forgets what it has tried because another one tries it too.
      reason: of the last that failed.
    """

    session: str
    host: str
    process: int
    failed: Mapping[str, int]
    reason: str


def read(folder: Path) -> Attempt | None:
    """The attempt noted in a folder, if one is."""
    try:
        return Attempt(**json.loads((folder / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def failed(folder: Path, session: str) -> int:
    """How many attempts of the session have failed.

    One that nobody ended has failed too: call it with the folder claimed.
    """
    return _failures(folder)[0].get(session, 0)


def begin(folder: Path, session: str) -> None:
    """Notes that this process is at the run."""
    _write(folder, session, os.getpid(), *_failures(folder))
    # A process that is told to leave while it compiles is none that died.
    atomic.unfinished(folder / FILE)


def fail(folder: Path, session: str, reason: str = "") -> None:
    """Notes that the last attempt has failed.

    Args:
      folder: of the run.
      session: that the attempt is of.
      reason: why; by default, that its process died.
    """
    times, died = _failures(folder)
    times.setdefault(session, 1)  # of a note that somebody has removed
    atomic.finished(folder / FILE)
    tried = f"; tried {times[session]} times" if times[session] >= MOST else ""
    _write(folder, session, 0, times, (reason or died) + tried)


def give_up(folder: Path, session: str, reason: str) -> None:
    """Notes that a session does not try a run at all."""
    times, _ = _failures(folder)
    _write(folder, session, 0, {**times, session: MOST}, reason)


def is_given_up(folder: Path, session: str) -> bool:
    """Whether the session does not try the run any more."""
    last = read(folder)
    return last is not None and last.failed.get(session, 0) >= MOST


def end(folder: Path) -> None:
    """Forgets the attempt, but none that has failed: the run is finished, was stopped or let go."""
    last = read(folder)
    atomic.finished(folder / FILE)
    if last and last.failed and workdir.summary(folder) is None:
        _write(folder, last.session, 0, last.failed, last.reason)
    else:
        (folder / FILE).unlink(missing_ok=True)


def _failures(folder: Path) -> tuple[dict[str, int], str]:
    """How many attempts of each session have failed, and why the last did."""
    last = read(folder)
    if last is None:
        return {}, ""
    if not last.process:
        return dict(last.failed), last.reason
    times = last.failed.get(last.session, 0) + 1
    return {
        **last.failed,
        last.session: times,
    }, f"process {last.process} of {last.host} died at it"


def _write(
    folder: Path, session: str, process: int, failed: Mapping[str, int], reason: str
) -> None:
    note = Attempt(session, socket.gethostname(), process, failed, reason)
    write_json(folder / FILE, note._asdict())
