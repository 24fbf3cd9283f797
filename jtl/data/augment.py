"""Random changes of training images, made inside the compiled step.

An augmentation is a pure function ``(key, images) -> images`` on floating-point images, each of
which draws its own randomness. Several are joined by :func:`compose`.
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


def compose(*augments: Augment) -> Augment:
    """One augmentation after another; none at all leaves the images as they are."""

    def all_of_them(key: PRNGKeyArray, images: Images) -> Images:
        for index, augment in enumerate(augments):
            images = augment(jax.random.fold_in(key, index), images)
        return images

    return all_of_them
