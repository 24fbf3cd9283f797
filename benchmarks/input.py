"""Does the step wait for its input? Training from files against training from memory.

python benchmarks/input.py [--images N] [--side N] [--batch N] [--steps N] [--rounds N]

Draws JPEGs, and trains a network on them in the ways of jtl: from a set that lies on the device;
from a stream of images that lie in memory; from one whose images are decoded as they are needed, as
in the first epoch; and from one whose images were decoded before and are kept on disk, as in later
epochs. They take turns in one process. The rate of decoding alone is measured too, with one thread
and with as many as the machine has cores.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from turns import processor, quartiles

from jtl import configuration
from jtl.data.batches import AHEAD, stretch_indices
from jtl.data.examples import Examples
from jtl.data.folder import load
from jtl.data.images import decode, threads
from jtl.data.kept import Kept
from jtl.defaults import defaults
from jtl.devices import runtime, sharding
from jtl.runs.build import stream
from jtl.runs.prepare import Run, prepare
from jtl.training import execution
from jtl.types import Batch, Labelled, Preprocess, TrainState


def draw(folder: Path, images: int, side: int) -> None:
    """Photographs of nothing: smooth colours and noise, some 60 KB each at 512 pixels."""
    for index in range(images):
        random = np.random.default_rng(index)
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + random.normal(0, 6, (side, side, 3))
        place = folder / f"class{index % 4}"
        place.mkdir(exist_ok=True, parents=True)
        pixels = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        pixels.save(place / f"{index}.jpg", quality=90)


def prepared(folder: Path, backbone: str, batch: int) -> Run:
    """A run that trains all of a network on these images."""
    config = defaults()
    config.data.source, config.data.test_fraction = f"folder:{folder}", 0.1
    config.model.backbone, config.batch_size, config.steps = backbone, batch, 10**6
    configuration.checks.check(config)
    return prepare(config, folder)


class Training:
    """Steps of a run, from examples that lie somewhere."""

    def __init__(self, run: Run, examples: Examples, *, on_device: bool) -> None:
        config, self._step = run.config, 0
        devices, training = sharding.mesh(), run.stages[0].training
        init = jax.jit(training.init, out_shardings=sharding.replicated(devices))
        self._state: TrainState = init(config.seed, run.hyper, run.net.start())
        if on_device:
            size, count = config.batch_size, len(examples)
            self._advance = execution.from_memory(
                training.step,
                Batch(Labelled(examples.array(), examples.known_labels()), None),
                lambda start, steps: execution.Choice(
                    stretch_indices(config.seed, start, steps, count, size, "source"), None
                ),
                run.hyper,
                devices,
            )
        else:
            self._advance = execution.from_stream(
                training.step,
                lambda start: stream(config, examples, None, start),
                run.hyper,
                devices,
            )

    def seconds(self, steps: int) -> float:
        """That so many further steps take, after as many as a stream has read ahead.

        Those it read while others had their turn.
        """
        self._train(AHEAD)
        begun = time.perf_counter()
        self._train(steps)
        return time.perf_counter() - begun

    def _train(self, steps: int) -> None:
        self._state, _ = self._advance(self._state, self._step, steps)
        jax.block_until_ready(self._state)
        self._step += steps


def decoded_before(examples: Examples, folder: Path) -> Examples:
    """The examples after their first epoch."""
    kept = Kept(examples.inputs, folder)
    for index in range(len(kept)):
        kept[index]
    return replace(examples, inputs=kept)


def decoded_a_second(paths: list[Path], preprocess: Preprocess, count: int) -> float:
    """Images that so many threads decode in a second, nothing else running."""
    with ThreadPoolExecutor(count) as pool:
        begun = time.perf_counter()
        for _ in pool.map(decode, paths, [preprocess] * len(paths)):
            pass
        return len(paths) / (time.perf_counter() - begun)


def main(arguments: argparse.Namespace) -> None:
    """Prints the rates and their ratios."""
    runtime.start()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, arguments.images, arguments.side)
        run = prepared(folder, arguments.backbone, arguments.batch)
        wanted, memory = run.net.backbone.wanted, run.labelled
        assert isinstance(wanted, Preprocess), "a network on images"
        lazy = load(str(folder), wanted, memory_limit=0)
        rows = [list(lazy.names).index(name) for name in memory.names]
        files = lazy.take(np.array(rows))
        in_memory = replace(memory, inputs=list(memory.array()))
        ways = {
            "data on the device": Training(run, memory, on_device=True),
            "stream, images in memory": Training(run, in_memory, on_device=False),
            "stream, JPEGs, first epoch": Training(run, files, on_device=False),
            "stream, JPEGs, later epochs": Training(
                run, decoded_before(files, folder), on_device=False
            ),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for training in ways.values():
            training.seconds(1)
        for _ in range(arguments.rounds):
            for name, training in ways.items():
                taken[name].append(training.seconds(arguments.steps))
        paths = sorted(folder.glob("*/*.jpg"))
        rates = {n: decoded_a_second(paths, wanted, n) for n in sorted({1, threads()})}
    examples = arguments.steps * arguments.batch
    print(
        f"{processor()}; jax {jax.__version__}; {arguments.backbone}, {arguments.batch} images of "
        f"{wanted.size} x {wanted.size} a step; JPEGs of {arguments.side} x {arguments.side}; "
        f"{arguments.rounds} rounds of {arguments.steps} steps.\n\n"
        "| | images per second | of the rate with data on the device |\n|---|---|---|"
    )
    first = np.array(taken["data on the device"])
    for name, times in taken.items():
        rate = quartiles([examples / each for each in times])[1]
        low, middle, high = quartiles((100 * first / np.array(times)).tolist())
        share = "" if name == "data on the device" else f"{middle:.0f} % ({low:.0f} to {high:.0f})"
        print(f"| {name} | {rate:,.1f} | {share} |")
    for count, rate in rates.items():
        print(f"| decoding alone, threads: {count} | {rate:,.0f} | |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="random:efficientnet-lite0", metavar="NAME")
    parser.add_argument("--images", type=int, default=200, help="JPEGs that are drawn")
    parser.add_argument("--side", type=int, default=512, help="of them, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--steps", type=int, default=16, help="in a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
