"""The model card of an exported model: Markdown, filled from what its run wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

from jtl.metrics import METRICS
from jtl.records.report import NAMES, SHARES

Record = Mapping[str, Any]

SNIPPET = """\
```python
import json
from pathlib import Path

import jax.export
import numpy as np

program = jax.export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))
classes = json.loads(Path("model.json").read_text())["classes"]
inputs = np.ones({shape}, np.{dtype})  # {meaning}
outputs = program.call(inputs)
for row in np.asarray(outputs["probabilities"]):
    print(classes[row.argmax()], row.max())
```"""


def card(name: str, model: Record, config: Record, manifest: Record, summary: Record) -> str:
    """The text of the card.

    Args:
      name: of the model.
      model: what goes in and comes out, as ``model.json`` holds it.
      config: as the run's config.json holds it.
      manifest: likewise.
      summary: likewise.
    """
    data = config["data"]
    domains = f"on {data['source']}" + (f" for {data['target']}" if data["target"] else "")
    backbone, method = config["model"]["backbone"], config["method"]["name"]
    parts = [
        f"---\nlibrary_name: jax\nlicense: # to be filled in\n---\n\n# {name}",
        f"A classifier of {_taken(model)} into {len(model['classes'])} classes, on the backbone "
        f"{backbone}, trained by {method} {domains}.",
        "Classes: " + ", ".join(model["classes"]) + ".",
        "## Use",
        "With jax alone (`pip install jax flatbuffers`): `model.stablehlo` holds the weights too. "
        "It takes any number of inputs, on the CPU, on CUDA and on TPUs, and gives "
        '"probabilities" of the classes, in their order, and "features", the input of the last '
        "layer. " + _preparation(model),
        _snippet(model),
        'With jtl: `jtl.load("model.safetensors").predict(...)`, or `jtl predict . INPUT ...` in '
        "this folder.",
        "## Numbers",
        _numbers(summary),
        "## Protocol",
        "\n".join(f"- {line}" for line in summary["protocol"]),
        "## Training",
        _training(config, manifest, summary),
        "## Licence and limits",
        "To be filled in by who publishes this: the licence of the weights, which that of the "
        "pretrained ones and of the data may bind; what the model is for, and what it is not for.",
        "## Files",
        "\n".join(f"- `{file}`: sha256 {sha256}" for file, sha256 in model["sha256"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _taken(model: Record) -> str:
    shape = model["inputs"]["shape"]
    if len(shape) == 4:
        return f"images of {shape[1]} x {shape[2]} pixels"
    if len(shape) == 3:
        return f"spectrograms of {shape[2]} bands"
    if _is_waves(model):
        return "waves of sound"
    return "texts" if model["inputs"]["dtype"] == "int32" else f"vectors of {shape[1]} numbers"


def _is_waves(model: Record) -> bool:
    return "samples" in model["inputs"]["shape"]


def _preparation(model: Record) -> str:
    """What has to be done to inputs before the program."""
    inputs = model["inputs"]
    wanted, dtype = inputs["preprocessing"], inputs["dtype"]
    if dtype == "int32":
        return (
            "Texts are made tokens by `tokenizer.json`, as the tokenizers library reads it, cut "
            f"after {wanted['longest']} tokens and filled up with {wanted['padding']}."
        )
    if _is_waves(model):
        return "Waves are float32, each of mean 0 and variance 1, at the rate of its backbone."
    if columns := wanted.get("columns"):
        return f"Inputs are float32, the columns {', '.join(columns)} in that order."
    if dtype != "uint8":
        return "Inputs are float32."
    if wanted["squash"]:
        how = "squeezed to"
    elif wanted["crop"] < 1:
        how = f"cropped to the middle {wanted['crop']:.1%} of a square at the centre, resized to"
    else:
        how = "cropped to a square at the centre and resized to"
    kind = "grey" if wanted["channels"] == 1 else "RGB"
    return (
        f"Images are {kind}, {how} {wanted['size']} x {wanted['size']} "
        f"({wanted['interpolation']}), with values from 0 to 255; the program normalises them."
    )


def _snippet(model: Record) -> str:
    """Code that runs in the folder, with jax alone."""
    examples, *rest = model["inputs"]["shape"]
    del examples  # any number of
    most = model["inputs"]["preprocessing"].get("longest") or 16_000
    length = min(most, 16_000 if _is_waves(model) else 16)
    shape = (2, *(int(side) if side.isdecimal() else length for side in rest))
    meaning = f"two {_taken(model)}"
    return SNIPPET.format(shape=shape, dtype=model["inputs"]["dtype"], meaning=meaning)


def _numbers(summary: Record) -> str:
    """A table of all metrics with their intervals; a sentence where nothing was labelled."""
    splits = [name for name in ("source_test", "target_test") if name in summary]
    if not splits:
        return "None: no test example had a label."
    heads = [f"{split.partition('_')[0]}, test examples" for split in splits]
    rows = [[NAMES[name], *(_value(name, summary[s][name]) for s in splits)] for name in METRICS]
    caption = "With 95 % intervals: percentile bootstrap over test examples."
    return f"{_table(['', *heads], rows)}\n\n{caption}"


def _value(name: str, metric: Mapping[str, float]) -> str:
    factor, digits, unit = (100, 1, " %") if name in SHARES else (1, 3, "")
    value, low, high = (f"{factor * metric[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def _training(config: Record, manifest: Record, summary: Record) -> str:
    git = manifest["git"]
    commit = git["commit"] + " with changes" * git["dirty"] if git else "unknown"
    rows = [
        ["steps, batch size, seed", f"{config['steps']}, {config['batch_size']}, {config['seed']}"],
        ["optimizer", f"{config['optimizer']['name']}, {config['optimizer']['learning_rate']:g}"],
        ["seconds", f"{summary['train_seconds']:.0f}, on {manifest['device']}"],
        ["begun", manifest["started"]],
        ["versions", ", ".join(f"{n} {v}" for n, v in manifest["packages"].items() if v)],
        ["commit of jtl", commit],
        *(["weights", f"{n}, sha256 {v}"] for n, v in manifest["weights"].items()),
        *(["data", f"{n}, sha256 {v}"] for n, v in manifest["data"].items()),
    ]
    return _table(["", ""], rows) + "\n\n`config.json` holds every setting."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in lines
    )
