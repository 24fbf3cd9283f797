"""Random changes of training images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl.data.augment import Augment, none, random_flip, random_shift

KEY = jax.random.key(0)
IMAGES = jax.random.uniform(jax.random.key(1), (64, 7, 9, 2))


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The image moved by whole pixels, its border filling what is laid bare."""
    height, width, _ = image.shape
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="edge")
    return padded[3 - down : 3 - down + height, 3 - right : 3 - right + width]


def test_every_image_is_shifted_by_whole_pixels_within_the_limit() -> None:
    shifted = np.asarray(jax.jit(random_shift(2))(KEY, IMAGES))
    seen = set()
    for before, after in zip(np.asarray(IMAGES), shifted, strict=True):
        matches = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if np.array_equal(moved(before, down, right), after)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {down for down, _ in seen} == {right for _, right in seen} == {-2, -1, 0, 1, 2}
    assert len(seen) > 15  # the two directions are drawn apart


def test_a_shift_of_no_pixels_changes_nothing() -> None:
    np.testing.assert_array_equal(jax.jit(random_shift(0))(KEY, IMAGES), IMAGES)


@pytest.mark.parametrize("background", [0.0, 255.0])
def test_a_shift_keeps_a_plain_background(background: float) -> None:
    images = jnp.full((16, 8, 8, 1), background)
    np.testing.assert_array_equal(jax.jit(random_shift(4))(KEY, images), images)


def test_about_half_of_the_images_are_mirrored() -> None:
    flipped = np.asarray(jax.jit(random_flip)(KEY, IMAGES))
    same = (flipped == IMAGES).all(axis=(1, 2, 3))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 16 <= mirrored.sum() <= 48


@pytest.mark.parametrize("augment", [random_shift(2), random_flip])
def test_the_key_is_all_that_decides(augment: Augment) -> None:
    changed = jax.jit(augment)
    np.testing.assert_array_equal(changed(KEY, IMAGES), changed(KEY, IMAGES))
    assert (changed(KEY, IMAGES) != changed(jax.random.key(2), IMAGES)).any()


def test_no_augmentation_changes_nothing() -> None:
    assert none(KEY, IMAGES) is IMAGES
