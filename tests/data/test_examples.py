"""A set of examples."""

from dataclasses import replace

import numpy as np
import pytest

from jtl.data.examples import Examples, View
from jtl.errors import UserError

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 2], np.int32)


class Numbered:
    """Lazy images; image i is filled with i."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((2, 2, 1), index, np.uint8)

    def stamp(self, index: int) -> str:
        return f"image {index}"

    def fingerprint(self, index: int) -> str:
        return str(index)


@pytest.fixture
def examples() -> Examples:
    return Examples(
        name="toy",
        inputs=np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1),
        labels=LABELS,
        classes=("a", "b", "c"),
        names=np.array([f"n{i}" for i in range(10)]),
        identities=np.array([f"i{i}" for i in range(10)]),
        split=np.array(["train"] * 5 + ["test"] * 5),
    )


def test_take_keeps_every_column_in_step(examples: Examples) -> None:
    taken = examples.take([7, 2, 2])
    assert taken.inputs[:, 0, 0, 0].tolist() == [28, 8, 8]
    assert taken.labels is not None and taken.labels.tolist() == [1, 2, 2]
    assert taken.names.tolist() == ["n7", "n2", "n2"]
    assert taken.identities.tolist() == ["i7", "i2", "i2"]
    assert taken.split is not None and taken.split.tolist() == ["test", "train", "train"]


def test_taking_from_lazy_inputs_decodes_nothing_and_composes(examples: Examples) -> None:
    taken = replace(examples, inputs=Numbered()).take([7, 2, 9]).take([2, 0])
    assert isinstance(taken.inputs, View)
    assert [int(taken.inputs[i][0, 0, 0]) for i in range(2)] == [9, 7]
    assert [taken.inputs.stamp(i) for i in range(2)] == ["image 9", "image 7"]


def test_columns_of_another_length_are_refused(examples: Examples) -> None:
    with pytest.raises(ValueError, match="10 inputs but 9 labels"):
        replace(examples, labels=LABELS[:9])


@pytest.mark.parametrize("per_class", [1, 2, 3])
def test_shots_are_so_many_of_each_class(examples: Examples, per_class: int) -> None:
    shots = examples.shots(per_class, seed=0)
    assert shots.labels is not None
    assert np.bincount(shots.labels).tolist() == [per_class] * 3
    assert len(set(shots.names)) == 3 * per_class


def test_shots_follow_the_seed_and_are_nested(examples: Examples) -> None:
    def names(per_class: int, seed: int) -> set[str]:
        return set(examples.shots(per_class, seed=seed).names)

    assert names(2, 0) == names(2, 0)
    assert names(1, 0) < names(2, 0)
    assert len({frozenset(names(2, seed)) for seed in range(5)}) > 1


def test_shots_name_the_class_that_has_too_few(examples: Examples) -> None:
    with pytest.raises(UserError, match=r"toy: 4 labelled examples .* class a has 3"):
        examples.shots(4, seed=0)


def test_shots_of_an_unlabelled_set_are_refused(examples: Examples) -> None:
    with pytest.raises(UserError, match=r"toy: has no labels"):
        examples.without_labels().shots(1, seed=0)


def test_without_labels_there_are_none(examples: Examples) -> None:
    assert examples.without_labels().labels is None
    assert examples.labels is not None


def test_the_hash_follows_the_content_and_nothing_else(examples: Examples) -> None:
    pixels = examples.inputs
    assert isinstance(pixels, np.ndarray)
    hashes = {
        examples.sha256(),
        replace(examples, inputs=pixels + 1).sha256(),
        replace(examples, inputs=pixels.reshape(10, 1, 4, 1)).sha256(),
        replace(examples, inputs=Numbered()).sha256(),
        replace(examples, labels=(LABELS + 1) % 3).sha256(),
        replace(examples, classes=("a", "b", "d")).sha256(),
        replace(examples, names=examples.names[::-1]).sha256(),
        replace(examples, split=None).sha256(),
        examples.without_labels().sha256(),
        examples.take(range(9)).sha256(),
    }
    assert len(hashes) == 10
    elsewhere = replace(examples, inputs=pixels.copy(), identities=examples.names, notes=("read",))
    assert elsewhere.sha256() == examples.sha256()
    assert examples.take(range(10)).sha256() == examples.sha256()
