import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import INF, LABELS, LOGITS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl.errors import UserError
from jtl.losses import batch_nuclear_norm, information_maximization, minimum_class_confusion

rows = arrays(np.float32, (5, 3), elements=st.floats(-20, 20, width=32))
BOUNDS = {
    minimum_class_confusion: (0, 2 / 3),
    information_maximization: (-np.log(3), 0),
    batch_nuclear_norm: (-np.sqrt(3 / 5), 0),
}
every_loss = pytest.mark.parametrize("loss", BOUNDS)
compiled = {loss: jax.jit(loss) for loss in BOUNDS}


@every_loss
@given(logits=rows, order=st.permutations(range(5)), classes=st.permutations(range(3)))
def test_value_is_bounded_and_blind_to_order(
    loss: object, logits: np.ndarray, order: list[int], classes: list[int]
) -> None:
    value = compiled[loss](logits)
    low, high = BOUNDS[loss]
    assert low - 1e-5 <= value <= high + 1e-5
    np.testing.assert_allclose(compiled[loss](logits[order][:, classes]), value, atol=1e-5)


def test_certain_and_balanced_predictions_are_the_best_of_all() -> None:
    logits = jnp.where(np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]], 0.0, -INF)
    assert minimum_class_confusion(logits) == 0
    np.testing.assert_allclose(information_maximization(logits), -np.log(3), rtol=1e-6)
    np.testing.assert_allclose(batch_nuclear_norm(logits), -np.sqrt(2) * 3 / 6, rtol=1e-6)


def test_a_class_without_mass_adds_no_confusion() -> None:
    logits = jnp.float32(LOGITS).at[:, 1].set(-INF)
    confusion = compiled[minimum_class_confusion]
    without = confusion(logits[:, jnp.array([0, 2])])
    np.testing.assert_allclose(confusion(logits), without * 2 / 3, rtol=1e-6)


def test_a_class_of_underflowing_mass_is_confused_as_its_limit_says() -> None:
    """In float32 its mass is 0, and 0/0 where the papers' formula divides."""
    confusion = compiled[minimum_class_confusion]
    at = [confusion(jnp.float32(LOGITS).at[:, 1].add(-d)) for d in (100, 150, 400)]
    np.testing.assert_allclose(at[1:], at[0], rtol=1e-5)


def test_weights_of_examples_carry_no_gradient() -> None:
    """With T = 1 and predictions certain but for one example, only that one has a gradient."""
    logits = jnp.float32(np.eye(3)[LABELS] * 60).at[0].set(jnp.float32([1, 0, 0]))
    gradient = jax.grad(lambda z: minimum_class_confusion(z, temperature=1.0))(logits)
    assert jnp.abs(gradient[0]).max() > 1e-3
    assert jnp.abs(gradient[1:]).max() < 1e-6


def test_equal_predictions_have_the_nuclear_norms_smallest_subgradient() -> None:
    """Of rank 1 the nuclear norm is Frobenius', whose gradient none but the row's direction has."""
    logits = jnp.tile(jnp.array([[1.0, 0.0, -1.0]]), (5, 1))

    def frobenius(z: jax.Array) -> jax.Array:
        return -jnp.sqrt((jax.nn.softmax(z) ** 2).sum()) / len(z)

    value, gradient = jax.value_and_grad(batch_nuclear_norm)(logits)
    np.testing.assert_allclose(value, frobenius(logits), rtol=1e-6)
    np.testing.assert_allclose(gradient, jax.grad(frobenius)(logits), atol=1e-6)


@pytest.mark.usefixtures("without_type_checks")
@every_loss
@pytest.mark.parametrize("where", [np.ones(3, bool), np.ones(2), np.ones((2, 1), bool)])
def test_a_mask_that_does_not_fit_is_an_error(loss: object, where: np.ndarray) -> None:
    assert callable(loss)
    with pytest.raises(UserError, match="one boolean for each of 2 rows"):
        loss(jnp.zeros((2, 3)), where=where)


@pytest.mark.usefixtures("without_type_checks")
@every_loss
def test_wrong_shapes_are_errors(loss: object) -> None:
    assert callable(loss)
    for logits in (jnp.zeros(3), jnp.zeros((0, 3))):
        with pytest.raises(UserError):
            loss(logits)
    with pytest.raises(UserError):
        minimum_class_confusion(jnp.zeros((2, 3)), temperature=0.0)
