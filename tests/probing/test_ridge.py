"""Ridge probes: leave-one-out against fits that really leave one out, and scikit-learn."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifierCV

from jtl.errors import UserError
from jtl.probing import LazyRows, _rows, ridge, ridge_path

pytestmark = pytest.mark.usefixtures("one_device")

STRENGTHS = np.array([1e-3, 1.0, 0.1])


def draw(examples: int, features: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(examples)
    labels = np.arange(examples) % classes
    means = random.standard_normal((classes, features))
    return random.standard_normal((examples, features)) + means[labels] + 5, labels


def solved(
    features: np.ndarray, labels: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and intercepts, by the normal equations."""
    targets = np.eye(3)[labels]
    centred = features - features.mean(0)
    gram = centred.T @ centred + penalty * np.eye(features.shape[1])
    coefficients = np.linalg.solve(gram, centred.T @ targets)
    return coefficients, targets.mean(0) - features.mean(0) @ coefficients


@pytest.mark.parametrize("shape", [(12, 4), (9, 15)])
def test_errors_are_those_of_fits_that_leave_one_out(shape: tuple[int, int]) -> None:
    inputs, labels = draw(*shape)
    examples = len(labels)
    path = ridge_path(inputs, labels, STRENGTHS)
    for number, strength in enumerate(STRENGTHS):
        coefficients, intercepts = solved(inputs, labels, strength * examples)
        np.testing.assert_allclose(path.coefficients[number], coefficients, atol=1e-9)
        np.testing.assert_allclose(path.intercepts[number], intercepts, atol=1e-9)
        residuals, right = [], []
        for left_out in range(examples):
            kept = np.arange(examples) != left_out
            fit = solved(inputs[kept], labels[kept], strength * examples)
            guess = inputs[left_out] @ fit[0] + fit[1]
            residuals.append(np.eye(3)[labels[left_out]] - guess)
            right.append(guess.argmax() == labels[left_out])
        error = (np.square(residuals)).sum(1).mean()
        np.testing.assert_allclose(path.errors[number], error, rtol=1e-8)
        np.testing.assert_array_equal(path.right[number], right)


@pytest.mark.parametrize("shape", [(40, 6), (12, 20)])
def test_the_errors_and_the_fit_are_scikit_learns(shape: tuple[int, int]) -> None:
    inputs, labels = draw(*shape)
    path = ridge_path(inputs, labels, STRENGTHS)
    peer: Any = RidgeClassifierCV(alphas=STRENGTHS * len(labels), store_cv_results=True)
    peer.fit(inputs, labels)
    errors = peer.cv_results_.sum(1).mean(0) / 4  # labels of -1 and 1 are twice as far apart
    np.testing.assert_allclose(path.errors, errors, rtol=1e-7)
    chosen = path.errors.argmin()
    assert peer.alpha_ == STRENGTHS[chosen] * len(labels)
    np.testing.assert_allclose(2 * path.coefficients[chosen], peer.coef_.T, atol=1e-8)


def test_a_memory_mapped_array_in_blocks_gives_what_the_array_does(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = draw(41, 5)
    expected = ridge_path(inputs, labels, STRENGTHS)
    np.save(tmp_path / "features.npy", inputs)
    monkeypatch.setattr("jtl.probing._rows.NUMBERS", 16 * inputs.shape[1])
    path = ridge_path(np.load(tmp_path / "features.npy", mmap_mode="r"), labels, STRENGTHS)
    np.testing.assert_allclose(path.errors, expected.errors, rtol=1e-9)
    np.testing.assert_array_equal(path.right, expected.right)


@pytest.mark.parametrize(
    ("features", "strengths", "message"),
    [
        (np.full((6, 2), np.inf), [1.0], "not finite"),
        (np.ones((5, 2)), [1.0], "do not belong together"),
        (np.ones((6, 2)), [-1.0], "positive"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(
    features: np.ndarray, strengths: list[float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ridge_path(features, np.arange(6) % 2, strengths)


def test_single_precision_where_its_rounding_is_bounded_gives_the_same_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, labels = draw(400, 12)
    expected = ridge_path(inputs, labels, STRENGTHS)
    used = []
    path = ridge._path
    monkeypatch.setattr(ridge, "SMALL", 0)
    monkeypatch.setattr(
        ridge,
        "_path",
        lambda *given, **named: used.append(named["precision"]) or path(*given, **named),
    )
    found = ridge_path(inputs, labels, STRENGTHS)
    assert used == [np.float32]
    assert not np.array_equal(found.errors, expected.errors)
    np.testing.assert_allclose(found.errors, expected.errors, rtol=2e-6)
    np.testing.assert_array_equal(found.coefficients, expected.coefficients)
    np.testing.assert_array_equal(found.right, expected.right)


@pytest.mark.parametrize("cause", ["condition", "leverage"])
def test_what_rounding_would_spoil_is_in_double_precision(
    cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = draw(400, 12)
    inputs -= inputs.mean(0)
    if cause == "condition":
        inputs[:, 0] *= 1e-6
    else:
        inputs[:, 0] = 0
        inputs[7, 0] = 3e3  # alone decides a coefficient: 1 - h is next to nothing
    expected = ridge_path(inputs, labels, [1e-14, 1e-3])
    monkeypatch.setattr(ridge, "SMALL", 0)
    found = ridge_path(inputs, labels, [1e-14, 1e-3])
    np.testing.assert_array_equal(found.errors, expected.errors)


@pytest.mark.parametrize("shape", [(40, 6), (9, 15)])
def test_the_principal_axes_are_the_same_on_host_and_device(shape: tuple[int, int]) -> None:
    weights = np.arange(1.0, shape[0] + 1)
    with _rows.double_precision():
        cut = _rows.rows(draw(*shape)[0], weights)
        share = weights / weights.sum()
        axes, variances = _rows._principal_on_host(cut, share)
        others = _rows._principal(
            cut.read, cut.stored, jnp.asarray(cut.cut(share)), examples=len(share)
        )
        for basis, values in ((axes, variances), others):
            np.testing.assert_allclose(basis.T @ basis, np.eye(len(values)), atol=1e-12)
        made = [
            np.asarray((basis * values) @ basis.T) for basis, values in ((axes, variances), others)
        ]
    np.testing.assert_allclose(made[0], made[1], atol=1e-14)


def test_rows_that_are_read_one_by_one_give_what_the_array_does() -> None:
    inputs, labels = draw(41, 6)
    expected = ridge_path(inputs, labels, STRENGTHS)
    found = ridge_path(LazyRows(list(inputs.reshape(41, 2, 3))), labels, STRENGTHS)
    np.testing.assert_allclose(found.errors, expected.errors, rtol=1e-9)
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-12)
    inputs[4] = np.inf
    with pytest.raises(UserError, match="first: example 4"):
        ridge_path(LazyRows(list(inputs)), labels, STRENGTHS)
