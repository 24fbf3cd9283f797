"""One part of a model from another run's checkpoint."""

from pathlib import Path
from typing import NamedTuple

import jax

from jtl.checkpoint.record import (
    CorruptError,
    Keys,
    Leaf,
    describe,
    keys_of,
    listed,
    read_record,
    read_score,
    require_fit,
)
from jtl.checkpoint.storage import read_leaves, steps_on_disk
from jtl.errors import UserError
from jtl.types import Params, Stats


class Restoration(NamedTuple):
    """What :func:`restore_subtree` did, by the leaves' names."""

    step: int
    """The checkpoint that was read."""
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    """Parameters and statistics in the checkpoint that were not read."""
    new: tuple[str, ...]
    """Left as they were."""

    def __str__(self) -> str:
        """One line; long lists are cut short."""
        return (
            f"step {self.step}: loaded {listed(self.loaded)}; skipped {listed(self.skipped)}; "
            f"left new {listed(self.new)}"
        )


def restore_subtree(
    directory: str | Path, params: Params, stats: Stats, *, path: str = "backbone"
) -> tuple[Params, Stats, Restoration]:
    """Fills one part of a model from another run's checkpoint, be it trained or frozen there.

    The checkpoint with the highest score is read, or the newest where none has a score.

    Args:
      directory: the other run's checkpoints, or its workdir.
      params: the new model's parameters: nested dictionaries.
      stats: its batch-norm statistics.
      path: the part's keys, joined by ``/``.

    Returns:
      ``params`` and ``stats``, in which the leaves under ``path`` that the checkpoint has are
      replaced by its values (host arrays), and what was loaded, skipped and left new.

    Raises:
      UserError: no readable checkpoint, nothing under ``path`` in it, or a leaf that does not fit.
    """
    folder = _best_or_newest(Path(directory).absolute())
    prefix = tuple(path.split("/"))
    ours = describe({"params": params, "stats": stats}, checksums=False)
    try:
        saved = read_record(folder).leaves
        homes = {keys: home for keys in ours if (home := _home(keys, saved)) in saved}
        wanted = {k: h for k, h in homes.items() if k[1 : 1 + len(prefix)] == prefix}
        if not wanted:
            raise UserError(f"checkpoint {folder} has nothing of {path!r} that this model has")
        here = {home: ours[keys] for keys, home in wanted.items()}
        require_fit(folder, {home: saved[home] for home in here}, here)
        values = read_leaves(folder, {home: saved[home] for home in here})
    except CorruptError as error:
        raise UserError(f"checkpoint {folder} is corrupt: {error}") from error
    merged = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: values[wanted[k]] if (k := keys_of(keys)) in wanted else leaf,
        {"params": params, "stats": stats},
    )
    models = (keys for keys in saved if keys[0] in ("params", "frozen", "stats"))
    report = Restoration(
        int(folder.name),
        loaded=tuple("/".join(keys) for keys in wanted),
        skipped=tuple("/".join(keys) for keys in models if keys not in here),
        new=tuple("/".join(keys) for keys in ours if keys not in wanted),
    )
    return merged["params"], merged["stats"], report


def _home(keys: Keys, saved: dict[Keys, Leaf]) -> Keys:
    """Where a checkpoint keeps a leaf: parameters are trainable in one run, frozen in another."""
    frozen = ("frozen", *keys[1:])
    return frozen if keys[0] == "params" and frozen in saved else keys


def _best_or_newest(directory: Path) -> Path:
    inside = directory / "checkpoints"
    directory = inside if inside.is_dir() else directory
    steps = steps_on_disk(directory) if directory.is_dir() else []
    if not steps:
        raise UserError(f"no checkpoint in {directory}; name a run's workdir")
    scores = {step: read_score(directory / str(step)) for step in steps}
    scored = [(score, step) for step, score in scores.items() if score is not None]
    return directory / str(max(scored)[1] if scored else steps[-1])
