"""Some runs trained together, each of which leaves a folder of its own."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import jax
import numpy as np

from jtl.records import workdir
from jtl.records.log import MetricsLog, Progress
from jtl.records.manifest import write_json
from jtl.runs import conclude
from jtl.runs.interrupt import Interrupt
from jtl.runs.prepare import Run, record
from jtl.studies.lanes import Lanes, Program, stretches
from jtl.training import evaluate, execution
from jtl.training.evaluate import Predict
from jtl.types import TrainState


def train(program: Program, runs: Sequence[Run], predict: Predict, *, keep_models: bool) -> int:
    """Trains the runs as lanes of one program, and writes what each has found.

    A run whose loss is not finite fails alone. A signal stops all of them: they begin again.

    Args:
      program: of these runs.
      runs: not more than it has lanes.
      predict: with the part of the model that they train.
      keep_models: writes ``model.safetensors`` too.

    Returns:
      0, or 128 plus the number of the signal.
    """
    started, config, seconds = datetime.now(UTC), runs[0].config, 0.0
    with ExitStack() as held, Interrupt() as interrupt:
        for run in runs:
            held.enter_context(workdir.claim(run.folder, run.config.to_dict()))
            record(run, started)
        lanes, notes = Lanes(program, runs), [_Notes(run, predict) for run in runs]
        progress = Progress(config.steps, examples=config.batch_size * len(runs))
        for opened in (*notes, progress):
            held.callback(opened.close)
        # Where steps are dispatched they may be slow, and any number of them compiles nothing.
        pace = execution.Pace() if program.in_turn else None
        for start, stop in stretches(runs[0]):
            begun = time.monotonic()
            terms = _advance(lanes, start, stop, interrupt, pace)
            seconds += (time.monotonic() - begun) / len(runs)
            progress.update(stop, {name: _mean(values) for name, values in terms.items()})
            if interrupt.number:
                progress.message("stopped; these runs begin again when the same command does")
                return 128 + interrupt.number
            for index, note in enumerate(notes):
                note.trained(start, stop, {name: values[index] for name, values in terms.items()})
                if stop in _milestones(runs[0]):
                    note.evaluate(stop, lanes.state(index))
        for index, note in enumerate(notes):
            note.conclude(lanes.state(index), seconds, keep_model=keep_models)
    # A signal that came too late for these runs is still one to stop.
    return 128 + interrupt.number if interrupt.number else 0


def _milestones(run: Run) -> set[int]:
    """The steps after which a run is evaluated."""
    config = run.config
    every = (range(n, config.steps, n) for n in (config.eval_every, config.checkpoint_every))
    return {config.steps}.union(*every)


def _advance(
    lanes: Lanes, start: int, stop: int, interrupt: Interrupt, pace: execution.Pace | None
) -> dict[str, np.ndarray]:
    """Trains from one step to another, or with a pace until a second after a signal."""
    if not pace:
        return lanes.advance(start, stop - start)
    parts = []
    while start < stop and not (parts and interrupt.number):
        begun, count = time.monotonic(), min(pace.steps, stop - start)
        parts.append(lanes.advance(start, count))
        pace.ran(count, time.monotonic() - begun)
        start += count
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def _mean(values: np.ndarray) -> float:
    """Of the lanes that have not failed."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


class _Notes:
    """What is known of one of the runs, on disk and for its end."""

    def __init__(self, run: Run, predict: Predict) -> None:
        (run.folder / workdir.METRICS).unlink(missing_ok=True)
        self._run, self._predict = run, predict
        self._log = MetricsLog(run.folder / workdir.METRICS)
        self._failure = ""
        self._best: tuple[float, int, TrainState | None] = (-math.inf, 0, None)

    def close(self) -> None:
        self._log.close()

    def trained(self, start: int, stop: int, terms: Mapping[str, np.ndarray]) -> None:
        """Notes the mean of each term from one step to another, and the first that is no number."""
        self._log.write(stop, "train", {name: values.mean() for name, values in terms.items()})
        for name, values in terms.items():
            if not self._failure and not np.isfinite(values).all():
                step = start + int(np.argmin(np.isfinite(values)))
                self._failure = f"{name} was not finite at step {step}"

    def evaluate(self, step: int, state: TrainState) -> None:
        """Notes the scores of a state, and the state if it is the best that may be chosen."""
        if not self._failure and not execution.all_finite((state.params, state.stats)):
            self._failure = f"the parameters were not finite at step {step}"
        if self._failure:
            return
        keep = self._run.config.keep
        scores = evaluate.scores(self._run.stored, state, self._predict, most=keep.examples)
        for split, values in scores.items():
            self._log.write(step, split, values)
        saved = step % self._run.config.checkpoint_every == 0 or step == self._run.config.steps
        score = scores["validators"].get(keep.criterion, -math.inf)
        if keep.model == "best" and saved and score >= self._best[0]:
            self._best = score, step, jax.device_get(state)

    def conclude(self, last: TrainState, seconds: float, *, keep_model: bool) -> None:
        """Writes the summary, and the model if asked."""
        run, config = self._run, self._run.config
        if self._failure:
            summary = {
                "method": config.method.name,
                "seed": config.seed,
                workdir.FAILED: self._failure,
            }
        else:
            _, step, best = self._best
            state, step = (last, config.steps) if best is None else (best, step)
            predicted = conclude.predict_tests(run, state, self._predict)
            summary = conclude.summarize(run, predicted, step, seconds)
            summary |= conclude.interpolated(run, state, self._predict)
            conclude.write_target_probabilities(run, state, self._predict)
            if keep_model:
                conclude.write_model(run, state)
        write_json(run.folder / workdir.SUMMARY, summary)
