"""What each block of a backbone returns, as vectors: the features of its layers."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jtl.data.examples import Examples
from jtl.errors import UserError, nearest
from jtl.frozen.features import Prefix, below
from jtl.models.backbone import Backbone
from jtl.models.chain import chain, outputs
from jtl.training.network import Network
from jtl.types import Model, Params, Stats

Pool = Callable[[Any], Any]


class Layers:
    """The outputs of some blocks of a frozen backbone, all from one pass over the examples.

    Those of images are averaged over all places; tokens are pooled as the backbone's own are, or in
    the ways that are given.

    Args:
      net: whose backbone, as it was before training.
      wanted: "all", names of blocks with commas between, or "" for the last one that has
        parameters. Of "all", that one is left out unless ``others`` are given: pooled as the
        backbone does it, its outputs are the features.
      others: the backbone with other pooling of its tokens, by what that is called.

    Each is called by its block, and by how it is pooled where there are ``others``.

    Raises:
      UserError: there is no such block, or there is none at all.
    """

    def __init__(self, net: Network, wanted: str, others: Mapping[str, Backbone]) -> None:
        blocks = tuple(each for each in net.blocks if each[0].startswith("backbone/"))
        self._net, self._blocks = net, blocks
        self._names = [path.removeprefix("backbone/") for path, _ in blocks]
        self._wanted = self._chosen(wanted, bool(others))
        self._others = others
        self._widths: dict[str, int] = {}
        params, stats = (below(tree, blocks) for tree in net.initial)
        whole = (("backbone", Model(chain(blocks).init, self._apply)),)
        self._prefix = Prefix(net.backbone.name, whole, params, stats, on_disk=net.cache)

    def __call__(self, examples: Examples) -> dict[str, Float[np.ndarray, "examples features"]]:
        """The features of examples, by layer, in order."""
        rows = self._prefix(examples).array()
        ends = np.cumsum(list(self._widths.values()))[:-1]
        return dict(zip(self._widths, np.split(rows, ends, axis=1), strict=True))

    def _chosen(self, wanted: str, pooled: bool) -> list[str]:
        weighed = {path for path in self._names if path in self._net.initial[0].get("backbone", {})}
        last = [name for name in self._names if name in weighed][-1:]
        if not last:
            raise UserError(f"{self._net.backbone.name}: has no layers to probe")
        others = self._names[: self._names.index(last[0])]
        if wanted == "all":
            return others + last * pooled
        chosen = [name.strip() for name in wanted.split(",")] if wanted else last
        for name in chosen:
            if name not in (*others, *last):
                raise UserError(f"probe.layers: no block {name}; {nearest(name, others + last)}")
        return chosen

    def _apply(
        self, params: Params, stats: Stats, inputs: Any, *, train: Any, rng: Any
    ) -> tuple[Any, Stats]:
        made = outputs(self._blocks).apply(
            {"backbone": params}, {"backbone": stats}, inputs, train=train, rng=rng
        )[0]
        values = dict(zip(self._names, made.values(), strict=True))
        vectors = {}
        for name in self._wanted:
            for how, pool in self._pools(values, params, stats).items():
                if values[name].ndim == 3:
                    vectors[f"{name}, {how}" if how else name] = pool(values[name])
            if values[name].ndim == 4:
                vectors[name] = values[name].mean((1, 2))
            elif values[name].ndim == 2:
                vectors[name] = values[name]
        self._widths = {name: vector.shape[1] for name, vector in vectors.items()}
        return jnp.concatenate(list(vectors.values()), axis=1), {}

    def _pools(self, values: Mapping[str, Any], params: Params, stats: Stats) -> dict[str, Pool]:
        """What makes a vector of tokens, by its name."""
        shapes = [value.ndim for value in values.values()]
        at = next((i for i in range(1, len(shapes)) if shapes[i - 1 : i + 1] == [3, 2]), None)
        if at is None:
            return {"": lambda tokens: tokens.mean(1)}
        name = self._names[at]
        models = {how: found.blocks()[at][1] for how, found in self._others.items()}
        given = models or {"": self._blocks[at][1]}

        def pool(model: Model) -> Pool:
            weights = params.get(name, {}), stats.get(name, {})
            return lambda tokens: model.apply(*weights, tokens, train=False, rng=None)[0]

        return {how: pool(model) for how, model in given.items()}
