"""The studies: no method is left out, and each run's config is one that can be."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from jtl import configuration
from jtl.catalogue import METHODS
from jtl.configuration import checks

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
BASELINES = {"supervised", "target_supervised"}


def experiment(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXPERIMENTS / f"{name}.py"))


def test_every_method_of_adaptation_is_compared() -> None:
    adapting = {name for name, entry in METHODS.items() if entry.target} - BASELINES
    assert adapting <= set(experiment("uda_benchmark")["methods"]())


def test_every_method_of_fine_tuning_is_compared() -> None:
    fine_tuning = {name for name, entry in METHODS.items() if not entry.target} - BASELINES
    assert fine_tuning <= experiment("fine_tuning_benchmark")["METHODS"].keys()


@pytest.mark.parametrize("name", sorted(path.stem for path in EXPERIMENTS.glob("*.py")))
def test_every_config_of_a_study_can_be(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = experiment(name)["study"]()
    monkeypatch.chdir(tmp_path)
    for folder in study.needs:
        place = tmp_path / folder
        place.mkdir(parents=True)
        for file in ("summary.json", "model.safetensors"):
            (place / file).write_text("{}")  # as if that run were finished
    for key in study.keys:
        config = configuration.complete(study.config(*key, seed=study.seeds[-1]), "/".join(key))
        checks.check(config, initial_follows=key in study.initial)
        assert config.seed == study.seeds[-1]
