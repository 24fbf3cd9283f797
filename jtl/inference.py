"""Running a pure function over many examples, in batches of one shape."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def in_batches(
    function: Callable[[Any], Any],
    inputs: Any,
    *,
    batch_size: int = 128,
) -> Any:
    """Applies ``function`` to all of ``inputs`` and concatenates what it returns, as NumPy.

    Args:
      batch_size: how many examples make up a batch.
      function: takes ``batch_size`` examples; compiled by the caller.
      inputs: an array, or a lazy sequence of images. The last batch is filled up with its first
        example, so that one shape is compiled; what belongs to the filling is dropped.
    """
    total = len(inputs)
    batch_size = min(batch_size, total)
    parts = []
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        indices = np.arange(start, start + batch_size)
        indices[stop - start :] = start
        outputs = function(_fetch(inputs, indices))
        parts.append(jax.tree.map(lambda leaf, n=stop - start: np.asarray(leaf)[:n], outputs))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _fetch(inputs: Any, indices: np.ndarray) -> np.ndarray:
    if isinstance(inputs, np.ndarray):
        return inputs[indices]
    return np.stack([inputs[int(index)] for index in indices])
