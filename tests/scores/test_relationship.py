import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from jtl import relationship
from jtl.errors import UserError
from jtl.relationship import calibrated, direct


def truth(seed: int = 0) -> np.ndarray:
    """p(s | y) of three target and four source classes."""
    mass = np.random.default_rng(seed).gamma(0.5, size=(3, 4))
    return mass / mass.sum(axis=1, keepdims=True)


def examples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Source classes drawn from the truth, as one-hot predictions, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    sources = [rng.choice(4, p=truth()[label]) for label in labels]
    return np.eye(4)[sources], labels


def blurred(certain: np.ndarray) -> np.ndarray:
    """A head that is right but unsure: 0.7 for its class, 0.1 for each other."""
    return 0.6 * certain + 0.1


P, LABELS = examples(300)
HELD, HELD_LABELS = examples(300, seed=1)


def test_the_direct_form_is_the_mean_prediction_of_each_label() -> None:
    p = blurred(P)
    expected = np.stack([p[c == LABELS].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(direct(p, LABELS), expected, rtol=1e-12)


def test_of_certain_predictions_both_forms_agree() -> None:
    """The regression then has one free logit for each pair, and Bayes' rule is exact."""
    np.testing.assert_allclose(calibrated(P, LABELS, P, LABELS), direct(P, LABELS), atol=0.01)


def drawn(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of a calibrated head, labels, and source classes, drawn from the predictions."""
    joint = truth() / 3
    marginal = joint.sum(axis=0)
    p = rng.dirichlet(marginal + 1e-3, size=count)
    sources = np.array([rng.choice(4, p=row) for row in p])
    labels = np.array([rng.choice(3, p=joint[:, s] / marginal[s]) for s in sources])
    return p, labels, sources


def test_the_calibrated_form_sees_through_a_head_that_is_rightly_unsure() -> None:
    """The direct one mistakes its doubt for a mixture of classes."""
    rng = np.random.default_rng(1)
    p, labels, sources = drawn(600, rng)
    found = calibrated(p, labels, *drawn(300, rng)[:2])
    exact = direct(np.eye(4)[sources], labels)
    assert np.abs(found - exact).sum() < 0.5 * np.abs(direct(p, labels) - exact).sum()


def test_the_penalty_is_the_one_with_most_right_in_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of these two 155 of 300 against 142."""
    rng = np.random.default_rng(1)
    arguments = (*drawn(60, rng)[:2], *drawn(300, rng)[:2])
    found = []
    for strengths in ((0.1, 1e4), (1e4,), (0.1,)):
        monkeypatch.setattr(relationship, "STRENGTHS", strengths)
        found.append(calibrated(*arguments))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.01


def test_rows_sum_to_one_and_a_source_class_without_mass_gets_none() -> None:
    wider = [np.insert(p, 2, 0.0, axis=1) for p in (blurred(P), blurred(HELD))]
    found = calibrated(wider[0], LABELS, wider[1], HELD_LABELS)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    assert not found[:, 2].any()
    assert (found[:, [0, 1, 3, 4]] > 0).all()


def test_of_two_target_classes_each_has_its_own_row() -> None:
    """The authors' code has one for the two of them: scikit-learn has one logit."""
    found = calibrated(P, LABELS % 2, HELD, HELD_LABELS % 2)
    np.testing.assert_allclose(found, direct(P, LABELS % 2), atol=0.1)


def test_the_scale_is_that_of_least_log_loss() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(3, size=50)
    logits[np.arange(50), labels] += 1

    def loss(scale: float) -> float:
        return -log_softmax(scale * logits, axis=1)[np.arange(50), labels].mean()

    best = minimize_scalar(loss, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-8}).x
    np.testing.assert_allclose(relationship._scale(logits, labels), best, rtol=1e-5)


def test_a_label_that_no_source_class_predicts_has_a_relationship_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of weights so sure that its probability is 0 in float64, given any source class."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 20 + [2] * 3)
    p = rng.dirichlet(np.ones(2), len(labels)) * 0.1 + 0.9 * np.eye(2)[labels % 2]
    p = np.pad(p, ((0, 0), (0, 1)))  # and a source class that is never predicted
    monkeypatch.setattr(relationship, "_scale", lambda *given: 1e5)
    found = calibrated(p, labels, p, labels)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.all(found[:, 2] == 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: direct(P, LABELS[:3]), r"\(300, 4\) for labels \(3,\)"),
        (lambda: direct(P, LABELS * 1.0), "integers from 0"),
        (lambda: direct(P, LABELS - 1), "integers from 0"),
        (lambda: direct(P, LABELS * 2), "class 1 has no example"),
        (lambda: direct(P * 3, LABELS), "apply softmax"),
        (lambda: direct(P * np.nan, LABELS), "not finite"),
        (lambda: calibrated(P, LABELS, HELD[:, :3] * 0 + 1 / 3, HELD_LABELS), "4 source classes"),
        (lambda: calibrated(P, LABELS * 0, HELD, HELD_LABELS), "at least two classes"),
        (lambda: calibrated(P, LABELS, HELD, HELD_LABELS + 1), "label 3 is not among"),
    ],
)
def test_wrong_arguments_are_errors(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=words):
        call()
