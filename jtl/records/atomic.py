"""Files and folders that are there as a whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jtl.errors import UserError

_unfinished: set[Path] = set()


@contextmanager
def replacing(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A path beside ``target`` to write to, which takes its place once all of it is written.

    Args:
      target: a file, or a folder that is not there or empty.
      folder: is it a folder? It is made then.

    Raises:
      UserError: it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _unfinished.add(temporary)
    try:
        if folder:
            temporary.mkdir(parents=True)
        yield temporary
        if not folder:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # the new name must not reach the disk before the content
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        _discard(temporary)


def unfinished(file: Path) -> None:
    """Has a file removed by a process that leaves at once, until it is :func:`finished`."""
    _unfinished.add(file)


def finished(file: Path) -> None:
    """Has a file stay."""
    _unfinished.discard(file)


def discard_unfinished() -> None:
    """Removes what is half written, for a process that leaves at once."""
    for temporary in tuple(_unfinished):
        _discard(temporary)


def _discard(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)
    _unfinished.discard(temporary)
