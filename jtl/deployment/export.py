"""A finished run's model for those who do not have jtl: a folder that says and holds all of it."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.export  # jax does not import it by itself
import jax.numpy as jnp

from jtl import registry
from jtl.deployment.card import card
from jtl.deployment.trained import Function, outputs_of
from jtl.errors import UserError
from jtl.models import saved
from jtl.models.backbone import Backbone
from jtl.records import workdir
from jtl.records.atomic import replacing
from jtl.records.manifest import write_json
from jtl.types import Array, Preprocess, Sound, Tokenization

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, MODEL, CARD, TOKENIZER = "model.stablehlo", "model.json", "README.md", "tokenizer.json"
LARGEST = 2**31
"""Bytes of weights that a program can hold."""


def export(place: Path, folder: Path) -> int:
    """Writes the model of a finished run into a new folder, all of it or nothing.

    The folder holds the weights and the config, a StableHLO program with the weights in it, what
    goes into it and comes out as JSON, and a model card.

    Args:
      place: the run's folder.
      folder: a new or empty one.

    Returns:
      The exit code.

    Raises:
      UserError: the run is not finished, its file is damaged, or the folder cannot be written.
    """
    summary = workdir.summary(place)
    if summary is None:
        raise UserError(f"{place} holds no {workdir.SUMMARY}: name the workdir of a finished run")
    whole = saved.whole(place)
    program = stablehlo(outputs_of(whole.blocks), whole.weights, whole.backbone)
    said = describe(whole)
    said["sha256"] = {
        registry.MODEL: whole.sha256,
        PROGRAM: hashlib.sha256(program).hexdigest(),
    }
    config = json.loads((place / workdir.CONFIG).read_text())
    with replacing(folder.resolve(), folder=True) as temporary:
        (temporary / PROGRAM).write_bytes(program)
        write_json(temporary / MODEL, said)
        for file in (place / registry.MODEL, place / workdir.CONFIG):
            shutil.copyfile(file, temporary / file.name)
        if isinstance(whole.backbone.wanted, Tokenization):
            (temporary / TOKENIZER).write_text(whole.backbone.wanted.tokenizer, encoding="utf-8")
        text = card(place.resolve().name, said, config, workdir.manifest(place), summary)
        (temporary / CARD).write_text(text, encoding="utf-8")
    print(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    return 0


def stablehlo(function: Function, weights: Any, found: Backbone) -> bytes:
    """A program of ``inputs -> {"probabilities", "features"}`` with the weights in it.

    It runs on the CPU, on CUDA and on TPUs, on any number of examples. Products are computed in
    float32 on all of them, where an accelerator by itself would take less.

    Args:
      function: gives probabilities and features.
      weights: of it.
      found: the backbone, which says what goes in.

    Raises:
      UserError: the weights are too large for such a program.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    if size >= LARGEST:
        raise UserError(f"the model has {size:,} bytes, and StableHLO holds less than {LARGEST:,}")

    @jax.jit
    def program(inputs: Array) -> dict[str, jax.Array]:
        probabilities, features = function(weights, inputs)
        return {"probabilities": probabilities, "features": features}

    with jax.default_matmul_precision("highest"):
        exported = jax.export.export(program, platforms=PLATFORMS)(_inputs_of(found))
    return bytes(exported.serialize())


def _inputs_of(found: Backbone) -> jax.ShapeDtypeStruct:
    """The shape of what goes in: any number of examples, as long as they may be."""
    wanted, constraints = found.wanted, []
    if isinstance(wanted, Preprocess):
        shape, dtype = f"examples, {wanted.size}, {wanted.size}, {wanted.channels}", jnp.uint8
    elif isinstance(wanted, Tokenization):
        shape, dtype = "examples, tokens", jnp.int32
        constraints = [f"tokens <= {wanted.longest}"]
    elif isinstance(wanted, Sound):
        length, *bands = wanted.shape
        name = "frames" if bands else "samples"
        shape, dtype = ", ".join(["examples", str(length or name), *map(str, bands)]), jnp.float32
        constraints = [f"{name} <= {wanted.longest}"] if wanted.longest and not length else []
    else:
        shape, dtype = f"examples, {found.width}", jnp.float32
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape, constraints=constraints), dtype)


def describe(whole: saved.Whole) -> dict[str, Any]:
    """What goes into a model and comes out of it, as ``model.json`` says it."""
    wanted = whole.backbone.wanted
    spec = _inputs_of(whole.backbone)
    preprocessing = {} if wanted is None else dataclasses.asdict(wanted)
    if columns := whole.columns.get("vectors"):
        preprocessing["columns"] = list(columns)
    for done in ("mean", "std", "tokenizer"):  # by the program; the tokenizer is a file of its own
        preprocessing.pop(done, None)
    return {
        "inputs": {
            "shape": [str(side) for side in spec.shape],
            "dtype": spec.dtype.name,
            "preprocessing": preprocessing,
        },
        "classes": whole.classes,
    }
