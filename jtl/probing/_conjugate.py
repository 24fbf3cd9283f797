"""Conjugate gradients in single precision, for the steps of many logistic regressions at once."""

import jax.numpy as jnp
from jax import Array, lax

from jtl.probing._problem import Block, Problem, gathered, times

MOST_GRADIENTS = 300

Step = tuple[Array, Array]
"""Of coefficients, ``[features, problems, classes]``, and intercepts, ``[problems, classes]``."""


def conjugate_gradients(
    problem: Problem, block: Block, chances: Array, gradient: Step, stop: Array
) -> Step:
    """Solves ``H step = -gradient``.

    Preconditioned by the Hessian that equal curvature at all examples would have, which the
    principal axes of the features make diagonal: one decomposition serves all problems, classes
    and strengths.

    Args:
      problem: whose Hessian.
      block: of the features.
      chances: the model's probabilities.
      gradient: its negative is the right-hand side.
      stop: squared norm of the residual of the coefficients at which each problem is solved.
    """
    strength, axes = problem.strength.astype(jnp.float32), problem.axes
    curvature = _curvature(problem, chances)
    diagonal = problem.variances[:, None, None] * curvature + strength

    def precondition(rest: Step) -> Step:
        along = jnp.tensordot(axes.T, rest[0], 1) / diagonal
        return jnp.tensordot(axes, along, 1), rest[1] / curvature

    def unsolved(state: tuple) -> Array:
        return state[-2].any() & (state[-1] < MOST_GRADIENTS)

    def improve(state: tuple) -> tuple:
        solution, rest, direction, square, live, count = state
        image = _image(problem, block, chances, direction)
        length = jnp.where(live, square / jnp.maximum(_dot(direction, image), 1e-37), 0)
        solution = _moved(solution, length, direction)
        rest = _moved(rest, -length, image)
        scaled = precondition(rest)
        renewed = _dot(rest, scaled)
        ratio = jnp.where(live, renewed / jnp.maximum(square, 1e-37), 0)
        live = live & ((rest[0] ** 2).sum((0, 2)) > stop)
        return solution, rest, _moved(scaled, ratio, direction), renewed, live, count + 1

    zero = jnp.zeros_like(gradient[0]), jnp.zeros_like(gradient[1])
    rest = -gradient[0], -gradient[1]
    direction = precondition(rest)
    state = zero, rest, direction, _dot(rest, direction), jnp.isfinite(stop), 0
    return lax.while_loop(unsolved, improve, state)[0]


def _dot(one: Step, other: Step) -> Array:
    return (one[0] * other[0]).sum((0, 2)) + (one[1] * other[1]).sum(1)


def _moved(start: Step, length: Array, direction: Step) -> Step:
    along = length[:, None]
    return start[0] + along * direction[0], start[1] + along * direction[1]


def _curvature(problem: Problem, chances: Array) -> Array:
    """Of the intercepts, for each problem and class."""

    def part(number: Array, chances: Array) -> tuple[Array, None]:
        return (problem.share(number, jnp.float32) * chances * (1 - chances)).sum(0), None

    return jnp.maximum(problem.sums(part, chances)[0].astype(jnp.float32), 1e-12)


def _image(problem: Problem, block: Block, chances: Array, direction: Step) -> Step:
    """The Hessian times a direction, by one reading of the features."""

    def part(number: Array, chances: Array) -> tuple[Step, None]:
        rows = block(number, jnp.float32)
        logits = times(rows, problem.of(number, direction[0], 1))
        logits = logits + problem.of(number, direction[1], 0)
        centred = logits - (chances * logits).sum(2, keepdims=True)
        curved = problem.share(number, jnp.float32) * chances * centred
        return (gathered(rows, curved), curved.sum(0)), None

    along, surplus = (each.astype(jnp.float32) for each in problem.sums(part, chances)[0])
    strength = problem.strength.astype(jnp.float32)
    return jnp.moveaxis(along, 2, 0) + strength * direction[0], surplus
