"""Attention that is quick where XLA is slow.

On a CPU, XLA multiplies the heads of an attention as one product with two batch axes, whose copies
and small strides take up to three times as long as the heads one by one. There they are written
so; other platforms keep ``jax.nn.dot_product_attention``.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float

from jtl.types import Array

Heads = Float[jax.Array, "examples tokens heads width"]
There = Bool[Array, "examples read_tokens"]
Bias = Float[Array, "examples heads tokens read_tokens"]


def attend(
    query: Heads, key: Heads, value: Heads, there: There | None = None, bias: Bias | None = None
) -> Heads:
    """Means of the values, weighted by ``softmax(query key / sqrt(width) + bias)`` in each head.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Args:
      query: [B, T, H, D].
      key: [B, S, H, D], as ``value``.
      value: what is averaged.
      there: which keys of each example count, [B, S]; None is all.
      bias: added to the logits, [B or 1, H, T, S].
    """
    return lax.platform_dependent(
        query, key, value, there, bias, cpu=_head_by_head, default=_native
    )


def _native(
    query: Heads, key: Heads, value: Heads, there: There | None, bias: Bias | None
) -> Heads:
    mask = None if there is None else there[:, None, None, :]
    return jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask)


def _head_by_head(
    query: Heads, key: Heads, value: Heads, there: There | None, bias: Bias | None
) -> Heads:
    query = query / math.sqrt(query.shape[-1])
    attended = []
    for head in range(query.shape[2]):
        one, other = query[:, :, head], key[:, :, head]
        logits = jnp.einsum("btd,bsd->bts", one, other, preferred_element_type=jnp.float32)
        if bias is not None:
            logits = logits + bias[:, head]
        if there is not None:
            logits = jnp.where(there[:, None, :], logits, -0.5 * jnp.finfo(logits.dtype).max)
        # Divided by their sum after the product, which is smaller than the weights.
        largest = logits.max(-1, keepdims=True, initial=-jnp.inf)  # of any number of keys
        weights = jnp.exp(logits - lax.stop_gradient(largest))
        total = jnp.einsum("bts,bsd->btd", weights.astype(value.dtype), value[:, :, head])
        attended.append(total / weights.sum(-1, keepdims=True))
    return jnp.stack(attended, axis=2).astype(value.dtype)
