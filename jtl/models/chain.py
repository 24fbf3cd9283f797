"""Models made of named blocks in order.

Freezing rules, layer-wise learning rates and the cut below which features are computed once all
speak of blocks by name; a cut is a slice of the tuple.
"""

import zlib
from typing import Any

import jax

from jtl.types import Model, Outputs, Params, Stats, Train

Blocks = tuple[tuple[str, Model], ...]
"""``(path, model)`` in order of evaluation; a path such as ``backbone/stage5`` says where the
block's parameters live in the nested dictionary."""


def prefixed(prefix: str, blocks: Blocks) -> Blocks:
    """The same blocks one level deeper."""
    return tuple((f"{prefix}/{name}", model) for name, model in blocks)


def chain(blocks: Blocks) -> Model:
    """The blocks one after another: the outputs are the last block's."""

    def init(key: jax.Array) -> tuple[Params, Stats]:
        params: Params = {}
        stats: Stats = {}
        for path, model in blocks:
            block_params, block_stats = model.init(_own_key(key, path))
            _put(params, path, block_params)
            _put(stats, path, block_stats)
        return params, stats

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        layers, new_stats = _run(blocks, params, stats, inputs, train=train, rng=rng)
        return list(layers.values())[-1] if blocks else inputs, new_stats

    return Model(init, apply)


def outputs(blocks: Blocks) -> Model:
    """The same chain, which returns what every block does, by its path and in order."""

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[dict[str, Any], Stats]:
        return _run(blocks, params, stats, inputs, train=train, rng=rng)

    return Model(chain(blocks).init, apply)


def classifier(blocks: Blocks) -> Model:
    """A chain whose last block is the head: returns :class:`jtl.types.Outputs`.

    ``features`` are the head's input, ``logits`` its output, ``layers`` what every block below the
    head returns.
    """
    head = blocks[-1][0]

    def apply(
        params: Params, stats: Stats, inputs: Any, *, train: Train, rng: jax.Array | None
    ) -> tuple[Outputs, Stats]:
        layers, new_stats = _run(blocks, params, stats, inputs, train=train, rng=rng)
        logits = layers.pop(head)
        features = list(layers.values())[-1] if layers else inputs
        return Outputs(features, logits, layers), new_stats

    return Model(chain(blocks).init, apply)


def _run(
    blocks: Blocks,
    params: Params,
    stats: Stats,
    inputs: Any,
    *,
    train: Train,
    rng: jax.Array | None,
) -> tuple[dict[str, Any], Stats]:
    """What each block returns, by its path and in order; the new statistics."""
    layers, new_stats = {}, {}
    outputs = inputs
    for path, model in blocks:
        outputs, block_stats = model.apply(
            _get(params, path),
            _get(stats, path),
            outputs,
            train=_within(path, train),
            rng=None if rng is None else _own_key(rng, path),
        )
        layers[path] = outputs
        _put(new_stats, path, block_stats)
    return layers, new_stats


def _own_key(key: jax.Array, path: str) -> jax.Array:
    """A block's key: by its name, so that a cut below it changes nothing above."""
    return jax.random.fold_in(key, zlib.crc32(path.encode()))


def _within(path: str, train: Train) -> Train:
    if isinstance(train, bool):
        return train
    return lambda inner: train(f"{path}/{inner}" if inner else path)


def _get(tree: dict[str, Any], path: str) -> dict[str, Any]:
    for key in path.split("/"):
        tree = tree.get(key, {})
    return tree


def _put(tree: dict[str, Any], path: str, leaves: dict[str, Any]) -> None:
    if not leaves:
        return
    *parents, last = path.split("/")
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[last] = leaves
