"""The one place that knows Flax NNX: a module becomes a pair of pure functions.

A module is built abstractly, split once into its definition and plain dictionaries, and merged
inside ``apply``. Nothing else in jtl handles NNX state.
"""

import zlib
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jtl.types import Array, Model, Params, Stats, Train


def from_nnx(build: Callable[[nnx.Rngs], nnx.Module], *, axis_name: str | None = None) -> Model:
    """Turns an NNX module into a :class:`jtl.types.Model`.

    The module is called as ``module(inputs, rng=key)``. Its submodules are named attributes (no
    lists), so that parameter paths read well.

    Args:
      build: makes the module from its random streams.
      axis_name: the mapped axis over which batch norm averages, under ``pmap``.
    """
    graph, _, _, rest = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), *_KINDS, ...)
    if jax.tree.leaves(rest):
        raise TypeError(f"a module of jtl holds parameters and statistics only, not {rest}")

    def init(key: jax.Array) -> tuple[Params, Stats]:
        _, params, stats, _ = nnx.split(build(nnx.Rngs(key)), *_KINDS, ...)
        return _plain(params), _plain(stats)

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        module = nnx.merge(graph, _state(params, nnx.Param), _state(stats, nnx.BatchStat), rest)
        replaced = _set_mode(module, train, axis_name, rng)
        outputs = module(inputs, rng=rng)
        for parent, name, norm in replaced:
            setattr(parent, name, norm)
        return outputs, _plain(nnx.state(module, nnx.BatchStat))

    return Model(init, apply)


_KINDS = (nnx.Param, nnx.BatchStat)


def _plain(state: nnx.State) -> dict[str, Any]:
    return nnx.to_pure_dict(state)


def _state(leaves: dict[str, Any], kind: type[nnx.Variable]) -> nnx.State:
    return nnx.State(jax.tree.map(kind, leaves))


def _set_mode(
    module: nnx.Module, train: Train, axis_name: str | None, rng: jax.Array | None
) -> list[tuple[nnx.Module, str, nnx.BatchNorm]]:
    """Returns the batch norms that stochastic ones stand in for, each with its parent and name."""
    replaced = []
    for path, part in list(nnx.iter_modules(module)):
        where = "/".join(map(str, path))
        training = train if isinstance(train, bool) else train(where)
        if isinstance(part, nnx.BatchNorm):
            part.use_running_average = not training
            part.axis_name = axis_name if training is not False else None
            if isinstance(training, float):
                assert rng is not None, "a model in training mode gets a key"
                *parents, name = map(str, path)
                parent = reduce(getattr, parents, module)
                key = jax.random.fold_in(rng, zlib.crc32(where.encode()))
                setattr(parent, name, _stochastic(part, training, key))
                replaced.append((parent, name, part))
        elif isinstance(part, nnx.Dropout):
            part.deterministic = not training
    return replaced


def _stochastic(norm: nnx.BatchNorm, share: float, key: jax.Array) -> Callable[[Array], Array]:
    """Stochastic normalisation (Kou et al., NeurIPS 2020): each channel by its batch or not.

    A channel is normalised by the batch with probability ``share``, else by the running statistics,
    which move as ever.
    """

    def normalise(x: Array) -> Array:
        stored = norm(x, use_running_average=True)
        channels = (1,) * (x.ndim - 1) + x.shape[-1:]
        by_batch = jax.random.bernoulli(key, share, channels)
        return jnp.where(by_batch, norm(x, use_running_average=False), stored)

    return normalise
