"""A study from its first run to its table, by one worker or by many."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import jax
from ml_collections import ConfigDict

from jtl.devices import cluster, runtime
from jtl.errors import UserError
from jtl.records import workdir
from jtl.runs import train
from jtl.runs.interrupt import Interrupt
from jtl.studies import attempts, plan, status, worker
from jtl.studies.claims import Queue, Share
from jtl.studies.plan import Plan, Planned
from jtl.studies.processes import Processes, settle, suitable
from jtl.studies.study import Ended, Study, write

LOGS = "workers"
"""In the folder of a study, what its workers say."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at the workers."""
GRACE = 60.0
"""Seconds that workers have to stop in."""


class Started(Protocol):
    """A worker somewhere."""

    def poll(self) -> int | None:
        """Its exit code, minus the signal that killed it; None while it works."""
        ...

    def stop(self) -> None:
        """Asks it to stop."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


class Starts(Protocol):
    """Starts workers."""

    def start(self, number: int) -> Started:
        """Starts one of them; they count from 1."""
        ...

    def log(self, number: int) -> Path:
        """What it has said."""
        ...


def run(
    study: Study,
    folder: Path,
    command: Sequence[str] = (),
    *,
    total: int = 0,
    number: int = 0,
    on_ray: bool = False,
) -> int:
    """Makes every run that is not finished, then the table and the report.

    Any number of these may work in one folder: each takes runs that nobody is at, those that differ
    only in numbers together (:mod:`jtl.studies.lanes`).

    Args:
      study: what to run.
      folder: of the study.
      command: the words by which other processes are told of it; without them there are none.
      total: of workers; 0 is as many as suit the machine.
      number: which of them this process is; the table is left to a command without it. 0 is all.
      on_ray: whether they are tasks on a Ray cluster.

    Returns:
      0, or the exit code of what was stopped; the same command goes on.

    Raises:
      UserError: it is no study, it was started as a job of several processes, or a run failed
        that its table needs.
    """
    if not isinstance(study, Study):
        raise UserError(f"study() returned {type(study).__name__}, not a Study")
    if cluster.place().size > 1:
        raise UserError(_IN_A_JOB)
    session = worker.session()
    if number:
        settle()
        return _work(study, folder, Share(number, total), session, to_the_end=False)
    if on_ray:
        from jtl.studies.on_ray import Tasks

        tasks = Tasks(command, total, folder / LOGS, session)
        code = _supervise(study, folder, tasks, tasks.count, session)
    elif command and (total := total or _suitable(study)) > 1:
        processes = Processes(command, total, folder / LOGS, session)
        code = _supervise(study, folder, processes, total, session)
    else:
        code = _work(study, folder, Share(), session, to_the_end=True)
    if code:
        return code
    ended = zip(plan.plan(study, folder).runs, status.Watch(folder).look(), strict=True)
    write(study, folder, [Ended(run.key, run.seed, run.place, _failure(how)) for run, how in ended])
    return 0


_IN_A_JOB = (
    "a study is no job of several processes; start it without srun or mpirun, and others beside it "
    "with --workers (docs/studies.md)"
)


def _work(study: Study, folder: Path, share: Share, session: str, *, to_the_end: bool) -> int:
    """Is one of the workers, or the only one."""
    runtime.start()
    cores = runtime.split_cores()
    if jax.process_count() > 1:
        raise UserError(_IN_A_JOB)
    for place, config in study.needs.items():
        print(f"The runs start from {place}:", flush=True)
        code = _need(_on_one(plan.complete(config, place), cores), Path(place))
        if code:
            return code
    planned = plan.plan(study, folder)
    for each in planned.runs:
        _on_one(each.config, cores)
    return worker.work(planned, share, session, cores=cores, to_the_end=to_the_end)


def _failure(how: status.Standing) -> str:
    """Why a run that this command does not try any more has no result; "" if it has one."""
    if how.state == status.FINISHED:
        return ""
    return (
        how.said if how.state == status.FAILED else "it died twice here; another command tries it"
    )


def _on_one(config: ConfigDict, cores: int) -> ConfigDict:
    """Where each core is a device, a run that is trained alone has one, which uses all of them."""
    if cores > 1:
        config.devices = config.devices or 1
    return config


def _need(config: ConfigDict, place: Path) -> int:
    """Makes what the runs start from, or waits for who is at it."""
    while True:
        try:
            return train.run(config, place)
        except workdir.TakenError:
            time.sleep(worker.LOOK_AGAIN)


def _supervise(study: Study, folder: Path, starts: Starts, count: int, session: str) -> int:
    """Has workers make the runs, and looks after them; takes no accelerator itself."""
    made = _planned(study, folder)
    queue = made and Queue(made, Share(), session)
    if queue:
        count = min(count, len(queue.open()))
    screen, crew = status.Screen(), _Crew(starts, count, len(study.keys) * len(study.seeds))
    with Interrupt() as interrupt:
        try:
            while not interrupt.number:
                if queue is None and (made := _planned(study, folder)):
                    queue = Queue(made, Share(), session)
                if queue:
                    screen.show(status.Watch(folder).look())
                still_open = queue.open() if queue else None
                if still_open == [] and not crew.at_work:
                    return 0
                crew.look(still_open)
                time.sleep(LOOK_AGAIN)
        finally:
            crew.stop()
    print("stopped; the same command goes on", flush=True)
    return 128 + interrupt.number


def _planned(study: Study, folder: Path) -> Plan | None:
    """The plan, once all is there that the runs start from."""
    made = all(workdir.summary(Path(place)) is not None for place in study.needs)
    return plan.plan(study, folder) if made else None


class _Crew:
    """The workers of a command.

    Attributes:
      at_work: those that have not ended, by number.
    """

    def __init__(self, starts: Starts, count: int, runs: int) -> None:
        self._starts, self._left = starts, attempts.MOST * runs
        self.at_work = {number: starts.start(number) for number in range(1, count + 1)}

    def look(self, still_open: Sequence[Planned] | None) -> None:
        """Replaces workers that died, while there are runs to make that nobody is at.

        Args:
          still_open: runs to make; None while that is not known.

        Raises:
          UserError: a worker has found a mistake that stops the study, or they die again and again.
        """
        missing = []
        for number, started in tuple(self.at_work.items()):
            code = started.poll()
            if code is None:
                continue
            del self.at_work[number]
            log = self._starts.log(number)
            if 0 < code < 128:
                raise UserError(f"{_last_line(log)} (what it said before: {log})")
            if code:
                print(f"worker {number} died ({code}); what it said: {log}", flush=True)
                missing.append(number)
                self._left -= 1
                if self._left < 0:
                    raise UserError(f"the workers of this study die, see {log}")
        if still_open is None or any(not workdir.is_taken(run.place) for run in still_open):
            for number in missing if self.at_work else missing[:1] or [1]:
                self.at_work[number] = self._starts.start(number)

    def stop(self) -> None:
        """Asks all to stop, and sees that they do."""
        for started in self.at_work.values():
            started.stop()
        last = time.monotonic() + GRACE
        while any(started.poll() is None for started in self.at_work.values()):
            if time.monotonic() > last:
                for started in self.at_work.values():
                    started.kill()
            time.sleep(0.05)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("jtl: error: ") if lines else "a worker said nothing"


def _suitable(study: Study) -> int:
    """How many workers suit the machine, unless a run is shared out over all of its devices."""
    configs = (study.config(*key, seed=study.seeds[0]) for key in study.keys)
    alone = all(not config.get("shard") and config.get("parallel") != "pmap" for config in configs)
    return suitable() if alone else 1
