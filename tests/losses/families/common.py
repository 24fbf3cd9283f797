"""What families share: the form of a case, and inputs at which naive forms have NaN gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from jtl import losses

Fixed = tuple[np.ndarray, ...] | None
"""The arguments where whatever carries no gradient is computed; None means where they are."""

INF = np.inf


@dataclass(frozen=True)
class Case:
    """One loss, or one form of it.

    Attributes:
      loss: arrays to a scalar or one value per example.
      oracle: the same in float64 NumPy.
      arguments: generic ones, float64; integers stay integers.
      edges: arguments where a naive implementation has NaN or infinite gradients.
      batch: the loss takes ``axis_name``.
      masks: keywords that say which rows count, and the arguments whose rows they mask: padded
        rows may hold anything.
    """

    loss: Callable
    oracle: Callable
    arguments: tuple
    edges: tuple = ()
    batch: bool = True
    masks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


WHERE = {"where": (0,)}
BOTH = {"source_where": (0,), "target_where": (1,)}
"""The masks of a loss of one matrix, and of two samples."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 0])
LOGITS, OTHER_LOGITS = normal(8, 3), normal(8, 3, seed=1)
SOURCE, TARGET = normal(8, 3, seed=2), normal(16, 3, seed=3) + 0.5

ODD_LOGITS = (
    np.zeros((8, 3)),
    np.full((8, 3), 1e4) * np.array([1, -1, 0]),
    np.tile([200.0, 0.0, 0.0], (8, 1)),
    np.tile([0.0, -INF, 1.0], (8, 1)),
    np.concatenate([[[0.0, -INF, -INF], [-INF, 3.0, -INF]], LOGITS[2:]]),
    np.eye(3)[LABELS] * 1e3,
    np.tile([0.0, -95.0, 0.0], (8, 1)),  # a probability that is a denormal float32
    np.tile([0.0, -250.0, 0.0], (8, 1)),  # the same at temperature 2.5
)
ODD_PAIRS = (
    *((odd, LOGITS) for odd in ODD_LOGITS),
    *((LOGITS, odd) for odd in ODD_LOGITS),
    *((odd, odd) for odd in ODD_LOGITS),
)
ODD_FEATURES = (
    (np.zeros((8, 3)), np.zeros((16, 3))),
    (np.zeros((8, 3)), TARGET),
    (np.tile(SOURCE[:1], (8, 1)), np.tile(SOURCE[:1], (16, 1))),
    (SOURCE, np.concatenate([SOURCE, SOURCE])),
    (SOURCE + 1e4, TARGET + 1e4),
    (np.concatenate([np.ones((7, 3)), np.zeros((1, 3))]), np.ones((16, 3))),
    (SOURCE * 1e-15, TARGET * 1e-15),
)


def on_logits(oracle: Callable) -> Case:
    """The case of a loss of logits, named as its oracle is."""
    edges = tuple((odd,) for odd in ODD_LOGITS)
    return Case(getattr(losses, oracle.__name__), oracle, (LOGITS,), edges, masks=WHERE)


def on_features(oracle: Callable, **options: Any) -> Case:
    """The case of a loss of two samples, named as its oracle is."""
    loss = partial(getattr(losses, oracle.__name__), **options)
    return Case(loss, partial(oracle, **options), (SOURCE, TARGET), ODD_FEATURES, masks=BOTH)
