"""Nothing is lost: kills, signals and corrupt checkpoints, on real processes, alone and in jobs."""

import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_runs as runs

from jtl import configuration
from jtl.records import workdir
from jtl.records.log import read_metrics
from jtl.runs import train

STEPS, EVERY = 120, 10


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, the config files of three runs, and each run finished in one go."""
    folder = tmp_path_factory.mktemp("resume")
    # Everything that a state can hold: statistics, memory, Adam's moments; and dropout.
    vectors = runs.config(folder, steps=STEPS, eval_every=EVERY, checkpoint_every=EVERY)
    vectors.model.backbone, vectors.model.dropout = "random:batch-norm", 0.3
    vectors.method = {"name": "mean_teacher"}
    vectors.optimizer.name = "adamw"
    # On a CPU, the steps of a network with convolutions are dispatched one by one.
    dispatched = runs.picture_config(folder, steps=32, eval_every=8, checkpoint_every=8)
    dispatched.data.augment, dispatched.model.dropout = "shift", 0.3
    streamed = dispatched.copy_and_resolve_references()
    streamed.data.source = streamed.data.source.replace("folder:", "stream:")
    made = {"vectors": vectors, "dispatched": dispatched, "streamed": streamed}
    for name, config in made.items():
        runs.as_file(config, folder / f"{name}.py")
    for name in made:
        code, output = start(folder, name, folder / f"{name}-whole").end()
        assert code == 0, output
    return folder


def start(place: Path, name: str, folder: Path, *, pictures: bool = False) -> runs.Process:
    """Bits are those of programs as a user has them; in the smaller runs, of quick ones."""
    file, as_user = place / f"{name}.py", name == "vectors"
    return runs.Process(file, folder, pictures=pictures, as_user=as_user)


Moment = Callable[[Path], bool]
"""Has a run, seen from its folder, come this far?"""


def begun(folder: Path) -> bool:
    return True


def prepared(folder: Path) -> bool:
    """The first programs are compiled now."""
    return (folder / workdir.MANIFEST).exists()


def evaluating(folder: Path) -> bool:
    return (folder / workdir.METRICS).exists()


def saving(folder: Path) -> bool:
    return any((folder / workdir.CHECKPOINTS).glob("*-tmp*"))


def concluding(folder: Path) -> bool:
    """The report is drawn now."""
    return (folder / "model.safetensors").exists()


def at(step: int) -> Moment:
    def reached(folder: Path) -> bool:
        file = folder / workdir.METRICS
        return file.exists() and f'"step": {step},' in file.read_text()

    return reached


def start_and_await(place: Path, name: str, folder: Path, moment: Moment) -> runs.Process:
    # While a report is drawn, a run can be killed too.
    process = start(place, name, folder, pictures=moment is concluding)
    while process.running() and not moment(folder):
        time.sleep(0.002)
    return process


def losses(folder: Path) -> dict[int, float]:
    records = [r for r in read_metrics(folder / workdir.METRICS) if r["split"] == "train"]
    assert len({record["step"] for record in records}) == len(records)
    return {record["step"]: record["values"]["loss"] for record in records}


def assert_same_end(place: Path, name: str, folder: Path, *, records_more: int = 0) -> None:
    """The whole state, the model and the losses are those of the uninterrupted run."""
    whole = place / f"{name}-whole"
    assert runs.final_state(folder) == runs.final_state(whole)
    expected, found = runs.model(whole), runs.model(folder)
    assert {n: leaf.tobytes() for n, leaf in found.items()} == {
        n: leaf.tobytes() for n, leaf in expected.items()
    }
    before, after = losses(whole), losses(folder)
    assert len(after) == len(before) + records_more
    differing = [step for step in before if after[step] != before[step]]
    assert len(differing) <= records_more


KILLS: dict[str, list[Moment]] = {
    "vectors": [
        *(begun, prepared, evaluating, saving, at(20)),
        *(begun, at(50), saving, at(80), concluding),
    ],
    # The save of a step waits for the one before.
    "dispatched": [prepared, at(24), saving],
    "streamed": [prepared, at(24), saving],
}


@pytest.mark.parametrize("name", KILLS)
def test_kills_at_any_moment_change_no_bit(place, name) -> None:
    folder, draw = place / f"{name}-killed", random.Random(0)
    for moment in KILLS[name]:
        process = start_and_await(place, name, folder, moment)
        time.sleep(draw.uniform(0, 0.1))
        process.send(signal.SIGKILL)
        assert process.end()[0] == -signal.SIGKILL
        assert not (folder / workdir.SUMMARY).exists()
    code, output = start(place, name, folder).end()
    assert code == 0, output
    assert "going on from step" in output
    assert_same_end(place, name, folder)


def test_the_killed_run_had_everything_that_a_state_can_hold(place) -> None:
    parts = {name.split("/")[0] for name in runs.final_state(place / "vectors-whole")}
    assert parts == {"step", "seed", "params", "stats", "optimizer", "memory"}


def test_signals_save_and_exit_with_their_codes(place) -> None:
    folder = place / "signalled"
    for number, step in ((signal.SIGTERM, 20), (signal.SIGINT, 50)):
        process = start_and_await(place, "vectors", folder, at(step))
        process.send(number)
        code, output = process.end()
        assert code == 128 + number, output
        assert "saved; the same command goes on" in output
    code, output = start(place, "vectors", folder).end()
    assert code == 0, output
    # Where it stopped, the means of the losses up to there and from there on are noted.
    stopped_between = len(losses(folder)) - STEPS // EVERY
    assert stopped_between in (0, 1, 2)
    assert_same_end(place, "vectors", folder, records_more=stopped_between)


def test_a_corrupt_newest_checkpoint_falls_back_saying_so(place) -> None:
    folder = place / "corrupt"
    process = start_and_await(place, "vectors", folder, at(60))
    process.send(signal.SIGKILL)
    process.end()
    steps = [p for p in (folder / workdir.CHECKPOINTS).iterdir() if p.name.isdecimal()]
    newest = max(steps, key=lambda path: int(path.name))
    for file in (newest / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"garbage")
    code, output = start(place, "vectors", folder).end()
    assert code == 0, output
    assert "corrupt" in output and "going back" in output
    assert_same_end(place, "vectors", folder)


class Job:
    """Two processes, as a launcher of MPI starts them, that talk over loopback."""

    def __init__(
        self, files: tuple[Path, Path], folder: Path, *, jax_detects: bool, devices: int = 1
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
        if jax_detects:
            told = {"OMPI_COMM_WORLD_SIZE": "2", "JAX_COORDINATOR_PORT": port}
            told |= {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:34911"}
            which = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
        else:
            told = {"PMI_SIZE": "2", "JTL_COORDINATOR": f"127.0.0.1:{port}"}
            which = ("PMI_RANK",)
        self.processes = [
            runs.Process(
                file,
                folder,
                log=folder.parent / f"{folder.name}-{rank}.log",
                environment=told | dict.fromkeys(which, str(rank)),
                devices=devices,
            )
            for rank, file in enumerate(files)
        ]

    def end(self) -> tuple[list[int], list[str]]:
        """Waits; returns the exit codes and outputs of both."""
        ends = [process.end() for process in self.processes]
        return [code for code, _ in ends], [output for _, output in ends]


def assert_trained_as(expected: Path, folder: Path) -> None:
    alone, found = runs.model(expected), runs.model(folder)
    assert list(found) == list(alone)
    largest = max(np.abs(leaf).max() for leaf in alone.values())
    off = {name: np.abs(leaf - alone[name]).max() / largest for name, leaf in found.items()}
    assert max(off.values()) < 1e-6, off


@pytest.fixture(scope="module")
def alone(place) -> Path:
    """A run of one process."""
    file = runs.as_file(runs.config(place, steps=20), place / "short.py")
    code, output = runs.Process(file, place / "alone").end()
    assert code == 0, output
    return place / "alone"


def test_two_processes_of_four_devices_train_as_one_of_one(place, alone):
    file = place / "short.py"
    codes, outputs = Job((file, file), place / "cluster", jax_detects=True, devices=4).end()
    assert codes == [0, 0], outputs
    assert "target accuracy" in outputs[0] and "target accuracy" not in outputs[1]
    assert_trained_as(alone, place / "cluster")
    assert workdir.manifest(place / "cluster")["device"] == "8 x cpu"
    said, expected = (workdir.summary(place / name)["target_test"] for name in ("cluster", "alone"))
    assert said["accuracy"] == expected["accuracy"]


def test_pmap_over_two_processes_trains_as_one_and_a_signal_to_one_stops_both(place, alone):
    """On two of the four devices of each."""
    made = runs.config(place, parallel="pmap", devices=2, steps=20, eval_every=2)
    made.checkpoint_every = 20
    file, folder = runs.as_file(made, place / "pmap.py"), place / "pmap"
    job = Job((file, file), folder, jax_detects=False, devices=4)
    while not at(2)(folder) and job.processes[1].running():
        time.sleep(0.002)
    job.processes[1].send(signal.SIGTERM)
    codes, outputs = job.end()
    assert codes == [128 + signal.SIGTERM] * 2, outputs
    assert "saved" in outputs[0]
    codes, outputs = Job((file, file), folder, jax_detects=False, devices=4).end()
    assert codes == [0, 0], outputs
    assert "going on from step" in outputs[0]
    assert workdir.manifest(folder)["device"] == "4 x cpu"
    assert_trained_as(alone, folder)


@pytest.mark.usefixtures("without_pictures", "small_programs")
def test_a_process_that_is_killed_ends_its_job_which_goes_on_on_any_devices(place, capsys):
    """The state lies in parts on the devices of both processes, and so do its checkpoints."""
    made = runs.config(place, shard=".*", steps=20, eval_every=4, checkpoint_every=4)
    made.data.target, made.method, made.keep.criterion = "", {"name": "supervised"}, "source_risk"
    file, folder = runs.as_file(made, place / "parts.py"), place / "parts"
    job = Job((file, file), folder, jax_detects=False)
    while not (folder / workdir.CHECKPOINTS / "4").exists() and job.processes[0].running():
        time.sleep(0.002)
    job.processes[1].send(signal.SIGKILL)
    begun = time.monotonic()
    codes, outputs = job.end()
    assert time.monotonic() - begun < 60
    # In the middle of a step jtl says it; where a checkpoint is written, jax may end it first.
    said = {
        1: "jtl: error: another process of this job has ended",
        -signal.SIGABRT: "the remote task has failed",
    }
    assert codes[0] in said and codes[1] == -signal.SIGKILL, outputs
    assert said[codes[0]] in outputs[0]
    made = configuration.complete(made, "here")
    made.devices = 1
    assert train.run(made, place / "never-killed") == 0
    for made.devices in (1, 2, 8):
        again = shutil.copytree(folder, place / f"parts-on-{made.devices}")
        capsys.readouterr()
        assert train.run(made, again) == 0
        assert "going on from step" in capsys.readouterr().out
        assert_trained_as(place / "never-killed", again)


def test_a_mistake_of_any_process_ends_its_job_in_one_line(place, alone):
    """First the main process refuses a folder, then the other one misses its config."""
    files, missing = (place / "short.py", place / "vectors.py"), place / "none.py"
    cases = (((files[1], files[1]), "another config"), ((files[0], missing), "does not exist"))
    for pair, words in cases:
        begin = time.monotonic()
        codes, outputs = Job(pair, alone, jax_detects=False).end()
        assert codes == [2, 2], outputs
        (line,) = [line for line in outputs[0].splitlines() if line.startswith("jtl: error: ")]
        assert words in line and "jtl: " not in outputs[1]
        assert time.monotonic() - begin < 60  # not the minutes that jax would wait
