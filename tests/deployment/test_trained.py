"""The models of finished runs, in use: what they say is what their runs said."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_runs as runs
from PIL import Image

import jtl
from jtl import registry
from jtl.data import inputs
from jtl.data.inputs import Taken
from jtl.deployment.trained import Trained
from jtl.errors import UserError
from jtl.models import saved
from jtl.models.chain import chain
from jtl.records import workdir
from jtl.runs import train
from jtl.shell import cli

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def finished(config, folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jtl.runs.page.pictures", lambda *_: ())
        assert train.run(config, folder) == 0
    return folder


@pytest.fixture(scope="module")
def of_pictures(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images with a bottleneck."""
    made = runs.picture_config(data, steps=2, eval_every=2, checkpoint_every=2)
    return finished(made, tmp_path_factory.mktemp("runs") / "pictures")


@pytest.fixture(scope="module")
def in_bfloat16(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, its backbone computing in bfloat16."""
    made = runs.picture_config(data, steps=2, eval_every=2, checkpoint_every=2)
    made.model.compute = "bfloat16"
    return finished(made, tmp_path_factory.mktemp("runs") / "rounded")


@pytest.fixture(scope="module")
def of_vectors(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on vectors whose bottleneck has a batch norm, dropout and low-rank leaves."""
    made = runs.config(data, steps=2, eval_every=2, checkpoint_every=2)
    made.model.norm, made.model.dropout = "batch", 0.5
    made.model.lora.rank, made.model.lora.on = 1, "bottleneck/.*"
    return finished(made, tmp_path_factory.mktemp("runs") / "vectors")


def own_predictions(folder: Path, domain: str = "source") -> dict[str, tuple[str, float]]:
    """What a run itself said of its test examples, by their names."""
    with (folder / workdir.PREDICTIONS).open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == domain]
    assert rows
    return {row["name"]: (row["predicted"], float(row["confidence"])) for row in rows}


def said_in(file: Path) -> dict[str, tuple[str, float]]:
    with file.open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return {row["name"]: (row["predicted"], float(row["confidence"])) for row in rows}


def assert_the_same(
    found: dict[str, tuple[str, float]], expected: dict[str, tuple[str, float]]
) -> None:
    for name, (label, confidence) in expected.items():
        assert found[name][0] == label
        # A run says six digits.
        assert found[name][1] == pytest.approx(confidence, abs=2e-6)


@pytest.mark.parametrize("kind", ["of_pictures", "in_bfloat16"])
def test_predict_says_of_test_images_what_the_run_said(
    request: pytest.FixtureRequest,
    kind: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run: Path = request.getfixturevalue(kind)
    capsys.readouterr()  # what training said
    output = tmp_path / "said.csv"
    pictures = data / "pictures"
    assert cli.main(["predict", str(run), str(pictures), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}: 24 predicted\n"
    found = said_in(output)
    assert len(found) == 24
    expected = own_predictions(run)
    assert_the_same({str(Path(n).relative_to(pictures)): v for n, v in found.items()}, expected)
    head = output.read_text(encoding="utf-8").partition("\n")[0]
    assert head == "name,predicted,confidence,dark,light"
    assert [path.name for path in tmp_path.iterdir()] == ["said.csv"]


def test_predict_says_of_test_vectors_what_the_run_said(
    of_vectors: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", str(of_vectors), str(data / "target.npz")]) == 0
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    found = {
        Path(row["name"]).name: (row["predicted"], float(row["confidence"])) for row in printed
    }
    assert_the_same(found, own_predictions(of_vectors, "target"))
    for row in printed:
        probabilities = [float(row[name]) for name in "012"]
        assert sum(probabilities) == pytest.approx(1, abs=3e-6)
        assert row["confidence"] == row[row["predicted"]] == f"{max(probabilities):.6f}"


def test_predict_says_of_the_rows_of_a_table_what_the_run_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = runs.config(data, steps=2, eval_every=2, checkpoint_every=2)
    made.method, made.data.target = {"name": "supervised"}, ""
    made.model.standardize = True
    made.keep.criterion = "source_risk"
    with np.load(data / "source.npz") as arrays:
        # Columns of very different scales, which a run on a table brings to one.
        inputs, labels = arrays["inputs"] * 10.0 ** np.arange(runs.FEATURES), arrays["labels"]
    table = tmp_path / "table.csv"
    rows = (
        f"{','.join(map(str, row))},c{label}" for row, label in zip(inputs, labels, strict=True)
    )
    table.write_text("\n".join(["a,b,c,d,e,f,kind", *rows]) + "\n")
    made.data.source, made.data.label_column = f"csv:{table}", "kind"
    folder = finished(made, tmp_path / "run")
    capsys.readouterr()
    assert cli.main(["predict", str(folder), str(table), "-o", str(tmp_path / "said.csv")]) == 0
    found = {Path(name).name: said for name, said in said_in(tmp_path / "said.csv").items()}
    assert_the_same(found, own_predictions(folder))
    # Columns are found by their names, in any order and among others.
    with table.open() as file:
        turned = [{"more": 1, **dict(reversed(row.items()))} for row in csv.DictReader(file)]
    lines = (json.dumps(row) for row in turned)
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    words = ["predict", str(folder), str(tmp_path / "table.jsonl"), "-o", str(tmp_path / "a.csv")]
    assert cli.main(words) == 0
    again = said_in(tmp_path / "a.csv").values()
    assert [label for label, _ in again] == [
        label for label, _ in said_in(tmp_path / "said.csv").values()
    ]
    (tmp_path / "less.csv").write_text("a,b,c,d,e\n1,2,3,4,5\n")
    capsys.readouterr()
    assert cli.main(["predict", str(folder), str(tmp_path / "less.csv")]) == 2
    assert "less.csv: has no column 'f'; it has a, b, c, d, e" in capsys.readouterr().err


def test_lines_of_json_hold_the_same_and_what_is_unreadable_is_skipped(
    of_pictures: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    shutil.copy(data / "pictures" / "dark" / "0.png", tmp_path / "good.png")
    output = tmp_path / "said.jsonl"
    words = [str(tmp_path / name) for name in ("broken.png", "good.png", "absent.png")]
    assert cli.main(["predict", str(of_pictures), *words, "-o", str(output)]) == 0
    (record,) = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    model = jtl.load(of_pictures)
    told = model.predict(tmp_path / "good.png")
    assert (record["name"], record["predicted"]) == (words[1], told.labels[0])
    assert list(record["probabilities"]) == list(model.classes) == ["dark", "light"]
    assert list(record["probabilities"].values()) == pytest.approx(told.probabilities[0], abs=1e-6)
    assert record["confidence"] == max(record["probabilities"].values())
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["jtl", "jtl"]
    assert "skipped" in lines[0] and "absent.png" in lines[0] and "broken.png" in lines[1]


def test_nothing_is_written_where_nothing_can_be_read(
    of_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"no image")
    for more in ([], ["-o", str(tmp_path / "said.csv")]):
        assert cli.main(["predict", str(of_pictures), str(tmp_path), *more]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert "one.png: cannot be decoded" in captured.err
        assert "(1 more could not be read)" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_inputs_that_are_none_are_one_line(
    of_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "none.npz", inputs=np.zeros((0, runs.FEATURES), np.float32))
    words = [str(tmp_path / "none.npz"), "x" * 300, "~nobody-at-all.csv"]
    assert cli.main(["predict", str(of_vectors), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.npz: 'inputs' holds no examples (2 more could not be read)" in line


@pytest.mark.parametrize("read", ["table.csv", "."])
def test_what_is_read_is_not_written_over(
    read: str, of_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b,c,d,e,f\n1,2,3,4,5,6\n")
    assert cli.main(["predict", str(of_vectors), str(tmp_path / read), "-o", str(table)]) == 2
    assert "table.csv: is read, and would be written over" in capsys.readouterr().err
    assert table.read_text() == "a,b,c,d,e,f\n1,2,3,4,5,6\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_nowhere_else(
    of_vectors: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["predict", str(of_vectors), str(data / "target.npz"), "-o", str(tmp_path / "a.csv")]
    for stream, shown in ((Terminal(), "\r120 of 120 inputs\n"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        assert cli.main(words) == 0
        assert stream.getvalue() == shown


def test_a_reader_that_has_seen_enough_ends_it_quietly(
    of_vectors: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as ended:
            cli.main(["predict", str(of_vectors), str(data / "target.npz")])
    assert ended.value.code == 128 + signal.SIGPIPE


def test_a_model_is_one_file(of_pictures: Path, data: Path, tmp_path: Path) -> None:
    file = shutil.copy(of_pictures / registry.MODEL, tmp_path / "moved.safetensors")
    images = [Image.open(data / "pictures" / "light" / f"{n}.png") for n in (1, 3, 5)]
    found = jtl.load(file).predict(images)
    expected = jtl.load(of_pictures).predict([np.asarray(image) for image in images])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert found.labels == expected.labels and found.features.shape == (3, 8)


def test_what_a_program_gets_wrong_is_an_error(of_pictures: Path, of_vectors: Path) -> None:
    model = jtl.load(of_vectors)
    assert model.predict(np.zeros((2, runs.FEATURES))).probabilities.shape == (2, runs.CLASSES)
    with pytest.raises(UserError, match=r"inputs\[0\]: has 5 numbers, and this model takes 6"):
        model.predict(np.zeros((2, 5)))
    with pytest.raises(UserError, match="inputs: there is none"):
        model.predict([])
    with pytest.raises(UserError, match="this backbone takes images"):
        jtl.load(of_pictures).predict(np.zeros((2, 8, 8, 1)))


def test_the_last_of_many_batches_compiles_nothing_new(of_vectors: Path) -> None:
    compiled = []
    whole = saved.whole(of_vectors)
    model = Trained(whole)
    model.runner._run = lambda rows: compiled.append(rows.shape) or (rows[:, :3], rows)
    assert len(model.predict(np.ones((130, runs.FEATURES))).labels) == 130
    assert set(compiled) == {(128, runs.FEATURES)} and len(compiled) == 2


def test_an_older_model_without_classes_is_refused(of_vectors: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    said = json.dumps({"architecture": "", "image_size": 0})
    file = tmp_path / registry.MODEL
    save_file(load_file(of_vectors / registry.MODEL), file, {saved.ORIGIN: said})
    with pytest.raises(UserError, match="does not name its classes, as an older jtl wrote it"):
        jtl.load(tmp_path)
    assert saved.read(tmp_path).classes == ()


def test_features_are_those_of_the_backbone(
    of_pictures: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [tmp_path / "features.npz", tmp_path / "features.csv"]
    for output in outputs:
        words = [f"run:{of_pictures}", str(data / "pictures" / "dark"), "-o", str(output)]
        assert cli.main(["features", *words]) == 0
    assert capsys.readouterr().out.endswith(f"{outputs[1]}: features of 12, 128 each\n")
    with np.load(outputs[0]) as arrays:
        names, features = arrays["names"], arrays["features"]
    assert features.shape == (12, 128) and features.dtype == np.float32
    whole = saved.whole(of_pictures)
    taken = Taken(whole.backbone.wanted, whole.backbone.width)
    (chunk,) = inputs.chunks(inputs.named(names.tolist(), taken)[0], taken)
    backbone = chain(whole.blocks[:-2])
    expected = backbone.apply(*whole.weights, chunk.rows, train=False, rng=None)[0]
    np.testing.assert_allclose(features, expected, atol=1e-5)
    with outputs[1].open(encoding="utf-8") as file:
        heads, *table = csv.reader(file)
    assert heads[:2] == ["name", "feature0"] and [row[0] for row in table] == names.tolist()
    np.testing.assert_array_equal(np.array([row[1:] for row in table], np.float32), features)


def test_importing_jtl_starts_no_jax() -> None:
    code = "import sys, jtl; print('jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_what_a_run_left_in_its_summary_says_who_saw_what(of_vectors: Path) -> None:
    summary = workdir.summary(of_vectors)
    assert summary is not None
    assert any("Training saw the target's examples without" in line for line in summary["protocol"])
