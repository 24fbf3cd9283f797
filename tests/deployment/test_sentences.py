"""Runs on texts and on tables, from a checkpoint in a folder to the report."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_runs as runs
import small_sentences
from ml_collections import ConfigDict

from jtl.configuration import complete
from jtl.defaults import defaults
from jtl.errors import UserError
from jtl.frozen import features
from jtl.records import workdir
from jtl.records.log import read_metrics
from jtl.runs import train
from jtl.runs.prepare import prepare
from jtl.training import evaluate

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentences")
    small_sentences.checkpoint(folder / "encoder")
    small_sentences.reviews(folder / "films.csv", about="film")
    small_sentences.reviews(folder / "books.csv", about="book")
    return folder


def config(place: Path, **changes) -> ConfigDict:
    """A probe on films, tested on books."""
    made = defaults()
    made.data.source, made.data.target = f"csv:{place}/films.csv", f"csv:{place}/books.csv"
    made.data.text_column, made.data.label_column = "review", "said"
    made.model.backbone, made.model.bottleneck = f"file:{place}/encoder", 0
    made.partition = (("backbone/.*", "freeze"), (".*", "train"))
    made.optimizer.name, made.optimizer.learning_rate = "adamw", 0.1
    made.batch_size, made.steps = 8, 200
    made.eval_every = made.checkpoint_every = 200
    made.update(changes)
    return complete(made, "test")


def trained(made: ConfigDict, folder: Path) -> dict:
    assert train.run(made.lock(), folder) == 0
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def probed(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jtl.runs.page.pictures", lambda *_: ())
        trained(config(place), place / "probe")
    return place / "probe"


def test_a_probe_on_sentences_learns_what_they_say(probed: Path) -> None:
    summary = json.loads((probed / "summary.json").read_text())
    assert summary["source_test"]["accuracy"]["value"] > 0.9
    with (probed / "predictions.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert all("good" in row["name"] for row in rows if row["label"] == "praise")


def test_texts_of_two_lengths_meet_in_one_batch(place: Path) -> None:
    """The domains are of different lengths, and a prefix that ends before the pooling keeps it."""
    made = config(place, partition=(("backbone/(embed|layer1)/.*", "freeze"), (".*", "train")))
    made.method = {"name": "dann", "width": 8}
    run = prepare(complete(made, "test"), place / "none")
    shapes = {run.stored.source_train.inputs.shape[1:], run.stored.target_train.inputs.shape[1:]}
    assert shapes == {(16, small_sentences.WIDTH)}
    assert run.net.cut == 2


def test_low_rank_leaves_train_beside_queries_and_values_and_the_run_is_a_backbone(
    place: Path,
) -> None:
    made = config(place, steps=20, eval_every=20, checkpoint_every=20)
    made.model.max_tokens = 8
    made.model.lora = {"rank": 2, "on": "backbone/layer.*/attention/(query|value)/kernel"}
    made.partition = ((".*_lora_[ab]", "train"), ("head/.*", "train"), (".*", "freeze"))
    trained(complete(made, "test"), place / "lora")
    model, start = runs.model(place / "lora"), small_sentences.tensors()
    moved = {
        kind: np.abs(
            model[f"params/backbone/layer1/attention/{kind}/kernel"]
            - start[f"encoder.layer.0.attention.self.{kind}.weight"].T
        ).max()
        for kind in ("query", "key", "value")
    }
    assert moved["key"] == 0 and moved["query"] > 0 and moved["value"] > 0
    again = config(place, steps=5, eval_every=5, checkpoint_every=5)
    again.model.backbone = f"run:{place}/lora"
    run = prepare(complete(again, "test"), place / "none")
    assert run.net.backbone.wanted.longest == 8
    assert run.domains.source_train.inputs.shape[1] == 8


def test_the_report_shows_the_worst_mistakes_as_texts(place: Path) -> None:
    made = config(place, steps=1, eval_every=1, checkpoint_every=1)
    made.optimizer.learning_rate = 1e-6  # it knows nothing
    trained(made, place / "guesses")
    page = (place / "guesses" / "report.html").read_text()
    assert "Worst mistakes on target test examples" in page
    wrong = [row for row in _predictions(place / "guesses") if row["domain"] == "target"]
    wrong = [row for row in wrong if row["predicted"] != row["label"]]
    shown = [row["name"] for row in wrong if row["name"] in page]
    assert len(shown) == min(len(wrong), 12) > 0


def _predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_evaluating_texts_by_their_length_changes_no_prediction(probed: Path, place: Path) -> None:
    made = config(place, partition=((".*", "train"),))
    run = prepare(made, place / "none")
    state = run.stages[0].training.init(0, run.hyper, run.net.start())
    predict, examples = evaluate.predictor(run.net.trained), run.stored.source_test
    by_length = predict(state, examples)
    whole = predict(state, replace(examples, padding=None))  # none is known to be padding
    np.testing.assert_allclose(by_length.features, whole.features, rtol=1e-5, atol=1e-6)
    assert examples.padding == 0 and (examples.inputs == 0).any()


def test_stored_features_of_sentences_do_not_depend_on_the_others(place: Path) -> None:
    run = prepare(config(place), place / "none")
    few = run.domains.source_train.take([0, 1, 2])
    apart = features.Prefix("apart", run.net.blocks[: run.net.cut], *_below(run))
    np.testing.assert_array_equal(apart(few).inputs, run.stored.source_train.inputs[:3])


def test_texts_are_run_once_however_far_they_are_padded(place: Path) -> None:
    run = prepare(config(place), place / "none")
    few = run.domains.target_train.take([0, 1, 2])
    assert few.inputs.shape[1] == 16
    prefix = features.Prefix("padded", run.net.blocks[: run.net.cut], *_below(run))
    longer = replace(few, inputs=np.pad(few.inputs, ((0, 0), (0, 16))))
    stored = prefix(few)
    assert longer.fingerprints == few.fingerprints
    prefix._run = None  # nothing is left to be run
    prefix._shape_of_one = lambda examples: stored.inputs[:1]
    np.testing.assert_array_equal(prefix(longer).inputs, stored.inputs)


def _below(run):
    blocks = run.net.blocks[: run.net.cut]
    return tuple(features.below(tree, blocks) for tree in run.net.initial)


@pytest.mark.parametrize(
    ("backbone", "most", "said"),
    [
        ("file", 17, "model.max_tokens is 17; file:.* reads 16 tokens at most"),
        ("random:digits-convnet", 8, "model.max_tokens: .* takes no texts; set 0"),
    ],
)
def test_a_length_that_cannot_be_is_refused(
    place: Path, backbone: str, most: int, said: str
) -> None:
    made = config(place)
    made.model.max_tokens = most
    if backbone != "file":
        made.model.backbone = backbone
    with pytest.raises(UserError, match=said):
        prepare(made, place / "none")


def test_texts_need_a_backbone_that_takes_them(place: Path) -> None:
    made = config(place)
    made.model.backbone = "random:digits-convnet"
    with pytest.raises(UserError, match=r"holds texts, and this backbone takes images"):
        prepare(made, place / "none")


def test_vectors_are_standardised_as_the_sources_training_examples_are(tmp_path: Path) -> None:
    made = runs.config(tmp_path, steps=2, eval_every=2, checkpoint_every=2)
    made.model.standardize = True
    run = prepare(complete(made, "test"), tmp_path / "none")
    source, target = run.stored.source_train.inputs, run.stored.target_train.inputs
    np.testing.assert_allclose(source.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(source.std(0), 1, rtol=1e-6)
    raw = run.domains.source_train.inputs.astype(np.float64)
    expected = (run.domains.target_train.inputs - raw.mean(0)) / raw.std(0)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)
    assert abs(target.mean()) > 0.1  # the shift is still there
    trained(complete(made, "test"), tmp_path / "run")
    model = runs.model(tmp_path / "run")
    np.testing.assert_allclose(model["stats/backbone/columns/mean"], raw.mean(0), rtol=1e-5)


def test_a_column_that_never_varies_becomes_0(tmp_path: Path) -> None:
    made = runs.config(tmp_path)
    with np.load(tmp_path / "source.npz") as arrays:
        held = dict(arrays)
    held["inputs"][:, 2] = 5.0
    np.savez(tmp_path / "source.npz", **held)
    made.model.standardize = True
    run = prepare(complete(made, "test"), tmp_path / "none")
    assert (run.stored.source_train.inputs[:, 2] == 0).all()
    assert np.isfinite(run.stored.target_train.inputs).all()


def test_validators_read_so_many_examples_and_always_the_same(tmp_path: Path) -> None:
    scores = []
    for most in (10, 10, 1000):
        made = runs.config(tmp_path, steps=2, eval_every=2, checkpoint_every=2)
        made.keep.examples = most
        folder = tmp_path / f"run{len(scores)}"
        trained(complete(made, "test"), folder)
        records = read_metrics(folder / workdir.METRICS)
        scores.append(next(r["values"] for r in records if r["split"] == "validators"))
        accuracy = next(r["values"]["accuracy"] for r in records if r["split"] == "source_test")
        assert round(accuracy * 30, 6) % 1 == 0  # of all 30, whatever validators read
    assert scores[0] == scores[1] != scores[2]
