"""DANN on features, many runs of it, as jtl's studies train them, for ``study.py``.

python benchmarks/study_jtl.py CONFIG FOLDER SEEDS STRENGTHS

writes to the folder what PyTorch must know, then waits on its input for what ``study.py`` asks of
it. Both numbers are counts.
"""

import json
import sys
from pathlib import Path

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


class Runs:
    """The runs of a study: together as lanes of one program, or one after another.

    Args:
      config: the file of one run's config.
      seeds, strengths: how many of each; there is a run of every pair.
    """

    def __init__(self, config: str, seeds: int, strengths: int) -> None:
        shared = Shared()
        self.runs = [
            _prepared(config, seed, strength, shared)
            for seed in range(seeds)
            for strength in STRENGTHS[:strengths]
        ]
        program = lanes.Program(self.runs[0], len(self.runs))
        if program.in_turn or program.lanes < len(self.runs):
            sys.exit(f"{config}: {program.lanes} of its runs are trained at once, not all")
        self._program = program
        self._alone = _Alone(self.runs[0])

    def losses(self, steps: int) -> list[list[float]]:
        """Of the first steps of every run, together."""
        with jax.default_matmul_precision("highest"):
            return lanes.Lanes(self._program, self.runs).advance(0, steps)["loss"].tolist()

    def together(self, steps: int) -> float:
        """Seconds that some steps of all runs take as one program, from their first one."""
        trained = lanes.Lanes(self._program, self.runs)
        return seconds(lambda: trained.advance(0, steps), 1)

    def one_by_one(self, steps: int) -> float:
        """Seconds that some steps of all runs take, one run after another."""

        def all_of_them() -> None:
            for run in self.runs:
                self._alone.train(run, steps)

        return seconds(all_of_them, 1)

    def write(self, folder: Path) -> None:
        """Data, first parameters and settings of every run, and the examples of its first steps."""
        first, arrays = self.runs[0], {}
        source, target = _sets(first)
        arrays |= {"source": source.inputs, "labels": source.labels, "target": target.inputs}
        settings = []
        for number, run in enumerate(self.runs):
            state = self._alone.start(run)
            for path, leaf in partition.walk(state.params):
                arrays[f"{number}/{path}"] = np.asarray(leaf)
            choice = _choose(run, 10)
            arrays |= {f"{number}/sources": choice.source, f"{number}/targets": choice.target}
            settings.append(_settings(run))
        np.savez(folder / "study.npz", **arrays)
        (folder / "study.json").write_text(json.dumps(settings))


class _Alone:
    """A run as jtl's runner trains it, without evaluation and checkpoints.

    Runs that differ only in numbers share one compiled program.
    """

    def __init__(self, like: Run) -> None:
        self._devices = sharding.mesh()
        training = like.stages[0].training
        self._init = jax.jit(training.init, out_shardings=sharding.replicated(self._devices))
        self._run: Run = like
        self._advance = execution.from_memory(
            training.step,
            Batch(*_sets(like)),
            lambda start, count: _choose(self._run, count, start),
            like.hyper,
            self._devices,
        )

    def start(self, run: Run) -> TrainState:
        return self._init(run.config.seed, run.hyper, run.net.start())

    def train(self, run: Run, steps: int) -> None:
        self._run, state = run, self.start(run)
        for first in range(0, steps, execution.LONGEST_STRETCH):
            count = min(execution.LONGEST_STRETCH, steps - first)
            state, _ = self._advance(state, first, count)
        jax.block_until_ready(state)


def _prepared(config: str, seed: int, strength: float, shared: Shared) -> Run:
    made, _ = configuration.load(config)
    with made.unlocked():
        made.seed, made.method.strength = seed, strength
    return prepare(made, Path(), shared)


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
    _, _config, _folder, _seeds, _strengths = sys.argv
    runtime.start()
    _runs = Runs(_config, int(_seeds), int(_strengths))
    _runs.write(Path(_folder))
    serve(_runs)
