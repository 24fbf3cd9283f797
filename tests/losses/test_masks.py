"""Padded rows: a masked loss is the loss of the rows kept, whatever the others hold."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from families.common import Case
from test_every_loss import floats, to_jax

MASKED = {name: case for name, case in CASES.items() if case.masks}
every_masked = pytest.mark.parametrize("case", MASKED.values(), ids=MASKED.keys())
every_masked_sample = pytest.mark.parametrize(
    ("case", "keyword"),
    [
        pytest.param(case, keyword, id=f"{name}-{keyword}")
        for name, case in MASKED.items()
        for keyword in case.masks
        if "source_where" in case.masks
    ],
)


def padded(case: Case, rows: int, fill: float) -> tuple[tuple, dict[str, np.ndarray]]:
    """The arguments with ``rows`` further rows spread between the others, and their masks."""
    arguments, masks = list(case.arguments), {}
    for keyword, positions in case.masks.items():
        for position in positions:
            values = case.arguments[position]
            places = np.linspace(0, len(values), rows).astype(int)
            content = fill if values.dtype.kind == "f" else -1
            arguments[position] = np.insert(values, places, content, axis=0)
            masks[keyword] = np.insert(np.ones(len(values), bool), places, False)
    return tuple(arguments), masks


def as_weights(masks: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Masks as their keywords take them: weights of 0 and 1 are one kind."""
    return {
        keyword: jnp.asarray(mask, jnp.float32 if keyword.endswith("weights") else bool)
        for keyword, mask in masks.items()
    }


def value_and_gradients(case: Case, masks: dict[str, np.ndarray]) -> Callable:
    """The values of the rows that count, and the gradients of a sum that tells them apart."""
    keywords = as_weights(masks)
    kept = next(iter(masks.values())) if masks else None

    def total(*arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = case.loss(*arguments, **keywords)
        if values.ndim and kept is not None:
            values = values[np.flatnonzero(kept)]
        weights = jnp.linspace(1, 2, values.size, dtype=jnp.float32)
        return (values.reshape(-1) * weights).sum(), values

    return jax.jit(jax.value_and_grad(total, floats(case.arguments), has_aux=True))


def kept_rows(case: Case, masks: dict[str, np.ndarray], argument: int) -> np.ndarray:
    for keyword, positions in case.masks.items():
        if argument in positions:
            return masks[keyword]
    return np.ones(len(case.arguments[argument]), bool)


@every_masked
@pytest.mark.parametrize("fill", [np.nan, 1e30])
def test_padded_rows_change_neither_value_nor_gradient(case: Case, fill: float) -> None:
    arguments, masks = padded(case, 5, fill)
    (_, plain), slopes = value_and_gradients(case, {})(*to_jax(case.arguments))
    (_, masked), gradients = value_and_gradients(case, masks)(*to_jax(arguments))
    np.testing.assert_allclose(masked, plain, rtol=1e-5, atol=1e-6)
    for argument, slope, gradient in zip(floats(arguments), slopes, gradients, strict=True):
        kept = kept_rows(case, masks, argument)
        np.testing.assert_allclose(gradient[kept], slope, rtol=1e-4, atol=1e-6)
        assert (gradient[~kept] == 0).all()


@every_masked_sample
def test_rows_padded_in_one_sample_alone_change_no_value(case: Case, keyword: str) -> None:
    arguments, masks = padded(case, 5, np.nan)
    arguments = tuple(
        values if i in case.masks[keyword] else plain
        for i, (values, plain) in enumerate(zip(arguments, case.arguments, strict=True))
    )
    mask = as_weights({keyword: masks[keyword]})
    masked = jax.jit(case.loss)(*to_jax(arguments), **mask)
    plain = jax.jit(case.loss)(*to_jax(case.arguments))
    np.testing.assert_allclose(masked, plain, rtol=1e-5, atol=1e-6)


def without(case: Case, keywords: Iterable[str]) -> tuple[jax.Array, tuple]:
    """Value and gradients where no row of those masks counts, and those rows are NaN."""
    gone = {position for keyword in keywords for position in case.masks[keyword]}
    arguments = tuple(
        np.full_like(a, np.nan) if i in gone and a.dtype.kind == "f" else a
        for i, a in enumerate(case.arguments)
    )
    masks = {
        keyword: np.full(len(arguments[positions[0]]), keyword not in keywords)
        for keyword, positions in case.masks.items()
    }

    def total(*arguments: jax.Array) -> jax.Array:
        return case.loss(*arguments, **as_weights(masks)).sum()

    return jax.jit(jax.value_and_grad(total, floats(arguments)))(*to_jax(arguments))


@every_masked
def test_without_any_row_the_loss_and_its_gradient_are_zero(case: Case) -> None:
    value, gradients = without(case, case.masks)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


@every_masked_sample
def test_without_a_row_of_one_sample_the_loss_and_its_gradient_are_zero(
    case: Case, keyword: str
) -> None:
    value, gradients = without(case, [keyword])
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize(
    "case",
    [case for case in MASKED.values() if case.batch],
    ids=[name for name, case in MASKED.items() if case.batch],
)
def test_eight_devices_mask_the_global_batch(case: Case) -> None:
    """One device has padded rows only."""
    arguments, masks = padded(case, 8, np.nan)
    masked = {i for positions in case.masks.values() for i in positions}
    order = {
        keyword: np.concatenate([np.flatnonzero(~mask)[:8], np.flatnonzero(mask)])
        for keyword, mask in masks.items()
    }
    split = list(arguments)
    for keyword, positions in case.masks.items():
        for position in positions:
            split[position] = arguments[position][order[keyword]]
    assert masked
    keywords = {name: masks[name][order[name]] for name in masks}

    def by_device(values: np.ndarray | jax.Array) -> jax.Array:
        return jnp.asarray(values).reshape(8, -1, *values.shape[1:])

    def shard(rows: tuple, given: dict) -> jax.Array:
        values = case.loss(*rows, **given, axis_name="batch")
        return jax.lax.psum(values.sum(), "batch") if values.ndim else values

    rows = tuple(by_device(a) for a in to_jax(tuple(split)))
    on_eight = jax.pmap(shard, "batch")(
        rows, {name: by_device(mask) for name, mask in as_weights(keywords).items()}
    )
    on_one = jax.jit(case.loss)(*to_jax(case.arguments))
    np.testing.assert_allclose(on_eight[0], on_one.sum(), rtol=1e-5, atol=1e-6)
