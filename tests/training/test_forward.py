import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jtl import partition
from jtl.training import forward
from jtl.types import Params, TrainState

MOMENTUM, EPSILON = 0.9, 1e-5


@functools.cache
def run(batch_norm: str, method: str = "dann", rules: partition.Rules = toys.ALL) -> toys.Run:
    return toys.run(method, stages=0, batch_norm=batch_norm, rules=rules)


@functools.cache
def after_one(batch_norm: str, method: str = "dann") -> tuple[TrainState, TrainState]:
    start = run(batch_norm, method).start()
    return start, run(batch_norm, method).train(1, start)[0]


def statistics(start: TrainState, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Of the stem's norm after these inputs in turn, by hand."""
    kernel = np.asarray(start.params["backbone"]["stem"]["dense"]["kernel"], np.float64)
    mean, var = np.zeros(toys.WIDTH), np.ones(toys.WIDTH)
    for part in inputs:
        hidden = part @ kernel
        mean = MOMENTUM * mean + (1 - MOMENTUM) * hidden.mean(0)
        var = MOMENTUM * var + (1 - MOMENTUM) * hidden.var(0)
    return {"mean": mean, "var": var}


def assert_statistics(state: TrainState, expected: dict[str, np.ndarray]) -> None:
    found = state.stats["backbone"]["stem"]["norm"]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


def inputs() -> tuple[np.ndarray, np.ndarray]:
    batch = toys.batch(0)
    assert batch.target is not None
    return np.asarray(batch.source.inputs), np.asarray(batch.target.inputs)


def test_separate_updates_statistics_with_the_source_and_then_the_target() -> None:
    start, end = after_one("separate")
    source, target = inputs()
    assert_statistics(end, statistics(start, source, target))
    with pytest.raises(AssertionError):
        assert_statistics(end, statistics(start, target, source))


def test_joint_updates_statistics_with_both_at_once() -> None:
    start, end = after_one("joint")
    assert_statistics(end, statistics(start, np.concatenate(inputs())))


def test_frozen_keeps_statistics_bit_for_bit_and_trains_the_parameters() -> None:
    start, end = after_one("frozen")
    assert toys.same(start.stats, end.stats)
    assert not toys.same(start.params["backbone"], end.params["backbone"])


def features(batch_norm: str) -> tuple[np.ndarray, np.ndarray]:
    """What the head reads of both domains, through a stem whose statistics are not the batch's."""
    model = toys.model(stages=0)
    params, stats = model.init(jax.random.key(0))
    stats = jax.tree.map(lambda leaf: leaf + 0.5, stats)
    (source, target), _ = forward.domains(
        model,
        params,
        stats,
        toys.batch(0),
        jax.random.key(1),
        reads=("source", "target"),
        train=forward.training_mode(params, stats, params, batch_norm),
        joint=batch_norm == "joint",
        axis_name=None,
    )
    assert source is not None and target is not None
    np.testing.assert_array_equal(source.labels, toys.batch(0).source.labels)
    return np.asarray(source.features), np.asarray(target.features)


def by_hand(batch_norm: str) -> tuple[np.ndarray, np.ndarray]:
    params, _ = toys.model(stages=0).init(jax.random.key(0))
    kernel = np.asarray(params["backbone"]["stem"]["dense"]["kernel"], np.float64)
    source, target = (part @ kernel for part in inputs())
    both = np.concatenate([source, target])
    of_source, of_target = {
        "separate": (source, target),
        "joint": (both, both),
        "frozen": (None, None),
    }[batch_norm]

    def through(hidden: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
        mean, var = (0.5, 1.5) if seen is None else (seen.mean(0), seen.var(0))
        hidden = np.maximum((hidden - mean) / np.sqrt(var + EPSILON), 0)
        dense = hidden @ np.asarray(params["bottleneck"]["dense"]["kernel"], np.float64)
        centred = dense - dense.mean(1, keepdims=True)
        return np.maximum(centred / np.sqrt(dense.var(1, keepdims=True) + 1e-6), 0)

    return through(source, of_source), through(target, of_target)


@pytest.mark.parametrize("batch_norm", ["separate", "joint", "frozen"])
def test_outputs_are_normalised_by_what_the_mode_says(batch_norm: str) -> None:
    for found, expected in zip(features(batch_norm), by_hand(batch_norm), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_supervised_training_never_forwards_the_target() -> None:
    supervised = run("separate", "supervised")
    start = supervised.start()
    batch = toys.batch(0)
    elsewhere = batch._replace(target=toys.batch(5).target)
    assert not toys.same(batch, elsewhere)
    first, _ = supervised.step(start, batch, supervised.hyper)
    second, _ = supervised.step(start, elsewhere, supervised.hyper)
    without, _ = supervised.step(start, batch._replace(target=None), supervised.hyper)
    assert toys.same(first, second) and toys.same(first, without)
    assert_statistics(first, statistics(start, inputs()[0]))


def test_a_frozen_backbone_keeps_its_batch_norm_while_the_rest_trains() -> None:
    frozen = run("separate", "dann", toys.FROZEN_BACKBONE)
    start = frozen.start()
    end, _ = frozen.train(3, start)
    assert toys.same(start.stats, end.stats) and toys.same(start.frozen, end.frozen)
    assert set(start.frozen) == {"backbone"}
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), start.params, end.params)
    assert all(jax.tree.leaves(moved)), moved


def test_a_frozen_batch_norm_predicts_with_its_stored_statistics_in_training() -> None:
    model = toys.model(stages=0)
    params, stats = model.init(jax.random.key(0))
    trainable = {name: params[name] for name in ("bottleneck", "head")}
    train = forward.training_mode(params, stats, trainable, "separate")
    x, _ = inputs()
    found, after = model.apply(params, stats, x, train=train, rng=jax.random.key(1))
    expected, _ = model.apply(params, stats, x, train=False, rng=None)
    assert toys.same((found, after), (expected, stats))


def drops(trainable: tuple[str, ...], key: int = 0) -> np.ndarray:
    """Features with dropout, in a model of which some blocks train."""
    model = toys.model(stages=0, dropout=0.5)
    params, stats = model.init(jax.random.key(0))
    chosen: Params = {name: params[name] for name in trainable}
    train = forward.training_mode(params, stats, chosen, "frozen")
    outputs, _ = model.apply(params, stats, inputs()[0], train=train, rng=jax.random.key(key))
    return np.asarray(outputs.features)


def test_dropout_is_active_only_in_blocks_that_train() -> None:
    assert np.array_equal(drops(("head",), 0), drops(("head",), 1))
    active = drops(("bottleneck", "head"), 0)
    assert not np.array_equal(active, drops(("bottleneck", "head"), 1))
    assert np.array_equal(active, drops(("bottleneck", "head"), 0))


def test_source_and_target_have_masks_of_their_own() -> None:
    model = toys.model(stages=0, dropout=0.5)
    params, stats = model.init(jax.random.key(0))
    batch = toys.batch(0)
    twice = batch._replace(target=batch.target._replace(inputs=batch.source.inputs))
    (source, target), _ = forward.domains(
        model,
        params,
        stats,
        twice,
        jax.random.key(1),
        reads=("source", "target"),
        train=True,
        joint=False,
        axis_name=None,
    )
    assert not np.array_equal(source.features, target.features)


def test_each_device_has_its_own_key_and_its_slice_of_the_batch() -> None:
    def body(rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        whole = forward.gather_over("d")(rows)
        key = forward.local_key(jax.random.key(0), "d")
        return whole, forward.local_slice(whole, "d"), jax.random.key_data(key)

    rows = jnp.arange(12.0).reshape(4, 3, 1)
    whole, local, keys = jax.vmap(body, axis_name="d")(rows)
    for device in range(4):
        np.testing.assert_array_equal(whole[device], rows.reshape(12, 1))
    np.testing.assert_array_equal(local, rows)
    assert len({tuple(key.tolist()) for key in keys}) == 4
