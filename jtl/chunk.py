"""Some runs trained together, each of which leaves a folder of its own."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np

from jtl import conclude, evaluate, workdir
from jtl.evaluate import Predict
from jtl.interrupt import Interrupt
from jtl.lanes import Lanes, Program
from jtl.log import MetricsLog, Progress
from jtl.manifest import write_json
from jtl.prepare import Run, record
from jtl.types import TrainState

STRETCH = 50
"""Steps between two looks at the losses and the signals, at most."""
FAILED = "failed"
"""In summary.json, why a run came to no end."""


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
    started, config = datetime.now(UTC), runs[0].config
    with ExitStack() as held, Interrupt() as interrupt:
        for run in runs:
            held.enter_context(workdir.claim(run.folder, run.config.to_dict()))
            record(run, started)
        lanes, logs = Lanes(program, runs), [_fresh_log(run) for run in runs]
        progress = Progress(config.steps, examples=config.batch_size * len(runs))
        for opened in (*logs, progress):
            held.callback(opened.close)
        failures: dict[int, str] = {}
        begun = time.monotonic()
        for start, stop in _stretches(runs[0]):
            terms = lanes.advance(start, stop - start)
            progress.update(stop, {name: np.nanmean(values) for name, values in terms.items()})
            _note_failures(failures, terms, start)
            if interrupt.number:
                progress.message("stopped; these runs begin again when the same command does")
                return 128 + interrupt.number
            for index, (run, log) in enumerate(zip(runs, logs, strict=True)):
                log.write(stop, "train", {name: v[index].mean() for name, v in terms.items()})
                due = stop % config.eval_every == 0 or stop == config.steps
                if due and index not in failures:
                    _evaluate(run, lanes.state(index), stop, predict, log)
        seconds = (time.monotonic() - begun) / len(runs)
        for index, run in enumerate(runs):
            _conclude(run, lanes.state(index), predict, seconds, failures.get(index), keep_models)
    return 0


def _fresh_log(run: Run) -> MetricsLog:
    (run.folder / workdir.METRICS).unlink(missing_ok=True)
    return MetricsLog(run.folder / workdir.METRICS)


def _stretches(run: Run) -> Iterator[tuple[int, int]]:
    """Cuts the steps where something is looked at and where a stage begins."""
    config, start = run.config, 0
    length = max(d for d in range(1, STRETCH + 1) if config.eval_every % d == 0)
    ends = {stage.start for stage in run.stages} | {config.steps}
    while start < config.steps:
        stop = min(end for end in {*ends, (start // length + 1) * length} if end > start)
        yield start, stop
        start = stop


def _note_failures(failures: dict[int, str], terms: dict[str, np.ndarray], start: int) -> None:
    for name, values in terms.items():
        for lane, step in zip(*np.nonzero(~np.isfinite(values)), strict=True):
            failures.setdefault(int(lane), f"{name} was not finite at step {start + step}")


def _evaluate(run: Run, state: TrainState, step: int, predict: Predict, log: MetricsLog) -> None:
    """Notes accuracy and log loss on both test sets. Nothing is ever chosen by the target's."""
    for split, predictions in conclude.predict_tests(run, state, predict).items():
        scores = evaluate.quick_scores(predictions, getattr(run.stored, split))
        if scores:
            log.write(step, split, scores)


def _conclude(
    run: Run,
    state: TrainState,
    predict: Predict,
    seconds: float,
    failure: str | None,
    keep_models: bool,
) -> None:
    if failure:
        summary = {"method": run.config.method.name, "seed": run.config.seed, FAILED: failure}
    else:
        predicted = conclude.predict_tests(run, state, predict)
        summary = conclude.summarize(run, predicted, seconds)
    if keep_models and not failure:
        conclude.write_model(run, state)
    write_json(run.folder / workdir.SUMMARY, summary)
