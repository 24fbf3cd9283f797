"""Everything that a run needs, built once from its config."""

import dataclasses
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jtl import catalogue
from jtl.data.examples import Examples
from jtl.data.images import MEMORY_LIMIT
from jtl.data.kept import Kept
from jtl.data.splits import Domains
from jtl.devices import runtime, sharding
from jtl.frozen import cache
from jtl.models.backbone import Backbone
from jtl.records import workdir
from jtl.records.manifest import manifest
from jtl.runs import build
from jtl.training.network import Network, Start
from jtl.types import Method


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
    net: Network
    stages: tuple[build.Stage, ...]
    hyper: dict[str, jax.Array]
    domains: Domains
    stored: Domains
    labelled: Examples
    oracle: bool


class Shared:
    """What many runs of one process have in common, made when the first of them asks for it."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def __call__(self, make: Callable[[], Any], *key: Hashable) -> Any:
        """``make()``, or what it gave when it was first called under this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def prepare(config: ConfigDict, folder: Path, shared: Shared | None = None) -> Run:
    """Loads the data and the backbone, and runs the frozen part of the model once."""
    shared = shared or Shared()
    model, data = config.model, config.data
    backbone = (
        *(model.backbone, model.image_size, model.pooling, model.max_tokens),
        *(model.compute, model.remat),
    )
    found = shared(lambda: build.backbone(config), "backbone", *backbone)
    columns = data.text_column, data.label_column
    parts = data.source, data.target, data.test_fraction, data.split_seed, *columns
    domains = shared(lambda: _domains(config, found), "domains", *backbone, *parts)
    if model.standardize:
        found = build.standardized(found, domains)
    classes = len(domains.source_train.classes)
    made = build.method(config, found, classes=classes)
    layer = model.bottleneck, model.norm, model.dropout, *model.lora.values()
    scaled = (model.standardize, *parts) if model.standardize else ()
    shape = *backbone, model.initial, *layer, classes, config.parallel, *scaled
    start = shared(
        lambda: Start(
            found,
            build.classifier_blocks(config, found, classes),
            initial=model.initial,
            low_rank=bool(model.lora.rank),
        ),
        "start",
        *shape,
    )
    net, in_memory = _cut(config, build.network(config, found, start, made), domains)
    if config.cache and not net.cut:
        domains = shared(partial(_decoded_once, domains), "decoded once", *backbone, *parts)
    if catalogue.METHODS[config.method.name].perturbs:
        moved = "what the frozen blocks give" if net.cut else "the inputs"
        print(f"{config.method.name} changes {moved}, as that is what training reads")
    stored = _stored(net, domains, in_memory=in_memory)
    labelled = build.labelled(config, stored, made)
    return Run(
        config=config,
        folder=folder,
        net=net,
        stages=build.stages(config, net, made),
        hyper=build.hyperparameters(config, made) | _measured(config, made, net, domains),
        domains=domains,
        stored=stored,
        labelled=labelled,
        oracle=made.oracle,
    )


def _measured(
    config: ConfigDict, made: Method, net: Network, domains: Domains
) -> dict[str, jax.Array]:
    """What the method has to know of the labelled examples before the first step."""
    if made.measure is None:
        return {}
    examples = build.labelled(config, domains, made)
    measured = made.measure(net.pretrained(examples), examples.known_labels())
    return {name: jnp.asarray(value, jnp.float32) for name, value in measured.items()}


def _domains(config: ConfigDict, found: Backbone) -> Domains:
    domains = build.domains(config, found)
    for part in filter(None, (domains.source_train, domains.target_train)):
        for note in part.notes:
            print(f"{part.name}: {note}")
    return domains


def _cut(config: ConfigDict, net: Network, domains: Domains) -> tuple[Network, bool]:
    """The network, uncut where its frozen blocks have to run at every step, and the user told why.

    Returns:
      Beside it, whether what they give is held in memory; if not, it is read from disk.
    """
    if not net.cut:
        return net, True
    prefix = net.prefix
    parts = [getattr(domains, field.name) for field in dataclasses.fields(domains)]
    count = sum(len(part) for part in parts if part is not None)
    if not config.cache:
        why = "cache is off"
    elif config.data.augment != "none":
        why = "data.augment changes the images each time"
    elif (size := count * prefix.bytes_of_one(domains.source_train)) <= MEMORY_LIMIT:
        return net, True
    elif runtime.all_agree(prefix.on_disk and cache.fits(size)):
        return net, False
    else:
        why = f"what they give for {count} examples would take {size / 2**30:.1f} GiB"
    print(f"the {net.cut} frozen blocks run at every step: {why}")
    return dataclasses.replace(net, cut=0), True


def _decoded_once(domains: Domains) -> Domains:
    """The domains, images that do not fit in memory being kept on disk once they are decoded."""
    lazy = {
        name: part
        for name, part in vars(domains).items()
        if part is not None and not isinstance(part.inputs, np.ndarray)
    }
    if not lazy:
        return domains
    size = sum(len(part) * part.inputs[0].nbytes for part in lazy.values())
    folder = cache.place()
    said = f"{size / 2**30:.1f} GiB of decoded images"
    if not cache.fits(size):
        print(f"images are decoded in every epoch: {folder} has no room for {said}")
        return domains
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {n: dataclasses.replace(p, inputs=Kept(p.inputs, folder)) for n, p in lazy.items()}
    except OSError as error:
        print(f"images are decoded in every epoch: {folder} cannot be written ({error.strerror})")
        return domains
    print(f"images are decoded once: while this lasts, {folder} holds up to {said}")
    return dataclasses.replace(domains, **kept)


def _stored(net: Network, domains: Domains, *, in_memory: bool) -> Domains:
    prefix, begun = net.prefix, time.monotonic()
    parts = {}
    for field in dataclasses.fields(domains):
        examples = getattr(domains, field.name)
        parts[field.name] = examples and prefix(
            examples, in_memory=in_memory, wait=lambda: runtime.all_agree(True)
        )
    if net.cut:
        said = f"{time.monotonic() - begun:.1f} s, {prefix.new:,} examples being new"
        print(f"ran the {net.cut} frozen blocks once: {said}")
    return Domains(**parts)


def record(run: Run, started: datetime) -> None:
    """Writes the config and what the run is made with, or checks that it is still the same.

    Says where batches repeat examples, too: here begins what trains.
    """
    if not runtime.is_main_process():
        return
    size = run.config.batch_size
    for part in filter(None, (run.labelled, run.stored.target_train)):
        if size > len(part):
            print(
                f"{part.name}: batch_size {size} is above its {len(part)} training examples, so "
                "batches repeat them"
            )
    made_with = manifest(
        seed=run.config.seed,
        device=sharding.describe(sharding.mesh(run.config.devices)),
        weights=run.net.weights,
        data=contents(run.domains),
        started=started,
    )
    workdir.begin(run.folder, run.config.to_dict(), made_with)


def contents(domains: Domains) -> dict[str, str]:
    """The sha256 of each part of a run's data, by its name and what it is."""
    parts = {
        "source training": domains.source_train,
        "source test": domains.source_test,
        "target training": domains.target_train,
        "target test": domains.target_test,
    }
    return {f"{part.name} ({what})": part.sha256() for what, part in parts.items() if part}
