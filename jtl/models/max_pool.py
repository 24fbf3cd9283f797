"""Max-pooling whose gradient is quick on CPU.

There XLA runs the gradient of a pooling window as a scatter. It is written as maxima of shifted
slices, with its gradient spelled out; other platforms keep the native operation. All images are
[B, H, W, C], and equal values pass the gradient to the first of them, row by row.
"""

from functools import reduce
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax

from jtl.models.layers import Images


@jax.custom_vjp
def max_pool(x: Images) -> Images:
    """The largest value of each 2x2 window: [B, H, W, C] -> [B, H//2, W//2, C].

    The gradient goes to the first of equal values, row by row.
    """
    return lax.platform_dependent(x, cpu=_shifted_max_pool, default=_native_max_pool)


def _native_max_pool(x: Images) -> Images:
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def _windows(x: Images) -> list[Images]:
    height, width = (axis // 2 * 2 for axis in x.shape[1:3])
    return [x[:, row:height:2, column:width:2] for row, column in product(range(2), repeat=2)]


def _shifted_max_pool(x: Images) -> Images:
    first, second, third, fourth = _windows(x)
    return jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth))


def _max_pool_forward(x: Images) -> tuple[Images, Images]:
    return max_pool(x), x


def _max_pool_backward(x: Images, upstream: Images) -> tuple[Images]:
    def native(x: Images, upstream: Images) -> Images:
        return jax.vjp(_native_max_pool, x)[1](upstream)[0]

    return (lax.platform_dependent(x, upstream, cpu=_shifted_max_pool_gradient, default=native),)


def _shifted_max_pool_gradient(x: Images, upstream: Images) -> Images:
    first, second, third, fourth = _windows(x)
    top, bottom = jnp.maximum(first, second), jnp.maximum(third, fourth)
    left = jnp.where(top >= bottom, first >= second, third >= fourth)
    place = jnp.where(top >= bottom, 0, 2) + jnp.where(left, 0, 1)
    # Each value is broadcast to its window and compared with the place in it. To stack the four
    # parts of the windows instead takes a copy, into which XLA fuses all that made the upstream
    # gradient, four times over: the whole step of a small network is then a sixth slower.
    places = jnp.arange(4).reshape(1, 1, 2, 1, 2, 1)
    taken = place[:, :, None, :, None] == places
    whole = jnp.where(taken, upstream[:, :, None, :, None], 0)
    batch, height, width, channels = upstream.shape
    whole = whole.reshape(batch, 2 * height, 2 * width, channels)
    odd = [(0, size - even) for size, even in zip(x.shape[1:3], whole.shape[1:3], strict=True)]
    return jnp.pad(whole, [(0, 0), *odd, (0, 0)])


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@jax.custom_vjp
def overlapping_max_pool(x: Images) -> Images:
    """The largest value of 3x3 windows two apart, the first one half outside.

    [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C].
    """
    return lax.platform_dependent(x, cpu=_largest_of_nine, default=_native_overlapping)


def _native_overlapping(x: Images) -> Images:
    edges = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)


def _nine(x: Images) -> list[Images]:
    """What each place of the window sees, row by row."""
    _, height, width, _ = x.shape
    edges = ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0))
    padded = jnp.pad(x, edges, constant_values=-jnp.inf)
    rows, columns = (height + 1) // 2 * 2, (width + 1) // 2 * 2
    return [
        padded[:, row : row + rows : 2, column : column + columns : 2]
        for row, column in product(range(3), repeat=2)
    ]


def _largest_of_nine(x: Images) -> Images:
    return reduce(jnp.maximum, _nine(x))


def _overlapping_forward(x: Images) -> tuple[Images, Images]:
    return overlapping_max_pool(x), x


def _overlapping_backward(x: Images, upstream: Images) -> tuple[Images]:
    def native(x: Images, upstream: Images) -> Images:
        return jax.vjp(_native_overlapping, x)[1](upstream)[0]

    return (lax.platform_dependent(x, upstream, cpu=_gradient_of_nine, default=native),)


def _gradient_of_nine(x: Images, upstream: Images) -> Images:
    largest, zero = _largest_of_nine(x), jnp.zeros((), upstream.dtype)
    free, parts = jnp.ones(largest.shape, bool), []
    for place, seen in zip(product(range(3), repeat=2), _nine(x), strict=True):
        taken = free & (seen == largest)
        free &= ~taken
        # Each window's place, in the image: two apart, from one before its edge.
        spread = [
            (start - 1, size + 1 - start - 2 * (count - 1) - 1, 1)
            for start, size, count in zip(place, x.shape[1:3], largest.shape[1:3], strict=True)
        ]
        gradient = jnp.where(taken, upstream, zero)
        parts.append(lax.pad(gradient, zero, [(0, 0, 0), *spread, (0, 0, 0)]))
    return reduce(jnp.add, parts)


overlapping_max_pool.defvjp(_overlapping_forward, _overlapping_backward)
