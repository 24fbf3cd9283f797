"""The checks of a config's values: each is one line, and none needs JAX."""

import math
import re
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jtl import catalogue, ranges, registry
from jtl.configuration import overrides
from jtl.errors import UserError, nearest
from jtl.frozen import cache
from jtl.models.pretrained.names import TIMM

CHOICES: Mapping[str, Collection[str]] = {
    "optimizer.name": registry.OPTIMIZERS,
    "optimizer.schedule": registry.SCHEDULES,
    "batch_norm": registry.BATCH_NORM,
    "parallel": ("jit", "pmap"),
    "keep.criterion": registry.VALIDATORS,
    "keep.model": ("latest", "best"),
    "data.augment": registry.AUGMENTATIONS,
    "model.norm": registry.NORMS,
    "model.pooling": registry.POOLINGS,
    "model.compute": registry.COMPUTE,
}

RANGES: Mapping[str, ranges.Range] = {
    "seed": ranges.SEED,
    "steps": ranges.STEPS,
    "batch_size": ranges.BATCH,
    "accumulate": ranges.COUNT,
    "devices": ranges.NATURAL,
    "batch_norm_share": ranges.SHARE,
    "data.test_fraction": ranges.INSIDE,
    "data.split_seed": ranges.NATURAL,
    "data.per_class": ranges.NATURAL,
    "model.bottleneck": ranges.BOTTLENECK,
    "model.dropout": ranges.FRACTION,
    "model.image_size": ranges.SIDE,
    "model.max_tokens": ranges.NATURAL,
    "model.lora.rank": ranges.NATURAL,
    "model.lora.alpha": ranges.POSITIVE,
    "optimizer.learning_rate": ranges.POSITIVE,
    "optimizer.weight_decay": ranges.NATURAL,
    "optimizer.momentum": ranges.FRACTION,
    "optimizer.warmup": ranges.FRACTION,
    "optimizer.clip": ranges.NATURAL,
    "optimizer.layer_decay": ranges.FACTOR,
    "eval_every": ranges.COUNT,
    "checkpoint_every": ranges.COUNT,
    "keep.latest": ranges.COUNT,
    "keep.best": ranges.NATURAL,
    "keep.examples": ranges.COUNT,
}


def check(config: ConfigDict, *, initial_follows: bool = False) -> None:
    """Checks every value that can be checked without JAX.

    Args:
      config: with every key.
      initial_follows: ``model.initial`` will be set later, to a run that is not made yet.

    Raises:
      UserError: one line naming the key, the value, and what it may be.
    """
    _check_values(config)
    cache.limit()
    _check_method(config)
    if not initial_follows:
        _check_initial(config)
    if config.keep.model == "best" and not config.keep.best:
        raise UserError("keep.model: best needs a checkpoint that is kept; set keep.best to 1")
    if not config.data.target and config.keep.criterion != "source_risk":
        raise UserError(
            f"keep.criterion: {config.keep.criterion} reads the target, and data.target is not "
            "set; use source_risk"
        )
    for key, default in (("dropout", 0.0), ("norm", "layer")):
        if config.model[key] != default and not config.model.bottleneck:
            raise UserError(f"model.{key}: acts in the bottleneck, and model.bottleneck is 0")
    if config.batch_size % config.accumulate:
        raise UserError(
            f"accumulate: batch_size {config.batch_size} cannot be cut into {config.accumulate} "
            "parts of one size; make it a multiple"
        )
    _check_data(config)
    _check_backbone(config)
    _check_partition(config)
    _check_interpolate(config.interpolate)
    _check_pattern(config.shard, "shard")
    if config.shard and config.parallel == "pmap":
        raise UserError("shard: under pmap every device holds all; set parallel to jit")


def check_backbone(config: ConfigDict) -> None:
    """Checks what a config says of a backbone that is not to be trained.

    Args:
      config: with every key.

    Raises:
      UserError: as :func:`check`.
    """
    _check_values(config)
    cache.limit()
    _check_backbone(config)


def _check_values(config: ConfigDict) -> None:
    """Every value is one of its key's, in its range, and finite."""
    values = dict(overrides.walk(config))
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            raise UserError(f"{key}: unknown {values[key]!r}; {nearest(values[key], choices)}")
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}: expected a finite number, got {value}")
    for key, (holds, meaning) in RANGES.items():
        if not holds(values[key]):
            raise UserError(f"{key} is {values[key]}; it must be {meaning}")


def _check_interpolate(fractions: tuple[Any, ...]) -> None:
    numbers = all(_is_number(fraction) and 0 <= fraction <= 1 for fraction in fractions)
    if not numbers or list(fractions) != sorted(set(fractions)):
        raise UserError(
            f"interpolate: expected rising fractions from 0 to 1, as (0, 0.5, 1), got {fractions!r}"
        )


def _check_method(config: ConfigDict) -> None:
    """The settings of the method are its own, of their default's type, and in their range."""
    name = config.method.name
    registry.require("method", name, "method.name")
    entry = catalogue.METHODS[name]
    for key, value in config.method.items():
        where = f"method.{key}"
        if key == "name":
            continue
        if key not in entry.settings:
            raise UserError(f"{where}: {name} has no such setting; {nearest(key, entry.settings)}")
        default, (holds, meaning) = entry.settings[key]
        if not holds(overrides.convert(value, default, where)):
            raise UserError(f"{where} is {value!r}; it must be {meaning}")
    if entry.target and not config.data.target:
        raise UserError(f"method.name: {name} reads the target, and data.target is not set")
    if entry.statistics and config.batch_norm == "frozen":
        raise UserError(f"batch_norm: {name} moves the statistics that frozen keeps; use separate")


def _check_initial(config: ConfigDict) -> None:
    initial, name = config.model.initial, config.method.name
    if initial and not (Path(initial) / registry.MODEL).is_file():
        raise UserError(f"model.initial: no finished run in {initial}; train it first")
    if catalogue.METHODS[name].initial and not initial:
        raise UserError(
            f"model.initial is not set, and {name} adapts a trained model; train one on the source "
            "(method.name=supervised) and give its workdir"
        )
    if config.interpolate and not initial:
        raise UserError(
            "interpolate: the way starts at a trained classifier; set model.initial to the workdir "
            "of a finished run"
        )


def _check_data(config: ConfigDict) -> None:
    if not config.data.source:
        raise UserError(f"data.source is not set; write {_forms('data')}")
    for key in ("source", "target"):
        reference, where = config.data[key], f"data.{key}"
        if not reference:
            continue
        prefix, rest = registry.split("data", reference, where)
        if prefix == "folder" and not Path(rest).expanduser().is_dir():
            raise UserError(f"{where}: no folder {rest}; give a folder of class folders of images")
        if prefix == "arrays" and not Path(rest).expanduser().is_file():
            raise UserError(f"{where}: no file {rest}; give an .npz file of inputs and labels")
        if prefix in registry.TABLES and not Path(rest).expanduser().is_file():
            raise UserError(f"{where}: no file {rest}; give a {prefix} file with named columns")


def _check_backbone(config: ConfigDict) -> None:
    where, reference = "model.backbone", config.model.backbone
    if not reference:
        raise UserError(f"{where} is not set; write {_forms('backbone')}")
    prefix, rest = registry.split("backbone", reference, where)
    if prefix == "file" and not Path(rest).expanduser().exists():
        raise UserError(f"{where}: no file or folder {rest}; name one that holds weights")
    if prefix == "package":
        _check_package(rest, where)
    if prefix == "random" and rest not in (known := {*registry.ARCHITECTURES, *TIMM}):
        raise UserError(f"{where}: there is no {reference}; {nearest(rest, known)}")
    if prefix == "run" and not (Path(rest) / registry.MODEL).is_file():
        raise UserError(f"{where}: no finished run in {rest}; train it first, or give its workdir")
    if prefix == "features":
        _check_vectors(config, rest)
    elif config.model.standardize:
        raise UserError(f"model.standardize: is for vectors, features:..., and not for {reference}")
    _check_pattern(config.model.lora.on, "model.lora.on")


def _check_package(name: str, where: str) -> None:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"{where}: no package {name} is installed; {nearest(name, registry.PACKAGES)} Or "
            f"install it: pip install --no-deps {name}"
        ) from error


def _check_vectors(config: ConfigDict, width: str) -> None:
    if not width.isdecimal() or int(width) < 1:
        raise UserError(
            f"model.backbone: features:{width} does not say how many features an example has; "
            "write features:64, say"
        )
    for key, off, what in (
        ("model.image_size", 0, "images"),
        ("model.max_tokens", 0, "texts"),
        ("data.augment", "none", "images"),
        ("model.compute", "float32", "backbones"),
        ("model.remat", False, "backbones"),
    ):
        section, _, leaf = key.partition(".")
        if config[section][leaf] != off:
            raise UserError(
                f"{key}: is for {what}, and features:{width} takes vectors; set {str(off).lower()}"
            )


def _forms(kind: str) -> str:
    return " or ".join(f"{prefix}:..." for prefix in registry.KINDS[kind])


def _check_partition(config: ConfigDict) -> None:
    groups = config.optimizer.groups
    labels = {"train", "freeze", *groups}
    used = _check_rules(config.partition, labels, "partition")
    last, before = 0.0, 0
    for index, stage in enumerate(config.unfreeze):
        where = f"unfreeze[{index}]"
        if not (isinstance(stage, tuple) and len(stage) == 2 and _is_number(stage[0])):
            raise UserError(f"{where}: expected (progress, rules), got {stage!r}")
        if not last < stage[0] < 1:
            raise UserError(f"{where}: progress {stage[0]} is not between {last:g} and 1")
        start = round(stage[0] * config.steps)
        if not before < start < config.steps:
            empty = "the stage before it" if start <= before else "it"
            raise UserError(
                f"{where}: progress {stage[0]} of {config.steps} steps is step {start}, which "
                f"leaves {empty} no step; give it another progress, or train longer"
            )
        last, before = stage[0], start
        used |= _check_rules(stage[1], labels, where)
    for name in groups:
        where = f"optimizer.groups.{name}"
        if not _is_number(groups[name]) or not groups[name] > 0:
            raise UserError(f"{where}: expected a factor greater than 0, got {groups[name]!r}")
        if name not in used:
            raise UserError(f"{where}: no rule of partition has the label {name!r}")


def _check_rules(rules: Any, labels: set[str], where: str) -> set[str]:
    """Checks ``((pattern, label), ...)`` and returns the labels it uses."""
    if not isinstance(rules, tuple) or not rules:
        raise UserError(f"{where}: expected (('pattern', 'label'), ...), got {rules!r}")
    for rule in rules:
        pair = isinstance(rule, tuple) and len(rule) == 2
        if not pair or not all(isinstance(part, str) for part in rule):
            raise UserError(f"{where}: expected a pair ('pattern', 'label'), got {rule!r}")
        pattern, label = rule
        _check_pattern(pattern, where)
        if label not in labels:
            raise UserError(f"{where}: unknown label {label!r}; {nearest(label, labels)}")
    used = {label for _, label in rules}
    if used == {"freeze"}:
        raise UserError(f"{where}: every rule freezes, so nothing trains; label a pattern 'train'")
    return used


def _check_pattern(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{where}: the pattern {pattern!r} is malformed: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
