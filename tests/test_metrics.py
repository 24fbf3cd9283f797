import time
from random import Random

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from jtl import metrics
from jtl.errors import UserError
from jtl.metrics import intervals


def predictions(examples: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random probabilities that are right more often than chance, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=examples)
    logits = generator.normal(size=(examples, classes)) * 1.5
    logits[np.arange(examples), labels] += 1.5
    odds = np.exp(logits)
    return odds / odds.sum(1, keepdims=True), labels


@st.composite
def evaluated(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    examples, classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    odds = draw(hnp.arrays(np.float64, (examples, classes), elements=st.floats(0.01, 1)))
    labels = draw(hnp.arrays(np.int64, examples, elements=st.integers(0, classes - 1)))
    return odds / odds.sum(1, keepdims=True), labels


def naive_ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for k in range(15):
        inside = [i for i, row in enumerate(probabilities) if k / 15 < max(row) <= (k + 1) / 15]
        if inside:
            right = np.mean([probabilities[i].argmax() == labels[i] for i in inside])
            total += len(inside) / len(labels) * abs(right - probabilities[inside].max(1).mean())
    return total


@pytest.mark.parametrize("classes", [2, 9])
def test_metrics_agree_with_scikit_learn(classes: int) -> None:
    probabilities, labels = predictions(400, classes)
    predicted = probabilities.argmax(1)
    assert metrics.accuracy(probabilities, labels) == pytest.approx(
        sk.accuracy_score(labels, predicted)
    )
    assert metrics.balanced_accuracy(probabilities, labels) == pytest.approx(
        sk.balanced_accuracy_score(labels, predicted)
    )
    assert metrics.macro_f1(probabilities, labels) == pytest.approx(
        sk.f1_score(labels, predicted, average="macro")
    )
    assert metrics.log_loss(probabilities, labels) == pytest.approx(
        sk.log_loss(labels, probabilities)
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(probabilities, labels), sk.confusion_matrix(labels, predicted)
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_a_class_absent_from_the_labels_counts_as_in_scikit_learn() -> None:
    probabilities, labels = predictions(60, 5)
    labels[labels == 2] = 3
    predicted = probabilities.argmax(1)
    assert 2 in predicted
    assert metrics.balanced_accuracy(probabilities, labels) == pytest.approx(
        sk.balanced_accuracy_score(labels, predicted)
    )
    assert metrics.macro_f1(probabilities, labels) == pytest.approx(
        sk.f1_score(labels, predicted, average="macro")
    )
    assert metrics.confusion_matrix(probabilities, labels).shape == (5, 5)


@given(evaluated())
def test_ece_is_the_sum_over_bins(example: tuple[np.ndarray, np.ndarray]) -> None:
    assert metrics.ece(*example) == pytest.approx(naive_ece(*example), abs=1e-9)


def test_reliability_holds_the_bins_of_ece() -> None:
    probabilities, labels = predictions(500, 4)
    bins = metrics.reliability(probabilities, labels)
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    assert (bins.counts * gaps).sum() / 500 == pytest.approx(metrics.ece(probabilities, labels))
    assert bins.counts.sum() == 500 and len(bins.edges) == 16
    assert np.isnan(bins.accuracy[bins.counts == 0]).all() and (bins.counts == 0).any()


@given(evaluated(), st.randoms(use_true_random=False))
def test_order_of_examples_does_not_matter(
    example: tuple[np.ndarray, np.ndarray], random: Random
) -> None:
    probabilities, labels = example
    order = list(range(len(labels)))
    random.shuffle(order)
    for name in metrics.METRICS:
        score = getattr(metrics, name)
        assert score(probabilities[order], labels[order]) == pytest.approx(
            score(probabilities, labels)
        )


@settings(max_examples=40)
@given(evaluated())
def test_metrics_stay_in_bounds(example: tuple[np.ndarray, np.ndarray]) -> None:
    summary = metrics.summarize(*example, resamples=50)
    assert tuple(summary) == metrics.METRICS
    for name, entry in summary.items():
        top = -np.log(metrics.SMALLEST) if name == "log_loss" else 1.0
        assert all(-1e-12 <= entry[key] <= top + 1e-12 for key in ("value", "low", "high"))
        assert entry["low"] <= entry["high"]
        assert type(entry["value"]) is float


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    confidence = np.array([0.6, 0.61, 1.0])  # 0.6 is the edge 9 / 15
    bins = metrics.reliability(np.stack([confidence, 1 - confidence], 1), np.zeros(3, int))
    assert np.flatnonzero(bins.counts).tolist() == [8, 9, 14]


def test_perfect_predictions_are_perfect_with_no_interval() -> None:
    labels = np.arange(30) % 5
    for entry_name, entry in metrics.summarize(np.eye(5)[labels], labels).items():
        best = 0.0 if entry_name in ("ece", "log_loss") else 1.0
        assert entry == {"value": best, "low": best, "high": best}


def test_certain_and_wrong_has_a_finite_log_loss() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(15.94, abs=0.01)


def test_one_example_is_enough() -> None:
    summary = metrics.summarize(np.array([[0.25, 0.75]]), np.array([1]))
    assert summary["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert summary["log_loss"]["low"] == pytest.approx(-np.log(0.75))


def test_value_lies_in_its_interval() -> None:
    outside = 0
    for seed in range(20):
        summary = metrics.summarize(*predictions(200, 5, seed), resamples=300)
        outside += sum(
            not entry["low"] <= entry["value"] <= entry["high"]
            for name, entry in summary.items()
            if name != "ece"  # the bootstrap of a positive bias is biased: stated in ece
        )
    assert outside == 0


def test_the_interval_is_that_of_redrawn_examples() -> None:
    probabilities, labels = predictions(300, 4)
    generator = np.random.default_rng(7)
    naive = {name: [] for name in metrics.METRICS}
    for _ in range(400):
        drawn = generator.integers(300, size=300)
        for name in metrics.METRICS:
            naive[name].append(getattr(metrics, name)(probabilities[drawn], labels[drawn]))
    for name, entry in metrics.summarize(probabilities, labels).items():
        low, high = np.percentile(naive[name], [2.5, 97.5])
        slack = 0.25 * (high - low)  # two samples of the same bootstrap distribution
        assert entry["low"] == pytest.approx(low, abs=slack)
        assert entry["high"] == pytest.approx(high, abs=slack)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        correct = generator.random(150) < 0.7
        confident = np.tile([0.8, 0.2], (150, 1))
        entry = metrics.summarize(confident, np.where(correct, 0, 1), resamples=200)["accuracy"]
        covered += entry["low"] <= 0.7 <= entry["high"]
    assert 0.90 <= covered / 300 <= 0.985


def test_same_seed_same_interval_and_another_seed_another() -> None:
    example = predictions(100, 4)
    assert metrics.summarize(*example, seed=3) == metrics.summarize(*example, seed=3)
    assert metrics.summarize(*example, seed=3) != metrics.summarize(*example, seed=4)


def test_chunks_do_not_change_how_many_resamples_there_are() -> None:
    rows = [len(weights) for weights in intervals.resample(1_000_000, 0, 6)]
    assert rows == [4, 2]
    assert all((w.sum(1) == 1_000_000).all() for w in intervals.resample(1_000_000, 0, 2))


def test_a_thousand_examples_take_less_than_a_second() -> None:
    example = predictions(1000, 10)
    start = time.perf_counter()
    metrics.summarize(*example)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "says"),
    [
        (np.array([[np.nan, 0.5], [0.5, 0.5]]), np.array([0, 1]), "1 of 2 .*example 0.*diverged"),
        (np.array([[np.inf, 0.5]]), np.array([0]), "not finite"),
        (np.zeros((0, 3)), np.zeros(0, int), "no example"),
        (np.array([[0.5, 0.5]]), np.array([0, 1]), "do not belong together"),
        (np.array([0.5, 0.5]), np.array([0, 1]), "do not belong together"),
        (np.array([[2.0, -1.0]]), np.array([0]), "softmax"),
        (np.array([[3.0, 1.0]]), np.array([0]), "softmax"),
        (np.array([[0.5, 0.5]]), np.array([2]), "label 2 of example 0"),
        (np.array([[0.5, 0.5]]), np.array([-1]), "label -1 of example 0"),
        (np.array([[0.5, 0.5]]), np.array([0.0]), "float64"),
    ],
)
def test_what_cannot_be_scored_says_why(
    probabilities: np.ndarray, labels: np.ndarray, says: str
) -> None:
    with pytest.raises(UserError, match=says) as raised:
        metrics.summarize(probabilities, labels)
    assert "\n" not in str(raised.value)
