"""What the benchmarks share: peers that take turns, and what is said of their times."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_ANSWER = "answer "
"""Before what a peer answers: libraries print lines of their own."""


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


def processor() -> str:
    """How many cores this process may use, and of what."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else ():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    return f"{cores} cores of {cpu}"


class Peer:
    """A process of its own that computes when it is asked to, and else waits.

    Args:
      command: a script that calls :func:`serve`, and its arguments.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, action: str, *arguments: Any) -> Any:
        """What an action returns; ends the benchmark where the process has ended."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None and answers is not None, "both are pipes"
        asked.write(json.dumps([action, *arguments]) + "\n")
        asked.flush()
        for line in answers:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        sys.exit(f"{' '.join(self._command)} ended in {action}")

    def end(self) -> None:
        """Lets the process end, and waits for it."""
        self._process.communicate()


def serve(runs: Any) -> None:
    """Calls the methods that :class:`Peer` asks for, until it has no more to ask.

    "peak" is the most memory that this process has had so far, in GiB.
    """
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        result = _peak_memory() if action == "peak" else getattr(runs, action)(*arguments)
        print(_ANSWER + json.dumps(result), flush=True)


def seconds(run: Callable[[], Any], steps: int) -> float:
    """How long it takes to run some steps; each has finished when it returns.

    One more step goes before them: while others have their turn, a system may take a process's
    memory away, and the step that gets it back says nothing of a run, where step follows step.
    """
    run()
    begun = time.perf_counter()
    for _ in range(steps):
        run()
    return time.perf_counter() - begun


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def take_turns(
    peers: Mapping[str, Peer], action: str, *, steps: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds that each took for its steps, round by round: A B C, A B C, and so on."""
    for peer in peers.values():  # warms up
        peer.ask(action, steps)
    taken: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            taken[name].append(peer.ask(action, steps))
    return taken
