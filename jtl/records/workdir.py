"""The folder of a run: whose it is, whether it is finished, and that one process writes in it."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jtl.errors import UserError
from jtl.records.manifest import write_json

CONFIG, MANIFEST, METRICS = "config.json", "manifest.json", "metrics.jsonl"
SUMMARY, REPORT, CHECKPOINTS = "summary.json", "report.html", "checkpoints"
TARGET_PROBABILITIES = "target_probabilities.npy"
PREDICTIONS = "predictions.csv"
FREE = ("devices",)
"""What decides nothing about a run, so that it may go on with another value."""
LOCK = ".lock"
FAILED = "failed"
"""In the summary, why a run came to no end."""

_held: set[Path] = set()


class TakenError(UserError):
    """Another process is working in a folder."""


@contextmanager
def claim(folder: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Makes the folder this run's own for as long as the process works in it, and no longer.

    Within it, this process may claim the folder again.

    Raises:
      TakenError: another process is working in it.
      UserError: it holds a run with another config (the difference is named) and results of it, or
        something that is no run.
    """
    if folder in _held:
        check_config(folder, config)
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give another --workdir") from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TakenError(
                f"{folder}: another process is working in it; wait, or give another --workdir"
            ) from None
        check_config(folder, config)
        _held.add(folder)
        try:
            yield
        finally:
            _held.remove(folder)


def is_taken(folder: Path) -> bool:
    """Whether a process works in the folder now, on whatever machine."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def begin(folder: Path, config: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Records what the run is and what it is made with, once all of it has been found in order.

    A run that saved nothing yet begins anew.

    Raises:
      UserError: the run goes on, and its data or weights are not those that it began with.
    """
    if not (folder / MANIFEST).exists() or not _has_results(folder):
        write_json(folder / MANIFEST, made_with)
        write_json(folder / CONFIG, config)
        return
    before = manifest(folder)
    for part in ("data", "weights"):
        old, new = before[part], made_with[part]
        changed = [name for name in sorted(old.keys() | new) if old.get(name) != new.get(name)]
        if changed:
            raise UserError(
                f"{folder}: {', '.join(changed)} changed since the run began, so it cannot go on; "
                "bring the old one back, or give another --workdir"
            )


def summary(folder: Path) -> dict[str, Any] | None:
    """What a finished run says of itself; None while it is not finished."""
    file = folder / SUMMARY
    return json.loads(file.read_text()) if file.exists() else None


def manifest(folder: Path) -> dict[str, Any]:
    """What the run was made with."""
    return json.loads((folder / MANIFEST).read_text())


def check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """That the folder holds no run with another config, and nothing else than a run.

    Raises:
      UserError: it does.
    """
    file = folder / CONFIG
    if not folder.exists():
        return
    if not file.exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise UserError(f"{folder} holds {others[0]} but no run; give another --workdir")
        return
    old, new = _flat(json.loads(file.read_text())), _flat(json.loads(json.dumps(config)))
    keys = sorted((old.keys() | new.keys()).difference(FREE))
    changed = [key for key in keys if old.get(key) != new.get(key)]
    if changed and _has_results(folder):
        shown = "; ".join(
            f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in changed
        )
        raise UserError(
            f"{folder} holds a run with another config ({shown}); give another --workdir, or "
            "remove that folder"
        )


def _has_results(folder: Path) -> bool:
    """Whether beginning anew would lose anything: a summary, or a checkpoint, damaged or not."""
    checkpoints = folder / CHECKPOINTS
    return (folder / SUMMARY).exists() or (checkpoints.exists() and any(checkpoints.iterdir()))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}.{key}" if prefix else key
        result |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return result
