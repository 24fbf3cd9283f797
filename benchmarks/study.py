"""Many runs of DANN: jtl's study against its own runs one by one, and PyTorch's.

python benchmarks/study.py [--configs NAME ...] [--seeds N] [--strengths N] [--steps N] [--rounds N]
                           [--json FILE]

Seeds and strengths of a config. ``study_jtl.py`` trains all of them as a study does, and one after
another, as ``./launch.sh CONFIG`` does. Where they are trained on features, ``study_torch.py`` is
the same written plainly; it starts from the same parameters and must have the same losses, or the
benchmark fails. Evaluation and files are left out everywhere.
"""

import argparse
import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from turns import Peer, processor, quartiles, take_turns

HERE = Path(__file__).resolve().parent
CONFIGS = ("tumours_dann", "sentiment_dann", "emoji_dann")
TOGETHER, IN_TURN, ALONE = "jtl, a study", "jtl, a study, in turn", "jtl, one after another"
VARIANTS = ("torch eager", "torch eager, one thread", "torch.compile")
CHECKED, TOLERANCE = 10, 1e-4
"""Steps that all take alike, and the largest relative difference of a loss in them."""


def measure(config: str, counts: tuple[int, int], steps: int, rounds: int) -> dict[str, Any]:
    """Times and ratios on a config; exits where they do not train alike.

    Args:
      config: its name.
      counts: of seeds and strengths.
      steps: of every run in a turn.
      rounds: turns of each.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = [str(HERE.parent / "configs" / f"{config}.py"), folder, *map(str, counts)]
        study, alone = (
            Peer([str(HERE / "study_jtl.py"), way, *runs]) for way in ("study", "alone")
        )
        theirs = _of_pytorch(config, study, folder) if study.ask("on_features") else {}
        peers = {IN_TURN if study.ask("in_turn") else TOGETHER: study, ALONE: alone, **theirs}
        taken = take_turns(peers, "train", steps=steps, rounds=rounds)
        for peer in peers.values():
            peer.end()
    together, one_by_one = next(iter(taken.values())), taken[ALONE]
    return {
        name: {
            "seconds": times,
            "study_is_faster_by": quartiles(np.divide(times, together).tolist()),
            "one_after_another_is_faster_by": quartiles(np.divide(times, one_by_one).tolist()),
        }
        for name, times in taken.items()
    }


def _of_pytorch(config: str, study: Peer, folder: str) -> dict[str, Peer]:
    """PyTorch in its ways, which have been seen to train as the study does."""
    expected = np.array(study.ask("losses", CHECKED))
    theirs = {name: Peer([str(HERE / "study_torch.py"), folder, name]) for name in VARIANTS}
    differences = {}
    for name, peer in theirs.items():
        losses = np.array(peer.ask("losses", CHECKED))
        differences[name] = float((abs(losses - expected) / abs(expected)).max())
        print(f"{config}: {name} as jtl but for {differences[name]}", file=sys.stderr)
    if not max(differences.values()) <= TOLERANCE:
        sys.exit(f"{config}: they do not train the same: {differences}")
    return theirs


def main(arguments: argparse.Namespace) -> None:
    """Prints a table, row by row."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "torch"))
    counts = arguments.seeds, arguments.strengths
    print(
        f"{processor()}; {versions}; {counts[0] * counts[1]} runs of {arguments.steps} steps; "
        f"median (quartiles) of {arguments.rounds} rounds.\n\n"
        "| config | | seconds | the study is faster by | one after another is faster by |\n"
        "|---|---|---|---|---|",
        flush=True,
    )
    configs = {}
    for config in arguments.configs:
        configs[config] = measure(config, counts, arguments.steps, arguments.rounds)
        for name, found in configs[config].items():
            study = "" if "study" in name else _ratio(found["study_is_faster_by"])
            alone = "" if "jtl" in name else _ratio(found["one_after_another_is_faster_by"])
            seconds = quartiles(found["seconds"])[1]
            print(f"| {config} | {name} | {seconds:.2f} | {study} | {alone} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions} | configs, indent=1) + "\n")


def _ratio(found: tuple[float, float, float]) -> str:
    low, middle, high = found
    return f"{middle:.2f}x ({low:.2f} to {high:.2f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--strengths", type=int, default=4, help="at most 4")
    parser.add_argument("--steps", type=int, default=50, help="of every run in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
