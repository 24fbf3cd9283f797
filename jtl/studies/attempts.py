"""Who is at a run of a study, and how its earlier attempts ended.

A hidden file in the run's folder, which whoever has claimed the folder writes. Whoever dies without
a word leaves it behind, so that a run that takes its process with it is tried again once and no
more: by any worker, as none has to have seen it happen.
"""

import json
import os
import socket
from pathlib import Path
from typing import NamedTuple

from jtl.records import atomic
from jtl.records.manifest import write_json

FILE = ".attempt.json"
MOST = 2
"""How often a session of work on a study tries a run."""


class Attempt(NamedTuple):
    """The last attempt at a run.

    Attributes:
      session: of work on the study: a command, or a job of several machines.
      host, process: that are at it; process 0 where it has ended with an error.
      failed: how many attempts of the session have.
      reason: of the last that failed.
    """

    session: str
    host: str
    process: int
    failed: int
    reason: str


def read(folder: Path) -> Attempt | None:
    """The attempt noted in a folder, if one is."""
    try:
        return Attempt(**json.loads((folder / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def failed(folder: Path, session: str) -> tuple[int, str]:
    """How many attempts of the session have failed, and why the last did.

    One that nobody ended has failed too: call it with the folder claimed.
    """
    last = read(folder)
    if last is None or last.session != session:
        return 0, ""
    if not last.process:
        return last.failed, last.reason
    return last.failed + 1, f"process {last.process} of {last.host} died at it"


def begin(folder: Path, session: str) -> None:
    """Notes that this process is at the run."""
    times, reason = failed(folder, session)
    note = Attempt(session, socket.gethostname(), os.getpid(), times, reason)
    write_json(folder / FILE, note._asdict())
    # A process that is told to leave while it compiles is none that died.
    atomic.unfinished(folder / FILE)


def fail(folder: Path, session: str, reason: str = "") -> None:
    """Notes that the last attempt has failed.

    Args:
      folder: of the run.
      session: that the attempt is of.
      reason: why; by default, that its process died.
    """
    times, died = failed(folder, session)
    end(folder)
    tried = f"; tried {times} times" if times >= MOST else ""
    note = Attempt(session, socket.gethostname(), 0, times, (reason or died) + tried)
    write_json(folder / FILE, note._asdict())


def give_up(folder: Path, session: str, reason: str) -> None:
    """Notes that a session does not try a run at all."""
    note = Attempt(session, socket.gethostname(), 0, MOST, reason)
    write_json(folder / FILE, note._asdict())


def is_given_up(folder: Path, session: str) -> bool:
    """Whether the session does not try the run any more."""
    last = read(folder)
    return (
        last is not None and (last.session, last.process) == (session, 0) and (last.failed >= MOST)
    )


def end(folder: Path) -> None:
    """Forgets the attempt: the run is finished, or was stopped or let go."""
    atomic.finished(folder / FILE)
    (folder / FILE).unlink(missing_ok=True)
