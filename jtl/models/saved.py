"""The model that a run leaves: one safetensors file with the names of jtl's own paths."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jtl import partition, registry
from jtl.errors import UserError
from jtl.models import families, heads, lora, zoo
from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks, chain, prefixed
from jtl.models.columns import standardise
from jtl.models.compute import computed
from jtl.records.atomic import replacing
from jtl.types import Params, Preprocess, Stats

ORIGIN = "jtl"
"""In the file's metadata: the fields of :class:`Saved` that are no arrays, as JSON."""


class Saved(NamedTuple):
    """What the file of a finished run holds.

    Attributes:
      params: by block.
      stats: by block.
      architecture: of the backbone, as :class:`jtl.models.backbone.Backbone` has it.
      settings: likewise.
      image_size: side of the images that it was trained on; 0 where there were none.
      sha256: of the file.
      classes: their names, in the order of the head's outputs; empty in files of jtl that did not
        write them yet.
      columns: the names of those of a table that it was trained on: "text", "label", and of
        numbers in their order, "vectors".
      compute: the precision that its backbone computed in, ``model.compute``.
    """

    params: Params
    stats: Stats
    architecture: str
    image_size: int
    sha256: str
    settings: Mapping[str, Any] = {}
    classes: Sequence[str] = ()
    columns: Mapping[str, Any] = {}
    compute: str = "float32"


class Whole(NamedTuple):
    """The classifier of a finished run, built again from its file.

    Attributes:
      backbone: without weights.
      blocks: of the classifier, the head last.
      weights: parameters and statistics of all of it.
      classes: their names, in the order of the head's outputs.
      columns: as :class:`Saved` has them.
      sha256: of the file.
    """

    backbone: Backbone
    blocks: Blocks
    weights: tuple[Params, Stats]
    classes: tuple[str, ...]
    columns: Mapping[str, Any]
    sha256: str


def write(
    folder: Path,
    params: Params,
    stats: Stats,
    found: Backbone,
    classes: Sequence[str],
    *,
    columns: Mapping[str, Any] | None = None,
    compute: str = "float32",
) -> Path:
    """Writes ``params/...`` and ``stats/...``, atomically; returns the file.

    The file also names the architecture of the backbone, its precision, the classes and, where the
    run was trained on a table, its columns, so that nothing else is needed to use it.
    """
    size = found.wanted.size if isinstance(found.wanted, Preprocess) else 0
    said = _network(found.architecture, size, found.settings) | {"classes": list(classes)}
    said |= {"columns": dict(columns)} if columns else {}
    said |= {"compute": compute} if compute != "float32" else {}
    file = folder / registry.MODEL
    with replacing(file) as temporary:
        temporary.write_bytes(_bytes(params, stats, said))
    return file


def _network(architecture: str, size: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the arrays are of."""
    said = {"architecture": architecture, "image_size": size}
    return said | ({"settings": dict(settings)} if settings else {})


def _bytes(params: Params, stats: Stats, said: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save  # only runs that end need it

    tensors = {
        f"{kind}/{path}": np.ascontiguousarray(jax.device_get(leaf))
        for kind, tree in (("params", params), ("stats", stats))
        for path, leaf in partition.walk(tree)
    }
    # One key: safetensors writes several in any order, and equal models are to be equal files.
    return save(tensors, {ORIGIN: json.dumps(said)})


def _salt(model: Saved) -> int:
    """A number that equal networks share, whatever their classes are called."""
    said = _network(model.architecture, model.image_size, model.settings)
    content = _bytes(model.params, model.stats, said)
    return int(hashlib.sha256(content).hexdigest()[:8], 16)


def find(place: Path) -> Path:
    """The file of a model, which is named itself or by the folder of its run.

    Raises:
      UserError: there is none.
    """
    file = place if place.is_file() else place / registry.MODEL
    if not file.is_file():
        raise UserError(f"{place} holds no {file.name}: finish that run first, or name another")
    return file


def read(place: Path) -> Saved:
    """The model of a finished run.

    Args:
      place: the run's folder, or the file of its model.

    Raises:
      UserError: the run has not finished, or the file is damaged or says too little.
    """
    from safetensors import SafetensorError, safe_open

    file = find(place)
    trees: dict[str, Params] = {"params": {}, "stats": {}}
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            if ORIGIN not in metadata:
                raise UserError(f"{file} is no model that a run of jtl wrote; name one's workdir")
            for name in opened.keys():  # noqa: SIM118 -- it is no dictionary
                kind, _, path = name.partition("/")
                *parents, last = path.split("/")
                tree = trees[kind]
                for key in parents:
                    tree = tree.setdefault(key, {})
                tree[last] = opened.get_tensor(name)
    except SafetensorError as error:
        raise UserError(
            f"{file} is damaged ({error}); run {file.parent} again in a new folder"
        ) from error
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return Saved(trees["params"], trees["stats"], **json.loads(metadata[ORIGIN]), sha256=sha256)


def backbone(folder: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """The backbone of a finished run, with the weights it ended with.

    Args:
      folder: the run's workdir; nothing outside it is read.
      image_size: side of the input in pixels; 0 is that run's own.
      pooling: of the tokens; it cannot be changed any more.

    Raises:
      UserError: the run is not finished, has no backbone, or one whose weights do not fit.
    """
    if pooling:
        raise UserError(f"model.pooling: {folder} was trained with its own; leave it empty")
    model = read(Path(folder))
    if not model.architecture:
        raise UserError(
            f"model.backbone: {folder} was trained on vectors and has no backbone; name another "
            "run, or write features:WIDTH"
        )
    found = _rebuilt(model, folder, image_size)
    shapes = jax.eval_shape(chain(found.blocks()).init, jax.random.key(0))
    given = model.params.get("backbone", {}), model.stats.get("backbone", {})
    for wanted, loaded in zip(shapes, given, strict=True):
        what = f"the backbone of {folder} (trained at {model.image_size} pixels)"
        _check_fit(wanted, loaded, what)
    count = sum(1 for tree in given for _ in partition.walk(tree))
    others = ", ".join(sorted(key for key in model.params if key != "backbone"))
    print(
        f"backbone of {folder}: loaded all {count} arrays; skipped {others}, but for methods that "
        "keep the old head; the rest is new"
    )
    return replace(
        found,
        weights=given,
        origin=f"run:{folder}",
        sha256=model.sha256,
        salt=_salt(model),
        head=None if "bottleneck" in model.params else model.params.get("head"),
    )


def whole(place: Path) -> Whole:
    """The classifier of a finished run, with the weights it ended with.

    Args:
      place: the run's folder, or the file of its model; nothing else is read.

    Raises:
      UserError: the run is not finished, or its file is damaged or says too little.
    """
    model = read(place)
    if not model.classes:
        raise UserError(
            f"{find(place)} does not name its classes, as an older jtl wrote it; train that run "
            "again in a new folder"
        )
    layer = model.params.get("bottleneck")
    dense = (layer or model.params["head"])["dense"]["kernel"]
    vectors = not model.architecture
    found = _of_vectors(model, len(dense)) if vectors else _rebuilt(model, str(place), 0)
    found = computed(found, bfloat16=model.compute == "bfloat16", remat=False)
    blocks, width = prefixed("backbone", found.blocks()), found.width
    if layer:
        width = dense.shape[1]
        norm = "batch" if "bottleneck" in model.stats else "layer"
        blocks += (("bottleneck", heads.bottleneck(found.width, width, norm=norm)),)
    blocks = (*blocks, ("head", heads.head(width, len(model.classes))))
    shapes = jax.eval_shape(chain(blocks).init, jax.random.key(0))
    for wanted, loaded in zip(shapes, (model.params, model.stats), strict=True):
        _check_fit(wanted, loaded, f"the model of {place}")
    weights = model.params, model.stats
    return Whole(found, blocks, weights, tuple(model.classes), model.columns, model.sha256)


def _of_vectors(model: Saved, width: int) -> Backbone:
    """No backbone, but for the block that standardises columns where the run had one."""
    found = zoo.vectors(str(width))
    if "columns" not in model.stats.get("backbone", {}):
        return found
    # Mean and deviation are the file's; these only give them their shape.
    block = standardise(np.zeros((1, width)))
    return replace(found, blocks=lambda axis_name=None: (("columns", block),))


def _rebuilt(model: Saved, place: str, image_size: int) -> Backbone:
    """The backbone that a file describes, for images of a size; 0 is the size it was trained at."""
    size = image_size or model.image_size
    if model.settings:
        return families.restored(model.architecture, model.settings, image_size=size)
    build = registry.resolve("architecture", model.architecture, f"the backbone of {place}")
    return build(image_size=size)


def classifier(folder: str, blocks: Blocks) -> Saved:
    """The whole model of a finished run.

    Args:
      folder: the run's workdir.
      blocks: of the classifier that is to start from it.

    Raises:
      UserError: the run is not finished, or its model has other blocks or classes.
    """
    model = read(Path(folder))
    params, stats = jax.eval_shape(chain(blocks).init, jax.random.key(0))
    # A run with low-rank leaves has merged them when it ended.
    for wanted, loaded in ((lora.without(params), model.params), (stats, model.stats)):
        _check_fit(wanted, loaded, f"the model of {folder}")
    return model


def _check_fit(wanted: Params, loaded: Params, what: str) -> None:
    expected, found = dict(partition.walk(wanted)), dict(partition.walk(loaded))
    problems = [f"{path} is missing" for path in expected if path not in found]
    problems += [f"{path} is not of this model" for path in found if path not in expected]
    problems += [
        f"{path} is {found[path].shape}, not {leaf.shape}"
        for path, leaf in expected.items()
        if path in found and found[path].shape != leaf.shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if problems[5:] else "")
        raise UserError(f"{what} does not fit: {shown}")
