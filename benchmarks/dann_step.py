"""Examples per second of digits DANN: jtl's own step against the same program in PyTorch.

python benchmarks/dann_step.py [--steps N] [--rounds N] [--starts N] [--json FILE]

``dann_jtl.py`` trains configs/digits_dann.py as jtl's runner does; ``dann_torch.py`` is the same
network, batch and schedule written plainly. Both start from the same parameters and must train
alike, or the benchmark fails. They then take turns, and every ratio is taken within one turn. Last
comes the time to the first step of a fresh process, with an empty compile cache and a full one.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Both frameworks share the GPU, and JAX would take most of its memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import dann_jtl
import jax
import numpy as np
from turns import processor, quartiles

from jtl.devices import sharding

HERE = Path(__file__).resolve().parent
CHECKED = 10
"""Steps that both must take alike."""
TOLERANCE = 1e-4
"""Largest relative difference of a loss in these steps."""
CHANGE_TOLERANCE = 1e-3
"""Largest relative difference of what the steps did to the parameters: the weight decay shows
here and hardly in a loss."""

Run = Callable[[int, int], np.ndarray]
"""``run(start, count) -> losses``: ``count`` steps from step ``start``, all finished on return."""


# --- do both train the same thing? ----------------------------------------------------------------


def check_same(ours: dann_jtl.Training, theirs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Takes the same steps everywhere, in full float32; exits where they differ.

    A tenth into training, where learning rate and strength are well inside their schedules.

    Returns:
      The relative differences of losses and of parameter changes, by opponent.
    """
    import dann_torch
    import torch

    start = ours.config.steps // 10
    ours.go_to(start)
    before = ours.params()
    for training in theirs.values():
        training.copy_parameters(before)
    torch.backends.cudnn.allow_tf32 = False
    with jax.default_matmul_precision("highest"):
        expected = ours.advance(start, CHECKED)
    change = _difference(dann_torch.layers(ours.params()), dann_torch.layers(before))
    differences = {}
    for name, training in theirs.items():
        losses = training.advance(start, *ours.choose(start, CHECKED))
        their_change = _difference(training.layers(), dann_torch.layers(before))
        differences[name] = {
            "loss": float(np.max(np.abs(losses - expected) / np.abs(expected))),
            "change": float(np.linalg.norm(their_change - change) / np.linalg.norm(change)),
        }
        print(f"{name}: {CHECKED} steps as jtl's but for {differences[name]}", flush=True)
    for name, found in differences.items():
        if not (found["loss"] <= TOLERANCE and found["change"] <= CHANGE_TOLERANCE):
            sys.exit(f"{name} trains something else: {found}")
    # As both frameworks multiply by default on a GPU, or may be told to: JAX does.
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    return differences


def _difference(after: Any, before: Any) -> np.ndarray:
    return np.concatenate(
        [
            (new - old).ravel()
            for layers in zip(after, before, strict=True)
            for new, old in zip(*layers, strict=True)
        ]
    )


# --- examples per second --------------------------------------------------------------------------


def take_turns(runs: dict[str, Run], *, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds that each took for its steps, round by round: A B C, A B C, and so on."""
    for run in runs.values():  # compiles, and warms up
        for _ in range(2):
            run(0, steps)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            losses = run(index * steps, steps)
            seconds[name].append(time.perf_counter() - begun)
            if not np.isfinite(losses).all():
                sys.exit(f"{name}: a loss is not finite in round {index}")
    return seconds


def speeds(seconds: dict[str, list[float]], examples: int) -> dict[str, Any]:
    """Rates, and the ratio of jtl's to each, as quartiles over rounds."""
    return {
        name: {
            "seconds": taken,
            "examples_per_second": quartiles([examples / t for t in taken]),
            "jtl_is_faster_by": quartiles(np.divide(taken, seconds["jtl"]).tolist()),
        }
        for name, taken in seconds.items()
    }


# --- time to the first step -----------------------------------------------------------------------


def starts(ours: dann_jtl.Training, count: int) -> dict[str, Any]:
    """Seconds from starting Python to the loss of the first step, compile cache empty and full."""
    sources, targets = ours.choose(0, 1)
    task = ours.task()
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.npz"
        np.savez(
            file,
            **task | {"settings": json.dumps(task["settings"])},
            sources=sources,
            targets=targets,
        )
        other = [str(HERE / "dann_torch.py"), str(file)]
        commands = {
            "jtl": [str(HERE / "dann_jtl.py")],
            "torch eager": [*other, "torch eager"],
            "torch.compile": [*other, "torch.compile"],
        }
        for index in range(count):
            for name, command in commands.items():
                cache = Path(folder) / f"{name}-{index}"
                for kind in ("cold", "warm"):
                    taken = found.setdefault(name, {"cold": [], "warm": []})[kind]
                    taken.append(_seconds_to_first_loss(command, cache))
    return {
        name: {kind: quartiles(taken) for kind, taken in kinds.items()}
        for name, kinds in found.items()
    }


def _seconds_to_first_loss(command: list[str], cache: Path) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {
        "XDG_CACHE_HOME": str(cache / "jtl"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        for line in child.stdout or ():
            if line.startswith("loss "):
                taken = time.perf_counter() - begun
                child.wait()
                return taken
    sys.exit(f"{' '.join(command)} ended without a first step")


# --- the table ------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        f"{result['machine']}; jax {result['jax']}, torch {result['torch']}; {result['rounds']} "
        f"rounds of {result['steps']} steps of {result['examples']} images; median (quartiles).",
        "",
        "| | images per second | jtl is faster by |",
        "|---|---|---|",
    ]
    for name, speed in result["speeds"].items():
        low, middle, high = speed["examples_per_second"]
        first, ratio, third = speed["jtl_is_faster_by"]
        faster = "" if name == "jtl" else f"{ratio:.2f}x ({first:.2f} to {third:.2f})"
        lines.append(f"| {name} | {middle:,.0f} ({low:,.0f} to {high:,.0f}) | {faster} |")
    if result["starts"]:
        lines += ["", "| seconds to the first step | cold | warm |", "|---|---|---|"]
    for name, kinds in result["starts"].items():
        cells = (f"{middle:.1f} ({low:.1f} to {high:.1f})" for low, middle, high in kinds.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _machine(ours: dann_jtl.Training) -> str:
    on_gpu = ours.devices.devices.flat[0].platform != "cpu"
    return f"{sharding.describe(sharding.mesh())}, " * on_gpu + processor()


def main(arguments: argparse.Namespace) -> None:
    import dann_torch
    import torch

    ours, device = dann_jtl.Training(), dann_torch.best_device()
    if (ours.devices.devices.flat[0].platform == "cpu") != (device.type == "cpu"):
        sys.exit(f"jax is on {ours.devices.devices.flat[0]} and torch on {device}")
    variants = dann_torch.variants(device)
    task = dann_torch.Task(**ours.task())
    theirs = {n: dann_torch.Training(task, variant, device) for n, variant in variants.items()}
    result: dict[str, Any] = {
        "machine": _machine(ours),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        "examples": 2 * ours.config.batch_size,
        "differences": check_same(ours, theirs),
    }

    def opponent(training: dann_torch.Training) -> Run:
        return lambda start, count: training.advance(start, *ours.choose(start, count))

    runs = {"jtl": ours.advance} | {name: opponent(training) for name, training in theirs.items()}
    seconds = take_turns(runs, steps=arguments.steps, rounds=arguments.rounds)
    result["speeds"] = speeds(seconds, result["examples"] * arguments.steps)
    result["starts"] = starts(ours, arguments.starts)
    print("\n" + table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50, help="steps in a turn")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each")
    parser.add_argument("--starts", type=int, default=3, help="cold and warm starts of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
