"""Nothing is lost: kills, signals and corrupt checkpoints, on real processes."""

import random
import signal
import time

import numpy as np
import pytest
import small_runs as runs

from jtl import workdir
from jtl.log import read_metrics

STEPS = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, the config file of a run, and that run finished without interruption."""
    folder = tmp_path_factory.mktemp("resume")
    made = runs.config(folder, steps=STEPS, eval_every=20, checkpoint_every=20)
    made.optimizer.name = "adamw"
    runs.as_file(made, folder / "config.py")
    code, output = runs.Process(folder / "config.py", folder / "whole").end()
    assert code == 0, output
    return folder


def wait_for_steps(folder, steps, process) -> None:
    """Returns once the run has logged that many steps."""
    file = folder / workdir.METRICS
    while process.running():
        if file.exists() and f'"step": {steps},' in file.read_text():
            return
        time.sleep(0.002)


def assert_same_end(place, folder) -> None:
    """The whole state, the model and the losses are those of the uninterrupted run."""
    assert runs.final_state(folder) == runs.final_state(place / "whole")
    assert (folder / "model.safetensors").read_bytes() == (
        place / "whole" / "model.safetensors"
    ).read_bytes()

    def losses(run):
        records = [r for r in read_metrics(run / workdir.METRICS) if r["split"] == "train"]
        return [(r["step"], r["values"]["loss"]) for r in records]

    assert losses(folder) == losses(place / "whole")


def test_ten_kills_change_no_bit(place) -> None:
    folder, draw = place / "killed", random.Random(0)
    moments = sorted(draw.sample(range(20, STEPS, 20), 10))
    for moment in moments:
        process = runs.Process(place / "config.py", folder)
        wait_for_steps(folder, moment, process)
        time.sleep(draw.uniform(0, 0.05))  # also inside an asynchronous save
        process.send(signal.SIGKILL)
        assert process.end()[0] == -signal.SIGKILL
        assert not (folder / workdir.SUMMARY).exists()
    code, output = runs.Process(place / "config.py", folder).end()
    assert code == 0, output
    assert "going on from step" in output
    assert_same_end(place, folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_its_code(place, number) -> None:
    folder = place / number.name
    process = runs.Process(place / "config.py", folder)
    wait_for_steps(folder, 60, process)
    process.send(number)
    code, output = process.end()
    assert code == 128 + number, output
    assert "saved; the same command goes on" in output
    code, output = runs.Process(place / "config.py", folder).end()
    assert code == 0, output
    assert_same_end(place, folder)


def test_a_corrupt_newest_checkpoint_falls_back_saying_so(place) -> None:
    folder = place / "corrupt"
    process = runs.Process(place / "config.py", folder)
    wait_for_steps(folder, 200, process)
    process.send(signal.SIGTERM)
    process.end()
    steps = [p for p in (folder / workdir.CHECKPOINTS).iterdir() if p.name.isdecimal()]
    newest = max(steps, key=lambda path: int(path.name))
    for file in (newest / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"garbage")
    code, output = runs.Process(place / "config.py", folder).end()
    assert code == 0, output
    assert "corrupt" in output and "going back" in output
    assert_same_end(place, folder)


def test_two_processes_train_as_one(place):
    """A job of two processes, as mpirun starts them, talking over loopback."""
    file = runs.as_file(runs.config(place, steps=20), place / "short.py")
    assert runs.Process(file, place / "alone").end()[0] == 0
    folder = place / "cluster"
    job = random.Random().randrange(1, 4000)
    shared = {
        "OMPI_MCA_orte_hnp_uri": f"{job}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
    }
    processes = [
        runs.Process(
            file,
            folder,
            log=place / f"cluster{rank}.log",
            environment=shared
            | {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    ends = [process.end() for process in processes]
    assert [code for code, _ in ends] == [0, 0], ends
    assert "target accuracy" in ends[0][1] and "target accuracy" not in ends[1][1]
    alone = runs.model(place / "alone")
    for name, leaf in runs.model(folder).items():
        np.testing.assert_allclose(leaf, alone[name], rtol=1e-5, atol=1e-6, err_msg=name)
