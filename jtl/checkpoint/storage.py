"""Orbax, behind a few functions: a folder of steps, and reading the arrays of one.

Orbax is imported inside them: it takes two seconds, which an error message should not wait for.
"""

import contextlib
import gc
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from jtl.checkpoint.record import (
    CorruptError,
    Record,
    brief,
    describe,
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
      CorruptError: it cannot be read, or is not what was saved.
    """
    import orbax.checkpoint as ocp

    saved = read_record(folder).leaves
    require_fit(folder, saved, describe(like, checksums=False))
    wanted = jax.tree.map(_abstract, like)
    with _failing_quietly(), ocp.StandardCheckpointer() as reader:
        state = reader.restore(folder / "state", wanted)
    verify(saved, state)
    return state


@contextlib.contextmanager
def _failing_quietly() -> Iterator[None]:
    """Whatever reading raises becomes one CorruptError, and nothing else.

    When one array cannot be read, the reads of the others end on a closed event loop and report
    to the standard error, from their threads and when collected: pages of it, about nothing.
    """
    hook, logger = sys.unraisablehook, logging.getLogger("asyncio")
    was_disabled = logger.disabled
    sys.unraisablehook, logger.disabled = lambda unraisable: None, True
    failure = None
    try:
        yield
    except Exception as error:  # anything, as Orbax, TensorStore and JSON make of garbage
        failure = CorruptError(brief(error))
        traceback.clear_frames(error.__traceback__)
    finally:
        if failure:
            time.sleep(0.2)  # until those threads are done
            gc.collect()
        sys.unraisablehook, logger.disabled = hook, was_disabled
    if failure:
        raise failure


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Always with a sharding: Orbax's own choice is the device the checkpoint was saved from."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def steps_on_disk(directory: Path) -> list[int]:
    """The steps that have a folder, in order."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
