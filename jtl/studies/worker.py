"""One process at work on a study: it takes runs that nobody is at, and makes them together."""

import os
import socket
import time
import traceback

from jtl.errors import DivergedError, UserError, is_out_of_memory
from jtl.records import workdir
from jtl.records.manifest import write_json
from jtl.runs import train
from jtl.runs.prepare import Run, Shared, prepare
from jtl.studies import chunk, lanes, processes, status
from jtl.studies.claims import Part, Queue, Share, is_ready
from jtl.studies.lanes import Program
from jtl.studies.plan import Plan
from jtl.training import evaluate
from jtl.training.evaluate import Predict

ARRAY_JOB = "SLURM_ARRAY_JOB_ID"
"""The tasks of a job are of one session too."""
LOOK_AGAIN = 1.0
"""Seconds after which a worker that waits for others looks what has become of their runs."""


def session() -> str:
    """What this process's session of work on a study is called."""
    job = os.environ.get(ARRAY_JOB)
    own = f"{socket.gethostname()} {os.getpid()} {time.time_ns()}"
    return os.environ.get(processes.SESSION) or (f"job {job}" if job else own)


def work(plan: Plan, share: Share, name: str, *, to_the_end: bool, cores: int = 1) -> int:
    """Makes runs until there is none to take.

    Args:
      plan: of the study.
      share: of this worker.
      name: of the session.
      to_the_end: whether it waits for what others are at, to go on where they stop.
      cores: of a CPU, if each of them is a device.

    Returns:
      0, or the exit code of what was stopped.

    Raises:
      UserError: what stops a study, such as data that cannot be read.
    """
    queue, maker = Queue(plan, share, name), _Maker(cores)
    watch, screen = status.Watch(plan.folder), status.Screen(lines=True)
    while runs := queue.open():
        with queue.take(maker.program, maker.most) as part:
            taken = bool(part.runs)
            if taken:
                screen.show(watch.look())
            code = maker.make(part) if taken else 0
        if code:
            return code
        if not taken:
            if not to_the_end and all(map(is_ready, runs)):
                break
            time.sleep(LOOK_AGAIN)
    return 0


class _Maker:
    """Makes parts of a study.

    Args:
      cores: of a CPU, if each of them is a device.

    Attributes:
      program: that is compiled.
      most: of its runs at once, where more have been found not to fit.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self.program = ""
        self.most: int | None = None
        self._shared = Shared()
        self._compiled: tuple[Program, Predict] | None = None

    def make(self, part: Part) -> int:
        """Makes claimed runs of one program; that one fails is noted, and no reason to stop.

        Returns:
          0, or the exit code of what was stopped.
        """
        try:
            return self._train(part)
        except DivergedError as error:
            (run,) = part.runs
            method = run.config.method.name
            summary = {"method": method, "seed": run.seed, workdir.FAILED: str(error)}
            write_json(run.place / workdir.SUMMARY, summary)
        except (UserError, FloatingPointError):  # the latter is how --debug_nans stops
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            if is_out_of_memory(error) and len(part.runs) > 1:
                self.most = len(part.runs) // 2
                self._compiled = None
                print(f"out of memory ({said}); going on with {self.most} at once", flush=True)
            else:
                traceback.print_exc()
                part.fail(said)
        return 0

    def _train(self, part: Part) -> int:
        run = part.runs[0]
        if run.program != self.program:
            self.program, self.most = run.program, None
            self._compiled = None
        first = prepare(run.config, run.place, self._shared)
        if not lanes.can_be_lanes(first):
            part.keep(1)
            return train.run(run.config, run.place)
        program, predict = self._program(first, len(part.runs))
        part.keep(program.lanes)
        runs = [first]
        runs += [prepare(each.config, each.place, self._shared) for each in part.runs[1:]]
        print(f"{len(runs)} at once: {', '.join(each.name for each in part.runs)}", flush=True)
        return chunk.train(program, runs, predict, keep_models=run.keeps_model)

    def _program(self, like: Run, count: int) -> tuple[Program, Predict]:
        """That which is compiled, unless it has room for far more runs than there are."""
        if self._compiled is not None:
            program, _ = self._compiled
            if 2 * lanes.lanes_of_a_chunk(count, count, program.devices.size) > program.lanes:
                return self._compiled
        program = Program(like, count, self._cores)
        self._compiled = program, evaluate.predictor(like.net.trained)
        return self._compiled
