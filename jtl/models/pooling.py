"""From tokens or images to one vector of features an example: the last block of a backbone."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from jtl.models.adapter import from_nnx
from jtl.models.transformer import Attention, Inner, Size, Tokens, not_padding
from jtl.types import Array, Model

Features = Float[Array, "examples features"]


class Pool(NamedTuple):
    """How tokens become features.

    Attributes:
      kind: "class", the first token; "mean", of those after the first ones; "both", the two side
        by side; "attention", what one learnt token reads in all (Lee et al., ICML 2019; SigLIP).
      first: how many tokens at the start are of no place: class token and registers.
      size: of the tokens, and of the layer that reads them.
    """

    kind: str
    first: int
    size: Size

    @property
    def width(self) -> int:
        """The number of features."""
        return self.size.width * (2 if self.kind == "both" else 1)


def of_tokens(pool: Pool) -> Model:
    """Tokens [B, T, W] -> features [B, W], or [B, 2 W] of "both". Rows of zeros are padding."""
    if pool.kind == "attention":
        return from_nnx(partial(_Reader, pool.size))
    return from_nnx(partial(_Chooser, pool))


def of_images() -> Model:
    """The mean over all places: [B, H, W, C] -> [B, C]."""
    return from_nnx(_Mean)


def unit() -> Model:
    """Features of length 1: [B, W] -> [B, W]. It has no parameters."""
    return from_nnx(_Unit)


class _Chooser(nnx.Module):
    def __init__(self, pool: Pool, rngs: nnx.Rngs) -> None:
        del rngs
        self.kind, self.first = pool.kind, pool.first

    def __call__(self, x: Tokens, *, rng: jax.Array | None = None) -> Features:
        del rng
        if self.kind == "class":
            return x[:, 0]
        places = x[:, self.first :]
        count = jnp.maximum(not_padding(places).sum(axis=1, keepdims=True), 1)
        mean = places.sum(axis=1) / count
        return mean if self.kind == "mean" else jnp.concatenate([x[:, 0], mean], axis=1)


class _Reader(nnx.Module):
    def __init__(self, size: Size, rngs: nnx.Rngs) -> None:
        self.token = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (1, size.width)))
        self.attention = Attention(size, rngs)
        self.inner, self.inner_norm = Inner(size, rngs), size.norm(rngs)

    def __call__(self, x: Tokens, *, rng: jax.Array | None = None) -> Features:
        del rng
        token = jnp.broadcast_to(self.token[...], (x.shape[0], *self.token[...].shape))
        read = self.attention(token, x, there=not_padding(x))
        return (read + self.inner(self.inner_norm(read)))[:, 0]


class _Mean(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        del rngs

    def __call__(self, x: Array, *, rng: jax.Array | None = None) -> Features:
        del rng
        return x.mean((1, 2))


class _Unit(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        del rngs

    def __call__(self, x: Array, *, rng: jax.Array | None = None) -> Features:
        del rng
        length = jnp.sqrt((x**2).sum(axis=-1, keepdims=True))
        return x / jnp.maximum(length, 1e-12)
