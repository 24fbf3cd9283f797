"""CDAN, BSP, MDD and VADA: values against NumPy, and who increases what."""

from typing import Any

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from fixed import CLASSES, FEATURES, SOURCE, TARGET, TASK, float64, softmax
from test_registered import build

from jtl.errors import UserError
from jtl.training.step import make_training
from jtl.types import Method, Outputs

S, T = jnp.asarray(SOURCE.features), jnp.asarray(TARGET.features)
PROGRESS, STRENGTH = 0.3, 0.7
REVERSED = STRENGTH * fixed.ramp(PROGRESS)


def gradients(method: Method, weights: Any, network: str, **settings: Any) -> Any:
    """Of the objective, for the features of both domains and the weights of a linear network."""

    def of(source: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
        seen = SOURCE._replace(features=source), TARGET._replace(features=target)
        networks = {network: lambda inputs: inputs @ weights}
        return fixed.value(method, 0, *seen, networks=networks, **settings)[0]

    return jax.grad(of, (0, 1, 2))(S, T, jnp.asarray(weights))


def products(features: Any, logits: Any) -> np.ndarray:
    outer = np.einsum("if,ic->ifc", float64(features), softmax(logits))
    return outer.reshape(len(outer), -1)


# --- CDAN -----------------------------------------------------------------------------------------

JOINT = fixed.draw(FEATURES * CLASSES)


def weights_of(logits: Any, entropy: bool) -> np.ndarray:
    return 1 + np.exp(-fixed.entropies(logits)) if entropy else np.ones(len(logits))


def conditional(source: Any, target: Any, weights: Any, entropy: bool) -> float:
    return fixed.domain_loss(
        products(source, SOURCE.logits) @ float64(weights),
        products(target, TARGET.logits) @ float64(weights),
        weights_of(SOURCE.logits, entropy),
        weights_of(TARGET.logits, entropy),
    )


@pytest.mark.parametrize("entropy", [False, True])
def test_cdans_discriminator_reads_products_and_the_features_oppose_it(entropy: bool) -> None:
    method = build("cdan", entropy=entropy)
    settings = {"progress": PROGRESS, "strength": STRENGTH}
    networks = {"discriminator": lambda inputs: inputs @ JOINT}
    found, terms = fixed.value(method, networks=networks, **settings)
    fixed.assert_close(terms["domain"], conditional(S, T, JOINT, entropy))
    fixed.assert_close(found, TASK + conditional(S, T, JOINT, entropy))
    of_source, of_target, of_weights = gradients(method, JOINT, "discriminator", **settings)
    slopes = (
        fixed.slope(lambda source: conditional(source, T, JOINT, entropy), S),
        fixed.slope(lambda target: conditional(S, target, JOINT, entropy), T),
        fixed.slope(lambda weights: conditional(S, T, weights, entropy), JOINT),
    )
    fixed.assert_close(of_source, -REVERSED * slopes[0], rtol=1e-4)
    fixed.assert_close(of_target, -REVERSED * slopes[1], rtol=1e-4)
    fixed.assert_close(of_weights, slopes[2], rtol=1e-4)


@pytest.mark.parametrize("detach", [False, True])
def test_cdans_predictions_oppose_the_discriminator_unless_they_are_detached(detach: bool) -> None:
    def of(logits: jax.Array) -> jax.Array:
        networks = {"discriminator": lambda inputs: inputs @ JOINT}
        seen, settings = (
            TARGET._replace(logits=logits),
            {"progress": PROGRESS, "strength": STRENGTH},
        )
        method = build("cdan", entropy=True, detach=detach)
        return fixed.value(method, 0, SOURCE, seen, networks=networks, **settings)[0]

    def domain(logits: np.ndarray) -> float:
        """With the weights as they are, which no gradient reaches."""
        of_source = products(S, SOURCE.logits) @ float64(JOINT)
        of_target = products(T, logits) @ float64(JOINT)
        weights = [weights_of(seen.logits, True) for seen in (SOURCE, TARGET)]
        return fixed.domain_loss(of_source, of_target, *weights)

    found = jax.grad(of)(jnp.asarray(TARGET.logits))
    expected = 0.0 if detach else -REVERSED * fixed.slope(domain, TARGET.logits)
    fixed.assert_close(found, np.broadcast_to(expected, found.shape), rtol=1e-4)


def test_wide_products_are_projected_by_matrices_that_the_memory_keeps() -> None:
    widest, projections = FEATURES * CLASSES, 5
    sizes = {"features": FEATURES, "classes": CLASSES, "projections": projections}
    key = jax.random.key(1)
    assert build("cdan", **sizes, widest=widest).remember({}, key) == {}
    method = build("cdan", **sizes, widest=widest - 1)
    memory = method.remember({}, key)
    assert {name: leaf.shape for name, leaf in memory.items()} == {
        "of_features": (FEATURES, projections),
        "of_predictions": (CLASSES, projections),
    }
    assert not toys.same(memory, method.remember({}, jax.random.key(2)))
    assert all(0.5 < float(leaf.std()) < 1.5 for leaf in memory.values()), "standard normal"
    weights = fixed.draw(projections)

    def logits(domain: Any) -> np.ndarray:
        of_features = float64(domain.features) @ float64(memory["of_features"])
        of_predictions = softmax(domain.logits) @ float64(memory["of_predictions"])
        return of_features * of_predictions / np.sqrt(projections) @ weights

    networks = {"discriminator": lambda inputs: inputs @ weights}
    _, terms = fixed.value(method, networks=networks, memory=memory)
    fixed.assert_close(terms["domain"], fixed.domain_loss(logits(SOURCE), logits(TARGET)))


def test_the_discriminator_is_as_wide_as_what_it_reads() -> None:
    def inputs(**settings: Any) -> int:
        params, _ = build("cdan", **settings).networks["discriminator"].init(jax.random.key(0))
        return params["first"]["kernel"].shape[0]

    assert inputs() == toys.WIDTH * toys.CLASSES
    assert inputs(widest=0, projections=6) == 6


# --- BSP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "settings"), [("dann", {}), ("cdan", {"entropy": True})])
def test_bsp_adds_the_largest_squared_singular_values_to_its_base(
    base: str, settings: dict[str, Any]
) -> None:
    weights = fixed.draw(FEATURES if base == "dann" else FEATURES * CLASSES)
    networks = {"discriminator": lambda inputs: inputs @ weights}
    expected, _ = fixed.value(build(base, **settings), networks=networks)
    plain = gradients(build(base, **settings), weights, "discriminator")
    method = build("bsp", base=base)
    assert method.hyper == {"strength": 1.0, "spectral": 1e-4}
    found, terms = fixed.value(method, networks=networks, spectral=0.1)
    largest = sum(np.linalg.svd(float64(f), compute_uv=False)[0] ** 2 for f in (S, T))
    fixed.assert_close(terms["spectral"], largest)
    fixed.assert_close(found, expected + 0.1 * largest)
    with_penalty = gradients(method, weights, "discriminator", spectral=0.1)
    for features, before, after in zip((S, T), plain, with_penalty, strict=False):
        left, singular, right = np.linalg.svd(float64(features))
        outer = np.outer(left[:, 0], right[0])
        fixed.assert_close(after - before, 0.1 * 2 * singular[0] * outer, rtol=1e-4)
    fixed.assert_close(with_penalty[2], plain[2])


def test_another_base_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"method\.base: no 'mcc'; valid: cdan, dann"):
        build("bsp", base="mcc")


# --- MDD ------------------------------------------------------------------------------------------

ADVERSARY = fixed.draw(FEATURES, CLASSES)


def disparity(source: Any, target: Any, adversary: Any, margin: float) -> float:
    rows = np.arange(len(SOURCE.labels))
    of_source = softmax(float64(source) @ float64(adversary))[rows, SOURCE.logits.argmax(axis=1)]
    of_target = softmax(float64(target) @ float64(adversary))[rows, TARGET.logits.argmax(axis=1)]
    return margin * np.log(of_source).mean() + np.log(1 - of_target).mean()


def test_mdds_adversary_increases_the_disparity_and_the_features_decrease_it() -> None:
    method, progress, margin = build("mdd"), 0.01, 2.0
    assert method.hyper == {"strength": 0.1, "margin": 4.0}
    settings = {"progress": progress, "strength": STRENGTH, "margin": margin}
    networks = {"adversary": lambda features: features @ ADVERSARY}
    found, terms = fixed.value(method, networks=networks, **settings)
    fixed.assert_close(terms["disparity"], disparity(S, T, ADVERSARY, margin))
    fixed.assert_close(found, TASK - disparity(S, T, ADVERSARY, margin))
    of_source, of_target, of_adversary = gradients(method, ADVERSARY, "adversary", **settings)
    # 0.01 of training are 1,000 of the authors' 100,000 steps.
    factor = STRENGTH * (2 / (1 + np.exp(-1.0)) - 1)
    by_source = fixed.slope(lambda source: disparity(source, T, ADVERSARY, margin), S)
    by_target = fixed.slope(lambda target: disparity(S, target, ADVERSARY, margin), T)
    by_adversary = fixed.slope(lambda adversary: disparity(S, T, adversary, margin), ADVERSARY)
    fixed.assert_close(of_source, factor * by_source, rtol=1e-4)
    fixed.assert_close(of_target, factor * by_target, rtol=1e-4)
    fixed.assert_close(of_adversary, -by_adversary, rtol=1e-4)


# --- VADA -----------------------------------------------------------------------------------------

DISCRIMINATOR = fixed.draw(FEATURES)
INTO_LOGITS = np.array([[1.5, -0.5, 0.0], [0.0, 0.0, -60.0]], np.float32)
"""Of two pixels, for two classes: the third is out of the question."""


def forward(inputs: jax.Array) -> Outputs:
    assert inputs.dtype == jnp.float32
    logits = inputs @ INTO_LOGITS - jnp.array([[0.0, 0.0, 60.0]])
    return Outputs(jnp.zeros((len(inputs), FEATURES)), logits)


def test_vadas_value_is_the_weighted_sum_of_its_five_losses() -> None:
    """At 0 both classes are even: the worst move is along the first pixel, either way."""
    method, epsilon = build("vada"), 0.5
    assert dict(method.hyper) == {
        "strength": 0.01,
        "source_smoothness": 1.0,
        "target_smoothness": 0.01,
        "epsilon": 3.5,
    }
    networks = {"discriminator": lambda features: features @ DISCRIMINATOR}
    weights = {"source_smoothness": 3.0, "target_smoothness": 0.2}
    found, terms = fixed.value(
        method, networks=networks, forward=forward, epsilon=epsilon, **weights
    )
    difference = (1.5 + 0.5) * epsilon
    moved = 1 / (1 + np.exp(-np.array([difference, -difference])))
    roughness = -np.log(2) - np.log(moved).mean()
    domain = fixed.domain_loss(S @ DISCRIMINATOR, T @ DISCRIMINATOR)
    entropy = fixed.entropies(TARGET.logits).mean()
    for name in ("source_roughness", "target_roughness"):
        fixed.assert_close(terms[name], roughness, rtol=1e-4)
    expected = TASK + domain + 3.0 * roughness + 0.2 * (entropy + roughness)
    fixed.assert_close(found, expected, rtol=1e-4)


def test_vadas_features_oppose_the_discriminator_with_the_same_strength_throughout() -> None:
    def domain(source: Any, weights: Any) -> float:
        return fixed.domain_loss(float64(source) @ weights, float64(T) @ weights)

    for progress in (0.0, 1.0):
        settings = {"forward": forward, "progress": progress, "strength": STRENGTH}
        of_source, _, of_weights = gradients(
            build("vada"), DISCRIMINATOR, "discriminator", **settings
        )
        by_source = fixed.slope(lambda source: domain(source, DISCRIMINATOR), S)
        by_weights = fixed.slope(lambda weights: domain(S, weights), DISCRIMINATOR)
        fixed.assert_close(of_source, -STRENGTH * by_source, rtol=1e-4)
        fixed.assert_close(of_weights, by_weights, rtol=1e-4)


def test_vada_finds_the_same_moves_under_pmap() -> None:
    """Its gradient for the inputs crosses the gather of the devices' outputs."""
    method = build("vada")
    run = toys.Run(toys.recipe(method, plain=True))
    start = run.start()
    expected, metrics = run.step(start, toys.batch(0), run.hyper)
    training = make_training(toys.recipe(method, plain=True, axis_name="devices"))
    cut = jax.tree.map(lambda rows: rows.reshape(8, -1, *rows.shape[1:]), toys.batch(0))
    step = jax.pmap(training.step, axis_name="devices", in_axes=(None, 0, None))
    found, across = step(start, cut, run.hyper)
    first = jax.tree.map(lambda leaf: leaf[0], (found.params, across))
    assert toys.difference((expected.params, metrics), first) < 1e-6
