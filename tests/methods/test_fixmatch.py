"""FixMatch against its paper: which views are compared, and by what."""

from typing import Any

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed import CLASSES, TARGET, TASK, float64, softmax
from test_registered import build

from jtl.data import augment
from jtl.types import Outputs

DRAW = np.random.default_rng(5)
INPUTS = DRAW.normal(size=(8, 6)).astype(np.float32)
PROJECTION = DRAW.normal(size=(6, CLASSES)).astype(np.float32)


def forward(inputs: Any) -> Outputs:
    """A linear model: what it makes of the strong views depends on them."""
    return Outputs(jnp.asarray(inputs), inputs @ PROJECTION)


def value(target: Any = TARGET, **hyper: float) -> Any:
    target = target._replace(inputs=INPUTS)
    return fixed.value(build("fixmatch"), target=target, forward=forward, **hyper)


def by_hand(threshold: float, masked: float) -> tuple[float, float]:
    """Equation 4, example by example, and the fraction of sure ones."""
    key = fixed.scope(build("fixmatch")).key
    strong = np.asarray(augment.strong(key, jnp.asarray(INPUTS), masked=masked))
    weak, seen = softmax(TARGET.logits), softmax(float64(strong) @ float64(PROJECTION))
    losses = [
        -np.log(q[p.argmax()]) for p, q in zip(weak, seen, strict=True) if p.max() >= threshold
    ]
    return sum(losses) / len(weak), len(losses) / len(weak)


@pytest.mark.parametrize(
    ("strength", "threshold", "masked"), [(1.0, 0.95, 0.5), (0.5, 0.6, 0.2), (2.0, 0.0, 0.0)]
)
def test_strong_views_are_given_the_labels_that_weak_ones_are_sure_of(
    strength: float, threshold: float, masked: float
) -> None:
    found, terms = value(strength=strength, threshold=threshold, masked=masked)
    consistency, sure = by_hand(threshold, masked)
    fixed.assert_close(terms["task"], TASK)
    fixed.assert_close((terms["consistency"], terms["sure"]), (consistency, sure))
    fixed.assert_close(found, TASK + strength * consistency)


def test_thresholds_tell_the_examples_apart() -> None:
    shares = [by_hand(threshold, 0.5)[1] for threshold in (0.95, 0.6, 0.0)]
    assert sorted(set(shares)) == sorted(shares) and shares[-1] == 1


def test_labels_carry_no_gradient_to_the_weak_views() -> None:
    def of(logits: jax.Array) -> jax.Array:
        return value(TARGET._replace(logits=logits), threshold=0.0)[0]

    assert not np.any(jax.grad(of)(jnp.asarray(TARGET.logits)))


def test_the_published_strengths_are_the_defaults() -> None:
    hyper = build("fixmatch").hyper
    assert hyper["strength"] == 1.0 and hyper["threshold"] == 0.95
