"""BERT and its kin: encoders of text whose layers norm after each addition.

Devlin et al., NAACL 2019, arXiv 1810.04805; RoBERTa, Liu et al., 2019, arXiv 1907.11692; XLM-R,
Conneau et al., ACL 2020, arXiv 1911.02116; DistilBERT, Sanh et al., 2019, arXiv 1910.01108. Texts
are tokens [B, T], integers, padded at the end.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Int

from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks
from jtl.models.layers import lifted
from jtl.models.pooling import Pool, of_tokens, unit
from jtl.models.transformer import After, Size, Tokens
from jtl.models.weights import Rule, linear, norm


class Shape(NamedTuple):
    """What tells one encoder from another.

    Attributes:
      vocabulary: how many tokens there are.
      width: of a token.
      layers: their number.
      heads: of the attention.
      hidden: width between the two dense layers.
      positions: rows of the table of positions.
      kinds: rows of the table of kinds of text, of which the first is used; 0 is no table.
      padding: the token that stands for none.
      first_position: the row of the first token: 0, or in RoBERTa one more than ``padding``.
      epsilon: of the norms.
      activation: between the two dense layers.
      pooling: of the tokens, as in :class:`jtl.models.pooling.Pool`; "mean" counts all tokens.
      unit: whether features are brought to length 1.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int = 512
    kinds: int = 2
    padding: int = 0
    first_position: int = 0
    epsilon: float = 1e-12
    activation: str = "gelu"
    pooling: str = "mean"
    unit: bool = False

    @property
    def layer(self) -> Size:
        """Of each layer."""
        return Size(self.width, self.heads, self.hidden, self.epsilon, self.activation)

    @property
    def pool(self) -> Pool:
        """Of the tokens."""
        return Pool(self.pooling, 0, self.layer)

    @property
    def features(self) -> int:
        """Width of the features."""
        return self.pool.width

    @property
    def longest(self) -> int:
        """The most tokens that a text may have."""
        return self.positions - self.first_position


def blocks(shape: Shape) -> Blocks:
    """The blocks "embed", "layer1" to the last one, and "pool", which gives the features; then
    "unit", where they are brought to length 1.

    Between them are tokens [B, T, W]; those that are padding are rows of zeros.
    """
    build = partial(After, shape.layer)
    layers = ((f"layer{n}", from_nnx(build)) for n in range(1, shape.layers + 1))
    return (
        ("embed", from_nnx(partial(_Embed, shape))),
        *layers,
        ("pool", of_tokens(shape.pool)),
        *((("unit", unit()),) if shape.unit else ()),
    )


class _Embed(nnx.Module):
    def __init__(self, shape: Shape, rngs: nnx.Rngs) -> None:
        self.word = nnx.Embed(shape.vocabulary, shape.width, rngs=rngs)
        self.position = nnx.Embed(shape.positions, shape.width, rngs=rngs)
        if shape.kinds:
            self.kind = nnx.Embed(shape.kinds, shape.width, rngs=rngs)
        self.norm = shape.layer.norm(rngs)
        self.shape = shape

    def __call__(
        self, tokens: Int[jax.Array, "examples tokens"], *, rng: jax.Array | None = None
    ) -> Tokens:
        del rng
        places = self.shape.first_position + jnp.arange(tokens.shape[1])
        x = self.word(tokens) + lifted(self.position(places), 3)
        x = x + lifted(self.kind.embedding[0], 3) if self.shape.kinds else x
        return jnp.where((tokens != self.shape.padding)[..., None], self.norm(x), 0.0)


def _table(prefix: str, layer: str, names: dict[str, str]) -> tuple[Rule, ...]:
    """The rules of one source; ``names`` are its modules in a layer, by jtl's."""
    embed = prefix + r"embeddings\."
    own = {ours: prefix + layer + theirs for ours, theirs in names.items()}
    return (
        Rule(embed + r"word_embeddings\.weight", "embed/word/embedding"),
        Rule(embed + r"position_embeddings\.weight", "embed/position/embedding"),
        Rule(embed + r"token_type_embeddings\.weight", "embed/kind/embedding"),
        *norm(embed + "LayerNorm", "embed/norm"),
        *(
            rule
            for ours, theirs in own.items()
            for rule in (norm if ours.endswith("norm") else linear)(theirs, rf"layer\1+/{ours}")
        ),
        # Counters of positions, and what stands on the encoder for its first task.
        Rule(r".*position_ids|(.*\.)?pooler\..*|cls\..*|lm_head\..*", None),
        Rule(r"vocab_.*|pre_classifier\..*|classifier\..*|qa_outputs\..*", None),
    )


TABLE = _table(
    r"(?:bert\.|roberta\.|xlm_roberta\.)?",
    r"encoder\.layer\.(\d+)\.",
    {
        "attention/query": r"attention\.self\.query",
        "attention/key": r"attention\.self\.key",
        "attention/value": r"attention\.self\.value",
        "attention/output": r"attention\.output\.dense",
        "attention_norm": r"attention\.output\.LayerNorm",
        "inner/up": r"intermediate\.dense",
        "inner/down": r"output\.dense",
        "inner_norm": r"output\.LayerNorm",
    },
)
"""The names of BERT, RoBERTa and XLM-R in files of transformers."""
DISTILBERT_TABLE = _table(
    r"(?:distilbert\.)?",
    r"transformer\.layer\.(\d+)\.",
    {
        "attention/query": r"attention\.q_lin",
        "attention/key": r"attention\.k_lin",
        "attention/value": r"attention\.v_lin",
        "attention/output": r"attention\.out_lin",
        "attention_norm": "sa_layer_norm",
        "inner/up": r"ffn\.lin1",
        "inner/down": r"ffn\.lin2",
        "inner_norm": "output_layer_norm",
    },
)
"""Those of DistilBERT."""
