"""Convolutions and pooling that are quick where XLA is slow.

On CPU, XLA runs a grouped convolution at a third of the speed of other libraries (its gradient at
a seventh), and the gradient of a pooling window as a scatter. There both are written as sums and
maxima of shifted slices, with their gradients spelled out, and 1x1 convolutions as matrix
products. Other platforms keep the native operation. All images are [B, H, W, C].
"""

import operator
from functools import partial, reduce
from itertools import product

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Float

Images = Float[jax.Array, "batch height width channels"]
Kernel = Float[jax.Array, "rows columns inputs outputs"]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: what does not halve goes to the end.

    PyTorch pads both sides alike, which for an even size and stride 2 is another network.

    >>> same_padding(128, 3, 2)
    (0, 1)
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve(x: Images, kernel: Kernel, stride: int = 1) -> Images:
    """Convolution with SAME padding: [B, H, W, I] -> [B, ceil(H/stride), ceil(W/stride), O]."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: Images, kernel: Kernel, stride: int = 1) -> Images:
    """One filter a channel, SAME padding; the kernel is [k, k, 1, C] and square."""
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_shifted_depthwise, stride=stride),
        default=partial(_native_depthwise, stride=stride),
    )


def _depthwise_forward(x: Images, kernel: Kernel, stride: int) -> tuple[Images, tuple]:
    return depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride: int, saved: tuple, upstream: Images) -> tuple[Images, Kernel]:
    return lax.platform_dependent(
        *saved,
        upstream,
        cpu=partial(_shifted_gradients, stride=stride),
        default=partial(_native_gradients, stride=stride),
    )


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _native_depthwise(x: Images, kernel: Kernel, stride: int) -> Images:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[-1],
    )


def _native_gradients(
    x: Images, kernel: Kernel, upstream: Images, stride: int
) -> tuple[Images, Kernel]:
    return jax.vjp(partial(_native_depthwise, stride=stride), x, kernel)[1](upstream)


def _padded(x: Images, size: int, stride: int) -> Images:
    rows, columns = (same_padding(axis, size, stride) for axis in x.shape[1:3])
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))


def _slices(x: Images, size: int, stride: int) -> list[Images]:
    """What each tap of a [size, size] window sees as it moves over an already padded image."""
    rows, columns = ((axis - size) // stride * stride + 1 for axis in x.shape[1:3])
    return [
        x[:, row : row + rows : stride, column : column + columns : stride]
        for row, column in product(range(size), repeat=2)
    ]


def _weighted(slices: list[Images], kernel: Kernel) -> Images:
    """The sum of the slices, each weighted by its tap of a [k, k, 1, C] kernel."""
    taps = kernel.reshape(len(slices), 1, 1, 1, -1)
    return reduce(operator.add, (part * tap for part, tap in zip(slices, taps, strict=True)))


def _shifted_depthwise(x: Images, kernel: Kernel, stride: int) -> Images:
    size = kernel.shape[0]
    return _weighted(_slices(_padded(x, size, stride), size, stride), kernel)


def _shifted_gradients(
    x: Images, kernel: Kernel, upstream: Images, stride: int
) -> tuple[Images, Kernel]:
    size = kernel.shape[0]
    # Left to autodiff, the input's gradient is a sum of k*k padded images: 8 times slower than
    # the same sum taken over shifted slices of the upstream gradient, spread out and padded once.
    spread = [(0, 0, 0)]
    for axis, out in zip(x.shape[1:3], upstream.shape[1:3], strict=True):
        low = size - 1 - same_padding(axis, size, stride)[0]
        spread.append((low, axis + size - 2 - low - stride * (out - 1), stride - 1))
    dilated = lax.pad(upstream, jnp.zeros((), upstream.dtype), [*spread, (0, 0, 0)])
    input_gradient = _weighted(_slices(dilated, size, 1), kernel[::-1, ::-1])

    # One reduction with k*k results reads the images once; k*k reductions read them k*k times.
    # Each example apart first, which XLA spreads over the cores and which rounds less.
    products = tuple(part * upstream for part in _slices(_padded(x, size, stride), size, stride))
    zero = jnp.zeros((), x.dtype)
    sums = lax.reduce(
        products,
        (zero,) * len(products),
        lambda left, right: tuple(a + b for a, b in zip(left, right, strict=True)),
        (1, 2),
    )
    return input_gradient, jnp.stack(sums).sum(1).reshape(kernel.shape)


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


_init = nnx.initializers.he_normal()


class Conv(nnx.Module):
    """A bias-free [size, size] convolution with SAME padding."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, *, rngs: nnx.Rngs
    ) -> None:
        self.stride = stride
        self.kernel = nnx.Param(_init(rngs.params(), (size, size, inputs, outputs)))

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        """[B, H, W, I] -> [B, ceil(H/stride), ceil(W/stride), O]."""
        del rng
        return convolve(x, self.kernel[...], self.stride)


class Depthwise(nnx.Module):
    """A bias-free depthwise [size, size] convolution with SAME padding."""

    def __init__(self, channels: int, size: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.stride = stride
        self.kernel = nnx.Param(_init(rngs.params(), (size, size, 1, channels)))

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        """[B, H, W, C] -> [B, ceil(H/stride), ceil(W/stride), C]."""
        del rng
        return depthwise(x, self.kernel[...], self.stride)


class Pointwise(nnx.Module):
    """A bias-free 1x1 convolution, as the matrix product that it is: the kernel is [I, O]."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(_init(rngs.params(), (inputs, outputs)))

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Images:
        """[B, H, W, I] -> [B, H, W, O]."""
        del rng
        return x @ self.kernel[...]
