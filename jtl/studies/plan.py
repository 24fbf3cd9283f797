"""The runs of a study: their configs and folders, and which of them can be made now."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from jtl import configuration
from jtl.configuration import checks
from jtl.errors import UserError
from jtl.records import workdir
from jtl.records.manifest import write_json
from jtl.studies import lanes, status
from jtl.studies.study import Key, Study


class Planned(NamedTuple):
    """A run of a study.

    Attributes:
      key, seed: that tell it from the others.
      config: whole and checked.
      place: its folder.
      initial: that of the run whose model it starts from, if the study makes it.
      keeps_model: whether others start from it.
      program: what it has in common with those that it can be trained with.
    """

    key: Key
    seed: int
    config: ConfigDict
    place: Path
    initial: Path | None
    keeps_model: bool
    program: str

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.place.name


@dataclass(frozen=True)
class Plan:
    """The runs of a study, in the order of their keys and seeds, and the folder of the study."""

    folder: Path
    runs: Sequence[Planned]

    def unfinished(self) -> list[Planned]:
        """Those that have come to no end, good or bad."""
        return [run for run in self.runs if workdir.summary(run.place) is None]


def plan(study: Study, folder: Path) -> Plan:
    """Plans a study, and writes down which runs it has.

    Raises:
      UserError: a config is wrong, or the folder of a run holds another one.
    """

    def place(key: Key, seed: int) -> Path:
        return folder / "runs" / "-".join((*key, f"seed{seed}"))

    kept, runs = set(study.initial.values()), []
    for key in study.keys:
        for seed in study.seeds:
            where = place(key, seed)
            initial = place(study.initial[key], seed) if key in study.initial else None
            config = _complete(study.config(*key, seed=seed), where.name, initial)
            workdir.check_config(where, config.to_dict())
            program = f"{key in kept} {lanes.program_of(config)}"
            runs.append(Planned(key, seed, config, where, initial, key in kept, program))
    _record(folder, runs)
    return Plan(folder, runs)


def complete(config: ConfigDict, name: str) -> ConfigDict:
    """The whole config of a run that the study only needs."""
    return _complete(config, name, None)


def _complete(config: ConfigDict, name: str, initial: Path | None) -> ConfigDict:
    whole = configuration.complete(config, name)
    checks.check(whole, initial_follows=initial is not None)
    if initial is not None:
        with whole.unlocked():
            whole.model.initial = str(initial)
    return whole.lock()


def _record(folder: Path, runs: Sequence[Planned]) -> None:
    """Writes which runs there are, for who looks on, unless it is written."""
    listed = {
        "runs": [
            {"name": run.name, "key": "/".join(run.key), "steps": run.config.steps} for run in runs
        ]
    }
    file = folder / status.PLAN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists() or json.loads(file.read_text()) != listed:
            write_json(file, listed)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give another --workdir") from None
