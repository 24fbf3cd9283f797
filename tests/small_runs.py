"""Small real runs for the tests of training: vectors of two shifted domains, seconds each."""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jtl import workdir
from jtl.configuration import defaults

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


def as_file(made: ConfigDict, file: Path) -> Path:
    """The config as a file for the command line."""
    lines = ["from ml_collections import ConfigDict", "def get_config():"]
    file.write_text("\n".join([*lines, f"    return ConfigDict({made.to_dict()!r})", ""]))
    return file


class Process:
    """The command line in a process of its own, forked from one that has imported everything."""

    def __init__(
        self,
        file: Path,
        folder: Path,
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._output = log or folder.parent / f"{folder.name}.log"
        arguments = (file, folder, self._output, environment or {})
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
_SERVER.set_forkserver_preload(["jtl.train", "orbax.checkpoint"])


def _command(file: Path, folder: Path, output: Path, environment: Mapping[str, str]) -> None:
    """What the process does: as ``python -m jtl FILE --workdir FOLDER``, on one device."""
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ |= environment
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(file.parent / "compiled")
    from jtl import cli

    sys.exit(cli.main([str(file), "--workdir", str(folder)]))


def model(folder: Path) -> dict[str, np.ndarray]:
    """What a finished run left, by name."""
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def final_state(folder: Path) -> list[bytes]:
    """Every byte of the newest checkpoint's arrays, the optimizer's among them."""
    import orbax.checkpoint as ocp

    steps = [path for path in (folder / workdir.CHECKPOINTS).iterdir() if path.name.isdecimal()]
    newest = max(steps, key=lambda path: int(path.name))
    with ocp.StandardCheckpointer() as reader:
        return [
            np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(reader.restore(newest / "state"))
        ]
