import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import SOURCE, TARGET
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl.errors import UserError
from jtl.losses import central_moment_discrepancy, coral

rows = arrays(np.float32, (4, 2), elements=st.floats(-2, 2, width=32))
more_rows = arrays(np.float32, (6, 2), elements=st.floats(-2, 2, width=32))
fast_coral = jax.jit(coral)
fast_cmd = jax.jit(central_moment_discrepancy, static_argnames=("moments", "span"))

S, T = jnp.float32(SOURCE), jnp.float32(TARGET)


@given(rows, more_rows, arrays(np.float32, (1, 2), elements=st.floats(-5, 5, width=32)))
def test_coral_is_positive_symmetric_and_blind_to_shifts(
    source: np.ndarray, target: np.ndarray, shift: np.ndarray
) -> None:
    value = fast_coral(source, target)
    assert value >= 0
    np.testing.assert_allclose(fast_coral(target, source), value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fast_coral(source, target + shift), value, rtol=1e-3, atol=1e-4)


@given(rows, more_rows, st.permutations(range(6)))
def test_cmd_is_positive_symmetric_and_blind_to_order(
    source: np.ndarray, target: np.ndarray, order: list[int]
) -> None:
    value = fast_cmd(source, target)
    assert value >= 0
    np.testing.assert_allclose(fast_cmd(target, source), value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fast_cmd(source, target[order]), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("discrepancy", [coral, central_moment_discrepancy])
def test_equal_samples_are_at_distance_zero(discrepancy: object) -> None:
    assert callable(discrepancy)
    np.testing.assert_allclose(jax.jit(discrepancy)(S, S), 0, atol=1e-5)
    np.testing.assert_allclose(jax.jit(discrepancy)(S + 100, S + 100), 0, atol=1e-4)


def test_cmd_with_one_moment_is_the_distance_of_the_means() -> None:
    gap = SOURCE.mean(axis=0) - TARGET.mean(axis=0)
    np.testing.assert_allclose(fast_cmd(S, T, moments=1), np.linalg.norm(gap), rtol=1e-5)


def test_cmd_moments_beyond_the_first_are_blind_to_a_shift() -> None:
    beyond = fast_cmd(S, T) - fast_cmd(S, T, moments=1)
    shifted = fast_cmd(S, T + 3) - fast_cmd(S, T + 3, moments=1)
    np.testing.assert_allclose(shifted, beyond, rtol=1e-4)


def test_cmd_measures_in_units_of_the_span() -> None:
    np.testing.assert_allclose(fast_cmd(8 * S, 8 * T, span=8.0), fast_cmd(S, T), rtol=1e-5)
    assert fast_cmd(8 * S, 8 * T) > 1000 * fast_cmd(S, T)  # the fifth moment alone: 8^5


def test_cmd_sees_no_dependence_between_features_and_coral_does() -> None:
    together = jnp.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    apart = together * jnp.array([[1.0, -1.0]])
    assert central_moment_discrepancy(together, apart) == 0
    assert coral(together, apart) > 0.1


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: coral(S[:1], T),
        lambda: coral(S, T[:, :2]),
        lambda: coral(S, T, target_where=jnp.ones(8, bool)),
        lambda: central_moment_discrepancy(S, T[:, :2]),
        lambda: central_moment_discrepancy(S[:0], T),
        lambda: central_moment_discrepancy(S, T, moments=0),
        lambda: central_moment_discrepancy(S, T, span=0.0),
        lambda: central_moment_discrepancy(S, T, source_where=jnp.ones(8)),
    ],
)
def test_wrong_arguments_are_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError):
        call()
