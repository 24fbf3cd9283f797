"""Losses that ask for one prediction on an input and on changed versions of it, without labels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jtl.errors import UserError
from jtl.losses._numerics import (
    AxisName,
    as_matrix,
    global_batch,
    masked_mean,
    require_positive,
    require_same_shape,
    row_mask,
    unit_rows,
)
from jtl.losses.classification import cross_entropy, distillation
from jtl.types import Array


def consistency(
    weak_logits: Float[Array, "examples classes"],
    strong_logits: Float[Array, "examples classes"],
    *,
    threshold: float | Float[Array, ""],
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Cross-entropy of strongly augmented examples with what is surely predicted on weak ones.

    ``mean_i 1[max p_i >= threshold] * -log q_i(argmax p_i)`` with ``p = softmax(weak_logits)``,
    which carries no gradient, and ``q = softmax(strong_logits)`` (FixMatch, Sohn et al., 2020,
    arXiv 2001.07685, equation 4). The mean is over the whole batch: an unsure example counts, with
    0, so the loss is small while few are sure.

    Args:
      weak_logits: [examples, classes].
      strong_logits: [examples, classes] of the same examples.
      threshold: the probability from which a prediction counts as a label, 0 to 1 (0.95 in the
        paper).
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative.

    Raises:
      UserError: shapes that differ or are not [examples, classes], no example, a mask of another
        length, or a threshold outside 0 to 1.

    >>> weak, strong = jnp.array([[9.0, 0.0], [0.0, 0.0]]), jnp.zeros((2, 2))
    >>> consistency(weak, strong, threshold=0.95)  # (log 2 + 0) / 2
    Array(0.3465736, dtype=float32)
    """
    if isinstance(threshold, int | float) and not 0 <= threshold <= 1:
        raise UserError(f"consistency: threshold is {threshold}, must be from 0 to 1")
    require_same_shape("consistency: weak and strong logits", weak_logits, strong_logits)
    weak = as_matrix("consistency: weak_logits", weak_logits, rows=1)
    mask = row_mask("consistency", weak, where)
    strong = jnp.where(mask[:, None], as_matrix("consistency: strong_logits", strong_logits), 0.0)
    # A comparison and an index: no gradient passes either.
    sure = jax.nn.softmax(weak).max(axis=1) >= threshold
    losses = cross_entropy(strong, jnp.argmax(weak, axis=1))
    # Not a product: an unsure example's loss may be infinite.
    losses = jnp.where(sure, losses, 0.0)
    return masked_mean(global_batch(losses, axis_name), global_batch(mask, axis_name))


def virtual_adversarial(
    apply: Callable[[jax.Array], jax.Array],
    inputs: Float[Array, "examples ..."],
    key: jax.Array,
    *,
    epsilon: float | Float[Array, ""],
    xi: float | Float[Array, ""] = 1e-2,
    iterations: int = 1,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How far predictions move when each input is moved by ``epsilon`` where it hurts most.

    ``mean_i KL(p(x_i) || p(x_i + r_i))`` with ``||r_i|| = epsilon`` along the direction in which
    the divergence grows fastest, found from a random one by power iteration: ``d`` becomes the
    normalised gradient of ``KL(p(x) || p(x + xi d))`` (virtual adversarial training, Miyato et
    al., 2017, arXiv 1704.03976, algorithm 1). Neither ``p(x)`` nor ``r`` carries a gradient.

    Args:
      apply: float32 inputs to logits [examples, classes], each row from its own example alone and
        the same at every call. It runs ``iterations + 2`` times.
      inputs: [examples, ...], floating: an integer pixel cannot be moved a little.
      key: of the random directions, one per row. Under ``axis_name`` the same on every device;
        each row's direction is then that of the global batch.
      epsilon: the length of the move, in the units of a whole input, positive.
      xi: the length of the step that the slope is measured over, positive. The published 1e-6 is
        too small for float32: ``docs/losses.md`` has what is left of the direction.
      iterations: of the power method, at least 1.
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative. Where the slope is 0 the random direction stays.

    Raises:
      UserError: inputs that are not floating or without a row, a mask of another length,
        ``epsilon``, ``xi`` or ``iterations`` not positive.

    >>> def apply(x):  # indifferent to the second number: the worst move is along the first
    ...     return x @ jnp.array([[10.0, 0.0], [0.0, 0.0]])
    >>> virtual_adversarial(apply, jnp.zeros((1, 2)), jax.random.key(0), epsilon=0.1).round(3)
    Array(0.12, dtype=float32)
    """
    require_positive("virtual_adversarial: epsilon", epsilon)
    require_positive("virtual_adversarial: xi", xi)
    if iterations < 1:
        raise UserError(f"virtual_adversarial: iterations is {iterations}, must be at least 1")
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise UserError(f"virtual_adversarial: inputs are {inputs.dtype}, must be floating")
    if inputs.ndim < 2 or len(inputs) == 0:
        raise UserError(f"virtual_adversarial: inputs {inputs.shape}, expected [examples, ...]")
    epsilon, xi = jnp.asarray(epsilon, jnp.float32), jnp.asarray(xi, jnp.float32)
    mask = row_mask("virtual_adversarial", inputs, where)
    shape = inputs.shape
    rows = jnp.where(mask[:, None], jnp.asarray(inputs, jnp.float32).reshape(len(inputs), -1), 0.0)

    def logits_at(rows: jax.Array) -> jax.Array:
        return as_matrix("virtual_adversarial: logits", apply(rows.reshape(shape)))

    clean = logits_at(rows)

    def divergence(move: jax.Array) -> Float[jax.Array, " examples"]:
        return distillation(logits_at(rows + move), clean, temperature=1.0)

    direction = _random_directions(key, rows, mask, axis_name)
    for _ in range(iterations):
        slope = jax.grad(lambda move: divergence(move).sum())(xi * direction)
        slope = unit_rows(jax.lax.stop_gradient(slope))
        direction = jnp.where((slope == 0).all(axis=1, keepdims=True), direction, slope)
    losses = divergence(epsilon * direction)
    return masked_mean(global_batch(losses, axis_name), global_batch(mask, axis_name))


def _random_directions(
    key: jax.Array, rows: jax.Array, mask: jax.Array, axis_name: AxisName
) -> Float[jax.Array, "rows columns"]:
    """One unit vector a row, by its number among the rows that count in the global batch."""
    numbers = jnp.cumsum(global_batch(mask, axis_name)) - 1
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * len(rows)
        numbers = jax.lax.dynamic_slice_in_dim(numbers, first, len(rows))
    draw = jax.vmap(
        lambda number: jax.random.normal(jax.random.fold_in(key, number), rows.shape[1:])
    )
    return unit_rows(draw(numbers))
