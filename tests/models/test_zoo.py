"""The backbones by name: what they ask of images."""

import re

import jax
import numpy as np
import pytest

from jtl import registry
from jtl.errors import UserError
from jtl.models import zoo
from jtl.models.chain import chain


@pytest.mark.parametrize("name", registry.ARCHITECTURES)
def test_images_that_are_too_small_are_refused_and_the_smallest_pass(name: str) -> None:
    with pytest.raises(UserError, match=rf"model.image_size is 2; {name} takes images of \d+") as e:
        zoo.random(name, image_size=2)
    smallest = int(re.findall(r"\d+", str(e.value))[-1])
    with pytest.raises(UserError, match=f"image_size is {smallest - 1}; "):
        zoo.random(name, image_size=smallest - 1)
    found = zoo.random(name, image_size=smallest)
    model = chain(found.blocks())
    pixels = np.zeros((3, smallest, smallest, found.wanted.channels), np.uint8)

    def features(key: jax.Array) -> jax.Array:
        return model.apply(*model.init(key), pixels, train=False, rng=None)[0]

    assert jax.eval_shape(features, jax.random.key(0)).shape == (3, found.width)


@pytest.mark.parametrize("name", registry.PACKAGES)
def test_the_weights_of_a_package_do_not_make_smaller_images_fit(name: str) -> None:
    with pytest.raises(UserError, match=r"model.image_size is 2; .* pixels or more"):
        zoo.package(name, image_size=2)


@pytest.mark.parametrize("name", registry.ARCHITECTURES)
def test_an_architecture_is_found_again_under_the_name_it_gives(name: str) -> None:
    """It is what a run writes beside its weights."""
    assert zoo.random(zoo.random(name).architecture).name == name
