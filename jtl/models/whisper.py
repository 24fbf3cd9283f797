"""Whisper's encoder of speech. Radford et al., ICML 2023, arXiv 2212.04356.

Sounds are log-mel spectrograms [B, frames, bands].
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Float

from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks
from jtl.models.layers import lifted
from jtl.models.pooling import Pool, of_tokens
from jtl.models.transformer import ACTIVATIONS, Before, Norm, Size, Tokens
from jtl.models.weights import Rule, linear, norm


class Shape(NamedTuple):
    """What tells one encoder from another.

    Attributes:
      bands: of the spectrogram.
      width: of a token.
      layers: their number.
      heads: of the attention.
      hidden: width between the two dense layers.
      positions: the most tokens that a sound may have; two frames make one.
    """

    bands: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int = 1500

    @property
    def layer(self) -> Size:
        """Of each layer."""
        return Size(self.width, self.heads, self.hidden, 1e-5, key_bias=False)

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.width


def blocks(shape: Shape) -> Blocks:
    """The blocks "embed", "layer1" to the last one, "norm", and "pool", the mean of the tokens."""
    build = partial(Before, shape.layer)
    layers = ((f"layer{n}", from_nnx(build)) for n in range(1, shape.layers + 1))
    return (
        ("embed", from_nnx(partial(_Embed, shape))),
        *layers,
        ("norm", from_nnx(partial(Norm, shape.layer))),
        ("pool", of_tokens(Pool("mean", 0, shape.layer))),
    )


class _Conv(nnx.Module):
    """A convolution over time of three frames."""

    def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs) -> None:
        draw = nnx.initializers.he_normal()
        self.kernel = nnx.Param(draw(rngs.params(), (3, inputs, outputs)))
        self.bias, self.stride = nnx.Param(jnp.zeros(outputs)), stride

    def __call__(self, x: Tokens) -> jax.Array:
        x = lax.conv_general_dilated(
            x,
            self.kernel[...],
            (self.stride,),
            ((1, 1),),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return ACTIVATIONS["gelu"](x + lifted(self.bias[...], 3))


class _Embed(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        self.conv1 = _Conv(shape.bands, shape.width, 1, rngs)
        self.conv2 = _Conv(shape.width, shape.width, 2, rngs)
        self.position = nnx.Param(jnp.zeros((shape.positions, shape.width)))

    def __call__(
        self, x: Float[jax.Array, "examples frames bands"], *, rng: jax.Array | None = None
    ) -> Tokens:
        del rng
        x = self.conv2(self.conv1(x))
        return x + lifted(lax.slice_in_dim(self.position[...], 0, x.shape[1]), 3)


def over_time(tensor: np.ndarray) -> np.ndarray:
    """A convolution over time from PyTorch's [O, I, T] to [T, I, O]."""
    return tensor.transpose(2, 1, 0)


_PREFIX = r"(?:model\.)?(?:encoder\.)?"
_LAYER = _PREFIX + r"layers\.(\d+)\."
TABLE = (
    *linear(_PREFIX + "conv1", "embed/conv1", over_time),
    *linear(_PREFIX + "conv2", "embed/conv2", over_time),
    Rule(_PREFIX + r"embed_positions\.weight", "embed/position"),
    *norm(_LAYER + "self_attn_layer_norm", r"layer\1+/attention_norm"),
    *linear(_LAYER + r"self_attn\.q_proj", r"layer\1+/attention/query"),
    *linear(_LAYER + r"self_attn\.k_proj", r"layer\1+/attention/key"),
    *linear(_LAYER + r"self_attn\.v_proj", r"layer\1+/attention/value"),
    *linear(_LAYER + r"self_attn\.out_proj", r"layer\1+/attention/output"),
    *norm(_LAYER + "final_layer_norm", r"layer\1+/inner_norm"),
    *linear(_LAYER + "fc1", r"layer\1+/inner/up"),
    *linear(_LAYER + "fc2", r"layer\1+/inner/down"),
    *norm(_PREFIX + "layer_norm", "norm/norm"),
    # The other half of the network, and what stands on it.
    Rule(r"(model\.)?decoder\..*|proj_out\..*", None),
)
"""The names in files of transformers."""
