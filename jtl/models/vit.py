"""Vision transformers: ViT, DeiT III, DINOv2 with and without registers, CLIP's and SigLIP's tower.

Dosovitskiy et al., ICLR 2021, arXiv 2010.11929; Touvron et al., 2022, arXiv 2204.07118; Oquab et
al., 2023, arXiv 2304.07193; Darcet et al., 2023, arXiv 2309.16588; Radford et al., 2021, arXiv
2103.00020; Zhai et al., 2023, arXiv 2303.15343. Images [B, size, size, 3], normalised.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks
from jtl.models.layers import Dense, Images, lifted
from jtl.models.pixels import patches
from jtl.models.pooling import Pool, of_tokens
from jtl.models.transformer import Before, Norm, Size, Tokens
from jtl.models.weights import Rule, dense, linear, norm, of_patches, rows


class Shape(NamedTuple):
    """What tells one vision transformer from another.

    Attributes:
      width: of a token.
      layers: their number.
      heads: of the attention.
      hidden: width between the two dense layers.
      patch: side of a patch, in pixels.
      grid: patches along a side of the images that it was trained on.
      registers: tokens beside the class token that are of no place.
      class_token: whether there is one.
      placed: whether the class token has a position too.
      scaled: whether what a layer adds is scaled.
      norm_first: whether tokens are normed before the first layer; patches then have no bias.
      activation: between the two dense layers.
      epsilon: of the norms.
      pooling: of the tokens, as in :class:`jtl.models.pooling.Pool`.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch: int
    grid: int
    registers: int = 0
    class_token: bool = True
    placed: bool = True
    scaled: bool = False
    norm_first: bool = False
    activation: str = "gelu"
    epsilon: float = 1e-6
    pooling: str = "class"

    @property
    def layer(self) -> Size:
        """Of each layer."""
        return Size(self.width, self.heads, self.hidden, self.epsilon, self.activation, self.scaled)

    @property
    def pool(self) -> Pool:
        """Of the tokens."""
        return Pool(self.pooling, self.class_token + self.registers, self.layer)

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.pool.width

    @property
    def step(self) -> int:
        """An image's side is a multiple of it."""
        return self.patch


def blocks(shape: Shape) -> Blocks:
    """The blocks "embed", "layer1" to the last one, "norm", and "pool", which gives the features.

    Between them are tokens [B, T, W]: the class token, registers, then patches row by row.
    """
    build = partial(Before, shape.layer)
    layers = ((f"layer{n}", from_nnx(build)) for n in range(1, shape.layers + 1))
    return (
        ("embed", from_nnx(partial(_Embed, shape))),
        *layers,
        ("norm", from_nnx(partial(Norm, shape.layer))),
        ("pool", of_tokens(shape.pool)),
    )


class _Embed(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        biased = not shape.norm_first
        self.patch = Dense(shape.patch**2 * 3, shape.width, use_bias=biased, rngs=rngs)
        draw = nnx.initializers.normal(0.02)
        self.own = int(shape.class_token and shape.placed)
        self.position = nnx.Param(draw(rngs.params(), (self.own + shape.grid**2, shape.width)))
        if shape.class_token:
            self.class_token = nnx.Param(draw(rngs.params(), (1, shape.width)))
        if shape.registers:
            self.registers = nnx.Param(draw(rngs.params(), (shape.registers, shape.width)))
        if shape.norm_first:
            self.norm = shape.layer.norm(rngs)
        self.shape = shape

    def __call__(self, x: Images, *, rng: jax.Array | None = None) -> Tokens:
        del rng
        x = self.patch(patches(x, self.shape.patch))
        count, rows, columns, width = x.shape
        x = x + lifted(_resized(self.position[self.own :], self.shape.grid, rows, columns), 4)
        x = x.reshape(count, -1, width)
        first = [jnp.tile(token[None], (count, 1, 1)) for token in self._first()]
        x = jnp.concatenate([*first, x], axis=1)
        return self.norm(x) if self.shape.norm_first else x

    def _first(self) -> list[Float[jax.Array, "first width"]]:
        """The tokens that are of no place."""
        tokens = []
        if self.shape.class_token:
            token = self.class_token[...]
            tokens.append(token + self.position[:1] if self.own else token)
        if self.shape.registers:
            tokens.append(self.registers[...])
        return tokens


def _resized(
    position: Float[jax.Array, "places width"], grid: int, rows: int, columns: int
) -> Float[jax.Array, "rows columns width"]:
    """The positions of an image of another size, interpolated as timm does."""
    square = position.reshape(grid, grid, -1)
    if (rows, columns) == (grid, grid):
        return square
    return jax.image.resize(square, (rows, columns, square.shape[-1]), "cubic", antialias=True)


_LAYER = r"blocks\.(\d+)\."
_QKV = ("query", "key", "value")
TIMM = (
    *linear(r"patch_embed\.proj", "embed/patch", of_patches),
    Rule("cls_token", "embed/class_token", rows),
    Rule("reg_token", "embed/registers", rows),
    Rule("pos_embed", "embed/position", rows),
    *norm("norm_pre", "embed/norm"),
    *norm(_LAYER + "norm1", r"layer\1+/attention_norm"),
    *linear(_LAYER + r"attn\.qkv", r"layer\1+/attention/*", dense, _QKV),
    *linear(_LAYER + r"attn\.proj", r"layer\1+/attention/output"),
    Rule(_LAYER + r"ls1\.gamma", r"layer\1+/attention_scale"),
    *norm(_LAYER + "norm2", r"layer\1+/inner_norm"),
    *linear(_LAYER + r"mlp\.fc1", r"layer\1+/inner/up"),
    *linear(_LAYER + r"mlp\.fc2", r"layer\1+/inner/down"),
    Rule(_LAYER + r"ls2\.gamma", r"layer\1+/inner_scale"),
    *norm("norm", "norm/norm"),
    Rule(r"attn_pool\.latent", "pool/token", rows),
    *linear(r"attn_pool\.q", "pool/attention/query"),
    *linear(r"attn_pool\.kv", "pool/attention/*", dense, ("key", "value")),
    *linear(r"attn_pool\.proj", "pool/attention/output"),
    *norm(r"attn_pool\.norm", "pool/inner_norm"),
    *linear(r"attn_pool\.mlp\.fc1", "pool/inner/up"),
    *linear(r"attn_pool\.mlp\.fc2", "pool/inner/down"),
    *linear("head", "head/dense"),
)
"""The names in timm's files."""
