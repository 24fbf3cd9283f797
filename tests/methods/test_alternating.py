"""MCD, SWD and WDGRL, whose phases oppose each other: values, and who moves which way."""

import re
from typing import Any

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed import CLASSES, FEATURES, SOURCE, TARGET, TASK, float64, softmax
from test_registered import build

from jtl.types import Method

FIT, SPLIT, MERGE = range(3)
FIT_CRITIC, ADAPT = range(2)
SECOND = fixed.draw(FEATURES, CLASSES)
CRITIC = 3 * fixed.draw(FEATURES)
PATHS = (
    *(f"{part}/dense/kernel" for part in ("backbone/stem", "bottleneck", "head")),
    *(f"{part}/dense/kernel" for part in ("second_head", "critic")),
)


def moved(method: Method, phase: int) -> set[str]:
    """The parts of a model and a method that a phase moves."""
    trains = method.phases[phase].trains
    return {
        path.split("/")[0] for path in PATHS if any(re.fullmatch(rule, path) for rule in trains)
    }


def second_task(weights: Any = SECOND) -> float:
    return fixed.cross_entropy(float64(SOURCE.features) @ float64(weights), SOURCE.labels)


def absolute(target: Any, weights: Any, first: Any = TARGET.logits) -> float:
    """MCD's discrepancy on the target."""
    second = softmax(float64(target) @ float64(weights))
    return float(np.abs(softmax(first) - second).mean())


@pytest.mark.parametrize(("name", "published"), [("mcd", 4), ("swd", 1)])
def test_the_phases_of_two_heads_move_all_then_heads_then_features(
    name: str, published: int
) -> None:
    method = build(name, repeats=published)
    features, heads = {"backbone", "bottleneck"}, {"head", "second_head"}
    assert moved(method, FIT) == features | heads | {"critic"}
    assert moved(method, SPLIT) == heads
    assert moved(method, MERGE) == features | {"critic"}
    assert [phase.repeats for phase in method.phases] == [1, 1, published]
    assert [phase.reads for phase in method.phases] == [
        ("source",),
        ("source", "target"),
        ("target",),
    ]


def test_mcd_fits_both_heads_then_parts_them_then_joins_them() -> None:
    method = build("mcd")
    networks = {"second_head": lambda features: features @ SECOND}
    both = TASK + second_task()
    gap = absolute(TARGET.features, SECOND)
    fitted, terms = fixed.value(method, FIT, SOURCE, None, networks=networks)
    fixed.assert_close(fitted, both)
    assert not terms
    parted, terms = fixed.value(method, SPLIT, networks=networks)
    fixed.assert_close(parted, both - gap)
    fixed.assert_close((terms["task"], terms["discrepancy"]), (both, gap))
    joined, terms = fixed.value(method, MERGE, None, TARGET, networks=networks)
    fixed.assert_close(joined, gap)
    assert not terms


def test_mcds_heads_increase_the_discrepancy_and_its_features_decrease_it() -> None:
    method = build("mcd")

    def of(phase: int, target: jax.Array, weights: jax.Array) -> jax.Array:
        source = None if phase == MERGE else SOURCE
        networks = {"second_head": lambda features: features @ weights}
        seen = TARGET._replace(features=target)
        return fixed.value(method, phase, source, seen, networks=networks)[0]

    target, weights = jnp.asarray(TARGET.features), jnp.asarray(SECOND)
    of_heads = jax.grad(of, 2)(SPLIT, target, weights)
    of_task = fixed.slope(second_task, SECOND)
    of_gap = fixed.slope(lambda second: absolute(target, second), SECOND)
    fixed.assert_close(of_heads, of_task - of_gap, rtol=1e-3)
    of_features = jax.grad(of, 1)(MERGE, target, weights)
    fixed.assert_close(of_features, fixed.slope(lambda t: absolute(t, SECOND), target), rtol=1e-3)


def test_swd_compares_the_heads_predictions_as_samples() -> None:
    """Of two classes the predictions lie on a line, of which a direction sees 1 on average."""
    rows = np.random.default_rng(5).normal(size=(8, 2)).astype(np.float32)
    target = TARGET._replace(features=rows, logits=2 * rows[::-1])
    method = build("swd", classes=2, projections=20_000)

    def gap(second: Any) -> Any:
        networks = {"second_head": lambda features: second * features}
        return fixed.value(method, MERGE, None, target, networks=networks)[0]

    assert gap(2.0) < 1e-10, "the same predictions in another order"
    first, second = (np.sort(softmax(factor * rows)[:, 0]) for factor in (2.0, -0.5))
    fixed.assert_close(gap(-0.5), ((first - second) ** 2).mean(), rtol=0.03)
    split, terms = fixed.value(
        method,
        SPLIT,
        SOURCE._replace(features=rows, logits=rows, labels=SOURCE.labels % 2),
        target,
        networks={"second_head": lambda features: -0.5 * features},
    )
    fixed.assert_close(split, terms["task"] - terms["discrepancy"])
    fixed.assert_close(terms["discrepancy"], gap(-0.5), rtol=1e-6)


def critics(source: Any, target: Any, weights: Any) -> float:
    """A linear critic's estimate of the distance."""
    return float((float64(source) @ float64(weights)).mean() - (target @ float64(weights)).mean())


def test_wdgrl_fits_the_critic_alone_and_then_all_but_the_critic() -> None:
    method = build("wdgrl", repeats=5)
    assert method.hyper == {"strength": 0.1, "penalty": 10.0}
    everything = {path.split("/")[0] for path in PATHS}
    assert moved(method, FIT_CRITIC) == {"critic"}
    assert moved(method, ADAPT) == everything - {"critic"}
    assert [phase.repeats for phase in method.phases] == [5, 1]


def test_wdgrls_critic_increases_the_distance_its_slope_is_held_and_features_decrease_it() -> None:
    method, weight, strength = build("wdgrl"), 2.0, 0.3

    def of(phase: int, source: jax.Array, critic: jax.Array) -> Any:
        networks = {"critic": lambda features: features @ critic}
        seen = SOURCE._replace(features=source)
        settings = {"penalty": weight, "strength": strength}
        return fixed.value(method, phase, seen, TARGET, networks=networks, **settings)

    source, critic = jnp.asarray(SOURCE.features), jnp.asarray(CRITIC)
    norm = np.linalg.norm(float64(CRITIC))
    gap = critics(source, TARGET.features, CRITIC)
    fitted, terms = of(FIT_CRITIC, source, critic)
    fixed.assert_close((terms["distance"], terms["penalty"]), (gap, (norm - 1) ** 2))
    fixed.assert_close(fitted, weight * (norm - 1) ** 2 - gap)
    adapted, terms = of(ADAPT, source, critic)
    fixed.assert_close((terms["task"], terms["distance"]), (TASK, gap))
    fixed.assert_close(adapted, TASK + strength * gap)

    of_critic, _ = jax.grad(of, 2, has_aux=True)(FIT_CRITIC, source, critic)
    means = float64(SOURCE.features).mean(0) - float64(TARGET.features).mean(0)
    fixed.assert_close(of_critic, weight * 2 * (norm - 1) * CRITIC / norm - means, rtol=1e-4)
    of_source, _ = jax.grad(of, 1, has_aux=True)(ADAPT, source, critic)
    fixed.assert_close(of_source, strength * np.tile(CRITIC, (8, 1)) / 8, rtol=1e-4)
