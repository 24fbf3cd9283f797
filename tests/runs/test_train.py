"""A run from its config to its report: what it writes, how it resumes, what stops it."""

import csv
import fcntl
import json
import os
import shutil
import signal
import time
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
import small_runs as runs

from jtl.data import folder, images
from jtl.devices import runtime, sharding
from jtl.errors import UserError
from jtl.records import workdir
from jtl.records.log import read_metrics
from jtl.runs import page, prepare, train
from jtl.training import execution

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train.run(runs.config(data), folder) == 0
    return folder


def test_a_run_writes_its_files(finished) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "config.json",
        "manifest.json",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "checkpoints",
        "model.safetensors",
        "predictions.csv",
    }


def test_the_summary_holds_every_metric_with_its_interval(finished) -> None:
    summary = workdir.summary(finished)
    assert summary["method"] == "dann" and summary["seed"] == 0 and summary["steps"] == 40
    assert summary["train_seconds"] > 0 and summary["examples_per_second"] > 0
    # Of a process that has imported jax, and in bytes; a CPU counts no memory of its own.
    assert list(summary["peak_memory"]) == ["host"]
    assert 2**27 < summary["peak_memory"]["host"] < os.sysconf("SC_PHYS_PAGES") * 2**16
    for split in ("source_test", "target_test"):
        assert list(summary[split]) == [
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "ece",
            "log_loss",
        ]
        for interval in summary[split].values():
            assert list(interval) == ["value", "low", "high"]
    assert summary["target_test"]["accuracy"]["value"] > 0.8


def test_the_manifest_names_what_the_run_was_made_with(finished) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["seed"] == 0 and "cpu" in manifest["device"]
    assert manifest["packages"]["jax"] == jax.__version__
    assert all(len(checksum) == 64 for checksum in manifest["data"].values())
    assert len(manifest["data"]) == 4


def test_metrics_come_in_order_and_once(finished) -> None:
    records = read_metrics(finished / "metrics.jsonl")
    by_split = {}
    for record in records:
        by_split.setdefault(record["split"], []).append(record["step"])
    assert by_split["train"] == [20, 40]
    assert by_split["source_test"] == by_split["target_test"] == [0, 20, 40]
    assert by_split["validators"] == [0, 20, 40]
    last = [record["values"] for record in records if record["split"] == "train"][-1]
    assert set(last) == {"loss", "task", "domain", "gradient_norm", "seconds"}


def test_the_report_stands_alone(data, tmp_path, monkeypatch, without_pictures) -> None:
    monkeypatch.setattr(page, "pictures", without_pictures)
    assert train.run(runs.config(data), tmp_path) == 0
    written = (tmp_path / "report.html").read_text()
    assert written.count("data:image/png;base64,") >= 4
    assert 'src="http' not in written and "<script" not in written


def test_a_first_start_that_fails_leaves_the_folder_free(data, tmp_path):
    with pytest.raises(UserError, match="write features:6"):
        wrong = runs.config(data)
        wrong.model.backbone = "features:7"
        train.run(wrong, tmp_path)
    assert train.run(runs.config(data, steps=2, eval_every=2, checkpoint_every=2), tmp_path) == 0


def test_data_that_changed_is_refused_when_a_run_goes_on(data, finished, tmp_path):
    here = tmp_path / "data"
    shutil.copytree(data, here)
    assert train.run(runs.config(here), tmp_path / "run") == 0
    (tmp_path / "run" / "summary.json").unlink()
    runs.write_domain(here / "source.npz", shift=0.1, seed=9)
    with pytest.raises(UserError, match=r"source training.* changed since the run began"):
        train.run(runs.config(here), tmp_path / "run")


def test_a_config_that_comes_from_elsewhere_is_checked_too(data, tmp_path):
    made = runs.config(data)
    made.method.strenght = 2.0
    with pytest.raises(UserError, match=r"method.strenght: dann has no .* did you mean strength"):
        train.run(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parameters_that_break_after_a_finite_loss_are_not_saved(data, tmp_path):
    made = runs.config(data, steps=2, eval_every=1, checkpoint_every=1)
    made.optimizer.learning_rate = 1e38
    with pytest.raises(UserError, match=r"step \d: not finite .*checkpoint: none"):
        train.run(made, tmp_path)


def test_a_run_that_saved_nothing_leaves_its_folder_to_a_mended_config(data, tmp_path):
    made = runs.config(data, steps=2, eval_every=1, checkpoint_every=2)
    made.optimizer.learning_rate = 1e38
    with pytest.raises(UserError, match=r"not finite .* set optimizer\.clip$"):
        train.run(made, tmp_path)
    made.optimizer.learning_rate = 0.01
    assert train.run(made, tmp_path) == 0
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["optimizer"]["learning_rate"] == 0.01
    steps = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["split"] == "train"]
    assert steps == [1, 2]


def test_a_finished_run_prints_its_summary_and_stops(finished, data, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert train.run(runs.config(data), finished) == 0
    assert "target accuracy" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    del before[finished / ".lock"], after[finished / ".lock"]
    assert after == before


def test_a_changed_config_is_refused_with_the_difference(finished, data) -> None:
    with pytest.raises(UserError, match=r"steps: 40 there, 60 here"):
        train.run(runs.config(data, steps=60), finished)


def test_a_folder_that_holds_no_run_is_left_alone(data, tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"holds thesis.tex but no run"):
        train.run(runs.config(data), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.tex"]


def test_two_processes_do_not_share_a_folder(data, tmp_path) -> None:
    with (tmp_path / workdir.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # not this process's, as far as the next one to ask knows
        with pytest.raises(UserError, match="another process"):
            train.run(runs.config(data), tmp_path)


def test_target_labels_are_never_read_in_training(data, finished, tmp_path) -> None:
    shuffled = np.random.default_rng(1).permutation(120).astype(np.int32) % runs.CLASSES
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(data / "source.npz", folder)
    runs.write_domain(folder / "target.npz", shift=0.4, seed=len("target"), labels=shuffled)
    assert train.run(runs.config(folder), tmp_path / "run") == 0
    expected, found = runs.model(finished), runs.model(tmp_path / "run")
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)
    scores = [
        [r["values"] for r in read_metrics(folder / "metrics.jsonl") if r["split"] == "validators"]
        for folder in (finished, tmp_path / "run")
    ]
    assert scores[0] == scores[1]  # nor when a checkpoint is judged
    accuracy = workdir.summary(tmp_path / "run")["target_test"]["accuracy"]["value"]
    assert accuracy < 0.6  # the labels did change


def test_an_unlabelled_target_is_adapted_to_and_not_scored(data, tmp_path) -> None:
    shutil.copy(data / "source.npz", tmp_path)
    with np.load(data / "target.npz") as arrays:
        np.savez(tmp_path / "target.npz", inputs=arrays["inputs"])
    assert train.run(runs.config(tmp_path), tmp_path / "run") == 0
    summary = workdir.summary(tmp_path / "run")
    assert "source_test" in summary and "target_test" not in summary
    assert "have no labels, so they have no score" in (tmp_path / "run/report.html").read_text()
    with (tmp_path / "run/predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == "target"]
    assert len(rows) == 30 and {row["label"] for row in rows} == {""}


def test_an_oracle_needs_target_labels(data, tmp_path) -> None:
    shutil.copy(data / "source.npz", tmp_path)
    with np.load(data / "target.npz") as arrays:
        np.savez(tmp_path / "target.npz", inputs=arrays["inputs"])
    made = runs.config(tmp_path)
    made.method = {"name": "target_supervised"}
    with pytest.raises(UserError, match=r"needs labels of data\.target"):
        train.run(made, tmp_path / "run")


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_eight_devices_train_the_model_of_one(
    data, finished, tmp_path, monkeypatch, one_device, parallel
) -> None:
    monkeypatch.setattr(sharding, "mesh", one_device)
    assert train.run(runs.config(data, parallel=parallel), tmp_path / "run") == 0
    expected, found = runs.model(finished), runs.model(tmp_path / "run")
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=2e-5, atol=2e-6, err_msg=name)


def test_batches_in_parts_train_the_model_of_whole_ones(data, finished, tmp_path) -> None:
    assert train.run(runs.config(data, accumulate=4), tmp_path / "run") == 0
    expected, found = runs.model(finished), runs.model(tmp_path / "run")
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("shard", [".*", r"discriminator/.*"])
def test_a_state_in_parts_trains_the_same_model_and_goes_on(
    data, finished, tmp_path, monkeypatch, one_device, shard
) -> None:
    """Stopped half way, its checkpoint holds the parts, and each device gets its own again."""
    monkeypatch.setattr(sharding, "mesh", one_device)
    made, folder = runs.config(data, shard=shard), tmp_path / "run"
    seen = []

    def stop(signal: int, seconds: float) -> tuple[float, float]:
        return (15 if len(seen) == 1 else signal), seconds

    def advancing(run: Any, *rest: Any) -> Any:
        advance = whole_advance(run, *rest)

        def watched(state: Any, *stretch: Any) -> Any:
            seen.append(state)
            parts = {leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state)}
            assert parts == {True, False}
            split = state.params["discriminator"]["first"]["kernel"]
            kept = [leaf for leaf in jax.tree.leaves(state.optimizer) if leaf.shape == split.shape]
            assert kept and all(leaf.sharding == split.sharding for leaf in kept)
            assert {piece.data.size * 8 for piece in split.addressable_shards} == {split.size}
            return advance(state, *stretch)

        return watched

    whole_advance = train._advance
    monkeypatch.setattr(train, "_advance", advancing)
    with monkeypatch.context() as once:
        once.setattr(runtime, "largest", stop)
        assert train.run(made, folder) == 128 + 15
    assert train.run(made, folder) == 0
    expected, found = runs.model(finished), runs.model(folder)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=2e-5, atol=2e-6, err_msg=name)


def test_a_pattern_that_shares_nothing_is_refused(data, tmp_path) -> None:
    with pytest.raises(UserError, match=r"shard: 'none/.*' matches no parameter"):
        train.run(runs.config(data, shard="none/.*"), tmp_path / "run")
    with pytest.raises(UserError, match="shard: under pmap every device holds all"):
        train.run(runs.config(data, shard=".*", parallel="pmap"), tmp_path / "run")


def test_a_batch_that_devices_cannot_share_is_refused(
    data, tmp_path, monkeypatch, one_device
) -> None:
    monkeypatch.setattr(sharding, "mesh", one_device)
    with pytest.raises(UserError, match="batch_size 12 cannot be shared by 8 devices; use 16 or 8"):
        train.run(runs.config(data, batch_size=12), tmp_path)
    with pytest.raises(UserError, match="cannot be shared by 5 devices; use 20 or 15"):
        train.run(runs.config(data, devices=5), tmp_path)


def test_devices_that_are_not_there_are_refused(data, tmp_path, monkeypatch, one_device) -> None:
    monkeypatch.setattr(sharding, "mesh", one_device)
    with pytest.raises(UserError, match="devices is 9, and there are 8; lower it, or set 0 for"):
        train.run(runs.config(data, devices=9), tmp_path)


@pytest.mark.usefixtures("small_programs")
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_as_many_devices_are_used_as_the_config_says(
    data, finished, tmp_path, monkeypatch, one_device, parallel
) -> None:
    monkeypatch.setattr(sharding, "mesh", one_device)
    used, whole_advance = set(), train._advance

    def advancing(run: Any, *rest: Any) -> Any:
        advance = whole_advance(run, *rest)

        def watched(*stretch: Any) -> Any:
            state, terms = advance(*stretch)
            used.update(jax.tree.leaves(state)[0].sharding.device_set)
            return state, terms

        return watched

    monkeypatch.setattr(train, "_advance", advancing)
    made, folder = runs.config(data, parallel=parallel, devices=2), tmp_path / "run"
    assert train.run(made, folder) == 0
    assert used == set(jax.devices()[:2])
    assert workdir.manifest(folder)["device"] == "2 x cpu"
    said, alone = (workdir.summary(place)["target_test"] for place in (folder, finished))
    assert said["log_loss"]["value"] == pytest.approx(alone["log_loss"]["value"], rel=1e-4)
    expected, found = runs.model(finished), runs.model(folder)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=2e-5, atol=2e-6, err_msg=name)


def test_a_batch_larger_than_its_set_repeats_examples_and_says_so(data, tmp_path, capsys):
    made = runs.config(data, batch_size=96, steps=2, eval_every=2, checkpoint_every=2)
    assert train.run(made, tmp_path / "run") == 0
    assert "batch_size 96 is above its 90 training examples" in capsys.readouterr().out


def test_a_signal_stops_slow_steps_within_a_second(data, tmp_path, monkeypatch):
    """And not only where something is evaluated or saved next."""
    fast, stretches = execution.from_memory, []

    def slow(*given):
        advance = fast(*given)

        def advance_slowly(state, start, count):
            stretches.append((start, count))
            if start <= 6 < start + count:
                signal.raise_signal(signal.SIGTERM)
            time.sleep(0.3 * count)
            return advance(state, start, count)

        return advance_slowly

    monkeypatch.setattr(execution, "from_memory", slow)
    made = runs.config(data, steps=50, eval_every=50, checkpoint_every=50)
    assert train.run(made, tmp_path) == 128 + signal.SIGTERM
    (start, count) = stretches[-1]
    assert start <= 6 < start + count and max(count for _, count in stretches) <= 3
    saved = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert saved == [str(start + count)]
    assert [
        r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["split"] == "train"
    ] == [start + count]


def test_nothing_moves_unseen_between_host_and_device_while_training(data, tmp_path, monkeypatch):
    add = jax.jit(lambda x: x + 1)

    def careless(*given):
        return lambda *stretch: add(np.ones(3))

    monkeypatch.setattr(execution, "from_memory", careless)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train.run(runs.config(data), tmp_path)


def test_a_loss_that_is_not_finite_stops_and_names_step_and_checkpoint(data, tmp_path) -> None:
    made = runs.config(data, steps=60, eval_every=1, checkpoint_every=1)
    made.optimizer.schedule = "constant"
    made.optimizer.learning_rate = 1e12
    told = r"step \d+: not finite .*: .*loss.*checkpoint: step \d+; .*, in another --workdir$"
    with pytest.raises(UserError, match=told):
        train.run(made, tmp_path)


def test_a_partition_that_decides_nothing_is_refused(data, tmp_path) -> None:
    made = runs.config(data, partition=(("backbon/.*", "freeze"), (".*", "train")))
    with pytest.raises(UserError, match=r"backbon/\.\*"):
        train.run(made, tmp_path)


def test_vectors_have_no_backbone_and_rules_for_one_are_left_out(data, tmp_path) -> None:
    made = runs.config(data, steps=2, eval_every=2, checkpoint_every=2)
    made.partition = (("backbone/.*", "freeze"), *made.partition)
    assert made.model.backbone == "features:6"
    assert train.run(made, tmp_path) == 0


def test_vectors_of_another_width_are_refused(data, tmp_path) -> None:
    made = runs.config(data)
    made.model.backbone = "features:7"
    with pytest.raises(UserError, match="write features:6"):
        train.run(made, tmp_path)


def test_stages_unfreeze_and_resume_across_their_boundary(data, tmp_path) -> None:
    """Linear probe, then fine-tuning: the bottleneck moves only in the second stage."""
    made = runs.config(data, steps=40, eval_every=10, checkpoint_every=10)
    made.partition = (("bottleneck/.*", "freeze"), (".*", "train"))
    made.keep.latest = 4
    made.unfreeze = ((0.5, ((".*", "train"),)),)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.run(made, whole) == 0
    shutil.copytree(whole, parts)
    (parts / "summary.json").unlink()
    for step in ("30", "40"):  # what stays ends where the first stage does
        shutil.rmtree(parts / "checkpoints" / step)
    assert train.run(made, parts) == 0
    for name, leaf in runs.model(whole).items():
        np.testing.assert_array_equal(runs.model(parts)[name], leaf, err_msg=name)
    steps = [r["step"] for r in read_metrics(parts / "metrics.jsonl") if r["split"] == "train"]
    assert steps == sorted(set(steps))


def test_pictures_that_do_not_fit_in_memory_train_the_same_model(
    data, tmp_path, monkeypatch, capsys
):
    """And each is decoded once, though batches and evaluations read each several times."""
    assert train.run(runs.picture_config(data), tmp_path / "memory") == 0
    monkeypatch.setattr(folder, "load", partial(folder.load, memory_limit=0))
    monkeypatch.setenv("JTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JTL_CACHE_LIMIT", "1")
    decoded, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda *of: decoded.append(of[0]) or decode(*of))
    assert train.run(runs.picture_config(data), tmp_path / "stream") == 0
    assert "images are decoded once: " in capsys.readouterr().out
    places = {path: decoded.count(path) for path in decoded}
    # Threads may be at the same image at once, before either has kept it; kept nowhere, 59.
    assert len(places) == 24 and sum(places.values()) < 40
    expected, found = runs.model(tmp_path / "memory"), runs.model(tmp_path / "stream")
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-5, atol=1e-6, err_msg=name)
    summaries = [workdir.summary(tmp_path / name)["source_test"] for name in ("memory", "stream")]
    assert summaries[0]["accuracy"] == summaries[1]["accuracy"]


def test_frozen_blocks_run_once_and_train_the_same_model(data, tmp_path, capsys):
    """Training from stored activations equals training from pixels."""
    made = runs.picture_config(data, partition=(("backbone/.*", "freeze"), (".*", "train")))
    assert train.run(made, tmp_path / "stored") == 0
    assert "ran the 3 frozen blocks once" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "MEMORY_LIMIT", 24 * 128 * 4 - 1)
        assert train.run(made, tmp_path / "pixels") == 0
    assert "the 3 frozen blocks run at every step" in capsys.readouterr().out
    expected, found = runs.model(tmp_path / "pixels"), runs.model(tmp_path / "stored")
    assert list(found) == list(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-5, atol=1e-6, err_msg=name)
