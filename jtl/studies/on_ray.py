"""The workers of a study as actors of a Ray cluster (the extra ``jtl[ray]``)."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jtl.devices import memory
from jtl.errors import UserError
from jtl.studies import processes

_TOLD = ("PYTHONPATH", "JAX_", "XLA_", "JTL_CACHE", "XDG_CACHE_HOME", "TFDS_DATA_DIR")
"""What the environment of the workers has of this process's: names, or how they begin."""
_DIED = -9
"""The code of a worker that was lost with its machine."""


class Tasks:
    """Starts workers of a study on a cluster: each has a GPU, or where there is none some cores.

    The machines have the folder of the study, this interpreter and the working folder under the
    same names. Ray is found by ``RAY_ADDRESS``; without it, it is started on this machine.

    Args:
      command: that of the study, without which worker it is.
      count: of workers; 0 is one for every GPU of the cluster, or for every machine.
      logs: a folder for what they say.
      session: of work on the study.

    Raises:
      UserError: Ray is not installed.
    """

    def __init__(self, command: Sequence[str], count: int, logs: Path, session: str) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UserError("--workers ray: Ray is not installed; pip install 'jtl[ray]'") from None
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        has, machines = ray.cluster_resources(), sum(node["Alive"] for node in ray.nodes())
        cards, cores = int(has.get("GPU", 0)), has.get("CPU", 1)
        self.count = count or cards or machines
        self._neighbours = -(-self.count // machines)
        self._ray, self._command, self._logs, self._session = ray, command, logs.absolute(), session
        needs = {"num_gpus": 1} if cards else {"num_cpus": max(1, int(cores // self.count))}
        self._worker = ray.remote(**needs)(_worker())

    def log(self, number: int) -> Path:
        """What a worker has said."""
        return self._logs / f"{number}.log"

    def start(self, number: int) -> "Task":
        """Starts one of the workers, as soon as the cluster has a place for it."""
        self._logs.mkdir(parents=True, exist_ok=True)
        told = {name: value for name, value in os.environ.items() if name.startswith(_TOLD)}
        told |= {processes.SESSION: self._session, memory.NEIGHBOURS: str(self._neighbours)}
        command = processes.whole_command(self._command, number, self.count)
        given = command, str(Path.cwd()), told, str(self.log(number))
        return Task(self._ray, self._worker.remote(*given))


class Task:
    """A worker on the cluster."""

    def __init__(self, ray: Any, worker: Any) -> None:
        self._ray, self._worker = ray, worker
        self._asked: Any = None
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, minus the signal that killed it; None while it works or waits.

        It is that of the last question: the cluster is not waited for.
        """
        if self._code is not None:
            return self._code
        self._asked = self._asked or self._worker.poll.remote()
        answered, _ = self._ray.wait([self._asked], timeout=0)
        if answered:
            try:
                self._code = self._ray.get(self._asked)
            except self._ray.exceptions.RayError:
                self._code = _DIED
            self._asked = None
        if self._code is not None:
            self.kill()  # it keeps its place on the cluster until then
        return self._code

    def stop(self) -> None:
        """Asks it to stop."""
        self._worker.stop.remote()

    def kill(self) -> None:
        """Ends it at once."""
        self._ray.kill(self._worker)


def _worker() -> Any:
    """What Ray runs: sent as it stands, as Ray's processes need not find this module."""

    class Worker:
        def __init__(self, command: list[str], place: str, told: dict[str, str], log: str) -> None:
            import os
            import subprocess
            from pathlib import Path

            with Path(log).open("a") as output:
                environment = {**os.environ, **told, "JTL_PARENT": str(os.getpid())}
                self.process = subprocess.Popen(
                    command, cwd=place, env=environment, stdout=output, stderr=subprocess.STDOUT
                )

        def poll(self) -> int | None:
            return self.process.poll()

        def stop(self) -> None:
            self.process.terminate()

    return Worker
