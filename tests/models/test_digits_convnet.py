"""The digits backbone: shapes, normalisation, and independence of the examples of a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl.models.backbone import Backbone, random
from jtl.models.chain import chain
from jtl.models.digits_convnet import MEAN, NAME, STD, backbone
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
    assert found.preprocess.size == size


def test_the_full_size_has_the_stated_blocks_and_parameters() -> None:
    found = random(NAME)
    params, stats = jax.eval_shape(chain(found.blocks()).init, jax.random.key(0))
    assert [name for name, _ in found.blocks()] == ["stage1", "stage2", "dense"]
    assert sum(leaf.size for _, leaf in walk(params)) == 421_088
    assert stats == {}
    assert found.weights is None


def test_an_example_does_not_depend_on_the_others_of_its_batch() -> None:
    _, model, params, stats = _made(width=4)
    pixels = _pixels(5)
    apply = jax.jit(partial(model.apply, train=True, rng=None))
    together, _ = apply(params, stats, pixels)
    alone, _ = apply(params, stats, pixels[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_before_anything_else() -> None:
    _, model, params, stats = _made(width=4)
    pixels = _pixels(2)

    @jax.jit
    def apply(params: Params, pixels: np.ndarray) -> jax.Array:
        return model.apply(params, stats, pixels, train=False, rng=None)[0]

    np.testing.assert_array_equal(apply(params, pixels), apply(params, pixels.astype(np.float32)))
    # The first norm's scale is what shows whether pixels arrive near 0 and 1: its epsilon is
    # nothing beside them, but much beside a tenth of a grey level.
    faint = np.float32(MEAN) + 1e-3 * pixels.astype(np.float32) / 255
    flat = params["stage1"]["conv"]["kernel"] * STD
    unnormalised = params | {"stage1": params["stage1"] | {"conv": {"kernel": flat}}}
    assert np.abs(apply(params, faint) - apply(unnormalised, faint)).max() > 1e-3
    mean = apply(params, np.full((1, 28, 28, 1), MEAN, np.float32))
    np.testing.assert_array_equal(mean, np.zeros_like(mean))


def test_every_parameter_learns() -> None:
    _, model, params, stats = _made(width=4)
    pixels = _pixels(8)

    def loss(params: Params) -> jax.Array:
        features, _ = model.apply(params, stats, pixels, train=True, rng=None)
        return jnp.sum(features * jnp.cos(jnp.arange(16.0))[None])

    for path, gradient in walk(jax.jit(jax.grad(loss))(params)):
        assert np.abs(gradient).max() > 0, path
