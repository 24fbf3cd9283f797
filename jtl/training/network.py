"""The classifier of a run: its blocks, its first values, and the cut below which it is frozen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jtl import partition
from jtl.data.examples import Examples
from jtl.frozen.features import Prefix, below
from jtl.models import saved
from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks, chain, classifier
from jtl.training.step import model_key
from jtl.types import Model, Params, Stats


class Start:
    """The first values of a classifier: pretrained where there are such, else random by the seed.

    One object serves runs of many seeds, and compiles once.

    Args:
      found: the backbone.
      blocks: of the classifier on it.
      initial: the folder of a finished run, to start from its whole model instead.
      low_rank: whether blocks have leaves beside the pretrained ones (:mod:`jtl.models.lora`).

    Attributes:
      weights: where the pretrained ones come from, with their sha256.
    """

    def __init__(
        self, found: Backbone, blocks: Blocks, *, initial: str = "", low_rank: bool = False
    ) -> None:
        self.blocks = blocks
        self.weights = {found.origin: found.sha256} if found.origin else {}
        if initial:
            model = saved.classifier(initial, blocks)
            self._given = model.params, model.stats
            self.weights[f"run:{initial}"] = model.sha256
        else:
            self._given = _given(found)
        self._salt = found.salt
        # Random weights that pretrained ones replace are not drawn: they take seconds to compile.
        fresh = chain(tuple(b for b in blocks if low_rank or not below(self._given[0], (b,))))
        self._draw = jax.jit(lambda key: tuple(map(_missing, fresh.init(key), self._given)))

    def __call__(self, seed: int) -> tuple[Params, Stats]:
        """Parameters and statistics of all blocks."""
        key = model_key(np.asarray(seed, np.int32))
        random = self._draw(jax.random.fold_in(key, self._salt) if self._salt else key)
        params, stats = map(partition.merge, random, self._given)
        return params, stats


def _missing(random: Params, given: Params) -> Params:
    """The random leaves that no given ones replace."""
    there = {path for path, _ in partition.walk(given)}
    return partition.split(random, partition.map_paths(lambda path, _: path not in there, random))[
        0
    ]


def _given(found: Backbone) -> tuple[Params, Stats]:
    """Pretrained parameters and statistics, at their place in the classifier."""
    if found.weights is None:
        return {}, {}
    params, stats = found.weights
    return {"backbone": params}, {"backbone": stats} if stats else {}


@dataclass(frozen=True)
class Embedded:
    """A :class:`jtl.types.Pretrained`.

    Attributes:
      features: what the backbone gives.
      begun: what its frozen blocks give.
      trained: its other blocks.
      weights: their parameters and statistics.
    """

    features: np.ndarray
    begun: np.ndarray
    trained: Blocks
    weights: tuple[Params, Stats]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The paths of the blocks that are trained."""
        return tuple(path for path, _ in self.trained)

    def without(self, block: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """For each channel of what a block returns, the features of some rows were it 0."""
        at = self.blocks.index(block) + 1

        def run(blocks: Blocks, weights: tuple[Params, Stats], inputs: jax.Array) -> jax.Array:
            return chain(blocks).apply(*weights, inputs, train=False, rng=None)[0]

        @jax.jit
        def features(weights: tuple[Params, Stats], given: jax.Array, channel: int) -> jax.Array:
            return run(self.trained[at:], weights, given.at[..., channel].set(0.0))

        given = jax.jit(partial(run, self.trained[:at]))(self.weights, self.begun[rows])
        for channel in range(given.shape[-1]):
            yield np.asarray(features(self.weights, given, channel))


@dataclass(frozen=True)
class Network:
    """The classifier of an experiment, cut where training starts.

    Attributes:
      backbone: its name, preprocessing and pretrained weights.
      blocks: all blocks, the head last.
      cut: how many of them are run once, before training.
      cache: whether what they give is kept on disk.
      devices: how many of this process's run them; 0 is all.
      initial: parameters and statistics of all blocks before training.
      weights: where the pretrained ones among them come from, with their sha256.
    """

    backbone: Backbone
    blocks: Blocks
    cut: int
    cache: bool
    devices: int
    initial: tuple[Params, Stats]
    weights: Mapping[str, str]

    @property
    def trained(self) -> Model:
        """The part that training runs, on the prefix's outputs."""
        return classifier(self.blocks[self.cut :])

    @property
    def prefix(self) -> Prefix:
        """The part that is run once."""
        return self._part(self.blocks[: self.cut])

    @property
    def embedding(self) -> Prefix:
        """The backbone as it was before training."""
        return self._part(self._of_backbone)

    def pretrained(self, examples: Examples) -> Embedded:
        """What the backbone makes of some examples before training."""
        features = self.embedding(examples).array()
        trained = self._of_backbone[self.cut :]
        begun = self.prefix(examples).array() if trained else features
        params, stats = (below(tree, trained) for tree in self.initial)
        return Embedded(features, begun, trained, (params, stats))

    @property
    def _of_backbone(self) -> Blocks:
        return tuple(block for block in self.blocks if block[0].startswith("backbone/"))

    def _part(self, blocks: Blocks) -> Prefix:
        params, stats = (below(tree, blocks) for tree in self.initial)
        return Prefix(
            self.backbone.name,
            blocks,
            params,
            stats,
            on_disk=self.cache,
            devices=self.devices,
        )

    def start(self) -> tuple[Params, Stats]:
        """The parameters and statistics that training starts from."""
        params, stats = self.initial
        rest = self.blocks[self.cut :]
        return below(params, rest), below(stats, rest)

    def whole(self, params: Params, stats: Stats) -> tuple[Params, Stats]:
        """Adds the prefix's parameters and statistics to trained ones, leaving out the method's."""
        rest, prefix = self.blocks[self.cut :], self.blocks[: self.cut]
        return (
            partition.merge(below(self.initial[0], prefix), below(params, rest)),
            partition.merge(below(self.initial[1], prefix), below(stats, rest)),
        )
