"""Random changes of training images, made inside the compiled step.

An augmentation is a pure function ``(key, images) -> images``. Each image draws its own randomness.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, PRNGKeyArray

Images = Float[jax.Array, "images height width channels"]
Inputs = Float[jax.Array, "examples ..."]
Augment = Callable[[PRNGKeyArray, Images], Images]
GREY = 127.5
"""Halfway between black and white."""


def random_shift(pixels: int) -> Augment:
    """Moves each image by up to ``pixels`` in both directions; its border fills what is laid bare.

    Digits stay on black and emoji on white, for nothing is assumed of the background.
    """

    def shift(key: PRNGKeyArray, images: Images) -> Images:
        count, height, width, _ = images.shape
        shifts = jax.random.randint(key, (2, count, 1), -pixels, pixels + 1)
        rows = jnp.clip(jnp.arange(height)[None] + shifts[0], 0, height - 1)
        columns = jnp.clip(jnp.arange(width)[None] + shifts[1], 0, width - 1)
        return jax.vmap(_pick)(images, rows, columns)

    return shift


def _pick(
    image: Float[jax.Array, "height width channels"],
    rows: Int[jax.Array, " height"],
    columns: Int[jax.Array, " width"],
) -> Float[jax.Array, "height width channels"]:
    return image[rows][:, columns]


def random_flip(key: PRNGKeyArray, images: Images) -> Images:
    """Mirrors each image left to right with probability one half. Not for digits or letters."""
    flipped = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def random_contrast(lowest: float, highest: float) -> Augment:
    """Brings each image's pixels closer to their mean, by a factor drawn between the two."""

    def contrast(key: PRNGKeyArray, images: Images) -> Images:
        factor = jax.random.uniform(key, (len(images), 1, 1, 1), minval=lowest, maxval=highest)
        pixels = jnp.asarray(images, jnp.float32)
        mean = pixels.mean((1, 2, 3), keepdims=True)
        return mean + factor * (pixels - mean)

    return contrast


def random_cutout(widest: float) -> Augment:
    """Greys a square of each image (DeVries and Taylor, 2017, arXiv 1708.04552).

    Its centre is anywhere in the image, so that part of it may lie outside; its side is drawn from
    0 to ``widest`` times the image's.
    """

    def cutout(key: PRNGKeyArray, images: Images) -> Images:
        count, height, width, _ = images.shape
        of_size, of_place = jax.random.split(key)
        half = jax.random.uniform(of_size, (count, 1), maxval=widest / 2)
        centre = jax.random.uniform(of_place, (2, count, 1))

        def inside(size: int, centre: jax.Array) -> jax.Array:
            middles = (jnp.arange(size) + 0.5) / size
            return jnp.abs(middles[None] - centre) < half

        rows, columns = inside(height, centre[0]), inside(width, centre[1])
        return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], GREY, images)

    return cutout


def random_mask(fraction: float | Float[jax.Array, ""]) -> Augment:
    """Sets each number to 0 with this probability, whatever the shape of the inputs."""

    def mask(key: PRNGKeyArray, inputs: Inputs) -> Inputs:
        kept = jax.random.bernoulli(key, 1.0 - fraction, inputs.shape)
        return jnp.where(kept, inputs, 0)

    return mask


def strong(key: PRNGKeyArray, inputs: Inputs, *, masked: float | Float[jax.Array, ""]) -> Inputs:
    """A change that leaves the class to be seen and little else: a strong view, as in FixMatch.

    Images are moved, lose contrast and have a square cut out, each within RandAugment's range in
    FixMatch (Sohn et al., 2020, arXiv 2001.07685, appendix). What holds no pixels (vectors, and
    what frozen blocks give) loses the fraction ``masked`` of its numbers.

    Args:
      key: of the randomness.
      inputs: images are those in integers [B, H, W, C], as the loaders give them.
      masked: from 0 to 1.
    """
    if inputs.ndim != 4 or not jnp.issubdtype(inputs.dtype, jnp.integer):
        return random_mask(masked)(key, inputs)
    keys = jax.random.split(key, 3)
    moved = random_shift(round(0.3 * inputs.shape[1]))(keys[0], inputs)
    return random_cutout(0.5)(keys[2], random_contrast(0.05, 0.95)(keys[1], moved))


def none(key: PRNGKeyArray, images: Images) -> Images:
    """Leaves the images as they are."""
    del key
    return images


shift = random_shift(2)
"""By at most two pixels."""
