"""The objective of DANN against its definition, with a linear discriminator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jtl import losses, schedules
from jtl.methods import dann
from jtl.types import Scope, Source, Target

DRAW = np.random.default_rng(0)
SOURCE, TARGET = (DRAW.normal(size=(6, 4)).astype(np.float32) for _ in range(2))
LOGITS = DRAW.normal(size=(6, 3)).astype(np.float32)
LABELS = np.arange(6, dtype=np.int32) % 3
WEIGHTS = DRAW.normal(size=4).astype(np.float32)


def value(
    source: jax.Array, target: jax.Array, weights: jax.Array, strength: float, progress: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    scope = Scope(
        params={},
        memory={},
        hyper={"strength": jnp.float32(strength)},
        progress=jnp.float32(progress),
        key=jax.random.key(0),
        call=lambda name, inputs: inputs @ weights,
        forward=lambda *_: None,
    )
    return dann.objective(
        Source(SOURCE, LABELS, source, LOGITS, {}), Target(TARGET, target, LOGITS, {}), scope
    )


def domain(source: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
    return losses.domain_adversarial(source @ weights, target @ weights)


GRADIENTS = jax.grad(domain, argnums=(0, 1, 2))(SOURCE, TARGET, WEIGHTS)


def found(strength: float, progress: float) -> tuple[jax.Array, ...]:
    gradients, _ = jax.grad(value, argnums=(0, 1, 2), has_aux=True)(
        jnp.asarray(SOURCE), jnp.asarray(TARGET), jnp.asarray(WEIGHTS), strength, progress
    )
    return gradients


@pytest.mark.parametrize(("strength", "progress"), [(1.0, 0.3), (0.5, 1.0)])
def test_features_follow_the_reversed_gradient_and_the_discriminator_its_own(
    strength: float, progress: float
) -> None:
    factor = strength * float(schedules.adversarial_strength(progress))
    of_source, of_target, of_discriminator = found(strength, progress)
    np.testing.assert_allclose(of_source, -factor * GRADIENTS[0], rtol=1e-5)
    np.testing.assert_allclose(of_target, -factor * GRADIENTS[1], rtol=1e-5)
    np.testing.assert_allclose(of_discriminator, GRADIENTS[2], rtol=1e-5)


def test_an_untrained_discriminator_does_not_move_the_features() -> None:
    of_source, of_target, of_discriminator = found(1.0, 0.0)
    assert not np.any(of_source) and not np.any(of_target)
    assert np.any(of_discriminator)


def test_the_value_is_the_sum_of_its_terms() -> None:
    total, terms = value(SOURCE, TARGET, WEIGHTS, 1.0, 0.5)
    assert set(terms) == {"task", "domain"}
    np.testing.assert_allclose(total, terms["task"] + terms["domain"], rtol=1e-6)
    np.testing.assert_allclose(terms["domain"], domain(SOURCE, TARGET, WEIGHTS), rtol=1e-6)
    cross = losses.cross_entropy(LOGITS, LABELS).mean()
    np.testing.assert_allclose(terms["task"], cross, rtol=1e-6)


def test_the_discriminator_is_a_network_of_the_method() -> None:
    state = toys.run("dann", stages=0).start()
    assert set(state.params["discriminator"]) == {"first", "second", "output"}
