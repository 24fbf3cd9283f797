"""A study: its table and report, and that nothing finished is made again."""

import dataclasses
import json
import re
import signal
import time
from pathlib import Path

import jax
import pytest
import small_runs as runs

from jtl.errors import UserError
from jtl.records import workdir
from jtl.runs import train
from jtl.studies import study as studies
from jtl.studies import worker, workers

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

NAMES = ["dann-seed0", "dann-seed1", "supervised-seed0", "supervised-seed1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of a finished study."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    assert workers.run(runs.study(data), folder) == 0
    return folder


def written(folder: Path) -> dict[str, int]:
    """When each finished run was."""
    return {
        file.parent.name: file.stat().st_mtime_ns
        for file in sorted((folder / "runs").glob(f"*/{workdir.SUMMARY}"))
    }


def test_a_study_writes_its_table_its_results_and_its_report(finished) -> None:
    table = (finished / studies.TABLE).read_text()
    assert table.startswith("| method | target |\n|---|---|\n| dann | ")
    assert re.search(r"\| supervised \| \d+\.\d ± \d+\.\d \|\n$", table)
    results = json.loads((finished / studies.RESULTS).read_text())
    assert {key: list(by_seed) for key, by_seed in results.items()} == {
        "dann": ["0", "1"],
        "supervised": ["0", "1"],
    }
    page = (finished / workdir.REPORT).read_text()
    for words in ("Does it help?", "It does.", "Small.", "supervised"):
        assert words in page


def test_every_run_of_a_study_has_a_folder_of_its_own(finished) -> None:
    assert list(written(finished)) == NAMES
    for name in NAMES:
        summary = workdir.summary(finished / "runs" / name)
        assert f"{summary['method']}-seed{summary['seed']}" == name


def test_a_finished_study_makes_no_run_again(finished, data, monkeypatch) -> None:
    before = written(finished)
    monkeypatch.setattr(worker, "prepare", None)  # without which there is no run
    (finished / studies.TABLE).unlink()
    assert workers.run(runs.study(data), finished) == 0
    assert written(finished) == before
    assert (finished / studies.TABLE).exists()


def test_a_study_that_was_stopped_and_killed_makes_only_what_is_missing(data, tmp_path) -> None:
    """In a process of its own, stopped while it is at the second of its two methods."""
    file, folder = tmp_path / "study.py", tmp_path / "study"
    lines = ["import pathlib", "import small_runs", "def study():"]
    lines += [f"    return small_runs.study(pathlib.Path({str(data)!r}), steps=400)", ""]
    file.write_text("\n".join(lines))
    before = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = runs.Process(file, folder, words=("--workers=1",))
        metrics = folder / "runs" / NAMES[2] / workdir.METRICS
        began = metrics.stat().st_mtime_ns if metrics.exists() else 0
        while process.running() and not (
            metrics.exists()
            and metrics.stat().st_mtime_ns > began
            and '"train"' in metrics.read_text()
        ):
            time.sleep(0.002)
        process.send(number)
        code, output = process.end()
        assert code == (128 + number if number == signal.SIGTERM else -number), output
        assert ("begin again when the same command does" in output) == (code > 0)
        assert list(written(folder)) == NAMES[:2]
        assert not (folder / studies.TABLE).exists()
        before = before or written(folder)
    code, output = runs.Process(file, folder, words=("--workers=1",)).end()
    assert code == 0, output
    after = written(folder)
    assert list(after) == NAMES
    assert {name: after[name] for name in before} == before
    assert (folder / studies.TABLE).exists()


def test_what_the_others_start_from_is_made_first(data, tmp_path) -> None:
    study, base = runs.study(data), tmp_path / "base"

    def config(method: str, seed: int):
        made = study.config(method, seed)
        made.model.initial = str(base)  # a config that names a folder without a model is refused
        return made

    needing = dataclasses.replace(
        study,
        config=config,
        keys=study.keys[1:],
        needs={str(base): study.config("supervised", 9)},
    )
    assert workers.run(needing, tmp_path / "study") == 0
    assert workdir.summary(base)["seed"] == 9
    assert list(written(tmp_path / "study")) == NAMES[2:]
    assert f"run:{base}" in workdir.manifest(tmp_path / "study" / "runs" / NAMES[2])["weights"]


def test_a_stopped_need_stops_the_study_with_its_code(data, tmp_path, monkeypatch) -> None:
    study = runs.study(data)
    needing = dataclasses.replace(study, needs={str(tmp_path / "base"): study.config("dann", 9)})
    monkeypatch.setattr(train, "run", lambda config, folder: 143)
    assert workers.run(needing, tmp_path / "study") == 143
    assert not (tmp_path / "study").exists()


def test_a_failed_run_is_named_in_place_of_a_table_that_needs_it(data, tmp_path) -> None:
    study = runs.study(data)

    def config(method: str, seed: int):
        made = study.config(method, seed)
        made.optimizer.learning_rate = 1e38 if (method, seed) == ("supervised", 1) else 0.01
        return made

    failing = dataclasses.replace(study, config=config)
    with pytest.raises(UserError, match=r"no table, as supervised-seed1 failed: .* not finite"):
        workers.run(failing, tmp_path / "study")
    assert not (tmp_path / "study" / studies.TABLE).exists()
    assert workers.run(dataclasses.replace(failing, complete=False), tmp_path / "study") == 0
    results = json.loads((tmp_path / "study" / studies.RESULTS).read_text())
    assert list(results["supervised"]) == ["0"]


def test_a_study_in_a_job_is_refused(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="a study is no job of several processes"):
        workers.run(runs.study(data), tmp_path / "study")


def test_the_values_of_a_key_are_those_of_its_seeds(finished) -> None:
    key = ("dann",)
    summaries = {seed: workdir.summary(finished / "runs" / NAMES[seed]) for seed in (1, 0)}
    expected = [summaries[seed]["target_test"]["log_loss"]["value"] for seed in (0, 1)]
    assert expected[0] != expected[1]
    assert studies.values({key: summaries}, key, metric="log_loss") == expected
