import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jtl.models.chain import Blocks, chain, classifier, prefixed
from jtl.training.step import make_training
from jtl.types import Model, Params, Stats, Train

X = toys.batch(0).source.inputs


def scale(factor: float) -> Model:
    """A block without parameters, statistics or flax."""

    def apply(
        params: Params, stats: Stats, inputs: jax.Array, *, train: Train, rng: jax.Array | None
    ) -> tuple[jax.Array, Stats]:
        return inputs * factor, {}

    return Model(lambda key: ({}, {}), apply)


def dense(width_in: int, width: int) -> Model:
    """A dense layer in plain jax."""

    def init(key: jax.Array) -> tuple[Params, Stats]:
        return {"kernel": jax.random.normal(key, (width_in, width)) / width_in**0.5}, {}

    def apply(
        params: Params, stats: Stats, inputs: jax.Array, *, train: Train, rng: jax.Array | None
    ) -> tuple[jax.Array, Stats]:
        return inputs @ params["kernel"], stats

    return Model(init, apply)


@pytest.fixture(scope="module")
def trained() -> tuple[Params, Stats]:
    """Values under which statistics differ from their start."""
    model = toys.model()
    params, stats = model.init(jax.random.key(0))
    _, stats = model.apply(params, stats, X, train=True, rng=jax.random.key(1))
    return params, stats


def test_parameters_and_statistics_are_nested_by_path(trained: tuple[Params, Stats]) -> None:
    params, stats = trained
    assert set(params) == {"backbone", "bottleneck", "head"}
    assert set(params["backbone"]) == {"stem", "stage1"} == set(stats["backbone"])
    assert set(stats) == {"backbone"}, "a block without statistics has no entry"


def test_blocks_run_in_order() -> None:
    def add(inputs: jax.Array) -> jax.Array:
        return inputs + 1

    plus_one = Model(lambda key: ({}, {}), lambda p, s, x, *, train, rng: (add(x), {}))
    model = chain((("double", scale(2.0)), ("add", plus_one)))
    assert model.init(jax.random.key(0)) == ({}, {})
    assert float(model.apply({}, {}, jnp.float32(3), train=False, rng=None)[0]) == 7.0


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_cut_is_a_slice(cut: int, trained: tuple[Params, Stats]) -> None:
    params, stats = trained
    blocks = toys.blocks()
    whole, _ = classifier(blocks).apply(params, stats, X, train=False, rng=None)
    below, _ = chain(blocks[:cut]).apply(params, stats, X, train=False, rng=None)
    above, _ = classifier(blocks[cut:]).apply(params, stats, below, train=False, rng=None)
    assert toys.same((above.features, above.logits), (whole.features, whole.logits))


def test_features_are_what_the_head_reads(trained: tuple[Params, Stats]) -> None:
    params, stats = trained
    outputs, _ = toys.model().apply(params, stats, X, train=False, rng=None)
    kernel, bias = params["head"]["dense"]["kernel"], params["head"]["dense"]["bias"]
    np.testing.assert_allclose(outputs.features @ kernel + bias[None], outputs.logits, rtol=1e-5)


def test_layers_are_what_the_blocks_below_the_head_return() -> None:
    blocks = (("double", scale(2.0)), ("deep/triple", scale(3.0)), ("head", scale(5.0)))
    outputs, _ = classifier(blocks).apply({}, {}, X, train=False, rng=None)
    assert list(outputs.layers) == ["double", "deep/triple"]
    np.testing.assert_allclose(outputs.layers["double"], X * 2)
    assert outputs.layers["deep/triple"] is outputs.features
    np.testing.assert_allclose(outputs.logits, X * 30, rtol=1e-6)


def test_a_classifier_starts_as_its_chain() -> None:
    key = jax.random.key(3)
    assert toys.same(chain(toys.blocks()).init(key), toys.model().init(key))


def test_blocks_of_one_shape_start_differently() -> None:
    params, _ = chain((("a", dense(4, 4)), ("b", dense(4, 4)))).init(jax.random.key(0))
    assert not toys.same(params["a"], params["b"])


def test_each_block_has_a_key_of_its_own() -> None:
    keys = []

    def record(params: Params, stats: Stats, x: jax.Array, *, train: Train, rng: jax.Array):
        keys.append(tuple(jax.random.key_data(rng).tolist()))
        return x, {}

    spy = Model(lambda key: ({}, {}), record)
    spies: Blocks = tuple((name, spy) for name in "abcd")
    classifier(spies).apply({}, {}, X, train=True, rng=jax.random.key(0))
    chain(spies).apply({}, {}, X, train=True, rng=jax.random.key(1))
    assert len(set(keys)) == 8


def test_the_predicate_sees_whole_paths(trained: tuple[Params, Stats]) -> None:
    params, stats = trained
    asked: list[str] = []

    def train(path: str) -> bool:
        asked.append(path)
        return path == "backbone/stage1/norm"

    _, after = toys.model().apply(params, stats, X, train=train, rng=jax.random.key(0))
    assert {"backbone/stem", "backbone/stem/norm", "bottleneck/dropout", "head"} <= set(asked)
    assert toys.same(after["backbone"]["stem"], stats["backbone"]["stem"])
    assert not toys.same(after["backbone"]["stage1"], stats["backbone"]["stage1"])


def test_prefixing_moves_blocks_one_level_deeper() -> None:
    blocks = prefixed("backbone", (("stem", scale(1.0)), ("pool", scale(2.0))))
    assert [path for path, _ in blocks] == ["backbone/stem", "backbone/pool"]


def test_a_model_written_without_flax_trains() -> None:
    blocks = (
        ("backbone/scale", scale(2.0)),
        ("backbone/dense", dense(toys.INPUTS, toys.WIDTH)),
        ("head", dense(toys.WIDTH, toys.CLASSES)),
    )
    method = toys.small_dann()
    run = toys.Run(toys.recipe(method, model=classifier(blocks), rules=toys.FROZEN_BACKBONE))
    start = run.start()
    end, metrics = run.train(3, start)
    assert toys.same(start.frozen, end.frozen) and set(start.frozen) == {"backbone"}
    assert not toys.same(start.params["head"], end.params["head"])
    assert all(np.isfinite(value) for value in metrics.values())
    assert start.stats == {} == end.stats
    make_training(toys.recipe(method, model=classifier(blocks)))
