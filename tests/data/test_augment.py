"""Random changes of training images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl.data.augment import (
    GREY,
    Augment,
    none,
    random_contrast,
    random_cutout,
    random_flip,
    random_mask,
    random_shift,
    strong,
)

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


def test_each_image_keeps_its_mean_and_some_of_its_contrast() -> None:
    images = jnp.asarray(255 * IMAGES, jnp.uint8)
    faded = np.asarray(jax.jit(random_contrast(0.2, 0.6))(KEY, images), np.float64)
    before = np.asarray(images, np.float64)
    mean = before.mean((1, 2, 3), keepdims=True)
    factors = ((faded - mean) * (before - mean)).sum((1, 2, 3)) / ((before - mean) ** 2).sum(
        (1, 2, 3)
    )
    np.testing.assert_allclose(
        faded, mean + factors[:, None, None, None] * (before - mean), atol=1e-3
    )
    assert 0.2 <= factors.min() < 0.25 and 0.55 < factors.max() <= 0.6
    assert len(set(factors.round(6))) == len(images)


def test_a_square_of_each_image_is_greyed_and_the_rest_kept() -> None:
    images = jax.random.uniform(KEY, (256, 16, 16, 2))
    cut = np.asarray(jax.jit(random_cutout(0.5))(KEY, images))
    sides, places = [], []
    for before, after in zip(np.asarray(images), cut, strict=True):
        grey = (after == GREY).all(axis=-1)
        np.testing.assert_array_equal(after[~grey], before[~grey])
        rows, columns = grey.any(axis=1), grey.any(axis=0)
        np.testing.assert_array_equal(grey, np.outer(rows, columns))
        within = all(not side[0] and not side[-1] for side in (rows, columns))
        if within and grey.any():
            # A square that lies between two pixels' middles may take one pixel more one way.
            assert abs(rows.sum() - columns.sum()) <= 1
            sides.append(rows.sum())
            places.append((rows.argmax(), columns.argmax()))
        assert rows.sum() <= 8 and columns.sum() <= 8
    assert max(sides) >= 7 and min(sides) <= 2
    assert {row > column for row, column in places} == {True, False}


@pytest.mark.parametrize("shape", [(64, 20), (64, 4, 5, 2)])
def test_the_stated_fraction_of_the_numbers_is_masked(shape: tuple[int, ...]) -> None:
    inputs = jax.random.uniform(KEY, shape, minval=1.0, maxval=2.0)
    masked = np.asarray(jax.jit(lambda share: random_mask(share)(KEY, inputs))(0.3))
    lost = masked == 0
    np.testing.assert_array_equal(masked[~lost], np.asarray(inputs)[~lost])
    assert lost.mean() == pytest.approx(0.3, abs=0.05)
    assert len(set(lost.reshape(64, -1).sum(axis=1))) > 3  # each number by itself


def test_a_strong_view_of_images_is_moved_faded_and_cut() -> None:
    images = jnp.asarray(255 * jax.random.uniform(KEY, (32, 20, 20, 3)), jnp.uint8)
    view = np.asarray(strong(KEY, images, masked=0.9))
    keys = jax.random.split(KEY, 3)
    moved = random_shift(6)(keys[0], images)
    faded = np.asarray(random_contrast(0.05, 0.95)(keys[1], moved))
    grey = (view == GREY).all(axis=-1)
    np.testing.assert_allclose(view[~grey], faded[~grey], rtol=1e-5)
    assert 0.02 < grey.mean() < 0.25
    # Nothing is masked, however much of a vector would be.
    assert not np.any(view[~grey] == 0)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((16, 30), float), ((16, 30), int), ((16, 5, 5, 3), float)]
)
def test_a_strong_view_of_what_holds_no_pixels_is_masked(
    shape: tuple[int, ...], dtype: type
) -> None:
    inputs = (100 * jax.random.normal(KEY, shape)).astype(dtype)
    np.testing.assert_array_equal(strong(KEY, inputs, masked=0.4), random_mask(0.4)(KEY, inputs))
    np.testing.assert_array_equal(strong(KEY, inputs, masked=0.0), inputs)


CHANGES = [random_shift(2), random_flip, random_contrast(0, 1), random_cutout(1), random_mask(0.5)]


@pytest.mark.parametrize("augment", CHANGES)
def test_the_key_is_all_that_decides(augment: Augment) -> None:
    changed = jax.jit(augment)
    np.testing.assert_array_equal(changed(KEY, IMAGES), changed(KEY, IMAGES))
    assert (changed(KEY, IMAGES) != changed(jax.random.key(2), IMAGES)).any()


def test_no_augmentation_changes_nothing() -> None:
    assert none(KEY, IMAGES) is IMAGES
