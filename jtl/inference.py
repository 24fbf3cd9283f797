"""Running a pure function over many examples, in batches of few shapes."""

from collections.abc import Callable
from typing import Any

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
) -> Any:
    """Applies ``function`` to all of ``inputs`` and concatenates what it returns, as NumPy.

    Args:
      function: takes ``batch_size`` examples; compiled by the caller.
      inputs: an array, or a lazy sequence of images. The last batch is filled up with its first
        example, so that one shape is compiled; what belongs to the filling is dropped.
      batch_size: how many examples make up a batch.
      padding: of texts [N, T], the token that fills up short ones. Each is then run among others
        of about its length, without most of its padding; what the function returns for it must be
        of one shape whatever its length.
    """
    if padding is not None:
        return _by_length(function, inputs, padding)
    total = len(inputs)
    batch_size = min(batch_size, total)
    parts = []
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        indices = np.arange(start, start + batch_size)
        indices[stop - start :] = start
        parts.append(_first(stop - start, function(_fetch(inputs, indices))))
    return _joined(parts)


def _by_length(
    function: Callable[[Any], Any], tokens: Int[np.ndarray, "examples tokens"], padding: int
) -> Any:
    lengths = tokens.shape[1] - np.argmax(tokens[:, ::-1] != padding, axis=1)
    buckets = np.minimum(np.append(LENGTHS, tokens.shape[1]), tokens.shape[1])
    bucket = np.searchsorted(buckets, lengths)
    order, parts = np.argsort(bucket, kind="stable"), []
    for number in np.unique(bucket):
        members, length = np.flatnonzero(bucket == number), int(buckets[number])
        size = max(1, _TOKENS // length)
        for start in range(0, len(members), size):
            rows = np.resize(members[start : start + size], size)
            count = min(size, len(members) - start)
            parts.append(_first(count, function(tokens[rows, :length])))
    back = np.argsort(order)
    return jax.tree.map(lambda leaf: leaf[back], _joined(parts))


def _first(count: int, outputs: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], outputs)


def _joined(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _fetch(inputs: Any, indices: np.ndarray) -> np.ndarray:
    if isinstance(inputs, np.ndarray):
        return inputs[indices]
    return np.stack([inputs[int(index)] for index in indices])
