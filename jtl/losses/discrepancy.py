"""Maximum mean discrepancy: of one layer, or of several jointly."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float

from jtl.errors import UserError, nearest
from jtl.losses._numerics import AxisName, masked_mean
from jtl.losses._samples import Samples, counted_first, squared_distances, two_samples
from jtl.types import Array

Estimator = Literal["biased", "unbiased", "linear"]

_OCTAVES = 2.0 ** np.arange(-2, 3)
"""The kernels' bandwidths, as multiples of the median squared distance."""


def mmd(
    source: Float[Array, "source features"],
    target: Float[Array, "target features"],
    *,
    estimator: Estimator = "biased",
    bandwidths: Float[Array, " kernels"] | None = None,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Squared maximum mean discrepancy between two samples, under a mixture of Gaussian kernels.

    ``E k(s, s') + E k(t, t') - 2 E k(s, t)`` with ``k(x, y) = mean_b exp(-||x - y||^2 / b)``
    (Gretton et al., 2012, JMLR 13; as a loss, Long et al., 2015, arXiv 1502.02791). By default
    the bandwidths ``b`` are the median squared distance between two different rows of the pooled
    samples, times 1/4, 1/2, 1, 2 and 4; no gradient passes through them.

    Estimators:
      "biased" (the default): means over all pairs, a row's with itself included. Never negative
        (but for rounding), 0 for equal samples.
      "unbiased": without those pairs, and so of mean 0 for equal distributions: negative half of
        the time there.
      "linear": unbiased, from disjoint pairs of consecutive rows, in time and memory linear in
        the rows: the mean of ``k(s1, s2) + k(t1, t2) - k(s1, t2) - k(s2, t1)``. Noisier, and
        negative as often. Rows beyond the last whole pair of the smaller sample are not read, and
        the median is taken over the pairs that are.

    Args:
      source: [source, features].
      target: [target, features]; the two samples may differ in their number of rows.
      estimator: see above.
      bandwidths: [kernels], in units of squared distance, in place of the median's.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. A sample of which fewer rows count than the estimator
        needs (one, or two for "unbiased" and "linear") makes the loss 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32.

    Raises:
      UserError: not two matrices of equal width, an unknown estimator, an empty sample, fewer
        than two rows for "unbiased" and "linear", bandwidths that are no list of positive
        numbers, or a mask of another length.

    >>> one, other = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> mmd(one, other, bandwidths=jnp.ones(1)).round(4)  # 1 + 1 - 2 exp(-1)
    Array(1.2642, dtype=float32)
    """
    samples = two_samples("mmd", source, target, source_where, target_where, axis_name)
    return _joint("mmd", [samples], estimator, [bandwidths])


def joint_mmd(
    source_layers: Sequence[Float[Array, "source _"]],
    target_layers: Sequence[Float[Array, "target _"]],
    *,
    estimator: Estimator = "biased",
    bandwidths: Sequence[Float[Array, " _"] | None] | None = None,
    source_where: Bool[Array, " source"] | None = None,
    target_where: Bool[Array, " target"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """Squared MMD between the joint distributions of several layers' outputs.

    As :func:`mmd`, whose kernel is here the product of the layers' kernels, each a mixture of its
    own: ``k(x, y) = prod_l k_l(x_l, y_l)`` (joint adaptation networks, Long et al., 2017,
    arXiv 1605.06636). The layers are commonly the features and the predicted
    probabilities; it sees a dependence between the two that an MMD of each does not.

    Args:
      source_layers: each [source, width of the layer].
      target_layers: the same layers, each [target, width of the layer].
      estimator: "biased", "unbiased" or "linear", as in :func:`mmd`.
      bandwidths: one entry a layer: [kernels], in units of squared distance, or None for the
        median's.
      source_where: [source], which rows count; the others are as if they were not there.
      target_where: [target], the same. A sample of which fewer rows count than the estimator
        needs makes the loss 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32.

    Raises:
      UserError: no layer, lists of different lengths, layers of one domain that differ in their
        number of rows, or what :func:`mmd` refuses.

    >>> one, other = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> widths = [jnp.ones(1), jnp.ones(1)]
    >>> joint_mmd([one, one], [other, other], bandwidths=widths).round(2)  # 2 - 2 exp(-1)^2
    Array(1.73, dtype=float32)
    """
    layers = len(source_layers)
    bandwidths = [None] * layers if bandwidths is None else bandwidths
    if not layers or len(target_layers) != layers or len(bandwidths) != layers:
        raise UserError(
            f"joint_mmd: {layers} source layers, {len(target_layers)} target layers and "
            f"{len(bandwidths)} bandwidths; give the same layers of both, at least one"
        )
    samples = [
        two_samples(f"joint_mmd: layer {number}", *pair, source_where, target_where, axis_name)
        for number, pair in enumerate(zip(source_layers, target_layers, strict=True))
    ]
    for other in samples[1:]:
        if other.source.shape[0] != samples[0].source.shape[0] or (
            other.target.shape[0] != samples[0].target.shape[0]
        ):
            raise UserError("joint_mmd: the layers of a domain differ in their number of rows")
    return _joint("joint_mmd", samples, estimator, bandwidths)


def _joint(
    name: str,
    layers: Sequence[Samples],
    estimator: Estimator,
    bandwidths: Sequence[Array | None],
) -> Float[jax.Array, ""]:
    if estimator not in ("biased", "unbiased", "linear"):
        hint = nearest(estimator, ("biased", "unbiased", "linear"))
        raise UserError(f"{name}: no estimator {estimator!r}; {hint}")
    first = layers[0]
    needed = 1 if estimator == "biased" else 2
    if min(len(first.source), len(first.target)) < needed:
        raise UserError(f"{name}: the {estimator} estimator needs at least two rows of each domain")

    for widths in bandwidths:
        _require_positive_widths(name, widths)
    of_pairs = _disjoint_pairs if estimator == "linear" else _all_pairs
    kernel = jnp.ones(())
    for samples, widths in zip(layers, bandwidths, strict=True):
        pairs = of_pairs(samples)
        kernel = kernel * _kernel(pairs.distances, _bandwidths(pairs, widths))
    if estimator == "linear":
        whole = _whole_pairs(first)
        value = masked_mean(kernel[0] + kernel[1] - kernel[2] - kernel[3], whole)
    else:
        value = _quadratic(kernel, first, itself=estimator == "biased")
    return jnp.where(first.have(needed), value, 0.0)


def _require_positive_widths(name: str, widths: Array | None) -> None:
    if widths is None:
        return
    if jnp.ndim(widths) != 1 or not len(widths):
        raise UserError(f"{name}: bandwidths {list(jnp.shape(widths))}, expected [kernels]")
    # While tracing they are no numbers yet.
    if not isinstance(widths, Tracer) and not (np.asarray(widths) > 0).all():
        raise UserError(f"{name}: bandwidths are {np.asarray(widths)}, must be greater than 0")


class _Pairs(NamedTuple):
    """Squared distances of pairs of rows, and what the median is taken over."""

    distances: jax.Array
    read: Float[jax.Array, " read"]
    counts: Bool[jax.Array, " read"]
    """Which of those read are of rows that count."""


def _all_pairs(samples: Samples) -> _Pairs:
    """Of the pooled rows, [n, n]; the median reads each pair of different rows once."""
    rows = jnp.concatenate([samples.source, samples.target])
    counts = jnp.concatenate([samples.of_source, samples.of_target])
    distances = squared_distances(rows, rows, masked_mean(rows, counts))
    distances = jnp.where(_diagonal(len(rows)), 0.0, distances)
    return _Pairs(distances, *_each_pair_once(distances, counts))


def _diagonal(rows: int) -> Bool[jax.Array, "rows rows"]:
    # Computed: as a constant of the program, that of 8192 rows would be 64 MB of it.
    return jnp.arange(rows)[:, None] == jnp.arange(rows)[None, :]


def _each_pair_once(
    distances: Float[jax.Array, "rows rows"], counts: Bool[jax.Array, " rows"]
) -> tuple[Float[jax.Array, " pairs"], Bool[jax.Array, " pairs"]]:
    """Of different rows, and whether both count: every row with the half that follows it, round."""
    rows = len(distances)
    following = jnp.arange(rows)[:, None] + jnp.arange(1, (rows + 1) // 2)[None, :]
    columns = following % rows
    found = jnp.take_along_axis(distances, columns, axis=1).ravel()
    both = (counts[:, None] & counts[columns]).ravel()
    if rows % 2:
        return found, both
    first, last = jnp.arange(rows // 2), jnp.arange(rows // 2, rows)
    opposite, counted = distances[first, last], counts[first] & counts[last]
    return jnp.concatenate([found, opposite]), jnp.concatenate([both, counted])


def _disjoint_pairs(samples: Samples) -> _Pairs:
    """Of s1 and s2, t1 and t2, s1 and t2, s2 and t1: [4, pairs]."""
    rows = min(len(samples.source), len(samples.target)) // 2 * 2
    source = samples.source[counted_first(samples.of_source)]
    target = samples.target[counted_first(samples.of_target)]
    s1, s2 = source[0:rows:2], source[1:rows:2]
    t1, t2 = target[0:rows:2], target[1:rows:2]
    pairs = ((s1, s2), (t1, t2), (s1, t2), (s2, t1))
    distances = jnp.stack([jnp.sum((x - y) ** 2, axis=1) for x, y in pairs])
    return _Pairs(distances, distances.ravel(), jnp.tile(_whole_pairs(samples), 4))


def _whole_pairs(samples: Samples) -> Bool[jax.Array, " pairs"]:
    """Which disjoint pairs hold rows that count only: the first ones."""
    pairs = min(len(samples.source), len(samples.target)) // 2
    return jnp.arange(pairs, dtype=jnp.int32) < jnp.minimum(*samples.counts) // 2


def _quadratic(
    kernel: Float[jax.Array, "rows rows"], samples: Samples, *, itself: bool
) -> Float[jax.Array, ""]:
    """The estimate over all pairs, with or without those of a row with itself."""
    n = len(samples.source)

    def mean(block: jax.Array, rows: jax.Array, columns: jax.Array, *, diagonal: bool) -> jax.Array:
        read = rows[:, None] & columns[None, :]
        if not diagonal:
            read = read & ~_diagonal(len(rows))
        return masked_mean(block.ravel(), read.ravel())

    of_source, of_target = samples.of_source, samples.of_target
    within_source = mean(kernel[:n, :n], of_source, of_source, diagonal=itself)
    within_target = mean(kernel[n:, n:], of_target, of_target, diagonal=itself)
    return (
        within_source
        + within_target
        - 2 * mean(kernel[:n, n:], of_source, of_target, diagonal=True)
    )


def _bandwidths(pairs: _Pairs, given: Array | None) -> Float[jax.Array, " kernels"]:
    """Octaves around the median; around the mean where most rows are equal; around 1 if all are."""
    if given is not None:
        return jax.lax.stop_gradient(jnp.asarray(given, jnp.float32))
    distances = jax.lax.stop_gradient(pairs.read)
    median, mean = _median(distances, pairs.counts), masked_mean(distances, pairs.counts)
    scale = jnp.where(median > 0, median, jnp.where(mean > 0, mean, 1.0))
    return scale * jnp.asarray(_OCTAVES, jnp.float32)


def _median(values: Float[jax.Array, " n"], counts: Bool[jax.Array, " n"]) -> Float[jax.Array, ""]:
    """Of the values that count; 0 if none does."""
    ordered = jnp.sort(jnp.where(counts, values, jnp.inf))
    number = counts.sum(dtype=jnp.int32)
    middle = (ordered[jnp.maximum(number - 1, 0) // 2] + ordered[number // 2]) / 2
    return jnp.where(number > 0, middle, 0.0)


def _kernel(distances: jax.Array, widths: Float[jax.Array, " kernels"]) -> jax.Array:
    """The mixture at each squared distance; the kernels' weights sum to 1."""
    total = jnp.zeros_like(distances)
    # One kernel after another: an array of [kernels, rows, rows] would be five times the memory.
    for kernel in range(len(widths)):
        total += jnp.exp(-distances / widths[kernel])
    return total / len(widths)
