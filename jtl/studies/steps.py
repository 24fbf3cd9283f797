"""The steps of runs that are lanes of one program, and how they are put together."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jtl.devices import sharding
from jtl.training import execution
from jtl.training.step import Training, repartition
from jtl.types import Batch, Hyperparameters, Terms, TrainState

Advance = Callable[[TrainState, execution.Choice, Batch, Hyperparameters], tuple[TrainState, Terms]]


class Steps:
    """The steps of a stage: one of one run, one of a lane, stretches of one or of all."""

    def __init__(self, training: Training) -> None:
        self._step = training.step

    def one(
        self, state: TrainState, choice: execution.Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        """Of one run."""
        return self._step(state, execution.take(sets, choice), hyper)

    def alone(
        self, state: TrainState, choice: execution.Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        """Of an axis of one lane. Mapped over it, convolutions would become grouped ones."""
        state, choice, hyper = jax.tree.map(lambda leaf: leaf[0], (state, choice, hyper))
        return jax.tree.map(lambda leaf: leaf[None], self.one(state, choice, sets, hyper))

    def stretch(
        self, state: TrainState, choices: execution.Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        """Of one run, as many steps as there are choices."""
        return jax.lax.scan(lambda carry, c: self.one(carry, c, sets, hyper), state, choices)

    def mapped(
        self, state: TrainState, choices: execution.Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        """A stretch of all lanes at once."""
        return jax.vmap(self.stretch, in_axes=(0, 0, None, 0))(state, choices, sets, hyper)

    def in_order(self, devices: Mesh) -> Advance:
        """A stretch of one lane after another, at each of the devices that share them."""

        def of_a_device(
            state: TrainState, choices: execution.Choice, sets: Batch, hyper: Hyperparameters
        ) -> tuple[TrainState, Terms]:
            lanes = state, choices, hyper
            return jax.lax.map(lambda own: self.stretch(own[0], own[1], sets, own[2]), lanes)

        apart, whole = PartitionSpec(sharding.AXIS), PartitionSpec()
        places = apart, apart, whole, apart
        return jax.shard_map(
            of_a_device, mesh=devices, in_specs=places, out_specs=apart, check_vma=False
        )


def dispatched(step: Any) -> Advance:
    """A stretch of one lane, step by step."""

    def advance(
        state: TrainState, choices: execution.Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        metrics = []
        for index in range(choices.source.shape[1]):
            choice = jax.tree.map(lambda part, i=index: part[:, i], choices)
            state, terms = step(state, choice, sets, hyper)
            metrics.append(terms)
        return state, jax.tree.map(lambda *parts: np.stack(parts, axis=1), *metrics)

    return advance


@jax.jit
def of_lane(state: TrainState, lane: int) -> TrainState:
    """The state of one of them, all of which lie on one device."""
    return jax.tree.map(lambda leaf: leaf[lane], state)


def enter(training: Training, state: TrainState, hyper: Hyperparameters) -> TrainState:
    """The state of a run in a stage that begins."""
    return repartition(state, training, hyper)
