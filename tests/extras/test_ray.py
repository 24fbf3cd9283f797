"""A study as tasks of Ray, on this machine; tools/parity.sh has an environment with Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_runs as runs

from jtl.records import workdir
from jtl.studies import status, study, workers


@pytest.mark.usefixtures("one_device")
def test_a_study_on_ray_has_the_numbers_of_one_worker_and_starts_as_many_as_it_is_told(
    tmp_path: Path, root: Path
) -> None:
    import ray

    assert ray.__version__
    file, folder, data = tmp_path / "question.py", tmp_path / "study", tmp_path / "data"
    data.mkdir()
    assert workers.run(runs.study(data), tmp_path / "alone") == 0
    lines = ["import pathlib, small_runs", "def study():"]
    lines += [f"    return small_runs.study(pathlib.Path({str(data)!r}))", ""]
    file.write_text("\n".join(lines))
    told = {"PYTHONPATH": f"{root}:{root / 'tests'}", "RAY_USAGE_STATS_ENABLED": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "jtl", str(file), "--workdir", str(folder), "--workers=ray:2"],
        env=os.environ | told,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (folder / study.TABLE).read_text() == (tmp_path / "alone" / study.TABLE).read_text()
    said = [(folder / workers.LOGS / f"{number}.log").read_text() for number in (1, 2)]
    assert all("at once" in text for text in said)  # both have made some
    assert any("2 at once: supervised-seed0, supervised-seed1" in text for text in said)
    for each in status.Watch(folder).look():
        one, other = (
            workdir.summary(place / "runs" / each.name)["target_test"]["log_loss"]["value"]
            for place in (folder, tmp_path / "alone")
        )
        assert one == pytest.approx(other, rel=1e-4), each.name
