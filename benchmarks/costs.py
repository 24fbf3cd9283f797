"""What a training step costs as the problem grows: time, and memory beside parameters and data.

python benchmarks/costs.py [--rounds N] [--no-losses] [--write]

DANN on given features; each curve changes one thing. Then losses of whole batches, forward and
backward, on 4096 examples of 2048 features. Memory is what XLA allots to the compiled program
(``memory_analysis``), so it does not hang on what else the machine does; the time does. With
``--write`` the tables and the picture of docs/costs.md are replaced.
"""

import argparse
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from turns import processor

from jtl import losses
from jtl.defaults import defaults
from jtl.devices import runtime
from jtl.runs.prepare import Run, Shared, prepare
from jtl.studies import lanes
from jtl.training import execution
from jtl.types import Batch, Labelled, Unlabelled

PAGE = Path(__file__).resolve().parents[1] / "docs" / "costs.md"
PICTURE = PAGE.with_suffix(".svg")
BASE = {"batch": 64, "width": 256, "classes": 10, "target examples": 1000, "runs": 1}
FEATURES = 512
CURVES: Mapping[str, tuple[int, ...]] = {
    "batch": (32, 128, 512, 2048),
    "width": (64, 256, 1024, 2048),
    "classes": (10, 100, 1000),
    "target examples": (1000, 10_000, 50_000),
    "runs": (1, 4, 16, 64),
    "parts of a batch of 2048": (1, 4, 16),
}
LARGE, WIDE, CLASSES = 4096, 2048, 65


class Cost(NamedTuple):
    """Of one program."""

    milliseconds: float
    mebibytes: float


# --- a step as the problem grows ------------------------------------------------------------------


def of_step(settings: Mapping[str, int], folder: Path, rounds: int, pieces: int = 1) -> Cost:
    """A step of so many runs of DANN, at once or in turn, as a study has them."""
    if not rounds:
        scratch = _scratch_of_step(_run(settings, folder, 0, pieces))
        return Cost(math.nan, scratch * settings["runs"] / 2**20)
    runs = [_run(settings, folder, seed, pieces) for seed in range(settings["runs"])]
    program = lanes.Program(runs[0], len(runs))
    firsts = range(0, len(runs), program.lanes)
    parts = [lanes.Lanes(program, runs[first : first + program.lanes]) for first in firsts]
    steps = max(2, min(20, 6400 // (settings["batch"] * len(runs))))
    for part in parts:
        part.advance(0, steps)
    times = []
    for number in range(1, rounds + 1):
        begun = time.perf_counter()
        for part in parts:
            part.advance(number * steps, steps)
        times.append((time.perf_counter() - begun) / steps)
    return Cost(1000 * float(np.median(times)), _scratch_of_step(runs[0]) * len(runs) / 2**20)


def _run(settings: Mapping[str, int], folder: Path, seed: int, parts: int) -> Run:
    classes, count = settings["classes"], settings["target examples"]
    config: ConfigDict = defaults()
    config.data.source = f"arrays:{_file(folder, 2000, classes)}"
    config.data.target = f"arrays:{_file(folder, count, classes)}"
    config.data.test_fraction, config.seed = 0.1, seed
    config.model.backbone, config.model.bottleneck = f"features:{FEATURES}", settings["width"]
    config.method.name, config.keep.criterion = "dann", "information_maximization"
    config.batch_size, config.accumulate = settings["batch"], parts
    return prepare(config, folder, _SHARED)


_SHARED = Shared()


def _file(folder: Path, count: int, classes: int) -> Path:
    file = folder / f"{count}-{classes}.npz"
    if not file.exists():
        draw = np.random.default_rng(count)
        inputs = draw.normal(size=(count, FEATURES)).astype(np.float32)
        np.savez(file, inputs=inputs, labels=np.arange(count, dtype=np.int32) % classes)
    return file


def _scratch_of_step(run: Run) -> int:
    """Bytes beside the arguments and the results of a step of one run."""
    rows, target = np.zeros(run.config.batch_size, np.int32), run.stored.target_train
    assert target is not None, "DANN has a target"
    training, hyper = run.stages[0].training, dict(run.hyper)
    state = jax.eval_shape(training.init, np.int32(0), hyper, run.net.start())
    sets = Batch(
        Labelled(run.labelled.array(), run.labelled.known_labels()), Unlabelled(target.array())
    )

    def step(state: Any, choice: Any, sets: Any, hyper: Any) -> Any:
        return training.step(state, execution.take(sets, choice), hyper)

    lowered = jax.jit(step, donate_argnums=0).lower(
        *jax.eval_shape(lambda *given: given, state, execution.Choice(rows, rows), sets, hyper)
    )
    return _scratch(lowered.compile())


def _scratch(program: Any) -> int:
    return program.memory_analysis().temp_size_in_bytes


def curves(rounds: int) -> Iterator[tuple[str, int, Cost]]:
    """Each curve's points in order."""
    with tempfile.TemporaryDirectory() as place:
        for name, values in CURVES.items():
            for value in values:
                if name.startswith("parts"):
                    settings, parts = BASE | {"batch": 2048}, value
                else:
                    settings, parts = BASE | {name: value}, 1
                yield name, value, of_step(settings, Path(place), rounds, parts)


# --- losses of whole batches ----------------------------------------------------------------------


def _losses() -> Mapping[str, tuple[Callable[..., jax.Array], str]]:
    """Each with what it takes: features of source and target, logits of both, labels."""
    softmax = jax.nn.softmax
    return {
        "mmd": (losses.mmd, "st"),
        "mmd, linear": (partial(losses.mmd, estimator="linear"), "st"),
        "joint_mmd": (
            lambda s, t, p, q: losses.joint_mmd((s, softmax(p)), (t, softmax(q))),
            "stpq",
        ),
        "minimum_class_confusion": (losses.minimum_class_confusion, "q"),
        "joint_transport": (lambda s, y, t, q: losses.joint_transport(s, y, t, q), "sytq"),
        "coral": (losses.coral, "st"),
        "batch_spectral_penalty": (losses.batch_spectral_penalty, "s"),
        "batch_spectral_shrinkage": (losses.batch_spectral_shrinkage, "s"),
        "batch_nuclear_norm": (losses.batch_nuclear_norm, "q"),
        "adaptive_feature_norm": (lambda s: losses.adaptive_feature_norm(s).mean(), "s"),
    }


def of_loss(loss: Callable[..., jax.Array], takes: str, rounds: int) -> Cost:
    """Value and gradient; the time is that of the last round."""
    draw = np.random.default_rng(0)
    widths = {"s": WIDE, "t": WIDE, "p": CLASSES, "q": CLASSES}
    given = [
        jnp.asarray(draw.normal(size=(LARGE, widths[name])), jnp.float32)
        if name in widths
        else jnp.asarray(np.arange(LARGE) % CLASSES)
        for name in takes
    ]
    floats = [index for index, name in enumerate(takes) if name in widths]
    program = jax.jit(jax.value_and_grad(loss, floats)).lower(*given).compile()
    times = [math.nan]
    for _ in range(rounds):
        begun = time.perf_counter()
        jax.block_until_ready(program(*given))
        times.append(time.perf_counter() - begun)
    return Cost(1000 * times[-1], _scratch(program) / 2**20)


# --- the page -------------------------------------------------------------------------------------


def drawn(points: list[tuple[str, int, Cost]]) -> None:
    """The curves of time and of memory, side by side, as a vector picture."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True).ravel()
    for axis, name in zip(axes, CURVES, strict=True):
        values = [value for found, value, _ in points if found == name]
        costs = [cost for found, _, cost in points if found == name]
        for unit, mark in (("milliseconds", "o-"), ("mebibytes", "s--")):
            axis.loglog(values, [getattr(cost, unit) for cost in costs], mark, label=unit)
        axis.set_title(name, fontsize="medium")
    axes[0].legend(fontsize="small")
    with mpl.rc_context({"svg.hashsalt": "costs", "svg.fonttype": "none"}):
        figure.savefig(PICTURE, metadata={"Date": None})


def replaced(page: str, name: str, lines: list[str]) -> str:
    """The page with other lines between the marks of a table."""
    table = "\n".join(lines) + "\n"
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: found[1] + table + found[2], page, flags=re.DOTALL)


def _row(name: str, cost: Cost) -> str:
    time = "" if math.isnan(cost.milliseconds) else f"{cost.milliseconds:,.2f}"
    return f"| {name} | {time} | {cost.mebibytes:,.1f} |"


def main(arguments: argparse.Namespace) -> None:
    """Prints the tables; with ``--write``, into the page too."""
    runtime.start()
    head = "| | milliseconds | temporary memory, MiB |"
    steps, points = [head, "|---|---|---|"], []
    print(f"{processor()}; jax {jax.__version__}", *steps, sep="\n", flush=True)
    for name, value, cost in curves(arguments.rounds):
        points.append((name, value, cost))
        steps.append(_row(f"{name}: {value:,}", cost))
        print(steps[-1], flush=True)
    tables = {"steps": steps}
    if arguments.losses:
        tables["losses"] = [head, "|---|---|---|"]
        for name, (loss, takes) in _losses().items():
            tables["losses"].append(_row(f"`{name}`", of_loss(loss, takes, arguments.rounds)))
            print(tables["losses"][-1], flush=True)
    if arguments.write:
        page = PAGE.read_text("utf-8")
        for name, lines in tables.items():
            page = replaced(page, name, lines)
        PAGE.write_text(page, "utf-8")
        drawn(points)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each; with 0 memory alone is said"
    )
    parser.add_argument("--no-losses", dest="losses", action="store_false", help="steps alone")
    parser.add_argument("--write", action="store_true", help="into docs/costs.md")
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
