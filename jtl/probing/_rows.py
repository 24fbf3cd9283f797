"""Features as blocks of rows: what a solver multiplies by, in memory or read as it is needed."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jtl.probing import _checks
from jtl.probing._lazy import Features, in_memory

ROWS = 8192
"""At most so many rows in a block."""
NUMBERS = 2**22
"""At most so many numbers in a block that is read again at each use: several copies of it are held
while it is."""
IN_MEMORY = 2**30
"""Bytes of centred features, in both precisions, above which blocks are read again at each use."""


Stored = Any
"""Arrays that blocks are taken from."""
Read = Callable[[Stored, Array, Any], Array]
"""A block, by its number, in a precision."""


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """What the solvers are traced and run under; values of a problem meet those of its examples."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


class Rows(NamedTuple):
    """Centred and scaled features in blocks of equally many rows, the last filled up with zeros.

    Attributes:
      mean, scale: block ``i`` is ``(features - mean) / scale``.
      read: ``read(stored, i, dtype)`` is block ``i``; jit sees it as a constant.
      on_host: ``on_host(i)`` is block ``i`` in double precision, for NumPy.
      stored: what it reads from.
      examples: without those that fill up.
      blocks, rows: how many blocks, of how many rows.
    """

    mean: np.ndarray
    scale: float
    read: Read
    on_host: Callable[[int], np.ndarray]
    stored: Stored
    examples: int
    blocks: int
    rows: int

    def padded(self, values: np.ndarray) -> np.ndarray:
        """One value or row for each example, filled up with zeros."""
        more = self.blocks * self.rows - self.examples
        return np.concatenate([values, np.zeros((more, *values.shape[1:]), values.dtype)])


def rows(features: Features, weights: np.ndarray) -> Rows:
    """Cuts features into blocks; what is large or not in memory is never copied whole.

    Args:
      features: ``[examples, features]``.
      weights: ``[examples]``, for the mean and the scale.
    """
    examples, width = features.shape
    held = 12 * examples * width <= IN_MEMORY and in_memory(features)
    parts = slices(examples, ROWS if held else NUMBERS // width)
    blocks, each = len(parts), parts[0].stop
    if held:
        share = weights / weights.sum()
        whole = np.zeros((blocks * each, width))
        inside = whole[:examples]
        given = np.asarray(features)
        mean = share @ given
        np.subtract(given, mean, out=inside)
        scale = float(np.sqrt(share @ np.einsum("ef,ef->e", inside, inside))) or 1.0
        inside /= scale
        stored = jnp.asarray(whole.reshape(blocks, each, width))
        on_host = np.asarray(stored).__getitem__
        return Rows(mean, scale, take, on_host, stored, examples, blocks, each)
    mean, scale = moments(features, weights)

    def load(dtype: Any, i: int) -> np.ndarray:
        part = _block(features, parts[i])
        part -= mean
        part /= scale
        filled = np.zeros((each, width), dtype)
        filled[: len(part)] = part
        return filled

    def load_bits(dtype: Any, i: Any) -> np.ndarray:
        return load(dtype, int(i)).view(np.uint32).reshape(each, width, -1)

    def read(stored: Stored, i: Array, dtype: Any) -> Array:
        # As bits: the thread that jax calls from would make doubles single.
        words = jnp.dtype(dtype).itemsize // 4
        shape = jax.ShapeDtypeStruct((each, width, words), jnp.uint32)
        bits = jax.pure_callback(partial(load_bits, dtype), shape, i.astype(jnp.int32))
        return lax.bitcast_convert_type(bits if words > 1 else bits[..., 0], dtype)

    on_host = partial(load, np.float64)
    return Rows(mean, scale, read, on_host, (), examples, blocks, each)


def slices(examples: int, most: int) -> list[slice]:
    """Cuts examples into blocks of about the same size, of ``most`` or `ROWS` at most."""
    blocks = -(-examples // max(1, min(ROWS, most)))
    each = -(-examples // blocks)
    return [slice(start, min(start + each, examples)) for start in range(0, examples, each)]


def total_variance(features: Features) -> float:
    """The sum of the variances of features, of which strengths of probes may be a part."""
    return moments(features, np.ones(features.shape[0]))[1] ** 2


def moments(features: Features, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean, and root of the mean squared distance from it, or one; in two readings.

    Raises:
      UserError: a feature is not finite.
    """
    parts = slices(features.shape[0], NUMBERS // features.shape[1])
    share = weights / weights.sum()
    mean = np.asarray(sum(share[part] @ _block(features, part) for part in parts))
    square = 0.0
    for part in parts:
        block = _block(features, part)
        _checks.check_finite(block)
        block -= mean
        square += float(share[part] @ np.einsum("ef,ef->e", block, block))
    return mean, float(np.sqrt(square)) or 1.0


def _block(features: Features, part: slice) -> np.ndarray:
    return np.array(features[part], np.float64)


def take(stored: Stored, i: Array, dtype: Any) -> Array:
    """A block of what is in memory, in one precision or in several by their names."""
    kept = stored[jnp.dtype(dtype).name] if isinstance(stored, dict) else stored
    return kept[i].astype(dtype)


class Product(NamedTuple):
    """Multiplication by the features of :class:`Rows`, inside a compiled function.

    Attributes:
      block: ``block(i, dtype)`` is ``[rows, features]``.
      blocks: how many.
    """

    block: Callable[[Array, Any], Array]
    blocks: int

    def forward(self, weights: Array) -> Array:
        """``[features, ...]`` to ``[examples, ...]``, in the precision of the weights."""
        flat = weights.reshape(len(weights), -1)
        if self.blocks == 1:
            made = self.block(jnp.asarray(0), flat.dtype) @ flat
        else:
            made = lax.map(
                lambda i: self.block(i, flat.dtype) @ flat, jnp.arange(self.blocks)
            ).reshape(-1, flat.shape[1])
        return made.reshape(-1, *weights.shape[1:])

    def backward(self, values: Array) -> Array:
        """``[examples, ...]`` to ``[features, ...]``: the transpose of :meth:`forward`."""
        flat = values.reshape(self.blocks, len(values) // self.blocks, -1)
        if self.blocks == 1:
            made = self.block(jnp.asarray(0), flat.dtype).T @ flat[0]
        else:
            first = jax.eval_shape(lambda: self.block(jnp.asarray(0), flat.dtype))
            zero = jnp.zeros((first.shape[1], flat.shape[2]), flat.dtype)
            made = lax.fori_loop(
                0,
                self.blocks,
                lambda i, total: total + self.block(i, flat.dtype).T @ flat[i],
                zero,
            )
        return made.reshape(len(made), *values.shape[1:])


def principal(cut: Rows, weights: np.ndarray) -> tuple[Array, Array]:
    """The principal axes of centred features, ``[features, directions]``, and variances on them.

    By the covariance of features, or where examples are fewer, of the coordinates of examples in
    the space that they span. On a CPU by NumPy's BLAS, which computes half of a symmetric product,
    and its LAPACK.
    """
    share = cut.padded(weights / weights.sum())
    if jax.default_backend() == "cpu":
        return _principal_on_host(cut, share)
    return _principal(
        cut.read, cut.stored, jnp.asarray(share), examples=cut.examples, blocks=cut.blocks
    )


def _principal_on_host(cut: Rows, share: np.ndarray) -> tuple[Array, Array]:
    shares = share.reshape(cut.blocks, -1)
    alike = len(np.unique(share[: cut.examples])) == 1
    factor = share[0] if alike else 1.0

    def rooted(i: int) -> np.ndarray:
        return cut.on_host(i) if alike else cut.on_host(i) * np.sqrt(shares[i])[:, None]

    if cut.examples < len(cut.mean):
        whole = np.concatenate([rooted(i) for i in range(cut.blocks)])[: cut.examples]
        basis, coordinates = np.linalg.qr(whole.T)
        covariance = coordinates @ coordinates.T
    else:
        basis = None
        covariance = np.zeros((len(cut.mean), len(cut.mean)))
        for i in range(cut.blocks):
            each = rooted(i)
            covariance += each.T @ each
    variances, axes = np.linalg.eigh(factor * covariance)
    axes = axes if basis is None else basis @ axes
    return jnp.asarray(axes), jnp.asarray(np.maximum(variances, 0))


@partial(jax.jit, static_argnames=("read", "examples", "blocks"))
def _principal(
    read: Read, stored: Stored, share: Array, *, examples: int, blocks: int
) -> tuple[Array, Array]:
    width = jax.eval_shape(lambda: read(stored, jnp.asarray(0), jnp.float64)).shape[1]
    shares = share.reshape(blocks, -1, 1)

    def rooted(i: Array) -> Array:
        return read(stored, i, jnp.float64) * jnp.sqrt(shares[i])

    if examples < width:
        whole = lax.map(rooted, jnp.arange(blocks)).reshape(-1, width)[:examples]
        basis, coordinates = jnp.linalg.qr(whole.T)
        covariance = coordinates @ coordinates.T
    else:
        basis = None
        covariance = lax.fori_loop(
            0,
            blocks,
            lambda i, total: total + (each := rooted(i)).T @ each,
            jnp.zeros((width, width)),
        )
    variances, axes = jnp.linalg.eigh(covariance)
    axes = axes if basis is None else basis @ axes
    return axes, jnp.maximum(variances, 0)
