"""What methods are made of: wherever the step runs, the same parameters come out.

``test_registered.py`` has every registered method; here is one for each thing that a method may
have: networks of its own, a loss of whole batches, phases, a teacher.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jtl import losses
from jtl.training import forward
from jtl.training.execution import Step
from jtl.training.step import make_training
from jtl.types import (
    Array,
    Batch,
    Hyperparameters,
    Method,
    Phase,
    Scope,
    Source,
    Target,
    Terms,
    TrainState,
)

pytestmark = pytest.mark.usefixtures("small_programs")

STEPS, DEVICES, AXIS = 3, 8, "devices"
SEEDS = (0, 7)
TOLERANCE = 1e-6
CASES = ("dann", "mmd", "mcd", "mean_teacher")


class Reference(NamedTuple):
    """Two runs, of other seeds and hyper-parameters, under ``jit`` on one device."""

    name: str
    hyper: tuple[Hyperparameters, ...]
    starts: tuple[TrainState, ...]
    ends: tuple[TrainState, ...]
    metrics: tuple[Terms, ...]


def small_run(name: str) -> toys.Run:
    return toys.run(name, stages=0)


def lane(method: Method, factor: float) -> Hyperparameters:
    """Every hyper-parameter, the method's own too, times a factor."""
    return {name: value * factor for name, value in toys.hyper(method).items()}


@pytest.fixture(scope="module", params=CASES)
def reference(request: pytest.FixtureRequest) -> Reference:
    run = small_run(request.param)
    hyper = tuple(lane(run.recipe.method, factor) for factor in (1.0, 0.5))
    starts = tuple(run.init(seed, values) for seed, values in zip(SEEDS, hyper, strict=True))
    ends, metrics = [], []
    for state, values in zip(starts, hyper, strict=True):
        for index in range(STEPS):
            state, terms = run.step(state, toys.batch(index), values)
        ends.append(state)
        metrics.append(terms)
    return Reference(request.param, hyper, starts, tuple(ends), tuple(metrics))


def batches() -> Iterator[Batch]:
    return (toys.batch(index) for index in range(STEPS))


def stacked() -> Batch:
    return jax.tree.map(lambda *parts: np.stack(parts), *batches())


def assert_same_run(end: TrainState, expected: TrainState) -> None:
    assert int(end.step) == STEPS
    # Momenta are sums of gradients that cancel, so rounding weighs more in them.
    for part, times in {"params": 1, "stats": 1, "memory": 1, "optimizer": 10}.items():
        gap = toys.difference(getattr(expected, part), getattr(end, part))
        assert gap < times * TOLERANCE, (part, gap)


def test_every_method_moves_its_parameters(reference: Reference) -> None:
    start, end = reference.starts[0], reference.ends[0]
    assert toys.difference(start.params["head"], reference.starts[1].params["head"]) > 0.1, "seeds"
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), start.params, end.params)
    assert all(jax.tree.leaves(moved)), moved


def train_on_a_mesh(
    step: Step, state: TrainState, hyper: Hyperparameters
) -> tuple[TrainState, Terms]:
    """The state after all steps, and the last one's metrics."""
    mesh = jax.make_mesh((DEVICES,), (AXIS,), axis_types=(AxisType.Auto,))
    whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    compiled = jax.jit(step, in_shardings=(whole, parts, whole), out_shardings=whole)
    metrics: Terms = {}
    for batch in batches():
        state, metrics = compiled(state, batch, hyper)
    return state, metrics


def test_jit_on_eight_devices_trains_as_on_one(reference: Reference) -> None:
    step = small_run(reference.name).training.step
    state, metrics = train_on_a_mesh(step, reference.starts[0], reference.hyper[0])
    assert len(state.step.sharding.device_set) == DEVICES
    assert_same_run(state, reference.ends[0])
    assert toys.difference(reference.metrics[0], metrics) < 1e-5


def train_under_pmap(
    method: Method, start: TrainState, hyper: Hyperparameters, **settings: Any
) -> TrainState:
    """The state after all steps, with a leading axis over devices."""
    training = make_training(toys.recipe(method, stages=0, axis_name=AXIS, **settings))
    step = jax.pmap(training.step, axis_name=AXIS, in_axes=(0, 0, None))
    state = jax.tree.map(lambda leaf: np.stack([leaf] * DEVICES), start)
    for batch in batches():
        cut = jax.tree.map(lambda rows: rows.reshape(DEVICES, -1, *rows.shape[1:]), batch)
        state, _ = step(state, cut, hyper)
    return state


def test_pmap_over_eight_devices_trains_as_one(reference: Reference) -> None:
    method = toys.METHODS[reference.name]()
    state = train_under_pmap(method, reference.starts[0], reference.hyper[0])
    devices = [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(DEVICES)]
    assert_same_run(devices[0], reference.ends[0])
    assert all(toys.same(devices[0], device) for device in devices)


def test_scanned_runs_vmapped_over_seeds_and_strengths_equal_single_steps(
    reference: Reference,
) -> None:
    training = small_run(reference.name).training

    def whole(seed: Array, hyper: Hyperparameters) -> TrainState:
        state = training.init(seed, hyper)
        return jax.lax.scan(lambda carry, b: training.step(carry, b, hyper), state, stacked())[0]

    hyper = {name: jnp.stack([h[name] for h in reference.hyper]) for name in reference.hyper[0]}
    ends = jax.jit(jax.vmap(whole))(jnp.array(SEEDS), hyper)
    for index, expected in enumerate(reference.ends):
        assert_same_run(jax.tree.map(lambda leaf, i=index: leaf[i], ends), expected)
    assert toys.difference(reference.ends[0].params, reference.ends[1].params) > 0.1


@pytest.mark.parametrize(
    "settings", [{"batch_norm": "joint", "clip": 0.1}, {"batch_norm": "frozen"}]
)
def test_options_mean_the_same_on_eight_devices(settings: dict[str, Any]) -> None:
    """Of what depends on a batch as a whole: batch norm in its other modes, and clipping."""
    run = toys.run("mmd", stages=0, **settings)
    start = run.start()
    expected, metrics = run.train(STEPS, start)
    assert metrics["gradient_norm"] > settings.get("clip", 0), "it is clipped"
    state, _ = train_on_a_mesh(run.training.step, start, run.hyper)
    assert_same_run(state, expected)
    state = train_under_pmap(toys.small_mmd(), start, run.hyper, **settings)
    assert_same_run(jax.tree.map(lambda leaf: leaf[0], state), expected)


def test_scanned_steps_drop_out_what_single_steps_do() -> None:
    """In the model and in a method's further pass through it."""
    run = toys.run("mean_teacher", stages=0, dropout=0.5)
    start = run.start()
    expected, _ = run.train(STEPS, start)
    scan = jax.jit(
        lambda state: jax.lax.scan(
            lambda s, b: run.training.step(s, b, run.hyper), state, stacked()
        )
    )
    assert_same_run(scan(start)[0], expected)
    without = small_run("mean_teacher")
    assert toys.difference(expected.params, without.train(STEPS, without.start())[0].params) > 1e-2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_devices_drop_out_different_units_under_pmap(dropout: float) -> None:
    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        of_devices = source.features.reshape(DEVICES, -1, source.features.shape[-1])
        return task, {"spread": jnp.ptp(of_devices, axis=0).max()}

    method = Method((Phase(objective),))
    training = make_training(toys.recipe(method, stages=0, dropout=dropout, axis_name=AXIS))
    hyper = toys.hyper(method)
    state = jax.tree.map(lambda leaf: np.stack([leaf] * DEVICES), training.init(0, hyper))
    alike = jax.tree.map(lambda rows: np.stack([rows[:2]] * DEVICES), toys.batch(0))
    step = jax.pmap(training.step, axis_name=AXIS, in_axes=(0, 0, None))
    _, metrics = step(state, alike, hyper)
    assert (metrics["spread"][0] > 0.1) == (dropout > 0)


@pytest.mark.parametrize("method", CASES)
def test_no_key_is_used_twice_in_a_step(method: str) -> None:
    """Drawn from or split, that is: jax does not follow what is folded into a key."""
    training = make_training(toys.recipe(toys.METHODS[method](), stages=0, dropout=0.5))
    hyper = toys.hyper(toys.METHODS[method]())
    state = jax.eval_shape(training.init, 0, hyper)
    with jax.debug_key_reuse(True):
        jax.eval_shape(training.step, state, toys.batch(0), hyper)


def test_a_key_that_is_used_twice_would_be_found() -> None:
    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        return task + jax.random.normal(scope.key) * jax.random.uniform(scope.key), {}

    recipe = toys.recipe(Method((Phase(objective),)), plain=True)
    training, hyper = make_training(recipe), toys.hyper(recipe.method)
    state = jax.eval_shape(training.init, 0, hyper)
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.eval_shape(training.step, state, toys.batch(0), hyper)


def test_a_discrepancy_of_each_device_alone_would_train_otherwise() -> None:
    def local(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        here = functools.partial(forward.local_slice, axis_name=AXIS)
        return task + losses.mmd(here(source.features), here(target.features)), {}

    run = small_run("mmd")
    start = run.start()
    expected, _ = run.train(STEPS, start)
    state = train_under_pmap(Method((Phase(local),)), start, run.hyper)
    alone = jax.tree.map(lambda leaf: leaf[0], state.params)
    assert toys.difference(expected.params, alone) > 1e-2
