"""Devices: one axis over all of them.

The step is written for the global batch. Under ``jit`` over this mesh it sees it whole, so batch
norm and batch-level losses mean what their papers mean on any number of devices.
"""

import re
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jtl.errors import UserError

AXIS = "devices"


def mesh(count: int = 0) -> Mesh:
    """Devices of all processes on one axis, those of a process side by side.

    So what the processes read of a batch, one after another, is the batch.

    Args:
      count: how many of each process; 0 is all.

    Raises:
      UserError: a process has fewer, or not as many as another.
    """
    every = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
    processes: dict[int, list[jax.Device]] = {}
    for device in every.devices.flat:
        processes.setdefault(device.process_index, []).append(device)
    fewest, most = min(map(len, processes.values())), max(map(len, processes.values()))
    if count > fewest:
        raise UserError(f"devices is {count}, and there are {fewest}; lower it, or set 0 for all")
    if not count and fewest < most:
        raise UserError(
            f"processes have {fewest} to {most} devices, and each must have as many; set devices "
            f"to {fewest} at most"
        )
    chosen = [device for rank in sorted(processes) for device in processes[rank][: count or None]]
    return Mesh(np.array(chosen), (AXIS,), axis_types=(AxisType.Auto,))


def own(devices: Mesh) -> Mesh:
    """Those of them that belong to this process."""
    here = [d for d in devices.devices.flat if d.process_index == jax.process_index()]
    return Mesh(np.array(here), (AXIS,))


def replicated(devices: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(devices, PartitionSpec())


def split(devices: Mesh) -> NamedSharding:
    """Every device holds its part of the first dimension."""
    return NamedSharding(devices, PartitionSpec(AXIS))


def placed(tree: Any, devices: Mesh, shard: str) -> Any:
    """Where each leaf of a state lies: whole on every device, or in parts.

    Sharing out parameters with what the optimizer keeps for them is the memory of ZeRO and FSDP
    (Rajbhandari et al., SC 2020, arXiv 1910.02054). XLA gathers each where it is used.

    Args:
      tree: of arrays or their shapes.
      devices: that hold it.
      shard: a regular expression. Every leaf whose path it matches is split along the longest axis
        that the devices can share evenly; one without such an axis stays whole. The path is that
        of a parameter, also for what an optimizer keeps for it. "" matches none.

    Raises:
      UserError: the expression matches no leaf.
    """
    matched = []

    def place(keys: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if not shard or not re.fullmatch(shard, _path(keys)):
            return replicated(devices)
        matched.append(keys)
        even = [axis for axis, size in enumerate(leaf.shape) if size and size % devices.size == 0]
        if not even:
            return replicated(devices)
        longest = max(even, key=lambda axis: leaf.shape[axis])
        return NamedSharding(devices, PartitionSpec(*(None,) * longest, AXIS))

    places = jax.tree_util.tree_map_with_path(place, tree)
    if shard and not matched:
        raise UserError(f"shard: {shard!r} matches no parameter; write a pattern of their paths")
    return places


def holding(tree: Any) -> Mesh | None:
    """The devices that all hold a tree whole; None where it lies on one, or in parts."""
    where = getattr(next(iter(jax.tree.leaves(tree)), None), "sharding", None)
    if not isinstance(where, NamedSharding) or not where.is_fully_replicated:
        return None
    return where.mesh if isinstance(where.mesh, Mesh) else None


def gathered(tree: Any, devices: Mesh) -> Any:
    """The same values, whole on every device."""
    if all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return tree
    return _gather(devices)(tree)


@lru_cache(maxsize=8)
def _gather(devices: Mesh) -> Any:
    """Compiled once, as a run gathers its state at every evaluation."""
    return jax.jit(lambda same: same, out_shardings=replicated(devices))


def _path(keys: tuple[Any, ...]) -> str:
    """The names at the end of a leaf's path: those of a parameter, whatever holds it."""
    names: list[str] = []
    for key in reversed(keys):
        if not isinstance(key, jax.tree_util.DictKey):
            break
        names.insert(0, str(key.key))
    return "/".join(names)


def check_batch_size(batch_size: int, devices: int, parts: int = 1) -> None:
    """Raises a UserError when so many devices cannot share a batch, or its parts, evenly."""
    least = devices * parts
    if batch_size % least:
        lower = batch_size // least * least
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {devices} devices"
            + (f" in {parts} parts" if parts > 1 else "")
            + f"; use {lower + least}"
            + (f" or {lower}" if lower else "")
        )


def describe(devices: Mesh) -> str:
    """The devices in words: ``8 x NVIDIA H100 80GB HBM3``."""
    kinds = [device.device_kind for device in devices.devices.flat]
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds)))


def everywhere(tree: Any, devices: Mesh) -> Any:
    """Global arrays that every device holds whole, from values that are equal in all processes."""
    return jax.tree.map(lambda leaf: _put(leaf, replicated(devices), np.shape(leaf)), tree)


def from_processes(tree: Any, devices: Mesh) -> Any:
    """Global arrays, split over the devices, from the part that each process holds."""
    return jax.tree.map(lambda leaf: _put(leaf, split(devices)), tree)


def _put(leaf: Any, where: NamedSharding, shape: tuple[int, ...] | None = None) -> jax.Array:
    # Of several processes, jax takes this for a transfer that nobody wrote.
    with jax.transfer_guard("allow"):
        return jax.make_array_from_process_local_data(where, np.asarray(leaf), shape)
