"""Padded rows: a masked loss is the loss of the rows kept, whatever the others hold."""

import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from families.common import Case
from test_every_loss import evaluate, floats, to_jax

MASKED = {name: case for name, case in CASES.items() if case.masks}
pytestmark = pytest.mark.usefixtures("small_programs")

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


@functools.cache
def compiled(loss: Callable, argnums: tuple[int, ...]) -> Callable:
    """The gradients of a sum that tells apart the rows that count, and the loss."""

    def total(*arguments: jax.Array, **masks: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = loss(*arguments, **masks)
        if not values.ndim:
            return values, values
        kept = next(iter(masks.values())).astype(bool)  # what has a value a row has one mask
        weights = 1 + (jnp.cumsum(kept) - 1) / jnp.maximum(kept.sum() - 1, 1)
        return jnp.where(kept, weights * values, 0).sum(), values

    return jax.jit(jax.grad(total, argnums, has_aux=True))


def evaluate_masked(
    case: Case, arguments: tuple, masks: dict[str, np.ndarray]
) -> tuple[jax.Array, tuple]:
    run = compiled(case.loss, floats(case.arguments))
    gradients, values = run(*to_jax(arguments), **as_weights(masks))
    return values, gradients


def kept_rows(case: Case, masks: dict[str, np.ndarray], argument: int) -> np.ndarray:
    for keyword, positions in case.masks.items():
        if argument in positions:
            return masks[keyword]
    return np.ones(len(case.arguments[argument]), bool)


@every_masked
@pytest.mark.parametrize("fill", [np.nan, 1e30])
def test_padded_rows_change_neither_value_nor_gradient(case: Case, fill: float) -> None:
    arguments, masks = padded(case, 5, fill)
    plain, slopes = evaluate(case, to_jax(case.arguments))
    masked, gradients = evaluate_masked(case, arguments, masks)
    rows = np.flatnonzero(next(iter(masks.values()))) if masked.ndim else ...
    np.testing.assert_allclose(masked[rows], plain, rtol=1e-5, atol=1e-6)
    for argument, slope, gradient in zip(floats(arguments), slopes, gradients, strict=True):
        kept = kept_rows(case, masks, argument)
        # Single precision rounds an element in parts of the largest one.
        close = 1e-6 * max(1, np.abs(slope).max(initial=0))
        np.testing.assert_allclose(gradient[kept], slope, rtol=1e-4, atol=close)
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
    plain, _ = evaluate(case, to_jax(case.arguments))
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
    return evaluate_masked(case, arguments, masks)


@every_masked
def test_without_any_row_the_loss_and_its_gradient_are_zero(case: Case) -> None:
    value, gradients = without(case, case.masks)
    assert not value.any()
    assert not any(gradient.any() for gradient in gradients)


@every_masked_sample
def test_without_a_row_of_one_sample_the_loss_and_its_gradient_are_zero(
    case: Case, keyword: str
) -> None:
    value, gradients = without(case, [keyword])
    assert not value.any()
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
    on_one, _ = evaluate(case, to_jax(case.arguments))
    np.testing.assert_allclose(on_eight[0], on_one.sum(), rtol=1e-5, atol=1e-6)
