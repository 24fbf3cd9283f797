"""Ridge regression on one-hot labels with exact leave-one-out errors of every strength at once."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jtl.probing import _checks, _rows


class RidgePath(NamedTuple):
    """Fits for every strength.

    Attributes:
      strengths: as they were given.
      coefficients: ``W``.
      intercepts: ``b``.
      errors: mean squared error, summed over the classes, at examples that the fit has not seen.
      right: whether each example gets its label from the fit without it.
    """

    strengths: Float[np.ndarray, " strengths"]
    coefficients: Float[np.ndarray, "strengths features classes"]
    intercepts: Float[np.ndarray, "strengths classes"]
    errors: Float[np.ndarray, " strengths"]
    right: Bool[np.ndarray, "strengths examples"]


def ridge_path(
    features: Float[np.ndarray, "examples features"],
    labels: Int[np.ndarray, " examples"],
    strengths: Sequence[float] | np.ndarray,
) -> RidgePath:
    """Regresses one-hot labels on features for every strength, and without each example.

    Minimises ``sum_i |y_i - W'x_i - b|^2 / examples + strength |W|^2``, the intercepts free, which
    is scikit-learn's ``RidgeClassifierCV`` with ``alpha = strength * examples``, whose labels are
    -1 and 1 and whose coefficients are therefore twice these. One decomposition of the covariance
    serves all strengths: along the principal axes the fit is a division, and so is its leverage
    ``h``; without example i its residual is ``residual_i / (1 - h_i)`` (Allen, 1974).

    Args:
      features: in memory, or memory-mapped: such an array is read in blocks, three times.
      labels: integers from 0.
      strengths: positive.

    Raises:
      UserError: shapes that do not belong together, values that are not finite, a class without an
        example, or a strength that is not positive.

    >>> path = ridge_path(np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]), [0.1])
    >>> path.right.all(), path.intercepts.round(3)
    (np.True_, array([[0.5, 0.5]]))
    """
    features, labels, ones, classes = _checks.check_examples(features, labels, None)
    strengths = _checks.check_strengths(strengths)
    targets = np.eye(classes)[labels]
    mean = targets.mean(0)
    with _rows.double_precision():
        cut = _rows.rows(features, ones)
        axes, variances = _rows.principal(cut, ones)
        coefficients, errors, right = jax.tree.map(
            np.asarray,
            _path(
                cut.read,
                cut.stored,
                axes,
                variances,
                jnp.asarray(cut.padded(targets - mean)),
                jnp.asarray(cut.padded(labels)),
                jnp.asarray(mean),
                jnp.asarray(strengths / cut.scale**2),
                examples=cut.examples,
                blocks=cut.blocks,
            ),
        )
    coefficients = coefficients / cut.scale
    intercepts = mean - np.einsum("f,sfc->sc", cut.mean, coefficients)
    return RidgePath(strengths, coefficients, intercepts, errors, right[:, : len(labels)])


@partial(jax.jit, static_argnames=("read", "examples", "blocks"))
def _path(
    read: _rows.Read,
    stored: _rows.Stored,
    axes: Array,
    variances: Array,
    centred: Array,
    labels: Array,
    mean: Array,
    strengths: Array,
    *,
    examples: int,
    blocks: int,
) -> tuple[Array, Array, Array]:
    product = _rows.Product(partial(read, stored), blocks)
    shrunk = 1 / (variances + strengths[:, None])  # [strengths, directions]
    along = axes.T @ product.backward(centred) / examples
    coefficients = jnp.einsum("fd,sd,dc->fsc", axes, shrunk, along)
    classes = centred.shape[1]
    flat = coefficients.reshape(len(axes), -1)

    def left_out(part: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        number, targets, answers = part
        block = product.block(number, flat.dtype)
        leverage = ((block @ axes) ** 2 @ shrunk.T + 1) / examples
        residuals = targets[:, None] - (block @ flat).reshape(len(block), -1, classes)
        residuals = residuals / (1 - leverage)[..., None]
        guesses = (targets[:, None] - residuals + mean).argmax(2)
        return residuals, guesses == answers[:, None]

    parts = jnp.arange(blocks), centred.reshape(blocks, -1, classes), labels.reshape(blocks, -1)
    residuals, right = lax.map(left_out, parts)
    residuals = residuals.reshape(-1, *residuals.shape[2:])[:examples]
    errors = (residuals**2).sum(2).mean(0)
    return coefficients.transpose(1, 0, 2), errors, right.reshape(-1, len(strengths)).T
