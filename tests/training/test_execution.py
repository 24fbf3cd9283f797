"""How steps are run: a stretch may have any length, and nothing is copied or compiled unseen."""

import itertools
import logging
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jtl import losses
from jtl.devices import runtime, sharding
from jtl.training import execution
from jtl.training.step import make_training
from jtl.types import (
    Batch,
    Labelled,
    Method,
    Phase,
    Scope,
    Source,
    Target,
    Terms,
    TrainState,
    Unlabelled,
)

pytestmark = pytest.mark.usefixtures("small_programs")

STEPS, SIZE = 9, 16
WAYS = ("loop", "dispatched", "stream", "pmap")


def choose(start: int, count: int) -> execution.Choice:
    draw = [np.random.default_rng(step).integers(0, 40, (2, SIZE)) for step in range(99)]
    source, target = np.stack(draw[start : start + count], axis=1).astype(np.int32)
    return execution.Choice(source, target)


def sets() -> Batch:
    return toys.batch(0, size=40)


def batches(start: int) -> Iterator[Batch]:
    for step in itertools.count(start):
        source, target = (rows[0] for rows in choose(step, 1))
        source_set, target_set = sets()
        yield Batch(
            Labelled(source_set.inputs[source], source_set.labels[source]),
            Unlabelled(target_set.inputs[target]),
        )


def started(way: str, monkeypatch: pytest.MonkeyPatch) -> tuple[execution.Advance, TrainState]:
    """Steps that read their batches, drop out and normalise by batches, run one way."""
    axis_name = sharding.AXIS if way == "pmap" else None
    recipe = toys.recipe(toys.small_mmd(), stages=0, dropout=0.3, axis_name=axis_name)
    training, devices = make_training(recipe), sharding.mesh()
    hyper = toys.hyper(recipe.method)
    monkeypatch.setattr(execution, "loop_is_slow", lambda jaxpr: way == "dispatched")
    init = jax.jit(training.init, out_shardings=sharding.replicated(devices))
    state = init(0, hyper)
    if way == "stream":
        return execution.from_stream(training.step, batches, hyper, devices), state
    if way == "pmap":
        return execution.mapped(training.step, batches, hyper, devices), state
    return execution.from_memory(training.step, sets(), choose, hyper, devices), state


@pytest.mark.parametrize("way", WAYS)
def test_the_lengths_of_stretches_change_no_bit_and_compile_nothing(way, monkeypatch, caplog):
    def train(lengths: tuple[int, ...]) -> tuple[TrainState, np.ndarray]:
        advance, state = started(way, monkeypatch)
        start, losses = 0, []
        for count in lengths:
            with runtime.only_written_transfers():
                state, metrics = advance(state, start, count)
            assert metrics["loss"].shape == (count,)
            losses.append(metrics["loss"])
            start += count
        return state, np.concatenate(losses)

    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        expected, losses = train((STEPS,))
        caplog.clear()
        state, found = train((1, 2, 4, 2))
    name = {"loop": "loop", "dispatched": "one", "stream": "step", "pmap": "_fun"}[way]
    compiled = [r.message for r in caplog.records if r.message.startswith(f"Compiling jit({name})")]
    assert len(compiled) == 1, [r.message[:60] for r in caplog.records]
    assert int(state.step) == STEPS and toys.same(expected, state)
    np.testing.assert_array_equal(found, losses)
    assert losses[0] != losses[-1]


def test_every_way_trains_the_same_parameters(monkeypatch):
    """All but pmap, whose devices drop out other units."""
    ends = {}
    for way in ("loop", "dispatched", "stream"):
        advance, state = started(way, monkeypatch)
        ends[way], _ = advance(state, 0, STEPS)
    for way in ("dispatched", "stream"):
        assert toys.difference(ends["loop"].params, ends[way].params) < 1e-6


def test_the_pace_is_what_a_second_holds():
    pace = execution.Pace()

    def run(a_step: float, stretches: int) -> list[int]:
        lengths = []
        for _ in range(stretches):
            lengths.append(pace.steps)
            pace.ran(pace.steps, pace.steps * a_step)
        return lengths

    assert run(7.0, 1) == [1], "the first one compiles"
    assert run(0.001, 8) == [1, 2, 4, 8, 16, 32, 50, 50], "it grows to the longest"
    assert run(0.1, 3) == [50, 10, 10], "at a tenth of a second ten are a second"
    assert run(3.0, 3) == [10, 1, 1], "never none"


def test_a_stretch_cut_short_is_not_taken_for_a_slow_one():
    pace = execution.Pace()
    for _ in range(6):
        pace.ran(pace.steps, 0.001 * pace.steps)
    pace.ran(1, 0.001)
    assert pace.steps == execution.LONGEST_STRETCH


def a_nan_after(progress: jax.Array) -> jax.Array:
    return jnp.log(0.25 - progress)


@pytest.mark.parametrize("way", ["loop", "stream"])
def test_a_nan_is_traced_to_the_line_that_made_it(way):
    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        return task + a_nan_after(scope.progress), {"task": task}

    recipe = toys.recipe(Method((Phase(objective),)), plain=True)
    training, hyper, devices = make_training(recipe), toys.hyper(recipe.method), sharding.mesh()
    state = jax.device_put(training.init(0, hyper), sharding.replicated(devices))
    if way == "stream":
        advance = execution.from_stream(training.step, batches, hyper, devices)
    else:
        advance = execution.from_memory(training.step, sets(), choose, hyper, devices)
    with (
        jax.debug_nans(True),
        runtime.only_written_transfers(),
        pytest.raises(FloatingPointError, match="nan") as raised,
    ):
        advance(state, 0, STEPS)
    assert a_nan_after.__name__ in [entry.name for entry in raised.traceback]
