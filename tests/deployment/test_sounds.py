"""Runs on sounds: spectrograms for Whisper's encoder, waves for wav2vec 2.0's."""

from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest

import jtl
from jtl.configuration import complete
from jtl.data import arrays
from jtl.defaults import defaults
from jtl.deployment import export
from jtl.errors import UserError
from jtl.models import families, saved
from jtl.models.chain import chain
from jtl.runs import train
from jtl.types import Sound

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

LAYERS = {"width": 8, "layers": 1, "heads": 2, "hidden": 16}
WAVES = {"widths": (8, 8), "kernels": (10, 3), "strides": (5, 2), "place_kernel": 4}
FAMILIES = {
    "whisper": (LAYERS | {"bands": 4, "positions": 8}, Sound((0, 4), 16), (12, 4)),
    "wav2vec2": (LAYERS | WAVES | {"place_groups": 2}, Sound((0,)), (100,)),
}
CARDS = {"whisper": "A classifier of spectrograms of 4 bands", "wav2vec2": "of waves of sound"}


def trained_before(folder: Path, family: str) -> Path:
    """What a run leaves, its backbone at random."""
    shape, wanted, _ = FAMILIES[family]
    found = families.backbone(family, family, families.FAMILIES[family].shape(**shape), wanted)
    params, stats = chain(found.blocks()).init(jax.random.key(0))
    folder.mkdir()
    saved.write(folder, {"backbone": params}, {"backbone": stats} if stats else {}, found, ("a",))
    return folder


def sounds(file: Path, shape: tuple[int, ...]) -> Path:
    """Slow waves and fast ones."""
    draw, labels = np.random.default_rng(0), np.arange(40) % 2
    time = np.arange(shape[0]) / shape[0]
    waves = np.sin(
        2 * np.pi * np.where(labels, 20, 3)[:, None] * time + draw.uniform(0, 6, (40, 1))
    )
    waves = waves.reshape(40, -1, *(1,) * (len(shape) - 1)) + 0.1 * draw.normal(size=(40, *shape))
    np.savez(file, inputs=waves, labels=labels, classes=np.array(["slow", "fast"]))
    return file


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_sounds_is_fine_tuned_predicts_and_is_exported(
    tmp_path: Path, family: str
) -> None:
    shape = FAMILIES[family][2]
    file = sounds(tmp_path / "sounds.npz", shape)
    config = defaults()
    config.data.source = f"arrays:{file}"
    config.model.backbone = f"run:{trained_before(tmp_path / 'before', family)}"
    config.model.bottleneck = 0
    config.optimizer.name = "adamw"
    config.batch_size, config.steps = 8, 60
    config.eval_every = config.checkpoint_every = 60
    assert train.run(complete(config, "test").lock(), tmp_path / "run") == 0
    with np.load(file) as held:
        inputs, labels = held["inputs"], held["labels"]
    said = jtl.load(tmp_path / "run").predict(inputs)
    assert np.mean(np.array(said.labels) == np.array(["slow", "fast"])[labels]) > 0.9
    assert export.export(tmp_path / "run", tmp_path / "exported") == 0
    program = jax.export.deserialize(
        bytearray((tmp_path / "exported" / export.PROGRAM).read_bytes())
    )
    if family == "wav2vec2":
        inputs = (inputs - inputs.mean(1, keepdims=True)) / inputs.std(1, keepdims=True)
    found = program.call(inputs.astype(np.float32))["probabilities"]
    np.testing.assert_allclose(found, said.probabilities, rtol=1e-4, atol=1e-6)
    assert CARDS[family] in (tmp_path / "exported" / export.CARD).read_text()


def test_waves_are_brought_to_mean_0_and_variance_1(tmp_path: Path) -> None:
    file = sounds(tmp_path / "sounds.npz", (50,))
    found = arrays.load(str(file), Sound((0,)))
    np.testing.assert_allclose(found.inputs.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(found.inputs.var(1), 1, rtol=1e-5)
    assert found.notes == ("sounds were brought to variance 1",)


CASES = {
    "other bands": ((12, 5), Sound((0, 4)), r"takes sounds: numbers of shape .examples, frames, 4"),
    "waves for frames": ((12,), Sound((0, 4)), r"of shape \(40, 12\), but this backbone takes"),
    "frames for waves": ((12, 4), Sound((0,)), r"numbers of shape \[examples, samples\]"),
    "too long": ((17, 4), Sound((0, 4), 16), "sounds have 17 frames, and .* 16 at most; cut them"),
}


@pytest.mark.parametrize("case", CASES)
def test_sounds_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    shape, wanted, said = CASES[case]
    with pytest.raises(UserError, match=said):
        arrays.load(str(sounds(tmp_path / "sounds.npz", shape)), wanted)
