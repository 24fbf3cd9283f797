"""Losses of predictions against labels, teachers or nothing: one value per example."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from jtl.errors import UserError
from jtl.losses._numerics import as_labels, as_matrix, require_positive, require_same_shape
from jtl.types import Array


def cross_entropy(
    logits: Float[Array, "examples classes"],
    labels: Integer[Array, " examples"],
    *,
    label_smoothing: float | Float[Array, ""] = 0.0,
) -> Float[jax.Array, " examples"]:
    """Cross-entropy of each prediction with its label, in nats.

    ``-sum_c q_c log softmax(logits)_c``, where ``q`` is 1 at the label; label smoothing takes
    ``label_smoothing`` of that and spreads it evenly over all classes, the label's included
    (Szegedy et al., 2015, arXiv 1512.00567).

    Args:
      logits: [examples, classes]; -inf excludes a class (the gradient stays finite). Label
        smoothing wants some of every class: with it the loss is inf there.
      labels: [examples], integers from 0 to classes - 1. Any other label gives NaN, so that a
        run stops rather than learns from it.
      label_smoothing: from 0 (none) to 1, which is excluded: it would leave nothing of the labels.

    Returns:
      [examples], in float32.

    Raises:
      UserError: wrong ranks, lengths that differ, or ``label_smoothing`` outside [0, 1).

    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))  # log 4
    Array([1.3862944], dtype=float32)
    """
    if isinstance(label_smoothing, int | float) and not 0 <= label_smoothing < 1:
        raise UserError(f"cross_entropy: label_smoothing is {label_smoothing}, must be in [0, 1)")
    log_probabilities = jax.nn.log_softmax(as_matrix("cross_entropy logits", logits))
    is_label = _label_mask("cross_entropy", log_probabilities, labels)
    classes = logits.shape[1]
    smoothing = jnp.asarray(label_smoothing, jnp.float32)
    wanted = jnp.where(is_label, 1 - smoothing + smoothing / classes, smoothing / classes)
    # A class that is not wanted at all may have log-probability -inf, and 0 * -inf is NaN.
    losses = -jnp.sum(wanted * jnp.where(wanted > 0, log_probabilities, 0.0), axis=-1)
    return jnp.where(is_label.any(axis=-1), losses, jnp.nan)


def focal(
    logits: Float[Array, "examples classes"],
    labels: Integer[Array, " examples"],
    *,
    gamma: float | Float[Array, ""] = 2.0,
) -> Float[jax.Array, " examples"]:
    """Cross-entropy with easy examples weighted down.

    ``-(1 - p)^gamma log p`` for the probability ``p`` of the label (Lin et al., 2017,
    arXiv 1708.02002, in its form for several classes and without class weights).

    Args:
      logits: [examples, classes].
      labels: [examples], integers from 0 to classes - 1; any other label gives NaN.
      gamma: 0 is the cross-entropy; the larger, the more the hard examples count.

    Returns:
      [examples], in float32.

    Raises:
      UserError: wrong ranks, lengths that differ, or a negative ``gamma``.

    >>> focal(jnp.zeros((1, 2)), jnp.array([0]), gamma=2.0)  # log(2) / 4
    Array([0.1732868], dtype=float32)
    """
    if isinstance(gamma, int | float) and gamma < 0:
        raise UserError(f"focal: gamma is {gamma}, must not be negative")
    log_probabilities = jax.nn.log_softmax(as_matrix("focal logits", logits))
    is_label = _label_mask("focal", log_probabilities, labels)
    log_p = jnp.sum(jnp.where(is_label, log_probabilities, 0.0), axis=-1)
    # At p = 0 the loss is the cross-entropy, infinite; the factor's gradient there is 0 * inf. At
    # p = 1 it is 0, and a power below 1 has an infinite slope.
    inside = (log_p < 0) & (log_p > -jnp.inf)
    safe = jnp.where(inside, log_p, -1.0)
    gamma = jnp.asarray(gamma, jnp.float32)
    losses = jnp.where(inside, -((-jnp.expm1(safe)) ** gamma) * safe, -log_p)
    return jnp.where(is_label.any(axis=-1), losses, jnp.nan)


def entropy(logits: Float[Array, "examples classes"]) -> Float[jax.Array, " examples"]:
    """Entropy of each prediction, in nats: ``-sum_c p_c log p_c`` with ``p = softmax(logits)``.

    Minimised on unlabelled examples it is entropy minimisation (Grandvalet and Bengio, 2004).

    Args:
      logits: [examples, classes]; classes of probability 0 contribute 0.

    Returns:
      [examples], in float32, from 0 to log(classes).

    Raises:
      UserError: ``logits`` is not a matrix.

    >>> entropy(jnp.zeros((1, 4)))  # log 4
    Array([1.3862944], dtype=float32)
    """
    log_probabilities = jax.nn.log_softmax(as_matrix("entropy logits", logits))
    probabilities = jnp.exp(log_probabilities)
    finite = jnp.where(probabilities > 0, log_probabilities, 0.0)
    return -jnp.sum(probabilities * finite, axis=-1)


def distillation(
    student_logits: Float[Array, "examples classes"],
    teacher_logits: Float[Array, "examples classes"],
    *,
    temperature: float | Float[Array, ""],
) -> Float[jax.Array, " examples"]:
    """How far each prediction of a student is from the teacher's, both softened.

    ``T^2 KL(softmax(teacher / T) || softmax(student / T))`` (Hinton et al., 2015,
    arXiv 1503.02531). The paper's cross-entropy differs from this by the teacher's entropy, which
    moves no student. ``T^2`` keeps the gradient's size independent of ``T``. No gradient reaches
    the teacher.

    Args:
      student_logits: [examples, classes].
      teacher_logits: [examples, classes].
      temperature: T, positive.

    Returns:
      [examples], in float32, 0 where student and teacher agree.

    Raises:
      UserError: shapes that differ, or a temperature that is not positive.

    >>> student, teacher = jnp.zeros((1, 2)), jnp.array([[0.0, -jnp.inf]])
    >>> distillation(student, teacher, temperature=2.0)  # 4 log 2
    Array([2.7725887], dtype=float32)
    """
    require_positive("distillation: temperature", temperature)
    require_same_shape("distillation: student and teacher", student_logits, teacher_logits)
    temperature = jnp.asarray(temperature, jnp.float32)
    teacher = jax.lax.stop_gradient(as_matrix("distillation teacher", teacher_logits))
    student = jax.nn.log_softmax(as_matrix("distillation student", student_logits) / temperature)
    teacher = jax.nn.log_softmax(teacher / temperature)
    probabilities = jnp.exp(teacher)
    gaps = jnp.where(probabilities > 0, teacher - student, 0.0)
    return temperature**2 * jnp.sum(probabilities * gaps, axis=-1)


def _label_mask(
    name: str, logits: Float[jax.Array, "examples classes"], labels: Integer[Array, " examples"]
) -> jax.Array:
    """True at each example's label; a row of False where the label is no class."""
    classes = jnp.arange(logits.shape[1], dtype=jnp.int32)
    return jnp.equal(as_labels(name, labels, logits)[:, None], classes[None, :])
