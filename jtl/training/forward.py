"""How the domains of a batch pass through the model in training mode.

Source and target can be forwarded one after the other, together, or on stored batch-norm
statistics, all of them or some; each gives other numbers, so the choice is always explicit. Under
``pmap`` the outputs of all devices are gathered here, so that every objective sees the global
batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jtl import partition, registry
from jtl.errors import UserError, nearest
from jtl.types import Array, Batch, Model, Params, Source, Stats, Target, Train

Augment = Callable[[jax.Array, Array], Array]
"""``augment(key, inputs) -> inputs``, run inside the compiled step."""
Domains = tuple[Any, Any]
"""A :class:`Source` and a :class:`Target`; a domain that is not read is None."""


def check_batch_norm(batch_norm: str, stats: Stats) -> None:
    """Whether there is such a way, and statistics for it.

    Raises:
      UserError: there is not.
    """
    if batch_norm not in registry.BATCH_NORM:
        hint = nearest(batch_norm, registry.BATCH_NORM)
        raise UserError(f"batch_norm: there is no {batch_norm!r}; {hint}")
    if batch_norm == "stochastic" and not stats:
        raise UserError(
            "batch_norm: stochastic acts in batch norms, and what is trained has none; use separate"
        )


def training_mode(
    params: Params, stats: Stats, trainable: Params, batch_norm: str, share: float = 0.5
) -> Train:
    """Which modules run in training mode, given which parameters train.

    ``batch_norm="frozen"`` additionally keeps every module that owns statistics on the stored ones;
    with "stochastic", ``share`` is the probability that one of its channels leaves them.
    """
    names = {path for path, _ in partition.walk(trainable)}
    labels = partition.map_paths(
        lambda path, leaf: partition.TRAIN if path in names else partition.FREEZE, params
    )
    training = partition.training_modules(labels)
    normalised = {path.rpartition("/")[0] for path, _ in partition.walk(stats)}
    own = {"frozen": False, "stochastic": float(share)}.get(batch_norm, True)
    return lambda module: training(module) and (module not in normalised or own)


def augmented(
    batch: Batch, key: jax.Array, augment: Augment | None, axis_name: str | None
) -> Batch:
    """The batch with its inputs randomly changed, source and target apart."""
    if augment is None:
        return batch
    first, second = jax.random.split(local_key(key, axis_name))
    source = batch.source._replace(inputs=augment(first, batch.source.inputs))
    target = batch.target and batch.target._replace(inputs=augment(second, batch.target.inputs))
    return Batch(source, target)


def domains(
    model: Model,
    params: Params,
    stats: Stats,
    batch: Batch,
    key: jax.Array,
    *,
    reads: tuple[str, ...],
    train: Train,
    joint: bool,
    axis_name: str | None,
) -> tuple[Domains, Stats]:
    """Forwards the domains that a phase reads; returns them and the new statistics."""
    gather = gather_over(axis_name)
    key = local_key(key, axis_name)
    source = batch.source if "source" in reads else None
    target = batch.target if "target" in reads else None
    given = [domain.inputs for domain in (source, target) if domain is not None]
    together = [jnp.concatenate(given)] if joint else given
    outputs = []
    for index, inputs in enumerate(together):
        rng = jax.random.fold_in(key, index)
        out, stats = model.apply(params, stats, inputs, train=train, rng=rng)
        outputs.append(out)
    if len(outputs) < len(given):
        cut = len(given[0])
        outputs = [
            jax.tree.map(lambda x, half=half: x[half], outputs[0])
            for half in (slice(cut), slice(cut, None))
        ]
    outputs = [gather(out) for out in outputs]
    seen_source = source and Source(gather(source.inputs), gather(source.labels), *outputs.pop(0))
    seen_target = target and Target(gather(target.inputs), *outputs.pop(0))
    return (seen_source, seen_target), stats


def gather_over(axis_name: str | None) -> Callable[[Any], Any]:
    """Concatenates every leaf over the devices of a mapped axis; without one, does nothing.

    Each device then evaluates the same objective on the same global batch. The transpose of the
    gather sums the devices' cotangents, so the mean of the gradients over devices is the gradient
    on the global batch, before and after the gather alike.
    """
    if axis_name is None:
        return lambda tree: tree
    return lambda tree: jax.tree.map(
        lambda leaf: jax.lax.all_gather(leaf, axis_name, tiled=True), tree
    )


def local_slice(inputs: Array, axis_name: str | None) -> Array:
    """This device's part of gathered inputs."""
    if axis_name is None:
        return inputs
    size = len(inputs) // jax.lax.axis_size(axis_name)
    start = jax.lax.axis_index(axis_name) * size
    return jax.lax.dynamic_slice_in_dim(inputs, start, size)


def local_key(key: jax.Array, axis_name: str | None) -> jax.Array:
    """A key of this device's own: with one for all, every device would drop out the same units."""
    return key if axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(axis_name))
