import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.adversarial import MORE_LOGITS
from families.common import LABELS, LOGITS, SOURCE, TARGET, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_wasserstein import transport_cost

from jtl.errors import UserError
from jtl.losses import joint_transport, sinkhorn_plan

S, T, Z = jnp.float32(SOURCE), jnp.float32(TARGET), jnp.float32(MORE_LOGITS)
Y = jnp.asarray(LABELS)
COST = np.float32(normal(5, 7) ** 2)

costs = arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32))
fast_plan = jax.jit(sinkhorn_plan, static_argnames="iterations")
fast_transport = jax.jit(joint_transport, static_argnames="iterations")


# --- the plan -------------------------------------------------------------------------------------


@given(costs, st.sampled_from([1, 3, 100]), st.floats(0.05, 10))
def test_rows_and_columns_sum_to_their_shares_after_any_number_of_iterations(
    cost: np.ndarray, iterations: int, epsilon: float
) -> None:
    plan = fast_plan(cost, epsilon=jnp.float32(epsilon), iterations=iterations)
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 4, rtol=1e-5)


def test_as_epsilon_falls_the_plan_becomes_the_linear_programs() -> None:
    best = transport_cost(np.float64(COST))
    excess = [
        (fast_plan(COST, epsilon=jnp.float32(epsilon), iterations=2000) * COST).sum() / best - 1
        for epsilon in (1.0, 0.1, 0.01, 0.001)
    ]
    assert (np.diff(excess) < 1e-5).all() and min(excess) > -1e-5
    assert excess[0] > 0.3 and excess[-1] < 1e-3


def test_as_epsilon_grows_the_plan_becomes_even() -> None:
    np.testing.assert_allclose(fast_plan(COST, epsilon=jnp.float32(1e6)), 1 / 35, rtol=1e-4)


def test_the_plan_turns_with_the_order_and_the_domains() -> None:
    plan = fast_plan(COST, epsilon=jnp.float32(0.5))
    order = np.array([3, 0, 4, 1, 2])
    turned = fast_plan(COST[order], epsilon=jnp.float32(0.5))
    np.testing.assert_allclose(turned, plan[order], rtol=1e-4, atol=1e-7)
    swapped = fast_plan(COST.T, epsilon=jnp.float32(0.5))
    np.testing.assert_allclose(swapped, plan.T, rtol=1e-4, atol=1e-7)


def test_what_is_added_to_a_row_or_a_column_changes_nothing() -> None:
    plan = fast_plan(COST, epsilon=jnp.float32(0.5))
    shifted = COST + np.float32(normal(5, 1)) + np.float32(normal(1, 7))
    np.testing.assert_allclose(
        fast_plan(shifted, epsilon=jnp.float32(0.5)), plan, rtol=1e-4, atol=1e-7
    )


def test_given_weights_are_the_sums_and_a_weight_of_zero_may_hold_anything() -> None:
    source, target = np.float32([3, 0, 1, 0, 4]), np.float32([1, 1, 0, 2, 0, 0, 4])
    broken = COST.copy()
    broken[:, target == 0] = np.nan
    broken[source == 0] = np.inf

    def plan_of(cost: jax.Array) -> jax.Array:
        return sinkhorn_plan(cost, epsilon=0.5, source_weights=source, target_weights=target)

    plan, backward = jax.vjp(plan_of, jnp.asarray(broken))
    np.testing.assert_allclose(plan.sum(axis=1), source / 8, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), target / 8, rtol=1e-5)
    (gradient,) = backward(jnp.asarray(COST))
    assert np.isfinite(gradient).all()
    assert not gradient[source == 0].any() and not gradient[:, target == 0].any()
    kept = np.ix_(source > 0, target > 0)
    alone = sinkhorn_plan(
        COST[kept],
        epsilon=0.5,
        source_weights=source[source > 0],
        target_weights=target[target > 0],
    )
    np.testing.assert_allclose(plan[kept], alone, rtol=1e-5)


def test_weights_of_zero_everywhere_carry_nothing() -> None:
    plan = sinkhorn_plan(COST, epsilon=0.5, source_weights=np.zeros(5, np.float32))
    assert not plan.any()


def test_an_infinite_cost_is_paid_only_where_nothing_else_is_possible() -> None:
    cost = np.float32([[np.inf, 1, 1], [1, 1, 1], [1, 1, 1]])
    plan = sinkhorn_plan(cost, epsilon=0.1)
    np.testing.assert_allclose(plan * 12, [[0, 2, 2], [2, 1, 1], [2, 1, 1]], atol=1e-5)
    cost = np.float32([[np.inf, np.inf], [1.0, 1.0]])
    np.testing.assert_allclose(sinkhorn_plan(cost, epsilon=0.1), 0.25, atol=1e-6)


# --- the loss -------------------------------------------------------------------------------------


def test_at_the_defaults_the_cost_is_within_a_percent_of_the_least() -> None:
    source, target = normal(32, 16, seed=4), normal(32, 16, seed=5) + 0.3
    logits, labels = normal(32, 3, seed=6), np.arange(32) % 3
    found = fast_transport(
        jnp.float32(source), jnp.asarray(labels), jnp.float32(target), jnp.float32(logits)
    )
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    distances = ((source[:, None] - target[None]) ** 2).sum(axis=-1)
    least = transport_cost(0.001 * distances - 0.0001 * log_p[:, labels].T)
    assert least * (1 - 1e-5) < found < least * 1.01


def test_no_gradient_passes_through_the_plan() -> None:
    """Each target feature is pulled to the mean of what is carried to it."""
    options = {"alpha": 1.0, "lambda_t": 0.0, "epsilon": 0.2}
    gradient = jax.jit(jax.grad(lambda t: joint_transport(S, Y, t, Z, **options)))(T)
    cost = ((SOURCE[:, None] - TARGET[None]) ** 2).sum(axis=-1)
    plan = np.asarray(sinkhorn_plan(jnp.float32(cost / cost.mean()), epsilon=0.2))
    expected = 2 * (plan.sum(axis=0)[:, None] * TARGET - plan.T @ SOURCE)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_labels_decide_where_features_do_not() -> None:
    features, labels = jnp.zeros((2, 1)), jnp.array([0, 1])
    swapped = jnp.array([[0.0, 9.0], [9.0, 0.0]])
    for logits in (swapped, swapped[::-1]):
        value = joint_transport(features, labels, features, logits, alpha=1.0, lambda_t=1.0)
        np.testing.assert_allclose(value, np.log1p(np.exp(-9)), rtol=1e-2)


def test_an_infinite_cost_that_nothing_is_carried_at_adds_nothing() -> None:
    """The target's predictions exclude the label that the far features have."""
    source, target = jnp.array([[0.0], [9.0]]), jnp.array([[0.0], [9.0]])
    logits = jnp.array([[0.0, -jnp.inf], [0.0, 0.0]])

    def loss(logits: jax.Array) -> jax.Array:
        return joint_transport(
            source, jnp.array([0, 1]), target, logits, alpha=1.0, lambda_t=1.0, epsilon=0.1
        )

    value, gradient = jax.value_and_grad(loss)(logits)
    np.testing.assert_allclose(value, np.log(2) / 2, rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_factors_ten_times_as_large_give_the_same_plan() -> None:
    value = fast_transport(S, Y, T, Z, alpha=jnp.float32(0.1), lambda_t=jnp.float32(0.3))
    larger = fast_transport(S, Y, T, Z, alpha=jnp.float32(1.0), lambda_t=jnp.float32(3.0))
    np.testing.assert_allclose(larger, 10 * value, rtol=1e-4)


def test_the_loss_is_blind_to_order() -> None:
    order, other = jnp.array([3, 1, 0, 2, 7, 6, 5, 4]), jnp.arange(15, -1, -1)
    turned = fast_transport(S[order], Y[order], T[other], Z[other])
    np.testing.assert_allclose(turned, fast_transport(S, Y, T, Z), rtol=1e-4)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_gives_nan(label: int) -> None:
    assert jnp.isnan(fast_transport(S, Y.at[2].set(label), T, Z))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: sinkhorn_plan(COST, epsilon=0.0),
        lambda: sinkhorn_plan(COST, epsilon=1.0, iterations=0),
        lambda: sinkhorn_plan(COST[0], epsilon=1.0),
        lambda: sinkhorn_plan(COST[:0], epsilon=1.0),
        lambda: sinkhorn_plan(COST[:, :0], epsilon=1.0),
        lambda: sinkhorn_plan(COST, epsilon=1.0, source_weights=np.ones(7, np.float32)),
        lambda: sinkhorn_plan(COST, epsilon=1.0, target_weights=np.ones((7, 1), np.float32)),
        lambda: joint_transport(S, Y[:4], T, Z),
        lambda: joint_transport(S, Y, T, Z[:4]),
        lambda: joint_transport(S, Y.astype(jnp.float32), T, Z),
        lambda: joint_transport(S, Y, T[:, :2], Z),
        lambda: joint_transport(S, Y, T, Z, epsilon=0.0),
        lambda: joint_transport(S, Y, T, Z, iterations=0),
        lambda: joint_transport(S, Y, T, Z, source_where=jnp.ones(4, bool)),
        lambda: joint_transport(S, Y, T, jnp.float32(LOGITS)),
    ],
)
def test_wrong_arguments_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()
