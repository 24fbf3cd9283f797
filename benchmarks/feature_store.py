"""What the feature store saves: the same command with an empty store and with a full one.

.venv/bin/python benchmarks/feature_store.py

Each is a process of its own, with compiled programs at hand: a run before the first round makes
them, and stores nothing.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("configs/emoji_dann.py", "configs/sentiment_probe.py")
ONCE = re.compile(r"ran the \d+ frozen blocks once: ([\d.]+) s")


def seconds(config: str, folder: Path, steps: int, limit: str) -> tuple[float, float]:
    """Of the whole command, and of what the frozen blocks give."""
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        every = [f"--config.{key}={steps}" for key in ("steps", "eval_every", "checkpoint_every")]
        command = [sys.executable, "-m", "jtl", config, *every, "--workdir", workdir]
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JTL_CACHE": str(folder / "features"),
            "JTL_CACHE_LIMIT": limit,
        }
        begun = time.perf_counter()
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        taken = time.perf_counter() - begun
    found = ONCE.search(ended.stdout)
    if ended.returncode or not found:
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr}")
    return taken, float(found[1])


def rounds(config: str, steps: int, count: int) -> str:
    """A row of the table: medians over the rounds."""
    taken: dict[str, list[tuple[float, float]]] = {"empty": [], "full": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds(config, folder, steps, "0")
        for number in range(count):
            place = folder / str(number)
            place.mkdir()
            (place / "programs").symlink_to(folder / "programs")
            for kind in taken:
                taken[kind].append(seconds(config, place, steps, "20"))
    cells = []
    for part in (0, 1):
        empty, full = (statistics.median(each[part] for each in taken[kind]) for kind in taken)
        cells += [f"{empty:.1f}", f"{full:.1f}", f"{empty / max(full, 0.05):.1f}x"]
    return f"| `{config}` | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--rounds", type=int, default=3, help="with an empty and a full store each")
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="CONFIG")
    arguments = parser.parse_args()
    print("| | command, empty | full | ratio | frozen blocks, empty | full | ratio |")
    print("|---|---|---|---|---|---|---|")
    for config in arguments.configs:
        print(rounds(config, arguments.steps, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
