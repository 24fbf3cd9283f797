"""The checks of a config's values: each is one line, and none needs JAX."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jtl import overrides, registry
from jtl.errors import UserError, nearest

CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer.name": ("sgd", "adamw"),
    "optimizer.schedule": ("constant", "cosine", "inverse"),
    "batch_norm": ("joint", "separate", "frozen"),
    "parallel": ("jit", "pmap"),
    "keep.criterion": ("information_maximization", "entropy", "source_risk"),
    "data.augment": ("none", "shift", "flip"),
}

Range = tuple[Callable[[float], bool], str]
_NATURAL: Range = (lambda value: value >= 0, "0 or more")
_COUNT: Range = (lambda value: value >= 1, "1 or more")
_POSITIVE: Range = (lambda value: value > 0, "greater than 0")
_INSIDE: Range = (lambda value: 0 < value < 1, "above 0 and below 1")
_FRACTION: Range = (lambda value: 0 <= value < 1, "at least 0 and below 1")

RANGES: Mapping[str, Range] = {
    "seed": (lambda value: 0 <= value < 2**31, "from 0 to 2147483647"),
    "steps": _COUNT,
    "batch_size": _COUNT,
    "data.test_fraction": _INSIDE,
    "data.split_seed": _NATURAL,
    "data.per_class": _NATURAL,
    "model.bottleneck": _NATURAL,
    "model.dropout": _FRACTION,
    "model.image_size": _NATURAL,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.weight_decay": _NATURAL,
    "optimizer.momentum": _FRACTION,
    "optimizer.warmup": _FRACTION,
    "optimizer.clip": _NATURAL,
    "optimizer.layer_decay": (lambda value: 0 < value <= 1, "above 0, and 1 at most"),
    "eval_every": _COUNT,
    "checkpoint_every": _COUNT,
    "keep.latest": _COUNT,
    "keep.best": _NATURAL,
}


def check(config: ConfigDict) -> None:
    """Checks every value that can be checked without JAX.

    Raises:
      UserError: one line naming the key, the value, and what it may be.
    """
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
    registry.require("method", config.method.name, "method.name")
    if not config.data.target and config.keep.criterion != "source_risk":
        raise UserError(
            f"keep.criterion: {config.keep.criterion} reads the target, and data.target is not "
            "set; use source_risk"
        )
    if config.model.dropout and not config.model.bottleneck:
        raise UserError("model.dropout: acts in the bottleneck, and model.bottleneck is 0")
    _check_data(config)
    _check_backbone(config.model.backbone)
    _check_partition(config)


def _check_data(config: ConfigDict) -> None:
    if not config.data.source:
        raise UserError(f"data.source is not set; write {_forms('data')}")
    for key in ("source", "target"):
        reference, where = config.data[key], f"data.{key}"
        if not reference:
            continue
        prefix, rest = registry.split("data", reference, where)
        if prefix == "folder" and not Path(rest).is_dir():
            raise UserError(f"{where}: no folder {rest}; give a folder of class folders of images")
        if prefix == "arrays" and not Path(rest).is_file():
            raise UserError(f"{where}: no file {rest}; give an .npz file of inputs and labels")


def _check_backbone(reference: str) -> None:
    where = "model.backbone"
    if not reference:
        raise UserError(f"{where} is not set; write {_forms('backbone')}")
    prefix, rest = registry.split("backbone", reference, where)
    if prefix == "run" and not Path(rest).is_dir():
        raise UserError(f"{where}: no run in {rest}; train it first, or give its workdir")


def _forms(kind: str) -> str:
    return " or ".join(f"{prefix}:..." for prefix in registry.KINDS[kind])


def _check_partition(config: ConfigDict) -> None:
    groups = config.optimizer.groups
    labels = {"train", "freeze", *groups}
    used = _check_rules(config.partition, labels, "partition")
    last = 0.0
    for index, stage in enumerate(config.unfreeze):
        where = f"unfreeze[{index}]"
        if not (isinstance(stage, tuple) and len(stage) == 2 and _is_number(stage[0])):
            raise UserError(f"{where}: expected (progress, rules), got {stage!r}")
        if not last < stage[0] < 1:
            raise UserError(f"{where}: progress {stage[0]} is not between {last:g} and 1")
        last = stage[0]
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
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{where}: the pattern {pattern!r} is malformed: {error}") from error
        if label not in labels:
            raise UserError(f"{where}: unknown label {label!r}; {nearest(label, labels)}")
    return {label for _, label in rules}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
