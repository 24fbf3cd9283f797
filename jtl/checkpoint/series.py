"""The checkpoints of one run."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import jax

from jtl.checkpoint.record import CorruptError, Record, describe, read_score, usable_score
from jtl.checkpoint.storage import Keep, open_manager, read_state, steps_on_disk, write
from jtl.errors import UserError


class Checkpoints:
    """The checkpoints in one folder: the latest few and the best few are kept.

    One run at a time may write to a folder; opening it removes what an interrupted save left
    behind. Use it as a context manager, or call :meth:`close`.

    Args:
      directory: the folder, made if absent.
      keep_latest: how many of the newest steps are kept; at least 1, and 2 to survive a corrupt
        one.
      keep_best: how many of the steps with the highest scores are kept beside them.
      note: receives a line for every checkpoint that had to be passed over.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        note: Callable[[str], None] = print,
    ) -> None:
        if keep_latest < 1 or keep_best < 0:
            raise UserError(
                f"checkpoints: keep_latest is {keep_latest} and keep_best is {keep_best}; "
                "they must be at least 1 and 0"
            )
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._note = note
        self._scores = {
            step: read_score(self._folder(step)) for step in steps_on_disk(self.directory)
        }
        self._manager = open_manager(self.directory, Keep(keep_latest, keep_best, self._scores))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def save(
        self, step: int, state: Any, *, score: float | None = None, wait: bool = False
    ) -> None:
        """Saves ``state``, in the background unless ``wait``.

        It returns once the arrays may be donated to the next step. A step that is already there
        is left as it is; an earlier save still running is waited for. Should writing fail, the
        next call raises what went wrong.

        Args:
          step: the number of the checkpoint.
          state: a pytree of arrays.
          score: higher is better; None and NaN are never among the best.
          wait: return only when the checkpoint is safely on the disk.
        """
        if step not in self.steps():
            record = Record(usable_score(score), describe(state))
            self._scores[step] = record.score
            write(self._manager, step, state, record)
        if wait:
            self.wait()

    def restore_latest(self, like: Any) -> tuple[int, Any] | None:
        """The newest checkpoint that can be read: its step and state; None where there is none.

        Unreadable ones newer than it are noted and set aside in ``corrupt/``, so that training
        can save their steps again.

        Args:
          like: the state's structure, of arrays or ``ShapeDtypeStruct``; the arrays are put where
            its shardings say, else on the first device. Where the structure changes as training
            goes on, a function from the step to it.

        Raises:
          UserError: a readable checkpoint does not fit ``like``, or none can be read.
        """
        self.wait()
        at = like if callable(like) else lambda step: like
        corrupt: list[int] = []
        for step in reversed(steps_on_disk(self.directory)):
            try:
                state = read_state(self._folder(step), at(step))
            except CorruptError as error:
                corrupt.append(step)
                self._note(f"checkpoint {self._folder(step)} is corrupt: {error}")
                continue
            if corrupt:
                self._set_aside(corrupt)
                self._note(f"going back to the checkpoint of step {step}")
            return step, state
        if corrupt:
            raise UserError(
                f"no checkpoint in {self.directory} can be read; move that folder away to start "
                "again"
            )
        return None

    def restore_best(self, like: Any) -> tuple[int, Any] | None:
        """The checkpoint with the highest score (the newest of equals), as :meth:`restore` does.

        None where no checkpoint has a score.
        """
        scored = [(score, step) for step in self.steps() if (score := self.score(step)) is not None]
        if not scored:
            return None
        step = max(scored)[1]
        return step, self.restore(step, like)

    def restore(self, step: int, like: Any) -> Any:
        """The state of one step, bit for bit as it was saved.

        Raises:
          UserError: no such step, an unreadable checkpoint, or one that does not fit ``like``.
        """
        self.wait()
        if step not in self.steps():
            raise UserError(f"no step {step} in {self.directory}; it has {self.steps()}")
        try:
            return read_state(self._folder(step), like(step) if callable(like) else like)
        except CorruptError as error:
            raise UserError(f"checkpoint {self._folder(step)} is corrupt: {error}") from error

    def steps(self) -> list[int]:
        """The steps that are kept, in order; one that is still being written is among them."""
        return sorted(self._manager.all_steps())

    def score(self, step: int) -> float | None:
        """The score that a step was saved with."""
        return self._scores.get(step)

    def wait(self) -> None:
        """Returns when all that was saved is on the disk; raises what a save failed with."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then ends Orbax's threads."""
        self._manager.close()

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _set_aside(self, steps: Sequence[int]) -> None:
        if jax.process_index() == 0:
            aside = self.directory / "corrupt"
            aside.mkdir(exist_ok=True)
            for step in steps:
                names = (aside / f"{step}{suffix}" for suffix in _suffixes())
                self._folder(step).rename(next(name for name in names if not name.exists()))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("jtl: corrupt checkpoints are set aside")
        for step in steps:
            self._scores.pop(step, None)
        self._manager.reload()


def _suffixes() -> Iterator[str]:
    return itertools.chain([""], (f".{number}" for number in itertools.count(2)))
