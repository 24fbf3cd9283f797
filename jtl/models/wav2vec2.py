"""wav2vec 2.0's encoder of speech. Baevski et al., NeurIPS 2020, arXiv 2006.11477.

Sounds are waveforms [B, samples] of 16 kHz, each of mean 0 and variance 1.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Float

from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks
from jtl.models.layers import Dense, lifted
from jtl.models.pooling import Pool, of_tokens
from jtl.models.transformer import ACTIVATIONS, After, Before, Norm, Size, Tokens
from jtl.models.weights import Rule, linear, norm
from jtl.models.whisper import over_time

_GELU = ACTIVATIONS["gelu"]


class Shape(NamedTuple):
    """What tells one encoder from another.

    Attributes:
      width: of a token.
      layers: their number.
      heads: of the attention.
      hidden: width between the two dense layers.
      widths: of the convolutions over the waveform.
      kernels: their lengths.
      strides: how far apart they are applied.
      conv_bias: whether they have a bias.
      normed: whether each of them has a layer norm; else the first has a group norm.
      stable: whether layers norm what they read, instead of what they return.
      place_kernel: length of the convolution that tells the place of a token.
      place_groups: its groups.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    widths: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    normed: bool = False
    stable: bool = False
    place_kernel: int = 128
    place_groups: int = 16

    @property
    def layer(self) -> Size:
        """Of each layer."""
        return Size(self.width, self.heads, self.hidden, 1e-5)

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.width


def blocks(shape: Shape) -> Blocks:
    """The blocks "waves", "embed", "layer1" to the last one, "norm" where layers do not end in
    one, and "pool", the mean of the tokens.
    """
    build = partial(Before if shape.stable else After, shape.layer)
    layers = ((f"layer{n}", from_nnx(build)) for n in range(1, shape.layers + 1))
    end = (("norm", from_nnx(partial(Norm, shape.layer))),) if shape.stable else ()
    return (
        ("waves", from_nnx(partial(_Waves, shape))),
        ("embed", from_nnx(partial(_Embed, shape))),
        *layers,
        *end,
        ("pool", of_tokens(Pool("mean", 0, shape.layer))),
    )


class _Conv(nnx.Module):
    """A convolution over time with a norm, and a GELU."""

    def __init__(self, shape: Shape, number: int, inputs: int, rngs: nnx.Rngs) -> None:
        draw, width = nnx.initializers.he_normal(), shape.widths[number]
        size = (shape.kernels[number], inputs, width)
        self.kernel = nnx.Param(draw(rngs.params(), size))
        self.biased, self.stride = shape.conv_bias, shape.strides[number]
        if shape.conv_bias:
            self.bias = nnx.Param(jnp.zeros(width))
        self.normed = shape.normed or not number
        if shape.normed:
            self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        elif not number:
            self.norm = nnx.GroupNorm(width, num_groups=width, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: Tokens) -> jax.Array:
        x = _over_time(x, self.kernel[...], (0, 0), self.stride)
        x = x + lifted(self.bias[...], 3) if self.biased else x
        return _GELU(self.norm(x) if self.normed else x)


def _over_time(
    x: Tokens,
    kernel: Float[jax.Array, "..."],
    edges: tuple[int, int],
    stride: int = 1,
    groups: int = 1,
) -> jax.Array:
    return lax.conv_general_dilated(
        x.astype(kernel.dtype),
        kernel,
        (stride,),
        (edges,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )


class _Waves(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        self.names = tuple(f"conv{number + 1}" for number in range(len(shape.widths)))
        inputs = 1
        for number, name in enumerate(self.names):
            setattr(self, name, _Conv(shape, number, inputs, rngs))
            inputs = shape.widths[number]

    def __call__(
        self, x: Float[jax.Array, "examples samples"], *, rng: jax.Array | None = None
    ) -> Tokens:
        del rng
        x = jnp.asarray(x, jnp.float32)[..., None]
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class _Embed(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        inputs = shape.widths[-1]
        self.wave_norm = nnx.LayerNorm(inputs, epsilon=1e-5, rngs=rngs)
        self.wave = Dense(inputs, shape.width, rngs=rngs)
        # The kernel of the convolution, each of its taps normed (Salimans and Kingma, 2016).
        size = (shape.place_kernel, shape.width // shape.place_groups, shape.width)
        self.direction = nnx.Param(nnx.initializers.he_normal()(rngs.params(), size))
        self.length = nnx.Param(jnp.ones((shape.place_kernel, 1, 1)))
        self.bias = nnx.Param(jnp.zeros(shape.width))
        if not shape.stable:
            self.norm = shape.layer.norm(rngs)
        self.groups, self.stable = shape.place_groups, shape.stable

    def __call__(self, x: Tokens, *, rng: jax.Array | None = None) -> Tokens:
        del rng
        x = self.wave(self.wave_norm(x))
        x = x + _GELU(self._places(x))
        return x if self.stable else self.norm(x)

    def _places(self, x: Tokens) -> jax.Array:
        direction = self.direction[...]
        norms = jnp.sqrt((direction**2).sum((1, 2), keepdims=True))
        size = len(direction)
        # An even kernel gives one token too many, the last of which is dropped.
        edges = (size // 2, size // 2 - 1 + size % 2)
        kernel = direction * self.length / norms
        return _over_time(x, kernel, edges, groups=self.groups) + lifted(self.bias[...], 3)


_PREFIX = r"(?:wav2vec2\.)?"
_WAVES = _PREFIX + r"feature_extractor\.conv_layers\.(\d+)\."
_PLACES = _PREFIX + r"encoder\.pos_conv_embed\.conv\."
_LAYER = _PREFIX + r"encoder\.layers\.(\d+)\."


def table(shape: Shape) -> tuple[Rule, ...]:
    """The names in files of transformers."""
    return (
        *linear(_WAVES + "conv", r"waves/conv\1+", over_time),
        *norm(_WAVES + "layer_norm", r"waves/conv\1+/norm"),
        *norm(_PREFIX + r"feature_projection\.layer_norm", "embed/wave_norm"),
        *linear(_PREFIX + r"feature_projection\.projection", "embed/wave"),
        Rule(
            _PLACES + r"(?:weight_g|parametrizations\.weight\.original0)", "embed/length", over_time
        ),
        Rule(
            _PLACES + r"(?:weight_v|parametrizations\.weight\.original1)",
            "embed/direction",
            over_time,
        ),
        Rule(_PLACES + "bias", "embed/bias"),
        *norm(_PREFIX + r"encoder\.layer_norm", "norm/norm" if shape.stable else "embed/norm"),
        *linear(_LAYER + r"attention\.q_proj", r"layer\1+/attention/query"),
        *linear(_LAYER + r"attention\.k_proj", r"layer\1+/attention/key"),
        *linear(_LAYER + r"attention\.v_proj", r"layer\1+/attention/value"),
        *linear(_LAYER + r"attention\.out_proj", r"layer\1+/attention/output"),
        *norm(_LAYER + "layer_norm", r"layer\1+/attention_norm"),
        *linear(_LAYER + r"feed_forward\.intermediate_dense", r"layer\1+/inner/up"),
        *linear(_LAYER + r"feed_forward\.output_dense", r"layer\1+/inner/down"),
        *norm(_LAYER + "final_layer_norm", r"layer\1+/inner_norm"),
        # The vector that hides tokens in pretraining, and what stands on the encoder.
        Rule(_PREFIX + r"masked_spec_embed|quantizer\..*|project_(?:q|hid)\..*|lm_head\..*", None),
    )
