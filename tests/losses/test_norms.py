import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.norms import SOURCE, WIDE
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl.errors import UserError
from jtl.losses import (
    adaptive_feature_norm,
    batch_spectral_penalty,
    batch_spectral_shrinkage,
    hard_feature_norm,
)

EVERY = (
    adaptive_feature_norm,
    hard_feature_norm,
    batch_spectral_penalty,
    batch_spectral_shrinkage,
)
every_loss = pytest.mark.parametrize("loss", EVERY)
compiled = {loss: jax.jit(loss) for loss in EVERY}
lengthen = jax.jit(jax.grad(adaptive_feature_norm))
penalty = jax.jit(batch_spectral_penalty, static_argnames="k")
shrinkage = jax.jit(batch_spectral_shrinkage, static_argnames="k")

rows = arrays(np.float32, (5, 3), elements=st.floats(-20, 20, width=32))
longer = arrays(np.float32, (5, 3), elements=st.floats(0.5, 20, width=32))


@every_loss
@given(rows, st.permutations(range(5)), st.integers(0, 99))
def test_value_is_blind_to_order_and_rotation(
    loss: object, features: np.ndarray, order: list[int], seed: int
) -> None:
    square = np.random.default_rng(seed).normal(size=(3, 3))
    rotation = np.linalg.qr(square)[0].astype(np.float32)
    moved = compiled[loss](features[order] @ rotation)
    np.testing.assert_allclose(moved, compiled[loss](features), rtol=1e-4, atol=1e-3)


@given(longer)
def test_a_step_along_the_gradient_lengthens_every_row_by_the_stated_step(
    features: np.ndarray,
) -> None:
    before = np.linalg.norm(features, axis=1)
    moved = features - len(features) / 2 * np.asarray(lengthen(features))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), before + 1, rtol=1e-4)


def test_a_zero_row_has_no_direction_and_the_others_keep_theirs() -> None:
    gradient = lengthen(jnp.array([[0.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_array_equal(gradient, [[0, 0], [0, -1]])


def test_rows_of_any_length_are_measured() -> None:
    """Their squares overflow or vanish in float32."""
    gradient = lengthen(jnp.array([[3e30, 4e30], [3e-30, 4e-30]]))
    np.testing.assert_allclose(gradient, [[-0.6, -0.8]] * 2, rtol=1e-6)


def test_the_hard_norm_leaves_single_norms_free() -> None:
    features = jnp.array([[0.0, 1.0], [5.0, 0.0]])
    assert hard_feature_norm(features, radius=3.0) == 0
    assert not jax.grad(lambda f: hard_feature_norm(f, radius=3.0))(features).any()


@given(rows, st.integers(1, 2))
def test_largest_and_smallest_squared_singular_values_make_up_the_frobenius_norm(
    features: np.ndarray, k: int
) -> None:
    whole = penalty(features, k=k) + shrinkage(features, k=3 - k)
    np.testing.assert_allclose(whole, (features**2).sum(), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_equal_singular_values_projects_on_their_directions() -> None:
    """Of k = 2 in (3, 3, 1) it is 2 f on those two, whatever basis the decomposition chose."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    features = jnp.float32(np.diag([3, 3, 1]) @ rotation)
    largest = jax.grad(lambda f: penalty(f, k=2))(features)
    np.testing.assert_allclose(largest, 2 * features.at[2].set(0), atol=1e-5)
    smallest = jax.grad(lambda f: shrinkage(f, k=1))(features)
    np.testing.assert_allclose(smallest, 2 * features.at[:2].set(0), atol=1e-5)


def test_without_full_rank_nothing_is_shrunk() -> None:
    features = jnp.float32(SOURCE).at[:, 2].set(jnp.float32(SOURCE[:, 1]))
    assert shrinkage(features, k=1) < 1e-10
    assert jnp.abs(jax.grad(lambda f: shrinkage(f, k=1))(features)).max() < 1e-5


def test_a_wide_batch_has_as_many_singular_values_as_rows_that_count() -> None:
    features = jnp.float32(WIDE)
    kept = jnp.arange(8) < 5
    masked = batch_spectral_shrinkage(features, k=2, where=kept)
    np.testing.assert_allclose(masked, shrinkage(features[:5], k=2), rtol=1e-5)
    np.testing.assert_allclose(
        batch_spectral_shrinkage(features, k=7, where=kept), (features[:5] ** 2).sum(), rtol=1e-5
    )


@every_loss
def test_a_row_that_is_not_a_number_is_not_hidden(loss: object) -> None:
    assert np.isnan(compiled[loss](jnp.float32(SOURCE).at[0, 0].set(jnp.nan)))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: adaptive_feature_norm(f, step=0.0), "step is 0.0"),
        (lambda f: hard_feature_norm(f, radius=-1.0), "radius is -1.0"),
        (lambda f: batch_spectral_penalty(f, k=0), "k is 0, must be from 1 to 3"),
        (lambda f: batch_spectral_shrinkage(f, k=4), "k is 4, must be from 1 to 3"),
        (lambda f: batch_spectral_shrinkage(f[0]), "expected two axes"),
        (lambda f: hard_feature_norm(f[:0]), "needs at least 1"),
        (lambda f: hard_feature_norm(f, where=jnp.ones(3, bool)), "one boolean for each of 8"),
        (lambda f: adaptive_feature_norm(f, where=jnp.ones(8)), r"where is float32\[8\]"),
    ],
)
def test_wrong_arguments_are_errors(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=words):
        call(jnp.float32(SOURCE))
