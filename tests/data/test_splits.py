"""Who sees what."""

from dataclasses import replace

import numpy as np
import pytest
from examples_of import vectors
from hypothesis import assume, given
from hypothesis import strategies as st

from jtl.data import embedded
from jtl.data.examples import Examples
from jtl.data.splits import Domains, check_same_classes, split_domains
from jtl.errors import UserError
from jtl.types import Preprocess

CLASSES = 3


def ids(examples: Examples | None) -> set[str]:
    assert examples is not None
    return set(examples.identities.tolist())


def labels_of(identities: list[str]) -> list[int]:
    return [int(name) % CLASSES for name in identities]


def domain(name: str, numbers: list[int]) -> Examples:
    identities = [str(number) for number in numbers]
    return vectors(identities, labels_of(identities), name=name)


numbers = st.lists(st.integers(0, 60), min_size=12, max_size=80)
seeds = st.integers(0, 2**32)
fractions = st.floats(0.1, 0.6)


def split_or_skip(source: Examples, target: Examples, fraction: float, seed: int) -> Domains:
    """Some draws are too small to be split, and are refused."""
    try:
        return split_domains(source, target, test_fraction=fraction, seed=seed)
    except UserError as error:
        assume("examples are left" not in str(error))
        raise


@given(numbers, numbers, fractions, seeds)
def test_no_identity_stands_on_two_sides(
    first: list[int], second: list[int], fraction: float, seed: int
) -> None:
    parts = split_or_skip(domain("s", first), domain("t", second), fraction, seed)
    tested = ids(parts.source_test) | ids(parts.target_test)
    assert not ids(parts.source_train) & ids(parts.target_train)
    assert not (ids(parts.source_train) | ids(parts.target_train)) & tested


@given(numbers, numbers, fractions, seeds)
def test_only_training_identities_of_the_other_domain_are_left_out(
    first: list[int], second: list[int], fraction: float, seed: int
) -> None:
    source, target = domain("s", first), domain("t", second)
    parts = split_or_skip(source, target, fraction, seed)
    assert ids(parts.source_test) == ids(source) & (ids(parts.source_test) | ids(parts.target_test))
    assert ids(source) - ids(parts.source_train) - ids(parts.source_test) <= ids(parts.target_train)
    assert ids(target) - ids(parts.target_train) - ids(parts.target_test) <= ids(parts.source_train)
    for part in (parts.source_train, parts.source_test):
        chosen = [n for n in first if str(n) in ids(part)]
        assert sorted(part.identities.tolist()) == sorted(map(str, chosen))


@given(numbers, numbers, fractions, seeds)
def test_the_split_follows_the_seed_and_not_the_order_of_examples(
    first: list[int], second: list[int], fraction: float, seed: int
) -> None:
    source, target = domain("s", first), domain("t", second)
    parts = split_or_skip(source, target, fraction, seed)
    shuffled = source.take(np.random.default_rng(seed).permutation(len(source)))
    again = split_domains(shuffled, target, test_fraction=fraction, seed=seed)
    for field in ("source_train", "source_test", "target_train", "target_test"):
        assert ids(getattr(parts, field)) == ids(getattr(again, field))


@given(numbers, numbers, fractions, seeds)
def test_target_labels_decide_nothing(
    first: list[int], second: list[int], fraction: float, seed: int
) -> None:
    source, target = domain("s", first), domain("t", second)
    parts = split_or_skip(source, target, fraction, seed)
    assert target.labels is not None
    wrong = replace(target, labels=(target.labels + 1) % CLASSES)
    unlabelled = replace(target, labels=None, classes=())
    for other in (wrong, unlabelled):
        again = split_domains(source, other, test_fraction=fraction, seed=seed)
        for field in ("source_train", "source_test", "target_train", "target_test"):
            assert ids(getattr(parts, field)) == ids(getattr(again, field))


def test_another_seed_gives_another_split() -> None:
    source = domain("s", list(range(60)))
    tests = [ids(split_domains(source, None, seed=seed).source_test) for seed in range(3)]
    assert tests[0] != tests[1] != tests[2]


def test_target_training_has_no_labels_but_the_oracle_does() -> None:
    parts = split_domains(domain("s", list(range(60))), domain("t", list(range(60))))
    assert parts.target_train is not None and parts.target_train.labels is None
    assert parts.target_oracle is not None and parts.target_oracle.labels is not None
    assert parts.target_oracle.names.tolist() == parts.target_train.names.tolist()
    assert parts.target_oracle.labels.tolist() == labels_of(parts.target_train.identities.tolist())


def test_an_unlabelled_target_has_no_oracle() -> None:
    target = domain("t", list(range(60, 120))).without_labels()
    parts = split_domains(domain("s", list(range(60))), target)
    assert parts.target_oracle is None
    assert parts.target_test is not None and parts.target_test.labels is None


def test_without_a_target_the_source_is_split_alone() -> None:
    parts = split_domains(domain("s", list(range(60))), None)
    assert (len(parts.source_train), len(parts.source_test)) == (45, 15)
    assert parts.target_train is parts.target_test is parts.target_oracle is None


def test_domains_that_share_nothing_keep_all_their_training_examples() -> None:
    parts = split_domains(domain("s", list(range(60))), domain("t", list(range(60, 140))))
    assert parts.target_train is not None and parts.target_test is not None
    assert (len(parts.source_train), len(parts.source_test)) == (45, 15)
    assert (len(parts.target_train), len(parts.target_test)) == (60, 20)


def test_emoji_are_split_into_half_a_quarter_and_a_quarter() -> None:
    small = Preprocess(8, 1, (0.0,), (1.0,))
    google, twitter = (embedded.load(f"emoji/{house}", small) for house in ("google", "twitter"))
    parts = split_domains(google, twitter, seed=1)
    assert parts.target_train is not None and parts.target_test is not None
    sizes = [len(p) for p in (parts.source_train, parts.target_train, parts.target_test)]
    np.testing.assert_allclose(np.array(sizes) / 1906, [0.5, 0.25, 0.25], atol=0.001)
    assert parts.source_train.labels is not None and google.labels is not None
    kept = np.bincount(parts.source_train.labels) / np.bincount(google.labels)
    np.testing.assert_allclose(kept, 0.5, atol=0.02)


def test_a_class_of_one_identity_is_trained_on() -> None:
    source = vectors([str(i) for i in range(9)], [0, 1, 1, 1, 1, 2, 2, 2, 2])
    for fraction in (0.25, 0.6, 0.9):
        train = split_domains(source, None, test_fraction=fraction).source_train
        assert train.labels is not None and set(train.labels.tolist()) == {0, 1, 2}


def test_an_identity_of_several_classes_is_split_the_same_in_any_order() -> None:
    source = vectors(list("aabbccddeeff"), [0, 1, 1, 2, 2, 0, 2, 1, 1, 1, 0, 0])
    backwards = source.take(range(11, -1, -1))
    for seed in range(10):
        tests = [ids(split_domains(s, None, seed=seed).source_test) for s in (source, backwards)]
        assert tests[0] == tests[1]


def test_splits_are_the_same_in_every_process_and_version_of_jtl() -> None:
    parts = split_domains(domain("s", list(range(16))), domain("t", list(range(8, 24))), seed=3)
    found = [sorted(map(int, ids(p))) for p in (parts.source_train, parts.target_train)]
    assert found == [[2, 3, 4, 5, 6, 7, 9, 10, 11, 13], [8, 15, 16, 17, 18, 20, 22, 23]]


def test_a_given_split_is_kept() -> None:
    source = vectors(list("abcdef"), [0, 1, 2] * 2, split=["train"] * 4 + ["test"] * 2)
    target = domain("t", list(range(40)))
    parts = split_domains(source, target)
    assert ids(parts.source_train) == set("abcd") and ids(parts.source_test) == set("ef")
    assert parts.target_test is not None and len(parts.target_test) == 10


def test_a_given_split_of_one_domain_holds_for_identities_it_shares() -> None:
    source = vectors(list("abcdef"), [0, 1, 2] * 2, split=["train"] * 4 + ["test"] * 2)
    target = vectors(list("abcdefghij"), None, name="t")
    for seed in range(5):
        parts = split_domains(source, target, seed=seed)
        assert ids(parts.target_test) & set("abcdef") == set("ef")
        assert not ids(parts.target_train) & (ids(parts.source_train) | set("ef"))


def test_given_splits_that_contradict_each_other_are_refused() -> None:
    source = vectors(list("abcd"), [0, 1, 2, 0], name="s", split=["train"] * 2 + ["test"] * 2)
    target = vectors(list("abcd"), None, name="t", split=["test"] * 2 + ["train"] * 2)
    with pytest.raises(UserError, match=r"s and t: a is in a training split and in a test split"):
        split_domains(source, target)


def test_an_unlabelled_source_is_refused() -> None:
    with pytest.raises(UserError, match=r"s: has no labels"):
        split_domains(vectors(list("abcd"), None, name="s"), None)


def test_a_domain_with_nothing_left_is_named() -> None:
    source = vectors(list("abcd"), [0, 1, 2, 0], name="s", split=["train"] * 4)
    with pytest.raises(UserError, match=r"s: no test examples are left of its 4"):
        split_domains(source, None)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        split_domains(domain("s", list(range(60))), None, test_fraction=fraction)


@pytest.mark.parametrize(
    ("source_classes", "target_classes", "message"),
    [
        (("a", "b", "c"), ("a", "b"), r"t: s has classes that it lacks \(c\);"),
        (("a", "b"), ("a", "b", "c"), r"s: t has classes that it lacks \(c\);"),
        (("a", "b"), ("c", "d"), r"t: s has classes that it lacks \(a, b\);"),
    ],
)
def test_classes_that_differ_are_named(
    source_classes: tuple[str, ...], target_classes: tuple[str, ...], message: str
) -> None:
    source = vectors(["1", "2"], [0, 1], name="s", classes=source_classes)
    target = vectors(["3", "4"], [0, 1], name="t", classes=target_classes)
    with pytest.raises(UserError, match=message):
        check_same_classes(source, target)


def test_classes_in_another_order_are_put_in_the_sources() -> None:
    source = vectors(["1"], [0], name="s", classes=("a", "b", "c"))
    target = vectors(["3", "4", "5"], [0, 1, 2], name="t", classes=("c", "a", "b"))
    matched = check_same_classes(source, target)
    assert matched.labels is not None and matched.labels.tolist() == [2, 0, 1]
    assert matched.classes == source.classes
    assert matched.notes == ("classes were put in the order of s",)


def test_an_unlabelled_target_needs_no_classes() -> None:
    target = vectors(["3"], None)
    assert check_same_classes(vectors(["1"], [0]), target) is target
