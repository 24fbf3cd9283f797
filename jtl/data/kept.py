"""Images that do not fit in memory, decoded once."""

import os
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jtl.data.examples import Lazy


class Kept:
    """A lazy set that keeps what it has decoded in a file, so that an image is decoded once.

    The file has no name: however the process ends, nothing is left of it, and no later run finds an
    image that has changed since. It grows as images are decoded. Where it cannot grow, images are
    decoded again.

    Args:
      base: the set; its images are of one shape.
      folder: whose disk holds the file.

    Raises:
      OSError: there can be no file.
    """

    def __init__(self, base: Lazy, folder: Path) -> None:
        first = base[0]
        self._base, self._shape, self._size = base, first.shape, first.nbytes
        self._file, name = tempfile.mkstemp(dir=folder)
        Path(name).unlink()
        weakref.finalize(self, os.close, self._file)
        self._there = np.zeros(len(base), bool)

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "size size channels"]:
        place = index * self._size
        if self._there[index]:
            read = os.pread(self._file, self._size, place)
            return np.frombuffer(read, np.uint8).reshape(self._shape)
        pixels = self._base[index]
        with suppress(OSError):  # the disk is full
            # Said after it is done, for other threads read.
            self._there[index] = os.pwrite(self._file, pixels.tobytes(), place) == self._size
        return pixels

    def stamp(self, index: int) -> str:
        """As the base's."""
        return self._base.stamp(index)

    def fingerprint(self, index: int) -> str:
        """As the base's."""
        return self._base.fingerprint(index)
