"""What the channels of a pretrained backbone weigh, for DELTA."""

from pathlib import Path

import fixed
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ml_collections import ConfigDict
from scipy import special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from jtl import configuration
from jtl.attention import EXAMPLES, attention, channel_weights
from jtl.defaults import defaults
from jtl.models import digits_convnet
from jtl.models.chain import Blocks, chain, prefixed
from jtl.runs.prepare import prepare
from jtl.training.network import Embedded

RISES = arrays(np.float64, st.integers(2, 6), elements=st.floats(-10, 10, width=16))


@given(RISES)
def test_weights_are_the_softmax_of_a_fifth_of_the_standard_scores(rises: np.ndarray) -> None:
    found = attention(rises)
    scores = stats.zscore(rises) if np.ptp(rises) > 0 else np.zeros(len(rises))
    np.testing.assert_allclose(found, special.softmax(scores / 5), rtol=1e-9)
    np.testing.assert_allclose(attention(rises[::-1]), found[::-1], rtol=1e-9)


def test_a_channel_weighs_by_the_loss_without_it() -> None:
    """By hand: the classifier has the authors' weight decay, and the examples are 256 of them."""
    labels = np.arange(600) % 3
    draw = np.random.default_rng(0).normal(size=(600, 4))
    features = draw + [2.0, 0.5, 0.0, 0.0] * np.eye(3)[labels][:, [0, 1, 2, 0]]
    found = channel_weights(fixed.Known(features, ("backbone/dense",)), labels)["backbone/dense"]
    assert found.argmax() == 0 and found.sum() == pytest.approx(1)
    fit = LogisticRegression(C=1 / (1e-4 * 600), max_iter=10_000).fit(features, labels)
    rows = np.linspace(0, 599, EXAMPLES).astype(int)

    def loss(kept: np.ndarray) -> float:
        return log_loss(labels[rows], fit.predict_proba(features[rows] * kept))

    rises = [loss(1 - np.eye(4)[channel]) - loss(np.ones(4)) for channel in range(4)]
    np.testing.assert_allclose(found, attention(np.array(rises)), rtol=1e-6)


def test_two_classes_and_other_labels_are_classes_too() -> None:
    features, labels = np.random.default_rng(0).normal(size=(20, 3)), np.repeat([2, 7], 10)
    features[:, 1] += labels
    found = channel_weights(fixed.Known(features, ("backbone/dense",)), labels)["backbone/dense"]
    assert found.argmax() == 1


def test_a_channel_that_is_left_out_is_0_in_the_output_of_its_block() -> None:
    blocks: Blocks = prefixed("backbone", digits_convnet.backbone(image_size=8, width=4).blocks())
    weights = chain(blocks).init(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    (first, second), rest = blocks[:2], blocks[2:]
    begun = np.asarray(chain((first,)).apply(*weights, images, train=False, rng=None)[0])
    seen = Embedded(np.zeros((5, 1)), begun, blocks[1:], weights)
    assert seen.blocks == ("backbone/stage2", "backbone/dense")
    given = np.asarray(chain((second,)).apply(*weights, begun, train=False, rng=None)[0])
    rows = np.array([0, 3])
    found = list(seen.without("backbone/stage2", rows))
    assert len(found) == given.shape[-1] == 8
    kept = given[rows] * (np.arange(8) != 6)
    expected = chain(rest).apply(*weights, kept, train=False, rng=None)[0]
    np.testing.assert_allclose(found[6], expected, rtol=1e-5, atol=1e-6)
    (*_, last) = seen.without("backbone/dense", rows)
    assert np.all(last[:, -1] == 0) and np.any(last[:, :-1])


def test_a_run_knows_the_channels_of_the_blocks_that_it_trains(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "digits.npz", inputs=images, labels=np.arange(24) % 3)
    made = defaults()
    made.data.source = f"arrays:{tmp_path / 'digits.npz'}"
    made.model.backbone, made.model.image_size = "random:digits-convnet", 8
    made.method = ConfigDict({"name": "delta"})
    made.partition = (("backbone/stage1/.*", "freeze"), (".*", "train"))
    run = prepare(configuration.complete(made, "test"), tmp_path)
    weights = {name: value for name, value in run.hyper.items() if name.startswith("backbone/")}
    assert {name: len(value) for name, value in weights.items()} == {
        "backbone/stage2": 64,
        "backbone/dense": 128,
    }
    for value in weights.values():
        assert float(value.sum()) == pytest.approx(1) and float(value.std()) > 0
