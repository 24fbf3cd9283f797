"""Losses of how long the features of a batch are, row by row or along their principal directions.

Each reads one domain: a method adds the source's and the target's.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jtl.errors import UserError
from jtl.losses._numerics import (
    AxisName,
    masked_batch,
    masked_mean,
    require_positive,
    row_norms,
)
from jtl.losses._spectrum import singular_values
from jtl.types import Array


def adaptive_feature_norm(
    features: Float[Array, "examples features"],
    *,
    step: float | Float[Array, ""] = 1.0,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Lengthens every row: ``mean_i (||f_i|| - (r + ||f_i||))^2``, the second norm held fixed.

    Stepwise adaptive feature norm (Xu et al., 2019, arXiv 1811.07456). The value is
    always ``r^2`` and says nothing; watch the norms instead. The gradient of a row is
    ``-2 r f / (n ||f||)``: the same push outward for all.

    Args:
      features: [examples, features] of one domain. A zero row has no direction and gets gradient
        0.
      step: r, by how much each norm should grow, positive.
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32: ``r^2``, or 0 if no row counts.

    Raises:
      UserError: not a matrix, no example, a mask of another length, or a step that is not
        positive.

    >>> features = jnp.array([[3.0, 4.0]])
    >>> adaptive_feature_norm(features)
    Array(1., dtype=float32)
    >>> jax.grad(adaptive_feature_norm)(features)  # -2 * (3, 4) / 5
    Array([[-1.2, -1.6]], dtype=float32)
    """
    require_positive("adaptive_feature_norm: step", step)
    features, mask = masked_batch("adaptive_feature_norm: features", features, where, axis_name)
    norms = row_norms(features)
    return masked_mean((norms - jax.lax.stop_gradient(norms) - step) ** 2, mask)


def hard_feature_norm(
    features: Float[Array, "examples features"],
    *,
    radius: float | Float[Array, ""] = 25.0,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Pulls the mean norm of a domain to a radius: ``(mean_i ||f_i|| - R)^2``.

    Hard adaptive feature norm (Xu et al., 2019, arXiv 1811.07456): the mean is inside
    the square, so single norms are free to differ.

    Args:
      features: [examples, features] of one domain. A zero row has no direction and gets gradient
        0.
      radius: R, positive.
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32; 0 if no row counts.

    Raises:
      UserError: not a matrix, no example, a mask of another length, or a radius that is not
        positive.

    >>> hard_feature_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]]), radius=2.0)  # (5 / 2 - 2)^2
    Array(0.25, dtype=float32)
    """
    require_positive("hard_feature_norm: radius", radius)
    features, mask = masked_batch("hard_feature_norm: features", features, where, axis_name)
    gap = masked_mean(row_norms(features), mask) - radius
    return jnp.where(mask.any(), gap**2, 0.0)


def batch_spectral_penalty(
    features: Float[Array, "examples features"],
    *,
    k: int = 1,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """The ``k`` largest squared singular values of the features, summed.

    Against adversarial training's habit of moving few directions far (batch spectral penalization,
    Chen et al., ICML 2019, "Transferability vs. Discriminability"), for each domain apart;
    weight 1e-4 in the authors' code. The features are not centred.

    Args:
      features: [examples, features] of one domain.
      k: how many, from 1 to min(examples, features).
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative. It is a sum: it grows with the number of rows. Where
      singular value k equals the next one the gradient is a subgradient, and finite.

    Raises:
      UserError: not a matrix, no example, a mask of another length, or ``k`` out of range.

    >>> batch_spectral_penalty(jnp.array([[3.0, 0.0], [0.0, 1.0]]))  # 3^2
    Array(9., dtype=float32)
    """
    features, _ = masked_batch("batch_spectral_penalty: features", features, where, axis_name)
    _require_count("batch_spectral_penalty", k, features)
    return jnp.sum(singular_values(features)[:k] ** 2)


def batch_spectral_shrinkage(
    features: Float[Array, "examples features"],
    *,
    k: int = 1,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """The ``k`` smallest squared singular values of the features, summed.

    It suppresses the directions in which pretrained features say least about the new task (batch
    spectral shrinkage, Chen et al., NeurIPS 2019, "Catastrophic Forgetting Meets Negative
    Transfer"; weight 1e-3 there). There are min(examples, features)
    singular values. The features are not centred.

    Args:
      features: [examples, features].
      k: how many, from 1 to min(examples, features).
      where: [examples], which rows count; the others are as if they were not there. Where fewer
        than ``k`` singular values are left, all of them are summed.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative; 0, with gradient 0, for a matrix without full rank.

    Raises:
      UserError: not a matrix, no example, a mask of another length, or ``k`` out of range.

    >>> batch_spectral_shrinkage(jnp.array([[3.0, 0.0], [0.0, 1.0]]))  # 1^2
    Array(1., dtype=float32)
    """
    features, mask = masked_batch("batch_spectral_shrinkage: features", features, where, axis_name)
    _require_count("batch_spectral_shrinkage", k, features)
    singular = singular_values(features)
    # Rows that do not count add singular values of 0 at the end, which are not the features'.
    existing = jnp.minimum(mask.sum(), features.shape[1])
    place = jnp.arange(len(singular))
    smallest = (place >= existing - k) & (place < existing)
    return jnp.sum(jnp.where(smallest, singular, 0.0) ** 2)


def _require_count(name: str, k: int, features: jax.Array) -> None:
    if not 1 <= k <= min(features.shape):
        raise UserError(
            f"{name}: k is {k}, must be from 1 to {min(features.shape)}, "
            f"the singular values of features {list(features.shape)}"
        )
