"""The command that fits probes: what it refuses, chooses, says and shows."""

import json
from pathlib import Path

import numpy as np
import pytest
import small_sentences

from jtl import probing
from jtl.errors import UserError
from jtl.models.chain import chain
from jtl.probes import compared, fits, probed
from jtl.records import workdir
from jtl.runs.prepare import prepare
from jtl.shell import cli

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

BACKBONE = "random:digits-convnet"
WIDTH = 128
SETTINGS = ("model.image_size=8",)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two domains of labelled images: classes differ by their brightness."""
    folder, random = tmp_path_factory.mktemp("probed"), np.random.default_rng(0)
    names = []
    for name in ("source", "target"):
        labels = np.arange(48) % 3
        images = random.integers(40, size=(48, 8, 8, 1)) + 60 * labels[:, None, None, None]
        np.savez(folder / f"{name}.npz", inputs=images.astype(np.uint8), labels=labels)
        names.append(f"arrays:{folder / name}.npz")
    return names[0], names[1]


def test_the_summary_has_every_probe_its_curve_and_what_it_reaches_on_both_domains(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["probe", data[0], BACKBONE, f"--config.data.target={data[1]}"]
    command += [f"--config.{setting}" for setting in SETTINGS]
    command += ["--workdir", str(tmp_path / "probe")]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "probe" / workdir.SUMMARY).read_text())
    assert list(summary) == [BACKBONE]
    assert list(summary[BACKBONE]) == ["logistic", "ridge", "nearest"]
    for probe in summary[BACKBONE].values():
        chosen = probe["neighbours"] if "neighbours" in probe else probe["strength"]
        assert chosen in probe["curve"]["tried"]
        for split in ("source_test", "target_test"):
            accuracy = probe[split]["accuracy"]
            assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
            assert list(probe[split]["per_class"]) == ["0", "1", "2"]
    assert "batch_size" not in said  # of which a probe has none
    made_with = workdir.manifest(tmp_path / "probe")
    domains = zip(data, ("source", "target"), strict=True)
    parts = {f"{n} ({domain} {part})" for n, domain in domains for part in ("training", "test")}
    assert set(made_with["data"]) == parts and len(set(made_with["data"].values())) == 4
    report = (tmp_path / "probe" / workdir.REPORT).read_text()
    assert f"Strengths, {BACKBONE}" in report
    assert f"Classes, {BACKBONE}" in report
    assert cli.main(command) == 0  # finished: says it again
    assert capsys.readouterr().out.splitlines() == said.splitlines()[-4:]


def test_the_strength_is_chosen_without_a_test_example(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "STRENGTHS", np.array([1.0, 1e-2]))
    settings = (*SETTINGS, "data.per_class=8")
    (config,) = compared.fitted(data[0], [BACKBONE], settings).values()
    prepared = prepare(config, tmp_path)

    def fit() -> dict[str, fits.Probe]:
        (features,) = probed.feature_sets(prepared)
        return fits.fit(features.train, features.labels)

    read, deal = [], probing.deal
    monkeypatch.setattr(
        probing, "deal", lambda labels, folds: read.append(len(labels)) or deal(labels, folds)
    )
    before = fit()
    assert read == [24]
    prepared.stored.source_test.array()[:] = 0
    prepared.domains.source_test.known_labels()[:] = 0
    after = fit()
    for kind, probe in before.items():
        assert probe.chosen == after[kind].chosen
        assert probe.chosen == np.argmin(probe.curve.errors)
        new = np.random.default_rng(1).standard_normal((5, WIDTH))
        np.testing.assert_array_equal(probe.scores(new), after[kind].scores(new))


def test_every_layer_is_probed_on_the_mean_over_its_places(
    data: tuple[str, str], tmp_path: Path
) -> None:
    settings = (*SETTINGS, "data.per_class=4", f"data.target={data[1]}", "probe.layers=all")
    (config,) = compared.fitted(data[0], [BACKBONE], settings).values()
    prepared = prepare(config, tmp_path)
    found = list(probed.feature_sets(prepared))
    assert [each.layer for each in found] == ["stage1", "stage2", ""]
    blocks, (params, stats) = prepared.net.blocks[:2], prepared.net.initial
    images = prepared.domains.target_test.array()
    for number, each in enumerate(found[:2]):
        values = chain(blocks[: number + 1]).apply(params, stats, images, train=False, rng=None)[0]
        rows, labels = each.tests["target_test"]
        np.testing.assert_allclose(rows, values.mean((1, 2)), atol=1e-5)
        np.testing.assert_array_equal(labels, prepared.domains.target_test.known_labels())
        assert each.train.shape == (12, values.shape[3])
        np.testing.assert_array_equal(each.labels, np.repeat([0, 1, 2], 4))


def test_tokens_of_each_layer_are_pooled_in_every_way_that_is_asked_for(tmp_path: Path) -> None:
    encoder = small_sentences.checkpoint(tmp_path / "encoder")
    table = small_sentences.reviews(tmp_path / "films.csv", about="film")
    settings = ["data.text_column=review", "data.label_column=said"]
    settings += ["probe.layers=layer1,layer2", "probe.poolings=class,mean"]
    (config,) = compared.fitted(f"csv:{table}", [f"file:{encoder}"], settings).values()
    prepared = prepare(config, tmp_path)
    found = {each.layer: each for each in probed.feature_sets(prepared)}
    assert list(found) == ["layer1, class", "layer1, mean", "layer2, class", "layer2, mean", ""]
    (params, stats), examples = prepared.net.initial, prepared.domains.source_test
    assert examples is not None
    blocks, tokens = prepared.net.blocks[:2], examples.array()
    values = chain(blocks).apply(params, stats, tokens, train=False, rng=None)[0]
    there = (tokens != 0)[..., None]
    rows = {name: each.tests["source_test"][0] for name, each in found.items()}
    np.testing.assert_allclose(rows["layer1, class"], values[:, 0], atol=1e-5)
    mean = (values * there).sum(1) / there.sum(1)
    np.testing.assert_allclose(rows["layer1, mean"], mean, atol=1e-5)
    np.testing.assert_allclose(rows["layer2, mean"], rows[""], atol=1e-5)  # the encoder's own


def test_a_layer_that_is_none_is_one_line(data: tuple[str, str], tmp_path: Path) -> None:
    settings = (*SETTINGS, "probe.layers=stage9")
    (config,) = compared.fitted(data[0], [BACKBONE], settings).values()
    with pytest.raises(UserError, match="no block stage9; did you mean stage"):
        next(probed.feature_sets(prepare(config, tmp_path)))


def test_a_class_with_one_training_example_is_one_line(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["probe", data[0], BACKBONE, "--config.data.per_class=1"]
    command += [f"--config.{setting}" for setting in SETTINGS]
    assert cli.main([*command, "--workdir", str(tmp_path / "one")]) == 2
    assert "class 0 has 1 training examples, and a probe needs 2 of each" in capsys.readouterr().err


def test_the_report_has_a_curve_over_layers(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "_logistic", fits._ridge)  # which compiles in less time
    command = ["probe", data[0], BACKBONE, "--config.probe.layers=stage2"]
    command += [f"--config.{setting}" for setting in SETTINGS]
    assert cli.main([*command, "--workdir", str(tmp_path / "layers")]) == 0
    summary = json.loads((tmp_path / "layers" / workdir.SUMMARY).read_text())
    assert list(summary) == [f"{BACKBONE}, stage2", BACKBONE]
    assert f"Layers, {BACKBONE}" in (tmp_path / "layers" / workdir.REPORT).read_text()


def test_features_on_disk_are_probed_as_those_in_memory_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(30) % 3
    rows = (random.standard_normal((30, 6)) + 2 * np.eye(3, 6)[labels]).astype(np.float32)
    inside = fits.fit(rows, labels)
    assert not capsys.readouterr().out
    outside = fits.fit(probing.LazyRows(list(rows)), labels)
    assert capsys.readouterr().out == (
        "no vote of nearest neighbours: the features do not fit in memory\n"
    )
    assert list(outside) == ["logistic", "ridge"]
    for kind, probe in outside.items():
        assert probe.chosen == inside[kind].chosen
        expected = fits.scores(inside[kind], rows)
        found = fits.scores(probe, probing.LazyRows(list(rows)))
        np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("backbones", "settings", "message"),
    [
        ((), (), "probe needs data and a backbone"),
        ((BACKBONE, BACKBONE), (), "probe: random:digits-convnet is named twice"),
        ((BACKBONE,), ("steps=3",), "probe can be told data.target"),
        ((BACKBONE,), ("stepz=3",), "did you mean steps"),
        (("random:digit-convnet",), (), "did you mean digits-convnet"),
        ((BACKBONE,), ("probe.poolings=attention",), "give class, mean, both"),
        ((BACKBONE,), ("probe.layer=all",), "did you mean probe.layers"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    backbones: tuple[str, ...], settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compared.fitted("embedded:mnist", backbones, settings)
