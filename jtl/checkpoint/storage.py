"""Orbax, behind a few functions: a folder of steps, and reading the arrays of one.

Orbax is imported inside them: it takes two seconds, which an error message should not wait for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jtl.checkpoint.record import (
    Keys,
    Leaf,
    Record,
    describe,
    keys_of,
    read_record,
    require_fit,
    verify,
)


def open_manager(directory: Path, keep: "Keep") -> Any:
    """An Orbax manager of the steps in ``directory``, which keeps what ``keep`` says."""
    import orbax.checkpoint as ocp

    return ocp.CheckpointManager(
        directory,
        item_names=("state", "record"),
        item_handlers={
            "state": ocp.StandardCheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(),
        },
        options=ocp.CheckpointManagerOptions(
            preservation_policy=keep, cleanup_tmp_directories=True
        ),
    )


def write(manager: Any, step: int, state: Any, record: Record) -> None:
    """Starts writing one step; returns when the arrays may be donated."""
    import orbax.checkpoint as ocp

    arrays, notes = ocp.args.StandardSave(state), ocp.args.JsonSave(record.to_json())
    manager.save(step, args=ocp.args.Composite(state=arrays, record=notes))


class Keep:
    """Orbax's preservation policy: the latest N and the best N, by scores that survive a restart.

    Orbax's own ``max_to_keep`` with ``best_fn`` may drop the latest step, and its ``BestN`` alone
    keeps its metrics in memory only.
    """

    def __init__(self, latest: int, best: int, scores: dict[int, float | None]) -> None:
        self._latest, self._best, self._scores = latest, best, scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of the steps stay."""
        del context
        steps = sorted(info.step for info in checkpoints)
        scored = ((self._scores.get(step), step) for step in steps)
        ranked = sorted((score, step) for score, step in scored if score is not None)
        best = [step for _, step in ranked[len(ranked) - min(self._best, len(ranked)) :]]
        kept = {*steps[-self._latest :], *best}
        return [info.step in kept for info in checkpoints]


def read_state(folder: Path, like: Any) -> Any:
    """The state in a step's folder, checked against its record and put where ``like`` is.

    Raises:
      UserError: it does not fit ``like``.
      Exception: it cannot be read, in whatever way Orbax, TensorStore and JSON say so.
    """
    import orbax.checkpoint as ocp

    saved = read_record(folder).leaves
    require_fit(folder, saved, describe(like, checksums=False))
    with ocp.StandardCheckpointer() as reader:
        state = reader.restore(folder / "state", jax.tree.map(_abstract, like))
    verify(saved, state)
    return state


def read_leaves(folder: Path, leaves: dict[Keys, Leaf]) -> dict[Keys, np.ndarray]:
    """Only these leaves of a checkpoint, on the host."""
    import orbax.checkpoint as ocp

    tree: dict[str, Any] = {}
    for keys, leaf in leaves.items():
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(key, {})
        branch[keys[-1]] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    wanted = ocp.args.PyTreeRestore(item=tree, restore_args=on_host, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        values = reader.restore(folder / "state", args=wanted)
    verify(leaves, values)
    return {keys_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(values)}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Always with a sharding: Orbax's own choice is the device the checkpoint was saved from."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def steps_on_disk(directory: Path) -> list[int]:
    """The steps that have a folder, in order."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
