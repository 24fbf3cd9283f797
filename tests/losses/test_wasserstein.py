import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import SOURCE, TARGET
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from jtl.errors import UserError
from jtl.losses import gradient_penalty, sliced_wasserstein, wasserstein_critic

KEY = jax.random.key(0)
S, T = jnp.float32(SOURCE), jnp.float32(TARGET)
DIRECTION = np.float32([0.6, 0.0, -0.8])

MANY_ROWS = jax.ShapeDtypeStruct((2**16, 1), jnp.float32)

line = arrays(np.float32, (5, 1), elements=st.floats(-5, 5, width=32))
longer_line = arrays(np.float32, (7, 1), elements=st.floats(-5, 5, width=32))
plane = arrays(np.float32, (7, 2), elements=st.floats(-5, 5, width=32))
fast_sliced = jax.jit(sliced_wasserstein, static_argnames="projections")


def transport_cost(cost: np.ndarray) -> float:
    """The least cost of carrying uniform mass, by linear programming."""
    rows, columns = cost.shape
    sums = [np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))]
    masses = np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)])
    return linprog(cost.ravel(), A_eq=np.concatenate(sums), b_eq=masses).fun


# --- the critic -----------------------------------------------------------------------------------


def test_critic_is_blind_to_a_shift_of_scores_and_turns_with_the_domains() -> None:
    source, target = S[:, 0], T[:, 0]
    value = wasserstein_critic(source, target)
    np.testing.assert_allclose(wasserstein_critic(source + 5, target + 5), value, rtol=1e-5)
    np.testing.assert_allclose(wasserstein_critic(target, source), -value, rtol=1e-5)


def test_best_critic_of_slope_one_finds_the_wasserstein_distance() -> None:
    """On a line, for a source to the right of the target, it is the identity."""
    source, target = SOURCE[:, 0] + 10, TARGET[:, 0]
    found = wasserstein_critic(jnp.float32(source), jnp.float32(target))
    np.testing.assert_allclose(found, wasserstein_distance(source, target), rtol=1e-5)


# --- its penalty ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "expected"), [(1.0, 0.0), (0.0, 1.0), (3.0, 4.0)])
def test_penalty_is_the_squared_distance_of_the_slope_over_all_features_from_one(
    slope: float, expected: float
) -> None:
    penalty = gradient_penalty(lambda x: slope * (x @ DIRECTION), S, T, KEY)
    np.testing.assert_allclose(penalty, expected, atol=1e-6)


def test_penalty_reads_both_domains_and_points_on_the_lines_between() -> None:
    read = []

    def critic(points: jax.Array) -> jax.Array:
        jax.debug.callback(lambda p: read.append(np.asarray(p)), points)
        return points.sum(axis=1)

    jax.block_until_ready(gradient_penalty(critic, S[:3], T[:5], KEY))
    jax.effects_barrier()
    points = read[0]
    np.testing.assert_array_equal(points[:8], np.concatenate([S[:3], T[:5]]))
    for i, point in enumerate(points[8:]):
        source, target = S[i % 3], T[i]  # the smaller domain is read again
        share = (point - target) / (source - target)
        assert (share > 0).all() and (share < 1).all()
        np.testing.assert_allclose(share, share[0], rtol=1e-3)
    assert len(points) == 3 + 5 + 5


def test_penalty_moves_the_critic_and_no_feature() -> None:
    def penalty(source: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
        return gradient_penalty(lambda x: jnp.tanh(x) @ weights, source, target, KEY)

    to_source, to_target, to_critic = jax.grad(penalty, (0, 1, 2))(S, T, jnp.float32(DIRECTION))
    assert not to_source.any() and not to_target.any()
    assert jnp.abs(to_critic).max() > 0.01


def test_another_key_draws_other_points() -> None:
    def critic(x: jax.Array) -> jax.Array:
        return jnp.sin(3 * x).sum(axis=1)

    drawn = [gradient_penalty(critic, S, T, jax.random.key(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


# --- along random lines ---------------------------------------------------------------------------


@given(line, longer_line)
def test_on_a_line_it_is_the_least_cost_of_transport(
    source: np.ndarray, target: np.ndarray
) -> None:
    exact = np.float64(source), np.float64(target)
    found = fast_sliced(source, target, KEY, projections=1)
    np.testing.assert_allclose(found, transport_cost((exact[0] - exact[1].T) ** 2), atol=1e-4)
    assert wasserstein_distance(exact[0][:, 0], exact[1][:, 0]) <= np.sqrt(found) + 1e-3


def test_a_shift_of_a_line_costs_its_square() -> None:
    shifted = np.float64(SOURCE[:, :1]) + 2.5
    found = fast_sliced(S[:, :1], jnp.float32(shifted), KEY, projections=1)
    distance = wasserstein_distance(SOURCE[:, 0], shifted[:, 0])
    np.testing.assert_allclose(found, distance**2, rtol=1e-5)


@given(plane, st.permutations(range(7)))
def test_sliced_is_symmetric_and_blind_to_order(rows: np.ndarray, order: list[int]) -> None:
    source, target = S[:, :2], rows
    value = fast_sliced(source, target, KEY, projections=4)
    assert value >= 0
    np.testing.assert_allclose(
        fast_sliced(target, source, KEY, projections=4), value, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        fast_sliced(source, target[order], KEY, projections=4), value, rtol=1e-4, atol=1e-5
    )


def test_equal_and_repeated_samples_are_at_distance_zero() -> None:
    np.testing.assert_allclose(fast_sliced(S, S, KEY, projections=4), 0, atol=1e-12)
    repeated = jnp.concatenate([S, S[::-1], S])
    np.testing.assert_allclose(fast_sliced(S, repeated, KEY, projections=4), 0, atol=1e-12)


def test_sliced_is_as_exact_far_from_the_origin() -> None:
    far = [np.float32(2**14) + np.round(rows * 64) / 64 for rows in (SOURCE, TARGET)]
    near = [rows - np.float32(2**14) for rows in far]
    found, expected = (
        fast_sliced(*(jnp.float32(rows) for rows in pair), KEY, projections=4)
        for pair in (far, near)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_as_many_lines_are_drawn_as_asked_for() -> None:
    """The estimate's deviation over keys falls with their number's root."""
    keys = jax.random.split(KEY, 200)
    deviations = {}
    for projections in (4, 64):
        estimate = functools.partial(sliced_wasserstein, projections=projections)
        values = jax.jit(jax.vmap(estimate, (None, None, 0)))(S, T + 1, keys)
        deviations[projections] = values.std()
    np.testing.assert_allclose(deviations[4] / deviations[64], 4, rtol=0.2)


def test_a_shift_costs_its_square_over_the_number_of_features() -> None:
    shift = jnp.float32([[3.0, 0.0, 4.0]])
    found = fast_sliced(S, S + shift, KEY, projections=2000)
    np.testing.assert_allclose(found, 25 / 3, rtol=0.05)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: wasserstein_critic(S, T),
        lambda: wasserstein_critic(S[:, 0], T[:0, 0]),
        lambda: wasserstein_critic(S[:, 0], T[:, 0], source_where=jnp.ones(3, bool)),
        lambda: gradient_penalty(lambda x: x, S, T, KEY),
        lambda: gradient_penalty(lambda x: x[:, :1], S, T, KEY),
        lambda: gradient_penalty(lambda x: x.sum(axis=1), S, T[:, :2], KEY),
        lambda: gradient_penalty(lambda x: x.sum(axis=1), S, T[:0], KEY),
        lambda: sliced_wasserstein(S, T, KEY, projections=0),
        lambda: sliced_wasserstein(S, T[:, :2], KEY),
        lambda: sliced_wasserstein(S, T, KEY, target_where=jnp.ones(16)),
        lambda: jax.eval_shape(sliced_wasserstein, MANY_ROWS, MANY_ROWS, KEY),
    ],
)
def test_wrong_arguments_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()
