"""The record kept beside a checkpoint's arrays: what was saved, to be compared with what is read.

Arrays come back from a checkpoint cast, abstract or damaged without a word from the library that
reads them; names, shapes, dtypes and checksums tell. No Orbax here.
"""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jtl.errors import UserError

Keys = tuple[str, ...]
"""A leaf's keys from the root of its tree; joined by ``/``, its name."""


class Leaf(NamedTuple):
    """One leaf. A checksum of None was not taken, and is not checked."""

    shape: tuple[int, ...]
    dtype: str
    checksum: int | None

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    def fits(self, other: "Leaf") -> bool:
        """Whether shape and dtype agree."""
        return self[:2] == other[:2]


class Record(NamedTuple):
    """What a checkpoint holds."""

    score: float | None
    leaves: dict[Keys, Leaf]

    def to_json(self) -> dict[str, Any]:
        """As dictionaries, lists, strings and numbers."""
        return {"score": self.score, "leaves": [[k, *leaf] for k, leaf in self.leaves.items()]}


class CorruptError(Exception):
    """Arrays that were read without complaint, but are not those that were saved."""


def keys_of(path: Sequence[Any]) -> Keys:
    """The keys of a path of ``jax.tree_util``, as strings."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def describe(tree: Any, *, checksums: bool = True) -> dict[Keys, Leaf]:
    """Every leaf of a tree of arrays, or of ``ShapeDtypeStruct`` without checksums."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    here = [leaf if checksums and _is_here(leaf) else None for _, leaf in paths]
    host = jax.device_get(here)  # all at once, so that the copies from a device overlap
    return {
        keys_of(path): Leaf(tuple(leaf.shape), str(leaf.dtype), _checksum(values))
        for (path, leaf), values in zip(paths, host, strict=True)
    }


def read_record(folder: Path) -> Record:
    """The record of the checkpoint in ``folder``.

    Raises:
      CorruptError: it is missing, or is not a record.
    """
    try:
        record = json.loads((folder / "record" / "metadata").read_text())
        leaves = {
            tuple(keys): Leaf(tuple(shape), dtype, checksum)
            for keys, shape, dtype, checksum in record["leaves"]
        }
        return Record(usable_score(record["score"]), leaves)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"its record cannot be read: {error}") from error


def read_score(folder: Path) -> float | None:
    """The score in a checkpoint's record; None where there is none or no readable record."""
    try:
        return read_record(folder).score
    except CorruptError:
        return None


def usable_score(score: float | None) -> float | None:
    """A score that can be ranked: NaN is none."""
    return None if score is None or math.isnan(score) else float(score)


def require_fit(folder: Path, saved: dict[Keys, Leaf], wanted: dict[Keys, Leaf]) -> None:
    """A UserError that names the leaves in which a checkpoint and a state differ."""
    missing = ["/".join(keys) for keys in wanted if keys not in saved]
    extra = ["/".join(keys) for keys in saved if keys not in wanted]
    differing = [
        f"{'/'.join(keys)} is {saved[keys]} there and {leaf} here"
        for keys, leaf in wanted.items()
        if keys in saved and not leaf.fits(saved[keys])
    ]
    problems = [f"it lacks {listed(missing)}"] if missing else []
    problems += [f"it has also {listed(extra)}"] if extra else []
    problems += [listed(differing)] if differing else []
    if problems:
        raise UserError(f"checkpoint {folder} does not fit the model: {'; '.join(problems)}")


def verify(saved: dict[Keys, Leaf], tree: Any) -> None:
    """A CorruptError unless every leaf of ``tree`` is a real array, bit for bit the saved one."""
    abstract = [
        "/".join(keys_of(path))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if not isinstance(leaf, jax.Array | np.ndarray)
    ]
    if abstract:
        raise CorruptError(f"no array for {listed(abstract)}")
    for keys, leaf in describe(tree).items():
        wanted = saved[keys]
        checked = wanted.checksum is not None and leaf.checksum is not None
        if not leaf.fits(wanted) or (checked and leaf.checksum != wanted.checksum):
            raise CorruptError(f"{'/'.join(keys)} is not what was saved")


def listed(names: Sequence[str]) -> str:
    """Names on one line, the first few of many.

    >>> listed(["a", "b"]), listed([]), listed(list("abcdefg"))
    ('a, b', 'nothing', 'a, b, c, d and 3 more')
    """
    if not names:
        return "nothing"
    shown = names if len(names) <= 5 else names[:4]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


def brief(error: Exception) -> str:
    r"""The first line of a message that may run over many.

    >>> brief(ValueError("no such chunk\nSource: ..."))
    'ValueError: no such chunk'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:150]}" if lines else type(error).__name__


def _is_here(leaf: Any) -> bool:
    """Whether this process can see all of an array (others may hold shards of it)."""
    if isinstance(leaf, jax.Array):
        return leaf.is_fully_addressable or leaf.is_fully_replicated
    return isinstance(leaf, np.ndarray)


def _checksum(values: np.ndarray | None) -> int | None:
    if values is None:
        return None
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
