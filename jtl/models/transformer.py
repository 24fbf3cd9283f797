"""What transformers are made of: attention, the two dense layers, and a layer of both.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017. Tokens are [B, T, W].
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float

from jtl.models.dot_product import attend
from jtl.models.layers import Dense, lifted
from jtl.types import Array

Tokens = Float[jax.Array, "examples tokens width"]
There = Bool[Array, "examples tokens"]


def quick_gelu(x: jax.Array) -> jax.Array:
    """``x sigmoid(1.702 x)``, which the first CLIP took for a GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
"""By the names of checkpoints' configs; "gelu" is the exact one."""


class Size(NamedTuple):
    """What tells one layer from another.

    Attributes:
      width: of a token.
      heads: of the attention.
      hidden: width between the two dense layers.
      epsilon: of the norms.
      activation: between the two dense layers, out of :data:`ACTIVATIONS`.
      scaled: whether what is added to the tokens is scaled, channel by channel (layer scale,
        Touvron et al., ICCV 2021).
      key_bias: whether keys have a bias.
    """

    width: int
    heads: int
    hidden: int
    epsilon: float = 1e-6
    activation: str = "gelu"
    scaled: bool = False
    key_bias: bool = True

    def norm(self, rngs: nnx.Rngs) -> nnx.LayerNorm:
        """A norm of tokens."""
        return nnx.LayerNorm(self.width, epsilon=self.epsilon, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head attention: each token is a mean of the values, weighted by query and keys."""

    def __init__(self, size: Size, rngs: nnx.Rngs) -> None:
        linear = partial(Dense, size.width, size.width, rngs=rngs)
        self.query, self.key = linear(), linear(use_bias=size.key_bias)
        self.value, self.output = linear(), linear()
        self.heads = size.heads

    def __call__(
        self,
        x: Tokens,
        read: Tokens | None = None,
        *,
        there: There | None = None,
        bias: Float[Array, "..."] | None = None,
    ) -> Tokens:
        """The tokens ``x`` read themselves, or others.

        Args:
          x: what asks.
          read: what is read; None is ``x``.
          there: which of the tokens read count; None is all.
          bias: added to the logits of the attention, [B or 1, heads, T, T].
        """
        read = x if read is None else read
        query, key, value = (
            part(tokens).reshape(*tokens.shape[:2], self.heads, -1)
            for part, tokens in ((self.query, x), (self.key, read), (self.value, read))
        )
        return self.output(attend(query, key, value, there, bias).reshape(x.shape))


class Inner(nnx.Module):
    """Two dense layers with an activation between, on each token by itself."""

    def __init__(self, size: Size, rngs: nnx.Rngs) -> None:
        self.up = Dense(size.width, size.hidden, rngs=rngs)
        self.down = Dense(size.hidden, size.width, rngs=rngs)
        self.activation = ACTIVATIONS[size.activation]

    def __call__(self, x: Tokens) -> Tokens:
        """[B, T, W] -> [B, T, W]."""
        return self.down(self.activation(self.up(x)))


class _Layer(nnx.Module):
    def __init__(self, size: Size, rngs: nnx.Rngs) -> None:
        self.attention, self.attention_norm = Attention(size, rngs), size.norm(rngs)
        self.inner, self.inner_norm = Inner(size, rngs), size.norm(rngs)


class Before(_Layer):
    """Attention, then two dense layers; each reads normed tokens, and is added to the tokens."""

    def __init__(self, size: Size, rngs: nnx.Rngs) -> None:
        super().__init__(size, rngs)
        self.scaled = size.scaled
        if size.scaled:
            self.attention_scale = nnx.Param(jnp.full(size.width, 1e-5))
            self.inner_scale = nnx.Param(jnp.full(size.width, 1e-5))

    def __call__(self, x: Tokens, *, rng: jax.Array | None = None) -> Tokens:
        """[B, T, W] -> [B, T, W]."""
        del rng
        y = self.attention(self.attention_norm(x))
        x = x + (y * lifted(self.attention_scale[...], 3) if self.scaled else y)
        y = self.inner(self.inner_norm(x))
        return x + (y * lifted(self.inner_scale[...], 3) if self.scaled else y)


class After(_Layer):
    """Attention, then two dense layers; each is added to the tokens, and the sum is normed.

    A token that is a row of zeros is padding (no other one is): it is not read, and stays 0. So a
    single array goes from block to block and says what counts in it.
    """

    def __call__(self, x: Tokens, *, rng: jax.Array | None = None) -> Tokens:
        """[B, T, W] -> [B, T, W]."""
        del rng
        there = not_padding(x)
        x = self.attention_norm(x + self.attention(x, there=there))
        return jnp.where(there[..., None], self.inner_norm(x + self.inner(x)), 0.0)


class Norm(nnx.Module):
    """The norm that ends layers of :class:`Before`."""

    def __init__(self, size: Size, rngs: nnx.Rngs) -> None:
        self.norm = size.norm(rngs)

    def __call__(self, x: Tokens, *, rng: jax.Array | None = None) -> Tokens:
        """[B, T, W] -> [B, T, W]."""
        del rng
        return self.norm(x)


def not_padding(x: Tokens) -> There:
    """Which tokens are no row of zeros."""
    return (x != 0).any(axis=-1)
