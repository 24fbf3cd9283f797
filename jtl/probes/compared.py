"""The configs of probes: one linear layer on each of some backbones, on the same data."""

import re
from collections.abc import Sequence

from ml_collections import ConfigDict

from jtl.configuration import checks, overrides
from jtl.defaults import defaults
from jtl.errors import UserError

SETTABLE = (
    "steps",
    "batch_size",
    "optimizer.",
    "data.per_class",
    "data.test_fraction",
    "model.image_size",
)
"""Keys, and beginnings of keys, that do not undo the comparison."""
FITTED = (
    "data.target",
    "data.per_class",
    "data.test_fraction",
    "data.split_seed",
    "data.text_column",
    "data.label_column",
    "model.image_size",
    "model.pooling",
    "model.max_tokens",
    "probe.layers",
    "probe.poolings",
)
"""Keys that matter to a probe that is fitted on stored features."""

POOLINGS = ("class", "mean", "both")
"""Of tokens, those that need no weights."""


def trained(
    data: str, backbones: Sequence[str], settings: Sequence[str] = ()
) -> dict[str, ConfigDict]:
    """The config of each backbone's probe, checked.

    Args:
      data: as ``data.source``.
      backbones: each as ``model.backbone``.
      settings: ``key=value`` with dotted keys, for all of them.

    Raises:
      UserError: fewer than two backbones, one twice, one that is none, a setting that would undo
        the comparison, or a config that cannot be.
    """
    if len(backbones) < 2:
        raise UserError("rank needs two backbones or more: jtl rank DATA BACKBONE BACKBONE ...")
    _check_settings(settings, SETTABLE, "rank compares backbones alike, so it can only be told")
    for backbone in backbones:
        if backbone.startswith("features:"):
            raise UserError(f"rank: {backbone} is no backbone; the data are features already")
    return _configs("rank", data, backbones, settings)


def fitted(
    data: str, backbones: Sequence[str], settings: Sequence[str] = ()
) -> dict[str, ConfigDict]:
    """The config of each backbone whose features probes are to be fitted on, checked.

    Args:
      data: as ``data.source``.
      backbones: each as ``model.backbone``.
      settings: ``key=value`` with dotted keys, for all of them.

    Raises:
      UserError: no backbone, one twice, one that is none, a setting that no probe reads, or a
        config that cannot be.
    """
    if not backbones:
        raise UserError("probe needs data and a backbone: jtl probe DATA BACKBONE ...")
    _check_settings(settings, FITTED, "probe can be told")
    made = _configs("probe", data, backbones, settings)
    for config in made.values():
        for pooling in filter(None, config.probe.poolings.split(",")):
            if pooling not in POOLINGS:
                raise UserError(f"probe.poolings: {pooling}; give {', '.join(POOLINGS)}")
    return made


def _check_settings(settings: Sequence[str], known: tuple[str, ...], why: str) -> None:
    """Refuses keys of a config that are not, and do not begin with, one of those known."""
    keys = dict(overrides.walk(defaults()))
    for key in (setting.partition("=")[0] for setting in settings):
        if key in keys and not key.startswith(known):
            names = ", ".join(name + "*" * name.endswith(".") for name in known)
            raise UserError(f"--config.{key}: {why} {names}")


def _configs(
    command: str, data: str, backbones: Sequence[str], settings: Sequence[str]
) -> dict[str, ConfigDict]:
    made = {}
    for backbone in backbones:
        config = _probe(data, backbone)
        if command == "probe":
            config.probe = section()
        overrides.apply(config, settings)
        checks.check(config)
        name = folder_name(backbone)
        if name in made:
            raise UserError(f"{command}: {backbone} is named twice")
        made[name] = config
    return made


def section() -> ConfigDict:
    """The keys that only ``jtl probe`` knows."""
    # Blocks to probe too: "all", or their names with commas between.
    # How tokens become features in these, one set of features for each: see `POOLINGS`.
    return ConfigDict({"layers": "", "poolings": ""})


def folder_name(name: str) -> str:
    """What a folder for this data or backbone is called.

    >>> folder_name("embedded:emoji/google")
    'embedded-emoji-google'
    """
    return re.sub(r"[^\w.=+-]+", "-", name)


def _probe(data: str, backbone: str) -> ConfigDict:
    config = defaults()
    overrides.choose_method(config, "supervised", "rank")
    config.data.source = data
    config.model.backbone = backbone
    config.model.bottleneck = 0
    config.partition = (("head/.*", "train"), (".*", "freeze"))
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 1e-2
    config.eval_every = config.checkpoint_every = config.steps
    return config
