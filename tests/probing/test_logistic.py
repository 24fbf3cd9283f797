"""Logistic probes: against scikit-learn, and the proof that each is as near its minimum as said."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jtl.errors import UserError
from jtl.probing import deal, logistic_path
from jtl.probing._problem import losses_of

pytestmark = pytest.mark.usefixtures("one_device")

STRENGTHS = np.array([1.0, 1e-2, 1e-4])
EXAMPLES, FEATURES, CLASSES = 60, 6, 3


def draw(
    examples: int = EXAMPLES, features: int = FEATURES, classes: int = CLASSES, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of very different variances, off centre, and labels that overlap."""
    random = np.random.default_rng(examples + features)
    labels = np.arange(examples) % classes
    mix = random.standard_normal((features, features)) / np.arange(1, features + 1)
    latent = (
        random.standard_normal((examples, features))
        + random.standard_normal((classes, features))[labels]
    )
    return scale * (latent @ mix + 3), labels


def objective(
    coefficients: np.ndarray,
    intercepts: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    strength: float,
    weights: np.ndarray | None = None,
) -> float:
    logits = features @ coefficients + intercepts
    losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return float(np.average(losses, weights=weights) + strength / 2 * (coefficients**2).sum())


def least(features: np.ndarray, labels: np.ndarray, strength: float) -> tuple[float, Any]:
    """The minimum, by scikit-learn as near as it gets."""
    solver = "newton-cholesky" if len(features) > features.shape[1] else "lbfgs"
    peer = LogisticRegression(
        C=1 / (strength * len(labels)), solver=solver, tol=1e-10, max_iter=10_000
    ).fit(features, labels)
    coefficients = peer.coef_.T - peer.coef_.T.mean(1, keepdims=True)
    found = objective(coefficients, peer.intercept_, features, labels, strength)
    return found, coefficients


@pytest.mark.parametrize(
    ("examples", "features", "scale"), [(60, 6, 1.0), (60, 6, 1e3), (60, 6, 1e-3), (20, 40, 1.0)]
)
def test_objectives_are_scikit_learns_minima_and_no_further_above_them_than_said(
    examples: int, features: int, scale: float
) -> None:
    inputs, labels = draw(examples, features, scale=scale)
    folds = deal(labels, 2)
    path = logistic_path(inputs, labels, scale**2 * STRENGTHS, folds)
    assert path.gap.max() <= 1e-6
    for number, strength in enumerate(path.strengths):
        for problem, kept in enumerate([folds != 0, folds != 1, folds < 2]):
            fit = path.coefficients[number, problem], path.intercepts[number, problem]
            ours = objective(*fit, inputs[kept], labels[kept], strength)
            minimum, coefficients = least(inputs[kept], labels[kept], strength)
            np.testing.assert_allclose(path.objective[number, problem], ours, rtol=1e-9)
            assert -1e-10 <= ours / minimum - 1 <= path.gap[number, problem] + 1e-10
            np.testing.assert_allclose(fit[0], coefficients, atol=5e-3 * np.abs(coefficients).max())


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-9])
def test_the_gap_is_a_bound_at_every_tolerance(tolerance: float) -> None:
    inputs, labels = draw()
    path = logistic_path(inputs, labels, STRENGTHS, tolerance=tolerance)
    minima = [least(inputs, labels, strength)[0] for strength in STRENGTHS]
    above = path.objective[:, 0] / minima - 1
    assert (path.gap <= tolerance).all()
    assert (above <= path.gap[:, 0] + 1e-10).all()
    assert above.max() > tolerance / 1e4 or tolerance < 1e-8  # it stops before it need not go on


def test_a_path_over_a_decaying_spectrum_is_at_scikit_learns_minima_in_every_fold() -> None:
    random = np.random.default_rng(3)
    axes = np.linalg.qr(random.standard_normal((24, 24)))[0]
    labels = np.arange(90) % CLASSES
    centres = 0.5 * random.standard_normal((CLASSES, 24))
    latent = (random.standard_normal((90, 24)) + centres[labels]) * np.arange(1, 25) ** -1.5 @ axes
    inputs = np.maximum(latent / latent.std() + 0.3, 0).astype(np.float32)
    folds, strengths = deal(labels, 2), np.logspace(0, -6, 4)
    path = logistic_path(inputs, labels, strengths, folds)
    for number, strength in enumerate(strengths):
        for problem in range(3):
            kept = folds != problem  # the last problem leaves out none
            minimum, _ = least(inputs[kept].astype(np.float64), labels[kept], strength)
            assert abs(path.objective[number, problem] / minimum - 1) <= 1e-6


def test_held_out_examples_are_judged_by_the_fit_without_their_fold() -> None:
    inputs, labels = draw()
    dealings = np.stack([deal(labels, 3, seed) for seed in range(2)])
    path = logistic_path(inputs, labels, STRENGTHS, dealings)
    assert path.coefficients.shape == (3, 2 * 3 + 1, FEATURES, CLASSES)
    for dealing, folds in enumerate(dealings):
        for example in (0, 17, 59):
            problem = 3 * dealing + folds[example]
            logits = inputs[example] @ path.coefficients[1, problem] + path.intercepts[1, problem]
            loss = np.logaddexp.reduce(logits) - logits[labels[example]]
            np.testing.assert_allclose(path.losses[1, dealing, example], loss, rtol=1e-9)
            right = path.right[1, dealing, example]
            assert right == (logits.argmax() == labels[example])


def test_folds_of_any_size_that_are_left_out_of_products_are_fitted_as_by_weights_of_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, labels = draw()
    folds = np.repeat([2, 0, 1], [9, 30, 21])
    monkeypatch.setattr("jtl.probing._rows.ROWS", 12)  # blocks of 10, 7 and 9 examples
    alone = logistic_path(inputs, labels, STRENGTHS, folds, tolerance=1e-9)
    monkeypatch.setattr("jtl.probing.logistic.MOST_ALONE", 0)
    weighted = logistic_path(inputs, labels, STRENGTHS, folds, tolerance=1e-9)
    np.testing.assert_allclose(alone.objective, weighted.objective, rtol=2e-9)
    np.testing.assert_allclose(alone.losses, weighted.losses, atol=1e-3)
    np.testing.assert_array_equal(alone.right, weighted.right)


def test_examples_without_weight_are_judged_by_the_fit_without_their_fold() -> None:
    inputs, labels = draw()
    folds = deal(labels, 3)
    path = logistic_path(inputs, labels, [0.1], folds, weights=np.where(folds == 1, 0, 1))
    for example in (0, 17, 59):
        fit = path.coefficients[0, folds[example]], path.intercepts[0, folds[example]]
        logits = inputs[example] @ fit[0] + fit[1]
        loss = np.logaddexp.reduce(logits) - logits[labels[example]]
        np.testing.assert_allclose(path.losses[0, 0, example], loss, rtol=1e-9)


def test_losses_and_slopes_are_precise_next_to_zero() -> None:
    logits = np.array([[[0.0, 25.0, 3.0]], [[40.0, -30.0, 0.5]], [[1.0, 0.0, 2.0]]], np.float32)
    labels = np.array([1, 1, 0])
    losses, residual = losses_of(jnp.asarray(logits), jnp.asarray(labels))
    shifted = logits.astype(np.float64) - logits.max(2, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(2, keepdims=True)
    others = np.eye(3)[labels][:, None] < 1
    missing = (chances * others).sum(2)
    expected = -np.log1p(-np.where(missing < 1, missing, 0))
    expected[1] = -shifted[1, :, 1]  # of a chance next to zero
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    np.testing.assert_allclose(residual, np.where(others, chances, -missing[..., None]), rtol=1e-6)


def test_strengths_may_come_in_any_order_and_alone() -> None:
    inputs, labels = draw()
    together = logistic_path(inputs, labels, STRENGTHS[[1, 2, 0]], tolerance=1e-10)
    for number, strength in enumerate(together.strengths):
        alone = logistic_path(inputs, labels, [strength], tolerance=1e-10)
        np.testing.assert_allclose(alone.objective[0], together.objective[number], rtol=1e-9)


@hypothesis.settings(max_examples=5)
@hypothesis.given(seed=st.integers(0, 2**16))
def test_the_order_of_examples_and_the_names_of_classes_do_not_matter(seed: int) -> None:
    inputs, labels = draw()
    random = np.random.default_rng(seed)
    order, names = random.permutation(EXAMPLES), random.permutation(CLASSES)
    path = logistic_path(inputs, labels, STRENGTHS, tolerance=1e-9)
    other = logistic_path(inputs[order], names[labels[order]], STRENGTHS, tolerance=1e-9)
    np.testing.assert_allclose(other.objective, path.objective, rtol=2e-9)
    atol = 1e-3 * np.abs(path.coefficients).max()
    np.testing.assert_allclose(other.coefficients[..., names], path.coefficients, atol=atol)


def test_an_example_given_twice_is_an_example_of_weight_two() -> None:
    inputs, labels = draw()
    weights = 1 + (np.arange(EXAMPLES) % 2)
    twice = np.repeat(np.arange(EXAMPLES), weights)
    weighted = logistic_path(inputs, labels, STRENGTHS, weights=weights, tolerance=1e-9)
    repeated = logistic_path(inputs[twice], labels[twice], STRENGTHS, tolerance=1e-9)
    np.testing.assert_allclose(weighted.objective, repeated.objective, rtol=2e-9)


def test_features_that_are_constant_or_repeat_others_are_no_obstacle() -> None:
    inputs, labels = draw()
    wide = np.column_stack([inputs, np.full(EXAMPLES, 7.0), inputs])
    path = logistic_path(wide, labels, STRENGTHS)
    assert path.gap.max() <= 1e-6
    assert np.abs(path.coefficients[:, :, FEATURES]).max() < 1e-6


def broken() -> np.ndarray:
    inputs = draw()[0]
    inputs[4, 2] = np.nan
    return inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": broken()}, "not finite .first: example 4"),
        ({"features": np.ones(EXAMPLES)}, "do not belong together"),
        ({"labels": np.zeros(EXAMPLES, int)}, "one class"),
        ({"labels": 2 * (np.arange(EXAMPLES) % 2)}, "class 1 has no example"),
        ({"labels": np.arange(EXAMPLES) == 0}, "integers"),
        ({"labels": np.r_[2, np.arange(EXAMPLES - 1) % 2]}, "no example outside fold"),
        ({"strengths": [1.0, 0.0]}, "positive"),
        ({"strengths": []}, "positive"),
        ({"strengths": [np.nan]}, "positive"),
        ({"folds": np.zeros(EXAMPLES, int)}, "folds"),
        ({"folds": np.arange(EXAMPLES - 1) % 2}, "folds of shape"),
        ({"weights": -np.ones(EXAMPLES)}, "weights"),
        ({"tolerance": 0.0}, "does not reach tolerance"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(change: dict[str, Any], message: str) -> None:
    inputs, labels = draw()
    given: dict[str, Any] = {"features": inputs, "labels": labels, "strengths": STRENGTHS}
    given |= {"folds": deal(labels, 2)} | change
    with pytest.raises(UserError, match=message) as raised:
        logistic_path(**given)
    assert "\n" not in str(raised.value)


def test_more_folds_than_examples_are_refused() -> None:
    with pytest.raises(UserError, match="5 folds of 4 examples"):
        deal(np.array([0, 0, 1, 1]), 5)


def test_a_memory_mapped_array_in_blocks_gives_what_the_array_does(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = draw()
    folds = deal(labels, 2)
    expected = logistic_path(inputs, labels, STRENGTHS, folds, tolerance=1e-9)
    np.save(tmp_path / "features.npy", inputs)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr("jtl.probing._rows.NUMBERS", 16 * inputs.shape[1])
    path = logistic_path(mapped, labels, STRENGTHS, folds, tolerance=1e-9)
    np.testing.assert_allclose(path.objective, expected.objective, rtol=2e-9)
    np.testing.assert_allclose(path.losses, expected.losses, atol=1e-3)
