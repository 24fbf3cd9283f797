"""What lies between the start and the end of training: in numbers, summary and report."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small_runs
import toys

from jtl import configuration, metrics
from jtl.configuration import checks
from jtl.errors import UserError
from jtl.methods.supervised import supervised
from jtl.models import lora
from jtl.models.chain import classifier
from jtl.partition import merge
from jtl.records import workdir
from jtl.runs import conclude, train
from jtl.runs.prepare import Run, prepare
from jtl.training import evaluate
from jtl.training.interpolation import between
from jtl.types import TrainState

pytestmark = pytest.mark.usefixtures("one_device")

ALPHA = 4.0
X = np.random.default_rng(0).normal(size=(16, toys.INPUTS)).astype(np.float32)


def on_the_way(start: Any, end: Any, fraction: float) -> Any:
    def mixed(a: Any, b: Any) -> np.ndarray:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return a + fraction * (b - a)

    return jax.tree.map(mixed, start, end)


def test_parameters_and_statistics_go_straight_from_the_start_to_the_end() -> None:
    made = toys.run("dann", stages=0, rules=toys.FROZEN_BACKBONE)
    start = made.start()
    end, _ = made.train(2, start)
    stats = jax.tree.map(lambda leaf: leaf + 1.0, end.stats)
    end = end._replace(stats=stats)
    whole = merge(start.params, start.frozen)
    del whole["discriminator"]  # it is the method's, no part of the classifier
    for fraction in (0.0, 0.25, 1.0):
        found = between((whole, start.stats), end, fraction, alpha=1.0)
        trained = {**merge(end.params, end.frozen)}
        del trained["discriminator"]
        assert toys.difference(on_the_way(whole, trained, fraction), found.params) < 1e-6
        assert toys.difference(on_the_way(start.stats, stats, fraction), found.stats) < 1e-6
        assert found.frozen == {}


def test_low_rank_leaves_are_merged_before() -> None:
    blocks = lora.adapted(toys.dense_blocks(), rank=2, alpha=ALPHA, on="backbone/.*")
    made = toys.Run(toys.recipe(supervised(), model=classifier(blocks)))
    start = made.start()
    end, _ = made.train(3, start)
    plain = classifier(toys.dense_blocks())
    ends = [lora.merged(state.params, alpha=ALPHA) for state in (start, end)]
    for fraction in (0.0, 0.5, 1.0):
        state = between((start.params, {}), end, fraction, alpha=ALPHA)
        found, _ = made.recipe.model.apply(state.params, {}, X, train=False, rng=None)
        params = jax.tree.map(np.float32, on_the_way(ends[0], ends[1], fraction))
        expected, _ = plain.apply(params, {}, X, train=False, rng=None)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-5)


def config(folder: Path, **changes: Any) -> Any:
    made = small_runs.config(folder, **changes)
    made.method = {"name": "supervised"}
    return configuration.complete(made, "test")


def first_state(run: Run) -> TrainState:
    return run.stages[0].training.init(run.config.seed, run.hyper, run.net.start())


@pytest.fixture
def again(tmp_path: Path) -> Any:
    """The config of a run that starts from the model of another."""
    first = prepare(config(tmp_path), tmp_path)
    conclude.write_model(first, first_state(first))
    made = config(tmp_path, seed=1, steps=4, eval_every=4, checkpoint_every=4)
    made.model.initial = str(tmp_path)
    made.interpolate = (0, 0.5, 1)
    return made


def test_each_fraction_is_scored_on_both_test_sets(again: Any, tmp_path: Path) -> None:
    run = prepare(again, tmp_path)
    start = first_state(run)
    end = start._replace(params=jax.tree.map(lambda leaf: leaf + 0.3, start.params))
    predict = evaluate.predictor(run.net.trained)
    points = conclude.interpolated(run, end, predict)["interpolation"]
    assert [point["fraction"] for point in points] == [0.0, 0.5, 1.0]
    for point, state in ((points[0], start), (points[2], end)):
        for split in ("source_test", "target_test"):
            examples = getattr(run.stored, split)
            said = predict(state, examples).probabilities
            expected = metrics.summarize(said, examples.labels)
            assert point[split]["log_loss"]["value"] == pytest.approx(
                expected["log_loss"]["value"], rel=1e-5
            )
    losses = [point["source_test"]["log_loss"]["value"] for point in points]
    assert len(set(losses)) == 3
    again.interpolate = ()
    assert conclude.interpolated(prepare(again, tmp_path), end, predict) == {}


def test_a_run_writes_the_curve_and_leaves_the_model_of_its_end(again: Any, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    assert train.run(again.lock(), folder) == 0
    summary = json.loads((folder / workdir.SUMMARY).read_text())
    last = summary["interpolation"][-1]
    assert last == {"fraction": 1.0} | {k: summary[k] for k in ("source_test", "target_test")}
    assert summary["interpolation"][0] != last
    assert "On the way from the start to the end" in (folder / workdir.REPORT).read_text()
    left, began = small_runs.model(folder), small_runs.model(tmp_path)
    assert any(not np.array_equal(left[name], began[name]) for name in left)


def test_a_way_needs_a_start_and_fractions_that_rise(again: Any) -> None:
    checks.check(again)
    for fractions in ((0.5, 0.2), (0.5, 0.5), (-0.1, 1), (0, 2), ("half",), (True,)):
        again.interpolate = fractions
        with pytest.raises(UserError, match=r"interpolate: expected rising fractions from 0 to 1"):
            checks.check(again)
    again.interpolate, again.model.initial = (0.5,), ""
    with pytest.raises(UserError, match=r"interpolate: the way starts at .* set model\.initial"):
        checks.check(again)
