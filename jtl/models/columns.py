"""The first block on vectors whose columns are of different scales."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jtl.models.layers import lifted
from jtl.types import Array, Model, Params, Stats, Train


def standardise(vectors: Float[np.ndarray, "examples columns"]) -> Model:
    """Brings each column to the mean 0 and the deviation 1 that it then has in some vectors.

    Mean and deviation are statistics that no training moves. A column that is always the same
    becomes 0. [B, columns] -> the same.

    Args:
      vectors: at least one.
    """
    exact = np.asarray(vectors, np.float64)
    deviation = exact.std(axis=0)
    given = {"mean": exact.mean(axis=0), "deviation": np.where(deviation > 0, deviation, 1.0)}

    def init(key: jax.Array) -> tuple[Params, Stats]:
        del key
        return {}, {name: jnp.asarray(value, jnp.float32) for name, value in given.items()}

    def apply(
        params: Params, stats: Stats, inputs: Array, *, train: Train, rng: jax.Array | None
    ) -> tuple[jax.Array, Stats]:
        del params, train, rng
        mean, deviation = (lifted(stats[name], inputs.ndim) for name in ("mean", "deviation"))
        return (jnp.asarray(inputs) - mean) / deviation, stats

    return Model(init, apply)
