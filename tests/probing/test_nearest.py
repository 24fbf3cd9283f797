"""Nearest neighbours: against scikit-learn's, each example left out in turn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from jtl.errors import UserError
from jtl.probing import neighbours, votes

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [8, 1024])
def test_votes_are_scikit_learns_without_the_example_itself(
    metric: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jtl.probing.nearest.BLOCK", block)
    random = np.random.default_rng(block)
    labels = np.arange(21) % 3
    inputs = random.standard_normal((21, 4)) + np.eye(3, 4)[labels] + 2
    found = neighbours(inputs, labels, [1, 4, 9], metric=metric)
    for number, count in enumerate(found.counts):
        for example in range(21):
            kept = np.arange(21) != example
            peer = KNeighborsClassifier(count, metric=metric).fit(inputs[kept], labels[kept])
            expected = peer.predict_proba(inputs[[example]])[0]
            np.testing.assert_allclose(found.shares[number, example], expected, atol=1e-6)
            assert found.right[number, example] == (expected.argmax() == labels[example])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [8, 1024])
def test_votes_on_new_examples_are_scikit_learns(
    metric: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jtl.probing.nearest.BLOCK", block)
    random = np.random.default_rng(block)
    inputs, new = random.standard_normal((21, 4)) + 2, random.standard_normal((13, 4)) + 2
    labels = np.arange(21) % 3
    for count in (1, 4, 21):
        peer = KNeighborsClassifier(count, metric=metric).fit(inputs, labels)
        found = votes(inputs, labels, count, new, metric=metric)
        np.testing.assert_allclose(found, peer.predict_proba(new), atol=1e-6)


@pytest.mark.parametrize(
    ("count", "new", "message"),
    [(5, np.ones((2, 2)), "count from 1 to 4"), (1, np.ones((2, 3)), "new examples of shape")],
)
def test_new_examples_that_cannot_be_voted_on_are_one_line(
    count: int, new: np.ndarray, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        votes(np.ones((4, 2)), np.array([0, 1, 0, 1]), count, new, metric="euclidean")


@pytest.mark.parametrize(
    ("features", "counts", "metric", "message"),
    [
        (np.ones((4, 2)), [4], "euclidean", "counts from 1 to 3"),
        (np.ones((4, 2)), [0], "euclidean", "counts from 1 to 3"),
        (np.ones((4, 2)), [], "euclidean", "counts from 1 to 3"),
        (np.ones((4, 2)), [1], "manhattan", "give euclidean or cosine"),
        (np.eye(4, 2), [1], "cosine", "example 2 is zero"),
        (np.full((4, 2), np.nan), [1], "cosine", "not finite"),
    ],
)
def test_what_has_no_neighbours_is_one_line(
    features: np.ndarray, counts: list[int], metric: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        neighbours(features, np.array([0, 1, 0, 1]), counts, metric=metric)


def test_mapped_features_are_checked_as_those_in_memory_are(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "features", np.float32, "w+", shape=(4, 2))
    mapped[2, 1] = np.nan
    for ask in (
        lambda: neighbours(mapped, np.arange(4) % 2, [1], metric="euclidean"),
        lambda: votes(mapped, np.arange(4) % 2, 1, np.ones((1, 2)), metric="euclidean"),
    ):
        with pytest.raises(UserError, match="first: example 2"):
            ask()
