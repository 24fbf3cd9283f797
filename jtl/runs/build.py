"""From a config to objects: data, model, method and the stages of training.

What reads a config beside it is listed in ARCHITECTURE.md.
"""

import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jtl import catalogue, partition, registry
from jtl.data import batches
from jtl.data.examples import Examples
from jtl.data.splits import Domains, split_domains
from jtl.data.tables import in_columns
from jtl.data.texts import of_one_length
from jtl.devices import sharding
from jtl.errors import UserError
from jtl.frozen.features import below, frozen_blocks
from jtl.models import heads, lora
from jtl.models.backbone import Backbone, shortened
from jtl.models.chain import Blocks, prefixed
from jtl.models.columns import standardise
from jtl.models.compute import computed
from jtl.training import accumulation, optimizers
from jtl.training.network import Network, Start
from jtl.training.step import Recipe, Training, make_training
from jtl.types import Batch, Labelled, Method, Params, Unlabelled


@dataclass(frozen=True)
class Stage:
    """A part of training with its own partition, from a step on."""

    start: int
    training: Training


def backbone(config: ConfigDict) -> Backbone:
    """The backbone that ``model.backbone`` names, computed as the config says."""
    model = config.model
    kind, name = registry.split("backbone", model.backbone, "model.backbone")
    load = registry.resolve("backbone", kind)
    found = load(name, image_size=model.image_size, pooling=model.pooling)
    found = shortened(found, model.max_tokens) if model.max_tokens else found
    return computed(found, bfloat16=model.compute == "bfloat16", remat=model.remat)


def standardized(found: Backbone, data: Domains) -> Backbone:
    """No backbone but a block that standardises vectors, as the source's training examples are."""
    block = standardise(data.source_train.array())
    return replace(found, blocks=lambda axis_name=None: (("columns", block),))


def domains(config: ConfigDict, found: Backbone) -> Domains:
    """Source and target, as the backbone wants them, and split."""
    source = _load(config, "source", found)
    target = None
    if config.data.target:
        target = in_columns(_load(config, "target", found), source.columns)
        source, target = of_one_length(source, target)
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


def _load(config: ConfigDict, domain: str, found: Backbone) -> Examples:
    reference, where = config.data[domain], f"data.{domain}"
    kind, rest = registry.split("data", reference, where)
    load = registry.resolve("data", kind)
    if kind in registry.TABLES:
        load = partial(load, text=config.data.text_column, label=config.data.label_column)
    examples: Examples = load(rest, found.wanted)
    if found.wanted is None and examples.array().shape[1:] != (found.width,):
        features = examples.array().shape[1]
        raise UserError(
            f"{where}: {reference} has {features} features an example, but model.backbone is "
            f"{found.name}; write features:{features}"
        )
    return examples


def method(config: ConfigDict, found: Backbone, *, classes: int) -> Method:
    """The method with its settings; those it declares as hyper-parameters stay arrays."""
    factory, accepted = _factory(config)
    given = {"features": head_width(config, found), "classes": classes, **config.method}
    if "pretrained_head" in accepted:
        given["pretrained_head"] = _pretrained_head(config, found)
    return factory(**{key: given[key] for key in accepted if key in given})


def strengths(config: ConfigDict) -> tuple[str, ...]:
    """The method's settings that stay arrays."""
    accepted = _factory(config)[1]
    return tuple(key for key in config.method if key != "name" and key not in accepted)


def _factory(config: ConfigDict) -> tuple[Callable[..., Method], Collection[str]]:
    """The function that makes the method, and the names of its arguments."""
    factory = registry.resolve("method", config.method.name, "method.name")
    return factory, inspect.signature(factory).parameters


def _pretrained_head(config: ConfigDict, found: Backbone) -> Params:
    name = config.method.name
    if config.model.bottleneck:
        raise UserError(
            f"model.bottleneck: {name} puts the head that the backbone was pretrained with on its "
            "features, and a bottleneck changes them; set 0"
        )
    if found.head is None:
        raise UserError(
            f"model.backbone: {name} needs the head that the backbone was pretrained with, and "
            f"{config.model.backbone} brings none; give a package:, or a run: whose "
            "model.bottleneck is 0"
        )
    return found.head


def hyperparameters(config: ConfigDict, made: Method) -> dict[str, jax.Array]:
    """Scalars as arrays: the optimizer's and the method's."""
    values = {
        "learning_rate": config.optimizer.learning_rate,
        "weight_decay": config.optimizer.weight_decay,
        **{key: config.method.get(key, default) for key, default in made.hyper.items()},
    }
    return {key: jnp.asarray(value, jnp.float32) for key, value in values.items()}


def classifier_blocks(config: ConfigDict, found: Backbone, classes: int) -> Blocks:
    """The classifier on a backbone: its blocks, then the bottleneck, then the head."""
    model, axis_name = config.model, _axis_name(config)
    blocks = prefixed("backbone", found.blocks(axis_name=axis_name))
    width = found.width
    if model.bottleneck:
        layer = heads.bottleneck(
            width, model.bottleneck, dropout=model.dropout, norm=model.norm, axis_name=axis_name
        )
        blocks += (("bottleneck", layer),)
        width = model.bottleneck
    blocks = (*blocks, ("head", heads.head(width, classes)))
    return lora.adapted(blocks, **model.lora) if model.lora.rank else blocks


def network(config: ConfigDict, found: Backbone, start: Start, made: Method) -> Network:
    """The classifier's first values, with the frozen blocks at its start set apart."""
    initial = start(config.seed)
    extra = _own_parameters(made)
    if catalogue.METHODS[config.method.name].statistics:
        _require_moving_statistics(config, *initial)
    rules = [rules for _, rules in _partitions(config)]
    cut = frozen_blocks(start.blocks, initial[0] | extra, rules)
    return Network(found, start.blocks, cut, config.cache, config.devices, initial, start.weights)


def _require_moving_statistics(config: ConfigDict, params: Params, stats: Params) -> None:
    if not partition.moving_norms(partition.label(params, _partitions(config)[0][1]), stats):
        raise UserError(
            f"method.name: {config.method.name} moves the statistics of batch norms, and none "
            "trains; set model.norm=batch, or let partition train a batch norm"
        )


def _axis_name(config: ConfigDict) -> str | None:
    return sharding.AXIS if config.parallel == "pmap" else None


def head_width(config: ConfigDict, found: Backbone) -> int:
    """Width of the features, the head's input."""
    return config.model.bottleneck or found.width


def stages(config: ConfigDict, net: Network, made: Method) -> tuple[Stage, ...]:
    """The stages of training: one, or one more for every entry of ``unfreeze``."""
    decay = optimizers.schedule(config.optimizer.schedule, warmup=config.optimizer.warmup)
    make_optimizer = registry.resolve("optimizer", config.optimizer.name)

    def stage(start: float, rules: partition.Rules) -> Stage:
        params, stats = net.initial
        whole = params | _own_parameters(made)
        accumulation.check(config.accumulate, config.batch_norm, rules, whole, stats)
        recipe = Recipe(
            model=accumulation.in_parts(net.trained, config.accumulate),
            method=made,
            optimizer=make_optimizer(decay, momentum=config.optimizer.momentum),
            rules=_still_deciding(rules, net, made) if net.cut else rules,
            steps=config.steps,
            factors=dict(config.optimizer.groups),
            block_factors=_block_factors(net.blocks, config.optimizer.layer_decay),
            batch_norm=config.batch_norm,
            share=config.batch_norm_share,
            augment=registry.resolve("augmentation", config.data.augment),
            clip=config.optimizer.clip,
            axis_name=_axis_name(config),
        )
        return Stage(round(start * config.steps), make_training(recipe))

    return tuple(stage(start, rules) for start, rules in _partitions(config))


def _partitions(config: ConfigDict) -> list[tuple[float, partition.Rules]]:
    """The rules of each stage, and when it starts; for vectors without those for a backbone."""
    given = [(0.0, config.partition), *config.unfreeze]
    if not config.model.backbone.startswith("features:"):
        return given
    return [
        (start, tuple(rule for rule in rules if not rule[0].startswith("backbone/")))
        for start, rules in given
    ]


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
