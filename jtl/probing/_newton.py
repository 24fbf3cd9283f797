"""Newton's method for many logistic regressions on the same features at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jtl.probing._conjugate import conjugate_gradients
from jtl.probing._problem import Block, Problem, gathered, losses_of, times

REDUCTION = 0.05
"""Conjugate gradients stop when the residual is this part of the gradient: Newton's method would
not gain from more."""
SHARE = 0.3
"""Or when their residual accounts for this share of the gap that is allowed."""
MOST_STEPS, MOST_HALVINGS = 60, 20
NOISE = {"float32": 1e-5, "float64": 1e-12}
"""What rounding may do to a value, relative."""


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
    gaps, and goes on where one is too wide, until no step is short enough to lead downwards.

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
        point, count, _ = state
        new = _step(problem, block, point, tolerance, jnp.float64)
        return new, count + 1, (new.coefficients != point.coefficients).any((0, 2))

    none, all_move = jnp.asarray(0), jnp.full(len(problem.shares), True)
    near = evaluate(problem, block, *start, jnp.float32)
    near = lax.while_loop(unfinished, roughly, (near, none, all_move))[0]
    near = evaluate(problem, block, near.coefficients, near.intercepts, jnp.float64)
    return lax.while_loop(unfinished, precisely, (near, none, all_move))[0]


def _open(point: Point, tolerance: Array) -> Array:
    return ~(point.gap <= tolerance * point.value)  # NaN is open


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
    losses, surplus, curvature, residuals = _forward(
        problem, block, coefficients.astype(precision), intercepts.astype(precision)
    )
    # The mean of the intercepts is free: the constant matrix fixes it.
    tilt = -jnp.linalg.solve(curvature + 1 / surplus.shape[1], surplus[..., None])[..., 0]
    tilt -= tilt.mean(1, keepdims=True)
    inside = jnp.abs(tilt).max(1) <= 0.5
    tilt = jnp.where(inside[:, None], tilt, 0)
    divergence = jnp.maximum(-(tilt * surplus).sum(1), 0)
    slope, surplus, chances = _backward(problem, block, residuals, tilt.astype(precision))
    gradient = slope + problem.strength * coefficients
    gap = divergence + (gradient**2).sum((0, 2)) / (2 * problem.strength)
    return Point(
        coefficients,
        intercepts,
        tilt,
        chances,
        gradient,
        surplus,
        losses + problem.strength / 2 * (coefficients**2).sum((0, 2)),
        jnp.where(inside, gap, jnp.inf),
    )


def _forward(
    problem: Problem, block: Block, coefficients: Array, intercepts: Array
) -> tuple[Array, ...]:
    """Mean losses, gradient and Hessian of the intercepts, and probabilities less the labels'."""

    def part(number: Array) -> tuple[tuple[Array, ...], Array]:
        weights = problem.share(number, coefficients.dtype)
        logits = times(block(number, weights.dtype), problem.of(number, coefficients, 1))
        logits = logits + problem.of(number, intercepts, 0)
        losses, residual = losses_of(logits, problem.labels[number])
        chances = residual + problem.targets(number, residual)
        mass = weights * chances
        outer = jnp.matmul(mass.transpose(1, 2, 0), chances.transpose(1, 0, 2))
        sums = (weights[..., 0] * losses).sum(0), (weights * residual).sum(0), mass.sum(0), outer
        return sums, residual

    (losses, surplus, mass, outer), residuals = problem.sums(part)
    return losses, surplus, jax.vmap(jnp.diag)(mass) - outer, residuals


def _backward(
    problem: Problem, block: Block, residuals: Array, tilt: Array
) -> tuple[Array, Array, Array]:
    """Gradients of losses by coefficients and intercepts, tilted, and the model's probabilities."""

    def part(number: Array, residual: Array) -> tuple[tuple[Array, Array], Array]:
        chances = residual + problem.targets(number, residual)
        along = problem.of(number, tilt, 0)
        tilted = residual + chances * (along - (chances * along).sum(2, keepdims=True))
        rest = problem.share(number, tilt.dtype) * tilted
        sums = gathered(block(number, tilt.dtype), rest), rest.sum(0)
        return sums, chances.astype(jnp.float32)

    (slope, surplus), chances = problem.sums(part, residuals)
    return jnp.moveaxis(slope, 2, 0), surplus, chances


def _step(problem: Problem, block: Block, point: Point, tolerance: Array, precision: Any) -> Point:
    live = _open(point, tolerance)
    square = (point.gradient**2).sum((0, 2))
    allowed = 2 * SHARE * tolerance * point.value * problem.strength
    allowed = jnp.maximum(allowed, REDUCTION**2 * square)
    size = jnp.sqrt(square + (point.surplus**2).sum(1))  # to stay within single precision
    size = jnp.where(live & (size > 0), size, 1)[:, None]
    gradient, surplus = (
        (each / size).astype(jnp.float32) for each in (point.gradient, point.surplus)
    )
    stop = jnp.where(live, allowed / size[:, 0] ** 2, jnp.inf)
    found = conjugate_gradients(problem, block, point.chances, (gradient, surplus), stop)
    step, moved = (each.astype(size.dtype) * size for each in found)
    slope = (point.gradient * step).sum((0, 2)) + (point.surplus * moved).sum(1)
    moved = moved + point.tilt

    def attempt(state: tuple[Point, Array, Array, Array]) -> tuple[Point, Array, Array, Array]:
        _, length, _, count = state
        along = length[:, None]
        coefficients = point.coefficients + along * step
        new = evaluate(problem, block, coefficients, point.intercepts + along * moved, precision)
        noise = NOISE[jnp.dtype(precision).name] * point.value
        long = live & ~(new.value - point.value <= 1e-4 * length * slope + noise)
        shorter = jnp.where(count < MOST_HALVINGS - 1, length / 2, 0)
        return new, jnp.where(long, shorter, length), long, count + 1

    return lax.while_loop(
        lambda state: state[2].any() & (state[3] <= MOST_HALVINGS),
        attempt,
        (point, jnp.where(live, 1.0, 0.0), live, jnp.asarray(0)),
    )[0]
