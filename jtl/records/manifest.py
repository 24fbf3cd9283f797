"""What a run was made with: versions, commit, machine, seed, weights and data by checksum."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from jtl.records.atomic import replacing

PACKAGES = ("jtl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def manifest(
    *,
    seed: int,
    device: str,
    weights: Mapping[str, str],
    data: Mapping[str, str],
    started: datetime | None = None,
) -> dict[str, Any]:
    """Describes a run well enough to repeat it.

    Args:
      seed: of the run.
      device: in words, as "2 x cpu" or "1 x NVIDIA H100"; jax is not asked, so that this can be
        written by a process that never started it.
      weights: names to sha256 in hex.
      data: likewise.
      started: when the run began; now by default.

    Returns:
      A dictionary that :func:`write_json` takes. ``git`` is None outside a checkout; ``packages``
      holds None for a package that is not installed.
    """
    moment = (started or datetime.now(UTC)).astimezone(UTC)
    return {
        "started": moment.isoformat(timespec="seconds"),
        "command": list(sys.orig_argv),
        "seed": seed,
        "device": device,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(Path(__file__).parent),
        "weights": dict(weights),
        "data": dict(data),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """``{"commit", "dirty"}`` of the checkout that tracks this folder; None where there is none.

    Untracked files do not make a checkout dirty. An installed package inside someone else's
    checkout (a virtual environment, say) is not tracked there and gives None.
    """
    if _git(folder, "ls-files", "--error-unmatch", ".") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:  # a repository without a commit
        return None
    return {"commit": commit, "dirty": bool(changes)}


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes strict JSON, atomically: a reader sees the old file or the new one, never a part.

    NumPy and jax numbers become numbers, paths become strings, and a number that JSON does not
    have becomes "nan", "inf" or "-inf", which ``float`` reads back.
    """
    path = Path(path)
    text = json.dumps(_strict(value), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray) or hasattr(value, "__array__"):
        return _strict(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers, or None where it is absent, slow or refuses."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
