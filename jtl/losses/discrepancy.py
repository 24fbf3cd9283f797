"""Distances between two samples of features, as scalars that can be minimised."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jtl.errors import UserError, nearest
from jtl.losses._numerics import AxisName, as_matrix, global_batch, require_same_columns
from jtl.types import Array

Estimator = Literal["biased", "unbiased", "linear"]

_OCTAVES = 2.0 ** np.arange(-2, 3)
"""The kernels' bandwidths, as multiples of the median squared distance."""


def mmd(
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    *,
    estimator: Estimator = "biased",
    bandwidths: Float[Array, " kernels"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Squared maximum mean discrepancy between two samples, under a mixture of Gaussian kernels.

    ``E k(s, s') + E k(t, t') - 2 E k(s, t)`` with ``k(x, y) = mean_b exp(-||x - y||^2 / b)``
    (Gretton et al., 2012, JMLR 13; as a loss, Long et al., 2015, arXiv 1502.02791). By default
    the bandwidths ``b`` are the median squared distance between two different rows of the pooled
    samples, times 1/4, 1/2, 1, 2 and 4; no gradient passes through them.

    Estimators:
      "biased" (the default): means over all pairs, a row's with itself included. Never negative
        (but for rounding), 0 for equal samples.
      "unbiased": without those pairs, and so of mean 0 for equal distributions: negative half of
        the time there.
      "linear": unbiased, from disjoint pairs of consecutive rows, in time and memory linear in
        the rows: the mean of ``k(s1, s2) + k(t1, t2) - k(s1, t2) - k(s2, t1)``. Noisier, and
        negative as often. Rows beyond the last whole pair of the smaller sample are not read, and
        the median is taken over the pairs that are.

    Args:
      source: [source, features].
      target: [target, features]; the two samples may differ in their number of rows.
      estimator: see above.
      bandwidths: [kernels], in units of squared distance, in place of the median's.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32.

    Raises:
      UserError: not two matrices of equal width, an unknown estimator, an empty sample, or fewer
        than two rows for "unbiased" and "linear".

    >>> one, other = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> mmd(one, other, bandwidths=jnp.ones(1)).round(4)  # 1 + 1 - 2 exp(-1)
    Array(1.2642, dtype=float32)
    """
    if estimator not in ("biased", "unbiased", "linear"):
        hint = nearest(estimator, ("biased", "unbiased", "linear"))
        raise UserError(f"mmd: no estimator {estimator!r}; {hint}")
    source, target = _samples("mmd", source, target, axis_name)
    if estimator != "biased" and min(len(source), len(target)) < 2:
        raise UserError(f"mmd: the {estimator} estimator needs at least two rows of each domain")
    if estimator == "linear":
        return _linear_mmd(source, target, bandwidths)

    n = len(source)
    distances = _squared_distances(jnp.concatenate([source, target]))
    if bandwidths is None:
        bandwidths = _bandwidths(distances[np.triu_indices(len(distances), 1)])
    kernel = _kernel(distances, bandwidths)
    within_source, within_target = kernel[:n, :n], kernel[n:, n:]
    across = kernel[:n, n:].mean()
    if estimator == "biased":
        return within_source.mean() + within_target.mean() - 2 * across
    return _mean_off_diagonal(within_source) + _mean_off_diagonal(within_target) - 2 * across


def coral(
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    *,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Distance between two samples' covariances: ``||C_s - C_t||_F^2 / (4 d^2)``.

    The covariances are the unbiased ones, divided by the rows less one (Deep CORAL, Sun and
    Saenko, 2016, arXiv 1607.01719). It is blind to a shift of the mean.

    Args:
      source: [source, features].
      target: [target, features]; the two samples may differ in their number of rows.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative.

    Raises:
      UserError: not two matrices of equal width, or fewer than two rows in one.

    >>> coral(jnp.array([[-1.0], [1.0]]), jnp.array([[5.0], [5.0]]))  # (2 - 0)^2 / 4
    Array(1., dtype=float32)
    """
    source, target = _samples("coral", source, target, axis_name)
    if min(len(source), len(target)) < 2:
        raise UserError("coral: a covariance needs at least two rows of each domain")
    gap = _covariance(source) - _covariance(target)
    return jnp.sum(gap**2) / (4 * source.shape[1] ** 2)


def _samples(
    name: str, source: Array, target: Array, axis_name: AxisName
) -> tuple[jax.Array, jax.Array]:
    source = global_batch(as_matrix(f"{name}: source", source, rows=1), axis_name)
    target = global_batch(as_matrix(f"{name}: target", target, rows=1), axis_name)
    require_same_columns(f"{name}: source and target", source, target)
    return source, target


def _covariance(rows: Float[jax.Array, "rows features"]) -> Float[jax.Array, "features features"]:
    centred = rows - rows.mean(axis=0, keepdims=True)
    # Accelerators multiply float32 matrices in lower precision unless told otherwise.
    return jnp.matmul(centred.T, centred, precision="highest") / (len(rows) - 1)


def _squared_distances(rows: Float[jax.Array, "rows features"]) -> Float[jax.Array, "rows rows"]:
    """Between all rows, from one product of matrices: never a [rows, rows, features] array.

    Far from the origin ``|x|^2 + |y|^2 - 2xy`` loses all digits and reaches below 0, so the rows
    are centred first (which changes no distance, hence no gradient either) and the result clamped.
    """
    rows = rows - jax.lax.stop_gradient(rows.mean(axis=0, keepdims=True))
    squares = jnp.sum(rows**2, axis=1)
    products = jnp.matmul(rows, rows.T, precision="highest")
    distances = jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    return jnp.where(np.eye(len(rows), dtype=bool), 0.0, distances)


def _bandwidths(distances: Float[jax.Array, " pairs"]) -> Float[jax.Array, " kernels"]:
    """Octaves around the median; around the mean where most rows are equal; around 1 if all are."""
    distances = jax.lax.stop_gradient(distances)
    median, mean = jnp.median(distances), jnp.mean(distances)
    scale = jnp.where(median > 0, median, jnp.where(mean > 0, mean, 1.0))
    return scale * jnp.asarray(_OCTAVES, jnp.float32)


def _kernel(distances: jax.Array, bandwidths: Array) -> jax.Array:
    """The mixture at each squared distance; the kernels' weights sum to 1."""
    widths = jax.lax.stop_gradient(jnp.asarray(bandwidths, jnp.float32))
    total = jnp.zeros_like(distances)
    # One kernel after another: an array of [kernels, rows, rows] would be five times the memory.
    for kernel in range(len(widths)):
        total += jnp.exp(-distances / widths[kernel])
    return total / len(widths)


def _mean_off_diagonal(kernel: Float[jax.Array, "n n"]) -> Float[jax.Array, ""]:
    n = len(kernel)
    return (kernel.sum() - jnp.trace(kernel)) / (n * (n - 1))


def _linear_mmd(
    source: Float[jax.Array, "source features"],
    target: Float[jax.Array, "target features"],
    bandwidths: Array | None,
) -> Float[jax.Array, ""]:
    rows = min(len(source), len(target)) // 2 * 2
    s1, s2 = source[0:rows:2], source[1:rows:2]
    t1, t2 = target[0:rows:2], target[1:rows:2]
    pairs = ((s1, s2), (t1, t2), (s1, t2), (s2, t1))
    distances = jnp.stack([jnp.sum((x - y) ** 2, axis=1) for x, y in pairs])
    if bandwidths is None:
        bandwidths = _bandwidths(distances.ravel())
    kernel = _kernel(distances, bandwidths)
    return jnp.mean(kernel[0] + kernel[1] - kernel[2] - kernel[3])
