"""Validators against independent definitions; what they may read; what degenerate models score."""

import doctest
import itertools
import math
import re
import time
from pathlib import Path

import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from jtl import losses, metrics, validators
from jtl.errors import UserError
from jtl.validators import (
    AVAILABLE,
    ENTROPY,
    INFORMATION_MAXIMIZATION,
    POOL_VALIDATORS,
    SOURCE_RISK,
    VALIDATORS,
    PoolValidator,
    Validator,
    target,
)

ALL = VALIDATORS | POOL_VALIDATORS
OF_PREDICTIONS = [name for name, v in VALIDATORS.items() if v.reads == ("target_probabilities",)]
every_validator = pytest.mark.parametrize("name", VALIDATORS)
every_score_of_predictions = pytest.mark.parametrize("name", OF_PREDICTIONS)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def probabilities(
    sharpness: float, examples: int = 50, classes: int = 4, seed: int = 0
) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return softmax(sharpness * generator.normal(size=(examples, classes)))


def model(noise: float, seed: int = 0, examples: int = 300) -> dict[str, np.ndarray]:
    """What is known of a model: three classes, a target that is moved, features seen with noise."""
    generator = np.random.default_rng(seed)
    centres = 3 * np.eye(3)
    available = {}
    for domain, moved in (("source", 0.0), ("target", 0.7)):
        labels = generator.integers(3, size=examples)
        inputs = centres[labels] + generator.normal(size=(examples, 3)) + moved
        features = inputs + noise * generator.normal(size=inputs.shape)
        available |= {
            f"{domain}_labels": labels,
            f"{domain}_features": features,
            f"{domain}_probabilities": softmax(3 * features),
        }
    return available


@st.composite
def predicted(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.integers(2, 20)), draw(st.integers(2, 5))
    odds = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 1.0])))
    odds[:, 0] += odds.sum(1) == 0
    return odds / odds.sum(1, keepdims=True)


# --- what they read -------------------------------------------------------------------------------


@every_validator
def test_a_validator_gets_only_what_it_declares(name: str) -> None:
    given, validator = {}, VALIDATORS[name]
    spy = Validator(lambda **arrays: given.update(arrays) or 0.0, validator.reads)
    spy({name: np.zeros(1) for name in (*AVAILABLE, "target_labels")})
    assert tuple(given) == validator.reads


def test_a_pool_validator_gets_only_what_it_declares() -> None:
    given = {}
    spy = PoolValidator(lambda **lists: given.update(lists) or [0.0], ("target_probabilities",))
    spy([{"target_probabilities": np.eye(2), "target_labels": np.zeros(2)}] * 3)
    assert [name for name, arrays in given.items() if len(arrays) == 3] == ["target_probabilities"]


def test_no_validator_reads_target_labels() -> None:
    assert "target_labels" not in AVAILABLE
    for kind in (Validator, PoolValidator):
        with pytest.raises(UserError, match="cannot read target_labels"):
            kind(validators.entropy, reads=("target_labels",))


@every_validator
def test_no_score_changes_with_target_labels(name: str) -> None:
    available = model(0.5)
    score = VALIDATORS[name](available)
    available["target_labels"] = np.roll(available["target_labels"], 1)
    assert VALIDATORS[name](available) == score


def test_the_labels_read_are_declared() -> None:
    read = {name: validator.labels for name, validator in ALL.items()}
    none = {"entropy", "information_maximization", "snd", "bnm", "mcc", "ensv"}
    assert {name for name, labels in read.items() if labels == ()} == none
    assert {labels for name, labels in read.items() if name not in none} == {("source_labels",)}


@pytest.mark.parametrize("validator", ALL.values())
def test_the_docstring_says_the_direction_and_the_labels(
    validator: Validator | PoolValidator,
) -> None:
    said = " ".join((validator.score.__doc__ or "").split())
    assert re.search("higher is better", said, re.IGNORECASE) and ">>>" in said
    assert ("Reads source labels." if validator.labels else "Reads no label.") in said


def test_a_missing_array_is_named() -> None:
    with pytest.raises(UserError, match="reads target_probabilities"):
        ENTROPY({"source_probabilities": np.eye(2)})
    with pytest.raises(UserError, match="reads importance_weights"):
        VALIDATORS["dev"]({"source_probabilities": np.eye(2), "source_labels": np.arange(2)})


def test_weights_are_made_from_features_unless_they_are_given() -> None:
    available = model(0.5)
    made = validators.importance_weights(available["source_features"], available["target_features"])
    dev = VALIDATORS["dev"]
    assert dev(available) == dev(available | {"importance_weights": made})
    assert dev(available) != dev(available | {"importance_weights": made[::-1]})


def test_all_scores_at_once_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    available, made = model(0.5), []
    expected = {name: validator(available) for name, validator in VALIDATORS.items()}
    make = validators.record.importance_weights
    monkeypatch.setattr(
        validators.record, "importance_weights", lambda *args: made.append(1) or make(*args)
    )
    assert validators.score_all(VALIDATORS, available) == expected
    assert made == [1], "the weights are made once for all"
    without_target = {name: available[name] for name in ("source_probabilities", "source_labels")}
    assert list(validators.score_all(VALIDATORS, without_target)) == ["source_risk"]


# --- values ---------------------------------------------------------------------------------------


def naive_entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def test_entropy_is_the_negative_mean_entropy() -> None:
    p = probabilities(2.0)
    assert ENTROPY.score(p) == pytest.approx(-np.mean([naive_entropy(row) for row in p.tolist()]))


def test_information_maximization_is_the_entropy_of_the_mean_minus_the_mean_entropy() -> None:
    p = probabilities(2.0)
    mean = [float(np.mean(column)) for column in p.T]
    expected = naive_entropy(mean) - np.mean([naive_entropy(row) for row in p.tolist()])
    assert INFORMATION_MAXIMIZATION.score(p) == pytest.approx(expected)


def test_source_risk_is_the_negative_log_loss() -> None:
    p, labels = probabilities(2.0), np.arange(50) % 4
    assert SOURCE_RISK.score(p, labels) == pytest.approx(-log_loss(labels, p))


@pytest.mark.parametrize("sharpness", [0.1, 2.0, 10.0])
def test_scores_of_predictions_are_the_losses_with_the_other_sign(sharpness: float) -> None:
    logits = sharpness * np.random.default_rng(1).normal(size=(40, 5))
    p, z = softmax(logits), jnp.asarray(logits)
    pairs = {
        "entropy": losses.entropy(z).mean(),
        "information_maximization": losses.information_maximization(z),
        "bnm": losses.batch_nuclear_norm(z),
        "mcc": losses.minimum_class_confusion(z),
    }
    for name, loss in pairs.items():
        assert VALIDATORS[name].score(p) == pytest.approx(-float(loss), abs=2e-6), name


def test_soft_neighborhood_density_is_the_mean_entropy_of_similarities() -> None:
    p, total = probabilities(2.0, examples=12), 0.0
    for i, j in itertools.product(range(12), repeat=2):
        if j == 0:
            cosines = [
                p[i] @ p[k] / np.linalg.norm(p[i]) / np.linalg.norm(p[k])
                for k in range(12)
                if k != i
            ]
            odds = [math.exp(cosine / 0.05) for cosine in cosines]
            total += naive_entropy([o / sum(odds) for o in odds])
    assert VALIDATORS["snd"].score(p) == pytest.approx(total / 12)


def test_chunks_do_not_change_soft_neighborhood_density(monkeypatch: pytest.MonkeyPatch) -> None:
    p = probabilities(2.0)
    expected = VALIDATORS["snd"].score(p)
    for chunk in (1, 7 * 50, 49 * 50):
        monkeypatch.setattr(target, "CHUNK", chunk)
        assert VALIDATORS["snd"].score(p) == pytest.approx(expected, rel=1e-12)


def test_dev_is_the_published_formula() -> None:
    generator = np.random.default_rng(0)
    p, labels = probabilities(2.0), np.arange(50) % 4
    weights = generator.gamma(2.0, size=50)
    loss = -np.log(p[np.arange(50), labels])
    covariance = np.cov(np.stack([weights * loss, weights]))
    eta = -covariance[0, 1] / covariance[1, 1]
    risk = np.mean(weights * loss) + eta * np.mean(weights) - eta
    dev, weighted = VALIDATORS["dev"].score, VALIDATORS["importance_weighted_risk"].score
    assert dev(p, labels, weights) == pytest.approx(-risk)
    assert weighted(p, labels, weights) == pytest.approx(-np.mean(weights * loss))


@pytest.mark.parametrize("weights", [np.ones(50), np.full(50, 0.1) * (1 + 1e-16), np.zeros(50)])
def test_equal_weights_need_no_control_variate(weights: np.ndarray) -> None:
    p, labels = probabilities(2.0), np.arange(50) % 4
    weighted = VALIDATORS["importance_weighted_risk"].score(p, labels, weights)
    assert VALIDATORS["dev"].score(p, labels, weights) == pytest.approx(weighted)
    assert weighted == pytest.approx(SOURCE_RISK.score(p, labels) * weights[0])


def test_known_weights_give_the_risk_of_the_target_and_dev_with_less_spread() -> None:
    """A logistic model that is too unsure; weights of two known Gaussians."""
    generator = np.random.default_rng(0)
    weighted, controlled = [], []
    for _ in range(200):
        x = generator.normal(size=300)
        labels = (generator.random(300) < 1 / (1 + np.exp(-x))).astype(int)
        p = softmax(np.stack([np.zeros(300), 0.3 * x], 1))
        weights = np.exp(0.5 * x - 0.125)  # the target's mean is 0.5
        weighted.append(-VALIDATORS["importance_weighted_risk"].score(p, labels, weights))
        controlled.append(-VALIDATORS["dev"].score(p, labels, weights))
    x = generator.normal(0.5, size=200_000)
    labels = generator.random(200_000) < 1 / (1 + np.exp(-x))
    risk = np.mean(np.logaddexp(0, 0.3 * np.where(labels, -x, x)))
    assert np.mean(weighted) == pytest.approx(risk, abs=0.01)
    assert np.mean(controlled) == pytest.approx(risk, abs=0.01)
    assert np.std(controlled) < 0.7 * np.std(weighted)


@pytest.mark.parametrize("wrong", [0, 7, 50])
def test_atc_of_the_source_itself_is_its_accuracy(wrong: int) -> None:
    p = probabilities(2.0)
    labels = p.argmax(1)
    labels[np.argsort(p.max(1))[:wrong]] += 1
    score = VALIDATORS["atc"].score
    assert score(p, labels % 4, p) == pytest.approx(1 - wrong / 50)


def test_atc_thresholds_the_negative_entropy() -> None:
    source, other = probabilities(2.0), probabilities(1.0, seed=1)
    labels = np.where(np.arange(50) < 20, source.argmax(1), (source.argmax(1) + 1) % 4)
    certainty = sorted(-naive_entropy(row) for row in source.tolist())
    above = [-naive_entropy(row) >= certainty[30] for row in other.tolist()]
    assert VALIDATORS["atc"].score(source, labels, other) == pytest.approx(np.mean(above))


def test_reverse_validation_is_a_ridge_probe_in_reverse() -> None:
    available = model(1.5)
    pseudo = available["target_probabilities"].argmax(1)
    mean, deviation = available["target_features"].mean(0), available["target_features"].std(0)
    scores = []
    for penalty in metrics.linear.PENALTIES:
        x = np.column_stack([np.ones(300), (available["target_features"] - mean) / deviation])
        ridge = np.diag([0.0, *[300 * penalty] * 3])
        fitted = np.linalg.solve(x.T @ x + ridge, x.T @ np.eye(3)[pseudo])
        tested = np.column_stack([np.ones(300), (available["source_features"] - mean) / deviation])
        scores.append(np.mean((tested @ fitted).argmax(1) == available["source_labels"]))
    assert VALIDATORS["reverse_validation"](available) in scores
    assert 0.5 < min(scores) < 0.99, "or the test could not fail"


def test_ensemble_agreement_is_with_the_mean_prediction() -> None:
    candidates = [probabilities(2.0, seed=seed) for seed in range(4)]
    reference = sum(candidates).argmax(1)
    expected = [np.mean(p.argmax(1) == reference) for p in candidates]
    pool = [{"target_probabilities": p} for p in candidates]
    assert POOL_VALIDATORS["ensv"](pool) == pytest.approx(expected)
    assert POOL_VALIDATORS["ensv"](pool[::-1]) == pytest.approx(expected[::-1])


# --- importance weights ---------------------------------------------------------------------------


def test_weights_are_the_ratio_of_two_known_densities() -> None:
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(4000, 2)), generator.normal(size=(1000, 2))
    target[:, 0] += 0.8
    weights = validators.importance_weights(source, target)
    assert np.corrcoef(np.log(weights), source[:, 0])[0, 1] > 0.99
    np.testing.assert_allclose(np.log(weights), 0.8 * source[:, 0] - 0.32, atol=0.35)
    assert weights.mean() == pytest.approx(1, abs=0.1), "whatever the sizes of the domains"


def test_a_classifier_that_saw_the_source_would_give_it_no_weight() -> None:
    """The same distribution twice, more features than examples."""
    source, target = np.random.default_rng(0).normal(size=(2, 60, 200))
    seen = LogisticRegression(C=10).fit(np.concatenate([source, target]), np.repeat([0, 1], 60))
    odds = seen.predict_proba(source)
    assert np.mean(odds[:, 1] / odds[:, 0]) < 0.05
    assert 0.8 < validators.importance_weights(source, target).mean() < 1.25


def test_domains_that_are_told_apart_have_the_best_weighted_risk_whatever_the_predictions() -> None:
    """Which docs/validators.md warns of; DEV takes back what the mean of the weights lacks."""
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(2, 300, 5))
    p, labels = generator.dirichlet(np.ones(4), 300), generator.integers(0, 4, 300)
    apart, together = (
        validators.importance_weights(source, target + shift) for shift in (9.0, 0.0)
    )
    risk = validators.source_risk(p, labels)
    assert together.mean() == pytest.approx(1, abs=0.1) and apart.mean() < 0.01
    weighted, dev = validators.importance_weighted_risk, validators.deep_embedded_validation
    assert weighted(p, labels, together) == pytest.approx(risk, abs=0.1)
    assert weighted(p, labels, apart) > 0.02 * risk
    assert dev(p, labels, apart) < 0.5 * risk


def test_weights_stay_finite_where_domains_have_nothing_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(20, 3)), generator.normal(size=(20, 3)) + 1e6
    source[0] = 1e9
    assert np.isfinite(validators.importance_weights(source, target)).all()
    # Of 2,000 examples of 300 features, one far away reaches 1,027; e^710 is infinite.
    far = np.array([1027.0, -1027.0])
    monkeypatch.setattr(validators.source, "domain_log_ratio", lambda *features: (far, far))
    weights = validators.importance_weights(source, target)
    assert np.isfinite(weights).all() and weights[0] > 1e40 and weights[1] == 0


# --- properties -----------------------------------------------------------------------------------


@every_score_of_predictions
@given(predicted(), st.randoms(use_true_random=False))
def test_the_order_of_examples_and_of_classes_does_not_matter(name: str, p, random) -> None:
    rows, columns = list(range(len(p))), list(range(p.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    score = VALIDATORS[name].score
    assert score(p[rows][:, columns]) == pytest.approx(score(p), abs=1e-9)


@given(predicted())
def test_scores_of_predictions_stay_in_bounds(p: np.ndarray) -> None:
    examples, classes = p.shape
    bounds = {
        "entropy": (-math.log(classes), 0),
        "information_maximization": (0, math.log(classes)),
        "snd": (0, math.log(examples - 1)),
        "bnm": (1 / math.sqrt(examples * classes), math.sqrt(min(p.shape) / examples)),
        "mcc": (1 / classes - 1, 0),
    }
    assert set(bounds) == set(OF_PREDICTIONS)
    for name, (low, high) in bounds.items():
        assert low - 1e-9 <= VALIDATORS[name].score(p) <= high + 1e-9, name


@pytest.mark.parametrize("name", [name for name in VALIDATORS if name not in OF_PREDICTIONS])
def test_the_order_of_examples_does_not_matter_to_risks(name: str) -> None:
    available, generator = model(1.0), np.random.default_rng(1)
    orders = {domain: generator.permutation(300) for domain in ("source", "target")}
    shuffled = {key: array[orders[key.split("_")[0]]] for key, array in available.items()}
    assert VALIDATORS[name](shuffled) == pytest.approx(VALIDATORS[name](available), rel=1e-6)


@every_validator
def test_the_better_model_has_the_higher_score(name: str) -> None:
    sharp = model(0.0)
    blurred = model(3.0)
    if name != "snd":  # for which predictions that are all unsure are dense neighbours too
        blurred["target_probabilities"] = softmax(0.2 * blurred["target_features"])
    assert VALIDATORS[name](sharp) > VALIDATORS[name](blurred)


def test_a_collapse_fools_entropy_mcc_and_snd_but_not_information_maximization_nor_bnm() -> None:
    collapsed, honest = np.eye(4)[np.zeros(40, int)], softmax(4 * np.eye(4)[np.arange(40) % 4])
    fooled = {
        name
        for name in OF_PREDICTIONS
        if VALIDATORS[name].score(collapsed) > VALIDATORS[name].score(honest)
    }
    assert fooled == {"entropy", "mcc", "snd"}
    unsure = np.full((40, 4), 0.25)
    assert VALIDATORS["snd"].score(unsure) == pytest.approx(math.log(39)), "the best there is"


# --- degenerate inputs ----------------------------------------------------------------------------


def test_certain_predictions_have_no_entropy() -> None:
    assert ENTROPY.score(np.eye(3)) == 0.0
    assert VALIDATORS["mcc"].score(np.eye(3)) == 0.0
    assert INFORMATION_MAXIMIZATION.score(np.eye(3)) == pytest.approx(math.log(3))
    assert INFORMATION_MAXIMIZATION.score(np.eye(3)[[1, 1]]) == pytest.approx(0.0)


@every_validator
@pytest.mark.parametrize("kind", ["constant features", "wide", "one class", "certain"])
def test_degenerate_models_have_a_finite_score(name: str, kind: str) -> None:
    available = model(1.0, examples=20)
    if kind == "constant features":
        available |= dict.fromkeys(("source_features", "target_features"), np.full((20, 3), 0.1))
    if kind == "wide":
        wide = np.random.default_rng(0).normal(size=(2, 20, 100))
        available |= {"source_features": wide[0], "target_features": wide[1]}
    if kind == "one class":
        available["source_labels"] = np.zeros(20, int)
        available["target_probabilities"] = np.eye(3)[np.zeros(20, int)]
    if kind == "certain":
        for domain in ("source", "target"):
            chosen = available[f"{domain}_probabilities"].argmax(1)
            available[f"{domain}_probabilities"] = np.eye(3)[chosen]
    assert math.isfinite(VALIDATORS[name](available))


def test_a_class_that_no_prediction_names_is_not_learned_in_reverse() -> None:
    features = np.array([[-1.0], [-1.1], [1.0], [1.2]])
    p = np.eye(5)[[0, 0, 1, 1]]
    score = VALIDATORS["reverse_validation"].score
    assert score(np.linspace(-3, 3, 8)[:, None], np.repeat([0, 1], 4), features, p) == 1.0
    assert score(np.linspace(-3, 3, 8)[:, None], np.full(8, 4), features, p) == 0.0


P, Y, F = np.eye(2), np.arange(2), np.ones((2, 3))


@pytest.mark.parametrize(
    ("name", "arrays", "says"),
    [
        ("entropy", (np.zeros((0, 2)),), "no example"),
        ("entropy", (np.ones(3),), "give \\[examples, classes\\]"),
        ("bnm", (np.array([[np.nan, 1.0]]),), "target_probabilities of 1 of 1 .*diverged"),
        ("mcc", (np.array([[3.0, -2.0]]),), "softmax"),
        ("snd", (np.array([[0.5, 0.5]]),), "no neighbour"),
        ("source_risk", (P, np.array([0, 2])), "label 2"),
        ("dev", (P, Y, np.ones(3)), "give 2 finite numbers"),
        ("dev", (P, Y, np.array([1.0, -1.0])), "not negative"),
        ("importance_weighted_risk", (P, Y, np.array([1.0, np.nan])), "finite"),
        ("atc", (P, Y, np.array([[1.0, 1.0]])), "target_probabilities do not sum to one"),
        ("reverse_validation", (F, Y, np.ones((2, 4)), P), "equally wide"),
        ("reverse_validation", (F, Y, F, np.eye(2)[[0, 0, 0]]), "3 target_probabilities and 2"),
        ("reverse_validation", (F, np.zeros(3, int), F, P), "3 source_labels and 2"),
        ("reverse_validation", (F, np.array([0, 2]), F, P), "label 2"),
        ("ensv", ([P],), "1 candidates"),
        ("ensv", ([P, np.eye(3)],), "two or more, of the same examples and classes"),
    ],
)
def test_what_cannot_be_scored_says_why(name: str, arrays: tuple, says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        ALL[name].score(*arrays)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["mcc", "snd"])
def test_a_temperature_is_positive(name: str) -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        VALIDATORS[name].score(np.eye(2), temperature=0)


# --- cost and documents ---------------------------------------------------------------------------


@every_validator
def test_two_thousand_examples_take_less_than_a_second(name: str) -> None:
    generator = np.random.default_rng(0)
    available = {}
    for domain in ("source", "target"):
        available |= {
            f"{domain}_features": generator.normal(size=(2000, 256)),
            f"{domain}_probabilities": probabilities(2.0, 2000, 100),
            f"{domain}_labels": generator.integers(100, size=2000),
        }
    with threadpool_limits(1):  # so that the clock of this thread sees all of the work
        start = time.thread_time()
        VALIDATORS[name](available)
        assert time.thread_time() - start < 1


def test_the_document_names_every_validator_and_its_code_runs(root: Path) -> None:
    text = (root / "docs" / "validators.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` .*\| (none|source) \|$", text, re.MULTILINE)
    assert rows == [(name, "source" if v.labels else "none") for name, v in ALL.items()]
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.DOTALL)):
        parsed = doctest.DocTestParser().get_doctest(code, {}, f"docs[{number}]", None, 0)
        assert parsed.examples
        assert doctest.DocTestRunner(verbose=False).run(parsed).failed == 0


# --- the choice ---


def test_a_choice_is_the_last_of_the_highest_scores_and_never_one_that_is_no_number() -> None:
    scores = {"first": [0.3, 0.1, 0.3], "broken": [float("nan"), -5.0, -7.0]}
    found = validators.choices(scores, [0.5, 0.8, 0.6])
    assert found["first"].candidate == 2 and found["broken"].candidate == 1
    assert found["first"].regret == pytest.approx(0.2) and found["broken"].regret == 0
    with pytest.raises(ValueError, match="no candidate"):
        validators.choose([])


@given(st.lists(st.floats(), min_size=1))
def test_no_score_is_above_that_of_the_choice(scores: list[float]) -> None:
    chosen = validators.choose(scores)
    assert not any(score > scores[chosen] for score in scores)
    assert not math.isnan(scores[chosen]) or all(map(math.isnan, scores))
