"""One run, from its config to its report. Reads top to bottom."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jtl.checkpoint import Checkpoints
from jtl.configuration import checks
from jtl.data.batches import stretch_indices
from jtl.data.examples import Examples
from jtl.devices import runtime, sharding
from jtl.errors import DivergedError
from jtl.records import workdir
from jtl.records.log import final_table
from jtl.runs import build, conclude
from jtl.runs.interrupt import Interrupt
from jtl.runs.prepare import Run, prepare, record
from jtl.training import evaluate, execution
from jtl.training.monitor import Monitor
from jtl.training.step import repartition
from jtl.types import Batch, Labelled, Terms, TrainState, Unlabelled

RECORD_EVERY = 50
"""Steps between two records of the losses, at most."""


def run(config: ConfigDict, folder: Path) -> int:
    """Trains as the config says, in the folder; returns the exit code.

    A run that was stopped goes on; one that is finished prints its summary. SIGTERM and SIGINT
    save and stop with 128 plus the signal's number.

    Raises:
      UserError: anything the user can mend, a loss that is not finite among it.
    """
    started = datetime.now(UTC)
    checks.check(config)  # a config need not come from the command line
    runtime.start()
    with ExitStack() as held:
        with runtime.together():
            held.enter_context(_claimed(folder, config))
        if workdir.summary(folder) is None:
            with runtime.together():
                devices = sharding.mesh(config.devices).size
                sharding.check_batch_size(config.batch_size, devices, config.accumulate)
                prepared = prepare(config, folder)
                record(prepared, started)
            code = _train(prepared)
            if code:
                return code
        if runtime.is_main_process():
            print(final_table(workdir.summary(folder) or {}, folder / workdir.REPORT))
    return 0


@contextmanager
def _claimed(folder: Path, config: ConfigDict) -> Iterator[None]:
    """The folder for the main process of a job; silence for the others."""
    if runtime.is_main_process():
        with workdir.claim(folder, config.to_dict()):
            yield
    else:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            yield


def _train(run: Run) -> int:
    """Trains to the end, or to a signal; returns the exit code."""
    config, devices = run.config, sharding.mesh(run.config.devices)
    whole = partial(sharding.gathered, devices=devices)
    checkpoints = Checkpoints(
        run.folder / workdir.CHECKPOINTS, keep_latest=config.keep.latest, keep_best=config.keep.best
    )
    first = _first_state(run, devices)
    step, state = _begin(checkpoints, first)
    predict = evaluate.predictor(run.net.trained)
    monitor = Monitor(
        run.folder / workdir.METRICS if runtime.is_main_process() else Path(os.devnull),
        start=step,
        steps=config.steps,
        batch_size=config.batch_size,
        predict=predict,
        domains=run.stored,
        most=config.keep.examples,
    )
    pace = execution.Pace()
    with checkpoints, monitor:
        if step == 0:
            monitor.evaluate(0, whole(state))
        with Interrupt() as interrupt:
            for start, stop, advance in _stretches(run, step, devices, pace):
                state = _enter_stage(run, start, state, devices)
                begun = time.monotonic()
                with runtime.only_written_transfers():
                    state, metrics = advance(state, start, stop - start)
                _check_finite(state, metrics, start, checkpoints)
                seconds = time.monotonic() - begun
                # All processes stop at the same step, and choose the next one alike.
                signal, seconds = runtime.largest(interrupt.number, seconds)
                pace.ran(stop - start, seconds)
                monitor.trained(stop, metrics, seconds)
                last = stop == config.steps
                if stop == _milestone(run, start) or signal:
                    monitor.record(stop)
                saved = stop % config.checkpoint_every == 0 or last
                evaluated = stop % config.eval_every == 0 or saved
                scores = monitor.evaluate(stop, whole(state)) if evaluated else {}
                if saved:
                    checkpoints.save(stop, state, score=scores[config.keep.criterion])
                elif signal:  # never the best: a run that is stopped chooses as one that is not
                    checkpoints.save(stop, state)
                if signal:
                    monitor.message(f"stopped at step {stop} and saved; the same command goes on")
                    return 128 + int(signal)  # as shells have it
        if config.keep.model == "best":
            step, state = checkpoints.restore_best(first) or (config.steps, state)
        else:
            step = config.steps
    with runtime.together():
        conclude.conclude(run, whole(state), step, predict)
    return 0


def _stage(run: Run, step: int) -> build.Stage:
    """The stage whose parameters are trained at a step."""
    return [stage for stage in run.stages if stage.start <= step][-1]


def _first_state(run: Run, devices: Mesh) -> Callable[[int], TrainState]:
    """A function from a step to a first state of that step's shapes."""

    def init(step: int) -> TrainState:
        training = _stage(run, max(step - 1, 0)).training
        given = run.config.seed, run.hyper, run.net.start()
        places = sharding.placed(jax.eval_shape(training.init, *given), devices, run.config.shard)
        return jax.jit(training.init, out_shardings=places)(*given)

    return init


def _begin(checkpoints: Checkpoints, first: Callable[[int], TrainState]) -> tuple[int, TrainState]:
    """The newest checkpoint that can be read, or the first state."""
    found = checkpoints.restore_latest(first)
    if found is None:
        return 0, first(0)
    step, state = found
    print(f"going on from step {step}")
    return step, state


def _enter_stage(run: Run, step: int, state: TrainState, devices: Mesh) -> TrainState:
    """At the first step of a later stage, moves leaves between trained and frozen."""
    stage = _stage(run, step)
    if step == 0 or stage.start != step:
        return state
    entered = repartition(state, stage.training, run.hyper)
    return jax.device_put(entered, sharding.placed(entered, devices, run.config.shard))


def _stretches(
    run: Run, step: int, devices: Mesh, pace: execution.Pace
) -> Iterator[tuple[int, int, execution.Advance]]:
    """Cuts the rest of the run into ``(first step, step after, how to run them)``."""
    while step < run.config.steps:
        stage = _stage(run, step)
        advance = _advance(run, stage, devices)
        while _stage(run, step) is stage and step < run.config.steps:
            stop = min(step + pace.steps, _milestone(run, step))
            yield step, stop, advance
            step = stop


def _milestone(run: Run, step: int) -> int:
    """The next step after which something is written or a stage begins, wherever a run stopped."""
    config = run.config
    periods = (config.eval_every, config.checkpoint_every, RECORD_EVERY)
    regular = [(step // period + 1) * period for period in periods]
    starts = [stage.start for stage in run.stages if stage.start > step]
    return min(*regular, *starts, config.steps)


def _advance(run: Run, stage: build.Stage, devices: Mesh) -> execution.Advance:
    """How the steps of a stage are run: from memory, from a stream, or under pmap."""
    config, step = run.config, stage.training.step
    source, target = run.labelled, run.stored.target_train

    def choose(start: int, count: int) -> execution.Choice:
        def positions(examples: Examples, stream: str) -> np.ndarray:
            size = config.batch_size
            return stretch_indices(config.seed, start, count, len(examples), size, stream)

        return execution.Choice(
            positions(source, "source"), positions(target, "target") if target else None
        )

    def stream(start: int) -> Iterator[Batch]:
        return build.stream(config, source, target, start)

    in_memory = all(isinstance(part.inputs, np.ndarray) for part in (source, target) if part)
    if config.parallel == "pmap":
        return execution.mapped(step, stream, run.hyper, devices)
    if not in_memory:
        return execution.from_stream(step, stream, run.hyper, devices)
    sets = Batch(
        Labelled(source.array(), source.known_labels()),
        Unlabelled(target.array()) if target else None,
    )
    return execution.from_memory(step, sets, choose, run.hyper, devices)


def _check_finite(state: TrainState, metrics: Terms, start: int, checkpoints: Checkpoints) -> None:
    """Stops a run whose losses or parameters are no numbers, before the state is saved.

    Parameters are looked at too: an update may break them after a last loss that was finite.
    """
    finite = {name: np.isfinite(np.asarray(values)) for name, values in metrics.items()}
    broken = ~np.logical_and.reduce(list(finite.values()))
    names = [name for name, values in finite.items() if not values.all()]
    if not names and execution.all_finite((state.params, state.stats)):
        return
    step = start + (int(np.argmax(broken)) if names else len(broken) - 1)
    checkpoints.wait()
    good = checkpoints.steps()
    # A folder with a checkpoint is refused to another config.
    last, elsewhere = (f"step {good[-1]}", ", in another --workdir") if good else ("none", "")
    raise DivergedError(
        f"step {step}: not finite on batch {step} of the run: {', '.join(names) or 'parameters'}; "
        f"last good checkpoint: {last}; lower optimizer.learning_rate or set optimizer.clip"
        f"{elsewhere}"
    )
