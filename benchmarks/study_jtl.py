"""Many runs of DANN as jtl trains them: as a study does, or one after another, for ``study.py``.

python benchmarks/study_jtl.py (study | alone) CONFIG FOLDER SEEDS STRENGTHS

"study" writes to the folder what PyTorch must know. Both then wait on their input for what
``study.py`` asks of them. The last two numbers are counts.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from turns import seconds, serve

from jtl import configuration, partition
from jtl.data.batches import stretch_indices
from jtl.devices import runtime, sharding
from jtl.runs.prepare import Run, Shared, prepare
from jtl.studies import lanes
from jtl.training import execution
from jtl.types import Batch, Labelled, TrainState, Unlabelled

STRENGTHS = (0.1, 0.3, 1.0, 3.0)


class Study:
    """Runs as a study trains them: as lanes of one program, or in turn.

    Args:
      runs: that differ in numbers alone.
      cores: that are devices.
    """

    def __init__(self, runs: list[Run], cores: int) -> None:
        self._runs, self._program = runs, lanes.Program(runs[0], len(runs), cores)
        if not self.in_turn() and self._program.lanes < len(runs):
            sys.exit(f"{self._program.lanes} of {len(runs)} runs are trained at once, not all")

    def in_turn(self) -> bool:
        """Whether the runs are trained one after another."""
        return self._program.lanes == 1

    def on_features(self) -> bool:
        """Whether they are trained on vectors, as PyTorch's are."""
        return self._runs[0].labelled.array().ndim == 2

    def losses(self, steps: int) -> list[list[float]]:
        """Of the first steps of every run."""
        with jax.default_matmul_precision("highest"):
            return [
                row for part in self._parts() for row in part.advance(0, steps)["loss"].tolist()
            ]

    def train(self, steps: int) -> float:
        """Seconds that some steps of all runs take, from their first one."""

        def all_of_them() -> None:
            for part in self._parts():
                for first, count in _stretches(steps):
                    part.advance(first, count)

        return seconds(all_of_them, 1)

    def write(self, folder: Path) -> None:
        """Data, first parameters and settings of every run, and the examples of its first steps."""
        source, target = _sets(self._runs[0])
        arrays: dict[str, Any] = {
            "source": source.inputs,
            "labels": source.labels,
            "target": target.inputs,
        }
        trained = [(part, lane) for part in self._parts() for lane in range(self._program.lanes)]
        for number, (run, (part, lane)) in enumerate(zip(self._runs, trained, strict=False)):
            for path, leaf in partition.walk(part.state(lane).params):
                arrays[f"{number}/{path}"] = np.asarray(leaf)
            choice = _choose(run, 10)
            arrays |= {f"{number}/sources": choice.source, f"{number}/targets": choice.target}
        np.savez(folder / "study.npz", **arrays)
        (folder / "study.json").write_text(json.dumps([_settings(run) for run in self._runs]))

    def _parts(self) -> Iterator[lanes.Lanes]:
        for first in range(0, len(self._runs), self._program.lanes):
            yield lanes.Lanes(self._program, self._runs[first : first + self._program.lanes])


class Alone:
    """Runs as jtl's runner trains each, without evaluation and checkpoints.

    Those that differ only in numbers share one compiled program.
    """

    def __init__(self, runs: list[Run]) -> None:
        self._runs, self._run, self._devices = runs, runs[0], sharding.mesh()
        training = self._run.stages[0].training
        self._init = jax.jit(training.init, out_shardings=sharding.replicated(self._devices))
        self._advance = execution.from_memory(
            training.step,
            Batch(*_sets(self._run)),
            lambda start, count: _choose(self._run, count, start),
            self._run.hyper,
            self._devices,
        )

    def train(self, steps: int) -> float:
        """Seconds that some steps of all runs take, one run after another."""

        def all_of_them() -> None:
            for run in self._runs:
                self._train(run, steps)

        return seconds(all_of_them, 1)

    def _train(self, run: Run, steps: int) -> None:
        self._run = run
        state: TrainState = self._init(run.config.seed, run.hyper, run.net.start())
        for first, count in _stretches(steps):
            state, _ = self._advance(state, first, count)
        jax.block_until_ready(state)


def _stretches(steps: int) -> Iterator[tuple[int, int]]:
    """First step and number of each."""
    for first in range(0, steps, execution.LONGEST_STRETCH):
        yield first, min(execution.LONGEST_STRETCH, steps - first)


def _prepared(config: str, seeds: int, strengths: int, devices: int) -> list[Run]:
    shared, runs = Shared(), []
    for seed in range(seeds):
        for strength in STRENGTHS[:strengths]:
            made, _ = configuration.load(config)
            with made.unlocked():
                made.seed, made.method.strength, made.devices = seed, strength, devices
            runs.append(prepare(made, Path(), shared))
    return runs


def _sets(run: Run) -> tuple[Labelled, Unlabelled]:
    target = run.stored.target_train
    assert target is not None, "DANN has a target"
    return Labelled(run.labelled.array(), run.labelled.known_labels()), Unlabelled(target.array())


def _choose(run: Run, count: int, start: int = 0) -> execution.Choice:
    sets, config = _sets(run), run.config
    return execution.Choice(
        *(
            stretch_indices(config.seed, start, count, len(part.inputs), config.batch_size, stream)
            for part, stream in zip(sets, ("source", "target"), strict=True)
        )
    )


def _settings(run: Run) -> dict[str, float]:
    config = run.config
    return {
        "strength": config.method.strength,
        "learning_rate": config.optimizer.learning_rate,
        "momentum": config.optimizer.momentum,
        "weight_decay": config.optimizer.weight_decay,
        "steps": config.steps,
        "batch_size": config.batch_size,
    }


if __name__ == "__main__":
    _, _way, _config, _folder, _seeds, _strengths = sys.argv
    runtime.start()
    _cores = runtime.split_cores() if _way == "study" else 1
    _runs = _prepared(_config, int(_seeds), int(_strengths), devices=int(_cores > 1))
    if _way == "alone":
        serve(Alone(_runs))
    else:
        _study = Study(_runs, _cores)
        _study.write(Path(_folder))
        serve(_study)
