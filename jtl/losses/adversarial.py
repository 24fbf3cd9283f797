"""Losses of two networks that pull features in opposite directions."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jtl.losses._numerics import (
    AxisName,
    as_matrix,
    as_vector,
    global_batch,
    require_same_shape,
)
from jtl.losses.classification import entropy
from jtl.types import Array


def reverse_gradient(
    inputs: Float[Array, "..."], strength: float | Float[Array, ""]
) -> Float[jax.Array, "..."]:
    """The identity, whose gradient is multiplied by ``-strength`` on the way back.

    Placed between the features and a discriminator, it lets one minimisation train both: the
    discriminator's own gradient is not scaled, the backbone's is reversed (Ganin et al., 2015,
    arXiv 1505.07818, equations 14 to 18).

    Args:
      inputs: any shape.
      strength: a scalar, which may be traced and mapped over. No gradient reaches it.

    Returns:
      ``inputs``, unchanged bit for bit.

    >>> jax.grad(lambda x: reverse_gradient(x, 0.5) ** 2)(3.0)  # -0.5 * 2 * 3
    Array(-3., dtype=float32)
    """
    return _reverse_gradient(jnp.asarray(inputs), jnp.asarray(strength, jnp.float32))


@jax.custom_vjp
def _reverse_gradient(inputs: jax.Array, strength: jax.Array) -> jax.Array:
    del strength
    return inputs


def _reverse_gradient_forward(
    inputs: jax.Array, strength: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return inputs, strength


def _reverse_gradient_backward(
    strength: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return -strength.astype(gradient.dtype) * gradient, jnp.zeros_like(strength)


_reverse_gradient.defvjp(_reverse_gradient_forward, _reverse_gradient_backward)


def domain_adversarial(
    source_logits: Float[Array, " source"],
    target_logits: Float[Array, " target"],
    *,
    source_weights: Float[Array, " source"] | None = None,
    target_weights: Float[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How badly a discriminator tells the source (domain label 1) from the target (0).

    ``(mean_s softplus(-logit) + mean_t softplus(logit)) / 2``: binary cross-entropy, averaged in
    each domain and then over the two, so that neither the sizes of the batches nor the number of
    domains change its weight (Ganin et al., 2015, arXiv 1505.07818). The backbone maximises what
    the discriminator minimises: put :func:`reverse_gradient` on the discriminator's inputs.

    Args:
      source_logits: [source], one logit per example, positive for "this is source".
      target_logits: [target], the same; the domains may differ in their number of examples.
      source_weights: [source], how much each example counts in its domain's mean,
        ``sum(w loss) / sum(w)``; not negative. A domain whose weights are all 0 contributes 0.
      target_weights: [target], the same.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32; log 2 for a discriminator that always says "even odds".

    Raises:
      UserError: logits that are not vectors (squeeze [examples, 1]), an empty domain, or weights
        of another length.

    >>> domain_adversarial(jnp.zeros(2), jnp.zeros(3))  # log 2
    Array(0.6931472, dtype=float32)
    """
    source = as_vector("domain_adversarial: source_logits", source_logits, rows=1)
    target = as_vector("domain_adversarial: target_logits", target_logits, rows=1)
    source_loss = _domain_mean("source", jax.nn.softplus(-source), source_weights, axis_name)
    target_loss = _domain_mean("target", jax.nn.softplus(target), target_weights, axis_name)
    return (source_loss + target_loss) / 2


def _domain_mean(
    domain: str, losses: jax.Array, weights: Array | None, axis_name: AxisName
) -> Float[jax.Array, ""]:
    if weights is None:
        return global_batch(losses, axis_name).mean()
    require_same_shape(f"domain_adversarial: {domain} logits and weights", losses, weights)
    weights = global_batch(as_vector(f"{domain}_weights", weights), axis_name)
    total = weights.sum()
    weighted = jnp.sum(weights * global_batch(losses, axis_name))
    return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), 0.0)


def entropy_weights(
    logits: Float[Array, "examples classes"], *, axis_name: AxisName = None
) -> Float[jax.Array, " examples"]:
    """Weights that make certain predictions count up to twice as much as uncertain ones.

    ``1 + exp(-H(p))``, divided by the batch's mean: the "+E" of CDAN+E (Long et al., 2018,
    arXiv 1705.10667), to be computed in each domain apart. They weigh examples and train nothing:
    no gradient passes.

    Args:
      logits: [examples, classes].
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      [examples] in float32, with mean 1 over the (global) batch.

    Raises:
      UserError: ``logits`` is not a matrix, or is empty.

    >>> entropy_weights(jnp.zeros((2, 3)))  # equally uncertain
    Array([1., 1.], dtype=float32)
    """
    logits = as_matrix("entropy_weights: logits", logits, rows=1)
    weights = jax.lax.stop_gradient(1 + jnp.exp(-entropy(logits)))
    return weights / global_batch(weights, axis_name).mean()


def classifier_discrepancy(
    first_logits: Float[Array, "examples classes"],
    second_logits: Float[Array, "examples classes"],
    *,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How far two classifiers disagree: ``mean |softmax(first) - softmax(second)|``.

    The mean is over examples and classes. In maximum classifier discrepancy the two heads
    maximise it on the target and the backbone minimises it (Saito et al., 2018, arXiv 1712.02560,
    equation 9).

    Args:
      first_logits: [examples, classes].
      second_logits: [examples, classes].
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, from 0 to 2 / classes; where the two agree its gradient is 0.

    Raises:
      UserError: shapes that differ or are not [examples, classes], or no example.

    >>> classifier_discrepancy(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, -jnp.inf]]))
    Array(0.5, dtype=float32)
    """
    require_same_shape("classifier_discrepancy: logits", first_logits, second_logits)
    first = jax.nn.softmax(as_matrix("classifier_discrepancy: first_logits", first_logits, rows=1))
    second = jax.nn.softmax(as_matrix("classifier_discrepancy: second_logits", second_logits))
    return global_batch(jnp.abs(first - second), axis_name).mean()
