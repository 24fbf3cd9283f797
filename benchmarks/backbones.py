"""Backbones forward and in training: jtl against timm and transformers on PyTorch.

python benchmarks/backbones.py [--networks NAME ...] [--rounds N] [--json FILE]

Each network starts from the same random weights everywhere, and must give the same features and
train alike, or the benchmark fails. ``backbones_jtl.py`` and ``backbones_torch.py`` run in
processes of their own, so that the peak memory of each is its own; they take turns, and every ratio
is taken within one turn.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from turns import Peer, processor, quartiles, take_turns

HERE = Path(__file__).resolve().parent
FEATURES, LOSSES = 1e-4, 1e-4
"""Largest relative differences: of features, and of the losses of the first steps."""
ROUNDED = "jtl, bfloat16"
"""The one that does not do the same; how far it is from the others is written down."""
STORED = "jtl, from the store"
"""Where all but the last blocks are frozen: jtl with what they give at hand, as it keeps it."""
CHECKED = 1
"""Those steps. What comes after hangs on rounding, as ReLUs flip: of ResNet-50, PyTorch's own two
layouts differ by percents in the second loss. Gradients are compared in ``tests/parity``."""


class Task(NamedTuple):
    """What a network is given.

    Attributes:
      examples: in a batch.
      shape: of one: [H, W, C], or [T] for tokens.
      steps: forward passes and training steps in a turn; of 0, nothing is measured.
    """

    examples: int
    shape: tuple[int, ...]
    steps: tuple[int, int]

    def inputs(self) -> np.ndarray:
        """Normalised images, or texts of different lengths."""
        draw = np.random.default_rng(0)
        if len(self.shape) > 1:
            return draw.normal(size=(self.examples, *self.shape)).astype(np.float32)
        tokens = draw.integers(1, 30522, (self.examples, *self.shape), np.int32)
        lengths = draw.integers(self.shape[0] // 4, self.shape[0], self.examples, endpoint=True)
        return tokens * (np.arange(self.shape[0]) < lengths[:, None]).astype(np.int32)


TASKS: Mapping[str, Task] = {
    "resnet18": Task(16, (224, 224, 3), (0, 2)),
    "resnet50": Task(16, (224, 224, 3), (2, 2)),
    "vit_small_patch16_224": Task(16, (224, 224, 3), (2, 2)),
    "efficientnet-lite0": Task(16, (224, 224, 3), (4, 2)),
    "minilm": Task(32, (64,), (3, 2)),
    "efficientnet-lite0, fine-tuned": Task(16, (224, 224, 3), (0, 4)),
}


def measure(network: str, rounds: int) -> dict[str, Any]:
    """Times, memory and ratios of everyone on a network; exits where they do not do the same."""
    task, peers = TASKS[network], {}
    with tempfile.TemporaryDirectory() as folder:
        inputs, weights = f"{folder}/inputs.npz", f"{folder}/weights.npz"
        labels = np.arange(task.examples) % 10
        np.savez(inputs, inputs=task.inputs(), labels=labels)
        theirs = str(HERE / "backbones_torch.py")
        for variant in _variants(task):
            peers[variant] = Peer([theirs, network, variant, inputs])
        peers["torch eager"].ask("save", weights)
        ours = [str(HERE / "backbones_jtl.py"), network, inputs, weights]
        first = {"jtl": Peer([*ours, "float32"])}
        if "fine-tuned" in network:
            first |= {STORED: Peer([*ours, "stored"])}
        peers = first | peers | {ROUNDED: Peer([*ours, "bfloat16"])}
        found = {}
        for kind, action, steps, asked, tolerance in (
            ("forward", "forward", task.steps[0], ("features",), FEATURES),
            ("training", "train", task.steps[1], ("losses", CHECKED), LOSSES),
        ):
            if not steps:
                continue
            differences = _check_same(f"{network}, {kind}", peers, asked, tolerance)
            taken = take_turns(peers, action, steps=steps, rounds=rounds)
            peaks = {name: peer.ask("peak") for name, peer in peers.items()}
            found[kind] = _summary(taken, peaks, steps * task.examples) | differences
        for peer in peers.values():
            peer.end()
    return found


def _variants(task: Task) -> list[str]:
    """PyTorch's ways: images also have two layouts, of which compiled networks get the faster."""
    if len(task.shape) > 1:
        return ["torch eager", "torch eager, channels-last", "torch.compile, channels-last"]
    return ["torch eager", "torch.compile"]


def _check_same(
    what: str, peers: Mapping[str, Peer], asked: tuple[Any, ...], tolerance: float
) -> dict[str, Any]:
    answers = {name: np.array(peer.ask(*asked)) for name, peer in peers.items()}
    ours = answers.pop("jtl")
    differences = {
        name: float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for name, theirs in answers.items()
    }
    rounded = differences.pop(ROUNDED)
    print(f"{what}: as jtl's but for {differences}", file=sys.stderr, flush=True)
    if not max(differences.values()) <= tolerance:
        sys.exit(f"{what}: they do not do the same: {differences}")
    return {"differences": differences | {ROUNDED: rounded}}


def _summary(
    taken: Mapping[str, list[float]], peaks: Mapping[str, float], examples: int
) -> dict[str, Any]:
    return {
        "peers": {
            name: {
                "seconds": times,
                "examples_per_second": quartiles([examples / time for time in times]),
                "jtl_is_faster_by": quartiles(np.divide(times, taken["jtl"]).tolist()),
                "peak_memory": peaks[name],
            }
            for name, times in taken.items()
        }
    }


HEADER = """\
| network | | examples per second | jtl is faster by | peak memory, GiB |
|---|---|---|---|---|"""


def rows(network: str, kinds: Mapping[str, Any]) -> str:
    """The results of a network in Markdown."""
    lines = []
    for kind, found in kinds.items():
        for name, peer in found["peers"].items():
            low, middle, high = peer["jtl_is_faster_by"]
            faster = "" if name == "jtl" else f"{middle:.2f}x ({low:.2f} to {high:.2f})"
            rate = f"{peer['examples_per_second'][1]:,.1f}"
            cells = (f"{network}, {kind}", name, rate, faster, f"{peer['peak_memory']:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "torch"))
    said = {"machine": processor(), "versions": versions, "rounds": arguments.rounds}
    print(f"{said['machine']}; {versions}; median (quartiles) of {said['rounds']} rounds.\n")
    print(HEADER, flush=True)
    networks = {}
    for name in arguments.networks:
        networks[name] = measure(name, arguments.rounds)
        print(rows(name, networks[name]), flush=True)
    result = said | {"networks": networks}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(TASKS)
    parser.add_argument("--networks", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
