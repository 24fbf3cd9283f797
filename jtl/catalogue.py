"""The methods that a config may name: where each lives, what may be set, what it needs. A new one
is an entry here.

The entries are strings, so that a mistake is reported before JAX is imported.
"""

from collections.abc import Mapping
from typing import NamedTuple

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
    perturbs: bool = False
    """Does it change inputs itself? Then it matters whether these are what frozen blocks give."""
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
        perturbs=True,
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
        perturbs=True,
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
