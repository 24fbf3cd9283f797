"""What stands on a backbone: the bottleneck, the head, and the domain discriminator."""

import jax
from flax import nnx

from jtl.models.adapter import from_nnx
from jtl.types import Model


class _Bottleneck(nnx.Module):
    def __init__(self, width_in: int, width: int, dropout: float, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(width_in, width, use_bias=False, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> jax.Array:
        return self.dropout(nnx.relu(self.norm(self.dense(x))), rngs=rng)


class _Head(nnx.Module):
    def __init__(self, width: int, classes: int, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> jax.Array:
        del rng
        return self.dense(x)


class _Discriminator(nnx.Module):
    def __init__(self, width_in: int, width: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(width_in, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.output = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> jax.Array:
        del rng
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.output(x)[:, 0]


def bottleneck(width_in: int, width: int, *, dropout: float = 0.0) -> Model:
    """Dense, layer norm, ReLU, dropout: [B, width_in] -> [B, width].

    Layer norm rather than batch norm, so that the statistics of one domain never enter the
    features of the other.
    """
    return from_nnx(lambda rngs: _Bottleneck(width_in, width, dropout, rngs))


def head(width: int, classes: int) -> Model:
    """The task classifier: [B, width] -> [B, classes] logits."""
    return from_nnx(lambda rngs: _Head(width, classes, rngs))


def discriminator(width_in: int, width: int = 1024) -> Model:
    """Classifies the domain with two hidden layers (Ganin et al., JMLR 2016): [B, width_in] -> [B].

    The output is one logit an example; positive says source.
    """
    return from_nnx(lambda rngs: _Discriminator(width_in, width, rngs))
