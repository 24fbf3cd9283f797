import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.adversarial import DOMAIN_LOGITS
from families.common import LOGITS, OTHER_LOGITS, SOURCE, normal
from jax.sharding import AxisType, PartitionSpec

from jtl.errors import UserError
from jtl.losses import (
    classifier_discrepancy,
    domain_adversarial,
    margin_disparity,
    reverse_gradient,
)

SOURCE_LOGITS, TARGET_LOGITS = (jnp.float32(logits) for logits in DOMAIN_LOGITS)


def test_reversal_is_the_identity_forward_and_minus_strength_backward() -> None:
    inputs = jnp.array([[0.1, -0.0], [3e38, jnp.inf]])
    outputs, backward = jax.vjp(lambda x: reverse_gradient(x, 0.25), inputs)
    assert np.asarray(outputs).tobytes() == np.asarray(inputs).tobytes()
    np.testing.assert_array_equal(backward(jnp.full((2, 2), 2.0))[0], -0.5)


def test_reversal_keeps_the_inputs_type() -> None:
    inputs = jnp.ones(2, jnp.bfloat16)
    gradient = jax.grad(lambda x: reverse_gradient(x, jnp.float32(0.5)).sum())(inputs)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.tolist() == [-0.5, -0.5]


def test_strength_may_be_traced_and_mapped_but_gets_no_gradient() -> None:
    def loss(x: jax.Array, strength: jax.Array) -> jax.Array:
        return (reverse_gradient(x, strength) ** 2).sum()

    strengths = jnp.array([0.0, 1.0, 2.0])
    mapped = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), in_axes=(None, 0)))
    to_inputs, to_strength = mapped(jnp.array([3.0]), strengths)
    np.testing.assert_array_equal(to_inputs[:, 0], [0.0, -6.0, -12.0])
    assert not to_strength.any()


def test_discriminators_own_gradient_is_not_scaled() -> None:
    def loss(backbone: jax.Array, discriminator: jax.Array, strength: float) -> jax.Array:
        return (reverse_gradient(backbone * 2, strength) * discriminator).sum()

    to_backbone, to_discriminator = jax.grad(loss, (0, 1))(jnp.float32(3), jnp.float32(5), 0.1)
    np.testing.assert_allclose([to_backbone, to_discriminator], [-0.1 * 10, 6.0], rtol=1e-6)


def test_swapping_domains_and_signs_changes_nothing() -> None:
    swapped = domain_adversarial(-TARGET_LOGITS, -SOURCE_LOGITS)
    np.testing.assert_allclose(swapped, domain_adversarial(SOURCE_LOGITS, TARGET_LOGITS))


def test_repeating_one_domain_changes_nothing() -> None:
    doubled = domain_adversarial(jnp.tile(SOURCE_LOGITS, 2), TARGET_LOGITS)
    np.testing.assert_allclose(doubled, domain_adversarial(SOURCE_LOGITS, TARGET_LOGITS), rtol=1e-6)


def test_weights_of_zero_and_one_select_examples() -> None:
    chosen = domain_adversarial(
        SOURCE_LOGITS,
        TARGET_LOGITS,
        source_weights=jnp.float32([1, 1, 0, 0, 0, 0, 0, 0]),
        target_weights=3 * jnp.ones(16),
    )
    np.testing.assert_allclose(chosen, domain_adversarial(SOURCE_LOGITS[:2], TARGET_LOGITS))


def test_discrepancy_is_symmetric_zero_at_equality_and_blind_to_order() -> None:
    first, second = jnp.float32(LOGITS), jnp.float32(OTHER_LOGITS)
    value = classifier_discrepancy(first, second)
    np.testing.assert_allclose(classifier_discrepancy(second, first), value)
    np.testing.assert_allclose(classifier_discrepancy(first[::-1], second[::-1]), value, rtol=1e-6)
    assert classifier_discrepancy(first, first) == 0


def test_what_a_weight_of_zero_leaves_out_may_be_anything() -> None:
    weights = jnp.float32([0, 1, 1, 1, 1, 1, 1, 0])
    logits = SOURCE_LOGITS.at[jnp.array([0, 7])].set(jnp.array([jnp.nan, -jnp.inf]))

    def loss(logits: jax.Array, weights: jax.Array) -> jax.Array:
        return domain_adversarial(logits, TARGET_LOGITS, source_weights=weights)

    value, (to_logits, to_weights) = jax.value_and_grad(loss, (0, 1))(logits, weights)
    np.testing.assert_allclose(value, loss(SOURCE_LOGITS, weights))
    assert to_logits[0] == to_logits[7] == 0
    assert np.isfinite(to_weights).all()
    assert jnp.isnan(loss(logits, jnp.ones(8)))


def test_margin_disparity_is_never_positive_and_blind_to_the_order_of_classes() -> None:
    for seed in range(10):
        logits = [jnp.float32(3 * normal(rows, 3, seed=seed + i)) for i, rows in enumerate([8] * 4)]
        value = margin_disparity(*logits)
        assert value < 0
        turned = margin_disparity(*(z[:, jnp.array([2, 0, 1])] for z in logits))
        np.testing.assert_allclose(turned, value, rtol=1e-5)


def test_an_adversary_that_agrees_on_the_source_and_not_on_the_target_reaches_zero() -> None:
    chosen, other = jnp.array([[50.0, 0.0, 0.0]]), jnp.array([[0.0, 50.0, 0.0]])
    np.testing.assert_allclose(margin_disparity(chosen, chosen, chosen, other), 0, atol=1e-6)
    np.testing.assert_allclose(
        margin_disparity(chosen, other, chosen, other, margin=2.0), -100, rtol=1e-6
    )


def test_a_certain_adversary_still_learns_to_leave_the_classifiers_choice() -> None:
    """``log(1 - softmax)`` as it is written is log 0, without a gradient."""
    certain = jnp.array([[200.0, 0.0, 1.0]])

    def on_target(logits: jax.Array) -> jax.Array:
        return margin_disparity(certain, certain, certain, logits)

    value, gradient = jax.value_and_grad(on_target)(certain)
    np.testing.assert_allclose(value, np.log(1 + np.e) - 200, rtol=1e-6)
    np.testing.assert_allclose(gradient[0], [-1, 1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-5)


def test_margin_disparity_gives_the_classifier_no_gradient() -> None:
    both = jax.grad(margin_disparity, (0, 2))(*(jnp.float32(LOGITS),) * 4)
    assert not any(gradient.any() for gradient in both)


def test_with_reversal_one_minimisation_parts_adversary_and_features() -> None:
    """The adversary climbs the disparity, the features descend it."""
    strength = 0.3
    features, others = jnp.float32(SOURCE), jnp.float32(SOURCE[::-1] * 2)
    classifier, adversary = jnp.float32(normal(3, 3)), jnp.float32(normal(3, 3, seed=1))

    def disparity(source: jax.Array, target: jax.Array, adversary: jax.Array) -> jax.Array:
        logits = jax.lax.stop_gradient((source @ classifier, target @ classifier))
        return margin_disparity(logits[0], source @ adversary, logits[1], target @ adversary)

    def objective(source: jax.Array, target: jax.Array, adversary: jax.Array) -> jax.Array:
        return -disparity(
            reverse_gradient(source, strength), reverse_gradient(target, strength), adversary
        )

    arguments = features, others, adversary
    found, slopes = (jax.grad(f, (0, 1, 2))(*arguments) for f in (objective, disparity))
    np.testing.assert_allclose(found[0], strength * slopes[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1], strength * slopes[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[2], -slopes[2], rtol=1e-5, atol=1e-7)


def test_under_shard_map_the_loss_means_the_global_batch() -> None:
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    weights = jnp.arange(8.0)

    def local(source: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
        loss = domain_adversarial(source, target, source_weights=weights, axis_name="batch")
        return jax.lax.pmean(loss, "batch")

    split, whole = PartitionSpec("batch"), PartitionSpec()
    sharded = jax.shard_map(local, mesh=mesh, in_specs=(split, split, split), out_specs=whole)
    arguments = SOURCE_LOGITS, TARGET_LOGITS, weights
    value, gradient = jax.jit(jax.value_and_grad(sharded))(*arguments)

    def plain(source: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
        return domain_adversarial(source, target, source_weights=weights)

    expected, slope = jax.value_and_grad(plain)(*arguments)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: domain_adversarial(jnp.zeros((2, 1)), jnp.zeros(2)),
        lambda: domain_adversarial(jnp.zeros(2), jnp.zeros(0)),
        lambda: domain_adversarial(jnp.zeros(2), jnp.zeros(2), source_weights=jnp.ones(1)),
        lambda: classifier_discrepancy(jnp.zeros((2, 3)), jnp.zeros((1, 3))),
        lambda: classifier_discrepancy(*(jnp.zeros((2, 3)),) * 2, where=jnp.ones(3, bool)),
        lambda: margin_disparity(jnp.zeros((2, 3)), *(jnp.zeros((1, 3)),) * 3),
        lambda: margin_disparity(*(jnp.zeros((2, 1)),) * 4),
        lambda: margin_disparity(*(jnp.zeros((0, 3)),) * 4),
        lambda: margin_disparity(*(jnp.zeros((2, 3)),) * 4, margin=0.0),
        lambda: margin_disparity(*(jnp.zeros((2, 3)),) * 4, source_where=jnp.ones(3, bool)),
    ],
)
def test_wrong_shapes_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()
