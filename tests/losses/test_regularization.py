import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtl.errors import UserError
from jtl.losses import l2_sp

PARAMS = {"backbone": {"a": jnp.array([1.0, 2.0])}, "head": {"w": jnp.array([3.0])}}


def test_gradient_points_to_the_reference_and_new_leaves_to_zero() -> None:
    reference = {"backbone": {"a": jnp.array([1.0, 4.0])}}
    gradient = jax.grad(lambda p: l2_sp(p, reference, alpha=0.5, beta=0.1))(PARAMS)
    np.testing.assert_allclose(gradient["backbone"]["a"], [0.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(gradient["head"]["w"], [0.3], rtol=1e-6)


def test_at_the_reference_the_penalty_is_zero() -> None:
    assert l2_sp(PARAMS, PARAMS, alpha=1.0, beta=1.0) == 0


def test_without_a_reference_every_leaf_is_new() -> None:
    np.testing.assert_allclose(l2_sp(PARAMS, {}, alpha=9.0, beta=2.0), 1 + 4 + 9)


def test_leaves_that_only_the_reference_has_are_not_read() -> None:
    reference = {"backbone": {"a": jnp.zeros(2), "frozen": jnp.full(3, jnp.nan)}}
    np.testing.assert_allclose(l2_sp(PARAMS, reference, alpha=2.0, beta=0.0), 5)


def test_strengths_may_be_mapped_over() -> None:
    penalty = jax.vmap(lambda a: l2_sp(PARAMS, {"backbone": PARAMS["backbone"]}, alpha=a, beta=a))
    np.testing.assert_allclose(penalty(jnp.array([0.0, 2.0])), [0, 9])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"backbone": {"a": jnp.zeros(3)}}, r"backbone/a is \(2,\) but \(3,\)"),
        ({"a": jnp.zeros(2)}, r"no leaf of the reference \(a, \.\.\.\)"),
    ],
)
def test_a_reference_that_does_not_fit_is_an_error(reference: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        l2_sp(PARAMS, reference, alpha=1.0, beta=1.0)
