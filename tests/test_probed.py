"""The command that fits probes: what it refuses, chooses, says and shows."""

import json
from pathlib import Path

import numpy as np
import pytest

from jtl import cli, probed, probes, probing, workdir
from jtl.errors import UserError
from jtl.prepare import prepare

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

BACKBONE = "random:digits-convnet"
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
    assert list(summary[BACKBONE]) == ["logistic", "ridge"]
    for probe in summary[BACKBONE].values():
        assert probe["strength"] in probe["curve"]["strengths"]
        for split in ("source_test", "target_test"):
            accuracy = probe[split]["accuracy"]
            assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
            assert list(probe[split]["per_class"]) == ["0", "1", "2"]
    report = (tmp_path / "probe" / workdir.REPORT).read_text()
    assert f"Strengths, {BACKBONE}" in report
    assert f"Classes, {BACKBONE}" in report
    assert cli.main(command) == 0  # finished: says it again
    assert capsys.readouterr().out.splitlines() == said.splitlines()[-3:]


def test_the_strength_is_chosen_without_a_test_example(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probed, "STRENGTHS", np.array([1.0, 1e-2]))
    settings = (*SETTINGS, "data.per_class=8")
    (config,) = probes.fitted(data[0], [BACKBONE], settings).values()
    prepared = prepare(config, tmp_path)
    read, deal = [], probing.deal
    monkeypatch.setattr(
        probing, "deal", lambda labels, folds: read.append(len(labels)) or deal(labels, folds)
    )
    before = probed.fit(prepared)
    assert read == [24]
    prepared.stored.source_test.array()[:] = 0
    prepared.domains.source_test.known_labels()[:] = 0
    after = probed.fit(prepared)
    for kind, probe in before.items():
        assert probe.chosen == after[kind].chosen
        assert probe.chosen == np.argmin(probe.curve.errors)
        np.testing.assert_array_equal(probe.coefficients, after[kind].coefficients)


@pytest.mark.parametrize(
    ("backbones", "settings", "message"),
    [
        ((), (), "probe needs data and a backbone"),
        ((BACKBONE, BACKBONE), (), "probe: random:digits-convnet is named twice"),
        ((BACKBONE,), ("steps=3",), "probe can be told data.target"),
        ((BACKBONE,), ("stepz=3",), "did you mean steps"),
        (("random:digit-convnet",), (), "did you mean digits-convnet"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    backbones: tuple[str, ...], settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        probes.fitted("embedded:mnist", backbones, settings)
