"""The examples of several runs in one array, each of them once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jtl.data.examples import Examples


@dataclass(frozen=True)
class Pool:
    """Examples, and where each run's are among them.

    Attributes:
      inputs: of all runs.
      labels: likewise; None where nothing is labelled.
      places: for each run, the positions of its examples in ``inputs``.
    """

    inputs: np.ndarray
    labels: Int[np.ndarray, " examples"] | None
    places: tuple[Int[np.ndarray, " of_one_run"], ...]


def pool(parts: Sequence[Examples]) -> Pool:
    """Gathers one part of every run.

    Args:
      parts: in memory, and all labelled or all not. They may share examples, wholly or in part:
        those of equal input and label are one.
    """
    found: dict[tuple[str, int], int] = {}
    places, rows, labels = [], [], []
    for part in parts:
        known = np.zeros(len(part), np.int32) if part.labels is None else part.labels
        keys = list(zip(part.fingerprints, known.tolist(), strict=True))
        new = [index for index, key in enumerate(keys) if key not in found]
        for index in new:
            found.setdefault(keys[index], len(found))
        first = {found[keys[index]]: index for index in reversed(new)}
        kept = [first[place] for place in sorted(first)]
        rows.append(part.array()[kept])
        labels.append(known[kept])
        places.append(np.array([found[key] for key in keys], np.int32))
    together = None if parts[0].labels is None else np.concatenate(labels)
    return Pool(np.concatenate(rows), together, tuple(places))
