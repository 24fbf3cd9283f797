"""The workers of a study on one machine: how many suit it, and their processes."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from jtl.devices import memory

SESSION, PARENT, CORES = "JTL_SESSION", "JTL_PARENT", "JTL_CORES"
"""Environment of a worker: the session of work on a study that it is of, the process that it ends
with, and the cores that it keeps to."""
_VISIBLE, _PLUGINS = "CUDA_VISIBLE_DEVICES", "jax_plugins"
_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""


def suitable() -> int:
    """How many workers suit this machine: one for every GPU, and one where there is none.

    On two cores of a CPU, two were not reliably quicker than one (docs/studies.md).
    """
    return max(1, len(gpus()))


def gpus() -> list[str]:
    """Those of NVIDIA that jax would use, as CUDA calls them.

    Told without starting jax, which would take their memory.
    """
    platforms = set(os.environ.get("JAX_PLATFORMS", "cuda").split(","))
    installed = any("cuda" in plugin.name for plugin in entry_points(group=_PLUGINS))
    if not installed or not platforms & {"cuda", "gpu", ""}:
        return []
    if _VISIBLE in os.environ:
        return [name for name in os.environ[_VISIBLE].split(",") if name]
    cards = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(cards.iterdir())] if cards.is_dir() else []


class Processes:
    """Starts workers of a study on this machine.

    Args:
      command: that of the study, without which worker it is.
      count: of workers.
      logs: a folder for what they say.
      session: of work on the study.
    """

    def __init__(self, command: Sequence[str], count: int, logs: Path, session: str) -> None:
        self._command, self._count, self._logs = command, count, logs
        self._session = session

    def log(self, number: int) -> Path:
        """What a worker has said."""
        return self._logs / f"{number}.log"

    def start(self, number: int) -> "Process":
        """Starts one of the workers; they count from 1."""
        self._logs.mkdir(parents=True, exist_ok=True)
        own = {SESSION: self._session, memory.NEIGHBOURS: str(self._count)}
        cards, cores = gpus(), sorted(os.sched_getaffinity(0))
        if cards:
            own[_VISIBLE] = cards[(number - 1) % len(cards)]
        elif len(cores) >= self._count:
            own[CORES] = ",".join(map(str, cores[number - 1 :: self._count]))
        command = whole_command(self._command, number, self._count)
        return Process(command, self.log(number), own)


class Process:
    """A worker, in a session of the terminal of its own: signals come from who started it."""

    def __init__(self, command: Sequence[str], log: Path, changes: Mapping[str, str]) -> None:
        with log.open("a") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **changes, PARENT: str(os.getpid())},
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """The exit code, minus the signal that killed it; None while it works."""
        return self._process.poll()

    def stop(self) -> None:
        """Asks it to stop."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()


def whole_command(command: Sequence[str], number: int, count: int) -> list[str]:
    """That of one of the workers."""
    return [sys.executable, "-m", "jtl", *command, f"--workers={number}/{count}"]


def settle() -> None:
    """Brings a worker to its place: on its cores, and to an end where its parent's is."""
    if CORES in os.environ:
        os.sched_setaffinity(0, [int(core) for core in os.environ[CORES].split(",")])
    if PARENT in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(os.environ[PARENT]):
            os.kill(os.getpid(), signal.SIGTERM)
