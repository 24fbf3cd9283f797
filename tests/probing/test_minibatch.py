"""Minibatch probes: against a loop in NumPy that makes the same updates, in double precision."""

from typing import Any

import numpy as np
import pytest

from jtl.errors import UserError
from jtl.probing import deal, minibatch_grid
from jtl.probing.minibatch import _order

pytestmark = pytest.mark.usefixtures("one_device")

RATES, DECAYS = np.array([0.3, 0.03]), np.array([0.0, 0.2])
EXAMPLES, CLASSES, BATCH, STEPS = 30, 3, 8, 37


def draw() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.minimum(np.arange(EXAMPLES) % 4, CLASSES - 1)
    means = random.standard_normal((CLASSES, 4))
    return 5 * random.standard_normal((EXAMPLES, 4)) + 4 * means[labels] + 20, labels


def trained(
    inputs: np.ndarray,
    labels: np.ndarray,
    kept: np.ndarray,
    optimizer: str,
    rate: float,
    decay: float,
) -> tuple[np.ndarray, np.ndarray]:
    """One probe, one step after another."""
    order, targets = _order(len(labels), BATCH, STEPS, 0), np.eye(CLASSES)[labels]
    weights, bias = np.zeros((4, CLASSES)), np.zeros(CLASSES)
    first: list[Any] = [0.0, 0.0]
    second: list[Any] = [0.0, 0.0]
    for step, places in enumerate(order):
        rows = places[kept[places]]
        length = rate * (1 + np.cos(np.pi * step / STEPS)) / 2
        chances = np.exp(inputs[rows] @ weights + bias)
        error = (chances / chances.sum(1, keepdims=True) - targets[rows]) / max(len(rows), 1)
        slopes = [inputs[rows].T @ error, error.sum(0)]
        if optimizer == "sgd":
            slopes[0] = slopes[0] + decay * weights
            first = [0.9 * m + g for m, g in zip(first, slopes, strict=True)]
            moved = [g + 0.9 * m for m, g in zip(first, slopes, strict=True)]
        else:
            first = [0.9 * m + 0.1 * g for m, g in zip(first, slopes, strict=True)]
            second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, slopes, strict=True)]
            moved = [
                m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
                for m, v in zip(first, second, strict=True)
            ]
            moved[0] = moved[0] + decay * weights
        weights, bias = weights - length * moved[0], bias - length * moved[1]
    return weights, bias


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_probe_of_the_grid_is_that_of_a_loop_of_its_own(optimizer: Any) -> None:
    inputs, labels = draw()
    dealt = np.stack([deal(labels, 2, 0), deal(labels, 3, 1)])
    found = minibatch_grid(
        inputs, labels, RATES, DECAYS, dealt, steps=STEPS, batch_size=BATCH, optimizer=optimizer
    )
    scaled = inputs - inputs.mean(0)
    scaled /= np.sqrt((scaled**2).mean())
    kept = [each != fold for each in dealt for fold in range(each.max() + 1)]
    kept.append(np.ones(EXAMPLES, bool))
    for i, j in np.ndindex(2, 2):
        setting = float(RATES[i]), float(DECAYS[j])
        for problem, mask in enumerate(kept):
            weights, bias = trained(scaled, labels, mask, optimizer, *setting)
            logits = scaled @ weights + bias
            given = inputs @ found.coefficients[i, j, problem] + found.intercepts[i, j, problem]
            # But for what is the same for all classes: of slopes that vanish but for rounding, as
            # the intercepts' in a first batch with as many of each class, Adam makes whole steps.
            given, logits = (x - x.mean(1, keepdims=True) for x in (given, logits))
            np.testing.assert_allclose(given, logits, atol=2e-4)
            dealing, fold = (0, problem) if problem < 2 else (1, problem - 2)
            if problem < 5:
                out = dealt[dealing] == fold
                losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(EXAMPLES), labels]
                np.testing.assert_allclose(found.losses[i, j, dealing, out], losses[out], atol=2e-4)
                right = (logits.argmax(1) == labels)[out]
                np.testing.assert_array_equal(found.right[i, j, dealing, out], right)


def test_a_memory_mapped_array_gives_what_the_array_does_and_a_rate_too_high_is_infinite(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = draw()
    folds = deal(labels, 2)
    given: dict[str, Any] = {"steps": 20, "batch_size": BATCH, "optimizer": "sgd"}
    expected = minibatch_grid(inputs, labels, [0.1, 1e38], [10.0], folds, **given)
    assert np.isinf(expected.losses[1]).all()
    assert np.isfinite(expected.losses[0]).all()
    np.save(tmp_path / "features.npy", inputs)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr("jtl.probing.minibatch.LOGITS", 100)
    found = minibatch_grid(mapped, labels, [0.1, 1e38], [10.0], folds, **given)
    np.testing.assert_allclose(found.losses[0], expected.losses[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": [0.0]}, "learning_rates: give one or more positive"),
        ({"weight_decays": [-1.0]}, "weight_decays"),
        ({"steps": 0}, "steps and batch_size from 1"),
        ({"optimizer": "adam"}, "sgd or adamw"),
        ({"features": np.full((EXAMPLES, 2), np.nan)}, "not finite"),
    ],
)
def test_what_cannot_be_trained_is_one_line(change: dict[str, Any], message: str) -> None:
    inputs, labels = draw()
    given: dict[str, Any] = {"features": inputs, "labels": labels, "learning_rates": RATES}
    given |= {"weight_decays": DECAYS, "steps": STEPS} | change
    with pytest.raises(UserError, match=message):
        minibatch_grid(**given)
