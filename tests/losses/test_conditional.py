import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import LOGITS, SOURCE, normal, softmax

from jtl.errors import UserError
from jtl.losses import entropy_weights, multilinear_map, randomized_multilinear_map

FEATURES, PROBABILITIES = jnp.float32(SOURCE), jnp.float32(softmax(LOGITS))
PRODUCTS = (SOURCE @ SOURCE.T) * (softmax(LOGITS) @ softmax(LOGITS).T)


def matrices(width: int) -> tuple[jax.Array, jax.Array]:
    return jnp.float32(normal(3, width, seed=7)), jnp.float32(normal(3, width, seed=8))


def test_inner_products_are_those_of_features_times_those_of_predictions() -> None:
    rows = multilinear_map(FEATURES, PROBABILITIES)
    np.testing.assert_allclose(rows @ rows.T, PRODUCTS, rtol=1e-4, atol=1e-6)


def test_random_maps_keep_inner_products_on_average() -> None:
    rows = randomized_multilinear_map(FEATURES, PROBABILITIES, matrices(100_000))
    np.testing.assert_allclose(rows @ rows.T, PRODUCTS, atol=0.02 * np.abs(PRODUCTS).max())


def test_random_matrices_stay_fixed() -> None:
    def total(drawn: tuple) -> jax.Array:
        return randomized_multilinear_map(FEATURES, PROBABILITIES, drawn).sum()

    assert not any(gradient.any() for gradient in jax.grad(total)(matrices(4)))


def test_gradients_reach_features_and_predictions() -> None:
    for conditioned in (
        multilinear_map,
        lambda f, p: randomized_multilinear_map(f, p, matrices(4)),
    ):
        both = jax.grad(lambda f, p, c=conditioned: c(f, p).sum(), (0, 1))(FEATURES, PROBABILITIES)
        assert all((jnp.abs(gradient).max(axis=1) > 1e-3).all() for gradient in both)


def test_entropy_weights_have_mean_one_and_favour_certain_predictions() -> None:
    weights = entropy_weights(jnp.array([[0.0, 0.0], [9.0, 0.0]]))
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    assert weights[1] > 1.3 * weights[0]


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: multilinear_map(FEATURES, PROBABILITIES[:2]),
        lambda: multilinear_map(FEATURES[0], PROBABILITIES[0]),
        lambda: randomized_multilinear_map(FEATURES, PROBABILITIES[:, :2], matrices(4)),
        lambda: randomized_multilinear_map(
            FEATURES, PROBABILITIES, (matrices(4)[0], matrices(5)[1])
        ),
        lambda: randomized_multilinear_map(FEATURES, PROBABILITIES, matrices(0)),
        lambda: entropy_weights(jnp.zeros(3)),
        lambda: entropy_weights(jnp.zeros((2, 3)), where=jnp.ones(3, bool)),
        lambda: entropy_weights(jnp.zeros((2, 3)), where=jnp.ones(2)),
    ],
)
def test_wrong_shapes_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()
