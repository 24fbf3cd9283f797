"""Features that are not in memory."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int


class Numbered(Protocol):
    """What gives the row of a number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class LazyRows:
    """Rows read when they are asked for, from anything that gives the one of a number.

    Solvers take it in the place of an array, and read it in blocks, as they do a memory-mapped one.

    Args:
      rows: has a length, and ``rows[i]`` is the row of example ``i``, of any shape.

    Attributes:
      shape: of the array that it stands for, ``(examples, features)``.

    >>> LazyRows([np.ones((2, 2)), np.zeros((2, 2))])[0:2].shape
    (2, 4)
    """

    def __init__(self, rows: Numbered) -> None:
        self._rows = rows
        self.shape = len(rows), np.size(rows[0]) if len(rows) else 0
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(
        self, places: slice | Int[np.ndarray, " rows"]
    ) -> Float[np.ndarray, "rows features"]:
        numbers = range(*places.indices(len(self))) if isinstance(places, slice) else places
        return np.stack([np.asarray(self._rows[int(number)]).reshape(-1) for number in numbers])


Features = Float[np.ndarray, "examples features"] | LazyRows
"""What solvers take: an array in memory, one mapped from disk, or lazy rows."""


def in_memory(features: Features) -> bool:
    """Whether features can be used as a whole."""
    return not isinstance(features, (np.memmap, LazyRows))
