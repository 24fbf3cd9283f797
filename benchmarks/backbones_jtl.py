"""Backbones as jtl runs and trains them, for ``backbones.py``.

python benchmarks/backbones_jtl.py NETWORK INPUTS.npz WEIGHTS.npz float32|bfloat16|stored

waits on its input for what ``backbones.py`` asks of it.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from turns import seconds, serve

from jtl import losses
from jtl.devices import runtime
from jtl.models import bert, compute, efficientnet_lite, heads, inverted_residual
from jtl.models.chain import Blocks, chain, classifier
from jtl.models.families import FAMILIES
from jtl.models.pretrained import timm
from jtl.models.weights import Rule, import_weights, linear
from jtl.types import Params, Stats

Network = tuple[Blocks, tuple[Rule, ...]]
"""The blocks on normalised inputs, and where the tensors of the opponent go."""


def _of_timm(name: str) -> Network:
    found = timm.described({"architecture": name}, name)
    return FAMILIES[found.family].blocks(found.shape), found.table


def _efficientnet_lite() -> Network:
    # timm names its blocks as it does those of its relatives.
    named = inverted_residual.Shape(32, ((),) * 7, efficientnet_lite.WIDTH, 0, "relu", hard=False)
    return efficientnet_lite.blocks(), inverted_residual.table(named)


def _minilm() -> Network:
    return bert.blocks(bert.Shape(30522, 384, 6, 12, 1536)), tuple(
        rule._replace(pattern=rf"model\.(?:{rule.pattern})") for rule in bert.TABLE
    )


NETWORKS: Mapping[str, Callable[[], Network]] = {
    "resnet18": partial(_of_timm, "resnet18"),
    "resnet50": partial(_of_timm, "resnet50"),
    "vit_small_patch16_224": partial(_of_timm, "vit_small_patch16_224"),
    "efficientnet-lite0": _efficientnet_lite,
    "minilm": _minilm,
}


TUNED = "stage7"
"""The first block of EfficientNet-Lite0 that fine-tuning trains."""


class Runs:
    """A network with what is asked of it.

    Args:
      network: out of :data:`NETWORKS`; with ", fine-tuned" after it the blocks from :data:`TUNED`
        on are trained alone, and batch norms keep their statistics.
      given: ``inputs``, normalised images [B, H, W, C] or tokens [B, T], and ``labels`` [B].
      tensors: the opponent's, by name.
      how: "bfloat16" if the blocks compute in it; "stored" if what frozen ones give is at hand.
    """

    def __init__(
        self,
        network: str,
        given: Mapping[str, np.ndarray],
        tensors: Mapping[str, np.ndarray],
        *,
        how: str,
    ) -> None:
        name, _, tuned = network.partition(", ")
        blocks, table = NETWORKS[name]()
        if how == "bfloat16":
            blocks = tuple((path, compute.in_bfloat16(model)) for path, model in blocks)
        inputs = given["inputs"]
        if name == "efficientnet-lite0":  # which normalises by itself
            inputs = inputs * efficientnet_lite.STD + efficientnet_lite.MEAN
        self.inputs, self.labels = jnp.asarray(inputs), jnp.asarray(given["labels"])
        width = len(tensors["own_head.weight"].T)
        whole = (*blocks, ("head", heads.head(width, 10)))
        shapes = jax.eval_shape(chain(whole).init, jax.random.key(0))
        table = (*linear(r"own_head", "head/dense"), *table)
        params, stats = jax.device_put(import_weights(table, tensors, *shapes))
        cut = [path for path, _ in whole].index(TUNED) if tuned else 0
        below = [path for path, _ in whole[:cut]]
        self._frozen = {path: params[path] for path in below}
        self._forward = jax.jit(partial(_features, blocks))
        if how == "stored":
            frozen = jax.jit(partial(_features, whole[:cut]))
            self.inputs, whole, cut = frozen(self._frozen, stats, self.inputs), whole[cut:], 0
        params = {path: leaves for path, leaves in params.items() if path not in below}
        optimizer = optax.sgd(0.001, momentum=0.9)
        self._state = params, stats, optimizer.init(params)
        step = partial(_step, whole[:cut], whole[cut:], optimizer, not tuned)
        self._train = jax.jit(step, donate_argnums=0)

    def features(self) -> list[list[float]]:
        """Of all inputs, in eval mode."""
        return self._features().tolist()

    def losses(self, steps: int) -> list[float]:
        """Of some steps of training."""
        return [float(self._step()) for _ in range(steps)]

    def forward(self, steps: int) -> float:
        """Seconds that some forward passes take, in eval mode."""
        return seconds(self._features, steps)

    def train(self, steps: int) -> float:
        """Seconds that some steps of training take."""
        return seconds(self._step, steps)

    def _features(self) -> jax.Array:
        params, stats, _ = self._state
        params = params | self._frozen
        return jax.block_until_ready(self._forward(params, stats, self.inputs))

    def _step(self) -> jax.Array:
        self._state, loss = self._train(self._state, self._frozen, self.inputs, self.labels)
        return jax.block_until_ready(loss)


def _features(blocks: Blocks, params: Params, stats: Stats, inputs: jax.Array) -> jax.Array:
    return chain(blocks).apply(params, stats, inputs, train=False, rng=None)[0]


def _step(
    below: Blocks,
    blocks: Blocks,
    optimizer: optax.GradientTransformation,
    train: bool,
    state: tuple[Params, Stats, Any],
    frozen: Params,
    inputs: jax.Array,
    labels: jax.Array,
) -> tuple[tuple[Params, Stats, Any], jax.Array]:
    params, stats, memory = state
    inputs = _features(below, frozen, stats, inputs)

    def loss(params: Params) -> tuple[jax.Array, Stats]:
        outputs, moved = classifier(blocks).apply(
            params, stats, inputs, train=train, rng=jax.random.key(0)
        )
        return losses.cross_entropy(outputs.logits, labels).mean(), stats | moved

    (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, memory = optimizer.update(gradients, memory)
    return (optax.apply_updates(params, updates), stats, memory), value


if __name__ == "__main__":
    _, _network, _inputs, _weights, _how = sys.argv
    runtime.start()
    with np.load(_inputs) as _given, np.load(_weights) as _tensors:
        _runs = Runs(_network, _given, dict(_tensors), how=_how)
    serve(_runs)
