"""The one place that knows Flax NNX: a module becomes a pair of pure functions.

A module is built abstractly, split once into its definition and plain dictionaries, and merged
inside ``apply``. Nothing else in jtl handles NNX state.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jtl.types import Model, Params, Stats, Train


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
        _set_mode(module, train, axis_name)
        outputs = module(inputs, rng=rng)
        return outputs, _plain(nnx.state(module, nnx.BatchStat))

    return Model(init, apply)


_KINDS = (nnx.Param, nnx.BatchStat)


def _plain(state: nnx.State) -> dict[str, Any]:
    return nnx.to_pure_dict(state)


def _state(leaves: dict[str, Any], kind: type[nnx.Variable]) -> nnx.State:
    return nnx.State(jax.tree.map(kind, leaves))


def _set_mode(module: nnx.Module, train: Train, axis_name: str | None) -> None:
    for path, part in nnx.iter_modules(module):
        training = train if isinstance(train, bool) else train("/".join(map(str, path)))
        if isinstance(part, nnx.BatchNorm):
            part.use_running_average = not training
            part.axis_name = axis_name if training else None
        elif isinstance(part, nnx.Dropout):
            part.deterministic = not training
