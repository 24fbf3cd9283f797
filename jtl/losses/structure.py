"""Losses that read how the predictions of a whole batch are arranged, without labels."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jtl.losses._numerics import AxisName, masked_batch, masked_mean, require_positive, x_log_x
from jtl.losses._spectrum import singular_values
from jtl.losses.classification import entropy
from jtl.types import Array


def minimum_class_confusion(
    logits: Float[Array, "examples classes"],
    *,
    temperature: float | Float[Array, ""] = 2.5,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How much the predictions of a batch confuse each class with the others.

    With ``p = softmax(logits / T)`` and the weights ``w_i = B (1 + exp(-H(p_i))) / sum_j (1 +
    exp(-H(p_j)))``, which carry no gradient, ``M = p^T diag(w) p``; its rows are divided by their
    sums; the loss is the mass off the diagonal over the number of classes (Jin et al., 2020,
    arXiv 1912.03699).

    Args:
      logits: [examples, classes]. A class without any mass confuses nothing: it adds 0 (the
        formula says 0/0).
      temperature: T, positive.
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, from 0 (every prediction certain) to 1 - 1 / classes.

    Raises:
      UserError: not a matrix, no example, a mask of another length, or a temperature that is not
        positive.

    >>> minimum_class_confusion(jnp.zeros((2, 2)))
    Array(0.5, dtype=float32)
    """
    require_positive("minimum_class_confusion: temperature", temperature)
    logits, mask = masked_batch("minimum_class_confusion: logits", logits, where, axis_name)
    logits = logits / temperature
    log_p = jax.nn.log_softmax(logits)
    # A row of M sums to sum_i w_i p_ij, so M divided by it is q^T p, where q_ij is w_i p_ij over
    # that sum: a softmax over examples. It needs no division by a mass that may underflow to 0.
    log_weights = jax.lax.stop_gradient(jnp.log1p(jnp.exp(-entropy(logits))))
    masses = jnp.where(mask[:, None], log_p + log_weights[:, None], -jnp.inf)
    has_mass = jnp.any(masses > -jnp.inf, axis=0, keepdims=True)
    q = jax.nn.softmax(jnp.where(has_mass, masses, 0.0), axis=0)
    kept = jnp.sum(q * jnp.exp(log_p), axis=0)
    return jnp.sum(jnp.where(has_mass[0], 1 - kept, 0.0)) / logits.shape[1]


def information_maximization(
    logits: Float[Array, "examples classes"],
    *,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """``mean_i H(p_i) - H(mean_i p_i)``: each prediction certain, the batch of them diverse.

    Minus the mutual information between input and prediction (SHOT, Liang et al., 2020,
    arXiv 2002.08546, equations 3 and 4 with equal weights).

    Args:
      logits: [examples, classes].
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, from -log(classes) (certain and balanced) to 0 (all predictions equal).

    Raises:
      UserError: not a matrix, no example, or a mask of another length.

    >>> information_maximization(jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]]))  # -log 2
    Array(-0.6931472, dtype=float32)
    """
    logits, mask = masked_batch("information_maximization: logits", logits, where, axis_name)
    mean_prediction = masked_mean(jax.nn.softmax(logits), mask)
    return masked_mean(entropy(logits), mask) + jnp.sum(x_log_x(mean_prediction))


def batch_nuclear_norm(
    logits: Float[Array, "examples classes"],
    *,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """``-||P||_* / B``: minus the sum of the singular values of the predictions, per example.

    Minimised, it makes predictions certain and diverse at once (Cui et al., 2020,
    arXiv 2003.12237, equation 10; the authors' code divides by min(B, classes) instead).

    Args:
      logits: [examples, classes], whose softmax is P.
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, from -sqrt(min(B, classes) / B) to 0. Where P is rank-deficient the
      gradient is the smallest subgradient, and finite.

    Raises:
      UserError: not a matrix, no example, or a mask of another length.

    >>> batch_nuclear_norm(jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]]))  # the identity's
    Array(-1., dtype=float32)
    """
    logits, mask = masked_batch("batch_nuclear_norm: logits", logits, where, axis_name)
    predictions = jnp.where(mask[:, None], jax.nn.softmax(logits), 0.0)
    singular = singular_values(predictions)
    # A singular value of 0 has any slope from -1 to 1: rounding must not choose it.
    rounding = jnp.finfo(jnp.float32).eps * max(logits.shape) * singular[0]
    kept = jnp.where(singular <= rounding, 0.0, singular)
    return -kept.sum() / jnp.maximum(mask.sum(dtype=jnp.float32), 1.0)
