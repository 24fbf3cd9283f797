"""MSTN against its definition: centroids by loops over examples, in float64."""

from typing import Any

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed import CLASSES, FEATURES, SOURCE, TARGET, TASK, float64
from test_registered import build

from jtl.methods import mstn
from jtl.types import Method, Source, Target

DRAW = np.random.default_rng(3)
MEMORY = {
    domain: DRAW.normal(size=(CLASSES, FEATURES)).astype(np.float32)
    for domain in ("source", "target")
}
WEIGHTS = DRAW.normal(size=FEATURES).astype(np.float32)
PREDICTED = (2 * np.arange(8)) % CLASSES
PROGRESS, STRENGTH, SEMANTIC, DECAY = 0.3, 0.6, 1.7, 0.8
SETTINGS: dict[str, Any] = {
    "memory": MEMORY,
    "networks": {"discriminator": lambda inputs: inputs @ WEIGHTS},
    "progress": PROGRESS,
    "strength": STRENGTH,
    "semantic": SEMANTIC,
    "decay": DECAY,
}
ABSENT_ON_SOURCE, ABSENT_ON_TARGET, ABSENT_ON_BOTH = 0, 1, 2


def without(*absent: int, labels: Any) -> np.ndarray:
    """The labels, with the first other class in place of those that are to be absent."""
    (present, *_) = (label for label in range(CLASSES) if label not in absent)
    return np.where(np.isin(labels, absent), present, labels).astype(np.int32)


LABELS = without(ABSENT_ON_SOURCE, ABSENT_ON_BOTH, labels=SOURCE.labels)
PSEUDO = without(ABSENT_ON_TARGET, ABSENT_ON_BOTH, labels=PREDICTED)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)
FULL = SOURCE, TARGET._replace(logits=ONE_HOT[PREDICTED])
PARTIAL = SOURCE._replace(labels=LABELS), TARGET._replace(logits=ONE_HOT[PSEUDO])
BATCHES = pytest.mark.parametrize(
    ("batch", "labels", "pseudo"),
    [(FULL, SOURCE.labels, PREDICTED), (PARTIAL, LABELS, PSEUDO)],
    ids=["all classes", "absent classes"],
)


def method() -> Method:
    return mstn.mstn(features=FEATURES, classes=CLASSES)


def centroids(old: Any, features: Any, labels: Any, decay: float = DECAY) -> np.ndarray:
    """Algorithm 1 of the paper, class by class; one without examples stays as it is."""
    result = float64(old).copy()
    for label in range(CLASSES):
        rows = [row for row, given in zip(float64(features), labels, strict=True) if given == label]
        if rows:
            result[label] = decay * result[label] + (1 - decay) * sum(rows) / len(rows)
    return result


def semantic(source: Any, target: Any, labels: Any, pseudo: Any) -> float:
    gap = centroids(MEMORY["source"], source, labels) - centroids(MEMORY["target"], target, pseudo)
    return float((gap**2).sum() / gap.size)


def domain(source: Any, target: Any) -> float:
    return fixed.domain_loss(float64(source) @ WEIGHTS, float64(target) @ WEIGHTS)


def gradients(source: Source, target: Target, **settings: Any) -> Any:
    """Of the objective, for the features of both domains."""

    def of(of_source: jax.Array, of_target: jax.Array) -> jax.Array:
        seen = source._replace(features=of_source), target._replace(features=of_target)
        return fixed.value(method(), 0, *seen, **{**SETTINGS, **settings})[0]

    return jax.grad(of, (0, 1))(jnp.asarray(source.features), jnp.asarray(target.features))


def test_one_batch_has_every_class_in_both_domains_and_one_lacks_some() -> None:
    assert set(SOURCE.labels) == set(PREDICTED) == set(range(CLASSES))
    assert set(LABELS) == {ABSENT_ON_TARGET} and set(PSEUDO) == {ABSENT_ON_SOURCE}


@BATCHES
def test_the_value_is_that_of_dann_plus_the_distance_of_centroids(
    batch: tuple[Source, Target], labels: Any, pseudo: Any
) -> None:
    found, terms = fixed.value(method(), 0, *batch, **SETTINGS)
    task = fixed.cross_entropy(SOURCE.logits, labels)
    apart = domain(SOURCE.features, TARGET.features)
    distance = semantic(SOURCE.features, TARGET.features, labels, pseudo)
    assert set(terms) == {"task", "domain", "semantic"}
    fixed.assert_close((terms["task"], terms["domain"]), (task, apart))
    fixed.assert_close(terms["semantic"], distance)
    fixed.assert_close(found, task + apart + SEMANTIC * fixed.ramp(PROGRESS) * distance)


@BATCHES
def test_the_features_oppose_the_discriminator_and_follow_the_batchs_centroids(
    batch: tuple[Source, Target], labels: Any, pseudo: Any
) -> None:
    found = gradients(*batch)
    ramp = fixed.ramp(PROGRESS)

    def opposed(source: Any, target: Any) -> float:
        distance = semantic(source, target, labels, pseudo)
        return ramp * (SEMANTIC * distance - STRENGTH * domain(source, target))

    of_source = fixed.slope(lambda at: opposed(at, TARGET.features), SOURCE.features)
    of_target = fixed.slope(lambda at: opposed(SOURCE.features, at), TARGET.features)
    fixed.assert_close(found[0], of_source, rtol=1e-4)
    fixed.assert_close(found[1], of_target, rtol=1e-4)


def test_pseudo_labels_carry_no_gradient_to_the_logits() -> None:
    def of(logits: jax.Array) -> jax.Array:
        return fixed.value(method(), 0, SOURCE, TARGET._replace(logits=logits), **SETTINGS)[0]

    assert not np.any(jax.grad(of)(jnp.asarray(TARGET.logits)))


@BATCHES
def test_the_memory_becomes_the_centroids_that_were_compared(
    batch: tuple[Source, Target], labels: Any, pseudo: Any
) -> None:
    found = method().update_memory(*batch, fixed.scope(method(), **SETTINGS))
    assert set(found) == set(MEMORY)
    fixed.assert_close(found["source"], centroids(MEMORY["source"], SOURCE.features, labels))
    fixed.assert_close(found["target"], centroids(MEMORY["target"], TARGET.features, pseudo))


def test_a_class_that_is_absent_keeps_its_centroid_bit_for_bit() -> None:
    found = method().update_memory(*PARTIAL, fixed.scope(method(), **SETTINGS))
    for name, absent in {"source": ABSENT_ON_SOURCE, "target": ABSENT_ON_TARGET}.items():
        for label in (absent, ABSENT_ON_BOTH):
            np.testing.assert_array_equal(found[name][label], MEMORY[name][label])


def test_a_class_that_both_domains_lack_adds_to_the_value_and_not_to_the_gradient() -> None:
    moved = {name: old.copy() for name, old in MEMORY.items()}
    moved["source"][ABSENT_ON_BOTH] += 100
    for before, after in zip(gradients(*PARTIAL), gradients(*PARTIAL, memory=moved), strict=True):
        assert np.all(np.isfinite(before)) and np.any(before)
        np.testing.assert_array_equal(before, after)
    near, far = (
        fixed.value(method(), 0, *PARTIAL, **{**SETTINGS, "memory": memory})[1]["semantic"]
        for memory in (MEMORY, moved)
    )
    assert far > near + 1


def test_nothing_but_the_discriminator_adapts_at_the_first_step() -> None:
    found, _ = fixed.value(method(), **{**SETTINGS, "progress": 0.0})
    fixed.assert_close(found, TASK + domain(SOURCE.features, TARGET.features))
    assert not any(np.any(gradient) for gradient in gradients(SOURCE, TARGET, progress=0.0))


def test_centroids_start_at_zero_and_the_published_strengths_are_the_defaults() -> None:
    made = build("mstn")
    assert made.hyper == {"strength": 0.2, "semantic": 1.0, "decay": 0.7}
    start = method().remember({}, jax.random.key(0))
    assert set(start) == {"source", "target"}
    for centroid in start.values():
        np.testing.assert_array_equal(centroid, np.zeros((CLASSES, FEATURES)))
