import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.types import Model

X = np.random.default_rng(0).normal(3, 2, size=(16, toys.INPUTS)).astype(np.float32)


class Two(nnx.Module):
    """Two blocks with dropout behind, to set the mode of each alone."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = toys.NormBlock(toys.INPUTS, toys.WIDTH, rngs)
        self.second = toys.NormBlock(toys.WIDTH, toys.WIDTH, rngs)
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> jax.Array:
        return self.dropout(self.second(self.first(x)), rngs=rng)


@pytest.fixture(scope="module")
def two() -> Model:
    return from_nnx(Two)


def plain(tree: object) -> bool:
    if type(tree) is dict:
        return all(type(key) is str and plain(value) for key, value in tree.items())
    return isinstance(tree, jax.Array)


def test_parameters_and_statistics_are_plain_dictionaries_of_arrays(two: Model) -> None:
    params, stats = two.init(jax.random.key(0))
    _, after = two.apply(params, stats, X, train=True, rng=jax.random.key(1))
    assert plain(params) and plain(stats) and plain(after)
    assert set(params) == {"first", "second"}
    assert set(params["first"]) == {"dense", "norm"}
    assert set(stats["first"]["norm"]) == {"mean", "var"}
    assert jax.tree.structure(stats) == jax.tree.structure(after)


def test_apply_changes_none_of_its_arguments(two: Model) -> None:
    params, stats = two.init(jax.random.key(0))
    before = jax.tree.map(lambda leaf: np.array(leaf, copy=True), (params, stats))
    _, after = two.apply(params, stats, X, train=True, rng=jax.random.key(1))
    assert toys.same(before, (params, stats))
    assert not toys.same(after, stats)


def test_apply_is_a_function_of_its_arguments(two: Model) -> None:
    params, stats = two.init(jax.random.key(0))
    other, _ = two.init(jax.random.key(1))
    first = two.apply(params, stats, X, train=True, rng=jax.random.key(1))
    two.apply(other, stats, X, train=False, rng=None)
    assert toys.same(first, two.apply(params, stats, X, train=True, rng=jax.random.key(1)))


def test_out_of_training_nothing_is_dropped_and_no_statistic_moves(two: Model) -> None:
    params, stats = two.init(jax.random.key(0))
    first, after = two.apply(params, stats, X, train=False, rng=jax.random.key(1))
    second, _ = two.apply(params, stats, X, train=False, rng=None)
    assert toys.same(after, stats)
    assert np.array_equal(first, second)


def test_training_mode_is_decided_for_each_module_by_its_path(two: Model) -> None:
    params, stats = two.init(jax.random.key(0))
    asked = []

    def train(path: str) -> bool:
        asked.append(path)
        return path == "second/norm"

    out, after = two.apply(params, stats, X, train=train, rng=jax.random.key(1))
    assert {"", "first", "first/dense", "first/norm", "second/norm", "dropout"} <= set(asked)
    assert toys.same(after["first"], stats["first"])
    assert not toys.same(after["second"], stats["second"])
    again, _ = two.apply(params, stats, X, train=train, rng=jax.random.key(2))
    assert np.array_equal(out, again), "dropout is not in training mode"


def test_dropout_needs_no_key_out_of_training_and_takes_one_in_it(two: Model) -> None:
    params, stats = two.init(jax.random.key(0))
    masks = [
        np.asarray(two.apply(params, stats, X, train=lambda p: p == "dropout", rng=key)[0]) != 0
        for key in jax.random.split(jax.random.key(0), 2)
    ]
    assert not np.array_equal(*masks)


def test_batch_norm_averages_over_the_mapped_axis_in_training_mode() -> None:
    alone = from_nnx(lambda rngs: toys.NormBlock(toys.INPUTS, toys.WIDTH, rngs))
    mapped = from_nnx(lambda rngs: toys.NormBlock(toys.INPUTS, toys.WIDTH, rngs), axis_name="d")
    params, stats = alone.init(jax.random.key(0))

    def part(x: jax.Array) -> jax.Array:
        return mapped.apply(params, stats, x, train=True, rng=None)[0]

    expected, _ = alone.apply(params, stats, X, train=True, rng=None)
    parts = jax.vmap(part, axis_name="d")(jnp.reshape(X, (4, 4, -1)))
    np.testing.assert_allclose(parts.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    mapped.apply(params, stats, X, train=False, rng=None)  # needs no axis to predict


def test_a_module_may_not_hold_a_state_of_another_kind() -> None:
    class Counting(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.calls = nnx.Variable(jnp.zeros(()))

    with pytest.raises(TypeError, match="parameters and statistics only"):
        from_nnx(Counting)
