"""Newton's method for many logistic regressions on the same features at once.

Arrays have a leading axis of examples or features, then one of problems (a problem is a weighting
of the examples), then one of classes, so that all problems share each multiplication by the
features. Values and gradients are in double precision, the steps in single.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jtl.probing._rows import Product

REDUCTION = 0.05
"""Conjugate gradients stop when the residual is this part of the gradient: Newton's method would
not gain from more."""
SHARE = 0.3
"""Or when their residual accounts for this share of the gap that is allowed."""
MOST_STEPS, MOST_GRADIENTS, MOST_HALVINGS = 60, 300, 20


class Problem(NamedTuple):
    """What is minimised: ``sum_i w_i loss_i + strength |W|^2 / 2`` for each problem.

    Attributes:
      targets: one-hot, ``[examples, 1, classes]``.
      weights: ``[examples, problems]``, summing to one over the examples.
      strength: a scalar.
      axes: ``[features, directions]``, the principal axes of the features.
      variances: along these.
    """

    targets: Array
    weights: Array
    strength: Array
    axes: Array
    variances: Array


class Point(NamedTuple):
    """Where a minimisation stands, for each problem.

    Attributes:
      coefficients: ``[features, problems, classes]``.
      intercepts: ``[problems, classes]``.
      logits: ``[examples, problems, classes]``.
      gradient: of the coefficients.
      surplus: the gradient of the intercepts.
      value: of the objective, ``[problems]``.
      gap: no less than how far the value is above the minimum.
    """

    coefficients: Array
    intercepts: Array
    logits: Array
    gradient: Array
    surplus: Array
    value: Array
    gap: Array


def minimise(
    problem: Problem, product: Product, start: tuple[Array, Array], tolerance: Array
) -> Point:
    """Newton's method until every gap is at most ``tolerance`` times the value.

    Args:
      problem: of what.
      product: the features.
      start: coefficients and intercepts.
      tolerance: relative.
    """

    def unfinished(state: tuple[Point, Array]) -> Array:
        point, count = state
        return _open(point, tolerance).any() & (count < MOST_STEPS)

    def step(state: tuple[Point, Array]) -> tuple[Point, Array]:
        point, count = state
        return _step(problem, product, point, tolerance), count + 1

    first = evaluate(problem, product, *start)
    return lax.while_loop(unfinished, step, (first, jnp.asarray(0)))[0]


def _open(point: Point, tolerance: Array) -> Array:
    return ~(point.gap <= tolerance * point.value)  # NaN is open


def evaluate(problem: Problem, product: Product, coefficients: Array, intercepts: Array) -> Point:
    """Value, gradient and gap, after a Newton step of the intercepts alone.

    The gap is that to the dual problem at probabilities ``q`` near the model's ``p``,
    ``sum_i w_i KL(q_i || p_i) + |X'(q - y) + strength W|^2 / (2 strength)``: by weak duality the
    minimum is no lower than the value less this. For ``q`` to be feasible, each class must have
    its share of the examples, ``sum_i w_i (q_i - y_i) = 0``, which the intercepts bring about but
    for rounding, and a mixture with a constant exactly.
    """
    weights, strength = problem.weights[..., None], problem.strength
    shares = (weights * problem.targets).sum(0)
    logits = product.forward(coefficients) + intercepts
    moved = _intercept_step(weights, jax.nn.softmax(logits), shares)
    intercepts, logits = intercepts + moved, logits + moved
    logs = jax.nn.log_softmax(logits)
    chances = jnp.exp(logs)
    surplus = (weights * chances).sum(0) - shares
    part = (surplus / shares).max(1, keepdims=True)
    part = part / (1 + part)  # of the constant, in the mixture
    constant = jnp.maximum(part * shares - (1 - part) * surplus, 0)
    mixed = (1 - part) * chances + constant
    divergence = (weights * (jax.scipy.special.xlogy(mixed, mixed) - mixed * logs)).sum((0, 2))
    gradient = product.backward(weights * (mixed - problem.targets)) + strength * coefficients
    losses = -(weights * problem.targets * logs).sum((0, 2))
    return Point(
        coefficients,
        intercepts,
        logits,
        gradient,
        surplus,
        losses + strength / 2 * (coefficients**2).sum((0, 2)),
        jnp.maximum(divergence, 0) + (gradient**2).sum((0, 2)) / (2 * strength),
    )


def _intercept_step(weights: Array, chances: Array, shares: Array) -> Array:
    """Newton's step of the intercepts; none where it is large, as it is far from a solution."""
    surplus = (weights * chances).sum(0) - shares
    mass = weights * chances
    # Not in single precision, for which XLA's compiler takes minutes on a CPU.
    outer = jnp.einsum("epk,epl->pkl", mass, chances)
    classes = shares.shape[1]
    # The mean of the intercepts is free: the constant matrix fixes it.
    curvature = jax.vmap(jnp.diag)(mass.sum(0)) - outer + 1 / classes
    moved = -jnp.linalg.solve(curvature, surplus[..., None])[..., 0]
    moved -= moved.mean(1, keepdims=True)
    return jnp.where(jnp.abs(moved).max(1, keepdims=True) < 1, moved, 0)


def _step(problem: Problem, product: Product, point: Point, tolerance: Array) -> Point:
    weights, strength = problem.weights, problem.strength
    live = _open(point, tolerance)
    square = (point.gradient**2).sum((0, 2))
    allowed = jnp.maximum(2 * SHARE * tolerance * point.value * strength, REDUCTION**2 * square)
    size = jnp.sqrt(square + (point.surplus**2).sum(1))  # to stay within single precision
    size = jnp.where(live & (size > 0), size, 1)[:, None]
    step, moved, change = _conjugate_gradients(
        problem,
        product,
        jax.nn.softmax(point.logits).astype(jnp.float32),
        (point.gradient / size).astype(jnp.float32),
        (point.surplus / size).astype(jnp.float32),
        jnp.where(live, allowed / size[:, 0] ** 2, jnp.inf),
    )
    step, moved, change = (each.astype(size.dtype) * size for each in (step, moved, change))
    slope = (point.gradient * step).sum((0, 2)) + (point.surplus * moved).sum(1)

    def too_long(length: Array) -> Array:
        along = length[:, None]
        logs = jax.nn.log_softmax(point.logits + along * change)
        losses = -(weights[..., None] * problem.targets * logs).sum((0, 2))
        penalty = strength / 2 * ((point.coefficients + along * step) ** 2).sum((0, 2))
        decrease = losses + penalty - point.value
        return live & ~(decrease <= 1e-4 * length * slope + 1e-12 * point.value)

    def halve(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        length, long, count = state
        length = jnp.where(long, length / 2, length)
        return length, too_long(length), count + 1

    whole = jnp.ones_like(slope)
    length, long, _ = lax.while_loop(
        lambda state: state[1].any() & (state[2] < MOST_HALVINGS),
        halve,
        (whole, too_long(whole), jnp.asarray(0)),
    )
    length = jnp.where(live & ~long, length, 0)[:, None]
    return evaluate(
        problem,
        product,
        point.coefficients + length * step,
        point.intercepts + length * moved,
    )


def _conjugate_gradients(
    problem: Problem, product: Product, chances: Array, gradient: Array, surplus: Array, stop: Array
) -> tuple[Array, Array, Array]:
    """Solves ``H step = -gradient`` in single precision.

    Preconditioned by the Hessian that equal curvature at all examples would have, which the
    principal axes of the features make diagonal: one decomposition serves all problems, classes
    and strengths.

    Args:
      problem: whose Hessian.
      product: the features.
      chances: the model's probabilities.
      gradient: of the coefficients.
      surplus: the gradient of the intercepts.
      stop: squared norm of the residual of the coefficients at which each problem is solved.

    Returns:
      The steps of coefficients and intercepts, and the change of the logits.
    """
    weights = problem.weights.astype(jnp.float32)[..., None]
    strength, axes = problem.strength.astype(jnp.float32), problem.axes
    curvature = jnp.maximum((weights * chances * (1 - chances)).sum(0), 1e-12)
    diagonal = problem.variances[:, None, None] * curvature + strength

    def precondition(rest: Array, rest_surplus: Array) -> tuple[Array, Array]:
        along = jnp.tensordot(axes.T, rest, 1) / diagonal
        return jnp.tensordot(axes, along, 1), rest_surplus / curvature

    def dot(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        return (a[0] * b[0]).sum((0, 2)) + (a[1] * b[1]).sum(1)

    def unsolved(state: tuple) -> Array:
        return state[-2].any() & (state[-1] < MOST_GRADIENTS)

    def improve(state: tuple) -> tuple:
        solution, change, rest, direction, square, live, count = state
        logits = product.forward(direction[0]) + direction[1]
        centred = logits - (chances * logits).sum(2, keepdims=True)
        curved = weights * chances * centred
        image = product.backward(curved) + strength * direction[0], curved.sum(0)
        length = jnp.where(live, square / jnp.maximum(dot(direction, image), 1e-37), 0)[:, None]
        solution = tuple(a + length * b for a, b in zip(solution, direction, strict=True))
        rest = tuple(a - length * b for a, b in zip(rest, image, strict=True))
        scaled = precondition(*rest)
        renewed = dot(rest, scaled)
        ratio = jnp.where(live, renewed / jnp.maximum(square, 1e-37), 0)[:, None]
        direction = tuple(a + ratio * b for a, b in zip(scaled, direction, strict=True))
        live = live & ((rest[0] ** 2).sum((0, 2)) > stop)
        return solution, change + length * logits, rest, direction, renewed, live, count + 1

    rest = -gradient, -surplus
    direction = precondition(*rest)
    zero = jnp.zeros_like(gradient), jnp.zeros_like(surplus)
    live = jnp.isfinite(stop)
    state = zero, jnp.zeros_like(chances), rest, direction, dot(rest, direction), live, 0
    solution, change, *_ = lax.while_loop(unsolved, improve, state)
    return *solution, change
