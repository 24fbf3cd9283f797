"""Losses of two networks that pull features in opposite directions."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jtl.errors import UserError
from jtl.losses._numerics import (
    AxisName,
    as_vector,
    global_batch,
    masked_batch,
    masked_mean,
    require_positive,
    require_same_shape,
)
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
        ``sum(w loss) / sum(w)``; not negative. A weight of 0 leaves an example out, whatever its
        logit, NaN included. A domain whose weights are all 0 contributes 0.
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
    source = _domain_mean("source", source_logits, -1, source_weights, axis_name)
    target = _domain_mean("target", target_logits, 1, target_weights, axis_name)
    return (source + target) / 2


def _domain_mean(
    domain: str, logits: Array, sign: int, weights: Array | None, axis_name: AxisName
) -> Float[jax.Array, ""]:
    logits = as_vector(f"domain_adversarial: {domain}_logits", logits, rows=1)
    if weights is None:
        return global_batch(jax.nn.softplus(sign * logits), axis_name).mean()
    require_same_shape(f"domain_adversarial: {domain} logits and weights", logits, weights)
    weights = as_vector(f"{domain}_weights", weights)
    # 0 times infinity is NaN, and so is the gradient of 0 times NaN.
    left_out = (weights == 0) & ~jnp.isfinite(logits)
    losses = jax.nn.softplus(sign * jnp.where(left_out, 0.0, logits))
    total = global_batch(weights, axis_name).sum()
    weighted = global_batch(weights * losses, axis_name).sum()
    return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), 0.0)


def classifier_discrepancy(
    first_logits: Float[Array, "examples classes"],
    second_logits: Float[Array, "examples classes"],
    *,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How far two classifiers disagree: ``mean |softmax(first) - softmax(second)|``.

    The mean is over examples and classes. In maximum classifier discrepancy the two heads
    maximise it on the target and the backbone minimises it (Saito et al., 2018, arXiv 1712.02560,
    equation 9).

    Args:
      first_logits: [examples, classes].
      second_logits: [examples, classes].
      where: [examples], which rows count; the others are as if they were not there. Without any,
        the discrepancy is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, from 0 to 2 / classes; where the two agree its gradient is 0.

    Raises:
      UserError: shapes that differ or are not [examples, classes], no example, or a mask of
        another length.

    >>> classifier_discrepancy(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, -jnp.inf]]))
    Array(0.5, dtype=float32)
    """
    require_same_shape("classifier_discrepancy: logits", first_logits, second_logits)
    first, mask = masked_batch(
        "classifier_discrepancy: first_logits", first_logits, where, axis_name
    )
    second, _ = masked_batch(
        "classifier_discrepancy: second_logits", second_logits, where, axis_name
    )
    return masked_mean(jnp.abs(jax.nn.softmax(first) - jax.nn.softmax(second)), mask).mean()


def margin_disparity(
    source_logits: Float[Array, "source classes"],
    source_adversary_logits: Float[Array, "source classes"],
    target_logits: Float[Array, "target classes"],
    target_adversary_logits: Float[Array, "target classes"],
    *,
    margin: float | Float[Array, ""] = 4.0,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How much more an adversary disagrees with the classifier on the target than on the source.

    ``margin * mean_s log p(y) + mean_t log(1 - p(y))``, where ``y`` is the class that the
    classifier's logits choose and ``p = softmax(adversary's logits)`` (margin disparity
    discrepancy, Zhang et al., 2019, arXiv 1904.05801).

    The adversary *maximises* it, the features *minimise* the maximum; the classifier gets no
    gradient from it. With :func:`reverse_gradient` between the features and the adversary, one
    minimisation does both; the minus sign is the adversary's, and the reversal gives the features
    theirs::

        adversary = head(reverse_gradient(features, strength))   # of source and target each
        objective = task - margin_disparity(source, source_adversary, target, target_adversary)

    Args:
      source_logits: [source, classes], the classifier's. Of equal ones the first class is chosen.
      source_adversary_logits: [source, classes], the adversary's on the same examples.
      target_logits: [target, classes]; the domains may differ in their number of examples.
      target_adversary_logits: [target, classes].
      margin: the factor gamma, positive; the paper's default is 4.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. If no row of a domain counts, the loss is 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not positive; the better the adversary, the closer to 0. Its gradient
      is finite at every logit: ``log(1 - p)`` is computed from the other classes' logits, so an
      adversary that is certain of ``y`` still learns to leave it.

    Raises:
      UserError: shapes that differ within a domain, a domain without examples, fewer than two
        classes, a mask of another length, or a margin that is not positive.

    >>> even = jnp.zeros((1, 2))
    >>> margin_disparity(even, even, even, even, margin=2.0)  # 2 log 1/2 + log 1/2
    Array(-2.0794415, dtype=float32)
    """
    require_positive("margin_disparity: margin", margin)
    on_source, of_source = _chosen_log_probabilities(
        "source", source_logits, source_adversary_logits, source_where, axis_name
    )
    on_target, of_target = _chosen_log_probabilities(
        "target", target_logits, target_adversary_logits, target_where, axis_name
    )
    agrees, disagrees = on_source[:, 0], on_target[:, 1]
    value = margin * masked_mean(agrees, of_source) + masked_mean(disagrees, of_target)
    return jnp.where(of_source.any() & of_target.any(), value, 0.0)


def _chosen_log_probabilities(
    domain: str, logits: Array, adversary_logits: Array, where: Array | None, axis_name: AxisName
) -> tuple[Float[jax.Array, "examples 2"], Bool[jax.Array, " examples"]]:
    """The adversary's ``log p`` and ``log(1 - p)`` of the class that the classifier chooses."""
    name = f"margin_disparity: {domain}"
    require_same_shape(f"{name} logits", logits, adversary_logits)
    logits, mask = masked_batch(f"{name}_logits", logits, where, axis_name)
    adversary, _ = masked_batch(f"{name}_adversary_logits", adversary_logits, where, axis_name)
    classes = logits.shape[1]
    if classes < 2:
        raise UserError(f"{name}_logits have one class, needs at least two")
    chosen = jnp.equal(jnp.argmax(logits, axis=1)[:, None], jnp.arange(classes)[None, :])
    log_p = jax.nn.log_softmax(adversary)
    agrees = jnp.sum(jnp.where(chosen, log_p, 0.0), axis=1)
    others = jnp.where(chosen, -jnp.inf, log_p)
    # Without any mass elsewhere the value is -inf, and logsumexp's gradient would be NaN.
    has_mass = jnp.any(others != -jnp.inf, axis=1)
    total = jax.nn.logsumexp(jnp.where(has_mass[:, None], others, 0.0), axis=1)
    return jnp.stack([agrees, jnp.where(has_mass, total, -jnp.inf)], axis=1), mask
