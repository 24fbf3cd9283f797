"""What stands on a backbone: the bottleneck, the head, and the domain discriminator."""

import jax
import jax.numpy as jnp
from flax import nnx

from jtl import registry
from jtl.errors import UserError, nearest
from jtl.models.adapter import from_nnx
from jtl.types import Model, Params


class _Bottleneck(nnx.Module):
    def __init__(
        self, width_in: int, width: int, dropout: float, norm: str, rngs: nnx.Rngs
    ) -> None:
        self.dense = nnx.Linear(width_in, width, use_bias=False, rngs=rngs)
        self.norm = (
            nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
            if norm == "batch"
            else nnx.LayerNorm(width, rngs=rngs)
        )
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


def bottleneck(
    width_in: int,
    width: int,
    *,
    dropout: float = 0.0,
    norm: str = "layer",
    axis_name: str | None = None,
) -> Model:
    """Dense, norm, ReLU, dropout: [B, width_in] -> [B, width].

    Args:
      width_in: of the inputs.
      width: of the outputs.
      dropout: the probability of zeroing an output.
      norm: "layer", with which the statistics of one domain never enter the features of the other;
        "batch" for methods that adapt by those statistics. A tenth of the running ones is the
        newest batch's.
      axis_name: the mapped axis over which batch norm averages, under ``pmap``.

    Raises:
      UserError: there is no such norm.
    """
    if norm not in registry.NORMS:
        raise UserError(f"model.norm: there is no {norm!r}; {nearest(norm, registry.NORMS)}")
    return from_nnx(
        lambda rngs: _Bottleneck(width_in, width, dropout, norm, rngs), axis_name=axis_name
    )


def head(width: int, classes: int) -> Model:
    """The task classifier: [B, width] -> [B, classes] logits."""
    return from_nnx(lambda rngs: _Head(width, classes, rngs))


def pretrained(params: Params) -> Model:
    """A task classifier that starts at given values, those of a :func:`head`."""
    classifier = head(*params["dense"]["kernel"].shape)
    return Model(lambda key: (jax.tree.map(jnp.asarray, params), {}), classifier.apply)


def discriminator(width_in: int, width: int = 1024) -> Model:
    """Classifies the domain with two hidden layers (Ganin et al., JMLR 2016): [B, width_in] -> [B].

    The output is one logit an example; positive says source.
    """
    return from_nnx(lambda rngs: _Discriminator(width_in, width, rngs))
