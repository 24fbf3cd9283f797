"""What is kept of what frozen blocks gave, for people: listed and removed.

Nothing here needs JAX or NumPy, so that ``jtl cache`` answers at once.
"""

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jtl.errors import UserError, nearest
from jtl.frozen import cache


class Entry(NamedTuple):
    """What is kept of one prefix.

    Attributes:
      folder: whose name is that of the entry.
      about: what the prefix is, for people; empty where that cannot be read.
      rows: how many outputs there are.
      size: in bytes.
      used: when, in seconds since the epoch.
    """

    folder: Path
    about: Mapping[str, Any]
    rows: int
    size: int
    used: float


def entries() -> list[Entry]:
    """All prefixes, the one that was used last first.

    Raises:
      UserError: the folder cannot be read.
    """
    found = []
    try:
        folders = cache.folders()
    except OSError as error:
        raise UserError(f"{cache.place()}: cannot be read ({error.strerror})") from error
    for folder in folders:
        sizes = cache.sizes(folder)
        headers = [_readable_header(file) for file, _ in sizes]
        rows = sum(each["rows"]["shape"][0] for each in headers if "rows" in each)
        size = sum(stat.st_size for _, stat in sizes)
        used = max((stat.st_mtime for _, stat in sizes), default=0.0)
        found.append(Entry(folder, _about(folder), rows, size, used))
    return sorted(found, key=lambda entry: -entry.used)


def table(found: Sequence[Entry]) -> str:
    """Entries for people, and how much all of them take."""
    rows = [("name", "backbone", "up to", "rows", "shape", "size", "last used")]
    for entry in found:
        shape = " x ".join(map(str, entry.about.get("shape", ())))
        last = entry.about.get("blocks", [""])[-1]
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        said = entry.folder.name, str(entry.about.get("backbone", "?")), last, f"{entry.rows:,}"
        rows.append((*said, shape, in_mib(entry.size), used))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows if found)
    total = sum(entry.size for entry in found)
    full = f"{in_mib(total)} of {in_mib(cache.allowed(total))} in {cache.place()}"
    return "\n".join((*lines, full))


def in_mib(size: float) -> str:
    """A number of bytes for people.

    >>> in_mib(3 * 2**19), in_mib(20 * 2**30)
    ('1.5 MiB', '20,480.0 MiB')
    """
    return f"{size / 2**20:,.1f} MiB"


def remove(words: Sequence[str]) -> list[Entry]:
    """Removes prefixes by the beginnings of their names; without any, all. Returns those removed.

    Raises:
      UserError: a word begins the name of no prefix, or of several; or a file cannot be removed.
    """
    there = {entry.folder.name: entry for entry in entries()}
    chosen = {_named(word, there) for word in words} if words else set(there)
    for name in chosen:
        folder = there[name].folder
        try:
            cache.remove(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be removed ({error.strerror})") from error
    return [there[name] for name in sorted(chosen)]


def _named(word: str, names: Collection[str]) -> str:
    matching = [name for name in names if word and name.startswith(word)]
    if len(matching) > 1:
        raise UserError(f"cache: {word} begins the names {', '.join(sorted(matching))}; write more")
    if not names:
        raise UserError(f"cache: nothing is called {word}; nothing is kept in {cache.place()}")
    if not matching:
        raise UserError(f"cache: nothing is called {word}; {nearest(word, names)}")
    return matching[0]


def _readable_header(file: Path) -> dict[str, Any]:
    """A header, empty too where the file cannot be read."""
    with contextlib.suppress(OSError):
        return cache.header(file)
    return {}


def _about(folder: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads((folder / cache.ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
