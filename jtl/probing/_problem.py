"""Many logistic regressions on the same features: what they are, and what their solver sums up.

Arrays have an axis of features or of examples, then one of problems (a problem is a weighting of
the examples), then one of classes, so that all problems share each multiplication by the features.
Examples are in blocks, ``[blocks, rows]``: what is computed for each of them stays near the
processor, and features that are not in memory are read once for both multiplications of a step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Block = Callable[[Array, Any], Array]
"""``block(i, dtype)``: ``[rows, features]``."""


class Problem(NamedTuple):
    """What is minimised: ``sum_i w_i loss_i + strength |W|^2 / 2`` for each problem.

    Attributes:
      labels: ``[blocks, rows]``.
      weights: ``[blocks, rows, problems]``, summing to one over the examples. Where each block has
        a problem that gives it no weight, without that one.
      absent: which one it is, ``[blocks]``, or None where weights are of all problems.
      shares: the weight of each class, ``[problems, classes]``.
      strength: a scalar.
      axes: ``[features, directions]``, the principal axes of the features.
      variances: along these.
    """

    labels: Array
    weights: Array
    absent: Array | None
    shares: Array
    strength: Array
    axes: Array
    variances: Array

    def of(self, number: Array, values: Array, axis: int) -> Array:
        """Of values of all problems, those of the problems that a block is in."""
        if self.absent is None:
            return values
        last = values.shape[axis] - 1
        before, after = (
            lax.slice_in_dim(values, first, first + last, axis=axis) for first in (0, 1)
        )
        place = lax.broadcasted_iota(jnp.int32, before.shape, axis)
        return jnp.where(place < self.absent[number], before, after)

    def all(self, number: Array, values: Array) -> Array:
        """The transpose of :meth:`of`, of a first axis: zero for the problem it is not in."""
        if self.absent is None:
            return values
        rest = [(0, 0)] * (values.ndim - 1)
        before, after = (jnp.pad(values, [pad, *rest]) for pad in ((0, 1), (1, 0)))
        place = lax.broadcasted_iota(jnp.int32, before.shape, 0)
        made = jnp.where(place < self.absent[number], before, after)
        return jnp.where(place == self.absent[number], 0, made)

    def share(self, number: Array, precision: Any) -> Array:
        """The weights of a block, ``[rows, problems, 1]``."""
        return self.weights[number].astype(precision)[..., None]

    def targets(self, number: Array, like: Array) -> Array:
        """One-hot labels of a block, ``[rows, 1, classes]``."""
        return jax.nn.one_hot(self.labels[number], like.shape[2], dtype=like.dtype)[:, None]

    def sums(self, part: Callable, *given: Array) -> tuple[Any, Any]:
        """``part(i, *given[i])`` of all blocks: what it returns first summed, the rest stacked.

        What is summed has problems in front. The sums are in double precision, if the parts are or
        not.
        """

        def every(number: Array, *each: Array) -> tuple[Any, Any]:
            made, kept = part(number, *each)
            return jax.tree.map(lambda value: self.all(number, value), made), kept

        def add(total: Any, each: tuple) -> tuple[Any, Any]:
            made, kept = every(*each)
            return jax.tree.map(jnp.add, total, made), kept

        numbers = jnp.arange(len(self.labels))
        first = jax.eval_shape(every, *(each[0] for each in (numbers, *given)))[0]
        zero = jax.tree.map(lambda value: jnp.zeros(value.shape), first)
        return lax.scan(add, zero, (numbers, *given))


def losses_of(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Log losses, and probabilities less one-hot labels; both precise where they are next to zero.

    Args:
      logits: ``[rows, problems, classes]``.
      labels: ``[rows]``.
    """
    target = jax.nn.one_hot(labels, logits.shape[2], dtype=bool)[:, None]
    over = logits - jnp.where(target, logits, 0).sum(2, keepdims=True)
    most = over.max(2, keepdims=True)
    parts = jnp.exp(over - most)
    others = jnp.where(target, 0, parts).sum(2, keepdims=True)
    own = jnp.exp(-most)
    losses = (most + jnp.log1p(others + jnp.expm1(-most)))[..., 0]
    return losses, jnp.where(target, -others, parts) / (others + own)


def times(block: Array, weights: Array) -> Array:
    """``[features, ...]`` to ``[rows, ...]``, as one product of two matrices."""
    return (block @ weights.reshape(len(weights), -1)).reshape(-1, *weights.shape[1:])


def gathered(block: Array, values: Array) -> Array:
    """``[rows, ...]`` to ``[..., features]``; with the features in front it takes twice as long."""
    return (values.reshape(len(values), -1).T @ block).reshape(*values.shape[1:], -1)
