"""The frozen part of a model, run once.

Blocks below the lowest trainable one always give the same output for the same input, so their
outputs are computed once and training starts from them.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import jax
import numpy as np

from jtl import partition
from jtl.data.examples import Examples
from jtl.inference import in_batches
from jtl.models.chain import Blocks, chain
from jtl.types import Params, Stats


def frozen_blocks(blocks: Blocks, params: Params, stages: Sequence[partition.Rules]) -> int:
    """How many blocks at the start no stage of training changes.

    Args:
      blocks: of the classifier, the head last. The head is never counted.
      params: of the classifier and of the method's networks; shapes suffice.
      stages: the partition rules of every stage.
    """
    trained = set()
    for rules in stages:
        labels = partition.label(params, rules)
        trained |= {path for path, name in partition.walk(labels) if name != partition.FREEZE}
    count = 0
    for path, _ in blocks[:-1]:
        if any(name == path or name.startswith(path + "/") for name in trained):
            break
        count += 1
    return count


def below(tree: Params, blocks: Blocks) -> Params:
    """The part of a tree that belongs to these blocks."""
    paths = [path for path, _ in blocks]
    inside = partition.map_paths(
        lambda name, leaf: any(name.startswith(path + "/") for path in paths), tree
    )
    return partition.split(tree, inside)[0]


class Prefix:
    """The frozen blocks with their parameters, compiled; calls give stored activations.

    An image in memory is run once however often it is asked for, also by later runs of the same
    process and whichever way they split their data: outputs are kept under the weights, the
    blocks and the pixels.
    """

    _kept: ClassVar[dict[tuple[str, ...], dict[str, np.ndarray]]] = {}

    def __init__(self, name: str, blocks: Blocks, params: Params, stats: Stats) -> None:
        model = chain(blocks)
        key = (name, *(path for path, _ in blocks), _hash(params), _hash(stats))
        self._outputs = self._kept.setdefault(key, {})
        self._weights = (params, stats)
        self._empty = not blocks

        @jax.jit
        def run(weights: tuple[Params, Stats], inputs: jax.Array) -> jax.Array:
            return model.apply(*weights, inputs, train=False, rng=None)[0]

        self._run = run

    def __call__(self, examples: Examples) -> Examples:
        """The examples with the prefix's outputs in place of their inputs."""
        if self._empty:
            return examples
        if not isinstance(examples.inputs, np.ndarray):
            return replace(examples, inputs=self._outputs_of(examples))
        names = examples.fingerprints
        new = list({n: i for i, n in enumerate(names) if n not in self._outputs}.values())
        if new:
            outputs = self._outputs_of(examples.take(new))
            self._outputs |= zip((names[index] for index in new), outputs, strict=True)
        outputs = np.stack([self._outputs[name] for name in names])
        return replace(examples, inputs=outputs, padding=None)

    def bytes_of_one(self, examples: Examples) -> int:
        """How much memory the output for one example takes."""
        first = self._shape_of_one(examples)
        return math.prod(first.shape) * first.dtype.itemsize

    def _outputs_of(self, examples: Examples) -> np.ndarray:
        weights = jax.device_put(self._weights)
        # Blocks below the pooling of tokens give more for longer texts: those are run as they are.
        pooled = examples.padding is not None and len(self._shape_of_one(examples).shape) == 2
        return in_batches(
            lambda inputs: self._run(weights, inputs),
            examples.inputs,
            padding=examples.padding if pooled else None,
        )

    def _shape_of_one(self, examples: Examples) -> jax.ShapeDtypeStruct:
        return jax.eval_shape(self._run, self._weights, np.asarray(examples.inputs[0])[None])


def _hash(tree: Params) -> str:
    digest = hashlib.sha256()
    for path, leaf in partition.walk(tree):
        digest.update(path.encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()
