"""Convolutions that are quick where XLA is slow.

On CPU, XLA runs a grouped convolution at a third of the speed of other libraries, its gradient at
a seventh. There it is written as a sum of shifted slices, with its gradients spelled out; other
platforms keep the native operation. 1x1 convolutions are matrix products everywhere. All images
are [B, H, W, C].
"""

import itertools
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Float

from jtl.types import Array

Images = Float[jax.Array, "batch height width channels"]
Kernel = Float[jax.Array, "rows columns inputs outputs"]

Padding = Callable[[int, int, int], tuple[int, int]]
"""``padding(size, kernel, stride) -> (before, after)``, of one axis."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: what does not halve goes to the end.

    PyTorch pads both sides alike, which for an even size and stride 2 is another network.

    >>> same_padding(128, 3, 2)
    (0, 1)
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def even_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """PyTorch's usual padding: half the kernel on either side.

    >>> even_padding(128, 3, 2)
    (1, 1)
    """
    del size, stride
    return kernel // 2, kernel // 2


def lifted(values: Array, ndim: int) -> jax.Array:
    """Values with axes of 1 before their own, so that they meet the last axes of an array.

    >>> lifted(jnp.zeros(3), 4).shape
    (1, 1, 1, 3)
    """
    return jnp.reshape(values, (1,) * (ndim - values.ndim) + values.shape)


def product(
    x: Float[jax.Array, "*rows inputs"], kernel: Float[jax.Array, "inputs outputs"]
) -> jax.Array:
    """Each row times a matrix: [..., I] -> [..., O].

    As a product of two matrices, which it stays when a gradient is taken: of more axes, XLA would
    move the last one of the upstream gradient to the front, and take up to twice as long.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def convolve(x: Images, kernel: Kernel, stride: int = 1, padding: Padding = same_padding) -> Images:
    """Convolution: [B, H, W, I] -> [B, ceil(H/stride), ceil(W/stride), O]."""
    edges = _edges(x, kernel.shape[0], stride, padding)
    return lax.conv_general_dilated(x, kernel, (stride, stride), edges, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Images, kernel: Kernel, stride: int = 1, padding: Padding = same_padding
) -> Images:
    """One filter a channel: [B, H, W, C] -> [B, ceil(H/stride), ceil(W/stride), C].

    The kernel is [k, k, 1, C] and square.
    """
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_shifted_depthwise, stride=stride, padding=padding),
        default=partial(_native_depthwise, stride=stride, padding=padding),
    )


def _depthwise_forward(
    x: Images, kernel: Kernel, stride: int, padding: Padding
) -> tuple[Images, tuple]:
    return depthwise(x, kernel, stride, padding), (x, kernel)


def _depthwise_backward(
    stride: int, padding: Padding, saved: tuple, upstream: Images
) -> tuple[Images, Kernel]:
    return lax.platform_dependent(
        *saved,
        upstream,
        cpu=partial(_shifted_gradients, stride=stride, padding=padding),
        default=partial(_native_gradients, stride=stride, padding=padding),
    )


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _native_depthwise(x: Images, kernel: Kernel, stride: int, padding: Padding) -> Images:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _edges(x, kernel.shape[0], stride, padding),
        dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[-1],
    )


def _native_gradients(
    x: Images, kernel: Kernel, upstream: Images, stride: int, padding: Padding
) -> tuple[Images, Kernel]:
    run = partial(_native_depthwise, stride=stride, padding=padding)
    return jax.vjp(run, x, kernel)[1](upstream)


def _edges(x: Images, size: int, stride: int, padding: Padding) -> list[tuple[int, int]]:
    """The padding of rows and of columns."""
    return [padding(axis, size, stride) for axis in x.shape[1:3]]


def _padded(x: Images, size: int, stride: int, padding: Padding) -> Images:
    return jnp.pad(x, ((0, 0), *_edges(x, size, stride, padding), (0, 0)))


def _slices(x: Images, size: int, stride: int) -> list[Images]:
    """What each tap of a [size, size] window sees as it moves over an already padded image."""
    rows, columns = ((axis - size) // stride * stride + 1 for axis in x.shape[1:3])
    return [
        x[:, row : row + rows : stride, column : column + columns : stride]
        for row, column in itertools.product(range(size), repeat=2)
    ]


def _weighted(slices: list[Images], kernel: Kernel) -> Images:
    """The sum of the slices, each weighted by its tap of a [k, k, 1, C] kernel."""
    taps = kernel.reshape(len(slices), 1, 1, 1, -1)
    return reduce(operator.add, (part * tap for part, tap in zip(slices, taps, strict=True)))


def _shifted_depthwise(x: Images, kernel: Kernel, stride: int, padding: Padding) -> Images:
    size = kernel.shape[0]
    return _weighted(_slices(_padded(x, size, stride, padding), size, stride), kernel)


def _shifted_gradients(
    x: Images, kernel: Kernel, upstream: Images, stride: int, padding: Padding
) -> tuple[Images, Kernel]:
    size = kernel.shape[0]
    # One reduction with k*k results reads the images once; k*k reductions read them k*k times.
    # Each example apart first, which XLA spreads over the cores and which rounds less.
    slices = _slices(_padded(x, size, stride, padding), size, stride)
    products = tuple(part * upstream for part in slices)
    zero = jnp.zeros((), x.dtype)
    sums = lax.reduce(
        products,
        (zero,) * len(products),
        lambda left, right: tuple(a + b for a, b in zip(left, right, strict=True)),
        (1, 2),
    )
    return (
        _input_gradient(x, kernel, upstream, stride, padding),
        jnp.stack(sums).sum(1).reshape(kernel.shape),
    )


def _input_gradient(
    x: Images, kernel: Kernel, upstream: Images, stride: int, padding: Padding
) -> Images:
    """Left to autodiff, a sum of k*k padded images: 8 times slower than shifted slices.

    Pixels whose places leave the same remainders, divided by the stride, are seen by the same taps:
    each such phase is a sum over its own taps alone, and the phases are put together at the end.
    """
    size, sides = kernel.shape[0], x.shape[1:3]
    counts = [-(-side // stride) for side in sides]
    edges = [(size, size + n - out) for n, out in zip(counts, upstream.shape[1:3], strict=True)]
    padded = jnp.pad(upstream, ((0, 0), *edges, (0, 0)))
    seen = [_seen_by(padding(side, size, stride)[0], size, stride) for side in sides]

    def phase(rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> Images:
        return reduce(
            operator.add,
            (
                padded[:, row : row + counts[0], column : column + counts[1]]
                * kernel[tap, other].reshape(1, 1, 1, -1)
                for (tap, row), (other, column) in itertools.product(rows, columns)
            ),
        )

    phases = jnp.stack([phase(*remainders) for remainders in itertools.product(*seen)], axis=3)
    parts = phases.reshape(len(x), *counts, stride, stride, -1).transpose(0, 1, 3, 2, 4, 5)
    whole = parts.reshape(len(x), counts[0] * stride, counts[1] * stride, -1)
    return whole[:, : sides[0], : sides[1]]


def _seen_by(before: int, size: int, stride: int) -> list[list[tuple[int, int]]]:
    """For each remainder of a pixel's place: the taps that see it, and where they write.

    That is the first place in the outputs, ``size`` of padding before them.
    """
    return [
        [
            (tap, (remainder + before - tap) // stride + size)
            for tap in reversed(range((remainder + before) % stride, size, stride))
        ]
        for remainder in range(stride)
    ]


_init = nnx.initializers.he_normal()


class Conv(nnx.Module):
    """A bias-free [size, size] convolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        padding: Padding = same_padding,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.stride, self.padding = stride, padding
        self.kernel = nnx.Param(_init(rngs.params(), (size, size, inputs, outputs)))

    def __call__(self, x: Images, factor: Array | None = None) -> Images:
        """[B, H, W, I] -> [B, ceil(H/stride), ceil(W/stride), O], each channel times a factor."""
        return convolve(*_ready(x, self.kernel, factor), self.stride, self.padding)


class Depthwise(nnx.Module):
    """A bias-free depthwise [size, size] convolution."""

    def __init__(
        self,
        channels: int,
        size: int,
        stride: int = 1,
        padding: Padding = same_padding,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.stride, self.padding = stride, padding
        self.kernel = nnx.Param(_init(rngs.params(), (size, size, 1, channels)))

    def __call__(self, x: Images, factor: Array | None = None) -> Images:
        """[B, H, W, C] -> [B, ceil(H/stride), ceil(W/stride), C], each channel times a factor."""
        return depthwise(*_ready(x, self.kernel, factor), self.stride, self.padding)


class Pointwise(nnx.Module):
    """A bias-free 1x1 convolution, as the matrix product that it is: the kernel is [I, O]."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.stride = stride
        self.kernel = nnx.Param(_init(rngs.params(), (inputs, outputs)))

    def __call__(self, x: Images, factor: Array | None = None) -> Images:
        """[B, H, W, I] -> [B, ceil(H/stride), ceil(W/stride), O], each channel times a factor."""
        return product(*_ready(x[:, :: self.stride, :: self.stride], self.kernel, factor))


class Dense(nnx.Linear):
    """A dense layer, as a :func:`product`."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """[..., I] -> [..., O]."""
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]), out_sharding)
        return rows.reshape(*inputs.shape[:-1], -1)


def _ready(x: Images, kernel: nnx.Param, factor: Array | None) -> tuple[Images, Kernel]:
    """Images in the kernel's type, and the kernel with each of its outputs times a factor."""
    value = kernel[...]
    if factor is not None:
        value = (value * lifted(factor, value.ndim)).astype(value.dtype)
    return x.astype(value.dtype), value
