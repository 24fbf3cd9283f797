"""Small real runs for the tests of training, seconds each: vectors of two shifted domains, or
pictures. :func:`register` gives configs names for what only tests have.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import quick_compiles
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from jtl import catalogue, registry
from jtl.data import folder as folder_of_images
from jtl.data.examples import Examples
from jtl.defaults import defaults
from jtl.models.adapter import from_nnx
from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks
from jtl.ranges import FRACTION
from jtl.records import workdir
from jtl.studies.study import Findings, Results, Study, spread, values
from jtl.types import Preprocess

FEATURES, CLASSES = 6, 3


def write_domain(file: Path, *, shift: float, seed: int, labels: np.ndarray | None = None) -> Path:
    """Three clouds, moved by ``shift``; ``labels`` replaces the true ones."""
    draw = np.random.default_rng(seed)
    true = np.arange(120, dtype=np.int32) % CLASSES
    centres = 2 * np.eye(FEATURES, dtype=np.float32)[:CLASSES]
    inputs = centres[true] + 0.5 * draw.normal(size=(120, FEATURES)) + shift
    np.savez(file, inputs=inputs.astype(np.float32), labels=true if labels is None else labels)
    return file


def config(folder: Path, **changes) -> ConfigDict:
    """DANN on two files of vectors in ``folder``, which are written if absent."""
    for name, shift in (("source", 0.0), ("target", 0.4)):
        if not (folder / f"{name}.npz").exists():
            write_domain(folder / f"{name}.npz", shift=shift, seed=len(name))
    made = defaults()
    made.data.source = f"arrays:{folder / 'source.npz'}"
    made.data.target = f"arrays:{folder / 'target.npz'}"
    made.model.backbone = f"features:{FEATURES}"
    made.model.bottleneck = 8
    made.method.name = "dann"
    made.method.width = 8
    made.keep.criterion = "information_maximization"
    made.batch_size = 16
    made.steps = 40
    made.eval_every = made.checkpoint_every = 20
    made.update(changes)
    return made


def picture_config(folder: Path, **changes) -> ConfigDict:
    """The convolutional network on dark and light pictures in ``folder``, which are written."""
    pictures = folder / "pictures"
    if not pictures.exists():
        draw = np.random.default_rng(0)
        for index in range(24):
            name = ("dark", "light")[index % 2]
            (pictures / name).mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 100, (9, 7)) + 155 * (index % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(pictures / name / f"{index}.png")
    made = config(folder, steps=4, eval_every=2, checkpoint_every=2, batch_size=8)
    made.data.source, made.data.target = f"folder:{pictures}", ""
    made.model.backbone, made.model.image_size = "random:digits-convnet", 8
    made.method = {"name": "supervised"}
    made.keep.criterion = "source_risk"
    made.update(changes)
    return made


def register() -> None:
    """Gives names in a config to a backbone, a method and a kind of data of the tests."""
    here: dict[str, dict[str, str]] = {
        "architecture": {"batch-norm": "small_runs:batch_norm_backbone"},
        "method": {"mean_teacher": "toys:mean_teacher"},
        "data": {"stream": "small_runs:stream"},
    }
    for kind, names in here.items():
        registry.KINDS[kind].update(names)
    catalogue.METHODS["mean_teacher"] = catalogue.Entry("", {"decay": (0.9, FRACTION)})


def batch_norm_backbone(*, image_size: int = 0) -> Backbone:
    """One block with batch norm, on vectors."""
    from toys import NormBlock

    def blocks(axis_name: str | None = None) -> Blocks:
        def build(rngs: nnx.Rngs) -> nnx.Module:
            return NormBlock(FEATURES, FEATURES, rngs)

        return (("stem", from_nnx(build, axis_name=axis_name)),)

    del image_size
    return Backbone("batch-norm", blocks, None, FEATURES)


def stream(argument: str, preprocess: Preprocess | None) -> Examples:
    """The pictures of a folder, decoded as they are needed."""
    return folder_of_images.load(argument, preprocess, memory_limit=0)


def as_file(made: ConfigDict, file: Path) -> Path:
    """The config as a file for the command line."""
    lines = ["import small_runs", "from ml_collections import ConfigDict", "small_runs.register()"]
    lines += ["def get_config():", f"    return ConfigDict({made.to_dict()!r})", ""]
    file.write_text("\n".join(lines))
    return file


class Process:
    """The command line in a process of its own, forked from one that has imported everything.

    Its report has no ``pictures`` but where they are asked for: they take longer than the run. So
    does compiling ``as_user``, that is, with all that the compiler does.
    """

    def __init__(
        self,
        file: Path,
        folder: Path,
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        devices: int = 1,
        pictures: bool = False,
        as_user: bool = False,
        words: Sequence[str] = (),
    ) -> None:
        self._output = log or folder.parent / f"{folder.name}.log"
        self._output.touch()  # a process that is killed at once has said nothing
        options = None if as_user else quick_compiles.installed
        place = file, folder, self._output, environment or {}
        arguments = (*place, devices, pictures, options, words)
        self._process = _SERVER.Process(target=_command, args=arguments)
        self._process.start()

    def running(self) -> bool:
        return self._process.is_alive()

    def send(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def end(self) -> tuple[int, str]:
        """Waits; returns the exit code (minus the signal that killed it) and all output."""
        self._process.join()
        return self._process.exitcode, self._output.read_text()


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["jtl.runs.train", "orbax.checkpoint", "grain", "sklearn.manifold", "matplotlib.figure", "toys"]
)


def _command(
    file: Path,
    folder: Path,
    output: Path,
    environment: Mapping[str, str],
    devices: int,
    pictures: bool,
    options: quick_compiles.Options | None,
    words: Sequence[str],
) -> None:
    """What the process does: as ``python -m jtl FILE --workdir FOLDER``."""
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ |= environment
    jax.config.update("jax_num_cpu_devices", devices)
    # Each of these programs takes little, and all of them most of a process's time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    from jtl.runs import page
    from jtl.shell import cli

    if options:
        quick_compiles.install(options)
    if not pictures:
        page.pictures = lambda *_: ()
    sys.exit(cli.main([str(file), "--workdir", str(folder), *words]))


def model(folder: Path) -> dict[str, np.ndarray]:
    """What a finished run left, by name."""
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def final_state(folder: Path) -> dict[str, bytes]:
    """The arrays of the newest checkpoint by name, bit for bit."""
    import orbax.checkpoint as ocp

    steps = [path for path in (folder / workdir.CHECKPOINTS).iterdir() if path.name.isdecimal()]
    newest = max(steps, key=lambda path: int(path.name))
    with ocp.StandardCheckpointer() as reader:
        leaves = jax.tree_util.tree_leaves_with_path(reader.restore(newest / "state"))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf).tobytes()
        for path, leaf in leaves
    }


def study(folder: Path, methods: Sequence[str] = ("dann", "supervised"), steps: int = 20) -> Study:
    """Some methods on the vectors in ``folder``, two seeds each."""

    def one(method: str, seed: int) -> ConfigDict:
        made = config(folder, steps=steps, seed=seed)
        made.method = {"name": method}
        return made

    def conclude(results: Results) -> Findings:
        rows = [[*key, spread(values(results, key))] for key in results]
        return Findings("It does.", ("method", "target"), rows, figures=(), notes=("Small.",))

    keys = [(method,) for method in methods]
    return Study("Does it help?", ("None.",), one, keys, seeds=(0, 1), conclude=conclude)
