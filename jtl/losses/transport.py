"""Optimal transport between two batches, and the loss of what it carries where (DeepJDOT)."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from jtl.errors import UserError
from jtl.losses._numerics import (
    AxisName,
    as_labels,
    as_matrix,
    as_vector,
    global_batch,
    masked_mean,
    require_positive,
    require_same_shape,
)
from jtl.losses._samples import Samples, squared_distances, two_samples
from jtl.types import Array

_CEILING = 200.0
"""How many times ``epsilon`` an infinite cost is above the largest finite one: exp(-200) is 0."""


def sinkhorn_plan(
    cost: Float[Array, "source target"],
    *,
    epsilon: float | Float[Array, ""],
    iterations: int = 100,
    source_weights: Float[Array, " source"] | None = None,
    target_weights: Float[Array, " target"] | None = None,
) -> Float[jax.Array, "source target"]:
    """The plan that carries one sample's mass to the other's at low cost, smoothed by entropy.

    The minimum over plans ``P`` with rows that sum to ``a`` and columns that sum to ``b`` of
    ``sum P C + epsilon sum P (log P - 1)`` (Cuturi, 2013, arXiv 1306.0895), by Sinkhorn's
    iterations on logarithms. As ``epsilon`` falls to 0 it becomes the optimal plan, and needs more
    iterations. Whatever their number, the plan returned is one: rows and columns sum to ``a`` and
    ``b``, because what the iterations leave over is distributed (Altschuler et al., 2017,
    arXiv 1705.09634, algorithm 2).

    Args:
      cost: [source, target], on the whole batch: under ``pmap``, of the rows of all devices. An
        infinite cost is paid only where nothing else is possible.
      epsilon: in units of the cost, positive. At a hundredth of the costs' spread the plan is
        sharp; below a ten-thousandth of it float32 has no digits left.
      iterations: how many; static.
      source_weights: [source], not negative, scaled to sum to 1: ``a``. Uniform by default. A row
        of weight 0 may hold anything and carries nothing.
      target_weights: [target], the same: ``b``.

    Returns:
      [source, target] in float32, not negative, with sum 1 (all 0 if all weights of a sample are
      0). It may be differentiated, which keeps a [source, target] array of every iteration.

    Raises:
      UserError: ``cost`` is not a matrix or is empty, weights of another length, or ``epsilon`` or
        ``iterations`` out of range.

    >>> cost = jnp.log(jnp.array([[1.0, 3.0], [3.0, 1.0]]))
    >>> (8 * sinkhorn_plan(cost, epsilon=1.0)).round(2)  # 3 / (3 + 1) of each half stays
    Array([[3., 1.],
           [1., 3.]], dtype=float32)
    """
    require_positive("sinkhorn_plan: epsilon", epsilon)
    if iterations < 1:
        raise UserError(f"sinkhorn_plan: iterations is {iterations}, must be at least 1")
    cost = as_matrix("sinkhorn_plan: cost", cost, rows=1)
    if not cost.shape[1]:
        raise UserError("sinkhorn_plan: cost has no columns")
    a = _marginal("source", source_weights, len(cost))
    b = _marginal("target", target_weights, cost.shape[1])
    carried = (a > 0)[:, None] & (b > 0)[None, :]
    cost = jnp.where(carried, cost, 0.0)
    epsilon = jnp.asarray(epsilon, jnp.float32)
    forbidden = cost == jnp.inf
    ceiling = jnp.max(jnp.where(forbidden, -jnp.inf, cost), initial=0.0) + _CEILING * epsilon
    scores = -jnp.where(forbidden, jax.lax.stop_gradient(ceiling), cost) / epsilon
    scores = jnp.where(carried, scores, -jnp.inf)

    def iterate(_: jax.Array, v: jax.Array) -> jax.Array:
        u = jnp.log(_positive(a)) - _log_sum(scores + v[None, :], axis=1)
        return jnp.log(_positive(b)) - _log_sum(scores + u[:, None], axis=0)

    v = jax.lax.fori_loop(0, iterations, iterate, jnp.zeros_like(b))
    u = jnp.log(_positive(a)) - _log_sum(scores + v[None, :], axis=1)
    plan = jnp.exp(scores + u[:, None] + v[None, :])
    return _rounded(jnp.where(carried, plan, 0.0), a, b)


def joint_transport(
    source_features: Float[Array, "source features"],
    source_labels: Integer[Array, " source"],
    target_features: Float[Array, "target features"],
    target_logits: Float[Array, "target classes"],
    *,
    alpha: float | Float[Array, ""] = 0.001,
    lambda_t: float | Float[Array, ""] = 0.0001,
    epsilon: float | Float[Array, ""] = 0.01,
    iterations: int = 100,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """What it costs to carry the source, features and labels at once, to the target.

    ``sum_ij P_ij C_ij`` with ``C_ij = alpha ||f_i - f_j||^2 + lambda_t CE(y_i, p_j)``, where
    ``y_i`` is the source's label, ``p_j = softmax`` of the target's logits and ``P`` the plan of
    least cost between the two batches, through which no gradient passes (DeepJDOT, Damodaran et
    al., 2018, arXiv 1803.10081). It moves features of both domains together and teaches the target
    the labels that are carried to it; the task loss on the source is apart.

    The paper takes the exact plan. This one is :func:`sinkhorn_plan`'s, of the same cost.

    Args:
      source_features: [source, features].
      source_labels: [source], integers from 0 to classes - 1. Any other label gives NaN.
      target_features: [target, features]; the domains may differ in their number of examples.
      target_logits: [target, classes].
      alpha: the factor of the distances; the paper's is 0.001.
      lambda_t: the factor of the labels; the paper's is 0.0001. Factors ten times as large give
        the same plan and ten times the loss.
      epsilon: of the plan, as a fraction of the mean (finite) cost, positive.
      iterations: of the plan; static.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If no row of a domain counts, the loss is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative.

    Raises:
      UserError: shapes that do not belong together, an empty domain, labels that are no integers,
        a mask of another length, or ``epsilon`` or ``iterations`` out of range.

    >>> source, target = jnp.array([[0.0], [4.0]]), jnp.array([[5.0], [1.0]])
    >>> labels, even = jnp.array([0, 1]), jnp.zeros((2, 2))
    >>> joint_transport(source, labels, target, even, alpha=1.0, lambda_t=1.0)  # 1 + log 2
    Array(1.6931472, dtype=float32)
    """
    name = "joint_transport"
    require_positive(f"{name}: epsilon", epsilon)
    samples = two_samples(
        f"{name}: features", source_features, target_features, source_where, target_where, axis_name
    )
    labels = global_batch(as_labels(name, source_labels, source_features), axis_name)
    logits = as_matrix(f"{name}: target_logits", target_logits)
    if len(logits) != len(target_features):
        raise UserError(f"{name}: {len(logits)} rows of logits for {len(target_features)} features")
    logits = jnp.where(samples.of_target[:, None], global_batch(logits, axis_name), 0.0)
    rows = jnp.concatenate([samples.source, samples.target])
    counts = jnp.concatenate([samples.of_source, samples.of_target])
    distances = squared_distances(samples.source, samples.target, masked_mean(rows, counts))
    alpha, lambda_t = jnp.asarray(alpha, jnp.float32), jnp.asarray(lambda_t, jnp.float32)
    cost = alpha * distances + lambda_t * _label_cost(labels, logits)
    plan = _plan(jax.lax.stop_gradient(cost), samples, epsilon, iterations)
    # Where nothing is carried the cost may be infinite, and 0 times infinity is NaN.
    return jnp.sum(plan * jnp.where(plan == 0, 0.0, cost))


def _label_cost(
    labels: Integer[jax.Array, " source"], logits: Float[jax.Array, "target classes"]
) -> Float[jax.Array, "source target"]:
    """The cross-entropy of each target prediction with each source label; NaN for no class."""
    classes = logits.shape[1]
    is_class = (labels >= 0) & (labels < classes)
    log_p = jax.nn.log_softmax(logits)[:, jnp.where(is_class, labels, 0)]
    return jnp.where(is_class[:, None], -log_p.T, jnp.nan)


def _plan(
    cost: jax.Array, samples: Samples, epsilon: float | Array, iterations: int
) -> Float[jax.Array, "source target"]:
    counts = samples.of_source[:, None] & samples.of_target[None, :]
    mean = masked_mean(cost.ravel(), (counts & (cost != jnp.inf)).ravel())
    scaled = cost / jnp.where(mean > 0, mean, 1.0)
    return sinkhorn_plan(
        scaled,
        epsilon=epsilon,
        iterations=iterations,
        source_weights=samples.of_source.astype(jnp.float32),
        target_weights=samples.of_target.astype(jnp.float32),
    )


def _marginal(domain: str, weights: Array | None, rows: int) -> Float[jax.Array, " rows"]:
    """Weights that sum to 1; all 0 if they are."""
    name = f"sinkhorn_plan: {domain}_weights"
    if weights is None:
        return jnp.full(rows, 1 / rows, jnp.float32)
    weights = as_vector(name, weights)
    require_same_shape(f"{name} and cost's rows or columns", weights, jnp.zeros(rows))
    total = weights.sum()
    return weights / jnp.where(total > 0, total, 1.0)


def _positive(marginal: jax.Array) -> jax.Array:
    """A weight of 0 leaves its row out by the scores, so its logarithm may be anything finite."""
    return jnp.where(marginal > 0, marginal, 1.0)


def _log_sum(scores: jax.Array, axis: int) -> jax.Array:
    """``log sum exp``; 0 for rows that are left out, whose gradient would be NaN."""
    left_out = jnp.all(scores == -jnp.inf, axis=axis, keepdims=True)
    safe = jnp.where(left_out, 0.0, scores)
    return jnp.where(left_out.squeeze(axis), 0.0, jax.nn.logsumexp(safe, axis=axis))


def _rounded(
    plan: Float[jax.Array, "source target"],
    a: Float[jax.Array, " source"],
    b: Float[jax.Array, " target"],
) -> Float[jax.Array, "source target"]:
    """A near plan made one: scaled down to what each row and column may hold, the rest spread."""

    def scale(wanted: jax.Array, found: jax.Array) -> jax.Array:
        return jnp.minimum(wanted / jnp.where(found > 0, found, 1.0), 1.0)

    plan = plan * scale(a, plan.sum(axis=1))[:, None]
    plan = plan * scale(b, plan.sum(axis=0))[None, :]
    of_rows = jnp.maximum(a - plan.sum(axis=1), 0.0)
    of_columns = jnp.maximum(b - plan.sum(axis=0), 0.0)
    rest = of_rows.sum()
    return plan + of_rows[:, None] * of_columns[None, :] / jnp.where(rest > 0, rest, 1.0)
