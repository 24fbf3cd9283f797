"""Nearest neighbours for every number of neighbours at once."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jtl.errors import UserError
from jtl.probing import _checks

BLOCK = 1024
"""Examples whose distances to all others are held at once."""


class Neighbours(NamedTuple):
    """Votes of the nearest examples, for every number of them.

    Attributes:
      counts: how many vote, as they were given.
      shares: each class's share of the votes on an example, without the example's own.
      right: whether the class of most votes, the first of several, is the label.
    """

    counts: Int[np.ndarray, " counts"]
    shares: Float[np.ndarray, "counts examples classes"]
    right: Bool[np.ndarray, "counts examples"]


def neighbours(
    features: Float[np.ndarray, "examples features"],
    labels: Int[np.ndarray, " examples"],
    counts: Sequence[int] | np.ndarray,
    *,
    metric: Literal["euclidean", "cosine"],
) -> Neighbours:
    """Leave-one-out votes among the ``k`` nearest examples, for every ``k`` from one sorted list.

    Distances are computed for blocks of examples, so memory grows with their number, not with its
    square. Of examples equally near, the first ones vote.

    Args:
      features: in memory, or mapped, and then read whole.
      labels: integers from 0.
      counts: every ``k``.
      metric: ``euclidean``, or ``cosine``, which is that of features of length one.

    Raises:
      UserError: shapes that do not belong together, values that are not finite, a count that is not
        between 1 and the number of other examples, an unknown metric, or an example of length zero
        whose cosine is asked for.

    >>> found = neighbours(np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([0, 0, 1, 1]), [1, 3],
    ...                    metric="euclidean")
    >>> found.right.mean(1)
    array([1., 0.])
    """
    features, labels, _, classes = _checks.check_examples(np.asarray(features), labels, None)
    counts = np.asarray(counts)
    most = len(labels) - 1
    inside = counts.ndim == 1 and len(counts) and counts.dtype.kind in "iu"
    if not inside or counts.min() < 1 or counts.max() > most:
        raise UserError(f"neighbours: give counts from 1 to {most}, the number of other examples")
    placed = jnp.asarray(_placed(features, metric))
    shares = _votes(
        placed,
        placed,
        jnp.asarray(np.eye(classes, dtype=np.float32)[labels]),
        jnp.asarray(counts - 1),
        most=int(counts.max()),
        block=min(BLOCK, len(labels)),
        others=True,
    )
    shares = np.asarray(shares)[:, : len(labels)]
    return Neighbours(counts, shares, shares.argmax(2) == labels)


def votes(
    features: Float[np.ndarray, "examples features"],
    labels: Int[np.ndarray, " examples"],
    count: int,
    new: Float[np.ndarray, "new features"],
    *,
    metric: Literal["euclidean", "cosine"],
) -> Float[np.ndarray, "new classes"]:
    """Each class's share of the votes of the nearest examples, for new examples.

    Args:
      features: of those that vote.
      labels: of the same, integers from 0.
      count: how many vote.
      new: those that are voted on.
      metric: as for :func:`neighbours`.

    Raises:
      UserError: as :func:`neighbours`.

    >>> votes(np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1]), 2, np.array([[4.0]]),
    ...       metric="euclidean").tolist()
    [[0.5, 0.5]]
    """
    features, labels, _, classes = _checks.check_examples(np.asarray(features), labels, None)
    new = np.asarray(new)
    if new.ndim != 2 or new.shape[1] != features.shape[1]:
        raise UserError(
            f"neighbours: new examples of shape {new.shape}, the others of {features.shape}"
        )
    _checks.check_finite(new)
    if not 1 <= count <= len(labels):
        raise UserError(f"neighbours: give a count from 1 to {len(labels)}, the number of examples")
    placed = _placed(np.concatenate([features, new]), metric)
    shares = _votes(
        jnp.asarray(placed[len(labels) :]),
        jnp.asarray(placed[: len(labels)]),
        jnp.asarray(np.eye(classes, dtype=np.float32)[labels]),
        jnp.asarray([count - 1]),
        most=count,
        block=min(BLOCK, len(new)),
        others=False,
    )
    return np.asarray(shares)[0, : len(new)]


def _placed(features: np.ndarray, metric: str) -> np.ndarray:
    """Features whose Euclidean distances order as the metric does, centred, in single precision."""
    given = np.asarray(features, np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(given, axis=1, keepdims=True)
        if not lengths.all():
            raise UserError(
                f"neighbours: example {lengths.argmin()} is zero and has no cosine; use euclidean"
            )
        given = given / lengths
    elif metric != "euclidean":
        raise UserError(f"neighbours: metric {metric!r}; give euclidean or cosine")
    given = given - given.mean(0)
    return (given / (np.abs(given).max() or 1.0)).astype(np.float32)


@partial(jax.jit, static_argnames=("most", "block", "others"))
def _votes(
    asking: Array,
    placed: Array,
    targets: Array,
    last: Array,
    *,
    most: int,
    block: int,
    others: bool,
) -> Array:
    """Shares of the votes, ``[counts, asking, classes]``, with some examples too many.

    With ``others``, those that ask are those that vote, and none does on itself.
    """
    examples = len(asking)
    squares = (placed**2).sum(1)

    def votes_of(start: Array) -> Array:
        rows = (start + jnp.arange(block)) % examples
        products = jnp.matmul(asking[rows], placed.T, precision=lax.Precision.HIGHEST)
        distances = squares[None] - 2 * products
        if others:
            distances = distances.at[jnp.arange(len(rows)), rows].set(jnp.inf)
        nearest = lax.top_k(-distances, most)[1]
        votes = targets[nearest].cumsum(1)[:, last]
        return votes / (last + 1)[None, :, None]

    starts = jnp.arange(0, examples, block)
    shares = lax.map(votes_of, starts)
    return shares.reshape(-1, *shares.shape[2:]).swapaxes(0, 1)
