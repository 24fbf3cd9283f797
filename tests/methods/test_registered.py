"""One suite for every registered method: a new one is tested by being registered."""

import functools
import inspect
import re
from typing import Any, NamedTuple

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jtl import catalogue, partition, registry
from jtl.models.chain import Blocks, chain, classifier
from jtl.training.step import Recipe, make_training
from jtl.types import (
    Array,
    Batch,
    Hyperparameters,
    Labelled,
    Method,
    Params,
    Stats,
    Terms,
    TrainState,
    Unlabelled,
)

pytestmark = pytest.mark.usefixtures("small_programs")

RULES = (("backbone/stem/.*", "freeze"), (".*", "train"))
LENGTH, SOME, DEVICES, AXIS = 100, 3, 8, "devices"
LEARNING_RATE = 0.03
"""A penalty on slopes (WDGRL's) runs away at three times as much."""
SEEDS = (0, 7)
TOLERANCE = 1e-6
CENTRES = 2.0 * np.eye(toys.CLASSES, toys.INPUTS)
SHIFT = np.array([0.3, 0.3, 0.3, 1.0, -1.0])
"""Of the target: little along what tells the classes apart, more along what does not."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cdan with entropy": ("cdan", {"entropy": True}),
    "cdan, randomised": ("cdan", {"widest": 0, "projections": toys.WIDTH}),
    "bsp on dann": ("bsp", {"base": "dann"}),
}
CASES = {name: (name, {}) for name in catalogue.METHODS} | VARIANTS


class Trained(NamedTuple):
    """A run of a method: the state before each of the first steps, the last one, every metric."""

    case: str
    run: toys.Run
    states: tuple[TrainState, ...]
    end: TrainState
    metrics: tuple[Terms, ...]


def build(name: str, **settings: Any) -> Method:
    """A method as a config would have it, at toy size."""
    factory = registry.resolve("method", name)
    accepted = inspect.signature(factory).parameters
    sizes = {"features": toys.WIDTH, "classes": toys.CLASSES, "width": toys.WIDTH, "repeats": 2}
    sizes |= {"pretrained_head": toys.pretrained_head()}
    return factory(**{key: value for key, value in (sizes | settings).items() if key in accepted})


def blocks(case: str, axis_name: str | None = None) -> Blocks:
    """What adapts a trained model may do so by its norms alone, which the plain one has not."""
    norms = adapts_a_trained_model(case)
    return toys.blocks(axis_name=axis_name) if norms else toys.dense_blocks()


def recipe(case: str, axis_name: str | None = None, *, cut: int = 0) -> Recipe:
    """Of a method; with ``cut`` on what that many frozen blocks give."""
    name, settings = CASES[case]
    model = classifier(blocks(case, axis_name)[cut:])
    method, rules = build(name, **settings), RULES[cut:]
    return toys.recipe(method, model=model, rules=rules, steps=LENGTH, axis_name=axis_name)


@functools.cache
def run(case: str) -> toys.Run:
    made = recipe(case)
    return toys.Run(made, learning_rate=LEARNING_RATE, **measured(made.method))


def measured(method: Method) -> dict[str, Any]:
    """What a method has measured, on features that say nothing of the labels."""
    features = np.random.default_rng(0).normal(size=(24, toys.WIDTH)).astype(np.float32)
    labels = np.arange(len(features)) % toys.CLASSES
    return dict(method.measure(fixed.Known(features), labels)) if method.measure else {}


def adapts_a_trained_model(case: str) -> bool:
    return catalogue.METHODS[CASES[case][0]].initial


def first_state(case: str, seed: int = 0) -> TrainState:
    """The first state of a run, with the parameters of a source-only run where it needs them."""
    made = run(case)
    if not adapts_a_trained_model(case):
        return made.start(seed)
    return made.init(seed, made.hyper, source_trained(seed))


@functools.cache
def source_trained(seed: int) -> tuple[Params, Stats]:
    made = toys.Run(toys.recipe(build("supervised"), steps=LENGTH), learning_rate=LEARNING_RATE)
    state = made.start(seed)
    for index in range(LENGTH):
        state, _ = made.step(state, batch(index), made.hyper)
    return state.params, state.stats


@functools.cache
def batch(step: int, *, size: int = 16) -> Batch:
    """Three clusters, moved on the target."""
    draw = np.random.default_rng(step)

    def examples(shift: Any) -> tuple[np.ndarray, np.ndarray]:
        labels = draw.integers(toys.CLASSES, size=size).astype(np.int32)
        inputs = CENTRES[labels] + shift + 0.5 * draw.normal(size=(size, toys.INPUTS))
        return inputs.astype(np.float32), labels

    return Batch(Labelled(*examples(0.0)), Unlabelled(examples(SHIFT)[0]))


def target_accuracy(made: toys.Run, state: TrainState) -> float:
    draw = np.random.default_rng(10**6)
    labels = draw.integers(toys.CLASSES, size=300)
    inputs = CENTRES[labels] + SHIFT + 0.5 * draw.normal(size=(300, toys.INPUTS))
    params = partition.merge(state.params, state.frozen)
    outputs, _ = made.recipe.model.apply(params, state.stats, inputs, train=False, rng=None)
    return float(np.mean(np.argmax(outputs.logits, axis=1) == labels))


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest) -> Trained:
    made = run(request.param)
    states, metrics = [first_state(request.param)], []
    for index in range(LENGTH):
        state, terms = made.step(states[-1], batch(index), made.hyper)
        states.append(state)
        metrics.append(jax.device_get(terms))
    return Trained(request.param, made, tuple(states[: 2 * SOME + 1]), states[-1], tuple(metrics))


def advance(step: Any, state: Any, start: int, hyper: Hyperparameters) -> Any:
    """Some steps from a state."""
    for index in range(start, start + SOME):
        state, _ = step(state, batch(index), hyper)
    return state


def test_terms_are_named_and_finite_from_the_first_step(trained: Trained) -> None:
    for metrics in trained.metrics:
        assert all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())
    names = {name.rpartition("/")[2] for name in trained.metrics[0]}
    reads_target = any("target" in phase.reads for phase in trained.run.recipe.method.phases)
    assert not reads_target or names - {"loss", "gradient_norm", "task"}, "what adapts has a name"


def test_the_task_is_learnt_and_the_target_not_lost(trained: Trained) -> None:
    if not adapts_a_trained_model(trained.case):
        names = sorted(trained.metrics[0])
        task = next((n for n in names if n.rpartition("/")[2] == "task"), "loss")
        values = [float(metrics[task]) for metrics in trained.metrics]
        assert np.mean(values[-5:]) < 0.5 * np.mean(values[:5]), task
    assert target_accuracy(trained.run, trained.end) > 0.9


def test_frozen_parameters_stay_bit_identical_and_other_matrices_move(trained: Trained) -> None:
    """Not every vector: a shift of all of a critic's scores changes nothing. What no phase of a
    method moves is frozen too.
    """
    start, end = trained.states[0], trained.end
    assert toys.same(start.frozen, end.frozen) and jax.tree.leaves(start.frozen)
    patterns = [p for phase in trained.run.recipe.method.phases for p in phase.trains]
    after = dict(partition.walk(end.params))
    for path, before in partition.walk(start.params):
        moves, moved = any(re.fullmatch(p, path) for p in patterns), np.any(before != after[path])
        assert moved == moves or (moves and before.ndim < 2), path


def test_only_the_labels_of_the_source_are_there_and_they_are_read(trained: Trained) -> None:
    """Read, unless the model comes trained: then by nothing."""
    assert Unlabelled._fields == ("inputs",)
    start, given = trained.states[0], batch(0)
    others = (given.source.labels + 1) % toys.CLASSES
    changed = given._replace(source=given.source._replace(labels=others))
    end, _ = trained.run.step(start, changed, trained.run.hyper)
    assert toys.same(end, trained.states[1]) == adapts_a_trained_model(trained.case)


def test_a_run_goes_on_bit_for_bit_from_its_saved_state(trained: Trained) -> None:
    saved = jax.tree.map(lambda leaf: np.array(leaf), trained.states[SOME])
    end = advance(trained.run.step, saved, SOME, trained.run.hyper)
    assert toys.same(end, trained.states[2 * SOME])


@pytest.mark.parametrize("trained", [*catalogue.METHODS, "cdan, randomised"], indirect=True)
def test_runs_from_stored_features_vmapped_on_eight_devices_equal_single_ones(
    trained: Trained,
) -> None:
    """Other seeds and strengths, from what the frozen block gave: one program for all of it, as
    compiling is what takes the time here.
    """
    made = trained.run
    lanes = [{key: factor * value for key, value in made.hyper.items()} for factor in (1.0, 0.5)]
    starts = [first_state(trained.case, seed) for seed in SEEDS]
    expected = [
        advance(made.step, state, 0, hyper) for state, hyper in zip(starts, lanes, strict=True)
    ]
    mesh = jax.make_mesh((DEVICES,), (AXIS,), axis_types=(AxisType.Auto,))
    whole = NamedSharding(mesh, PartitionSpec())
    parts = NamedSharding(mesh, PartitionSpec(None, AXIS))
    # What changes inputs itself changes something else above the frozen block.
    cut = not catalogue.METHODS[CASES[trained.case][0]].perturbs
    training = make_training(recipe(trained.case, cut=int(cut)))
    step = jax.jit(jax.vmap(training.step), in_shardings=(whole, parts, whole), out_shardings=whole)
    part = without_stem if cut else lambda tree: tree
    ends = stacked(*map(part, starts))
    for index in range(SOME):
        given = batch(index)
        batches = [stored(trained.case, start, given) if cut else given for start in starts]
        ends, _ = step(ends, stacked(*batches), stacked(*lanes))
    assert len(ends.step.sharding.device_set) == DEVICES
    for index, state in enumerate(expected):
        end = jax.tree.map(lambda leaf, i=index: leaf[i], ends)
        assert_close(part(state), end)
    assert toys.difference(expected[0].params, expected[1].params) > 0.1


def stored(case: str, state: TrainState, given: Batch) -> Batch:
    """A batch with what the frozen block gives in place of its inputs."""
    stem, params = blocks(case)[:1], partition.merge(state.params, state.frozen)

    def run(inputs: Array) -> Array:
        return chain(stem).apply(params, state.stats, inputs, train=False, rng=None)[0]

    source = given.source._replace(inputs=run(given.source.inputs))
    return Batch(source, Unlabelled(run(given.target.inputs)))


def without_stem(tree: Any) -> Any:
    """A state without anything of the frozen block."""
    if isinstance(tree, dict):
        kept = {key: without_stem(leaf) for key, leaf in tree.items() if key != "stem"}
        return {key: leaf for key, leaf in kept.items() if jax.tree.leaves(leaf)}
    if isinstance(tree, TrainState):
        return TrainState(*map(without_stem, tree))
    return tree


@pytest.mark.parametrize("trained", catalogue.METHODS, indirect=True)
def test_pmap_over_eight_devices_equals_one(trained: Trained) -> None:
    """What is gathered by hand is the global batch, to every loss and penalty of every method."""
    made = trained.run
    training = make_training(recipe(trained.case, AXIS))
    step = jax.pmap(training.step, axis_name=AXIS, in_axes=(0, 0, None))
    copies = stacked(*[trained.states[0]] * DEVICES)
    for index in range(SOME):
        parts = jax.tree.map(lambda a: a.reshape(DEVICES, -1, *a.shape[1:]), batch(index))
        copies, _ = step(copies, parts, made.hyper)
    assert_close(trained.states[SOME], jax.tree.map(lambda leaf: leaf[0], copies))


def stacked(*trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def assert_close(expected: TrainState, found: TrainState) -> None:
    # Momenta are sums of gradients that cancel, so rounding weighs more in them.
    for part, times in {"params": 1, "stats": 1, "memory": 1, "optimizer": 10}.items():
        gap = toys.difference(getattr(expected, part), getattr(found, part))
        assert gap < times * TOLERANCE, (part, gap)
