"""Batch norm after a convolution: folded into it, or with its gradient spelled out.

Ioffe and Szegedy, ICML 2015, arXiv 1502.03167. Left to autodiff, the gradient in training keeps
what is centred beside what it is made of, and reads both: on a CPU twice the time of the one below.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Float

from jtl.models.layers import Conv, Depthwise, Images, Pointwise, lifted

Values = Float[jax.Array, "*places channels"]
Channels = Float[jax.Array, " channels"]


def normed(conv: Conv | Depthwise | Pointwise, norm: nnx.Module, x: Images) -> Images:
    """``norm(conv(x))``; a batch norm on stored statistics is folded into the convolution."""
    if isinstance(norm, nnx.BatchNorm) and norm.use_running_average:
        assert norm.scale is not None and norm.bias is not None  # jtl has no batch norm without
        factor = norm.scale * lax.rsqrt(norm.var[...] + norm.epsilon)
        y = conv(x, factor)
        return y + lifted(norm.bias - norm.mean * factor, x.ndim).astype(y.dtype)
    if isinstance(norm, nnx.BatchNorm):
        return by_batch(norm, conv(x))
    return norm(conv(x))


def by_batch(norm: nnx.BatchNorm, x: Values) -> Values:
    """What a norm in training mode makes of ``x``; its running statistics move.

    Mean and variance are of all but the last axis, and of all devices of its mapped axis.
    """
    assert norm.scale is not None and norm.bias is not None  # jtl has no batch norm without
    y, mean, variance = _normalised(
        x, norm.scale[...], norm.bias[...], norm.epsilon, norm.axis_name
    )
    for kept, new in ((norm.mean, mean), (norm.var, variance)):
        kept[...] = norm.momentum * kept[...] + (1 - norm.momentum) * lax.stop_gradient(new)
    return y


def _outputs(
    x: Values, scale: Channels, bias: Channels, epsilon: float, axis_name: str | None
) -> tuple[Values, Channels, Channels]:
    """The values normalised, their mean and their variance; the last two have no gradient."""
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(
    x: Values, scale: Channels, bias: Channels, epsilon: float, axis_name: str | None
) -> tuple[tuple[Values, Channels, Channels], tuple]:
    exact = x.astype(jnp.float32)
    mean, square = _means((exact, exact * exact), axis_name)
    variance = jnp.maximum(square - mean * mean, 0.0)
    inverse = lax.rsqrt(variance + epsilon)
    factor = lifted(inverse * scale, x.ndim)
    y = (exact - lifted(mean, x.ndim)) * factor + lifted(bias, x.ndim)
    return (y.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


def _backward(
    epsilon: float, axis_name: str | None, saved: tuple, upstream: tuple
) -> tuple[Values, Channels, Channels]:
    del epsilon
    x, scale, mean, inverse = saved
    exact, gradient = x.astype(jnp.float32), upstream[0].astype(jnp.float32)
    # Not of ``gradient * (x - mean)``: what is centred would be written to memory, to be summed.
    of_bias, of_values = _means((gradient, gradient * exact), None)
    of_centred = of_values - mean * of_bias
    # Every device has the gradient of the parameters by its own values, and that of its values by
    # the loss of all devices.
    mean_gradient, along = of_bias, of_centred * inverse**2
    if axis_name is not None:
        mean_gradient, along = lax.pmean((mean_gradient, along), axis_name)
    centred = exact - lifted(mean, x.ndim)
    left = gradient - lifted(mean_gradient, x.ndim) - centred * lifted(along, x.ndim)
    count = x.size // x.shape[-1]
    return (
        (left * lifted(inverse * scale, x.ndim)).astype(x.dtype),
        (count * of_centred * inverse).astype(scale.dtype),
        (count * of_bias).astype(scale.dtype),
    )


_normalised = jax.custom_vjp(_outputs, nondiff_argnums=(3, 4))
_normalised.defvjp(_forward, _backward)


def _means(parts: tuple[Values, ...], axis_name: str | None) -> tuple[Channels, ...]:
    """The mean of each over all but the last axis."""
    means = tuple(part.mean(range(part.ndim - 1)) for part in parts)
    return means if axis_name is None else lax.pmean(means, axis_name)
