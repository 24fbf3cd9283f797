"""Nothing is lost: kills, signals and corrupt checkpoints, on real processes."""

import random
import signal
import time

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
