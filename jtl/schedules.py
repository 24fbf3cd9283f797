"""Schedules: functions of progress, which is 0 at the first step of training and 1 at its end.

They take a number, a traced scalar or an array of progresses, and return float32 of its shape.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jtl.errors import UserError
from jtl.types import Array

Progress = float | Float[Array, "*shape"]


def adversarial_strength(
    progress: Progress, *, sharpness: float | Float[Array, ""] = 10.0
) -> Float[jax.Array, "*shape"]:
    """Rises from 0 to almost 1: ``2 / (1 + exp(-sharpness * progress)) - 1``.

    The strength of gradient reversal (Ganin et al., 2015, arXiv 1505.07818, section 5.2.2), which
    keeps an untrained discriminator from spoiling the features.

    >>> adversarial_strength(0.0), adversarial_strength(1.0).round(4)
    (Array(0., dtype=float32), Array(0.9999, dtype=float32))
    """
    # The same function as the formula, without its cancellation near 0.
    return jnp.tanh(_scalars(progress) * _scalars(sharpness) / 2)


def constant(progress: Progress) -> Float[jax.Array, "*shape"]:
    """1 throughout.

    >>> constant(0.5)
    Array(1., dtype=float32)
    """
    return jnp.ones_like(_scalars(progress))


def inverse_decay(
    progress: Progress,
    *,
    alpha: float | Float[Array, ""] = 10.0,
    power: float | Float[Array, ""] = 0.75,
) -> Float[jax.Array, "*shape"]:
    """Falls from 1: ``(1 + alpha * progress) ** -power``.

    The learning rate's factor of Ganin et al. (2015, arXiv 1505.07818, section 5.2.2), which most
    domain adaptation papers kept.

    >>> inverse_decay(0.0), inverse_decay(1.5, power=0.5)  # 1, 1/4
    (Array(1., dtype=float32), Array(0.25, dtype=float32))
    """
    return (1 + _scalars(alpha) * _scalars(progress)) ** -_scalars(power)


def cosine_decay(
    progress: Progress, *, final: float | Float[Array, ""] = 0.0
) -> Float[jax.Array, "*shape"]:
    """Falls from 1 to ``final`` along half a cosine: ``final + (1 - final) (1 + cos(pi t)) / 2``.

    Loshchilov and Hutter, 2016, arXiv 1608.03983, without restarts. Progress past 1 stays there.

    >>> cosine_decay(0.0), cosine_decay(1.0, final=0.1)
    (Array(1., dtype=float32), Array(0.1, dtype=float32))
    """
    progress = jnp.clip(_scalars(progress), 0, 1)
    return _scalars(final) + (1 - _scalars(final)) * (1 + jnp.cos(jnp.pi * progress)) / 2


def warm_up(progress: Progress, fraction: float) -> Float[jax.Array, "*shape"]:
    """Rises in a straight line from 0 to 1 over the first ``fraction`` of training (0: at once).

    A factor for the learning rate, multiplied with a decay (Goyal et al., 2017,
    arXiv 1706.02677).

    Raises:
      UserError: ``fraction`` is outside 0 to 1.

    >>> warm_up(0.05, 0.1), warm_up(0.5, 0.1)
    (Array(0.5, dtype=float32), Array(1., dtype=float32))
    """
    return ramp(progress, start=0.0, end=fraction)


def ramp(progress: Progress, *, start: float = 0.0, end: float = 1.0) -> Float[jax.Array, "*shape"]:
    """0 until ``start``, then a straight line to 1 at ``end``; a step where the two are equal.

    Raises:
      UserError: not ``0 <= start <= end <= 1``.

    >>> ramp(0.5, start=0.25, end=0.75), ramp(0.9, start=0.25, end=0.75)
    (Array(0.5, dtype=float32), Array(1., dtype=float32))
    """
    if not 0 <= start <= end <= 1:
        raise UserError(f"schedule: rises from {start} to {end}, must be 0 <= start <= end <= 1")
    progress = _scalars(progress)
    if start == end:
        return jnp.where(progress >= start, 1.0, 0.0)
    return jnp.clip((progress - start) / (end - start), 0, 1)


def _scalars(value: float | Array) -> jax.Array:
    return jnp.asarray(value, jnp.float32)
