"""Running steps: as one compiled scan, one by one, or mapped over devices.

Every way takes a stretch of steps and gives the same state. What differs is the dispatch: a scan
costs none, but on a CPU a loop around convolutions is tens of times slower than calling the
compiled step again, so there the steps run one by one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jtl import sharding
from jtl.types import Array, Batch, Hyperparameters, Labelled, Terms, TrainState, Unlabelled

Step = Callable[[TrainState, Batch, Hyperparameters], tuple[TrainState, Terms]]
Advance = Callable[[TrainState, int, int], tuple[TrainState, Terms]]
"""``advance(state, start, count) -> (state, metrics)``: ``count`` steps from step ``start``, with
the metrics of each step stacked. The given state is consumed."""


class Choice(NamedTuple):
    """The positions of a batch's examples in their sets."""

    source: Array
    target: Array | None


Choose = Callable[[int, int], Choice]
"""``choose(start, count)``: the positions for a stretch, [count, batch_size] each."""


def take(sets: Batch, choice: Choice) -> Batch:
    """The chosen examples of sets that lie on the device."""
    source = Labelled(*(part[choice.source] for part in sets.source))
    if sets.target is None:
        return Batch(source, None)
    return Batch(source, Unlabelled(sets.target.inputs[choice.target]))


def from_memory(
    step: Step, sets: Batch, choose: Choose, hyper: Hyperparameters, devices: Mesh
) -> Advance:
    """Steps over sets that lie on the devices whole."""
    whole, parts = sharding.replicated(devices), sharding.split(devices)
    sets, hyper = jax.device_put((sets, dict(hyper)), whole)

    def one(
        state: TrainState, choice: Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        batch = jax.lax.with_sharding_constraint(take(sets, choice), parts)
        return step(state, batch, hyper)

    def stretch(
        state: TrainState, choices: Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        return jax.lax.scan(lambda carry, choice: one(carry, choice, sets, hyper), state, choices)

    compile_step = partial(jax.jit, donate_argnums=0, out_shardings=whole)
    compiled_one, compiled_stretch = compile_step(one), compile_step(stretch)
    dispatches: list[bool] = []

    def advance(state: TrainState, start: int, count: int) -> tuple[TrainState, Terms]:
        choices = choose(start, count)
        first = jax.tree.map(lambda positions: positions[0], choices)
        if not dispatches:
            dispatches.append(_loop_is_slow(compiled_one.trace(state, first, sets, hyper).jaxpr))
        if not dispatches[0]:
            return compiled_stretch(state, choices, sets, hyper)
        metrics = []
        for index in range(count):
            choice = jax.tree.map(lambda positions, index=index: positions[index], choices)
            state, terms = compiled_one(state, choice, sets, hyper)
            metrics.append(terms)
        return state, _stacked(metrics)

    return advance


def from_stream(
    step: Step, batches: Callable[[int], Iterator[Batch]], hyper: Hyperparameters, devices: Mesh
) -> Advance:
    """Steps over batches that arrive one by one; ``batches(start)`` yields them from a step on."""
    compiled = jax.jit(step, donate_argnums=0, out_shardings=sharding.replicated(devices))
    hyper = jax.device_put(dict(hyper), sharding.replicated(devices))
    running: dict[int, Iterator[Batch]] = {}

    def advance(state: TrainState, start: int, count: int) -> tuple[TrainState, Terms]:
        iterator = running.pop(start, None) or batches(start)
        metrics = []
        for _ in range(count):
            batch = sharding.from_processes(next(iterator), devices)
            state, terms = compiled(state, batch, hyper)
            metrics.append(terms)
        running[start + count] = iterator
        return state, _stacked(metrics)

    return advance


def mapped(
    step: Step, batches: Callable[[int], Iterator[Batch]], hyper: Hyperparameters
) -> Advance:
    """Steps under ``pmap``: every device has a copy of the state and its part of the batch.

    The step must have been built with ``axis_name=sharding.AXIS``; ``batches(start)`` yields this
    process's part of the global batches from a step on.
    """
    devices = jax.local_device_count()
    compiled = jax.pmap(step, axis_name=sharding.AXIS, in_axes=(0, 0, None), donate_argnums=0)
    # Plain host arrays: pmap refuses those that lie on a mesh.
    hyper = jax.device_get(dict(hyper))

    def _copies(leaf: Array) -> np.ndarray:
        return np.broadcast_to(np.asarray(leaf), (devices, *leaf.shape))

    running: dict[int, Iterator[Batch]] = {}

    def advance(state: TrainState, start: int, count: int) -> tuple[TrainState, Terms]:
        iterator = running.pop(start, None) or batches(start)
        copies = jax.tree.map(_copies, state)
        metrics = []
        for _ in range(count):
            parts = jax.tree.map(
                lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), next(iterator)
            )
            copies, terms = compiled(copies, parts, hyper)
            metrics.append(terms)
        running[start + count] = iterator
        state, metrics = jax.tree.map(lambda leaf: leaf[0], (copies, metrics))
        return state, _stacked(metrics)

    return advance


def _stacked(metrics: list[Terms]) -> Terms:
    return jax.tree.map(lambda *values: np.stack([np.asarray(v) for v in values]), *metrics)


def _loop_is_slow(jaxpr: object) -> bool:
    return jax.default_backend() == "cpu" and "conv_general_dilated" in str(jaxpr)
