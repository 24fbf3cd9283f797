"""The model that a run leaves: one safetensors file with the names of jtl's own paths."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from jtl import partition, registry
from jtl.errors import UserError
from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.types import Params, Stats

FILE = "model.safetensors"


def write(folder: Path, params: Params, stats: Stats) -> Path:
    """Writes ``params/...`` and ``stats/...``, atomically; returns the file."""
    from safetensors.numpy import save  # only runs that end need it

    tensors = {
        f"{kind}/{path}": np.ascontiguousarray(jax.device_get(leaf))
        for kind, tree in (("params", params), ("stats", stats))
        for path, leaf in partition.walk(tree)
    }
    file = folder / FILE
    temporary = folder / f".{FILE}.{os.getpid()}.tmp"
    temporary.write_bytes(save(tensors))
    temporary.replace(file)
    return file


def read(folder: Path) -> tuple[Params, Stats, str]:
    """The parameters, statistics and sha256 of a finished run.

    Raises:
      UserError: the run has not finished, or the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    file = folder / FILE
    if not file.exists():
        raise UserError(f"{folder} holds no {FILE}: finish that run first, or name another")
    content = file.read_bytes()
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise UserError(
            f"{file} is damaged ({error}); run {folder} again in a new folder"
        ) from error
    trees: dict[str, Params] = {"params": {}, "stats": {}}
    for name, leaf in tensors.items():
        kind, _, path = name.partition("/")
        *parents, last = path.split("/")
        tree = trees[kind]
        for key in parents:
            tree = tree.setdefault(key, {})
        tree[last] = leaf
    return trees["params"], trees["stats"], hashlib.sha256(content).hexdigest()


def backbone(folder: str, *, image_size: int = 0) -> Backbone:
    """The backbone of a finished run, with the weights it ended with.

    Args:
      folder: the run's workdir.
      image_size: side of the input in pixels; 0 is that run's own.

    Raises:
      UserError: the run is not finished, or its backbone's weights do not fit.
    """
    reference, size = _architecture(Path(folder))
    kind, name = registry.split("backbone", reference, f"{folder}: model.backbone")
    found: Backbone = registry.resolve("backbone", kind)(name, image_size=image_size or size)
    params, stats, sha256 = read(Path(folder))
    shapes = jax.eval_shape(chain(found.blocks()).init, jax.random.key(0))
    given = params.get("backbone", {}), stats.get("backbone", {})
    for wanted, loaded in zip(shapes, given, strict=True):
        _check_fit(wanted, loaded, folder)
    count = sum(1 for tree in given for _ in partition.walk(tree))
    skipped = ", ".join(sorted(key for key in params if key != "backbone"))
    print(f"backbone of {folder}: loaded all {count} arrays, skipped {skipped}; the rest is new")
    salt = int(sha256[:8], 16)
    return replace(found, weights=given, origin=f"run:{folder}", sha256=sha256, salt=salt)


def _architecture(folder: Path) -> tuple[str, int]:
    """The backbone that a run was trained on, and the side of its images."""
    file = folder / "config.json"
    if not file.exists():
        raise UserError(f"{folder} holds no run; train it first, or name another")
    model = json.loads(file.read_text())["model"]
    return model["backbone"], model["image_size"]


def _check_fit(wanted: Params, loaded: Params, folder: str) -> None:
    expected, found = dict(partition.walk(wanted)), dict(partition.walk(loaded))
    problems = [f"{path} is missing" for path in expected if path not in found]
    problems += [f"{path} is not of this backbone" for path in found if path not in expected]
    problems += [
        f"{path} is {found[path].shape}, not {leaf.shape}"
        for path, leaf in expected.items()
        if path in found and found[path].shape != leaf.shape
    ]
    if problems:
        raise UserError(f"the backbone of {folder} does not fit: {'; '.join(problems)}")
