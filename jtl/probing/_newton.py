"""Newton's method for many logistic regressions on the same features at once.

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

REDUCTION = 0.05
"""Conjugate gradients stop when the residual is this part of the gradient: Newton's method would
not gain from more."""
SHARE = 0.3
"""Or when their residual accounts for this share of the gap that is allowed."""
MOST_STEPS, MOST_GRADIENTS, MOST_HALVINGS = 60, 300, 20
NOISE = {"float32": 1e-5, "float64": 1e-12}
"""What rounding may do to a value, relative."""

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

    def all(self, number: Array, values: Array, axis: int) -> Array:
        """The transpose of :meth:`of`: zero for the problem that a block is not in."""
        if self.absent is None:
            return values
        before, after = (
            jnp.pad(values, [pad if each == axis else (0, 0) for each in range(values.ndim)])
            for pad in ((0, 1), (1, 0))
        )
        place = lax.broadcasted_iota(jnp.int32, before.shape, axis)
        made = jnp.where(place < self.absent[number], before, after)
        return jnp.where(place == self.absent[number], 0, made)


class Point(NamedTuple):
    """Where a minimisation stands, for each problem.

    Attributes:
      coefficients: ``[features, problems, classes]``.
      intercepts: ``[problems, classes]``.
      tilt: the Newton step of the intercepts alone.
      chances: the model's probabilities in single precision, ``[blocks, rows, problems, classes]``.
      gradient: of the coefficients, after the tilt, to first order.
      surplus: the same of the intercepts.
      value: of the objective, ``[problems]``.
      gap: no less than how far the value is above the minimum.
    """

    coefficients: Array
    intercepts: Array
    tilt: Array
    chances: Array
    gradient: Array
    surplus: Array
    value: Array
    gap: Array


def minimise(problem: Problem, block: Block, start: tuple[Array, Array], tolerance: Array) -> Point:
    """Newton's method until every gap is at most ``tolerance`` times the value.

    In single precision while that brings values or gaps down, then in double, which proves the
    gap and does the rest, where there is one.

    Args:
      problem: of what.
      block: of the features.
      start: coefficients and intercepts.
      tolerance: relative.
    """

    def unfinished(state: tuple[Point, Array, Array]) -> Array:
        point, count, moving = state
        return (_open(point, tolerance) & moving).any() & (count < MOST_STEPS)

    def roughly(state: tuple[Point, Array, Array]) -> tuple[Point, Array, Array]:
        point, count, _ = state
        new = _step(problem, block, point, tolerance, jnp.float32)
        lower = new.value < (1 - NOISE["float32"]) * point.value
        return new, count + 1, (new.gap < point.gap / 2) | lower

    def precisely(state: tuple[Point, Array, Array]) -> tuple[Point, Array, Array]:
        point, count, moving = state
        return _step(problem, block, point, tolerance, jnp.float64), count + 1, moving

    whole = jnp.full(len(problem.shares), True)
    near = evaluate(problem, block, *start, jnp.float32)
    near, count, _ = lax.while_loop(unfinished, roughly, (near, jnp.asarray(0), whole))
    first = evaluate(problem, block, near.coefficients, near.intercepts, jnp.float64)
    return lax.while_loop(unfinished, precisely, (first, count, whole))[0]


def _open(point: Point, tolerance: Array) -> Array:
    return ~(point.gap <= tolerance * point.value)  # NaN is open


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


def _scan(problem: Problem, step: Callable, first: Any, *given: Array) -> tuple[Any, Any]:
    """``step(i, *given[i])`` returns what is summed over the blocks, and what is stacked."""

    def add(total: Any, each: tuple) -> tuple[Any, Any]:
        made, kept = step(*each)
        return jax.tree.map(jnp.add, total, made), kept

    return lax.scan(add, first, (jnp.arange(len(problem.labels)), *given))


def evaluate(
    problem: Problem, block: Block, coefficients: Array, intercepts: Array, precision: Any
) -> Point:
    """Value, gradient and gap, which is proven in double precision.

    The gap is that to the dual problem at probabilities ``q`` near the model's ``p``,
    ``sum_i w_i KL(q_i || p_i) + |X'(q - y) + strength W|^2 / (2 strength)``: by weak duality the
    minimum is no lower than the value less this. For ``q`` to be feasible, each class must have
    its share of the examples, ``sum_i w_i (q_i - y_i) = 0``. That is what the Newton step ``t`` of
    the intercepts brings about to first order, so ``q = p (1 + t - p't)`` is feasible, where no
    ``t`` is above a half, and its divergence is at most ``sum_i w_i (q - p)^2 / p = t'Ht``.
    """
    strength, shares = problem.strength, problem.shares
    rough, offsets = coefficients.astype(precision), intercepts.astype(precision)

    def forward(number: Array) -> tuple[tuple[Array, ...], Array]:
        weights = problem.weights[number].astype(precision)[..., None]
        logits = _times(block(number, precision), problem.of(number, rough, 1))
        logits = logits + problem.of(number, offsets, 0)
        losses, residual = losses_of(logits, problem.labels[number])
        chances = residual + _targets(problem, number, residual)
        mass = weights * chances
        outer = jnp.matmul(mass.transpose(1, 2, 0), chances.transpose(1, 0, 2))
        sums = (weights[..., 0] * losses).sum(0), (weights * residual).sum(0), mass.sum(0), outer
        return tuple(problem.all(number, each, 0) for each in sums), residual

    zeros = jnp.zeros(len(shares)), jnp.zeros(shares.shape), jnp.zeros(shares.shape)
    zeros = *zeros, jnp.zeros((*shares.shape, shares.shape[1]))
    (losses, surplus, mass, outer), residuals = _scan(problem, forward, zeros)
    # The mean of the intercepts is free: the constant matrix fixes it.
    curvature = jax.vmap(jnp.diag)(mass) - outer + 1 / shares.shape[1]
    tilt = -jnp.linalg.solve(curvature, surplus[..., None])[..., 0]
    tilt -= tilt.mean(1, keepdims=True)
    inside = jnp.abs(tilt).max(1) <= 0.5
    tilt = jnp.where(inside[:, None], tilt, 0)
    divergence = jnp.maximum(-(tilt * surplus).sum(1), 0)

    def backward(number: Array, residual: Array) -> tuple[tuple[Array, Array], Array]:
        weights = problem.weights[number].astype(precision)[..., None]
        chances = residual + _targets(problem, number, residual)
        along = problem.of(number, tilt.astype(precision), 0)
        tilted = chances * (along - (chances * along).sum(2, keepdims=True))
        rest = weights * (residual + tilted)
        sums = _gathered(block(number, precision), rest), rest.sum(0)
        return tuple(problem.all(number, each, 0) for each in sums), chances.astype(jnp.float32)

    zero = jnp.zeros((*shares.shape, len(coefficients))), jnp.zeros(shares.shape)
    (slope, surplus), chances = _scan(problem, backward, zero, residuals)
    gradient = jnp.moveaxis(slope, 2, 0) + strength * coefficients
    gap = divergence + (gradient**2).sum((0, 2)) / (2 * strength)
    return Point(
        coefficients,
        intercepts,
        tilt,
        chances,
        gradient,
        surplus,
        losses + strength / 2 * (coefficients**2).sum((0, 2)),
        jnp.where(inside, gap, jnp.inf),
    )


def _targets(problem: Problem, number: Array, like: Array) -> Array:
    return jax.nn.one_hot(problem.labels[number], like.shape[2], dtype=like.dtype)[:, None]


def _times(block: Array, weights: Array) -> Array:
    """``[features, ...]`` to ``[rows, ...]``, as one product of two matrices."""
    return (block @ weights.reshape(len(weights), -1)).reshape(-1, *weights.shape[1:])


def _gathered(block: Array, values: Array) -> Array:
    """``[rows, ...]`` to ``[..., features]``; with the features in front it takes twice as long."""
    return (values.reshape(len(values), -1).T @ block).reshape(*values.shape[1:], -1)


def _step(problem: Problem, block: Block, point: Point, tolerance: Array, precision: Any) -> Point:
    strength, live = problem.strength, _open(point, tolerance)
    square = (point.gradient**2).sum((0, 2))
    allowed = jnp.maximum(2 * SHARE * tolerance * point.value * strength, REDUCTION**2 * square)
    size = jnp.sqrt(square + (point.surplus**2).sum(1))  # to stay within single precision
    size = jnp.where(live & (size > 0), size, 1)[:, None]
    step, moved = _conjugate_gradients(
        problem,
        block,
        point.chances,
        (point.gradient / size).astype(jnp.float32),
        (point.surplus / size).astype(jnp.float32),
        jnp.where(live, allowed / size[:, 0] ** 2, jnp.inf),
    )
    step, moved = (each.astype(size.dtype) * size for each in (step, moved))
    slope = (point.gradient * step).sum((0, 2)) + (point.surplus * moved).sum(1)
    moved = moved + point.tilt

    def attempt(state: tuple[Point, Array, Array, Array]) -> tuple[Point, Array, Array, Array]:
        _, length, _, count = state
        along = length[:, None]
        coefficients = point.coefficients + along * step
        new = evaluate(problem, block, coefficients, point.intercepts + along * moved, precision)
        noise = NOISE[jnp.dtype(precision).name] * point.value
        long = live & ~(new.value - point.value <= 1e-4 * length * slope + noise)
        return new, jnp.where(long, length / 2, length), long, count + 1

    return lax.while_loop(
        lambda state: state[2].any() & (state[3] < MOST_HALVINGS),
        attempt,
        (point, jnp.where(live, 1.0, 0.0), live, jnp.asarray(0)),
    )[0]


def _conjugate_gradients(
    problem: Problem, block: Block, chances: Array, gradient: Array, surplus: Array, stop: Array
) -> tuple[Array, Array]:
    """Solves ``H step = -gradient`` in single precision.

    Preconditioned by the Hessian that equal curvature at all examples would have, which the
    principal axes of the features make diagonal: one decomposition serves all problems, classes
    and strengths.

    Args:
      problem: whose Hessian.
      block: of the features.
      chances: the model's probabilities.
      gradient: of the coefficients.
      surplus: the gradient of the intercepts.
      stop: squared norm of the residual of the coefficients at which each problem is solved.

    Returns:
      The steps of coefficients and intercepts.
    """
    strength, axes = problem.strength.astype(jnp.float32), problem.axes
    zero = jnp.zeros_like(gradient), jnp.zeros_like(surplus)

    def curve(number: Array, chances: Array) -> tuple[Array, None]:
        weights = problem.weights[number].astype(jnp.float32)[..., None]
        return problem.all(number, (weights * chances * (1 - chances)).sum(0), 0), None

    curvature = jnp.maximum(_scan(problem, curve, zero[1], chances)[0], 1e-12)
    diagonal = problem.variances[:, None, None] * curvature + strength

    def precondition(rest: Array, rest_surplus: Array) -> tuple[Array, Array]:
        along = jnp.tensordot(axes.T, rest, 1) / diagonal
        return jnp.tensordot(axes, along, 1), rest_surplus / curvature

    def dot(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        return (a[0] * b[0]).sum((0, 2)) + (a[1] * b[1]).sum(1)

    def image_of(direction: tuple[Array, Array]) -> tuple[Array, Array]:
        def part(number: Array, chances: Array) -> tuple[tuple[Array, Array], None]:
            rows = block(number, jnp.float32)
            weights = problem.weights[number].astype(jnp.float32)[..., None]
            logits = _times(rows, problem.of(number, direction[0], 1))
            logits = logits + problem.of(number, direction[1], 0)
            centred = logits - (chances * logits).sum(2, keepdims=True)
            curved = weights * chances * centred
            sums = _gathered(rows, curved), curved.sum(0)
            return tuple(problem.all(number, each, 0) for each in sums), None

        (along, sums), _ = _scan(problem, part, (jnp.moveaxis(zero[0], 0, 2), zero[1]), chances)
        return jnp.moveaxis(along, 2, 0) + strength * direction[0], sums

    def unsolved(state: tuple) -> Array:
        return state[-2].any() & (state[-1] < MOST_GRADIENTS)

    def improve(state: tuple) -> tuple:
        solution, rest, direction, square, live, count = state
        image = image_of(direction)
        length = jnp.where(live, square / jnp.maximum(dot(direction, image), 1e-37), 0)[:, None]
        solution = tuple(a + length * b for a, b in zip(solution, direction, strict=True))
        rest = tuple(a - length * b for a, b in zip(rest, image, strict=True))
        scaled = precondition(*rest)
        renewed = dot(rest, scaled)
        ratio = jnp.where(live, renewed / jnp.maximum(square, 1e-37), 0)[:, None]
        direction = tuple(a + ratio * b for a, b in zip(scaled, direction, strict=True))
        live = live & ((rest[0] ** 2).sum((0, 2)) > stop)
        return solution, rest, direction, renewed, live, count + 1

    rest = -gradient, -surplus
    direction = precondition(*rest)
    state = zero, rest, direction, dot(rest, direction), jnp.isfinite(stop), 0
    return lax.while_loop(unsolved, improve, state)[0]
