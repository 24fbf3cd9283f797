"""The head of a backbone's earlier task, from its file to the methods that ask for it."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jtl import configuration
from jtl.defaults import defaults
from jtl.errors import UserError
from jtl.models import efficientnet_lite, heads, saved
from jtl.models.chain import chain
from jtl.models.digits_convnet import backbone as digits
from jtl.relationship import direct
from jtl.runs import build
from jtl.runs.prepare import prepare

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

SIZE, OLD_CLASSES, CLASSES = 8, 5, 3


def leave_run(folder: Path, *, bottleneck: bool = False) -> dict[str, Any]:
    """Writes the model of a finished run on small digits; returns its parameters."""
    folder.mkdir()
    found = digits(image_size=SIZE)
    backbone, _ = chain(found.blocks()).init(jax.random.key(1))
    head, _ = heads.head(found.width, OLD_CLASSES).init(jax.random.key(2))
    params = {"backbone": backbone, "head": head}
    params |= {"bottleneck": {"dense": head["dense"]}} if bottleneck else {}
    saved.write(folder, params, {}, found, [str(n) for n in range(OLD_CLASSES)])
    return params


def config(folder: Path, **method: Any) -> ConfigDict:
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(48, SIZE, SIZE, 1)).astype(np.uint8)
    np.savez(folder / "digits.npz", inputs=images, labels=np.arange(48) % CLASSES)
    made = defaults()
    made.data.source = f"arrays:{folder / 'digits.npz'}"
    made.data.per_class = 4
    made.model.backbone = f"run:{folder / 'run'}"
    made.model.bottleneck = 0
    made.method = ConfigDict({"name": "co_tuning", **method})
    return configuration.complete(made, "test")


def test_the_package_brings_its_imagenet_head() -> None:
    found = efficientnet_lite.pretrained()
    assert found.head is not None and found.weights is not None and "head" not in found.weights[0]
    logits, _ = heads.pretrained(found.head).apply(
        found.head, {}, np.zeros((1, 1280), np.float32), train=False, rng=None
    )
    expected = efficientnet_lite.read_weights()[0]["head"]["dense"]["bias"]
    np.testing.assert_array_equal(logits[0], expected)


def test_the_old_head_trains_and_its_predictions_are_measured(tmp_path: Path) -> None:
    left = leave_run(tmp_path / "run")
    run = prepare(config(tmp_path, form="direct"), tmp_path)
    state = run.stages[0].training.init(0, run.hyper, run.net.start())
    jax.tree.map(np.testing.assert_array_equal, state.params["pretrained_head"], left["head"])
    found = digits(image_size=SIZE)
    images = run.labelled.array()  # nothing is frozen, so training reads the images
    assert images.shape == (CLASSES * 4, SIZE, SIZE, 1)
    head, blocks = jax.device_get(left["head"]["dense"]), chain(found.blocks())
    features, _ = blocks.apply(left["backbone"], {}, images, train=False, rng=None)
    logits = np.asarray(features) @ head["kernel"] + head["bias"]
    expected = direct(np.asarray(jax.nn.softmax(logits)), run.labelled.known_labels())
    np.testing.assert_allclose(run.hyper["relationship"], expected, rtol=1e-4)


def test_a_method_that_asks_for_a_head_gets_one_or_says_what_is_missing(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", bottleneck=True)
    made = config(tmp_path)
    for backbone in (f"run:{tmp_path / 'run'}", "random:digits-convnet"):
        made.model.backbone = backbone
        with pytest.raises(UserError, match=f"co_tuning needs the head .* {backbone} brings none"):
            build.method(made, build.backbone(made), classes=CLASSES)
    made.model.bottleneck = 16
    with pytest.raises(UserError, match=r"model\.bottleneck: co_tuning puts the head .* set 0"):
        build.method(made, build.backbone(made), classes=CLASSES)


def test_only_what_is_no_argument_of_a_method_stays_an_array(tmp_path: Path) -> None:
    assert build.strengths(config(tmp_path)) == ("strength",)
