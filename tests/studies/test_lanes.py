"""Runs trained together end as they do one by one."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small_runs as runs
from ml_collections import ConfigDict

from jtl.configuration import complete
from jtl.devices import memory, sharding
from jtl.records import workdir
from jtl.records.log import read_metrics
from jtl.runs import conclude, train
from jtl.runs.prepare import Run, Shared, prepare
from jtl.studies import chunk, lanes
from jtl.studies.lanes import SHARE_OF_MEMORY, Program
from jtl.studies.pool import pool
from jtl.training import evaluate

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

STEPS = 24


def variants(folder: Path) -> list[ConfigDict]:
    """Runs that differ in all that lanes may differ in, and pass through two stages."""
    made = []
    for index, (seed, split, strength) in enumerate([(0, 0, 1.0), (3, 0, 0.3), (3, 1, 1.0)]):
        config = runs.config(folder, steps=STEPS, eval_every=8)
        config.seed, config.data.split_seed = seed, split
        config.method.strength = strength
        config.optimizer.learning_rate = 0.01 * (index + 1)
        config.partition = (("bottleneck/.*", "freeze"), (".*", "train"))
        config.unfreeze = ((0.5, ((".*", "train"),)),)
        made.append(complete(config, "test").lock())
    return made


def together(configs: list[ConfigDict], folder: Path) -> list[Run]:
    """Trains all of them as lanes."""
    shared = Shared()
    prepared = [prepare(c, folder / f"lane{i}", shared) for i, c in enumerate(configs)]
    program, predict = (
        Program(prepared[0], len(prepared)),
        evaluate.predictor(prepared[0].net.trained),
    )
    for begin in range(0, len(prepared), program.lanes):
        part = prepared[begin : begin + program.lanes]
        assert chunk.train(program, part, predict, keep_models=True) == 0
    return prepared


def assert_ends_of_separate_runs(folder: Path, made: list[Run]) -> None:
    for index, lane in enumerate(made):
        alone = folder / f"alone{index}"
        assert train.run(lane.config, alone) == 0
        expected, found = runs.model(alone), runs.model(lane.folder)
        assert expected.keys() == found.keys()
        for name, leaf in expected.items():
            np.testing.assert_allclose(found[name], leaf, rtol=1e-5, atol=1e-6, err_msg=name)
        for split in ("source_test", "target_test"):
            one, other = (workdir.summary(f)[split] for f in (alone, lane.folder))
            assert one["accuracy"] == other["accuracy"]
            np.testing.assert_allclose(one["log_loss"]["value"], other["log_loss"]["value"], 1e-4)


def test_mapped_lanes_on_eight_devices_end_as_separate_runs_on_one(
    tmp_path: Path, one_device: Callable[..., Any]
) -> None:
    configs = variants(tmp_path)
    assert len({lanes.program_of(config) for config in configs}) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "mesh", one_device)
        made = together(configs, tmp_path)
    assert_ends_of_separate_runs(tmp_path, made)


def test_convolutions_are_run_in_turn_and_end_as_separate_runs(tmp_path: Path) -> None:
    configs = []
    for seed in (0, 1):
        config = runs.config(tmp_path, steps=3, eval_every=3, batch_size=8)
        draw = np.random.default_rng(0)
        for name in ("source", "target"):
            images = draw.integers(0, 256, (40, 8, 8, 1), np.uint8)
            np.savez(tmp_path / f"{name}.npz", inputs=images, labels=np.arange(40) % 4)
        config.model.backbone, config.model.image_size = "random:digits-convnet", 8
        config.seed = seed
        configs.append(complete(config, "test").lock())
    program = Program(prepare(configs[0], tmp_path), len(configs))
    assert program.lanes == 1
    assert_ends_of_separate_runs(tmp_path, together(configs, tmp_path))


def test_a_run_whose_loss_is_not_finite_fails_alone(tmp_path: Path) -> None:
    configs = variants(tmp_path)
    with configs[1].unlocked():
        configs[1].optimizer.learning_rate = 1e30
    made = together(configs, tmp_path)
    summaries = [workdir.summary(run.folder) for run in made]
    assert [workdir.FAILED in summary for summary in summaries] == [False, True, False]
    assert "not finite at step" in summaries[1][workdir.FAILED]
    assert not (made[1].folder / "model.safetensors").exists()


def test_a_signal_while_results_are_written_stops_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study then begins no other runs."""
    write = conclude.write_target_probabilities

    def signalled(*given: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        write(*given)

    monkeypatch.setattr(conclude, "write_target_probabilities", signalled)
    config = complete(runs.config(tmp_path, steps=1, eval_every=1), "test").lock()
    prepared = prepare(config, tmp_path / "lane", Shared())
    program, predict = Program(prepared, 1), evaluate.predictor(prepared.net.trained)
    assert chunk.train(program, [prepared], predict, keep_models=True) == 128 + signal.SIGTERM
    assert workdir.summary(prepared.folder) is not None


def test_parameters_that_break_after_a_finite_loss_are_no_result(tmp_path: Path) -> None:
    config = runs.config(tmp_path, steps=1, eval_every=1)
    config.optimizer.learning_rate = 1e38
    (made,) = together([complete(config, "test").lock()], tmp_path)
    assert (
        workdir.summary(made.folder)[workdir.FAILED] == "the parameters were not finite at step 1"
    )


def test_lanes_start_each_from_a_run_of_its_own(tmp_path: Path) -> None:
    configs = variants(tmp_path)[:2]
    made = together(configs, tmp_path / "first")
    for config, run in zip(configs, made, strict=True):
        with config.unlocked():
            config.model.initial = str(run.folder)
    assert len({lanes.program_of(config) for config in configs}) == 1
    assert_ends_of_separate_runs(tmp_path, together(configs, tmp_path))
    one, other = (prepare(config, tmp_path).net for config in configs)
    for path, leaf in runs.model(made[0].folder).items():
        kind, *keys = path.split("/")
        start = one.initial[0 if kind == "params" else 1]
        for key in keys:
            start = start[key]
        np.testing.assert_array_equal(start, leaf)
    assert one.weights.keys() == {f"run:{made[0].folder}"} != other.weights.keys()


def test_a_lane_logs_the_scores_of_a_run(tmp_path: Path) -> None:
    config = variants(tmp_path)[0]
    (made,) = together([config], tmp_path)
    assert train.run(config, tmp_path / "alone") == 0
    splits = ("source_test", "target_test")
    found, expected = (
        [r for r in read_metrics(folder / workdir.METRICS) if r["split"] in splits and r["step"]]
        for folder in (made.folder, tmp_path / "alone")
    )
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    for one, other in zip(found, expected, strict=True):
        for name in one["values"]:
            np.testing.assert_allclose(one["values"][name], other["values"][name], rtol=1e-4)


def test_other_strengths_are_the_same_program_and_other_shapes_are_not(tmp_path: Path) -> None:
    config = variants(tmp_path)[0]
    for key, value in {"method.width": 4, "batch_size": 8, "batch_norm": "frozen"}.items():
        other = ConfigDict(config.to_dict())
        other.update_from_flattened_dict({key: value})
        assert lanes.program_of(other) != lanes.program_of(config), key


def test_as_many_lanes_are_trained_as_the_compiled_program_fits_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own numbers are the oracle: no fewer lanes than fit, and no more."""
    config = runs.config(tmp_path, eval_every=2, checkpoint_every=2)
    prepared = prepare(complete(config, "test").lock(), tmp_path)
    program = Program(prepared, 4)
    two, four = (program._needed(prepared, count) for count in (2, 4))
    state = jax.tree.leaves(lanes._shapes_of_one(prepared)[0])
    assert four - two > 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in state)
    for free, fitting in [(four, 4), (four - 1, 2), (1, 1)]:
        monkeypatch.setattr(memory, "free", lambda devices, free=free: free / SHARE_OF_MEMORY)
        assert program._fitting(prepared, 4) == fitting


def test_lanes_have_a_core_each_where_cores_are_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_device: Callable[..., Any]
) -> None:
    """But for examples of which not every core can have a copy, and for runs that take turns."""
    monkeypatch.setattr(sharding, "mesh", one_device)
    configs = [complete(runs.config(tmp_path, devices=1, seed=seed), "test") for seed in range(6)]
    prepared = [prepare(config, tmp_path) for config in configs]
    like, same = prepared[0], partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    alone = lanes.Lanes(Program(like, 1), prepared[4:5])
    alone.advance(0, 2)
    for size in (lanes.TOGETHER, 0):  # together at each core, or one after another
        monkeypatch.setattr(lanes, "TOGETHER", size)
        program = Program(like, 6, cores=4)
        assert (program.devices.size, program.lanes) == (3, 6)
        made = lanes.Lanes(program, prepared)
        made.advance(0, 2)
        jax.tree.map(same, made.state(4), alone.state(0))
    examples = np.zeros(250, np.float32)
    monkeypatch.setattr(memory, "free", lambda devices: 1000 / SHARE_OF_MEMORY)
    assert [lanes._cores(n, 8, examples) for n in (1, 3, 8, 10, 16)] == [1, 3, 8, 5, 8]
    assert lanes._cores(16, 8, np.zeros(251, np.float32)) == 1
    monkeypatch.setattr(lanes, "APART", 0)
    program = Program(like, 3, cores=8)
    assert (program.lanes, program.devices.size) == (1, 1)
    taking_turns = lanes.Lanes(program, prepared[4:5])
    taking_turns.advance(0, 2)
    jax.tree.map(same, taking_turns.state(0), alone.state(0))


def test_memory_is_what_the_machine_and_the_job_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_device: Callable[..., Any]
) -> None:
    whole, job = memory.of_host(), tmp_path / "slurm" / "job"
    assert 0 < whole < 2**50
    (job / "step").mkdir(parents=True)
    for group, most in ((job, "3000000"), (job / "step", "max")):
        (group / "memory.max").write_text(f"{most}\n")
        (group / "memory.current").write_text("1000000\n")
    (tmp_path / "own").write_text("0::/slurm/job/step\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "own")
    assert memory.of_host() == memory.free(sharding.mesh()) == 2_000_000
    monkeypatch.setenv(memory.NEIGHBOURS, "4")
    assert memory.free(sharding.mesh()) == memory.free(one_device()) * 8 == 500_000


@pytest.mark.parametrize(
    ("count", "fitting", "devices", "expected"),
    [(15, 100, 1, 15), (15, 10, 1, 8), (3, 100, 8, 8), (17, 1, 8, 8), (1, 1, 1, 1)],
)
def test_chunks_are_few_and_of_one_size(
    count: int, fitting: int, devices: int, expected: int
) -> None:
    assert lanes.lanes_of_a_chunk(count, fitting, devices) == expected


def test_a_pool_holds_every_example_once_and_knows_whose_it_is(tmp_path: Path) -> None:
    prepared = [prepare(config, tmp_path) for config in variants(tmp_path)]
    parts = [run.labelled for run in prepared]
    together = pool(parts)
    assert len(together.inputs) == len(np.unique(together.inputs, axis=0)) < sum(map(len, parts))
    for part, places in zip(parts, together.places, strict=True):
        np.testing.assert_array_equal(together.inputs[places], part.inputs)
        np.testing.assert_array_equal(together.labels[places], part.labels)
