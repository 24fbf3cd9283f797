"""Many runs of DANN on features: jtl's study against its own runs one by one, and PyTorch's.

python benchmarks/study.py [--configs NAME ...] [--steps N] [--rounds N] [--json FILE]

Eight seeds and four strengths of a config. ``study_jtl.py`` trains all of them as one program, as a
study does, and one after another, as ``./launch.sh CONFIG`` does; ``study_torch.py`` is the same
written plainly. All start from the same parameters and must have the same losses, or the benchmark
fails. Evaluation and files are left out everywhere.
"""

import argparse
import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from turns import Peer, processor, quartiles

HERE = Path(__file__).resolve().parent
SEEDS, STRENGTHS = 8, 4
CONFIGS = ("tumours_dann", "sentiment_dann", "emoji_dann")
VARIANTS = ("torch eager", "torch eager, one thread", "torch.compile")
CHECKED, TOLERANCE = 10, 1e-4
"""Steps that all take alike, and the largest relative difference of a loss in them."""


def measure(config: str, steps: int, rounds: int) -> dict[str, Any]:
    """Times and ratios on a config; exits where they do not train alike."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(HERE.parent / "configs" / f"{config}.py")
        jtl = Peer([str(HERE / "study_jtl.py"), file, folder, str(SEEDS), str(STRENGTHS)])
        expected = np.array(jtl.ask("losses", CHECKED))
        theirs = {name: Peer([str(HERE / "study_torch.py"), folder, name]) for name in VARIANTS}
        differences = {}
        for name, peer in theirs.items():
            losses = np.array(peer.ask("losses", CHECKED))
            differences[name] = float((abs(losses - expected) / abs(expected)).max())
            print(f"{config}: {name} as jtl but for {differences[name]}", file=sys.stderr)
        if not max(differences.values()) <= TOLERANCE:
            sys.exit(f"{config}: they do not train the same: {differences}")
        taken = _in_turns(jtl, theirs, steps, rounds)
        for peer in (jtl, *theirs.values()):
            peer.end()
    first, alone = taken["jtl, together"], taken["jtl, one after another"]
    return {
        name: {
            "seconds": times,
            "runs_a_second": quartiles([SEEDS * STRENGTHS / time for time in times]),
            "together_is_faster_by": quartiles(np.divide(times, first).tolist()),
            "one_after_another_is_faster_by": quartiles(np.divide(times, alone).tolist()),
        }
        for name, times in taken.items()
    }


def _in_turns(
    jtl: Peer, theirs: dict[str, Peer], steps: int, rounds: int
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, peer, action in (
            ("jtl, together", jtl, "together"),
            ("jtl, one after another", jtl, "one_by_one"),
            *((name, peer, "one_by_one") for name, peer in theirs.items()),
        ):
            taken.setdefault(name, []).append(peer.ask(action, steps))
    return taken


def main(arguments: argparse.Namespace) -> None:
    """Prints a table, row by row."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "torch"))
    print(
        f"{processor()}; {versions}; {SEEDS * STRENGTHS} runs of {arguments.steps} steps; "
        f"median (quartiles) of {arguments.rounds} rounds.\n\n"
        "| config | | seconds | together is faster by | one after another is faster by |\n"
        "|---|---|---|---|---|",
        flush=True,
    )
    configs = {}
    for config in arguments.configs:
        configs[config] = measure(config, arguments.steps, arguments.rounds)
        for name, found in configs[config].items():
            together = "" if name == "jtl, together" else _ratio(found["together_is_faster_by"])
            alone = "" if "jtl" in name else _ratio(found["one_after_another_is_faster_by"])
            seconds = quartiles(found["seconds"])[1]
            print(f"| {config} | {name} | {seconds:.2f} | {together} | {alone} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions} | configs, indent=1) + "\n")


def _ratio(found: tuple[float, float, float]) -> str:
    low, middle, high = found
    return f"{middle:.1f}x ({low:.1f} to {high:.1f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="NAME")
    parser.add_argument("--steps", type=int, default=50, help="of every run in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
