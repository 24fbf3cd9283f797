"""Runs that start from another run's whole model, from the config to the file they leave."""

from pathlib import Path

import numpy as np
import pytest
import small_runs as runs
from ml_collections import ConfigDict

from jtl.configuration import complete
from jtl.errors import UserError
from jtl.partition import Rules, walk
from jtl.records import workdir
from jtl.runs import train
from jtl.runs.prepare import Shared, prepare
from jtl.studies import study, workers

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

NORM_ONLY = (("bottleneck/norm/.*", "train"), (".*", "freeze"))
BELOW_THE_HEAD = (("head/.*", "freeze"), (".*", "train"))
STATISTICS = {"stats/bottleneck/norm/mean", "stats/bottleneck/norm/var"}
AFFINE = {"params/bottleneck/norm/scale", "params/bottleneck/norm/bias"}


def config(folder: Path, method: str, *, norm: str = "batch", initial: str = "") -> ConfigDict:
    made = runs.config(folder, steps=6, eval_every=6, checkpoint_every=6)
    made.model.norm, made.model.initial = norm, initial
    made.method = {"name": method}
    return complete(made, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a finished source-only run in it."""
    folder = tmp_path_factory.mktemp("runs")
    assert train.run(config(folder, "supervised").lock(), folder / "source") == 0
    return folder


def changed_by(folder: Path, method: str, rules: Rules) -> set[str]:
    """Trains a method from the source-only run; returns what its model has otherwise."""
    made = config(folder, method, initial=str(folder / "source"))
    made.partition = rules
    assert train.run(made.lock(), folder / method) == 0
    before, after = runs.model(folder / "source"), runs.model(folder / method)
    assert before.keys() == after.keys()
    return {name for name, leaf in before.items() if not np.array_equal(leaf, after[name])}


def test_a_run_of_adabn_changes_the_statistics_of_the_model_and_nothing_else(folder: Path) -> None:
    assert changed_by(folder, "adabn", NORM_ONLY) == STATISTICS


def test_a_run_of_tent_changes_the_norms_and_nothing_else(folder: Path) -> None:
    assert changed_by(folder, "tent", NORM_ONLY) == STATISTICS | AFFINE


def test_a_run_of_shot_changes_all_below_the_head(folder: Path) -> None:
    changed = changed_by(folder, "shot", BELOW_THE_HEAD)
    assert changed == STATISTICS | AFFINE | {"params/bottleneck/dense/kernel"}


@pytest.mark.parametrize(
    ("norm", "rules"),
    [("layer", BELOW_THE_HEAD), ("batch", (("head/.*", "train"), (".*", "freeze")))],
    ids=["a layer norm", "a frozen batch norm"],
)
def test_adabn_without_a_batch_norm_in_training_is_an_error(
    norm: str, rules: Rules, folder: Path
) -> None:
    made = config(folder, "adabn", norm=norm)
    made.partition = rules
    with pytest.raises(UserError, match=r"adabn moves .* none trains; set model\.norm=batch"):
        prepare(made, folder)


def test_a_model_with_another_norm_does_not_fit(folder: Path) -> None:
    made = config(folder, "shot", norm="layer", initial=str(folder / "source"))
    with pytest.raises(UserError, match="bottleneck/norm/mean is not of this model"):
        prepare(made, folder)


def test_runs_of_one_process_share_no_start_across_norms(tmp_path: Path) -> None:
    shared = Shared()
    for norm, statistics in (("layer", 0), ("batch", 2)):
        made = prepare(config(tmp_path, "supervised", norm=norm), tmp_path, shared)
        assert len(list(walk(made.net.start()[1]))) == statistics


def test_a_study_makes_first_what_its_methods_adapt(folder: Path, tmp_path: Path) -> None:
    def of(method: str, seed: int) -> ConfigDict:
        made = config(folder, method)
        made.seed = seed
        return made

    asked = study.Study(
        question="Which?",
        protocol=[],
        config=of,
        keys=[("shot",), ("supervised",)],
        seeds=[3],
        conclude=lambda results: study.Findings("", [], [], []),
        initial={("shot",): ("supervised",)},
    )
    assert workers.run(asked, tmp_path) == 0
    adapted, base = (tmp_path / "runs" / f"{name}-seed3" for name in ("shot", "supervised"))
    assert f"run:{base}" in workdir.manifest(adapted)["weights"]
