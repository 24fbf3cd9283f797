"""Runs that differ only in numbers, trained as lanes of one program.

Seed, split and strengths of a run are arrays, so one compiled step serves many runs: mapped over a
leading axis of lanes, which is split over the devices, the cores of a CPU among them; or, where
that would be slow, for one run after another.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jtl.data.batches import stretch_indices
from jtl.devices import memory, sharding
from jtl.runs import build
from jtl.runs.prepare import Run
from jtl.studies.pool import pool
from jtl.studies.steps import Steps, dispatched, enter, of_lane
from jtl.training import execution
from jtl.types import Batch, Labelled, TrainState, Unlabelled

NUMBERS = (
    "seed",
    "data.split_seed",
    "model.initial",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
)
"""The keys in which lanes of one program may differ, beside the method's hyper-parameters."""
TOGETHER, APART = 2**17, 2**22
"""The most bytes of parameters that a step reads, such that a core of a CPU is at all of its lanes
in one operation, or at one lane after another. All cores share a run with more: of two at once, the
cores' common cache would not hold what is read at each step (benchmarks/README.md)."""
SHARE_OF_MEMORY = 0.5
"""Of a device's free memory, what the program may take; the rest is for evaluation, and others."""


def program_of(config: ConfigDict) -> str:
    """What two configs have in common if their runs can be lanes of one program."""
    rest = config.to_dict()
    for key in (*NUMBERS, *(f"method.{name}" for name in build.strengths(config))):
        *sections, last = key.split(".")
        section = rest
        for name in sections:
            section = section[name]
        section.pop(last, None)
    return repr(rest)


def can_be_lanes(run: Run) -> bool:
    """Whether the run's data are in memory, and its devices used through ``jit``, all alike."""
    parts = (run.labelled, run.stored.target_train)
    in_memory = all(isinstance(part.inputs, np.ndarray) for part in parts if part)
    return in_memory and run.config.parallel == "jit" and not run.config.shard


class Program:
    """The compiled steps of runs that differ only in numbers.

    Args:
      like: one of them.
      count: how many there are.
      cores: of a CPU, if each of them is a device (:func:`jtl.devices.runtime.split_cores`). Lanes
        are split over them; runs that take turns keep to what their config says.

    Attributes:
      devices: that train them.
      lanes: how many are trained at once: as many as fit in memory, by what the compiled program
        says that it takes; or one, of runs that take turns.
      in_turn: whether steps are dispatched one by one; a stretch of any length then compiles
        nothing.
      on_cores: whether lanes are split over cores.
      place: where the state of a lane lies, and all else that it has of its own.
      init, enter, advance: compiled; ``enter`` and ``advance`` hold one function a stage.
    """

    def __init__(self, like: Run, count: int, cores: int = 1) -> None:
        steps, shapes = [Steps(stage.training) for stage in like.stages], _shapes_of_one(like)
        size, on_cpu = _bytes_read(shapes[0]), jax.default_backend() == "cpu"
        large = on_cpu and size > APART
        self.in_turn = in_turn = execution.loop_is_slow(jax.jit(steps[0].one).trace(*shapes).jaxpr)
        cores = 1 if in_turn or large else _cores(count, cores, sets=shapes[2])
        self.on_cores = cores > 1
        own = 1 if large and not in_turn else like.config.devices
        self.devices = sharding.mesh(cores if self.on_cores else own)
        self.place = sharding.replicated(self.devices) if in_turn else sharding.split(self.devices)
        compiled = partial(jax.jit, out_shardings=self.place)
        self.init = compiled(jax.vmap(like.stages[0].training.init))
        donated = partial(compiled, donate_argnums=0)
        self.enter = [donated(jax.vmap(partial(enter, each.training))) for each in like.stages]
        self.advance: list[Any]
        if in_turn:
            self.advance = [dispatched(donated(each.alone)) for each in steps]
        elif on_cpu and size > TOGETHER:
            self.advance = [donated(each.in_order(self.devices)) for each in steps]
        else:
            self.advance = [donated(each.mapped) for each in steps]
        self.lanes = 1 if in_turn or large else self._fitting(like, count)

    def _fitting(self, like: Run, count: int) -> int:
        """How many lanes to train at once, as many as fit: tried from all of them downwards."""
        devices, free = self.devices.size, int(SHARE_OF_MEMORY * memory.free(self.devices))
        lanes = lanes_of_a_chunk(count, count, devices)
        while lanes > devices and (needed := self._needed(like, lanes)) > free:
            fitting = max(1, lanes // devices * free // needed)
            lanes = min(lanes - devices, lanes_of_a_chunk(count, fitting, devices))
        return lanes

    def _needed(self, like: Run, lanes: int) -> int:
        """The bytes of a device that so many lanes take, as their program has been compiled."""
        apart, whole = sharding.split(self.devices), sharding.replicated(self.devices)

        def shaped(tree: Any, *axes: int, place: Any = None) -> Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((*axes, *leaf.shape), leaf.dtype, sharding=place),
                tree,
            )

        state, choice, sets, hyper = _shapes_of_one(like)
        _, steps = next(stretches(like))
        taken = []
        for number, (stage, advance) in enumerate(zip(like.stages, self.advance, strict=True)):
            if number:
                state = jax.eval_shape(partial(enter, stage.training), state, hyper)
            lowered = advance.lower(
                shaped(state, lanes, place=apart),
                shaped(choice, lanes, steps, place=apart),
                shaped(sets, place=whole),
                shaped(hyper, lanes, place=apart),
            )
            taken.append(_bytes(lowered.compile().memory_analysis()))
        return max(taken)


class Lanes:
    """Some runs in training, at most ``program.lanes`` of them."""

    def __init__(self, program: Program, runs: Sequence[Run]) -> None:
        self._program, self._count = program, len(runs)
        # Filled up with the first: every chunk then has one shape, and every device as many lanes.
        self._runs = [*runs, *[runs[0]] * (program.lanes - len(runs))]
        self._source = pool([run.labelled for run in self._runs])
        targets = [part for run in self._runs if (part := run.stored.target_train)]
        self._target = pool(targets) if targets else None
        assert self._source.labels is not None  # what a run is trained on is labelled
        sets = Batch(
            Labelled(self._source.inputs, self._source.labels),
            Unlabelled(self._target.inputs) if self._target else None,
        )
        self._sets = jax.device_put(sets, sharding.replicated(program.devices))
        self._hyper = self._placed([dict(run.hyper) for run in self._runs])
        seeds = self._placed([np.int32(run.config.seed) for run in self._runs])
        starts = self._placed([run.net.start() for run in self._runs])
        self._stage, self._state = 0, program.init(seeds, self._hyper, starts)

    def advance(self, start: int, count: int) -> dict[str, np.ndarray]:
        """Trains ``count`` steps from step ``start``, all of one stage.

        Returns:
          The terms of every run and step: [lanes, steps].
        """
        stages = self._runs[0].stages
        stage = max(index for index, each in enumerate(stages) if each.start <= start)
        if stage != self._stage:
            self._state, self._stage = self._program.enter[stage](self._state, self._hyper), stage
        drawn = cache(stretch_indices)  # lanes of one seed see the same examples
        lanes = range(len(self._runs))
        choices = self._placed([self._choose(lane, start, count, drawn) for lane in lanes])
        advance = self._program.advance[stage]
        self._state, metrics = advance(self._state, choices, self._sets, self._hyper)
        return {name: np.asarray(values)[: self._count] for name, values in metrics.items()}

    def state(self, lane: int) -> TrainState:
        """The state of one run: on the program's devices, or on one of them if they are cores."""
        state, program = self._state, self._program
        if not program.on_cores:
            return jax.tree.map(lambda leaf: leaf[lane], state)
        core, lane = divmod(lane, program.lanes // program.devices.size)
        here = jax.tree.map(lambda leaf: leaf.addressable_shards[core].data, state)
        return jax.device_put(of_lane(here, lane), program.devices.devices.flat[0])

    def _choose(
        self, lane: int, start: int, count: int, drawn: Callable[..., np.ndarray]
    ) -> execution.Choice:
        config = self._runs[lane].config

        def positions(places: np.ndarray, stream: str) -> np.ndarray:
            size = config.batch_size
            return places[drawn(config.seed, start, count, len(places), size, stream)]

        target = self._target and positions(self._target.places[lane], "target")
        return execution.Choice(positions(self._source.places[lane], "source"), target)

    def _placed(self, each: Sequence[Any]) -> Any:
        """What every lane has of its own. Unplaced, XLA would have each device compute for all."""
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *each)
        program = self._program
        return stacked if program.in_turn else jax.device_put(stacked, program.place)


def _shapes_of_one(run: Run) -> tuple[Any, ...]:
    """The arguments of one step of one run, as shapes."""
    config, target = run.config, run.stored.target_train
    hyper = dict(run.hyper)
    state = jax.eval_shape(run.stages[0].training.init, np.int32(0), hyper, run.net.start())
    rows = np.zeros(config.batch_size, np.int32)
    choice = execution.Choice(rows, rows if target else None)
    sets = Batch(
        Labelled(run.labelled.array(), run.labelled.known_labels()),
        Unlabelled(target.array()) if target else None,
    )
    return jax.eval_shape(lambda *all_of_it: all_of_it, state, choice, sets, hyper)


def _bytes(analysis: Any) -> int:
    """What a program takes. Of a device that does not say, none: what does not fit is found out."""
    if analysis is None:
        return 0
    parts = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes)
    return sum(parts) + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def _bytes_read(state: TrainState) -> int:
    """Of parameters, at each step; in all stages alike."""
    leaves = jax.tree.leaves((state.params, state.frozen))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _cores(count: int, cores: int, sets: Any) -> int:
    """How many cores to split ``count`` lanes over: as few as let none have more than all would.

    One, if there is no room for the examples at each of them.
    """
    copy = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(sets))
    if cores > 1 and copy > SHARE_OF_MEMORY * memory.free(sharding.mesh(cores)):
        return 1
    return -(-count // -(-count // cores))


def lanes_of_a_chunk(count: int, fitting: int, devices: int) -> int:
    """How many of ``count`` runs are trained at once, where ``fitting`` fit on one device.

    As few chunks as can be, all of one size, which every device has an equal part of.

    >>> lanes_of_a_chunk(15, fitting=10, devices=1)
    8
    """
    chunks = -(-count // (fitting * devices))
    return -(-count // (chunks * devices)) * devices


def stretches(run: Run) -> Iterator[tuple[int, int]]:
    """Cuts the steps where something is looked at and where a stage begins."""
    config, start = run.config, 0
    common = math.gcd(config.eval_every, config.checkpoint_every)
    length = max(d for d in range(1, execution.LONGEST_STRETCH + 1) if common % d == 0)
    ends = {stage.start for stage in run.stages} | {config.steps}
    while start < config.steps:
        stop = min(end for end in {*ends, (start // length + 1) * length} if end > start)
        yield start, stop
        start = stop
