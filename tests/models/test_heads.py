import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jtl import partition, registry
from jtl.errors import UserError
from jtl.models import heads
from jtl.types import Model, Stats

X = np.random.default_rng(0).normal(size=(64, toys.WIDTH)).astype(np.float32)
MODELS = {
    "bottleneck": (heads.bottleneck(8, 16, dropout=0.5), (64, 16)),
    "head": (heads.head(8, 3), (64, 3)),
    "discriminator": (heads.discriminator(8, 16), (64,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_have_the_stated_shape_and_no_model_holds_statistics(name: str) -> None:
    model, shape = MODELS[name]
    params, stats = model.init(jax.random.key(0))
    out, after = model.apply(params, stats, X, train=False, rng=None)
    assert out.shape == shape and out.dtype == jnp.float32
    assert stats == {} == after


def test_the_bottleneck_normalises_each_example_alone() -> None:
    model = heads.bottleneck(8, 16)
    params, _ = model.init(jax.random.key(0))
    whole, _ = model.apply(params, {}, X, train=True, rng=None)
    alone, _ = model.apply(params, {}, X[:1], train=True, rng=None)
    np.testing.assert_allclose(whole[:1], alone, rtol=1e-5, atol=1e-6)
    dense = X @ np.asarray(params["dense"]["kernel"])
    centred = dense - dense.mean(1, keepdims=True)
    normal = centred / np.sqrt(dense.var(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(whole, np.maximum(normal, 0), rtol=1e-4, atol=1e-5)


def test_a_batch_norm_normalises_by_its_batch_and_remembers_a_tenth_of_it() -> None:
    model = heads.bottleneck(8, 16, norm="batch")
    params, stats = model.init(jax.random.key(0))
    found, after = model.apply(params, stats, X, train=True, rng=None)
    dense = X @ np.asarray(params["dense"]["kernel"], np.float64)
    normal = (dense - dense.mean(0)) / np.sqrt(dense.var(0) + 1e-5)
    np.testing.assert_allclose(found, np.maximum(normal, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after["norm"]["mean"], 0.1 * dense.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["norm"]["var"], 0.9 + 0.1 * dense.var(0), rtol=1e-4)


def test_a_batch_norm_averages_over_a_mapped_axis() -> None:
    whole = heads.bottleneck(8, 16, norm="batch")
    params, stats = whole.init(jax.random.key(0))
    expected = whole.apply(params, stats, X, train=True, rng=None)
    parts = heads.bottleneck(8, 16, norm="batch", axis_name="d")

    def part(rows: jax.Array) -> tuple[jax.Array, Stats]:
        return parts.apply(params, stats, rows, train=True, rng=None)

    outputs, after = jax.vmap(part, axis_name="d")(jnp.reshape(X, (4, 16, -1)))
    np.testing.assert_allclose(outputs.reshape(64, 16), expected[0], rtol=1e-4, atol=1e-5)
    first = jax.tree.map(lambda leaf: leaf[0], after)
    assert toys.difference(expected[1], first) < 1e-6


@pytest.mark.parametrize("norm", registry.NORMS)
def test_no_bias_stands_before_a_norm(norm: str) -> None:
    params, _ = heads.bottleneck(8, 16, norm=norm).init(jax.random.key(0))
    assert set(params["dense"]) == {"kernel"} and set(params["norm"]) == {"scale", "bias"}


def test_an_unknown_norm_is_one_line() -> None:
    with pytest.raises(UserError, match=r"model.norm: there is no 'bach'; did you mean batch\?"):
        heads.bottleneck(8, 16, norm="bach")


def dropped(model: Model, key: int) -> np.ndarray:
    params, _ = model.init(jax.random.key(0))
    out, _ = model.apply(params, {}, X, train=True, rng=jax.random.key(key))
    kept, _ = model.apply(params, {}, X, train=False, rng=None)
    return np.asarray(out)[np.asarray(kept) > 0] == 0


def test_the_bottleneck_drops_the_stated_share_and_other_units_under_another_key() -> None:
    model = heads.bottleneck(8, 16, dropout=0.25)
    first, second = dropped(model, 1), dropped(model, 2)
    assert first.mean() == pytest.approx(0.25, abs=0.07)
    assert not np.array_equal(first, second) and np.array_equal(first, dropped(model, 1))


def test_the_discriminator_has_two_hidden_layers() -> None:
    params, _ = heads.discriminator(8, 16).init(jax.random.key(0))
    shapes = {path: leaf.shape for path, leaf in partition.walk(params) if "kernel" in path}
    assert shapes == {
        "first/kernel": (8, 16),
        "second/kernel": (16, 16),
        "output/kernel": (16, 1),
    }
