"""Running a pure function over many examples, in batches of few shapes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

LENGTHS = (16, 32, 64, 128, 256, 512)
"""What texts are padded to, in tokens: the first of these that they fit in. So few lengths, and so
few programs, are compiled."""
_TOKENS = 4096
"""In a batch of texts."""


def in_batches(
    function: Callable[[Any], Any],
    inputs: Any,
    *,
    batch_size: int = 128,
    padding: int | None = None,
    devices: int = 1,
    part: tuple[int, int] = (0, 1),
) -> Any:
    """Applies ``function`` to all of ``inputs`` and concatenates what it returns, as NumPy.

    Args:
      function: takes ``batch_size`` examples; compiled by the caller.
      inputs: an array, or a lazy sequence of images.
      batch_size: how many examples make up a batch, at most, on each device.
      padding: as :func:`streamed` has it.
      devices: the same.
      part: the same.
    """
    size = min(batch_size, len(inputs))
    batches = streamed(
        function, inputs, batch_size=size, padding=padding, devices=devices, part=part
    )
    places, parts = zip(*batches, strict=True)
    back = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *parts)


def streamed(
    function: Callable[[Any], Any],
    inputs: Any,
    *,
    batch_size: int,
    padding: int | None = None,
    devices: int = 1,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Int[np.ndarray, " some"], Any]]:
    """Applies ``function`` to all of ``inputs``, and yields positions and what it returns for them.

    While one batch is computed, the next one is read. A batch is filled up with examples of its
    own, so that one shape is compiled; what belongs to the filling is dropped.

    Args:
      function: takes a batch; compiled by the caller.
      inputs: an array, or a lazy sequence of images.
      batch_size: how many examples make up a batch, on each device.
      padding: of texts [N, T], the token that fills up short ones. Each is then run among others
        of about its length, without most of its padding; what the function returns for it must be
        of one shape whatever its length. How many make up a batch hangs on their length.
      devices: how many share a batch evenly.
      part: which part of a batch this process reads, and how many parts there are. The function
        takes the part, and returns what belongs to the batch.
    """
    if padding is None:
        groups = [_Group(np.arange(len(inputs)), batch_size, None)]
    else:
        groups = _by_length(inputs, padding)
    running: tuple[np.ndarray, Any] | None = None
    for members, size, length in groups:
        size = devices * (size if len(members) > size else -(-size // devices))
        for start in range(0, len(members), size):
            places = members[start : start + size]
            rows = _fetch(inputs, np.split(np.resize(places, size), part[1])[part[0]])
            outputs = function(rows if length is None else rows[:, :length])
            if running:
                yield _first(*running)
            running = places, outputs
    if running:
        yield _first(*running)


class _Group(NamedTuple):
    """Examples that run in batches of one shape: how many on a device, and how many tokens long."""

    members: np.ndarray
    size: int
    length: int | None


def _by_length(tokens: Int[np.ndarray, "examples tokens"], padding: int) -> list[_Group]:
    lengths = tokens.shape[1] - np.argmax(tokens[:, ::-1] != padding, axis=1)
    buckets = np.minimum(np.append(LENGTHS, tokens.shape[1]), tokens.shape[1])
    bucket = np.searchsorted(buckets, lengths)
    groups = []
    for number in np.unique(bucket):
        length = int(buckets[number])
        groups.append(_Group(np.flatnonzero(bucket == number), max(1, _TOKENS // length), length))
    return groups


def _first(places: np.ndarray, outputs: Any) -> tuple[np.ndarray, Any]:
    return places, jax.tree.map(lambda leaf: np.asarray(leaf)[: len(places)], outputs)


def _fetch(inputs: Any, indices: np.ndarray) -> np.ndarray:
    if isinstance(inputs, np.ndarray):
        return inputs[indices]
    each = np.unique(indices).tolist()
    with ThreadPoolExecutor() as pool:  # what decodes leaves the interpreter to others
        rows = dict(zip(each, pool.map(inputs.__getitem__, each), strict=True))
    return np.stack([rows[index] for index in indices.tolist()])
