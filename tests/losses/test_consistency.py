from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import INF, LOGITS, OTHER_LOGITS, normal, softmax
from families.consistency import INPUTS, KEY, network
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl.errors import UserError
from jtl.losses import consistency, cross_entropy, virtual_adversarial

WEAK, STRONG = jnp.float32(LOGITS), jnp.float32(OTHER_LOGITS)
rows = arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=32))
fixmatch = jax.jit(consistency)


def worst(apply: Callable, inputs: jax.Array, epsilon: float = 0.5, **options: object) -> jax.Array:
    return virtual_adversarial(apply, inputs, KEY, epsilon=epsilon, **options)


fast_worst = jax.jit(lambda inputs: worst(network, inputs))


@given(rows, rows, st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_higher_threshold_never_costs_more(
    weak: np.ndarray, strong: np.ndarray, first: float, second: float
) -> None:
    low, high = sorted((np.float32(first), np.float32(second)))
    at_low, at_high = (fixmatch(weak, strong, threshold=t) for t in (low, high))
    assert 0 <= at_high <= at_low


def test_without_a_threshold_every_prediction_is_a_label() -> None:
    labels = WEAK.argmax(axis=1)
    expected = cross_entropy(STRONG, labels).mean()
    np.testing.assert_allclose(consistency(WEAK, STRONG, threshold=0.0), expected, rtol=1e-6)


def test_unsure_examples_count_in_the_mean() -> None:
    weak = jnp.concatenate([jnp.array([[9.0, 0.0, 0.0]]), jnp.zeros((3, 3))])
    np.testing.assert_allclose(
        consistency(weak, jnp.zeros((4, 3)), threshold=0.9), np.log(3) / 4, rtol=1e-6
    )


def test_a_prediction_at_the_threshold_is_sure() -> None:
    weak, strong = jnp.zeros((1, 2)), jnp.zeros((1, 2))
    np.testing.assert_allclose(consistency(weak, strong, threshold=0.5), np.log(2), rtol=1e-6)


def test_no_gradient_reaches_the_weak_predictions() -> None:
    gradient = jax.grad(lambda w: consistency(w, STRONG, threshold=0.3))(WEAK)
    assert not gradient.any()


def test_an_unsure_example_may_have_an_infinite_loss() -> None:
    strong = STRONG.at[:, 0].set(-INF)
    weak = jnp.tile(jnp.array([0.1, 0.0, 0.0]), (8, 1))
    assert consistency(weak, strong, threshold=0.9) == 0
    gradient = jax.grad(lambda s: consistency(weak, s, threshold=0.9))(strong)
    assert not gradient.any()


def test_of_two_classes_the_worst_move_is_along_the_difference_of_their_weights() -> None:
    """Whichever of its two signs: the divergence is even near 0."""
    weights = np.array([[2.0, -1.0], [0.5, 0.5], [-1.0, 1.0]])
    inputs = np.array([[0.3, -0.2, 0.1]])
    across = weights[:, 0] - weights[:, 1]
    ways = []
    for sign in (1, -1):
        moved = inputs + sign * 0.5 * across / np.linalg.norm(across)
        p, q = (1 / (1 + np.exp(-(rows @ across)[0])) for rows in (inputs, moved))
        ways.append(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    value = worst(lambda x: x @ jnp.float32(weights), jnp.float32(inputs))
    assert min(abs(value - way) / way for way in ways) < 1e-4


def test_the_move_is_worse_than_random_ones() -> None:
    clean = jax.nn.log_softmax(network(jnp.float32(INPUTS)))
    found = worst(network, jnp.float32(INPUTS), iterations=3)
    noise = jax.random.normal(jax.random.key(1), (100, 8, 4))
    noise /= jnp.linalg.norm(noise, axis=-1, keepdims=True)

    def divergence(move: jax.Array) -> jax.Array:
        log_q = jax.nn.log_softmax(network(jnp.float32(INPUTS) + 0.5 * move))
        return (jnp.exp(clean) * (clean - log_q)).sum(axis=1).mean()

    assert found > 2 * jax.vmap(divergence)(noise).mean()


@given(arrays(np.float32, (4, 4), elements=st.floats(-3, 3, width=32)))
def test_the_divergence_is_not_negative(inputs: np.ndarray) -> None:
    assert fast_worst(inputs) >= -1e-6


def test_a_constant_network_costs_nothing_and_has_gradient_zero() -> None:
    def loss(scale: jax.Array) -> jax.Array:
        return worst(lambda x: 0 * x[:, :3] + scale, jnp.float32(INPUTS))

    value, gradient = jax.value_and_grad(loss)(jnp.float32(2))
    assert value == 0
    assert gradient == 0


def test_where_the_slope_is_zero_the_random_direction_stays() -> None:
    """A network that is flat near its inputs and not at the distance of the move."""

    def apply(inputs: jax.Array) -> jax.Array:
        return jax.nn.relu(jnp.abs(inputs) - 0.1)

    assert worst(apply, jnp.zeros((2, 3)), epsilon=1.0) > 1e-3


def test_neither_the_clean_prediction_nor_the_move_carries_a_gradient() -> None:
    """At scale 1 the gradient is that of the moved prediction alone."""
    inputs = jnp.float32(INPUTS)
    clean = jax.nn.log_softmax(network(inputs))

    def moved_alone(scale: jax.Array, rows: jax.Array) -> jax.Array:
        log_q = jax.nn.log_softmax(scale * network(rows))
        return (jnp.exp(clean) * (clean - log_q)).sum(axis=1).mean()

    expected = jax.grad(moved_alone)(jnp.float32(1), inputs + move(network, inputs))
    ours = jax.grad(lambda s: worst(lambda x: s * network(x), inputs))(jnp.float32(1))
    np.testing.assert_allclose(ours, expected, rtol=1e-3)


def move(apply: Callable, inputs: jax.Array, **options: object) -> jax.Array:
    """By how much the loss moves each input in the end."""
    seen = []

    def record(rows: jax.Array) -> jax.Array:
        seen.append(rows)
        return apply(rows)

    worst(record, inputs, **options)
    return seen[-1] - inputs


def mean_cosine(**step: float) -> float:
    """Between the moves of a network of 64 inputs and the exact directions, in float64."""
    first, second = normal(64, 32) / 8, normal(32, 10) / 3
    inputs = normal(16, 64)
    found = move(
        lambda x: jnp.tanh(x @ jnp.float32(first)) @ jnp.float32(second),
        jnp.float32(inputs),
        **step,
    )
    cosines = []
    for number, (x, step) in enumerate(zip(inputs, np.asarray(found, np.float64), strict=True)):
        start = np.asarray(jax.random.normal(jax.random.fold_in(KEY, number), 64), np.float64)
        hidden = np.tanh(x @ first)
        p = softmax(hidden @ second)
        # The divergence's Hessian at 0 is J^T (diag(p) - p p^T) J.
        jacobian = second.T @ np.diag(1 - hidden**2) @ first.T
        slope = jacobian.T @ (np.diag(p) - np.outer(p, p)) @ jacobian @ start
        cosines.append(slope @ step / np.linalg.norm(slope) / np.linalg.norm(step))
    return float(np.mean(cosines))


def test_the_default_step_finds_the_direction_that_the_published_one_loses_in_float32() -> None:
    assert mean_cosine() > 0.9999
    assert mean_cosine(xi=1e-6) < 0.8


def test_images_are_rows_of_pixels() -> None:
    flat = worst(network, jnp.float32(INPUTS))
    images = jnp.float32(INPUTS).reshape(8, 2, 2, 1)
    shaped = worst(lambda x: network(x.reshape(8, 4)), images)
    np.testing.assert_allclose(shaped, flat, rtol=1e-6)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: consistency(WEAK, STRONG[:4], threshold=0.9), "expected the same"),
        (lambda: consistency(WEAK[:0], STRONG[:0], threshold=0.9), "needs at least 1"),
        (lambda: consistency(WEAK, STRONG, threshold=95.0), "threshold is 95.0"),
        (lambda: consistency(WEAK, STRONG, threshold=0.5, where=jnp.ones(2, bool)), "boolean"),
        (lambda: worst(network, jnp.zeros((2, 4)), epsilon=0.0), "epsilon is 0.0"),
        (lambda: worst(network, jnp.zeros((2, 4)), xi=-1.0), "xi is -1.0"),
        (lambda: worst(network, jnp.zeros((2, 4)), iterations=0), "iterations is 0"),
        (lambda: worst(network, jnp.zeros((2, 4), jnp.uint8)), "inputs are uint8"),
        (lambda: worst(network, jnp.zeros(4)), r"inputs \(4,\)"),
        (lambda: worst(lambda x: x[:, 0], jnp.zeros((2, 4))), "logits has shape"),
    ],
)
def test_wrong_arguments_are_errors(call: Callable, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()
