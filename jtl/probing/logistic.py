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
from jtl.probing._newton import Point, minimise
from jtl.probing._problem import Block, Problem, losses_of

TOLERANCE = 1e-6
"""Gap to the minimum, relative to the objective, at which a fit ends."""
MOST_ALONE = 16
"""Problems up to which blocks are of one fold each, so that a fold is left out of the products too;
of many problems this saves little, and blocks would be small."""


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
        alone = _rows.held(features) and len(dealt) == 1 and masks.shape[1] <= MOST_ALONE
        groups = dealt[0] if alone else None
        cut = _rows.rows(features, given, groups)
        found, right, losses = jax.tree.map(
            np.asarray,
            _path(
                cut.read,
                cut.stored,
                _problem(cut, labels, masks, given, groups),
                jnp.asarray(cut.cut(_without(dealt))),
                jnp.asarray(strengths[order] / cut.scale**2),
                tolerance,
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
        *(cut.joined(each[back], len(labels)) for each in (right, losses)),
    )


def _masks(dealt: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight of each example in each problem, ``[examples, problems]``."""
    kept = [each != fold for each in dealt for fold in range(each.max() + 1)]
    return np.stack([*(weights * mask for mask in kept), weights], axis=1)


def _without(dealt: np.ndarray) -> np.ndarray:
    """The problem that each example is left out of, ``[examples, dealings]``."""
    firsts = np.cumsum([0, *(dealt.max(1) + 1)])[: len(dealt)]
    return (dealt + firsts[:, None]).T


def _problem(
    cut: _rows.Rows,
    labels: np.ndarray,
    masks: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None,
) -> Problem:
    """Of no strength yet. With ``groups``, a block is of one fold, whose problem it is not in."""
    masks = masks / masks.sum(0)
    shares = np.stack([np.bincount(labels, mask) for mask in masks.T])
    axes, variances = _rows.principal(cut, weights)
    inside, absent = cut.cut(masks), None
    if groups is not None:
        absent = np.stack([groups[part][0] for part in cut.parts])
        others = np.stack([np.delete(np.arange(masks.shape[1]), gone) for gone in absent])
        inside = np.take_along_axis(inside, others[:, None], 2)
    return Problem(
        jnp.asarray(cut.cut(labels)),
        jnp.asarray(inside),
        absent if absent is None else jnp.asarray(absent),
        jnp.asarray(shares),
        jnp.zeros(()),
        axes.astype(jnp.float32),
        variances.astype(jnp.float32),
    )


def _check_reached(strengths: np.ndarray, found: Point, tolerance: float) -> None:
    missed = np.flatnonzero(~(found.gap <= tolerance * found.value).all(1))
    if len(missed):
        raise UserError(
            f"strength {strengths[missed[0]]:.3g} does not reach tolerance {tolerance:.1g} in "
            "double precision: give greater strengths, or a greater tolerance"
        )


@partial(jax.jit, static_argnames="read")
def _path(
    read: _rows.Read,
    stored: _rows.Stored,
    problem: Problem,
    without: Array,
    strengths: Array,
    tolerance: Array,
) -> tuple[Point, Array, Array]:
    """All problems at every strength, from the strongest on.

    Args:
      read: gives a block of the features.
      stored: what it reads from.
      problem: of any strength.
      without: the problem that each example is left out of, ``[blocks, rows, dealings]``.
      strengths: falling.
      tolerance: of the gap, relative.

    Returns:
      Coefficients, intercepts, values and gaps, the rest empty; whether each example is right, and
      its loss, in the problems that it is left out of, ``[strengths, dealings, blocks, rows]``.
    """
    if not isinstance(stored, tuple):  # in memory: cast once, not at every step
        stored = {"float64": stored, "float32": stored.astype(jnp.float32)}
    block = partial(read, stored)
    logs = jnp.log(problem.shares)
    zero = (
        jnp.zeros((len(problem.axes), *logs.shape), logs.dtype),
        logs - logs.mean(1, keepdims=True),
    )

    def fit(carry: tuple, strength_and_ahead: tuple[Array, Array]) -> tuple[tuple, tuple]:
        last, before = carry
        strength, ahead = strength_and_ahead
        start = jax.tree.map(lambda a, b: a + ahead * (a - b), last, before)
        point = minimise(problem._replace(strength=strength), block, start, tolerance)
        reached = point.coefficients, point.intercepts
        right, losses = (
            jnp.moveaxis(each, 2, 0) for each in _judge(problem, block, *reached, without)
        )
        empty = jnp.zeros(())
        kept = point._replace(tilt=empty, chances=empty, gradient=empty, surplus=empty)
        return (reached, last), (kept, right, losses)

    logs = jnp.log(strengths)
    step = jnp.diff(logs)
    ratio = jnp.where(step[:-1] < 0, step[1:] / step[:-1], 0)
    ahead = jnp.concatenate([jnp.zeros(min(2, len(logs))), ratio])
    return lax.scan(fit, (zero, zero), (strengths, ahead))[1]


def _judge(
    problem: Problem,
    block: Block,
    coefficients: Array,
    intercepts: Array,
    without: Array,
) -> tuple[Array, Array]:
    """Whether each example is right, and its loss, in the problems that it is left out of."""
    if not without.shape[2]:
        return jnp.zeros(without.shape, bool), jnp.zeros(without.shape)

    def judge(number: Array) -> tuple[Array, Array]:
        rows, labels = block(number, coefficients.dtype), problem.labels[number]
        if problem.absent is None:
            logits = jnp.tensordot(rows, coefficients, 1) + intercepts
            logits = jnp.take_along_axis(logits, without[number][..., None], 1)
        else:
            gone = problem.absent[number]
            logits = (rows @ coefficients[:, gone] + intercepts[gone])[:, None]
        return logits.argmax(2) == labels[:, None], losses_of(logits, labels)[0]

    return lax.map(judge, jnp.arange(len(without)))
