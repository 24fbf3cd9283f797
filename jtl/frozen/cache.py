"""The folder where what frozen blocks gave is kept: its place, its limit, what is in it.

Each prefix has a folder there, of shards that :mod:`jtl.frozen.store` writes and reads. Nothing
here needs JAX or NumPy, so that ``jtl cache`` answers at once.
"""

import contextlib
import json
import math
import os
import re
import shutil
import struct
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jtl.errors import UserError, nearest

PLACE, LIMIT = "JTL_CACHE", "JTL_CACHE_LIMIT"
"""Variables of the environment: the folder, and its limit in GiB."""
ABOUT, SUFFIX = "about.json", ".safetensors"
NAME_LENGTH = 16
"""Of the name of a prefix's folder, in hexadecimal digits."""
DEFAULT_LIMIT = 20.0
"""GiB."""
_GIB = 2**30
_ABANDONED = 3600
"""Seconds after which a half-written file is nobody's."""


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


def place() -> Path:
    """The folder, which need not be there."""
    if PLACE in os.environ:
        return Path(os.environ[PLACE]).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "jtl" / "features"


def limit() -> float:
    """How many bytes may be kept; 0 is none.

    Raises:
      UserError: the environment holds no such number.
    """
    said = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    try:
        size = float(said)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise UserError(f"{LIMIT} is {said!r}; it is a number of GiB, and 0 keeps nothing on disk")
    return size * _GIB


def entries() -> list[Entry]:
    """All prefixes, the one that was used last first."""
    found = []
    for folder in _folders():
        shards = _shards(folder)
        headers = [_readable_header(file) for file, _ in shards]
        rows = sum(each["rows"]["shape"][0] for each in headers if "rows" in each)
        size = sum(stat.st_size for _, stat in shards)
        used = max((stat.st_mtime for _, stat in shards), default=0.0)
        found.append(Entry(folder, _about(folder), rows, size, used))
    return sorted(found, key=lambda entry: -entry.used)


def header(file: Path) -> dict[str, Any]:
    """What a safetensors file says of its arrays, and where they begin ("begin", in bytes).

    Empty where it is none, or not whole.

    Raises:
      OSError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > 2**20:
                return {}
            said = json.loads(opened.read(length))
        ends = [said[name]["data_offsets"][1] for name in said if name != "__metadata__"]
        whole = file.stat().st_size == 8 + length + max(ends)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error):
        return {}
    return said | {"begin": 8 + length} if whole else {}


def fits(needed: float) -> bool:
    """Whether so many bytes may be kept, were nothing else."""
    total = sum(stat.st_size for folder in _folders() for _, stat in _shards(folder))
    return needed <= _allowed(total)


def make_room(needed: int, in_use: Collection[Path]) -> bool:
    """Removes the shards that were not used for longest, until so many bytes more may be kept.

    Args:
      needed: how many.
      in_use: files that stay.

    Returns:
      Whether there is room. If there cannot be, nothing is removed.
    """
    shards = [found for folder in _folders() for found in _shards(folder)]
    _remove_abandoned()
    total = sum(stat.st_size for _, stat in shards)
    allowed = _allowed(total)
    kept = sum(stat.st_size for file, stat in shards if file in in_use)
    if kept + needed > allowed:
        return False
    for file, stat in sorted(shards, key=lambda found: found[1].st_mtime):
        if total + needed <= allowed:
            break
        if file not in in_use:
            file.unlink(missing_ok=True)
            total -= stat.st_size
            if not _shards(file.parent):
                _remove(file.parent)
    return True


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
    total = in_mib(sum(entry.size for entry in found))
    return "\n".join((*lines, f"{total} of {in_mib(limit())} in {place()}"))


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
            _remove(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be removed ({error.strerror})") from error
    return [there[name] for name in sorted(chosen)]


def _named(word: str, names: Collection[str]) -> str:
    matching = [name for name in names if word and name.startswith(word)]
    if len(matching) > 1:
        raise UserError(f"cache: {word} begins the names {', '.join(sorted(matching))}; write more")
    if not matching:
        raise UserError(f"cache: nothing is called {word}; {nearest(word, names)}")
    return matching[0]


def _allowed(total: int) -> float:
    """How many bytes may be kept, where ``total`` are: at most half of what would be free."""
    there = place()
    while not there.exists():
        there = there.parent
    return min(limit(), (total + shutil.disk_usage(there).free) / 2)


def _folders() -> list[Path]:
    """Of prefixes; what else may lie there is nobody's business."""
    name = re.compile(f"[0-9a-f]{{{NAME_LENGTH}}}")
    root = place()
    return [path for path in root.iterdir() if name.fullmatch(path.name)] if root.is_dir() else []


def _shards(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Those that are there, as others may be removing them."""
    found = []
    for file in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            found.append((file, file.stat()))
    return found


def _readable_header(file: Path) -> dict[str, Any]:
    """A header, empty too where the file cannot be read."""
    with contextlib.suppress(OSError):
        return header(file)
    return {}


def _about(folder: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _remove_abandoned() -> None:
    """What a process that was killed left half written."""
    for folder in _folders():
        for file in folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - _ABANDONED:
                    file.unlink()


def _remove(folder: Path) -> None:
    """A folder of shards; another process may be doing the same."""
    for file in [*folder.glob(f"*{SUFFIX}"), *folder.glob(".*.tmp"), folder / ABOUT]:
        file.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
