"""From a config to objects: data, model, method and the stages of training.

With `train`, `study` and `cli`, the only module that reads a config.
"""

import inspect
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jtl import optimizers, partition, registry, sharding, validators
from jtl.data import augment, batches
from jtl.data.examples import Examples
from jtl.data.splits import Domains, split_domains
from jtl.errors import UserError, nearest
from jtl.features import Prefix, below, frozen_blocks
from jtl.models import heads
from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks, chain, classifier, prefixed
from jtl.step import Recipe, Training, make_training, model_key
from jtl.types import Batch, Labelled, Method, Model, Params, Stats, Unlabelled

_SIZES = ("features", "classes")
"""Arguments of a method's factory that the model decides, not the config."""


@dataclass(frozen=True)
class Stage:
    """A part of training with its own partition, from a step on."""

    start: int
    training: Training


@dataclass(frozen=True)
class Network:
    """The classifier of an experiment, cut where training starts.

    Attributes:
      backbone: its name, preprocessing and pretrained weights.
      blocks: all blocks, the head last.
      cut: how many of them are run once, before training.
      initial: parameters and statistics of all blocks before training.
    """

    backbone: Backbone
    blocks: Blocks
    cut: int
    initial: tuple[Params, Stats]

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
        return self._part(tuple(b for b in self.blocks if b[0].startswith("backbone/")))

    def _part(self, blocks: Blocks) -> Prefix:
        params, stats = (below(tree, blocks) for tree in self.initial)
        return Prefix(self.backbone.name, blocks, params, stats)

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


def backbone(config: ConfigDict) -> Backbone:
    """The backbone that ``model.backbone`` names."""
    kind, name = registry.split("backbone", config.model.backbone, "model.backbone")
    return registry.resolve("backbone", kind)(name, image_size=config.model.image_size)


def domains(config: ConfigDict, found: Backbone) -> Domains:
    """Source and target, as the backbone wants them, and split."""
    if found.preprocess is None and config.data.augment != "none":
        raise UserError(f"data.augment: {found.name} takes vectors; only images are augmented")
    source = _load(config.data.source, "data.source", found)
    target = None
    if config.data.target:
        target = _load(config.data.target, "data.target", found)
    return split_domains(
        source, target, test_fraction=config.data.test_fraction, seed=config.data.split_seed
    )


def labelled(config: ConfigDict, data: Domains, method: Method) -> Examples:
    """What the task loss is trained on: the source, or for an oracle the target with its labels."""
    examples = data.source_train
    if method.oracle:
        if data.target_oracle is None:
            raise UserError(f"method {config.method.name} needs labels of data.target; it has none")
        examples = data.target_oracle
    if config.data.per_class:
        examples = examples.shots(config.data.per_class, seed=config.seed)
    return examples


def _load(reference: str, where: str, found: Backbone) -> Examples:
    kind, rest = registry.split("data", reference, where)
    examples: Examples = registry.resolve("data", kind)(rest, found.preprocess)
    if found.preprocess is None and examples.array().shape[1:] != (found.width,):
        features = examples.array().shape[1]
        raise UserError(
            f"{where}: {reference} has {features} features an example, but model.backbone is "
            f"{found.name}; write features:{features}"
        )
    return examples


def method(config: ConfigDict, *, features: int, classes: int) -> Method:
    """The method with its settings; those it declares as hyper-parameters stay arrays.

    Raises:
      UserError: a setting that the method does not have.
    """
    name = config.method.name
    factory = registry.resolve("method", name, "method.name")
    accepted = set(inspect.signature(factory).parameters)
    settings = {key: value for key, value in config.method.items() if key != "name"}
    sizes = {"features": features, "classes": classes}
    made: Method = factory(
        **{key: value for key, value in sizes.items() if key in accepted},
        **{key: value for key, value in settings.items() if key in accepted - set(_SIZES)},
    )
    valid = (accepted - set(_SIZES)) | set(made.hyper)
    for key in settings:
        if key not in valid:
            raise UserError(f"method.{key}: {name} has no such setting; {nearest(key, valid)}")
    reads_target = any("target" in phase.reads for phase in made.phases)
    if reads_target and not config.data.target:
        raise UserError(f"method.name: {name} adapts to a target, and data.target is not set")
    return made


def hyperparameters(config: ConfigDict, made: Method) -> dict[str, jax.Array]:
    """Scalars as arrays: the optimizer's and the method's."""
    values: dict[str, Any] = {
        "learning_rate": config.optimizer.learning_rate,
        "weight_decay": config.optimizer.weight_decay,
    }
    for key, default in made.hyper.items():
        value = values[key] = config.method.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise UserError(f"method.{key}: expected a number of 0 or more, got {value!r}")
    return {key: jnp.asarray(value, jnp.float32) for key, value in values.items()}


def network(config: ConfigDict, found: Backbone, made: Method, classes: int) -> Network:
    """The classifier on a backbone, with the frozen blocks at its start set apart."""
    blocks = prefixed("backbone", found.blocks(axis_name=_axis_name(config)))
    width = found.width
    if config.model.bottleneck:
        layer = heads.bottleneck(width, config.model.bottleneck, dropout=config.model.dropout)
        blocks += (("bottleneck", layer),)
        width = config.model.bottleneck
    blocks += (("head", heads.head(width, classes)),)
    given = _given(found)
    # Random weights that pretrained ones replace are not drawn: they take seconds to compile.
    fresh = tuple(block for block in blocks if not below(given[0], (block,)))
    key = model_key(config.seed)
    random = jax.jit(chain(fresh).init)(jax.random.fold_in(key, found.salt) if found.salt else key)
    params, stats = map(partition.merge, random, given)
    extra = _own_parameters(made)
    stages = [config.partition, *(rules for _, rules in config.unfreeze)]
    cut = frozen_blocks(blocks, params | extra, stages) if config.data.augment == "none" else 0
    return Network(found, blocks, cut, (params, stats))


def _given(found: Backbone) -> tuple[Params, Stats]:
    """Pretrained parameters and statistics, at their place in the classifier."""
    if found.weights is None:
        return {}, {}
    params, stats = found.weights
    return {"backbone": params}, {"backbone": stats} if stats else {}


def _axis_name(config: ConfigDict) -> str | None:
    return sharding.AXIS if config.parallel == "pmap" else None


def head_width(config: ConfigDict, found: Backbone) -> int:
    """Width of the features, the head's input."""
    return config.model.bottleneck or found.width


def stages(config: ConfigDict, net: Network, made: Method) -> tuple[Stage, ...]:
    """The stages of training: one, or one more for every entry of ``unfreeze``."""
    decay = optimizers.schedule(config.optimizer.schedule, warmup=config.optimizer.warmup)
    make_optimizer = {"sgd": optimizers.sgd, "adamw": optimizers.adamw}[config.optimizer.name]

    def stage(start: float, rules: partition.Rules) -> Stage:
        recipe = Recipe(
            model=net.trained,
            method=made,
            optimizer=make_optimizer(decay, momentum=config.optimizer.momentum),
            rules=_still_deciding(rules, net, made) if net.cut else rules,
            steps=config.steps,
            factors=dict(config.optimizer.groups),
            block_factors=_block_factors(net.blocks, config.optimizer.layer_decay),
            batch_norm=config.batch_norm,
            augment=AUGMENTS[config.data.augment],
            clip=config.optimizer.clip,
            axis_name=_axis_name(config),
        )
        return Stage(round(start * config.steps), make_training(recipe))

    return tuple(
        stage(start, rules) for start, rules in [(0.0, config.partition), *config.unfreeze]
    )


def _still_deciding(rules: partition.Rules, net: Network, made: Method) -> partition.Rules:
    """The rules that decide something above the cut; all were checked on the whole before it."""
    rest = below(net.initial[0], net.blocks[net.cut :]) | _own_parameters(made)
    return partition.deciding(rules, rest)


def _own_parameters(made: Method) -> Params:
    """The parameters of a method's networks, as shapes."""
    key = jax.random.key(0)
    return {name: jax.eval_shape(net.init, key)[0] for name, net in made.networks.items()}


def _block_factors(blocks: Blocks, decay: float) -> Mapping[str, float]:
    """Layer-wise decay of the learning rate: the head has 1, each block below ``decay`` times."""
    if decay == 1.0:
        return {}
    return {path: decay**depth for depth, (path, _) in enumerate(reversed(blocks))}


def stream(
    config: ConfigDict, source: Examples, target: Examples | None, start: int
) -> Iterator[Batch]:
    """The batches from a step on, one by one, for data that do not fit in memory."""
    settings = {
        "seed": config.seed,
        "first_step": start,
        "steps": config.steps - start,
        "batch_size": config.batch_size,
        "process": jax.process_index(),
        "processes": jax.process_count(),
    }
    sources = cast("Iterator[Labelled]", batches.stream(source, name="source", **settings))
    targets: Iterator[Unlabelled | None] = itertools.repeat(None)
    if target is not None:
        stream = batches.stream(target, name="target", **settings)
        targets = cast("Iterator[Unlabelled | None]", stream)
    yield from map(Batch, sources, targets)


AUGMENTS = {"none": None, "shift": augment.random_shift(2), "flip": augment.random_flip}
"""``data.augment``."""
CRITERIA = {
    "information_maximization": validators.INFORMATION_MAXIMIZATION,
    "entropy": validators.ENTROPY,
    "source_risk": validators.SOURCE_RISK,
}
"""``keep.criterion``: what "best" means among the checkpoints."""
