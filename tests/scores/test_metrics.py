"""Metrics against scikit-learn, SciPy and plain loops; what is degenerate, and what is refused."""

import itertools
import time
from random import Random

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score

from jtl import metrics
from jtl.errors import UserError
from jtl.metrics import intervals, linear


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


# --- AUROC, Brier, per class ----------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("rounded", [2, 16])  # two decimals make many ties
def test_auroc_agrees_with_scikit_learn(classes: int, rounded: int) -> None:
    probabilities, labels = predictions(300, classes)
    probabilities = probabilities.round(rounded)
    probabilities[:, 0] += 1 - probabilities.sum(1)
    probabilities = probabilities.clip(0)
    # scikit-learn wants rows that sum to one to the last digit, and ranks each class by itself.
    areas = [sk.roc_auc_score(labels == c, probabilities[:, c]) for c in range(classes)]
    expected = areas[1] if classes == 2 else np.mean(areas)
    assert metrics.auroc(probabilities, labels) == pytest.approx(expected)
    if rounded == 16 and classes > 2:
        assert expected == pytest.approx(
            sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        )


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    probabilities, labels = predictions(40, 2)
    score = probabilities[:, 1]
    pairs = [
        (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        for i in np.flatnonzero(labels == 1)
        for j in np.flatnonzero(labels == 0)
    ]
    assert metrics.auroc(probabilities, labels) == pytest.approx(np.mean(pairs))


def test_auroc_leaves_out_a_class_without_examples() -> None:
    probabilities, labels = predictions(60, 5)
    labels[labels == 2] = 3
    present = [0, 1, 3, 4]
    areas = [sk.roc_auc_score(labels == c, probabilities[:, c]) for c in present]
    assert metrics.auroc(probabilities, labels) == pytest.approx(np.mean(areas))


def test_auroc_of_one_class_is_not_defined() -> None:
    with pytest.raises(UserError, match="all labels are of one class"):
        metrics.auroc(np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([1, 1]))


@pytest.mark.parametrize("classes", [2, 6])
def test_brier_and_accuracy_per_class_agree_with_scikit_learn(classes: int) -> None:
    probabilities, labels = predictions(200, classes)
    assert metrics.brier(probabilities, labels) == pytest.approx(
        sk.brier_score_loss(labels, probabilities, scale_by_half=False)
    )
    labels[labels == 1] = 0  # class 1 is absent
    np.testing.assert_allclose(
        metrics.per_class_accuracy(probabilities, labels),
        sk.recall_score(
            labels,
            probabilities.argmax(1),
            labels=range(classes),
            average=None,
            zero_division=np.nan,
        ),
    )
    assert np.isnan(metrics.per_class_accuracy(probabilities, labels)[1])


@given(evaluated(), st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter_to_the_other_metrics(
    example: tuple[np.ndarray, np.ndarray], random: Random
) -> None:
    probabilities, labels = example
    rows, columns = list(range(len(labels))), list(range(probabilities.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    renamed = np.argsort(columns)[labels]
    shuffled = probabilities[rows][:, columns], renamed[rows]
    assert 0 <= metrics.brier(*example) <= 2
    assert metrics.brier(*shuffled) == pytest.approx(metrics.brier(*example))
    if all((row == row.max()).sum() == 1 for row in probabilities):  # a tie goes to the first
        np.testing.assert_allclose(
            metrics.per_class_accuracy(*shuffled), metrics.per_class_accuracy(*example)[columns]
        )
    if len(set(labels)) > 1:
        assert 0 <= metrics.auroc(*example) <= 1
    if len(set(labels)) > 1 and len(columns) > 2:
        assert metrics.auroc(*shuffled) == pytest.approx(metrics.auroc(*example))


def test_certain_predictions_are_scored() -> None:
    labels = np.array([0, 1, 2, 2])
    right, wrong = np.eye(3)[labels], np.eye(3)[(labels + 1) % 3]
    assert (metrics.brier(right, labels), metrics.brier(wrong, labels)) == (0.0, 2.0)
    assert metrics.auroc(right, labels) == 1.0
    assert metrics.auroc(np.full((4, 3), 1 / 3), labels) == 0.5


# --- domains --------------------------------------------------------------------------------------


def left_out_log_odds(
    source: np.ndarray, target: np.ndarray, penalty: float, chosen: np.ndarray
) -> np.ndarray:
    """By fitting again without each of the chosen examples."""
    features = np.concatenate([source, target])
    domain = np.repeat([1, 0], [len(source), len(target)])
    weight = np.where(domain, 0.5 / len(source), 0.5 / len(target))
    mean = weight @ features
    features = (features - mean) / np.sqrt(weight @ (features - mean) ** 2)
    values = []
    for i in chosen:
        rest = np.arange(len(features)) != i
        weights = np.where(domain, 0.5 / domain[rest].sum(), 0.5 / (1 - domain[rest]).sum())
        model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000)
        model.fit(features[rest], domain[rest], sample_weight=weights[rest])
        values.append(model.decision_function(features[i : i + 1])[0])
    return np.array(values)


@pytest.mark.parametrize(
    ("examples", "features", "shift"),
    [((60, 40), 4, 0.7), ((50, 20), 15, 0.2), ((25, 25), 60, 0.5)],
)
def test_log_ratios_are_those_of_a_classifier_without_the_example(
    examples: tuple[int, int], features: int, shift: float
) -> None:
    generator = np.random.default_rng(0)
    source = generator.normal(size=(examples[0], features))
    target = generator.normal(size=(examples[1], features)) + shift
    chosen = generator.choice(sum(examples), size=12, replace=False)
    log_ratio = np.concatenate(metrics.domain_log_ratio(source, target))[chosen]
    errors = []
    for penalty in linear.PENALTIES:
        left_out = -left_out_log_odds(source, target, penalty, chosen)
        errors.append(np.abs(left_out - log_ratio).max() / np.abs(left_out).max())
    assert min(errors) < 0.02, "for the penalty that was chosen"
    assert sorted(errors)[1] > 0.05, "or the test could not fail"


def test_the_intercept_is_not_penalised(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    source, target = generator.exponential(size=(30, 2)), 3 * generator.exponential(size=(90, 2))
    monkeypatch.setattr(linear, "PENALTIES", (1.0,))
    log_ratio = np.concatenate(metrics.domain_log_ratio(source, target))
    left_out = -left_out_log_odds(source, target, 1.0, np.arange(120))
    np.testing.assert_allclose(log_ratio, left_out, atol=5e-4)
    assert np.abs(left_out).max() > 0.5


def test_the_penalty_is_the_one_that_predicts_left_out_examples_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(1)
    for features, shift in ((3, 1.0), (40, 0.3), (100, 0.0)):
        source = generator.normal(size=(60, features))
        target = generator.normal(size=(60, features)) + shift

        def loss(penalties: tuple[float, ...], source=source, target=target) -> float:
            monkeypatch.setattr(linear, "PENALTIES", penalties)
            of_source, of_target = metrics.domain_log_ratio(source, target)
            return np.logaddexp(0, of_source).mean() + np.logaddexp(0, -of_target).mean()

        chosen = loss((1.0, 0.1, 0.01, 0.001))
        assert chosen == pytest.approx(min(loss((p,)) for p in (1.0, 0.1, 0.01, 0.001)), rel=1e-6)


@pytest.mark.parametrize("shape", [(40, 5), (20, 50)])
def test_the_ridge_probe_is_that_of_scikit_learn(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(2, 3, size=shape)
    labels = features[:, 1:4].argmax(1)  # which a weak penalty predicts best
    features[:, 0] = 0.1  # constant, and not exactly its own mean
    standard = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    errors = []
    for penalty in linear.PENALTIES:
        oracle = Ridge(alpha=penalty * len(features)).fit(standard, np.eye(3)[labels])
        left_out = []
        for i in range(len(features)):
            rest = np.arange(len(features)) != i
            without = Ridge(alpha=penalty * len(features)).fit(
                standard[rest], np.eye(3)[labels[rest]]
            )
            left_out.append(
                np.sum((without.predict(standard[i : i + 1]) - np.eye(3)[labels[i]]) ** 2)
            )
        errors.append(np.mean(left_out))
        monkeypatch.setattr(linear, "PENALTIES", (penalty,))
        probe = linear.fit_ridge(features, labels, 3)
        np.testing.assert_allclose(probe.coefficients.T, oracle.coef_, atol=1e-9)
        np.testing.assert_allclose(probe.intercept, oracle.intercept_, atol=1e-9)
        np.testing.assert_array_equal(probe(features), oracle.predict(standard).argmax(1))
    monkeypatch.undo()
    best = (1.0, 0.1, 0.01, 0.001)[int(np.argmin(errors))]
    assert (best < 1) == (shape[1] < shape[0])
    chosen = linear.fit_ridge(features, labels, 3)
    oracle = Ridge(alpha=best * len(features)).fit(standard, np.eye(3)[labels])
    np.testing.assert_allclose(chosen.coefficients.T, oracle.coef_, atol=1e-9)


def test_a_distance_is_large_between_what_a_line_separates_and_small_else() -> None:
    generator = np.random.default_rng(0)
    one, same = generator.normal(size=(2, 300, 5))
    assert metrics.a_distance(one, one + 100) == 2.0
    assert abs(metrics.a_distance(one, same)) < 0.25
    moved = metrics.a_distance(one, same + 0.5)
    features, domain = np.concatenate([one, same + 0.5]), np.repeat([0, 1], 300)
    error = 1 - cross_val_score(LogisticRegression(), features, domain, cv=10).mean()
    assert moved == pytest.approx(2 * (1 - 2 * error), abs=0.1)


def test_a_larger_domain_is_not_further_away() -> None:
    generator = np.random.default_rng(0)
    small, large = generator.normal(size=(100, 5)), generator.normal(size=(900, 5))
    assert abs(metrics.a_distance(small, large)) < 0.25, "not 1.6, for always naming the larger"


@pytest.mark.parametrize("features", [np.full((20, 3), 0.1), np.zeros((20, 1))])
def test_constant_features_are_at_distance_zero(features: np.ndarray) -> None:
    assert metrics.a_distance(features, features[:7]) == 0.0


def test_rounding_is_not_a_distance() -> None:
    features = np.full((20, 3), 0.1, np.float32)
    assert metrics.a_distance(features, np.nextafter(features, np.float32(1))) == 0.0


def test_more_features_than_examples_are_not_a_distance() -> None:
    one, same = np.random.default_rng(0).normal(size=(2, 40, 300))
    assert abs(metrics.a_distance(one, same)) < 0.6, "a line separates them, and means nothing"


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        (np.ones(3), np.ones(3), "give \\[examples, features\\], equally wide"),
        (np.ones((3, 2)), np.ones((3, 4)), "equally wide"),
        (np.ones((1, 2)), np.ones((3, 2)), "1 source and 3 target examples .* too few"),
        (np.ones((3, 0)), np.ones((3, 0)), "0 features are too few"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), "source features of 3 of 3 .*diverged"),
        (np.ones((3, 2)), np.full((3, 2), np.inf), "target features of 3 of 3"),
    ],
)
def test_domains_that_do_not_compare_say_why(
    source: np.ndarray, target: np.ndarray, says: str
) -> None:
    with pytest.raises(UserError, match=says) as raised:
        metrics.a_distance(source, target)
    assert "\n" not in str(raised.value)


# --- intervals of any score -----------------------------------------------------------------------


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    ours = metrics.bootstrap(np.mean, values, resamples=4000, level=0.5)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=0.5, n_resamples=4000, rng=1
    ).confidence_interval
    assert ours["value"] == values.mean()
    slack = 0.1 * (theirs.high - theirs.low)  # two samples of the same distribution
    assert ours["low"] == pytest.approx(theirs.low, abs=slack)
    assert ours["high"] == pytest.approx(theirs.high, abs=slack)


def test_a_bootstrap_redraws_rows_of_all_arrays_together() -> None:
    x = np.arange(20.0)
    same = metrics.bootstrap(lambda a, b: float(np.abs(a - b).max()), x, x.copy(), resamples=50)
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}
    first = metrics.bootstrap(np.mean, x, seed=1, resamples=50)
    assert first == metrics.bootstrap(np.mean, x, seed=1, resamples=50)
    assert first != metrics.bootstrap(np.mean, x, seed=2, resamples=50)


def test_draws_that_leave_a_score_undefined_are_made_again() -> None:
    probabilities, labels = predictions(30, 2)
    labels[:] = 0
    labels[:2] = 1  # 13 % of the draws have no positive
    interval = metrics.bootstrap(metrics.auroc, probabilities, labels, resamples=200)
    assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1


def defined_for_all_different(values: np.ndarray) -> float:
    if len(set(values)) < len(values):
        raise UserError("not defined")
    return 1.0


def test_a_bootstrap_that_cannot_be_made_says_why() -> None:
    labels = np.zeros(40, int)
    labels[0] = 1  # 37 % of the draws have no positive
    metrics.bootstrap(metrics.auroc, np.full((40, 2), 0.5), labels, resamples=50)
    with pytest.raises(UserError, match="most draws from 4 examples leave the score undefined"):
        metrics.bootstrap(defined_for_all_different, np.arange(4), resamples=50)
    with pytest.raises(UserError, match="all labels are of one class"):
        metrics.bootstrap(metrics.auroc, np.full((2, 2), 0.5), np.zeros(2, int))
    for arrays in ((), (np.ones(2), np.ones(3)), (np.ones(0),)):
        with pytest.raises(UserError, match="equally many in each array"):
            metrics.bootstrap(np.mean, *arrays)
    for level in (0.0, 1.0, 95):
        with pytest.raises(UserError, match="a share between 0 and 1"):
            metrics.bootstrap(np.mean, np.ones(2), level=level)


# --- comparisons ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [2, 5, 8])
def test_the_paired_test_agrees_with_scipy(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    first, second = generator.normal(0.8, 0.05, pairs), generator.normal(0.75, 0.05, pairs)
    ours = metrics.paired_test(first, second)
    assert ours.t == pytest.approx(stats.ttest_rel(first, second).statistic)
    exact = stats.permutation_test(
        (first - second,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert ours.p_value == pytest.approx(exact.pvalue)
    assert ours.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert ours.deviation == pytest.approx(np.std(first - second, ddof=1))
    assert ours.pairs == pairs


@given(
    hnp.arrays(np.float64, st.integers(2, 7), elements=st.sampled_from([-0.3, -0.1, 0, 0.1, 0.2]))
)
def test_the_p_value_counts_sign_patterns_and_ties(differences: np.ndarray) -> None:
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    far = np.abs((patterns * differences).sum(1)) >= abs(differences.sum()) - 1e-9
    ours = metrics.paired_test(0.5 + differences, np.full(len(differences), 0.5))
    assert ours.p_value == pytest.approx(far.mean())
    mirrored = metrics.paired_test(np.full(len(differences), 0.5), 0.5 + differences)
    assert mirrored.p_value == ours.p_value and mirrored.t == pytest.approx(-ours.t)


def test_patterns_that_tie_but_for_rounding_count() -> None:
    differences = np.array([-0.5, -0.4, -0.2, 0.3, 0.1])
    in_tenths = np.array([-5, -4, -2, 3, 1])
    patterns = np.array(list(itertools.product([-1, 1], repeat=5)))
    far = np.abs((patterns * in_tenths).sum(1)) >= abs(in_tenths.sum())
    assert metrics.paired_test(differences, np.zeros(5)).p_value == far.mean()


def test_five_seeds_cannot_reject_at_five_percent_and_six_can() -> None:
    always_better = {n: metrics.paired_test(np.full(n, 0.9), np.full(n, 0.1)) for n in (5, 6)}
    assert always_better[5].p_value == 2 / 2**5 > 0.05
    assert always_better[6].p_value == 2 / 2**6 < 0.05
    assert always_better[5].t == np.inf and always_better[5].deviation == 0


def test_equal_scores_do_not_differ() -> None:
    equal = metrics.paired_test(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3]))
    assert equal == metrics.PairedTest(0.0, 0.0, 0.0, 1.0, 3)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (np.ones(3), np.ones(4), "3 and 4 scores"),
        (np.ones(1), np.ones(1), "2 to 24"),
        (np.ones(25), np.ones(25), "2 to 24"),
        (np.array([0.1, np.nan]), np.ones(2), "first: give one finite number"),
        (np.ones(2), np.ones((2, 2)), "second: give one finite number"),
    ],
)
def test_runs_that_do_not_pair_say_why(first: np.ndarray, second: np.ndarray, says: str) -> None:
    with pytest.raises(UserError, match=says):
        metrics.paired_test(first, second)


@pytest.mark.parametrize(("one", "two"), [(0, 0), (1, 0), (3, 9), (9, 3), (7, 7), (40, 61)])
def test_mcnemar_is_the_binomial_test_of_where_they_differ(one: int, two: int) -> None:
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    first = np.array([right] * one + [wrong] * two + [right, wrong] * 5)
    second = np.array([wrong] * one + [right] * two + [right, wrong] * 5)
    ours = metrics.mcnemar(first, second, np.zeros(len(first), int))
    assert (ours.only_first, ours.only_second) == (one, two)
    expected = stats.binomtest(one, one + two).pvalue if one + two else 1.0
    assert ours.p_value == pytest.approx(expected)


def test_mcnemar_of_a_million_examples_is_finite() -> None:
    first, second = np.tile([0.9, 0.1], (1_000_000, 1)), np.tile([0.2, 0.8], (1_000_000, 1))
    second[:500_500] = [0.9, 0.1]
    first[:499_000] = [0.2, 0.8]
    ours = metrics.mcnemar(first, second, np.zeros(1_000_000, int))
    expected = stats.binomtest(ours.only_first, ours.only_first + ours.only_second).pvalue
    assert ours.p_value == pytest.approx(expected, rel=1e-6)


def test_mcnemar_wants_the_same_classes() -> None:
    with pytest.raises(UserError, match="2 and 3 classes"):
        metrics.mcnemar(np.eye(2), np.eye(3)[:2], np.arange(2))


def test_transfer_gain_is_a_difference_and_a_share_of_the_error() -> None:
    gain = metrics.transfer_gain(np.array([0.9, 0.7]), np.array([0.5, 0.6, 0.7]))
    assert gain == pytest.approx((0.2, 0.5))
    assert metrics.transfer_gain(np.array([0.5]), np.array([0.6])).relative == pytest.approx(-0.25)
    assert np.isnan(metrics.transfer_gain(np.array([0.5]), np.array([1.0])).relative)
    for scores in (np.array([]), np.array([50.0]), np.array([-0.1]), np.array([np.nan])):
        with pytest.raises(UserError, match="transfer_gain: from_scratch: give one"):
            metrics.transfer_gain(np.array([0.5]), scores)
