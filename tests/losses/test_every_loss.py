"""What holds for every loss; one that is exported but has no case in ``families`` fails here."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from families.common import Case

from jtl import losses

pytestmark = pytest.mark.usefixtures("small_programs")

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
batch_cases = {name: case for name, case in CASES.items() if case.batch}


def to_jax(arguments: tuple, dtype: jnp.dtype = jnp.float32) -> tuple:
    return tuple(jnp.asarray(a, dtype if a.dtype.kind == "f" else None) for a in arguments)


def floats(arguments: tuple) -> tuple[int, ...]:
    return tuple(i for i, a in enumerate(arguments) if a.dtype.kind == "f")


def weighted_sum(values: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """A scalar whose gradient tells examples apart."""
    xp = jnp if isinstance(values, jax.Array) else np
    weights = xp.linspace(1, 2, values.size, dtype=xp.asarray(values).dtype)
    return (xp.reshape(values, (-1,)) * weights).sum()


@functools.cache
def compiled(loss: Callable, argnums: tuple[int, ...]) -> Callable:
    """The value and the gradients of a scalar of it."""

    def scalar(*arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = loss(*arguments)
        return weighted_sum(values), values

    return jax.jit(jax.grad(scalar, argnums, has_aux=True))


def evaluate(case: Case, arguments: tuple) -> tuple[jax.Array, tuple]:
    gradients, value = compiled(case.loss, floats(case.arguments))(*arguments)
    return value, gradients


def differences(case: Case, argument: int, step: float = 1e-5) -> np.ndarray:
    """The oracle's gradient by central differences, in float64."""
    slopes = np.zeros(case.arguments[argument].shape)
    for index in np.ndindex(*slopes.shape):
        values = []
        for sign in (1, -1):
            moved = [a.copy() for a in case.arguments]
            moved[argument][index] += sign * step
            values.append(weighted_sum(np.asarray(case.oracle(*moved, at=case.arguments))))
        slopes[index] = (values[0] - values[1]) / (2 * step)
    return slopes


def test_every_exported_loss_has_a_case() -> None:
    tested = {name.split("/")[0] for name in CASES} | {"reverse_gradient"}  # in test_adversarial
    assert tested == set(losses.__all__)


@every_case
def test_value_is_the_oracles(case: Case) -> None:
    ours, _ = evaluate(case, to_jax(case.arguments))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, case.oracle(*case.arguments), rtol=1e-5, atol=1e-6)


@every_case
def test_gradient_is_the_oracles_differences(case: Case) -> None:
    _, ours = evaluate(case, to_jax(case.arguments))
    for gradient, argument in zip(ours, floats(case.arguments), strict=True):
        np.testing.assert_allclose(gradient, differences(case, argument), rtol=2e-4, atol=2e-6)


@every_case
def test_gradients_are_finite_at_the_edges(case: Case) -> None:
    for number, arguments in enumerate(case.edges):
        for gradient in evaluate(case, to_jax(arguments))[1]:
            assert np.isfinite(gradient).all(), f"edge {number}: {arguments} gave {gradient}"


@every_case
def test_bfloat16_inputs_are_computed_in_float32(case: Case) -> None:
    rounded = to_jax(case.arguments, jnp.bfloat16)
    exact = tuple(a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a for a in rounded)
    value, gradients = evaluate(case, rounded)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, evaluate(case, exact)[0], rtol=1e-6, atol=1e-7)
    for gradient in gradients:
        assert gradient.dtype == jnp.bfloat16
        assert np.isfinite(gradient.astype(jnp.float32)).all()


@every_case
def test_vmap_is_a_loop(case: Case) -> None:
    first = to_jax(case.arguments)
    second = tuple(a[::-1] * 2 if a.dtype == jnp.float32 else a for a in first)
    stacked = tuple(jnp.stack(pair) for pair in zip(first, second, strict=True))
    together = jax.jit(jax.vmap(case.loss))(*stacked)
    one_by_one = [evaluate(case, arguments)[0] for arguments in (first, second)]
    np.testing.assert_allclose(together, np.stack(one_by_one), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", batch_cases.values(), ids=batch_cases.keys())
def test_eight_devices_see_the_global_batch(case: Case) -> None:
    arguments = to_jax(case.arguments)

    def objective(scale: jax.Array, *rows: jax.Array, **axis: str) -> jax.Array:
        scaled = (row * scale if row.dtype == jnp.float32 else row for row in rows)
        values = case.loss(*scaled, **axis)
        return (values * rows[0][:, 0]).mean() if values.ndim else values

    split = tuple(a.reshape(8, -1, *a.shape[1:]) for a in arguments)
    on_one = jax.jit(jax.value_and_grad(objective))(jnp.float32(1.5), *arguments)

    def shard(scale: jax.Array, *rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        both = jax.value_and_grad(objective)(scale, *rows, axis_name="batch")
        return jax.lax.pmean(both, "batch")

    in_axes = (None, *(0 for _ in split))
    on_eight = jax.pmap(shard, "batch", in_axes=in_axes)(jnp.float32(1.5), *split)
    np.testing.assert_allclose(on_eight[0][0], on_one[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(on_eight[1][0], on_one[1], rtol=1e-4, atol=1e-6)
