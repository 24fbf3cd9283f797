"""Wasserstein distances: by a critic and its penalty, and exactly along random lines."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from jtl.errors import UserError
from jtl.losses._numerics import (
    AxisName,
    as_vector,
    global_batch,
    masked_mean,
    row_mask,
    row_norms,
    unit_rows,
)
from jtl.losses._samples import Samples, counted_first, two_samples
from jtl.types import Array


def wasserstein_critic(
    source_scores: Float[Array, " source"],
    target_scores: Float[Array, " target"],
    *,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How much higher a critic scores the source than the target: ``mean_s - mean_t``.

    The critic *maximises* it, and its maximum over all critics of slope at most 1 is the
    Wasserstein distance between the domains, which the features *minimise* (WDGRL, Shen et al.,
    2018, arXiv 1707.01217). :func:`gradient_penalty` keeps the slopes near 1. In two phases::

        of_critic = 10 * gradient_penalty(critic, source, target, key) - wasserstein_critic(s, t)
        of_backbone = task + strength * wasserstein_critic(s, t)

    Args:
      source_scores: [source], one unbounded score per example.
      target_scores: [target], the same; the domains may differ in their number of examples.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If no row of a domain counts, the value is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32.

    Raises:
      UserError: scores that are not vectors (squeeze [examples, 1]), an empty domain, or a mask of
        another length.

    >>> wasserstein_critic(jnp.array([1.0, 3.0]), jnp.array([0.5]))
    Array(1.5, dtype=float32)
    """
    means, counts = [], []
    for domain, scores, where in (
        ("source", source_scores, source_where),
        ("target", target_scores, target_where),
    ):
        name = f"wasserstein_critic: {domain}_scores"
        scores = as_vector(name, scores, rows=1)
        mask = global_batch(row_mask(name, scores, where), axis_name)
        means.append(masked_mean(global_batch(scores, axis_name), mask))
        counts.append(mask.any())
    return jnp.where(counts[0] & counts[1], means[0] - means[1], 0.0)


def gradient_penalty(
    critic: Callable[[Float[jax.Array, "points features"]], Float[Array, " points"]],
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    key: PRNGKeyArray,
    *,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How far the critic's slope is from 1: ``mean (||grad critic(x)|| - 1)^2``.

    The points ``x`` are the source, the target and one point drawn on the line between each pair
    of a source and a target example (WDGRL, Shen et al., 2018, arXiv 1707.01217; WGAN-GP, Gulrajani
    et al., 2017, arXiv 1704.00028, has the drawn ones alone). Each norm is over the features of
    one point. It trains the critic and nothing else: no gradient reaches the features. The paper's
    weight is 10.

    Args:
      critic: features to one score per row, which depends on that row alone (no batch norm).
      source: [source, features].
      target: [target, features]. Row i of one is paired with row i of the other; the rows of the
        smaller domain are used again from the first on.
      key: for the points on the lines; the same on all devices.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If no row of a domain counts, the penalty is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32. Where the slope is 0 its gradient is 0.

    Raises:
      UserError: not two matrices of equal width, an empty domain, a mask of another length, or a
        critic that does not return one score per row.

    >>> steep = lambda x: 3 * x[:, 0]  # slope 3 everywhere
    >>> gradient_penalty(steep, jnp.zeros((1, 2)), jnp.ones((1, 2)), jax.random.key(0))
    Array(4., dtype=float32)
    """
    samples = two_samples("gradient_penalty", source, target, source_where, target_where, axis_name)
    samples = jax.lax.stop_gradient(samples)
    between, is_pair = _between(samples, key)
    points = jnp.concatenate([samples.source, samples.target, between])
    counts = jnp.concatenate([samples.of_source, samples.of_target, is_pair])

    def total(points: jax.Array) -> jax.Array:
        scores = critic(points)
        if scores.shape != points.shape[:1]:
            raise UserError(
                f"gradient_penalty: the critic returns {scores.shape} for {len(points)} rows, "
                "must be one score for each"
            )
        return scores.sum()

    penalties = (row_norms(jax.grad(total)(points)) - 1) ** 2
    return jnp.where(samples.have(1), masked_mean(penalties, counts), 0.0)


def _between(samples: Samples, key: PRNGKeyArray) -> tuple[jax.Array, jax.Array]:
    """A point on the line of each pair, and which pairs are pairs of rows that count."""
    numbers = jnp.arange(max(len(samples.source), len(samples.target)), dtype=jnp.int32)
    of_source, of_target = samples.counts

    def nth(rows: jax.Array, mask: jax.Array, count: jax.Array) -> jax.Array:
        return rows[counted_first(mask)[numbers % jnp.maximum(count, 1)]]

    ends = nth(samples.source, samples.of_source, of_source)
    starts = nth(samples.target, samples.of_target, of_target)
    # A key for each pair, so that rows which do not count leave the others' points where they are.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    share = jax.vmap(jax.random.uniform)(keys)[:, None]
    return starts + share * (ends - starts), numbers < jnp.maximum(of_source, of_target)


def sliced_wasserstein(
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    key: PRNGKeyArray,
    *,
    projections: int = 128,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Squared Wasserstein distance between two samples along random lines, on average.

    ``mean_u W2^2(u.s, u.t)`` over directions ``u`` drawn evenly from the unit sphere, where on a
    line ``W2^2 = integral of (Q_s(q) - Q_t(q))^2 dq`` with the samples' quantile functions
    (Bonneel et al., 2015, JMIV 51; as a loss, of two heads' predictions on the same examples, SWD,
    Lee et al., 2019, arXiv 1903.04064). The integral is exact for samples of any two sizes; for
    equal ones it is the mean squared difference of the sorted projections.

    Args:
      source: [source, features]: features, or the predictions of one head.
      target: [target, features]: features, or those of the other.
      key: for the directions; the same on all devices.
      projections: how many directions are drawn.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If no row of a sample counts, the value is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative. A shift by a vector v makes it ``||v||^2 / features`` on
      average over the directions.

    Raises:
      UserError: not two matrices of equal width, an empty sample, a mask of another length, no
        projection, or more pairs of rows than an int32 counts.

    >>> source, target = jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [4.0], [3.0], [4.0]])
    >>> sliced_wasserstein(source, target, jax.random.key(0))  # on a line: shifted by 3
    Array(9., dtype=float32)
    """
    if projections < 1:
        raise UserError(f"sliced_wasserstein: projections is {projections}, must be at least 1")
    samples = two_samples(
        "sliced_wasserstein", source, target, source_where, target_where, axis_name
    )
    if len(samples.source) * len(samples.target) >= 2**31:
        raise UserError("sliced_wasserstein: more than 2^31 pairs of rows; give it batches")
    directions = unit_rows(jax.random.normal(key, (projections, source.shape[1]))).T
    # A common shift changes no distance; far from the origin it would leave few digits.
    origin = jax.lax.stop_gradient(masked_mean(samples.source, samples.of_source))[None, :]

    def sorted_projections(rows: jax.Array, mask: jax.Array) -> jax.Array:
        # Accelerators multiply float32 matrices in lower precision unless told otherwise.
        values = jnp.matmul(rows - origin, directions, precision="highest")
        order = jnp.argsort(jnp.where(mask[:, None], values, jnp.inf), axis=0)
        return jnp.take_along_axis(values, order, axis=0)

    lengths, in_source, in_target = _quantile_steps(samples)
    gaps = (
        sorted_projections(samples.source, samples.of_source)[in_source]
        - sorted_projections(samples.target, samples.of_target)[in_target]
    )
    return jnp.sum(lengths[:, None] * gaps**2) / projections


def _quantile_steps(
    samples: Samples,
) -> tuple[Float[jax.Array, " steps"], Int[jax.Array, " steps"], Int[jax.Array, " steps"]]:
    """The intervals of (0, 1] on which neither quantile function steps, in integers.

    Returns:
      Their lengths, and which row of the sorted source and target holds each function's value.
      Intervals of no length fill up the static number of them; without a row, all are.
    """
    of_source, of_target = samples.counts
    # In units of 1 / (n_s n_t): both functions step at whole numbers, and equal ones are equal.
    source_ends = jnp.arange(1, len(samples.source) + 1, dtype=jnp.int32)
    target_ends = jnp.arange(1, len(samples.target) + 1, dtype=jnp.int32)
    source_ends = jnp.minimum(source_ends, of_source) * of_target
    target_ends = jnp.minimum(target_ends, of_target) * of_source
    ends = jnp.sort(jnp.concatenate([source_ends, target_ends]))
    lengths = jnp.diff(ends, prepend=jnp.zeros(1, jnp.int32)).astype(jnp.float32)
    total = jnp.maximum(of_source * of_target, 1).astype(jnp.float32)
    in_source = jnp.searchsorted(source_ends, ends)
    in_target = jnp.searchsorted(target_ends, ends)
    return lengths / total, in_source, in_target
