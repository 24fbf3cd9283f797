"""A study by many workers: they share its runs, and what fails is tried again once and named."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_runs as runs

from jtl.devices import memory
from jtl.errors import UserError
from jtl.records import workdir
from jtl.runs import train
from jtl.studies import attempts, chunk, lanes, on_ray, plan, processes, status, worker, workers
from jtl.studies import study as studies
from jtl.studies.claims import Part, Queue, Share

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

NAMES = ["dann-seed0", "dann-seed1", "supervised-seed0", "supervised-seed1"]
SESSION = "this one"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def planned(data, tmp_path):
    """A plan of four runs of two programs."""
    return plan.plan(runs.study(data), tmp_path / "study")


def taken(planned, number=1, total=1, session=SESSION, last="", most=None) -> list[str]:
    """What a worker takes, and lets go again."""
    with Queue(planned, Share(number, total), session).take(last, most) as part:
        return [run.name for run in part.runs]


def leave_as_dead(planned, *names: str, session: str = SESSION) -> None:
    """What is found in the folders of runs whose process was killed."""
    for run in planned.runs:
        if run.name in names:
            run.place.mkdir(parents=True, exist_ok=True)
            note = attempts.Attempt(session, "elsewhere", 7, *attempts._failures(run.place))
            (run.place / attempts.FILE).write_text(json.dumps(note._asdict()))


def finish(place: Path, config, summary) -> None:
    """Writes what is read of a finished run."""
    place.mkdir(parents=True, exist_ok=True)
    (place / workdir.CONFIG).write_text(json.dumps(config.to_dict()))
    (place / workdir.SUMMARY).write_text(json.dumps(summary))


# --- who takes what -------------------------------------------------------------------------------


def test_workers_begin_at_different_programs_and_cut_what_is_too_few(planned) -> None:
    assert taken(planned) == NAMES[:2]
    assert taken(planned, 1, 2) == NAMES[:2]
    assert taken(planned, 2, 2) == NAMES[2:]
    assert taken(planned, 1, 4) == NAMES[:1]
    assert taken(planned, 4, 4) == NAMES[2:3]
    program = planned.runs[2].program
    assert taken(planned, last=program) == NAMES[2:]
    assert taken(planned, last=program, most=1) == NAMES[2:3]


def test_what_one_worker_has_claimed_no_other_takes(planned) -> None:
    script = """
        import fcntl, sys
        lock = open(sys.argv[1], "w"); fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True); input()
    """
    place = planned.runs[0].place
    place.mkdir(parents=True)
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(place / workdir.LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout.readline()
    assert workdir.is_taken(place)
    assert taken(planned) == NAMES[2:]  # of a program that nobody is at
    for run in planned.runs[2:]:
        finish(run.place, run.config, {})
    assert taken(planned) == NAMES[1:2]
    other.kill()
    other.communicate()
    assert not workdir.is_taken(place)
    assert taken(planned) == NAMES[:2]


def test_a_run_whose_process_died_is_tried_again_last_and_alone_and_then_given_up(planned) -> None:
    leave_as_dead(planned, *NAMES[:2])
    assert taken(planned, session="a later command") == NAMES[:2]
    assert taken(planned) == NAMES[2:]
    for run in planned.runs[2:]:
        finish(run.place, run.config, {})
    assert taken(planned) == NAMES[:1]
    leave_as_dead(planned, *NAMES[:1])
    assert taken(planned) == NAMES[1:2]
    assert [run.name for run in Queue(planned, Share(), SESSION).open()] == NAMES[1:2]
    (failed,) = status.failures(status.Watch(planned.folder).look())
    assert failed == "dann-seed0 failed: process 7 of elsewhere died at it; tried 2 times."


def test_commands_that_work_on_one_study_each_count_what_they_have_tried(planned) -> None:
    """Else two of them would try a run that takes its process with it for ever, in turn."""
    here, there = "the command here", "the command there"
    for run in planned.runs[1:]:
        finish(run.place, run.config, {})
    for session in (here, there, here):
        assert taken(planned, session=session) == NAMES[:1]
        leave_as_dead(planned, NAMES[0], session=session)
    assert taken(planned, session=here) == []
    assert Queue(planned, Share(), here).open() == []
    assert taken(planned, session=there) == NAMES[:1]
    leave_as_dead(planned, NAMES[0], session=there)
    assert taken(planned, session=there) == Queue(planned, Share(), there).open() == []
    (failed,) = status.failures(status.Watch(planned.folder).look())
    assert failed.endswith("died at it; tried 2 times.")


def test_who_claims_a_run_and_does_not_begin_leaves_what_is_noted(planned) -> None:
    leave_as_dead(planned, NAMES[0])
    with Part("another command") as part:
        part.add(planned.runs[0], troubled=False)
        assert [run.name for run in part.runs] == NAMES[:1]
    assert attempts.failed(planned.runs[0].place, SESSION) == 1


def test_what_starts_from_a_failed_run_is_named_and_not_tried(data, tmp_path) -> None:
    study = dataclasses.replace(runs.study(data), initial={("supervised",): ("dann",)})
    made = plan.plan(study, tmp_path / "study")
    assert (taken(made), taken(made, 2, 2)) == (NAMES[:2], NAMES[:1])
    first, second = made.runs[:2]
    for run, summary in ((first, {}), (second, {workdir.FAILED: "not finite at step 3"})):
        finish(run.place, run.config, summary)
    assert [run.name for run in Queue(made, Share(), SESSION).open()] == NAMES[2:3]
    assert taken(made) == NAMES[2:3]
    assert status.failures(status.Watch(made.folder).look()) == [
        "dann-seed1 failed: not finite at step 3.",
        "supervised-seed1 failed: it starts from dann-seed1, which failed.",
    ]


# --- what fails -----------------------------------------------------------------------------------


class Trained(list):
    """The names of the runs of each chunk; stands in for what trains them, and may break."""

    breaks = staticmethod(lambda names: None)

    def __call__(self, program, made, predict, *, keep_models) -> int:
        names = [run.folder.name for run in made]
        self.append(names)
        self.breaks(names)
        for run in made:
            score = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
            finish(run.folder, run.config, {"target_test": score})
        return 0


@pytest.fixture
def trained(monkeypatch) -> Trained:
    stand_in = Trained()
    monkeypatch.setattr(chunk, "train", stand_in)
    monkeypatch.setattr(lanes, "APART", 2**30)  # its discriminator would be trained alone
    return stand_in


def test_too_little_memory_is_met_by_fewer_runs_at_once(data, tmp_path, trained, capsys) -> None:
    def breaks(names):
        if len(names) > 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: 2.0GiB")

    trained.breaks = breaks
    assert workers.run(runs.study(data), tmp_path / "study") == 0
    assert trained == [NAMES[:2], NAMES[:1], NAMES[1:2], NAMES[2:], NAMES[2:3], NAMES[3:]]
    assert "going on with 1 at once" in capsys.readouterr().out


def test_an_error_is_tried_again_alone_and_named_if_it_comes_back(
    data, tmp_path, trained, capsys
) -> None:
    def breaks(names):
        if NAMES[0] in names:
            raise RuntimeError("a bad\nrun")

    trained.breaks = breaks
    study, folder = runs.study(data), tmp_path / "study"
    with pytest.raises(UserError, match=r"dann-seed0 failed: RuntimeError: a bad run; tried 2 ti"):
        workers.run(study, folder)
    assert trained == [NAMES[:2], NAMES[2:], NAMES[:1], NAMES[1:2]]
    assert "in breaks" in capsys.readouterr().err  # where it happened
    trained.clear()
    trained.breaks = lambda names: None
    assert workers.run(study, folder) == 0
    assert trained == [NAMES[:1]]
    assert (folder / studies.TABLE).exists()


def test_a_run_that_is_given_up_here_and_tried_by_another_command_is_no_result(
    data, tmp_path, trained, monkeypatch
) -> None:
    monkeypatch.setenv(processes.SESSION, SESSION)
    study, folder = runs.study(data), tmp_path / "study"
    place = plan.plan(study, folder).runs[0].place
    place.mkdir(parents=True)
    note = attempts.Attempt("another command", "elsewhere", 7, {SESSION: attempts.MOST}, "")
    (place / attempts.FILE).write_text(json.dumps(note._asdict()))
    with pytest.raises(UserError, match="dann-seed0 failed: it died twice here; another command"):
        workers.run(study, folder)
    assert trained == [NAMES[1:2], NAMES[2:]]


def test_a_run_that_diverges_apart_from_others_is_not_tried_again(
    data, tmp_path, monkeypatch
) -> None:
    study = dataclasses.replace(runs.study(data), keys=[("supervised",)], seeds=[0])

    def config(method: str, seed: int):
        made = runs.study(data).config(method, seed)
        made.parallel, made.optimizer.learning_rate = "pmap", 1e38
        return made

    study = dataclasses.replace(study, config=config)
    with pytest.raises(UserError, match=r"no table, as supervised-seed0 failed: .*not finite on"):
        workers.run(study, tmp_path / "study")
    monkeypatch.setattr(train, "run", None)
    with pytest.raises(UserError, match="no table"):
        workers.run(study, tmp_path / "study")


# --- workers of one command -----------------------------------------------------------------------


class Fake:
    """A worker that has ended with a code, or one that has to be stopped."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.code = 143


class Fakes:
    """Starts workers that end as they are told."""

    def __init__(self, folder: Path, *ends) -> None:
        self.ends, self.folder, self.started = list(ends), folder, []

    def start(self, number: int) -> Fake:
        self.started.append(number)
        end = self.ends.pop(0)
        return Fake(end() if callable(end) else end)

    def log(self, number: int) -> Path:
        return self.folder / f"{number}.log"


def supervise(data, folder, monkeypatch, *ends, total=2, **changes) -> tuple[int, Fakes]:
    monkeypatch.setenv(processes.SESSION, SESSION)
    monkeypatch.setattr(workers, "LOOK_AGAIN", 0.01)
    fakes = Fakes(folder.parent, *ends)
    monkeypatch.setattr(workers, "Processes", lambda *given: fakes)
    study = dataclasses.replace(runs.study(data), **changes)
    return workers.run(study, folder, ["question.py"], total=total), fakes


def test_a_worker_that_dies_is_replaced_and_its_runs_are_made(
    data, tmp_path, monkeypatch, trained, capsys
) -> None:
    folder, study = tmp_path / "study", runs.study(data)
    made = plan.plan(study, folder)

    def work() -> int:
        return workers.run(study, folder, total=2, number=1)

    def die() -> int:
        leave_as_dead(made, *NAMES[:2])
        return -signal.SIGKILL

    code, fakes = supervise(data, folder, monkeypatch, die, lambda: 0, work)
    assert (code, fakes.started) == (0, [1, 2, 1])
    assert trained == [NAMES[2:], NAMES[:1], NAMES[1:2]]
    said = capsys.readouterr().out
    assert "worker 1 died (-9)" in said and "| dann | 50.0 ± 0.0 |" in said


def test_a_mistake_that_a_worker_finds_is_that_of_the_command(data, tmp_path, monkeypatch) -> None:
    (tmp_path / "1.log").write_text("4 of 9\njtl: error: no data there; mend it\n")
    with pytest.raises(UserError, match=r"^no data there; mend it \(what it said before: .*1\.log"):
        supervise(data, tmp_path / "study", monkeypatch, 2, None)


def test_workers_that_only_die_end_the_study(data, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"the workers of this study die, see .*1\.log"):
        supervise(data, tmp_path / "study", monkeypatch, *[-11] * 99, seeds=[0])


def test_a_signal_stops_all_workers(data, tmp_path, monkeypatch) -> None:
    def told() -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(workers.time, "sleep", lambda seconds: told())
    code, fakes = supervise(data, tmp_path / "study", monkeypatch, None, None)
    assert (code, fakes.started) == (143, [1, 2])


def test_a_finished_study_starts_no_worker(data, tmp_path, monkeypatch, trained) -> None:
    folder = tmp_path / "study"
    assert workers.run(runs.study(data), folder) == 0
    code, fakes = supervise(data, folder, monkeypatch)
    assert (code, fakes.started) == (0, [])


# --- processes ------------------------------------------------------------------------------------


def test_tasks_of_an_array_share_a_study_and_a_last_command_gathers_its_table(
    data, tmp_path
) -> None:
    """As Slurm starts them; numbers are those of one worker."""
    file, folder = tmp_path / "study.py", tmp_path / "study"
    lines = ["import pathlib", "import small_runs", "def study():"]
    lines += [f"    return small_runs.study(pathlib.Path({str(data)!r}), ['supervised'])", ""]
    file.write_text("\n".join(lines))
    tasks = []
    for number in (1, 2):
        slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number)}
        words, log = (f"--workers={number}/2",), tmp_path / f"{number}.log"
        tasks.append(runs.Process(file, folder, log=log, environment=slurm, words=words))
    said = [task.end() for task in tasks]
    assert [code for code, _ in said] == [0, 0], said
    made = [name for _, output in said for name in NAMES if f"1 at once: {name}" in output]
    assert sorted(made) == NAMES[2:]
    assert not (folder / studies.TABLE).exists()
    code, output = runs.Process(file, folder, words=("--workers=1",)).end()
    assert code == 0 and "at once" not in output, output
    assert not list(folder.glob(f"runs/*/{attempts.FILE}"))
    assert workers.run(runs.study(data, ["supervised"]), tmp_path / "alone") == 0
    for name in NAMES[2:]:
        one, other = (
            workdir.summary(place / "runs" / name)["target_test"]
            for place in (folder, tmp_path / "alone")
        )
        for score, value in one.items():
            assert value == pytest.approx(other[score], rel=1e-4, abs=1e-5), score


def test_the_script_for_slurm_gives_every_task_its_share(tmp_path, root) -> None:
    launch = tmp_path / "launch.sh"
    launch.write_text('#!/bin/bash\necho "$@"\n')
    launch.chmod(0o755)
    script = ["bash", str(root / "tools" / "study.sbatch"), "question.py", "--workdir", "a b"]

    def said(**slurm: str) -> str:
        environment = {"PATH": os.environ["PATH"]} | slurm
        return subprocess.check_output(script, cwd=tmp_path, env=environment, text=True).strip()

    shares = [said(SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="3") for task in (1, 2, 3)]
    assert sorted(shares) == [f"question.py --workdir a b --workers {k}/3" for k in (1, 2, 3)]
    assert said() == "question.py --workdir a b"


def test_a_worker_ends_with_the_process_that_started_it(tmp_path) -> None:
    child = """
        import os, time; from jtl.studies import processes
        processes.settle()
        print(len(os.sched_getaffinity(0)), flush=True); time.sleep(60)
    """
    parent = f"""
        import os, subprocess, sys
        told = dict(os.environ, JTL_PARENT=str(os.getpid()), JTL_CORES="0")
        command = [sys.executable, "-c", {textwrap.dedent(child)!r}]
        child = subprocess.Popen(command, env=told, stdout=subprocess.PIPE)
        print(child.pid, child.stdout.readline().decode().strip(), flush=True)
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    process, cores = map(int, said.split())
    assert cores == 1
    last = time.monotonic() + 10
    while Path(f"/proc/{process}").exists() and not _is_dead(process):
        assert time.monotonic() < last
        time.sleep(0.01)


def _is_dead(process: int) -> bool:
    """A process that nobody waits for stays in the list, as a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_each_worker_has_a_device_or_cores_of_its_own(tmp_path, monkeypatch) -> None:
    started = []
    monkeypatch.setattr(processes, "Process", lambda *given: started.append(given))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    made = processes.Processes(["question.py", "--workdir=x"], 2, tmp_path / "logs", SESSION)
    made.start(2)
    monkeypatch.setattr(processes, "gpus", lambda: ["4", "5"])
    made.start(2)
    (command, log, on_cpu), (_, _, on_gpu) = started
    told = {processes.SESSION: SESSION, memory.NEIGHBOURS: "2"}
    assert command[1:] == ["-m", "jtl", "question.py", "--workdir=x", "--workers=2/2"]
    assert log == tmp_path / "logs" / "2.log" and log.parent.is_dir()
    assert on_cpu == told | {processes.CORES: "1,3"}
    assert on_gpu == told | {"CUDA_VISIBLE_DEVICES": "5"}


def test_workers_on_ray_know_how_many_share_a_machine(tmp_path, monkeypatch) -> None:
    """And machines that have left the cluster, which Ray goes on to name, have none."""
    started = []
    actor = SimpleNamespace(remote=lambda *given: started.append(given))
    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 8.0},
        nodes=lambda: [{"Alive": True}, {"Alive": False}, {"Alive": True}],
        remote=lambda **needs: lambda worker: actor,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert on_ray.Tasks(["question.py"], 0, tmp_path / "logs", SESSION).count == 2
    on_ray.Tasks(["question.py"], 3, tmp_path / "logs", SESSION).start(1)
    ((command, _, told, _),) = started
    assert command[-1] == "--workers=1/3"
    assert (told[processes.SESSION], told[memory.NEIGHBOURS]) == (SESSION, "2")


def test_devices_are_those_that_cuda_would_show(monkeypatch) -> None:
    class Plugin:
        name = "xla_cuda13"

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert processes.gpus() == []
    monkeypatch.setattr(processes, "entry_points", lambda group: [Plugin])
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert processes.gpus() == []
    assert processes.suitable() == 1
    monkeypatch.delenv("JAX_PLATFORMS")
    assert processes.gpus() == ["0", "3"]
    assert processes.suitable() == 2


def test_a_session_is_the_commands_or_the_jobs_or_new(monkeypatch) -> None:
    one, other = worker.session(), worker.session()
    assert one != other and socket.gethostname() in one
    monkeypatch.setenv(worker.ARRAY_JOB, "12")
    assert worker.session() == worker.session() == "job 12"
    monkeypatch.setenv(processes.SESSION, "given")
    assert worker.session() == "given"
