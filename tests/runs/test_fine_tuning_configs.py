"""The configs of fine-tuning that are no methods: which leaves move, stage by stage."""

from pathlib import Path

import jax
import numpy as np
import pytest
import test_pretrained_head as small
from ml_collections import ConfigDict

from jtl import configuration
from jtl.partition import merge, walk
from jtl.runs.prepare import prepare
from jtl.training.step import repartition
from jtl.types import Batch, Labelled, Params

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

ROOT = Path(__file__).resolve().parents[2]
HEAD = {"head/dense/kernel", "head/dense/bias"}
BLOCKS = {
    "stage1": {"stage1/conv/kernel", "stage1/norm/scale", "stage1/norm/bias"},
    "stage2": {"stage2/conv/kernel", "stage2/norm/scale", "stage2/norm/bias"},
    "dense": {"dense/dense/kernel", "dense/norm/scale", "dense/norm/bias"},
}
BACKBONE = {f"backbone/{path}" for paths in BLOCKS.values() for path in paths}


def of(*blocks: str) -> set[str]:
    return {f"backbone/{path}" for block in blocks for path in BLOCKS[block]} | HEAD


LOW_RANK = {
    f"{path}_lora_{side}" for path in BACKBONE if path.endswith("kernel") for side in ("a", "b")
}
STAGES: dict[str, list[set[str]]] = {
    "digits_bitfit": [{path for path in BACKBONE if path.endswith("/bias")} | HEAD],
    "digits_lora": [LOW_RANK | HEAD],
    "digits_lp_ft": [HEAD, BACKBONE | HEAD],
    "digits_gradual": [
        HEAD,
        of("dense"),
        of("dense", "stage2"),
        of("dense", "stage2", "stage1"),
    ],
    "digits_lwf": [HEAD, BACKBONE | HEAD],
}


def on_small_digits(name: str, folder: Path) -> ConfigDict:
    """A shipped config, on a small backbone and a few images."""
    made, _ = configuration.load(str(ROOT / "configs" / f"{name}.py"))
    data = small.config(folder)
    with made.unlocked():
        made.data = data.data
        made.steps = made.batch_size = 8
    return made


def changed(before: Params, after: Params) -> set[str]:
    old = dict(walk(before))
    assert set(old) == {path for path, _ in walk(after)}
    moved = {path for path, leaf in walk(after) if not np.array_equal(leaf, old[path])}
    return {path for path in moved if not path.startswith("pretrained_head/")}


@pytest.mark.parametrize("name", STAGES)
def test_the_leaves_that_a_config_says_move_and_no_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    small.leave_run(tmp_path / "runs" / "digits_pretrain")
    monkeypatch.chdir(tmp_path)
    run = prepare(on_small_digits(name, tmp_path), tmp_path)
    examples = run.labelled
    batch = Batch(Labelled(examples.array()[:8], examples.known_labels()[:8]), None)
    state = run.stages[0].training.init(0, run.hyper, run.net.start())
    for number, (stage, expected) in enumerate(zip(run.stages, STAGES[name], strict=True)):
        if number:
            state = repartition(state, stage.training, run.hyper)
        before = merge(state.params, state.frozen)
        # Two steps: the first leaves the A of low-rank leaves where it is, as B is 0.
        step = jax.jit(stage.training.step)
        for _ in range(2):
            state, _ = step(state, batch, run.hyper)
        assert changed(before, merge(state.params, state.frozen)) == expected
