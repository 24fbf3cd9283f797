"""Distances between the moments of two samples."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jtl.errors import UserError
from jtl.losses._numerics import AxisName, masked_mean, require_positive, row_norms
from jtl.losses._samples import two_samples
from jtl.types import Array


def coral(
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    *,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Distance between two samples' covariances: ``||C_s - C_t||_F^2 / (4 d^2)``.

    The covariances are the unbiased ones, divided by the rows less one (Deep CORAL, Sun and
    Saenko, 2016, arXiv 1607.01719). It is blind to a shift of the mean.

    Args:
      source: [source, features].
      target: [target, features]; the two samples may differ in their number of rows.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If fewer than two rows of a sample count, the loss is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative.

    Raises:
      UserError: not two matrices of equal width, fewer than two rows in one, or a mask of another
        length.

    >>> coral(jnp.array([[-1.0], [1.0]]), jnp.array([[5.0], [5.0]]))  # (2 - 0)^2 / 4
    Array(1., dtype=float32)
    """
    samples = two_samples("coral", source, target, source_where, target_where, axis_name)
    if min(len(samples.source), len(samples.target)) < 2:
        raise UserError("coral: a covariance needs at least two rows of each domain")
    gap = _covariance(samples.source, samples.of_source) - _covariance(
        samples.target, samples.of_target
    )
    value = jnp.sum(gap**2) / (4 * source.shape[1] ** 2)
    return jnp.where(samples.have(2), value, 0.0)


def central_moment_discrepancy(
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    *,
    moments: int = 5,
    span: float = 1.0,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How far the means and the central moments of two samples differ, feature by feature.

    ``||E s - E t|| / span + sum_k ||c_k(s) - c_k(t)|| / span^k``, ``k`` from 2 to ``moments``,
    with ``c_k(x) = E (x - E x)^k`` entry by entry (CMD, Zellinger et al., 2017, arXiv
    1702.08811). It sees no dependence between features.

    The paper's features lie in an interval [a, b], and ``span`` is its length ``b - a``: 1 behind
    a sigmoid or a softmax, 2 behind tanh. It gives each order its say: features ten times as wide
    make the fifth moment 10^5 times as large. Bound features that have no bounds (those behind a
    ReLU, say) or give the length in which nearly all of them lie.

    Args:
      source: [source, features].
      target: [target, features]; the two samples may differ in their number of rows.
      moments: the highest order, at least 1.
      span: the length of the interval that the features lie in.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If no row of a sample counts, the loss is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative. It is a sum of norms, not of their squares: near equality
      its gradient does not fade, and at equality, where it is finite, it is rounding's.

    Raises:
      UserError: not two matrices of equal width, an empty sample, a mask of another length, or
        ``moments`` or ``span`` out of range.

    >>> source, target = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.0]])
    >>> central_moment_discrepancy(source, target, moments=2)  # |1/2 - 0| + |1/4 - 0|
    Array(0.75, dtype=float32)
    """
    if moments < 1:
        raise UserError(f"central_moment_discrepancy: moments is {moments}, must be at least 1")
    require_positive("central_moment_discrepancy: span", span)
    samples = two_samples(
        "central_moment_discrepancy", source, target, source_where, target_where, axis_name
    )
    source, target = samples.source / span, samples.target / span
    of_source = masked_mean(source, samples.of_source)
    of_target = masked_mean(target, samples.of_target)
    gaps = [of_source - of_target]
    source, target = source - of_source[None, :], target - of_target[None, :]
    for order in range(2, moments + 1):
        of_source = masked_mean(source**order, samples.of_source)
        of_target = masked_mean(target**order, samples.of_target)
        gaps.append(of_source - of_target)
    return jnp.where(samples.have(1), row_norms(jnp.stack(gaps)).sum(), 0.0)


def _covariance(
    rows: Float[jax.Array, "rows features"], mask: Bool[jax.Array, " rows"]
) -> Float[jax.Array, "features features"]:
    centred = jnp.where(mask[:, None], rows - masked_mean(rows, mask)[None, :], 0.0)
    # Accelerators multiply float32 matrices in lower precision unless told otherwise.
    products = jnp.matmul(centred.T, centred, precision="highest")
    return products / jnp.maximum(mask.sum(dtype=jnp.float32) - 1, 1.0)
