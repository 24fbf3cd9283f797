import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import INF
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl.errors import UserError
from jtl.losses import cross_entropy, distillation, entropy, focal

finite = st.floats(-30, 30, width=32)
rows = arrays(np.float32, (4, 3), elements=finite)
labels = arrays(np.int32, 4, elements=st.integers(0, 2))

fast_cross_entropy = jax.jit(cross_entropy)
fast_entropy = jax.jit(entropy)
fast_distillation = jax.jit(distillation)


@given(rows, labels, st.permutations(range(3)))
def test_cross_entropy_does_not_depend_on_the_order_of_classes(
    logits: np.ndarray, labels: np.ndarray, order: list[int]
) -> None:
    moved = np.argsort(order)[labels]
    np.testing.assert_allclose(
        fast_cross_entropy(logits[:, order], moved),
        fast_cross_entropy(logits, labels),
        rtol=1e-5,
        atol=1e-5,
    )


@given(rows, finite)
def test_entropy_is_between_zero_and_log_classes_and_ignores_shifts(
    logits: np.ndarray, shift: float
) -> None:
    values = fast_entropy(logits)
    assert (values >= 0).all()
    assert (values <= np.log(3) + 1e-5).all()
    np.testing.assert_allclose(fast_entropy(logits + np.float32(shift)), values, atol=1e-4)


@given(rows, rows, st.floats(0.5, 5, width=32))
def test_distillation_is_positive_and_zero_at_equality(
    student: np.ndarray, teacher: np.ndarray, temperature: float
) -> None:
    temperature = np.float32(temperature)
    assert (fast_distillation(student, teacher, temperature=temperature) >= -1e-4).all()
    assert not fast_distillation(teacher, teacher, temperature=temperature).any()


def test_focal_with_gamma_zero_is_cross_entropy() -> None:
    logits, labels = jnp.array([[1.0, 2.0, -1.0], [0.0, 0.0, 5.0]]), jnp.array([1, 2])
    np.testing.assert_allclose(
        focal(logits, labels, gamma=0.0), cross_entropy(logits, labels), rtol=1e-6
    )


def test_the_focus_may_be_mapped_over() -> None:
    logits, labels = jnp.array([[1.0, 2.0, -1.0]]), jnp.array([0])
    gammas = jnp.array([0.0, 0.5, 2.0])
    p = np.exp(1) / np.exp([1, 2, -1]).sum()
    mapped = jax.vmap(lambda gamma: focal(logits, labels, gamma=gamma)[0])(gammas)
    np.testing.assert_allclose(mapped, -((1 - p) ** gammas) * np.log(p), rtol=1e-5)


def test_an_excluded_class_costs_nothing_unless_it_is_the_label() -> None:
    logits = jnp.array([[0.0, -INF, 0.0], [0.0, -INF, 0.0]])
    losses = cross_entropy(logits, jnp.array([0, 1]))
    np.testing.assert_allclose(losses, [np.log(2), INF], rtol=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, focal])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_gives_nan(loss: object, label: int) -> None:
    assert callable(loss)
    losses = loss(jnp.zeros((2, 3)), jnp.array([label, 0]))
    assert np.isnan(losses).tolist() == [True, False]


def test_small_label_types_reach_all_classes() -> None:
    labels = np.array([199], np.uint8)
    np.testing.assert_allclose(cross_entropy(jnp.zeros((1, 200)), labels), np.log(200), rtol=1e-6)


def test_no_gradient_reaches_the_teacher_nor_depends_on_temperature_in_size() -> None:
    student, teacher = jnp.array([[0.01, 0.0, -0.01]]), jnp.array([[-0.01, 0.02, 0.0]])

    def total(s: jax.Array, t: jax.Array, temperature: float) -> jax.Array:
        return distillation(s, t, temperature=temperature).sum()

    assert not jax.grad(total, 1)(student, teacher, 2.0).any()
    cold, hot = (jax.grad(total)(student, teacher, t) for t in (1.0, 10.0))
    # Hinton et al., equation 4: both tend to (student - teacher) / classes.
    np.testing.assert_allclose(hot, cold, rtol=0.05)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: cross_entropy(jnp.zeros((2, 3)), jnp.zeros(1, jnp.int32)),
        lambda: cross_entropy(jnp.zeros((2, 3)), jnp.zeros(2)),
        lambda: cross_entropy(jnp.zeros(3), jnp.zeros(3, jnp.int32)),
        lambda: cross_entropy(jnp.zeros((1, 3)), jnp.array([0]), label_smoothing=1.0),
        lambda: cross_entropy(jnp.zeros((1, 3)), jnp.array([0]), label_smoothing=-0.1),
        lambda: focal(jnp.zeros((1, 3)), jnp.array([0]), gamma=-1.0),
        lambda: entropy(jnp.zeros(3)),
        lambda: distillation(jnp.zeros((1, 3)), jnp.zeros((2, 3)), temperature=1.0),
        lambda: distillation(jnp.zeros((1, 3)), jnp.zeros((1, 3)), temperature=0),
    ],
)
def test_wrong_arguments_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()
