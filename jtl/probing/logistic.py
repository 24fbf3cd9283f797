"""Multinomial logistic regression for every strength, fold and dealing of folds in one program."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jtl.errors import UserError
from jtl.probing import _checks, _rows
from jtl.probing._lazy import Features
from jtl.probing._newton import Point, Problem, minimise

TOLERANCE = 1e-6
"""Gap to the minimum, relative to the objective, at which a fit ends."""


class LogisticPath(NamedTuple):
    """Fits for every strength.

    Problem ``d * folds + f`` leaves out fold ``f`` of dealing ``d``; the last one leaves out none.

    Attributes:
      strengths: as they were given.
      coefficients: ``W``.
      intercepts: ``b``.
      objective: ``sum_i w_i log_loss_i / sum_i w_i + strength |W|^2 / 2``, over the examples that
        are not left out.
      gap: no less than the objective is above its minimum, in parts of the objective.
      right: whether each example gets its label from the fit without it, for each dealing.
      losses: its log loss there, in nats.
    """

    strengths: Float[np.ndarray, " strengths"]
    coefficients: Float[np.ndarray, "strengths problems features classes"]
    intercepts: Float[np.ndarray, "strengths problems classes"]
    objective: Float[np.ndarray, "strengths problems"]
    gap: Float[np.ndarray, "strengths problems"]
    right: Bool[np.ndarray, "strengths dealings examples"]
    losses: Float[np.ndarray, "strengths dealings examples"]


def logistic_path(
    features: Features,
    labels: Int[np.ndarray, " examples"],
    strengths: Sequence[float] | np.ndarray,
    folds: Int[np.ndarray, "*dealings examples"] | None = None,
    weights: Float[np.ndarray, " examples"] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> LogisticPath:
    """Fits every strength on all examples, and without each fold.

    Minimises ``sum_i w_i log_loss_i / sum_i w_i + strength |W|^2 / 2``, the intercepts free, which
    is scikit-learn's ``LogisticRegression`` with ``C = 1 / (strength * sum_i w_i)``. Strengths are
    fitted from the strongest on; each fit starts from the line through the last two, over the
    logarithm of the strength. Newton's method with conjugate gradients (:mod:`jtl.probing._newton`)
    goes on until the duality gap is below ``tolerance`` times the objective, so what is returned is
    proven to be that near the minimum, whatever the features.

    Args:
      features: in memory, or not, and then read in blocks at every step.
      labels: integers from 0.
      strengths: positive.
      folds: for each example the number of the fold that it is left out with; with a leading axis,
        of several dealings (seeds). Without folds all examples are fitted, and none is left out.
      weights: of the examples; one by default.
      tolerance: of the gap, relative.

    Raises:
      UserError: shapes that do not belong together, values that are not finite, a class or fold
        without an example, a strength that is not positive, or one so weak that the tolerance is
        out of reach in double precision.

    >>> path = logistic_path(np.array([[-1.0], [0.0], [0.0], [1.0]]), np.array([0, 0, 1, 1]), [0.1])
    >>> path.coefficients.shape, bool(path.gap.max() <= 1e-6)
    ((1, 1, 1, 2), True)
    """
    features, labels, given, classes = _checks.check_examples(features, labels, weights)
    strengths = _checks.check_strengths(strengths)
    dealt = _checks.check_folds(folds, labels)
    masks = _masks(dealt, given)
    for fold, mask in enumerate(masks.T):
        where = f" outside fold {fold}" if fold < masks.shape[1] - 1 else ""
        _checks.check_shares(np.bincount(labels, mask, classes), where)
    order = np.argsort(-strengths, kind="stable")
    with _rows.double_precision():
        cut = _rows.rows(features, given)
        axes, variances = _rows.principal(cut, given)
        found, right, losses = jax.tree.map(
            np.asarray,
            _path(
                cut.read,
                cut.stored,
                jnp.asarray(cut.padded(np.eye(classes)[labels])[:, None]),
                jnp.asarray(cut.padded(masks / masks.sum(0))),
                jnp.asarray(strengths[order] / cut.scale**2),
                (axes.astype(jnp.float32), variances.astype(jnp.float32)),
                tolerance,
                blocks=cut.blocks,
            ),
        )
    back = np.argsort(order, kind="stable")
    _check_reached(strengths[order], found, tolerance)
    # Of the features as they were given, not centred and scaled.
    coefficients = found.coefficients[back].transpose(0, 2, 1, 3) / cut.scale
    intercepts = found.intercepts[back] - np.einsum("f,spfc->spc", cut.mean, coefficients)
    return LogisticPath(
        strengths,
        coefficients,
        intercepts,
        found.value[back],
        found.gap[back] / found.value[back],
        *(_held_out(each[back][:, : len(labels)], dealt) for each in (right, losses)),
    )


def _masks(dealt: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight of each example in each problem, ``[examples, problems]``."""
    kept = [each != fold for each in dealt for fold in range(each.max() + 1)]
    return np.stack([*(weights * mask for mask in kept), weights], axis=1)


def _held_out(values: np.ndarray, dealt: np.ndarray) -> np.ndarray:
    """Of ``[strengths, examples, problems]``, each example's in the problems without it."""
    made = np.empty((len(values), *dealt.shape), values.dtype)
    first = 0
    for number, each in enumerate(dealt):
        made[:, number] = np.take_along_axis(values, (first + each)[None, :, None], 2)[..., 0]
        first += each.max() + 1
    return made


def _check_reached(strengths: np.ndarray, found: Point, tolerance: float) -> None:
    missed = np.flatnonzero(~(found.gap <= tolerance * found.value).all(1))
    if len(missed):
        raise UserError(
            f"strength {strengths[missed[0]]:.3g} does not reach tolerance {tolerance:.1g} in "
            "double precision: give greater strengths, or a greater tolerance"
        )


@partial(jax.jit, static_argnames=("read", "blocks"))
def _path(
    read: _rows.Read,
    stored: _rows.Stored,
    targets: Array,
    weights: Array,
    strengths: Array,
    principal: tuple[Array, Array],
    tolerance: Array,
    *,
    blocks: int,
) -> tuple[Point, Array, Array]:
    """All problems at every strength, from the strongest on.

    Returns:
      Without logits, and the gradient's place is empty too; whether each example is right, and its
      loss, in every problem.
    """
    if not isinstance(stored, tuple):  # in memory: cast once, not at every step
        stored = {"float64": stored, "float32": stored.astype(jnp.float32)}
    product = _rows.Product(partial(read, stored), blocks)
    logs = jnp.log((weights[..., None] * targets).sum(0))
    zero = (
        jnp.zeros((len(principal[0]), *logs.shape), logs.dtype),
        logs - logs.mean(1, keepdims=True),
    )

    def fit(carry: tuple, strength_and_ahead: tuple[Array, Array]) -> tuple[tuple, tuple]:
        last, before = carry
        strength, ahead = strength_and_ahead
        start = jax.tree.map(lambda a, b: a + ahead * (a - b), last, before)
        problem = Problem(targets, weights, strength, *principal)
        point = minimise(problem, product, start, tolerance)
        log_chances = (jax.nn.log_softmax(point.logits) * targets).sum(2)
        right = point.logits.argmax(2) == targets.argmax(2)
        reached = point.coefficients, point.intercepts
        empty = point._replace(logits=jnp.zeros(()), gradient=jnp.zeros(()))
        return (reached, last), (empty, right, -log_chances)

    logs = jnp.log(strengths)
    step = jnp.diff(logs)
    ratio = jnp.where(step[:-1] < 0, step[1:] / step[:-1], 0)
    ahead = jnp.concatenate([jnp.zeros(min(2, len(logs))), ratio])
    return lax.scan(fit, (zero, zero), (strengths, ahead))[1]
