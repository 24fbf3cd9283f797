"""The digits backbone: shapes, normalisation, and independence of the examples of a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.models.digits_convnet import (
    BATCH_NORM_NAME,
    MEAN,
    NAME,
    STD,
    backbone,
    with_batch_norm,
)
from jtl.models.zoo import random
from jtl.partition import walk
from jtl.types import Model, Params, Stats


def _made(**options: int) -> tuple[Backbone, Model, Params, Stats]:
    found = backbone(**options)
    model = chain(found.blocks())
    return found, model, *jax.jit(model.init)(jax.random.key(0))


def _pixels(count: int, size: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 1), np.uint8)


@pytest.mark.parametrize("size", [28, 20, 8])
def test_features_have_the_stated_width_at_any_size(size: int) -> None:
    found, model, params, stats = _made(width=4, image_size=size)
    apply = jax.jit(partial(model.apply, train=False, rng=None))
    features, _ = apply(params, stats, _pixels(3, size))
    assert features.shape == (3, found.width) == (3, 16)
    assert found.wanted.size == size


def test_the_full_size_has_the_stated_blocks_and_parameters() -> None:
    found = random(NAME)
    params, stats = jax.eval_shape(chain(found.blocks()).init, jax.random.key(0))
    assert [name for name, _ in found.blocks()] == ["stage1", "stage2", "dense"]
    assert sum(leaf.size for _, leaf in walk(params)) == 421_088
    assert stats == {}
    assert found.weights is None


def test_with_batch_norm_every_norm_has_statistics_and_the_parameters_are_the_same() -> None:
    found, plain = random(BATCH_NORM_NAME), random(NAME)
    assert found.architecture == found.name == BATCH_NORM_NAME
    shapes, others = (
        jax.eval_shape(chain(each.blocks()).init, jax.random.key(0)) for each in (found, plain)
    )
    assert jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, others[0])
    assert {path for path, _ in walk(shapes[1])} == {
        f"{block}/norm/{name}"
        for block in ("stage1", "stage2", "dense")
        for name in ("mean", "var")
    }


def test_a_batch_norm_normalises_each_channel_over_the_batch_and_remembers_a_tenth_of_it() -> None:
    stage = dict(with_batch_norm(width=4).blocks())["stage1"]
    params, stats = stage.init(jax.random.key(0))
    # A kernel that copies the image to channels of four brightnesses.
    brightness = jnp.array([1.0, 2.0, 3.0, -1.0])
    copy = jnp.zeros((5, 5, 1, 4)).at[2, 2, 0].set(brightness)
    pixels = _pixels(3)
    features, after = stage.apply(
        params | {"conv": {"kernel": copy}}, stats, pixels, train=True, rng=None
    )
    seen = ((pixels.astype(np.float64) - MEAN) / STD) * np.asarray(brightness)
    seen = seen.reshape(3, 14, 2, 14, 2, 4).max((2, 4))
    mean, var = seen.mean((0, 1, 2)), seen.var((0, 1, 2))
    expected = np.maximum((seen - mean) / np.sqrt(var + 1e-5), 0)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(after["norm"]["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(after["norm"]["var"], 0.9 + 0.1 * var, rtol=1e-4)


def test_the_batch_norms_average_over_a_mapped_axis() -> None:
    made = with_batch_norm(width=4, image_size=4)
    whole, parts = chain(made.blocks()), chain(made.blocks(axis_name="d"))
    params, stats = whole.init(jax.random.key(0))
    pixels = _pixels(8, 4)
    expected, remembered = whole.apply(params, stats, pixels, train=True, rng=None)

    def part(rows: jax.Array) -> tuple[jax.Array, Stats]:
        return parts.apply(params, stats, rows, train=True, rng=None)

    outputs, after = jax.vmap(part, axis_name="d")(pixels.reshape(2, 4, 4, 4, 1))
    np.testing.assert_allclose(outputs.reshape(8, -1), expected, rtol=1e-3, atol=1e-4)
    found = dict(walk(after))
    for path, expected in walk(remembered):
        np.testing.assert_allclose(found[path][0], expected, rtol=1e-4, atol=1e-5, err_msg=path)


def test_an_example_does_not_depend_on_the_others_of_its_batch() -> None:
    _, model, params, stats = _made(width=4)
    pixels = _pixels(5)
    apply = jax.jit(partial(model.apply, train=True, rng=None))
    together, _ = apply(params, stats, pixels)
    alone, _ = apply(params, stats, pixels[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixels_are_normalised_before_anything_else(dtype: type) -> None:
    _, _, params, _ = _made(width=4)
    stage = dict(backbone(width=4).blocks())["stage1"]
    # A kernel that moves the image right by two, so that the padding shows its mean, and so
    # faintly that the norm's epsilon shows its scale.
    faint = 1e-3
    copy = jnp.zeros((5, 5, 1, 4)).at[2, 0].set(faint)
    pixels = _pixels(2).astype(dtype)
    features, _ = stage.apply(
        params["stage1"] | {"conv": {"kernel": copy}}, {}, pixels, train=False, rng=None
    )
    moved = np.pad((pixels.astype(np.float64) - MEAN) / STD, ((0, 0), (0, 0), (2, 0), (0, 0)))
    seen = faint * moved[:, :, :-2].reshape(2, 14, 2, 14, 2, 1).max((2, 4))
    seen -= seen.mean((1, 2), keepdims=True)
    expected = seen / np.sqrt(seen.var((1, 2), keepdims=True) + 1e-6)
    np.testing.assert_allclose(features, np.maximum(expected, 0).repeat(4, 3), rtol=1e-3, atol=1e-4)


def test_every_parameter_learns() -> None:
    _, model, params, stats = _made(width=4)
    pixels = _pixels(8)

    def loss(params: Params) -> jax.Array:
        features, _ = model.apply(params, stats, pixels, train=True, rng=None)
        return jnp.sum(features * jnp.cos(jnp.arange(16.0))[None])

    for path, gradient in walk(jax.jit(jax.grad(loss))(params)):
        assert np.abs(gradient).max() > 0, path
