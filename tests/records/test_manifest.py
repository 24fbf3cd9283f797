import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl.records.manifest import git_state, manifest, write_json


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    answer = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def described(**changes: Any) -> dict:
    given = {"seed": 3, "device": "2 x cpu", "weights": {"w": "ab"}, "data": {"d": "cd"}}
    return manifest(**{**given, **changes})


def test_versions_are_those_of_the_running_packages() -> None:
    packages = described()["packages"]
    assert packages["jax"] == jax.__version__
    assert packages["numpy"] == np.__version__
    assert {"jaxlib", "flax", "optax", "orbax-checkpoint", "jtl"} <= set(packages)


def test_what_is_given_is_kept() -> None:
    written = described()
    assert written["seed"] == 3 and written["device"] == "2 x cpu"
    assert written["weights"] == {"w": "ab"} and written["data"] == {"d": "cd"}
    assert written["command"] == sys.orig_argv


def test_the_start_is_in_universal_time() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))
    assert described(started=noon)["started"] == "2026-01-02T10:00:00+00:00"
    assert datetime.fromisoformat(described()["started"]).utcoffset() == timedelta(0)


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "untracked.txt").write_text("a run's output")
    assert git_state(checkout) == {"commit": commit, "dirty": False}


def test_a_changed_checkout_is_dirty(checkout: Path) -> None:
    (checkout / "a.py").write_text("2\n")
    state = git_state(checkout)
    assert state is not None and state["dirty"]


def test_no_checkout_is_no_commit(tmp_path: Path, checkout: Path) -> None:
    installed = checkout / "site-packages"
    installed.mkdir()
    (installed / "b.py").write_text("1\n")
    assert git_state(installed) is None
    assert git_state(tmp_path / "absent") is None


def test_a_repository_without_commit_is_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None


def test_json_is_strict_whatever_it_is_given(tmp_path: Path) -> None:
    value = {
        "numpy": np.float32(0.5),
        "jax": jnp.asarray(2),
        "array": np.arange(2),
        "path": Path("a/b"),
        "tuple": (1, None, True),
        "nan": float("nan"),
        "deep": [{"inf": np.float32("inf"), "minus": -float("inf")}],
        "name": "Smileys & Émotion",
    }
    write_json(tmp_path / "x.json", value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads((tmp_path / "x.json").read_text("utf-8"), parse_constant=refuse)
    assert read == {
        "numpy": 0.5,
        "jax": 2,
        "array": [0, 1],
        "path": "a/b",
        "tuple": [1, None, True],
        "nan": "nan",
        "deep": [{"inf": "inf", "minus": "-inf"}],
        "name": "Smileys & Émotion",
    }


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    monkeypatch.setattr("os.fsync", lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_manifest_can_be_written(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", described())
    assert json.loads((tmp_path / "manifest.json").read_text())["seed"] == 3
