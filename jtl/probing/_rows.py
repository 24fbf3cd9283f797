"""Features as blocks of rows: what a solver multiplies by, in memory or read as it is needed."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
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
    """Centred and scaled features in blocks of equally many rows, filled up with zeros.

    Attributes:
      mean, scale: block ``i`` is ``(features - mean) / scale``.
      read: ``read(stored, i, dtype)`` is block ``i``; jit sees it as a constant.
      on_host: ``on_host(i)`` is block ``i`` in double precision, for NumPy.
      stored: what it reads from.
      parts: the examples of each block.
      rows: of each block, with those that fill up.
    """

    mean: np.ndarray
    scale: float
    read: Read
    on_host: Callable[[int], np.ndarray]
    stored: Stored
    parts: Sequence[slice] | Sequence[np.ndarray]
    rows: int

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.parts)

    def cut(self, values: np.ndarray) -> np.ndarray:
        """One value or row for each example, in blocks that are filled up with zeros."""
        made = np.zeros((self.blocks, self.rows, *values.shape[1:]), values.dtype)
        for part, block in zip(self.parts, made, strict=True):
            block[: len(values[part])] = values[part]
        return made

    def joined(self, values: np.ndarray, examples: int) -> np.ndarray:
        """Of ``[..., blocks, rows]`` what belongs to each example."""
        made = np.empty((*values.shape[:-2], examples), values.dtype)
        for number, part in enumerate(self.parts):
            made[..., part] = values[..., number, : made[..., part].shape[-1]]
        return made


def held(features: Features) -> bool:
    """Whether features are copied to the device as a whole."""
    examples, width = features.shape
    return 12 * examples * width <= IN_MEMORY and in_memory(features)


def rows(features: Features, weights: np.ndarray, groups: np.ndarray | None = None) -> Rows:
    """Cuts features into blocks; what is large or not in memory is never copied whole.

    Args:
      features: ``[examples, features]``.
      weights: ``[examples]``, for the mean and the scale.
      groups: a number from 0 for each example; each block is then of one group. Of features that
        are :func:`held` only.
    """
    examples, width = features.shape
    if held(features):
        parts = slices(examples, ROWS) if groups is None else _grouped(groups)
        each = max(len(weights[part]) for part in parts)
        share = weights / weights.sum()
        given = np.asarray(features)
        mean = share @ given
        whole = np.zeros((len(parts), each, width))
        square = 0.0
        for part, block in zip(parts, whole, strict=True):
            inside = block[: len(weights[part])]
            np.subtract(given[part], mean, out=inside)
            square += share[part] @ np.einsum("ef,ef->e", inside, inside)
        scale = float(np.sqrt(square)) or 1.0
        whole /= scale
        stored = jnp.asarray(whole)
        return Rows(mean, scale, take, np.asarray(stored).__getitem__, stored, parts, each)
    parts = slices(examples, NUMBERS // width)
    each = parts[0].stop
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
    return Rows(mean, scale, read, on_host, (), parts, each)


def slices(examples: int, most: int) -> list[slice]:
    """Cuts examples into blocks of about the same size, of ``most`` or `ROWS` at most."""
    blocks = -(-examples // max(1, min(ROWS, most)))
    each = -(-examples // blocks)
    return [slice(start, min(start + each, examples)) for start in range(0, examples, each)]


def _grouped(groups: np.ndarray) -> list[np.ndarray]:
    """The examples of each group, in blocks of which the largest have about `ROWS` at most."""
    most = np.bincount(groups).max()
    each = -(-most // -(-most // ROWS))
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    return [part[i : i + each] for part in members for i in range(0, len(part), each)]


def total_variance(features: Features) -> float:
    """The sum of the variances of features, of which strengths of probes may be a part."""
    return moments(features, np.ones(features.shape[0]))[1] ** 2


def moments(features: Features, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean, and root of the mean squared distance from it, or one; in one reading.

    Both by distances from the first block's mean: from zero, they would be lost in rounding where
    features lie far from it.

    Raises:
      UserError: a feature is not finite.
    """
    parts = slices(features.shape[0], NUMBERS // features.shape[1])
    share = weights / weights.sum()
    near = apart = np.zeros(features.shape[1])
    square = 0.0
    for part in parts:
        block = _block(features, part)
        _checks.check_finite(block)
        near = near if part.start else block.mean(0)
        block -= near
        apart = apart + share[part] @ block
        square += float(share[part] @ np.einsum("ef,ef->e", block, block))
    return near + apart, float(np.sqrt(max(square - apart @ apart, 0.0))) or 1.0


def _block(features: Features, part: slice) -> np.ndarray:
    return np.array(features[part], np.float64)


def take(stored: Stored, i: Array, dtype: Any) -> Array:
    """A block of what is in memory, in one precision or in several by their names."""
    kept = stored[jnp.dtype(dtype).name] if isinstance(stored, dict) else stored
    return kept[i].astype(dtype)


def principal(cut: Rows, weights: np.ndarray) -> tuple[Array, Array]:
    """The principal axes of centred features, ``[features, directions]``, and variances on them.

    By the covariance of features, or where examples are fewer, of the coordinates of examples in
    the space that they span. On a CPU by NumPy's BLAS, which computes half of a symmetric product,
    and its LAPACK.
    """
    share = weights / weights.sum()
    if jax.default_backend() == "cpu":
        return _principal_on_host(cut, share)
    return _principal(cut.read, cut.stored, jnp.asarray(cut.cut(share)), examples=len(share))


def _principal_on_host(cut: Rows, share: np.ndarray) -> tuple[Array, Array]:
    alike = len(np.unique(share)) == 1
    factor = share[0] if alike else 1.0

    def rooted(i: int) -> np.ndarray:
        part = share[cut.parts[i]]
        block = cut.on_host(i)[: len(part)]
        return block if alike else block * np.sqrt(part)[:, None]

    if len(share) < len(cut.mean):
        whole = np.concatenate([rooted(i) for i in range(cut.blocks)])
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


@partial(jax.jit, static_argnames=("read", "examples"))
def _principal(read: Read, stored: Stored, share: Array, *, examples: int) -> tuple[Array, Array]:
    blocks = len(share)
    width = jax.eval_shape(lambda: read(stored, jnp.asarray(0), jnp.float64)).shape[1]

    def rooted(i: Array) -> Array:
        return read(stored, i, jnp.float64) * jnp.sqrt(share[i])[:, None]

    if examples < width:
        whole = lax.map(rooted, jnp.arange(blocks)).reshape(-1, width)
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
