"""What is said of a study while others work on it."""

import json
import sys
from pathlib import Path

import pytest

from jtl.records import workdir
from jtl.shell import cli
from jtl.studies import attempts, status

NAMES = ("dann-seed0", "dann-seed1", "mcd-seed0", "mcd-seed1", "mcc-seed0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of which a run is finished, one running, one failed, one lost and one to be made."""
    place = tmp_path / "question"
    for name in NAMES[:4]:
        (place / "runs" / name).mkdir(parents=True)
    listed = [{"name": name, "key": name.split("-")[0], "steps": 2000} for name in NAMES]
    (place / status.PLAN).write_text(json.dumps({"runs": listed}))
    finished, running, failed, lost = (place / "runs" / name for name in NAMES[:4])
    summary = {"target_test": {"accuracy": {"value": 0.625}}}
    (finished / workdir.SUMMARY).write_text(json.dumps(summary))
    (failed / workdir.SUMMARY).write_text(json.dumps({workdir.FAILED: "not finite at step 3"}))
    for at_work in (running, lost):
        attempts.begin(at_work, "a session")
    (running / workdir.CONFIG).write_text("{}")
    record = {"step": 1200, "split": "train", "values": {}}
    (running / workdir.METRICS).write_text(json.dumps(record) + '\n{"step": 13')
    return place


def test_a_study_is_shown_from_any_process(folder: Path, capsys) -> None:
    with workdir.claim(folder / "runs" / NAMES[1], {}):
        assert cli.main(["study", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 of 5 runs are finished, 1 running, 1 failed",
        "",
        "run   finished  accuracy, %  now",
        "dann  1 of 2    62.5         step 1,200 of 2,000",
        "mcd   0 of 2                 1 to try again, 1 failed",
        "mcc   0 of 1",
        "",
        "mcd-seed0 failed: not finite at step 3.",
    ]


def test_a_run_that_nobody_is_at_any_more_waits(folder: Path) -> None:
    states = [each.state for each in status.Watch(folder).look()]
    waiting = status.WAITING
    assert states == [status.FINISHED, waiting, status.FAILED, waiting, waiting]


def test_a_folder_without_a_study_is_one_line(tmp_path: Path, capsys) -> None:
    assert cli.main(["study", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"jtl: error: no study in {tmp_path}; give the")


def test_a_terminal_shows_the_table_in_its_place_until_the_study_has_ended(
    folder: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("LINES", "7")
    monkeypatch.setenv("COLUMNS", "53")

    def end(seconds: float) -> None:
        for name in NAMES:
            (folder / "runs" / name).mkdir(exist_ok=True)
            (folder / "runs" / name / workdir.SUMMARY).write_text("{}")

    monkeypatch.setattr(status.time, "sleep", end)
    assert status.follow(status.Watch(folder)) == 0
    first, second = capsys.readouterr().out.split("\x1b[6A")
    # No room for all: what fails or runs is shown, and the count is of all.
    assert first.split("\x1b[2K")[1:] == [
        "1 of 5 runs are finished, 1 failed\n",
        "\n",
        "run  finished  accuracy, %  now\n",
        "mcd  0 of 2                 1 to try again, 1 failed\n",
        "\n",
        "mcd-seed0 failed: not finite at step 3.\n\x1b[J",
    ]
    assert "5 of 5 runs are finished\n" in second


def test_elsewhere_a_line_is_printed_when_a_run_has_ended(folder: Path, capsys) -> None:
    watch, screen = status.Watch(folder), status.Screen()
    screen.show(watch.look())
    with workdir.claim(folder / "runs" / NAMES[1], {}):
        screen.show(watch.look())  # that another runs is no news
    (folder / "runs" / NAMES[1] / workdir.SUMMARY).write_text("{}")
    screen.show(watch.look())
    assert capsys.readouterr().out.splitlines() == [
        "1 of 5 runs are finished, 1 failed",
        "2 of 5 runs are finished, 1 failed",
    ]
