"""Probes on features that do not lie in memory: seconds, peak memory, and what was planned.

python benchmarks/probe_memory.py [--examples N] [--features N] [--classes N] [--strengths N]
    [--logistic N] [--drawn]

Features are written to a file and mapped from it, or with ``--drawn`` made at random, block by
block, at every reading, so that any number of them can be tried. Each fit has a process of its own,
whose peak memory is said beside what it had before: interpreter, libraries and labels.
``--logistic`` fits so many strengths by logistic regression too, which reads the features again at
every step.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from turns import processor

from jtl.probing import LazyRows, logistic_path, plan_ridge, ridge_path

CHUNK = 2048
"""Rows that are written at once."""


class Drawn(LazyRows):
    """Random features, the same at every reading of the same rows from the same place on."""

    def __init__(self, labels: np.ndarray, width: int) -> None:
        self._labels, self.ndim = labels, 2
        self.shape = len(labels), width
        self._spectrum = np.arange(1, width + 1, dtype=np.float32) ** -0.5
        centres = np.random.default_rng(0).standard_normal((labels.max() + 1, width))
        self._centres = 0.1 * centres.astype(np.float32)

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        assert isinstance(places, slice)
        labels = self._labels[places]
        draw = np.random.Generator(np.random.SFC64(places.start or 0))
        rows = draw.standard_normal((len(labels), self.shape[1]), np.float32)
        rows += self._centres[labels]
        rows *= self._spectrum
        return rows


def peak() -> float:
    """Of this process's memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def fit(kind: str, file: str, examples: int, width: int, classes: int, strengths: int) -> None:
    """Fits and prints a line; ``file`` is empty where the features are drawn."""
    labels = np.arange(examples) % classes
    drawn = Drawn(labels, width)
    features = np.load(file, mmap_mode="r") if file else drawn
    tried = float((drawn[slice(0, CHUNK)] ** 2).sum(1).mean()) * np.logspace(-1, -5, strengths)
    warm = np.random.default_rng(0).standard_normal((64, 4))
    ridge_path(warm, np.arange(64) % 2, [1.0])  # starts jax
    planned = ""
    if kind == "ridge":
        plan = plan_ridge(features, classes, strengths)
        planned = f"{plan.seconds:.0f} s, {plan.bytes_held / 1e6:.0f} MB, "
        planned += f"{plan.bytes_read / 1e9:.1f} GB read in {plan.blocks} blocks"
    before, begun = peak(), time.perf_counter()
    if kind == "ridge":
        path = ridge_path(features, labels, tried)
        said = f"{100 * path.right.mean(1).max():.1f} % left out"
    else:
        path = logistic_path(features, labels, tried)
        said = f"gap {path.gap.max():.1g}"
    seconds = time.perf_counter() - begun
    print(
        f"| {kind}, {strengths} strengths | {seconds:.0f} | {before:.0f} | {peak() - before:.0f} | "
        f"{planned} | {said} |",
        flush=True,
    )


def main() -> None:
    """Writes the features, lets processes of their own fit them, and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("examples", 50_000), ("features", 1280), ("classes", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--strengths", type=int, default=40)
    parser.add_argument("--logistic", type=int, default=0)
    parser.add_argument("--drawn", action="store_true")
    options = parser.parse_args()
    size = options.examples, options.features
    print(f"{size}, {options.classes} classes, {processor()}\n")
    print(
        "| | seconds | MB before | more at the peak | planned | |\n|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = ""
        if not options.drawn:
            file = str(Path(folder) / "features.npy")
            drawn = Drawn(np.arange(options.examples) % options.classes, options.features)
            mapped = np.lib.format.open_memmap(file, "w+", np.float32, size)
            for start in range(0, options.examples, CHUNK):
                part = slice(start, min(start + CHUNK, options.examples))
                mapped[part] = drawn[part]
            mapped.flush()
        for kind, strengths in (("ridge", options.strengths), ("logistic", options.logistic)):
            if strengths:
                given = (kind, file, *size, options.classes, strengths)
                process = multiprocessing.get_context("spawn").Process(target=fit, args=given)
                process.start()
                process.join()


if __name__ == "__main__":
    main()
