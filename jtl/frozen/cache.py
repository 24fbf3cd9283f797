"""The folder where what frozen blocks gave is kept: its place, its limit, its shards.

Each prefix has a folder there, of shards that :mod:`jtl.frozen.store` writes and reads. Nothing
here needs JAX or NumPy, so that ``jtl cache`` answers at once.
"""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import struct
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jtl.errors import UserError
from jtl.records.atomic import replacing

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
_TRIES = 5
"""At writing into a folder that others remove meanwhile, each time."""


def place() -> Path:
    """The folder, which need not be there.

    Raises:
      UserError: it is said to be with a user whom nobody knows.
    """
    if said := os.environ.get(PLACE):
        try:
            return Path(said).expanduser()
        except RuntimeError as error:
            raise UserError(f"{PLACE} is {said!r}; there is no such user here") from error
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
    try:
        total = sum(stat.st_size for folder in folders() for _, stat in sizes(folder))
        return needed <= allowed(total)
    except OSError:  # a folder that cannot be read
        return False


def keep(content: bytes, folder: Path, about: Mapping[str, Any], in_use: Collection[Path]) -> Path:
    """Writes a shard, for which those that were not used for longest make room.

    Args:
      content: of the shard.
      folder: of its prefix.
      about: what the prefix is, for people.
      in_use: files that stay.

    Raises:
      UserError: there is no room, or the folder cannot be written.
    """
    file = folder / f"{uuid.uuid4().hex}{SUFFIX}"
    try:
        _make_room(len(content), in_use)
        for left in reversed(range(_TRIES)):
            try:
                _write(file, content, about)
            except (FileNotFoundError, UserError) as error:
                # Who makes room elsewhere, or was told to, removes the folder as it is written.
                gone = isinstance(error.__cause__ or error, FileNotFoundError)
                if not (left and gone):
                    raise
            else:
                break
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    return file


def _write(file: Path, content: bytes, about: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    note = file.with_name(ABOUT)
    if not note.exists():
        with replacing(note) as temporary:
            temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def _make_room(needed: int, in_use: Collection[Path]) -> None:
    """Removes shards until so many bytes more may be kept; none if there can be no room."""
    there = [found for folder in folders() for found in sizes(folder)]
    _remove_abandoned()
    total = sum(stat.st_size for _, stat in there)
    most = allowed(total)
    kept = sum(stat.st_size for file, stat in there if file in in_use)
    if kept + needed > most:
        why = f"{LIMIT} sets its limit" if most == limit() else "half of its disk stays free"
        raise UserError(f"{place()}: is full ({why})")
    for file, stat in sorted(there, key=lambda found: found[1].st_mtime):
        if total + needed <= most:
            break
        if file not in in_use:
            file.unlink(missing_ok=True)
            total -= stat.st_size
            if not shards(file.parent):
                remove(file.parent)


def allowed(total: int) -> float:
    """How many bytes may be kept, where ``total`` are: at most half of what would be free."""
    there = place()
    while not there.exists():
        there = there.parent
    return min(limit(), (total + shutil.disk_usage(there).free) / 2)


def folders() -> list[Path]:
    """Of prefixes; what else may lie there is nobody's business."""
    name = re.compile(f"[0-9a-f]{{{NAME_LENGTH}}}")
    root = place()
    return [path for path in root.iterdir() if name.fullmatch(path.name)] if root.is_dir() else []


def shards(folder: Path) -> list[Path]:
    """Those of a prefix, in order; none where the folder is not there."""
    with contextlib.suppress(FileNotFoundError):  # it may go while it is read
        return sorted(folder.glob(f"*{SUFFIX}"))
    return []


def sizes(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Shards that are there, as others may be removing them."""
    found = []
    for file in shards(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append((file, file.stat()))
    return found


def _remove_abandoned() -> None:
    """What a process that was killed left half written."""
    for folder in folders():
        for file in folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - _ABANDONED:
                    file.unlink()


def remove(folder: Path) -> None:
    """A folder of shards; another process may be doing the same."""
    for file in [*shards(folder), *folder.glob(".*.tmp"), folder / ABOUT]:
        file.unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        # Another process has removed it, or writes into it.
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
