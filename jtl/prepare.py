"""Everything that a run needs, built once from its config."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jtl import build
from jtl.data.examples import Examples
from jtl.data.images import MEMORY_LIMIT
from jtl.data.splits import Domains


@dataclass(frozen=True)
class Run:
    """Everything that a run needs, built once.

    Attributes:
      domains: with images as inputs.
      stored: with the outputs of the model's frozen prefix as inputs; what training reads.
      labelled: the labelled training examples, out of ``stored``.
      oracle: are those the target's?
    """

    config: ConfigDict
    folder: Path
    net: build.Network
    stages: tuple[build.Stage, ...]
    hyper: dict[str, jax.Array]
    domains: Domains
    stored: Domains
    labelled: Examples
    oracle: bool


def prepare(config: ConfigDict, folder: Path) -> Run:
    """Loads the data and the backbone, and runs the frozen part of the model once."""
    found = build.backbone(config)
    domains = build.domains(config, found)
    for part in filter(None, (domains.source_train, domains.target_train)):
        for note in part.notes:
            print(f"{part.name}: {note}")
    classes = len(domains.source_train.classes)
    made = build.method(config, features=build.head_width(config, found), classes=classes)
    net = build.network(config, found, made, classes)
    net = _affordable(net, domains)
    stored = _stored(net, domains)
    labelled = build.labelled(config, stored, made)
    for part in filter(None, (labelled, stored.target_train)):
        if config.batch_size > len(part):
            print(
                f"{part.name}: batch_size {config.batch_size} is above its {len(part)} training "
                "examples, so batches repeat them"
            )
    return Run(
        config=config,
        folder=folder,
        net=net,
        stages=build.stages(config, net, made),
        hyper=build.hyperparameters(config, made),
        domains=domains,
        stored=stored,
        labelled=labelled,
        oracle=made.oracle,
    )


def _affordable(net: build.Network, domains: Domains) -> build.Network:
    """The network cut so that what the prefix gives fits in memory; uncut where it does not."""
    parts = [getattr(domains, field.name) for field in dataclasses.fields(domains)]
    count = sum(len(part) for part in parts if part is not None)
    size = count * net.prefix.bytes_of_one(domains.source_train) if net.cut else 0
    if size <= MEMORY_LIMIT:
        return net
    print(
        f"the {net.cut} frozen blocks run at every step: what they give for {count} examples would "
        f"take {size / 2**30:.1f} GiB"
    )
    return dataclasses.replace(net, cut=0)


def _stored(net: build.Network, domains: Domains) -> Domains:
    prefix, begun, images = net.prefix, time.monotonic(), 0
    parts = {}
    for field in dataclasses.fields(domains):
        examples = getattr(domains, field.name)
        parts[field.name] = examples and prefix(examples)
        images += len(examples) if examples else 0
    if net.cut:
        print(f"ran the {net.cut} frozen blocks once: {time.monotonic() - begun:.1f} s")
    return Domains(**parts)
