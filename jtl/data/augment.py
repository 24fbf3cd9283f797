"""Random changes of training images, made inside the compiled step.

An augmentation is a pure function ``(key, images) -> images``. Each image draws its own randomness.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, PRNGKeyArray

Images = Float[jax.Array, "images height width channels"]
Augment = Callable[[PRNGKeyArray, Images], Images]


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


def none(key: PRNGKeyArray, images: Images) -> Images:
    """Leaves the images as they are."""
    del key
    return images


shift = random_shift(2)
"""By at most two pixels."""
