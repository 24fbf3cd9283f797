"""Running steps: in one compiled loop, one by one, or mapped over devices.

Every way takes a stretch of steps and gives the same state. What differs is the dispatch: a loop
costs none, but on a CPU a loop around convolutions is tens of times slower than calling the
compiled step again, so there the steps run one by one.

How many steps a stretch has changes no bit of what they compute: every stretch runs the same
compiled program. So it can be chosen by the clock. Under ``jit`` it is compiled ahead, from the
first arguments: others, for which it would be compiled again unseen, are an error.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jtl.devices import sharding
from jtl.types import Array, Batch, Hyperparameters, Labelled, Terms, TrainState, Unlabelled

LONGEST_STRETCH = 50
"""Steps at once, at most."""

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


class Pace:
    """How many steps to run before the next look at the signals and the progress line.

    As many as take a second, going by the last ones, and at least one.

    Attributes:
      steps: that number.
    """

    def __init__(self) -> None:
        self.steps = 1

    def ran(self, steps: int, seconds: float) -> None:
        """Says how long a stretch took. One that compiled says little, so growth is bounded."""
        a_second = int(steps / max(seconds, 1e-6))
        self.steps = max(1, min(a_second, 2 * self.steps, LONGEST_STRETCH))


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether a tree holds numbers alone, whose squares are numbers too.

    Predictions overflow long before the parameters do.
    """
    return jnp.all(jnp.stack([jnp.isfinite(leaf * leaf).all() for leaf in jax.tree.leaves(tree)]))


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
    sets, hyper = sharding.everywhere((sets, dict(hyper)), devices)

    def one(
        state: TrainState, start: Array, choices: Choice, sets: Batch, hyper: Hyperparameters
    ) -> tuple[TrainState, Terms]:
        choice = jax.tree.map(lambda positions: positions[state.step - start], choices)
        return step(state, jax.lax.with_sharding_constraint(take(sets, choice), parts), hyper)

    def loop(state: TrainState, start: Array, count: Array, *rest: Any) -> tuple[TrainState, Terms]:
        def body(index: Array, carry: tuple[TrainState, Terms]) -> tuple[TrainState, Terms]:
            state, terms = one(carry[0], start, *rest)
            return state, jax.tree.map(lambda kept, new: kept.at[index].set(new), carry[1], terms)

        terms = jax.eval_shape(one, state, start, *rest)[1]
        empty = jax.tree.map(lambda t: jnp.zeros((LONGEST_STRETCH, *t.shape), t.dtype), terms)
        return jax.lax.fori_loop(0, count, body, (state, empty))

    compiled: dict[str, Any] = {}

    def compile_once(state: TrainState, first: Array, number: Array, *rest: Any) -> None:
        """A state stays where it lies; of how, the first one is an example."""
        places = jax.tree.map(lambda leaf: leaf.sharding, state), whole
        compile_step = partial(jax.jit, donate_argnums=0, out_shardings=places)
        step_alone = compile_step(one)
        slow = loop_is_slow(step_alone.trace(state, first, *rest).jaxpr)
        if slow or jax.config.values["jax_debug_nans"]:
            compiled["one"] = _ahead(step_alone, state, first, *rest)
        else:
            compiled["loop"] = _ahead(compile_step(loop), state, first, number, *rest)

    def advance(state: TrainState, start: int, count: int) -> tuple[TrainState, Terms]:
        # Filled up, as another shape would be another program.
        filled = jax.tree.map(
            lambda rows: np.pad(rows, ((0, LONGEST_STRETCH - count), (0, 0))), choose(start, count)
        )
        first, number, choices = sharding.everywhere(
            (np.int32(start), np.int32(count), filled), devices
        )
        if not compiled:
            compile_once(state, first, number, choices, sets, hyper)
        if "loop" in compiled:
            state, terms = compiled["loop"](state, first, number, choices, sets, hyper)
            return state, jax.tree.map(lambda values: values[:count], jax.device_get(terms))
        metrics = []
        for _ in range(count):
            state, terms = compiled["one"](state, first, choices, sets, hyper)
            metrics.append(terms)
        return state, _stacked(metrics)

    return advance


def from_stream(
    step: Step, batches: Callable[[int], Iterator[Batch]], hyper: Hyperparameters, devices: Mesh
) -> Advance:
    """Steps over batches that arrive one by one; ``batches(start)`` yields them from a step on."""
    hyper, whole = sharding.everywhere(dict(hyper), devices), sharding.replicated(devices)
    running: dict[int, Iterator[Batch]] = {}
    compiled: list[Any] = []

    def advance(state: TrainState, start: int, count: int) -> tuple[TrainState, Terms]:
        iterator = running.pop(start, None) or batches(start)
        metrics = []
        for _ in range(count):
            batch = sharding.from_processes(next(iterator), devices)
            if not compiled:
                places = jax.tree.map(lambda leaf: leaf.sharding, state), whole
                step_alone = jax.jit(step, donate_argnums=0, out_shardings=places)
                compiled.append(_ahead(step_alone, state, batch, hyper))
            state, terms = compiled[0](state, batch, hyper)
            metrics.append(terms)
        running[start + count] = iterator
        return state, _stacked(metrics)

    return advance


def mapped(
    step: Step, batches: Callable[[int], Iterator[Batch]], hyper: Hyperparameters, devices: Mesh
) -> Advance:
    """Steps under ``pmap``: every device has a copy of the state and its part of the batch.

    The step must have been built with ``axis_name=sharding.AXIS``; ``batches(start)`` yields this
    process's part of the global batches from a step on.
    """
    # Not ahead: of several processes, jax takes their parts together for what each is called with.
    compiled = jax.pmap(
        step,
        axis_name=sharding.AXIS,
        in_axes=(0, 0, None),
        donate_argnums=0,
        devices=list(devices.devices.flat),
    )
    # pmap takes and returns what lies on the devices of this process alone.
    local = sharding.own(devices)
    whole, parts = sharding.replicated(local), sharding.split(local)
    hyper = jax.device_put(jax.device_get(dict(hyper)), whole)
    running: dict[int, Iterator[Batch]] = {}

    def copies(leaf: Array) -> Array:
        return jax.device_put(
            np.broadcast_to(jax.device_get(leaf), (local.size, *leaf.shape)), parts
        )

    def shared(leaf: Array) -> Array:
        return jax.device_put(leaf.reshape(local.size, -1, *leaf.shape[1:]), parts)

    def first(leaf: jax.Array) -> np.ndarray:
        return jax.device_get(leaf.addressable_data(0))[0]

    def advance(state: TrainState, start: int, count: int) -> tuple[TrainState, Terms]:
        iterator = running.pop(start, None) or batches(start)
        many = jax.tree.map(copies, state)
        metrics = []
        for _ in range(count):
            many, terms = compiled(many, jax.tree.map(shared, next(iterator)), hyper)
            metrics.append(terms)
        running[start + count] = iterator
        state = sharding.everywhere(jax.tree.map(first, many), devices)
        return state, _stacked([jax.tree.map(first, terms) for terms in metrics])

    return advance


def _ahead(function: Any, *arguments: Any) -> Any:
    """The program for such arguments and for no others."""
    if jax.config.values["jax_debug_nans"]:  # for which jax runs it operation by operation
        return function
    return function.lower(*arguments).compile()


def _stacked(metrics: list[Terms]) -> Terms:
    return jax.tree.map(lambda *values: np.stack(values), *jax.device_get(metrics))


def loop_is_slow(jaxpr: object) -> bool:
    """Whether a compiled loop over this step would be slower than calling it again and again."""
    return jax.default_backend() == "cpu" and "conv_general_dilated" in str(jaxpr)
