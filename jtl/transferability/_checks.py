"""What the scores check of their arrays, and the types they share."""

import numpy as np
from jaxtyping import Float, Int

from jtl.errors import UserError

Features = Float[np.ndarray, "examples features"]
Labels = Int[np.ndarray, " examples"]


def with_classes(name: str, features: Features, labels: Labels) -> tuple[Features, Labels]:
    """``features`` in float64, and labels counted from 0 over the classes present.

    Raises:
      UserError: as :func:`as_matrix`, or fewer than two classes.
    """
    features, labels = as_matrix(f"{name}: features", features, labels)
    present, classes = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        raise UserError(f"{name}: all labels are {present[0]}, needs at least two classes")
    return features, classes


def as_matrix(name: str, values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``values`` in float64 and ``labels`` in int64.

    Raises:
      UserError: shapes that differ, no example, values that are not finite, or labels that are not
        integers.
    """
    values, labels = np.asarray(values, np.float64), as_integers(name, labels)
    if values.ndim != 2 or values.shape[1] == 0:
        raise UserError(f"{name} has shape {values.shape}, expected [examples, columns]")
    if len(values) != len(labels):
        raise UserError(f"{name}: {len(values)} rows for {len(labels)} labels")
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds values that are not finite")
    return values, labels


def as_integers(name: str, labels: np.ndarray) -> np.ndarray:
    """``labels`` in int64; a UserError unless they are a vector of at least one integer."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{name}: labels are {labels.dtype}{list(labels.shape)}, must be [examples] integers"
        )
    return labels.astype(np.int64)
