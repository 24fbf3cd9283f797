import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from jtl import validators
from jtl.errors import UserError
from jtl.validators import AVAILABLE, ENTROPY, INFORMATION_MAXIMIZATION, SOURCE_RISK, Validator

ALL = (INFORMATION_MAXIMIZATION, ENTROPY, SOURCE_RISK)


def probabilities(sharpness: float, examples: int = 50, classes: int = 4) -> np.ndarray:
    logits = sharpness * np.random.default_rng(0).normal(size=(examples, classes))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


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


def test_certain_predictions_have_no_entropy() -> None:
    assert ENTROPY.score(np.eye(3)) == 0.0


def test_higher_is_better() -> None:
    assert ENTROPY.score(probabilities(5.0)) > ENTROPY.score(probabilities(0.5))
    diverse, collapsed = np.eye(4), np.tile([1.0, 0.0, 0.0, 0.0], (4, 1))
    assert INFORMATION_MAXIMIZATION.score(diverse) > INFORMATION_MAXIMIZATION.score(collapsed)
    good, bad = np.array([[0.9, 0.1]]), np.array([[0.6, 0.4]])
    assert SOURCE_RISK.score(good, np.array([0])) > SOURCE_RISK.score(bad, np.array([0]))


def test_entropy_is_fooled_by_a_collapse_and_information_maximization_is_not() -> None:
    collapsed = np.tile([1.0, 0.0, 0.0], (6, 1))
    assert ENTROPY.score(collapsed) == 0.0
    assert INFORMATION_MAXIMIZATION.score(collapsed) == pytest.approx(0.0)


@pytest.mark.parametrize("validator", ALL)
def test_a_validator_gets_only_what_it_declares(validator: Validator) -> None:
    given = {}
    spy = Validator(lambda **arrays: given.update(arrays) or 0.0, validator.reads)
    spy({name: np.zeros(1) for name in (*AVAILABLE, "target_labels")})
    assert tuple(given) == validator.reads


def test_no_validator_reads_target_labels() -> None:
    assert "target_labels" not in AVAILABLE
    with pytest.raises(UserError, match="cannot read target_labels"):
        Validator(validators.entropy, reads=("target_labels",))


def test_the_labels_read_are_declared() -> None:
    assert INFORMATION_MAXIMIZATION.labels == () == ENTROPY.labels
    assert SOURCE_RISK.labels == ("source_labels",)


def test_a_missing_array_is_named() -> None:
    with pytest.raises(UserError, match="reads target_probabilities"):
        ENTROPY({"source_probabilities": np.eye(2)})
