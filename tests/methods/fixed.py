"""A fixed batch, what an objective makes of it, and the papers' formulas in float64 NumPy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jtl.types import Method, Params, Scope, Source, Target, Terms

FEATURES, CLASSES = 4, 3
DRAW = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


SOURCE = Source(
    inputs=np.zeros((8, 2), np.uint8),
    labels=np.arange(8, dtype=np.int32) % CLASSES,
    features=draw(8, FEATURES),
    logits=draw(8, CLASSES),
    layers={},
)
TARGET = Target(
    inputs=np.zeros((8, 2), np.uint8),
    features=draw(8, FEATURES) + 0.5,
    logits=2 * draw(8, CLASSES),
    layers={},
)


class Known(NamedTuple):
    """A pretrained backbone; a block of it that is trained gives the features as they are."""

    features: np.ndarray
    blocks: tuple[str, ...] = ()

    def without(self, block: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        assert block in self.blocks
        for channel in range(self.features.shape[1]):
            left = self.features[rows].copy()
            left[:, channel] = 0
            yield left


def scope(
    method: Method,
    *,
    progress: float = 0.5,
    networks: Mapping[str, Callable[[Any], Any]] | None = None,
    memory: Params | None = None,
    forward: Callable[..., Any] = lambda *_: None,
    **hyper: float,
) -> Scope:
    """What an objective reads beside the batch; a network is a function of its inputs."""
    assert set(hyper) <= set(method.hyper)
    values = {**method.hyper, **hyper}
    return Scope(
        params={},
        memory=memory or {},
        hyper={name: jnp.float32(value) for name, value in values.items()},
        progress=jnp.float32(progress),
        key=jax.random.key(0),
        call=lambda name, inputs: (networks or {})[name](inputs),
        forward=forward,
    )


def value(
    method: Method, phase: int = 0, source: Any = SOURCE, target: Any = TARGET, **settings: Any
) -> tuple[jax.Array, Terms]:
    """What a phase minimises, and its terms."""
    return method.phases[phase].objective(source, target, scope(method, **settings))


def assert_close(found: Any, expected: Any, rtol: float = 2e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)


def slope(function: Callable[[np.ndarray], float], at: Any, step: float = 1e-5) -> np.ndarray:
    """The gradient of a function of float64 NumPy, by central differences."""
    at = np.asarray(at, np.float64)
    result = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            ends.append(function(moved))
        result[index] = (ends[0] - ends[1]) / (2 * step)
    return result


def float64(array: Any) -> np.ndarray:
    return np.asarray(array, np.float64)


def softmax(logits: Any) -> np.ndarray:
    exponentials = np.exp(float64(logits))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(logits: Any, labels: Any) -> float:
    """The mean over examples."""
    return float(-np.log(softmax(logits)[np.arange(len(labels)), labels]).mean())


def entropies(logits: Any) -> np.ndarray:
    p = softmax(logits)
    return -(p * np.log(p)).sum(axis=1)


def domain_loss(
    source: Any, target: Any, source_weights: Any = None, target_weights: Any = None
) -> float:
    """Binary cross-entropy of logits that are positive for the source, in weighted means."""
    of_source = np.average(np.log1p(np.exp(-float64(source))), weights=source_weights)
    of_target = np.average(np.log1p(np.exp(float64(target))), weights=target_weights)
    return float((of_source + of_target) / 2)


def ramp(progress: float, sharpness: float = 10.0) -> float:
    """Of the adversarial methods' strength."""
    return 2 / (1 + np.exp(-sharpness * progress)) - 1


TASK = cross_entropy(SOURCE.logits, SOURCE.labels)
