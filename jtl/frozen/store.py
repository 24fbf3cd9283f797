"""What frozen blocks gave, kept: in this process, and on disk for later ones.

A store is a folder of shards. A shard is a safetensors file of ``rows`` and of the ``names`` of
what they were made from. It is there as a whole or not at all, and never changes, so writers need
no lock: names of files are unique, and a row that two of them wrote is merely there twice.
"""

import os
import resource
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from jtl.errors import UserError
from jtl.frozen import cache

SHARD_BYTES, SHARD_SECONDS = 64 * 2**20, 20.0
"""A shard is written when it holds so much, or so long after the one before: what a kill costs."""
_DIGEST = 32
"""Bytes of a name, which is a sha256."""
_in_use: set[Path] = set()
"""The shards that this process reads, which it does not remove to make room for others."""


class Shard:
    """Some rows, by name.

    Args:
      names: of the rows, in hexadecimal.
      read: gives the rows.
      file: where they are; None is in memory.
      checksum: of names and rows in the file.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[], np.ndarray],
        file: Path | None = None,
        checksum: str = "",
    ) -> None:
        self.names, self.file = names, file
        self._read, self._checksum = read, checksum
        self._sound = file is None

    @cached_property
    def rows(self) -> np.ndarray:
        """In memory, or mapped when first asked for: each mapping keeps its file open."""
        return self._read()

    def sound(self) -> bool:
        """Whether the rows are those that were written; the file is then one that is in use.

        Raises:
          OSError: the file cannot be read.
        """
        if not self._sound and self.file:
            self._sound = _checksum(self.names, self.rows) == self._checksum
            if self._sound:
                _in_use.add(self.file)
                with suppress(OSError):  # one may read what one may not write
                    os.utime(self.file)
        return self._sound


class Store:
    """The outputs of one prefix, by the names of what they were made from.

    Args:
      folder: of its shards; None keeps them in memory alone.
      about: what the prefix is, for people.

    Attributes:
      on_disk: whether new rows go to the folder. A disk that takes no more ends that, in one line.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self.on_disk = folder is not None
        self._folder, self._about = folder, about
        self._where: dict[str, tuple[Shard, int]] = {}
        self._seen: set[Path] = set()
        self._spared = False
        self._waiting: list[Shard] = []
        self._since = time.monotonic()
        if folder is not None:
            _allow_many_files()

    def missing(self, names: Sequence[str]) -> list[int]:
        """Where names stand that no row has, each of them once. Finds what others have written."""
        self._look()
        for shard in {self._where[name][0] for name in names if name in self._where}:
            if not self._usable(shard):
                kept = {n: found for n, found in self._where.items() if found[0] is not shard}
                self._where = kept
        return list({n: i for i, n in enumerate(names) if n not in self._where}.values())

    def add(self, names: Sequence[str], rows: np.ndarray) -> None:
        """Keeps rows; they are on disk once :meth:`flush` has been called, or some time before."""
        if not self._waiting:
            self._since = time.monotonic()
        shard = Shard(names, lambda: rows)
        self._enter(shard)
        if not self.on_disk:
            return
        self._waiting.append(shard)
        size = sum(part.rows.nbytes for part in self._waiting)
        if size >= SHARD_BYTES or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait for it."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self.on_disk:
            return
        names = [name for shard in waiting for name in shard.names]
        file = self._write(names, np.concatenate([shard.rows for shard in waiting]))
        shard = file and self._opened(file)
        if shard and self._usable(shard):
            for place, name in enumerate(names):
                self._where[name] = shard, place

    def take(self, names: Sequence[str]) -> np.ndarray:
        """The rows of these names, in memory."""
        first = self.row(names[0])
        rows = np.empty((len(names), *first.shape), first.dtype)
        places: dict[Shard, tuple[list[int], list[int]]] = {}
        for here, name in enumerate(names):
            shard, there = self._where[name]
            to, origin = places.setdefault(shard, ([], []))
            to.append(here)
            origin.append(there)
        for shard, (to, origin) in places.items():
            rows[to] = shard.rows[origin]
        return rows

    def row(self, name: str) -> np.ndarray:
        """The row of a name, where it lies."""
        shard, place = self._where[name]
        return shard.rows[place]

    def _enter(self, shard: Shard) -> None:
        for place, name in enumerate(shard.names):
            self._where.setdefault(name, (shard, place))

    def _look(self) -> None:
        """Reads the names of the shards that are new in the folder."""
        if self._folder is None:
            return
        for file in cache.shards(self._folder):
            if file not in self._seen:
                self._seen.add(file)
                shard = self._opened(file)
                if shard:
                    self._enter(shard)

    def _opened(self, file: Path) -> Shard | None:
        """A shard, its rows not read; None where there is none to be had."""
        try:
            shard = _read(file)
        except OSError as error:
            return self._spare(file, error)
        return shard or self._drop(file)

    def _usable(self, shard: Shard) -> bool:
        """Whether the rows of a shard can be read, and are those that were written."""
        if shard.file is None:
            return True
        try:
            sound = shard.sound()
        except OSError as error:
            self._spare(shard.file, error)
            return False
        if not sound:
            self._drop(shard.file)
        return sound

    def _drop(self, file: Path) -> None:
        try:
            file.unlink()
        except FileNotFoundError:  # another process has removed it, to make room
            return
        except OSError as error:
            done = f"it cannot be removed ({error.strerror})"
        else:
            done = "it is removed"
        _say(f"{file} is damaged; {done}, and what it held computed again")

    def _spare(self, file: Path, error: OSError) -> None:
        """Says, of the first of them, that a file may be whole and cannot be read."""
        if not self._spared and not isinstance(error, FileNotFoundError):
            self._spared = True
            why = f"cannot be read ({error.strerror})"
            _say(f"{file}: {why}; what this and other such files hold is computed again")

    def _write(self, names: Sequence[str], rows: np.ndarray) -> Path | None:
        """Writes a shard; None where the disk does not take it."""
        assert self._folder is not None
        digests = np.frombuffer(bytes.fromhex("".join(names)), np.uint8).reshape(-1, _DIGEST)
        said = {"checksum": _checksum(names, rows)}
        content = save({"names": digests, "rows": np.ascontiguousarray(rows)}, said)
        try:
            file = cache.keep(content, self._folder, self._about, _in_use)
        except UserError as error:
            self.on_disk = False
            _say(f"{error}; what the frozen blocks give is kept in memory alone")
            return None
        self._seen.add(file)
        return file


class Rows:
    """Rows of a store as the inputs of a set, read from disk when they are asked for."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self._store, self._names = store, names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._store.row(self._names[index])

    def stamp(self, index: int) -> str:
        """The name of the row."""
        return self._names[index]

    def fingerprint(self, index: int) -> str:
        """The name of the row."""
        return self._names[index]


def _allow_many_files() -> None:
    """Has as many files open at once as the system lets one: each shard that is read is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS says that there is no limit, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _read(file: Path) -> Shard | None:
    """A shard, its rows not read; None where the file is none.

    Raises:
      OSError: it cannot be read.
    """
    header = cache.header(file)
    try:
        names, rows = header["names"], header["rows"]
        (count, _), shape, begin = names["shape"], rows["shape"], header["begin"]
        checksum = header["__metadata__"]["checksum"]
        if rows["dtype"] != "F32" or shape[0] != count:
            return None
        at, end = names["data_offsets"]
        with file.open("rb") as opened:
            opened.seek(begin + at)
            digests = opened.read(end - at).hex()
        offset, shape = begin + rows["data_offsets"][0], tuple(shape)
    except (ValueError, TypeError, KeyError):
        return None
    width = 2 * _DIGEST
    split = [digests[start : start + width] for start in range(0, len(digests), width)]
    return Shard(split, partial(_mapped, file, offset, shape), file, checksum)


def _mapped(file: Path, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(file, np.float32, "r", offset, shape).view(np.ndarray)


def _checksum(names: Sequence[str], rows: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(rows).data, zlib.crc32(''.join(names).encode())):08x}"


def _say(text: str) -> None:
    print(f"jtl: {text}", file=sys.stderr, flush=True)
