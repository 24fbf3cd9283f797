import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import SOURCE, TARGET, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import AxisType, PartitionSpec

from jtl.errors import UserError
from jtl.losses import joint_mmd, mmd

rows = arrays(np.float32, (4, 2), elements=st.floats(-5, 5, width=32))
more_rows = arrays(np.float32, (6, 2), elements=st.floats(-5, 5, width=32))
fast_mmd = jax.jit(mmd, static_argnames="estimator")

S, T = jnp.float32(SOURCE), jnp.float32(TARGET)


@given(rows, more_rows, st.permutations(range(6)))
def test_mmd_is_positive_symmetric_and_blind_to_order(
    source: np.ndarray, target: np.ndarray, order: list[int]
) -> None:
    value = fast_mmd(source, target)
    assert value > -1e-5
    np.testing.assert_allclose(fast_mmd(target, source), value, atol=1e-5)
    np.testing.assert_allclose(fast_mmd(source, target[order]), value, atol=1e-5)


def test_equal_samples_are_at_distance_zero() -> None:
    np.testing.assert_allclose(fast_mmd(S, S), 0, atol=1e-6)
    np.testing.assert_allclose(fast_mmd(S + 100, S + 100), 0, atol=1e-6)


def test_mmd_is_as_exact_far_from_the_origin() -> None:
    far = (
        np.float32(2**14) + np.round(SOURCE * 64) / 64,
        np.float32(2**14) + np.round(TARGET * 64) / 64,
    )
    near = tuple(values - np.float32(2**14) for values in far)
    ours = fast_mmd(*(jnp.float32(values) for values in far))
    np.testing.assert_allclose(ours, fast_mmd(*(jnp.float32(v) for v in near)), rtol=1e-3)


def test_unbiased_and_linear_estimates_average_to_zero_on_equal_distributions() -> None:
    draws = jnp.float32(normal(400, 16, 2, seed=9))
    for estimator in ("unbiased", "linear"):
        estimate = functools.partial(mmd, estimator=estimator)
        values = jax.jit(jax.vmap(estimate))(draws[:200], draws[200:])
        assert (values < 0).any()
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(200)
    assert (jax.jit(jax.vmap(mmd))(draws[:200], draws[200:]) > 0).all()


def test_mmd_needs_no_array_of_all_pairs_times_features() -> None:
    wide = jax.ShapeDtypeStruct((64, 512), jnp.float32)
    program = jax.make_jaxpr(jax.grad(mmd))(wide, wide)
    sizes = [v.aval.size for e in program.jaxpr.eqns for v in e.outvars if hasattr(v.aval, "size")]
    assert max(sizes) <= 128 * 512


def test_one_far_outlier_leaves_the_gradient_of_the_others_alive() -> None:
    """The bandwidth is a median: a mean would be the outlier's, and every kernel 1."""
    gradient = jax.jit(jax.grad(mmd))(S.at[0].set(1e3), T)
    assert (jnp.abs(gradient[1:]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_joint_mmd_of_one_layer_is_mmd_and_a_constant_layer_changes_nothing(estimator: str) -> None:
    value = fast_mmd(S, T, estimator=estimator)
    np.testing.assert_allclose(joint_mmd([S], [T], estimator=estimator), value, rtol=1e-5)
    layers = [S, jnp.ones((8, 2))], [T, jnp.ones((16, 2))]
    np.testing.assert_allclose(joint_mmd(*layers, estimator=estimator), value, atol=1e-6)


def test_joint_mmd_sees_a_dependence_that_no_layer_shows_alone() -> None:
    """Features and predictions are distributed alike in both domains, but go together in one."""
    features = jnp.array([[0.0], [0.0], [1.0], [1.0]])
    together, crossed = features, jnp.array([[0.0], [1.0], [0.0], [1.0]])
    np.testing.assert_allclose(mmd(together, crossed), 0, atol=1e-6)
    assert joint_mmd([features, together], [features, crossed]) > 0.05


def test_linear_estimates_read_whole_pairs_of_rows_that_count() -> None:
    where = jnp.arange(8) != 3
    rows = S[jnp.flatnonzero(where)]
    found = fast_mmd(S, T, estimator="linear", source_where=where)
    np.testing.assert_allclose(found, fast_mmd(rows, T, estimator="linear"), rtol=1e-5)


@pytest.mark.parametrize(("estimator", "rows"), [("unbiased", 1), ("linear", 1), ("biased", 0)])
def test_too_few_rows_that_count_make_the_loss_zero(estimator: str, rows: int) -> None:
    value, gradient = jax.value_and_grad(mmd)(
        S, T, estimator=estimator, source_where=jnp.arange(8) < rows
    )
    assert value == 0
    assert not gradient.any()


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: mmd(S, T[:, :2]),
        lambda: mmd(S[0], T),
        lambda: mmd(S[:0], T),
        lambda: mmd(S[:1], T, estimator="unbiased"),
        lambda: mmd(S[:1], T, estimator="linear"),
        lambda: mmd(S, T, estimator="quadratic"),
        lambda: mmd(S, T, source_where=jnp.ones(16, bool)),
        lambda: mmd(S, T, source_where=jnp.ones(8)),
        lambda: mmd(S, T, bandwidths=jnp.zeros(0)),
        lambda: mmd(S, T, bandwidths=jnp.ones(())),
        lambda: mmd(S, T, bandwidths=jnp.array([1.0, 0.0])),
        lambda: mmd(S, T, bandwidths=np.array([np.nan])),
        lambda: joint_mmd([], []),
        lambda: joint_mmd([S], [T], bandwidths=[-jnp.ones(1)]),
        lambda: joint_mmd([S], [T, T]),
        lambda: joint_mmd([S], [T], bandwidths=[None, None]),
        lambda: joint_mmd([S, S[:4]], [T, T]),
        lambda: joint_mmd([S, S], [T, T[:4]]),
        lambda: joint_mmd([S], [T[:, :2]]),
    ],
)
def test_wrong_arguments_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()


def test_under_shard_map_the_mean_of_the_loss_makes_slopes_of_shared_parameters_right() -> None:
    """Without it, it is as many times too large as there are devices: docs/losses.md."""
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("batch"), PartitionSpec()

    def bare(scale: jax.Array, source: jax.Array, target: jax.Array) -> jax.Array:
        return mmd(scale * source, target, axis_name="batch")

    def mean(*arguments: jax.Array) -> jax.Array:
        return jax.lax.pmean(bare(*arguments), "batch")

    def slope(loss: Callable[..., jax.Array]) -> jax.Array:
        of_shards = jax.shard_map(
            jax.grad(loss), mesh=mesh, in_specs=(whole, split, split), out_specs=whole
        )
        return jax.jit(of_shards)(jnp.float32(1.5), S, T)

    expected = jax.grad(lambda scale: mmd(scale * S, T))(1.5)
    np.testing.assert_allclose(slope(mean), expected, rtol=1e-4)
    np.testing.assert_allclose(slope(bare), 8 * expected, rtol=1e-4)
