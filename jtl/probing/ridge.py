"""Ridge regression on one-hot labels with exact leave-one-out errors of every strength at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jtl.probing import _checks, _rows
from jtl.probing._lazy import Features

SMALL = 2**28
"""Multiplications that are as soon done in double precision."""
RESIDUALS = 2**24
"""Residuals that are held at once, at most, unless one strength has more."""
PRECISE = 1e-4
"""What rounding may do to a leave-one-out residual, at worst, for single precision to do."""


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
    features: Features,
    labels: Int[np.ndarray, " examples"],
    strengths: Sequence[float] | np.ndarray,
) -> RidgePath:
    """Regresses one-hot labels on features for every strength, and without each example.

    Minimises ``sum_i |y_i - W'x_i - b|^2 / examples + strength |W|^2``, the intercepts free, which
    is scikit-learn's ``RidgeClassifierCV`` with ``alpha = strength * examples``, whose labels are
    -1 and 1 and whose coefficients are therefore twice these. One decomposition of the covariance
    serves all strengths: along the principal axes the fit is a division, and so is its leverage
    ``h``; without example i its residual is ``residual_i / (1 - h_i)`` (Allen, 1974).

    The decomposition and the fits are in double precision. Where the examples are many and a bound
    allows it, what is computed for each of them is in single precision, twice as fast: rounding is
    amplified by the root of the condition number and by ``1 / (1 - h_i)``, and must stay below
    `PRECISE`. What it does to ``errors`` is far less, as it differs in sign from one to the other.

    Args:
      features: in memory, or not, and then read in blocks, four times.
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
    mean = np.bincount(labels, minlength=classes) / len(labels)
    with _rows.double_precision():
        cut = _rows.rows(features, ones)
        axes, variances = _rows.principal(cut, ones)
        scaled = strengths / cut.scale**2

        def path(precision: Any) -> tuple[np.ndarray, ...]:
            made = _path(
                cut.read,
                cut.stored,
                axes,
                variances,
                jnp.asarray(cut.cut(labels)),
                jnp.asarray(mean),
                jnp.asarray(scaled),
                examples=len(labels),
                precision=precision,
            )
            return tuple(np.asarray(each) for each in made)

        rounding = _rounding(len(labels), np.asarray(variances), scaled.min())
        found = path(np.float32) if rounding <= PRECISE else ()
        if not found or rounding > PRECISE * found[-1]:
            found = path(np.float64)
    coefficients, errors, right, _ = found
    coefficients = coefficients / cut.scale
    intercepts = mean - np.einsum("f,sfc->sc", cut.mean, coefficients)
    return RidgePath(strengths, coefficients, intercepts, errors, right[:, : len(labels)])


def _rounding(examples: int, variances: np.ndarray, weakest: float) -> float:
    """How far single precision may be off, in parts of a residual; infinite where it saves nothing.

    Of as many features as examples, a weak strength leaves nothing of ``1 - h``.
    """
    width = len(variances)
    if examples <= width or examples * width**2 < SMALL:
        return np.inf
    condition = (variances.max() + weakest) / (variances.min() + weakest)
    return float(np.finfo(np.float32).eps / 2 * np.sqrt(condition))


@partial(jax.jit, static_argnames=("read", "examples", "precision"))
def _path(
    read: _rows.Read,
    stored: _rows.Stored,
    axes: Array,
    variances: Array,
    labels: Array,
    mean: Array,
    strengths: Array,
    *,
    examples: int,
    precision: Any,
) -> tuple[Array, Array, Array, Array]:
    """Beside what is asked for, the least ``1 - h``."""
    block = partial(read, stored)
    shrunk = 1 / (variances + strengths[:, None])  # [strengths, directions]

    def centred(number: Array) -> Array:
        return jax.nn.one_hot(labels[number], len(mean), dtype=mean.dtype) - mean

    along = lax.fori_loop(
        0,
        len(labels),
        lambda i, total: total.at[labels[i]].add(block(i, mean.dtype)),
        jnp.zeros((len(mean), len(axes))),
    )
    along = (along @ axes).T / examples
    coefficients = jnp.einsum("fd,sd,dc->fsc", axes, shrunk, along)
    flat = coefficients.astype(precision)
    turned, weighted = axes.astype(precision), shrunk.T.astype(precision)
    most = max(1, RESIDUALS // (labels.shape[1] * len(mean)))  # strengths at once
    groups = [slice(i, i + most) for i in range(0, len(strengths), most)]

    def left_out(number: Array) -> tuple[Array, Array, Array]:
        rows, targets = block(number, precision), centred(number).astype(precision)
        inside = number * len(rows) + jnp.arange(len(rows)) < examples
        rest = 1 - ((rows @ turned) ** 2 @ weighted + 1) / examples
        squares, right = [], []
        for group in groups:
            line = flat[:, group].reshape(len(axes), -1)
            residuals = targets[:, None] - (rows @ line).reshape(len(rows), -1, len(mean))
            residuals = residuals / rest[:, group, None]
            guesses = (targets[:, None] - residuals + mean.astype(precision)).argmax(2)
            right.append(guesses == labels[number][:, None])
            squares.append(((residuals**2).sum(2) * inside[:, None]).sum(0, dtype=mean.dtype))
        return jnp.concatenate(squares), jnp.concatenate(right, 1), rest.min()

    squares, right, rest = lax.map(left_out, jnp.arange(len(labels)))
    right = right.reshape(-1, len(strengths)).T
    return coefficients.transpose(1, 0, 2), squares.sum(0) / examples, right, rest.min()
